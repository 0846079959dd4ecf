"""Age heads: features and sex to an age in months.

Source: paper 4, Table 1 and "Details of training" (sex embedding of 24, hidden layer of 1304,
z-scored ages); the label-distribution head is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from boneage.models.backbones import Backbone


class AgeNet(nn.Module):
    """Backbone, sex embedding and one hidden layer; output by a regression or a distribution head.

    Args:
        backbone: pooled features (N, channels).
        head: `regression` (one z-scored age) or `distribution` (a softmax over ages in months).
        age_mean: mean of the training ages, months.
        age_std: standard deviation of the training ages, months.
        sex_width: width of the sex embedding; 0 leaves the sex out.
        hidden: width of the hidden layer.
        dropout: before the output layer.
        bin_months: width of a bin of the distribution head.
        max_months: last bin of the distribution head.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: str,
        *,
        age_mean: float,
        age_std: float,
        sex_width: int = 24,
        hidden: int = 1304,
        dropout: float = 0.0,
        bin_months: float = 2.0,
        max_months: float = 240.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.embed_sex = nn.Linear(1, sex_width) if sex_width else None
        bins = (
            torch.arange(0.0, max_months + bin_months, bin_months)
            if head == "distribution"
            else torch.zeros(1)
        )
        self.hidden = nn.Sequential(
            nn.Linear(backbone.channels + sex_width, hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.output = nn.Linear(hidden, len(bins))
        self.bins: Tensor
        self.age_mean: Tensor
        self.age_std: Tensor
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("age_mean", torch.tensor(age_mean))
        self.register_buffer("age_std", torch.tensor(age_std))

    def scores(self, image: Tensor, sex: Tensor) -> Tensor:
        """Return the raw output (N, 1) or (N, bins) for images (N, 1, H, W) and sex (N, 1), male 1."""
        features = self.backbone(image)
        if self.embed_sex is not None:
            features = torch.cat([features, torch.relu(self.embed_sex(sex))], dim=1)
        scores: Tensor = self.output(self.hidden(features))
        return scores.float()

    def ages(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return age and its predicted standard deviation (N, 1) in months; the latter 0 if not predicted."""
        if self.head == "regression":
            age = scores * self.age_std + self.age_mean
            return age, torch.zeros_like(age)
        share = scores.softmax(dim=1)
        age = (share * self.bins).sum(dim=1, keepdim=True)
        variance = (share * (self.bins - age) ** 2).sum(dim=1, keepdim=True)
        return age, variance.clamp_min(1e-6).sqrt()

    def forward(self, image: Tensor, sex: Tensor) -> tuple[Tensor, Tensor]:
        """Return age and spread, each (N, 1) in months."""
        age, spread = self.ages(self.scores(image, sex))
        if self.embed_sex is None:
            age = age + 0 * sex  # an input that nothing reads would vanish from the exported graph
        return age, spread


class AgeEnsemble(nn.Module):
    """Several age nets side by side in one graph: ages and spreads (N, members)."""

    def __init__(self, members: list[AgeNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor, sex: Tensor) -> tuple[Tensor, Tensor]:
        """Return every member's age and spread, each (N, members) in months."""
        pairs = [member(image, sex) for member in self.members]
        return torch.cat([age for age, _ in pairs], dim=1), torch.cat([spread for _, spread in pairs], dim=1)
