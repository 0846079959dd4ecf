"""The recipe's configuration; see `recipe.toml`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from boneage.core.errors import ConfigError
from boneage.training.config import choose

Range = tuple[float, float]

GRAPHS = ("graded_regions", "hand_regression", "age_intervals")
"""What can be trained: the graphs whose answers come from pixels of one hand."""


@dataclass(frozen=True)
class ChangeConfig:
    """Which changes an image may meet: the chance of each, and between what its strength is drawn.

    Units are those of `imaging.stress`.
    """

    resolution_chance: float
    resolution_px: Range
    contrast_chance: float
    contrast: Range
    brightness_chance: float
    brightness: Range
    noise_chance: float
    noise: Range
    jpeg_chance: float
    jpeg_quality: Range
    turn_chance: float
    turn_degrees: float
    mirror_chance: float
    crop_chance: float
    crop: Range

    def __post_init__(self) -> None:
        """Refuse what is no chance, and ranges that run backwards."""
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_chance") and not 0 <= value <= 1:
                raise ConfigError(f"changes.{one.name} must be 0 to 1, not {value}")
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ConfigError(f"changes.{one.name} must not run backwards: {list(value)}")


@dataclass(frozen=True)
class ScheduleConfig:
    """The optimisation; `copies` of every image are made, and `unchanged` of a batch is seen as it is."""

    graphs: tuple[str, ...]
    copies: int
    epochs: int
    full_precision_epochs: int
    unchanged: float
    batch: int
    learning_rate: float
    weight_decay: float
    warm_up: float
    clip_norm: float
    held_out: float
    precision: str
    threads: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse graphs that are not known, and shares that are none."""
        for name in self.graphs:
            choose("schedule.graphs", name, GRAPHS)
        if self.copies < 1 or self.epochs < 1 or self.batch < 1:
            raise ConfigError("schedule.copies, epochs and batch must be 1 or more")
        if not 0 <= self.full_precision_epochs <= self.epochs:
            raise ConfigError("schedule.full_precision_epochs must be 0 to schedule.epochs")
        if not 0 <= self.unchanged < 1 or not 0 < self.held_out < 1:
            raise ConfigError("schedule.unchanged must be 0 to under 1, held_out between 0 and 1")


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    changes: ChangeConfig
    schedule: ScheduleConfig
    departures: dict[str, str] = field(default_factory=dict)
