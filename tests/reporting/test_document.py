"""The HTML report and the pictures in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from boneage_fakes import DISTRIBUTION, assessment, graded_assessment

from boneage.core.types import AgeDistribution, Notice
from boneage.inference.growth import Measurements
from boneage.inference.reading import read_over
from boneage.reporting import document, overlay
from boneage.reporting.tabular import Failure

IMAGE = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (60, 1))
VOID = {"meta", "img", "br", "rect", "line", "path"}


class Balance(HTMLParser):
    """Checks that every element that is opened is closed, in order; collects text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def parsed(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_page_says_what_was_found_and_what_made_it() -> None:
    found = assessment(chronological_age_months=110.0)
    text = parsed(document.html([found], [IMAGE], [None])).text
    for words in (
        "10 y 4 m", "9 y 2 m to 11 y 6 m", "90% interval", "female", "14 months ahead of chronological age",
        "hand_regression", "bundle.version", "left hand", "not a medical device",
    ):  # fmt: skip
        assert words in text
    assert "Where the reading rests" not in text and "drawn" not in text


@pytest.mark.parametrize(
    ("age", "words"),
    [(124.25, "equals"), (150.0, "26 months behind"), (123.0, "1 month ahead"), (None, None)],
)
def test_the_difference_to_the_chronological_age(age: float | None, words: str | None) -> None:
    text = parsed(document.html([assessment(chronological_age_months=age)], [IMAGE], [None])).text
    assert ("hronological age" in text) is (words is not None)
    assert words is None or words in text


def test_nothing_is_fetched_and_everything_is_escaped() -> None:
    nasty = '<script>alert("1")</script>'
    page = document.html(
        [assessment(nasty, warnings=(Notice("x", nasty),), provenance={nasty: {nasty: nasty}})],
        [IMAGE],
        [IMAGE],
        [Failure(nasty, "rejected", "x", nasty)],
    )
    parser = parsed(page)
    assert "<script" not in page and parser.text.count(nasty) == 7
    linked = [value for name, value in parser.attributes if name in {"src", "href"}]
    assert len(linked) == 3 and all(value.startswith("data:image/jpeg;base64,") for value in linked)
    assert not re.search(r"url\(|@import|https?:", page)


def test_a_drawn_hand_is_called_one() -> None:
    drawn = assessment(warnings=(Notice("drawn_hand", "drawn by boneage"),))
    assert "A drawn hand, not a patient." in document.html([drawn], [IMAGE], [None])


def test_pictures_have_alternatives_and_tables_have_headers() -> None:
    page = document.html([assessment()], [IMAGE], [IMAGE])
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img[^>]*>", page))
    assert '<html lang="en">' in page and 'scope="row"' in page and 'role="img"' in page


def test_age_intervals_are_drawn_on_the_scale_of_the_answer() -> None:
    found = assessment(distribution=DISTRIBUTION, ages={"hand_regression": 124.25, "age_intervals": 118.0})
    page = document.html([found], [IMAGE], [None])
    text = parsed(page).text
    assert "9 to 10 years 62%, 10 to 11 years 25%, 11 to 12 years 7%. Dashed: the bone age above." in text
    assert "Whole hand, age intervals" in text
    scale, chart = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert 'aria-label="probabilities of age intervals: 9 to 10 years 62%' in chart
    bars = [tuple(map(float, bar)) for bar in re.findall(BAR, chart)]
    assert len(bars) == len(DISTRIBUTION.probabilities)
    x, _, width, height = bars[2]
    assert (x, x + width) == (10 + 580 * 108 / 240, 10 + 580 * 120 / 240)
    assert [bar[3] / height for bar in bars] == pytest.approx(
        [p / 0.62 for p in DISTRIBUTION.probabilities], abs=0.01
    )
    assert all(top + tall == pytest.approx(bars[0][1] + bars[0][3], abs=0.11) for _, top, _, tall in bars)
    (answer,) = re.findall(r'<line x1="([\d.]+)"[^>]*stroke-dasharray', chart)
    assert float(answer) == pytest.approx(10 + 580 * 124.25 / 240, abs=0.05)
    years = [re.findall(r'x="([\d.]+)"[^>]*>(\d+)</text>', drawing) for drawing in (scale, chart)]
    assert years[0] == years[1]


BAR = r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" fill="#a9d2e6" stroke'


def test_intervals_beyond_the_scale_stay_on_it() -> None:
    wide = AgeDistribution((-12.0, 120.0, 300.0), (0.001, 0.999))
    page = document.html([assessment(distribution=wide)], [IMAGE], [None])
    bars = [tuple(map(float, bar)) for bar in re.findall(BAR, page)]
    assert [(x, x + width) for x, _, width, _ in bars] == [(300.0, 590.0)]


def test_without_a_classifier_there_is_no_chart() -> None:
    assert document.html([assessment()], [IMAGE], [None]).count("<svg") == 1


def test_the_growth_plot_is_on_the_page_where_the_age_is_known_and_reached() -> None:
    page = document.html([graded_assessment(age_months=120.0)], [IMAGE], [None])
    assert page.count('<figure class="growth">') == 1
    assert page.count("data:image/svg+xml;base64,") == 1 and "Brush Foundation" in parsed(page).text
    assert page.index("By method") < page.index("<h3>Growth</h3>") < page.index("Grades and scores")
    for other in (graded_assessment(), graded_assessment(age_months=193.0)):
        assert "<svg" in (told := document.html([other], [IMAGE], [None])) and "svg+xml" not in told


def test_adult_heights_have_a_table_of_their_own_where_they_were_asked_for() -> None:
    measured = Measurements(140.0, 35.0)
    page = document.html([graded_assessment(age_months=120.0, measured=measured)], [IMAGE], [None])
    begin = page.index('<section class="heights">')
    heights = parsed(page[begin : page.index("</section>", begin) + len("</section>")]).text
    for words in ("SD of its error", "Bayley-Pinneau 1952", "none", "needs the father's height"):
        assert words in heights
    assert "Adult height" not in document.html([graded_assessment(age_months=120.0)], [IMAGE], [None])


def test_a_page_with_everything_is_whole_and_needs_no_other_file() -> None:
    measured = Measurements(140.0, 35.0, 178.0, 165.0, False)
    found = graded_assessment(age_months=120.0, measured=measured, distribution=DISTRIBUTION)
    changes = {"rus_chn": {"radius": 9}, "tw3": {"ulna": "H"}}
    pages = [
        document.html([read_over(found, changes), found], [IMAGE, IMAGE], [IMAGE, IMAGE]) for _ in range(2)
    ]
    parser = parsed(pages[0])
    linked = [value for name, value in parser.attributes if name in {"src", "href"}]
    assert len(linked) == 10 and all(value.startswith("data:image/") for value in linked)
    assert not re.search(r"url\(|@import|https?:", pages[0])
    assert pages[0] == pages[1], "the same answer is the same page"


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        document.html([assessment()], [], [None])


def test_an_outline_is_drawn_where_the_hand_is() -> None:
    grey = np.full((60, 40), 0.5, np.float32)
    picture = overlay.outline(grey, assessment().hand, side_px=600)
    assert picture.shape == (600, 400, 3) and picture.dtype == np.uint8
    coloured = np.ptp(picture.astype(int), axis=2) > 40
    rows, columns = np.nonzero(coloured)
    assert (columns.min(), columns.max()) == pytest.approx((40, 360), abs=4)
    assert (rows.min(), rows.max()) == pytest.approx((50, 550), abs=4)
    assert coloured[496:504, 196:204].any(), "the key point"
    assert not coloured[290:310, 190:210].any()


def test_heat_colours_only_where_the_map_is_high() -> None:
    saliency = np.zeros((60, 40), np.float32)
    saliency[:30] = 1.0
    picture = overlay.heat(np.full((60, 40), 0.5, np.float32), saliency, side_px=60).astype(int)
    assert np.ptp(picture[5], axis=1).min() > 40 and np.ptp(picture[-5], axis=1).max() == 0


def test_png_and_jpeg_decode_to_the_picture() -> None:
    picture = overlay.heat(IMAGE, IMAGE, side_px=120)
    assert np.array_equal(cv2.imdecode(np.frombuffer(overlay.png(picture), np.uint8), 1), picture)
    assert cv2.imdecode(np.frombuffer(overlay.jpeg(picture), np.uint8), 1).shape == picture.shape


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_flat_image_can_be_drawn_on(value: float) -> None:
    assert overlay.outline(np.full((60, 40), value, np.float32), assessment().hand).any()


def test_the_picture_of_grades_shows_what_a_reader_changed() -> None:
    made = graded_assessment()
    image = IMAGE
    plain = document.html([made], [image], [None])
    read = document.html(
        [read_over(made, {"rus_chn": {"radius": 14}, "tw3": {"ulna": "H"}})], [image], [None]
    )
    said = "\u2192 the network's grade to the reader's; more changes: see the tables."
    assert said in parsed(read).text and said not in parsed(plain).text

    def picture(page: str) -> str:
        return re.findall(r'alt="Radiograph with the graded regions" src="([^"]+)"', page)[0]

    assert picture(read) != picture(plain)
