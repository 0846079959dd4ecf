"""The spool: nothing that was taken is lost, nothing that is finished stays, whatever interrupts it."""

from __future__ import annotations

import os
import re
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from spooled import put

from boneage.core.errors import ConfigError
from boneage.dicomnode import files, upkeep
from boneage.dicomnode.spool import Letter, Spool, key_of, short

KEY = key_of("1.2.3")
OK = {"state": "assessed"}
HOUR_S = 3600.0


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    one = Spool(tmp_path / "spool", ("pacs", "second"), "bundle 1")
    one.open()
    return one


def everything(spool: Spool) -> set[str]:
    """Return all files of the spool, by their place, but those that outlive every image."""
    return {
        str(path.relative_to(spool.root))
        for path in spool.root.rglob("*")
        if path.is_file() and path.name != "lock" and path.parent != spool.arrived
    }


def finish(spool: Spool, results: dict[str, bytes] | None = None, key: str = KEY, **note: Any) -> None:
    path, status = spool.image(key)
    digest = sha256(path.read_bytes()).hexdigest()
    spool.publish(key, status, {**OK, "digest": digest, **note}, results or {})


def age(path: Path, hours: float) -> None:
    os.utime(path, (time.time() - hours * HOUR_S,) * 2)


def test_names_come_from_a_digest() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", key_of("../../etc/passwd")) and key_of("1.2") != key_of("1.20")
    assert KEY.startswith(short(KEY)) and len(short(KEY)) == 10


def modes(spool: Spool) -> dict[str, int]:
    """Return the mode of every folder of the spool, itself among them."""
    folders = [spool.root, *(path for path in spool.root.rglob("*") if path.is_dir())]
    return {str(path.relative_to(spool.root)): path.stat().st_mode & 0o777 for path in folders}


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        spool = Spool(tmp_path / "deep" / "spool", ("pacs",))
        spool.open()
        put(spool, KEY, b"image")
    finally:
        os.umask(before)
    assert (spool.incoming / f"{KEY}.dcm").stat().st_mode & 0o777 == 0o600
    found = modes(spool)
    assert {".", "dead", "dead/images", "dead/pacs", "outbox", "outbox/pacs", "arrived"} <= set(found)
    assert set(found.values()) == {0o700}


def test_folders_that_an_earlier_version_left_open_are_closed(spool: Spool) -> None:
    spool.close()
    for folder in (spool.dead, spool.outbox, spool.outbox / "pacs"):
        folder.chmod(0o755)
    Spool(spool.root, ("pacs", "second")).open()
    assert set(modes(spool).values()) == {0o700}


def test_an_image_waits_until_its_results_are_in_the_outboxes(spool: Spool) -> None:
    assert put(spool, KEY, b"im", memoryview(b"age"))
    assert everything(spool) == {f"incoming/{KEY}.dcm"} and spool.waiting() == [KEY]
    assert (spool.incoming / f"{KEY}.dcm").read_bytes() == b"image"
    finish(spool, {"pacs/sr": b"report", "second/capture": b"page"})
    assert everything(spool) == {
        f"outbox/pacs/{KEY}.sr.dcm", f"outbox/second/{KEY}.capture.dcm", f"done/{KEY}.json",
    }  # fmt: skip
    assert (spool.outbox / "pacs" / f"{KEY}.sr.dcm").read_bytes() == b"report"


def test_the_same_bytes_are_not_assessed_twice(spool: Spool) -> None:
    put(spool, KEY, b"image")
    assert put(spool, KEY, b"image")  # not finished yet: it takes the place of the first
    finish(spool)
    assert not put(spool, KEY, b"image")
    assert everything(spool) == {f"done/{KEY}.json"}


def test_other_bytes_or_another_bundle_are_assessed_anew(spool: Spool) -> None:
    put(spool, KEY, b"image")
    finish(spool)
    assert put(spool, KEY, b"image, corrected")
    finish(spool)
    assert put(Spool(spool.root, (), "bundle 2"), KEY, b"image, corrected")


def test_an_image_that_comes_again_while_the_first_is_assessed_is_assessed_too(spool: Spool) -> None:
    put(spool, KEY, b"image")
    _, status = spool.image(KEY)
    put(spool, KEY, b"image, corrected")
    spool.publish(KEY, status, {**OK, "digest": "of the first"}, {})
    assert spool.waiting() == [KEY]
    assert (spool.incoming / f"{KEY}.dcm").read_bytes() == b"image, corrected"


def test_a_data_set_keeps_the_time_of_its_first_arrival(spool: Spool) -> None:
    put(spool, KEY, b"image")
    (mark,) = spool.arrived.iterdir()
    age(mark, 30.0)
    first = mark.stat().st_mtime_ns
    put(spool, KEY, b"image")
    assert spool.image(KEY)[1].st_mtime_ns == first
    finish(spool)
    (spool.done / f"{KEY}.json").unlink()  # as retention does, and whoever wants it assessed again
    put(spool, KEY, b"image")
    assert spool.image(KEY)[1].st_mtime_ns == first
    spool.bury_image(KEY, "the worker died")
    assert upkeep.revive(spool) == 1
    assert spool.image(KEY)[1].st_mtime_ns == first
    put(spool, KEY, b"image, corrected")
    assert spool.image(KEY)[1].st_mtime_ns > first


def test_attempts_count_for_one_data_set_and_over_a_restart(spool: Spool) -> None:
    put(spool, KEY, b"image")
    status = spool.image(KEY)[1]
    assert spool.attempts(KEY, status) == 0
    spool.set_attempts(KEY, status, 1)
    again = Spool(spool.root, ("pacs", "second"), "bundle 1")
    assert again.attempts(KEY, again.image(KEY)[1]) == 1 and again.waiting() == [KEY]
    age(spool.incoming / f"{KEY}.dcm", 1.0)  # another arrival: another data set
    assert spool.attempts(KEY, spool.image(KEY)[1]) == 0
    spool.set_attempts(KEY, status, 0)
    assert everything(spool) == {f"incoming/{KEY}.dcm"}


def test_images_wait_in_the_order_of_their_arrival(spool: Spool) -> None:
    keys = [key_of(str(number)) for number in range(5)]
    for number, key in enumerate(keys):
        put(spool, key, b"image")
        age(spool.incoming / f"{key}.dcm", 5 - number)
    assert spool.waiting() == keys


@pytest.mark.parametrize("step", range(1, 7))
def test_a_power_cut_at_any_rename_loses_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Cut(BaseException):
        """The power is gone."""

    made: list[None] = []
    real = files.place

    def place(part: Path, path: Path) -> None:
        made.append(None)
        if len(made) == step:
            raise Cut
        real(part, path)

    results = {"pacs/sr": b"report", "pacs/capture": b"page", "second/sr": b"report"}
    with monkeypatch.context() as patch:
        patch.setattr(files, "place", place)
        try:
            put(spool, KEY, b"image")
            answered = True
            finish(spool, results)
        except Cut:
            answered = len(made) > 1
    spool.close()
    again = Spool(spool.root, ("pacs", "second"), "bundle 1")
    again.open()
    assert not list(again.receiving.iterdir())
    if not answered:
        assert not everything(again)
        return
    for key in again.waiting():
        finish(again, results, key)
    assert everything(again) == {
        f"done/{KEY}.json", f"outbox/pacs/{KEY}.sr.dcm", f"outbox/pacs/{KEY}.capture.dcm",
        f"outbox/second/{KEY}.sr.dcm",
    }  # fmt: skip


def test_a_write_that_fails_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [True]

    def fsync(_handle: int) -> None:
        if not room:
            raise OSError(28, "No space left on device")
        room.pop()

    put(spool, KEY, b"image")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(OSError, match="No space"):
            finish(spool, {"pacs/sr": b"report", "pacs/capture": b"page"})
        with pytest.raises(OSError, match="No space"):
            put(spool, key_of("other"), b"image")
    assert everything(spool) == {f"incoming/{KEY}.dcm"}


def test_what_was_delivered_is_deleted_and_noted(spool: Spool) -> None:
    put(spool, KEY, b"image")
    finish(spool, {"pacs/sr": b"report", "pacs/capture": b"page"})
    first, second = spool.due("pacs", time.time())
    spool.delivered(first)
    assert spool.due("pacs", time.time()) == [second]
    spool.delivered(second)
    assert everything(spool) == {f"done/{KEY}.json"}
    assert set(files.read_json(spool.done / f"{KEY}.json")["delivered"]) == {"pacs/sr", "pacs/capture"}


def letter(spool: Spool) -> Letter:
    put(spool, KEY, b"image")
    finish(spool, {"pacs/sr": b"report"})
    (one,) = spool.due("pacs", time.time())
    return one


def test_what_was_refused_waits_for_its_time(spool: Spool) -> None:
    one = letter(spool)
    now = time.time()
    spool.postpone(one, "status 0xa700", now + 100)
    assert spool.due("pacs", now) == []
    (again,) = spool.due("pacs", now + 101)
    assert (again.attempts, again.path, again.label) == (1, one.path, f"{short(KEY)} sr")


def test_a_dead_letter_says_why_and_can_be_put_back(spool: Spool) -> None:
    one = letter(spool)
    age(one.path, 500)
    spool.postpone(one, "status 0xa700", time.time())
    spool.bury(one, "refused 10 times")
    dead = spool.dead / "pacs" / f"{KEY}.sr.dcm"
    assert dead.read_bytes() == b"report" and not list((spool.outbox / "pacs").iterdir())
    assert files.read_json(dead.with_suffix(".json"))["reason"] == "refused 10 times"
    assert upkeep.revive(spool) == 1
    (back,) = spool.due("pacs", time.time())
    assert back.attempts == 0 and back.queued_at > time.time() - 60
    assert not list((spool.dead / "pacs").iterdir())


def test_a_dead_image_can_be_put_back_unless_it_came_again(spool: Spool) -> None:
    put(spool, KEY, b"image")
    spool.bury_image(KEY, "the worker died")
    assert spool.waiting() == [] and spool.knows(KEY)
    assert upkeep.revive(spool) == 1 and spool.waiting() == [KEY]
    spool.bury_image(KEY, "the worker died")
    put(spool, KEY, b"image, corrected")
    assert upkeep.revive(spool) == 0
    assert (spool.incoming / f"{KEY}.dcm").read_bytes() == b"image, corrected"
    assert not list((spool.dead / "images").iterdir())


def test_a_dead_letter_gives_way_to_the_same_result_made_anew(spool: Spool) -> None:
    spool.bury(letter(spool), "refused")
    put(spool, KEY, b"image, corrected")
    finish(spool, {"pacs/sr": b"report, corrected"})
    assert not list((spool.dead / "pacs").iterdir())
    assert (spool.outbox / "pacs" / f"{KEY}.sr.dcm").read_bytes() == b"report, corrected"


def test_finished_work_is_forgotten_after_its_time_and_not_before(spool: Spool) -> None:
    for name, hours in (("old", 25.0), ("new", 23.0)):
        spool.remember(key_of(name), OK)
        age(spool.done / f"{key_of(name)}.json", hours)
    spool.bury(letter(spool), "refused")
    age(spool.dead / "pacs" / f"{KEY}.sr.dcm", 1000)
    assert upkeep.expire(spool, 24, 0) == 1
    assert not spool.knows(key_of("old")) and spool.knows(key_of("new"))
    assert (spool.dead / "pacs" / f"{KEY}.sr.dcm").exists()
    age(spool.dead / "pacs" / f"{KEY}.sr.json", 1000)
    assert upkeep.expire(spool, 24, 720) == 1
    assert not list((spool.dead / "pacs").iterdir())


def test_a_letter_that_waited_long_lives_its_full_time_among_the_dead(spool: Spool) -> None:
    one = letter(spool)
    age(one.path, 1000)
    spool.bury(one, "too old")
    assert upkeep.expire(spool, 24, 720) == 0 and list((spool.dead / "pacs").glob("*.dcm"))


def test_two_nodes_do_not_share_a_spool(spool: Spool) -> None:
    other = Spool(spool.root, ("pacs",))
    assert other.is_held()
    with pytest.raises(ConfigError, match="another node"):
        other.open()
    spool.close()
    assert not other.is_held()
    other.open()


def test_counts_say_what_lies_where(spool: Spool) -> None:
    spool.bury(letter(spool), "refused")
    put(spool, key_of("2"), b"image")
    spool.remember(key_of("3"), {"state": "refused"})
    found = upkeep.counts(spool)
    assert found == {
        "running": True,
        "waiting": 1,
        "outbox": {"pacs": 0, "second": 0},
        "dead": {"images": 0, "pacs": 1, "second": 0},
        "done": {"assessed": 1, "refused": 1},
    }


@pytest.mark.parametrize("ask", [upkeep.counts, upkeep.revive])
def test_no_spool_is_no_empty_spool(tmp_path: Path, ask: Any) -> None:
    with pytest.raises(ConfigError, match="no spool"):
        ask(Spool(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


def test_a_note_cut_short_is_no_note(spool: Spool) -> None:
    put(spool, KEY, b"image")
    finish(spool)
    (spool.done / f"{KEY}.json").write_text('{"digest": "')
    assert put(spool, KEY, b"image")


def test_many_threads_take_the_same_image_and_one_is_kept(spool: Spool) -> None:
    def take() -> None:
        for _ in range(20):
            put(spool, KEY, b"image")

    threads = [threading.Thread(target=take) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert everything(spool) == {f"incoming/{KEY}.dcm"}
