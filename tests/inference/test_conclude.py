"""The interval around an age: by hand, symmetric inside the limits and cut at them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.core.types import Findings
from boneage.inference.conclude import interval
from boneage.metrics.conformal import ConformalScale

CALIBRATION = {"quantile": 2.0, "ages_months": [24.0, 48.0, 192.0], "widths_months": [4.0, 8.0, 6.0]}


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
def test_by_hand(age: float, expected: tuple[float, float]) -> None:
    assert interval(Findings("any", age), CALIBRATION) == pytest.approx(expected)


@given(st.floats(0, 240))
def test_the_age_lies_in_its_interval_within_the_limits(age: float) -> None:
    low, high = interval(Findings("any", age), CALIBRATION)
    assert 0 <= low <= age <= high <= 240


def test_it_is_the_interval_that_was_fitted() -> None:
    scale = ConformalScale(0.9, 1.5, (24.0, 120.0, 192.0), (6.0, 9.0, 12.0))
    stored = {"quantile": 1.5, "ages_months": [24.0, 120.0, 192.0], "widths_months": [6.0, 9.0, 12.0]}
    for age in (30.0, 100.0, 150.0):
        low, high = interval(Findings("any", age), stored)
        assert (high - low) / 2 == pytest.approx(float(scale.half_width(age)))  # type: ignore[arg-type]
