"""Out-of-fold predictions: reading, correcting and measuring them, with intervals that are cross-fitted."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.metrics.conformal import fit_line, fit_scale
from boneage.metrics.subgroups import coverage_table, subgroup_table

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class OutOfFold:
    """An out-of-fold table, by column."""

    ids: tuple[str, ...]
    sex: NDArray[np.str_]
    truth: Vector
    predicted: Vector
    fold: NDArray[np.int64]

    def take(self, wanted: NDArray[np.bool_]) -> OutOfFold:
        """Return the cases chosen (N,)."""
        ids = tuple(name for name, chosen in zip(self.ids, wanted, strict=True) if chosen)
        return OutOfFold(ids, self.sex[wanted], self.truth[wanted], self.predicted[wanted], self.fold[wanted])


def read_oof(path: Path, column: str = "prediction") -> OutOfFold:
    """Read `oof.csv` of a run or a bundle, in the order of its ids.

    Args:
        path: the table.
        column: whose ages; a bundle's table has a column for each of its methods.

    Raises:
        ConfigError: there is none, or it has no such column.
    """
    try:
        with path.open(newline="") as file:
            lines = sorted(csv.DictReader(file), key=lambda line: line["id"])
    except OSError as error:
        raise ConfigError(f"{path} cannot be read; train every fold of the run first") from error
    if lines and column not in lines[0]:
        raise ConfigError(f"{path} has no column {column!r}; give a bundle that this version has written")
    return OutOfFold(
        ids=tuple(line["id"] for line in lines),
        sex=np.array([line["sex"] for line in lines]),
        truth=np.array([float(line["bone_age_months"]) for line in lines]),
        predicted=np.array([float(line[column]) for line in lines]),
        fold=np.array([int(line["fold"]) for line in lines]),
    )


def correct(oof: OutOfFold) -> tuple[dict[str, tuple[float, float]], Vector]:
    """Fit a line per sex to all cases, and correct every fold by lines fitted to the others.

    Returns:
        Sex -> (slope, offset) for the bundle, and cross-fitted corrected predictions (N,).

    Raises:
        ConfigError: a sex has predictions of fewer than two folds.
    """
    lines, corrected = {}, oof.predicted.copy()
    for sex in Sex:
        mine = oof.sex == sex
        if len(np.unique(oof.fold[mine])) < 2:
            raise ConfigError(
                f"the run predicts {sex} hands of fewer than two folds; train two folds or more of both sexes"
            )
        lines[str(sex)] = fit_line(oof.predicted[mine], oof.truth[mine])
        for fold in np.unique(oof.fold):
            others, here = mine & (oof.fold != fold), mine & (oof.fold == fold)
            slope, offset = fit_line(oof.predicted[others], oof.truth[others])
            corrected[here] = slope * oof.predicted[here] + offset
    return lines, corrected


def cross_interval(oof: OutOfFold, predicted: Vector) -> tuple[Vector, Vector]:
    """Return bounds (N,) of intervals whose width was fitted, for every fold, to the other folds alone."""
    half = np.zeros(len(predicted))
    for fold in np.unique(oof.fold):
        others, here = oof.fold != fold, oof.fold == fold
        half[here] = fit_scale(predicted[others], oof.truth[others]).half_width(predicted[here])
    return predicted - half, predicted + half


def measure(oof: OutOfFold, predicted: Vector, lower: Vector, upper: Vector) -> dict[str, Any]:
    """Return the out-of-fold figures: errors by sex and age band, coverage and width by age band."""
    errors = subgroup_table(predicted, oof.truth, [Sex(sex) for sex in oof.sex])
    coverage = coverage_table(lower, upper, oof.truth)
    return {
        "errors": {group.name: asdict(group) for group in errors},
        "intervals": {group.name: asdict(group) for group in coverage},
    }


@dataclass(frozen=True)
class Answer:
    """Out-of-fold ages (N,) of a method or of the combination, with their cross-fitted intervals (N,)."""

    oof: OutOfFold
    ages: Vector
    lower: Vector
    upper: Vector

    @classmethod
    def of(cls, oof: OutOfFold, ages: Vector) -> Answer:
        """Return the ages with intervals whose width was fitted, for every fold, to the other folds."""
        return cls(oof, ages, *cross_interval(oof, ages))

    def settings(self) -> dict[str, Any]:
        """Return the calibration for new images and the figures measured."""
        return {
            "calibration": asdict(fit_scale(self.ages, self.oof.truth)),
            "figures_out_of_fold": measure(self.oof, self.ages, self.lower, self.upper),
        }

    def at(self, oof: OutOfFold) -> Vector:
        """Return the ages for the ids of a table, in its order."""
        ages = dict(zip(self.oof.ids, self.ages, strict=True))
        return np.array([ages[name] for name in oof.ids])


def write_oof(path: Path, answer: Answer, answers: Mapping[str, Answer]) -> None:
    """Write the answer's out-of-fold table, with a column for every method's own age."""
    oof = answer.oof
    methods = {name: method.at(oof) for name, method in answers.items()}
    columns = (oof.truth, answer.ages, answer.lower, answer.upper, oof.fold, *methods.values())
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["id", "sex", "bone_age_months", "prediction", "lower", "upper", "fold", *methods]
        writer.writerow(head)
        for name, sex, *values in zip(oof.ids, oof.sex, *columns, strict=True):
            writer.writerow([name, sex, *(f"{v:.3f}" if isinstance(v, float) else v for v in values)])
