"""`boneage evaluate`: the figures of a bundle, or of a training run's out-of-fold predictions.

`--stress` and `--learning-curve` are other questions of the same images: `evaluate_stress`, `evaluate_curve`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boneage.cli.console import complain, make_folder, note, rich_console, warn, write_file
from boneage.cli.evaluate_curve import evaluate_curve
from boneage.core.errors import ConfigError, ExitCode
from boneage.core.runtime import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from boneage.data.manifest import Row
    from boneage.reporting.accuracy import Accuracy, Predictions

OUT_OF_FOLD = "oof.csv"
BUNDLE_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Predictions, what must be said about them, and how many images have none."""

    predictions: Predictions
    title: str
    remarks: tuple[str, ...]
    missing: int
    out_of_fold: bool


def evaluate(
    data: Annotated[Path, typer.Option(help="Manifest with path,sex,bone_age_months.")],
    out: Annotated[Path, typer.Option(help="Folder of the tables and figures.")],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="RUN|BUNDLE", help="A run's or bundle's folder; default: the shipped one."),
    ] = None,
    out_of_fold: Annotated[
        bool,
        typer.Option("--out-of-fold", help="Of a bundle, use the out-of-fold predictions that it holds."),
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")] = None,
    runtime: Annotated[
        Literal["onnxruntime", "openvino"], typer.Option(help="What runs the graphs.")
    ] = DEFAULT_RUNTIME,
    stress: Annotated[
        bool, typer.Option("--stress", help="Change the images at graded strengths: how far do ages move?")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --stress: so many images, drawn at random; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --stress: of the draw and of the changes.")] = 0,
    learning_curve: Annotated[
        bool,
        typer.Option(
            "--learning-curve", help="Train on subsets: what would more images bring? (extra `train`)"
        ),
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="With --learning-curve: a TOML file of what is trained.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="With --learning-curve: change its recipe."),
    ] = None,
    finder: Annotated[
        Path | None,
        typer.Option(help="With --learning-curve: find hands with this run, not the shipped bundle."),
    ] = None,
) -> None:
    """Measure accuracy on a manifest: metrics.json, metrics.md, bland_altman.png, error_by_age.png.

    A run is measured by its out-of-fold predictions; a bundle reads the images.

    Where a bundle was trained on them, the result says so: that is no accuracy.

    With --stress or --learning-curve: a table and a plot of that; cut off, the same command goes on.
    """
    asked = {"--stress": stress, "--learning-curve": learning_curve, "--out-of-fold": out_of_fold}
    _check_one(asked)
    _check_belongs(stress, "--stress", {"--limit": limit, "--seed": seed or None})
    own = {"--config": config, "--set": overrides, "--finder": finder}
    _check_belongs(learning_curve, "--learning-curve", own)
    if learning_curve:
        if target is not None:
            raise ConfigError("--learning-curve trains by itself: leave out the run or bundle")
        evaluate_curve(data, out, config, overrides or [], finder)
        return
    from boneage.inference.bundle import SHIPPED

    folder = SHIPPED if target is None else target
    rows = _labelled(data)
    if stress:
        if not (folder / BUNDLE_MANIFEST).is_file():
            raise ConfigError(
                f"--stress reads images, and {folder} is no bundle ({BUNDLE_MANIFEST}): name one"
            )
        from boneage.cli.evaluate_stress import Draw, drawn, evaluate_stress

        draw = Draw(limit, seed, workers)
        evaluate_stress(folder, drawn(rows, draw), out, draw, runtime, _trained_on(folder))
        return
    make_folder(out)
    if out_of_fold or not (folder / BUNDLE_MANIFEST).is_file():
        evidence = _out_of_fold(folder, rows)
    else:
        evidence = _by_reading(folder, rows, out, workers, runtime)
    _conclude(evidence, len(rows), out)


def _check_one(asked: dict[str, bool]) -> None:
    """Refuse two questions at once."""
    given = [option for option, wanted in asked.items() if wanted]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are different questions: ask one at a time")


def _check_belongs(asked: bool, option: str, own: Mapping[str, object]) -> None:
    """Refuse what belongs to an option that was not given."""
    given = [name for name, value in own.items() if value]
    if given and not asked:
        raise ConfigError(f"{', '.join(given)} belongs to {option}: give both, or neither")


def _labelled(data: Path) -> list[Row]:
    from boneage.data.manifest import read_manifest

    rows = [row for row in read_manifest(data) if row.bone_age_months is not None]
    if not rows:
        raise ConfigError(f"{data} holds no reference age: fill its column bone_age_months")
    return rows


def _conclude(evidence: _Evidence, images: int, out: Path) -> None:
    """Measure, write, print, and say what is missing."""
    from boneage.reporting.accuracy import measure

    accuracy = measure(evidence.predictions, evidence.remarks)
    _write(accuracy, evidence, out)
    _print(accuracy, evidence.title)
    for remark in evidence.remarks:
        (note if evidence.out_of_fold else warn)(remark)
    if evidence.missing:
        complain(f"{evidence.missing} of {images} images have no prediction and are not in these figures")
        raise typer.Exit(ExitCode.SOME_FAILED)


def _out_of_fold(folder: Path, rows: list[Row]) -> _Evidence:
    from boneage.data.manifest import read_table

    path = folder / OUT_OF_FOLD
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no {OUT_OF_FOLD}, as a run does, and is not to be read as a bundle "
            f"({BUNDLE_MANIFEST}): name the folder of a run or a bundle"
        )
    predicted = {record["id"]: record for _, record in read_table(path)}
    found = [(row, predicted[row.id]) for row in rows if row.id in predicted]
    if not found:
        raise ConfigError(
            f"{path} and the manifest have no id in common: give the manifest that the run was trained on"
        )
    remarks = ("Out-of-fold predictions: every image was predicted by a model that was not trained on it.",)
    title = f"Out-of-fold accuracy of {folder.name}"
    return _Evidence(
        _join(found, "prediction", "lower", "upper"), title, remarks, len(rows) - len(found), True
    )


def _by_reading(folder: Path, rows: list[Row], out: Path, workers: int | None, runtime: str) -> _Evidence:
    """Read every image with the bundle; an interrupted evaluation goes on by itself."""
    from boneage.batch import table
    from boneage.batch.local import BundleReader, Settings, journal_path
    from boneage.cli.batch import run_with_progress
    from boneage.inference.bundle import Bundle
    from boneage.reporting.tabular import OK

    bundle = Bundle.load(folder)
    predictions = out / "predictions.csv"
    begun = journal_path(predictions).exists()
    settings = Settings(workers, resume=begun, overwrite=not begun)
    run_with_progress(tuple(rows), predictions, BundleReader(folder, runtime=runtime), settings)
    pairs = zip(rows, table.read(predictions), strict=True)
    found = [(row, read) for row, read in pairs if read["status"] == OK]
    remarks = _training_remarks(folder, rows)
    joined = _join(found, "bone_age_months", "lower_months", "upper_months")
    return _Evidence(joined, f"Accuracy of {bundle.name}", remarks, len(rows) - len(found), False)


def _training_remarks(folder: Path, rows: list[Row]) -> tuple[str, ...]:
    """Return a remark where the bundle was trained on some of the images, by the ids of its folds."""
    trained = _trained_on(folder)
    known = sum(row.id in trained for row in rows)
    if not known:
        return ()
    return (
        f"THESE ARE TRAINING IMAGES: NOT AN ACCURACY. The bundle was trained on {known} of these {len(rows)} "
        "images (by id); use --out-of-fold, or images that it has not seen.",
    )


def _trained_on(folder: Path) -> set[str]:
    """Return the ids of the images that a bundle was trained on, as far as it says so."""
    from boneage.data.manifest import read_table

    folds = folder / "folds.csv"
    return {record["id"] for _, record in read_table(folds)} if folds.is_file() else set()


def _join(found: list[tuple[Row, Any]], prediction: str, lower: str, upper: str) -> Predictions:
    """Return the predictions of rows and their records, with intervals where every record has one."""
    import numpy as np

    from boneage.core.types import Sex
    from boneage.reporting.accuracy import Predictions

    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([float(record[name]) for _, record in found], dtype=np.float64)

    bounded = bool(found) and all(
        record.get(name) not in {None, ""} for _, record in found for name in (lower, upper)
    )
    return Predictions(
        ids=tuple(row.id for row, _ in found),
        sexes=tuple(Sex(record["sex"]) for _, record in found),
        reference=np.array([row.bone_age_months for row, _ in found], dtype=np.float64),
        predicted=column(prediction),
        lower=column(lower) if bounded else None,
        upper=column(upper) if bounded else None,
    )


def _write(accuracy: Accuracy, evidence: _Evidence, out: Path) -> None:
    from boneage.reporting import accuracy as figures
    from boneage.reporting import plots

    predictions, title = evidence.predictions, evidence.title
    arguments = (predictions.reference, predictions.predicted, predictions.sexes, title)
    record = {"title": title, "not_read": evidence.missing, **figures.record(accuracy)}
    write_file(out / "metrics.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    write_file(out / "metrics.md", figures.markdown(accuracy, title))
    write_file(out / "bland_altman.png", plots.bland_altman_png(*arguments))
    write_file(out / "error_by_age.png", plots.error_by_age_png(*arguments))


def _print(accuracy: Accuracy, title: str) -> None:
    from rich.table import Table

    from boneage.reporting.accuracy import SUBGROUP_HEAD, overall_rows, subgroup_rows

    console = rich_console()
    overall = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    for row in overall_rows(accuracy):
        overall.add_row(*row)
    groups = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(SUBGROUP_HEAD):
        groups.add_column(name, justify="right" if number else "left")
    for row in subgroup_rows(accuracy):
        groups.add_row(*row)
    console.print(overall, "", groups, markup=False)
