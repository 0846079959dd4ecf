"""The recipe's configuration; `recipe.toml` holds the paper's values, `shipped.toml` the bundle's."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from boneage.core.errors import ConfigError
from boneage.training.config import choose


@dataclass(frozen=True)
class InputConfig:
    """What of the radius is clustered.

    Args:
        side: of the square view, pixels.
        window: left, top and side of the view, in sides of the radius' region (`anatomy.regions.BONES`).
        align: lay every radius over the mean one, by an affine map.
        contrast: `clahe` or `none`, after a robust stretch.
    """

    side: int
    window: tuple[float, float, float] = (0.0, 0.0, 1.0)
    align: bool = False
    contrast: str = "none"

    def __post_init__(self) -> None:
        choose("input.contrast", self.contrast, ("clahe", "none"))
        if self.side < 16 or self.window[2] <= 0:
            raise ConfigError(f"input.side must be 16 or more and the window's side above 0, not {self}")


@dataclass(frozen=True)
class GradesConfig:
    """Which grades are subdivided, and where they come from.

    Args:
        pairs: neighbouring CHN grades between which a sub-grade is looked for.
        given: what the grades of the data are: `chn`, or `rus_chn`, which are mapped to CHN's.
        table: CSV with grades of a manifest's hands, a column a bone (`id,radius,...`) or a line a bone
            (`id,bone,grade`, as a run of `graded_regions` writes it); empty takes the grades that go with the
            bone ages.
    """

    pairs: tuple[tuple[int, int], ...] = ((5, 6), (6, 7))
    given: str = "chn"
    table: str = ""

    def __post_init__(self) -> None:
        choose("grades.given", self.given, ("chn", "rus_chn"))
        if not self.pairs or any(high != low + 1 for low, high in self.pairs):
            raise ConfigError(f"grades.pairs must be neighbouring grades, as [[5, 6]], not {self.pairs}")
        if any(before[1] > after[0] for before, after in pairwise(self.pairs)):
            raise ConfigError(f"grades.pairs must ascend, not {self.pairs}")


@dataclass(frozen=True)
class NetworkConfig:
    """Features and auto-encoder.

    Args:
        components: of the PCA, k; as many as the crops allow where that is fewer.
        hidden: widths of the encoder's layers; the decoder mirrors them.
        features: of a crop, the paper's features_num.
    """

    components: int = 4096
    hidden: tuple[int, ...] = (500, 500, 2000)
    features: int = 24

    def __post_init__(self) -> None:
        if self.components < 2 or self.features < 2 or not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"network: two components and features or more, and a hidden layer, not {self}")


@dataclass(frozen=True)
class ClusteringConfig:
    """K-means in the features, and when it has failed.

    Args:
        clusters: of a pair of grades; those between the outer two are its sub-grades.
        weight: lambda of the joint loss.
        starts: of k-means++, of which the best is kept.
        along: `features`, the paper's clusters as the joint training leaves them, or `axis`: k-means of
            the crops' positions on the way from the lower grade to the higher, in those features.
        largest_share: a cluster that holds more of the crops is a failure.
        least_silhouette: a lower mean silhouette is a failure.
    """

    clusters: int = 3
    weight: float = 1.0
    starts: int = 10
    along: str = "features"
    largest_share: float = 0.7
    least_silhouette: float = 0.05

    def __post_init__(self) -> None:
        choose("clustering.along", self.along, ("features", "axis"))
        if self.clusters < 3:
            raise ConfigError(
                f"clustering.clusters must be 3 or more (low, between, high), not {self.clusters}"
            )
        if self.weight < 0 or self.starts < 1:
            raise ConfigError(f"clustering: a weight from 0 and a start or more, not {self}")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the auto-encoder learns.

    Args:
        pretrain_epochs: on the reconstruction alone.
        epochs: on the joint loss, with clusters renewed after each.
        batch: crops a step.
        learning_rate: Adam's.
        seed: of everything drawn.
        seeds: trainings whose clusters are compared with each other (adjusted Rand index).
        folds: of cross-validation.
        threads: of torch.
    """

    pretrain_epochs: int
    epochs: int
    batch: int
    learning_rate: float
    seed: int = 0
    seeds: int = 3
    folds: int = 5
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("pretrain_epochs", "epochs", "batch", "seeds", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"schedule.{name} must be 1 or more, not {getattr(self, name)}")
        if self.folds < 2:
            raise ConfigError(f"schedule.folds must be 2 or more, not {self.folds}")


@dataclass(frozen=True)
class ScoresConfig:
    """Scores of the sub-grades.

    Args:
        pretrained: MobileNetV2 with its 1000 outputs: `timm`, or a safetensors file.
        images: drawn of each level, at most.
    """

    pretrained: str = "timm"
    images: int = 1000


@dataclass(frozen=True)
class RecognitionConfig:
    """The networks that recognise grades, before and after: a recipe and what is changed in it.

    Args:
        config: of the recipe `graded_regions`: the name of one of its files, or a path.
        pretrained: its network's: `none`, `timm` or a safetensors file.
        overrides: `section.key=value` texts.
    """

    config: str = "recipe"
    pretrained: str = "none"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """All of it, as read from the TOML file."""

    input: InputConfig
    network: NetworkConfig
    schedule: ScheduleConfig
    grades: GradesConfig = field(default_factory=GradesConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    scores: ScoresConfig = field(default_factory=ScoresConfig)
    recognition: RecognitionConfig = field(default_factory=RecognitionConfig)
    citation: dict[str, str] = field(default_factory=dict)
    departures: dict[str, str] = field(default_factory=dict)
