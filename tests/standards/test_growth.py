"""Greulich-Pyle plates and bone-age SD scores."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError, NotApplicable
from boneage.core.types import Sex
from boneage.standards.growth import (
    Plate,
    Reference,
    bone_age_sd_score,
    nearest_plates,
    plates,
    reference_sd,
)


def test_the_atlas_has_31_plates_of_boys_and_27_of_girls() -> None:
    assert [len(plates(sex)) for sex in (Sex.MALE, Sex.FEMALE)] == [31, 27]
    assert Plate(9, 32) in plates("male")
    assert {50, 69, 82, 94, 106} <= {plate.age_months for plate in plates("female")}


def test_nearest_plates_come_nearest_first() -> None:
    assert nearest_plates("male", 140) == (Plate(21, 138), Plate(20, 132))
    assert nearest_plates("female", 110, count=1) == (Plate(17, 106),)
    assert nearest_plates("male", 135, count=1) == (Plate(20, 132),)  # 132 and 138 are as near
    assert nearest_plates("female", 300, count=1) == (Plate(27, 216),)


@pytest.mark.parametrize(
    ("sex", "reference", "age", "sd"),
    [
        ("male", Reference.BRUSH, 144, 10.38),
        ("male", Reference.GREULICH_PYLE, 144, 10.4),
        ("male", Reference.BRUSH, 180, 11.32),
        ("male", Reference.GREULICH_PYLE, 180, 14.2),
        ("female", Reference.BRUSH, 126, (11.73 + 11.94) / 2),
    ],
)
def test_an_sd_score_is_the_difference_over_its_own_references_sd(
    sex: str, reference: Reference, age: float, sd: float
) -> None:
    found = bone_age_sd_score(age + 15, age, sex, reference)
    assert found.sd_months == pytest.approx(sd)
    assert found.value == pytest.approx(15 / sd)
    assert ("Brush" in found.reference) is (reference is Reference.BRUSH)
    assert ({notice.code for notice in found.warnings} == {"weak_source"}) is (
        reference is not Reference.BRUSH
    )


@settings(deadline=None, max_examples=60)
@given(age=st.floats(3, 192), ahead=st.floats(-3, 60), sex=st.sampled_from(Sex))
def test_the_score_has_the_sign_of_the_difference_and_undoes(age: float, ahead: float, sex: Sex) -> None:
    found = bone_age_sd_score(age + ahead, age, sex)
    assert math.copysign(1, found.value or 1) == math.copysign(1, found.difference_months or 1)
    assert found.value * found.sd_months == pytest.approx(found.difference_months)


@pytest.mark.parametrize(
    ("age", "sex", "reference", "said"),
    [
        (2, "male", Reference.BRUSH, "3 to 204 months, not 2"),
        (193, "female", Reference.BRUSH, "3 to 192 months, not 193"),
        (181, "female", Reference.GREULICH_PYLE, "12 to 180 months, not 181"),
    ],
)
def test_an_age_outside_the_reference_is_refused_with_its_range(
    age: float, sex: str, reference: Reference, said: str
) -> None:
    with pytest.raises(NotApplicable, match=said):
        bone_age_sd_score(100, age, sex, reference)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1, 1000])
def test_what_is_no_age_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="give it in months"):
        bone_age_sd_score(wrong, 100, "male")
    with pytest.raises(ConfigError, match="give it in months"):
        bone_age_sd_score(100, wrong, "male")
    with pytest.raises(ConfigError, match="give it in months"):
        nearest_plates("male", wrong)
    with pytest.raises(ConfigError, match="sex must be"):
        bone_age_sd_score(100, 100, "boy")


@pytest.mark.parametrize("sex", Sex)
@pytest.mark.parametrize("reference", Reference)
def test_a_references_deviations_are_those_of_its_scores(sex: Sex, reference: Reference) -> None:
    ages, deviations, name = reference_sd(sex, reference)
    assert len(ages) == len(deviations) > 15
    assert list(ages) == sorted(set(ages)) and min(deviations) > 0
    for age, deviation in zip(ages, deviations, strict=True):
        found = bone_age_sd_score(age, age, sex, reference)
        assert (found.sd_months, found.reference) == (pytest.approx(deviation), name)
    for beyond in (ages[0] - 0.01, ages[-1] + 0.01):
        with pytest.raises(NotApplicable):
            bone_age_sd_score(100, beyond, sex, reference)


@pytest.mark.parametrize(
    ("sex", "reference", "first", "last"),
    [
        ("M", Reference.BRUSH, (3, 0.69), (204, 13.05)),
        ("female", Reference.BRUSH, (3, 0.72), (192, 7.31)),
        ("F", Reference.GREULICH_PYLE, (12, 2.7), (180, 11.2)),
    ],
)
def test_a_references_ends_are_the_tables(
    sex: str, reference: Reference, first: tuple[float, float], last: tuple[float, float]
) -> None:
    ages, deviations, _ = reference_sd(sex, reference)
    assert ((ages[0], deviations[0]), (ages[-1], deviations[-1])) == (first, last)


def test_the_usual_reference_is_the_brush_foundations() -> None:
    assert reference_sd("male") == reference_sd(Sex.MALE, Reference.BRUSH)
    assert "Brush" in reference_sd("male")[2]
    with pytest.raises(ConfigError, match="sex must be"):
        reference_sd("boy")
