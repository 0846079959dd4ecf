"""The recipe's configuration; `recipe.toml` holds the paper's values, `shipped.toml` the bundle's."""

from __future__ import annotations

from dataclasses import dataclass, field

from boneage.core.errors import ConfigError
from boneage.data.augment import AugmentConfig
from boneage.training.config import Stage, choose


@dataclass(frozen=True)
class InputConfig:
    """What the graph sees.

    Args:
        height: of the view, pixels.
        width: of the view, pixels.
        crop: `hand` (upright, thumb right), `box` (the hand box as it lies) or `none` (whole image).
        contrast: `equalise` (paper 4), `clahe` or `none`; after a robust stretch.
        views: 1, or 3 for an average over the view and two small rotations of it.
    """

    height: int
    width: int
    crop: str = "hand"
    contrast: str = "clahe"
    views: int = 1

    def __post_init__(self) -> None:
        choose("input.crop", self.crop, ("hand", "box", "none"))
        choose("input.contrast", self.contrast, ("equalise", "clahe", "none"))
        choose("input.views", self.views, (1, 3))


@dataclass(frozen=True)
class NetworkConfig:
    """The network; see `models.heads.AgeNet` and `models.backbones.create_backbone`.

    `frozen_stages` keeps the backbone's stem and first stages as pretrained.
    """

    backbone: str
    pretrained: str
    frozen_stages: int = 0
    head: str = "regression"
    sex_width: int = 24
    hidden: int = 1304
    dropout: float = 0.0

    def __post_init__(self) -> None:
        choose("network.head", self.head, ("regression", "distribution"))


@dataclass(frozen=True)
class OptimiserConfig:
    """Optimiser and schedule: `sgd` or `adamw`; `step` (times 0.1 every `step_epochs`) or `one_cycle`."""

    name: str
    learning_rate: float
    schedule: str
    momentum: float = 0.9
    weight_decay: float = 0.0
    head_factor: float = 1.0
    step_epochs: int = 30
    warm_up: float = 0.2
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        choose("optimiser.name", self.name, ("sgd", "adamw"))
        choose("optimiser.schedule", self.schedule, ("step", "one_cycle"))


@dataclass(frozen=True)
class ScheduleConfig:
    """How long and on what.

    Args:
        stages: sizes in training order.
        batch: images a step.
        loss: `mse` or `smooth_l1` on z-scored ages, or `distribution` (cross-entropy with a Gaussian
            of `label_sigma_months` around the label, plus smooth L1 of the expectation in years).
        ema_decay: of the weights' moving average; 0 keeps the last weights.
        precision: Lightning's, `32-true` or `bf16-mixed`.
        folds: number of cross-validation folds.
        run_folds: which of them to train; empty trains all.
        final_epochs: epochs at the last size for which one fold's network is trained on with all images,
            to be exported alone; 0 exports the folds' networks side by side.
        final_fold: the fold whose network that is.
        final_learning_rate: peak rate of those epochs.
        processes: folds trained side by side.
        threads: of each process.
    """

    stages: tuple[Stage, ...]
    batch: int
    loss: str
    label_sigma_months: float = 7.0
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
        choose("schedule.loss", self.loss, ("mse", "smooth_l1", "distribution"))


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    input: InputConfig
    network: NetworkConfig
    optimiser: OptimiserConfig
    schedule: ScheduleConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    citation: dict[str, str] = field(default_factory=dict)
    departures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.network.head == "distribution") != (self.schedule.loss == "distribution"):
            raise ConfigError(
                f"schedule.loss {self.schedule.loss!r} does not fit network.head {self.network.head!r}: "
                "'distribution' goes with 'distribution' alone"
            )
