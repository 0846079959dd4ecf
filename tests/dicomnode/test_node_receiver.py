"""The storage SCP: who may call, what is taken, and that nothing a caller does stops it."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pynetdicom.association
import pytest
from dicom_peers import CALLER, OWN_TITLE, certificates, encoded, free_port, program, storescu, study, until
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_ECHO_RQ
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification

from boneage.core.errors import ConfigError
from boneage.dicomnode import files, objects
from boneage.dicomnode.receiver import Receiver
from boneage.dicomnode.settings import NodeSettings, Receive, Tls, Watch
from boneage.dicomnode.spool import Spool, key_of
from boneage.dicomnode.watch import FolderWatch

PATIENCE_S = 30.0
SILENCE_S = 0.6
"""Where a test waits for silence to be cut; a busy machine makes peers silent for longer."""

pytestmark = [
    # pynetdicom's threads end so on nonsense, and pydicom says what it thinks; a running node hides both.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Expected explicit VR"),
]


class Listening:
    """A receiver on loopback, and the spool it fills."""

    def __init__(self, folder: Path, **receive: Any) -> None:
        self.port = free_port()
        usual: dict[str, Any] = {
            "acse_timeout_s": PATIENCE_S,
            "network_timeout_s": PATIENCE_S,
            "max_associations": 4,
            "min_free_mb": 0,
            "accept_from": (CALLER,),
        }
        self.settings = NodeSettings(receive=Receive(port=self.port, **{**usual, **receive}))
        self.spool = Spool(folder / "spool", min_free_bytes=self.settings.receive.min_free_mb << 20)
        self.spool.open()
        self.arrived: list[None] = []
        self.receiver = Receiver(self.settings, self.spool, lambda: self.arrived.append(None))
        self.receiver.start()

    def close(self) -> None:
        self.receiver.stop(0.0)
        self.spool.close()

    def associate(self, image_class: str = "", called: str = OWN_TITLE, calling: str = CALLER) -> Association:
        entity = AE(ae_title=calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        entity.add_requested_context(Verification)
        if image_class:
            entity.add_requested_context(image_class, [ExplicitVRLittleEndian])
        return entity.associate("127.0.0.1", self.port, ae_title=called)

    def store(self, dataset: Dataset) -> int:
        """Send a data set as it stands; return the status."""
        association = self.associate(str(dataset.SOPClassUID))
        assert association.is_established
        status = association.send_c_store(dataset).Status
        association.release()
        return int(status)

    def echoes(self) -> bool:
        association = self.associate()
        if not association.is_established:
            return False
        status = association.send_c_echo().get("Status")
        association.release()
        return bool(status == 0)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    one = Listening(tmp_path)
    yield one
    one.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Listening]:
    one = Listening(tmp_path, acse_timeout_s=SILENCE_S, network_timeout_s=SILENCE_S)
    yield one
    one.close()


def comes_back(listening: Listening) -> bool:
    """Return whether the node answers; a busy machine may take longer than its patience, hence some tries."""
    until(listening.echoes, "the node answers", 20)
    return True


def image(folder: Path, name: str = "hand", **tags: Any) -> Dataset:
    return dcmread(study(folder, name, **tags))


def test_an_echo_is_answered(listening: Listening) -> None:
    assert listening.echoes()


def test_an_object_is_on_the_disk_when_it_is_answered(listening: Listening, tmp_path: Path) -> None:
    sent = image(tmp_path)
    assert listening.store(sent) == 0x0000
    (taken,) = listening.spool.incoming.iterdir()
    assert taken.name == f"{key_of(sent.SOPInstanceUID)}.dcm" and taken.stat().st_mode & 0o077 == 0
    kept = dcmread(taken)
    assert kept == sent and kept.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
    assert kept.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert len(listening.arrived) == 1 and not list(listening.spool.receiving.iterdir())


def test_the_same_image_by_c_store_and_by_the_watched_folder_is_one(
    listening: Listening, tmp_path: Path
) -> None:
    sent = image(tmp_path)
    assert listening.store(sent) == 0x0000
    key = key_of(str(sent.SOPInstanceUID))
    path, status = listening.spool.image(key)
    stored = path.read_bytes()
    note = {"state": "assessed", "digest": objects.digest_of(stored)}
    listening.spool.publish(key, status, note, {})
    watched = tmp_path / "in"
    watched.mkdir()
    other_header = b"\1" * 128 + stored[128:]
    (watched / "hand.dcm").write_bytes(other_header)
    settings = replace(listening.settings, watch=Watch(str(watched), settle_s=0))
    FolderWatch(settings, listening.spool, lambda: None).look(0.0)
    assert not list(watched.iterdir()) and not listening.spool.waiting()


@pytest.mark.parametrize(("called", "calling"), [("OTHER", CALLER), (OWN_TITLE, "STRANGER")])
def test_a_wrong_ae_title_is_rejected(
    listening: Listening, called: str, calling: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "boneage"):
        association = listening.associate(called=called, calling=calling)
        assert association.is_rejected and not association.is_established
    assert f"{calling!r} called {called!r}" in caplog.text
    assert listening.echoes()


@pytest.mark.parametrize("accept", [(), ("*",)])
def test_anyone_may_call_where_that_is_said(tmp_path: Path, accept: tuple[str, ...]) -> None:
    listening = Listening(tmp_path, accept_from=accept)
    assert listening.associate(calling="STRANGER").is_established
    listening.close()


def test_an_address_in_use_is_named(listening: Listening, tmp_path: Path) -> None:
    settings = NodeSettings(receive=Receive(port=listening.port))
    with pytest.raises(ConfigError, match=f"127.0.0.1:{listening.port}"):
        Receiver(settings, listening.spool, lambda: None).start()


def without(dataset: Dataset, *names: str) -> Dataset:
    for name in names:
        delattr(dataset, name)
    return dataset


def test_what_is_no_image_of_a_study_is_answered_so(listening: Listening, tmp_path: Path) -> None:
    assert listening.store(without(image(tmp_path), "StudyInstanceUID")) == objects.MISMATCH
    assert listening.store(without(image(tmp_path), "Rows", "Columns")) == objects.MISMATCH
    document = Dataset()
    document.SOPClassUID, document.SOPInstanceUID = EncapsulatedPDFStorage, generate_uid()
    assert not listening.associate(EncapsulatedPDFStorage).accepted_contexts[1:]
    assert not list(listening.spool.incoming.iterdir())


def raw_store(listening: Listening, content: bytes, named: tuple[str, str]) -> int:
    """Send bytes as the data set of an object that is announced by name."""
    association = listening.associate(ComputedRadiographyImageStorage)
    sent = Dataset()
    sent.SOPClassUID, sent.SOPInstanceUID = named
    sent.ensure_file_meta()
    sent.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynetdicom.association, "encode", lambda *_: content)
        status = association.send_c_store(sent).get("Status", -1)
    association.release()
    return int(status)


@pytest.mark.parametrize(
    ("damage", "status"),
    [
        (lambda whole: whole, 0x0000),
        (lambda whole: whole[:-500], objects.MALFORMED),
        (lambda whole: whole[: len(whole) // 4], objects.MALFORMED),
        (lambda whole: os.urandom(4000), objects.MALFORMED),
        (lambda whole: b"\x08\x00\x05\x00SQ\0\0\xff\xff\xff\xff" * 5000, objects.MALFORMED),
    ],
    ids=["whole", "cut in the pixels", "cut in the header", "noise", "endless sequences"],
)
def test_a_damaged_object_is_answered_so(
    listening: Listening, tmp_path: Path, damage: Any, status: int
) -> None:
    sent = image(tmp_path, SOPClassUID=ComputedRadiographyImageStorage)
    named = (str(sent.SOPClassUID), str(sent.SOPInstanceUID))
    answered = raw_store(listening, damage(encoded(sent)), named)
    assert answered == status or (status and answered in (objects.MALFORMED, objects.MISMATCH))
    assert len(list(listening.spool.incoming.iterdir())) == (status == 0)
    assert listening.echoes()


def test_an_object_that_was_announced_as_another_is_answered_so(listening: Listening, tmp_path: Path) -> None:
    sent = image(tmp_path, SOPClassUID=ComputedRadiographyImageStorage)
    content = encoded(sent)
    assert raw_store(listening, content, (str(sent.SOPClassUID), "1.2.3")) == objects.MISMATCH
    pdf = encoded(image(tmp_path, SOPClassUID=EncapsulatedPDFStorage))
    named = (ComputedRadiographyImageStorage, str(sent.SOPInstanceUID))
    assert raw_store(listening, pdf, named) == objects.MISMATCH
    assert not list(listening.spool.incoming.iterdir())


def test_an_object_beyond_the_limit_is_refused_and_the_next_is_taken(tmp_path: Path) -> None:
    listening = Listening(tmp_path, max_object_mb=1)
    large = image(tmp_path, "large", pixels=np.zeros((1500, 1500), np.uint8))
    association = listening.associate(str(large.SOPClassUID))
    assert association.send_c_store(large).Status == objects.TOO_LARGE
    assert association.send_c_store(image(tmp_path, "small")).Status == 0x0000
    association.release()
    assert len(list(listening.spool.incoming.iterdir())) == 1
    listening.close()


def test_a_full_disk_is_answered_out_of_resources(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        assert listening.store(image(tmp_path)) == 0xA700
    assert not list(listening.spool.receiving.iterdir()) and not list(listening.spool.incoming.iterdir())
    assert listening.store(image(tmp_path)) == 0x0000


def test_space_that_is_to_stay_free_is_not_used(tmp_path: Path) -> None:
    listening = Listening(tmp_path, min_free_mb=1 << 40)
    assert listening.store(image(tmp_path)) == 0xA700
    listening.close()


def test_a_result_that_comes_back_is_taken_and_dropped(listening: Listening, tmp_path: Path) -> None:
    own = {"Manufacturer": "boneage", "ManufacturerModelName": "boneage"}
    assert listening.store(image(tmp_path, **own)) == 0x0000
    assert not list(listening.spool.incoming.iterdir()) and not listening.arrived


def test_an_object_of_several_frames_is_taken_for_the_assessment_to_refuse(
    listening: Listening, tmp_path: Path
) -> None:
    frames = {"SOPClassUID": MultiFrameGrayscaleByteSecondaryCaptureImageStorage, "NumberOfFrames": "1"}
    assert listening.store(image(tmp_path, **frames)) == 0x0000


def connection(listening: Listening) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listening.port), timeout=20)


def is_cut(one: socket.socket) -> bool:
    """Return whether the node closes the connection, having said what it liked."""
    try:
        while one.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def associate_request() -> bytes:
    """Return the bytes of a request for an association, as pynetdicom writes them."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        entity = AE(ae_title=CALLER)
        entity.acse_timeout = 1
        entity.add_requested_context(ComputedRadiographyImageStorage, [ExplicitVRLittleEndian])
        port = server.getsockname()[1]
        asking = threading.Thread(
            target=entity.associate, args=("127.0.0.1", port), kwargs={"ae_title": OWN_TITLE}
        )
        asking.start()
        one, _ = server.accept()
        request = one.recv(65536)
        one.close()
        asking.join()
    return request


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x01\x00",
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        bytes(range(256)) * 64,
        b"\x01\x00\xff\xff\xff\xff" + b"A" * 4096,
        b"\x01\x00\x00\x00\x10\x00" + b"A" * 100,
        b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03",
        b"\x01\x00\x00\x00\x00\x44" + b"\xff" * 68,
    ],
    ids=[
        "silence",
        "two bytes",
        "http",
        "noise",
        "4 GiB PDU",
        "half a PDU",
        "data first",
        "nonsense request",
    ],
)
def test_whatever_comes_without_an_association_is_cut(impatient: Listening, sent: bytes) -> None:
    one = connection(impatient)
    one.sendall(sent)
    assert is_cut(one)
    assert comes_back(impatient)


def command(values: bytes = b"", kind: int = 0x03) -> bytes:
    """Return a P-DATA-TF PDU with one fragment."""
    fragment = struct.pack(">LBB", len(values) + 2, 1, kind) + values
    return struct.pack(">BBL", 4, 0, len(fragment)) + fragment


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        command(os.urandom(60)),
        command(b"A" * 5),
        struct.pack(">BBL", 4, 0, 1000) + b"A" * 20,
        struct.pack(">BBL", 4, 0, 0xFFFFFFF0),
        struct.pack(">BBL", 9, 0, 4),
        struct.pack(">BBL", 2, 0, 4) + b"AAAA",
    ],
    ids=["silence", "noise", "short", "half a PDU", "4 GiB PDU", "unknown PDU", "answer to nothing"],
)
def test_whatever_comes_in_an_association_is_cut(impatient: Listening, sent: bytes) -> None:
    one = connection(impatient)
    one.sendall(associate_request())
    assert one.recv(1) == b"\x02"
    one.sendall(sent)
    assert is_cut(one)
    assert comes_back(impatient)


def test_an_endless_command_is_cut(listening: Listening) -> None:
    one = connection(listening)
    one.sendall(associate_request())
    assert one.recv(1) == b"\x02"
    piece = command(b"A" * 8000, kind=0x01)
    with pytest.raises(ConnectionError):
        for _ in range(5000):
            one.sendall(piece)
    assert listening.echoes()


def test_a_caller_that_does_not_wait_for_answers_is_cut(impatient: Listening) -> None:
    echo = C_ECHO()
    echo.MessageID, echo.AffectedSOPClassUID = 1, Verification
    message = C_ECHO_RQ()
    message.primitive_to_message(echo)
    one = connection(impatient)
    one.sendall(associate_request())
    assert one.recv(1) == b"\x02"
    with suppress(ConnectionError):
        one.sendall(command(encode(message.command_set, True, True) or b"") * 500)
    assert is_cut(one)
    assert comes_back(impatient)


def test_a_stop_waits_for_nobody_who_is_silent(tmp_path: Path) -> None:
    listening = Listening(tmp_path, network_timeout_s=60.0, acse_timeout_s=60.0)
    half = connection(listening)
    half.sendall(b"\x01\x00")
    silent = connection(listening)
    silent.sendall(associate_request())
    assert silent.recv(1) == b"\x02"
    listening.close()
    assert is_cut(half) and is_cut(silent)
    until(
        lambda: not {one for one in threading.enumerate() if "reactor" in one.name}, "their threads end", 20
    )


def test_a_caller_that_drips_is_cut(tmp_path: Path) -> None:
    listening = Listening(tmp_path, object_timeout_s=SILENCE_S, network_timeout_s=2 * SILENCE_S)
    one = connection(listening)
    one.sendall(associate_request())
    assert one.recv(1) == b"\x02"
    waiting = threading.Event()
    with pytest.raises(ConnectionError):
        for _ in range(200):  # each is well in time; the message never ends
            one.sendall(command(b"A", kind=0x01))
            waiting.wait(SILENCE_S / 4)
    assert comes_back(listening)
    listening.close()


def test_too_many_callers_are_turned_away_and_come_in_later(impatient: Listening) -> None:
    many = [connection(impatient) for _ in range(40)]
    assert all(is_cut(one) for one in many)
    assert comes_back(impatient)


def test_associations_are_limited(listening: Listening) -> None:
    open_ones = [listening.associate() for _ in range(4)]
    assert all(one.is_established for one in open_ones)
    assert listening.associate().is_rejected
    open_ones[0].release()
    until(listening.echoes, "a place is free", 20)
    for one in open_ones[1:]:
        one.abort()


@pytest.mark.dicom
def test_storescu_sends_a_folder_and_a_stranger_does_not(listening: Listening, tmp_path: Path) -> None:
    sent = [study(tmp_path, f"hand-{number}") for number in range(5)]
    assert storescu(listening.port, *sent, calling="STRANGER") != 0
    assert storescu(listening.port, *sent, called="OTHER") != 0
    assert not list(listening.spool.incoming.iterdir())
    assert storescu(listening.port, *sent) == 0
    assert len(listening.spool.waiting()) == 5


@pytest.mark.dicom
@pytest.mark.parametrize(
    ("encoder", "option"),
    [
        ([], "-xi"),
        ([], "-xb"),
        ([], "-xe"),
        ([], "-xd"),
        (["dcmcjpeg", "+e1"], "-xs"),
        (["dcmcjpeg", "+eb"], "-xy"),
        (["dcmcjpls", "+el"], "-xt"),
        (["dcmcjpls", "+en"], "-xu"),
        (["dcmcrle"], "-xr"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_storescu_sends_in_any_transfer_syntax(
    listening: Listening, tmp_path: Path, encoder: list[str], option: str
) -> None:
    ramp = np.linspace(0, 255, 64 * 48).reshape(64, 48).astype(np.uint8)
    sent = study(tmp_path, "ramp", ramp)
    if encoder:
        packed = tmp_path / "packed.dcm"
        subprocess.run([program(encoder[0], "dcmtk"), *encoder[1:], sent, packed], check=True, timeout=60)
        sent = packed
    assert storescu(listening.port, option, sent) == 0
    (taken,) = listening.spool.incoming.iterdir()
    kept = dcmread(taken)
    assert kept.file_meta.TransferSyntaxUID.is_encapsulated == bool(encoder)
    assert np.abs(kept.pixel_array.astype(int) - ramp).max() <= 12


@pytest.mark.dicom
def test_tls_is_spoken_and_a_silent_caller_delays_no_other(tmp_path: Path) -> None:
    certificate, key = certificates(tmp_path)
    tls = Tls(certificate, key, certificate)
    listening = Listening(tmp_path, tls=tls, network_timeout_s=5.0)
    silent = connection(listening)  # says nothing where a handshake is due
    sent = study(tmp_path, "hand")
    assert storescu(listening.port, "+tls", tls.key, tls.certificate, "+cf", tls.ca, sent) == 0
    assert len(listening.spool.waiting()) == 1
    assert storescu(listening.port, sent) != 0
    assert storescu(listening.port, "+tla", "-ic", sent) != 0  # shows no certificate
    silent.close()
    listening.close()


def test_unusable_tls_files_are_named(tmp_path: Path, listening: Listening) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    tls = Tls(str(tmp_path / "no.pem"), str(tmp_path / "no.pem"))
    settings = replace(
        listening.settings, receive=replace(listening.settings.receive, tls=tls, port=free_port())
    )
    with pytest.raises(ConfigError, match=r"receive\.tls"):
        Receiver(settings, listening.spool, lambda: None).start()


def test_the_log_names_no_patient(
    listening: Listening, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = image(tmp_path)
    with caplog.at_level(logging.DEBUG, "boneage"):
        listening.store(sent)
        listening.store(without(sent, "StudyInstanceUID"))
    assert "taken from 'MODALITY'" in caplog.text and "refused an object" in caplog.text
    for secret in (sent.PatientID, "Secret", sent.SOPInstanceUID, sent.AccessionNumber):
        assert str(secret) not in caplog.text
