"""Scores for new sub-grades, by interpolation between their neighbours' in feature space.

The paper leaves open between which vectors its distances are. Two readings are here: `paper`, the one that
its equations need (each list's distances from the grade that is subdivided, element by element), and
`geometric`, the share of the straight way from the one grade's mean to the other's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.metrics.bootstrap import Interval, bootstrap_interval
from boneage.recipes.radius_subgrades.crops import RADIUS, STANDARD
from boneage.standards.scoring import standard

Vectors = NDArray[np.float32]
Values = NDArray[np.float64]

READINGS = ("paper", "geometric", "shuffled")
"""Of the way between two grades: fields of `Ways`."""


@dataclass(frozen=True, eq=False)
class Levels:
    """Feature vectors (n, 1000) of the grade below, of the sub-grade and of the grade above.

    Source: paper 1, section III.F: three lists, of images drawn from each level.
    """

    low: Vectors
    between: Vectors
    high: Vectors

    @classmethod
    def drawn(cls, levels: Sequence[Vectors], images: int, seed: int) -> Levels:
        """Return as many of each, drawn at random, as the least of them and `images` allow.

        Raises:
            ConfigError: a level has no images.
        """
        count = min(images, *(len(level) for level in levels))
        if count == 0:
            raise ConfigError("a score needs images of the grade below, the sub-grade and the grade above")
        rng = np.random.default_rng(seed)
        return cls(*(level[rng.permutation(len(level))[:count]] for level in levels))

    def shuffled(self, seed: int) -> Levels:
        """Return the same vectors dealt out to the levels at random: what a score is that knows nothing."""
        every = np.concatenate([self.low, self.between, self.high])
        dealt = every[np.random.default_rng(seed).permutation(len(every))]
        return Levels(*np.split(dealt, 3))


def normalised_distances(levels: Levels) -> tuple[Values, Values, Values]:
    """Return f(x) (n,) of the three lists: distances from the lower grade's mean, brought to [0, 1] together.

    Source: paper 1, equations 6 (Euclidean distance) and 9 (smallest and greatest of the three lists).
    Departs: the paper does not say from where distances are; the mean of the grade that is subdivided is
    the point from which its three lists can differ as equation 10 needs.
    """
    origin = levels.low.mean(axis=0, dtype=np.float64)
    lists = [np.linalg.norm(level - origin, axis=1) for level in (levels.low, levels.between, levels.high)]
    least, greatest = min(found.min() for found in lists), max(found.max() for found in lists)
    span = greatest - least if greatest > least else 1.0
    low, between, high = ((found - least) / span for found in lists)
    return low, between, high


def paper_ways(levels: Levels) -> Values:
    """Return (x - x0) / (x1 - x0), how far between its neighbours' scores each element's score x lies.

    Equation 10, f(x) = f(x0) (x1 - x) / (x1 - x0) + f(x1) (x - x0) / (x1 - x0), solved for x.

    Source: paper 1, equation 10; the mean over the elements is the score.
    Departs: an element whose neighbours' f are equal says nothing and is left out; one that would lie
    outside its neighbours' scores is set to the nearer of them.
    """
    low, between, high = normalised_distances(levels)
    rise = high - low
    told = rise != 0
    return np.asarray(np.clip((between[told] - low[told]) / rise[told], 0.0, 1.0))


def geometric_way(levels: Levels) -> float:
    """Return the share of the way from the lower grade's mean to the higher's at which the sub-grade's lies.

    Departs: our reading: the means are compared, not single images that nothing pairs; 0 to 1.
    """
    low, between, high = (
        level.mean(axis=0, dtype=np.float64) for level in (levels.low, levels.between, levels.high)
    )
    line = high - low
    length = float(line @ line)
    return float(np.clip((between - low) @ line / length, 0.0, 1.0)) if length else 0.5


@dataclass(frozen=True)
class Ways:
    """Both readings, with 95% bootstrap intervals over images, and the paper's one of shuffled levels."""

    paper: Interval
    geometric: Interval
    shuffled: Interval
    images: int


def measure_ways(levels: Levels, *, seed: int = 0, resamples: int = 300) -> Ways:
    """Return how far between its neighbours the sub-grade lies.

    Args:
        levels: three lists of as many vectors.
        seed: of the shuffling and the bootstrap.
        resamples: of the geometric reading, which resamples every level by itself.

    Raises:
        ConfigError: the vectors tell no two levels apart.
    """
    paper, shuffled = paper_ways(levels), paper_ways(levels.shuffled(seed))
    if not len(paper) or not len(shuffled):
        raise ConfigError("all images have the same features: no score can be interpolated between them")
    rng, count = np.random.default_rng(seed), len(levels.low)
    drawn = [
        geometric_way(
            Levels(
                *(level[rng.integers(0, count, count)] for level in (levels.low, levels.between, levels.high))
            )
        )
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Ways(
        bootstrap_interval(paper),
        Interval(geometric_way(levels), float(low), float(high)),
        bootstrap_interval(shuffled),
        count,
    )


def score_between(low_score: float, high_score: float, way: float) -> float:
    """Return the score at a way between two grades' scores.

    Source: paper 1, equation 10.
    """
    return low_score + way * (high_score - low_score)


def ways_of(
    grades: NDArray[np.float64],
    outputs: Vectors,
    named: Mapping[float, tuple[int, int]],
    images: int,
    seed: int,
) -> dict[float, Ways]:
    """Return how far between its neighbours every sub-grade that was named lies; those of two images or more.

    Args:
        grades: (N,) sub-grades of the crops.
        outputs: (N, 1000).
        named: sub-grade -> the pair that it lies between.
        images: drawn of each level, at most.
        seed: of the drawing.
    """
    found = {}
    for grade, pair in named.items():
        lists = [outputs[grades == level] for level in (pair[0], grade, pair[1])]
        if all(len(level) > 1 for level in lists):
            found[grade] = measure_ways(Levels.drawn(lists, images, seed), seed=seed)
    return found


def score_columns(ways: Mapping[float, Ways]) -> dict[str, dict[Sex, dict[float, float]]]:
    """Return reading -> sex -> sub-grade -> score, each between those of its neighbours in CHN's table."""
    chosen = standard(STANDARD)

    def scored(sex: Sex, grade: float, way: float) -> float:
        low, high = (chosen.grade_score(sex, RADIUS, end(grade)) for end in (math.floor, math.ceil))
        return score_between(low, high, way)

    return {
        reading: {
            sex: {grade: scored(sex, grade, getattr(way, reading).estimate) for grade, way in ways.items()}
            for sex in Sex
        }
        for reading in READINGS
    }
