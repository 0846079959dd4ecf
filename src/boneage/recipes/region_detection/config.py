"""The detector's configuration; see `recipe.toml`."""

from __future__ import annotations

from dataclasses import dataclass, field

from boneage.data.augment import AugmentConfig


@dataclass(frozen=True)
class LabelConfig:
    """Where boxes come from, and which hands stay out."""

    boxes: str
    held_out: float
    swap: bool
    derived: int
    min_confidence: float
    repeat: int


@dataclass(frozen=True)
class NetworkConfig:
    """The detector's shape; fields as in `models.detection.DetectorConfig`, and its input's longer side."""

    long_side: int
    backbone: str
    pretrained: str
    anchors_px: tuple[int, ...]
    ratios: tuple[float, ...]
    head_width: int
    proposals: int
    regions_per_image: int


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    bfloat16: bool
    seed: int
    threads: int


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    labels: LabelConfig
    network: NetworkConfig
    training: TrainingConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    citation: dict[str, str] = field(default_factory=dict)
