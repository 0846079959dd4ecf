"""Fit how the methods' ages are joined, from predictions of images that the methods were not trained on.

Source: stacked regression (Breiman 1996), with weights of no negative sign that add up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError

Vector = NDArray[np.float64]


def fit_weights(predicted: Mapping[str, Vector], truth: Vector) -> dict[str, float]:
    """Fit the methods' weights by least squares; they add up to 1 and none is negative.

    A method that would weigh less than nothing is left out: every choice of methods is fitted, and of
    those without a negative weight the one of the least squared error is taken.

    Args:
        predicted: method -> (N,) out-of-fold ages in months; a handful of methods.
        truth: (N,) reference ages in months.

    Raises:
        ConfigError: there are no more cases than methods.
    """
    if len(truth) <= len(predicted):
        raise ConfigError(f"too few hands ({len(truth)}) to join {len(predicted)} methods")
    sizes = range(len(predicted), 0, -1)
    choices = [names for size in sizes for names in combinations(predicted, size)]
    fits = [_fit_affine({name: predicted[name] for name in names}, truth) for names in choices]
    allowed = [weights for weights in fits if min(weights.values()) >= 0]
    return min(allowed, key=lambda weights: float(np.sum((join(predicted, weights) - truth) ** 2)))


def _fit_affine(predicted: Mapping[str, Vector], truth: Vector) -> dict[str, float]:
    """Return the least-squares weights that add up to 1, of any sign."""
    first, *others = predicted
    if not others:
        return {first: 1.0}
    away = np.column_stack([predicted[name] - predicted[first] for name in others])
    found = np.linalg.lstsq(away, truth - predicted[first], rcond=None)[0].tolist()
    return {first: 1 - sum(found), **dict(zip(others, found, strict=True))}


def join(predicted: Mapping[str, Vector], weights: Mapping[str, float]) -> Vector:
    """Return the joined ages (N,) of methods' ages (N,)."""
    return np.asarray(np.sum([weight * predicted[name] for name, weight in weights.items()], axis=0))


def cross_fit(predicted: Mapping[str, Vector], truth: Vector, fold: NDArray[np.int64]) -> Vector:
    """Return joined ages (N,), those of every fold by weights fitted to the other folds."""
    joined = np.zeros(len(truth))
    for number in np.unique(fold):
        here, others = fold == number, fold != number
        weights = fit_weights({name: ages[others] for name, ages in predicted.items()}, truth[others])
        joined[here] = join({name: ages[here] for name, ages in predicted.items()}, weights)
    return joined
