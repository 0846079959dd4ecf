"""Fit how the methods' ages are joined, from predictions of images that the methods were not trained on.

Source: stacked regression (Breiman 1996), with weights that add up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError

Vector = NDArray[np.float64]


def fit_weights(predicted: Mapping[str, Vector], truth: Vector) -> dict[str, float]:
    """Fit the methods' weights by least squares; they add up to 1.

    Args:
        predicted: method -> (N,) out-of-fold ages in months.
        truth: (N,) reference ages in months.

    Raises:
        ConfigError: there are no more cases than methods.
    """
    first, *others = predicted
    if len(truth) <= len(predicted):
        raise ConfigError(f"too few hands ({len(truth)}) to join {len(predicted)} methods")
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
