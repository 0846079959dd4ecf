"""Agreement of two readings: Bland-Altman limits, Deming regression, Cohen's kappa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import Interval, bootstrap_interval
from boneage.metrics.regression import Values, checked, errors


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Bias and limits of agreement of first minus second, each with its interval, and the differences' SD."""

    bias: Interval
    lower: Interval
    upper: Interval
    deviation: float
    count: int


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line second = intercept + slope * first, each with its interval."""

    slope: Interval
    intercept: Interval


def bland_altman(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> BlandAltman:
    """Return the bias and the 95% limits of agreement of first - second, with exact-t intervals.

    Source: Bland JM, Altman DG. Lancet 1986;1:307-310; the limits' standard error is that of
    Stat Methods Med Res 1999;8:135-160, SD * sqrt(1/n + 1.96^2 / (2 (n - 1))).

    Raises:
        ConfigError: fewer than three pairs; also as `regression.errors`.
    """
    difference = errors(first, second)
    count = len(difference)
    if count < 3:
        raise ConfigError(f"expected at least 3 pairs for limits of agreement, got {count}; read more images")
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    wide = NormalDist().inv_cdf(0.975)
    quantile = student_quantile(0.5 + level / 2.0, count - 1)
    bias_half = quantile * deviation / np.sqrt(count)
    limit_half = quantile * deviation * np.sqrt(1.0 / count + wide**2 / (2.0 * (count - 1)))
    return BlandAltman(
        _around(bias, bias_half, level),
        _around(bias - wide * deviation, limit_half, level),
        _around(bias + wide * deviation, limit_half, level),
        deviation,
        count,
    )


def deming(
    first: ArrayLike,
    second: ArrayLike,
    *,
    ratio: float = 1.0,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Line:
    """Return the line through readings that both have errors, with bootstrap intervals.

    Args:
        first: (N,) readings on the horizontal axis, say the reference.
        second: (N,) readings on the vertical axis, say the prediction.
        ratio: variance of the second's errors over that of the first's; 1 is orthogonal regression.
        n: how many resamples.
        seed: of the resamples.
        level: of the intervals.

    Source: Linnet K. Clin Chem 1993;39:424-432, with the ratio on the second axis (`delta`).

    Raises:
        ConfigError: fewer than three pairs, a ratio that is not positive, readings without covariance.
    """
    difference = errors(first, second)
    pairs = np.column_stack([checked("first", first), checked("second", second)])
    if len(difference) < 3 or ratio <= 0.0:
        raise ConfigError(
            f"expected 3 pairs or more and a positive ratio, got {len(difference)} and {ratio:g}; add images"
        )
    if _moments(pairs[None])[4][0] == 0.0:
        raise ConfigError(
            "expected readings that vary together, got no covariance; a line cannot be fitted to them"
        )

    def slope(samples: Values) -> Values:
        return _slope(samples, ratio)

    def intercept(samples: Values) -> Values:
        mean_x, mean_y, *_ = _moments(samples)
        return mean_y - _slope(samples, ratio) * mean_x

    # The same seed resamples the same rows, so both intervals rest on the same lines.
    return Line(
        bootstrap_interval(pairs, slope, n=n, seed=seed, level=level),
        bootstrap_interval(pairs, intercept, n=n, seed=seed, level=level),
    )


def cohen_kappa(
    first: Sequence[object] | NDArray[np.generic],
    second: Sequence[object] | NDArray[np.generic],
    *,
    labels: Sequence[object] | None = None,
    weights: Literal["none", "linear", "quadratic"] = "none",
) -> float:
    """Return Cohen's kappa of two readers' grades; nan where both give one and the same grade throughout.

    Args:
        first: (N,) one reader's grades.
        second: (N,) the other reader's.
        labels: all grades in their order; without it, those that occur, sorted. Give it where a grade that
            occurs nowhere still counts as a step of the weights.
        weights: what a disagreement costs, by the number of steps between the grades.

    Source: Cohen J. Psychol Bull 1968;70:213-220.

    Raises:
        ConfigError: no grades, not one of each reader for every image, or a grade that is no label.
    """
    left, right = np.asarray(first), np.asarray(second)
    if left.ndim != 1 or left.shape != right.shape or left.size == 0:
        raise ConfigError(f"expected two grades an image, not {left.shape} and {right.shape}; join by id")
    order = list(labels) if labels is not None else np.unique(np.concatenate([left, right])).tolist()
    rank = {label: number for number, label in enumerate(order)}
    strange = {*left.tolist(), *right.tolist()} - rank.keys()
    if strange:
        raise ConfigError(
            f"expected grades out of {order}, got {min(strange, key=str)!r} too; add it to the labels"
        )
    observed = np.zeros((len(order), len(order)))
    np.add.at(
        observed, ([rank[v] for v in left.tolist()], [rank[v] for v in right.tolist()]), 1.0 / left.size
    )
    steps = np.abs(np.subtract.outer(np.arange(len(order)), np.arange(len(order)))).astype(np.float64)
    cost = {"none": (steps > 0).astype(np.float64), "linear": steps, "quadratic": steps**2}[weights]
    by_chance = float((cost * np.outer(observed.sum(axis=1), observed.sum(axis=0))).sum())
    return float("nan") if by_chance == 0.0 else 1.0 - float((cost * observed).sum()) / by_chance


def student_quantile(probability: float, freedom: int) -> float:
    """Return Student's t quantile: within 1% from 3 degrees of freedom on, within 0.001 from 10 on.

    Source: Abramowitz M, Stegun IA. Handbook of Mathematical Functions, 26.7.5.
    """
    if freedom == 2:
        tail = 4.0 * probability * (1.0 - probability)
        return float(2.0 * (probability - 0.5) * np.sqrt(2.0 / tail))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def _around(estimate: float, half: float, level: float) -> Interval:
    return Interval(estimate, float(estimate - half), float(estimate + half), level)


def _moments(samples: Values) -> tuple[Values, Values, Values, Values, Values]:
    """Return means, variances and the covariance of pairs (B, N, 2), each (B,)."""
    x, y = samples[..., 0], samples[..., 1]
    mean_x, mean_y = x.mean(axis=1), y.mean(axis=1)
    dx, dy = x - mean_x[:, None], y - mean_y[:, None]
    return mean_x, mean_y, (dx * dx).mean(axis=1), (dy * dy).mean(axis=1), (dx * dy).mean(axis=1)


def _slope(samples: Values, ratio: float) -> Values:
    _, _, xx, yy, xy = _moments(samples)
    lean = yy - ratio * xx
    # A resample that drew one image only has no line; it must not pass for an estimate.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((lean + np.sqrt(lean**2 + 4.0 * ratio * xy**2)) / (2.0 * xy))
