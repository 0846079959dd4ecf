"""Assemble a bundle from trained runs, or extend one: calibration from out-of-fold predictions, checksums."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from boneage import __version__
from boneage.core.errors import ConfigError
from boneage.inference.bundle import Bundle, checksum, write_bundle
from boneage.inference.combine import cross_fit, fit_weights
from boneage.inference.out_of_fold import Answer, OutOfFold, Vector, correct, read_oof, write_oof
from boneage.metrics.bootstrap import mean_absolute, paired_difference
from boneage.metrics.classification import (
    accuracy,
    expected_calibration_error,
    negative_log_likelihood,
    temper,
)
from boneage.recipes.age_intervals.intervals import AgeIntervals

HAND_MODEL = "hand_model.npz"
"""What a complete hand looks like to the finder; a run of `hand_localisation` makes it."""

DIRECT, GRADED, INTERVALS = "hand_regression", "graded_regions", "age_intervals"
OUT_OF_FOLD = "oof.csv"
PROBABILITIES = "oof_log_probabilities.csv"
"""Of a run of `age_intervals`: `id`, and the log-probability of every interval, before the temperature."""


@dataclass(frozen=True)
class Parts:
    """What a bundle is made of.

    Args:
        answers: method -> its out-of-fold ages; the main method's first.
        methods: method -> its settings in the manifest.
        files: name in the bundle -> file; a graph's and a model's stem is its role.
        localiser: configuration of the hand finder.
    """

    answers: Mapping[str, Answer]
    methods: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, Path]
    localiser: Any

    def adding(self, name: str, run: Path, answer: Answer, settings: Mapping[str, Any]) -> Parts:
        """Return the parts with one method more, from its run."""
        return replace(
            self,
            answers={**self.answers, name: answer},
            methods={**self.methods, name: settings},
            files={**self.files, f"{name}.onnx": run / "graph.onnx"},
        )


def assemble(
    finder_run: Path,
    age_run: Path,
    out: Path,
    *,
    grades_run: Path | None = None,
    intervals_run: Path | None = None,
    name: str,
    version: str,
    data: str,
) -> Bundle:
    """Write a bundle from runs of hand localisation, hand regression, graded regions and age intervals.

    Args:
        finder_run: folder of a `hand_localisation` run.
        age_run: folder of a `hand_regression` run.
        out: the bundle's folder.
        grades_run: folder of a `graded_regions` run on the same folds; None makes a bundle without grades.
        intervals_run: folder of an `age_intervals` run on the same folds; None makes one without intervals.
        name: the bundle's name.
        version: the bundle's version.
        data: what it was trained on and on what terms, one sentence.

    Raises:
        ConfigError: a run is not complete, or the runs do not share their folds.
    """
    _require(finder_run, "config.json", "graph.onnx")
    for run in filter(None, (age_run, grades_run, intervals_run)):
        _require(run, "config.json", "folds.csv", "graph.onnx", OUT_OF_FOLD)
    files = {"hand_finder.onnx": finder_run / "graph.onnx", "folds.csv": age_run / "folds.csv"}
    if (finder_run / HAND_MODEL).is_file():
        files[HAND_MODEL] = finder_run / HAND_MODEL
    parts = Parts({}, {}, files, _configuration(finder_run)).adding(DIRECT, age_run, *_corrected(age_run))
    if grades_run is not None:
        parts = parts.adding(GRADED, grades_run, *_graded(grades_run))
    if intervals_run is not None:
        parts = parts.adding(INTERVALS, intervals_run, *_intervals(intervals_run))
    return _write(parts, out, {"name": name, "version": version, "data": data})


def extend(
    bundle: Bundle,
    intervals_run: Path,
    out: Path,
    *,
    version: str,
    name: str | None = None,
    data: str | None = None,
) -> Bundle:
    """Write a bundle again with a run of age intervals, which takes the place of an older one.

    The other methods keep their graphs and settings; how all are joined is fitted anew, to the ages in
    the bundle's own out-of-fold table.

    Args:
        bundle: the one to extend; it is not changed, unless `out` is its folder.
        intervals_run: folder of an `age_intervals` run on the bundle's folds.
        out: the new bundle's folder.
        version: the new bundle's version.
        name: the new bundle's name; None keeps it.
        data: what it was trained on and on what terms; None keeps what the bundle says.

    Raises:
        ConfigError: the run is not complete, or does not share the bundle's folds; the bundle holds no
            out-of-fold ages of its methods.
    """
    _require(intervals_run, "config.json", "folds.csv", "graph.onnx", OUT_OF_FOLD)
    parts = _parts_of(bundle).adding(INTERVALS, intervals_run, *_intervals(intervals_run))
    said = {
        "name": name or bundle.manifest["name"],
        "version": version,
        "data": data or bundle.manifest["data"],
    }
    return _write(parts, out, said)


def _parts_of(bundle: Bundle) -> Parts:
    """Return what a bundle is made of, its interval classifier excepted."""
    kept = {name: part for name, part in bundle.manifest["methods"].items() if name != INTERVALS}
    table = bundle.path / OUT_OF_FOLD
    tables = {name: read_oof(table, name) for name in dict.fromkeys((bundle.manifest["method"], *kept))}
    return Parts(
        answers={name: Answer.of(oof, oof.predicted) for name, oof in tables.items()},
        methods=kept,
        files={name: bundle.path / name for name in bundle.manifest["checksums"] if name != OUT_OF_FOLD},
        localiser=bundle.manifest["localiser"],
    )


def _write(parts: Parts, out: Path, said: Mapping[str, str]) -> Bundle:
    """Join the methods and write the bundle; `said` is its `name`, `version` and `data`."""
    answers = parts.answers
    main = next(iter(answers))
    answer, combination = _combined(answers) if len(answers) > 1 else (answers[main], {})
    manifest = {
        "name": said["name"],
        "version": said["version"],
        "made": date.today().isoformat(),
        "made_with": f"boneage {__version__}",
        "data": said["data"],
        "images": len(answer.oof.ids),
        "intended_use": "research use only; not a medical device",
        "method": main,
        "methods": parts.methods,
        **({"combination": combination} if combination else {}),
        "localiser": parts.localiser,
        "graphs": {Path(file).stem: file for file in parts.files if file.endswith(".onnx")},
        "files": {Path(file).stem: file for file in parts.files if file.endswith(".npz")},
    }
    with TemporaryDirectory() as folder:
        table = Path(folder) / OUT_OF_FOLD
        write_oof(table, answer, answers)
        return write_bundle(out, manifest, {**parts.files, OUT_OF_FOLD: table})


def _corrected(run: Path) -> tuple[Answer, dict[str, Any]]:
    """Return a method's out-of-fold ages, corrected where that helps, and its settings."""
    oof = read_oof(run / OUT_OF_FOLD)
    lines, corrected = correct(oof)
    plain = _mae(oof.predicted, oof)
    helps = _mae(corrected, oof) < plain
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
    oof = read_oof(run / OUT_OF_FOLD)
    answer = Answer.of(oof, oof.predicted)
    configuration = _configuration(run)
    return answer, {"input": configuration["input"], **answer.settings(), "configuration": configuration}


def _intervals(run: Path) -> tuple[Answer, dict[str, Any]]:
    """Return the interval classifier's out-of-fold ages, corrected where that helps, and its settings."""
    _require(run, "intervals.json", PROBABILITIES)
    answer, settings = _corrected(run)
    intervals = json.loads((run / "intervals.json").read_text(encoding="utf-8"))
    edges, temperature = tuple(map(float, intervals["edges_months"])), float(intervals["temperature"])
    hits = _classified(run / PROBABILITIES, answer.oof, AgeIntervals(edges), temperature)
    return answer, {
        **settings,
        "intervals": {"edges_months": edges},
        "temperature": temperature,
        "figures_out_of_fold": {**settings["figures_out_of_fold"], "classification": hits},
    }


def _classified(path: Path, oof: OutOfFold, intervals: AgeIntervals, temperature: float) -> dict[str, Any]:
    """Return how the out-of-fold probabilities at the temperature hold the reference readings."""
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    by_id = {name: [float(cell) for cell in cells] for name, *cells in rows}
    if not by_id.keys() >= set(oof.ids) or any(len(row) != len(intervals) for row in by_id.values()):
        raise ConfigError(
            f"{path} does not have {len(intervals)} intervals for every hand of {OUT_OF_FOLD}; "
            "train every fold of the run again"
        )
    probabilities = temper([by_id[name] for name in oof.ids], temperature)
    found, read = probabilities.argmax(axis=1), intervals.nearest(oof.truth)
    return {
        "count": len(oof.ids),
        "accuracy": accuracy(found, read),
        "within_one_interval": float((np.abs(found - read) <= 1).mean()),
        "negative_log_likelihood": negative_log_likelihood(probabilities, read),
        "expected_calibration_error": expected_calibration_error(probabilities, read),
    }


def _combined(answers: Mapping[str, Answer]) -> tuple[Answer, dict[str, Any]]:
    """Return the combination's cross-fitted ages over the images that all methods read, and its settings.

    One method after the other joins the main one, where its joining lowers the cross-fitted error by more
    than chance explains; `tried` has both errors of each, and their difference with its interval.
    """
    oof = _shared(list(answers.values()))
    predicted = {name: answer.at(oof) for name, answer in answers.items()}
    main, *others = predicted
    joined, ages, tried = {main: predicted[main]}, predicted[main], {}
    for name in others:
        candidate = {**joined, name: predicted[name]}
        with_it = cross_fit(candidate, oof.truth, oof.fold)
        gain = paired_difference(with_it - oof.truth, ages - oof.truth, mean_absolute)
        tried[name] = {
            "mae_months_without": _mae(ages, oof),
            "mae_months_with": _mae(with_it, oof),
            "difference_months": asdict(gain),
        }
        if gain.high < 0:
            joined, ages = candidate, with_it
    answer = Answer.of(oof, ages)
    return answer, {"weights": fit_weights(joined, oof.truth), "tried": tried, **answer.settings()}


def _shared(answers: list[Answer]) -> OutOfFold:
    """Return the table of the images that all methods read."""
    first, *others = (answer.oof for answer in answers)
    ids = set(first.ids).intersection(*(other.ids for other in others))
    oof = first.take(np.array([name in ids for name in first.ids]))
    for other in others:
        folds = dict(zip(other.ids, other.fold, strict=True))
        if not ids or any(folds[name] != fold for name, fold in zip(oof.ids, oof.fold, strict=True)):
            raise ConfigError(
                "the runs to combine do not share their folds; train both on one manifest and seed"
            )
    return oof


def _mae(predicted: Vector, oof: OutOfFold) -> float:
    return float(np.abs(predicted - oof.truth).mean())


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


def _require(run: Path, *names: str) -> None:
    """Refuse a run that is not complete before anything is written."""
    absent = [name for name in names if not (run / name).is_file()]
    if absent:
        raise ConfigError(f"{run / absent[0]} is missing; finish the run first")
