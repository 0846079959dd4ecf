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
    pseudo_weight: float
    repeat: int
    repeat_regions: int
    keypoints: str = ""
    regions: str = ""
    unlabelled: str = ""
    exclude: str = ""


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation, and how many samples are no or two hands, lose their forearm, or a part."""

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
    no_forearm: float
    hidden: float
    any_rotation: float


@dataclass(frozen=True)
class TuningConfig:
    """How the base net is tuned to people's labels, once for all of them and once a fold."""

    folds: int
    images: int
    forearm_epochs: int
    teacher_epochs: int
    student_epochs: int
    learning_rate: float
    ema_decay: float
    any_rotation: float


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    labels: LabelConfig
    training: TrainingConfig
    tuning: TuningConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    citation: dict[str, str] = field(default_factory=dict)
