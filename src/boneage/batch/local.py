"""The batch for callers that have their rows in hand, as `boneage evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from boneage.batch import run as job
from boneage.batch import source
from boneage.batch.results import Summary, journal_path
from boneage.batch.run import Progress, Settings
from boneage.batch.work import BundleReader, Reader
from boneage.data.manifest import Row

__all__ = ["BundleReader", "Progress", "Reader", "Settings", "Summary", "journal_path", "run"]


def run(
    items: Sequence[Row], out: Path, reader: Reader, settings: Settings, progress: Progress | None = None
) -> Summary:
    """Read every item and write the table, one row an item in its order, as `boneage.batch.run.run` does.

    Raises:
        BoneAgeError: as `boneage.batch.run.run`.
    """
    return job.run(source.from_rows(items), out, reader, settings, progress)
