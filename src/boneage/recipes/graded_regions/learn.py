"""How the grading network learns: from bone ages through a standard's own tables, or from grades.

From ages: P(grade) of every bone -> expected score -> total -> the table's age, which is compared with
the label. What the sum leaves open, which bone is how far, the prior closes (`prior.MaturityPrior`);
its weight falls as training goes on. From grades: the cross-entropy of each crop's own grade.
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from boneage.anatomy.regions import MIN_VISIBLE
from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.models.grading import GradeNet, grade_probabilities, interpolate
from boneage.recipes.graded_regions.config import Recipe
from boneage.recipes.graded_regions.method import one_hot
from boneage.recipes.graded_regions.prior import BONES, MaturityPrior, scores_of
from boneage.recipes.graded_regions.samples import HandCrops, LooseCrops
from boneage.standards.names import CARPALS
from boneage.training.fit import shuffled

logger = logging.getLogger(__name__)

SEXES = tuple(Sex)
CARPAL_SHARE = 0.2
"""Weight of the CHN age, through which the carpals learn, beside the RUS-CHN age."""

HandBatch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
CropBatch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Labelled:
    """Hands to learn ages from: indices into `crops`, sexes and ages in months, all (N,)."""

    crops: HandCrops
    indices: NDArray[np.int64]
    sexes: Sequence[Sex]
    ages: NDArray[np.float64]
    prior: MaturityPrior


class _Hands(Dataset[HandBatch]):
    def __init__(self, labelled: Labelled, epoch: int) -> None:
        self.labelled, self.epoch = labelled, epoch

    def __len__(self) -> int:
        return len(self.labelled.indices)

    def __getitem__(self, at: int) -> HandBatch:
        labelled = self.labelled
        index, sex, age = int(labelled.indices[at]), labelled.sexes[at], float(labelled.ages[at])
        return (
            torch.from_numpy(labelled.crops(index, self.epoch)),
            torch.from_numpy(labelled.crops.cuts.visible[index] >= MIN_VISIBLE),
            torch.tensor(SEXES.index(sex)),
            torch.tensor(age, dtype=torch.float32),
            torch.from_numpy(labelled.prior.grades(sex, age)).float(),
        )


class _Crops(Dataset[CropBatch]):
    def __init__(self, crops: LooseCrops, order: Sequence[int], epoch: int) -> None:
        self.crops, self.order, self.epoch = crops, order, epoch

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> CropBatch:
        view, bone, grade = self.crops(self.order[at], self.epoch * len(self.order) + at)
        return torch.from_numpy(view), torch.from_numpy(one_hot([BONES[bone]])[0]), torch.tensor(grade)


class AgeFromScores(nn.Module):
    """A standard as a layer: P(grade) (N, 15, K + 1) and sex (N,) to the age in months (N,)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        scores = scores_of(name)
        self.table: Tensor
        self.register_buffer("table", torch.tensor(np.stack([scores.table[sex] for sex in SEXES])).float())
        for place, sex in enumerate(SEXES):
            for part, values in zip(("totals", "ages"), scores.curve[sex], strict=True):
                self.register_buffer(f"{part}{place}", torch.tensor(values).float(), persistent=False)

    def forward(self, probability: Tensor, sex: Tensor) -> Tensor:
        """Return ages in months, clamped to the table's range."""
        totals = (probability * self.table[sex]).sum(dim=(1, 2))
        ages = torch.stack([interpolate(totals, *curve) for curve in self._curves()], dim=1)
        return ages.gather(1, sex[:, None])[:, 0]

    def clamp(self, age: Tensor, sex: Tensor) -> Tensor:
        """Return ages (N,) within the table's range."""
        ends = torch.stack([torch.stack([ages[0], ages[-1]]) for _, ages in self._curves()])[sex]
        return age.clamp(ends[:, 0], ends[:, 1])

    def _curves(self) -> list[tuple[Tensor, Tensor]]:
        """Return each sex's totals and ages, on the device of the module."""
        return [
            (self.get_buffer(f"totals{place}"), self.get_buffer(f"ages{place}"))
            for place in range(len(SEXES))
        ]


Batches = Callable[[int], DataLoader[Any]]
"""Epoch -> its batches. Functions, so that averaging the weights, which copies the task, copies no data."""


def hand_batches(labelled: Labelled, recipe: Recipe) -> Batches:
    """Return batches of labelled hands."""

    def of_epoch(epoch: int) -> DataLoader[Any]:
        seed, hands = (recipe.schedule.seed, epoch), _Hands(labelled, epoch)
        return shuffled(hands, len(hands), recipe.schedule.batch, seed)

    return of_epoch


def crop_batches(crops: LooseCrops, recipe: Recipe, batch: int) -> Batches:
    """Return batches of graded crops, each grade of a bone drawn as often as its commonest one.

    Source: paper 3, section 3.1: rotated copies fill up the grades that are rare.
    """
    keys = [(crop.bone, crop.grade) for crop in crops.crops]
    commonest = {bone: max(keys.count(key) for key in set(keys) if key[0] == bone) for bone, _ in keys}
    order = [
        index for index, key in enumerate(keys) for _ in range(round(commonest[key[0]] / keys.count(key)))
    ]

    def of_epoch(epoch: int) -> DataLoader[Any]:
        samples = _Crops(crops, order, epoch)
        return shuffled(samples, len(samples), min(batch, len(samples)), (recipe.schedule.seed, epoch))

    return of_epoch


class GradingTask(lightning.LightningModule):
    """Learns from labelled hands, from graded crops, or from hands with crops as an anchor.

    Args:
        net: the network.
        recipe: how it learns.
        hands: batches of labelled hands; None learns from crops alone.
        crops: batches of graded crops; None has none.
        steps: number of batches in an epoch.
    """

    def __init__(
        self, net: GradeNet, recipe: Recipe, steps: int, *, hands: Batches | None, crops: Batches | None
    ) -> None:
        super().__init__()
        self.net, self.recipe, self.steps, self.hands, self.crops = net, recipe, steps, hands, crops
        self.rus_chn, self.chn = AgeFromScores("rus_chn"), AgeFromScores("chn")
        self.carpal: Tensor
        self.register_buffer("carpal", torch.tensor([bone in CARPALS for bone in BONES]), persistent=False)
        self._anchors: Iterator[Any] = iter(())

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the current epoch."""
        batches = self.hands or self.crops
        if batches is None:
            raise ConfigError("the grading network needs labelled hands or graded crops to learn from")
        return batches(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's anchors anew, so that a resumed training sees the same ones."""
        self._anchors = self._repeated(self.crops) if self.crops else iter(())

    def _repeated(self, batches: Batches) -> Iterator[Any]:
        turn = 0
        while True:
            yield from batches(1000 * self.current_epoch + turn)
            turn += 1

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Return the loss of one batch of hands or of crops."""
        if self.hands is None:
            return self._from_grades(*batch)
        loss = self._from_ages(*batch)
        if self.crops is not None:
            loss = loss + self.recipe.prior.anchor_weight * self._from_grades(*next(self._anchors))
        return loss

    def _from_grades(self, crop: Tensor, bone: Tensor, grade: Tensor) -> Tensor:
        probability = grade_probabilities(self.net(crop, bone))
        own = probability.gather(1, grade[:, None])[:, 0]
        self.log("exact", (probability.argmax(dim=1) == grade).float().mean(), on_epoch=True, on_step=False)
        return -own.clamp_min(1e-6).log().mean()

    def _from_ages(self, crops: Tensor, visible: Tensor, sex: Tensor, age: Tensor, wanted: Tensor) -> Tensor:
        hands, bones = crops.shape[:2]
        bone = torch.eye(bones, device=crops.device).repeat(hands, 1)
        flat = crops.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        probability = grade_probabilities(self.net(flat, bone)).reshape(hands, bones, -1)
        target = _around(wanted, self.recipe.prior.spread_grades, probability.shape[2], self.net.highest)
        # A bone outside the image adds the score that the prior expects of it.
        used = torch.where(visible[:, :, None], probability, target)
        own_total = torch.where(self.carpal[:, None], used, used.detach())
        rus_chn, chn = self.rus_chn(used, sex), self.chn(own_total, sex)
        loss = _age_loss(rus_chn, self.rus_chn.clamp(age, sex))
        loss = loss + CARPAL_SHARE * _age_loss(chn, self.chn.clamp(age, sex))
        off = -(target * probability.clamp_min(1e-6).log()).sum(dim=2)
        prior = (off * visible).sum() / visible.sum().clamp_min(1)
        self.log("mae_months", (rus_chn.detach() - age).abs().mean(), on_epoch=True, on_step=False)
        self.log("prior", prior.detach(), on_epoch=True, on_step=False)
        return loss + self._prior_weight() * prior

    def _prior_weight(self) -> float:
        prior, epochs = self.recipe.prior, max(self.recipe.schedule.epochs - 1, 1)
        share = min(self.current_epoch / epochs, 1.0)
        return prior.weight + share * (prior.final_weight - prior.weight)

    def on_train_epoch_end(self) -> None:
        """Report the epoch."""
        found = {name: f"{float(value):.3f}" for name, value in self.trainer.callback_metrics.items()}
        logger.info("epoch %d of %d: %s", self.current_epoch + 1, self.recipe.schedule.epochs, found)

    def configure_optimizers(self) -> Any:
        """AdamW, at a constant rate (the paper's) or in one cycle."""
        schedule = self.recipe.schedule
        trained = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        old = [p for name, p in trained if name.startswith("backbone.") and ".attend." not in name]
        new = [p for name, p in trained if not name.startswith("backbone.") or ".attend." in name]
        rates = [schedule.learning_rate, schedule.learning_rate * schedule.head_factor]
        groups = [{"params": part, "lr": rate} for part, rate in zip((old, new), rates, strict=True)]
        optimiser = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay)
        if schedule.schedule == "constant":
            return optimiser
        steps = self.steps * schedule.epochs
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=0.15)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def _age_loss(age: Tensor, wanted: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(age / 12, wanted / 12, beta=0.5)


def _around(grade: Tensor, spread: float, count: int, highest: Tensor) -> Tensor:
    """Return a Gaussian over whole grades (N, B, count) around fractional ones (N, B)."""
    grades = torch.arange(count, dtype=torch.float32, device=grade.device)
    density = torch.exp(-0.5 * ((grades - grade[:, :, None]) / spread) ** 2)
    density = density * (grades <= highest[None, :, None])
    return density / density.sum(dim=2, keepdim=True)


@torch.no_grad()
def predict(net: GradeNet, inputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Run prepared crops through the network, as the exported graph will."""
    at_least = net(torch.from_numpy(inputs["crop"]), torch.from_numpy(inputs["bone"]))
    return {"at_least": at_least.numpy()}
