"""Trains one graph to answer for changed images what its teacher answers for the images as they are."""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from boneage.models.onnx_graph import OnnxGraph
from boneage.recipes.consistency.config import ScheduleConfig
from boneage.recipes.consistency.views import Seen
from boneage.training.fit import run, shuffled

logger = logging.getLogger(__name__)

Outputs = dict[str, NDArray[np.float32]]
Item = tuple[Tensor, Tensor, Tensor, list[Tensor]]


@torch.no_grad()
def answers(graph: OnnxGraph, seen: Seen, version: int, batch: int = 8) -> Outputs:
    """Return a graph's outputs (M, N, ...) for one version of all images: 0 is the image as it is."""
    found: dict[str, list[Tensor]] = {name: [] for name in graph.outputs}
    for start in range(0, len(seen.images), batch):
        part = slice(start, start + batch)
        images = torch.from_numpy(np.array(seen.images[part, version]))
        beside = torch.from_numpy(seen.beside[part])
        outputs = graph(_input(images.flatten(0, 1)), beside.flatten(0, 1))
        for name, output in zip(graph.outputs, outputs, strict=True):
            found[name].append(output.unflatten(0, (images.shape[0], images.shape[1])))
    return {name: torch.cat(each).float().numpy() for name, each in found.items()}


def _input(images: Tensor) -> Tensor:
    """Return stored views (N, H, W) as the graph takes them, (N, 1, H, W) in [0, 1]."""
    return images[:, None].float() / 255


def comparable(name: str, values: Tensor) -> Tensor:
    """Return an output as it is compared: of log-probabilities the probabilities."""
    return values.exp() if name.startswith("log_") else values


def scales_of(taught: Outputs) -> dict[str, float]:
    """Return output -> the standard deviation over all images in which its errors are counted.

    All that is in months has the largest of theirs: a month of spread is no worse than a month of age.
    """
    found = {name: float(comparable(name, torch.from_numpy(each)).std()) for name, each in taught.items()}
    months = max((scale for name, scale in found.items() if name.endswith("_months")), default=1.0)
    return {name: months if name.endswith("_months") else max(scale, 1e-6) for name, scale in found.items()}


class _Images(Dataset[Item]):
    """For each image one version of it, which changes with the epoch, and what is to be answered."""

    def __init__(
        self, seen: Seen, taught: Outputs, rows: Sequence[int], schedule: ScheduleConfig, epoch: int
    ) -> None:
        self.seen, self.taught, self.rows = seen, taught, rows
        rng = np.random.default_rng((schedule.seed, epoch))
        copy = 1 + (epoch + np.arange(len(rows))) % schedule.copies
        self.versions = np.where(rng.random(len(rows)) < schedule.unchanged, 0, copy)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        row, version = self.rows[index], self.versions[index]
        there = self.seen.readable[row, 0] & self.seen.readable[row, version]
        return (
            torch.from_numpy(np.array(self.seen.images[row, version])),
            torch.from_numpy(self.seen.beside[row]),
            torch.from_numpy(there),
            [torch.from_numpy(values[row]) for values in self.taught.values()],
        )


class ConsistencyTask(lightning.LightningModule):
    """The graph, its teacher's answers, and their distance."""

    def __init__(
        self,
        graph: OnnxGraph,
        seen: Seen,
        taught: Outputs,
        rows: Sequence[int],
        schedule: ScheduleConfig,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.seen, self.taught, self.rows, self.schedule = seen, taught, rows, schedule
        self.scales = scales_of(taught)

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the loader of the current epoch."""
        images = _Images(self.seen, self.taught, self.rows, self.schedule, self.current_epoch)
        return shuffled(images, len(images), self.schedule.batch, (self.schedule.seed, self.current_epoch))

    def training_step(self, batch: Item, _: int) -> Tensor:
        """Return the distance of a batch's answers from the teacher's."""
        images, beside, there, wanted = batch
        outputs = self.graph(_input(images[there]), beside[there])
        loss = torch.zeros(())
        for (name, scale), output, target in zip(self.scales.items(), outputs, wanted, strict=True):
            given, taught = comparable(name, output.float()), comparable(name, target[there])
            loss = loss + functional.smooth_l1_loss(given / scale, taught / scale, beta=0.1)
        self.log("loss", loss.detach(), on_epoch=True, on_step=False)
        return loss

    def on_train_epoch_end(self) -> None:
        """Report the epoch."""
        loss = self.trainer.callback_metrics["loss"]
        logger.info("epoch %d of %d: loss %.4f", self.current_epoch + 1, self.schedule.epochs, loss)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and its one cycle."""
        schedule = self.schedule
        optimiser = torch.optim.AdamW(
            self.graph.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        steps = len(self.rows) // schedule.batch * schedule.epochs
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, schedule.learning_rate, total_steps=steps, pct_start=schedule.warm_up
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def learn(
    graph: OnnxGraph,
    seen: Seen,
    taught: Outputs,
    rows: Sequence[int],
    schedule: ScheduleConfig,
    folder: Path,
) -> OnnxGraph:
    """Train a graph in place, or go on where `folder` holds an unfinished training of it.

    Args:
        graph: as its teacher is.
        seen: what it sees of all images.
        taught: what its teacher answers for the images as they are.
        rows: which images are trained on.
        schedule: how.
        folder: for the checkpoint, written every epoch.
    """
    lightning.seed_everything(schedule.seed, verbose=False)
    task = ConsistencyTask(graph, seen, taught, rows, schedule)
    first = schedule.epochs - schedule.full_precision_epochs
    if _epochs_done(folder) < first:
        run(task, first, folder, precision=schedule.precision, clip_norm=schedule.clip_norm)
    run(task, schedule.epochs, folder, clip_norm=schedule.clip_norm)
    return graph


def _epochs_done(folder: Path) -> int:
    """Return how many epochs a folder's checkpoint has behind it."""
    last = folder / "last.ckpt"
    return int(torch.load(last, weights_only=True)["epoch"]) + 1 if last.is_file() else 0
