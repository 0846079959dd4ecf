"""Run a job: look the list through, read every image here or on a cluster, and put every row where it belongs.

Nothing is lost or done twice when it is interrupted: a row that was handed to the output is never asked for
again, and the output is whole only when every row is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from boneage import __version__
from boneage.batch import storage
from boneage.batch.pool import Pool
from boneage.batch.results import About, Output, Summary, open_output
from boneage.batch.source import Listing, Source, Task
from boneage.batch.work import Reader, Row, Start
from boneage.core.errors import BoneAgeError, ConfigError, InputError
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
        ConfigError: no images, a list that cannot be used, an unknown kind of output, an output that is another
            run's or would be overwritten, or a cluster that cannot be used.
        BundleError: the bundle cannot be trusted or used.
        RuntimeUnavailable: the cluster does not answer, or a package is missing.
        DeliveryError: the output cannot be written.
    """
    progress = progress or (lambda done, total: None)
    output = open_output(
        str(out), resume=settings.resume, overwrite=settings.overwrite, shard_rows=settings.shard_rows
    )
    with engine(reader, settings) as read, closing(output):
        fingerprint = f"{reader.fingerprint()}|{__version__}"
        with closing(Listing(source, fingerprint, settings.sex)) as listing:
            _check_storage(listing)
            output.begin(listing, _about(reader, fingerprint, settings))
            done = output.kept
            progress(done, len(listing))
            if done < len(listing):
                for task, row in read(listing.tasks(output.wants), len(listing) - done):
                    output.add(task, row)
                    done += 1
                    progress(done, len(listing))
            return output.finish()
