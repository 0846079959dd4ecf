"""The grading network: one epiphysis crop and its bone to an ordinal distribution over grades."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from boneage.models.attention import DoublePool, add_attention
from boneage.models.backbones import Backbone

MIN_SPREAD = 0.25
"""Smallest spread of a grade's logistic, in grades: below it a distribution is one grade alone."""


class GradeNet(nn.Module):
    """A ResNet with a maturity and a spread for every bone, read as a cumulative link model.

    The maturity is a grade on a continuous scale; P(grade >= k) is the logistic of its distance from
    k - 1/2 over the spread, so that the distribution has one peak and moves up the scale as a whole.

    Args:
        backbone: maps (N, C, h, w); attention is added to it where `attention`.
        highest: last grade of every bone (bones,).
        attention: paper 3's attention residual units.
        double_pool: paper 3's double-pooling head instead of average pooling.
        width: of the features.
        dropout: on the features.
        frozen_stages: first stages of the backbone that stay as pretrained.

    Source: paper 3, section 2.2 and Figure 4 (network and head).
    Departs: the paper classifies each bone's grades; an ordinal output has no order to learn anew.
    """

    def __init__(
        self,
        backbone: Backbone,
        highest: Tensor,
        *,
        attention: bool,
        double_pool: bool,
        width: int = 256,
        dropout: float = 0.0,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        backbone.freeze(frozen_stages)
        if attention:
            add_attention(backbone.body, frozen_stages=frozen_stages)
        self.backbone = backbone
        self.pool = (
            DoublePool(backbone.channels, width) if double_pool else _average(backbone.channels, width)
        )
        self.dropout = nn.Dropout(dropout)
        bones = len(highest)
        self.weight = nn.Parameter(torch.randn(bones, width, 2) * width**-0.5 * 0.5)
        self.bias = nn.Parameter(torch.stack([highest / 2, torch.zeros(bones)], dim=1))
        self.highest: Tensor
        self.cuts: Tensor
        self.register_buffer("highest", highest.float(), persistent=False)
        self.register_buffer("cuts", torch.arange(int(highest.max())) + 0.5, persistent=False)

    def maturity(self, crop: Tensor, bone: Tensor) -> tuple[Tensor, Tensor]:
        """Return maturity and spread (N,), in grades, of crops (N, 1, S, S) with bones (N, B) one-hot."""
        features = self.dropout(self.pool(self.backbone(crop))).float()
        weight = (bone @ self.weight.flatten(1)).reshape(-1, features.shape[1], 2)
        raw = (features[:, None] @ weight)[:, 0] + bone @ self.bias
        return raw[:, 0], MIN_SPREAD + nn.functional.softplus(raw[:, 1])

    def at_least(self, maturity: Tensor, spread: Tensor, bone: Tensor) -> Tensor:
        """Return P(grade >= 1, 2, ...) (N, highest grade of all); 0 beyond a bone's last grade."""
        exists = self.cuts < (bone @ self.highest)[:, None]
        return torch.sigmoid((maturity[:, None] - self.cuts) / spread[:, None]) * exists

    def forward(self, crop: Tensor, bone: Tensor) -> Tensor:
        """Map crops (N, 1, S, S) in [0, 1] and one-hot bones (N, B) to P(grade >= 1, 2, ...)."""
        return self.at_least(*self.maturity(crop, bone), bone)


def grade_probabilities(at_least: Tensor) -> Tensor:
    """Return P(grade = 0, 1, ...) (N, K + 1) from P(grade >= 1, 2, ...) (N, K)."""
    ones, zeros = torch.ones_like(at_least[:, :1]), torch.zeros_like(at_least[:, :1])
    return torch.cat([ones, at_least], dim=1) - torch.cat([at_least, zeros], dim=1)


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Return the piecewise linear function through (knots, values) (K,) at x, clamped at its ends.

    Its slope is passed on in training, which makes a score-to-age table a layer.
    """
    x = x.clamp(knots[0], knots[-1])
    right = torch.searchsorted(knots, x.detach()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = (x - low) / (high - low)
    return values[right - 1] + share * (values[right] - values[right - 1])


def _average(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, width), nn.ReLU())
