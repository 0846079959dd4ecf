"""Assemble a bundle from trained runs, or extend one: calibration from out-of-fold predictions, checksums."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from boneage import __version__
from boneage.core.errors import ConfigError
from boneage.inference.additions import (
    KEYS,
    Addition,
    additions,
    measured_precisions,
    trained_on,
    with_files,
    with_settings,
)
from boneage.inference.bundle import Bundle, write_bundle
from boneage.inference.combine import cross_fit, fit_weights
from boneage.inference.out_of_fold import Answer, OutOfFold, Vector, correct, read_oof, write_oof
from boneage.inference.precision import PRECISIONS
from boneage.inference.run_files import configuration_of, require
from boneage.inference.site_bundle import expect_uncalibrated
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
        more: what else the manifest says, by key; it changes no age.
    """

    answers: Mapping[str, Answer]
    methods: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, Path]
    localiser: Any
    more: Mapping[str, Any] = field(default_factory=dict)

    def adding(self, name: str, run: Path, answer: Answer, settings: Mapping[str, Any]) -> Parts:
        """Return the parts with one method more, from its run."""
        return replace(
            self,
            answers={**self.answers, name: answer},
            methods={**self.methods, name: settings},
            files={**self.files, f"{name}.onnx": run / "graph.onnx"},
        )

    def besides(self, added: Sequence[Addition]) -> Parts:
        """Return the parts with what changes no age, in place of older parts of its kind."""
        return replace(self, files=with_files(self.files, added), more=with_settings(self.more, added))


def assemble(
    finder_run: Path,
    age_run: Path,
    out: Path,
    *,
    grades_run: Path | None = None,
    intervals_run: Path | None = None,
    subgrades_run: Path | None = None,
    clusters_run: Path | None = None,
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
        subgrades_run: folder of a `radius_subgrades` run; None makes one without sub-grades.
        clusters_run: folder of a `region_clusters` run; None makes one without groups of hands.
        name: the bundle's name.
        version: the bundle's version.
        data: what it was trained on and on what terms, one sentence.

    Raises:
        ConfigError: a run is not complete, or the runs do not share their folds; sub-grades without grades.
    """
    require(finder_run, "config.json", "graph.onnx")
    for run in filter(None, (age_run, grades_run, intervals_run)):
        require(run, "config.json", "folds.csv", "graph.onnx", OUT_OF_FOLD)
    files = {"hand_finder.onnx": finder_run / "graph.onnx", "folds.csv": age_run / "folds.csv"}
    if (finder_run / HAND_MODEL).is_file():
        files[HAND_MODEL] = finder_run / HAND_MODEL
    parts = Parts({}, {}, files, configuration_of(finder_run)).adding(DIRECT, age_run, *_corrected(age_run))
    if grades_run is not None:
        parts = parts.adding(GRADED, grades_run, *_graded(grades_run))
    if intervals_run is not None:
        parts = parts.adding(INTERVALS, intervals_run, *_intervals(intervals_run))
    parts = parts.besides(additions(parts.methods, subgrades_run, clusters_run))
    return _write(parts, out, {"name": name, "version": version, "data": data})


def extend(
    bundle: Bundle,
    out: Path,
    *,
    intervals_run: Path | None = None,
    subgrades_run: Path | None = None,
    clusters_run: Path | None = None,
    consistency_run: Path | None = None,
    precisions: Path | None = None,
    version: str,
    name: str | None = None,
    data: str | None = None,
) -> Bundle:
    """Write a bundle again with runs of intervals, sub-grades or groups, which take older ones' places.

    Or with its own graphs trained on: their answers for good images are meant to stay, so that calibration
    and figures stay too; how far they moved is part of the manifest.

    The other methods keep their graphs and settings. With age intervals, how all are joined is fitted anew,
    to the ages in the bundle's own out-of-fold table; sub-grades and groups of hands leave the table and the
    fit as they are, so that every age stays the same.

    Args:
        bundle: the one to extend; it is not changed, unless `out` is its folder.
        out: the new bundle's folder.
        intervals_run: folder of an `age_intervals` run on the bundle's folds; None keeps what there is.
        subgrades_run: folder of a `radius_subgrades` run; None keeps what there is.
        clusters_run: folder of a `region_clusters` run; None keeps what there is.
        consistency_run: folder of a `consistency` run on this bundle's graphs, which it replaces.
        precisions: what `benchmarks/precision.py` measured with this bundle.
        version: the new bundle's version.
        name: the new bundle's name; None keeps it.
        data: what it was trained on and on what terms; None keeps what the bundle says.

    Raises:
        ConfigError: no run is given; a run is not complete, or does not share the bundle's folds; the
            bundle holds no out-of-fold ages of its methods, or gets sub-grades and grades no bones, or is
            calibrated for a site; graphs were trained on from others than the bundle's.
    """
    expect_uncalibrated(bundle)
    said = {
        "name": name or bundle.manifest["name"],
        "version": version,
        "data": data or bundle.manifest["data"],
    }
    added = additions(bundle.manifest["methods"], subgrades_run, clusters_run)
    if (intervals_run, consistency_run, precisions).count(None) < 2:
        raise ConfigError(
            "intervals, consistency and precisions each rest on the bundle's graphs as they are: extend the "
            "bundle by one after the other, in this order"
        )
    if consistency_run is not None:
        added = (*added, trained_on(consistency_run, bundle.manifest["checksums"]))
    if precisions is not None:
        added = (*added, measured_precisions(precisions, bundle.manifest["checksums"]))
    if intervals_run is not None:
        require(intervals_run, "config.json", "folds.csv", "graph.onnx", OUT_OF_FOLD)
        parts = _parts_of(bundle).adding(INTERVALS, intervals_run, *_intervals(intervals_run))
        return _write(parts.besides(added), out, said)
    if not added:
        raise ConfigError(
            "a bundle is extended by a run of age_intervals, radius_subgrades, region_clusters or "
            "consistency, or by precisions: give one"
        )
    return _write_again(bundle, added, out, said)


def _parts_of(bundle: Bundle) -> Parts:
    """Return what a bundle is made of, its interval classifier excepted."""
    manifest = bundle.manifest
    kept = {name: part for name, part in manifest["methods"].items() if name != INTERVALS}
    table = bundle.path / OUT_OF_FOLD
    tables = {name: read_oof(table, name) for name in dict.fromkeys((manifest["method"], *kept))}
    return Parts(
        answers={name: Answer.of(oof, oof.predicted) for name, oof in tables.items()},
        methods=kept,
        files={name: bundle.path / name for name in manifest["checksums"] if name != OUT_OF_FOLD},
        localiser=manifest["localiser"],
        more={key: manifest[key] for key in KEYS if key in manifest},
    )


def _write(parts: Parts, out: Path, said: Mapping[str, str]) -> Bundle:
    """Join the methods and write the bundle; `said` is its `name`, `version` and `data`."""
    answers = parts.answers
    main = next(iter(answers))
    answer, combination = _combined(answers) if len(answers) > 1 else (answers[main], {})
    manifest = {
        "name": said["name"],
        "version": said["version"],
        **_made(),
        "data": said["data"],
        "images": len(answer.oof.ids),
        "intended_use": "research use only; not a medical device",
        "method": main,
        "methods": parts.methods,
        **({"combination": combination} if combination else {}),
        "localiser": parts.localiser,
        **parts.more,
        "graphs": _roles(parts.files, ".onnx"),
        "files": _roles(parts.files, ".npz"),
    }
    with TemporaryDirectory() as folder:
        table = Path(folder) / OUT_OF_FOLD
        write_oof(table, answer, answers)
        return write_bundle(out, manifest, {**parts.files, OUT_OF_FOLD: table})


def _write_again(bundle: Bundle, added: Sequence[Addition], out: Path, said: Mapping[str, str]) -> Bundle:
    """Write a bundle again with additions; its table, its figures and its fit stay as they are."""
    files = with_files({name: bundle.path / name for name in bundle.manifest["checksums"]}, added)
    # What was measured of precisions holds for the graphs that were measured.
    other_graphs = any(file.endswith(".onnx") for addition in added for file in addition.files)
    left_out = ("schema", "checksums", *([PRECISIONS] if other_graphs else []))
    kept = {key: value for key, value in bundle.manifest.items() if key not in left_out}
    manifest = with_settings({**kept, **said, **_made()}, added)
    return write_bundle(out, {**manifest, "files": _roles(files, ".npz")}, files)


def _roles(files: Iterable[str], suffix: str) -> dict[str, str]:
    return {Path(file).stem: file for file in files if file.endswith(suffix)}


def _made() -> dict[str, str]:
    return {"made": date.today().isoformat(), "made_with": f"boneage {__version__}"}


def _corrected(run: Path) -> tuple[Answer, dict[str, Any]]:
    """Return a method's out-of-fold ages, corrected where that helps, and its settings."""
    oof = read_oof(run / OUT_OF_FOLD)
    lines, corrected = correct(oof)
    plain = _mae(oof.predicted, oof)
    helps = _mae(corrected, oof) < plain
    answer = Answer.of(oof, corrected if helps else oof.predicted)
    configuration = configuration_of(run)
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
    configuration = configuration_of(run)
    return answer, {"input": configuration["input"], **answer.settings(), "configuration": configuration}


def _intervals(run: Path) -> tuple[Answer, dict[str, Any]]:
    """Return the interval classifier's out-of-fold ages, corrected where that helps, and its settings."""
    require(run, "intervals.json", PROBABILITIES)
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
