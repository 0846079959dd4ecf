"""Fit how the methods' ages are joined, from predictions of images that the methods were not trained on.

Source: stacked regression (Breiman 1996), a linear one with an intercept, by sex.
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
    """Weights of the methods' ages by sex, and what is added, in months."""

    weights: Mapping[str, Mapping[str, float]]
    offsets_months: Mapping[str, float]

    def ages(self, predicted: Mapping[str, Vector], sex: NDArray[np.str_]) -> Vector:
        """Return the joined ages (N,) of methods' ages (N,)."""
        joined = np.zeros(len(sex))
        for name in Sex:
            here = sex == name
            weighed = [weight * predicted[method][here] for method, weight in self.weights[name].items()]
            joined[here] = np.sum(weighed, axis=0) + self.offsets_months[name]
        return joined


def fit_combination(predicted: Mapping[str, Vector], truth: Vector, sex: NDArray[np.str_]) -> Combination:
    """Fit by least squares, a sex at a time.

    Args:
        predicted: method -> (N,) out-of-fold ages in months.
        truth: (N,) reference ages in months.
        sex: (N,) `female` or `male`.

    Raises:
        ConfigError: a sex has fewer cases than there are numbers to fit.
    """
    weights, offsets = {}, {}
    for name in Sex:
        here = sex == name
        if here.sum() <= len(predicted) + 1:
            raise ConfigError(f"too few {name} hands ({here.sum()}) to join {len(predicted)} methods")
        columns = np.column_stack([*(ages[here] for ages in predicted.values()), np.ones(here.sum())])
        *found, offset = np.linalg.lstsq(columns, truth[here], rcond=None)[0]
        weights[str(name)] = dict(zip(predicted, map(float, found), strict=True))
        offsets[str(name)] = float(offset)
    return Combination(weights, offsets)


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
