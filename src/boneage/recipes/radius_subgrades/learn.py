"""Learn features and clusters together: PCA, auto-encoder, k-means (paper 1, sections III.B to III.E)."""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import logging
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.models.autoencoder import AutoEncoder, joint_loss, reconstruction_loss
from boneage.recipes.radius_subgrades.config import ClusteringConfig, NetworkConfig, Recipe, ScheduleConfig
from boneage.recipes.radius_subgrades.encoder import MIN_STD, Encoder, Labels, PixelFeatures, nearest
from boneage.training.fit import run_at_once, shuffled

logger = logging.getLogger(__name__)

RANDOMISED_FROM = 3000
"""Views from which the PCA is randomised, where few of many components are asked for."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """What was learnt of some views.

    Args:
        encoder: views to features.
        before: (N, F) features of the views before the joint training.
        features: (N, F) after it.
        first: (N,) clusters of `before`, by k-means++.
        labels: (N,) clusters of `features`.
        centroids: (K, F) of the latter.
    """

    encoder: Encoder
    before: FloatArray
    features: FloatArray
    first: Labels
    labels: Labels
    centroids: FloatArray


def fit_pixels(views: FloatArray, components: int, seed: int) -> PixelFeatures:
    """Fit the standardisation and the principal components of views (N, S, S).

    Source: paper 1, equations 1 to 4, k = 4096.
    Departs: k is at most N - 1 and the number of pixels, beyond which there are no components.

    Raises:
        ConfigError: fewer than three views, views that hold no finite numbers, or one image N times.
    """
    flat = views.reshape(len(views), -1)
    if len(flat) < 3 or not np.isfinite(flat).all():
        raise ConfigError(
            f"features need three crops or more of finite pixels, not {len(flat)}: give more crops, or mend "
            "those with NaN"
        )
    mean, std = flat.mean(axis=0), flat.std(axis=0)
    if (std < MIN_STD).all():
        raise ConfigError(f"all {len(flat)} crops are the same image: give crops that differ")
    std = np.where(std < MIN_STD, 1.0, std).astype(np.float32)
    pixels = PixelFeatures(mean.astype(np.float32), std, np.eye(1, dtype=np.float32))
    standardised = pixels.standardise(views)
    count = min(components, len(flat) - 1, flat.shape[1])
    few = len(flat) >= RANDOMISED_FROM and count < min(flat.shape) // 2
    solver = "randomized" if few else "covariance_eigh" if flat.shape[1] <= len(flat) else "full"
    found = PCA(count, svd_solver=solver, random_state=seed, copy=False).fit(standardised)
    return PixelFeatures(pixels.mean, std, np.ascontiguousarray(found.components_.T, dtype=np.float32))


class ClusteringTask(lightning.LightningModule):
    """Learns an auto-encoder: for some epochs its reconstruction, then the joint loss with clusters.

    After every epoch of the joint loss all crops are assigned to their nearest centroids, and these become
    the means of their crops.

    Source: paper 1, section III.E, equation 8; the alternation is Yang et al. 2017's (section 4.2).
    Departs: assignments and centroids are renewed after an epoch, not after a batch.
    """

    def __init__(
        self, net: AutoEncoder, inputs: Tensor, schedule: ScheduleConfig, clustering: ClusteringConfig
    ) -> None:
        super().__init__()
        self.net, self.inputs, self.schedule, self.clustering = net, inputs, schedule, clustering
        self.centroids: Tensor | None = None
        self.labels = torch.zeros(len(inputs), dtype=torch.int64)
        self.first: Labels | None = None
        self.before: FloatArray | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the current epoch: places of crops."""
        count = len(self.inputs)
        places = TensorDataset(torch.arange(count))
        batch = min(self.schedule.batch, count)
        return shuffled(places, count, batch, (self.schedule.seed, self.current_epoch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.net.parameters(), self.schedule.learning_rate)

    def training_step(self, batch: tuple[Tensor], _: int) -> Tensor:
        """Return the loss of one batch."""
        (places,) = batch
        inputs = self.inputs[places]
        features, reconstructed = self.net(inputs)
        if self.centroids is None:
            return reconstruction_loss(reconstructed, inputs)
        return joint_loss(
            reconstructed, inputs, features, self.centroids, self.labels[places], self.clustering.weight
        )

    def on_train_epoch_start(self) -> None:
        """Begin the clusters, by k-means++, when the reconstruction has been learnt."""
        if self.current_epoch == self.schedule.pretrain_epochs:
            self.before = self.features()
            _expect_finite(self.before)
            self.first, centroids = kmeans(self.before, self.clustering, self.schedule.seed)
            self.labels, self.centroids = torch.from_numpy(self.first), torch.from_numpy(centroids)

    def on_train_epoch_end(self) -> None:
        """Renew assignments and centroids."""
        if self.centroids is not None:
            features = self.features()
            labels, centroids = renew(features, self.centroids.numpy())
            self.labels, self.centroids = torch.from_numpy(labels), torch.from_numpy(centroids)

    @torch.no_grad()
    def features(self) -> FloatArray:
        """Return the features (N, F) of all crops."""
        return np.asarray(self.net.encoder(self.inputs).numpy(), dtype=np.float32)


def kmeans(values: FloatArray, config: ClusteringConfig, seed: int) -> tuple[Labels, FloatArray]:
    """Return the clusters (N,) of values (N, F) and their centroids (K, F): the best k-means++ start.

    Source: paper 1, section III.D.
    """
    found = KMeans(config.clusters, n_init=config.starts, random_state=seed).fit(values)
    return found.labels_.astype(np.int64), found.cluster_centers_.astype(np.float32)


def renew(features: FloatArray, centroids: FloatArray) -> tuple[Labels, FloatArray]:
    """Return the nearest cluster of every crop (N,), and the clusters' means (K, F).

    A cluster that no crop is nearest to begins anew at the crop that lies farthest from its own centroid.
    """
    labels, distances = nearest(features, centroids)
    for cluster in range(len(centroids)):
        if not (labels == cluster).any():
            shared = np.bincount(labels, minlength=len(centroids))[labels] > 1
            farthest = int(np.where(shared, distances, -1.0).argmax())
            labels[farthest], distances[farthest] = cluster, 0.0
    means = [features[labels == cluster].mean(axis=0) for cluster in range(len(centroids))]
    return labels, np.asarray(means, dtype=np.float32)


def fit_clusters(views: FloatArray, recipe: Recipe) -> Clustering:
    """Learn features and clusters of views (N, S, S).

    Raises:
        ConfigError: fewer crops than clusters, or crops that hold nothing to tell them by.
    """
    clusters = recipe.clustering.clusters
    if len(views) <= clusters:
        raise ConfigError(
            f"{len(views)} crops cannot be sorted into {clusters} clusters: give more crops of both grades"
        )
    schedule, network = recipe.schedule, recipe.network
    pixels = fit_pixels(views, network.components, schedule.seed)
    inputs = torch.from_numpy(pixels(views))
    lightning.seed_everything(schedule.seed, verbose=False)
    net = AutoEncoder(inputs.shape[1], network.hidden, network.features)
    task = ClusteringTask(net, inputs, schedule, recipe.clustering)
    run_at_once(task, schedule.pretrain_epochs + schedule.epochs)
    if task.before is None or task.first is None or task.centroids is None:
        raise ConfigError("schedule.epochs of the joint loss must be 1 or more")
    features = task.features()
    _expect_finite(features)
    labels, centroids = renew(features, task.centroids.numpy())
    return Clustering(_encoder(pixels, net, network), task.before, features, task.first, labels, centroids)


def _expect_finite(features: FloatArray) -> None:
    if not np.isfinite(features).all():
        raise ConfigError(
            "the auto-encoder's features are no finite numbers: set a smaller schedule.learning_rate"
        )


def _encoder(pixels: PixelFeatures, net: AutoEncoder, network: NetworkConfig) -> Encoder:
    linear = [net.encoder[2 * index] for index in range(len(network.hidden) + 1)]
    layers = tuple((_array(layer.weight), _array(layer.bias)) for layer in linear)  # type: ignore[arg-type]
    return Encoder(pixels, layers)


def _array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().numpy(), dtype=np.float32)
