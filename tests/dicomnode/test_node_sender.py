"""Deliveries: again and again, given up in the end, and no destination in another's way."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dicom_peers import PEER_TITLE, Archive, certificates, free_port, study, until
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom.sop_class import ComprehensiveSRStorage
from spooled import put

from boneage.core.errors import ConfigError, DeliveryError
from boneage.dicomnode import files
from boneage.dicomnode.node import channel
from boneage.dicomnode.sender import Sender, StoreChannel, Unreachable
from boneage.dicomnode.settings import Destination, Retry, Tls, Web
from boneage.dicomnode.spool import Spool, key_of

GOES_ON = threading.Event()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    one = Spool(tmp_path / "spool", ("pacs", "second"))
    one.open()
    yield one
    one.close()


class Scripted:
    """A channel that answers what it is told: a refusal, an empty text, or an error."""

    def __init__(self, *answers: str | Unreachable) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []

    def send(self, paths: Sequence[Path]) -> Generator[str, None, None]:
        for path in paths:
            answer = self.answers.pop(0) if self.answers else ""
            if isinstance(answer, Unreachable):
                raise answer
            self.sent.append(path.name)
            yield answer

    def check(self) -> None:
        pass


def queue(spool: Spool, count: int, destination: str = "pacs", folder: Path | None = None) -> list[str]:
    """Put results into an outbox, the first the oldest; real captures where a folder is given."""
    names = []
    for number in range(count):
        key = key_of(str(number))
        content = b"result"
        if folder is not None:
            capture = {"SOPClassUID": SecondaryCaptureImageStorage}
            content = study(folder, f"capture-{number}", **capture).read_bytes()
        put(spool, key, b"image")
        _, status = spool.image(key)
        note = {"state": "assessed", "digest": ""}
        spool.publish(key, status, note, {f"{destination}/capture": content})
        path = spool.outbox / destination / f"{key}.capture.dcm"
        files.os.utime(path, (time.time() - 100 + number,) * 2)
        names.append(path.name)
    return names


def tries(spool: Spool, channel: Scripted, times: int, **retry: Any) -> list[float]:
    """Deliver a few times, with no pause kept between them; return the pauses asked for."""
    sender = Sender("pacs", channel, spool, Retry(**retry))
    return [sender.deliver(GOES_ON) for _ in range(times)]


def test_results_go_oldest_first_and_leave_the_outbox(spool: Spool) -> None:
    names = queue(spool, 3)
    channel = Scripted()
    assert tries(spool, channel, 2) == [0.0, 1.0]
    assert channel.sent == names and not list((spool.outbox / "pacs").iterdir())


def test_silence_is_no_refusal_and_pauses_double_up_to_the_longest(spool: Spool) -> None:
    names = queue(spool, 2)
    silent = [Unreachable("no connection")] * 6
    channel = Scripted(*silent)
    pauses = tries(spool, channel, 7, first_s=10, longest_s=60, max_attempts=2)
    assert pauses == [10, 20, 40, 60, 60, 60, 0] and channel.sent == names
    assert not list((spool.dead / "pacs").iterdir())


def test_pauses_begin_anew_after_a_success(spool: Spool) -> None:
    queue(spool, 3)
    gone = Unreachable("no connection")
    assert tries(spool, Scripted(gone, gone, "", gone, ""), 4, first_s=10) == [10, 20, 10, 0]


def test_a_refusal_postpones_one_and_the_others_go_on(spool: Spool) -> None:
    names = queue(spool, 3)
    channel = Scripted("status 0xa900")
    tries(spool, channel, 2)
    assert channel.sent == names
    kept = {path.name for path in (spool.outbox / "pacs").glob("*.dcm")}
    assert kept == {names[0]}
    assert (
        files.read_json((spool.outbox / "pacs" / names[0]).with_suffix(".json"))["reason"] == "status 0xa900"
    )


def test_so_many_refusals_make_a_dead_letter(spool: Spool) -> None:
    (name,) = queue(spool, 1)
    channel = Scripted(*["status 0xc000"] * 9)
    tries(spool, channel, 9, max_attempts=3, first_s=1e-9, longest_s=1e-9)
    assert channel.sent == [name] * 3 and not list((spool.outbox / "pacs").iterdir())
    said = files.read_json((spool.dead / "pacs" / name).with_suffix(".json"))
    assert "refused 3 times" in said["reason"] and "0xc000" in said["reason"]


def test_what_is_too_old_is_a_dead_letter_even_where_nobody_answers(spool: Spool) -> None:
    old, new = queue(spool, 2)
    files.os.utime(spool.outbox / "pacs" / old, (time.time() - 2 * 3600,) * 2)
    tries(spool, Scripted(Unreachable("no connection")), 1, max_age_hours=1)
    assert [path.name for path in (spool.dead / "pacs").glob("*.dcm")] == [old]
    assert [path.name for path in (spool.outbox / "pacs").glob("*.dcm")] == [new]


def peer(archive: Archive, **changed: Any) -> Destination:
    usual = {"ae_title": PEER_TITLE, "host": "127.0.0.1", "port": archive.port, "timeout_s": 3.0}
    return Destination("pacs", **{**usual, **changed})


@pytest.fixture
def archive() -> Iterator[Archive]:
    one = Archive().start()
    yield one
    one.stop()


def test_a_peer_gets_each_result_once(spool: Spool, archive: Archive, tmp_path: Path) -> None:
    queue(spool, 4, folder=tmp_path)
    sender = Sender("pacs", StoreChannel(peer(archive), "BONEAGE"), spool, Retry())
    assert sender.deliver(GOES_ON) == 0.0
    assert len(archive.kept) == len(set(archive.kept)) == 4 and not list((spool.outbox / "pacs").iterdir())


@pytest.mark.parametrize(
    ("status", "kept"), [(0xB000, 0), (0xB007, 0), (0xA700, 1), (0xA900, 1), (0xC123, 1), (0x0122, 1)]
)
def test_a_warning_is_a_success_and_a_failure_is_none(
    spool: Spool, archive: Archive, tmp_path: Path, status: int, kept: int
) -> None:
    queue(spool, 1, folder=tmp_path)
    archive.answers = [status]
    Sender("pacs", StoreChannel(peer(archive), "BONEAGE"), spool, Retry()).deliver(GOES_ON)
    assert len(list((spool.outbox / "pacs").glob("*.dcm"))) == kept


def test_a_peer_that_takes_no_captures_refuses_them(spool: Spool, tmp_path: Path) -> None:
    archive = Archive(classes=[ComprehensiveSRStorage]).start()
    (name,) = queue(spool, 1, folder=tmp_path)
    way = StoreChannel(peer(archive), "BONEAGE")
    Sender("pacs", way, spool, Retry()).deliver(GOES_ON)
    reason = files.read_json((spool.outbox / "pacs" / name).with_suffix(".json"))["reason"]
    assert reason == "it accepts no Secondary Capture Image Storage"
    with pytest.raises(DeliveryError, match="takes no capture"):
        way.check()
    StoreChannel(peer(archive, what=("sr",)), "BONEAGE").check()
    archive.stop()


def test_a_damaged_file_holds_up_no_other(spool: Spool, archive: Archive, tmp_path: Path) -> None:
    first, _ = queue(spool, 2, folder=tmp_path)
    (spool.outbox / "pacs" / first).write_bytes(b"no DICOM")
    Sender("pacs", StoreChannel(peer(archive), "BONEAGE"), spool, Retry()).deliver(GOES_ON)
    assert len(archive.kept) == 1
    assert "damaged" in files.read_json((spool.outbox / "pacs" / first).with_suffix(".json"))["reason"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ae_title": "OTHER"}, "rejects the association"),
        ({"port": 1}, "no connection"),
        ({"host": "no-such-host.invalid"}, "no-such-host"),
    ],
)
def test_a_peer_that_is_not_there_is_told_apart(archive: Archive, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Unreachable, match=said):
        StoreChannel(peer(archive, **changed), "BONEAGE").check()


def test_an_echo_checks_a_peer(archive: Archive) -> None:
    StoreChannel(peer(archive), "BONEAGE").check()


def test_one_that_is_down_delays_no_other(spool: Spool, archive: Archive, tmp_path: Path) -> None:
    queue(spool, 3, folder=tmp_path)
    queue(spool, 3, "second", folder=tmp_path)
    stop = threading.Event()
    down = StoreChannel(peer(archive, port=free_port()), "BONEAGE")
    senders = [
        Sender("pacs", down, spool, Retry(first_s=60)),
        Sender("second", StoreChannel(peer(archive), "BONEAGE"), spool, Retry()),
    ]
    threads = [threading.Thread(target=one.run, args=(stop,)) for one in senders]
    for one in threads:
        one.start()
    until(lambda: len(archive.kept) == 3, "the other destination has its results", 30)
    assert len(list((spool.outbox / "pacs").glob("*.dcm"))) == 3
    stop.set()
    for one in threads:
        one.join(10)
        assert not one.is_alive()


def test_a_peer_that_comes_back_gets_all(spool: Spool, tmp_path: Path) -> None:
    queue(spool, 3, folder=tmp_path)
    archive = Archive()
    sender = Sender("pacs", StoreChannel(peer(archive), "BONEAGE"), spool, Retry(first_s=7))
    assert sender.deliver(GOES_ON) == 7
    archive.start()
    assert sender.deliver(GOES_ON) == 0 and len(archive.kept) == 3
    archive.stop()


@pytest.mark.dicom
def test_results_travel_by_tls_and_only_to_whom_the_certificate_names(spool: Spool, tmp_path: Path) -> None:
    certificate, key = certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    archive = Archive(tls=context).start()
    queue(spool, 1, folder=tmp_path)
    mutual = Tls(certificate, key, certificate)
    for wrong in (None, Tls(ca=certificate), Tls(certificate, key)):  # in clear; shows none; trusts another
        with pytest.raises(Unreachable):
            StoreChannel(peer(archive, tls=wrong, timeout_s=1.0), "BONEAGE").check()
    way = StoreChannel(peer(archive, tls=mutual), "BONEAGE")
    way.check()
    assert Sender("pacs", way, spool, Retry()).deliver(GOES_ON) == 0.0 and len(archive.kept) == 1
    archive.stop()


def test_unusable_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    tls = Tls(ca=str(tmp_path / "no.pem"))
    for destination in (
        Destination("pacs", ae_title="PACS", host="h", tls=tls),
        Destination("pacs", kind="dicomweb", web=Web("https://h", tls=tls)),
    ):
        with pytest.raises(ConfigError, match="'pacs': the TLS files"):
            channel(destination, "BONEAGE")
