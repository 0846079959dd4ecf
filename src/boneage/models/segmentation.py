"""Unsupervised segmentation of one radiograph by differentiable feature clustering.

Nothing is learned before and nothing is kept after: a small network is fitted to the one image it
labels, so that pixels of like features share a label and neighbours agree.

Source: paper 4, equations 1 to 4 and Algorithm 1; after Kim, Kanezaki and Tanaka, IEEE Trans Image
    Process 2020;29:8055-8068.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The settings of one clustering; the defaults are paper 4's where it prints one.

    Departs: paper 4 names no working size and clusters the image as it is. Here the image is shrunk
        to `long_side` first, because a step costs as much as there are pixels: 50 steps at 1024 px
        would take minutes of one core, and the outline of a hand needs no more than this.

    Args:
        channels: width p of both 3x3 convolution blocks.
        labels: width q of the response, the most labels there can be.
        iterations: steps of gradient descent.
        rate: learning rate.
        momentum: of stochastic gradient descent.
        similarity: weight lambda of the similarity loss.
        continuity: weight mu of the spatial continuity loss.
        min_labels: stop once no more labels than this are left (Kim et al.); 0 never stops early.
        long_side: the working size's longer side, px.
        seed: of the initial weights.
        bfloat16: run the convolutions in bfloat16, several times faster on CPUs with AMX.
    """

    channels: int = 90
    labels: int = 90
    iterations: int = 50
    rate: float = 0.1
    momentum: float = 0.9
    similarity: float = 4.0
    continuity: float = 1.0
    min_labels: int = 0
    long_side: int = 128
    seed: int = 0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Refuse settings with which no clustering can run.

        Raises:
            ConfigError: a width or size that is too small.
        """
        if min(self.channels, self.labels) < 2 or self.long_side < 16 or self.iterations < 1:
            raise ConfigError(
                "clustering needs channels and labels >= 2, long_side >= 16 and iterations >= 1, not "
                f"{self.channels}, {self.labels}, {self.long_side} and {self.iterations}; correct them"
            )


class FeatureClustering(nn.Module):
    """Two 3x3 convolution blocks, a 1x1 convolution and batch normalisation (paper 4, Fig. 5).

    A block is convolution, ReLU and batch normalisation in that order, as in Kim et al.; paper 4
    does not print the order.

    Args:
        channels: width p of the feature descriptors.
        labels: width q of the response.
    """

    def __init__(self, channels: int = 90, labels: int = 90) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(channels),
        )
        self.response = nn.Sequential(nn.Conv2d(channels, labels, 1), nn.BatchNorm2d(labels))

    def forward(self, images: Tensor) -> Tensor:
        """Return the responses (N, q, H, W) to images (N, 1, H, W)."""
        responses: Tensor = self.response(self.features(images))
        return responses


def clustering_loss(responses: Tensor, labels: Tensor, similarity: float, continuity: float) -> Tensor:
    """Return the loss of responses (1, q, H, W) against their own argmax labels (H, W).

    Departs: equation 2 takes the logarithm of a response that batch normalisation lets be negative;
        as in Kim et al. the response goes through a softmax first. Equations 2 and 4 print sums;
        with a rate of 0.1 only means can be meant, over pixels in equation 2 and over pixels and
        channels in equation 4, as in the code that Kim et al. published.

    Source: paper 4, equations 1 to 4.
    """
    pixels = responses[0].permute(1, 2, 0)  # (H, W, q): contiguous in channels-last, so every step is cheap
    flat = pixels.reshape(-1, pixels.shape[-1])
    alike = functional.cross_entropy(flat, labels.reshape(-1))
    down = (pixels[1:] - pixels[:-1]).abs().mean()
    across = (pixels[:, 1:] - pixels[:, :-1]).abs().mean()
    return similarity * alike + continuity * (down + across)


def shrink(image: FloatArray, long_side: int) -> FloatArray:
    """Return the image (H, W) with its longer side at most `long_side` px; never enlarges."""
    height, width = image.shape
    scale = long_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def cluster_features(image: FloatArray, config: ClusterConfig | None = None) -> NDArray[np.int64]:
    """Label every pixel of one image by fitting a network to that image alone.

    The same image, configuration and machine give the same labels; the caller's random state is
    left as it was.

    Args:
        image: (H, W) float32, any range; it is standardised here.
        config: the settings; paper 4's by default.

    Returns:
        (H, W) labels 0, 1, 2, ... without gaps, found at the working size and enlarged to the nearest pixel.

    Source: paper 4, Algorithm 1, lines 1 to 7.
    """
    config = config or ClusterConfig()
    small = shrink(image, config.long_side)
    spread = float(small.std())
    pixels = torch.from_numpy((small - small.mean()) / (spread if spread > 0 else 1.0))[None, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = FeatureClustering(config.channels, config.labels)
    labels = _fit(network, pixels.contiguous(memory_format=torch.channels_last), config)
    compact = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    height, width = image.shape
    enlarged = cv2.resize(compact.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return enlarged.astype(np.int64)


def _fit(network: FeatureClustering, pixels: Tensor, config: ClusterConfig) -> NDArray[np.int64]:
    """Fit the network to its own labels and return the last of them (H, W)."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    descent = torch.optim.SGD(network.parameters(), lr=config.rate, momentum=config.momentum)
    labels = torch.zeros(pixels.shape[2:], dtype=torch.int64)
    with torch.enable_grad():
        for _ in range(config.iterations):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bfloat16):
                responses = network(pixels)
            responses = responses.float()
            labels = responses.detach()[0].permute(1, 2, 0).argmax(dim=2)
            if len(labels.unique()) <= config.min_labels:
                break
            descent.zero_grad()
            loss = clustering_loss(responses, labels, config.similarity, config.continuity)
            loss.backward()
            descent.step()
    return labels.numpy()
