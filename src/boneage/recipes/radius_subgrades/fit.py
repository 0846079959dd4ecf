"""Train sub-grades of the radius: on all crops, and fold by fold for what is held out.

A run's folder holds `config.json`, `patches.npz` (of a manifest), `outputs.npy` (MobileNetV2's), a folder a
fold, and in the end `oof.csv` (sub-grades by models that had not seen the crop), `subgrades.npz` and
`subgrades.json` (the model and what speaks for it), `means.npz`, `chn_grades.csv` (the table of grades, in
CHN's) and, where a sub-grade was named, `standard`
(its score table, to be loaded as a standard).
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import csv
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.data.manifest import write_text_atomically
from boneage.models.imagenet import MobileNetOutputs
from boneage.recipes.radius_subgrades.config import Recipe
from boneage.recipes.radius_subgrades.crops import (
    RADIUS,
    SEXES,
    STANDARD,
    RadiusCrops,
    read_bones,
    read_crops,
)
from boneage.recipes.radius_subgrades.fitting import Fitted, fit_subgrader, stability_of_seeds
from boneage.recipes.radius_subgrades.frames import PATCH_MARGIN
from boneage.recipes.radius_subgrades.scores import Ways, score_columns, ways_of
from boneage.recipes.radius_subgrades.subgrades import PairModel, Subgrader, stacked
from boneage.standards.names import Bone
from boneage.standards.scoring import standard
from boneage.standards.subgraded import subgrade_name, write_subgraded
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import join_tables, open_run, write_table

logger = logging.getLogger(__name__)

MODEL, SUMMARY, OUT_OF_FOLD = "subgrades.npz", "subgrades.json", "oof.csv"
MEANS, OUTPUTS, SCORED, GRADED = "means.npz", "outputs.npy", "standard", "chn_grades.csv"
CROPS = "crops.csv"
WRITTEN = ("paper", "geometric")
"""Readings whose scores stand in the out-of-fold table."""

LEAST_OF_A_MEAN = 5
"""Crops without which no mean image is written, so that none shows one child."""


def train(job: TrainJob) -> Path:
    """Learn sub-grades of all crops, and of every fold's by the others.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the configuration or the crops are wrong, or `out` holds another run.
        InputError: a crop cannot be read.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    return train_recipe(job, recipe)


def train_recipe(job: TrainJob, recipe: Recipe) -> Path:
    """Train a recipe that is already read; as `train`."""
    open_run(job, "radius_subgrades", recipe, may_change=("recognition",))
    torch.set_num_threads(recipe.schedule.threads)
    crops = read_crops(job.data, recipe, job.out, job.locate, logger.warning)
    _keep_crops(crops, job.out / CROPS)
    if recipe.grades.table:
        _write_bones(read_bones(Path(recipe.grades.table), recipe.grades.given), job.out / GRADED)
    outputs = _outputs(crops, recipe, job.out / OUTPUTS)
    for fold in np.unique(crops.folds):
        _fit_fold(crops, outputs, recipe, int(fold), job.out / f"fold{fold}")
    join_tables(job.out, OUT_OF_FOLD, OUT_OF_FOLD)
    if not (job.out / SUMMARY).exists():
        _fit_all(crops, outputs, recipe, job.out)
    return job.out


def _keep_crops(crops: RadiusCrops, file: Path) -> None:
    """Write which crops a run is of, or refuse to go on with others."""
    lines = [
        [
            name,
            sex or "",
            "" if np.isnan(age) else f"{age:g}",
            int(grade),
            int(fold),
            f"{zlib.crc32(patch):08x}",
        ]
        for name, sex, age, grade, fold, patch in zip(
            crops.ids,
            (SEXES[code] for code in crops.sexes),
            crops.ages,
            crops.grades,
            crops.folds,
            crops.patches,
            strict=True,
        )
    ]
    if file.exists():
        with file.open(newline="") as opened:
            if list(csv.reader(opened))[1:] != [[str(cell) for cell in line] for line in lines]:
                raise ConfigError(
                    f"{file} is of other crops or grades than those given; begin with another --out"
                )
        return
    write_table(file, ["id", "sex", "bone_age_months", "grade", "fold", "crc32"], lines)


def _outputs(crops: RadiusCrops, recipe: Recipe, file: Path) -> NDArray[np.float32]:
    """Return MobileNetV2's 1000 outputs (N, 1000) of the crops' regions, kept in a file."""
    if not file.is_file():
        net = MobileNetOutputs(recipe.scores.pretrained)
        edge = round((1 - 1 / PATCH_MARGIN) / 2 * crops.patches.shape[1])  # the region without its margin
        images = torch.from_numpy(crops.patches[:, None, edge:-edge, edge:-edge].astype(np.float32) / 255)
        parts = [net(batch).numpy() for batch in images.split(32)]
        partial = file.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(parts))
        partial.replace(file)
    outputs = np.load(file)
    if len(outputs) != len(crops):
        raise ConfigError(f"{file} is of other crops than those given; begin with another --out")
    return np.asarray(outputs, dtype=np.float32)


def _fit_fold(
    crops: RadiusCrops, outputs: NDArray[np.float32], recipe: Recipe, fold: int, folder: Path
) -> None:
    """Learn from all other folds and name the sub-grades of this one, unless that is done already."""
    if (folder / OUT_OF_FOLD).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    others = crops.folds != fold
    learnt, held_out = crops.take(others), crops.take(~others)
    fitted = fit_subgrader(learnt, recipe)
    ways = _ways(fitted, fitted.subgrades(learnt), outputs[others], recipe)
    write_text_atomically(folder / SUMMARY, json.dumps(_record(fitted, ways), indent=2) + "\n")
    _write_subgrades(fitted.subgrader, held_out, ways, fold, folder / OUT_OF_FOLD)
    told = ", ".join(f"{grade:g}" for grade in ways) or "none"
    logger.info("fold %d: sub-grades %s", fold, told)


def _ways(
    fitted: Fitted, grades: NDArray[np.float64], outputs: NDArray[np.float32], recipe: Recipe
) -> dict[float, Ways]:
    named = {grade: pair.pair for pair in fitted.subgrader.pairs for grade in pair.subgrades}
    return ways_of(grades, outputs, named, recipe.scores.images, recipe.schedule.seed)


def _write_subgrades(
    subgrader: Subgrader, crops: RadiusCrops, ways: Mapping[float, Ways], fold: int, file: Path
) -> None:
    """Write the sub-grades of held-out crops, with cluster, position and score from the other folds."""
    views, grades = subgrader.views(crops.patches), crops.grades.tolist()
    found = subgrader.subgrade(views, grades)
    clusters = [subgrader.clusters(pair, views, grades) for pair in subgrader.pairs]
    scores = score_columns(ways)
    lines = []
    for index, name in enumerate(crops.ids):
        sex = SEXES[crops.sexes[index]]
        own_scores = [_score(scores[reading], sex, float(found[index])) for reading in WRITTEN]
        positions = [_position(pair, views[index], grades[index]) for pair in subgrader.pairs]
        lines.append(
            [
                name,
                sex or "",
                "" if np.isnan(crops.ages[index]) else f"{crops.ages[index]:g}",
                grades[index],
                f"{found[index]:g}",
                *("" if points is None else f"{points:.3f}" for points in own_scores),
                *(int(cluster[index]) for cluster in clusters),
                *("" if position is None else f"{position:.4f}" for position in positions),
                fold,
            ]
        )
    names = ["_".join(map(str, pair.pair)) for pair in subgrader.pairs]
    header = ["id", "sex", "bone_age_months", "grade", "subgrade", *(f"score_{name}" for name in WRITTEN)]
    header += [f"{what}_{name}" for what in ("cluster", "way") for name in names]
    write_table(file, [*header, "fold"], lines)


def _score(by_sex: Mapping[Sex, Mapping[float, float]], sex: Sex | None, grade: float) -> float | None:
    """Return a grade's or a sub-grade's score; None without a sex, or where no score was interpolated."""
    if sex is None:
        return None
    return standard(STANDARD).grade_score(sex, RADIUS, grade) if grade % 1 == 0 else by_sex[sex].get(grade)


def _position(pair: PairModel, view: FloatArray | None, grade: int) -> float | None:
    if view is None or grade not in pair.pair:
        return None
    return float(pair.read(view[None])[1][0])


def _fit_all(crops: RadiusCrops, outputs: NDArray[np.float32], recipe: Recipe, out: Path) -> None:
    """Learn from all crops; write the model, what speaks for it, the mean images and the score table."""
    fitted = fit_subgrader(crops, recipe)
    grades = fitted.subgrades(crops)
    ways = _ways(fitted, grades, outputs, recipe)
    fitted.subgrader.save(out / MODEL)
    _write_means(fitted, grades, out / MEANS)
    for pair in fitted.pairs:
        if pair.model.refusal:
            low, high = pair.model.pair
            logger.warning("no sub-grade between %d and %d: %s", low, high, pair.model.refusal)
    if ways:
        write_subgraded(
            out / SCORED,
            score_columns(ways)["geometric"],
            title="CHN scores of the radius' sub-grades, interpolated between MobileNetV2 features",
            source=f"boneage, recipe radius_subgrades, {len(crops)} crops",
            remarks="The share of the straight way between the means of the neighbouring grades.",
        )
    seeds = [stability_of_seeds(fitted.views, crops, pair, recipe)[0] for pair in recipe.grades.pairs]
    record = {**_record(fitted, ways), "stability_of_seeds": seeds}
    write_text_atomically(out / SUMMARY, json.dumps(record, indent=2) + "\n")


def _write_bones(bones: Mapping[str, Mapping[Bone, float]], file: Path) -> None:
    """Write the CHN grades of all bones that the table gave, a column a bone; they are a table again."""
    chosen = standard(STANDARD).bones
    lines = [
        [name, *(f"{own[bone]:g}" if bone in own else "" for bone in chosen)] for name, own in bones.items()
    ]
    write_table(file, ["id", *chosen], lines)


def _write_means(fitted: Fitted, grades: NDArray[np.float64], file: Path) -> None:
    """Write the mean view of every grade and sub-grade that enough crops have."""
    seen = np.array([view is not None for view in fitted.views])
    arrays: dict[str, NDArray[np.generic]] = {}
    for grade in np.unique(grades):
        mine = seen & (grades == grade)
        if mine.sum() >= LEAST_OF_A_MEAN:
            name = subgrade_name(float(grade))
            mean_view = stacked(fitted.views, mine).mean(axis=0)
            arrays[name] = (mean_view * 255).round().astype(np.uint8)
            arrays[f"count_{name}"] = np.array(mine.sum())
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(file)


def _record(fitted: Fitted, ways: Mapping[float, Ways]) -> dict[str, Any]:
    """Return what a run says of its model: settings, sizes, evidence and scores."""
    unseen = sum(view is None for view in fitted.views)
    return {
        **fitted.subgrader.settings(),
        "crops": len(fitted.views),
        "not_aligned": unseen,
        "evidence": [
            {
                "grades": list(pair.model.pair),
                "crops": int(pair.mine.sum()),
                "components": pair.model.encoder.pixels.components.shape[1],
                **asdict(pair.quality),
                **asdict(pair.evidence),
            }
            for pair in fitted.pairs
        ],
        "ways": {subgrade_name(grade): asdict(way) for grade, way in ways.items()},
        "scores": {
            reading: {
                str(sex): {subgrade_name(grade): score for grade, score in own.items()}
                for sex, own in by_sex.items()
            }
            for reading, by_sex in score_columns(ways).items()
        },
    }
