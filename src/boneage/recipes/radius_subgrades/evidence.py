"""Whether clusters are any good, how they lie along the grade axis, and whether that earns a sub-grade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import FloatArray
from boneage.metrics.bootstrap import Interval, Values, bootstrap_interval
from boneage.recipes.radius_subgrades.config import ClusteringConfig
from boneage.recipes.radius_subgrades.encoder import Labels

RESAMPLES = 1000
PARTS = 5
"""Of the crops, by which the evidence is taken of crops that did not lay the axis."""

FEWEST = 5
"""Crops of a cluster under which nothing is said of it."""


@dataclass(frozen=True)
class Quality:
    """How well clusters hang together.

    Args:
        largest_share: of the crops that the largest cluster holds.
        silhouette: mean silhouette of all crops, -1 to 1.
        failure: in words, empty where there is none.

    Source: paper 1, Figure 6 shows a failure, almost all points in one cluster; here it is a number.
    """

    largest_share: float
    silhouette: float
    failure: str


def quality(features: FloatArray, labels: Labels, config: ClusteringConfig) -> Quality:
    """Return how well clusters (N,) of features (N, F) hang together."""
    from sklearn.metrics import silhouette_score

    share = float(np.bincount(labels).max() / len(labels))
    together = float(silhouette_score(features, labels)) if len(np.unique(labels)) > 1 else 0.0
    failure = ""
    if share > config.largest_share:
        failure = f"one cluster holds {share:.0%} of the crops (more than {config.largest_share:.0%})"
    elif together < config.least_silhouette:
        failure = f"the clusters' silhouette is {together:.3f} (less than {config.least_silhouette:g})"
    return Quality(share, together, failure)


def stability(labels: Sequence[Labels]) -> float:
    """Return the mean adjusted Rand index of each two clusterings (N,) of the same crops, 1 for one alone."""
    from sklearn.metrics import adjusted_rand_score

    pairs = [(one, other) for at, one in enumerate(labels) for other in labels[at + 1 :]]
    return float(np.mean([adjusted_rand_score(one, other) for one, other in pairs])) if pairs else 1.0


@dataclass(frozen=True, eq=False)
class GradeAxis:
    """The line in feature space from the mean of one grade to the mean of the next.

    Args:
        low: (F,) mean features of the lower grade.
        high: (F,) of the higher one.
    """

    low: FloatArray
    high: FloatArray

    @classmethod
    def between(cls, features: FloatArray, is_high: NDArray[np.bool_]) -> GradeAxis:
        """Return the axis of crops (N, F) of two grades."""
        return cls(features[~is_high].mean(axis=0), features[is_high].mean(axis=0))

    def way(self, features: FloatArray) -> NDArray[np.float64]:
        """Return how far (N,) features (N, F) are on the way: 0 at the lower mean, 1 at the higher."""
        line = (self.high - self.low).astype(np.float64)
        length = float(line @ line)
        if length == 0:
            return np.zeros(len(features))
        return np.asarray((features - self.low).astype(np.float64) @ line / length)


@dataclass(frozen=True)
class Evidence:
    """What speaks for an order of clusters.

    Args:
        sizes: crops of every cluster, from the one that lies lowest on the grade axis up.
        ways: their mean position on it.
        shares: of the higher grade in each.
        ages: mean bone age of each in months, less the mean of its crops' sexes; empty where unknown.
        grade_steps: rise of the shares from each cluster to the next.
        age_steps: rise of the ages likewise.
        refusal: why no sub-grade is named, empty where one is.
    """

    sizes: tuple[int, ...]
    ways: tuple[float, ...]
    shares: tuple[float, ...]
    ages: tuple[float, ...]
    grade_steps: tuple[Interval, ...]
    age_steps: tuple[Interval, ...]
    refusal: str


def unseen_ways(
    features: FloatArray, is_high: NDArray[np.bool_], hands: Sequence[str], seed: int
) -> NDArray[np.float64]:
    """Return the positions (N,) of crops on grade axes that were laid without their hands, in `PARTS` parts.

    Along an axis laid through the crops themselves, grades and ages rise even where features are noise.

    Args:
        features: (N, F).
        is_high: (N,) whether a crop has the higher grade.
        hands: (N) the hand of each.
        seed: of the parts, into which hands are dealt by the grade of their first crop.
    """
    _, first, of_crop = np.unique(np.array(hands), return_index=True, return_inverse=True)
    part_of_hand = np.empty(len(first), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for grade in (False, True):
        mine = np.flatnonzero(is_high[first] == grade)
        part_of_hand[rng.permutation(mine)] = np.arange(len(mine)) % PARTS
    part = part_of_hand[of_crop.ravel()]
    found = np.empty(len(features))
    for one in range(PARTS):
        others = part != one
        axis = GradeAxis.between(features[others], is_high[others])
        found[~others] = axis.way(features[~others])
    return found


def weigh(
    way: NDArray[np.float64],
    labels: Labels,
    count: int,
    is_high: NDArray[np.bool_],
    ages: NDArray[np.float64],
    sexes: Labels,
    found: Quality,
) -> Evidence:
    """Return what speaks for the clusters' order, and whether a sub-grade is earned.

    One is, where the clustering did not fail, and from each cluster to the next the share of the higher grade
    or, where bone ages are known, the bone age rises beyond chance (95%), and neither falls beyond chance.

    Args:
        way: (N,) positions on the grade axis, by axes that were laid without the crop (`unseen_ways`).
        labels: (N,) clusters, numbered in their order on it.
        count: how many clusters there are.
        is_high: (N,) whether a crop has the higher grade.
        ages: (N,) bone ages in months, NaN where unknown.
        sexes: (N,) codes; ages are compared within a sex.
        found: the clustering's quality.
    """
    groups = range(count)
    sizes = tuple(int((labels == group).sum()) for group in groups)
    if min(sizes) < FEWEST:
        reason = found.failure or f"a cluster holds {min(sizes)} crops, fewer than {FEWEST}"
        return Evidence(sizes, (), (), (), (), (), reason)
    relative = _within(ages, sexes)
    known = np.isfinite(relative)
    aged = all((known & (labels == group)).sum() >= FEWEST for group in groups)
    grade_steps = _steps(labels, is_high.astype(np.float64), count)
    age_steps = _steps(labels[known], relative[known], count) if aged else ()
    return Evidence(
        sizes,
        tuple(float(way[labels == group].mean()) for group in groups),
        tuple(float(is_high[labels == group].mean()) for group in groups),
        tuple(float(relative[known & (labels == group)].mean()) for group in groups) if aged else (),
        grade_steps,
        age_steps,
        found.failure or _refusal(grade_steps, age_steps),
    )


def _refusal(grade_steps: Sequence[Interval], age_steps: Sequence[Interval]) -> str:
    """Return why no sub-grade is earned by the steps from cluster to cluster, empty where one is."""
    for what, steps in (("share of the higher grade", grade_steps), ("bone age", age_steps)):
        if any(step.high < 0 for step in steps):
            return f"the {what} falls from one cluster to the next along the grade axis"
    if all(step.low > 0 for step in grade_steps) or (age_steps and all(step.low > 0 for step in age_steps)):
        return ""
    told = "neither the share of the higher grade nor the bone age rises"
    if not age_steps:
        told = "the share of the higher grade does not rise"
    return f"{told} beyond chance from each cluster to the next"


def _steps(labels: Labels, values: NDArray[np.float64], count: int) -> tuple[Interval, ...]:
    """Return how much the mean of values (N,) rises from each cluster to the next."""
    found = []
    for lower in range(count - 1):
        pair = np.isin(labels, (lower, lower + 1))
        rows = np.column_stack([labels[pair] > lower, values[pair]])
        found.append(bootstrap_interval(rows, rise, n=RESAMPLES))
    return tuple(found)


def rise(samples: Values) -> Values:
    """Return the second column's mean where the first is 1, less that where it is 0; NaN without both."""
    upper, values = samples[..., 0], samples[..., 1]
    high, low = upper.sum(axis=1), (1 - upper).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((values * upper).sum(axis=1) / high - (values * (1 - upper)).sum(axis=1) / low)


def _within(ages: NDArray[np.float64], sexes: Labels) -> NDArray[np.float64]:
    """Return ages (N,) less the mean of their sex."""
    relative = ages.copy()
    for sex in np.unique(sexes):
        mine = (sexes == sex) & np.isfinite(ages)
        if mine.any():
            relative[mine] -= ages[mine].mean()
    return relative
