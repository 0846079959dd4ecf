"""Paper 2's auto-encoders of one key region: the constrained convolutional one, and a variational one.

Their kernels of 30 x 30 pixels are slow where they are computed as they stand. A convolution with stride s
is the same as one with stride 1 over the s x s phases of its input (every s-th row and column, from each
start), with kernels of a s-th the side: that form, and its transpose in the decoder, is used here.
`benchmarks/region_clusters.py` measures what it saves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

PHASES_FROM = 8
"""Side of a kernel from which the phases pay."""


class Layer(NamedTuple):
    """A convolution of the encoder, which the decoder has transposed.

    Args:
        kernel: side of its square kernel.
        channels: that it gives.
        stride: by which it shrinks the image; it divides the image's side.
    """

    kernel: int
    channels: int
    stride: int


class SameConv2d(nn.Module):
    """Convolves images (N, C, H, W) to (N, K, H / stride, W / stride), zeros around them."""

    def __init__(self, channels: int, layer: Layer) -> None:
        super().__init__()
        self.kernel, self.stride = layer.kernel, layer.stride
        self.weight = nn.Parameter(torch.empty(layer.channels, channels, layer.kernel, layer.kernel))
        self.bias = nn.Parameter(torch.zeros(layer.channels))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolved images."""
        before, after = _margins(self.kernel, self.stride)
        if not _by_phases(self.kernel, self.stride):
            padded = functional.pad(images, (before, after, before, after))
            return functional.conv2d(padded, self.weight, self.bias, self.stride)
        rest = -self.kernel % self.stride
        padded = functional.pad(images, (before, after + rest, before, after + rest))
        weight = functional.pad(self.weight, (0, rest, 0, rest))
        phases = functional.pixel_unshuffle(padded, self.stride)
        return functional.conv2d(phases, functional.pixel_unshuffle(weight, self.stride), self.bias)


class SameDeconv2d(nn.Module):
    """Maps images (N, C, H, W) to (N, K, H * stride, W * stride): the transpose of a `SameConv2d`."""

    def __init__(self, channels: int, layer: Layer) -> None:
        super().__init__()
        self.kernel, self.stride = layer.kernel, layer.stride
        self.weight = nn.Parameter(torch.empty(channels, layer.channels, layer.kernel, layer.kernel))
        self.bias = nn.Parameter(torch.zeros(layer.channels))
        entering = channels * (layer.kernel / layer.stride) ** 2
        bound = math.sqrt(6 / entering)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images grown by the stride."""
        before, _ = _margins(self.kernel, self.stride)
        height, width = (side * self.stride for side in images.shape[2:])
        if not _by_phases(self.kernel, self.stride):
            grown = functional.conv_transpose2d(images, self.weight, None, self.stride)
        else:
            rest = -self.kernel % self.stride
            weight = functional.pixel_unshuffle(functional.pad(self.weight, (0, rest, 0, rest)), self.stride)
            grown = functional.pixel_shuffle(functional.conv_transpose2d(images, weight), self.stride)
        missing = max(0, before + height - grown.shape[2])
        grown = functional.pad(grown, (0, missing, 0, missing))
        return grown[:, :, before : before + height, before : before + width] + self.bias[:, None, None]


class RegionAutoEncoder(nn.Module):
    """Maps views (N, 1, S, S) to latent vectors (N, F), and these to views in [0, 1], by convolutions alone.

    Args:
        layers: of the encoder; the decoder has them transposed, in reverse. The last layer's map, flattened,
            is the latent vector.
        variational: the last layer gives a mean and a log-variance; the latent vector is the mean.

    Source: paper 2, section 3 and Figure 4: convolutions with kernels of 30 x 30. The cited constrained
    auto-encoder (Hou Y-J et al. arXiv:2109.05526) and its published program have the flattened last map as
    latent vector, a ReLU after every convolution, and no dense layer.
    Departs: the convolution of 30 x 30 comes first, on one channel, with stride 4; in the cited program it
    is the third, on four channels with stride 2, which takes about thirty times as long. The latent map has
    no ReLU: with one, some regions' networks died and gave every view the same vector. The output has a
    sigmoid for a ReLU, since views lie in [0, 1].
    """

    def __init__(self, layers: Sequence[Layer], variational: bool = False) -> None:
        super().__init__()
        channels = [1, *(layer.channels for layer in layers)]
        self.variational = variational
        last = layers[-1]._replace(channels=(1 + variational) * layers[-1].channels)
        self.encoder = nn.ModuleList(
            SameConv2d(entering, layer)
            for entering, layer in zip(channels[:-1], [*layers[:-1], last], strict=True)
        )
        self.decoder = nn.ModuleList(
            SameDeconv2d(entering, layer._replace(channels=leaving))
            for (leaving, entering), layer in reversed(list(zip(pairwise(channels), layers, strict=True)))
        )

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return latent vectors (N, F), reconstructions (N, 1, S, S), and log-variances (N, F) or None."""
        latent_map, log_variance = self.encode(views)
        drawn = latent_map
        if log_variance is not None and self.training:
            drawn = latent_map + torch.randn_like(latent_map) * (0.5 * log_variance).exp()
        images = drawn
        for layer in self.decoder[:-1]:
            images = layer(images).relu()
        reconstructed = self.decoder[-1](images).sigmoid()
        flat = None if log_variance is None else log_variance.flatten(1)
        return latent_map.flatten(1), reconstructed, flat

    def encode(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latent maps (N, C, h, w), and their log-variances where they have some."""
        images = views
        for layer in self.encoder[:-1]:
            images = layer(images).relu()
        last: Tensor = self.encoder[-1](images)
        if not self.variational:
            return last, None
        mean, log_variance = last.chunk(2, dim=1)
        return mean, log_variance


def constrained_loss(reconstructed: Tensor, views: Tensor, latent: Tensor, weight: float) -> Tensor:
    """Return the mean squared error of reconstructions and `weight` times the latent vectors' mean square.

    Args:
        reconstructed: (N, 1, S, S).
        views: (N, 1, S, S).
        latent: (N, F).
        weight: of the constraint; the cited program has 1.

    Source: paper 2, section 3: "an L2 constraint of the latent vector is added to the mean square error".
    """
    return (reconstructed - views).square().mean() + weight * latent.square().mean()


def variational_loss(
    reconstructed: Tensor, views: Tensor, mean: Tensor, log_variance: Tensor, weight: float
) -> Tensor:
    """Return the squared error and `weight` times the divergence from the prior, both by pixel.

    Both are summed over a view and divided by its pixels, and are means over the batch.

    Args:
        reconstructed: (N, 1, S, S).
        views: (N, 1, S, S).
        mean: (N, F).
        log_variance: (N, F).
        weight: of the divergence; 1 is the evidence lower bound for a variance of 1/2 a pixel.

    Source: paper 2, section 4.5; Kingma DP, Welling M. arXiv:1312.6114, appendix B.
    """
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()
    return (reconstructed - views).square().mean() + weight * divergence / views[0].numel()


def _by_phases(kernel: int, stride: int) -> bool:
    """Return whether the phases pay; between kernels that are shorter than the stride there are no phases."""
    return stride > 1 and kernel >= max(PHASES_FROM, stride)


def _margins(kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an image that leave it its side over the stride."""
    margin = max(0, kernel - stride)
    return margin // 2, margin - margin // 2
