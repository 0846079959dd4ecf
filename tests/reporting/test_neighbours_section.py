"""The section on hands alike: what is drawn lies where the ages are, and too few hands tell nothing."""

from __future__ import annotations

import json
import re
from html import unescape

import numpy as np
import pytest
from boneage_fakes import assessment
from cluster_fakes import TOLD, found_group, found_neighbours, small_group

from boneage.core.types import Assessment, Neighbours, Sex, TypicalAge
from boneage.reporting import document
from boneage.reporting.neighbours_section import group_words, neighbours_section, typical_words
from boneage.reporting.tabular import assessment_record, failure_record

GREY = np.full((60, 40), 0.5, np.float32)
BAR = re.compile(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" fill="#(\w+)"')
RING = re.compile(r'<circle cx="([\d.]+)"')
WHISKER = re.compile(r'<path d="M([\d.]+) [\d.]+ v12 M([\d.]+) [\d.]+ v12 M([\d.]+) [\d.]+ H([\d.]+)"')


def section(near: Neighbours | None, bone_age_months: float = 124.25) -> str:
    return "\n".join(neighbours_section(assessment(neighbours=near, bone_age_months=bone_age_months)))


def at(age_months: float) -> object:
    """Where an age lies on the report's scale of 20 years."""
    return pytest.approx(10 + 580 * age_months / 240, abs=0.06)


def words(page: str) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", page))


def test_the_bars_lie_at_the_groups_percentiles() -> None:
    p5, p25, p50, p75, p95 = TOLD.percentiles_months
    thin, thick, tick = [[*map(float, bar[:4]), bar[4]] for bar in BAR.findall(section(found_neighbours()))]
    for (x, _, width, *_), low, high in ((thin, p5, p95), (thick, p25, p75)):
        assert x == at(low) and x + width == at(high)
    assert tick[0] + tick[2] / 2 == at(p50)
    middles = [bar[1] + bar[3] / 2 for bar in (thin, thick, tick)]
    assert len({round(middle, 2) for middle in middles}) == 1
    assert thin[3] < thick[3] < tick[3], "told apart by their heights, in black and white too"
    assert tick[4] == "17212b" and thin[4] == thick[4] == "a9d2e6"


def test_the_typical_age_is_a_ring_on_a_line_of_one_sd_to_either_side() -> None:
    page = section(found_neighbours())
    (ring,) = RING.findall(page)
    ((low, high, start, end),) = WHISKER.findall(page)
    assert float(ring) == at(120.0)
    assert float(low) == float(start) == at(108.0) and float(high) == float(end) == at(132.0)


def test_the_bone_age_of_the_hand_is_a_dashed_line_across_all_rows() -> None:
    page = section(found_neighbours(), 150.0)
    ((x, other, foot),) = re.findall(
        r'<line x1="([\d.]+)" x2="([\d.]+)" y1="2" y2="([\d.]+)"[^>]*stroke-dasharray', page
    )
    (axis,) = re.findall(r'<line x1="10" x2="590" y1="([\d.]+)"', page)
    assert float(x) == float(other) == at(150.0) and float(foot) == float(axis)
    assert "12 y 6 m" in re.findall(r'aria-label="([^"]+)"', page)[0]


def test_a_group_at_the_left_end_has_its_title_on_the_right() -> None:
    young = found_group(percentiles_months=(20.0, 25.0, 30.0, 35.0, 40.0))
    for group, anchor in ((young, "end"), (found_group(), "start")):
        page = section(found_neighbours(group=group))
        assert re.findall(r'text-anchor="(\w+)">the group<', page) == [anchor]


def test_what_lies_beyond_the_scale_stays_on_it() -> None:
    page = section(found_neighbours(group=None, typical=TypicalAge(236.0, 12.0, 40)))
    ((_, high, *_),) = WHISKER.findall(page)
    assert float(high) == 590.0


def test_the_table_and_the_sentences_say_the_same_in_words() -> None:
    text = words(section(found_neighbours(masked=("18",))))
    for said in (
        "Group 2 of 3 of girls' hands, the least mature first",
        "Group 2: 40 hands", "Most alike in maturity: 15 nearest hands",
        "9 y 10 m (11 months)", "10 y 0 m (12 months)",
        "9 y 2 m to 10 y 6 m", "8 y 5 m to 11 y 5 m",
        "Hands of group 2 by bone age: 6 to 10 years: 25, 10 to 14 years: 15.",
        "Told from 3 of 4 key regions of the hand; not read: 18",
    ):  # fmt: skip
        assert said in text, said


@pytest.mark.parametrize("sex", [Sex.FEMALE, None])
def test_it_says_that_no_label_was_used_and_that_no_age_is_changed(sex: Sex | None) -> None:
    text = words(section(found_neighbours(group=found_group(sex=sex))))
    assert "No label was used to group the hands" in text and "do not change it" in text
    assert "averages and counts over many children" in text
    assert ("girls and boys apart" in text) is (sex is not None)
    assert ("of girls' hands" in text) is (sex is not None)


def test_too_few_hands_are_said_to_be_and_nothing_is_drawn() -> None:
    page = section(found_neighbours(group=small_group(), typical=None))
    text = words(page)
    assert "Group 1 has 4 training hands of known bone age: too few" in text
    assert "The training hands of this sex are too few" in text
    assert "<svg" not in page and "<table" not in page and "by bone age" not in text


@pytest.mark.parametrize(
    ("near", "drawn", "lacking"),
    [
        (found_neighbours(group=small_group()), "most alike in maturity", "the group"),
        (found_neighbours(typical=None), "the group", "most alike in maturity"),
    ],
)
def test_one_average_without_the_other_has_a_row_of_its_own(
    near: Neighbours, drawn: str, lacking: str
) -> None:
    page = section(near)
    assert f">{drawn}</text>" in page and f">{lacking}</text>" not in page
    assert "too few to tell averages of" in page and page.count("<table") == 1


def test_the_lines_of_a_table_in_one() -> None:
    assert group_words(found_group()) == (
        "group 2 of 3 of girls' hands, the least mature first; its 40 training hands: mean 9 y 10 m, SD 11 "
        "months, 5% to 95% from 8 y 5 m to 11 y 5 m"
    )
    assert group_words(small_group()).endswith(
        "its 4 training hands of known bone age are too few to tell averages of"
    )
    assert (
        typical_words(TypicalAge(120.0, 12.0, 15))
        == "the 15 training hands nearest: about 10 y 0 m, SD 12 months"
    )
    assert "too few" in typical_words(None)


def test_the_section_is_in_the_page_where_neighbours_are_and_only_there() -> None:
    def page(found: Assessment) -> str:
        return document.html([found], [GREY], [None])

    told = page(assessment(neighbours=found_neighbours()))
    assert told.count('<section class="neighbours">') == 1 and told.count("<svg") == 2
    assert told.index('class="neighbours"') < told.index("How this was made")
    assert told.count("<section") == told.count("</section>")
    assert 'class="neighbours"' not in page(assessment())


def test_the_record_has_averages_and_classes() -> None:
    near = found_neighbours(masked=("18",))
    record = json.loads(json.dumps(assessment_record(assessment(neighbours=near)), allow_nan=False))
    assert record["neighbours"] == {
        "group": {
            "number": 2, "of": 3, "sex": "female", "hands": 40, "mean_months": 118.5, "sd_months": 11.25,
            "percentiles_months": {"5": 101.0, "25": 110.5, "50": 118.0, "75": 126.25, "95": 137.0},
            "age_classes": [
                {"from_months": 24.0, "to_months": 72.0, "hands": 0},
                {"from_months": 72.0, "to_months": 120.0, "hands": 25},
                {"from_months": 120.0, "to_months": 168.0, "hands": 15},
                {"from_months": 168.0, "to_months": 216.0, "hands": 0},
            ],
        },
        "typical": {"mean_months": 120.0, "sd_months": 12.0, "hands": 15},
        "regions": ["2", "17", "19"],
        "masked": ["18"],
    }  # fmt: skip


def test_the_record_of_too_few_hands_is_empty_not_zero() -> None:
    near = found_neighbours(group=small_group(sex=None), typical=None)
    found = assessment_record(assessment(neighbours=near))["neighbours"]
    assert found["typical"] is None
    assert found["group"] == {
        "number": 1, "of": 3, "sex": None, "hands": 4, "mean_months": None, "sd_months": None,
        "percentiles_months": {}, "age_classes": [],
    }  # fmt: skip
    assert assessment_record(assessment(neighbours=Neighbours(None, None)))["neighbours"]["group"] is None


def test_without_neighbours_the_key_is_there_and_null() -> None:
    assert assessment_record(assessment())["neighbours"] is None
    assert failure_record(document.Failure("x.png", "failed", "x", "y"))["neighbours"] is None
