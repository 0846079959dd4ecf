"""K-means in the joined latent vectors, and which bone ages its groups turn out to have.

Source: paper 2, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.recipes.region_clusters.config import GroupsConfig

Labels = NDArray[np.int64]
Ages = NDArray[np.float64]

NO_GROUP = -1
"""Of a hand that shows no region of the combination, or whose sex is unknown where groups are of one sex."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The centroids of k-means.

    Args:
        centroids: (K, D).
        sexes: whose group each is; None where girls and boys share them.
    """

    centroids: FloatArray
    sexes: tuple[Sex | None, ...]

    def __len__(self) -> int:
        return len(self.centroids)

    def nearest(self, values: FloatArray, sexes: Sequence[Sex | None]) -> Labels:
        """Return the nearest group (N,) of every hand, `NO_GROUP` where it has none.

        Args:
            values: (N, D); NaN where a region is masked, which the distance leaves out.
            sexes: (N,) of the hands.
        """
        there = np.isfinite(values)
        known = np.where(there, values, 0).astype(np.float64)
        centroids = self.centroids.astype(np.float64)
        distances = np.square(known).sum(axis=1)[:, None] - 2 * known @ centroids.T
        distances += there.astype(np.float64) @ np.square(centroids).T
        distances[~self._open_to(sexes)] = np.inf
        distances[~there.any(axis=1)] = np.inf
        found = distances.argmin(axis=1)
        return np.where(np.isinf(distances.min(axis=1)), NO_GROUP, found).astype(np.int64)

    def ordered(self, positions: FloatArray, labels: Labels) -> Groups:
        """Return the groups numbered by sex, then by their hands' mean position (N,) in maturity."""
        means = [
            positions[labels == group].mean() if (labels == group).any() else np.inf
            for group in range(len(self))
        ]
        keys = [(str(sex), mean) for sex, mean in zip(self.sexes, means, strict=True)]
        order = sorted(range(len(self)), key=keys.__getitem__)
        return replace(self, centroids=self.centroids[order], sexes=tuple(self.sexes[at] for at in order))

    def _open_to(self, sexes: Sequence[Sex | None]) -> NDArray[np.bool_]:
        """Return which groups (N, K) a hand may be in."""
        found = [[own is None or own is sex for own in self.sexes] for sex in sexes]
        return np.array(found, dtype=np.bool_).reshape(len(sexes), len(self))


def fit_groups(values: FloatArray, sexes: Sequence[Sex | None], config: GroupsConfig, seed: int) -> Groups:
    """Group hands by k-means, of which the best start is kept.

    Hands with a masked region do not take part.

    Args:
        values: (N, D).
        sexes: (N,).
        config: how many groups, and whether girls and boys have their own.
        seed: of the starts.

    Raises:
        ConfigError: fewer hands than groups, or than differ from each other.
    """
    whole = np.isfinite(values).all(axis=1)
    parts: list[tuple[Sex | None, NDArray[np.bool_], int]] = [(None, np.asarray(whole), config.count)]
    if config.by_sex:
        own = np.array([None if sex is None else str(sex) for sex in sexes])
        parts = [(sex, whole & (own == str(sex)), config.count // 2) for sex in Sex]
    centroids, owners = [], []
    for sex, taken, count in parts:
        centroids.append(_centroids(values[taken], count, config.starts, seed, sex))
        owners += [sex] * count
    return Groups(np.vstack(centroids), tuple(owners))


def _centroids(values: FloatArray, count: int, starts: int, seed: int, sex: Sex | None) -> FloatArray:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    different = len(np.unique(values, axis=0))
    if different < count:
        whose = "" if sex is None else f" of {sex} patients"
        raise ConfigError(
            f"{different} different hands{whose} cannot be sorted into {count} groups: give more hands, or a "
            "smaller groups.count"
        )
    with threadpool_limits(1):  # some hundred hands are grouped sooner than threads are shared out
        found = KMeans(count, n_init=starts, random_state=seed).fit(values.astype(np.float64))
    return np.asarray(found.cluster_centers_, dtype=np.float32)


def class_edges(config: GroupsConfig) -> tuple[float, ...]:
    """Return the age classes' borders in months.

    Class k holds edges[k] <= age < edges[k + 1], the last one its upper border too. A rest of the ages that
    is narrower than the interval is part of the last class.

    Source: paper 2, section 2.1 and Table 1 (24 to 71, 72 to 119, 120 to 167, 168 to 216 months).
    """
    low, high = config.ages_months
    count = max(1, int((high - low) // config.interval_months))
    return (*(low + config.interval_months * place for place in range(count)), high)


def class_names(edges: Sequence[float]) -> list[str]:
    """Return what the age classes are called, as `24-72`, in months."""
    return [f"{low:g}-{high:g}" for low, high in pairwise(edges)]


def age_classes(ages: Ages, edges: Sequence[float]) -> Labels:
    """Return the class (N,) of bone ages in months, -1 outside the borders or where it is unknown."""
    found = np.digitize(ages, edges[1:-1])
    inside = (ages >= edges[0]) & (ages <= edges[-1])
    return np.where(inside, found, -1).astype(np.int64)


def count_classes(labels: Labels, classes: Labels, groups: int, count: int) -> Labels:
    """Return how many hands of every group (rows) have every class (columns), (groups, count).

    Hands without a group or a class are not counted.
    """
    known = (labels != NO_GROUP) & (classes >= 0)
    table = np.zeros((groups, count), dtype=np.int64)
    np.add.at(table, (labels[known], classes[known]), 1)
    return table


def dominating(table: Labels) -> Labels:
    """Return the commonest class of every group (K,), the lower one of equals; -1 of a group without hands.

    Source: paper 2, section 4.1: "In each group, we count the distribution of real labels and obtain the
    dominated label".
    """
    return np.where(table.sum(axis=1) > 0, table.argmax(axis=1), -1).astype(np.int64)


def typical_ages(labels: Labels, ages: Ages, groups: int) -> Ages:
    """Return the median bone age of every group (K,), NaN of a group without known ages."""
    found = np.full(groups, np.nan)
    for group in range(groups):
        mine = ages[(labels == group) & np.isfinite(ages)]
        if len(mine):
            found[group] = np.median(mine)
    return found
