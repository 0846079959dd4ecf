"""Assemble a bundle from trained runs: calibration from out-of-fold predictions, figures, checksums."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage import __version__
from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.inference.bundle import Bundle, checksum, write_bundle
from boneage.inference.combine import cross_fit, fit_weights
from boneage.metrics.conformal import fit_line, fit_scale
from boneage.metrics.subgroups import coverage_table, subgroup_table

Vector = NDArray[np.float64]

HAND_MODEL = "hand_model.npz"
"""What a complete hand looks like to the finder; a run of `hand_localisation` makes it."""


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


def read_oof(path: Path) -> OutOfFold:
    """Read `oof.csv` of a run, in the order of its ids.

    Raises:
        ConfigError: the run has none.
    """
    try:
        with path.open(newline="") as file:
            lines = sorted(csv.DictReader(file), key=lambda line: line["id"])
    except OSError as error:
        raise ConfigError(f"{path} cannot be read; train every fold of the run first") from error
    return OutOfFold(
        ids=tuple(line["id"] for line in lines),
        sex=np.array([line["sex"] for line in lines]),
        truth=np.array([float(line["bone_age_months"]) for line in lines]),
        predicted=np.array([float(line["prediction"]) for line in lines]),
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


def _write_oof(path: Path, answer: Answer, methods: Mapping[str, Vector]) -> None:
    """Write the answer's out-of-fold table, with a column for every method's own age."""
    oof = answer.oof
    columns = (oof.truth, answer.ages, answer.lower, answer.upper, oof.fold, *methods.values())
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["id", "sex", "bone_age_months", "prediction", "lower", "upper", "fold", *methods]
        writer.writerow(head)
        for name, sex, *values in zip(oof.ids, oof.sex, *columns, strict=True):
            writer.writerow([name, sex, *(f"{v:.3f}" if isinstance(v, float) else v for v in values)])


def _configuration(run: Path) -> Any:
    """Return a run's configuration, files in it by name and checksum: paths mean nothing elsewhere."""
    try:
        return _without_paths(json.loads((run / "config.json").read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{run} holds no config.json; give the folder of a finished run") from error


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, str) and Path(value).suffix and Path(value).is_file():
        return {"file": Path(value).name, "sha256": checksum(Path(value))}
    if isinstance(value, str) and "/" in value and Path(value).is_dir():
        return {"folder": Path(value).name}
    return value


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


def assemble(
    finder_run: Path,
    age_run: Path,
    out: Path,
    *,
    grades_run: Path | None = None,
    name: str,
    version: str,
    data: str,
) -> Bundle:
    """Write a bundle from a hand-localisation run, a hand-regression run and a graded-regions run.

    Args:
        finder_run: folder of a `hand_localisation` run.
        age_run: folder of a `hand_regression` run.
        out: the bundle's folder.
        grades_run: folder of a `graded_regions` run on the same folds; None makes a bundle without grades.
        name: the bundle's name.
        version: the bundle's version.
        data: what it was trained on and on what terms, one sentence.

    Raises:
        ConfigError: a run is not complete, or the runs do not share their folds.
    """
    _require(finder_run, "config.json", "graph.onnx")
    for run in filter(None, (age_run, grades_run)):
        _require(run, "config.json", "folds.csv", "graph.onnx", "oof.csv")
    direct, method = _direct(age_run)
    answers, methods = {"hand_regression": direct}, {"hand_regression": method}
    files = {
        "hand_finder.onnx": finder_run / "graph.onnx",
        "hand_regression.onnx": age_run / "graph.onnx",
        "folds.csv": age_run / "folds.csv",
    }
    if (finder_run / HAND_MODEL).is_file():
        files[HAND_MODEL] = finder_run / HAND_MODEL
    combination: dict[str, Any] = {}
    answer = direct
    if grades_run is not None:
        answers["graded_regions"], methods["graded_regions"] = _graded(grades_run)
        files["graded_regions.onnx"] = grades_run / "graph.onnx"
        answer, combination = _combined(answers)
    manifest = {
        "name": name,
        "version": version,
        "made": date.today().isoformat(),
        "made_with": f"boneage {__version__}",
        "data": data,
        "images": len(answer.oof.ids),
        "intended_use": "research use only; not a medical device",
        "method": "hand_regression",
        "methods": methods,
        **({"combination": combination} if combination else {}),
        "localiser": _configuration(finder_run),
        "graphs": {Path(file).stem: file for file in files if file.endswith(".onnx")},
        "files": {Path(file).stem: file for file in files if file.endswith(".npz")},
    }
    with TemporaryDirectory() as folder:
        files["oof.csv"] = Path(folder) / "oof.csv"
        _write_oof(files["oof.csv"], answer, {key: _at(value, answer.oof) for key, value in answers.items()})
        return write_bundle(out, manifest, files)


def _direct(run: Path) -> tuple[Answer, dict[str, Any]]:
    """Return the direct method's out-of-fold ages, corrected where that helps, and its settings."""
    oof = read_oof(run / "oof.csv")
    lines, corrected = correct(oof)
    plain = float(np.abs(oof.predicted - oof.truth).mean())
    helps = float(np.abs(corrected - oof.truth).mean()) < plain
    answer = Answer.of(oof, corrected if helps else oof.predicted)
    configuration = _configuration(run)
    return answer, {
        "input": configuration["input"],
        "correction": lines if helps else {},
        **answer.settings(),
        "mae_months_uncorrected": plain,
        "configuration": configuration,
    }


def _graded(run: Path) -> tuple[Answer, dict[str, Any]]:
    """Return the grading method's out-of-fold ages, as the standard's table gives them, and its settings."""
    oof = read_oof(run / "oof.csv")
    answer = Answer.of(oof, oof.predicted)
    configuration = _configuration(run)
    return answer, {"input": configuration["input"], **answer.settings(), "configuration": configuration}


def _combined(answers: Mapping[str, Answer]) -> tuple[Answer, dict[str, Any]]:
    """Return the combination's cross-fitted ages over the images that all methods read, and its settings."""
    first, *others = answers.values()
    shared = np.array([all(name in other.oof.ids for other in others) for name in first.oof.ids])
    oof = first.oof.take(shared)
    for other in others:
        folds = dict(zip(other.oof.ids, other.oof.fold, strict=True))
        if any(folds[name] != fold for name, fold in zip(oof.ids, oof.fold, strict=True)):
            raise ConfigError(
                "the runs to combine do not share their folds; train both on one manifest and seed"
            )
    predicted = {name: _at(answer, oof) for name, answer in answers.items()}
    answer = Answer.of(oof, cross_fit(predicted, oof.truth, oof.fold))
    return answer, {"weights": fit_weights(predicted, oof.truth), **answer.settings()}


def _at(answer: Answer, oof: OutOfFold) -> Vector:
    """Return an answer's ages for the ids of a table, in its order."""
    ages = dict(zip(answer.oof.ids, answer.ages, strict=True))
    return np.array([ages[name] for name in oof.ids])


def _require(run: Path, *names: str) -> None:
    """Refuse a run that is not complete before anything is written."""
    absent = [name for name in names if not (run / name).is_file()]
    if absent:
        raise ConfigError(f"{run / absent[0]} is missing; finish the run first")
