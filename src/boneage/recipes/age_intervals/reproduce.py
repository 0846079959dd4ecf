"""Paper 5's table and figures on the data given, and what the paper leaves out; one split for every row.

One fold is held out, the next one validates (early stopping, the paper's second column), the others
train. Every row is a network of its own in a folder of its own; what is trained already is not trained
again, so that an interrupted run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from boneage.core.errors import ConfigError
from boneage.recipes.age_intervals.config import InputConfig, NetworkConfig, Recipe
from boneage.recipes.age_intervals.fit import Training, plan, prepare, train_all
from boneage.recipes.age_intervals.results import Row
from boneage.recipes.age_intervals.tables import write_report
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import open_run

COUNTS = (3, 5, 10)
"""Numbers of intervals in the paper's table."""

FINE = 10
"""Intervals of the rows that compare losses: the finer, the more an expectation has to tell."""

CROPS = {"none": "whole image", "hand": "upright hand"}
"""What the network may see; the one that is not the comparison's own is a row of its own."""

USUAL = 5
"""Intervals of the rows that change one thing: the paper's choice."""


@dataclass(frozen=True)
class Comparison(Recipe):
    """A recipe, and the networks that take its `network`'s place in turn.

    Args:
        models: `customized`, `efficientnet`, `inception` and `resnet`, or any others.
        by_loss: of them, those that learn by every loss; none named: all.
        changed: of them, the one that the rows are of in which one thing is changed.
    """

    models: dict[str, NetworkConfig] = field(default_factory=dict)
    by_loss: tuple[str, ...] = ()
    changed: str = "resnet"

    def __post_init__(self) -> None:
        if not self.schedule.patience:
            raise ConfigError(
                "schedule.patience is 0: the comparison has a validation column; give 1 or more"
            )
        strangers = [name for name in (self.changed, *self.by_loss) if name not in self.models]
        if strangers:
            raise ConfigError(
                f"{strangers[0]!r} is none of the models: {', '.join(self.models) or 'there is none'}"
            )


def reproduce(job: TrainJob) -> Path:
    """Train every row, and write `tables.md`, `tables.json` and the figures.

    Raises:
        ConfigError: as `fit.train`.
    """
    comparison = read_config(
        named_config(Path(__file__).parent, job.config or Path("comparison")), Comparison, job.overrides
    )
    rows = rows_of(comparison)
    intervals = plan(job.data, [row.recipe for row in rows])
    open_run(job, "age_intervals", comparison)
    for row in rows:
        prepare(job, row.recipe)
    fold = (*comparison.schedule.run_folds, 0)[0]
    trainings = [
        Training(job.data, row.recipe, of_row, fold, job.out / row.folder, job.out)
        for row, of_row in zip(rows, intervals, strict=True)
    ]
    train_all(trainings, comparison.schedule.processes)
    write_report(job.out, comparison, rows, intervals)
    return job.out


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
    for model in comparison.by_loss or comparison.models:
        plain = _row(comparison, model, FINE)
        for loss in ("ordinal", "distribution", "regression"):
            recipe = replace(plain.recipe, schedule=replace(plain.recipe.schedule, loss=loss))
            rows.append(replace(plain, recipe=recipe))
    return rows


def _changes(comparison: Comparison) -> list[Row]:
    """One model with one thing changed: what the difference from the paper comes from."""
    plain = _row(comparison, comparison.changed, USUAL)
    recipe = plain.recipe
    own = recipe.input
    high, wide = (round(side / 6) * 4 for side in (own.height, own.width))  # two thirds, by fours
    changed = {
        "no pretrained weights": replace(
            recipe, network=replace(recipe.network, pretrained="none", frozen_stages=0)
        ),
        "half of the training images": replace(recipe, schedule=replace(recipe.schedule, train_share=0.5)),
        **{f"the {words}": _seeing(recipe, replace(own, crop=crop)) for crop, words in CROPS.items()},
        f"four patches of {high} x {wide} px that vote": _seeing(
            recipe, replace(own, height=high, width=wide, patches=(2, 2))
        ),
    }
    return [
        replace(plain, recipe=other, change=change) for change, other in changed.items() if other != recipe
    ]


def _seeing(recipe: Recipe, given: InputConfig) -> Recipe:
    """Return the recipe with another input, at whose size it trains."""
    stages = tuple(replace(stage, height=given.height, width=given.width) for stage in recipe.schedule.stages)
    return replace(recipe, input=given, schedule=replace(recipe.schedule, stages=stages))
