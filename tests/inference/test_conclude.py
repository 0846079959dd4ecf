"""Joining the methods' ages: by hand, inside the limits, and warning where they disagree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.core.errors import UnsupportedImage
from boneage.inference.conclude import CONTRADICTION, conclude, half_width
from boneage.metrics.conformal import ConformalScale

CALIBRATION = {
    "coverage": 0.9,
    "quantile": 2.0,
    "ages_months": [24.0, 48.0, 192.0],
    "widths_months": [4.0, 8.0, 6.0],
}
NARROW = {**CALIBRATION, "quantile": 1.0}
ONE: dict[str, Any] = {"method": "direct", "methods": {"direct": {"calibration": CALIBRATION}}}
TWO: dict[str, Any] = {
    "method": "direct",
    "methods": {"direct": {"calibration": CALIBRATION}, "graded": {"calibration": CALIBRATION}},
    "combination": {
        "weights": {"direct": 0.4, "graded": 0.6},
        "calibration": NARROW,
    },
}


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (24.0, (16.0, 32.0)),
        (36.0, (24.0, 48.0)),  # half way: a width of 6
        (12.0, (4.0, 20.0)),  # below the first knot: its width
        (200.0, (188.0, 212.0)),
        (3.0, (0.0, 11.0)),  # no age is negative
        (236.0, (224.0, 240.0)),
    ],
)
def test_one_method_by_hand(age: float, expected: tuple[float, float]) -> None:
    concluded = conclude({"direct": age}, ONE)
    assert concluded.age_months == age
    assert concluded.interval_months == pytest.approx(expected)
    assert concluded.coverage == 0.9
    assert concluded.warnings == ()


@given(st.floats(-30, 300), st.floats(-12, 12))
def test_the_age_lies_in_its_interval_within_the_limits(direct: float, apart: float) -> None:
    concluded = conclude({"direct": direct, "graded": direct + apart}, TWO)
    low, high = concluded.interval_months
    assert 0 <= low <= concluded.age_months <= high <= 240


def test_two_methods_are_weighed_with_the_combinations_own_interval() -> None:
    concluded = conclude({"direct": 100.0, "graded": 110.0}, TWO)
    assert concluded.age_months == pytest.approx(0.4 * 100 + 0.6 * 110)
    assert concluded.methods == ("direct", "graded")
    width = concluded.interval_months[1] - concluded.age_months
    assert width == pytest.approx(half_width(concluded.age_months, NARROW))


def test_without_the_second_method_the_first_stands_alone() -> None:
    concluded = conclude({"direct": 100.0}, TWO)
    assert concluded.methods == ("direct",)
    assert concluded.age_months == 100.0
    assert concluded.interval_months[1] == pytest.approx(100.0 + half_width(100.0, CALIBRATION))


def test_methods_that_lie_beyond_their_joint_interval_are_said() -> None:
    joint = (half_width(100.0, CALIBRATION) ** 2 + half_width(122.0, CALIBRATION) ** 2) ** 0.5
    assert 20.0 < joint < 22.0
    (notice,) = conclude({"direct": 100.0, "graded": 122.0}, TWO).warnings
    assert notice.code == "methods_disagree"
    assert "direct (100 months) and graded (122 months)" in notice.text
    assert not conclude({"direct": 100.0, "graded": 120.0}, TWO).warnings


def test_methods_that_contradict_each_other_give_no_answer() -> None:
    with pytest.raises(UnsupportedImage, match=r"direct \(60 months\) and graded \(120 months\) contradict"):
        conclude({"direct": 60.0, "graded": 120.0}, TWO)
    joint = (half_width(100.0, CALIBRATION) ** 2 + half_width(130.0, CALIBRATION) ** 2) ** 0.5
    assert CONTRADICTION * joint > 30
    assert conclude({"direct": 100.0, "graded": 130.0}, TWO).warnings


THREE: dict[str, Any] = {
    **TWO,
    "methods": {**TWO["methods"], "third": {"calibration": CALIBRATION}},
    "combination": {
        "weights": {"direct": 0.2, "graded": 0.5, "third": 0.3},
        "calibration": NARROW,
    },
}


def test_three_methods_are_weighed() -> None:
    concluded = conclude({"direct": 100.0, "third": 104.0, "graded": 110.0}, THREE)
    assert concluded.age_months == pytest.approx(20 + 55 + 31.2)
    assert set(concluded.methods) == {"direct", "graded", "third"}
    assert not concluded.warnings


def test_where_one_of_three_gave_no_age_the_first_stands_alone() -> None:
    concluded = conclude({"direct": 100.0, "third": 130.0}, THREE)
    assert (concluded.age_months, concluded.methods) == (100.0, ("direct",))
    (notice,) = concluded.warnings
    assert "direct (100 months) and third (130 months)" in notice.text


def test_all_that_lie_apart_are_said_in_one_warning() -> None:
    (notice,) = conclude({"direct": 100.0, "graded": 104.0, "third": 130.0}, THREE).warnings
    assert notice.text.count("lie further apart") == 2 and notice.text.count("look at the grades") == 1
    assert "graded (104 months) and third (130 months)" in notice.text


def test_a_method_without_a_weight_is_only_shown() -> None:
    manifest = {**THREE, "combination": TWO["combination"]}
    ages = {"direct": 100.0, "graded": 110.0}
    assert conclude({**ages, "third": 190.0}, manifest) == conclude(ages, manifest)


def test_it_is_the_width_that_was_fitted() -> None:
    scale = ConformalScale(0.9, 1.5, (24.0, 120.0, 192.0), (6.0, 9.0, 12.0))
    stored = {"quantile": 1.5, "ages_months": [24.0, 120.0, 192.0], "widths_months": [6.0, 9.0, 12.0]}
    for age in (30.0, 100.0, 150.0):
        assert half_width(age, stored) == pytest.approx(float(scale.half_width(age)))  # type: ignore[arg-type]
