"""The report of `reproduce`: paper 5's table beside its own figures, and further tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from boneage.metrics.bootstrap import Interval, bootstrap_interval, mean, mean_absolute, paired_difference
from boneage.metrics.classification import (
    expected_calibration_error,
    near_border,
    negative_log_likelihood,
    temper,
)
from boneage.recipes.age_intervals.config import Recipe
from boneage.recipes.age_intervals.figures import draw
from boneage.recipes.age_intervals.fit import PARTS
from boneage.recipes.age_intervals.intervals import AgeIntervals
from boneage.recipes.age_intervals.results import Result, Row, cross_entropy, percent, read_result
from boneage.reporting.tabular import markdown_table
from boneage.training.config import as_tree

PRINTED: Mapping[tuple[int, str], tuple[float, float]] = {
    (3, "customized"): (78.2, 76.1),
    (3, "efficientnet"): (84.2, 82.3),
    (3, "inception"): (85.5, 83.6),
    (3, "resnet"): (85.72, 84.36),
    (5, "customized"): (69.0, 65.3),
    (5, "efficientnet"): (75.4, 71.25),
    (5, "inception"): (71.52, 70.63),
    (5, "resnet"): (75.6, 72.3),
    (10, "customized"): (55.32, 51.2),
    (10, "efficientnet"): (57.4, 55.9),
    (10, "inception"): (56.33, 54.87),
    (10, "resnet"): (57.36, 54.63),
}
"""Intervals and model -> training and validation accuracy in percent, as the paper's table prints them."""

NEAR_MONTHS = 6
"""How near to a border of two intervals an age lies that is hard to sort."""


def write_report(out: Path, recipe: Recipe, rows: Sequence[Row], intervals: Sequence[AgeIntervals]) -> None:
    """Write `tables.md`, `tables.json` and the figures of trained rows to a run's folder."""
    results = [read_result(out, row, of_row) for row, of_row in zip(rows, intervals, strict=True)]
    plain = [result for result in results if not result.row.change]
    changed = [result for result in results if result.row.change]
    by_loss = _loss_results(plain)
    sections = [
        "# Paper 5 on the data given",
        _head(recipe, results[0]),
        "## Its table\n\n" + _paper_table(plain),
        "## Errors at the borders\n\n" + _border_table(plain),
        "## What the sex adds\n\n" + _sex_table(plain),
        "## Losses: classification and regression\n\n" + _loss_table(by_loss),
        "## One thing changed\n\n" + _change_table(plain, changed),
    ]
    (out / "tables.md").write_text("\n\n".join(sections) + "\n")
    (out / "tables.json").write_text(
        json.dumps({"recipe": as_tree(recipe), "rows": [_record(result) for result in results]}, indent=2)
        + "\n"
    )
    for name, picture in draw(plain, by_loss).items():
        (out / name).write_bytes(picture)


def _head(recipe: Recipe, first: Result) -> str:
    schedule, counts = recipe.schedule, {name: len(part.ages) for name, part in first.parts.items()}
    crop = {"none": "whole images", "box": "the hand's box", "hand": "the upright hand"}[recipe.input.crop]
    return (
        f"{counts['training']} images train, {counts['validation']} validate (they stop the training, as in "
        f"the paper), {counts['held_out']} are held out and did neither; the same ones in every row. Inputs: "
        f"{crop}, {recipe.input.height} x {recipe.input.width} px. At most {schedule.epochs} epochs, batches "
        f"of {schedule.batch}, {schedule.optimiser} at {schedule.learning_rate:g}, stopped after "
        f"{schedule.patience} epochs without a lower validation loss, seed {schedule.seed}. Accuracies are "
        "in percent, brackets "
        "are 95% bootstrap intervals. The paper's columns are of 12,611 training and 800 validation images."
    )


def _paper_table(results: Sequence[Result]) -> str:
    without = {(r.row.count, r.row.model): r for r in cross_entropy(results, sex=False)}
    head = (
        "intervals",
        "model",
        "training",
        "validation",
        "held out",
        "validation, no sex",
        "held out, no sex",
        "paper: training",
        "paper: validation",
    )
    lines: list[tuple[str, ...]] = []
    for result in cross_entropy(results, sex=True):
        key = (result.row.count, result.row.model)
        if not lines or lines[-1][0] != str(result.row.count):
            lines.append(_largest(result))
        printed = [f"{value:g}" for value in PRINTED[key]] if key in PRINTED else ["", ""]
        cells = [f"{result.accuracy(part).estimate:.1f}" for part in PARTS[:2]]
        other = without[key]
        lines.append(
            (
                str(result.row.count),
                result.row.model,
                *cells,
                _told(result.accuracy("held_out")),
                f"{other.accuracy('validation').estimate:.1f}",
                _told(other.accuracy("held_out")),
                *printed,
            )
        )
    return markdown_table(head, lines)


def _largest(result: Result) -> tuple[str, ...]:
    """Return the row of a guess that always names the interval with most training images."""
    counts = np.bincount(result.parts["training"].classes, minlength=len(result.intervals))
    shares = [f"{100 * (result.parts[part].classes == counts.argmax()).mean():.1f}" for part in PARTS]
    return (str(result.row.count), "always the largest interval", *shares, "", "", "", "")


def _border_table(results: Sequence[Result]) -> str:
    """Return the share of wrong images by distance to the nearest border, in percent."""
    known = cross_entropy(results, sex=True)
    names = {(row.low_months, row.name) for result in known for row in result.borders()}
    columns = [name for _, name in sorted(names)]
    lines = []
    for result in known:
        wrong = {row.name: f"{100 * row.wrong.estimate:.0f}% of {row.cases}" for row in result.borders()}
        cells = (wrong.get(name, "") for name in columns)
        lines.append((str(result.row.count), result.row.model, *cells))
    text = (
        "Wrong intervals in percent of the held-out images whose age lies so far from the nearest border.\n\n"
    )
    return text + markdown_table(("intervals", "model", *columns), lines)


def _sex_table(results: Sequence[Result]) -> str:
    """Return the paired difference with and without the sex, of the models' mean, by distance to a border."""
    lines = []
    for count in sorted({result.row.count for result in results}):
        both = [
            np.mean(
                [r.parts["held_out"].right for r in cross_entropy(results, sex=sex) if r.row.count == count],
                axis=0,
            )
            for sex in (True, False)
        ]
        any_result = next(result for result in results if result.row.count == count)
        held_out = any_result.parts["held_out"]
        near = near_border(held_out.ages, any_result.intervals.edges_months, NEAR_MONTHS)
        cells = [
            _told(percent(paired_difference(both[0][chosen], both[1][chosen], mean))) if chosen.any() else ""
            for chosen in (np.ones_like(near), near, ~near)
        ]
        lines.append((str(count), *cells, f"{near.sum()} of {len(near)}"))
    head = (
        "intervals",
        "all",
        f"within {NEAR_MONTHS} months of a border",
        "further away",
        "images near a border",
    )
    text = (
        "Accuracy with the sex less accuracy without it, in points, mean of the models, on the held-out "
        'images. The paper finds the sex "particularly valuable at the edges of classes".\n\n'
    )
    return text + markdown_table(head, lines)


def _loss_results(results: Sequence[Result]) -> list[Result]:
    """Return the results of the number of intervals for which all losses were trained."""
    fine = next(r.row.count for r in results if r.row.recipe.schedule.loss != "cross_entropy")
    chosen = [result for result in results if result.row.sex and result.row.count == fine]
    return sorted(chosen, key=lambda result: result.row.model)


def _loss_table(results: Sequence[Result]) -> str:
    head = (
        "model",
        "loss",
        "held out",
        "within one interval",
        "MAE (months)",
        "ECE",
        "ECE, calibrated",
        "temperature",
        "-log likelihood",
        "calibrated",
    )
    lines = []
    for result in results:
        part, temperature = result.parts["held_out"], result.temperature()
        scores = [temper(part.log_probabilities, value) for value in (1.0, temperature)]
        ece = [f"{100 * expected_calibration_error(each, part.classes):.1f}" for each in scores]
        likelihood = [f"{negative_log_likelihood(each, part.classes):.3f}" for each in scores]
        near = float((np.abs(part.found - part.classes) <= 1).mean())
        lines.append(
            (
                result.row.model,
                result.row.recipe.schedule.loss,
                _told(result.accuracy("held_out")),
                f"{100 * near:.1f}",
                _told(bootstrap_interval(part.predicted - part.ages, mean_absolute)),
                ece[0],
                ece[1],
                f"{temperature:.2f}",
                *likelihood,
            )
        )
    text = (
        f"{results[0].row.count} intervals, sex known, the held-out images. An age is the expectation over "
        "the intervals' middles; of `regression` it is what the network predicts. ECE: expected calibration "
        "error in percent, before and after a temperature that was fitted to the validating images.\n\n"
    )
    return text + markdown_table(head, lines)


def _change_table(plain: Sequence[Result], changed: Sequence[Result]) -> str:
    if not changed:
        return "Nothing was changed."
    row = changed[0].row
    base = next(
        r for r in cross_entropy(plain, sex=True) if (r.row.model, r.row.count) == (row.model, row.count)
    )
    lines = []
    for result in (base, *changed):
        part = result.parts["held_out"]
        same = result.intervals == base.intervals
        gap = paired_difference(part.right, base.parts["held_out"].right, mean)
        lines.append(
            (
                result.row.change or "as in the table above",
                *(f"{result.accuracy(name).estimate:.1f}" for name in PARTS[:2]),
                _told(result.accuracy("held_out")),
                _told(percent(gap)) if result is not base and same else "",
                _told(bootstrap_interval(part.predicted - part.ages, mean_absolute)),
            )
        )
    head = ("change", "training", "validation", "held out", "held out, less the first row", "MAE (months)")
    return f"{row.model}, {row.count} intervals, sex known.\n\n" + markdown_table(head, lines)


def _record(result: Result) -> dict[str, Any]:
    held_out = result.parts["held_out"]
    row = result.row
    return {
        "model": row.model,
        "intervals": row.count,
        "edges_months": result.intervals.edges_months,
        "sex": row.sex,
        "loss": row.recipe.schedule.loss,
        "change": row.change,
        "accuracy_percent": {part: asdict(result.accuracy(part)) for part in PARTS},
        "mae_months": asdict(bootstrap_interval(held_out.predicted - held_out.ages, mean_absolute)),
        "temperature": result.temperature(),
        "confusion": result.confusion().tolist(),
    }


def _told(interval: Interval) -> str:
    return f"{interval.estimate:.1f} ({interval.low:.1f} to {interval.high:.1f})"
