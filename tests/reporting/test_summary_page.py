"""The one-page summary: what stands on it, that it fits, and that it is the same each time."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from boneage_fakes import DISTRIBUTION, assessment, graded_assessment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from radius_fakes import found_subgrade

from boneage.core.types import Assessment, Notice
from boneage.inference.growth import Measurements
from boneage.reporting.summary_page import Book, page_pixels, shortened, summary_figure

IMAGE = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (60, 1))
LONG = tuple(
    Notice(f"n{number}", "a warning that says at length what is wrong and what to do " * 3)
    for number in range(9)
)
CASES = {
    "plain": assessment,
    "all": lambda: graded_assessment(
        path="Doe_Jane.dcm",
        age_months=120.0,
        measured=Measurements(140.0, 35.0, 178.0, 165.0, False),
        radius_subgrade=found_subgrade(),
        distribution=DISTRIBUTION,
        warnings=LONG,
        provenance={"software": "boneage 9.9.9", "bundle": "standard 9.9.9", "method": "a + b"},
    ),
    "a part": lambda: graded_assessment(missing=("radius", "pp3"), distribution=DISTRIBUTION),
}


def words(answer: Assessment, name: str = "") -> list[str]:
    """Return every text on the page."""
    page = summary_figure(answer, IMAGE, name)
    return [text.get_text() for text in page.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("case", CASES)
def test_texts_lie_on_the_page_and_over_no_other(case: str) -> None:
    page = summary_figure(CASES[case](), IMAGE, "x" * 300)
    canvas = FigureCanvasAgg(page)
    canvas.draw()
    shown = [text for text in page.texts if text.get_text()]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in shown]
    for text, box in zip(shown, boxes, strict=True):
        assert box.x0 >= 0 and box.y0 >= 0, text
        assert box.x1 <= page.bbox.x1 and box.y1 <= page.bbox.y1, text
    for (one, first), (other, second) in combinations(zip(shown, boxes, strict=True), 2):
        overlap = [min(first.max[k], second.max[k]) - max(first.min[k], second.min[k]) for k in (0, 1)]
        assert min(overlap) <= 1.0, (one.get_text(), other.get_text())


def test_it_says_the_answer_and_what_it_is_for() -> None:
    said = words(CASES["all"]())
    for text in (
        "10 y 4 m", "124.2 months", "90% interval", "+4.2 months", "Chronological age", "SD score",
        "third proximal phalanx", "RUS-CHN, expected score", "9 to 10 years", "62%", "5_5",
        "Research use only; not a medical device.",
    ):  # fmt: skip
        assert any(text in line for line in said), text
    assert any("Grades were learnt from bone ages, not from graders." in line for line in said)
    assert any("boneage 9.9.9" in line and "standard 9.9.9" in line for line in said)
    assert said.count("6") >= 13, "every RUS-CHN grade"


def test_nothing_names_the_patient_unless_asked_to() -> None:
    answer = CASES["all"]()
    assert not any("Doe" in line for line in words(answer))
    assert "Doe_Jane.dcm" in words(answer, "Doe_Jane.dcm")


def test_what_has_no_room_is_counted() -> None:
    said = words(CASES["all"]())
    listed = [line for line in said if line.startswith("Warning: ")]
    (more,) = (line for line in said if line.startswith("... and "))
    left_out = int(re.findall(r"\d+", more)[0])
    assert 0 < len(listed) < len(LONG) and left_out >= len(LONG) - len(listed)
    assert not any(line.startswith("... and ") for line in words(assessment()))
    assert "No warnings." in words(assessment())


def test_a_bone_that_was_not_graded_has_no_grade_and_its_standards_no_total() -> None:
    said = words(CASES["a part"]())
    assert said.count("not graded") == 2
    assert any("radius" in line and line.startswith("Warning") for line in said)


@pytest.mark.parametrize("case", CASES)
def test_the_capture_is_a_colour_picture_of_an_a4_page(case: str) -> None:
    pixels = page_pixels(CASES[case](), IMAGE)
    assert pixels.dtype == np.uint8 and pixels.shape == (1636, 1157, 3)
    assert np.array_equal(pixels[0, 0], (255, 255, 255))
    blue = (pixels.astype(int) - (0xA9, 0xD2, 0xE6) == 0).all(axis=2)
    rows, columns = np.nonzero(blue)
    left, right = 0.06 * 1157, 0.94 * 1157
    low, high = (left + (right - left) * age / 240 for age in CASES[case]().interval_months)
    assert (columns.min(), columns.max()) == pytest.approx((low, high), abs=3)
    assert rows.max() < 0.2 * 1636


def test_the_same_answer_is_the_same_picture_and_the_same_pdf() -> None:
    answer = CASES["all"]()
    assert np.array_equal(page_pixels(answer, IMAGE), page_pixels(answer, IMAGE))
    assert not np.array_equal(page_pixels(answer, IMAGE), page_pixels(CASES["a part"](), IMAGE))
    files = []
    for _ in range(2):
        book = Book()
        for case in ("all", "plain"):
            book.add(summary_figure(CASES[case](), IMAGE))
        files.append(book.content())
    assert files[0] == files[1] and files[0].startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", files[0])) == 2


@pytest.mark.parametrize(("name", "shown"), [("a.png", "a.png"), ("b" * 20 + "end.png", "...end.png")])
def test_a_long_name_keeps_its_end(name: str, shown: str) -> None:
    assert shortened(name, 10) == shown
