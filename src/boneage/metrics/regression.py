"""The error of predicted ages: mean absolute error, root mean square, bias, share within k months."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError

Values = NDArray[np.float64]


def errors(predicted: ArrayLike, reference: ArrayLike) -> Values:
    """Return predicted minus reference, (N,): positive where the age is read too old.

    Raises:
        ConfigError: no values, other than one row of each, of different lengths, or not finite.
    """
    first, second = checked("predicted", predicted), checked("reference", reference)
    if len(first) != len(second):
        raise ConfigError(
            f"expected a reference for each prediction, got {len(second)} for {len(first)}; join them by id"
        )
    return first - second


def checked(name: str, values: ArrayLike) -> Values:
    """Return values as (N,) float64.

    Raises:
        ConfigError: none, more than one dimension, no numbers, or one that is not finite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} values must be numbers; remove the rows without one") from None
    if array.ndim != 1 or array.size == 0:
        raise ConfigError(
            f"expected one or more {name} values in a row, got shape {array.shape}; give them so"
        )
    if not np.isfinite(array).all():
        missing = int((~np.isfinite(array)).sum())
        raise ConfigError(f"{missing} of {array.size} {name} values are not finite; remove those rows first")
    return array


def mae(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Return the mean absolute error."""
    return float(np.abs(errors(predicted, reference)).mean())


def rmse(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.square(errors(predicted, reference)).mean()))


def bias(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Return the mean error; positive where ages are read too old."""
    return float(errors(predicted, reference).mean())


def median_error(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Return the median absolute error."""
    return float(np.median(np.abs(errors(predicted, reference))))


def within(predicted: ArrayLike, reference: ArrayLike, months: float) -> float:
    """Return the share, 0 to 1, of absolute errors of at most `months`."""
    return float((np.abs(errors(predicted, reference)) <= months).mean())


def summary(predicted: ArrayLike, reference: ArrayLike) -> dict[str, float]:
    """Return count, mae, rmse, bias, median and the shares within 6, 12 and 24 months, ready for JSON."""
    shares = {f"within_{months}": within(predicted, reference, months) for months in (6, 12, 24)}
    return {
        "count": float(len(errors(predicted, reference))),
        "mae": mae(predicted, reference),
        "rmse": rmse(predicted, reference),
        "bias": bias(predicted, reference),
        "median": median_error(predicted, reference),
        **shares,
    }
