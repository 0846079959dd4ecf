"""The same figures by sex and age band: errors of ages, and coverage of intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.metrics.bootstrap import Interval, bootstrap_interval, mean, mean_absolute
from boneage.metrics.regression import Values, checked, errors

AGE_EDGES_MONTHS = (0.0, 48.0, 96.0, 144.0, 192.0, 300.0)
"""Edges of the age bands: from each, up to but without the next."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Errors of the images of one sex (None: both) and one age band (None: every age), in months."""

    sex: Sex | None
    band_months: tuple[float, float] | None
    count: int
    mae: Interval
    bias: Interval
    rmse: float
    within_6: float
    within_12: float

    @property
    def name(self) -> str:
        """What a table's first column says."""
        band = "all ages" if self.band_months is None else band_name(self.band_months)
        return f"{self.sex or 'both sexes'}, {band}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the intervals of one age band (None: every age) hold the reference, and how wide they are."""

    band_months: tuple[float, float] | None
    count: int
    coverage: Interval
    mean_width_months: float

    @property
    def name(self) -> str:
        """What a table's first column says."""
        return "all ages" if self.band_months is None else band_name(self.band_months)


def band_name(band_months: tuple[float, float]) -> str:
    """Return an age band in years, such as '4-8 years'."""
    low, high = band_months
    return f"{low / 12:g}-{high / 12:g} years"


def subgroup_table(
    predicted: ArrayLike,
    reference: ArrayLike,
    sexes: Sequence[Sex],
    edges_months: Sequence[float] = AGE_EDGES_MONTHS,
    *,
    n: int = 2000,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """Return the errors of everyone, by sex, by age band, and by sex and age band; empty ones are left out.

    Args:
        predicted: (N,) ages in months.
        reference: (N,) ages in months; they decide the band.
        sexes: (N,) the patients' sexes.
        edges_months: rising edges of the bands; every reference age lies between the first and the last.
        n: resamples for the intervals.
        seed: of the resamples.

    Raises:
        ConfigError: not one sex for every age, edges that do not rise, an age outside them.
    """
    difference = errors(predicted, reference)
    ages = checked("reference", reference)
    if len(sexes) != len(difference):
        raise ConfigError(f"expected a sex for each of {len(difference)} ages, got {len(sexes)}; join by id")
    is_sex = {sex: np.array([one == sex for one in sexes]) for sex in Sex}
    everyone = np.ones(len(ages), np.bool_)
    bands = list(_bands(ages, edges_months))
    chosen: list[tuple[Sex | None, tuple[float, float] | None, NDArray[np.bool_]]] = [(None, None, everyone)]
    chosen += [(sex, None, is_sex[sex]) for sex in Sex]
    chosen += [(None, band, inside) for band, inside in bands]
    chosen += [(sex, band, inside & is_sex[sex]) for sex in Sex for band, inside in bands]
    return tuple(
        _subgroup(sex, band, difference[members], n, seed) for sex, band, members in chosen if members.any()
    )


def coverage_table(
    lower: ArrayLike,
    upper: ArrayLike,
    reference: ArrayLike,
    edges_months: Sequence[float] = AGE_EDGES_MONTHS,
    level: float = 0.95,
) -> tuple[Coverage, ...]:
    """Return coverage and mean width of prediction intervals, overall and by age band.

    Raises:
        ConfigError: a lower bound above its upper one; also as `subgroup_table`.
    """
    ages = checked("reference", reference)
    width = errors(upper, lower)
    below = errors(reference, lower)
    if (width < 0).any():
        raise ConfigError(f"expected lower below upper bounds, {int((width < 0).sum())} are not; swap them")
    held = (below >= 0) & (below <= width)
    chosen: list[tuple[tuple[float, float] | None, NDArray[np.bool_]]] = [
        (None, np.ones(len(ages), np.bool_))
    ]
    chosen += list(_bands(ages, edges_months))
    return tuple(
        Coverage(band, int(members.sum()), wilson(held[members], level), float(width[members].mean()))
        for band, members in chosen
        if members.any()
    )


def wilson(held: NDArray[np.bool_], level: float = 0.95) -> Interval:
    """Return the share of true values with Wilson's score interval.

    Source: Wilson EB. J Am Stat Assoc 1927;22:209-212.
    """
    count, share = len(held), float(held.mean())
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)), level)


def _bands(ages: Values, edges: Sequence[float]) -> Iterator[tuple[tuple[float, float], NDArray[np.bool_]]]:
    """Yield each band and which ages lie in it; the last band holds its upper edge too."""
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise ConfigError(
            f"expected two or more rising band edges in months, got {tuple(edges)}; put them in order"
        )
    if ages.min() < edges[0] or ages.max() > edges[-1]:
        raise ConfigError(
            f"expected ages from {edges[0]:g} to {edges[-1]:g} months, "
            f"got {ages.min():g} to {ages.max():g}; widen the edges"
        )
    number = np.minimum(np.searchsorted(edges, ages, side="right") - 1, len(edges) - 2)
    for band in range(len(edges) - 1):
        yield (float(edges[band]), float(edges[band + 1])), number == band


def _subgroup(
    sex: Sex | None, band: tuple[float, float] | None, difference: Values, n: int, seed: int
) -> Subgroup:
    distance = np.abs(difference)
    return Subgroup(
        sex,
        band,
        len(difference),
        bootstrap_interval(difference, mean_absolute, n=n, seed=seed),
        bootstrap_interval(difference, mean, n=n, seed=seed),
        float(np.sqrt(np.square(difference).mean())),
        float((distance <= 6.0).mean()),
        float((distance <= 12.0).mean()),
    )
