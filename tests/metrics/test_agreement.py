"""Agreement against printed examples and independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from boneage.core.errors import ConfigError
from boneage.metrics.agreement import bland_altman, cohen_kappa, deming, student_quantile

# Bland & Altman, Lancet 1986, table 1: peak flow by Wright meter and mini meter, first readings.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_bland_and_altman_s_own_example() -> None:
    found = bland_altman(WRIGHT, MINI)
    assert found.count == 17
    assert found.bias.estimate == pytest.approx(-2.1, abs=0.05)
    assert found.deviation == pytest.approx(38.8, abs=0.05)
    # The paper uses 2 for 1.96 (limits -79.7 and 75.5) and t = 2.12: bias -22.0 to 17.8.
    assert found.lower.estimate == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.1)
    assert found.upper.estimate == pytest.approx(-2.1 + 1.96 * 38.8, abs=0.1)
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.15)
    half = stats.t.ppf(0.975, 16) * 38.765 * np.sqrt(1 / 17 + 1.96**2 / 32)
    assert found.upper.high - found.upper.estimate == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize("freedom", [2, 3, 4, 10, 16, 100, 1225])
@pytest.mark.parametrize("probability", [0.05, 0.9, 0.975, 0.995])
def test_student_s_quantiles(freedom: int, probability: float) -> None:
    exact = stats.t.ppf(probability, freedom)
    tolerance = 0.001 if freedom >= 10 else 0.03 * abs(exact) if probability == 0.995 else 0.01 * abs(exact)
    assert student_quantile(probability, freedom) == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_deming_equals_total_least_squares(ratio: float) -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 200, 120)
    x, y = true + rng.normal(0, 6, 120), 4 + 0.95 * true + rng.normal(0, 6 * np.sqrt(ratio), 120)
    # Where both axes err alike, the line runs along the first principal axis of the cloud.
    alike = np.column_stack([x - x.mean(), (y - y.mean()) / np.sqrt(ratio)])
    along = np.linalg.svd(alike, full_matrices=False)[2][0]
    slope = along[1] / along[0] * np.sqrt(ratio)
    found = deming(x, y, ratio=ratio, n=500)
    assert found.slope.estimate == pytest.approx(slope)
    assert found.intercept.estimate == pytest.approx(y.mean() - slope * x.mean())
    assert found.slope.low < 0.95 < found.slope.high
    assert found.intercept.low < 4 < found.intercept.high


def test_deming_is_symmetric_and_exact_on_a_line() -> None:
    x = np.arange(10.0)
    line = deming(x, 3 + 2 * x, n=50)
    assert (line.slope.estimate, line.intercept.estimate) == pytest.approx((2, 3))
    y = x + np.array([1, -1] * 5)
    assert deming(x, y, n=10).slope.estimate == pytest.approx(1 / deming(y, x, n=10).slope.estimate)
    assert deming(x, -x, n=50).slope.estimate == pytest.approx(-1)


def test_deming_survives_resamples_without_a_line() -> None:
    found = deming([1.0, 2.0, 3.0], [1.1, 2.0, 2.9], n=500)
    assert np.isfinite([found.slope.low, found.slope.high, found.intercept.low, found.intercept.high]).all()


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_equals_scikit_learn(weights: str) -> None:
    rng = np.random.default_rng(5)
    first = rng.integers(1, 9, 200)
    second = np.clip(first + rng.integers(-1, 2, 200), 1, 9)
    expected = cohen_kappa_score(
        first, second, labels=list(range(0, 10)), weights=None if weights == "none" else weights
    )
    assert cohen_kappa(first, second, labels=range(10), weights=weights) == pytest.approx(expected)  # type: ignore[arg-type]


def test_kappa_worked_out_by_hand() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: observed 0.7, by chance 0.5.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == 1.0
    assert np.isnan(cohen_kappa(["a", "a"], ["a", "a"]))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3 pairs"):
        bland_altman([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="no covariance"):
        deming([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="positive ratio"):
        deming([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ratio=0.0)
    with pytest.raises(ConfigError, match="two grades an image"):
        cohen_kappa([1, 2], [1])
    with pytest.raises(ConfigError, match="got 7 too"):
        cohen_kappa([1, 7], [1, 2], labels=[1, 2])
