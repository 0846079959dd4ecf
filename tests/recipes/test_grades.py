"""From grade probabilities to score sheets: as the standards add them up, and nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from boneage_fakes import graded_hand, peaked, placed_regions
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.types import Sex
from boneage.recipes.graded_regions.grades import grade_hand
from boneage.recipes.graded_regions.prior import BONES, STANDARDS, highest_grades
from boneage.standards.mapping import grade_map
from boneage.standards.names import CARPALS, RUS, Bone
from boneage.standards.scoring import age_curve, score, standard

SIX = (6,) * len(BONES)
ANY_GRADES = st.tuples(*(st.integers(0, int(last)) for last in highest_grades()))


def sheets(sex: Sex, grades: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Every standard's total and age of whole grades, by the standards alone."""
    by_bone = {bone: float(grade) for bone, grade in zip(BONES, grades, strict=True)}
    rus = {bone: by_bone[bone] for bone in RUS}
    carpals = {bone: by_bone[bone] for bone in CARPALS}
    chn = grade_map("chn")(rus) | carpals
    own = {"rus_chn": rus, "tw3": grade_map("tw3")(rus), "chn": chn}
    found = {name: score(name, sex, own[name]) for name in STANDARDS}
    return {name: (sheet.total, sheet.age_months) for name, sheet in found.items()}


@settings(max_examples=25, deadline=None)
@given(ANY_GRADES, st.sampled_from(Sex))
def test_totals_are_those_of_the_whole_grades(grades: tuple[int, ...], sex: Sex) -> None:
    hand = graded_hand(sex, grades=grades)
    assert {name: (found["total"], found["age_months"]) for name, found in hand.scores.items()} == sheets(
        sex, grades
    )


@settings(max_examples=25, deadline=None)
@given(ANY_GRADES, st.sampled_from(Sex))
def test_certain_grades_are_expected_as_they_are(grades: tuple[int, ...], sex: Sex) -> None:
    regions = placed_regions()
    hand = grade_hand(regions, regions, peaked(grades, sureness=1.0), sex)
    for name, (total, age) in sheets(sex, grades).items():
        assert hand.scores[name]["expected_total"] == pytest.approx(total)
        assert hand.scores[name]["expected_age_months"] == pytest.approx(age)
    assert hand.age_months == hand.scores["rus_chn"]["expected_age_months"]
    assert [region.expected_grade for region in hand.regions] == pytest.approx(list(grades))


@pytest.mark.parametrize("sex", Sex)
def test_an_expected_total_is_the_mean_of_the_scores_not_the_score_of_the_mean(sex: Sex) -> None:
    found = graded_hand(sex).scores["rus_chn"]
    by_hand = sum(
        0.8 * standard("rus_chn").grade_score(sex, bone, 6)
        + 0.2 * standard("rus_chn").grade_score(sex, bone, 5)
        for bone in RUS
    )
    assert found["expected_total"] == pytest.approx(by_hand)
    assert found["expected_total"] < found["total"]
    totals, ages = age_curve("rus_chn", sex)
    assert found["expected_age_months"] == pytest.approx(np.interp(by_hand, totals, ages))


def test_a_region_bears_every_standards_grade_of_its_bone() -> None:
    hand = graded_hand(Sex.MALE)
    radius, ulna, capitate = (
        next(region for region in hand.regions if region.bone == name)
        for name in ("radius", "ulna", "capitate")
    )
    assert radius.grades == {
        "rus_chn": 6.0,
        "tw3": grade_map("tw3")({Bone.RADIUS: 6.0})[Bone.RADIUS],
        "chn": grade_map("chn")({Bone.RADIUS: 6.0})[Bone.RADIUS],
    }
    assert ulna.grades.keys() == {"rus_chn", "tw3"}
    assert capitate.grades == {"chn": 6.0}
    assert radius.confidence == pytest.approx(0.8) and radius.expected_grade == pytest.approx(5.8)


@pytest.mark.parametrize(
    ("missing", "given_standards"),
    [
        ((), {"rus_chn", "tw3", "chn"}),
        (("ulna",), {"chn"}),
        (("hamate",), {"rus_chn", "tw3"}),
        (("capitate", "hamate"), {"rus_chn", "tw3"}),
        (("mp5",), set()),
        (("radius", "ulna"), set()),
        (tuple(map(str, BONES)), set()),
    ],
)
def test_only_standards_with_all_their_bones_are_scored(
    missing: tuple[str, ...], given_standards: set[str]
) -> None:
    hand, whole = graded_hand(Sex.FEMALE, missing), graded_hand(Sex.FEMALE)
    assert hand.scores.keys() == given_standards
    for name in given_standards:
        assert hand.scores[name]["total"] == whole.scores[name]["total"]
        assert hand.scores[name]["expected_total"] == pytest.approx(whole.scores[name]["expected_total"])
    assert (hand.age_months is None) == ("rus_chn" not in given_standards)
    for region, complete in zip(hand.regions, whole.regions, strict=True):
        if region.bone in missing:
            assert (region.grades, region.confidence, region.expected_grade) == ({}, None, None)
            assert region.box_px == complete.box_px
        else:
            assert region == complete
    codes = [notice.code for notice in hand.warnings]
    assert codes == (["bone_not_graded"] if missing else [])
    for notice in hand.warnings:
        assert ", ".join(missing) in notice.text
        _, _, unscored = notice.text.partition("no total of ")
        titles = unscored.removesuffix(" is given").split(" or ") if unscored else []
        assert titles == [standard(name).title for name in STANDARDS if name not in given_standards]


def test_weak_tables_are_remarked_wherever_they_are_used() -> None:
    girl, boy = (graded_hand(sex).scores for sex in (Sex.FEMALE, Sex.MALE))
    for scores in (girl, boy):
        assert any("weak mapping" in text and "CHN" in text for text in scores["chn"]["remarks"])
        assert not any("weak" in text for text in scores["rus_chn"]["remarks"])
    assert any("weak source" in text and "TW3" in text for text in girl["tw3"]["remarks"])
    assert not any("weak source" in text for text in boy["tw3"]["remarks"])


def test_totals_beyond_the_tables_are_remarked() -> None:
    mature = graded_hand(Sex.MALE, grades=tuple(int(last) for last in highest_grades()))
    assert any("lower bound" in text for text in mature.scores["tw3"]["remarks"])
    unborn = graded_hand(Sex.MALE, grades=(0,) * len(BONES))
    assert any("below" in text for text in unborn.scores["tw3"]["remarks"])


def test_scores_are_json_and_name_their_edition() -> None:
    scores = graded_hand(Sex.FEMALE, grades=SIX).scores
    again = json.loads(json.dumps(scores, allow_nan=False))
    for name in STANDARDS:
        assert again[name]["edition"] == standard(name).edition
        assert again[name].keys() == {
            "total", "age_months", "expected_total", "expected_age_months", "edition", "remarks",
        }  # fmt: skip
