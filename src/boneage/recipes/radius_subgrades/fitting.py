"""Learn from crops: the mean radius, and for every pair of grades features, clusters and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.recipes.radius_subgrades.config import Recipe
from boneage.recipes.radius_subgrades.crops import RadiusCrops
from boneage.recipes.radius_subgrades.encoder import Labels, nearest
from boneage.recipes.radius_subgrades.evidence import (
    Evidence,
    GradeAxis,
    Quality,
    quality,
    stability,
    unseen_ways,
    weigh,
)
from boneage.recipes.radius_subgrades.frames import mean_radius
from boneage.recipes.radius_subgrades.learn import Clustering, fit_clusters, kmeans
from boneage.recipes.radius_subgrades.subgrades import PairModel, Subgrader, stacked

LEAST_CROPS = 10
"""Crops of each grade of a pair without which no features are learnt."""


@dataclass(frozen=True, eq=False)
class FittedPair:
    """A pair's model, and what it was made from.

    Args:
        model: the model.
        clustering: features and clusters, as learnt.
        labels: (N,) clusters, numbered in their order on the grade axis.
        quality: how well the clusters hang together.
        evidence: what speaks for their order.
        mine: (M,) which of all crops the N are.
    """

    model: PairModel
    clustering: Clustering
    labels: Labels
    quality: Quality
    evidence: Evidence
    mine: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A subgrader, and what it was made from; `views` are those of its crops, None where there is none."""

    subgrader: Subgrader
    pairs: tuple[FittedPair, ...]
    views: list[FloatArray | None]

    def subgrades(self, crops: RadiusCrops) -> NDArray[np.float64]:
        """Return the sub-grades (N,) of the crops that it was made from."""
        return self.subgrader.subgrade(self.views, crops.grades.tolist())


def fit_subgrader(crops: RadiusCrops, recipe: Recipe) -> Fitted:
    """Learn the mean radius, and features and clusters of every pair of grades.

    Raises:
        ConfigError: too few crops of a grade, or crops that hold nothing to tell them by.
    """
    template = mean_radius(list(crops.patches)) if recipe.input.align else None
    bare = Subgrader(recipe.input, template, ())
    views = bare.views(crops.patches)
    pairs = tuple(fit_pair(views, crops, pair, recipe) for pair in recipe.grades.pairs)
    return Fitted(Subgrader(recipe.input, template, tuple(pair.model for pair in pairs)), pairs, views)


def fit_pair(
    views: Sequence[FloatArray | None], crops: RadiusCrops, pair: tuple[int, int], recipe: Recipe
) -> FittedPair:
    """Learn what lies between two grades.

    Args:
        views: (S, S) of every crop, None where there is none.
        crops: the crops.
        pair: the two grades.
        recipe: how.

    Raises:
        ConfigError: too few crops of a grade, or crops that hold nothing to tell them by.
    """
    mine = np.isin(crops.grades, pair) & np.array([view is not None for view in views])
    is_high = crops.grades[mine] == pair[1]
    fewest = int(min(is_high.sum(), (~is_high).sum()))
    if fewest < max(LEAST_CROPS, recipe.clustering.clusters):
        raise ConfigError(
            f"grades {pair[0]} and {pair[1]} have {int((~is_high).sum())} and {int(is_high.sum())} crops to "
            f"learn from, and need {max(LEAST_CROPS, recipe.clustering.clusters)} of each: give more crops, "
            "or leave the pair out of grades.pairs"
        )
    seen = stacked(views, mine)
    found = fit_clusters(seen, recipe)
    axis = GradeAxis.between(found.features, is_high)
    way = axis.way(found.features)
    where, labels, centroids = found.features, found.labels, found.centroids
    if recipe.clustering.along == "axis":
        where = _column(way)
        labels, centroids = kmeans(where, recipe.clustering, recipe.schedule.seed)
    order = np.argsort([way[labels == one].mean() for one in range(len(centroids))], kind="stable")
    labels = np.argsort(order)[labels]
    how_good = quality(where, labels, recipe.clustering)
    own = crops.take(mine)
    way = unseen_ways(found.features, is_high, own.ids, recipe.schedule.seed)
    judged = labels if where is found.features else nearest(_column(way), centroids[order])[0]
    one = own.first_of_hands()  # crops of one hand say the same twice
    speaks = weigh(
        way[one], judged[one], len(centroids), is_high[one], own.ages[one], own.sexes[one], how_good
    )
    model = PairModel(pair, found.encoder, centroids[order], axis, speaks.refusal)
    return FittedPair(model, found, labels, how_good, speaks, mine)


def _column(values: NDArray[np.float64]) -> FloatArray:
    return values[:, None].astype(np.float32)


def stability_of_seeds(
    views: Sequence[FloatArray | None], crops: RadiusCrops, pair: tuple[int, int], recipe: Recipe
) -> tuple[float, list[FittedPair]]:
    """Return the mean adjusted Rand index of clusterings from several seeds, and those clusterings.

    Args:
        views: (S, S) of every crop, None where there is none.
        crops: the crops.
        pair: the two grades.
        recipe: how, with the number of seeds.

    Raises:
        ConfigError: as `fit_pair`.
    """
    first = recipe.schedule.seed
    fitted = [
        fit_pair(views, crops, pair, replace(recipe, schedule=replace(recipe.schedule, seed=seed)))
        for seed in range(first, first + recipe.schedule.seeds)
    ]
    return stability([one.labels for one in fitted]), fitted
