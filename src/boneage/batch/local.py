"""Read every image of a manifest in local processes; nothing is lost or done twice when interrupted."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from boneage.batch import pool, table
from boneage.batch.journal import Journal
from boneage.core.errors import BoneAgeError, ConfigError
from boneage.core.processes import Died, Raised
from boneage.core.runtime import DEFAULT_RUNTIME
from boneage.core.types import Assessment, Sex
from boneage.data.manifest import Row
from boneage.reporting.tabular import FAILED, OK, Failure

if TYPE_CHECKING:
    from boneage.inference.assess import Assessor

Progress = Callable[[int, int], None]
"""Called with the number of rows done and their total, first for what is already done."""


class Reader(Protocol):
    """Loads an assessor in a worker, and says what its answers depend on; it must be picklable."""

    def load(self) -> Assessor:
        """Return an assessor of one thread."""
        ...

    def fingerprint(self) -> str:
        """Return a text that changes whenever an answer could."""
        ...


@dataclass(frozen=True, slots=True)
class BundleReader:
    """The reader of a bundle; `None` is the shipped one."""

    bundle: Path | None = None
    localise: str = "fast"
    runtime: str = DEFAULT_RUNTIME
    threads: int | None = 1

    def load(self) -> Assessor:
        """Load the bundle and its assessor.

        Raises:
            BundleError: the bundle cannot be trusted or used.
            RuntimeUnavailable: the runtime is not installed.
        """
        from boneage.inference.assess import Assessor
        from boneage.inference.bundle import Bundle

        return Assessor(
            Bundle.load(self.bundle), localise=self.localise, runtime=self.runtime, threads=self.threads
        )

    def fingerprint(self) -> str:
        """Return a digest of the bundle's manifest, which holds its checksums, and of the options."""
        from boneage.inference.bundle import Bundle

        manifest = json.dumps(Bundle.load(self.bundle).manifest, sort_keys=True, default=str)
        return hashlib.sha256(f"{manifest}|{self.localise}|{self.runtime}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Summary:
    """How a batch ended: rows by status, and how many of them an earlier run had done."""

    total: int
    ok: int
    rejected: int
    failed: int
    kept: int


@dataclass(frozen=True, slots=True)
class Settings:
    """How a batch is run.

    Args:
        workers: number of processes; None is one a processor.
        sex: the sex of rows that name none, where the image's file does not name it either.
        resume: go on with an interrupted run of the same output.
        overwrite: start anew and replace an existing output.
    """

    workers: int | None = None
    sex: Sex | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class _Task:
    key: str
    id: str
    path: str
    sex: Sex | None
    chronological_age_months: float | None


def run(
    items: Sequence[Row], out: Path, reader: Reader, settings: Settings, progress: Progress | None = None
) -> Summary:
    """Read every item and write the table, one row an item in the manifest's order.

    Finished rows are kept in a journal beside the output until the table is whole.

    Raises:
        ConfigError: no items, an unknown kind of output, or an output that would be overwritten.
        BundleError: the bundle cannot be trusted or used.
        DeliveryError: the journal or the table cannot be written.
    """
    progress = progress or (lambda done, total: None)
    begun = journal_path(out)
    _check(items, out, settings)
    if settings.resume and out.exists() and not begun.exists():
        progress(len(items), len(items))
        return _finished(items, out)
    if settings.overwrite and not settings.resume:
        begun.unlink(missing_ok=True)
    tasks = _tasks(items, reader.fingerprint(), settings.sex)
    with Journal(begun) as journal:
        pending = {task.key: task for task in tasks if task.key not in journal.offsets}
        kept = sum(task.key not in pending for task in tasks)
        progress(kept, len(tasks))
        _read_pending(
            list(pending.values()), reader, settings, journal, lambda done: progress(kept + done, len(tasks))
        )
        summary = _write(out, tasks, journal, kept)
    begun.unlink()
    return summary


def journal_path(out: Path) -> Path:
    """Return where the finished rows of an output lie until it is whole."""
    return out.with_name(f"{out.name}.journal")


def _check(items: Sequence[Row], out: Path, settings: Settings) -> None:
    table.check_suffix(out)
    if not items:
        raise ConfigError(
            "the manifest lists no image: add a row an image, or name a folder that holds images"
        )
    if not out.parent.is_dir():
        raise ConfigError(
            f"the folder of the output, {out.parent}, does not exist: create it, or name another"
        )
    if settings.resume or settings.overwrite:
        return
    if out.exists():
        raise ConfigError(f"{out} exists: name another output, or replace it with --overwrite")
    if journal_path(out).exists():
        raise ConfigError(
            f"{out} was begun and interrupted: go on with --resume, or start anew with --overwrite"
        )


def _finished(items: Sequence[Row], out: Path) -> Summary:
    """Return the summary of a table that is already whole, if it is this manifest's."""
    if table.read_identities(out) != tuple((item.id, str(item.path)) for item in items):
        raise ConfigError(
            f"{out} holds other rows than the manifest: name another output, or replace it with --overwrite"
        )
    return _summary(Counter(str(row["status"]) for row in table.read(out)), kept=len(items))


def _tasks(items: Sequence[Row], fingerprint: str, sex: Sex | None) -> list[_Task]:
    return [_task(item, fingerprint, item.sex or sex) for item in items]


def _task(item: Row, fingerprint: str, sex: Sex | None) -> _Task:
    said = [item.id, str(item.path), sex, item.chronological_age_months, fingerprint]
    key = hashlib.sha256(json.dumps(said).encode("utf-8")).hexdigest()[:32]
    return _Task(key, item.id, str(item.path), sex, item.chronological_age_months)


def _read_pending(
    pending: Sequence[_Task],
    reader: Reader,
    settings: Settings,
    journal: Journal,
    done: Callable[[int], None],
) -> None:
    if not pending:
        return
    workers = min(settings.workers or os.cpu_count() or 1, len(pending))
    answers = pool.map_unordered(_Start(reader), pending, workers)
    for count, (task, answer) in enumerate(answers, start=1):
        journal.append(task.key, answer if isinstance(answer, Mapping) else _broken_row(task, answer))
        done(count)


@dataclass(frozen=True, slots=True)
class _Start:
    """Makes a worker's function: its own assessor, and one thread for every library it uses."""

    reader: Reader

    def __call__(self) -> Callable[[_Task], dict[str, Any]]:
        import cv2

        cv2.setNumThreads(1)
        assessor = self.reader.load()
        return lambda task: _read_row(assessor, task)


def _read_row(assessor: Assessor, task: _Task) -> dict[str, Any]:
    try:
        assessment = assessor.assess(
            Path(task.path), sex=task.sex, chronological_age_months=task.chronological_age_months
        )
    except BoneAgeError as error:
        return _failed_row(task, Failure.of(task.path, error))
    return _row(task, assessment)


def _row(task: _Task, assessment: Assessment) -> dict[str, Any]:
    lower, upper = assessment.interval_months
    if not all(map(math.isfinite, (assessment.bone_age_months, lower, upper, *assessment.ages.values()))):
        raise ArithmeticError("an age or its interval is no finite number")
    return {
        "id": task.id,
        "path": task.path,
        "sex": str(assessment.sex),
        "bone_age_months": round(float(assessment.bone_age_months), 3),
        "lower_months": round(float(lower), 3),
        "upper_months": round(float(upper), 3),
        "status": OK,
        "message": "; ".join(f"{notice.code}: {notice.text}" for notice in assessment.warnings),
        "ages": {name: round(float(age), 3) for name, age in assessment.ages.items()},
    }


def _failed_row(task: _Task, failure: Failure) -> dict[str, Any]:
    return {
        "id": task.id,
        "path": task.path,
        "sex": "" if task.sex is None else str(task.sex),
        "bone_age_months": None,
        "lower_months": None,
        "upper_months": None,
        "status": failure.status,
        "message": failure.message,
        "ages": {},
    }


def _broken_row(task: _Task, trouble: Died | Raised) -> dict[str, Any]:
    if isinstance(trouble, Died):
        reason = (
            f"the worker process ended (exit code {trouble.exit_code}) while it read this image, perhaps for "
            "want of memory: try it alone with `boneage assess`, or run fewer --workers"
        )
    else:
        reason = (
            f"unforeseen {trouble.kind} ({trouble.text}): please report it with the image's format and size"
        )
    return _failed_row(task, Failure(task.path, FAILED, "failed", " ".join(reason.split())))


def _write(out: Path, tasks: Sequence[_Task], journal: Journal, kept: int) -> Summary:
    """Write the table from the journal, whose rows are read twice so that they need no memory."""
    methods = sorted({name for task in tasks for name in journal.row(task.key)["ages"]})
    statuses = Counter(journal.row(task.key)["status"] for task in tasks)
    table.write(out, methods, (journal.row(task.key) for task in tasks))
    return _summary(statuses, kept)


def _summary(statuses: Counter[str], kept: int) -> Summary:
    ok, failed = statuses[OK], statuses[FAILED]
    total = statuses.total()
    return Summary(total, ok, total - ok - failed, failed, kept)
