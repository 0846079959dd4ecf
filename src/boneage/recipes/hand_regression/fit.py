"""Cross-validated training of the hand regression: folds, out-of-fold table, exported graph.

A run's folder holds `config.json`, `folds.csv`, `hands.json`, `fold<k>/` (checkpoint and weights),
`oof.csv` (out-of-fold predictions) and `graph.onnx` (the trained members side by side).
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from boneage.core.errors import ConfigError, InputError
from boneage.core.protocols import sex_input
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.augment import change_tone, draw_pose
from boneage.data.manifest import Row, read_manifest
from boneage.data.splits import read_folds, stratified_folds, write_folds
from boneage.imaging.read import read
from boneage.models.backbones import create_backbone
from boneage.models.heads import AgeEnsemble, AgeNet
from boneage.recipes.hand_regression.config import Recipe
from boneage.recipes.hand_regression.method import HandRegression, view_of
from boneage.training.config import Stage, TrainJob, named_config, read_config
from boneage.training.export import export_graph
from boneage.training.fit import Loop, Sample, fit, predict
from boneage.training.run import log_to, open_run, write_table

logger = logging.getLogger(__name__)

WEIGHTS = "weights.pt"
FINAL = "final"


@dataclass(frozen=True)
class Example:
    """One labelled, located hand; pixels are kept as the file's 8 bits to spare memory."""

    row: Row
    sex: Sex
    age_months: float
    pixels: NDArray[np.uint8]
    hand: Hand | None

    def radiograph(self) -> Radiograph:
        """Return the radiograph in float32."""
        return Radiograph(self.pixels.astype(np.float32) / np.float32(255))


class TrainingViews:
    """Augmented views of some examples; the same index, epoch and seed give the same view."""

    def __init__(self, examples: Sequence[Example], recipe: Recipe) -> None:
        self.examples = examples
        self.recipe = recipe
        self.stages = [stage for stage in recipe.schedule.stages for _ in range(stage.epochs)]

    def __call__(self, index: int, epoch: int) -> Sample:
        """Return view (H, W), sex (male 1) and age of one example at the epoch's size."""
        example = self.examples[index]
        stage: Stage = self.stages[min(epoch, len(self.stages) - 1)]
        config = replace(self.recipe.input, height=stage.height, width=stage.width)
        rng = np.random.default_rng((self.recipe.schedule.seed, epoch, index))
        pose = draw_pose((stage.height, stage.width), self.recipe.augment, rng)
        view = view_of(example.radiograph(), example.hand, config, pose)
        sex = float(sex_input(example.sex)[0, 0])
        return change_tone(view, self.recipe.augment, rng), sex, example.age_months


def build_net(recipe: Recipe, ages: NDArray[np.float64]) -> AgeNet:
    """Return the untrained network for training ages (N,) in months."""
    network = recipe.network
    backbone = create_backbone(network.backbone, network.pretrained)
    backbone.freeze(network.frozen_stages)
    return AgeNet(
        backbone,
        network.head,
        age_mean=float(ages.mean()),
        age_std=float(ages.std()),
        sex_width=network.sex_width,
        hidden=network.hidden,
        dropout=network.dropout,
    )


def loop_of(recipe: Recipe) -> Loop:
    """Return the optimisation that a recipe describes."""
    schedule, optimiser = recipe.schedule, recipe.optimiser
    return Loop(
        epochs=sum(stage.epochs for stage in schedule.stages),
        batch=schedule.batch,
        loss=schedule.loss,
        label_sigma_months=schedule.label_sigma_months,
        optimiser=optimiser.name,
        learning_rate=optimiser.learning_rate,
        head_factor=optimiser.head_factor,
        momentum=optimiser.momentum,
        weight_decay=optimiser.weight_decay,
        schedule=optimiser.schedule,
        step_epochs=optimiser.step_epochs,
        warm_up=optimiser.warm_up,
        clip_norm=optimiser.clip_norm,
        ema_decay=schedule.ema_decay,
        precision=schedule.precision,
        seed=schedule.seed,
    )


def train(job: TrainJob) -> Path:
    """Train every fold, write the out-of-fold table and export the graph.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the configuration or the manifest is wrong, or `out` holds another run.
    """
    return train_recipe(
        job, read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    )


def train_recipe(job: TrainJob, recipe: Recipe) -> Path:
    """Train a recipe that is already read; as `train`."""
    open_run(job, "hand_regression", recipe)
    rows = [row for row in read_manifest(job.data) if row.bone_age_months is not None and row.sex is not None]
    if len(rows) < recipe.schedule.folds:
        raise ConfigError(
            f"{job.data.name} holds {len(rows)} images with sex and bone age; too few to train on"
        )
    folds = _folds(job.out / "folds.csv", rows, recipe)
    hands = _locate(job, rows, recipe)
    _check_final(recipe)
    wanted = recipe.schedule.run_folds or tuple(range(recipe.schedule.folds))
    tasks = [_FoldTask(job, recipe, fold, hands) for fold in wanted]
    if recipe.schedule.processes > 1:
        context = get_context("spawn")
        with ProcessPoolExecutor(recipe.schedule.processes, mp_context=context) as pool:
            list(pool.map(_train_fold, tasks))
    else:
        for task in tasks:
            _train_fold(task)
    _write_oof(job, rows, folds)
    if recipe.schedule.final_epochs:
        _train_final(_FoldTask(job, recipe, recipe.schedule.final_fold, hands))
        _export(job, recipe, [FINAL])
    else:
        _export(job, recipe, [f"fold{fold}" for fold in wanted])
    return job.out


def _check_final(recipe: Recipe) -> None:
    schedule = recipe.schedule
    trained = schedule.run_folds or range(schedule.folds)
    if schedule.final_epochs and schedule.final_fold not in trained:
        raise ConfigError(
            f"schedule.final_fold is {schedule.final_fold}, which is not trained; "
            f"give one of {', '.join(map(str, trained))}, or final_epochs=0"
        )


@dataclass(frozen=True)
class _FoldTask:
    job: TrainJob
    recipe: Recipe
    fold: int
    hands: dict[str, Hand | None]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "job": replace(self.job, locate=None)}


def _folds(path: Path, rows: Sequence[Row], recipe: Recipe) -> dict[str, int]:
    if not path.exists():
        write_folds(path, rows, stratified_folds(rows, recipe.schedule.folds, recipe.schedule.seed))
    folds = read_folds(path)
    unknown = [row.id for row in rows if row.id not in folds]
    if unknown:
        raise ConfigError(f"{path.name} has no fold for {len(unknown)} images (first: {unknown[0]})")
    return folds


def _locate(job: TrainJob, rows: Sequence[Row], recipe: Recipe) -> dict[str, Hand | None]:
    """Find every hand once; images without one are left out of training and said so."""
    if recipe.input.crop == "none" or job.locate is None:
        if recipe.input.crop != "none":
            raise ConfigError(
                "input.crop needs a hand localiser; the bundle has none, or set input.crop='none'"
            )
        return {row.id: None for row in rows}
    hands: dict[str, Hand | None] = {}
    for row in rows:
        try:
            hands[row.id] = job.locate(read(row.path))
        except InputError as error:
            logger.warning("left out of training: %s (%s)", row.path.name, error)
    return hands


def _examples(rows: Sequence[Row], hands: dict[str, Hand | None]) -> list[Example]:
    examples = []
    for row in rows:
        if row.id in hands and row.sex is not None and row.bone_age_months is not None:
            pixels = (read(row.path).pixels * 255).round().astype(np.uint8)
            examples.append(Example(row, row.sex, row.bone_age_months, pixels, hands[row.id]))
    return examples


def _train_fold(task: _FoldTask) -> None:
    """Train one fold's network unless its result is there already; predict the images left out of it."""
    job, recipe = task.job, task.recipe
    folder = job.out / f"fold{task.fold}"
    if (folder / "predictions.csv").exists():
        return
    folder.mkdir(exist_ok=True)
    log_to(folder / "log.txt")
    torch.set_num_threads(recipe.schedule.threads)
    rows = [row for row in read_manifest(job.data) if row.id in task.hands]
    folds = read_folds(job.out / "folds.csv")
    if not (folder / WEIGHTS).exists():
        train_on = _examples([row for row in rows if folds[row.id] != task.fold], task.hands)
        ages = np.array([example.age_months for example in train_on])
        loop = replace(loop_of(recipe), seed=recipe.schedule.seed + task.fold)
        net = fit(build_net(recipe, ages), loop, len(train_on), TrainingViews(train_on, recipe), folder)
        _save(net, folder / WEIGHTS)
    held_out = _examples([row for row in rows if folds[row.id] == task.fold], task.hands)
    _write_predictions(folder / "predictions.csv", _load(recipe, folder), held_out, recipe)


def _train_final(task: _FoldTask) -> None:
    """Train a fold's network on with all images, the ones held out of it too, unless that is done already.

    No image is left to measure the result on: the folds' errors are an upper estimate of its own.
    """
    job, recipe = task.job, task.recipe
    folder, schedule = job.out / FINAL, recipe.schedule
    if (folder / WEIGHTS).exists():
        return
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(schedule.threads)
    examples = _examples([row for row in read_manifest(job.data) if row.id in task.hands], task.hands)
    stage = replace(schedule.stages[-1], epochs=schedule.final_epochs)
    final = replace(
        recipe,
        schedule=replace(schedule, stages=(stage,), seed=schedule.seed + schedule.folds),
        optimiser=replace(recipe.optimiser, learning_rate=schedule.final_learning_rate),
    )
    net = _load(recipe, job.out / f"fold{task.fold}")
    _save(fit(net, loop_of(final), len(examples), TrainingViews(examples, final), folder), folder / WEIGHTS)


def _save(net: AgeNet, path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save({"state": net.state_dict(), "ages": [float(net.age_mean), float(net.age_std)]}, partial)
    partial.replace(path)


def _write_predictions(path: Path, net: AgeNet, examples: Sequence[Example], recipe: Recipe) -> None:
    method, lines = HandRegression(recipe.input), []
    for example in examples:
        outputs = predict(net, method.prepare(example.radiograph(), example.hand, example.sex))
        findings = method.decode(outputs, example.sex)
        lines.append([example.row.id, f"{findings.age_months:.4f}", f"{findings.spread_months or 0:.4f}"])
    write_table(path, ["id", "prediction", "spread"], lines)


def _write_oof(job: TrainJob, rows: Sequence[Row], folds: dict[str, int]) -> None:
    predicted: dict[str, list[str]] = {}
    for path in sorted(job.out.glob("fold*/predictions.csv")):
        with path.open(newline="") as file:
            predicted |= {line[0]: line[1:] for line in list(csv.reader(file))[1:]}
    lines = [
        [row.id, row.sex, row.bone_age_months, *predicted[row.id], folds[row.id]]
        for row in rows
        if row.id in predicted
    ]
    header = ["id", "sex", "bone_age_months", "prediction", "spread", "fold"]
    write_table(job.out / "oof.csv", header, lines)


def _load(recipe: Recipe, folder: Path) -> AgeNet:
    """Return a trained network of a run."""
    saved = torch.load(folder / WEIGHTS, weights_only=True)
    plain = replace(recipe, network=replace(recipe.network, pretrained="none"))
    net = build_net(plain, np.array(saved["ages"]))  # mean and spread of its ages are part of the state
    net.load_state_dict(saved["state"])
    return net.eval()


def _export(job: TrainJob, recipe: Recipe, folders: Sequence[str]) -> None:
    """Write the networks of some folders of a run side by side as one graph."""
    ensemble = AgeEnsemble([_load(recipe, job.out / folder) for folder in folders])
    examples = {
        "image": torch.rand(2, 1, recipe.input.height, recipe.input.width),
        "sex": torch.tensor([[0.0], [1.0]]),
    }
    export_graph(ensemble.eval(), examples, ("age_months", "spread_months"), job.out / "graph.onnx")
