"""Joining methods: the fit finds known weights, and no fold's truth weighs its own ages."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.inference.combine import cross_fit, fit_weights, join


def simulated(count: int = 400) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(24, 200, count)
    predicted = {name: truth + rng.normal(0, spread, count) for name, spread in (("a", 8.0), ("b", 6.0))}
    return predicted, truth, np.arange(count) % 5


def test_known_weights_are_found() -> None:
    predicted, _, _ = simulated()
    truth = 0.3 * predicted["a"] + 0.7 * predicted["b"]
    weights = fit_weights(predicted, truth)
    assert weights == pytest.approx({"a": 0.3, "b": 0.7})
    np.testing.assert_allclose(join(predicted, weights), truth)


def test_a_method_that_would_weigh_less_than_nothing_is_left_out() -> None:
    predicted, truth, fold = simulated()
    predicted["worse"] = predicted["b"] + 3 * (predicted["b"] - truth)
    free = np.linalg.lstsq(
        np.column_stack([predicted[name] - predicted["b"] for name in ("a", "worse")]),
        truth - predicted["b"],
        rcond=None,
    )[0]
    assert free[1] < -0.1
    weights = fit_weights(predicted, truth)
    assert weights == fit_weights({name: predicted[name] for name in ("a", "b")}, truth)
    joined = cross_fit(predicted, truth, fold)
    assert np.abs(joined - truth).mean() < np.abs(predicted["b"] - truth).mean()


@pytest.mark.parametrize("seed", range(6))
def test_no_weights_on_a_grid_are_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(24, 200, 60)
    shared = rng.normal(0, 8, 60)
    predicted = {name: truth + rng.uniform(0, 2) * shared + rng.normal(0, 4, 60) for name in "abc"}
    weights = fit_weights(predicted, truth)
    assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) >= 0

    def error(shares: dict[str, float]) -> float:
        return float(np.sum((join(predicted, shares) - truth) ** 2))

    steps = np.linspace(0, 1, 41)
    grid = [dict(zip("abc", (a, b, 1 - a - b), strict=True)) for a in steps for b in steps if a + b <= 1]
    assert error(weights) <= min(map(error, grid)) + 1e-6


def test_the_joint_is_better_than_its_parts() -> None:
    predicted, truth, fold = simulated()
    joined = np.abs(cross_fit(predicted, truth, fold) - truth).mean()
    assert joined < min(np.abs(ages - truth).mean() for ages in predicted.values()) - 0.3


def test_a_folds_own_truth_never_weighs_it() -> None:
    predicted, truth, fold = simulated()
    plain = cross_fit(predicted, truth, fold)
    rng = np.random.default_rng(1)
    for number in range(5):
        here = fold == number
        moved = truth + np.where(here, 3 * (predicted["a"] - truth) + rng.normal(0, 1, len(truth)), 0)
        other = cross_fit(predicted, moved, fold)
        np.testing.assert_array_equal(other[here], plain[here])
        assert np.abs(other[~here] - plain[~here]).max() > 0.1


def test_too_few_hands_are_said() -> None:
    predicted, truth, _ = simulated(2)
    with pytest.raises(ConfigError, match="too few hands"):
        fit_weights(predicted, truth)
