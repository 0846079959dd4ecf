"""Scoring: grades to totals to ages and back, array access, and what is refused."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError, NotApplicable, TableMissing, UnknownGrade, WrongBones
from boneage.core.types import Sex
from boneage.standards.names import CHN, RUS, Bone
from boneage.standards.scoring import Standard, age_curve, score, score_table, standard, standard_names

Change = Callable[..., Path]
NAMES = ("rus_chn", "tw3", "tw3_c_rus", "chn", "chn_radius_subgraded")
standards = st.sampled_from(NAMES).map(standard)
sexes = st.sampled_from(list(Sex))


@st.composite
def hands(draw: st.DrawFn) -> tuple[Standard, Sex, dict[Bone, float]]:
    """A standard, a sex and a grade of each of its bones."""
    chosen = draw(standards)
    grades = {bone: draw(st.floats(0, chosen.grades(bone)[-1])) for bone in chosen.bones}
    return chosen, draw(sexes), grades


def final(chosen: Standard) -> dict[Bone, float]:
    return {bone: chosen.grades(bone)[-1] for bone in chosen.bones}


def test_the_five_standards_and_their_bones() -> None:
    assert standard_names() == NAMES
    assert [standard(name).bones for name in NAMES] == [RUS, RUS, RUS, CHN, CHN]
    assert len(RUS) == 13 and len(CHN) == 14 and Bone.ULNA not in CHN


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sex", Sex)
def test_a_mature_hand_scores_1000_and_says_that_its_age_is_a_lower_bound(name: str, sex: Sex) -> None:
    chosen = standard(name)
    sheet = score(name, sex, final(chosen))
    assert sheet.total == 1000
    assert sheet.age_months == chosen.curves[sex].ages_months[-1]
    assert "mature" in {notice.code for notice in sheet.warnings}


@settings(deadline=None, max_examples=40)
@given(hand=hands(), data=st.data())
def test_the_total_and_the_age_never_fall_as_a_grade_rises(
    hand: tuple[Standard, Sex, dict[Bone, float]], data: st.DataObject
) -> None:
    chosen, sex, grades = hand
    bone = data.draw(st.sampled_from(chosen.bones))
    higher = {**grades, bone: data.draw(st.floats(grades[bone], chosen.grades(bone)[-1]))}
    before, after = score(chosen, sex, grades), score(chosen, sex, higher)
    assert after.total >= before.total - 1e-9
    assert after.age_months >= before.age_months - 1e-9


@settings(deadline=None, max_examples=40)
@given(chosen=standards, sex=sexes, share=st.floats(0, 1))
def test_age_and_total_are_each_others_inverse(chosen: Standard, sex: Sex, share: float) -> None:
    curve = chosen.curves[sex]
    age = float(curve.ages_months[0] + share * (curve.ages_months[-1] - curve.ages_months[0]))
    total, _ = chosen.total_at(sex, age)
    assert chosen.age_months(sex, total)[0] == pytest.approx(age, abs=1e-6)
    total = float(curve.totals[0] + share * (curve.totals[-1] - curve.totals[0]))
    age, _ = chosen.age_months(sex, total)
    assert chosen.total_at(sex, age)[0] == pytest.approx(total, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(hand=hands())
def test_a_total_is_the_sum_of_its_sheet(hand: tuple[Standard, Sex, dict[Bone, float]]) -> None:
    chosen, sex, grades = hand
    sheet = score(chosen, sex, grades)
    assert sheet.total == pytest.approx(sum(bone.score for bone in sheet.bones))
    assert sheet.total == pytest.approx(chosen.total(sex, grades))
    assert all(0 <= bone.score <= bone.maximum for bone in sheet.bones)
    assert tuple(bone.bone for bone in sheet.bones) == chosen.bones


def test_a_fraction_scores_between_its_neighbours() -> None:
    chosen = standard("rus_chn")
    assert chosen.grade_score("male", "radius", 7) == 76
    assert chosen.grade_score("male", "radius", 7.5) == (76 + 118) / 2
    assert chosen.grade_score(Sex.FEMALE, "MCPThird", 10) == 51


def test_a_total_between_two_knots_has_the_age_between_theirs() -> None:
    # RUS-CHN boys: 547 at 13.0 years, 628 at 13.5; CHN boys: 657 at 10.2, 661 at 10.3
    assert standard("rus_chn").age_months("m", (547 + 628) / 2)[0] == pytest.approx(13.25 * 12)
    assert standard("chn").age_months("m", 659)[0] == pytest.approx(10.25 * 12)


def test_a_sub_graded_table_needs_no_code(changed_tables: Change) -> None:
    folder = changed_tables(
        "chn_scores.csv",
        {
            "\nmale,radius,6,6,71\n": "\nmale,radius,5.5,5_5,67\nmale,radius,6,6,71\n",
            "\nfemale,radius,6,6,69\n": "\nfemale,radius,5.5,5_5,64\nfemale,radius,6,6,69\n",
        },
    )
    chosen = standard("chn", folder)
    assert chosen.grades("radius")[5:8] == (5, 5.5, 6)
    assert chosen.parse_grade("radius", "5_5") == 5.5
    assert chosen.grade_score("male", "radius", 5.5) == 67
    assert chosen.grade_score("male", "radius", 5.75) == (67 + 71) / 2
    assert chosen.scale("female", "radius").label(5.5) == "5_5"


def test_ages_outside_the_table_are_clamped_and_said() -> None:
    chosen = standard("rus_chn")
    age, notices = chosen.age_months("male", 3)
    assert (age, [notice.code for notice in notices]) == (12.0, ["clamped"])
    assert "below RUS-CHN's table (15 at 1 years)" in notices[0].text
    age, notices = chosen.age_months("male", 1001)
    assert (age, [notice.code for notice in notices]) == (216.0, ["clamped"])
    total, notices = chosen.total_at("female", 230)
    assert (total, [notice.code for notice in notices]) == (1000.0, ["clamped"])
    assert chosen.age_months("male", 547) == (156.0, ())


@pytest.mark.parametrize(
    ("name", "sex", "weak"),
    [
        ("rus_chn", "male", False),
        ("tw3", "male", False),
        ("tw3", "female", True),
        ("tw3_c_rus", "male", True),
        ("tw3_c_rus", "female", True),
        ("chn", "female", False),
        ("chn_radius_subgraded", "male", True),
        ("chn_radius_subgraded", "female", True),
    ],
)
def test_a_weak_table_says_so_in_every_result(name: str, sex: str, weak: bool) -> None:
    chosen = standard(name)
    sheet = score(name, sex, dict.fromkeys(chosen.bones, 4.0))
    for notices in (sheet.warnings, chosen.age_months(sex, 500)[1], chosen.total_at(sex, 100)[1]):
        assert ("weak_source" in {notice.code for notice in notices}) is weak


def test_stage_letters_and_labels_are_grades() -> None:
    tw3, rus_chn = standard("tw3"), standard("RUS-CHN")
    assert tw3.parse_grade("radius", "F") == tw3.parse_grade("radius", "f") == 5
    assert rus_chn.parse_grade("mc3", "4(2)") == 5
    assert rus_chn.parse_grade("mc3", "5") == 5  # never the sub-code 5, which is grade 6
    sheet = score(tw3, "male", dict.fromkeys(tw3.bones, 6.4))
    assert {bone.stage for bone in sheet.bones} == {"G"}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"radius": 15}, UnknownGrade, "RUS-CHN grades the radius from 0 to 14, not 15"),
        ({"radius": -0.5}, UnknownGrade, "-0.5"),
        ({"radius": math.nan}, UnknownGrade, "nan"),
        ({"radius": math.inf}, UnknownGrade, "inf"),
        ({"ulna": 13}, UnknownGrade, "ulna from 0 to 12"),
        ({"mp1": 3}, WrongBones, "no bone is called 'mp1'"),
        ({"lunate": 3}, WrongBones, "no bone is called 'lunate'"),
        ({"capitate": 3}, WrongBones, "RUS-CHN does not grade the capitate"),
        ({"MCPFirst": 3}, WrongBones, "mc1 is given twice"),
    ],
)
def test_wrong_bones_and_grades_are_refused(
    changes: dict[str, float], error: type[Exception], said: str
) -> None:
    grades = {**dict.fromkeys(map(str, RUS), 4.0), **changes}
    with pytest.raises(error, match=said):
        score("rus_chn", "male", grades)
    with pytest.raises(error, match=said):
        standard("rus_chn").total("male", grades)


def test_missing_bones_are_named() -> None:
    grades = {bone: 3.0 for bone in RUS if bone not in (Bone.MC1, Bone.DP5)}
    with pytest.raises(WrongBones, match=r"needs 13 bones, and 2 are missing: grade mc1, dp5 too"):
        score("rus_chn", "male", grades)


def test_other_bad_input_is_refused() -> None:
    chosen = standard("tw3")
    with pytest.raises(ConfigError, match="sex must be"):
        score("tw3", "boy", final(chosen))
    with pytest.raises(TableMissing, match="there is no standard 'tw4'"):
        standard("tw4")
    for text in ("J", "", "F5", "nan", "9", "0_5"):
        with pytest.raises(UnknownGrade, match="TW3-RUS"):
            chosen.parse_grade("radius", text)
    with pytest.raises(UnknownGrade, match="stage from A to H"):
        chosen.parse_grade("ulna", "I")
    for wrong in (-1, math.nan, math.inf):
        with pytest.raises(NotApplicable):
            chosen.age_months("male", wrong)
        with pytest.raises(NotApplicable):
            chosen.total_at("male", wrong)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sex", Sex)
def test_arrays_hold_what_the_standard_says(name: str, sex: Sex) -> None:
    chosen = standard(name)
    bones, table = score_table(name, sex)
    assert bones == chosen.bones and table.dtype == np.float64
    for bone, row in zip(bones, table, strict=True):
        last = int(chosen.grades(bone)[-1])
        assert np.isnan(row[last + 1 :]).all()
        assert row[: last + 1].tolist() == [chosen.grade_score(sex, bone, grade) for grade in range(last + 1)]
    totals, ages = age_curve(name, sex)
    assert (np.diff(totals) > 0).all() and (np.diff(ages) > 0).all()
    assert not totals.flags.writeable and not ages.flags.writeable
    middle = (totals[3] + totals[4]) / 2
    assert np.interp(middle, totals, ages) == pytest.approx(chosen.age_months(sex, middle)[0])


@pytest.mark.parametrize("sex", Sex)
def test_rus_chn_ages_agree_with_the_polynomial_of_other_programs(sex: Sex) -> None:
    # A cross-check only: it is one lineage, and falls below totals of 18 (boys) and 45 (girls).
    text = (Path(__file__).parent / "rus_chn_polynomial.csv").read_text("utf-8")
    powers = [row for row in csv.DictReader(text.splitlines()) if row["sex"] == sex]
    polynomial = np.polynomial.Polynomial([float(row["coefficient"]) for row in powers])
    totals = np.arange(50, 1001, dtype=float)
    ours = [standard("rus_chn").age_months(sex, total)[0] / 12 for total in totals]
    gaps = np.abs(polynomial(totals) - ours)
    assert gaps.max() < 0.32 and np.median(gaps) < 0.1
