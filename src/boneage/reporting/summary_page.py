"""One page that sums an assessment up: the picture of the secondary capture and the page of the PDF."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Assessment, FloatArray, Region
from boneage.reporting import overlay
from boneage.reporting.coding import INTENDED_USE, LEARNT, METHODS, sd_score, written_grade
from boneage.reporting.growth import GrowthLine, growth_lines
from boneage.reporting.tabular import likely_intervals, percentage, years_and_months
from boneage.standards.names import Bone

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Bone age report"
A4_INCHES = (8.27, 11.69)
DOTS_AN_INCH = 140
"""Of the capture: 1,157 x 1,636 pixels, so that its smallest letters stay readable."""

STANDARDS = {"rus_chn": "RUS-CHN", "tw3": "TW3", "chn": "CHN"}

_LEFT, _RIGHT = 0.06, 0.94
_INK, _SOFT, _BAR, _LINE = "#17212b", "#52606d", "#a9d2e6", "#9fb3c2"
_COLUMN = 0.585
"""Left edge of the column beside the picture."""

_ROW = 0.0158
_SCALE_YEARS = 20
_NOTE_LINES, _NOTE_WIDTH, _SMALL_WIDTH = 11, 126, 150
"""Lines that warnings and notes may take, letters in one, and letters in a line of small print."""


def summary_figure(assessment: Assessment, image: FloatArray, name: str = "") -> Figure:
    """Return the page as a figure of matplotlib, A4 upright.

    Args:
        assessment: the answer.
        image: (H, W) float32 in [0, 1], the source pixels.
        name: of the image, to tell pages apart. The assessment's path, which may name the patient, is not
            on the page unless it is given here.
    """
    from matplotlib.figure import Figure

    page = Figure(figsize=A4_INCHES, facecolor="white")
    page.text(_RIGHT, 0.978, shortened(name), size=7.5, color=_SOFT, ha="right", parse_math=False)
    page.text(_LEFT, 0.958, TITLE, size=15, weight="bold", color=_INK)
    page.text(_RIGHT, 0.958, INTENDED_USE, size=8.5, color=_SOFT, ha="right")
    _rule(page, 0.949)
    _answer(page, assessment)
    _scale(page.add_axes((_LEFT, 0.812, _RIGHT - _LEFT, 0.03)), assessment)
    _picture(page.add_axes((_LEFT, 0.295, 0.49, 0.475)), assessment, image)
    below = _grades(page, assessment, 0.762)
    below = _ages(page, assessment, below)
    _likely(page, assessment, below)
    _notes(page, assessment)
    _provenance(page, assessment)
    return page


def page_pixels(assessment: Assessment, image: FloatArray) -> NDArray[np.uint8]:
    """Return the page as (H, W, 3) 8-bit red, green, blue; arguments as in `summary_figure`."""
    file = io.BytesIO()
    summary_figure(assessment, image).savefig(file, format="png", dpi=DOTS_AN_INCH)
    drawn = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(drawn, dtype=np.uint8)[..., ::-1].copy()


class Book:
    """A PDF file of pages, each written as it is added; the same pages give the same bytes."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_pdf import PdfPages

        self._file = io.BytesIO()
        # Without dates a PDF is the same whenever it is made.
        metadata: dict[str, Any] = {"Title": TITLE, "Creator": "boneage", "CreationDate": None}
        self._pages: Any = PdfPages(self._file, metadata=metadata)

    def add(self, page: Figure) -> None:
        """Append a page."""
        self._pages.savefig(page)

    def content(self) -> bytes:
        """End the file and return it; nothing can be added any more."""
        self._pages.close()
        return self._file.getvalue()


def shortened(name: str, letters: int = 110) -> str:
    """Return a name that fits: of a long one the end, which tells files apart."""
    return name if len(name) <= letters else f"...{name[3 - letters :]}"


def _rule(page: Figure, y: float) -> None:
    from matplotlib.lines import Line2D

    page.add_artist(Line2D((_LEFT, _RIGHT), (y, y), color=_LINE, linewidth=0.8))


def _answer(page: Figure, assessment: Assessment) -> None:
    page.text(_LEFT, 0.931, "Bone age", size=9, color=_SOFT)
    page.text(_LEFT, 0.893, years_and_months(assessment.bone_age_months), size=27, weight="bold", color=_INK)
    page.text(_LEFT, 0.874, f"{assessment.bone_age_months:.1f} months", size=9, color=_SOFT)
    for at, (name, value) in enumerate(_facts(assessment)):
        y = 0.931 - 0.0165 * at
        page.text(0.4, y, name, size=9, color=_SOFT)
        page.text(0.56, y, value, size=9, color=_INK)


def _facts(assessment: Assessment) -> Iterator[tuple[str, str]]:
    low, high = assessment.interval_months
    yield (
        f"{assessment.coverage:.0%} interval",
        f"{years_and_months(low)} to {years_and_months(high)} ({low:.1f} to {high:.1f} months)",
    )
    hand = "" if assessment.hand.side is None else f", {assessment.hand.side} hand"
    yield "Sex", f"{assessment.sex}{hand}"
    age = assessment.chronological_age_months
    if age is not None:
        yield "Chronological age", f"{years_and_months(age)} ({age:.1f} months)"
        yield "Difference", f"{assessment.bone_age_months - age:+.1f} months"
    if score := sd_score(assessment):
        yield "SD score", f"{score['value']:+.1f} (SD {score['sd_months']:.1f} months)"


def _scale(axes: Axes, assessment: Assessment) -> None:
    """Draw ages from 0 to 20 years: the interval, the bone age, and the chronological age as a triangle."""
    low, high = (months / 12 for months in assessment.interval_months)
    axes.axvspan(low, high, color=_BAR, linewidth=0)
    axes.axvline(assessment.bone_age_months / 12, color=_INK, linewidth=2.2)
    said = "Years. Bar: interval. Line: bone age."
    if assessment.chronological_age_months is not None:
        axes.plot(assessment.chronological_age_months / 12, 0.86, "v", color=_INK, markersize=6)
        said += " Triangle: chronological age."
    axes.set(xlim=(0, _SCALE_YEARS), ylim=(0, 1), yticks=[], xticks=range(0, _SCALE_YEARS + 1, 2))
    axes.tick_params(labelsize=7.5, colors=_SOFT, length=2.5, pad=2)
    for edge in ("top", "left", "right"):
        axes.spines[edge].set_visible(False)
    axes.set_xlabel(said, size=7.5, color=_SOFT, loc="left", labelpad=1)


def _picture(axes: Axes, assessment: Assessment, image: FloatArray) -> None:
    if assessment.regions:
        drawn = overlay.graded_regions(image, assessment.regions, assessment.hand.box_px)
        said = "Graded bones with RUS-CHN grades (carpals: CHN); ? was not graded."
    else:
        drawn = overlay.outline(image, assessment.hand)
        said = "The hand as found."
    axes.imshow(drawn[..., ::-1], interpolation="antialiased")
    axes.set_anchor("NW")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=_LINE, linewidth=0.6)
    axes.set_xlabel(said, size=7.5, color=_SOFT, loc="left", labelpad=3)


_EDGES = (0.768, 0.816, 0.86, _RIGHT)
"""Right edges of the table's columns after the first."""


def _row(
    page: Figure, y: float, first: str, cells: Sequence[str], bold: bool = False, colour: str = _INK
) -> None:
    weight = "bold" if bold else "normal"
    page.text(_COLUMN, y, first, size=7.8, weight=weight, color=colour)
    for edge, cell in zip(_EDGES[-len(cells) :], cells, strict=True):
        page.text(edge, y, cell, size=7.8, weight=weight, color=colour, ha="right")


def _grades(page: Figure, assessment: Assessment, top: float) -> float:
    """Write the bones' grades and the totals; return how far down they reach."""
    if not assessment.regions:
        return top
    _row(page, top, "Grades", (*STANDARDS.values(), "confidence"), colour=_SOFT)
    y = top
    for region in assessment.regions:
        y -= _ROW
        _row(page, y, Bone(region.bone).readable, _cells(region))
    for words, key in (("total", "total"), ("expected total", "expected_total")):
        y -= _ROW
        totals = (assessment.scores.get(name) for name in STANDARDS)
        _row(page, y, words, (*("-" if t is None else f"{t[key]:.0f}" for t in totals), ""), bold=True)
    if assessment.radius_subgrade is not None:
        y -= _ROW
        _row(page, y, "radius, sub-grade", (assessment.radius_subgrade.name, ""))
    return y - 1.8 * _ROW


def _cells(region: Region) -> tuple[str, ...]:
    if region.confidence is None:
        return "", "", "", "not graded"
    grades = {name: written_grade(name, value) for name, value in region.grades.items()}
    return *(grades.get(name, "-") for name in STANDARDS), percentage(region.confidence)


def _ages(page: Figure, assessment: Assessment, top: float) -> float:
    """Write the bone age by every method; return how far down they reach."""
    _row(page, top, "Bone age by method", ("months",), colour=_SOFT)
    y = top
    for name, age in assessment.ages.items():
        y -= _ROW
        _row(page, y, METHODS.get(name, name), (f"{years_and_months(age)}   {age:.1f}",))
    return y - 1.8 * _ROW


def _likely(page: Figure, assessment: Assessment, top: float) -> None:
    if assessment.distribution is None:
        return
    _row(page, top, "Likeliest age intervals", ("probability",), colour=_SOFT)
    for at, (name, share) in enumerate(likely_intervals(assessment.distribution)[:4], start=1):
        _row(page, top - at * _ROW, name, (percentage(share),))


def _notes(page: Figure, assessment: Assessment) -> None:
    """Write warnings, growth and remarks; what has no room is counted, never dropped in silence."""
    _rule(page, 0.262)
    texts = list(_texts(assessment))
    lines: list[str] = []
    for at, text in enumerate(texts):
        wrapped = wrap(text, _NOTE_WIDTH, subsequent_indent="   ")
        reserved = at + 1 < len(texts)  # a line for the count of what is left out
        if len(lines) + len(wrapped) + reserved > _NOTE_LINES:
            lines.append(f"... and {len(texts) - at} more of these, which the HTML report holds")
            break
        lines += wrapped
    for at, line in enumerate(lines):
        page.text(_LEFT, 0.246 - 0.0145 * at, line, size=7.8, color=_INK, parse_math=False)


def _texts(assessment: Assessment) -> Iterator[str]:
    """Return warnings, what the age means for growth, what is weak in the tables, and what was left out."""
    yield from (f"Warning: {notice.text}" for notice in assessment.warnings)
    if not assessment.warnings:
        yield "No warnings."
    lines = list(growth_lines(assessment.growth))
    yield from (_growth_text(line) for line in lines if line.given)
    remarks = {remark: None for score in assessment.scores.values() for remark in score.get("remarks", ())}
    yield from (f"Note: {remark}" for remark in remarks)
    yield from (_growth_text(line) for line in lines if not line.given)


def _growth_text(line: GrowthLine) -> str:
    return f"{line.what}: {line.value}" + (f"; {line.remarks}" if line.remarks else "")


def _provenance(page: Figure, assessment: Assessment) -> None:
    _rule(page, 0.076)
    said = assessment.provenance
    named = ("software", "bundle", "method", "localiser", "runtime")
    made = "; ".join(f"{name}: {said[name]}" for name in named if isinstance(said.get(name), str))
    scores = (assessment.scores.get(name, {}) for name in STANDARDS)
    editions = "; ".join(score["edition"] for score in scores if "edition" in score)
    lines = wrap(f"Made by {made or 'boneage'}.", _SMALL_WIDTH)
    lines += wrap(f"Tables: {editions}.", _SMALL_WIDTH) if editions else []
    for at, text in enumerate(lines):
        page.text(_LEFT, 0.063 - 0.0125 * at, text, size=6.8, color=_SOFT, parse_math=False)
    said_last = f"{LEARNT} {INTENDED_USE}" if assessment.regions else INTENDED_USE
    page.text(_LEFT, 0.021, said_last, size=7.8, weight="bold", color=_INK)
