"""The finder's training configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from boneage.data.augment import AugmentConfig


@dataclass(frozen=True)
class LabelConfig:
    """Where labels come from; see `recipe.toml`."""

    landmarks: str
    backbone: str
    min_presence: float
    masks: int
    exclude: str = ""


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation, and how many samples are no or two hands."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    precision: str
    seed: int
    threads: int
    mask_weight: float
    two_hands: float
    no_hand: float


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    labels: LabelConfig
    training: TrainingConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    citation: dict[str, str] = field(default_factory=dict)
