"""Tasks shared out among worker processes, each of which may die without ending the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait

from boneage.core.processes import Died, Raised, Result, Task, Work, Worker


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
    pool: dict[Worker[Task, Result], Task | None] = {}
    pending = iter(tasks)
    try:
        pool.update((Worker(start), None) for _ in range(workers))
        while pool:
            for channel in wait([worker.channel for worker in pool]):
                worker = next(worker for worker in pool if worker.channel is channel)
                answer = worker.receive()
                task = pool.pop(worker)
                if isinstance(answer, Died):
                    pool[Worker(start)] = None
                elif (following := next(pending, None)) is not None:
                    worker.send(following)
                    pool[worker] = following
                else:
                    worker.dismiss()
                if task is not None:
                    yield task, answer
    finally:
        for worker in pool:
            worker.stop()
