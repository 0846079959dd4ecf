"""What the server's worker processes do: everything that touches an image that somebody sent."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boneage.core.errors import BoneAgeError
from boneage.reporting.forms import Form, Release
from boneage.reporting.tabular import Failure

if TYPE_CHECKING:
    from boneage.core.types import Assessment, Radiograph

VIEW_SIDE = 2048
"""Longest side of the picture that the viewer gets, in pixels."""

_WINDOW_PERCENTILES = (1.0, 99.7)


def _keep_quiet() -> None:
    """Let no library's warning out of a worker: its text may quote what was sent, as a name in a header."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Assess:
    """An image to assess, and what is said of the patient; see `store.Submission`."""

    content: bytes
    patient: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Assessed:
    """The assessment as `stored.dumps` writes it, and the columns of the worklist."""

    assessment: str
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AssessImages:
    """Loads a bundle; the result assesses images."""

    bundle: str
    runtime: str
    threads: int
    neighbours: bool = False

    def __call__(self) -> Callable[[Assess], Assessed | Failure]:
        """Load in the worker's own process.

        Raises:
            BoneAgeError: the bundle, or its runtime, cannot be used.
        """
        _keep_quiet()
        import cv2

        from boneage.inference.assess import Assessor
        from boneage.inference.bundle import Bundle

        cv2.setNumThreads(self.threads)
        bundle = Bundle.load(Path(self.bundle) if self.bundle else None)
        assessor = Assessor(bundle, runtime=self.runtime, threads=self.threads, neighbours=self.neighbours)

        def work(task: Assess) -> Assessed | Failure:
            try:
                return _assessed(assessor, task)
            except BoneAgeError as error:
                return Failure.of("", error)

        return work


def _assessed(assessor: Any, task: Assess) -> Assessed:
    from boneage.core.types import Sex
    from boneage.imaging.read import read_bytes
    from boneage.inference.growth import Measurements
    from boneage.reporting import stored
    from boneage.reporting.coding import sd_score

    said = task.patient
    given = said.get("sex")
    assessment: Assessment = assessor.assess(
        read_bytes(task.content),
        sex=None if given is None else Sex.parse(given),
        chronological_age_months=said.get("age_months"),
        measured=Measurements(**said.get("measured", {})),
    )
    score = sd_score(assessment)
    summary = {
        "sex": str(assessment.sex),
        "bone_age_months": assessment.bone_age_months,
        "chronological_age_months": assessment.chronological_age_months,
        "sd_score": None if score is None else score["value"],
    }
    return Assessed(stored.dumps(assessment), summary)


@dataclass(frozen=True, slots=True)
class Render:
    """An image and its assessment to make a report of.

    Args:
        form: which report.
        content: the image's file.
        assessment: as kept.
        job: the job's id; the report's identifiers follow from it.
        made_at: when the assessment was made, seconds since 1970.
        grades: a reader's, as `inference.reading.read_over` takes them.
        name: what pages call the image.
        release: of FHIR.
    """

    form: Form
    content: bytes
    assessment: str
    job: str
    made_at: float
    grades: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = ""
    release: Release = "R4"


@dataclass(frozen=True, slots=True)
class View:
    """An image to show."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the viewer gets it.

    Args:
        data: uint16, little endian, row by row, bone bright.
        width: in pixels of this picture.
        height: likewise.
        scale: source pixels for one of this picture.
        window: the levels that a first look shows as black and white.
    """

    data: bytes
    width: int
    height: int
    scale: float
    window: tuple[int, int]


@dataclass(frozen=True, slots=True)
class MakeReports:
    """Loads what drawing needs; the result makes reports and pictures."""

    def __call__(self) -> Callable[[Render | View], bytes | Picture | Failure]:
        """Load in the worker's own process."""
        _keep_quiet()
        from boneage.reporting import document, summary_page

        del document, summary_page  # loaded now, so that the first report does not wait for them

        def work(task: Render | View) -> bytes | Picture | Failure:
            try:
                return _picture(task) if isinstance(task, View) else _report(task)
            except BoneAgeError as error:
                return Failure.of("", error)

        return work


def _picture(task: View) -> Picture:
    import cv2
    import numpy as np

    from boneage.imaging.read import read_bytes

    pixels = read_bytes(task.content).pixels
    scale = max(1.0, max(pixels.shape) / VIEW_SIDE)
    if scale > 1:
        height, width = (max(1, round(side / scale)) for side in pixels.shape)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    levels = np.clip(np.rint(pixels * 65535), 0, 65535).astype("<u2")
    low, high = (int(level) for level in np.percentile(levels[::4, ::4], _WINDOW_PERCENTILES))
    height, width = levels.shape
    return Picture(levels.tobytes(), width, height, scale, (low, max(high, low + 1)))


def _report(task: Render) -> bytes:
    from boneage.imaging.read import read_bytes
    from boneage.inference.reading import read_over
    from boneage.reporting import stored
    from boneage.reporting.forms import OF_A_STUDY, Source, check_form, read_header, render

    radiograph: Radiograph = read_bytes(task.content)
    check_form(task.form, radiograph)
    assessment = read_over(stored.loads(task.assessment), task.grades)
    made_at = datetime.fromtimestamp(task.made_at, UTC)
    if task.form not in OF_A_STUDY:
        source = Source(radiograph, name=task.name)
        return render(task.form, assessment, source, issued=made_at, release=task.release)
    source = Source(radiograph, read_header(task.content), name=task.name)
    return render(task.form, assessment, source, instance=_instance(task, made_at))


def _instance(task: Render, made_at: datetime) -> Any:
    """Return the identifiers of a DICOM result: the same result asked for twice is one object, not two."""
    import json

    from boneage.reporting.dicom_results import Instance

    said = json.dumps([task.job, task.form, task.grades], sort_keys=True)
    return Instance.of(made_at.astimezone(), said)
