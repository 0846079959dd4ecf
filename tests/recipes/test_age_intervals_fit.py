"""Paper 5's training, on a few drawn hands: losses, early stopping, folds, the graph, and its whole table."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from torch import Tensor, nn  # noqa: E402

import boneage.recipes.age_intervals as package  # noqa: E402
from boneage.core.errors import ConfigError, NotAHand  # noqa: E402
from boneage.core.types import Affine, Hand, Radiograph, Sex  # noqa: E402
from boneage.data.manifest import Row, read_manifest  # noqa: E402
from boneage.data.splits import read_folds  # noqa: E402
from boneage.data.synthetic import View, draw_hand, save_drawings  # noqa: E402
from boneage.imaging.read import read  # noqa: E402
from boneage.inference.runners import open_graph  # noqa: E402
from boneage.metrics.classification import fit_temperature, temper  # noqa: E402
from boneage.models.backbones import Backbone  # noqa: E402
from boneage.models.intervals import IntervalNet  # noqa: E402
from boneage.recipes.age_intervals import fit, reproduce, tables  # noqa: E402
from boneage.recipes.age_intervals.config import LOSSES, Recipe, ScheduleConfig  # noqa: E402
from boneage.recipes.age_intervals.fit import labelled_rows, train  # noqa: E402
from boneage.recipes.age_intervals.intervals import AgeIntervals, make_intervals  # noqa: E402
from boneage.recipes.age_intervals.learn import (  # noqa: E402
    CURVES,
    HEADS,
    class_of,
    fit_net,
    label_distribution,
    loss_of,
    predict,
)
from boneage.recipes.age_intervals.method import AgeIntervalsMethod  # noqa: E402
from boneage.recipes.age_intervals.reproduce import Comparison, rows_of  # noqa: E402
from boneage.recipes.age_intervals.views import Sample, Samples, Views, make_views  # noqa: E402
from boneage.training.config import Stage, TrainJob, as_tree, read_config  # noqa: E402

FOLDER = Path(package.__file__).parent
EDGES = (0.0, 60.0, 100.0, 150.0, 240.0)
SCHEDULE = ScheduleConfig((Stage(1, 8, 8),), label_sigma_months=9.0, expectation_weight=1.0)


class Brightness(nn.Module):
    """A body whose one feature is the image's mean."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1].mean(dim=(2, 3))


def tiny(loss: str = "cross_entropy", seed: int = 0) -> IntervalNet:
    torch.manual_seed(seed)
    backbone = Backbone(Brightness(), 1, (0.5,) * 3, (0.3,) * 3)
    return IntervalNet(
        backbone, EDGES, HEADS[loss], age_mean=120.0, age_std=50.0, sex_width=2, hidden=8, batch_norm=True
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Losses


def test_a_label_distribution_is_the_normal_distributions_share_of_each_interval() -> None:
    edges, ages = torch.tensor(EDGES), torch.tensor([[100.0], [30.0], [240.0]])
    found = label_distribution(edges, ages, 20.0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))
    normal = torch.distributions.Normal(100.0, 20.0).cdf(edges[1:-1])
    expected = torch.tensor([normal[0], normal[1] - normal[0], normal[2] - normal[1], 1 - normal[2]])
    torch.testing.assert_close(found[0], expected)  # 2.3%, 47.7%, 49.4% and 0.6%, beyond 240 included
    assert found.argmax(dim=1).tolist() == [2, 0, 3] and found.min() >= 0


@given(
    st.lists(st.integers(0, 1920), min_size=3, max_size=12, unique=True),
    st.lists(st.integers(0, 1920), min_size=1, max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_training_and_judging_put_an_age_in_the_same_interval(edges: list[int], ages: list[int]) -> None:
    """Eighths of a month are exact in both of their number formats; ages on an edge are among them."""
    intervals = AgeIntervals(tuple(edge / 8 for edge in sorted(edges)))
    inside = [age / 8 for age in [*ages, *edges] if min(edges) <= age <= max(edges)]
    found = class_of(torch.tensor(intervals.edges_months), torch.tensor(inside)[:, None])
    assert found.tolist() == intervals.classes(inside).tolist()


def good_scores(net: IntervalNet, loss: str, age: float, share: float) -> Tensor:
    """Scores that move, as the share goes from 0 to 1, from those of 30 months to those of an age."""
    if HEADS[loss] == "classes":
        ends = [label_distribution(net.edges, torch.tensor([[each]]), 9.0) for each in (30.0, age)]
        return ((1 - share) * ends[0] + share * ends[1] + 1e-4).log()
    ends = [torch.tensor([[(each - 120.0) / 50.0]]) for each in (30.0, age)]
    return (1 - share) * ends[0] + share * ends[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_falls_as_the_prediction_moves_to_the_truth(loss: str) -> None:
    net, schedule = tiny(loss), replace(SCHEDULE, loss=loss)
    for age in (125.0, 190.0):
        losses = [
            float(loss_of(net, good_scores(net, loss, age, share), torch.tensor([[age]]), schedule))
            for share in (0, 0.25, 0.5, 0.75, 1)
        ]
        assert all(later < earlier for earlier, later in pairwise(losses)), losses


def test_the_losses_are_those_that_their_names_say() -> None:
    age = torch.tensor([[125.0], [30.0]])
    scores = torch.tensor([[0.0, 1.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    chances = scores.softmax(dim=1)
    plain = loss_of(tiny(), scores, age, SCHEDULE)
    assert plain.item() == pytest.approx(-0.5 * (chances[0, 2].log() + chances[1, 0].log()).item())
    spread = replace(SCHEDULE, loss="distribution", expectation_weight=0.0)
    target = label_distribution(torch.tensor(EDGES), age, 9.0)
    expected = -(target * chances.log()).sum(dim=1).mean().item()
    assert loss_of(tiny(), scores, age, spread).item() == pytest.approx(expected)
    heavier = loss_of(tiny(), scores, age, replace(spread, expectation_weight=2.0)).item() - expected
    years = np.abs((chances @ torch.tensor([30.0, 80.0, 125.0, 195.0])).numpy() - [125, 30]) / 12
    assert heavier == pytest.approx(2 * np.mean(years - 0.25), rel=1e-4)  # smooth L1, both beyond half a year


def test_a_regressions_scale_learns_its_error_and_not_the_age() -> None:
    net, age = tiny("regression"), torch.tensor([[100.0], [140.0]])
    scores = torch.zeros(2, 1, requires_grad=True)  # 120 months: 20 off each
    schedule = replace(SCHEDULE, loss="regression")
    optimiser = torch.optim.SGD([net.log_scale_tenth], 0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss_of(net, scores, age, schedule).backward()
        optimiser.step()
    # Maximum likelihood of a logistic error of 20: its scale s solves (20 / s) tanh(10 / s) = 1.
    ratio = 20 / net.log_scale.exp().item()
    assert ratio * np.tanh(ratio / 2) == pytest.approx(1, abs=0.02)
    assert scores.grad is not None
    alone = torch.zeros(2, 1, requires_grad=True)
    (nn.functional.smooth_l1_loss((50 * alone + 120) / 12, age / 12, beta=0.5)).backward()
    scores.grad = None
    loss_of(net, scores, age, schedule).backward()
    torch.testing.assert_close(scores.grad, alone.grad)


# One network


class Stopped(Exception):
    """What a test stops a training with."""


class StoppingSamples(Samples):
    """Samples that end the training in an epoch, and say which epochs were trained."""

    stop: int | None = None
    epochs: set[int]

    def __call__(self, index: int, epoch: int | None = None) -> Sample:
        self.epochs = getattr(self, "epochs", set())
        if epoch is not None and epoch == self.stop:
            raise Stopped
        self.epochs |= {epoch} if epoch is not None else set()
        return super().__call__(index, epoch)


def grey_views(count: int = 12) -> Views:
    """Images whose brightness tells the age."""
    rng = np.random.default_rng(0)
    ages = np.linspace(20, 220, count)
    rows = tuple(
        Row(f"{k}", Path(f"{k}.png"), [Sex.MALE, Sex.FEMALE][k % 2], float(age)) for k, age in enumerate(ages)
    )
    pixels = rng.normal(ages[:, None, None], 8, (count, 8, 8)).clip(0, 255).astype(np.uint8)
    return Views(rows, pixels, (1, 1))


def recipe_of(**schedule: Any) -> Recipe:
    recipe = read_config(FOLDER / "recipe.toml", Recipe, OVERRIDES)
    values = {"stages": (Stage(6, 8, 8),), "batch": 4, "learning_rate": 0.05, "patience": 0, **schedule}
    changed = replace(recipe.schedule, **values)
    return replace(recipe, schedule=changed, augment=replace(recipe.augment, shift=0.05, brightness=0.05))


def fitted(
    recipe: Recipe, folder: Path, *, seed: int = 0, stop: int | None = None
) -> tuple[dict[str, Tensor], set[int]]:
    """Train on two thirds of the grey images; returns the state and the epochs that were trained."""
    views = grey_views()
    learnt = StoppingSamples(views, [k for k in range(12) if k % 3], recipe)
    learnt.stop = stop
    folder.mkdir(exist_ok=True)
    watched = Samples(views, range(0, 12, 3), recipe) if recipe.schedule.patience else None
    net = fit_net(tiny(recipe.schedule.loss, seed), recipe, learnt, watched, folder)
    assert not net.training
    return {name: value.clone() for name, value in net.state_dict().items()}, getattr(learnt, "epochs", set())


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "schedule",
    [
        {"patience": 6},
        {"patience": 0, "ema_decay": 0.9, "schedule": "one_cycle", "optimiser": "adamw", "clip_norm": 1.0},
    ],
    ids=["early stopping", "averaged weights"],
)
def test_a_stopped_training_goes_on_to_the_same_result_and_curves(
    tmp_path: Path, schedule: dict[str, Any]
) -> None:
    recipe = recipe_of(**schedule)
    whole, epochs = fitted(recipe, tmp_path / "whole")
    assert epochs == set(range(6))
    with pytest.raises(Stopped):
        fitted(recipe, tmp_path / "parts", stop=3)
    resumed, epochs = fitted(recipe, tmp_path / "parts", seed=1)
    assert epochs == {3, 4, 5}
    assert_same(whole, resumed)
    curves = [table(tmp_path / name / "history.csv") for name in ("whole", "parts")]
    assert [line["epoch"] for line in curves[0]] == list("123456")
    for one, other in zip(*curves, strict=True):
        assert list(one) == list(CURVES)
        for name in CURVES:
            assert (one[name] == other[name] == "") or float(one[name]) == pytest.approx(float(other[name]))
    assert (curves[0][0]["validation_loss"] == "") == (not schedule["patience"])


def test_early_stopping_keeps_the_weights_of_the_epoch_with_the_lowest_validation_loss(
    tmp_path: Path,
) -> None:
    recipe = recipe_of(patience=2, learning_rate=0.3, stages=(Stage(40, 8, 8),))  # too fast: it swings
    state, _ = fitted(recipe, tmp_path)
    history = table(tmp_path / "history.csv")
    losses = [float(line["validation_loss"]) for line in history]
    assert len(losses) == int(np.argmin(losses)) + 3 < 40  # two more, neither of them better
    net, views = tiny(), grey_views()
    net.load_state_dict(state)
    watched = range(0, 12, 3)
    ages = views.ages[list(watched)]
    chances = np.concatenate([each["log_probabilities"] for each in predict(net.eval(), views, watched)])
    truth = AgeIntervals(EDGES).classes(ages)
    assert -chances[np.arange(4), truth].mean() == pytest.approx(min(losses), rel=1e-3)
    best = history[int(np.argmin(losses))]
    assert (chances.argmax(axis=1) == truth).mean() == pytest.approx(float(best["validation_accuracy"]))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_what_the_brightness_tells(tmp_path: Path, loss: str) -> None:
    recipe = recipe_of(loss=loss, learning_rate=0.03, schedule="one_cycle", stages=(Stage(30, 8, 8),))
    state, _ = fitted(recipe, tmp_path)
    net, views = tiny(loss), grey_views()
    net.load_state_dict(state)
    found = np.concatenate([each["age_months"][:, 0] for each in predict(net.eval(), views, range(12))])
    assert np.abs(found - views.ages).mean() < 30  # of the mean age itself: 55
    first, last = (float(table(tmp_path / "history.csv")[at]["training_loss"]) for at in (0, -1))
    assert last < 0.7 * first


def test_both_optimisers_and_both_rates_are_what_the_schedule_says() -> None:
    from boneage.recipes.age_intervals.learn import IntervalTask

    def configured(**schedule: Any) -> Any:
        recipe = recipe_of(head_factor=3.0, **schedule)
        return IntervalTask(
            tiny(), recipe, Samples(grey_views(), range(12), recipe), None, Path()
        ).configure_optimizers()

    plain = configured(weight_decay=0.01)
    assert type(plain) is torch.optim.Adam and plain.defaults["weight_decay"] == 0.01
    assert [group["lr"] for group in plain.param_groups] == pytest.approx([0.05, 0.15])
    cycle = configured(optimiser="adamw", schedule="one_cycle")
    assert type(cycle["optimizer"]) is torch.optim.AdamW
    assert cycle["lr_scheduler"]["scheduler"].total_steps == 3 * 6


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="8 training images make no batch of 9"):
        fitted(recipe_of(batch=9), tmp_path)


# A run


OVERRIDES = (
    "input.height=32",
    "input.width=24",
    "intervals.count=3",
    "network.backbone=test_resnet",
    "network.pretrained=none",
    "network.hidden=8",
    "network.dropout=0.2",
    "schedule.stages=[{epochs=1, height=24, width=16}, {epochs=1, height=32, width=24}]",
    "schedule.batch=4",
    "schedule.patience=1",
    "schedule.folds=3",
    "schedule.run_folds=[]",
    "schedule.threads=1",
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen drawn hands of both sexes."""
    hands = [
        draw_hand(20.0 + 12 * index, [Sex.MALE, Sex.FEMALE][index % 2], index, View(shape=(128, 96)))
        for index in range(18)
    ]
    return save_drawings(tmp_path_factory.mktemp("drawn"), hands)


@pytest.fixture(scope="module")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A run of three folds and at most two epochs on the drawn hands."""
    job = TrainJob(manifest, tmp_path_factory.mktemp("run"), overrides=OVERRIDES)
    assert train(job) == job.out
    return job


def recipe_in(job: TrainJob) -> Recipe:
    return read_config(FOLDER / "recipe.toml", Recipe, job.overrides)


@pytest.mark.slow
def test_every_image_is_predicted_by_the_network_that_held_it_out(finished: TrainJob) -> None:
    folds = read_folds(finished.out / "folds.csv")
    rows = table(finished.out / "oof.csv")
    assert {row["id"]: int(row["fold"]) for row in rows} == folds and len(rows) == 18
    for fold in range(3):
        predictions = table(finished.out / f"fold{fold}" / "predictions.csv")
        part = {row["id"]: row["part"] for row in predictions}
        assert len(predictions) == len(part) == 18, "every image is in one part"
        names = {fold: "held_out", (fold + 1) % 3: "validation", (fold + 2) % 3: "training"}
        assert part == {name: names[of] for name, of in folds.items()}
        held_out = {row["id"]: row for row in predictions if row["part"] == "held_out"}
        for row in rows:
            if row["fold"] == str(fold):
                assert all(held_out[row["id"]][name] == value for name, value in row.items())
        files = {path.name for path in (finished.out / f"fold{fold}").iterdir()}
        assert files >= {"history.csv", "weights.pt", "predictions.csv", "log.txt"}
        assert 1 <= len(table(finished.out / f"fold{fold}" / "history.csv")) <= 2


@pytest.mark.slow
def test_the_out_of_fold_probabilities_and_their_temperature_are_kept(finished: TrainJob) -> None:
    saved = json.loads((finished.out / "intervals.json").read_text())
    ages = [row.bone_age_months or 0.0 for row in labelled_rows(finished.data)]
    intervals = make_intervals(recipe_in(finished).intervals, ages)
    assert tuple(saved["edges_months"]) == intervals.edges_months
    rows, chances = table(finished.out / "oof.csv"), table(finished.out / "oof_log_probabilities.csv")
    assert [row["id"] for row in rows] == [row["id"] for row in chances]
    assert tuple(chances[0]) == ("id", *intervals.names())
    logs = np.array([[float(row[name]) for name in intervals.names()] for row in chances])
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1, atol=1e-3)
    truth = intervals.classes([float(row["bone_age_months"]) for row in rows])
    assert saved["temperature"] == pytest.approx(fit_temperature(logs, truth), rel=1e-6)
    expected = np.exp(logs) @ intervals.centres_months
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], expected, atol=0.05)


@pytest.mark.slow
def test_the_graph_says_of_a_file_what_training_said_of_its_view(finished: TrainJob) -> None:
    saved = json.loads((finished.out / "intervals.json").read_text())
    intervals = AgeIntervals(tuple(saved["edges_months"]))
    method = AgeIntervalsMethod(recipe_in(finished).input, intervals)
    run = open_graph(finished.out / "graph.onnx", "onnxruntime", 1)
    paths = {row.id: row.path for row in read_manifest(finished.data)}
    for row in table(finished.out / "fold0" / "predictions.csv")[
        ::4
    ]:  # the graph is the first fold's network
        sex = Sex.parse(row["sex"])
        found = method.decode(run(method.prepare(read(paths[row["id"]]), None, sex)), sex)
        # Views are kept to 8 bits, weights in the graph to 16.
        assert found.age_months == pytest.approx(float(row["prediction"]), abs=0.5)
        expected = [np.exp(float(row[name])) for name in intervals.names()]
        assert found.details["probabilities"] == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(finished: TrainJob) -> None:
    kept = {path: path.stat().st_mtime_ns for path in finished.out.glob("fold*/*")}
    before = (finished.out / "oof.csv").read_text()
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        train(finished)
    train(replace(finished, resume=True))
    assert {path: path.stat().st_mtime_ns for path in finished.out.glob("fold*/*")} == kept
    assert (finished.out / "oof.csv").read_text() == before
    with pytest.raises(ConfigError, match="differs from the configuration given"):
        train(replace(finished, resume=True, overrides=(*OVERRIDES, "intervals.count=4")))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_tables(
    finished: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(finished, out=tmp_path / "run")
    shutil.copytree(finished.out, job.out)
    for name in ("oof.csv", "oof_log_probabilities.csv", "intervals.json", "graph.onnx"):
        (job.out / name).unlink()
    shutil.rmtree(job.out / "fold2")
    with monkeypatch.context() as patched:
        patched.setattr(fit, "Samples", StoppingSamples)
        patched.setattr(StoppingSamples, "stop", 1)
        with pytest.raises(Stopped):
            train(replace(job, resume=True))
    assert not (job.out / "fold2" / "weights.pt").exists()
    assert not (job.out / "oof.csv").exists()
    train(replace(job, resume=True))
    assert (job.out / "graph.onnx").is_file()
    for name in ("oof.csv", "oof_log_probabilities.csv", "fold2/history.csv"):
        for one, other in zip(table(finished.out / name), table(job.out / name), strict=True):
            for column, value in one.items():
                try:
                    assert float(other[column]) == pytest.approx(float(value), abs=1e-2)
                except ValueError:
                    assert other[column] == value


@pytest.mark.slow
def test_patches_train_and_one_network_can_be_trained_on_with_all_images(
    manifest: Path, tmp_path: Path
) -> None:
    overrides = (
        *OVERRIDES,
        "input.patches=[2, 2]",
        "input.pipeline.steps=['normalise']",
        "schedule.patience=0",
        "schedule.run_folds=[1]",
        "schedule.final_epochs=1",
        "schedule.final_fold=1",
    )
    job = TrainJob(manifest, tmp_path / "run", overrides=overrides)
    train(job)
    folds = read_folds(job.out / "folds.csv")
    part = {row["id"]: row["part"] for row in table(job.out / "fold1" / "predictions.csv")}
    assert part == {name: "held_out" if fold == 1 else "training" for name, fold in folds.items()}
    assert {row["id"] for row in table(job.out / "oof.csv")} == {name for name in folds if folds[name] == 1}
    history = table(job.out / "fold1" / "history.csv")
    assert len(history) == 2 and all(line["validation_loss"] == "" for line in history)
    first, last = (torch.load(job.out / name / "weights.pt") for name in ("fold1", "final"))
    norms = [name for name in first if name.endswith("num_batches_tracked")]
    # Two epochs of 12 images, then one of 18: each four patches, in batches of four.
    assert norms and all(first[name] == 24 and last[name] == 24 + 18 for name in norms)
    recipe = recipe_in(job)
    saved = json.loads((job.out / "intervals.json").read_text())
    method = AgeIntervalsMethod(
        recipe.input, AgeIntervals(tuple(saved["edges_months"])), saved["temperature"]
    )
    inputs = method.prepare(read(read_manifest(manifest)[0].path), None, Sex.MALE)
    outputs = open_graph(job.out / "graph.onnx", "onnxruntime", 1)(inputs)
    assert inputs["image"].shape == (4, 1, 32, 24) and outputs["log_probabilities"].shape == (4, 3)
    mean = temper(outputs["log_probabilities"], saved["temperature"]).mean(axis=0)
    assert method.decode(outputs, Sex.MALE).details["probabilities"] == pytest.approx(mean)
    with pytest.raises(ConfigError, match=r"final_fold is 0, which is not trained; give one of 1"):
        train(replace(job, out=tmp_path / "other", overrides=(*overrides, "schedule.final_fold=0")))


@pytest.mark.slow
def test_the_views_of_training_grow_with_the_stages_and_repeat(finished: TrainJob) -> None:
    recipe = recipe_in(finished)
    rows = labelled_rows(finished.data)
    views = make_views(rows, recipe.input, None, finished.out / "views")
    samples = Samples(views, range(18), replace(recipe, augment=replace(recipe.augment, shift=0.1)))
    first, sex, age = samples(0, 0)
    assert first.shape == (24, 16) and samples(0, 1)[0].shape == samples(0, 9)[0].shape == (32, 24)
    assert (sex, age) == (1.0, 20.0)
    assert np.array_equal(first, samples(0, 0)[0])
    plain = samples(0)[0]
    method = AgeIntervalsMethod(recipe.input, AgeIntervals(EDGES))
    prepared = method.prepare(read(rows[0].path), None, Sex.MALE)["image"][0, 0]
    np.testing.assert_allclose(plain, prepared, atol=0.51 / 255)
    np.testing.assert_allclose(Samples(views, range(18), recipe)(0, 1)[0], plain, atol=1e-6)
    assert not np.allclose(samples(0, 1)[0], plain, atol=0.05)
    again = make_views(rows, recipe.input, lost, finished.out / "views")
    assert np.array_equal(again.pixels, views.pixels)


def lost(_: object) -> Hand:
    raise AssertionError("the views are there already")


@pytest.mark.slow
def test_a_run_trains_another_ones_networks_on(finished: TrainJob, tmp_path: Path) -> None:
    start = f"network.start_from={finished.out}"
    still = ("schedule.learning_rate=1e-12", "schedule.run_folds=[1]")
    job = replace(finished, out=tmp_path / "on", overrides=(*OVERRIDES, start, *still))
    train(job)
    before, after = (
        torch.load(run / "fold1" / fit.WEIGHTS, weights_only=True) for run in (finished.out, job.out)
    )
    torch.testing.assert_close(after["output.weight"], before["output.weight"], rtol=0, atol=1e-6)
    for overrides, message in (
        (("schedule.folds=2", "schedule.patience=0"), "has other folds"),
        (("network.hidden=9",), "is another one"),
        ((f"network.start_from={tmp_path}",), "is missing; give a finished run"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(replace(job, out=tmp_path / message, overrides=(*OVERRIDES, start, *still, *overrides)))


def refuse(_: Radiograph) -> Hand:
    raise NotAHand("no hand found")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("network.backbone=resnot",), "unknown backbone 'resnot'"),
        (("schedule.batch=64",), "6 training images make no batch of 64"),
        (("schedule.folds=19",), r"19 patients, got 18"),
        (("input.crop=hand",), "needs a hand localiser"),
        (("intervals.count=12",), "holds only 1 of at least 2 images"),
        (("intervals.method=edges", "intervals.edges_months=[0, 60, 120]"), "ages lie outside .* 0 to 120"),
        (
            ("intervals.method=edges", "intervals.edges_months=[0, 223, 300]"),
            "223 to 300 months holds only 1 of at least 2",
        ),
        (
            ("intervals.method=edges", "intervals.edges_months=[0, 60, 61, 300]"),
            "60 to 61 months holds no image",
        ),
        (
            ("schedule.folds=2", "schedule.run_folds=[0]"),
            "training part of fold 0",
        ),  # one fold is held out, the other validates
    ],
)
def test_what_cannot_be_trained_on_is_said(
    manifest: Path, tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(TrainJob(manifest, tmp_path / "run", overrides=(*OVERRIDES, *overrides)))


def test_images_without_a_hand_are_left_out_and_none_at_all_is_refused(
    manifest: Path, tmp_path: Path
) -> None:
    job = TrainJob(manifest, tmp_path / "run", overrides=(*OVERRIDES, "input.crop=hand"), locate=refuse)
    with pytest.raises(ConfigError, match="none of the images can be used"):
        train(job)

    def choosy(radiograph: Radiograph) -> Hand:
        if "3" in Path(radiograph.path).stem[-1]:
            raise NotAHand("no hand found")
        return whole_image(radiograph)

    rows, config = labelled_rows(manifest), recipe_in(job).input
    views = make_views(rows, config, choosy, tmp_path / "views")
    assert 0 < len(views.rows) == len(views.pixels) < 18


@pytest.mark.parametrize("missing", ["sex", "bone_age_months"])
def test_a_manifest_without_labels_is_refused(manifest: Path, tmp_path: Path, missing: str) -> None:
    lines = table(manifest)
    path = tmp_path / "unlabelled.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in lines[0] if name != missing], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**line, "path": str(manifest.parent / line["path"])} for line in lines)
    with pytest.raises(ConfigError, match=r"unlabelled\.csv has no image with sex and bone_age_months"):
        train(TrainJob(path, tmp_path / "run", overrides=OVERRIDES))


# The comparison


def whole_image(radiograph: Radiograph) -> Hand:
    """A localiser that takes the image for the hand."""
    height, width = radiograph.shape
    box = (0.0, 0.0, float(width), float(height))
    return Hand(box, Affine.identity(), box, None, np.zeros((0, 2), np.float32), {}, 1.0, "fast")


TWO_MODELS = """
changed = "resnet"
[input]
height = 16
width = 12
[intervals]
[network]
backbone = "test_resnet"
[models.customized]
backbone = "test_resnet"
hidden = 4
sex_width = 2
[models.resnet]
backbone = "test_resnet"
hidden = 6
sex_width = 2
[schedule]
stages = [{ epochs = 1, height = 16, width = 12 }]
batch = 2
folds = 3
patience = 1
run_folds = [1]
threads = 1
expectation_weight = 1.0
"""


def small_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two and three intervals in place of three, five and ten."""
    for name, value in (("COUNTS", (2, 3)), ("FINE", 3), ("USUAL", 2)):
        monkeypatch.setattr(reproduce, name, value)


def test_the_comparison_has_the_papers_rows_each_once() -> None:
    comparison = read_config(FOLDER / "comparison.toml", Comparison)
    rows = rows_of(comparison)
    assert len(rows) == len({row.folder for row in rows}) == 3 * 4 * 2 + 2 * 3 + 4
    table_rows = {(row.count, row.model) for row in rows if not row.change}
    assert table_rows == set(tables.PRINTED), "a row of ours for every row of the paper"
    for row in rows:
        assert row.recipe.intervals.count == row.count
        assert (row.recipe.network.sex_width == 0) == (not row.sex)
        network = comparison.models[row.model]
        if row.sex and row.change != "no pretrained weights":
            assert row.recipe.network == network
    every = rows_of(replace(comparison, by_loss=()))
    losses = {(row.model, row.recipe.schedule.loss) for row in every if row.count == 10 and row.sex}
    assert losses == {(model, loss) for model in comparison.models for loss in LOSSES}


def test_a_changed_row_changes_what_it_names_alone() -> None:
    size = ("input.height=112", "input.width=84", "schedule.stages=[{epochs=3, height=112, width=84}]")
    comparison = read_config(FOLDER / "comparison.toml", Comparison, size)
    rows = rows_of(comparison)
    plain = next(row for row in rows if (row.model, row.count, row.sex) == ("resnet", 5, True))

    def leaves(tree: dict[str, Any], at: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in tree.items():
            found |= leaves(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}": value}
        return found

    whole = leaves(as_tree(plain.recipe))
    changed = [
        {key: value for key, value in leaves(as_tree(row.recipe)).items() if value != whole[key]}
        for row in rows
        if row.change
    ]
    names = [row.change for row in rows if row.change]
    assert changed == [
        {"network.pretrained": "none", "network.frozen_stages": 0},
        {"schedule.train_share": 0.5},
        {"input.crop": "none"},
        {
            "input.height": 76,
            "input.width": 56,
            "input.patches": [2, 2],
            "schedule.stages": [{"epochs": 3, "height": 76, "width": 56}],
        },
    ]
    assert names == [
        "no pretrained weights",
        "half of the training images",
        "the whole image",
        "four patches of 76 x 56 px that vote",
    ]


def test_a_comparison_of_a_model_that_there_is_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(TWO_MODELS)
    with pytest.raises(ConfigError, match="'vgg' is none of the models: customized, resnet"):
        read_config(path, Comparison, ["changed=vgg"])


@pytest.mark.slow
def test_a_small_comparison_writes_its_tables_and_figures_and_trains_nothing_twice(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_comparison(monkeypatch)
    config = tmp_path / "two.toml"
    config.write_text(TWO_MODELS)
    job = TrainJob(manifest, tmp_path / "out", config=config, locate=whole_image)
    assert reproduce.reproduce(job) == job.out

    folders = sorted(path for path in job.out.iterdir() if (path / "weights.pt").is_file())
    assert len(folders) == 2 * 2 * 2 + 2 * 3 + 3
    parts = [
        {row["id"]: row["part"] for row in table(path / "predictions.csv") if row["part"] != "training"}
        for path in folders
    ]
    assert len(parts[0]) == 12 and all(part == parts[0] for part in parts), "one split for every row"

    text = (job.out / "tables.md").read_text()
    assert "6 images train, 6 validate" in text and "6 are held out" in text
    for title in ("Its table", "What the sex adds", "Losses", "One thing changed"):
        assert f"## {title}" in text
    for name in (*LOSSES, "four patches of 12 x 8 px that vote", "half of the training images"):
        assert f"| {name} |" in text
    assert "nan" not in text

    written = json.loads((job.out / "tables.json").read_text())
    assert len(written["rows"]) == len(folders)
    for row in written["rows"]:
        confusion = np.array(row["confusion"])
        assert confusion.shape == (row["intervals"],) * 2 and confusion.sum() == 6
        right = row["accuracy_percent"]["held_out"]
        assert right["estimate"] == pytest.approx(100 * np.trace(confusion) / 6)
        assert right["low"] <= right["estimate"] <= right["high"]
    folder = job.out / "resnet-3-regression"
    ages = [
        [float(row[name]) for name in ("prediction", "bone_age_months")]
        for row in fit.read_predictions(folder, "held_out")
    ]
    of_row = next(r for r in written["rows"] if (r["model"], r["loss"]) == ("resnet", "regression"))
    assert of_row["mae_months"]["estimate"] == pytest.approx(np.abs(np.diff(ages)).mean())

    figures = {path.name for path in job.out.glob("*.png")}
    kinds = ("curves", "confusion", "border")
    assert figures == {f"{kind}-{count}.png" for kind in kinds for count in (2, 3)} | {"reliability.png"}
    assert all((job.out / name).read_bytes().startswith(b"\x89PNG") for name in figures)

    kept = {path: (path / "weights.pt").stat().st_mtime_ns for path in folders}
    shutil.rmtree(folders[0])
    with pytest.raises(ConfigError, match="give --resume"):
        reproduce.reproduce(job)
    reproduce.reproduce(replace(job, resume=True))
    again = {path: (path / "weights.pt").stat().st_mtime_ns for path in folders}
    assert {path for path in folders if again[path] != kept[path]} == {folders[0]}
    assert json.loads((job.out / "tables.json").read_text()).keys() == written.keys()
