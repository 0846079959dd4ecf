"""Networks that sort an image into age intervals, each with an age in months.

Source: paper 5, section V (a backbone, the sex joined to its features, a fully connected layer, softmax);
the ordinal output after McCullagh 1980 and Cao, Mirjalili and Raschka 2020 (one score, ordered thresholds).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from boneage.models.backbones import Backbone

HEADS = ("classes", "ordinal", "regression")

_LEAST = 1e-6
"""Smallest probability that is told apart from zero."""


class IntervalNet(nn.Module):
    """Backbone, sex beside it, one fully connected layer, and the probability of each interval.

    Args:
        backbone: pooled features (N, channels).
        edges_months: of the K intervals, K + 1.
        head: `classes` (K scores and a softmax), `ordinal` (one score and K - 1 ordered thresholds that are
            learnt) or `regression` (an age in months whose error is logistic, with a learnt scale: the
            thresholds are the edges themselves).
        age_mean: of the training ages, months.
        age_std: standard deviation of the training ages, months.
        sex_width: width of the sex input's layer; 0 leaves the sex out.
        hidden: width of the fully connected layer.
        activation: `relu` or `elu`.
        batch_norm: after the fully connected layer.
        dropout: before the output.
    """

    def __init__(
        self,
        backbone: Backbone,
        edges_months: Sequence[float],
        head: str,
        *,
        age_mean: float,
        age_std: float,
        sex_width: int = 16,
        hidden: int = 256,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        act = nn.ELU if activation == "elu" else nn.ReLU
        self.embed_sex = nn.Sequential(nn.Linear(1, sex_width), act()) if sex_width else None
        norm: list[nn.Module] = [nn.BatchNorm1d(hidden)] if batch_norm else []
        self.hidden = nn.Sequential(
            nn.Linear(backbone.channels + sex_width, hidden), *norm, act(), nn.Dropout(dropout)
        )
        edges = torch.tensor(edges_months, dtype=torch.float32)
        self.output = nn.Linear(hidden, len(edges) - 1 if head == "classes" else 1)
        self.edges: Tensor
        self.age_mean: Tensor
        self.age_std: Tensor
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("age_mean", torch.tensor(age_mean))
        self.register_buffer("age_std", torch.tensor(age_std))
        inner = (edges[1:-1] - age_mean) / age_std
        if head == "ordinal":
            self.first = nn.Parameter(inner[:1].clone())
            self.steps = nn.Parameter(torch.log(torch.expm1(inner.diff())))  # softplus of them is the steps
        if head == "regression":
            self.log_scale_tenth = nn.Parameter(torch.tensor(math.log(0.3 * age_std) / 10))

    @property
    def centres(self) -> Tensor:
        """The middle of each interval (K,), months."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    def scores(self, image: Tensor, sex: Tensor) -> Tensor:
        """Return the raw output (N, K) or (N, 1) for images (N, 1, H, W) and sex (N, 1), male 1."""
        features = self.backbone(image)
        if self.embed_sex is not None:
            features = torch.cat([features, self.embed_sex(sex)], dim=1)
        scores: Tensor = self.output(self.hidden(features))
        return scores.float()

    def beyond(self, scores: Tensor) -> Tensor:
        """Return the log-odds (N, K - 1) that the age lies beyond each inner edge; not for `classes`."""
        if self.head == "regression":
            return (self.months(scores) - self.edges[1:-1]) / self.log_scale.exp()
        thresholds = torch.cat([self.first, self.first + nn.functional.softplus(self.steps).cumsum(0)])
        return 4 * (scores - thresholds)  # 4: at the start, one standard deviation of age is 98% sure

    @property
    def log_scale(self) -> Tensor:
        """Logarithm of the scale of a `regression`'s error in months; a tenth of it is learnt, for speed."""
        return 10 * self.log_scale_tenth

    def months(self, scores: Tensor) -> Tensor:
        """Return the age (N, 1) in months that a `regression` predicts."""
        return scores * self.age_std + self.age_mean

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Return the logarithm of each interval's probability (N, K)."""
        if self.head == "classes":
            return scores.log_softmax(dim=1)
        beyond = self.beyond(scores).sigmoid()
        ends = torch.ones_like(beyond[:, :1])
        reached = torch.cat([ends, beyond, 0 * ends], dim=1)
        return (reached[:, :-1] - reached[:, 1:]).clamp_min(_LEAST).log()

    def ages(self, scores: Tensor) -> Tensor:
        """Return the age (N, 1) in months: predicted, or the distribution's mean over the centres."""
        if self.head == "regression":
            return self.months(scores)
        return (self.log_probabilities(scores).exp() * self.centres).sum(dim=1, keepdim=True)

    def forward(self, image: Tensor, sex: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (N, K) and age (N, 1) in months."""
        scores = self.scores(image, sex)
        age = self.ages(scores)
        if self.embed_sex is None:
            age = age + 0 * sex  # an input that nothing reads would vanish from the exported graph
        return self.log_probabilities(scores), age
