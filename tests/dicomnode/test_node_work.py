"""Assessing: every image ends as results, as a refusal or among the dead, and none twice."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dicom_peers import study
from pydicom import dcmread
from spooled import put

from boneage.core.errors import BundleError, ConfigError, DeliveryError, NotAHand, RuntimeUnavailable
from boneage.dicomnode import files, objects, work
from boneage.dicomnode.settings import Assess, Destination
from boneage.dicomnode.spool import Spool, key_of
from boneage.dicomnode.work import ASSESSED, REFUSED, UNABLE, Assessing, Claims, Outcome, Task

KEY = key_of("1.2.3")
SEND = (
    Destination("pacs", ae_title="PACS", host="h"),
    Destination("mail", ae_title="MAIL", host="h", what=("sr",)),
)


@dataclass(frozen=True)
class Pretend:
    """Stands in for `work.Start`: does what the image's bytes say."""

    settings: Assess

    def __call__(self) -> Callable[[Task], Outcome]:
        return pretend


def pretend(task: Task) -> Outcome:
    content = task.path.read_bytes()
    if content == b"die":
        os._exit(7)
    if content == b"die once":
        mark = task.path.parent.with_name("died")
        if not mark.exists():
            mark.touch()
            os._exit(7)
    if content == b"hang":
        time.sleep(60)
    if content == b"raise":
        raise ValueError("the patient's name is Secret")
    if content == b"unable once":
        mark = task.path.parent.with_name("unable")
        if not mark.exists():
            mark.touch()
            return Outcome(UNABLE, "digest", "runtime_unavailable", "highdicom is not installed")
    if content == b"refuse":
        return Outcome(REFUSED, "digest", "not_a_hand", "no hand was found")
    return Outcome(ASSESSED, "digest", results={form: form.encode() + b" " + content for form in task.forms})


class Bench:
    """A spool, and the thread that assesses what lies in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(work, "Start", Pretend)
        monkeypatch.setattr(work, "_STOPPING_S", 0.05)
        monkeypatch.setattr(work, "_TROUBLE_S", 0.05)
        self.spool = Spool(folder / "spool", [one.name for one in SEND])
        self.spool.open()
        self.finished: list[None] = []
        self.assessing = self._assessing()

    def _assessing(self) -> Assessing:
        return Assessing(
            Assess(timeout_s=2.0), self.spool, Claims(self.spool), SEND, lambda: self.finished.append(None)
        )

    def restart(self) -> None:
        """Forget all but the disk."""
        self.spool.close()
        self.spool = Spool(self.spool.root, self.spool.destinations)
        self.spool.open()
        self.assessing = self._assessing()

    def work_through(self, *contents: bytes) -> None:
        """Take images and assess until none waits."""
        for number, content in enumerate(contents):
            put(self.spool, KEY if number == 0 else key_of(str(number)), content)
        self.work_through_what_waits()

    def work_through_what_waits(self) -> None:
        """Assess until none waits."""
        stop = threading.Event()
        running = threading.Thread(target=self.assessing.run, args=(stop,))
        running.start()
        end = time.monotonic() + 60
        while self.spool.waiting() and time.monotonic() < end:
            time.sleep(0.02)
        stop.set()
        running.join(30)
        assert not running.is_alive() and not self.spool.waiting()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    one = Bench(tmp_path, monkeypatch)
    yield one
    one.assessing.close()
    one.spool.close()


def note(bench: Bench) -> dict[str, Any]:
    return files.read_json(bench.spool.done / f"{KEY}.json")


def test_results_go_to_those_who_want_them(bench: Bench) -> None:
    bench.work_through(b"hand")
    held = {str(path.relative_to(bench.spool.outbox)) for path in bench.spool.outbox.rglob("*.dcm")}
    assert held == {f"pacs/{KEY}.sr.dcm", f"pacs/{KEY}.capture.dcm", f"mail/{KEY}.sr.dcm"}
    assert (bench.spool.outbox / "mail" / f"{KEY}.sr.dcm").read_bytes() == b"sr hand"
    assert note(bench)["state"] == ASSESSED and len(bench.finished) == 1


def test_a_refusal_leaves_a_note_and_sends_nothing(bench: Bench) -> None:
    bench.work_through(b"refuse")
    assert not list(bench.spool.outbox.rglob("*.dcm")) and not list(bench.spool.dead.rglob("*.dcm"))
    said = note(bench)
    assert (said["state"], said["code"], said["message"]) == (REFUSED, "not_a_hand", "no hand was found")


@pytest.mark.parametrize(
    ("content", "said"), [(b"die", "exit code 7"), (b"hang", "stopped after 2 s"), (b"raise", "ValueError")]
)
def test_an_image_that_brings_the_worker_down_is_put_aside_and_the_next_goes_on(
    bench: Bench, content: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "boneage.dicomnode"):
        bench.work_through(content, b"hand")
    dead = bench.spool.dead / "images" / f"{KEY}.dcm"
    assert dead.read_bytes() == content
    assert said in files.read_json(dead.with_suffix(".json"))["reason"]
    assert len(list((bench.spool.outbox / "pacs").glob("*.dcm"))) == 2
    assert "Secret" not in caplog.text + files.read_json(dead.with_suffix(".json"))["reason"]


def test_a_worker_that_died_once_is_given_another_try(bench: Bench) -> None:
    bench.work_through(b"die once")
    assert note(bench)["state"] == ASSESSED and not list(bench.spool.dead.rglob("*.dcm"))


def test_an_image_is_no_victim_of_a_stop(bench: Bench) -> None:
    put(bench.spool, KEY, b"die")
    stop = threading.Event()
    stop.set()
    bench.assessing._assess(KEY, stop)
    assert bench.spool.waiting() == [KEY] and bench.spool.attempts(KEY, bench.spool.image(KEY)[1]) == 0


class Killed(BaseException):
    """The node is gone, with all that it had in memory."""


def test_an_image_that_ends_the_whole_node_is_put_aside_at_the_start_after_the_second_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_the_node(_task: Task) -> Outcome:
        raise Killed

    put(bench.spool, KEY, b"kill")
    for _ in range(2):
        monkeypatch.setattr(bench.assessing, "_worker", ends_the_node)
        with pytest.raises(Killed):
            bench.assessing._assess(KEY, threading.Event())
        assert bench.spool.waiting() == [KEY]
        bench.restart()
    bench.work_through_what_waits()
    dead = bench.spool.dead / "images" / f"{KEY}.dcm"
    assert dead.read_bytes() == b"kill" and not list(bench.spool.incoming.iterdir())
    assert "the node itself ended" in files.read_json(dead.with_suffix(".json"))["reason"]


def test_an_image_during_which_the_node_was_killed_once_is_assessed_and_leaves_no_count(bench: Bench) -> None:
    put(bench.spool, KEY, b"hand")
    bench.spool.set_attempts(KEY, bench.spool.image(KEY)[1], 1)
    bench.work_through_what_waits()
    assert note(bench)["state"] == ASSESSED and not list(bench.spool.incoming.iterdir())


def test_what_the_node_lacks_is_no_refusal_of_the_image(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "boneage.dicomnode"):
        bench.work_through(b"unable once")
    assert "highdicom is not installed" in caplog.text and "it waits" in caplog.text
    assert note(bench)["state"] == ASSESSED and not list(bench.spool.dead.rglob("*.dcm"))


def test_a_worker_that_cannot_start_costs_the_image_no_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_start(_task: Task) -> Outcome:
        raise BundleError("the bundle is gone")

    put(bench.spool, KEY, b"hand")
    with monkeypatch.context() as patch:
        patch.setattr(bench.assessing, "_worker", cannot_start)
        for _ in range(3):
            with pytest.raises(BundleError):
                bench.assessing._assess(KEY, threading.Event())
    bench.work_through_what_waits()
    assert note(bench)["state"] == ASSESSED


class Says:
    """Stands in for an assessor, and raises what it is told."""

    class bundle:  # noqa: N801 - an attribute of the assessor
        name = "standard 1"

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def assess(self, _radiograph: Any) -> Any:
        if self._error is not None:
            raise self._error


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the identifiers of what is rendered, which is nothing else."""
    made: list[Any] = []

    def render(*_: Any, instance: Any) -> bytes:
        made.append(instance)
        return b"result"

    monkeypatch.setattr("boneage.imaging.read.read_bytes", lambda content: content)
    monkeypatch.setattr("boneage.reporting.forms.render", render)
    return made


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize(
    ("error", "state"),
    [
        (NotAHand("no hand"), REFUSED),
        (DeliveryError("the header lacks a study"), REFUSED),
        (RuntimeUnavailable("highdicom is not installed"), UNABLE),
        (BundleError("a file of the bundle is gone"), UNABLE),
        (ConfigError("wrong"), UNABLE),
    ],
    ids=lambda one: getattr(one, "code", one),
)
def test_only_what_lies_in_the_image_refuses_it(tmp_path: Path, error: Any, state: str) -> None:
    path = study(tmp_path, "hand")
    outcome = work.assess(Says(error), Task(path, ("sr",)))  # type: ignore[arg-type]
    assert (outcome.state, outcome.code, outcome.message) == (state, error.code, str(error))
    assert outcome.digest == objects.digest_of(path.read_bytes()) and not outcome.results


def test_a_corrected_image_has_a_result_of_its_own_and_the_same_image_has_the_same(
    tmp_path: Path, rendered: list[Any]
) -> None:
    path = study(tmp_path, "hand", PatientSex="F")
    girl = path.read_bytes()
    boy = study(tmp_path, "hand", PatientSex="M").read_bytes()
    uids = {dcmread(BytesIO(content)).SOPInstanceUID for content in (girl, boy)}
    assert len(uids) == 1
    for content in (girl, b"\1" * 128 + girl[128:], boy):
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert work.assess(Says(), Task(path, ("sr",))).state == ASSESSED  # type: ignore[arg-type]
    first, again, corrected = rendered
    assert first == again and first.made_at.timestamp() == 1_700_000_000
    assert corrected.sop_uid != first.sop_uid and corrected.series_uid != first.series_uid


def test_a_full_disk_lets_images_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(28, "No space left on device")] * 3
    real = bench.spool.publish

    def publish(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        real(*arguments)

    monkeypatch.setattr(bench.spool, "publish", publish)
    bench.work_through(b"hand")
    assert not failures and len(bench.finished) == 1


def test_claims_give_each_image_to_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.open()
    claims = Claims(spool)
    for number in range(3):
        put(spool, key_of(str(number)), b"image")
    first, second, third = claims.take(), claims.take(), claims.take()
    assert len({first, second, third}) == 3 and claims.take() is None
    claims.give_back(str(second))
    assert claims.take() == second


def test_the_maker_changes_with_the_bundle(tmp_path: Path) -> None:
    def named(sums: str) -> str:
        manifest = (
            '{"schema": 1, "name": "n", "version": "1", "method": "m", "methods": {}, "graphs": {}, '
            f'"checksums": {{"a": "{sums}"}}}}'
        )
        (tmp_path / "manifest.json").write_text(manifest)
        return work.maker(Assess(bundle=str(tmp_path)))

    assert named("1") == named("1") != named("2")
