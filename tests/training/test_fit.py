"""The training loop: it learns, goes on where it was stopped, and leaves frozen parts alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

import boneage.models  # noqa: E402, F401  declares torchvision's operators before lightning imports it

# isort: split

import lightning  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.core.types import Sex  # noqa: E402
from boneage.data.synthetic import View, draw_hand  # noqa: E402
from boneage.imaging.geometry import resize  # noqa: E402
from boneage.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, create_backbone  # noqa: E402
from boneage.models.heads import AgeNet  # noqa: E402
from boneage.training.fit import (  # noqa: E402
    AgeTask,
    Loop,
    Sample,
    age_loss,
    fit,
    make_optimiser,
    predict,
    run,
)

LOOP = Loop(
    epochs=4,
    batch=4,
    loss="mse",
    label_sigma_months=7.0,
    optimiser="adamw",
    learning_rate=1e-2,
    head_factor=3.0,
    momentum=0.9,
    weight_decay=1e-3,
    schedule="one_cycle",
    step_epochs=2,
    warm_up=0.25,
    clip_norm=1.0,
    ema_decay=0.0,
    precision="32-true",
    seed=0,
)
COUNT = 9


class Stopped(Exception):
    """What a test stops a training with."""


class NoisyViews:
    """Small random images whose brightness tells the age; logs every epoch seen, and ends in epoch `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.epochs: list[int] = []

    def __call__(self, index: int, epoch: int) -> Sample:
        if epoch == self.stop:
            raise Stopped
        self.epochs.append(epoch)
        rng = np.random.default_rng((epoch, index))
        age = 24.0 + 20 * index
        view = np.clip(rng.normal(age / 240, 0.05, (12, 10)), 0, 1).astype(np.float32)
        return view, float(index % 2), age


class Staged(nn.Module):
    """A stem and a stage with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        )

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = self.stages(self.stem(image)).mean(dim=(2, 3))
        return pooled


def small(head: str = "regression", seed: int = 0) -> AgeNet:
    torch.manual_seed(seed)
    backbone = Backbone(Staged(), 8, IMAGENET_MEAN, IMAGENET_STD)
    return AgeNet(backbone, head, age_mean=104.0, age_std=52.0, sex_width=4, hidden=16)


def state(net: AgeNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("schedule", ["one_cycle", "step"])
def test_a_stopped_training_goes_on_to_the_same_result(
    tmp_path: Path, schedule: str, ema_decay: float
) -> None:
    loop = replace(LOOP, schedule=schedule, ema_decay=ema_decay)
    whole = state(fit(small(), loop, COUNT, NoisyViews(), tmp_path / "whole"))
    with pytest.raises(Stopped):
        fit(small(), loop, COUNT, NoisyViews(stop=2), tmp_path / "parts")
    views = NoisyViews()
    resumed = state(fit(small(seed=1), loop, COUNT, views, tmp_path / "parts"))
    assert set(views.epochs) == {2, 3}
    assert_same(whole, resumed)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_finished_training_is_read_again_and_not_repeated(tmp_path: Path, ema_decay: float) -> None:
    loop = replace(LOOP, ema_decay=ema_decay)
    finished = state(fit(small(), loop, COUNT, NoisyViews(), tmp_path))
    views = NoisyViews()
    again = state(fit(small(seed=1), loop, COUNT, views, tmp_path))
    assert views.epochs == []
    assert_same(finished, again)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


class Scripted(lightning.LightningModule):
    """A task whose one weight counts the epochs, and whose validation losses are given."""

    def __init__(self, losses: list[float], stop: int | None = None) -> None:
        super().__init__()
        self.count = nn.Parameter(torch.zeros(1))
        self.losses, self.stop = losses, stop
        self.epochs: list[int] = []

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.ones(1, 1))  # type: ignore[arg-type]

    val_dataloader = train_dataloader

    def training_step(self, *_: object) -> Tensor:
        if self.current_epoch == self.stop:
            raise Stopped
        self.epochs.append(self.current_epoch)
        return -self.count.sum()

    def validation_step(self, *_: object) -> None:
        self.log("validation_loss", torch.tensor(self.losses[self.current_epoch]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1.0)


@pytest.mark.parametrize(
    ("patience", "trained", "best"),
    [(1, 3, 2), (2, 4, 2), (3, 8, 5), (9, 9, 9)],  # the fourth equals the second, which is not better
)
def test_patience_ends_a_training_and_keeps_the_best_epochs_weights(
    tmp_path: Path, patience: int, trained: int, best: int
) -> None:
    task = Scripted([1.0, 0.4, 0.5, 0.4, 0.3, 0.9, 0.8, 0.6, 0.1])
    run(task, 9, tmp_path, patience=patience)
    assert task.epochs == list(range(trained))
    assert task.count.item() == best
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "best.ckpt"}


def test_without_patience_the_last_epochs_weights_are_kept(tmp_path: Path) -> None:
    task = Scripted([1.0, 0.2, 0.5, 0.6])
    run(task, 4, tmp_path)
    assert task.epochs == [0, 1, 2, 3] and task.count.item() == 4
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stopped_training_goes_on_with_its_patience_and_its_best_epoch(tmp_path: Path, stop: int) -> None:
    losses = [1.0, 0.2, 0.5, 0.6, 0.1]
    with pytest.raises(Stopped):
        run(Scripted(losses, stop), 5, tmp_path, patience=2)
    task = Scripted(losses)
    run(task, 5, tmp_path, patience=2)
    assert task.epochs == list(range(stop, 4))
    assert task.count.item() == 2


def test_a_training_that_lost_its_patience_is_not_gone_on_with(tmp_path: Path) -> None:
    losses = [1.0, 0.2, 0.5, 0.6, 0.1, 0.1]
    run(Scripted(losses), 6, tmp_path, patience=2)
    again = Scripted(losses)
    run(again, 6, tmp_path, patience=2)
    assert again.epochs == []
    assert again.count.item() == 2


def test_the_same_seed_gives_the_same_and_another_does_not(tmp_path: Path) -> None:
    first, again = (state(fit(small(), LOOP, COUNT, NoisyViews(), tmp_path / str(run))) for run in range(2))
    other = state(fit(small(), replace(LOOP, seed=1), COUNT, NoisyViews(), tmp_path / "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_averaged_weights_are_what_comes_out(tmp_path: Path) -> None:
    plain = state(fit(small(), LOOP, COUNT, NoisyViews(), tmp_path / "plain"))
    averaged = state(fit(small(), replace(LOOP, ema_decay=0.99), COUNT, NoisyViews(), tmp_path / "averaged"))
    start = state(small())
    weight = "hidden.0.weight"
    assert (averaged[weight] - start[weight]).norm() < 0.5 * (plain[weight] - start[weight]).norm()


def test_every_epoch_shows_whole_batches_of_other_views(tmp_path: Path) -> None:
    views = NoisyViews()
    fit(small(), LOOP, COUNT, views, tmp_path)
    assert [views.epochs.count(epoch) for epoch in range(LOOP.epochs)] == [8] * 4  # 9 images, batches of 4


def test_the_network_comes_back_ready_to_predict(tmp_path: Path) -> None:
    net = fit(
        small("distribution"), replace(LOOP, loss="distribution", epochs=1), COUNT, NoisyViews(), tmp_path
    )
    assert not net.training
    outputs = predict(
        net, {"image": np.zeros((2, 1, 12, 10), np.float32), "sex": np.ones((2, 1), np.float32)}
    )
    assert outputs["age_months"].shape == outputs["spread_months"].shape == (2, 1)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_frozen_parts_keep_weights_and_batch_norm_statistics(tmp_path: Path, ema_decay: float) -> None:
    net = small()
    net.backbone.freeze(1)
    before = state(net)
    after = state(fit(net, replace(LOOP, ema_decay=ema_decay), COUNT, NoisyViews(), tmp_path))
    kept = [name for name in before if name.startswith("backbone.")]
    assert len(kept) >= 12
    for name in kept:  # an average of what never changes is the same but for its rounding
        torch.testing.assert_close(before[name], after[name], rtol=1e-6 if ema_decay else 0, atol=0, msg=name)
    assert not torch.equal(before["output.weight"], after["output.weight"])


def test_a_network_handed_over_in_eval_mode_is_trained_all_the_same(tmp_path: Path) -> None:
    net = small()
    after = state(fit(net.eval(), replace(LOOP, epochs=1), COUNT, NoisyViews(), tmp_path))
    assert after["backbone.body.stem.1.num_batches_tracked"] == 2  # Lightning would have left it in eval mode


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 training images make no batch of 4"):
        fit(small(), LOOP, 3, NoisyViews(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["regression", "distribution"])
def test_eight_drawn_hands_are_learnt_by_heart(tmp_path: Path, head: str) -> None:
    ages = np.linspace(24, 200, 8)
    sexes = [Sex.MALE, Sex.FEMALE] * 4
    hands = [
        draw_hand(age, sex, seed, View(shape=(256, 192)))
        for seed, (age, sex) in enumerate(zip(ages, sexes, strict=True))
    ]
    images = [resize(hand.pixels, (64, 48))[0] for hand in hands]
    samples = [
        (image, float(sex is Sex.MALE), age) for image, sex, age in zip(images, sexes, ages, strict=True)
    ]
    torch.manual_seed(0)
    net = AgeNet(
        create_backbone("test_resnet"), head, age_mean=ages.mean(), age_std=ages.std(), sex_width=8, hidden=64
    )
    loss = "mse" if head == "regression" else "distribution"
    loop = replace(LOOP, epochs=25, batch=8, loss=loss, learning_rate=2e-3, head_factor=1.0)
    net = fit(net, loop, 80, lambda index, _: samples[index % 8], tmp_path)
    sex = np.array([[sex] for _, sex, _ in samples], np.float32)
    found = predict(net, {"image": np.stack(images)[:, None], "sex": sex})["age_months"][:, 0]
    assert (
        np.abs(found - ages).mean() < 6
    )  # the ages' own spread about their mean is 50; rounding moves 1 to 2.6


def rates(loop: Loop, steps: int) -> list[list[float]]:
    """The learning rates of backbone and head at every step of a schedule."""
    configured = AgeTask(small(), loop, 8, NoisyViews()).configure_optimizers()
    optimiser, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    return found


def test_the_papers_rate_falls_tenfold_every_thirty_epochs() -> None:
    found = rates(replace(LOOP, optimiser="sgd", schedule="step", step_epochs=30, learning_rate=1e-3), 91)
    for epoch, factor in ((0, 1), (29, 1), (30, 0.1), (59, 0.1), (60, 0.01), (90, 0.001)):
        assert found[epoch] == pytest.approx([1e-3 * factor, 3e-3 * factor])


def test_one_cycle_warms_up_and_ends_near_nothing() -> None:
    found = np.array(rates(replace(LOOP, epochs=10), 20))
    assert found.max(axis=0) == pytest.approx([1e-2, 3e-2])
    assert 3 <= found[:, 0].argmax() <= 6  # a quarter of 20 steps
    assert np.all(found[-1] < 0.01 * found.max(axis=0))


def test_sgd_has_the_papers_momentum() -> None:
    groups = [{"params": list(small().parameters()), "lr": 1e-3}]
    sgd = make_optimiser(groups, replace(LOOP, optimiser="sgd", momentum=0.9))
    assert isinstance(sgd, torch.optim.SGD) and sgd.param_groups[0]["momentum"] == 0.9
    assert isinstance(make_optimiser(groups, LOOP), torch.optim.AdamW)


def test_the_papers_loss_is_the_mean_square_of_z_scores() -> None:
    scores, ages = torch.tensor([[0.5], [-1.0]]), torch.tensor([[104.0], [0.0]])  # z of 0 and -2
    assert age_loss(small(), scores, ages, LOOP).item() == pytest.approx((0.5**2 + 1.0**2) / 2)
    smooth = age_loss(small(), scores, ages, replace(LOOP, loss="smooth_l1")).item()
    assert smooth == pytest.approx((0.5 * 0.5**2 + 0.5 * 1.0**2) / 2)


def test_the_distribution_loss_is_least_where_the_distribution_is_right() -> None:
    net, loop = small("distribution"), replace(LOOP, loss="distribution")
    age = torch.tensor([[100.0]])

    def loss(centre: float, sigma: float) -> float:
        scores = (-0.5 * ((net.bins - centre) / sigma) ** 2)[None]
        return float(age_loss(net, scores, age, loop))

    right = loss(100.0, 7.0)
    assert right < min(loss(90.0, 7.0), loss(110.0, 7.0), loss(100.0, 3.0), loss(100.0, 20.0))
    assert loss(60.0, 7.0) > loss(80.0, 7.0) > loss(90.0, 7.0)
