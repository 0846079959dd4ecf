"""The recipe's configuration; `recipe.toml` holds the paper's values, `shipped.toml` the bundle's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from boneage.anatomy.regions import KEY_REGIONS
from boneage.core.errors import ConfigError
from boneage.training.config import choose

PAPER_BEST = ("2", "5", "8", "11", "16", "17", "19")
"""The combination of regions that the paper found best (section 4.1)."""


@dataclass(frozen=True)
class InputConfig:
    """What the encoders see of a region.

    Args:
        side: of the view, pixels.
        wide_side: of the views of the regions `wide`, which show many bones.
        wide: names of those regions.
        align: lay every region over the mean one, by an affine map.
        steps: out of `views.STEPS`, in the order in which they are done.
        blur: standard deviation of the Gaussian, in sides of the view.
        block: side of the neighbourhood whose mean is the threshold, in sides of the view.
        offset: taken from that mean, in grey of [0, 1].
    """

    side: int = 64
    wide_side: int = 96
    wide: tuple[str, ...] = ("16", "19")
    align: bool = False
    steps: tuple[str, ...] = ("equalise", "blur", "threshold")
    blur: float = 0.016
    block: float = 0.33
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_regions("input.wide", self.wide, least=0)
        for step in self.steps:
            choose("input.steps", step, ("equalise", "blur", "threshold"))
        if min(self.side, self.wide_side) < 16 or self.blur < 0 or not 0 < self.block <= 1:
            raise ConfigError(f"input: sides from 16, a blur from 0 and a block in (0, 1], not {self}")

    def side_of(self, region: str) -> int:
        """Return the side of a region's view in pixels."""
        return self.wide_side if region in self.wide else self.side


@dataclass(frozen=True)
class NetworkConfig:
    """How a region's view becomes a latent vector.

    Args:
        kind: `ccae`, the paper's constrained convolutional auto-encoder; `vae`, a variational one of the same
            size; or `pca`, principal components of the pixels.
        layers: kernel, channels and stride of the encoder's convolutions; the last one gives the latent map.
        weight: of the L2 constraint on the latent vector (`ccae`), or of the divergence (`vae`).
        components: of `pca`.
    """

    kind: str = "ccae"
    layers: tuple[tuple[int, int, int], ...] = ((30, 16, 4), (3, 16, 1), (3, 2, 2))
    weight: float = 1.0
    components: int = 96

    def __post_init__(self) -> None:
        choose("network.kind", self.kind, ("ccae", "vae", "pca"))
        if not self.layers or min(min(layer) for layer in self.layers) < 1:
            raise ConfigError(f"network.layers must be [kernel, channels, stride] from 1, not {self.layers}")
        if self.weight < 0 or self.components < 1:
            raise ConfigError(f"network: a weight from 0 and a component or more, not {self}")


@dataclass(frozen=True)
class JoinConfig:
    """How the latent vectors of a hand's regions become one vector.

    Args:
        regions: the combination.
        scale: `none`, or `region`: every region's vectors divided by their spread.
        agreement: 0 puts the vectors side by side, as the paper does; else so many directions in which
            the regions of a hand agree (`joining.py`).
        ridge: of the agreement, in mean variances of a region's latent vectors.
    """

    regions: tuple[str, ...] = PAPER_BEST
    scale: str = "none"
    agreement: int = 0
    ridge: float = 0.03

    def __post_init__(self) -> None:
        check_regions("join.regions", self.regions)
        choose("join.scale", self.scale, ("none", "region"))
        if self.agreement < 0 or self.ridge <= 0:
            raise ConfigError(f"join: an agreement from 0 and a ridge above 0, not {self}")


@dataclass(frozen=True)
class GroupsConfig:
    """K-means, and what its groups are measured by.

    Args:
        count: of groups, over both sexes.
        by_sex: half of the groups are of girls alone and half of boys: equal maturity is another bone age.
        starts: of k-means++, of which the best is kept.
        interval_months: the width of the age classes.
        ages_months: the lowest and the highest age in a class.
    """

    count: int = 16
    by_sex: bool = False
    starts: int = 10
    interval_months: int = 48
    ages_months: tuple[float, float] = (24.0, 216.0)

    def __post_init__(self) -> None:
        if self.count < 2 or self.starts < 1 or (self.by_sex and self.count % 2):
            raise ConfigError(f"groups: two or more, an even number by sex, and a start or more, not {self}")
        low, high = self.ages_months
        if not 0 <= low < high or not 0 < self.interval_months <= high - low:
            raise ConfigError(f"groups: ages that ascend and an interval within them, not {self}")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the auto-encoders learn.

    Args:
        epochs: of every region's.
        batch: views a step.
        learning_rate: Adam's.
        seed: of everything drawn.
        folds: of cross-validation.
        processes: that regions are shared among, a thread each.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int = 0
    folds: int = 5
    processes: int = 2

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "processes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"schedule.{name} must be 1 or more, not {getattr(self, name)}")
        if self.folds < 2:
            raise ConfigError(f"schedule.folds must be 2 or more, not {self.folds}")
        if not self.learning_rate > 0:  # NaN is no larger either
            raise ConfigError(f"schedule.learning_rate must be above 0, not {self.learning_rate}")


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    schedule: ScheduleConfig
    input: InputConfig = field(default_factory=InputConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    join: JoinConfig = field(default_factory=JoinConfig)
    groups: GroupsConfig = field(default_factory=GroupsConfig)
    citation: dict[str, str] = field(default_factory=dict)
    departures: dict[str, str] = field(default_factory=dict)


def check_regions(name: str, regions: Sequence[str], least: int = 1) -> None:
    """Refuse a combination that is empty, names a region twice, or one that is none of the 19.

    Raises:
        ConfigError: it names the setting and the region.
    """
    unknown = [region for region in regions if region not in KEY_REGIONS]
    if unknown:
        raise ConfigError(f"{name} has no region {unknown[0]!r}: the key regions are '1' to '19'")
    if len(set(regions)) < max(least, len(regions)):
        raise ConfigError(f"{name} must name {least} or more regions, each once, not {list(regions)}")
