"""Paper 5's table and figures on the data given, and what the paper leaves out; one split for every row.

One fold is held out, the next one validates (early stopping, the paper's second column), the others
train. Every row is a network of its own in a folder of its own; what is trained already is not trained
again, so that an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from boneage.core.errors import ConfigError
from boneage.recipes.age_intervals.config import InputConfig, NetworkConfig, Recipe
from boneage.recipes.age_intervals.fit import Training, prepare, side_by_side, train_fold
from boneage.recipes.age_intervals.results import Row
from boneage.recipes.age_intervals.tables import write_report
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import open_run

COUNTS = (3, 5, 10)
"""Numbers of intervals in the paper's table."""

FINE = 10
"""Intervals of the rows that compare losses: the finer, the more an expectation has to tell."""

USUAL = 5
"""Intervals of the rows that change one thing: the paper's choice."""


@dataclass(frozen=True)
class Comparison(Recipe):
    """A recipe, and the networks that take its `network`'s place in turn.

    Args:
        models: `customized`, `efficientnet`, `inception` and `resnet`, or any others.
        changed: of them, the one that the rows are of in which one thing is changed.
    """

    models: dict[str, NetworkConfig] = field(default_factory=dict)
    changed: str = "resnet"

    def __post_init__(self) -> None:
        if self.changed not in self.models:
            raise ConfigError(
                f"changed={self.changed!r} is none of the models: {', '.join(self.models) or 'there is none'}"
            )


def reproduce(job: TrainJob) -> Path:
    """Train every row, and write `tables.md`, `tables.json` and the figures.

    Raises:
        ConfigError: as `fit.train`.
    """
    comparison = read_config(
        named_config(Path(__file__).parent, job.config or Path("comparison")), Comparison, job.overrides
    )
    open_run(job, "age_intervals", comparison)
    rows = rows_of(comparison)
    trainings = [training_of(job, row) for row in rows]
    side_by_side(train_fold, trainings, comparison.schedule.processes)
    write_report(job.out, comparison, rows, [training.intervals for training in trainings])
    return job.out


def training_of(job: TrainJob, row: Row) -> Training:
    """Return the training of one row; its images are split and processed if they are not yet."""
    intervals = prepare(job, row.recipe)
    fold = row.recipe.schedule.run_folds[0] if row.recipe.schedule.run_folds else 0
    return Training(job.data, row.recipe, intervals, fold, job.out / row.folder, job.out)


def rows_of(comparison: Comparison) -> list[Row]:
    """Return the rows of all tables; those that several tables share are there once."""
    return [*_printed(comparison), *_losses(comparison), *_changes(comparison)]


def _row(comparison: Comparison, model: str, count: int, *, sex: bool = True) -> Row:
    network = comparison.models[model]
    recipe = replace(
        comparison,
        intervals=replace(comparison.intervals, count=count),
        network=network if sex else replace(network, sex_width=0),
    )
    return Row(model, count, recipe, sex=sex)


def _printed(comparison: Comparison) -> list[Row]:
    """The paper's table: every number of intervals and model, with and without the sex."""
    return [
        _row(comparison, model, count, sex=sex)
        for count in COUNTS
        for model in comparison.models
        for sex in (True, False)
    ]


def _losses(comparison: Comparison) -> list[Row]:
    """The same networks by the other losses."""
    rows = []
    for model in comparison.models:
        plain = _row(comparison, model, FINE)
        for loss in ("ordinal", "distribution", "regression"):
            recipe = replace(plain.recipe, schedule=replace(plain.recipe.schedule, loss=loss))
            rows.append(replace(plain, recipe=recipe))
    return rows


def _changes(comparison: Comparison) -> list[Row]:
    """One model with one thing changed: what the difference from the paper comes from."""
    plain = _row(comparison, comparison.changed, USUAL)
    recipe = plain.recipe
    height, width = recipe.input.height, recipe.input.width
    scratch = replace(recipe.network, pretrained="none", frozen_stages=0)
    high, wide = (round(side / 6) * 4 for side in (height, width))  # two thirds, in whole steps of four
    halves = replace(recipe.input, height=high, width=wide, patches=(2, 2))
    changed: Sequence[tuple[str, Recipe]] = (
        ("half of the training images", _with_schedule(recipe, train_share=0.5)),
        (
            "the upright hand instead of the whole image",
            replace(recipe, input=replace(recipe.input, crop="hand")),
        ),
        (f"four patches of {high} x {wide} px that vote", _resized(recipe, halves)),
        ("no preprocessing but the size", _without_steps(recipe)),
        (
            "intervals of equal numbers",
            replace(recipe, intervals=replace(recipe.intervals, method="quantile")),
        ),
    )
    rows = [replace(plain, recipe=recipe, change=change) for change, recipe in changed]
    if recipe.network.pretrained != "none":
        rows.insert(
            0, replace(plain, recipe=replace(recipe, network=scratch), change="no pretrained weights")
        )
    return rows


def _with_schedule(recipe: Recipe, **values: float) -> Recipe:
    return replace(recipe, schedule=replace(recipe.schedule, **values))  # type: ignore[arg-type]


def _resized(recipe: Recipe, given: InputConfig) -> Recipe:
    stages = tuple(replace(stage, height=given.height, width=given.width) for stage in recipe.schedule.stages)
    return replace(recipe, input=given, schedule=replace(recipe.schedule, stages=stages))


def _without_steps(recipe: Recipe) -> Recipe:
    pipeline = replace(recipe.input.pipeline, steps=())
    return replace(recipe, input=replace(recipe.input, pipeline=pipeline))
