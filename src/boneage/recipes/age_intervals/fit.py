"""Cross-validated training of the interval network: folds, out-of-fold tables, exported graph.

A run's folder holds `config.json`, `folds.csv`, `intervals.json` (edges, and the temperature fitted out of
fold), `fold<k>/` (checkpoints, `history.csv`, weights, `predictions.csv` of every image by its part),
`oof.csv` and `oof_log_probabilities.csv` (of the images that each fold held out), and `graph.onnx`.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest
from boneage.data.splits import read_folds, stratified_folds, write_folds
from boneage.metrics.classification import fit_temperature
from boneage.models.backbones import create_backbone
from boneage.models.intervals import IntervalNet
from boneage.recipes.age_intervals.config import Recipe
from boneage.recipes.age_intervals.intervals import AgeIntervals, make_intervals
from boneage.recipes.age_intervals.learn import HEADS, fit_net, predict
from boneage.recipes.age_intervals.method import AgeIntervalsMethod
from boneage.recipes.age_intervals.views import Samples, Views, make_views
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.export import export_graph
from boneage.training.run import log_to, open_run, write_table

logger = logging.getLogger(__name__)

WEIGHTS = "weights.pt"
FINAL = "final"
PREDICTIONS = "predictions.csv"
PARTS = ("training", "validation", "held_out")
"""What an image was to a fold's network."""


@dataclass(frozen=True)
class Training:
    """One network to train: a recipe on a fold, with its results in a folder.

    Args:
        data: manifest.
        recipe: how.
        intervals: the classes.
        fold: that is held out.
        folder: of its results.
        shared: folder of `folds.csv` and of the processed views, which trainings may share.
    """

    data: Path
    recipe: Recipe
    intervals: AgeIntervals
    fold: int
    folder: Path
    shared: Path


def train(job: TrainJob) -> Path:
    """Train every fold, write the out-of-fold tables and export the graph.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the configuration or the manifest is wrong, or `out` holds another run.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    (intervals,) = plan(job.data, [recipe])
    open_run(job, "age_intervals", recipe)
    prepare(job, recipe)
    wanted = recipe.schedule.run_folds or tuple(range(recipe.schedule.folds))
    if recipe.schedule.final_epochs and recipe.schedule.final_fold not in wanted:
        raise ConfigError(
            f"schedule.final_fold is {recipe.schedule.final_fold}, which is not trained; "
            f"give one of {', '.join(map(str, wanted))}, or final_epochs=0"
        )
    trainings = [
        Training(job.data, recipe, intervals, fold, job.out / f"fold{fold}", job.out) for fold in wanted
    ]
    train_all(trainings, recipe.schedule.processes)
    _write_oof(job.out, intervals, wanted)
    last = recipe.schedule.final_fold if recipe.schedule.final_epochs else wanted[0]
    folder = job.out / f"fold{last}"
    if recipe.schedule.final_epochs:
        _train_final(replace(trainings[0], fold=last, folder=folder))
        folder = job.out / FINAL
    _export(load_net(recipe, intervals, folder), recipe, job.out / "graph.onnx")
    return job.out


def plan(data: Path, recipes: Sequence[Recipe]) -> list[AgeIntervals]:
    """Return each recipe's intervals, before anything is written.

    Raises:
        ConfigError: no image has a sex and a bone age, the intervals cannot be made of their ages, there is
            no such backbone, or its weights do not fit.
    """
    ages = [row.bone_age_months or 0.0 for row in labelled_rows(data)]
    intervals = [make_intervals(recipe.intervals, ages) for recipe in recipes]
    for network in {recipe.network for recipe in recipes}:
        create_backbone(network.backbone, network.pretrained).freeze(network.frozen_stages)
    return intervals


def prepare(job: TrainJob, recipe: Recipe) -> None:
    """Split the labelled images into folds and process them, once a run."""
    rows, folds = labelled_rows(job.data), job.out / "folds.csv"
    if not folds.exists():
        write_folds(folds, rows, stratified_folds(rows, recipe.schedule.folds, recipe.schedule.seed))
    make_views(rows, recipe.input, job.locate, job.out / "views")


def labelled_rows(data: Path) -> list[Row]:
    """Return the rows of a manifest that have a sex and a bone age.

    Raises:
        ConfigError: none has.
    """
    rows = [row for row in read_manifest(data) if row.bone_age_months is not None and row.sex is not None]
    if not rows:
        raise ConfigError(
            f"{data.name} has no image with sex and bone_age_months; intervals are learnt from labels"
        )
    return rows


def train_all(trainings: Sequence[Training], processes: int) -> None:
    """Train the networks that are not trained yet, as many at once as there are processes for.

    Raises:
        ConfigError: before any of them is trained: a training part has no image of some interval, and the
            loss learns nothing of it from the others.
    """
    pending = [training for training in trainings if not (training.folder / PREDICTIONS).exists()]
    for training in pending:
        if training.recipe.schedule.loss == "cross_entropy":
            learnt = _views(training).ages[_parts(training)["training"]]
            training.intervals.require_filled(learnt, f"training part of fold {training.fold}")
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(_train_fold, pending))
    else:
        for training in pending:
            _train_fold(training)


def _train_fold(training: Training) -> None:
    """Train one network, and predict every image by its part."""
    folder, schedule = training.folder, training.recipe.schedule
    folder.mkdir(parents=True, exist_ok=True)
    log_to(folder / "log.txt")
    torch.set_num_threads(schedule.threads)
    views, part = _views(training), _parts(training)
    recipe = replace(training.recipe, schedule=replace(schedule, seed=schedule.seed + training.fold))
    if not (folder / WEIGHTS).exists():
        ages = views.ages[part["training"]]
        learnt, watched = (Samples(views, part[name], recipe) for name in PARTS[:2])
        torch.manual_seed(recipe.schedule.seed)  # of the first weights
        net = build_net(recipe, training.intervals, ages)
        if recipe.network.start_from:
            _start_from(Path(recipe.network.start_from), training, net)
        net.backbone.freeze(recipe.network.frozen_stages)
        _save(fit_net(net, recipe, learnt, watched if schedule.patience else None, folder), folder)
    _write_predictions(load_net(recipe, training.intervals, folder), training, views, part)


def _start_from(run: Path, training: Training, net: IntervalNet) -> None:
    """Give a network the weights of the same fold of an earlier run."""
    weights, folds = run / f"fold{training.fold}" / WEIGHTS, run / "folds.csv"
    if not weights.is_file() or not folds.is_file():
        raise ConfigError(f"{weights} is missing; give a finished run of age_intervals to network.start_from")
    if read_folds(folds) != read_folds(training.shared / "folds.csv"):
        raise ConfigError(f"{run} has other folds, so its networks have seen what is held out here")
    try:
        net.load_state_dict(torch.load(weights, weights_only=True))
    except RuntimeError as error:
        raise ConfigError(f"the network of {run} is another one; give its [network] and intervals") from error


def build_net(
    recipe: Recipe, intervals: AgeIntervals, ages: NDArray[np.float64], *, pretrained: bool = True
) -> IntervalNet:
    """Return the untrained network for training ages (N,) in months."""
    network = recipe.network
    return IntervalNet(
        create_backbone(network.backbone, network.pretrained if pretrained else "none"),
        intervals.edges_months,
        HEADS[recipe.schedule.loss],
        age_mean=float(ages.mean()),
        age_std=float(ages.std()),
        sex_width=network.sex_width,
        hidden=network.hidden,
        activation=network.activation,
        batch_norm=network.batch_norm,
        dropout=network.dropout,
    )


def load_net(recipe: Recipe, intervals: AgeIntervals, folder: Path) -> IntervalNet:
    """Return a trained network of a run, in eval mode."""
    saved = torch.load(folder / WEIGHTS, weights_only=True)
    any_ages = np.array([0.0, 24.0])  # mean and spread of its ages are part of the state
    net = build_net(recipe, intervals, any_ages, pretrained=False)
    net.load_state_dict(saved)
    return net.eval()


def _save(net: IntervalNet, folder: Path) -> None:
    partial = folder / "weights.partial"
    torch.save(net.state_dict(), partial)
    partial.replace(folder / WEIGHTS)


def _views(training: Training) -> Views:
    """Return the views that `prepare` made."""

    def lost(_: object) -> Any:
        raise ConfigError(f"{training.shared} lost its views; start the run again")

    return make_views(labelled_rows(training.data), training.recipe.input, lost, training.shared / "views")


def _parts(training: Training) -> dict[str, list[int]]:
    """Return part -> places of its images among the views; without patience all but the held out train."""
    folds, schedule = read_folds(training.shared / "folds.csv"), training.recipe.schedule
    validating = (training.fold + 1) % schedule.folds if schedule.patience else None
    part: dict[str, list[int]] = {name: [] for name in PARTS}
    for place, row in enumerate(_views(training).rows):
        names = {training.fold: "held_out", validating: "validation"}
        part[names.get(folds[row.id], "training")].append(place)
    rng = np.random.default_rng(schedule.seed)
    kept = rng.permutation(part["training"])[: round(schedule.train_share * len(part["training"]))]
    return {**part, "training": sorted(kept.tolist())}


def _write_predictions(
    net: IntervalNet, training: Training, views: Views, parts: dict[str, list[int]]
) -> None:
    """Write every image's part, age and log-probabilities, as the product would decode them."""
    method, lines = AgeIntervalsMethod(training.recipe.input, training.intervals), []
    for part, places in parts.items():
        for place, outputs in zip(places, predict(net, views, places), strict=True):
            row = views.rows[place]
            decoded = method.decode(outputs, row.sex or Sex.FEMALE)
            values = (decoded.age_months, decoded.spread_months or 0.0)
            chances = np.log(np.maximum(decoded.details["probabilities"], 1e-9))
            texts = [f"{value:.4f}" for value in (*values, *chances)]
            lines.append(
                [
                    row.id,
                    part,
                    row.sex,
                    row.bone_age_months,
                    decoded.details["interval"],
                    *texts,
                    training.fold,
                ]
            )
    head = ["id", "part", "sex", "bone_age_months", "interval", "prediction", "spread"]
    write_table(training.folder / PREDICTIONS, [*head, *training.intervals.names(), "fold"], lines)


def read_predictions(folder: Path, part: str) -> list[dict[str, str]]:
    """Return the lines of a training's predictions of one part."""
    with (folder / PREDICTIONS).open(newline="") as file:
        return [line for line in csv.DictReader(file) if line["part"] == part]


def _write_oof(out: Path, intervals: AgeIntervals, folds: Sequence[int]) -> None:
    """Join what the folds held out, and fit the temperature to it."""
    lines = [line for fold in folds for line in read_predictions(out / f"fold{fold}", "held_out")]
    columns = ["id", "sex", "bone_age_months", "prediction", "spread", "fold"]
    write_table(out / "oof.csv", columns, [[line[name] for name in columns] for line in lines])
    names = intervals.names()
    chances = [[line[name] for name in names] for line in lines]
    write_table(
        out / "oof_log_probabilities.csv",
        ["id", *names],
        [[line["id"], *row] for line, row in zip(lines, chances, strict=True)],
    )
    truth = intervals.classes([float(line["bone_age_months"]) for line in lines])
    temperature = fit_temperature(np.array(chances, dtype=np.float64), truth)
    partial = out / "intervals.partial"
    partial.write_text(json.dumps({"edges_months": intervals.edges_months, "temperature": temperature}))
    partial.replace(out / "intervals.json")


def _train_final(training: Training) -> None:
    """Train a fold's network on with all images, the ones held out of it too, unless that is done already.

    No image is left to measure the result on: the folds' figures stand for it.
    """
    schedule, folder = training.recipe.schedule, training.folder.parent / FINAL
    if (folder / WEIGHTS).exists():
        return
    folder.mkdir(exist_ok=True)
    log_to(folder / "log.txt")
    torch.set_num_threads(schedule.threads)
    stage = replace(schedule.stages[-1], epochs=schedule.final_epochs)
    rate, seed = schedule.final_learning_rate, schedule.seed + schedule.folds
    recipe = replace(
        training.recipe, schedule=replace(schedule, stages=(stage,), learning_rate=rate, seed=seed)
    )
    views = _views(training)
    net = load_net(recipe, training.intervals, training.folder)
    net.backbone.freeze(recipe.network.frozen_stages)
    everything = Samples(views, range(len(views.rows)), recipe)
    _save(fit_net(net, recipe, everything, None, folder), folder)


def _export(net: IntervalNet, recipe: Recipe, path: Path) -> None:
    """Write the network as an ONNX graph: `image`, `sex` -> `log_probabilities`, `age_months`."""
    examples = {
        "image": torch.rand(2, 1, recipe.input.height, recipe.input.width),
        "sex": torch.tensor([[0.0], [1.0]]),
    }
    export_graph(net, examples, ("log_probabilities", "age_months"), path)
