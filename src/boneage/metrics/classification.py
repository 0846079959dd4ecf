"""Ages read as one of K intervals: accuracy, calibration of the probabilities, and errors near a border.

Interval k is (edges[k], edges[k + 1]], with K + 1 rising edges in months; a label is its number, 0 to K - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import Interval
from boneage.metrics.regression import Values, checked
from boneage.metrics.subgroups import wilson

Labels = NDArray[np.int64]

BORDER_DISTANCES_MONTHS = (0.0, 3.0, 6.0, 12.0, 24.0, float("inf"))
"""Steps of the distance to the nearest border, of `border_errors`."""

TEMPERATURES = (0.05, 20.0)
"""The lowest and the highest temperature that `fit_temperature` returns."""

_HALVINGS = 60
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often cases of about one confidence are right, in B bins of equal width.

    Args:
        lower: (B,) lower edges of the bins' confidence, not in the bin.
        upper: (B,) upper edges, in the bin.
        counts: (B,) cases.
        confidence: (B,) their mean confidence; nan where a bin is empty.
        accuracy: (B,) the share of them that is right; nan where a bin is empty.
    """

    lower: Values
    upper: Values
    counts: Labels
    confidence: Values
    accuracy: Values


@dataclass(frozen=True, slots=True)
class BorderRow:
    """The share of wrong intervals among the ages that lie `low_months` to `high_months` from a border."""

    low_months: float
    high_months: float
    cases: int
    wrong: Interval

    @property
    def name(self) -> str:
        """What a table's first column says."""
        if np.isinf(self.high_months):
            return f"over {self.low_months:g} months"
        return f"{self.low_months:g}-{self.high_months:g} months"


def accuracy(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return the share, 0 to 1, of labels (N,) that are the true ones.

    Raises:
        ConfigError: no labels, not one true label for each prediction, or a label below 0.
    """
    found, true = _labels("predicted", predicted), _labels("true", truth)
    _expect_pairs(len(found), len(true))
    return float((found == true).mean())


def confusion(truth: ArrayLike, predicted: ArrayLike, count: int) -> Labels:
    """Return how many cases of each true interval (rows) were put in which (columns), (count, count).

    Raises:
        ConfigError: as `accuracy`, and for a label of `count` or more.
    """
    true, found = _labels("true", truth, count), _labels("predicted", predicted, count)
    _expect_pairs(len(found), len(true))
    return np.bincount(true * count + found, minlength=count * count).reshape(count, count)


def reliability(probabilities: ArrayLike, truth: ArrayLike, bins: int = 10) -> Reliability:
    """Return accuracy against confidence, the probability of the likeliest interval.

    Args:
        probabilities: (N, K), rows that sum to 1.
        truth: (N,) labels.
        bins: how many, of equal width from 0 to 1.

    Source: Guo C et al. On calibration of modern neural networks. ICML 2017, section 2.

    Raises:
        ConfigError: no cases, rows that are no probabilities, not one label a row, a label that is no column,
            or no bins.
    """
    chances, true = _chances(probabilities, truth)
    if bins < 1:
        raise ConfigError(f"expected at least 1 bin, got {bins}; the usual number is 10")
    edges = np.linspace(0.0, 1.0, bins + 1)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == true
    number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(number, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(number, confidence, bins) / counts
        share_right = np.bincount(number, right, bins) / counts
    return Reliability(edges[:-1], edges[1:], counts, mean_confidence, share_right)


def expected_calibration_error(probabilities: ArrayLike, truth: ArrayLike, bins: int = 10) -> float:
    """Return the mean distance, 0 to 1, of confidence and accuracy over the bins, weighted by their cases.

    Args are those of `reliability`.

    Source: Guo C et al. ICML 2017, equation 3.

    Raises:
        ConfigError: as `reliability`.
    """
    found = reliability(probabilities, truth, bins)
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(found.counts * gaps) / found.counts.sum())


def temper(log_probabilities: ArrayLike, temperature: float) -> Values:
    """Return the probabilities (N, K) at a temperature: above 1 flatter, below 1 sharper, the order kept.

    Args:
        log_probabilities: (N, K) natural logarithms; logits serve as well.
        temperature: above 0.

    Source: Guo C et al. ICML 2017, equation 9.

    Raises:
        ConfigError: no rows, values that are not finite, or a temperature that is not positive.
    """
    if not (np.isfinite(temperature) and temperature > 0.0):
        raise ConfigError(f"expected a temperature above 0, got {temperature:g}; 1 leaves all as it is")
    return _softmax(_from_top(log_probabilities) / temperature)


def fit_temperature(log_probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Return the temperature with the least negative log likelihood, within `TEMPERATURES`.

    The likelihood is concave in 1 / T, so its slope is halved down to the one point where it is flat. Where
    no temperature is better than 1, that is 1; where ever sharper or flatter is better, it is the bound.

    Args:
        log_probabilities: (N, K) of cases that were not trained on; logits serve as well.
        truth: (N,) labels.

    Source: Guo C et al. ICML 2017, section 4.2.

    Raises:
        ConfigError: no rows, values that are not finite, not one label a row, or a label that is no column.
    """
    below_top = _from_top(log_probabilities)
    true = _labels("true", truth, below_top.shape[1])
    _expect_pairs(len(below_top), len(true))
    own = below_top[np.arange(len(true)), true]

    def slope(temperature: float) -> float:
        """Return the slope of the mean negative log likelihood in 1 / T."""
        expected = (_softmax(below_top / temperature) * below_top).sum(axis=1)
        return float((expected - own).mean())

    if slope(1.0) == 0.0:
        return 1.0
    low, high = np.log(TEMPERATURES)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if slope(float(np.exp(middle))) < 0.0 else (middle, high)
    return float(np.exp((low + high) / 2.0))


def negative_log_likelihood(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean of -ln of the true interval's probability; inf where one of them is 0.

    Args:
        probabilities: (N, K), rows that sum to 1.
        truth: (N,) labels.

    Raises:
        ConfigError: as `reliability`.
    """
    chances, true = _chances(probabilities, truth)
    with np.errstate(divide="ignore"):
        return float(-np.log(chances[np.arange(len(true)), true]).mean())


def ranked_probability_score(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean over cases of the summed squared differences of cumulative distributions.

    It is 0 for certainty of the right interval, and K - 1 for certainty of the first where the last is true:
    a neighbour costs less than an interval far off.

    Args:
        probabilities: (N, K), rows that sum to 1, the intervals in rising order.
        truth: (N,) labels.

    Source: Murphy AH. A note on the ranked probability score. J Appl Meteorol 1971;10:155-156; not divided
    by K - 1.

    Raises:
        ConfigError: as `reliability`.
    """
    chances, true = _chances(probabilities, truth)
    reached = np.arange(chances.shape[1]) >= true[:, None]
    gaps = (chances.cumsum(axis=1) - reached)[:, :-1]
    return float(np.square(gaps).sum(axis=1).mean())


def near_border(ages: ArrayLike, edges: Sequence[float], months: float) -> NDArray[np.bool_]:
    """Return which ages (N,) lie at most `months` from a border between two intervals.

    Args:
        ages: (N,) in months.
        edges: (K + 1,) rising edges in months; the first and the last are no borders.
        months: 0 or more.

    Raises:
        ConfigError: no ages, one that is not finite, or edges that do not rise or have none between them.
    """
    return _border_distance(ages, edges) <= months


def border_errors(
    ages: ArrayLike,
    correct: ArrayLike,
    edges: Sequence[float],
    distances: Sequence[float] = BORDER_DISTANCES_MONTHS,
) -> tuple[BorderRow, ...]:
    """Return the share of wrong intervals by distance to the nearest border; empty rows are left out.

    Args:
        ages: (N,) true ages in months.
        correct: (N,) whether each age's interval was found.
        edges: as in `near_border`.
        distances: rising, in months; a row holds its upper bound, and the first its lower bound too. Ages
            outside all of them are in no row.

    Raises:
        ConfigError: as `near_border`; not one truth value for each age; or distances that do not rise.
    """
    distance, right = _border_distance(ages, edges), np.asarray(correct)
    if right.dtype != np.bool_ or right.shape != distance.shape:
        raise ConfigError(
            f"expected true or false for each of {len(distance)} ages, got {right.dtype} {right.shape}; "
            "compare predicted and true labels"
        )
    _expect_rising("distances", distances, 2)
    rows = []
    for low, high in pairwise(distances):
        inside = (distance > low) & (distance <= high)
        if low == distances[0]:
            inside |= distance == low
        if inside.any():
            rows.append(BorderRow(float(low), float(high), int(inside.sum()), wilson(~right[inside])))
    return tuple(rows)


def _border_distance(ages: ArrayLike, edges: Sequence[float]) -> Values:
    """Return the months from each age to the nearest inner edge, (N,)."""
    _expect_rising("interval edges", edges, 3)
    inner = np.asarray(edges[1:-1], dtype=np.float64)
    return np.asarray(np.abs(checked("age", ages)[:, None] - inner).min(axis=1))


def _expect_rising(name: str, values: Sequence[float], least: int) -> None:
    if len(values) < least or not all(low < high for low, high in pairwise(values)):
        raise ConfigError(
            f"expected {least} or more rising {name} in months, got {tuple(values)}; put them in order"
        )


def _labels(name: str, values: ArrayLike, count: int | None = None) -> Labels:
    """Return labels as (N,) int64, each from 0 up to but without `count`."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ConfigError(
            f"expected one or more {name} labels in a row, whole numbers, got {array.dtype} {array.shape}; "
            "number the intervals from 0"
        )
    if array.min() < 0 or (count is not None and array.max() >= count):
        span = "from 0 up" if count is None else f"from 0 to {count - 1}"
        raise ConfigError(
            f"expected {name} labels {span}, got {array.min()} to {array.max()}; "
            "number the intervals from 0 and leave out ages outside all of them"
        )
    return array.astype(np.int64)


def _table(name: str, values: ArrayLike) -> Values:
    """Return finite (N, K) float64."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ConfigError(f"expected {name} (cases, intervals), got shape {array.shape}; give a row a case")
    if not np.isfinite(array).all():
        missing = int((~np.isfinite(array)).any(axis=1).sum())
        raise ConfigError(
            f"{name} of {missing} of {len(array)} cases are not finite; remove those rows, and take "
            "logarithms of probabilities above 0 only"
        )
    return array


def _chances(probabilities: ArrayLike, truth: ArrayLike) -> tuple[Values, Labels]:
    """Return checked probabilities (N, K) and labels (N,)."""
    chances = _table("probabilities", probabilities)
    true = _labels("true", truth, chances.shape[1])
    _expect_pairs(len(chances), len(true))
    off = (chances.min(axis=1) < 0.0) | (np.abs(chances.sum(axis=1) - 1.0) > _SUM_TOLERANCE)
    if off.any():
        raise ConfigError(
            f"expected probabilities that sum to 1 in each row, {int(off.sum())} of {len(off)} rows do not; "
            "apply the softmax first"
        )
    return chances, true


def _expect_pairs(cases: int, labels: int) -> None:
    if cases != labels:
        raise ConfigError(f"expected a true label for each of {cases} cases, got {labels}; join them by id")


def _from_top(log_probabilities: ArrayLike) -> Values:
    """Return each row minus its greatest value: no exponential of it overflows, and equal ones are all 0."""
    table = _table("log-probabilities", log_probabilities)
    return np.asarray(table - table.max(axis=1, keepdims=True))


def _softmax(below_top: Values) -> Values:
    powers = np.exp(below_top)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
