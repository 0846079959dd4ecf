"""The tables of the one-page summary: grades, bone ages, age intervals and adult heights, line by line.

Each function writes downwards from `top`, the line of its heading, and returns where the next table may
begin. Places and heights are shares of the page's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from boneage.core.types import Assessment, Region
from boneage.reporting.coding import METHODS
from boneage.reporting.growth import height_rows, heights_left_out
from boneage.reporting.tabular import grade_words, likely_intervals, percentage, years_and_months
from boneage.standards.names import Bone
from boneage.standards.scoring import standard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STANDARDS = {"rus_chn": "RUS-CHN", "tw3": "TW3", "chn": "CHN"}
"""Standard -> the title of its column."""

INK, SOFT = "#17212b", "#52606d"
LEFT, LEFT_END, COLUMN, RIGHT = 0.06, 0.525, 0.555, 0.94
"""Edges of the left column and of the right one."""

ROW, LETTERS, SMALL = 0.0132, 7.6, 6.8
"""Height of a line, and sizes of letters in points."""

GAP = 1.8
"""Lines from a table's last to the next one's heading."""

ARROW = "\N{RIGHTWARDS ARROW}"
"""From the network's grade to a reader's."""

NOTE_WIDTH = 128
"""Letters in a line across the page."""

_GRADE_EDGES = (0.762, 0.803, 0.857, RIGHT)
_MOST_IN_A_GRADE = 5
"""Letters; where both grades need more, the reader's stands alone behind the arrow."""
_HEIGHT_EDGES, _REMARKS, _REMARK_WIDTH = (0.262, 0.31), 0.335, 84
_LIKELIEST = 4


def row(
    page: Figure, y: float, first: str, cells: Sequence[str], edges: Sequence[float], **look: Any
) -> None:
    """Write a row: the first text from the left, each cell up to its own right edge, changed grades bold.

    Args:
        page: to write on.
        y: of the line on which the letters stand.
        first: text at `left`, which is among `look` unless it is the right column's edge.
        cells: the others.
        edges: as many.
        look: of the letters, as matplotlib names it.
    """
    left = look.pop("left", COLUMN)
    drawn = {"size": LETTERS, "color": INK, "parse_math": False, **look}
    page.text(left, y, first, **drawn)
    for edge, cell in zip(edges, cells, strict=True):
        if cell:
            weight = {"weight": "bold"} if ARROW in cell else {}
            page.text(edge, y, cell, ha="right", **{**drawn, **weight})


def write_grades(page: Figure, assessment: Assessment, top: float) -> float:
    """Write the bones' grades and the totals into the right column, a reader's beside the network's."""
    regions = {region.bone: region for region in assessment.regions}
    read = {bone for sheet in assessment.reading for bone in sheet.changed}
    bones = [bone for bone in Bone if bone in regions or bone in read]
    if not bones:
        return top
    row(page, top, "Grades", (*STANDARDS.values(), "confidence"), _GRADE_EDGES, color=SOFT)
    y = top
    for bone in bones:
        y -= ROW
        row(page, y, bone.readable, _cells(assessment, bone, regions.get(bone)), _GRADE_EDGES)
    for words, totals in _totals(assessment):
        y -= ROW
        cells = (*(totals.get(name, "-") for name in STANDARDS), "")
        row(page, y, words, cells, _GRADE_EDGES, weight="bold")
    if assessment.radius_subgrade is not None:
        y -= ROW
        row(page, y, "radius, sub-grade", (assessment.radius_subgrade.name,), _GRADE_EDGES[2:3])
    if read:
        y -= ROW
        page.text(COLUMN, y, f"{ARROW} from the network's grade to the reader's", size=LETTERS, color=INK)
    return y - GAP * ROW


def _cells(assessment: Assessment, bone: Bone, region: Region | None) -> tuple[str, ...]:
    """Return a bone's grades by every standard, with the network's confidence in its own."""
    grades = {} if region is None else region.grades
    written = {name: grade_words(name, value) for name, value in grades.items()}
    for sheet in assessment.reading:
        if bone in sheet.changed:
            before, after = written.get(sheet.standard, "?"), grade_words(sheet.standard, sheet.changed[bone])
            both = f"{before}{ARROW}{after}"
            written[sheet.standard] = both if len(both) <= _MOST_IN_A_GRADE else f"{ARROW}{after}"
    if region is None or region.confidence is None:
        return *(written.get(name, "") for name in STANDARDS), "not graded"
    return *(written.get(name, "-") for name in STANDARDS), percentage(region.confidence)


def _totals(assessment: Assessment) -> Iterator[tuple[str, dict[str, str]]]:
    if assessment.regions:
        for words, key in (("total", "total"), ("expected total", "expected_total")):
            yield words, {name: f"{score[key]:.0f}" for name, score in assessment.scores.items()}
    if assessment.reading:
        totals = {sheet.standard: sheet.total for sheet in assessment.reading}
        yield "reader's total", {name: f"{total:.0f}" for name, total in totals.items() if total is not None}


def write_ages(page: Figure, assessment: Assessment, top: float, left: float, right: float) -> float:
    """Write the bone age by every method and by a reader's grades, between two edges."""
    edges = (right - 0.055, right)
    row(page, top, "Bone age by method", ("", "months"), edges, left=left, color=SOFT)
    y = top
    for name, cells in age_rows(assessment):
        y -= ROW
        row(page, y, name, cells, edges, left=left)
    return y - GAP * ROW


def age_rows(assessment: Assessment) -> list[tuple[str, tuple[str, str]]]:
    """Return the ages by method and by a reader's grades: what gave it, years and months, months."""
    rows = [
        (METHODS.get(name, name), (years_and_months(age), f"{age:.1f}"))
        for name, age in assessment.ages.items()
    ]
    for sheet in assessment.reading:
        score = "" if sheet.sd_score is None else f" ({sheet.sd_score:+.1f} SD)"
        words = f"{standard(sheet.standard).title}, reader{score}"
        age = sheet.age_months
        rows.append((words, ("no total", "-") if age is None else (years_and_months(age), f"{age:.1f}")))
    return rows


def write_likely(page: Figure, assessment: Assessment, top: float, bottom: float) -> None:
    """Write the likeliest age intervals into the right column, as many as there is room for."""
    room = int((top - bottom) / ROW)
    if assessment.distribution is None or room < 1:
        return
    row(page, top, "Likeliest age intervals", ("probability",), (RIGHT,), color=SOFT)
    for at, (name, share) in enumerate(likely_intervals(assessment.distribution)[:_LIKELIEST], start=1):
        if at <= room:
            row(page, top - at * ROW, name, (percentage(share),), (RIGHT,))


def likely_lines(assessment: Assessment, width: int) -> list[str]:
    """Return the likeliest age intervals in lines of at most so many letters."""
    if assessment.distribution is None:
        return []
    named = likely_intervals(assessment.distribution)[:_LIKELIEST]
    told = ", ".join(f"{name} {percentage(share)}" for name, share in named)
    return wrap(f"Likeliest age intervals: {told}", width)


def height_lines(assessment: Assessment) -> list[tuple[str, str, str, str]]:
    """Return the lines of the table of adult heights: method, height, SD, remarks; where asked for.

    A line that goes on with remarks has no method; a line that names methods left out has nothing else.
    """
    lines: list[tuple[str, str, str, str]] = []
    for found in height_rows(assessment.growth):
        first, *others = wrap(found.remarks, _REMARK_WIDTH) or [""]
        lines.append((found.method, found.height_cm, found.sd_cm, first))
        lines += [("", "", "", other) for other in others]
    for reason, methods in heights_left_out(assessment.growth).items():
        told = wrap(f"None by {methods}: {reason}", NOTE_WIDTH, subsequent_indent="   ")
        lines += [(line, "", "", "") for line in told]
    return [("Adult height by", "cm", "SD", "remarks"), *lines] if lines else []


def write_heights(page: Figure, lines: Sequence[tuple[str, str, str, str]], top: float) -> float:
    """Write the table of adult heights across the page."""
    for at, (method, *cells, remarks) in enumerate(lines):
        y, colour = top - at * ROW, INK if at else SOFT
        row(page, y, method, cells, _HEIGHT_EDGES, left=LEFT, color=colour)
        if remarks:
            page.text(_REMARKS, y, remarks, size=LETTERS, color=colour, parse_math=False)
    return top - (len(lines) - 1 + GAP) * ROW
