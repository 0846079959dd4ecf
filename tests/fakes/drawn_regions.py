"""Drawn key regions that mature: growth plates that close under ends that widen, centres of ossification.

A film shows all 19 of them around a hand whose place is known, so that nothing has to be located. Contrast,
brightness, a slope of light, noise and small shifts say nothing about maturity.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.regions import KEY_REGIONS, key_regions
from boneage.core.types import Affine, FloatArray, Hand, Radiograph, Sex
from boneage.data.phantom import JOINTS
from boneage.recipes.region_clusters.crops import INDEX, PATCH_SIDE
from boneage.training.run import write_table

YOUNGEST, OLDEST = 24.0, 216.0
"""Months between which a region's look changes."""

CARPALS = ("16", "19")
SHAPE = (310, 260)
"""Height and width of a film, pixels."""

_UNIT = 130.0
"""Pixels from the wrist to the middle finger's knuckle."""

_WRIST = (118.0, 258.0)
_CENTRES = (
    (0.50, 0.42, 0.0),
    (0.36, 0.40, 0.05),
    (0.38, 0.60, 0.2),
    (0.54, 0.64, 0.3),
    (0.66, 0.50, 0.4),
    (0.62, 0.34, 0.5),
    (0.28, 0.54, 0.65),
)
"""Of the carpals: across, down, and the maturity at which each begins to ossify."""

Pixels = NDArray[np.uint8]


def maturity(age_months: float, sex: Sex | None = None) -> float:
    """From 0 to 1; girls are a year ahead."""
    ahead = 12.0 if sex is Sex.FEMALE else 0.0
    return float(np.clip((age_months + ahead - YOUNGEST) / (OLDEST - YOUNGEST), 0, 1))


def draw(region: str, level: float, seed: int, side: int = 128, shift: float = 0.02) -> FloatArray:
    """A region (side, side) in [0, 1] at a maturity of 0 to 1; it moves by `shift` of its side at most."""
    rng = np.random.default_rng([seed, int(region)])
    image = np.zeros((side, side), np.float32)
    dx, dy = rng.uniform(-shift, shift, 2)

    def box(x0: float, y0: float, x1: float, y1: float, grey: float) -> None:
        (a, b), (c, d) = ((round((x + dx) * side), round((y + dy) * side)) for x, y in ((x0, y0), (x1, y1)))
        cv2.rectangle(image, (a, b), (c, d), grey, -1)

    if region in CARPALS:
        for x, y, begins in _CENTRES:
            if (radius := 0.15 * min(1.0, 1.6 * (level - begins) + 0.25)) > 0.03 and level >= begins:
                cv2.circle(
                    image, (round((x + dx) * side), round((y + dy) * side)), round(radius * side), 0.8, -1
                )
    else:
        half, gap = 0.09 + 0.17 * level, 0.09 * (1 - level)
        box(0.32, -0.5, 0.68, 0.20, 0.75)
        box(0.32, 0.60, 0.68, 1.5, 0.75)
        box(0.5 - half, 0.60 - gap - 0.22, 0.5 + half, 0.60 - gap, 0.9)
    image = cv2.GaussianBlur(image, (0, 0), side / 90)
    across = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    light = 0.2 + rng.uniform(-0.05, 0.05) + rng.uniform(-0.06, 0.06) * across
    noise = rng.normal(0, 0.015, image.shape)
    return np.clip(light + rng.uniform(0.45, 0.7) * image + noise, 0, 1).astype(np.float32)


def patch(region: str, level: float, seed: int, shift: float = 0.02) -> Pixels:
    """A patch (P, P), as `crops` keeps them: its view in the middle, and some more around it."""
    return np.round(255 * draw(region, level, seed, PATCH_SIDE, shift)).astype(np.uint8)


def patches(region: str, levels: Iterable[float], seed: int = 0, shift: float = 0.02) -> Pixels:
    """A patch a maturity, (N, P, P)."""
    return np.stack([patch(region, level, seed + at, shift) for at, level in enumerate(levels)])


def hand(shift_px: tuple[float, float] = (0.0, 0.0)) -> Hand:
    """Where the hand lies on every film that is drawn, unless it is shifted."""
    x, y = _WRIST[0] + shift_px[0], _WRIST[1] + shift_px[1]
    to_upright = Affine(np.array([[1 / _UNIT, 0, -x / _UNIT], [0, 1 / _UNIT, -y / _UNIT]]))
    to_film = to_upright.inverse()
    points = {name: tuple(map(float, to_film(np.array(place)))) for name, place in JOINTS.items()}
    return Hand(
        (0.0, 0.0, float(SHAPE[1]), float(SHAPE[0])),
        to_upright,
        (-1.0, -2.2, 1.0, 0.5),
        None,
        np.zeros((4, 2), np.float32),
        points,  # type: ignore[arg-type]
        1.0,
        "fast",
    )


def draw_film(level: float, seed: int, shape: tuple[int, int] = SHAPE) -> Pixels:
    """A radiograph (H, W) of all regions of one maturity; a lower shape cuts the wrist off."""
    film = np.full(SHAPE, 0.2, np.float32)
    # The carpals first: other regions lie over their surroundings; 19 is a part of 16.
    for region in sorted(key_regions(hand(), SHAPE), key=lambda one: one.name != "16"):
        if region.name == "19":
            continue
        drawn = draw(region.name, level, seed, side := 48)
        to_film = region.to_view.then(Affine(np.array([[side, 0, -0.5], [0, side, -0.5]]))).inverse()
        cv2.warpAffine(drawn, to_film.matrix, SHAPE[::-1], film, borderMode=cv2.BORDER_TRANSPARENT)
    return np.round(255 * film[: shape[0], : shape[1]]).astype(np.uint8)


@dataclass(frozen=True)
class Child:
    """A hand of a manifest; age and sex are None where they are not told."""

    name: str
    level: float
    age_months: float | None
    sex: Sex | None


def children(count: int, seed: int = 0) -> list[Child]:
    """Girls and boys in turn, of ages that are spread evenly; the last digit of a name says nothing."""
    rng = np.random.default_rng(seed)
    ages = rng.permutation(np.linspace(YOUNGEST, OLDEST - 1, count)).round(1)
    sexes = [list(Sex)[at % 2] for at in range(count)]
    return [
        Child(f"h{at:03d}", maturity(age, sex), float(age), sex)
        for at, (age, sex) in enumerate(zip(ages, sexes, strict=True))
    ]


def write_manifest(folder: Path, those: Sequence[Child]) -> Path:
    """A manifest whose images need not be there."""
    rows = [
        (
            child.name,
            f"{child.name}.png",
            child.sex or "",
            "" if child.age_months is None else child.age_months,
        )
        for child in those
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "path", "sex", "bone_age_months"), *rows])
    return folder / "manifest.csv"


def write_films(folder: Path, those: Sequence[Child], cut_off: Sequence[int] = ()) -> Path:
    """Draw everybody's film, without the wrist of those at `cut_off`; return their manifest."""
    data = write_manifest(folder, those)
    for at, child in enumerate(those):
        shape = (round(_WRIST[1]) - 8, SHAPE[1]) if at in cut_off else SHAPE
        assert cv2.imwrite(str(folder / f"{child.name}.png"), draw_film(child.level, at, shape))
    return data


def write_regions(
    folder: Path, those: Sequence[Child], masked: Mapping[str, Sequence[int]] | None = None
) -> Path:
    """Write every region's patches as `crops.read_regions` does; `masked` are places that do not show one."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = masked or {}
    for region in KEY_REGIONS:
        drawn = patches(region, [child.level for child in those])
        drawn[list(missing.get(region, ()))] = 0
        np.save(folder / f"{region}.npy", drawn)
    lines = [
        [child.name, *(int(at not in missing.get(region, ())) for region in KEY_REGIONS)]
        for at, child in enumerate(those)
    ]
    write_table(folder / INDEX, ["id", *KEY_REGIONS], lines)
    return folder


def locator(calls: list[str] | None = None) -> Callable[[Radiograph], Hand]:
    """Finds the drawn hand, and notes whose it was."""

    def locate(radiograph: Radiograph) -> Hand:
        if calls is not None:
            calls.append(Path(radiograph.path).stem)
        return hand()

    return locate


def assert_is(found: FloatArray, drawn: FloatArray, least: float) -> None:
    """Two images of a size look alike but for contrast and brightness."""
    assert found.shape == drawn.shape
    assert np.corrcoef(found.ravel(), drawn.ravel())[0, 1] > least
