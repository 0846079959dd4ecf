"""The trained networks of a comparison, with what each said of every part of the images."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.metrics.bootstrap import Interval, bootstrap_interval, mean
from boneage.metrics.classification import BorderRow, border_errors, confusion, fit_temperature
from boneage.recipes.age_intervals.config import Recipe
from boneage.recipes.age_intervals.fit import PARTS, read_predictions
from boneage.recipes.age_intervals.intervals import AgeIntervals
from boneage.recipes.age_intervals.learn import CURVES

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One trained network of the comparison.

    Args:
        model: its name in the comparison.
        count: of intervals.
        recipe: what it is trained by.
        sex: whether it is told the sex.
        change: what sets it apart from the comparison's own settings, in words.
    """

    model: str
    count: int
    recipe: Recipe
    sex: bool = True
    change: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder of its results."""
        words = [
            self.model,
            str(self.count),
            self.recipe.schedule.loss,
            "" if self.sex else "no sex",
            self.change,
        ]
        return "-".join(" ".join(words).split()).lower()


@dataclass(frozen=True)
class Part:
    """What a network said of one part of the images."""

    ages: Vector
    classes: NDArray[np.int64]
    found: NDArray[np.int64]
    predicted: Vector
    log_probabilities: Vector

    @property
    def right(self) -> Vector:
        """1 where the interval was found, (N,)."""
        return np.asarray(self.found == self.classes, dtype=np.float64)


@dataclass(frozen=True)
class Result:
    """A row with its predictions and curves."""

    row: Row
    intervals: AgeIntervals
    parts: Mapping[str, Part]
    history: Mapping[str, Vector]

    def accuracy(self, part: str) -> Interval:
        """Return the accuracy in percent on a part of the images."""
        return percent(bootstrap_interval(self.parts[part].right, mean))

    def confusion(self) -> NDArray[np.int64]:
        """Return how many held-out images of each interval (rows) were put in which (columns)."""
        part = self.parts["held_out"]
        return confusion(part.classes, part.found, len(self.intervals))

    def borders(self) -> tuple[BorderRow, ...]:
        """Return the share of wrong held-out images by distance of the age to the nearest border."""
        part = self.parts["held_out"]
        return border_errors(part.ages, part.found == part.classes, self.intervals.edges_months)

    def temperature(self) -> float:
        """Return the temperature that the validating images ask for."""
        part = self.parts["validation"]
        return fit_temperature(part.log_probabilities, part.classes)


def percent(interval: Interval) -> Interval:
    """Return the interval of a share as one of percent."""
    return Interval(100 * interval.estimate, 100 * interval.low, 100 * interval.high, interval.level)


def read_result(out: Path, row: Row, intervals: AgeIntervals) -> Result:
    """Read what a row's training left in its folder of a run."""
    folder = out / row.folder
    parts = {name: _part(read_predictions(folder, name), intervals) for name in PARTS}
    with (folder / "history.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    history = {name: np.array([float(line[name]) for line in lines]) for name in CURVES}
    return Result(row, intervals, parts, history)


def _part(lines: Sequence[Mapping[str, str]], intervals: AgeIntervals) -> Part:
    ages = np.array([float(line["bone_age_months"]) for line in lines])
    return Part(
        ages,
        intervals.classes(ages),
        np.array([int(line["interval"]) for line in lines]),
        np.array([float(line["prediction"]) for line in lines]),
        np.array([[float(line[name]) for name in intervals.names()] for line in lines]),
    )


def cross_entropy(results: Iterable[Result], *, sex: bool) -> list[Result]:
    """Return the results by the paper's loss, with or without the sex."""
    return [
        result
        for result in results
        if result.row.recipe.schedule.loss == "cross_entropy" and result.row.sex is sex
    ]
