"""What a worker does with one image, on this machine and on a cluster alike: bytes in, a row out.

Whatever befalls the image is its row. A worker is a process of its own, so that an image which brings the
decoder down, or keeps it for ever, costs a worker and no more.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from boneage.batch import storage
from boneage.batch.source import Task
from boneage.core.errors import BoneAgeError, InputError, RuntimeUnavailable
from boneage.core.processes import Died, Raised, TimedOut
from boneage.core.registry import METHODS
from boneage.core.runtime import DEFAULT_RUNTIME
from boneage.core.types import Assessment
from boneage.imaging.read import read_bytes
from boneage.reporting.tabular import FAILED, OK, Failure, one_line

if TYPE_CHECKING:
    from boneage.inference.assess import Assessor

Row = dict[str, Any]
"""The contract's columns, and the ages by method under `ages`."""

_PARENT_EVERY_S = 2.0


class Reader(Protocol):
    """Loads an assessor in a worker, and says what its answers depend on; it must be picklable."""

    def load(self) -> Assessor:
        """Return an assessor of one thread."""
        ...

    def fingerprint(self) -> str:
        """Return a text that changes whenever an answer could."""
        ...

    def ages(self) -> tuple[str, ...]:
        """Return the names of every age that an answer can have, sorted; only shards ask."""
        ...

    def description(self) -> dict[str, str]:
        """Return what the run's record says of it; only shards ask."""
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

    def ages(self) -> tuple[str, ...]:
        """Return the names of every age that the bundle can give: a column each, the same in every shard."""
        from boneage.inference.bundle import Bundle
        from boneage.recipes.graded_regions.method import GradedRegions
        from boneage.recipes.graded_regions.prior import STANDARDS

        methods = Bundle.load(self.bundle).manifest["methods"]
        standards = STANDARDS if GradedRegions.name in methods else ()
        return tuple(sorted({*(name for name in methods if name in METHODS), *standards}))

    def description(self) -> dict[str, str]:
        """Return what a run records of it."""
        from boneage.inference.bundle import Bundle

        bundle = Bundle.load(self.bundle).name
        return {"bundle": bundle, "localise": self.localise, "runtime": self.runtime}


@dataclass(frozen=True, slots=True)
class Turn:
    """A task for a worker, and the one that it will most likely have next."""

    task: Task
    following: Task | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Makes a worker's function: its own assessor, and one thread for every library it uses.

    Args:
        reader: of the images.
        folder: where paths that are not absolute begin.
    """

    reader: Reader
    folder: str

    def __call__(self) -> Callable[[Turn], Row]:
        """Load what a worker needs, once."""
        import cv2

        cv2.setNumThreads(1)
        _end_with_parent()
        return ImageReader(self.reader.load(), self.folder)


class ImageReader:
    """Reads one image after another; the next one's bytes come while the last one is assessed."""

    def __init__(self, assessor: Assessor, folder: str) -> None:
        self._assessor = assessor
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._ahead: tuple[str, Future[bytes]] | None = None

    def __call__(self, turn: Turn) -> Row:
        """Return the row of a task."""
        task = turn.task
        try:
            content = self._content(task.path)
            self._fetch(turn.following)
            radiograph = read_bytes(content, task.path)
            assessment = self._assessor.assess(
                radiograph, sex=task.sex, chronological_age_months=task.chronological_age_months
            )
        except BoneAgeError as error:
            failure = Failure.of(task.path, error)
            named = f"{one_line(task.path)}: "
            return failed_row(task, failure.status, failure.message.removeprefix(named))
        return _row(task, assessment)

    def _content(self, path: str) -> bytes:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == path:
            return ahead[1].result()
        return storage.load_image(self._place(path))

    def _fetch(self, task: Task | None) -> None:
        if task is not None:
            self._ahead = (task.path, self._thread.submit(storage.load_image, self._place(task.path)))

    def _place(self, path: str) -> str:
        return path if storage.is_url(path) else os.path.join(self._folder, path)  # noqa: PTH118


def _row(task: Task, assessment: Assessment) -> Row:
    lower, upper = assessment.interval_months
    if not all(map(math.isfinite, (assessment.bone_age_months, lower, upper, *assessment.ages.values()))):
        raise ArithmeticError("an age or its interval is no finite number")
    return {
        "id": task.id,
        "path": storage.shown(task.path),
        "sex": str(assessment.sex),
        "bone_age_months": round(float(assessment.bone_age_months), 3),
        "lower_months": round(float(lower), 3),
        "upper_months": round(float(upper), 3),
        "status": OK,
        "message": "; ".join(f"{notice.code}: {notice.text}" for notice in assessment.warnings),
        "ages": {name: round(float(age), 3) for name, age in assessment.ages.items()},
    }


def failed_row(task: Task, status: str, message: str) -> Row:
    """Return the row of an image that got no bone age."""
    return {
        "id": task.id,
        "path": storage.shown(task.path),
        "sex": "" if task.sex is None else str(task.sex),
        "bone_age_months": None,
        "lower_months": None,
        "upper_months": None,
        "status": status,
        "message": message,
        "ages": {},
    }


def try_storage(task: Task) -> None:
    """Ask for an image that does not lie on this machine, so that a run does not begin where all would fail.

    Raises:
        RuntimeUnavailable: the storage, or the package that opens it, does not answer.
    """
    if storage.is_url(task.path):
        try:
            storage.load_image(task.path)
        except InputError:
            return  # the storage answers; the image gets a row like every other
        except RuntimeUnavailable as error:
            raise RuntimeUnavailable(f"{storage.shown(task.path)}: {error}") from None


def row_of(task: Task, answer: Row | Died | Raised | TimedOut) -> Row:
    """Return the row of a task by its worker's answer, or by what became of the worker."""
    if isinstance(answer, Mapping):
        return answer
    if isinstance(answer, Died):
        reason = (
            f"the worker process ended (exit code {answer.exit_code}) while it read this image, and so did "
            "another, perhaps for want of memory: try it alone with `boneage assess`, or run fewer --workers"
        )
    elif isinstance(answer, TimedOut):
        reason = (
            f"no answer after {answer.after_s:g} s, so its worker was stopped: try it alone with "
            "`boneage assess`, or give it longer with --timeout"
        )
    else:
        reason = (
            f"unforeseen {answer.kind} ({answer.text}): please report it with the image's format and size"
        )
    return failed_row(task, FAILED, one_line(reason))


def _end_with_parent() -> None:
    """End this process soon after its parent, which may be killed while this one hangs in an image."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()
