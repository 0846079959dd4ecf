"""Train the region detector on drawn and derived boxes, and look at the hands held out.

A run's folder holds `config.json`, `split.csv` (id, part), `labels.csv` (the boxes that training sees),
the checkpoint, `detector.safetensors` and `detections.csv` (of the hands held out, source pixels).
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from boneage.anatomy.detections import CLASSES, Detection, FoundRegion, name_bones
from boneage.core.errors import ConfigError
from boneage.core.types import Radiograph
from boneage.data.manifest import Row, read_manifest
from boneage.imaging.read import read
from boneage.models.detection import DetectorConfig, RegionNet
from boneage.recipes.region_detection.config import NetworkConfig, Recipe
from boneage.recipes.region_detection.labels import (
    Boxes,
    read_boxes,
    split_ids,
    training_boxes,
    write_boxes,
    write_split,
)
from boneage.recipes.region_detection.samples import LabelledImage, RegionSamples, map_boxes, prepare
from boneage.training.config import TrainJob, as_tree, build, named_config, read_config
from boneage.training.fit import channels_last, run
from boneage.training.run import open_run

logger = logging.getLogger(__name__)

Batch = tuple[list[Tensor], list[Tensor], list[Tensor]]

WEIGHTS = "detector.safetensors"


def train(job: TrainJob) -> Path:
    """Label, train and look at the hands held out; labels and checkpoint of `job.out` are gone on from.

    Raises:
        ConfigError: configuration, manifest or boxes are wrong, or there are too few images with boxes.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    open_run(job, "region_detection", recipe, may_change=("training",))
    torch.set_num_threads(recipe.training.threads)
    rows = {row.id: row for row in read_manifest(job.data)}
    drawn = read_boxes(Path(recipe.labels.boxes)) if recipe.labels.boxes else {}
    split = split_ids(tuple(rows.values()), drawn, recipe.labels, recipe.training.seed)
    write_split(job.out / "split.csv", split)
    boxes = _labels(job, recipe, rows, drawn)
    images = _images(rows, boxes, recipe.network.long_side)
    listed = [images[name] for name in boxes for _ in range(recipe.labels.repeat if name in drawn else 1)]
    if len(listed) < recipe.training.batch:
        raise ConfigError(
            f"{len(listed)} images with boxes make no batch of {recipe.training.batch}; give more, "
            "or set a smaller training.batch"
        )
    logger.info("training on %d images, %d with drawn boxes", len(boxes), len(split.training))
    net = _fit(RegionSamples(listed, recipe.augment, recipe.training.seed), recipe, job.out)
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(weights, job.out / WEIGHTS)
    detector = BoxDetector(net, recipe.network.long_side)
    found = {name: detector.look(read(rows[name].path)) for name in split.held_out}
    write_boxes(job.out / "detections.csv", found)
    return job.out


def _labels(job: TrainJob, recipe: Recipe, rows: Mapping[str, Row], drawn: Boxes) -> Boxes:
    """Return the boxes that training sees, kept in the run between calls."""
    path = job.out / "labels.csv"
    if not path.is_file():
        if job.locate is None:
            raise ConfigError("region_detection needs a hand finder: train it by `boneage train`")
        split = split_ids(tuple(rows.values()), drawn, recipe.labels, recipe.training.seed)
        labels = training_boxes(rows, split, drawn, job.locate, recipe.labels.min_confidence)
        write_boxes(path, labels)
    return read_boxes(path)


def _images(rows: Mapping[str, Row], boxes: Boxes, long_side: int) -> dict[str, LabelledImage]:
    images = {}
    for name, found in boxes.items():
        image, to_image = prepare(read(rows[name].path), long_side)
        source = np.array([each.box_px for each in found])
        labels = np.array([CLASSES.index(each.label) for each in found])
        images[name] = LabelledImage(
            np.rint(image * 255).astype(np.uint8), map_boxes(source, to_image), labels
        )
    return images


class _Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    def __init__(self, samples: RegionSamples, epoch: int) -> None:
        self.samples, self.epoch = samples, epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        sample = self.samples(index, self.epoch)
        image, boxes = torch.from_numpy(sample.image)[None], torch.from_numpy(sample.boxes)
        return image, boxes, torch.from_numpy(sample.labels)


def _listed(samples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Batch:
    """Return a batch as lists: images have their own sizes, and hands their own numbers of boxes."""
    return [each[0] for each in samples], [each[1] for each in samples], [each[2] for each in samples]


class RegionTask(lightning.LightningModule):
    """Trains a `RegionNet` on its four losses."""

    def __init__(self, net: RegionNet, samples: RegionSamples, recipe: Recipe) -> None:
        super().__init__()
        self.net, self.samples, self.recipe = net, samples, recipe

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
        """Return the loader of the current epoch, in an order that depends on seed and epoch alone."""
        training, epoch = self.recipe.training, self.current_epoch
        order = np.random.default_rng((training.seed, epoch)).permutation(len(self.samples))
        return DataLoader(
            _Samples(self.samples, epoch),
            training.batch,
            sampler=order.tolist(),
            drop_last=True,
            collate_fn=_listed,
        )

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one batch."""
        losses = self.net.losses(*batch)
        total = torch.stack(list(losses.values())).sum()
        self.log("loss", total.detach(), on_epoch=True, on_step=False, batch_size=len(batch[0]))
        return total

    def on_train_epoch_end(self) -> None:
        """Report the epoch."""
        loss, epochs = self.trainer.callback_metrics["loss"], self.recipe.training.epochs
        logger.info("epoch %d of %d: loss %.4f", self.current_epoch + 1, epochs, loss)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a one-cycle schedule."""
        training = self.recipe.training
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        steps = len(self.samples) // training.batch * training.epochs
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, training.learning_rate, total_steps=steps, pct_start=0.1
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def _fit(samples: RegionSamples, recipe: Recipe, folder: Path) -> RegionNet:
    training = recipe.training
    lightning.seed_everything(training.seed, verbose=False)
    net = channels_last(RegionNet(_shape(recipe.network), len(CLASSES))).train()
    net.compute_in_bfloat16(training.bfloat16)
    task = RegionTask(net, samples, recipe)
    run(task, training.epochs, folder, ema_decay=training.ema_decay, clip_norm=5.0)
    net.compute_in_bfloat16(False)
    return net.to("cpu").eval()


def _shape(network: NetworkConfig, pretrained: str | None = None) -> DetectorConfig:
    values = {name: value for name, value in as_tree(network).items() if name != "long_side"}
    if pretrained is not None:
        values["pretrained"] = pretrained
    return build(DetectorConfig, values, "network")


class BoxDetector:
    """Finds regions by a trained `RegionNet`; paper 1's `anatomy.detections.RegionDetector`."""

    def __init__(self, net: RegionNet, long_side: int) -> None:
        self._net, self._long_side = net.eval(), long_side

    @classmethod
    def load(cls, folder: Path) -> BoxDetector:
        """Open a finished run.

        Raises:
            ConfigError: the folder holds no finished run of this recipe.
        """
        if not (folder / WEIGHTS).is_file():
            raise ConfigError(f"{folder} holds no {WEIGHTS}: give a finished run of region_detection")
        tree = json.loads((folder / "config.json").read_text())
        recipe = build(Recipe, {key: value for key, value in tree.items() if key != "recipe"}, "config.json")
        net = RegionNet(_shape(recipe.network, pretrained="none"), len(CLASSES))
        net.load_state_dict(load_file(folder / WEIGHTS))
        return cls(net, recipe.network.long_side)

    def look(self, radiograph: Radiograph) -> tuple[Detection, ...]:
        """Return what is found, by class, best first."""
        image, to_image = prepare(radiograph, self._long_side)
        found = self._net([torch.from_numpy(image)[None]])[0]
        boxes = map_boxes(found.boxes.double().numpy().reshape(-1, 4), to_image.inverse())
        return tuple(
            Detection(CLASSES[int(label)], (x0, y0, x1, y1), float(score))
            for (x0, y0, x1, y1), label, score in zip(boxes.tolist(), found.labels, found.scores, strict=True)
        )

    def __call__(self, radiograph: Radiograph) -> tuple[FoundRegion, ...]:
        """Return the bones that the boxes found can be named as."""
        return name_bones(self.look(radiograph), radiograph.shape)
