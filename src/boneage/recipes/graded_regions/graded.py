"""Train the grading network from grades: a folder of graded crops, as paper 3 does.

A run's folder holds `config.json`, `split.csv` (which crop is in which fold), a folder a fold
(checkpoint, weights, its validation), and in the end `validation.csv`, `summary.json` and `graph.onnx`.
"""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.data.graded_crops import GradedCrop, read_crop, read_graded_crops
from boneage.metrics.bootstrap import bootstrap_interval, share_within
from boneage.models.grading import GradeNet
from boneage.recipes.graded_regions.config import Recipe
from boneage.recipes.graded_regions.fit import (
    FINAL,
    WEIGHTS,
    build_net,
    export,
    fit_batches,
    load_net,
)
from boneage.recipes.graded_regions.learn import crop_batches, predict
from boneage.recipes.graded_regions.method import GradedRegions
from boneage.recipes.graded_regions.prior import BONES, highest_grades
from boneage.recipes.graded_regions.samples import LooseCrops
from boneage.standards.names import Bone
from boneage.training.config import TrainJob
from boneage.training.run import join_tables, log_to, open_run, write_table

logger = logging.getLogger(__name__)

SPLIT, VALIDATION, SUMMARY = "split.csv", "validation.csv", "summary.json"
GRADED_AT_ONCE = 64
_HIGHEST = dict(zip(BONES, highest_grades().tolist(), strict=True))


def train_on_crops(job: TrainJob, recipe: Recipe) -> Path:
    """Train on graded crops, validate on the hands left out, and export the graph.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the configuration or the crops are wrong, or `out` holds another run.
        InputError: a crop cannot be read.
    """
    import torch

    crops = read_graded_crops(job.data)
    check_grades(crops)
    schedule = recipe.schedule
    run = _Run(job, recipe, crops, split_by_hand(crops, schedule.folds, schedule.seed))
    for fold in run.wanted:
        if not 0 <= fold < schedule.folds:
            raise ConfigError(f"schedule.run_folds are from 0 to {schedule.folds - 1}, not {fold}")
    open_run(job, "graded_regions", recipe)
    run.keep_split()
    torch.set_num_threads(schedule.threads)
    for fold in run.wanted:
        run.train_fold(fold)
    join_tables(job.out, VALIDATION, VALIDATION)
    chosen = run.train_final() if schedule.final_epochs else job.out / f"fold{run.wanted[0]}"
    export(load_net(recipe, chosen), recipe, job.out / "graph.onnx")
    (job.out / SUMMARY).write_text(json.dumps(run.summary(), indent=2) + "\n")
    return job.out


def check_grades(crops: Sequence[GradedCrop]) -> None:
    """Refuse bones of which there is one grade only: a network would give it to every crop.

    Raises:
        ConfigError: there is such a bone.
    """
    for bone in BONES:
        grades = {crop.grade for crop in crops if crop.bone is bone}
        if len(grades) == 1:
            raise ConfigError(
                f"all crops of the {bone} have grade {grades.pop()}: give crops of two grades or more, "
                "or leave the bone out"
            )


def split_by_hand(crops: Sequence[GradedCrop], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold, 0 to `folds` - 1, of every crop; crops of one hand share a fold.

    Hands are sorted by their bones and their mean maturity and dealt out in blocks, one to each fold,
    so that a folder of single crops is split by bone and grade.

    Raises:
        ConfigError: fewer than two folds, or fewer hands than folds.
    """
    hands: dict[str, list[int]] = {}
    for index, crop in enumerate(crops):
        hands.setdefault(crop.hand, []).append(index)
    if folds < 2 or len(hands) < folds:
        raise ConfigError(
            f"{folds} folds need two folds and as many hands, and the crops are of {len(hands)}: "
            "set schedule.folds to fit them"
        )
    rng = np.random.default_rng(seed)
    chance = dict(zip(hands, rng.permutation(len(hands)), strict=True))
    strata = {hand: _stratum([crops[at] for at in indices]) for hand, indices in hands.items()}
    order = sorted(hands, key=lambda hand: (*strata[hand], chance[hand]))
    result = np.empty(len(crops), np.int64)
    for start in range(0, len(order), folds):
        block = order[start : start + folds]
        for hand, fold in zip(block, rng.permutation(folds)[: len(block)], strict=True):
            result[hands[hand]] = fold
    return result


def _stratum(crops: Sequence[GradedCrop]) -> tuple[str, float]:
    """Return a hand's bones, as a text, and its mean share of the last grade."""
    shares = [crop.grade / _HIGHEST[crop.bone] for crop in crops]
    return " ".join(sorted({str(crop.bone) for crop in crops})), float(np.mean(shares))


def grade_crops(net: GradeNet, recipe: Recipe, crops: Sequence[GradedCrop]) -> NDArray[np.float64]:
    """Return P(grade = 0, 1, ...) (N, K + 1) of crops, read and prepared as the product does."""
    method = GradedRegions(recipe.input)
    parts = []
    for start in range(0, len(crops), GRADED_AT_ONCE):
        prepared = [
            method.prepare_crop(read_crop(crop.path), crop.bone)
            for crop in crops[start : start + GRADED_AT_ONCE]
        ]
        inputs = {name: np.concatenate([one[name] for one in prepared]) for name in prepared[0]}
        parts.append(method.decode(predict(net, inputs)))
    return np.concatenate(parts)


@dataclass(frozen=True)
class _Run:
    """One run: its crops, and the fold of each."""

    job: TrainJob
    recipe: Recipe
    crops: tuple[GradedCrop, ...]
    folds: NDArray[np.int64]

    @property
    def wanted(self) -> tuple[int, ...]:
        return self.recipe.schedule.run_folds or tuple(range(self.recipe.schedule.folds))

    def keep_split(self) -> None:
        """Write the split, or refuse to go on with other crops than those that the run began with."""
        path = self.job.out / SPLIT
        lines = [[*self._named(crop), int(fold)] for crop, fold in zip(self.crops, self.folds, strict=True)]
        header = ["file", "bone", "grade", "hand", "fold"]
        if path.exists():
            with path.open(newline="") as file:
                if list(csv.reader(file))[1:] != [[str(cell) for cell in line] for line in lines]:
                    raise ConfigError(f"{path} is of other crops than those given; begin with another --out")
            return
        write_table(path, header, lines)

    def _named(self, crop: GradedCrop) -> list[object]:
        """Return a crop's file (from the data's folder), bone, grade and hand."""
        data = self.job.data if self.job.data.is_dir() else self.job.data.parent
        return [crop.path.relative_to(data).as_posix(), str(crop.bone), crop.grade, crop.hand]

    def train_fold(self, fold: int) -> None:
        """Train without one fold and grade its crops, unless that is done already."""
        folder = self.job.out / f"fold{fold}"
        if (folder / VALIDATION).exists():
            return
        folder.mkdir(exist_ok=True)
        log_to(folder / "log.txt")
        if not (folder / WEIGHTS).exists():
            kept = [crop for crop, of in zip(self.crops, self.folds, strict=True) if of != fold]
            schedule = replace(self.recipe.schedule, seed=self.recipe.schedule.seed + fold)
            fit_crops(build_net(self.recipe), replace(self.recipe, schedule=schedule), kept, folder)
        held_out = [crop for crop, of in zip(self.crops, self.folds, strict=True) if of == fold]
        probability = grade_crops(load_net(self.recipe, folder), self.recipe, held_out)
        lines = [
            [
                *self._named(crop),
                int(row.argmax()),
                f"{row @ np.arange(len(row)):.3f}",
                f"{row.max():.3f}",
                fold,
            ]
            for crop, row in zip(held_out, probability, strict=True)
        ]
        header = ["file", "bone", "grade", "hand", "predicted", "expected", "confidence", "fold"]
        write_table(folder / VALIDATION, header, lines)

    def train_final(self) -> Path:
        """Train a fold's network on with all crops, unless that is done already; return its folder."""
        folder, schedule = self.job.out / FINAL, self.recipe.schedule
        if (folder / WEIGHTS).exists():
            return folder
        folder.mkdir(exist_ok=True)
        log_to(folder / "log.txt")
        final = replace(
            schedule,
            epochs=schedule.final_epochs,
            learning_rate=schedule.final_learning_rate,
            seed=schedule.seed + schedule.folds,
        )
        net = load_net(self.recipe, self.job.out / f"fold{schedule.final_fold}")
        net.backbone.freeze(self.recipe.network.frozen_stages)
        fit_crops(net, replace(self.recipe, schedule=final), self.crops, folder)
        return folder

    def summary(self) -> dict[str, Any]:
        """Return what the run was trained on and how well it grades hands that it did not see."""
        with (self.job.out / VALIDATION).open(newline="") as file:
            lines = list(csv.DictReader(file))
        bones = Counter(str(crop.bone) for crop in self.crops)
        return {
            "crops": len(self.crops),
            "hands": len({crop.hand for crop in self.crops}),
            "bones": {str(bone): bones[bone] for bone in BONES if bone in bones},
            "folds": self.recipe.schedule.folds,
            "run_folds": list(self.wanted),
            "validation": accuracy(lines),
            "validation_by_bone": {
                str(bone): accuracy([line for line in lines if line["bone"] == bone])
                for bone in BONES
                if any(line["bone"] == bone for line in lines)
            },
        }


def fit_crops(net: GradeNet, recipe: Recipe, crops: Sequence[GradedCrop], folder: Path) -> None:
    """Train on graded crops, the rare grades turned and repeated, and save the weights.

    Raises:
        ConfigError: there are fewer crops than make a batch.
    """
    batch = recipe.schedule.batch
    if batch < 2 or len(crops) < batch:
        raise ConfigError(
            f"{len(crops)} training crops make no batch of {batch}: set a schedule.batch of 2 or more that "
            "they fill, or give more crops"
        )
    batches = crop_batches(LooseCrops(crops, recipe), recipe, batch)
    fit_batches(net, recipe, len(batches(0)), folder, hands=None, crops=batches)


def accuracy(lines: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the shares of exact grades and of those within one, with 95% bootstrap intervals."""
    errors = np.array([int(line["predicted"]) - int(line["grade"]) for line in lines], dtype=np.float64)
    found: dict[str, Any] = {"crops": len(lines)}
    for name, reach in (("exact", 0.5), ("within_one", 1.5)):
        interval = bootstrap_interval(errors, share_within(reach))
        found[name] = {"share": interval.estimate, "low": interval.low, "high": interval.high}
    return found


def trained_bones(run: Path) -> tuple[Bone, ...]:
    """Return the bones that a run on graded crops learnt, for a bundle's settings."""
    return tuple(Bone(name) for name in json.loads((run / SUMMARY).read_text())["bones"])
