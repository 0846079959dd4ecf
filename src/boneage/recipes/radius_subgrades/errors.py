"""What sub-grades change in errors, of held-out radii: in points of the score table, and in months."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.metrics.bootstrap import Interval, bootstrap_interval, mean, mean_absolute, paired_difference
from boneage.recipes.radius_subgrades.crops import STANDARD
from boneage.recipes.radius_subgrades.results import FEWEST, Floats, HeldOut
from boneage.standards.names import Bone
from boneage.standards.scoring import age_curve, standard

MONTHS_A_POINT = 0.3
"""The paper's rule: 4 points are 0.1 year, which is 1.2 months (Table 2)."""


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
    told = np.isfinite(whole)
    if told.sum() < 4 * FEWEST:
        return []
    return [
        _months_row("the radius alone", whole[told], divided[told]),
        _months_row("the radius alone, by grade and cluster together", whole[told], both[told]),
    ]


def _mean_age(held: HeldOut, use: NDArray[np.bool_], grades: Floats) -> Floats:
    """Return for every hand (M,) the mean age of its sex and grade in the other folds.

    Where they have too few of the sub-grade, of its whole grade; NaN where they have none of that either.
    """
    found = []
    for index in np.flatnonzero(use):
        others = use & (held.folds != held.folds[index]) & (held.sexes == held.sexes[index])
        same = others & (grades == grades[index])
        if same.sum() < FEWEST:
            same = others & (held.grades == held.grades[index])
        found.append(held.ages[same].mean() if same.any() else np.nan)
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
        "our scores (equation 10)": held.scores["paper"][use],
        "our scores (geometric)": held.scores["geometric"][use],
    }
    rows = []
    for name, told in readings.items():
        points = np.where(np.isfinite(told), told, base)  # a fold that names no sub-grade keeps the whole one
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
    rows = [_points_row(what, errors[seen], held, seen) for what, errors in told.items()]
    first, second, _ = told.values()
    return rows, paired_difference(second[seen], first[seen], mean_absolute)


def _points_row(what: str, errors: Floats, held: HeldOut, seen: NDArray[np.bool_]) -> PointsRow:
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
