"""Worker processes that die, hang, raise or never start; each is really killed here."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from boneage.core.errors import BoneAgeError, BundleError, RuntimeUnavailable
from boneage.core.processes import Died, Raised, SteadyWorker, TimedOut, Worker


def _work(task: Any) -> Any:
    """Do what a task says."""
    verb, value = task
    if verb == "pid":
        return os.getpid()
    if verb == "exit":
        os._exit(value)
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "sleep":
        time.sleep(value)
    if verb == "raise":
        raise value
    if verb == "large":
        return b"x" * value
    if verb == "unpicklable":
        return lambda: None
    return len(value) if isinstance(value, bytes) else value


def _start() -> Callable[[Any], Any]:
    return _work


def _start_refused() -> Callable[[Any], Any]:
    raise BundleError("a bundle was expected, none came: install it again")


def _start_killed() -> Callable[[Any], Any]:
    os._exit(3)


def _start_broken() -> Callable[[Any], Any]:
    raise ZeroDivisionError("not foreseen")


@dataclass(frozen=True)
class _Slow:
    """Takes a while to start."""

    seconds: float

    def __call__(self) -> Callable[[Any], Any]:
        time.sleep(self.seconds)
        return _work


@pytest.fixture
def worker() -> Iterator[Worker[Any, Any]]:
    made: Worker[Any, Any] = Worker(_start)
    made.receive()
    yield made
    made.stop()


@pytest.fixture
def steady() -> Iterator[SteadyWorker[Any, Any]]:
    made: SteadyWorker[Any, Any] = SteadyWorker(_start, 20)
    yield made
    made.stop()


def gone(process_id: int) -> bool:
    """Return whether a process has ended and was waited for, within a few seconds."""
    for _ in range(200):
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_one_worker_does_one_task_after_another_in_its_own_process(worker: Worker[Any, Any]) -> None:
    seen = []
    for _ in range(2):
        worker.send(("pid", None))
        seen.append(worker.receive())
    assert seen[0] == seen[1] != os.getpid()


@pytest.mark.parametrize(("task", "code"), [(("exit", 5), 5), (("kill", None), -signal.SIGKILL)])
def test_a_task_that_ends_its_worker_is_told(worker: Worker[Any, Any], task: Any, code: int) -> None:
    worker.send(task)
    assert worker.receive() == Died(code)


def test_an_error_in_a_task_is_told_and_the_worker_goes_on(worker: Worker[Any, Any]) -> None:
    worker.send(("raise", ValueError("an odd shape")))
    assert worker.receive() == Raised("ValueError", "an odd shape")
    worker.send(("give", 7))
    assert worker.receive() == 7


def test_a_worker_that_died_between_tasks_is_told_at_the_next(worker: Worker[Any, Any]) -> None:
    os.kill(worker.process.pid or 0, signal.SIGKILL)
    worker.process.join(10)
    worker.send(("give", 7))
    assert worker.receive() == Died(-signal.SIGKILL)


def test_a_worker_that_dies_while_a_large_task_is_sent_is_told(worker: Worker[Any, Any]) -> None:
    # Stopped, it reads nothing: the sender fills the pipe and waits, until the worker is killed.
    process_id = worker.process.pid or 0
    os.kill(process_id, signal.SIGSTOP)
    killer = threading.Timer(0.5, os.kill, (process_id, signal.SIGKILL))
    killer.start()
    worker.send(("give", b"x" * (32 << 20)))
    killer.join()
    assert worker.receive() == Died(-signal.SIGKILL)


def test_a_worker_that_dies_amid_a_large_answer_is_told(worker: Worker[Any, Any]) -> None:
    process_id = worker.process.pid or 0
    worker.send(("large", 32 << 20))
    assert worker.channel.poll(20)  # the first bytes are there, and nobody reads on
    os.kill(process_id, signal.SIGKILL)
    assert worker.receive() == Died(-signal.SIGKILL)


def test_what_cannot_be_sent_back_ends_the_worker_and_is_told(
    worker: Worker[Any, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    worker.send(("unpicklable", None))
    assert isinstance(worker.receive(), Died | Raised)


@pytest.mark.parametrize(
    ("start", "error", "words"),
    [
        (_start_refused, BundleError, "a bundle was expected"),
        (_start_killed, RuntimeUnavailable, "exit code 3"),
        (_start_broken, RuntimeUnavailable, "exit code 1"),
    ],
)
def test_a_worker_that_cannot_start_says_why(
    start: Callable[[], Any], error: type[Exception], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    made: Worker[Any, Any] = Worker(start)
    try:
        with pytest.raises(error, match=words):
            made.receive()
    finally:
        made.stop()
    assert gone(made.process.pid or 0)


def test_a_dismissed_worker_ends_by_itself() -> None:
    made: Worker[Any, Any] = Worker(_start)
    made.receive()
    made.dismiss()
    assert made.process.exitcode == 0


def test_a_stopped_worker_is_gone_even_in_the_middle_of_a_task(worker: Worker[Any, Any]) -> None:
    worker.send(("sleep", 600))
    worker.stop()
    assert gone(worker.process.pid or 0)


def test_a_steady_worker_starts_when_it_is_first_used_and_stays(steady: SteadyWorker[Any, Any]) -> None:
    first = steady(("pid", None))
    steady.prepare()
    assert steady(("pid", None)) == first != os.getpid()


def test_a_steady_worker_is_replaced_after_its_death(steady: SteadyWorker[Any, Any]) -> None:
    first = steady(("pid", None))
    assert steady(("exit", 4)) == Died(4)
    second = steady(("pid", None))
    assert isinstance(second, int) and second != first


def test_a_steady_worker_is_not_replaced_after_an_error(steady: SteadyWorker[Any, Any]) -> None:
    first = steady(("pid", None))
    assert steady(("raise", KeyError("bone"))) == Raised("KeyError", "'bone'")
    assert steady(("pid", None)) == first


def test_a_worker_that_hangs_is_stopped_and_replaced() -> None:
    steady: SteadyWorker[Any, Any] = SteadyWorker(_start, 1.5)
    try:
        first = steady(("pid", None))
        assert steady(("sleep", 600)) == TimedOut(1.5)
        assert gone(first)
        second = steady(("pid", None))
        assert isinstance(second, int) and second != first
    finally:
        steady.stop()


def test_the_time_to_start_is_not_taken_from_the_task() -> None:
    steady: SteadyWorker[Any, Any] = SteadyWorker(_Slow(2.0), 1.0)
    try:
        assert steady(("give", 3)) == 3
    finally:
        steady.stop()


def test_a_steady_worker_that_cannot_start_says_so_each_time_and_leaves_no_process() -> None:
    steady: SteadyWorker[Any, Any] = SteadyWorker(_start_refused, 5)
    for _ in range(2):
        with pytest.raises(BundleError, match="install it again"):
            steady(("give", 1))
    steady.stop()


def test_a_steady_worker_that_was_stopped_starts_again(steady: SteadyWorker[Any, Any]) -> None:
    first = steady(("pid", None))
    steady.stop()
    assert gone(first)
    steady.stop()  # twice does no harm
    assert steady(("give", 5)) == 5


def test_a_worker_that_died_idle_costs_the_next_task_nothing(steady: SteadyWorker[Any, Any]) -> None:
    """The task never ran, so that it must not count as one that brings workers down."""
    first = steady(("pid", None))
    os.kill(first, signal.SIGKILL)
    steady._worker.process.join(10)  # type: ignore[union-attr]
    assert steady(("give", 5)) == 5


def interrupted(steady: SteadyWorker[Any, Any], task: Any) -> Any:
    """Return what a caller gets whose worker is interrupted by another thread."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(steady(task))
        except BoneAgeError as error:
            answers.append(error)

    waiting = threading.Thread(target=run)
    waiting.start()
    time.sleep(0.5)
    steady.interrupt()
    waiting.join(20)
    assert len(answers) == 1
    return answers[0]


def test_interrupting_a_task_ends_it_as_died_and_the_next_gets_a_new_worker(
    steady: SteadyWorker[Any, Any],
) -> None:
    steady.prepare()
    assert interrupted(steady, ("sleep", 600)) == Died(-signal.SIGKILL)
    assert steady(("give", 5)) == 5


def test_interrupting_a_start_ends_it() -> None:
    slow: SteadyWorker[Any, Any] = SteadyWorker(_Slow(600), 5)
    assert isinstance(interrupted(slow, ("give", 5)), RuntimeUnavailable)


def test_interrupting_where_nothing_runs_does_no_harm(steady: SteadyWorker[Any, Any]) -> None:
    steady.interrupt()
    assert steady(("give", 5)) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_reaches_no_worker(worker: Worker[Any, Any]) -> None:
    os.kill(worker.process.pid or 0, signal.SIGINT)
    worker.send(("give", 9))
    assert worker.receive() == 9


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Any) -> None:
    import subprocess

    code = (
        "import sys, time\nfrom boneage.core.processes import Worker\nimport worker_start\n"
        "made = Worker(worker_start.start)\nmade.receive()\n"
        "print(made.process.pid, flush=True)\ntime.sleep(600)\n"
    )
    (tmp_path / "worker_start.py").write_text("def start():\n    return len\n")
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    for _ in range(200):
        try:
            state = open(f"/proc/{child}/stat").read().rpartition(")")[2].split()[0]  # noqa: SIM115, PTH123
        except FileNotFoundError:
            state = "gone"
        if state in ("gone", "Z"):
            return
        time.sleep(0.05)
    raise AssertionError("the worker outlived its parent")
