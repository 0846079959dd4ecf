"""Percentile bootstrap intervals, computed in batches, for one method or the difference of two.

Source: Efron B, Tibshirani RJ. An Introduction to the Bootstrap. Chapman & Hall, 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""Maps resamples (B, N) or (B, N, K) to (B,): one number a resample."""

_BATCH_VALUES = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the interval that holds its true value with probability `level`."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.estimate:.2f} ({self.low:.2f} to {self.high:.2f})"


def mean(samples: Values) -> Values:
    """Return each resample's mean."""
    return np.asarray(samples.mean(axis=1))


def mean_absolute(samples: Values) -> Values:
    """Return each resample's mean absolute value: of errors, the MAE."""
    return np.asarray(np.abs(samples).mean(axis=1))


def root_mean_square(samples: Values) -> Values:
    """Return each resample's root mean square: of errors, the RMSE."""
    return np.asarray(np.sqrt(np.square(samples).mean(axis=1)))


def median_absolute(samples: Values) -> Values:
    """Return each resample's median absolute value."""
    return np.asarray(np.median(np.abs(samples), axis=1))


def rank_correlation(samples: Values) -> Values:
    """Return Spearman's correlation of each resample's pairs (B, N, 2); nan where one of the two is constant.

    It needs scipy, which comes with the extra `train`.
    """
    from scipy.stats import rankdata

    ranks = rankdata(samples, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(np.square(ranks).sum(axis=1)).prod(axis=1)
        return np.asarray(ranks.prod(axis=2).sum(axis=1) / size)


def rank_correlation_of(first: ArrayLike, second: ArrayLike) -> Interval | None:
    """Return Spearman's correlation of (N,) and (N,) with its interval, without pairs that are not finite.

    It is None where one of the two does not vary.
    """
    pairs = np.column_stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if any(len(np.unique(values)) < 2 for values in pairs.T):
        return None
    return bootstrap_interval(pairs, rank_correlation)


def share_within(months: float) -> Statistic:
    """Return a statistic: the share of absolute values of at most `months`."""

    def share(samples: Values) -> Values:
        return np.asarray((np.abs(samples) <= months).mean(axis=1))

    return share


def bootstrap_interval(
    values: ArrayLike, statistic: Statistic = mean, *, n: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Return the statistic of the values with its percentile interval over `n` resamples of the rows.

    A resample for which the statistic is not defined (nan) is left out.

    Args:
        values: (N,) numbers or (N, K) tuples that stay together, such as (predicted, reference) pairs.
        statistic: maps (B, N) or (B, N, K) to (B,).
        n: how many resamples.
        seed: the same seed gives the same interval.
        level: the share of resampled statistics inside, between 0 and 1.

    Raises:
        ConfigError: no values, values that are not finite, or `n` or `level` out of range.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0 or not np.isfinite(array).all():
        raise ConfigError(f"expected finite values, (N,) or (N, K), got {array.shape}; remove missing rows")
    if n < 1 or not 0.0 < level < 1.0:
        raise ConfigError(f"expected at least 1 resample and a level between 0 and 1, got {n} and {level:g}")
    drawn = _resampled(array, statistic, n, np.random.default_rng(seed))
    low, high = np.nanquantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(statistic(array[None])[0]), float(low), float(high), level)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic = mean_absolute,
    *,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return statistic(first) - statistic(second) of two methods' errors on the same images.

    Both are resampled together, so what makes an image hard for both cancels out. An interval
    below 0 says that `first` is better.

    Raises:
        ConfigError: not one error of each method for every image; also as `bootstrap_interval`.
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape:
        raise ConfigError(f"expected two errors an image, got {left.shape} and {right.shape}; join by id")

    def difference(pairs: Values) -> Values:
        return statistic(pairs[..., 0]) - statistic(pairs[..., 1])

    return bootstrap_interval(np.column_stack([left, right]), difference, n=n, seed=seed, level=level)


def _resampled(array: Values, statistic: Statistic, n: int, rng: np.random.Generator) -> Values:
    """Return the statistic of `n` resamples, in batches that keep memory small; (n,)."""
    batch = max(1, min(n, _BATCH_VALUES // array.size))
    parts = []
    for start in range(0, n, batch):
        rows = rng.integers(0, len(array), size=(min(batch, n - start), len(array)))
        parts.append(statistic(array[rows]))
    return np.concatenate(parts)
