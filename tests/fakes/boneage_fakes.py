"""A stand-in for the assessor and the bundle: reads any image that holds what it is asked to do.

The pixels decide: the image's path names the behaviour, so that worker processes need no shared state.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from boneage.anatomy.regions import PlacedRegion
from boneage.core.errors import BundleError, ChecksumMismatch, NotAHand, SexRequired
from boneage.core.types import (
    Affine,
    AgeDistribution,
    Assessment,
    Findings,
    FloatArray,
    Hand,
    Notice,
    Radiograph,
    Sex,
    Side,
)
from boneage.inference.growth import Measurements, growth
from boneage.recipes.graded_regions.grades import GradedHand, grade_hand
from boneage.recipes.graded_regions.prior import BONES, highest_grades


def assessment(path: str = "hand.png", sex: Sex = Sex.FEMALE, **changes: Any) -> Assessment:
    """Return an assessment of a 60 x 40 image."""
    hand = Hand(
        box_px=(4.0, 5.0, 36.0, 55.0),
        to_upright=Affine.identity(),
        upright_box=(-0.5, -1.0, 0.5, 0.2),
        side=Side.LEFT,
        outline_px=np.array([[4, 5], [36, 5], [36, 55], [4, 55]], dtype=np.float32),
        keypoints_px={"wrist": (20.0, 50.0)},
        confidence=0.9,
        method="fast",
    )
    values: dict[str, Any] = {
        "path": path,
        "sex": sex,
        "bone_age_months": 124.25,
        "interval_months": (110.5, 138.0),
        "coverage": 0.9,
        "ages": {"hand_regression": 124.25},
        "hand": hand,
        "provenance": {"bundle": {"name": "fake", "version": "0"}, "runtime": "none"},
    }
    return Assessment(**{**values, **changes})


def placed_regions() -> tuple[PlacedRegion, ...]:
    """Return a region for every bone, in a grid on a 60 x 40 image."""
    boxes = [(2.0 + 12 * (at % 3), 2.0 + 11 * (at // 3)) for at in range(len(BONES))]
    return tuple(
        PlacedRegion(str(bone), (x, y, x + 8, y + 7), Affine.identity(), 1.0)
        for bone, (x, y) in zip(BONES, boxes, strict=True)
    )


def peaked(grades: Sequence[int], sureness: float = 0.8) -> np.ndarray:
    """Return probabilities (15, K + 1): the grade has `sureness`, the one below it (or above 0) the rest."""
    rows = np.zeros((len(BONES), int(highest_grades().max()) + 1))
    for row, grade in zip(rows, grades, strict=True):
        row[grade] = sureness
        row[grade - 1 if grade else 1] = 1 - sureness
    return rows


def graded_hand(sex: Sex, missing: Sequence[str] = (), grades: Sequence[int] = (6,) * 15) -> GradedHand:
    """Return a hand graded by `peaked` probabilities; bones may be missing."""
    regions = placed_regions()
    kept = [at for at, region in enumerate(regions) if region.name not in missing]
    return grade_hand(regions, [regions[at] for at in kept], peaked(grades)[kept], sex)


def graded_assessment(
    path: str = "hand.png",
    sex: Sex = Sex.FEMALE,
    missing: Sequence[str] = (),
    age_months: float | None = None,
    measured: Measurements | None = None,
    **changes: Any,
) -> Assessment:
    """Return an assessment of 124.25 months with grades, scores and growth."""
    hand = graded_hand(sex, missing)
    ages = {"hand_regression": 124.25}
    ages |= {name: score["expected_age_months"] for name, score in hand.scores.items()}
    values: dict[str, Any] = {
        "ages": ages,
        "regions": hand.regions,
        "scores": hand.scores,
        "growth": growth(sex, 124.25, ages.get("tw3"), age_months, measured or Measurements()),
        "chronological_age_months": age_months,
        "warnings": hand.warnings,
    }
    return assessment(path, sex, **{**values, **changes})


DISTRIBUTION = AgeDistribution(
    (0.0, 96.0, 108.0, 120.0, 132.0, 144.0, 228.0), (0.01, 0.03, 0.62, 0.25, 0.07, 0.02)
)
"""Most probably 9 to 10 years."""


class FakeIntervals:
    """A classifier of age intervals whose graph sees the sex alone."""

    name = graph = "age_intervals"
    needs_sex = True

    def __init__(self, edges_months: Sequence[float]) -> None:
        self.edges_months = edges_months

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> FakeIntervals:
        """Build the method from its part of a bundle's manifest."""
        return cls(settings["intervals"]["edges_months"])

    def prepare(self, radiograph: Radiograph, hand: Hand | None, sex: Sex) -> dict[str, np.ndarray]:
        """Return `sex` (1, 1)."""
        return {"sex": np.full((1, 1), float(sex is Sex.MALE), np.float32)}

    def decode(self, outputs: Mapping[str, np.ndarray], sex: Sex) -> Findings:
        """Return the age and the probabilities as the graph gives them."""
        probabilities = np.exp(outputs["log_probabilities"][0])
        details = {"edges_months": self.edges_months, "probabilities": probabilities}
        return Findings(self.name, float(outputs["age_months"][0, 0]), 9.0, details)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose folder's name says what is wrong with it."""

    path: Path = Path("fake")
    manifest: Mapping[str, Any] = field(default_factory=lambda: {"name": "fake", "version": "0"})

    @classmethod
    def load(cls, path: Path | None = None) -> Bundle:
        """Return a bundle, or raise what the path's name asks for."""
        if path is not None and path.name == "tampered":
            raise ChecksumMismatch(f"{path}: expected another checksum of net.onnx: install the bundle again")
        if path is not None and not path.exists():
            raise BundleError(f"{path}: no such bundle: name a folder that holds one")
        return cls() if path is None else cls(path, {"name": path.name})


class Assessor:
    """Answers by the image's name; `age<number>` is its bone age."""

    def __init__(self, bundle: Bundle, **options: object) -> None:
        self.bundle = bundle
        self.options = options

    def assess(
        self,
        source: str | Path | Radiograph,
        *,
        sex: Sex | None = None,
        chronological_age_months: float | None = None,
        measured: Measurements | None = None,
    ) -> Assessment:
        """Return an assessment, or fail as the image's name asks for."""
        path = source.path if isinstance(source, Radiograph) else str(source)
        name = Path(path).stem
        if "kill" in name:
            os._exit(9)
        if "bug" in name:
            raise ValueError("a shape that nobody\nforesaw")
        if "nan" in name:
            return assessment(path, sex or Sex.MALE, bone_age_months=float("nan"))
        if "foot" in name:
            raise NotAHand(f"{path}: expected one hand, found none: send a radiograph of one hand")
        if sex is None:
            raise SexRequired(
                "the sex is needed and the file does not hold it: give --sex female or --sex male"
            )
        if "slow" in name:
            time.sleep(0.05)
        if "graded" in name:
            missing = ("radius",) if "part" in name else ()
            return graded_assessment(path, sex, missing, chronological_age_months, measured)
        warnings = (Notice("dark", "the image is dark"),) if "dark" in name else ()
        classified = "classified" in name
        age = float("".join(filter(str.isdigit, name)) or 100)
        return assessment(
            path,
            sex,
            bone_age_months=age,
            interval_months=(age - 12, age + 12),
            ages={"hand_regression": age, **({"age_intervals": age + 2} if classified else {})},
            distribution=DISTRIBUTION if classified else None,
            warnings=warnings,
            chronological_age_months=chronological_age_months,
        )

    def saliency(self, radiograph: Radiograph, _: Assessment) -> FloatArray:
        """Return a map of the radiograph's shape."""
        return np.linspace(0, 1, radiograph.pixels.size, dtype=np.float32).reshape(radiograph.shape)


@dataclass(frozen=True)
class FakeReader:
    """A batch's reader; `log` is a file to which every reading is appended."""

    log: Path
    tag: str = "fake"

    def load(self) -> _Logging:
        """Return an assessor, or fail as the tag asks for."""
        if self.tag == "tampered":
            raise ChecksumMismatch("expected another checksum of net.onnx: install the bundle again")
        if self.tag == "stillborn":
            os._exit(7)
        return _Logging(self.log)

    def fingerprint(self) -> str:
        """Return the tag."""
        return self.tag


class _Logging(Assessor):
    def __init__(self, log: Path) -> None:
        super().__init__(Bundle())
        self.log = log

    def assess(self, source: str | Path | Radiograph, **options: Any) -> Assessment:
        with self.log.open("a") as file:
            file.write(f"{Path(str(source)).name}\n")
        return super().assess(source, **options)
