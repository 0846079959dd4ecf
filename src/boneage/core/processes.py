"""Worker processes of which any may die or hang: its task is reported, and another worker takes its place.

The pools of the standard library end as a whole when one worker is killed, and cannot say which
task it held; one image that brings down a decoder would then end a run of thousands, or a server.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from boneage.core.errors import BoneAgeError, RuntimeUnavailable

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task], Result]

log = logging.getLogger(__name__)

_READY = "ready"
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Died:
    """What is known of a task whose worker ended before it answered."""

    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Raised:
    """What an unforeseen error in a worker said; the worker goes on."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A task took longer than it was given; its worker was stopped."""

    after_s: float


class Worker(Generic[Task, Result]):
    """One spawned process that does one task after another; begun when it is made.

    Args:
        start: called once in the process; returns the function that does a task. It and the tasks
            and results must be picklable.
    """

    def __init__(self, start: Callable[[], Work[Task, Result]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.channel, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        self.ready = False
        with _interrupts_held():
            self.process.start()
        theirs.close()

    def send(self, task: Task) -> None:
        """Give the worker a task; where it is dead, the next `receive` says so."""
        try:
            self.channel.send(task)
        except OSError:
            log.debug("a worker died before it had its task")

    def receive(self) -> Result | Died | Raised:
        """Wait for the worker's answer, the first of which says that it is ready, or that it died.

        Raises:
            BoneAgeError: the worker could not start, and says why.
            RuntimeUnavailable: the worker died while it started.
        """
        try:
            answer = self.channel.recv()
        except (EOFError, OSError):  # an answer that ends in its middle is an OSError
            self.process.join(_JOIN_S)
            self.channel.close()
            code = self.process.exitcode
            if not self.ready:
                raise RuntimeUnavailable(
                    f"a worker process ended while it started (exit code {code}): try fewer --workers, "
                    "or one image with `boneage assess` to see why"
                ) from None
            return Died(code)
        if not self.ready and isinstance(answer, BoneAgeError):
            raise answer
        self.ready = True
        return answer  # type: ignore[no-any-return]

    def dismiss(self) -> None:
        """Let the worker end by itself."""
        self.channel.close()
        self.process.join(_JOIN_S)

    def stop(self) -> None:
        """End the worker, whatever it does."""
        self.process.terminate()
        self.process.join(_JOIN_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(_JOIN_S)
        self.channel.close()


class SteadyWorker(Generic[Task, Result]):
    """A worker that is replaced when it dies or hangs; for one caller at a time, but for `interrupt`.

    Args:
        start: as `Worker`'s; it runs again in every worker that takes another's place.
        timeout_s: what a task may take.
    """

    def __init__(self, start: Callable[[], Work[Task, Result]], timeout_s: float) -> None:
        self._start = start
        self._timeout_s = timeout_s
        self._worker: Worker[Task, Result] | None = None

    def prepare(self) -> None:
        """Start the worker where there is none or it died idle, and wait until it is ready.

        Raises:
            BoneAgeError: the worker could not start, and says why.
        """
        if self._worker is not None and not self._worker.process.is_alive():
            self.stop()
        if self._worker is None:
            self._worker = Worker(self._start)
            try:
                self._worker.receive()
            except BaseException:
                self.stop()
                raise

    def __call__(self, task: Task) -> Result | Died | Raised | TimedOut:
        """Return the task's result, or what became of the worker that had it.

        Raises:
            BoneAgeError: no worker could be started.
        """
        self.prepare()
        worker: Any = self._worker
        worker.send(task)
        if not worker.channel.poll(self._timeout_s):
            self.stop()
            return TimedOut(self._timeout_s)
        answer: Result | Died | Raised = worker.receive()
        if isinstance(answer, Died):
            self._worker = None
        return answer

    def interrupt(self) -> None:
        """End the worker from another thread than its caller's, whose task is then told as `Died`."""
        worker = self._worker
        if worker is not None:
            worker.process.kill()

    def stop(self) -> None:
        """End the worker, whatever it does; the next task starts another."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C while a process starts, which inherits this: only the parent answers it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would let Ctrl-C through again when it starts itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(channel: Connection, start: Callable[[], Work[Task, Result]]) -> None:
    """Do tasks until the parent closes the channel or is gone."""
    try:
        try:
            work = start()
        except BoneAgeError as error:
            channel.send(error)
            return
        channel.send(_READY)
        while True:
            channel.send(_guarded(work, channel.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _guarded(work: Work[Task, Result], task: Task) -> Result | Raised:
    """Do a task; at this border of processes any error is that task's own, and is told as such."""
    try:
        return work(task)
    except Exception as error:  # noqa: BLE001 - one image must not end a run of thousands
        log.debug("unforeseen error in a worker", exc_info=True)
        return Raised(type(error).__name__, str(error))
