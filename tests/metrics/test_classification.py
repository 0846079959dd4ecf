"""Interval classification: figures that can be worked out by hand, and what must hold of any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from boneage.core.errors import ConfigError
from boneage.metrics.classification import (
    TEMPERATURES,
    accuracy,
    border_errors,
    confusion,
    expected_calibration_error,
    fit_temperature,
    near_border,
    negative_log_likelihood,
    ranked_probability_score,
    reliability,
    temper,
)
from boneage.metrics.subgroups import wilson

# Ten cases of each row, the true interval as often each as the row says: calibrated without any error.
CHANCES = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]])
TRUE = [[0] * 5 + [1] * 3 + [2] * 2, [0] + [1] * 8 + [2], [0] * 3 + [1] + [2] * 6]
CALIBRATED, CALIBRATED_TRUTH = np.repeat(CHANCES, 10, axis=0), np.concatenate(TRUE)

LOGITS = arrays(np.float64, (12, 4), elements=st.floats(-5.0, 5.0, allow_subnormal=False))
LABELS = arrays(np.int64, 12, elements=st.integers(0, 3))


def test_accuracy_and_confusion_are_counted() -> None:
    truth, predicted = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]
    assert accuracy(predicted, truth) == pytest.approx(4 / 6)
    assert confusion(truth, predicted, 4).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0] * 4]


@settings(deadline=None, max_examples=60)
@given(LABELS, LABELS)
def test_the_diagonal_of_the_confusion_is_the_accuracy(truth: np.ndarray, predicted: np.ndarray) -> None:
    table = confusion(truth, predicted, 4)
    assert table.sum() == 12 and np.trace(table) / 12 == pytest.approx(accuracy(predicted, truth))
    assert table.T.tolist() == confusion(predicted, truth, 4).tolist()


def test_reliability_counts_each_bin() -> None:
    found = reliability([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.95, 0.05]], [0, 0, 1, 0], bins=4)
    assert found.lower.tolist() == [0.0, 0.25, 0.5, 0.75] and found.upper.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.counts.tolist() == [0, 0, 2, 2]
    assert found.confidence[2:].tolist() == pytest.approx([0.65, 0.875])
    assert found.accuracy[2:].tolist() == [0.5, 1.0]
    assert np.isnan(found.confidence[:2]).all() and np.isnan(found.accuracy[:2]).all()


def test_a_bin_holds_its_upper_edge_and_certainty_is_in_the_last() -> None:
    found = reliability([[0.5, 0.5], [1.0, 0.0], [1.0 + 1e-7, 0.0]], [0, 0, 0], bins=2)
    assert found.counts.tolist() == [1, 2]


def test_calibration_error_worked_out_by_hand() -> None:
    assert expected_calibration_error(CALIBRATED, CALIBRATED_TRUTH) == pytest.approx(0.0, abs=1e-12)
    # Two of four bins of 4: (2 * |0.5 - 0.65| + 2 * |1 - 0.875|) / 4
    shown = [[0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.95, 0.05]]
    assert expected_calibration_error(shown, [0, 0, 1, 0], bins=4) == pytest.approx(0.1375)
    assert expected_calibration_error([[1.0, 0.0], [1.0, 0.0]], [1, 1]) == 1.0


@settings(deadline=None, max_examples=60)
@given(LOGITS, LABELS, st.integers(1, 15))
def test_the_bins_hold_everyone_once(logits: np.ndarray, truth: np.ndarray, bins: int) -> None:
    chances = temper(logits, 1.0)
    found = reliability(chances, truth, bins)
    filled = found.counts > 0
    assert found.counts.sum() == 12
    assert (found.confidence[filled] >= found.lower[filled]).all()
    assert (found.confidence[filled] <= found.upper[filled] + 1e-9).all()
    share = (found.counts[filled] * found.accuracy[filled]).sum() / 12
    assert share == pytest.approx(accuracy(chances.argmax(axis=1), truth))
    error = expected_calibration_error(chances, truth, bins)
    assert abs(share - chances.max(axis=1).mean()) - 1e-9 <= error <= 1.0


def test_tempering_raises_probabilities_to_a_power() -> None:
    assert temper(np.log(CHANCES), 1.0) == pytest.approx(CHANCES)
    squared = CHANCES**2 / (CHANCES**2).sum(axis=1, keepdims=True)
    assert temper(np.log(CHANCES), 0.5) == pytest.approx(squared)
    assert temper([[1000.0, 0.0]], 1.0).tolist() == [[1.0, 0.0]]


@settings(deadline=None, max_examples=60)
@given(LOGITS, st.floats(0.1, 10.0))
def test_tempering_keeps_the_order_and_does_not_mind_a_shift(logits: np.ndarray, temperature: float) -> None:
    found = temper(logits, temperature)
    assert found.sum(axis=1) == pytest.approx(np.ones(12))
    assert (np.take_along_axis(found, logits.argmax(axis=1)[:, None], 1)[:, 0] == found.max(axis=1)).all()
    assert temper(logits + 3.0, temperature) == pytest.approx(found)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 2.5, 10.0])
def test_a_known_temperature_is_recovered(scale: float) -> None:
    distorted = scale * np.log(CALIBRATED)
    assert fit_temperature(distorted, CALIBRATED_TRUTH) == pytest.approx(scale, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(LOGITS, LABELS, st.floats(*TEMPERATURES))
def test_no_other_temperature_is_likelier(logits: np.ndarray, truth: np.ndarray, other: float) -> None:
    best = negative_log_likelihood(temper(logits, fit_temperature(logits, truth)), truth)
    assert best <= negative_log_likelihood(temper(logits, other), truth) + 1e-9


def test_where_there_is_no_best_temperature_it_is_a_bound_or_one() -> None:
    low, high = TEMPERATURES
    assert fit_temperature([[0.0, -1.0], [-1.0, 0.0]], [0, 1]) == pytest.approx(low), "always right"
    assert fit_temperature([[0.0, -1.0], [-1.0, 0.0]], [1, 0]) == pytest.approx(high), "always wrong"
    assert fit_temperature(np.log(np.full((3, 3), 1 / 3)), [0, 1, 1]) == 1.0, "nothing to scale"


def test_likelihood_worked_out_by_hand() -> None:
    assert negative_log_likelihood([[0.5, 0.5], [0.75, 0.25]], [0, 1]) == pytest.approx(np.log(8) / 2)
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == np.inf


def test_ranked_probability_score_worked_out_by_hand() -> None:
    assert ranked_probability_score([[0.2, 0.5, 0.3]], [1]) == pytest.approx(0.2**2 + 0.3**2)
    assert ranked_probability_score([[0.2, 0.5, 0.3]], [2]) == pytest.approx(0.2**2 + 0.7**2)
    assert ranked_probability_score([[1.0, 0, 0, 0], [0, 1.0, 0, 0]], [3, 1]) == pytest.approx(1.5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(0, 4))
def test_certainty_costs_as_many_points_as_intervals_it_is_off(named: int, true: int) -> None:
    assert ranked_probability_score(np.eye(5)[[named]], [true]) == pytest.approx(abs(named - true))


def test_ages_near_a_border() -> None:
    edges = (0.0, 50.0, 100.0, 150.0)
    found = near_border([0.0, 44.0, 45.0, 55.0, 56.0, 99.5, 150.0], edges, 5.0)
    assert found.tolist() == [False, False, True, True, False, True, False], "ends are no borders"


def test_errors_are_counted_by_distance_to_the_nearest_border() -> None:
    ages = [50.0, 47.0, 54.0, 106.0, 140.0, 93.0]  # 0, 3, 4, 6, 40 and 7 months off
    correct = np.array([False, True, False, True, True, True])
    rows = border_errors(ages, correct, (0.0, 50.0, 100.0, 150.0))
    assert [(row.name, row.cases, row.wrong.estimate) for row in rows] == [
        ("0-3 months", 2, 0.5),
        ("3-6 months", 2, 0.5),
        ("6-12 months", 1, 0.0),
        ("over 24 months", 1, 0.0),
    ]
    assert rows[0].wrong == wilson(np.array([True, False]))
    assert (rows[-1].low_months, rows[-1].high_months) == (24.0, np.inf)


def test_ages_outside_all_distances_are_in_no_row() -> None:
    rows = border_errors([50.0, 52.0, 55.0, 60.0], np.ones(4, np.bool_), (0.0, 50.0, 100.0), (2.0, 5.0))
    assert [row.cases for row in rows] == [2]
    assert border_errors([0.0], np.array([True]), (0.0, 50.0, 100.0), (0.0, 5.0)) == ()


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, 20, elements=st.floats(1.0, 228.0)), arrays(np.bool_, 20))
def test_rows_share_out_everyone_and_agree_with_near_border(ages: np.ndarray, correct: np.ndarray) -> None:
    edges = (0.0, 46.0, 91.0, 137.0, 182.0, 228.0)
    rows = border_errors(ages, correct, edges)
    assert sum(row.cases for row in rows) == 20
    assert sum(row.cases * row.wrong.estimate for row in rows) == pytest.approx((~correct).sum())
    assert sum(row.cases for row in rows if row.high_months <= 12) == near_border(ages, edges, 12.0).sum()


TWO = [[0.5, 0.5], [0.4, 0.6]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([], []), "one or more predicted labels"),
        (lambda: accuracy([0, 1], [0]), "each of 2 cases, got 1"),
        (lambda: accuracy([0.5], [0]), "whole numbers, got float64"),
        (lambda: accuracy([0], [-1]), "from 0 up, got -1"),
        (lambda: confusion([0, 3], [0, 1], 3), "true labels from 0 to 2, got 0 to 3"),
        (lambda: reliability(TWO, [0, 1], 0), "at least 1 bin"),
        (lambda: reliability([[0.5, 0.6]], [0]), "1 of 1 rows do not"),
        (lambda: reliability([[1.5, -0.5]], [0]), "1 of 1 rows do not"),
        (lambda: negative_log_likelihood(TWO, [0, 2]), "from 0 to 1, got 0 to 2"),
        (lambda: ranked_probability_score([0.5, 0.5], [0]), r"got shape \(2,\)"),
        (lambda: temper([[0.0, -1.0]], 0.0), "temperature above 0"),
        (lambda: temper([[0.0, -1.0]], float("nan")), "temperature above 0"),
        (lambda: fit_temperature(np.zeros((0, 3)), []), r"got shape \(0, 3\)"),
        (lambda: fit_temperature(np.log(TWO), [0]), "each of 2 cases, got 1"),
        (lambda: fit_temperature([[0.0, float("nan")], [0.0, 1.0]], [0, 0]), "1 of 2 cases are not finite"),
        (lambda: fit_temperature([[0.0, -np.inf]], [0]), "probabilities above 0 only"),
        (lambda: near_border([1.0], (0.0, 5.0), 1.0), "3 or more rising interval edges"),
        (lambda: near_border([1.0], (0.0, 9.0, 5.0), 1.0), "3 or more rising interval edges"),
        (lambda: near_border([np.nan], (0.0, 5.0, 9.0), 1.0), "1 of 1 age values are not finite"),
        (lambda: border_errors([1.0], [1], (0.0, 5.0, 9.0)), "true or false for each of 1 ages, got int64"),
        (lambda: border_errors([1.0], [True, True], (0.0, 5.0, 9.0)), "true or false for each of 1 ages"),
        (lambda: border_errors([1.0], [True], (0.0, 5.0, 9.0), (3.0, 3.0)), "rising distances"),
    ],
)
def test_nonsense_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
