"""Run a job: look the list through, read every image here or on a cluster, put every row where it belongs.

Nothing is lost or done twice when it is interrupted: a row that was handed to the output is never asked for
again, and the output is whole only when every row is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from boneage import __version__
from boneage.batch.pool import Pool
from boneage.batch.results import About, Summary, open_output
from boneage.batch.source import Listing, Source, Task
from boneage.batch.work import Reader, Row, Start, try_storage
from boneage.core.errors import RuntimeUnavailable
from boneage.core.types import Sex

Progress = Callable[[int, int], None]
"""Called with the number of rows done and their total, first for what is already done."""

TIMEOUT_S = 120.0
SHARD_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """How a batch is run.

    Args:
        workers: number of processes; None is one a processor, of this machine or of the cluster.
        sex: the sex of rows that name none, where the image's file does not name it either.
        resume: go on with an interrupted run of the same output.
        overwrite: start anew and replace an existing output.
        timeout_s: what one image may take.
        cluster: a Ray cluster: `auto`, `local`, `ray://HOST:PORT` or `HOST:PORT`; None is this machine.
        shard_rows: rows in a shard, where the output is a folder.
    """

    workers: int | None = None
    sex: Sex | None = None
    resume: bool = False
    overwrite: bool = False
    timeout_s: float = TIMEOUT_S
    cluster: str | None = None
    shard_rows: int = SHARD_ROWS


def run(
    source: Source, out: str | Path, reader: Reader, settings: Settings, progress: Progress | None = None
) -> Summary:
    """Read every image of a list and write the table or the shards, a row an image in the list's order.

    Raises:
        ConfigError: no images, a list that cannot be used, an unknown kind of output, an output that is
            another run's or would be overwritten, or a cluster that does not answer or cannot be used.
        BundleError: the bundle cannot be trusted or used.
        RuntimeUnavailable: the storage does not answer, the cluster was lost, or a package is missing.
        DeliveryError: the output cannot be written.
    """
    progress = progress or (lambda done, total: None)
    output = open_output(
        str(out), resume=settings.resume, overwrite=settings.overwrite, shard_rows=settings.shard_rows
    )
    with closing(output), engine_for(reader, settings) as engine:
        salt = f"{reader.fingerprint()}|boneage {__version__}"
        with closing(Listing(source, salt, settings.sex)) as listing:
            engine.check(next(listing.tasks()))
            output.begin(listing, About(reader, salt, {"sex": settings.sex, "engine": engine.name}))
            done = output.kept
            progress(done, len(listing))
            if done < len(listing):
                pending = listing.tasks(output.wants)
                with closing(engine.rows(pending, len(listing) - done)) as rows:
                    for ordinal, row in rows:
                        if output.wants(ordinal):  # a cluster may give a row again when it lost a node
                            output.add(ordinal, row)
                            done += 1
                            progress(done, len(listing))
                if done < len(listing):
                    raise RuntimeUnavailable(
                        f"{len(listing) - done:,} images came to no end: go on with --resume"
                    )
            return output.finish()


Rows = Generator[tuple[int, Row], None, None]
"""Ordinals with their rows; closing it ends the work."""


class Engine(Protocol):
    """Where images are read."""

    @property
    def name(self) -> str:
        """What the run's record calls it."""
        ...

    def check(self, task: Task) -> None:
        """Refuse to start where not even the storage of the first image answers."""
        ...

    def rows(self, tasks: Iterable[Task], count: int) -> Rows:
        """Yield the ordinal of each of `count` tasks with its row, in any order."""
        ...


@contextmanager
def engine_for(reader: Reader, settings: Settings) -> Iterator[Engine]:
    """Yield the engine that the settings name, ready to work.

    Raises:
        ConfigError: the cluster cannot be used: it does not answer, has another version, or is none.
        RuntimeUnavailable: Ray is not installed or does not start, or a node does not answer.
    """
    start = Start(reader, str(Path.cwd()))
    if settings.cluster is None:
        yield LocalEngine(start, settings.workers or os.cpu_count() or 1, settings.timeout_s)
        return
    from boneage.batch import cluster

    with cluster.connected(settings.cluster, settings.workers) as found:
        yield cluster.ClusterEngine(found, start, settings.workers, settings.timeout_s)


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Worker processes on this machine."""

    start: Start
    workers: int
    timeout_s: float
    name: str = "local"

    def check(self, task: Task) -> None:
        """Ask the storage for the first image, where it is not this machine's.

        Raises:
            RuntimeUnavailable: the storage does not answer.
        """
        try_storage(task)

    def rows(self, tasks: Iterable[Task], count: int) -> Rows:
        """Yield each task's ordinal with its row, as they come.

        Raises:
            BoneAgeError: a worker could not start, and says why.
        """
        return Pool(self.start, min(self.workers, count), self.timeout_s).rows(tasks)
