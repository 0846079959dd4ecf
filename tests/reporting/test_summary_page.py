"""The one-page summary: what stands on it, that it fits, and that it is the same each time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from boneage_fakes import DISTRIBUTION, assessment, graded_assessment
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from radius_fakes import found_subgrade

from boneage.core.types import Assessment, Notice, Sex
from boneage.inference.growth import Measurements
from boneage.inference.reading import read_over
from boneage.reporting import letters, overlay
from boneage.reporting.summary_page import Book, page_pixels, shortened, summary_figure
from boneage.standards.names import RUS

IMAGE = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (60, 1))
LONG = tuple(
    Notice(f"n{number}", "a warning that says at length what is wrong and what to do " * 3)
    for number in range(9)
)
EVERYTHING = Measurements(140.0, 35.0, 178.0, 165.0, False)
READ = {"rus_chn": {"radius": 14, "pp3": 12}, "tw3": {"ulna": "H"}, "chn": {"capitate": 7, "mp5": 8}}


def with_everything(**changes: Any) -> Assessment:
    values: dict[str, Any] = {
        "path": "Doe_Jane.dcm",
        "age_months": 120.0,
        "measured": EVERYTHING,
        "radius_subgrade": found_subgrade(),
        "distribution": DISTRIBUTION,
        "warnings": LONG,
        "provenance": {"software": "boneage 9.9.9", "bundle": "standard 9.9.9", "method": "a + b"},
    }
    return graded_assessment(**{**values, **changes})


def of_two_digits() -> Assessment:
    """A hand of which every grade has as many letters as a grade can have, some of them a reader's."""
    made = with_everything(warnings=())
    regions = tuple(
        replace(region, grades={"rus_chn": 10.0, "tw3": 7.0, "chn": 7.0}) for region in made.regions
    )
    grades = {
        "rus_chn": {"radius": 14, "pp3": 12, "ulna": 11},
        "tw3": {"pp3": "I"},
        "chn": {"radius": 8.25, "mc3": 7.75},
    }
    return read_over(replace(made, regions=regions), grades)


CASES: dict[str, Callable[[], Assessment]] = {
    "plain": assessment,
    "all": with_everything,
    "a part": lambda: graded_assessment(missing=("radius", "pp3"), distribution=DISTRIBUTION),
    "no grades": lambda: assessment(chronological_age_months=100.0, distribution=DISTRIBUTION),
    "read": lambda: read_over(with_everything(warnings=()), READ),
    "read in part": lambda: read_over(graded_assessment(missing=("radius",)), {"tw3": {"ulna": 2}}),
    "read, no plot": lambda: read_over(with_everything(age_months=200.0), READ),
    "read alone": lambda: read_over(assessment(), {"rus_chn": dict.fromkeys(map(str, RUS), 6)}),
    "few measurements": lambda: graded_assessment(age_months=70.0, measured=Measurements(110.0)),
    "a height without an age": lambda: graded_assessment(measured=EVERYTHING),
    "two digits": of_two_digits,
    "a boy": lambda: read_over(
        with_everything(sex=Sex.MALE, measured=Measurements(140.0, 35.0, 178.0, 165.0)), READ
    ),
}
PLOTTED = ("all", "no grades", "read", "few measurements", "two digits", "a boy")
"""The cases whose age is known and reached by the reference."""


def words(answer: Assessment, name: str = "") -> list[str]:
    """Return every text on the page."""
    page = summary_figure(answer, IMAGE, name)
    return [text.get_text() for text in page.findobj(Text) if text.get_text()]


def drawn(case: str) -> Figure:
    page = summary_figure(CASES[case](), IMAGE, "x" * 300)
    FigureCanvasAgg(page).draw()
    return page


def shown(page: Figure) -> list[tuple[str, Bbox]]:
    """Return the texts that can be seen, those of axes too, with their boxes."""
    hidden = set()
    for axes in page.axes:
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if not min(ends) <= tick.get_loc() <= max(ends):
                    hidden |= {tick.label1, tick.label2}
    found = [text for text in page.findobj(Text) if text.get_text().strip() and text.get_visible()]
    # Of an annotation, the text alone without its arrow.
    return [(text.get_text(), Text.get_window_extent(text)) for text in found if text not in hidden]


def pictures(page: Figure) -> tuple[Axes, ...]:
    """Return the picture of the hand, and the growth plot where there is one."""
    hand = [axes for axes in page.axes if axes.images]
    plot = [axes for axes in page.axes if axes.get_ylabel() == "bone age (years)"]
    assert len(hand) == 1 and len(plot) <= 1
    return *hand, *plot


@pytest.mark.parametrize("case", CASES)
def test_texts_lie_on_the_page_and_over_no_other(case: str) -> None:
    page = drawn(case)
    found = shown(page)
    for text, box in found:
        assert box.x0 >= 0 and box.y0 >= 0, text
        assert box.x1 <= page.bbox.x1 and box.y1 <= page.bbox.y1, text
    for (one, first), (other, second) in combinations(found, 2):
        overlap = [min(first.max[k], second.max[k]) - max(first.min[k], second.min[k]) for k in (0, 1)]
        assert min(overlap) <= 1.0, (one, other)


@pytest.mark.parametrize("case", CASES)
def test_pictures_have_room_and_nothing_is_written_over_them(case: str) -> None:
    page = drawn(case)
    boxes = [axes.get_window_extent() for axes in pictures(page)]
    assert len(boxes) == 1 + (case in PLOTTED)
    for text in page.texts:
        box = text.get_window_extent()
        for picture in boxes:
            overlap = [min(box.max[k], picture.max[k]) - max(box.min[k], picture.min[k]) for k in (0, 1)]
            assert min(overlap) <= 1.0 or not text.get_text(), text
    assert boxes[0].height > 0.27 * page.bbox.height
    assert all(box.height > 0.12 * page.bbox.height for box in boxes[1:])


@pytest.mark.parametrize("case", CASES)
def test_an_age_has_either_a_growth_plot_or_a_scale(case: str) -> None:
    said = words(CASES[case]())
    assert any("Brush Foundation" in line and line.startswith("Bands") for line in said) is (case in PLOTTED)
    assert any(line.startswith("Years. Bar") for line in said) is (case not in PLOTTED)


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


def test_a_readers_grades_stand_beside_the_networks_and_the_answer_is_the_machines() -> None:
    answer = CASES["read"]()
    said = words(answer)
    assert "10 y 4 m" in said and "Machine's answer; a reader changed grades" in said
    assert {"6→14", "6→12", "6→7"} <= set(said)
    assert any(re.fullmatch(r"[A-I]→H", line) for line in said)
    totals = [f"{sheet.total:.0f}" for sheet in answer.reading]
    assert "reader's total" in said and len(totals) == 3 and set(totals) <= set(said)
    for sheet in answer.reading:
        assert f"{sheet.age_months:.1f}" in said
    assert any(line.startswith("RUS-CHN, reader (") and line.endswith(" SD)") for line in said)
    unread = words(with_everything(warnings=()))
    assert not any("reader" in line or "→" in line for line in unread)


def test_a_reader_may_leave_a_standard_without_a_total() -> None:
    said = words(CASES["read in part"]())
    assert "no total" in said and any(line.endswith("→C") for line in said)


def test_heights_are_a_table_with_what_is_left_out_and_why() -> None:
    said = words(with_everything(warnings=()))
    at = said.index("Adult height by")
    assert said[at : at + 4] == ["Adult height by", "cm", "SD", "remarks"]
    for item in with_everything().growth["adult_heights"]["predictions"]:
        assert f"{item['height_cm']:.1f}" in said
    assert "Bayley-Pinneau 1952" in said and "TW Mark I 1975" in said
    few = words(CASES["few measurements"]())
    needed = "needs the weight, the father's height, the mother's height: give them"
    assert f"None by RWT 1975, RWT 1993, Khamis-Roche 1995: {needed}" in few
    (reason,) = (line for line in words(CASES["a height without an age"]()) if line.startswith("None by"))
    assert "mid-parental" in reason
    assert "Adult height by" not in words(graded_assessment(age_months=120.0))


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
    if case in PLOTTED:
        return
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


CHINESE = "\u65e5\u672c \u533b\u9662.png"


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any font of Chinese letters."""
    monkeypatch.setattr(letters, "FALLBACKS", ())


@pytest.fixture
def chinese_font() -> str:
    """The font that this machine has for Chinese letters."""
    found = letters.families("\u533b\u9662")
    if len(found) == 1:
        pytest.skip("no font with Chinese letters is installed")
    return found[1]


@pytest.mark.filterwarnings("error:Glyph")
def test_a_chinese_name_is_drawn_with_an_installed_font(chinese_font: str) -> None:
    page = summary_figure(CASES["plain"](), IMAGE, CHINESE)
    (name,) = (text for text in page.texts if text.get_text() == CHINESE)
    assert name.get_fontfamily() == ["DejaVu Sans", chinese_font]
    others = {tuple(text.get_fontfamily()) for text in page.texts if text is not name}
    assert others == {("sans-serif",)}
    FigureCanvasAgg(page).draw()
    book = Book()
    book.add(page)
    assert book.content().startswith(b"%PDF-")


@pytest.mark.usefixtures("chinese_font")
@pytest.mark.parametrize("name", ["\u533b" * 300, "\u533b\u9662 a" * 40])
def test_a_long_chinese_name_and_warning_fit(name: str) -> None:
    page = summary_figure(assessment(warnings=(Notice("x", name),)), IMAGE, name)
    FigureCanvasAgg(page).draw()
    for text, box in shown(page):
        assert box.x0 >= 0 and box.x1 <= page.bbox.x1, text


@pytest.mark.usefixtures("no_fonts")
@pytest.mark.filterwarnings("error:Glyph")
def test_without_such_a_font_the_page_says_what_is_left_out() -> None:
    page = summary_figure(assessment(warnings=(Notice("x", "of \u533b"),)), IMAGE, CHINESE)
    said = [text.get_text() for text in page.texts]
    assert "[2 letters without a font] [2 letters without a font].png" in said
    assert "Warning: of [1 letter without a font]" in said
    FigureCanvasAgg(page).draw()


def test_no_font_is_looked_for_where_the_letters_are_latin(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    kept = letters._charmap
    monkeypatch.setattr(letters, "_charmap", lambda name: asked.append(name) or kept(name))
    page = summary_figure(CASES["read"](), IMAGE, "J\u00fcrgen.png")
    assert set(asked) == {"DejaVu Sans"}
    assert {tuple(text.get_fontfamily()) for text in page.texts} == {("sans-serif",)}


def caption(answer: Assessment) -> str:
    page = summary_figure(answer, IMAGE)
    return next(axes.get_xlabel() for axes in page.axes if axes.images)


def test_the_picture_says_which_grades_a_reader_gave() -> None:
    made = with_everything(warnings=())
    assert "reader" not in caption(made)
    arrow = "\u2192 the network's grade to the reader's"
    cases = {
        f"{arrow}.": {"rus_chn": {"radius": 14}, "chn": {"capitate": 7}},
        f"{arrow}; more changes: see the tables.": READ,
        "A reader changed other grades: see the tables.": {"tw3": {"ulna": "H"}},
    }
    for said, grades in cases.items():
        assert caption(read_over(made, grades)).endswith(f"? was not graded.\n{said}")


def test_a_changed_grade_is_drawn_into_the_picture() -> None:
    made = with_everything(warnings=())
    read = read_over(made, READ)
    labels = overlay.labels(read.regions, (600, 400), read.reading)
    changed = {label.text for label in labels if label.colour == overlay.CHANGED_COLOUR}
    assert changed == {"radius 6\u219214", "pp3 6\u219212", "capitate 6\u21927"}
    partly = read_over(graded_assessment(missing=("radius",)), {"rus_chn": {"radius": 9}})
    texts = [label.text for label in overlay.labels(partly.regions, (600, 400), partly.reading)]
    assert "radius ?\u21929" in texts


def test_an_arrow_stays_in_its_label() -> None:
    picture = np.zeros((300, 500, 3), np.uint8)
    (label,) = overlay.labels(
        read_over(graded_assessment(), {"rus_chn": {"radius": 14}}).regions[:1],
        picture.shape[:2],
        read_over(graded_assessment(), {"rus_chn": {"radius": 14}}).reading,
    )
    label = replace(label, box_px=(100, 100, 100 + label.box_px[2] - label.box_px[0], 130))
    overlay._write(picture, label)
    _, columns = np.nonzero(picture.any(axis=2))
    assert columns.min() >= 100 and label.box_px[2] - 12 < columns.max() < label.box_px[2]
