"""The recipe's configuration; `recipe.toml` holds the paper's values, `shipped.toml` the bundle's."""

from __future__ import annotations

from dataclasses import dataclass, field

from boneage.core.errors import ConfigError
from boneage.data.augment import AugmentConfig
from boneage.recipes.age_intervals.intervals import IntervalsConfig
from boneage.recipes.age_intervals.pipeline import PipelineConfig
from boneage.training.config import Stage, choose

LOSSES = ("cross_entropy", "ordinal", "distribution", "regression")


@dataclass(frozen=True)
class InputConfig:
    """What the graph sees.

    Args:
        height: of the graph's input, pixels.
        width: of the graph's input, pixels.
        crop: `none` (the paper's whole image), `box` (the hand box as it lies) or `hand` (upright).
        patches: rows and columns of sub-patches that vote, each of the graph's size; (1, 1) is the
            whole view at once.
        pipeline: what is done to the view before it is cut into patches.
    """

    height: int
    width: int
    crop: str = "none"
    patches: tuple[int, int] = (1, 1)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)

    def __post_init__(self) -> None:
        choose("input.crop", self.crop, ("none", "box", "hand"))
        if min(self.height, self.width, *self.patches) < 1:
            raise ConfigError("input.height, input.width and input.patches must be positive")

    @property
    def view_shape(self) -> tuple[int, int]:
        """Height and width of the view that holds all patches."""
        return self.height * self.patches[0], self.width * self.patches[1]


@dataclass(frozen=True)
class NetworkConfig:
    """The network; see `models.intervals.IntervalNet` and `models.backbones.create_backbone`.

    Args:
        backbone: `custom_cnn`, `efficientnet_b0`, `inception_v3`, a ResNet, or any other that is known.
        pretrained: `none`, `timm` or a file.
        start_from: folder of an earlier run on the same folds, whose networks are trained on; may be empty.
        frozen_stages: of the backbone that stay as pretrained.
        sex_width: width of the sex input's layer; 0 leaves the sex out.
        hidden: width of the fully connected layer.
        activation: of that layer, `relu` or `elu`.
        batch_norm: after that layer (the paper: dropout, or batch normalisation in its place).
        dropout: after that layer.
    """

    backbone: str
    pretrained: str = "none"
    start_from: str = ""
    frozen_stages: int = 0
    sex_width: int = 16
    hidden: int = 256
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        choose("network.activation", self.activation, ("relu", "elu"))


@dataclass(frozen=True)
class ScheduleConfig:
    """How long and on what.

    Args:
        stages: sizes in training order.
        batch: images (or patches) a step.
        loss: `cross_entropy` (the paper's), `ordinal`, `distribution` or `regression`; see `learn.loss_of`.
        label_sigma_months: spread of the label of `distribution`.
        expectation_weight: of the error of the distribution's expectation, in years, in that loss.
        optimiser: `adam` (the paper's) or `adamw`.
        learning_rate: peak.
        head_factor: rate of the layers after the backbone relative to that.
        schedule: `constant` or `one_cycle`.
        weight_decay: of the optimiser.
        clip_norm: of the gradient; 0 does not clip.
        patience: epochs without a lower validation loss after which training stops, with the best
            epoch's weights; the fold after the one held out validates. 0: no image validates, and
            the last epoch's weights are kept.
        ema_decay: of the weights' moving average; 0 keeps the weights themselves.
        precision: Lightning's, `32-true` or `bf16-mixed`.
        folds: number of cross-validation folds.
        run_folds: which of them to train; empty trains all.
        train_share: share of the training part that is used, for learning from less.
        final_epochs: epochs at the last size for which one fold's network is trained on with all images,
            to be exported; 0 exports that fold's network as it is.
        final_fold: the fold whose network that is.
        final_learning_rate: peak rate of those epochs.
        processes: trainings side by side.
        threads: of each process.
    """

    stages: tuple[Stage, ...]
    batch: int = 64
    loss: str = "cross_entropy"
    label_sigma_months: float = 7.0
    expectation_weight: float = 0.0
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    head_factor: float = 1.0
    schedule: str = "constant"
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    patience: int = 0
    ema_decay: float = 0.0
    precision: str = "32-true"
    seed: int = 0
    folds: int = 5
    run_folds: tuple[int, ...] = ()
    train_share: float = 1.0
    final_epochs: int = 0
    final_fold: int = 0
    final_learning_rate: float = 1e-4
    processes: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
        choose("schedule.loss", self.loss, LOSSES)
        choose("schedule.optimiser", self.optimiser, ("adam", "adamw"))
        choose("schedule.schedule", self.schedule, ("constant", "one_cycle"))
        if not self.stages:
            raise ConfigError("schedule.stages is empty; give at least one of epochs, height and width")
        if not 0 < self.train_share <= 1:
            raise ConfigError(f"schedule.train_share must be over 0 and at most 1, not {self.train_share}")
        if self.patience and self.ema_decay:
            raise ConfigError("schedule.patience keeps the best epoch's weights; set ema_decay to 0 with it")

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    input: InputConfig
    intervals: IntervalsConfig
    network: NetworkConfig
    schedule: ScheduleConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    citation: dict[str, str] = field(default_factory=dict)
    departures: dict[str, str] = field(default_factory=dict)
