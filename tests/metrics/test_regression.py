"""Errors of ages against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError
from boneage.metrics.regression import bias, errors, mae, median_error, rmse, summary, within

PREDICTED = [100.0, 110.0, 95.0, 130.0]
REFERENCE = [106.0, 104.0, 95.0, 118.0]  # errors -6, 6, 0, 12


def test_figures_worked_out_by_hand() -> None:
    assert errors(PREDICTED, REFERENCE).tolist() == [-6, 6, 0, 12]
    assert mae(PREDICTED, REFERENCE) == 6.0
    assert rmse(PREDICTED, REFERENCE) == pytest.approx(np.sqrt(54.0))
    assert bias(PREDICTED, REFERENCE) == 3.0
    assert median_error(PREDICTED, REFERENCE) == 6.0
    assert within(PREDICTED, REFERENCE, 6) == 0.75
    assert within(PREDICTED, REFERENCE, 5.99) == 0.25


def test_the_summary_holds_the_same_figures() -> None:
    found = summary(PREDICTED, REFERENCE)
    assert (found["count"], found["mae"], found["within_6"], found["within_12"]) == (4, 6.0, 0.75, 1.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=1, max_size=40))
def test_the_figures_keep_their_order(pairs: list[tuple[float, float]]) -> None:
    predicted, reference = zip(*pairs, strict=True)
    slack = 1e-9
    assert abs(bias(predicted, reference)) <= mae(predicted, reference) + slack
    assert mae(predicted, reference) <= rmse(predicted, reference) + slack
    assert within(predicted, reference, 300.0) == 1.0


@pytest.mark.parametrize(
    ("predicted", "reference", "said"),
    [
        ([], [], "one or more predicted values"),
        ([1.0], [1.0, 2.0], "expected a reference for each prediction, got 2 for 1"),
        ([1.0, np.nan], [1.0, 2.0], "1 of 2 predicted values are not finite"),
        ([[1.0]], [[1.0]], r"shape \(1, 1\)"),
        (["old"], [1.0], "must be numbers"),
    ],
)
def test_values_that_cannot_be_compared_are_refused(
    predicted: list[float], reference: list[float], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        mae(predicted, reference)
