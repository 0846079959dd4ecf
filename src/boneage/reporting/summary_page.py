"""One page that sums an assessment up: the picture of the secondary capture and the page of the PDF."""

from __future__ import annotations

import io
from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Assessment, FloatArray
from boneage.reporting import overlay
from boneage.reporting.coding import INTENDED_USE, LEARNT, sd_score
from boneage.reporting.growth import GrowthLine, age_lines
from boneage.reporting.growth_plot import GrowthChart, draw_growth, growth_chart, short_caption
from boneage.reporting.letters import columns, drawable, give_fonts
from boneage.reporting.summary_tables import (
    COLUMN,
    GAP,
    INK,
    LEFT,
    LEFT_END,
    LETTERS,
    NOTE_WIDTH,
    RIGHT,
    ROW,
    SMALL,
    SOFT,
    STANDARDS,
    age_rows,
    height_lines,
    likely_lines,
    write_ages,
    write_grades,
    write_heights,
    write_likely,
)
from boneage.reporting.tabular import years_and_months

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Bone age report"
A4_INCHES = (8.27, 11.69)
DOTS_AN_INCH = 140
"""Of the capture: 1,157 x 1,636 pixels, so that its smallest letters stay readable."""

_BAR, _LINE = "#a9d2e6", "#9fb3c2"

_TOP, _TOP_BELOW_SCALE, _FLOOR = 0.838, 0.762, 0.09
"""Where the columns begin, without and with a scale above them, and the lowest line of notes."""

_ABOVE_TEXT = 0.008
"""From the foot of a heading's letters to their top, where a picture beside it begins."""

_MOST_LINES, _LEAST_NOTES = 17, 4
"""Lines that heights and notes may take below the columns, and how many of them notes may in any case."""

_PLOT_MOST, _PLOT_LABELS, _CAPTION_ROW = 0.25, 0.027, 0.011
"""Heights: of the growth plot at most, of the labels of its axis, of a line of its caption."""

_SCALE_YEARS = 20
_SMALL_WIDTH, _CAPTION_WIDTH, _LIKELY_WIDTH = 150, 62, 66
"""Letters in a line of small print, of the plot's caption, and of the likeliest intervals."""


def summary_figure(assessment: Assessment, image: FloatArray, name: str = "") -> Figure:
    """Return the page as a figure of matplotlib, A4 upright.

    The picture is on the left and the grades are on the right. Where there is a growth plot, it stands below
    the grades and the ages below the picture; else a scale of ages stands above both and the ages below the
    grades. The picture takes what room heights, warnings and notes leave.

    Args:
        assessment: the answer.
        image: (H, W) float32 in [0, 1], the source pixels.
        name: of the image, to tell pages apart. The assessment's path, which may name the patient, is not
            on the page unless it is given here.
    """
    from matplotlib.figure import Figure

    page = Figure(figsize=A4_INCHES, facecolor="white")
    page.text(RIGHT, 0.978, shortened(drawable(name)), size=7.5, color=SOFT, ha="right", parse_math=False)
    page.text(LEFT, 0.958, TITLE, size=15, weight="bold", color=INK)
    page.text(RIGHT, 0.958, INTENDED_USE, size=8.5, color=SOFT, ha="right")
    _rule(page, 0.949)
    _answer(page, assessment)
    floor = _notes(page, assessment)
    chart = growth_chart(assessment)
    if chart is None:
        _without_plot(page, assessment, image, floor)
    else:
        _with_plot(page, assessment, image, floor, chart)
    _provenance(page, assessment)
    give_fonts(page.texts)
    return page


def _without_plot(page: Figure, assessment: Assessment, image: FloatArray, floor: float) -> None:
    _scale(page.add_axes((LEFT, 0.812, RIGHT - LEFT, 0.03)), assessment)
    below = write_grades(page, assessment, _TOP_BELOW_SCALE)
    below = write_ages(page, assessment, below, COLUMN, RIGHT)
    write_likely(page, assessment, below, floor)
    _picture(page, assessment, image, _TOP_BELOW_SCALE + _ABOVE_TEXT, floor + 1.4 * ROW)


def _with_plot(
    page: Figure, assessment: Assessment, image: FloatArray, floor: float, chart: GrowthChart
) -> None:
    below = write_grades(page, assessment, _TOP)
    _plot(page, chart, below, floor)
    likely = likely_lines(assessment, _LIKELY_WIDTH)
    lists = len(age_rows(assessment)) + (GAP + len(likely) - 1 if likely else 0)
    below = write_ages(page, assessment, floor + lists * ROW, LEFT, LEFT_END)
    for at, line in enumerate(likely):
        page.text(LEFT, below - at * ROW, line, size=LETTERS, color=INK)
    _picture(page, assessment, image, _TOP + _ABOVE_TEXT, floor + (lists + 3.2) * ROW)


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
    if columns(name) <= letters:
        return name
    end = name
    while columns(end) > letters - len("..."):
        end = end[1:]
    return f"...{end}"


def _rule(page: Figure, y: float) -> None:
    from matplotlib.lines import Line2D

    page.add_artist(Line2D((LEFT, RIGHT), (y, y), color=_LINE, linewidth=0.8))


def _answer(page: Figure, assessment: Assessment) -> None:
    page.text(LEFT, 0.931, "Bone age", size=9, color=SOFT)
    page.text(LEFT, 0.893, years_and_months(assessment.bone_age_months), size=27, weight="bold", color=INK)
    page.text(LEFT, 0.874, f"{assessment.bone_age_months:.1f} months", size=9, color=SOFT)
    if assessment.reading:
        page.text(LEFT, 0.856, "Machine's answer; a reader changed grades", size=8, color=INK)
    for at, (name, value) in enumerate(_facts(assessment)):
        y = 0.931 - 0.0165 * at
        page.text(0.4, y, name, size=9, color=SOFT)
        page.text(0.56, y, value, size=9, color=INK)


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
    axes.axvline(assessment.bone_age_months / 12, color=INK, linewidth=2.2)
    said = "Years. Bar: interval. Line: bone age."
    if assessment.chronological_age_months is not None:
        axes.plot(assessment.chronological_age_months / 12, 0.86, "v", color=INK, markersize=6)
        said += " Triangle: chronological age."
    axes.set(xlim=(0, _SCALE_YEARS), ylim=(0, 1), yticks=[], xticks=range(0, _SCALE_YEARS + 1, 2))
    axes.tick_params(labelsize=7.5, colors=SOFT, length=2.5, pad=2)
    for edge in ("top", "left", "right"):
        axes.spines[edge].set_visible(False)
    axes.set_xlabel(said, size=7.5, color=SOFT, loc="left", labelpad=1)


def _picture(page: Figure, assessment: Assessment, image: FloatArray, top: float, bottom: float) -> None:
    """Draw the picture into the left column; its caption is below `bottom`."""
    read = overlay.readers_caption(assessment.regions, assessment.reading) if assessment.regions else ""
    bottom += ROW if read else 0.0  # the caption's second line
    axes = page.add_axes((LEFT, bottom, LEFT_END - LEFT, top - bottom))
    if assessment.regions:
        drawn = overlay.graded_regions(
            image, assessment.regions, assessment.hand.box_px, reading=assessment.reading
        )
        said = "Graded bones with RUS-CHN grades (carpals: CHN); ? was not graded."
        if read:
            said += f"\n{read}"
    else:
        drawn = overlay.outline(image, assessment.hand)
        said = "The hand as found."
    axes.imshow(drawn[..., ::-1], interpolation="antialiased")
    axes.set_anchor("NW")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=_LINE, linewidth=0.6)
    axes.set_xlabel(said, size=7.5, color=SOFT, loc="left", labelpad=3)


def _plot(page: Figure, chart: GrowthChart, top: float, floor: float) -> None:
    """Draw the growth plot into the right column, and its caption below it."""
    caption = wrap(short_caption(chart), _CAPTION_WIDTH)
    low = max(floor + len(caption) * _CAPTION_ROW, top + _ABOVE_TEXT - _PLOT_MOST)
    bottom = low + _PLOT_LABELS
    box = (COLUMN + 0.038, bottom, RIGHT - COLUMN - 0.085, top + _ABOVE_TEXT - bottom)
    draw_growth(page.add_axes(box), chart, SMALL)
    for at, line in enumerate(caption, start=1):
        page.text(COLUMN, low - at * _CAPTION_ROW, line, size=SMALL, color=SOFT)


def _notes(page: Figure, assessment: Assessment) -> float:
    """Write heights, warnings and notes above the floor; return the lowest line that is left to the columns.

    What has no room is counted, never dropped in silence.
    """
    heights = height_lines(assessment)
    taken = len(heights) + (GAP - 1 if heights else 0)
    lines = list(
        _fitting(list(map(drawable, _texts(assessment))), max(_LEAST_NOTES, int(_MOST_LINES - taken)))
    )
    top = _FLOOR + (taken + len(lines) - 1) * ROW
    _rule(page, top + 1.4 * ROW)
    y = write_heights(page, heights, top) if heights else top
    for at, line in enumerate(lines):
        page.text(LEFT, y - at * ROW, line, size=LETTERS, color=INK, parse_math=False)
    return top + 2.6 * ROW


def _fitting(texts: list[str], room: int) -> Iterator[str]:
    """Return the texts in lines, and in place of those that do not fit a line that counts them."""
    left = room
    for at, text in enumerate(texts):
        # Chinese letters are twice as wide.
        width = NOTE_WIDTH * len(text) // max(1, columns(text))
        wrapped = wrap(text, width, subsequent_indent="   ")
        reserved = at + 1 < len(texts)  # a line for the count of what is left out
        if len(wrapped) + reserved > left:
            yield f"... and {len(texts) - at} more of these, which the HTML report holds"
            return
        yield from wrapped
        left -= len(wrapped)


def _texts(assessment: Assessment) -> Iterator[str]:
    """Return warnings, what the age means for growth, and what is weak in the tables."""
    yield from (f"Warning: {notice.text}" for notice in assessment.warnings)
    if not assessment.warnings:
        yield "No warnings."
    yield from map(_growth_text, age_lines(assessment.growth))
    remarks = {remark: None for score in assessment.scores.values() for remark in score.get("remarks", ())}
    yield from (f"Note: {remark}" for remark in remarks)


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
        page.text(LEFT, 0.063 - 0.0125 * at, text, size=6.8, color=SOFT, parse_math=False)
    said_last = f"{LEARNT} {INTENDED_USE}" if assessment.regions else INTENDED_USE
    page.text(LEFT, 0.021, said_last, size=7.8, weight="bold", color=INK)
