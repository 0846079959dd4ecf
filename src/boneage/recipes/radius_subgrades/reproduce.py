"""Paper 1's experiments on the data given: every table and figure from one command.

Each source of grades has a folder; in it `clusters` is a run with the paper's clusters and `axis` one with
clusters along the grade axis. What is done already is not done again, so that an interrupted run goes on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from boneage.data.graded_crops import holds_graded_crops
from boneage.data.manifest import write_text_atomically
from boneage.recipes.radius_subgrades.config import Recipe
from boneage.recipes.radius_subgrades.crops import PATCHES, RadiusCrops, read_bones, read_crops
from boneage.recipes.radius_subgrades.figures import write_figures
from boneage.recipes.radius_subgrades.recognition import recognise
from boneage.recipes.radius_subgrades.results import Floats, HeldOut, read_held_out
from boneage.recipes.radius_subgrades.tables import write_tables
from boneage.standards.names import Bone
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import copy_files, open_run

logger = logging.getLogger(__name__)

FEATURES = (10, 24, 32)
"""Values of features_num in the paper's Figures 5 to 7."""

RUNS = {"clusters": "features", "axis": "axis"}
"""Folder of a run -> `clustering.along`."""

GIVEN, GRADER, WINDOWS = "given", "grader", "windows"
TITLES = {
    GIVEN: "grades as given",
    GRADER: "grades of a table",
    WINDOWS: "grades from bone-age windows",
}
"""Source of grades, which is its folder's name -> what it is called."""

WHOLE = "whole"
"""Folder of the recognition of whole grades, beside those of the runs."""


@dataclass(frozen=True, eq=False)
class Source:
    """Everything that is known with one source of grades.

    Args:
        title: in words.
        of_ages: whether the grades were made from the bone ages, which they then cannot be measured by.
        folder: where it lies.
        crops: the radii.
        runs: folder -> held-out sub-grades.
        recognised: folder, or `WHOLE` -> (N,) recognised grades.
        bones: id -> CHN grades of all bones, where a table has them.
        features: what features_num and seeds do, a record a pair and number.
    """

    title: str
    of_ages: bool
    folder: Path
    crops: RadiusCrops
    runs: Mapping[str, HeldOut]
    recognised: Mapping[str, Floats]
    bones: Mapping[str, Mapping[Bone, float]]
    features: tuple[dict[str, Any], ...]


def reproduce(job: TrainJob) -> Path:
    """Run the experiments; write `tables.md`, `tables.json` and the figures.

    A manifest is run with the grades that go with the bone ages and, where `grades.table` names one, with a
    grader's; graded crops with their own.

    Raises:
        ConfigError: as `fit.train`.
        InputError: as `fit.train`.
    """
    recipe = read_config(
        named_config(Path(__file__).parent, job.config or Path("comparison")), Recipe, job.overrides
    )
    open_run(job, "radius_subgrades", recipe, may_change=("recognition",))
    sources = [
        _run_source(job, of_source, job.out / name) for name, of_source in _sources(job.data, recipe).items()
    ]
    write_tables(job.out, recipe, sources)
    write_figures(job.out, sources)
    return job.out


def _sources(data: Path, recipe: Recipe) -> dict[str, Recipe]:
    """Return the name of every source of grades and its recipe."""
    if holds_graded_crops(data):
        return {GIVEN: recipe}
    windows = {WINDOWS: replace(recipe, grades=replace(recipe.grades, table=""))}
    return {GRADER: recipe, **windows} if recipe.grades.table else windows


def _run_source(job: TrainJob, recipe: Recipe, folder: Path) -> Source:
    """Train and recognise with one source of grades."""
    from boneage.recipes.radius_subgrades.fit import train_recipe

    of_runs = {
        name: replace(recipe, clustering=replace(recipe.clustering, along=along))
        for name, along in RUNS.items()
    }
    for name, of_run in of_runs.items():
        logger.info("%s: %s", TITLES[folder.name], name)
        copy_files(job.out, folder / name, [PATCHES])
        train_recipe(replace(job, out=folder / name, resume=True), of_run)
        copy_files(folder / name, job.out, [PATCHES])
    crops = read_crops(job.data, recipe, folder / "axis", None, logger.warning)
    runs = {name: read_held_out(folder / name / "oof.csv") for name in RUNS}
    runs = {name: held.in_order(crops.ids) for name, held in runs.items()}
    recognised = {WHOLE: recognise(crops, crops.grades.astype(float), recipe.recognition, folder / WHOLE)}
    for name, held in runs.items():
        if (held.subgrades != held.grades).any():
            recognised[name] = recognise(
                crops, held.subgrades, recipe.recognition, folder / f"{name}-recognition"
            )
    bones = read_bones(Path(recipe.grades.table), recipe.grades.given) if recipe.grades.table else {}
    return Source(
        TITLES[folder.name],
        folder.name == WINDOWS,
        folder,
        crops,
        runs,
        recognised,
        bones,
        _features(folder, crops, recipe),
    )


def _features(folder: Path, crops: RadiusCrops, recipe: Recipe) -> tuple[dict[str, Any], ...]:
    """Return quality, evidence and stability of the paper's clusters for every number of features.

    The first two features of the first seed are kept for the figures in `features-NUMBER-LOW-HIGH.npz`.
    """
    file = folder / "features.json"
    if not file.is_file():
        records = _measure_features(folder, crops, recipe)
        write_text_atomically(file, json.dumps(records, indent=2) + "\n")
    return tuple(json.loads(file.read_text()))


def _measure_features(folder: Path, crops: RadiusCrops, recipe: Recipe) -> list[dict[str, Any]]:
    from boneage.recipes.radius_subgrades.fitting import stability_of_seeds
    from boneage.recipes.radius_subgrades.frames import mean_radius
    from boneage.recipes.radius_subgrades.subgrades import Subgrader

    template = mean_radius(list(crops.patches)) if recipe.input.align else None
    views = Subgrader(recipe.input, template, ()).views(crops.patches)
    plain = replace(recipe, clustering=replace(recipe.clustering, along="features"))
    records = []
    for pair in recipe.grades.pairs:
        for number in FEATURES:
            numbered = replace(plain, network=replace(plain.network, features=number))
            alike, fitted = stability_of_seeds(views, crops, pair, numbered)
            first = fitted[0]
            in_order = dict(zip(first.clustering.labels, first.labels, strict=True))
            np.savez_compressed(
                folder / f"features-{number}-{pair[0]}-{pair[1]}.npz",
                before=first.clustering.before[:, :2],
                after=first.clustering.features[:, :2],
                first=[in_order[old] for old in first.clustering.first],
                labels=first.labels,
                grades=crops.grades[first.mine],
            )
            records.append(
                {
                    "grades": list(pair),
                    "features": number,
                    "stability": alike,
                    "seeds": [{**asdict(one.quality), **asdict(one.evidence)} for one in fitted],
                }
            )
    return records
