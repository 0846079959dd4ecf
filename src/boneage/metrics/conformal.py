"""Conformal intervals and linear corrections fitted to out-of-fold predictions.

Source: split conformal prediction with locally scaled residuals (Vovk, Gammerman and Shafer 2005;
Lei et al. 2018, section 5.2); residuals from cross-validation as in Barber et al. 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

KNOTS_MONTHS = (24.0, 48.0, 72.0, 96.0, 120.0, 144.0, 168.0, 192.0)
BANDWIDTH_MONTHS = 18.0
PRIOR_WEIGHT = 20.0


@dataclass(frozen=True)
class ConformalScale:
    """A fitted interval: half width = quantile times the typical residual at the predicted age.

    Args:
        coverage: share of cases that the interval is to hold.
        quantile: of the scaled residuals.
        ages_months: knots.
        widths_months: mean absolute residual at each knot.
    """

    coverage: float
    quantile: float
    ages_months: tuple[float, ...]
    widths_months: tuple[float, ...]

    def half_width(self, predicted: Vector) -> Vector:
        """Return the half widths (N,) in months at predicted ages (N,)."""
        return self.quantile * np.interp(predicted, self.ages_months, self.widths_months)


def fit_scale(predicted: Vector, truth: Vector, coverage: float = 0.9) -> ConformalScale:
    """Fit a conformal interval to predictions of cases that were not trained on.

    The typical residual at a knot is a Gaussian-weighted mean of absolute residuals, drawn towards
    the overall mean where cases are few.

    Args:
        predicted: (N,) months.
        truth: (N,) months.
        coverage: between 0 and 1.
    """
    residuals = np.abs(truth - predicted)
    overall = float(residuals.mean())
    widths = []
    for knot in KNOTS_MONTHS:
        weights = np.exp(-0.5 * ((predicted - knot) / BANDWIDTH_MONTHS) ** 2)
        widths.append(float((weights @ residuals + PRIOR_WEIGHT * overall) / (weights.sum() + PRIOR_WEIGHT)))
    scores = np.sort(residuals / np.interp(predicted, KNOTS_MONTHS, widths))
    rank = min(len(scores), math.ceil((len(scores) + 1) * coverage))
    return ConformalScale(coverage, float(scores[rank - 1]), KNOTS_MONTHS, tuple(widths))


def fit_line(predicted: Vector, truth: Vector) -> tuple[float, float]:
    """Return slope and offset of the least-squares line from predictions to truth."""
    slope, offset = np.polyfit(predicted, truth, 1)
    return float(slope), float(offset)
