"""Assemble a bundle from trained runs: calibration from out-of-fold predictions, figures, checksums."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage import __version__
from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.inference.bundle import Bundle, checksum, write_bundle
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


def read_oof(path: Path) -> OutOfFold:
    """Read `oof.csv` of a run.

    Raises:
        ConfigError: the run has none.
    """
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
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


def _write_oof(path: Path, oof: OutOfFold, predicted: Vector, lower: Vector, upper: Vector) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "sex", "bone_age_months", "prediction", "lower", "upper", "fold"])
        for values in zip(oof.ids, oof.sex, oof.truth, predicted, lower, upper, oof.fold, strict=True):
            writer.writerow([f"{value:.3f}" if isinstance(value, float) else value for value in values])


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
    return value


def assemble(finder_run: Path, age_run: Path, out: Path, *, name: str, version: str, data: str) -> Bundle:
    """Write a bundle from a hand-localisation run and a hand-regression run.

    Args:
        finder_run: folder of a `hand_localisation` run.
        age_run: folder of a `hand_regression` run.
        out: the bundle's folder.
        name: the bundle's name.
        version: the bundle's version.
        data: what it was trained on and on what terms, one sentence.

    Raises:
        ConfigError: a run is not complete.
    """
    _require(finder_run, "config.json", "graph.onnx")
    _require(age_run, "config.json", "folds.csv", "graph.onnx", "oof.csv")
    oof = read_oof(age_run / "oof.csv")
    lines, corrected = correct(oof)
    plain = float(np.abs(oof.predicted - oof.truth).mean())
    helps = float(np.abs(corrected - oof.truth).mean()) < plain
    used = corrected if helps else oof.predicted
    lower, upper = cross_interval(oof, used)
    _write_oof(age_run / "oof_calibrated.csv", oof, used, lower, upper)
    configuration = _configuration(age_run)
    method = {
        "input": configuration["input"],
        "correction": lines if helps else {},
        "calibration": asdict(fit_scale(used, oof.truth)),
        "configuration": configuration,
        "figures_out_of_fold": measure(oof, used, lower, upper),
        "mae_months_uncorrected": plain,
    }
    manifest = {
        "name": name,
        "version": version,
        "made": date.today().isoformat(),
        "made_with": f"boneage {__version__}",
        "data": data,
        "images": len(oof.ids),
        "intended_use": "research use only; not a medical device",
        "method": "hand_regression",
        "methods": {"hand_regression": method},
        "localiser": _configuration(finder_run),
        "graphs": {"hand_finder": "hand_finder.onnx", "hand_regression": "hand_regression.onnx"},
    }
    files = {
        "hand_finder.onnx": finder_run / "graph.onnx",
        "hand_regression.onnx": age_run / "graph.onnx",
        "folds.csv": age_run / "folds.csv",
        "oof.csv": age_run / "oof_calibrated.csv",
    }
    return write_bundle(out, manifest, files)


def _require(run: Path, *names: str) -> None:
    """Refuse a run that is not complete before anything is written."""
    absent = [name for name in names if not (run / name).is_file()]
    if absent:
        raise ConfigError(f"{run / absent[0]} is missing; finish the run first")
