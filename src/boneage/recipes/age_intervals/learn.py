"""How the interval network learns: four losses, early stopping, and the curves of a training."""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.models.intervals import IntervalNet
from boneage.recipes.age_intervals.config import Recipe, ScheduleConfig
from boneage.recipes.age_intervals.views import Samples, Views
from boneage.training.fit import channels_last, run, shuffled
from boneage.training.run import write_table

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor, Tensor]

_AT_ONCE = 16
"""Images that are predicted together."""

HEADS = {
    "cross_entropy": "classes",
    "distribution": "classes",
    "ordinal": "ordinal",
    "regression": "regression",
}
"""Loss -> the head of the network that it trains."""

CURVES = ("epoch", "training_accuracy", "validation_accuracy", "training_loss", "validation_loss")
"""Columns of `history.csv`; those of validation are empty where nothing validates."""


def loss_of(net: IntervalNet, scores: Tensor, age: Tensor, schedule: ScheduleConfig) -> Tensor:
    """Return the loss of raw scores (N, K or 1) against ages (N, 1) in months.

    `cross_entropy`: of the interval that holds the age. `ordinal`: cross-entropy of every "older than
    this edge". `distribution`: cross-entropy with the normal distribution around the age, and smooth L1 of
    its expectation in years. `regression`: smooth L1 of the age in years; the scale of its error learns
    from that error by maximum likelihood.

    Source: paper 5, eq. 1. Departs: as printed, -log(1 - P) of the true label's P rewards what is wrong; the
    cross-entropy that its text describes is -log P.
    """
    edges = net.edges
    if schedule.loss == "cross_entropy":
        return nn.functional.cross_entropy(scores, class_of(edges, age))
    if schedule.loss == "ordinal":
        beyond = (age > edges[1:-1]).float()
        return nn.functional.binary_cross_entropy_with_logits(net.beyond(scores), beyond)
    if schedule.loss == "distribution":
        target = label_distribution(edges, age, schedule.label_sigma_months)
        loss = -(target * scores.log_softmax(dim=1)).sum(dim=1).mean()
        return loss + schedule.expectation_weight * years_apart(net.ages(scores), age)
    month = net.months(scores)
    error, scale = (month.detach() - age).abs(), net.log_scale.exp()
    likelihood = net.log_scale + error / scale + 2 * nn.functional.softplus(-error / scale)
    return years_apart(month, age) + 0.1 * likelihood.mean()


def class_of(edges: Tensor, age: Tensor) -> Tensor:
    """Return the interval's number (N,) of ages (N, 1) in months; edges as in `AgeIntervals`."""
    return torch.bucketize(age[:, 0], edges[1:-1])


def label_distribution(edges: Tensor, age: Tensor, sigma_months: float) -> Tensor:
    """Return the share (N, K) of a normal distribution around each age (N, 1) that lies in each interval.

    What lies beyond the outer edges belongs to the outer intervals.
    """
    below = torch.special.ndtr((edges[1:-1] - age) / sigma_months)
    none = torch.zeros_like(age)
    padded = torch.cat([none, below, none + 1], dim=1)
    return padded[:, 1:] - padded[:, :-1]


def years_apart(found: Tensor, age: Tensor) -> Tensor:
    """Return the mean smooth L1 distance of ages (N, 1) in months, in years."""
    return nn.functional.smooth_l1_loss(found / 12, age / 12, beta=0.5)


class _Inputs(Dataset[tuple[Tensor, Tensor, Tensor]]):
    def __init__(self, samples: Samples, epoch: int | None) -> None:
        self.samples, self.epoch = samples, epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        view, sex, age = self.samples(index, self.epoch)
        return torch.from_numpy(view)[None], torch.tensor([sex]), torch.tensor([age])


class IntervalTask(lightning.LightningModule):
    """Trains an `IntervalNet` and keeps its curves.

    Args:
        net: the network; trained in place.
        recipe: how.
        training: what it learns from.
        validation: what early stopping watches; None watches nothing.
        history: file of the curves, rewritten every epoch.
    """

    def __init__(
        self, net: IntervalNet, recipe: Recipe, training: Samples, validation: Samples | None, history: Path
    ) -> None:
        super().__init__()
        self.net = net
        self.recipe = recipe
        self.training_samples = training
        self.validation_samples = validation
        self.history = history
        self.curves: list[list[float | str]] = []

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the current epoch."""
        schedule, samples = self.recipe.schedule, self.training_samples
        inputs = _Inputs(samples, self.current_epoch)
        return shuffled(inputs, len(samples), schedule.batch, (schedule.seed, self.current_epoch))

    def val_dataloader(self) -> Any:
        """Return the loader of the images that early stopping watches."""
        if self.validation_samples is None:
            return []
        return DataLoader(_Inputs(self.validation_samples, None), self.recipe.schedule.batch)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one batch of inputs (N, 1, H, W), sexes (N, 1) and ages (N, 1)."""
        return self._step(batch, "training")

    def validation_step(self, batch: Batch, _: int) -> None:
        """Measure one batch."""
        self._step(batch, "validation")

    def _step(self, batch: Batch, part: str) -> Tensor:
        image, sex, age = batch
        scores = self.net.scores(image, sex)
        loss = loss_of(self.net, scores, age, self.recipe.schedule)
        found = self.net.log_probabilities(scores.detach()).argmax(dim=1)
        right = (found == class_of(self.net.edges, age)).float().mean()
        values = {f"{part}_loss": loss.detach(), f"{part}_accuracy": right}
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=len(age))
        return loss

    def on_train_epoch_end(self) -> None:
        """Add the epoch to the curves."""
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        self.curves.append([self.current_epoch + 1, *(found.get(name, "") for name in CURVES[1:])])
        write_table(self.history, CURVES, self.curves)
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found.items())
        logger.info("epoch %d of %d: %s", self.current_epoch + 1, self.recipe.schedule.epochs, told)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves with the weights, so that a resumed training goes on with them."""
        checkpoint["curves"] = self.curves

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the curves up again."""
        self.curves = list(checkpoint["curves"])

    def configure_optimizers(self) -> Any:
        """Adam (the paper's) or AdamW, at a constant rate or in one cycle."""
        schedule = self.recipe.schedule
        trained = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        body = [p for name, p in trained if name.startswith("backbone.")]
        head = [p for name, p in trained if not name.startswith("backbone.")]
        rates = [schedule.learning_rate, schedule.learning_rate * schedule.head_factor]
        groups = [{"params": part, "lr": rate} for part, rate in zip((body, head), rates, strict=True)]
        kind = torch.optim.Adam if schedule.optimiser == "adam" else torch.optim.AdamW
        optimiser = kind(groups, weight_decay=schedule.weight_decay)
        if schedule.schedule == "constant":
            return optimiser
        steps = len(self.training_samples) // schedule.batch * schedule.epochs
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=0.15)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def fit_net(
    net: IntervalNet, recipe: Recipe, training: Samples, validation: Samples | None, folder: Path
) -> IntervalNet:
    """Train a network, or go on where `folder` holds an unfinished training of it.

    Returns:
        The network in eval mode, with its best epoch's weights where something validates.

    Raises:
        ConfigError: there are fewer images than make a batch.
    """
    schedule = recipe.schedule
    if len(training) < schedule.batch:
        raise ConfigError(
            f"{len(training)} training images make no batch of {schedule.batch}; set a smaller schedule.batch"
        )
    lightning.seed_everything(schedule.seed, verbose=False)
    task = IntervalTask(channels_last(net).train(), recipe, training, validation, folder / "history.csv")
    run(
        task,
        schedule.epochs,
        folder,
        ema_decay=schedule.ema_decay,
        precision=schedule.precision,
        clip_norm=schedule.clip_norm,
        patience=schedule.patience if validation is not None else 0,
    )
    return net.to("cpu").eval()


@torch.no_grad()
def predict(net: IntervalNet, views: Views, places: Sequence[int]) -> Iterator[dict[str, FloatArray]]:
    """Yield what the exported graph will return for the patches of each image, in order."""
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        patches = [views.inputs(place) for place in some]
        sexes = [
            torch.full((len(each), 1), views.sex(place)) for each, place in zip(patches, some, strict=True)
        ]
        found, ages = net(torch.from_numpy(np.concatenate(patches))[:, None], torch.cat(sexes))
        split = [len(each) for each in patches]
        for chances, age in zip(found.split(split), ages.split(split), strict=True):
            yield {"log_probabilities": chances.numpy(), "age_months": age.numpy()}
