"""The recipe's configuration; `recipe.toml` holds the paper's values, `shipped.toml` the bundle's."""

from __future__ import annotations

from dataclasses import dataclass, field

from boneage.core.errors import ConfigError
from boneage.data.augment import AugmentConfig


@dataclass(frozen=True)
class InputConfig:
    """What the graph sees of every bone.

    Args:
        side: of the square crop, pixels.
        contrast: `clahe` or `none`, after a robust stretch (the paper's image enhancement).
    """

    side: int
    contrast: str = "clahe"

    def __post_init__(self) -> None:
        if self.contrast not in ("clahe", "none"):
            raise ConfigError(f"input.contrast must be clahe or none, not {self.contrast!r}")


@dataclass(frozen=True)
class NetworkConfig:
    """The network; see `models.grading.GradeNet`.

    `attention` and `double_pool` make the paper's improved ResNet of a plain one.
    """

    backbone: str
    pretrained: str
    frozen_stages: int = 0
    attention: bool = True
    double_pool: bool = True
    width: int = 256
    dropout: float = 0.0


@dataclass(frozen=True)
class PriorConfig:
    """What ties the bones to each other where only ages are known; see `prior`.

    Args:
        weight: of the prior's cross-entropy at the start of training.
        final_weight: at its end.
        spread_grades: standard deviation of the prior around its grade.
        anchor_weight: of the cross-entropy on graded crops; 0 leaves them out.
        anchors: folder or CSV of graded crops (`training.crops`); empty has none.
        lead_shrinkage: number of graded hands that a bone's lead over the total is shrunk by.
    """

    weight: float = 1.0
    final_weight: float = 0.15
    spread_grades: float = 0.8
    anchor_weight: float = 0.0
    anchors: str = ""
    lead_shrinkage: float = 4.0


@dataclass(frozen=True)
class ScheduleConfig:
    """How long and on what.

    Args:
        epochs: passes over the training hands.
        batch: hands a step (each brings all its bones), or crops where grades are given.
        learning_rate: peak.
        head_factor: rate of new layers relative to that.
        schedule: `constant` (the paper's) or `one_cycle`.
        weight_decay: AdamW's.
        clip_norm: of the gradient; 0 does not clip.
        ema_decay: of the weights' moving average; 0 keeps the last weights.
        precision: Lightning's.
        folds: of cross-validation; 5 is the paper's 8:2 split five times over.
        run_folds: which of them to train; empty trains all.
        final_epochs: epochs that one fold's network is trained on for with all hands, to be exported.
        final_fold: the fold whose network that is.
        final_learning_rate: peak rate of those epochs.
        processes: folds trained side by side.
        threads: of each process.
    """

    epochs: int
    batch: int
    learning_rate: float
    head_factor: float = 1.0
    schedule: str = "constant"
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    precision: str = "32-true"
    seed: int = 0
    folds: int = 5
    run_folds: tuple[int, ...] = ()
    final_epochs: int = 0
    final_fold: int = 0
    final_learning_rate: float = 1e-4
    processes: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "one_cycle"):
            raise ConfigError(f"schedule.schedule must be constant or one_cycle, not {self.schedule!r}")


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    input: InputConfig
    network: NetworkConfig
    schedule: ScheduleConfig
    prior: PriorConfig = field(default_factory=PriorConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    citation: dict[str, str] = field(default_factory=dict)
    departures: dict[str, str] = field(default_factory=dict)
