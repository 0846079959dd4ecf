"""The training loop (Lightning): one age network, resumable, deterministic by seed.

Source: paper 4, "Details of training" (eq. 6 and 7) for the mean squared error on z-scored ages,
SGD with momentum and the step decay; the other choices are departures declared in the recipes.
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from boneage.core.errors import ConfigError
from boneage.models.heads import AgeNet

logger = logging.getLogger(__name__)

Net = TypeVar("Net", bound=nn.Module)
Item = TypeVar("Item")
Sample = tuple[NDArray[np.float32], float, float]


class Views(Protocol):
    """Training samples of one epoch: `views(index, epoch)` -> view (H, W), sex (male 1), age in months."""

    def __call__(self, index: int, epoch: int) -> Sample:
        """Return one augmented sample."""
        ...


@dataclass(frozen=True)
class Loop:
    """Optimisation of one network; fields as in the recipes' configuration."""

    epochs: int
    batch: int
    loss: str
    label_sigma_months: float
    optimiser: str
    learning_rate: float
    head_factor: float
    momentum: float
    weight_decay: float
    schedule: str
    step_epochs: int
    warm_up: float
    clip_norm: float
    ema_decay: float
    precision: str
    seed: int


class _Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    def __init__(self, count: int, epoch: int, views: Views) -> None:
        self.count, self.epoch, self.views = count, epoch, views

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        view, sex, age = self.views(index, self.epoch)
        return torch.from_numpy(view)[None], torch.tensor([sex]), torch.tensor([age])


def shuffled(samples: Dataset[Item], count: int, batch: int, seed: tuple[int, int]) -> DataLoader[Item]:
    """Return a loader of whole batches whose order depends on `seed` alone.

    A loader that shuffles by itself draws from its generator whenever it is iterated, which a resumed
    training does once more.
    """
    order = np.random.default_rng(seed).permutation(count)
    return DataLoader(samples, batch, sampler=order.tolist(), drop_last=True)


class AgeTask(lightning.LightningModule):
    """Trains an `AgeNet`; learns no more than `Loop` says."""

    def __init__(self, net: AgeNet, loop: Loop, count: int, views: Views) -> None:
        super().__init__()
        self.net = net
        self.loop = loop
        self.count = count
        self.views = views

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
        """Return the loader of the current epoch."""
        samples = _Samples(self.count, self.current_epoch, self.views)
        return shuffled(samples, self.count, self.loop.batch, (self.loop.seed, self.current_epoch))

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of one batch of views (N, 1, H, W), sexes (N, 1) and ages (N, 1)."""
        image, sex, age = batch
        scores = self.net.scores(image, sex)
        self.log(
            "mae_months", (self.net.ages(scores)[0].detach() - age).abs().mean(), on_epoch=True, on_step=False
        )
        return age_loss(self.net, scores, age, self.loop)

    def on_train_epoch_end(self) -> None:
        """Report the epoch."""
        mae = self.trainer.callback_metrics["mae_months"]
        logger.info("epoch %d of %d: training MAE %.2f months", self.current_epoch + 1, self.loop.epochs, mae)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and its schedule."""
        loop, steps = self.loop, self.count // self.loop.batch * self.loop.epochs
        trained = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        body = [p for name, p in trained if name.startswith("backbone.")]
        head = [p for name, p in trained if not name.startswith("backbone.")]
        groups: list[dict[str, Any]] = [
            {"params": body, "lr": loop.learning_rate},
            {"params": head, "lr": loop.learning_rate * loop.head_factor},
        ]
        optimiser = make_optimiser(groups, loop)
        if loop.schedule == "step":
            step = torch.optim.lr_scheduler.StepLR(optimiser, loop.step_epochs, gamma=0.1)
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": step, "interval": "epoch"}}
        peaks = [group["lr"] for group in groups]
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, peaks, total_steps=steps, pct_start=loop.warm_up
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def make_optimiser(groups: list[dict[str, Any]], loop: Loop) -> torch.optim.Optimizer:
    """Return SGD with momentum (paper 4) or AdamW."""
    if loop.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=loop.momentum, weight_decay=loop.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=loop.weight_decay)


def age_loss(net: AgeNet, scores: Tensor, age: Tensor, loop: Loop) -> Tensor:
    """Return the loss of raw scores (N, 1 or bins) against ages (N, 1) in months.

    Source: paper 4, eq. 6 and 7, for `mse`.
    """
    if loop.loss == "distribution":
        target = torch.exp(-0.5 * ((net.bins - age) / loop.label_sigma_months) ** 2)
        target = target / target.sum(dim=1, keepdim=True)
        cross_entropy = -(target * scores.log_softmax(dim=1)).sum(dim=1).mean()
        expected, _ = net.ages(scores)
        return cross_entropy + nn.functional.smooth_l1_loss(expected / 12, age / 12, beta=0.5)
    wanted = (age - net.age_mean) / net.age_std
    measure = nn.functional.mse_loss if loop.loss == "mse" else nn.functional.smooth_l1_loss
    return measure(scores, wanted)


def fit(net: AgeNet, loop: Loop, count: int, views: Views, folder: Path) -> AgeNet:
    """Train an age network, or go on where `folder` holds an unfinished run of it.

    Args:
        net: the network; trained in place.
        loop: how.
        count: number of training images.
        views: augmented samples by index and epoch.
        folder: for the checkpoint, written every epoch.

    Returns:
        The network with its final (averaged, where `ema_decay` > 0) weights, in eval mode.

    Raises:
        ConfigError: there are fewer images than make a batch.
    """
    if count < loop.batch:
        raise ConfigError(
            f"{count} training images make no batch of {loop.batch}; set a smaller schedule.batch"
        )
    lightning.seed_everything(loop.seed, verbose=False)
    task = AgeTask(channels_last(net).train(), loop, count, views)  # Lightning trains in the mode it finds
    run(
        task,
        loop.epochs,
        folder,
        ema_decay=loop.ema_decay,
        precision=loop.precision,
        clip_norm=loop.clip_norm,
    )
    return net.to("cpu").eval()


def channels_last(net: Net) -> Net:
    """Return the network with its weights in the layout that CPUs convolve fastest."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


class _SeedEveryStep(Callback):
    """Draws each step's dropout from the step's own seed, so that a resumed training repeats it.

    Not each epoch's: a resumed loader draws from the same generator at another moment.
    """

    def __init__(self) -> None:
        self.seed = torch.initial_seed()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, _: lightning.LightningModule, __: object, ___: int
    ) -> None:
        torch.manual_seed(self.seed + 1_000_003 * (trainer.global_step + 1))


class _StayStopped(Callback):
    """Ends a training at once that goes on from where its patience was lost."""

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        stopping = trainer.early_stopping_callback
        trainer.should_stop = isinstance(stopping, EarlyStopping) and stopping.wait_count >= stopping.patience


def run(
    task: lightning.LightningModule,
    epochs: int,
    folder: Path,
    *,
    ema_decay: float = 0.0,
    precision: str = "32-true",
    clip_norm: float = 0.0,
    patience: int = 0,
) -> None:
    """Run a task with a checkpoint `last.ckpt` in `folder` every epoch, from which a later call goes on.

    The task ends with the checkpoint's weights: the averaged ones where `ema_decay` > 0. With a `patience`
    it logs `validation_loss`, stops after so many epochs without a lower one, and ends with the weights
    of the best epoch, `best.ckpt`.
    """
    callbacks: list[Callback] = [_SeedEveryStep()]
    if ema_decay:
        callbacks.append(EMAWeightAveraging(decay=ema_decay))
    if patience:
        best = ModelCheckpoint(
            folder, filename="best", monitor="validation_loss", enable_version_counter=False
        )
        callbacks += [EarlyStopping("validation_loss", patience=patience), _StayStopped(), best]
    # After `best`: it keeps what that one knows.
    callbacks.append(ModelCheckpoint(folder, filename="last", enable_version_counter=False))
    trainer = _trainer(
        epochs,
        precision=precision,
        gradient_clip_val=clip_norm or None,
        callbacks=callbacks,
        default_root_dir=folder,
    )
    last = folder / "last.ckpt"
    trainer.fit(task, ckpt_path=str(last) if last.is_file() else None)
    # A finished run that is called again would else keep the weights that were not averaged, nor the best.
    kept = folder / "best.ckpt" if patience else last
    task.load_state_dict(torch.load(kept, map_location=task.device, weights_only=True)["state_dict"])


def run_at_once(task: lightning.LightningModule, epochs: int) -> None:
    """Run a task of a minute or so on the CPU; it keeps no checkpoint: cut off, it is run again."""
    _trainer(epochs, accelerator="cpu", enable_checkpointing=False).fit(task)


def _trainer(epochs: int, *, accelerator: str = "auto", **settings: Any) -> lightning.Trainer:
    """Return a trainer that prints nothing and asks for its data anew every epoch."""
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=1,
        reload_dataloaders_every_n_epochs=1,
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


@torch.no_grad()
def predict(net: nn.Module, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Run one hand's prepared inputs through a network, as the exported graph will."""
    age, spread = net(torch.from_numpy(inputs["image"]), torch.from_numpy(inputs["sex"]))
    return {"age_months": age.numpy(), "spread_months": spread.numpy()}
