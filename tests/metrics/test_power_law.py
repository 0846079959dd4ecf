"""Learning curves: a known law is found again, and nothing is forecast from too few sizes."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.metrics.power_law import EXPONENTS, fit_power_law, learning_curve

SIZES = (200, 400, 800, 981)


def law(size: float, floor: float = 4.0, scale: float = 120.0, exponent: float = 0.5) -> float:
    return floor + scale * size**-exponent


def drawn_errors(seeds: int = 3, images: int = 400) -> dict[int, list[np.ndarray]]:
    """Errors whose mean absolute value follows the law, images of their own difficulty."""
    rng = np.random.default_rng(0)
    hardness = rng.exponential(1.0, images)
    return {
        size: [hardness * law(size) * rng.uniform(0.9, 1.1, images) for _ in range(seeds)] for size in SIZES
    }


def test_the_law_that_made_the_errors_is_found_again() -> None:
    found = fit_power_law(SIZES, [[law(size) for size in SIZES]])
    assert found.floor[0] == pytest.approx(4.0, abs=0.05)
    assert found.exponent[0] == pytest.approx(0.5, abs=0.01)
    assert found.at(12611)[0] == pytest.approx(law(12611), abs=0.02)


@pytest.mark.parametrize(
    ("errors", "floor", "at_large"),
    [([9.0, 9.0, 9.0, 9.0], 9.0, 9.0), ([8.0, 9.0, 10.0, 11.0], 9.5, 9.5)],
    ids=["flat", "rising"],
)
def test_an_error_that_does_not_fall_is_forecast_not_to_fall(
    errors: list[float], floor: float, at_large: float
) -> None:
    found = fit_power_law(SIZES, [errors])
    assert (found.floor[0], found.at(1e6)[0]) == pytest.approx((floor, at_large))


def test_constants_stay_within_reason_for_any_errors() -> None:
    errors = np.random.default_rng(1).uniform(1, 30, size=(200, len(SIZES)))
    found = fit_power_law(SIZES, errors)
    assert (found.floor >= 0).all() and (found.scale >= 0).all()
    assert (found.exponent >= EXPONENTS[0]).all() and (found.exponent <= EXPONENTS[1]).all()
    assert (found.at(12611) <= found.at(981) + 1e-9).all()


def test_the_interval_of_the_forecast_holds_the_truth_and_is_wider_than_that_of_a_size_trained() -> None:
    errors = drawn_errors()
    curve = learning_curve(errors, (12611,), n=300)
    truth = law(12611) * np.mean([np.abs(errors[size]).mean() / law(size) for size in SIZES])
    forecast, trained = curve.forecast[12611], curve.mae[981]
    assert forecast.low <= truth <= forecast.high
    assert (forecast.high - forecast.low) / forecast.estimate > (
        trained.high - trained.low
    ) / trained.estimate
    assert curve.seeds == dict.fromkeys(SIZES, 3)
    assert curve.gain[400].high < 0 < curve.mae[400].low
    assert 200 not in curve.gain


def test_two_sizes_are_measured_but_nothing_is_forecast() -> None:
    errors = {size: each for size, each in drawn_errors().items() if size < 800}
    curve = learning_curve(errors, (12611,), n=50)
    assert list(curve.mae) == [200, 400]
    assert curve.floor is None and curve.exponent is None and not curve.forecast and not curve.line


def test_sizes_may_have_different_numbers_of_seeds() -> None:
    errors = drawn_errors()
    errors[981] = errors[981][:1]
    assert learning_curve(errors, n=50).seeds[981] == 1


def test_the_same_seed_gives_the_same_intervals() -> None:
    errors = drawn_errors(1, 50)
    assert learning_curve(errors, (5000,), n=50).forecast == learning_curve(errors, (5000,), n=50).forecast


@pytest.mark.parametrize("errors", [{}, {200: []}, {200: [[1.0]], 400: [[1.0, 2.0]]}])
def test_errors_of_other_images_are_refused(errors: dict[int, list[list[float]]]) -> None:
    with pytest.raises(ConfigError, match="same held-out images"):
        learning_curve(errors, n=5)


@pytest.mark.parametrize(
    ("sizes", "errors"), [((1, 2), [1.0, 2.0]), ((1, 2, 3), [1.0, np.nan, 1.0]), ((0, 1, 2), [1.0, 1.0, 1.0])]
)
def test_what_cannot_be_fitted_is_refused(sizes: tuple[int, ...], errors: list[float]) -> None:
    with pytest.raises(ConfigError, match="learning curve"):
        fit_power_law(sizes, [errors])
