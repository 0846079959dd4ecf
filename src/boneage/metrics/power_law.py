"""How an error falls with the number of training images: a power law above a floor, and what it forecasts.

Source: Hestness J et al. Deep learning scaling is predictable, empirically. arXiv:1712.00409, section 2: the
error of a trained network falls as a power of the training size towards a floor that no more data lower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import Interval

Values = NDArray[np.float64]

LEAST_SIZES = 3
"""Sizes under which floor, scale and exponent cannot be told apart, so that nothing is forecast."""

EXPONENTS = (0.05, 1.0)
"""The slowest and the fastest fall that is tried; the source measures 0.07 to 0.35, theory says 0.5 to 1."""

_STEPS = 96


@dataclass(frozen=True, slots=True, eq=False)
class PowerLaw:
    """`floor + scale * size ** -exponent`, B curves at once.

    Args:
        floor: (B,) error that is left with endless data, never negative.
        scale: (B,) never negative; 0 where the error does not fall.
        exponent: (B,) within `EXPONENTS`.
    """

    floor: Values
    scale: Values
    exponent: Values

    def at(self, size: float) -> Values:
        """Return the error (B,) at a training size."""
        return np.asarray(self.floor + self.scale * size**-self.exponent, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Curve:
    """What some trainings say together.

    Args:
        mae: training size -> mean absolute error on the held-out images, over the seeds.
        gain: training size -> its MAE less that of the size before; the first size has none.
        seeds: training size -> trainings that it rests on.
        floor: of the fitted power law; None where there are fewer than `LEAST_SIZES` sizes.
        exponent: of it.
        forecast: training size -> MAE by that law.
        line: training sizes, and the law's MAE at each, for drawing.
    """

    mae: Mapping[int, Interval]
    gain: Mapping[int, Interval]
    seeds: Mapping[int, int]
    floor: Interval | None
    exponent: Interval | None
    forecast: Mapping[int, Interval]
    line: tuple[tuple[float, Interval], ...] = ()


def fit_power_law(sizes: ArrayLike, errors: ArrayLike) -> PowerLaw:
    """Return the power laws nearest by least squares, over a grid of exponents.

    Args:
        sizes: (K,) training sizes.
        errors: (B, K) errors of B curves at those sizes.

    Raises:
        ConfigError: fewer than `LEAST_SIZES` sizes, one that is not positive, or an error that is not finite.
    """
    n, y = np.asarray(sizes, dtype=np.float64), np.atleast_2d(np.asarray(errors, dtype=np.float64))
    if n.ndim != 1 or y.shape[1:] != n.shape or len(np.unique(n)) < LEAST_SIZES or n.min() <= 0:
        raise ConfigError(
            f"a learning curve is fitted to {LEAST_SIZES} training sizes or more, with an error at each; "
            f"got {len(np.unique(n))}: train more sizes"
        )
    if not np.isfinite(y).all():
        raise ConfigError("a learning curve needs finite errors: leave out the images without a prediction")
    best = np.full(len(y), np.inf)
    floor, scale, exponent = np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y))
    for tried in np.linspace(*EXPONENTS, _STEPS):
        x = n**-tried
        level, slope = _nearest_line(x, y)
        missed = np.square(level[:, None] + slope[:, None] * x - y).sum(axis=1)
        better = missed < best - 1e-12
        best[better], exponent[better] = missed[better], tried
        floor[better], scale[better] = level[better], slope[better]
    return PowerLaw(floor, scale, exponent)


def _nearest_line(x: Values, y: Values) -> tuple[Values, Values]:
    """Return intercepts and slopes (B,) of y (B, K) over x (K,), by least squares, neither negative."""
    centred = x - x.mean()
    slope = np.maximum(y @ centred / np.square(centred).sum(), 0.0)
    level = y.mean(axis=1) - slope * x.mean()
    through_zero = y @ x / np.square(x).sum()
    below = level < 0.0
    return np.where(below, 0.0, level), np.where(below, through_zero, slope)


def learning_curve(
    errors: Mapping[int, Sequence[ArrayLike]],
    forecast_sizes: Sequence[int] = (),
    *,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Curve:
    """Return the curve of some trainings, with intervals by a bootstrap of the seeds and the held-out images.

    Where all sizes have the same seeds, a resample takes the same of them at every size, as their subsets are
    nested; images are the same at every size.

    Args:
        errors: training size -> for each seed, the errors (N,) in months of the same N held-out images.
        forecast_sizes: training sizes to forecast.
        n: how many resamples.
        seed: the same seed gives the same intervals.
        level: of the intervals.

    Raises:
        ConfigError: no size, a size without a seed, or not the same number of images everywhere.
    """
    sizes = sorted(errors)
    absolute = [np.abs(np.atleast_2d(np.asarray(errors[size], dtype=np.float64))) for size in sizes]
    counts = {each.shape[-1] for each in absolute}
    if not sizes or len(counts) != 1 or min(counts) == 0 or min(len(each) for each in absolute) == 0:
        raise ConfigError(
            "a learning curve needs, for every size and seed, errors of the same held-out images"
        )
    means = np.array([each.mean() for each in absolute])
    drawn = _resampled(absolute, n, np.random.default_rng(seed))

    def interval(estimate: float, values: Values) -> Interval:
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(estimate), float(low), float(high), level)

    mae = {size: interval(means[k], drawn[:, k]) for k, size in enumerate(sizes)}
    gain = {
        size: interval(means[k] - means[k - 1], drawn[:, k] - drawn[:, k - 1])
        for k, size in enumerate(sizes)
        if k
    }
    seeds = {size: len(each) for size, each in zip(sizes, absolute, strict=True)}
    if len(sizes) < LEAST_SIZES:
        return Curve(mae, gain, seeds, None, None, {})
    law, laws = fit_power_law(sizes, means[None]), fit_power_law(sizes, drawn)
    along = np.geomspace(sizes[0], max([*sizes, *forecast_sizes]), 40)
    return Curve(
        mae,
        gain,
        seeds,
        interval(law.floor[0], laws.floor),
        interval(law.exponent[0], laws.exponent),
        {size: interval(law.at(size)[0], laws.at(size)) for size in forecast_sizes},
        tuple((float(size), interval(law.at(size)[0], laws.at(size))) for size in along),
    )


def _resampled(absolute: Sequence[Values], n: int, rng: np.random.Generator) -> Values:
    """Return the MAE (n, K) of resampled seeds and images; each of `absolute` is (seeds, images)."""
    images = absolute[0].shape[1]
    most = max(len(each) for each in absolute)
    result = np.empty((n, len(absolute)))
    for row in range(n):
        weights = np.bincount(rng.integers(0, images, images), minlength=images) / images
        places = rng.random(most)
        for k, each in enumerate(absolute):
            chosen = (places[: len(each)] * len(each)).astype(int)
            result[row, k] = (each[chosen] @ weights).mean()
    return result
