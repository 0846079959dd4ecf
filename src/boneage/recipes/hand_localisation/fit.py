"""Train the hand finder from feature-clustering masks and pseudo-labelled key points.

A run's folder holds `config.json`, `keypoints.csv` (pseudo-labels with presence), `masks/` (accepted
clustering masks), `masks.csv` (what became of each try), the checkpoint and `graph.onnx`.
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from boneage.anatomy.keypoints import in_anatomical_order
from boneage.anatomy.localise import FINDER_SIZE, upright_frame
from boneage.core.errors import ConfigError, InputError
from boneage.data.manifest import Row, read_manifest
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.geometry import letterbox
from boneage.imaging.read import read
from boneage.models.backbones import MobileNetV2Features, create_backbone
from boneage.models.finder import HandFinder
from boneage.recipes.hand_localisation.config import Recipe
from boneage.recipes.hand_localisation.landmarks import LandmarkModel
from boneage.recipes.hand_localisation.masks import cluster_masks
from boneage.recipes.hand_localisation.samples import FinderSamples, LabelledHand
from boneage.training.config import TrainJob, as_tree, named_config, read_config
from boneage.training.export import export_graph
from boneage.training.fit import channels_last, run, shuffled

logger = logging.getLogger(__name__)

LABEL_SIZE = 384


def train(job: TrainJob) -> Path:
    """Label, train and export the hand finder; every step resumes from what `job.out` holds.

    Raises:
        ConfigError: configuration or manifest is wrong, or too few hands could be labelled.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    job.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"recipe": "hand_localisation", **as_tree(recipe)}, indent=2)
    (job.out / "config.json").write_text(text)
    torch.set_num_threads(recipe.training.threads)
    excluded = _ids(Path(recipe.labels.exclude)) if recipe.labels.exclude else set()
    rows = [row for row in read_manifest(job.data) if row.id not in excluded]
    points = label_keypoints(rows, Path(recipe.labels.landmarks), job.out / "keypoints.csv")
    masks = cluster_masks(rows, points, recipe.labels.masks, recipe.training.seed, job.out)
    hands = _labelled(rows, points, masks, recipe)
    if len(hands) < recipe.training.batch:
        raise ConfigError(
            f"only {len(hands)} hands could be labelled; at least {recipe.training.batch} are needed"
        )
    logger.info(
        "training on %d hands, %d with a mask", len(hands), sum(hand.mask is not None for hand in hands)
    )
    net = _fit(hands, recipe, job.out)
    example = {"image": torch.rand(1, 1, FINDER_SIZE, FINDER_SIZE)}
    export_graph(net, example, ("maps",), job.out / "graph.onnx", half_weights=False)
    return job.out


def _ids(path: Path) -> set[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {line["id"] for line in csv.DictReader(file)}


def label_keypoints(
    rows: Sequence[Row], model: Path, path: Path
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Return id -> (points (21, 2), presence) from the landmark model, kept in a CSV between runs."""
    if not path.exists():
        landmarks = LandmarkModel(model)
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.writer(file)
            for row in rows:
                try:
                    points, presence = landmarks.label(read(row.path).pixels)
                except InputError as error:
                    logger.warning("not labelled: %s (%s)", row.path.name, error)
                    continue
                writer.writerow([row.id, f"{presence:.4f}", *(f"{value:.2f}" for value in points.ravel())])
        partial.replace(path)
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    return {line[0]: (np.array(line[2:], dtype=np.float64).reshape(21, 2), float(line[1])) for line in lines}


def _labelled(
    rows: Sequence[Row],
    points: dict[str, tuple[NDArray[np.float64], float]],
    masks: dict[str, Path],
    recipe: Recipe,
) -> list[LabelledHand]:
    hands = []
    for row in rows:
        if row.id not in points or points[row.id][1] < recipe.labels.min_presence:
            continue
        source = points[row.id][0]
        if not in_anatomical_order(upright_frame(source)[0](source)):
            continue
        image, to_label = letterbox(stretch_contrast(read(row.path).pixels), LABEL_SIZE)
        mask = _mask(masks[row.id], image.shape) if row.id in masks else None
        hands.append(LabelledHand((image * 255).astype(np.uint8), to_label(source), mask))
    return hands


def _mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    mask = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.float32)
    square, _ = letterbox(mask / np.float32(255), shape[0])
    return (square > 0.5).astype(np.uint8)


class _Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    def __init__(self, samples: FinderSamples, epoch: int) -> None:
        self.samples, self.epoch = samples, epoch

    def __len__(self) -> int:
        return len(self.samples.hands)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        sample = self.samples(index, self.epoch)
        known = torch.tensor(float(sample.mask_known))
        return torch.from_numpy(sample.image)[None], torch.from_numpy(sample.maps), known


class FinderTask(lightning.LightningModule):
    """Trains the finder with a cross-entropy that weighs cells near a joint more."""

    def __init__(self, net: HandFinder, samples: FinderSamples, recipe: Recipe) -> None:
        super().__init__()
        self.net, self.samples, self.recipe = net, samples, recipe

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
        """Return the loader of the current epoch."""
        training, epoch = self.recipe.training, self.current_epoch
        samples = _Samples(self.samples, epoch)
        return shuffled(samples, len(samples), training.batch, (training.seed, epoch))

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of one batch."""
        image, maps, known = batch
        logits = self.net.logits(image.contiguous(memory_format=torch.channels_last)).float()
        raw = nn.functional.binary_cross_entropy_with_logits(logits, maps, reduction="none")
        joints = (raw[:, :-1] * (1 + 30 * maps[:, :-1])).mean()
        mask = (raw[:, -1].mean(dim=(1, 2)) * known).sum() / known.sum().clamp_min(1)
        self.log("loss", joints.detach(), on_epoch=True, on_step=False)
        return 20 * joints + self.recipe.training.mask_weight * mask

    def on_train_epoch_end(self) -> None:
        """Report the epoch."""
        logger.info(
            "epoch %d: joint loss %.5f", self.current_epoch + 1, self.trainer.callback_metrics["loss"]
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a one-cycle schedule."""
        training = self.recipe.training
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        steps = len(self.samples.hands) // training.batch * training.epochs
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def _fit(hands: Sequence[LabelledHand], recipe: Recipe, folder: Path) -> HandFinder:
    lightning.seed_everything(recipe.training.seed, verbose=False)
    features = create_backbone("mobilenet_v2_zoo", recipe.labels.backbone).body
    if not isinstance(features, MobileNetV2Features):
        raise ConfigError("the finder needs the MobileNetV2 features of labels.backbone")
    net = channels_last(HandFinder(features))
    task = FinderTask(net, FinderSamples(hands, recipe), recipe)
    training = recipe.training
    run(
        task,
        training.epochs,
        folder,
        ema_decay=training.ema_decay,
        precision=training.precision,
        clip_norm=1.0,
    )
    return net.to("cpu").eval()
