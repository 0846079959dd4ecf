"""Held-out sub-grades of a run, and how they order the bone ages."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Sex
from boneage.metrics.bootstrap import Interval, bootstrap_interval, rank_correlation_of
from boneage.recipes.radius_subgrades.crops import RADIUS
from boneage.recipes.radius_subgrades.evidence import rise
from boneage.standards.scoring import standard
from boneage.standards.subgraded import NAME as SUBGRADED

Floats = NDArray[np.float64]

FEWEST = 5
"""Hands of a group under which nothing is said of it."""

DEALS = 500
"""Random deals of the sub-grades, to which their order is compared."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A run's out-of-fold table.

    Args:
        ids: names.
        sexes: (N,) `female`, `male` or empty.
        ages: (N,) months, NaN where unknown.
        grades: (N,) whole grades.
        subgrades: (N,) by models that had not seen the crop.
        scores: reading -> (N,) score of the sub-grade, interpolated in the other folds.
        ways: pair -> (N,) position on its grade axis, NaN for other grades.
        clusters: pair -> (N,) cluster, -1 for other grades.
        folds: (N,).
    """

    ids: tuple[str, ...]
    sexes: NDArray[np.str_]
    ages: Floats
    grades: NDArray[np.int64]
    subgrades: Floats
    scores: Mapping[str, Floats]
    ways: Mapping[str, Floats]
    clusters: Mapping[str, Floats]
    folds: NDArray[np.int64]

    def in_order(self, ids: Sequence[str]) -> HeldOut:
        """Return the table in the order of some crops' names; crops of one hand stay in theirs."""
        places: dict[str, list[int]] = {}
        for index, name in enumerate(self.ids):
            places.setdefault(name, []).append(index)
        order = [places[name].pop(0) for name in ids]
        return HeldOut(
            tuple(self.ids[index] for index in order),
            self.sexes[order],
            self.ages[order],
            self.grades[order],
            self.subgrades[order],
            {name: values[order] for name, values in self.scores.items()},
            {name: values[order] for name, values in self.ways.items()},
            {name: values[order] for name, values in self.clusters.items()},
            self.folds[order],
        )

    @cached_property
    def cells(self) -> Floats:
        """A code (N,) for each whole grade together with its clusters."""
        parts = np.column_stack([self.grades, *self.clusters.values()])
        return np.asarray(np.unique(parts, axis=0, return_inverse=True)[1].ravel(), dtype=np.float64)

    @cached_property
    def aged(self) -> NDArray[np.bool_]:
        """Which hands (N,) have a bone age and a sex."""
        return np.asarray(np.isfinite(self.ages) & (self.sexes != ""))

    def points(self, grades: Floats) -> Floats:
        """Return the scores (N,) of grades or sub-grades (N,) in the paper's Table III; NaN without a sex."""
        chosen = standard(SUBGRADED)
        return np.array(
            [
                chosen.grade_score(sex, RADIUS, grade) if sex and np.isfinite(grade) else np.nan
                for sex, grade in zip(self.sexes, grades, strict=True)
            ]
        )


def read_held_out(table: Path) -> HeldOut:
    """Read a run's `oof.csv`, or a bundle's `radius_subgrades.csv`."""
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))

    def column(name: str) -> Floats:
        return np.array([float(line[name]) if line[name] else np.nan for line in lines])

    ways, clusters = (
        {name: column(name) for name in lines[0] if name.startswith(what)} for what in ("way_", "cluster_")
    )
    return HeldOut(
        tuple(line["id"] for line in lines),
        np.array([line["sex"] for line in lines]),
        column("bone_age_months"),
        column("grade").astype(np.int64),
        column("subgrade"),
        {name: column(f"score_{name}") for name in ("paper", "geometric")},
        ways,
        clusters,
        column("fold").astype(np.int64),
    )


@dataclass(frozen=True)
class OrderRow:
    """A sub-grade's held-out bone ages of one sex, and how far they lie above those of the one before.

    `by_chance` is that step where the sub-grades are dealt out at random among the hands of each whole grade:
    a sub-grade that mixes two grades lies between them whatever it knows.
    """

    sex: Sex
    subgrade: float
    hands: int
    mean: Interval
    step: Interval | None
    by_chance: Interval | None


def order_of_ages(held: HeldOut) -> list[OrderRow]:
    """Return the mean bone age of every sub-grade by sex: is 5 < 5_5 < 6, and by more than by chance?"""
    rows = []
    for sex in Sex:
        mine = held.aged & (held.sexes == str(sex))
        own, ages = held.subgrades[mine], held.ages[mine]
        dealt = _dealt(own, held.grades[mine])
        before: float | None = None
        for grade in np.unique(own):
            if (own == grade).sum() < FEWEST:
                continue
            step = by_chance = None
            if before is not None:
                step = _step(ages[own == before], ages[own == grade])
                rises = [ages[one == grade].mean() - ages[one == before].mean() for one in dealt]
                low, high = np.quantile(rises, [0.025, 0.975])
                by_chance = Interval(float(np.mean(rises)), float(low), float(high))
            mean_age = bootstrap_interval(ages[own == grade])
            rows.append(OrderRow(sex, float(grade), int((own == grade).sum()), mean_age, step, by_chance))
            before = float(grade)
    return rows


def _dealt(subgrades: Floats, grades: NDArray[np.int64]) -> list[Floats]:
    """Return the sub-grades dealt out at random, again and again, among the hands of each whole grade."""
    rng = np.random.default_rng(0)
    dealt = []
    for _ in range(DEALS):
        one = subgrades.copy()
        for grade in np.unique(grades):
            one[grades == grade] = rng.permutation(subgrades[grades == grade])
        dealt.append(one)
    return dealt


def _step(lower: Floats, upper: Floats) -> Interval:
    values = np.concatenate([lower, upper])
    return bootstrap_interval(np.column_stack([np.arange(len(values)) >= len(lower), values]), rise)


@dataclass(frozen=True)
class WithinRow:
    """Spearman's correlation with the bone age among the hands of one whole grade and sex.

    Args:
        sex: the sex.
        grade: the whole grade.
        hands: how many.
        subgrade: of the sub-grade; None where there is one alone.
        positions: pair, as `5_6` -> of the position on its axis.
    """

    sex: Sex
    grade: int
    hands: int
    subgrade: Interval | None
    positions: Mapping[str, Interval]


def within_grades(held: HeldOut) -> list[WithinRow]:
    """Return how sub-grades and positions on the grade axis order the bone ages within a whole grade."""
    rows = []
    for sex in Sex:
        for grade in np.unique(held.grades):
            mine = held.aged & (held.sexes == str(sex)) & (held.grades == grade)
            if mine.sum() < 4 * FEWEST:
                continue
            ages = held.ages[mine]
            told = {
                name.removeprefix("way_"): found
                for name, way in held.ways.items()
                if (found := rank_correlation_of(way[mine], ages)) is not None
            }
            subgrade = rank_correlation_of(held.subgrades[mine], ages)
            rows.append(WithinRow(sex, int(grade), int(mine.sum()), subgrade, told))
    return rows
