"""Paper 3's blocks: shuffle attention, the attention residual unit and the double-pooling head.

Source: paper 3, section 2.1 (Figures 2 and 3) and 2.2 (Figure 4); shuffle attention after Zhang and
Yang, "SA-Net: Shuffle attention for deep convolutional neural networks", ICASSP 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from boneage.core.errors import ConfigError


class ShuffleAttention(nn.Module):
    """Channel attention on one half of every group of channels, spatial attention on the other.

    Args:
        channels: of the maps (N, channels, H, W); a multiple of twice the groups.
        groups: that the channels are split into.

    Raises:
        ConfigError: the channels cannot be split so.

    Source: paper 3, "Feature Grouping", "Channel Attention", "Spatial Attention", "Aggregation".
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        if channels % (2 * groups):
            raise ConfigError(
                f"shuffle attention cannot split {channels} channels into {groups} groups of two halves"
            )
        half = channels // (2 * groups)
        self.groups = groups
        self.channel_scale = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.channel_shift = nn.Parameter(torch.ones(1, half, 1, 1))
        self.spatial_scale = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.spatial_shift = nn.Parameter(torch.ones(1, half, 1, 1))
        self.norm = nn.GroupNorm(half, half)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to attended, channel-shuffled maps of the same shape."""
        count, channels, height, width = maps.shape
        grouped = maps.reshape(-1, channels // self.groups, height, width)
        by_channel, by_place = grouped.chunk(2, dim=1)
        pooled = by_channel.mean(dim=(2, 3), keepdim=True)
        by_channel = by_channel * torch.sigmoid(self.channel_scale * pooled + self.channel_shift)
        by_place = by_place * torch.sigmoid(self.spatial_scale * self.norm(by_place) + self.spatial_shift)
        joined = torch.cat([by_channel, by_place], dim=1).reshape(count, 2, channels // 2, height, width)
        return joined.transpose(1, 2).reshape(count, channels, height, width)


class _HalfSize(nn.Module):
    """Averages maps to half their size; a map of one cell, which runtimes refuse to pool, stays."""

    def forward(self, maps: Tensor) -> Tensor:
        if min(int(side) for side in maps.shape[-2:]) < 2:
            return maps
        return nn.functional.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


class AttentionResidualUnit(nn.Module):
    """A residual unit whose output is corrected by an attention path.

    The path averages the unit's output to half its size, convolves it with shuffle attention, samples
    it up again, and scales the output by twice its sigmoid. It starts as the unit alone (scale 1), so
    that pretrained units keep what they know.

    Args:
        unit: any residual unit.
        channels: of its output.
        reduction: by which the path's convolutions narrow the channels.
        groups: of the shuffle attention.

    Source: paper 3, Figure 3 and its text (average pooling, Aconv, up-sampling, correction).
    Departs: the path's width and the sigmoid are not printed; a bottleneck keeps it lightweight.
    """

    def __init__(self, unit: nn.Module, channels: int, *, reduction: int = 4, groups: int = 8) -> None:
        super().__init__()
        step = 2 * groups  # the attention splits its channels so
        narrow = step * -(-channels // (reduction * step))
        self.unit = unit
        self.attend = nn.Sequential(
            _HalfSize(),
            nn.Conv2d(channels, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            ShuffleAttention(narrow, groups),
            nn.Conv2d(narrow, channels, 1),
        )
        last = self.attend[-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to the unit's corrected output."""
        output: Tensor = self.unit(maps)
        path = nn.functional.interpolate(
            self.attend(output), size=output.shape[-2:], mode="bilinear", align_corners=False
        )
        return output * (2 * torch.sigmoid(path))


class DoublePool(nn.Module):
    """Average and maximum pooling joined and narrowed by a 1x1 convolution: (N, C, H, W) to (N, width).

    Source: paper 3, section 2.2 and Figure 4.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(
            nn.Conv2d(2 * channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten()
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Pool maps (N, C, H, W) to features (N, width)."""
        pooled = [nn.functional.adaptive_avg_pool2d(maps, 1), nn.functional.adaptive_max_pool2d(maps, 1)]
        features: Tensor = self.narrow(torch.cat(pooled, dim=1))
        return features


def add_attention(body: nn.Module, *, frozen_stages: int = 0, groups: int = 8) -> None:
    """Turn the last unit of every stage of a ResNet into an attention residual unit, in place.

    Args:
        body: a timm ResNet of either form (`layer1` ... or `stages`).
        frozen_stages: first stages that stay as they are.
        groups: of the shuffle attention.

    Raises:
        ConfigError: the network has no stages of residual units.
    """
    stages = _stages(body)[frozen_stages:]
    if not stages:
        raise ConfigError("attention needs a ResNet with a stage that is not frozen; give a resnet backbone")
    for units, channels in zip(stages, _widths(body, stages), strict=True):
        units[-1] = AttentionResidualUnit(units[-1], channels, groups=groups)


def _stages(body: nn.Module) -> list[Any]:
    named = [getattr(body, f"layer{number}") for number in range(1, 5) if hasattr(body, f"layer{number}")]
    if named:
        return named
    stages = getattr(body, "stages", None)
    found = [getattr(stage, "blocks", None) for stage in stages] if stages is not None else []
    return [units for units in found if isinstance(units, nn.Sequential)]


@torch.no_grad()
def _widths(body: nn.Module, stages: list[Any]) -> list[int]:
    """Return the channels of every stage's output, by running the network once."""
    widths: list[int] = []
    hooks = [
        units[-1].register_forward_hook(lambda _module, _inputs, output: widths.append(int(output.shape[1])))
        for units in stages
    ]
    training = body.training
    body.eval()(torch.zeros(1, 3, 64, 64))
    body.train(training)
    for hook in hooks:
        hook.remove()
    return widths
