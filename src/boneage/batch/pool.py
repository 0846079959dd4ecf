"""Tasks shared out among worker processes, each of which may die or hang without ending the run."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait

from boneage.batch.source import Task
from boneage.batch.work import Row, Turn, row_of
from boneage.core.errors import RuntimeUnavailable
from boneage.core.processes import Died, Raised, SteadyWorker, TimedOut, Work, Worker

Answer = Row | Died | Raised | TimedOut
Starter = Callable[[], Work[Turn, Row]]

_STILLBORN = 3
"""Workers that may end one after another as they start, once another has started well."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numerical libraries take their number of threads from, once, as they load."""


@dataclass
class _Seat:
    """A worker, what it does, since when, and what it was told to fetch meanwhile."""

    worker: Worker[Turn, Row]
    task: Task | None = None
    following: Task | None = None
    since: float = 0.0


class Pool:
    """Worker processes that take turns at a list of tasks.

    A task whose worker died is given to one more: the worker may have been killed for want of memory, which
    is no fault of the image. A second death is. A task that takes too long is not tried again. A worker that
    takes another's place may die as it starts for the same want, and is replaced too, but not for ever.

    Args:
        start: called once in every worker; returns the function that does a task. It must be picklable.
        workers: number of processes, at least 1.
        timeout_s: what one task may take.
    """

    def __init__(self, start: Starter, workers: int, timeout_s: float) -> None:
        self._start = start
        self._workers = workers
        self._timeout_s = timeout_s
        self._seats: dict[object, _Seat] = {}
        self._again: deque[Task] = deque()
        self._deadly: set[int] = set()
        self._started = False
        self._stillborn = 0

    def rows(self, tasks: Iterable[Task]) -> Generator[tuple[int, Row], None, None]:
        """Yield each task's ordinal with its row, as they come.

        Raises:
            BoneAgeError: what `start` raised in a worker.
            RuntimeUnavailable: workers end before they are ready.
        """
        pending = iter(tasks)
        try:
            for _ in range(self._workers):
                self._seat()
            while self._seats:
                for seat in self._ready():
                    yield from self._ended(seat, pending)
        finally:
            for seat in self._seats.values():
                seat.worker.stop()

    def _seat(self) -> None:
        with one_thread_each():
            worker = Worker(self._start)
        self._seats[worker.channel] = _Seat(worker)

    def _ready(self) -> list[_Seat]:
        """Wait for workers that answered, or whose time is over; return their seats."""
        ends = [seat.since + self._timeout_s for seat in self._seats.values() if seat.task is not None]
        patience = max(0.0, min(ends) - time.monotonic()) if ends else None
        channels: list[object] = list(wait([seat.worker.channel for seat in self._seats.values()], patience))
        if channels:
            return [self._seats[channel] for channel in channels]
        now = time.monotonic()
        return [
            seat
            for seat in self._seats.values()
            if seat.task is not None and seat.since + self._timeout_s <= now
        ]

    def _ended(self, seat: _Seat, pending: Iterator[Task]) -> Iterator[tuple[int, Row]]:
        """Take a worker's answer, give it its next task, and yield what has become a row."""
        task, answer = seat.task, self._answer(seat)
        if isinstance(answer, Died | TimedOut):
            del self._seats[seat.worker.channel]
            if seat.following is not None:
                self._again.append(seat.following)
            self._seat()
        if isinstance(answer, Died) and task is not None and task.ordinal not in self._deadly:
            self._deadly.add(task.ordinal)
            self._again.append(task)
            task = None
        if not isinstance(answer, Died | TimedOut):
            self._give(seat, pending)
        if task is not None:
            yield task.ordinal, row_of(task, answer)

    def _answer(self, seat: _Seat) -> Answer:
        late = seat.task is not None and not seat.worker.channel.poll()
        if late:
            seat.worker.stop()
            return TimedOut(self._timeout_s)
        starting = not seat.worker.ready
        try:
            answer = seat.worker.receive()
        except RuntimeUnavailable:
            self._stillborn += 1
            if not self._started or self._stillborn > _STILLBORN:
                raise
            return Died(None)
        if starting:
            self._started, self._stillborn = True, 0
        return answer

    def _give(self, seat: _Seat, pending: Iterator[Task]) -> None:
        """Give a worker its next task, or let it go where there is none."""
        task = seat.following or self._next(pending)
        if task is None:
            del self._seats[seat.worker.channel]
            seat.worker.dismiss()
            return
        following = self._again.popleft() if self._again else next(pending, None)
        seat.task, seat.following, seat.since = task, following, time.monotonic()
        seat.worker.send(Turn(task, following))

    def _next(self, pending: Iterator[Task]) -> Task | None:
        """Return a task that was tried before, one of the list, or one that waits for a busy worker."""
        if self._again:
            return self._again.popleft()
        task = next(pending, None)
        if task is not None:
            return task
        for seat in self._seats.values():
            if seat.following is not None:
                task, seat.following = seat.following, None
                return task
        return None


class SteadyReader:
    """One worker process that reads images one after another, and is replaced when it dies or hangs.

    Args:
        start: as `Pool`'s.
        timeout_s: what one task may take.

    Raises:
        BoneAgeError: no worker could be started.
    """

    def __init__(self, start: Starter, timeout_s: float) -> None:
        self._worker: SteadyWorker[Turn, Row] = SteadyWorker(start, timeout_s)
        with one_thread_each():
            self._worker.prepare()

    def row(self, turn: Turn) -> Row:
        """Return a task's row; a task whose worker died is tried once more.

        Raises:
            BoneAgeError: no worker could be started.
        """
        with one_thread_each():
            answer = self._answer(turn)
            if isinstance(answer, Died):
                answer = self._answer(turn)
        return row_of(turn.task, answer)

    def _answer(self, turn: Turn) -> Answer:
        for _ in range(_STILLBORN):
            with suppress(RuntimeUnavailable):
                return self._worker(turn)
        return self._worker(turn)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let the processes that start in this have one thread in every numerical library."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
