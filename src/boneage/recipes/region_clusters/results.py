"""How well groups found without a label tell the bone age: read off the same hands, and for held-out ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.metrics.bootstrap import Interval, bootstrap_interval, rank_correlation_of
from boneage.recipes.region_clusters.config import GroupsConfig, JoinConfig
from boneage.recipes.region_clusters.groups import (
    NO_GROUP,
    Ages,
    Labels,
    age_classes,
    class_edges,
    count_classes,
    dominating,
    fit_groups,
    typical_ages,
)
from boneage.recipes.region_clusters.joining import Latents, chosen, correlation_of, fit_join
from boneage.recipes.region_clusters.maturity import fit_coordinate

PAPER_CLASSES = (211, 213, 260, 276)
"""Images of the paper in each class of 48 months: the columns of its Table 1, summed."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Hands that groups are measured on.

    Args:
        latents: region -> latent vectors (N, F).
        contours: region -> how much the views (N,) change.
        sexes: (N,).
        ages: (N,) bone ages in months.
        folds: (N,) of cross-validation.
    """

    latents: Latents
    contours: Mapping[str, FloatArray]
    sexes: tuple[Sex | None, ...]
    ages: Ages
    folds: Labels

    def __len__(self) -> int:
        return len(self.ages)

    def take(self, wanted: NDArray[np.bool_]) -> Sample:
        """Return the hands chosen (N,)."""
        return Sample(
            chosen(self.latents, wanted),
            chosen(self.contours, wanted),
            tuple(sex for sex, own in zip(self.sexes, wanted, strict=True) if own),
            self.ages[wanted],
            self.folds[wanted],
        )


def balanced(ages: Ages, edges: Sequence[float], shares: Sequence[float], seed: int) -> NDArray[np.bool_]:
    """Return a draw (N,) of hands whose age classes have given shares, as many as there are.

    Args:
        ages: (N,) bone ages in months.
        edges: of the classes.
        shares: of each class, in any unit.
        seed: of the draw.

    Raises:
        ConfigError: a class has no hands.
    """
    classes = age_classes(ages, edges)
    there = np.bincount(classes[classes >= 0], minlength=len(shares))
    if (there == 0).any():
        empty = int(np.flatnonzero(there == 0)[0])
        raise ConfigError(
            f"no hand has a bone age of {edges[empty]:g} to {edges[empty + 1]:g} months: classes cannot be "
            "balanced; give hands of all ages, or other groups.ages_months"
        )
    wanted = np.asarray(shares, dtype=np.float64)
    counts = np.minimum(np.floor(wanted * (there / wanted).min() + 1e-9).astype(np.int64), there)
    rng = np.random.default_rng(seed)
    found = np.zeros(len(ages), dtype=np.bool_)
    for own, count in enumerate(counts):
        found[rng.permutation(np.flatnonzero(classes == own))[: max(1, int(count))]] = True
    return found


@dataclass(frozen=True, eq=False)
class Grouping:
    """Groups of a sample's hands, made of all of them and of every fold's others.

    Args:
        count: of groups, K.
        same: (N,) groups made of all hands.
        folds: fold -> (N,) groups of all hands, made without the fold's.
    """

    count: int
    same: Labels
    folds: Mapping[int, Labels]


def group(sample: Sample, join: JoinConfig, config: GroupsConfig, seed: int) -> Grouping:
    """Group hands with all of them, and with every fold left out.

    Join and groups are learnt from the hands named; the encoders are those that the latent vectors came from,
    which no label has been near.

    Raises:
        ConfigError: as `fit_join` and `fit_groups`.
    """

    def labels(learn: NDArray[np.bool_]) -> Labels:
        learnt = sample.take(learn)
        joined = fit_join(learnt.latents, join)
        groups = fit_groups(joined(learnt.latents), learnt.sexes, config, seed)
        return groups.nearest(joined(sample.latents), sample.sexes)

    every = np.ones(len(sample), dtype=np.bool_)
    folds = {int(fold): labels(sample.folds != fold) for fold in np.unique(sample.folds)}
    return Grouping(config.count, labels(every), folds)


@dataclass(frozen=True, eq=False)
class Read:
    """Classes and ages that hands get from their groups.

    Args:
        predicted: (N,) the dominating class of the hand's group, -1 without one.
        typical: (N,) the median age in months of the hand's group, NaN without one.
        classes: (N,) the true ones.
        ages: (N,) the true ages.
    """

    predicted: Labels
    typical: Ages
    classes: Labels
    ages: Ages

    @cached_property
    def accuracy(self) -> Interval:
        """The share of hands whose group's dominating class is theirs; one without a group is wrong."""
        return bootstrap_interval((self.predicted == self.classes).astype(np.float64))

    @property
    def mean_error(self) -> float:
        """The mean distance in months of a hand's age from its group's median."""
        return float(np.nanmean(np.abs(self.typical - self.ages)))


@dataclass(frozen=True, eq=False)
class Outcome:
    """One way of grouping, and how well it tells the age.

    Args:
        groups: (N,) made of all hands.
        table: (K, C) hands of every class in each of these.
        same: read off the same hands, as the paper does.
        held_out: read off the other folds' groups and hands.
    """

    groups: Labels
    table: Labels
    same: Read
    held_out: Read

    def agreement(self) -> tuple[float, float]:
        """Return the adjusted Rand index and the normalised mutual information of groups and classes."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        return (
            float(adjusted_rand_score(self.same.classes, self.groups)),
            float(normalized_mutual_info_score(self.same.classes, self.groups)),
        )


def measure(sample: Sample, grouping: Grouping, config: GroupsConfig) -> Outcome:
    """Read classes and ages off groups: off the same hands, and off the other folds' for every fold.

    Raises:
        ConfigError: a hand is in no class.
    """
    edges = class_edges(config)
    classes = age_classes(sample.ages, edges)
    if (classes < 0).any():
        raise ConfigError(
            f"{int((classes < 0).sum())} hands have no bone age of {edges[0]:g} to {edges[-1]:g} months: "
            "leave them out, or give other groups.ages_months"
        )
    every = np.ones(len(sample), dtype=np.bool_)
    table, class_told, age_told = _told(sample, grouping.same, every, grouping.count, edges)
    predicted, typical = np.full(len(sample), -1), np.full(len(sample), np.nan)
    for fold, labels in grouping.folds.items():
        mine = sample.folds == fold
        _, others_class, others_age = _told(sample, labels, ~mine, grouping.count, edges)
        predicted[mine], typical[mine] = others_class[mine], others_age[mine]
    same = Read(class_told, age_told, classes, sample.ages)
    return Outcome(grouping.same, table, same, Read(predicted, typical, classes, sample.ages))


def _told(
    sample: Sample, labels: Labels, known: NDArray[np.bool_], count: int, edges: Sequence[float]
) -> tuple[Labels, Labels, Ages]:
    """Return what the groups (N,) of the hands `known` tell: their table, and every hand's class and age."""
    classes = age_classes(sample.ages, edges)
    table = count_classes(labels[known], classes[known], count, len(edges) - 1)
    medians = typical_ages(labels[known], sample.ages[known], count)
    without = labels == NO_GROUP
    return (
        table,
        np.where(without, -1, dominating(table)[labels]),
        np.where(without, np.nan, medians[labels]),
    )


@dataclass(frozen=True)
class Order:
    """How well the label-free coordinate orders bone ages: Spearman's rank correlation, of held-out hands.

    It is None of fewer than two hands that differ.

    Args:
        girls: among girls.
        boys: among boys.
        every: among all.
    """

    girls: Interval | None
    boys: Interval | None
    every: Interval | None


def held_out_positions(sample: Sample, join: JoinConfig) -> tuple[FloatArray, float]:
    """Return the position (N,) of every hand on the coordinate that the other folds' hands gave.

    Returns:
        The positions, and the mean correlation between regions of what they say there.

    Raises:
        ConfigError: as `maturity.fit_coordinate`.
    """
    found = np.full(len(sample), np.nan, dtype=np.float32)
    parts = np.full((len(join.regions), len(sample)), np.nan, dtype=np.float32)
    for fold in np.unique(sample.folds):
        mine = sample.folds == fold
        others, own = sample.take(~mine), chosen(sample.latents, mine)
        coordinate = fit_coordinate(others.latents, others.contours, join)
        found[mine] = coordinate(own)[:, 0]
        parts[:, mine] = np.stack([part[:, 0] for part in coordinate.parts(own)])
    return found, correlation_of(parts)


def order_of(positions: FloatArray, ages: Ages, sexes: Sequence[Sex | None]) -> Order:
    """Return how positions (N,) order ages (N,) in months, without hands that have no position."""
    known = np.isfinite(positions) & np.isfinite(ages)
    own = np.array([None if sex is None else str(sex) for sex in sexes])
    girls, boys = (known & (own == str(sex)) for sex in (Sex.FEMALE, Sex.MALE))
    return Order(*(rank_correlation_of(positions[part], ages[part]) for part in (girls, boys, known)))
