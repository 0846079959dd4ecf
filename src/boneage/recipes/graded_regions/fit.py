"""Train the grading network, from bone ages (a manifest) or from grades (a folder of graded crops).

A run's folder holds `config.json`, `folds.csv`, a folder a fold (checkpoint, weights, predictions), and
in the end `oof.csv` (ages), `oof_grades.csv` (grades by bone) and `graph.onnx`.
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import lightning
import numpy as np
import torch

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.graded_crops import GradedCrop, holds_graded_crops, read_crop, read_graded_crops
from boneage.data.manifest import Row, read_manifest
from boneage.data.splits import read_folds, stratified_folds, write_folds
from boneage.imaging.read import read
from boneage.models.backbones import create_backbone
from boneage.models.grading import GradeNet
from boneage.recipes.graded_regions.config import Recipe
from boneage.recipes.graded_regions.grades import OWN_STANDARD
from boneage.recipes.graded_regions.learn import (
    Batches,
    GradingTask,
    Labelled,
    crop_batches,
    hand_batches,
    predict,
)
from boneage.recipes.graded_regions.method import GradedRegions
from boneage.recipes.graded_regions.prior import BONES, STANDARDS, MaturityPrior, highest_grades, scores_of
from boneage.recipes.graded_regions.samples import Cuts, HandCrops, LooseCrops, cut_patches
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.export import export_graph
from boneage.training.fit import channels_last, run
from boneage.training.run import join_tables, log_to, open_run, write_table

logger = logging.getLogger(__name__)

WEIGHTS = "weights.pt"
FINAL = "final"
ANCHORS_A_STEP = 13
"""Graded crops that go with every batch of hands: as many as a hand has bones."""


def train(job: TrainJob) -> Path:
    """Train every fold, write the out-of-fold tables and export the graph.

    A manifest is learnt from by its bone ages; a folder BONE/GRADE/*.png, or a CSV with the columns
    file,bone,grade, by its grades (`graded.train_on_crops`).

    Returns:
        The run's folder.

    Raises:
        ConfigError: the configuration or the data are wrong, or `out` holds another run.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    return train_recipe(job, recipe)


def train_recipe(job: TrainJob, recipe: Recipe) -> Path:
    """Train a recipe that is already read; as `train`."""
    if holds_graded_crops(job.data):
        from boneage.recipes.graded_regions.graded import train_on_crops

        return train_on_crops(job, recipe)
    return train_on_ages(job, recipe)


def train_on_ages(job: TrainJob, recipe: Recipe) -> Path:
    """Train on a manifest with bone ages; as `train`."""
    open_run(job, "graded_regions", recipe)
    rows = _labelled_rows(job.data)
    folds_path = job.out / "folds.csv"
    if not folds_path.exists():
        write_folds(folds_path, rows, stratified_folds(rows, recipe.schedule.folds, recipe.schedule.seed))
    if job.locate is None:
        raise ConfigError("graded_regions needs a hand localiser; the bundle has none")
    cut_patches(rows, job.locate, job.out, logger.warning)
    wanted = recipe.schedule.run_folds or tuple(range(recipe.schedule.folds))
    tasks = [_FoldTask(replace(job, locate=None), recipe, fold) for fold in wanted]
    if recipe.schedule.processes > 1:
        with ProcessPoolExecutor(recipe.schedule.processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(_train_fold, tasks))
    else:
        for task in tasks:
            _train_fold(task)
    join_tables(job.out, "oof.csv", "predictions.csv")
    join_tables(job.out, "oof_grades.csv", "grades.csv")
    if recipe.schedule.final_epochs:
        _train_final(replace(tasks[0], fold=recipe.schedule.final_fold))
        export(load_net(recipe, job.out / FINAL), recipe, job.out / "graph.onnx")
    else:
        export(load_net(recipe, job.out / f"fold{wanted[0]}"), recipe, job.out / "graph.onnx")
    return job.out


def build_net(recipe: Recipe, *, pretrained: bool = True) -> GradeNet:
    """Return the untrained network."""
    network = recipe.network
    backbone = create_backbone(network.backbone, network.pretrained if pretrained else "none", pooled=False)
    return GradeNet(
        backbone,
        torch.from_numpy(highest_grades()),
        attention=network.attention,
        double_pool=network.double_pool,
        width=network.width,
        dropout=network.dropout,
        frozen_stages=network.frozen_stages,
    )


def load_net(recipe: Recipe, folder: Path) -> GradeNet:
    """Return a trained network of a run, in eval mode."""
    net = build_net(recipe, pretrained=False)
    net.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    return net.eval()


def export(net: GradeNet, recipe: Recipe, path: Path) -> None:
    """Write the network as an ONNX graph: `crop`, `bone` -> `at_least`."""
    crop = torch.rand(2, 1, recipe.input.side, recipe.input.side)
    export_graph(net, {"crop": crop, "bone": torch.eye(len(BONES))[:2]}, ("at_least",), path)


@dataclass(frozen=True)
class _FoldTask:
    job: TrainJob
    recipe: Recipe
    fold: int


def _labelled_rows(data: Path) -> list[Row]:
    rows = [row for row in read_manifest(data) if row.bone_age_months is not None and row.sex is not None]
    if not rows:
        raise ConfigError(f"{data.name} has no image with sex and bone age; give a labelled manifest")
    return rows


def _anchors(recipe: Recipe, held_out: int | None) -> tuple[GradedCrop, ...]:
    """Return the graded crops without those of the hand that a fold leaves out (fold n: the n-th hand)."""
    if not recipe.prior.anchors:
        return ()
    crops = read_graded_crops(Path(recipe.prior.anchors))
    hands = sorted({crop.hand for crop in crops})
    left_out = hands[held_out] if held_out is not None and held_out < len(hands) else None
    return tuple(crop for crop in crops if crop.hand != left_out)


def _labelled(cuts: Cuts, chosen: Sequence[int], recipe: Recipe, anchors: Sequence[GradedCrop]) -> Labelled:
    rows = [cuts.rows[index] for index in chosen]
    return Labelled(
        HandCrops(cuts, recipe),
        np.array(chosen, dtype=np.int64),
        [row.sex or Sex.FEMALE for row in rows],
        np.array([row.bone_age_months for row in rows], dtype=np.float64),
        MaturityPrior(anchors, recipe.prior.lead_shrinkage),
    )


def _train_fold(task: _FoldTask) -> None:
    """Train one fold's network unless its result is there already; grade the hands left out of it."""
    job, recipe = task.job, task.recipe
    folder = job.out / f"fold{task.fold}"
    if (folder / "grades.csv").exists():
        return
    folder.mkdir(exist_ok=True)
    log_to(folder / "log.txt")
    torch.set_num_threads(recipe.schedule.threads)
    cuts = _cuts(job)
    folds = read_folds(job.out / "folds.csv")
    held_out = [index for index, row in enumerate(cuts.rows) if folds[row.id] == task.fold]
    anchors = _anchors(recipe, task.fold)
    if not (folder / WEIGHTS).exists():
        train_on = [index for index, row in enumerate(cuts.rows) if folds[row.id] != task.fold]
        seeded = replace(recipe, schedule=replace(recipe.schedule, seed=recipe.schedule.seed + task.fold))
        fit_hands(build_net(recipe), seeded, _labelled(cuts, train_on, seeded, anchors), anchors, folder)
    net = load_net(recipe, folder)
    _grade_anchors(net, recipe, task.fold, folder / "anchors.csv")
    _write_fold(net, recipe, cuts, held_out, task.fold, folder)


def fit_hands(
    net: GradeNet, recipe: Recipe, labelled: Labelled, anchors: Sequence[GradedCrop], folder: Path
) -> None:
    """Train on labelled hands, with graded crops as an anchor, and save the weights."""
    anchored = anchors and recipe.prior.anchor_weight
    crops = crop_batches(LooseCrops(anchors, recipe), recipe, ANCHORS_A_STEP) if anchored else None
    steps = len(labelled.indices) // recipe.schedule.batch
    fit_batches(net, recipe, steps, folder, hands=hand_batches(labelled, recipe), crops=crops)


def fit_batches(
    net: GradeNet, recipe: Recipe, steps: int, folder: Path, *, hands: Batches | None, crops: Batches | None
) -> None:
    """Train on batches, or go on where `folder` holds an unfinished training, and save the weights.

    Raises:
        ConfigError: an epoch has no step.
    """
    schedule = recipe.schedule
    if steps < 1:
        raise ConfigError(
            f"the training data make no batch of {schedule.batch}; set a smaller schedule.batch"
        )
    lightning.seed_everything(schedule.seed, verbose=False)
    task = GradingTask(channels_last(net).train(), recipe, steps, hands=hands, crops=crops)
    run(
        task,
        schedule.epochs,
        folder,
        ema_decay=schedule.ema_decay,
        precision=schedule.precision,
        clip_norm=schedule.clip_norm,
    )
    partial = folder / "weights.partial"
    torch.save(task.net.to("cpu").eval().state_dict(), partial)
    partial.replace(folder / WEIGHTS)


def _train_final(task: _FoldTask) -> None:
    """Train a fold's network on with all hands and all graded crops, unless that is done already."""
    job, recipe = task.job, task.recipe
    folder, schedule = job.out / FINAL, recipe.schedule
    if (folder / WEIGHTS).exists():
        return
    folder.mkdir(exist_ok=True)
    log_to(folder / "log.txt")
    torch.set_num_threads(schedule.threads)
    cuts, anchors = _cuts(job), _anchors(recipe, None)
    final = replace(
        recipe,
        prior=replace(recipe.prior, weight=recipe.prior.final_weight),
        schedule=replace(
            schedule,
            epochs=schedule.final_epochs,
            learning_rate=schedule.final_learning_rate,
            seed=schedule.seed + schedule.folds,
        ),
    )
    net = load_net(recipe, job.out / f"fold{task.fold}")
    net.backbone.freeze(recipe.network.frozen_stages)
    fit_hands(net, final, _labelled(cuts, range(len(cuts.rows)), final, anchors), anchors, folder)


def _cuts(job: TrainJob) -> Cuts:
    def locate(_: object) -> object:
        raise ConfigError(f"{job.out} lost its patches; start the run again")

    return cut_patches(_labelled_rows(job.data), locate, job.out, logger.warning)  # type: ignore[arg-type]


def _write_fold(
    net: GradeNet, recipe: Recipe, cuts: Cuts, indices: Sequence[int], fold: int, folder: Path
) -> None:
    """Grade hands as the product does, from the source image, and write ages and grades."""
    method = GradedRegions(recipe.input)
    scores = {name: scores_of(name) for name in STANDARDS}
    ages, grades = [], []
    for index in indices:
        row = cuts.rows[index]
        sex = row.sex or Sex.FEMALE
        probability = method.decode(predict(net, method.prepare(read(row.path), cuts.regions(index))))
        expected = probability @ np.arange(probability.shape[1])
        totals = {name: float((probability * table.table[sex]).sum()) for name, table in scores.items()}
        found = {name: float(np.interp(totals[name], *scores[name].curve[sex])) for name in STANDARDS}
        own = (f"{age:.3f}" for age in (found[OWN_STANDARD], *found.values()))
        ages.append([row.id, row.sex, row.bone_age_months, *own, fold])
        visible = cuts.visible[index]
        grades += [
            [
                row.id,
                bone,
                int(probability[at].argmax()),
                f"{expected[at]:.3f}",
                f"{probability[at].max():.3f}",
                f"{visible[at]:.2f}",
                fold,
            ]
            for at, bone in enumerate(BONES)
        ]
    head = ["id", "sex", "bone_age_months", "prediction", *STANDARDS, "fold"]
    write_table(folder / "predictions.csv", head, ages)
    header = ["id", "bone", "grade", "expected_grade", "confidence", "visible", "fold"]
    write_table(folder / "grades.csv", header, grades)


def _grade_anchors(net: GradeNet, recipe: Recipe, fold: int, path: Path) -> None:
    """Grade the crops of the hand that this fold's network never saw."""
    if not recipe.prior.anchors:
        return
    seen = set(_anchors(recipe, fold))
    held_out = [crop for crop in read_graded_crops(Path(recipe.prior.anchors)) if crop not in seen]
    method, lines = GradedRegions(recipe.input), []
    for crop in held_out:
        probability = method.decode(predict(net, method.prepare_crop(read_crop(crop.path), crop.bone)))[0]
        lines.append(
            [crop.hand, crop.bone, crop.grade, int(probability.argmax()), f"{probability.max():.3f}"]
        )
    write_table(path, ["hand", "bone", "grade", "predicted", "confidence"], lines)
