"""Fit how the methods' ages are joined, from predictions of images that the methods were not trained on.

Source: stacked regression (Breiman 1996), with weights that add up to 1 and an offset for each sex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Combination:
    """Weights of the methods' ages, which add up to 1, and what is added for a sex, in months."""

    weights: Mapping[str, float]
    offsets_months: Mapping[str, float]

    def ages(self, predicted: Mapping[str, Vector], sex: NDArray[np.str_]) -> Vector:
        """Return the joined ages (N,) of methods' ages (N,)."""
        weighed = [weight * predicted[method] for method, weight in self.weights.items()]
        return np.asarray(np.sum(weighed, axis=0) + [self.offsets_months[name] for name in sex])


def fit_combination(predicted: Mapping[str, Vector], truth: Vector, sex: NDArray[np.str_]) -> Combination:
    """Fit by least squares.

    Args:
        predicted: method -> (N,) out-of-fold ages in months.
        truth: (N,) reference ages in months.
        sex: (N,) `female` or `male`.

    Raises:
        ConfigError: a sex has too few cases.
    """
    first, *others = predicted
    intercepts = [sex == name for name in Sex]
    for name, here in zip(Sex, intercepts, strict=True):
        if here.sum() <= len(predicted):
            raise ConfigError(f"too few {name} hands ({here.sum()}) to join {len(predicted)} methods")
    away = [predicted[name] - predicted[first] for name in others]
    columns = np.column_stack([*away, *intercepts]).astype(np.float64)
    found = np.linalg.lstsq(columns, truth - predicted[first], rcond=None)[0].tolist()
    weights = dict(zip(others, found, strict=False))
    offsets = dict(zip(map(str, Sex), found[len(others) :], strict=True))
    return Combination({first: 1 - sum(weights.values()), **weights}, offsets)


def cross_fit(
    predicted: Mapping[str, Vector], truth: Vector, sex: NDArray[np.str_], fold: NDArray[np.int64]
) -> Vector:
    """Return joined ages (N,), those of every fold by weights fitted to the other folds."""
    joined = np.zeros(len(truth))
    for number in np.unique(fold):
        here, others = fold == number, fold != number
        fitted = fit_combination({n: a[others] for n, a in predicted.items()}, truth[others], sex[others])
        joined[here] = fitted.ages({n: a[here] for n, a in predicted.items()}, sex[here])
    return joined
