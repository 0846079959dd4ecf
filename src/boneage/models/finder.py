"""The hand finder: one small network that gives the hand's mask, its 21 key points and two epiphyses.

It is trained from masks of differentiable feature clustering (paper 4) and from labelled and
pseudo-labelled key points; see `recipes/hand_localisation`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from boneage.models.backbones import IMAGENET_MEAN, IMAGENET_STD, MobileNetV2Features

KEYPOINTS = 21
EPIPHYSES = 2
MAPS = KEYPOINTS + EPIPHYSES + 1


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 5, padding=2, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class HandFinder(nn.Module):
    """MobileNetV2 to stride 16 with a light decoder back to stride 4.

    Output channels: 21 key-point heat maps, those of the epiphyses of radius and ulna, then the hand
    mask; all as logits.
    """

    def __init__(self, features: MobileNetV2Features) -> None:
        super().__init__()
        stages = features.features
        self.to4, self.to8, self.to16 = stages[:4], stages[4:7], stages[7:14]
        self.widen = _block(96, 64)
        self.join8 = _block(64 + 32, 64)
        self.join4 = _block(64 + 24, 48)
        self.output = nn.Conv2d(48, MAPS, 1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        if self.output.bias is not None:
            nn.init.constant_(self.output.bias, -3.0)  # most cells are empty

    def logits(self, image: Tensor) -> Tensor:
        """Map images (N, 1, S, S) in [0, 1] to logits (N, 24, S / 4, S / 4)."""
        fine = self.to4((image - self.mean) / self.std)
        middle = self.to8(fine)
        coarse = self.widen(self.to16(middle))
        middle = self.join8(torch.cat([_double(coarse), middle], dim=1))
        fine = self.join4(torch.cat([_double(middle), fine], dim=1))
        logits: Tensor = self.output(fine)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, 1, S, S) in [0, 1] to probabilities (N, 24, S / 4, S / 4)."""
        return self.logits(image).float().sigmoid()


def _double(maps: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
