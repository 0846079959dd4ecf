"""A one-dimensional coordinate of maturity without a label, and which bone ages it turns out to go with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from boneage.core.types import PERCENTILES, FloatArray, Sex
from boneage.recipes.region_clusters.config import GroupsConfig, JoinConfig
from boneage.recipes.region_clusters.groups import (
    Ages,
    Groups,
    Labels,
    age_classes,
    class_edges,
    count_classes,
)
from boneage.recipes.region_clusters.joining import Join, Latents, fit_agreement

LEAST_SHOWN = 10
"""Hands without which no average is told, so that none is one child's."""

NEAREST = 40
"""Hands of one sex that the typical age at a position is the mean of, at most."""

KNOTS = 41


def fit_coordinate(latents: Latents, contours: Mapping[str, FloatArray], config: JoinConfig) -> Join:
    """Learn the coordinate of maturity of some hands: the first direction in which their regions agree.

    Which of its ends is the mature one is told without a label too: bones that ossify add contours, so it
    is the end whose views change more from pixel to pixel.

    Args:
        latents: of the hands learnt from.
        contours: region -> how much the views (N,) change.
        config: the combination and the ridge.

    Raises:
        ConfigError: as `joining.fit_agreement`.
    """
    join = fit_agreement(latents, config.regions, 1, config.ridge)
    return join.oriented(mature_end(join(latents)[:, 0], contours, config.regions))


def mature_end(positions: FloatArray, contours: Mapping[str, FloatArray], regions: Sequence[str]) -> float:
    """Return 1 where positions (N,) rise with the contours of the regions' views, else -1."""
    every = np.stack([contours[name] for name in regions])
    spread = np.nanstd(every, axis=1, keepdims=True)
    standard = (every - np.nanmean(every, axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    there = np.isfinite(standard)
    mean = np.where(there, standard, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    known = np.isfinite(positions) & there.any(axis=0)
    found = float(np.cov(positions[known], mean[known])[0, 1]) if known.sum() > 1 else 0.0
    return -1.0 if found < 0 else 1.0


@dataclass(frozen=True)
class GroupAges:
    """The bone ages of one group's training hands; averages are None where there are too few of them.

    Args:
        sex: whose group it is; None where girls and boys share it.
        hands: training hands with a known age in it.
        classes: how many of them are in every age class.
        mean_months: their mean.
        sd_months: their standard deviation.
        percentiles_months: those of `PERCENTILES`.
    """

    sex: Sex | None
    hands: int
    classes: tuple[int, ...] = ()
    mean_months: float | None = None
    sd_months: float | None = None
    percentiles_months: tuple[float, ...] = ()


@dataclass(frozen=True)
class MaturityAges:
    """Typical bone ages along the coordinate, for one sex.

    Args:
        positions: ascending.
        mean_months: the mean age of the hands around each.
        sd_months: their standard deviation.
        hands: how many hands each mean is of.
    """

    positions: tuple[float, ...]
    mean_months: tuple[float, ...]
    sd_months: tuple[float, ...]
    hands: int

    def at(self, position: float) -> tuple[float, float]:
        """Return the mean age and its standard deviation in months at a position; the ends go on."""
        return (
            float(np.interp(position, self.positions, self.mean_months)),
            float(np.interp(position, self.positions, self.sd_months)),
        )


def ages_of_groups(groups: Groups, labels: Labels, ages: Ages, config: GroupsConfig) -> tuple[GroupAges, ...]:
    """Return what is known of every group from hands (N,) with bone ages in months, NaN where unknown."""
    edges = class_edges(config)
    classes = age_classes(ages, edges)
    table = count_classes(labels, classes, len(groups), len(edges) - 1)
    found = []
    for group, sex in enumerate(groups.sexes):
        mine = ages[(labels == group) & np.isfinite(ages)]
        if len(mine) < LEAST_SHOWN:
            found.append(GroupAges(sex, len(mine)))
            continue
        shares = tuple(float(value) for value in np.percentile(mine, PERCENTILES))
        counts = tuple(int(count) for count in table[group])
        found.append(GroupAges(sex, len(mine), counts, float(mine.mean()), float(mine.std()), shares))
    return tuple(found)


def ages_along(positions: FloatArray, ages: Ages, sexes: Sequence[Sex | None]) -> dict[Sex, MaturityAges]:
    """Return the typical ages along the coordinate of every sex with enough hands of known age.

    Hands that follow each other on the coordinate make a window; its mean age stands at its mean position,
    so that no value is one child's, and the ends are not drawn inwards. Then ages are made to rise with
    maturity.

    Args:
        positions: (N,) of the hands, NaN where unknown.
        ages: (N,) in months, NaN where unknown.
        sexes: (N,).
    """
    found = {}
    for sex in Sex:
        mine = (
            np.isfinite(positions) & np.isfinite(ages) & np.array([own is sex for own in sexes], dtype=bool)
        )
        if mine.sum() < 2 * LEAST_SHOWN:
            continue
        at, own = positions[mine].astype(np.float64), ages[mine]
        order = np.argsort(at, kind="stable")
        hands = min(NEAREST, len(at) // 2)
        starts = np.linspace(0, len(at) - hands, min(KNOTS, len(at) - hands + 1)).round().astype(int)
        windows = [order[start : start + hands] for start in starts]
        rising = np.maximum.accumulate([own[window].mean() for window in windows])
        found[sex] = MaturityAges(
            _tuple(np.array([at[window].mean() for window in windows])),
            _tuple(rising),
            _tuple(np.array([own[window].std() for window in windows])),
            hands,
        )
    return found


def _tuple(values: Ages) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
