"""Conformal intervals hold what they promise on new cases; the quantile is the finite-sample one."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.metrics.conformal import KNOTS_MONTHS, PRIOR_WEIGHT, ConformalScale, fit_line, fit_scale


def simulated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truths whose error grows with age: 5 months at 24, 15 at 192."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(24, 192, count)
    return predicted, predicted + rng.normal(0, np.interp(predicted, [24, 192], [5, 15]))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_new_cases_are_covered_as_promised(coverage: float) -> None:
    shares = []
    for seed in range(20):
        scale = fit_scale(*simulated(800, seed), coverage)
        predicted, truth = simulated(1000, 1000 + seed)
        shares.append(np.mean(np.abs(truth - predicted) <= scale.half_width(predicted)))
    # 20 fits of 800: the mean's standard error is under half a point.
    assert np.mean(shares) == pytest.approx(coverage, abs=0.015)


def test_the_width_follows_the_error_so_that_every_age_is_covered() -> None:
    scale = fit_scale(*simulated(4000, 0))
    young, old = scale.half_width(np.array([36.0, 180.0]))
    assert old > 1.5 * young
    predicted, truth = simulated(20_000, 1)
    inside = np.abs(truth - predicted) <= scale.half_width(predicted)
    for low, high in ((24, 66), (66, 108), (108, 150), (150, 192)):
        band = (predicted >= low) & (predicted < high)
        assert inside[band].mean() == pytest.approx(0.9, abs=0.04), (low, high)


@pytest.mark.parametrize(
    ("count", "coverage", "rank"),
    # ceil((n + 1) x coverage), Lei et al. 2018; the largest score where the sample is too small for it
    [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (20, 0.9, 19), (4, 0.5, 3), (5, 0.9, 5), (3, 0.5, 2)],
)
def test_the_quantile_is_the_finite_sample_one(count: int, coverage: float, rank: int) -> None:
    residuals = np.arange(1.0, count + 1)
    predicted = np.full(count, 100.0)
    signs = np.where(np.arange(count) % 2, 1, -1)
    scale = fit_scale(predicted, predicted + signs * residuals, coverage)
    # At one age the half width is the quantile of the residuals themselves, whatever the scaling.
    assert scale.half_width(np.array([100.0]))[0] == pytest.approx(rank)


def test_a_knot_far_from_all_cases_has_the_overall_width() -> None:
    predicted = np.full(50, 24.0)
    residuals = np.r_[np.full(25, 2.0), np.full(25, 6.0)]
    scale = fit_scale(predicted, predicted + residuals)
    assert scale.widths_months[-1] == pytest.approx(4.0)


def test_few_cases_are_drawn_towards_the_overall_width() -> None:
    predicted = np.r_[np.full(200, 120.0), 24.0]
    truth = predicted + np.r_[np.full(200, 10.0), 50.0]
    scale = fit_scale(predicted, truth)
    overall = (200 * 10 + 50) / 201
    assert scale.widths_months[0] == pytest.approx(
        (50 + PRIOR_WEIGHT * overall) / (1 + PRIOR_WEIGHT), rel=1e-3
    )


def test_half_widths_are_interpolated_between_knots_and_flat_outside() -> None:
    scale = ConformalScale(0.9, 2.0, (24.0, 48.0), (5.0, 7.0))
    np.testing.assert_allclose(
        scale.half_width(np.array([0.0, 24.0, 36.0, 48.0, 300.0])), [10, 10, 12, 14, 14]
    )


def test_a_fit_is_kept_as_plain_numbers() -> None:
    scale = fit_scale(*simulated(100, 0))
    assert scale.ages_months == KNOTS_MONTHS and len(scale.widths_months) == len(KNOTS_MONTHS)
    assert all(type(value) is float for value in (scale.quantile, *scale.widths_months))


def test_a_line_is_found() -> None:
    predicted = np.array([10.0, 20.0, 40.0])
    assert fit_line(predicted, 0.5 * predicted + 7) == pytest.approx((0.5, 7.0))
