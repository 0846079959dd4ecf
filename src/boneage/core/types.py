"""The frozen values that travel from a file to an assessment.

Every value is immutable. Boxes are (x0, y0, x1, y1) in source pixels, end-exclusive. Images are
(H, W) float32 in [0, 1] with bone bright. Ages are months.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError

FloatArray = NDArray[np.float32]
Box = tuple[float, float, float, float]
Point = tuple[float, float]


class Sex(StrEnum):
    """The sex whose reference the bone age is read against."""

    FEMALE = "female"
    MALE = "male"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the sex for `female`/`male`, `F`/`M` in any case.

        Raises:
            ConfigError: the text names no sex.
        """
        short = {"f": cls.FEMALE, "female": cls.FEMALE, "m": cls.MALE, "male": cls.MALE}
        try:
            return short[text.strip().lower()]
        except KeyError:
            raise ConfigError(f"sex must be 'female' or 'male' (or F, M), not {text!r}") from None


class Side(StrEnum):
    """Which hand it is."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning that travels with a value: a stable code and one sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """An affine map of points (x, y) from one image's pixels to another's.

    Args:
        matrix: (2, 3) float64; a point p goes to `matrix[:, :2] @ p + matrix[:, 2]`.
    """

    matrix: NDArray[np.float64]

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Map points (..., 2), pixels of the one image, to pixels of the other."""
        points = np.asarray(points, dtype=np.float64)
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> Affine:
        """Return the exact inverse map."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    def then(self, after: Affine) -> Affine:
        """Return the map that applies this one first and `after` second."""
        linear = after.matrix[:, :2] @ self.matrix[:, :2]
        return Affine(np.column_stack([linear, after(self.matrix[:, 2])]))

    @classmethod
    def identity(cls) -> Affine:
        """Return the map that leaves points where they are."""
        return cls(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One radiograph as read: pixels, and what its file says about the patient.

    Args:
        pixels: (H, W) float32 in [0, 1], bone bright.
        path: where it came from, as the caller named it.
        spacing_mm: (row, column) size of a pixel, where the file gives it.
        side: which hand, where the file says so.
        sex: the patient's sex, where the file says so.
        chronological_age_months: age at examination, where the file gives it.
        provenance: for every field taken from the file, the tag or rule it came from.
        identifiers: study identifiers that a delivered result must keep (never printed or logged).
        warnings: what was doubtful while reading.
    """

    pixels: FloatArray
    path: str = ""
    spacing_mm: tuple[float, float] | None = None
    side: Side | None = None
    sex: Sex | None = None
    chronological_age_months: float | None = None
    provenance: Mapping[str, str] = field(default_factory=_empty)
    identifiers: Mapping[str, str] = field(default_factory=_empty, repr=False)
    warnings: tuple[Notice, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.pixels.shape
        return height, width


@dataclass(frozen=True, slots=True, eq=False)
class Hand:
    """Where the hand lies in the radiograph.

    Args:
        box_px: hand box from the fingertips to the growth plates of radius and ulna.
        to_upright: source pixels -> an upright hand, fingers up and thumb on the right, in which
            the distance from the wrist to the middle finger's knuckle is 1 and the wrist is (0, 0).
        upright_box: the hand's extent in that upright frame (x0, y0, x1, y1), y growing downwards.
        side: which hand, by its shape (a palm-down view is assumed).
        outline_px: (N, 2) closed contour of the hand.
        keypoints_px: name -> point, names as in `anatomy.keypoints`.
        confidence: 0 to 1, how sure the localiser is that one whole hand is there.
        method: `fast` or `dfc`.
        epiphyses_px: `radius`, `ulna` -> centre of the epiphysis' region; one that is not seen, such as
            beyond a cut-off forearm, is absent.
    """

    box_px: Box
    to_upright: Affine
    upright_box: Box
    side: Side | None
    outline_px: FloatArray
    keypoints_px: Mapping[str, Point]
    confidence: float
    method: str
    warnings: tuple[Notice, ...] = ()
    epiphyses_px: Mapping[str, Point] = field(default_factory=_empty)


@dataclass(frozen=True, slots=True)
class Region:
    """One bone's region, and its grades where a method graded it.

    Args:
        bone: as in `standards.names`.
        box_px: box around the growth plate.
        grades: standard -> the most probable grade; a TW3 stage by its place from A, which is 0.
        confidence: probability of that grade.
        expected_grade: mean of the grade's distribution, on the scale of the method's own standard.
    """

    bone: str
    box_px: Box
    grades: Mapping[str, float] = field(default_factory=_empty)
    confidence: float | None = None
    expected_grade: float | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What one method says of one hand, before it is joined with the others.

    Args:
        method: the recipe's name.
        age_months: its bone age.
        spread_months: its own standard deviation, where it predicts one.
        details: anything else it wants shown (interval probabilities, clusters).
    """

    method: str
    age_months: float
    spread_months: float | None = None
    details: Mapping[str, Any] = field(default_factory=_empty)


def interval_names(edges_months: Sequence[float]) -> tuple[str, ...]:
    """Return what people call intervals of age (K) between edges (K + 1): years where all are whole years."""
    years = all(edge % 12 == 0 for edge in edges_months)
    unit, months = ("years", 12) if years else ("months", 1)
    return tuple(
        f"{lower / months:.0f} to {upper / months:.0f} {unit}" for lower, upper in pairwise(edges_months)
    )


@dataclass(frozen=True, slots=True)
class AgeDistribution:
    """How probable it is that the bone age lies in each of some intervals that follow each other.

    Args:
        edges_months: (K + 1) ascending; interval k is above `edges_months[k]`, up to `edges_months[k + 1]`.
        probabilities: (K), in the intervals' order.

    Raises:
        ConfigError: the edges do not ascend, or there is not one probability between each two of them.
    """

    edges_months: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that edges and probabilities belong together."""
        if not self.probabilities or len(self.edges_months) != len(self.probabilities) + 1:
            raise ConfigError(
                f"{len(self.probabilities)} intervals need a probability each and one edge more than that, "
                f"not {len(self.edges_months)} edges: give those of one classifier"
            )
        if any(lower >= upper for lower, upper in pairwise(self.edges_months)):
            raise ConfigError(f"edges of age intervals must ascend, not {self.edges_months}: sort them")

    @property
    def intervals_months(self) -> tuple[tuple[float, float], ...]:
        """The intervals' lower and upper edges."""
        return tuple(pairwise(self.edges_months))

    @property
    def most_probable(self) -> int:
        """The place of the most probable interval."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    def names(self) -> tuple[str, ...]:
        """Return what people call the intervals: in years where all edges are whole years, else in months."""
        return interval_names(self.edges_months)


@dataclass(frozen=True, slots=True, eq=False)
class MeanRadius:
    """The mean view of many children's radii of one grade or sub-grade.

    Args:
        grade: of CHN; 5.5 is the sub-grade between 5 and 6.
        name: the grade as people write it, `5` or `5_5`.
        image: (S, S) uint8, bone bright.
        count: radii in it.
    """

    grade: float
    name: str
    image: NDArray[np.uint8]
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class RadiusSubgrade:
    """The radius' grade of CHN, told more finely where it lies between two whole ones.

    Args:
        grade: the whole grade, from the bones' grader.
        subgrade: 5.5 where the radius lies between 5 and 6; else the whole grade.
        name: the sub-grade as people write it, `5_5` or `5`.
        score: the sub-grade's, in the table of the child's sex.
        position: pair of grades, as `5-6` -> how far on the way from the mean of the lower one (0) to that
            of the higher one (1) the radius lies; of the pairs that have the whole grade.
        view: (S, S) in [0, 1], what the sub-grade was told from; None where there is no such view.
        means: mean views of the grades and sub-grades beside it, ascending; they are framed as `view` is.
    """

    grade: int
    subgrade: float
    name: str
    score: float
    position: Mapping[str, float] = field(default_factory=_empty)
    view: FloatArray | None = None
    means: tuple[MeanRadius, ...] = ()

    @property
    def between(self) -> tuple[int, int] | None:
        """The whole grades that the radius lies between, None where it has a whole one."""
        lower = math.floor(self.subgrade)
        return None if lower == self.subgrade else (lower, lower + 1)


PERCENTILES = (5, 25, 50, 75, 95)
"""Per cent of a group's bone ages that are told, in their order."""


@dataclass(frozen=True, slots=True)
class HandGroup:
    """Training hands that look alike, grouped without a label, and the bone ages they turned out to have.

    Where too few of them have a known bone age to tell averages of, the means are None and the rest is empty.

    Args:
        number: from 1 within its sex, in order of maturity.
        count: how many groups the sex has.
        sex: whose group it is; None where girls and boys share the groups.
        hands: training hands of known bone age in it.
        mean_months: their mean.
        sd_months: their standard deviation.
        percentiles_months: those of `PERCENTILES`.
        edges_months: (K + 1) of the age classes, ascending.
        classes: (K) how many of the hands are in each class.
    """

    number: int
    count: int
    sex: Sex | None
    hands: int
    mean_months: float | None = None
    sd_months: float | None = None
    percentiles_months: tuple[float, ...] = ()
    edges_months: tuple[float, ...] = ()
    classes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TypicalAge:
    """The bone ages of the training hands of a hand's own sex that are nearest to it in maturity.

    Args:
        mean_months: their mean.
        sd_months: their standard deviation.
        hands: how many they are.
    """

    mean_months: float
    sd_months: float
    hands: int


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Which training hands a hand is like, by what its regions look like; it explains an age, changes none.

    It holds averages and counts over many hands.

    Args:
        group: the hand's own; None where it is in none.
        typical: at its place on the label-free coordinate of maturity; None where too few hands are known.
        regions: numbers of the key regions that it was told from.
        masked: numbers of those that could not be read.
    """

    group: HandGroup | None
    typical: TypicalAge | None
    regions: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadSheet:
    """A standard's score sheet with the grades that a reader gave in place of the network's.

    Args:
        standard: its name, as `rus_chn`.
        edition: what it is called in print.
        changed: bone -> the reader's grade, where it differs from the network's or the network gave none.
        grades: bone -> grade, the network's where the reader let it stand; a TW3 stage by its place from A.
        scores: bone -> its score.
        total: sum of the scores; None where a bone has no grade.
        age_months: the bone age at that total, likewise.
        sd_score: how many standard deviations that age lies above the chronological one, where that is known.
    """

    standard: str
    edition: str
    changed: Mapping[str, float]
    grades: Mapping[str, float]
    scores: Mapping[str, float]
    total: float | None
    age_months: float | None
    sd_score: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """The product's answer for one radiograph; every report is a pure function of it.

    Args:
        bone_age_months: the answer: the methods' ages combined, where all that the bundle joins gave one.
        interval_months: that holds the reference reading with probability `coverage`.
        ages: method -> its own bone age in months.
        regions: the graded bones.
        scores: standard -> `total`, `age_months` and what belongs to them (`recipes.graded_regions.grades`).
        growth: `sd_score` and `adult_heights`, where age and measurements allow them (`inference.growth`).
        distribution: by the bundle's interval classifier, where it has one.
        radius_subgrade: where it was asked for, and the radius has a grade.
        neighbours: where they were asked for, and a region could be read.
        reading: score sheets on which a reader changed grades; they leave the machine's answer as it is.
    """

    path: str
    sex: Sex
    bone_age_months: float
    interval_months: tuple[float, float]
    coverage: float
    ages: Mapping[str, float]
    hand: Hand
    regions: tuple[Region, ...] = ()
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=_empty)
    growth: Mapping[str, Any] = field(default_factory=_empty)
    chronological_age_months: float | None = None
    warnings: tuple[Notice, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=_empty)
    distribution: AgeDistribution | None = None
    radius_subgrade: RadiusSubgrade | None = None
    neighbours: Neighbours | None = None
    reading: tuple[ReadSheet, ...] = ()
