"""What a change of the images does to their ages: the same images before and after, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import Interval, bootstrap_interval, mean_absolute, paired_difference
from boneage.metrics.subgroups import wilson


@dataclass(frozen=True, slots=True)
class PairedChange:
    """How ages differ after a change of the images.

    Args:
        images: that had an age before.
        read: of them, that have one after it too; the errors are those of these.
        refused: the share that has none after it.
        mae_before: mean absolute error before, in months; None where none is read after the change.
        mae_change: by how much it is larger after the change, paired.
        move: mean absolute difference of the ages, whatever the truth.
        shift: mean difference of the ages, after less before.
    """

    images: int
    read: int
    refused: Interval
    mae_before: float | None = None
    mae_change: Interval | None = None
    move: Interval | None = None
    shift: Interval | None = None


def paired_change(
    truth: ArrayLike, before: ArrayLike, after: ArrayLike, *, n: int = 2000, seed: int = 0
) -> PairedChange:
    """Return what a change did to some images; intervals are 95%, by a bootstrap of the images.

    Args:
        truth: (N,) reference ages in months.
        before: (N,) ages of the unchanged images.
        after: (N,) ages of the changed ones; nan where they were refused.
        n: how many resamples.
        seed: of the resamples.

    Raises:
        ConfigError: no image, other numbers of each, or a reference or an age before that is not finite.
    """
    reference, first, second = (np.asarray(values, dtype=np.float64) for values in (truth, before, after))
    if reference.ndim != 1 or not reference.shape == first.shape == second.shape or not reference.size:
        raise ConfigError(
            "expected a reference, an age before and an age after of every image; join them by id"
        )
    if not np.isfinite(reference).all() or not np.isfinite(first).all():
        raise ConfigError(
            "expected finite references and ages before the change; leave out what was not read"
        )
    both: NDArray[np.bool_] = np.isfinite(second)
    refused = wilson(~both)
    if not both.any():
        return PairedChange(len(reference), 0, refused)
    wrong_before, wrong_after = (first - reference)[both], (second - reference)[both]
    moved = (second - first)[both]
    return PairedChange(
        len(reference),
        int(both.sum()),
        refused,
        float(np.abs(wrong_before).mean()),
        paired_difference(wrong_after, wrong_before, n=n, seed=seed),
        bootstrap_interval(moved, mean_absolute, n=n, seed=seed),
        bootstrap_interval(moved, n=n, seed=seed),
    )
