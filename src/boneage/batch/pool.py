"""Worker processes of which any may die: its task is reported, and another worker takes its place.

The pools of the standard library end as a whole when one worker is killed, and cannot say which
task it held; one image that brings down a decoder would then end a run of thousands.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

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


@dataclass(eq=False)
class _Worker(Generic[Task]):
    process: SpawnProcess
    channel: Connection
    task: Task | None = None
    ready: bool = False


def map_unordered(
    start: Callable[[], Work[Task, Result]], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result | Died | Raised]]:
    """Yield each task with its result, as they come, from `workers` spawned processes.

    Args:
        start: called once in every worker; returns the function that does a task. It and the tasks
            and results must be picklable.
        tasks: taken one by one as workers fall free.
        workers: number of processes, at least 1.

    Raises:
        BoneAgeError: what `start` raised in a worker.
        RuntimeUnavailable: workers end before they are ready.
    """
    pool: list[_Worker[Task]] = []
    pending = iter(tasks)
    try:
        pool.extend(_launch(start) for _ in range(workers))
        while pool:
            for channel in wait([worker.channel for worker in pool]):
                worker = next(worker for worker in pool if worker.channel is channel)
                answer = _receive(worker)
                task, worker.task = worker.task, None
                if isinstance(answer, Died):
                    pool[pool.index(worker)] = _launch(start)
                elif not _give(worker, pending):
                    pool.remove(_dismiss(worker))
                if task is not None:
                    yield task, answer
    finally:
        for worker in pool:
            worker.process.terminate()
            worker.process.join(_JOIN_S)
            worker.channel.close()


def _launch(start: Callable[[], Work[Task, Result]]) -> _Worker[Task]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, start), daemon=True)
    with _interrupts_held():
        process.start()
    theirs.close()
    return _Worker(process, ours)


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


def _receive(worker: _Worker[Task]) -> Result | Died | Raised:
    """Return a worker's answer, or that it died.

    Raises:
        BoneAgeError: the worker could not start, and says why.
        RuntimeUnavailable: the worker died while it started.
    """
    try:
        answer = worker.channel.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(_JOIN_S)
        worker.channel.close()
        code = worker.process.exitcode
        if not worker.ready:
            raise RuntimeUnavailable(
                f"a worker process ended while it started (exit code {code}): try fewer --workers, "
                "or one image with `boneage assess` to see why"
            ) from None
        return Died(code)
    if not worker.ready and isinstance(answer, BoneAgeError):
        raise answer
    worker.ready = True
    return answer  # type: ignore[no-any-return]


def _give(worker: _Worker[Task], pending: Iterator[Task]) -> bool:
    """Send the next task; False when none is left."""
    for task in pending:
        worker.task = task
        try:
            worker.channel.send(task)
        except BrokenPipeError:
            log.debug("a worker died between two tasks")  # the next receive reports it with this task
        return True
    return False


def _dismiss(worker: _Worker[Task]) -> _Worker[Task]:
    worker.channel.close()
    worker.process.join(_JOIN_S)
    return worker


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
