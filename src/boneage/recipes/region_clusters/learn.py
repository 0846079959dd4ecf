"""Learn one region's encoder: the constrained auto-encoder, a variational one, or principal components."""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.models.region_autoencoder import Layer, RegionAutoEncoder, constrained_loss, variational_loss
from boneage.recipes.region_clusters.config import NetworkConfig, ScheduleConfig
from boneage.recipes.region_clusters.encoder import CENTRE, ConvolutionLayer, Encoder
from boneage.training.fit import run_at_once, shuffled

LEAST_VIEWS = 20
"""Views without which no encoder is learnt."""

_DEAD = 1e-6


@dataclass(frozen=True, eq=False)
class Learnt:
    """A region's encoder, and the loss of every epoch that led to it (empty for principal components)."""

    encoder: Encoder
    losses: tuple[float, ...]


def fit_encoder(views: FloatArray, network: NetworkConfig, schedule: ScheduleConfig, name: str) -> Learnt:
    """Learn the encoder of a region's views (N, S, S) in [0, 1].

    Args:
        views: of the hands learnt from.
        network: what is learnt.
        schedule: how.
        name: of the region, for messages.

    Raises:
        ConfigError: too few views, views that are all alike, a side that the strides do not divide, or an
            encoder that gives all views the same vector.

    Source: paper 2, section 3.
    """
    if len(views) < LEAST_VIEWS:
        raise ConfigError(
            f"region {name}: {len(views)} views are too few to learn from; give {LEAST_VIEWS} or more hands"
        )
    if np.ptp(views, axis=0).max() == 0:
        raise ConfigError(f"region {name}: all {len(views)} views are the same image; give crops that differ")
    if network.kind == "pca":
        return Learnt(_principal(views, network.components, schedule.seed), ())
    layers = [Layer(*layer) for layer in network.layers]
    _check_side(views.shape[1], layers, name)
    lightning.seed_everything(schedule.seed, verbose=False)
    net = RegionAutoEncoder(layers, variational=network.kind == "vae")
    task = RegionTask(net, torch.from_numpy(views)[:, None], network, schedule)
    run_at_once(task, schedule.epochs)
    encoder = _encoder(net, network).stored()
    some = views[:: len(views) // LEAST_VIEWS]
    if not encoder(some).std(axis=0).max() > _DEAD:  # NaN is no larger either
        raise ConfigError(
            f"region {name}: its auto-encoder gives all views the same vector; set a smaller network.weight "
            "or schedule.learning_rate, or another schedule.seed"
        )
    return Learnt(encoder, tuple(task.losses))


class RegionTask(lightning.LightningModule):
    """Trains a region's auto-encoder by Adam."""

    def __init__(
        self, net: RegionAutoEncoder, views: Tensor, network: NetworkConfig, schedule: ScheduleConfig
    ) -> None:
        super().__init__()
        self.net, self.views, self.network, self.schedule = net, views, network, schedule
        self.losses: list[float] = []
        self._sum = 0.0

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the current epoch: places of views."""
        count = len(self.views)
        batch = min(self.schedule.batch, count)
        places = TensorDataset(torch.arange(count))
        return shuffled(places, count, batch, (self.schedule.seed, self.current_epoch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.net.parameters(), self.schedule.learning_rate)

    def training_step(self, batch: tuple[Tensor], _: int) -> Tensor:
        """Return the loss of one batch."""
        views = self.views[batch[0]]
        latent, reconstructed, log_variance = self.net(views - CENTRE)
        if log_variance is None:
            loss = constrained_loss(reconstructed, views, latent, self.network.weight)
        else:
            loss = variational_loss(reconstructed, views, latent, log_variance, self.network.weight)
        self._sum += float(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Keep the epoch's mean loss."""
        steps = max(1, len(self.views) // min(self.schedule.batch, len(self.views)))
        self.losses.append(self._sum / steps)
        self._sum = 0.0


def _principal(views: FloatArray, components: int, seed: int) -> Encoder:
    flat = views.reshape(len(views), -1)
    count = min(components, len(flat) - 1, flat.shape[1])
    found = PCA(count, svd_solver="randomized", random_state=seed).fit(flat)
    mean = found.mean_.astype(np.float32)
    return Encoder((), mean, found.components_.T.astype(np.float32)).stored()


def _check_side(side: int, layers: list[Layer], name: str) -> None:
    shrunk = int(np.prod([layer.stride for layer in layers]))
    if side % shrunk:
        raise ConfigError(
            f"region {name}: the strides of network.layers shrink by {shrunk}, which does not divide the "
            f"view's side of {side} pixels; change input.side, input.wide_side or the strides"
        )


def _encoder(net: RegionAutoEncoder, network: NetworkConfig) -> Encoder:
    last = len(net.encoder) - 1
    kept = network.layers[-1][1]
    layers = []
    for index, layer in enumerate(net.encoder):
        weight, bias = _array(layer.weight), _array(layer.bias)  # type: ignore[arg-type]
        relu = index < last
        if index == last:
            weight, bias = weight[:kept], bias[:kept]
        layers.append(ConvolutionLayer(weight, bias, int(layer.stride), relu))  # type: ignore[arg-type]
    return Encoder(tuple(layers))


def _array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().numpy(), dtype=np.float32)
