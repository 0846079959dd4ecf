"""Paper 4's Table 2 as an ablation on the data given: size, sex, localisation, pretraining.

Every row is trained on the same folds with the same schedule; only what the row names differs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from boneage.metrics.bootstrap import Interval, bootstrap_interval, mean_absolute
from boneage.recipes.hand_regression.config import Recipe
from boneage.recipes.hand_regression.fit import train_recipe
from boneage.training.config import Stage, TrainJob, named_config, read_config


@dataclass(frozen=True)
class Condition:
    """One row of Table 2."""

    name: str
    sex: bool
    processed: bool
    pretrained: bool
    size: int
    paper_mae_months: float


def conditions(sizes: Sequence[int]) -> list[Condition]:
    """Return the rows of Table 2 (RSNA) for three sizes, smallest first, with the paper's figures."""
    small, middle, large = sizes
    return [
        Condition("small", True, True, True, small, 6.8),
        Condition("middle", True, True, True, middle, 6.5),
        Condition("large", True, True, True, large, 6.2),
        Condition("no_sex", False, True, True, large, 8.5),
        Condition("no_localisation", True, False, True, large, 7.5),
        Condition("no_pretraining", True, True, False, large, 7.4),
    ]


def reproduce(job: TrainJob) -> Path:
    """Train every condition, and write `table2.md`, `table2.json` and a run a condition.

    Raises:
        ConfigError: as `fit.train`.
    """
    recipe = read_config(
        named_config(Path(__file__).parent, job.config or Path("ablation")), Recipe, job.overrides
    )
    largest = recipe.schedule.stages[-1].height
    sizes = [round(largest * share / 32) * 32 for share in (224 / 700, 500 / 700, 1.0)]
    job.out.mkdir(parents=True, exist_ok=True)
    results = []
    for condition in conditions(sizes):
        run = replace(job, out=job.out / condition.name, resume=True)
        train_recipe(run, under(recipe, condition))
        results.append((condition, _error(run.out / "oof.csv")))
    _write(job.out, recipe, results)
    return job.out


def under(recipe: Recipe, condition: Condition) -> Recipe:
    """Return a recipe changed to one condition."""
    stages = tuple(Stage(stage.epochs, condition.size, condition.size) for stage in recipe.schedule.stages)
    return replace(
        recipe,
        input=replace(
            recipe.input,
            height=condition.size,
            width=condition.size,
            crop=recipe.input.crop if condition.processed else "none",
            contrast=recipe.input.contrast if condition.processed else "none",
        ),
        network=replace(
            recipe.network,
            sex_width=recipe.network.sex_width if condition.sex else 0,
            pretrained=recipe.network.pretrained if condition.pretrained else "none",
        ),
        schedule=replace(recipe.schedule, stages=stages),
    )


def _error(path: Path) -> tuple[int, Interval]:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    errors = np.array([float(line["prediction"]) - float(line["bone_age_months"]) for line in lines])
    return len(errors), bootstrap_interval(errors, mean_absolute)


def _write(out: Path, recipe: Recipe, results: Sequence[tuple[Condition, tuple[int, Interval]]]) -> None:
    epochs = sum(stage.epochs for stage in recipe.schedule.stages)
    folds = len(recipe.schedule.run_folds) or recipe.schedule.folds
    images = results[0][1][0]
    head = (
        f"Paper 4, Table 2, on the data given: {recipe.network.backbone}, {epochs} epochs, "
        f"{folds} of {recipe.schedule.folds} folds, {images} images predicted by networks "
        "that did not see them. The paper's column is of 12,611 images, 160 epochs, 224 / 500 / 700 px.\n\n"
    )
    table = "| sex | localised, equalised | pretrained | size px | MAE months (95%) | paper |\n"
    table += "|---|---|---|---|---|---|\n"
    for condition, (_, error) in results:
        marks = [
            "yes" if flag else "no" for flag in (condition.sex, condition.processed, condition.pretrained)
        ]
        table += f"| {' | '.join(marks)} | {condition.size} | {error} | {condition.paper_mae_months} |\n"
    (out / "table2.md").write_text(head + table)
    rows = [
        {
            **condition.__dict__,
            "images": count,
            "mae_months": error.estimate,
            "interval_months": [error.low, error.high],
        }
        for condition, (count, error) in results
    ]
    (out / "table2.json").write_text(json.dumps({"note": head.strip(), "rows": rows}, indent=2) + "\n")
