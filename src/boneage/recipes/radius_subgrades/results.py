"""What a run says of held-out radii: the order of their bone ages, and errors in points and in months."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Sex
from boneage.metrics.bootstrap import (
    Interval,
    Values,
    bootstrap_interval,
    mean,
    mean_absolute,
    paired_difference,
)
from boneage.recipes.radius_subgrades.crops import RADIUS, STANDARD
from boneage.recipes.radius_subgrades.evidence import rise
from boneage.standards.names import Bone
from boneage.standards.scoring import age_curve, standard
from boneage.standards.subgraded import NAME as SUBGRADED

Floats = NDArray[np.float64]

MONTHS_A_POINT = 0.3
"""The paper's rule: 4 points are 0.1 year, which is 1.2 months (Table 2)."""

FEWEST = 5
"""Hands of a group under which nothing is said of it."""


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


def read_held_out(run: Path) -> HeldOut:
    """Read a run's `oof.csv`."""
    with (run / "oof.csv").open(newline="") as file:
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
    """A sub-grade's held-out bone ages of one sex, and how far they lie above those of the one before."""

    sex: Sex
    subgrade: float
    hands: int
    mean: Interval
    step: Interval | None


def order_of_ages(held: HeldOut) -> list[OrderRow]:
    """Return the mean bone age of every sub-grade by sex: is 5 < 5_5 < 6?"""
    rows = []
    for sex in Sex:
        mine = held.aged & (held.sexes == str(sex))
        before: Floats | None = None
        for grade in np.unique(held.subgrades[mine]):
            ages = held.ages[mine & (held.subgrades == grade)]
            if len(ages) < FEWEST:
                continue
            step = _step(before, ages) if before is not None else None
            rows.append(OrderRow(sex, float(grade), len(ages), bootstrap_interval(ages), step))
            before = ages
    return rows


def _step(lower: Floats, upper: Floats) -> Interval:
    values = np.concatenate([lower, upper])
    return bootstrap_interval(np.column_stack([np.arange(len(values)) >= len(lower), values]), rise)


@dataclass(frozen=True)
class WithinRow:
    """Spearman's correlation with the bone age among the hands of one whole grade and sex."""

    sex: Sex
    grade: int
    hands: int
    subgrade: Interval | None
    position: Interval | None


def within_grades(held: HeldOut) -> list[WithinRow]:
    """Return how sub-grades and positions on the grade axis order the bone ages within a whole grade."""
    rows = []
    for sex in Sex:
        for grade in np.unique(held.grades):
            mine = held.aged & (held.sexes == str(sex)) & (held.grades == grade)
            if mine.sum() < 4 * FEWEST:
                continue
            ages = held.ages[mine]
            position = next(
                (way[mine] for way in held.ways.values() if np.isfinite(way[mine]).sum() > FEWEST), None
            )
            rows.append(
                WithinRow(
                    sex,
                    int(grade),
                    int(mine.sum()),
                    _spearman(held.subgrades[mine], ages),
                    None if position is None else _spearman(position, ages),
                )
            )
    return rows


def _spearman(first: Floats, second: Floats) -> Interval | None:
    """Return Spearman's correlation with its interval, None where one of the two is constant."""
    known = np.isfinite(first) & np.isfinite(second)
    if len(np.unique(first[known])) < 2 or len(np.unique(second[known])) < 2:
        return None
    return bootstrap_interval(np.column_stack([first[known], second[known]]), _correlate)


def _correlate(samples: Values) -> Values:
    from scipy.stats import rankdata

    ranks = rankdata(samples, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    first, second = ranks[..., 0], ranks[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
        return np.asarray((first * second).sum(axis=1) / size)


@dataclass(frozen=True)
class MonthsRow:
    """Mean absolute error in months of ages told by whole grades, by sub-grades, and their difference."""

    what: str
    hands: int
    whole: Interval
    divided: Interval
    difference: Interval


def age_by_radius(held: HeldOut) -> list[MonthsRow]:
    """Return the error of the radius' own age: the mean age of its sex and grade in the other folds.

    Beside sub-grades stands what grade and cluster tell together, which is all that a sub-grade could keep.
    """
    use = held.aged
    if use.sum() < 4 * FEWEST:
        return []
    whole, divided, both = (
        _mean_age(held, use, grades) - held.ages[use]
        for grades in (held.grades.astype(np.float64), held.subgrades, held.cells)
    )
    return [
        _months_row("the radius alone", whole, divided),
        _months_row("the radius alone, by grade and cluster together", whole, both),
    ]


def _mean_age(held: HeldOut, use: NDArray[np.bool_], grades: Floats) -> Floats:
    """Return for every hand (M,) the mean age of its sex and (whole) grade in the other folds."""
    found = []
    for index in np.flatnonzero(use):
        others = use & (held.folds != held.folds[index]) & (held.sexes == held.sexes[index])
        same = others & (grades == grades[index])
        if same.sum() < FEWEST:
            same = others & (held.grades == held.grades[index])
        found.append(held.ages[same if same.any() else others].mean())
    return np.array(found)


def age_by_standard(held: HeldOut, bones: Mapping[str, Mapping[Bone, float]]) -> list[MonthsRow]:
    """Return the error of CHN's age of all bones with the radius whole and divided.

    Args:
        held: the radii.
        bones: id -> CHN grades of all of CHN's bones, from networks that had not seen the hand.

    Ages are also compared after a line by sex fitted to the other folds, since a bias of all bones hides what
    one of them changes.
    """
    chosen = standard(STANDARD)
    use = held.aged & np.array([set(bones.get(name, {})) >= set(chosen.bones) for name in held.ids])
    if use.sum() < 4 * FEWEST:
        return []
    whole, truth = np.empty(use.sum()), held.ages[use]
    places = np.flatnonzero(use)
    for row, index in enumerate(places):
        own = bones[held.ids[index]]
        whole[row] = chosen.total(held.sexes[index], {bone: own[bone] for bone in chosen.bones})
    base = held.points(held.grades.astype(float))[use]
    readings = {
        "Table III": held.points(held.subgrades)[use],
        "our scores (geometric)": held.scores["geometric"][use],
    }
    rows = []
    for name, points in readings.items():
        ages = [_ages(total, held.sexes[use]) for total in (whole, whole - base + points)]
        rows.append(_months_row(f"CHN of all bones, {name}", *(found - truth for found in ages)))
        lined = [_lined(found, truth, held.sexes[use], held.folds[use]) for found in ages]
        rows.append(_months_row(f"the same after a line by sex, {name}", *(found - truth for found in lined)))
    return rows


def _ages(totals: Floats, sexes: NDArray[np.str_]) -> Floats:
    return np.array(
        [np.interp(total, *age_curve(STANDARD, sex)) for total, sex in zip(totals, sexes, strict=True)]
    )


def _lined(ages: Floats, truth: Floats, sexes: NDArray[np.str_], folds: NDArray[np.int64]) -> Floats:
    """Return ages after a line by sex that was fitted to the other folds."""
    found = ages.copy()
    for sex in np.unique(sexes):
        for fold in np.unique(folds):
            here, others = (sexes == sex) & (folds == fold), (sexes == sex) & (folds != fold)
            if here.any() and others.sum() > FEWEST:
                found[here] = np.polyval(np.polyfit(ages[others], truth[others], 1), ages[here])
    return found


def _months_row(what: str, whole: Floats, divided: Floats) -> MonthsRow:
    return MonthsRow(
        what,
        len(whole),
        bootstrap_interval(whole, mean_absolute),
        bootstrap_interval(divided, mean_absolute),
        paired_difference(divided, whole, mean_absolute),
    )


@dataclass(frozen=True)
class PointsRow:
    """A row of Table 4: errors of recognised grades in points, and what they are in months.

    Args:
        what: which recognition against which truth.
        hands: held-out cases.
        total: sum of the differences in points.
        points: mean difference.
        months: by the paper's rule.
        by_curve: by CHN's curve at each child's own total; None without ages.
    """

    what: str
    hands: int
    total: float
    points: Interval
    months: Interval
    by_curve: Interval | None


def table_4(held: HeldOut, before: Floats, after: Floats) -> tuple[list[PointsRow], Interval | None]:
    """Return Table 4 on held-out cases, and by how many points a case's error differs after subdivision.

    Args:
        held: the radii; the true grade of a case is its whole grade before, its sub-grade after.
        before: (N,) recognised whole grades, NaN where not recognised.
        after: (N,) recognised sub-grades.

    Source: paper 1, section IV.B and Table 4.
    """
    whole = held.points(held.grades.astype(float))
    divided = held.points(held.subgrades)
    seen = np.isfinite(whole) & np.isfinite(before) & np.isfinite(after)
    if not seen.any():
        return [], None
    told = {
        "before subdivision": held.points(before) - whole,
        "after subdivision": held.points(after) - divided,
        "undivided recognition, sub-graded truth": held.points(before) - divided,
    }
    rows = [_points_row(what, errors[seen], whole[seen], held, seen) for what, errors in told.items()]
    first, second, _ = told.values()
    return rows, paired_difference(second[seen], first[seen], mean_absolute)


def _points_row(
    what: str, errors: Floats, truth: Floats, held: HeldOut, seen: NDArray[np.bool_]
) -> PointsRow:
    points = bootstrap_interval(errors, mean_absolute)
    months = Interval(*(MONTHS_A_POINT * value for value in (points.estimate, points.low, points.high)))
    curve = None
    if held.aged[seen].all():
        moved = []
        for error, age, sex in zip(errors, held.ages[seen], held.sexes[seen], strict=True):
            totals, ages = age_curve(STANDARD, sex)
            total = np.interp(age, ages, totals)
            moved.append(np.interp(total + error, totals, ages) - np.interp(total, totals, ages))
        curve = bootstrap_interval(np.abs(moved), mean)
    return PointsRow(what, len(errors), float(np.abs(errors).sum()), points, months, curve)


def accuracy(recognised: Floats, truth: Floats) -> Interval | None:
    """Return the share of recognised grades that are the true ones; None where none was recognised."""
    seen = np.isfinite(recognised)
    if not seen.any():
        return None
    return bootstrap_interval((recognised[seen] == truth[seen]).astype(np.float64))
