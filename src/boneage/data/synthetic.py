"""Draw radiographs of hands whose every joint is known, for tests and the demonstration.

A drawn hand is a drawing, not a patient: 'DRAWN' stands in its pixels, and its radiograph carries
a warning and a provenance that say so. Nothing about accuracy can be learnt from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Affine, Box, FloatArray, Notice, Point, Radiograph, Sex, Side
from boneage.data.film import LABEL, Film, View, expose, paint, pose
from boneage.data.manifest import Row, write_manifest
from boneage.data.phantom import foot_anatomy, hand_anatomy

__all__ = [
    "LABEL",
    "DrawnHand",
    "View",
    "draw_cut_off_hand",
    "draw_foot",
    "draw_hand",
    "draw_two_hands",
    "save_drawings",
]

_BOX_BOTTOM = 0.16  # below the growth plates of radius and ulna, in wrist-to-knuckle lengths


@dataclass(frozen=True, slots=True, eq=False)
class DrawnHand:
    """A drawing and the truth about it.

    Args:
        pixels: (H, W) float32 in [0, 1], bone bright.
        keypoints_px: 21 names -> points (empty where no single hand is drawn).
        box_px: from the fingertips to the growth plates of radius and ulna, with a margin.
        mask: (H, W) bool, the soft tissue with the forearm.
        age_months: the bone age that was drawn.
        sex: the sex that was drawn.
        side: which hand (None where no single hand is drawn).
        to_upright: pixels -> the upright frame of `Hand`.
        label: what is burned into the pixels.
    """

    pixels: FloatArray
    keypoints_px: Mapping[str, Point]
    box_px: Box
    mask: NDArray[np.bool_]
    age_months: float
    sex: Sex
    side: Side | None
    to_upright: Affine
    label: str = LABEL

    @property
    def radiograph(self) -> Radiograph:
        """The drawing as a radiograph that says that it is one."""
        return Radiograph(
            self.pixels,
            path=f"drawn-{self.age_months:g}-months-{self.sex}",
            side=self.side,
            sex=self.sex,
            provenance=MappingProxyType({"pixels": "drawn by boneage.data.synthetic"}),
            warnings=(Notice("drawn_hand", "this is a drawn hand, not a patient's radiograph"),),
        )


def draw_hand(age_months: float, sex: Sex, seed: int = 0, view: View | None = None) -> DrawnHand:
    """Draw one hand of a bone age; the same arguments give the same pixels.

    Raises:
        ConfigError: the age is outside 6 to 240 months, or the film is smaller than 64 pixels.
    """
    view = _checked(age_months, view)
    rng = np.random.default_rng(seed)
    anatomy = hand_anatomy(age_months, sex, rng)
    film = Film.blank(view, rng)
    places = np.array([*anatomy.joints.values()])
    to_film = pose(places, view, film.edge, _zoom(age_months, rng))
    paint(film, anatomy, to_film)
    keypoints = {name: _point(to_film(place)) for name, place in anatomy.joints.items()}
    to_upright = to_film.inverse()
    mask = film.seen()
    box = _hand_box(mask, to_upright)
    pixels = expose(film, view, view.side)
    return DrawnHand(pixels, keypoints, box, mask, age_months, sex, view.side, to_upright)


def draw_cut_off_hand(
    age_months: float, sex: Sex, seed: int = 0, share: float = 0.4, view: View | None = None
) -> DrawnHand:
    """Draw a hand whose fingers lie partly beyond the film's edge, by `share` of the hand's length."""
    return draw_hand(age_months, sex, seed, replace(view or View(), cut_off=share))


def draw_foot(
    age_months: float = 120.0, sex: Sex = Sex.FEMALE, seed: int = 0, view: View | None = None
) -> DrawnHand:
    """Draw a foot from above, which every reader of hands must refuse."""
    view = _checked(age_months, view)
    rng = np.random.default_rng(seed)
    anatomy = foot_anatomy(age_months, rng)
    film = Film.blank(view, rng)
    extent = np.array([(-0.45, -1.6), (0.45, -1.6)])
    to_film = pose(extent, replace(view, forearm=0.85), film.edge, 0.92)
    paint(film, anatomy, to_film)
    mask = film.seen()
    return DrawnHand(
        expose(film, view, view.side), {}, _extent(mask), mask, age_months, sex, None, to_film.inverse()
    )


def draw_two_hands(age_months: float, sex: Sex, seed: int = 0, view: View | None = None) -> DrawnHand:
    """Draw both hands on one film (left hand on the left), which a reader of one hand must refuse."""
    view = _checked(age_months, view or View(shape=(700, 1000)))
    rng = np.random.default_rng(seed)
    film = Film.blank(view, rng)
    height, width = view.shape
    anatomy = hand_anatomy(age_months, sex, rng)
    places = np.array([*anatomy.joints.values()])
    to_film = Affine.identity()
    for side, left in ((Side.LEFT, 0), (Side.RIGHT, width // 2)):
        half = replace(view, shape=(height, width // 2), side=side)
        shift = Affine(np.array([[1.0, 0.0, left], [0.0, 1.0, 0.0]]))
        to_film = pose(places, half, film.edge, _zoom(age_months, rng)).then(shift)
        paint(film, anatomy, to_film)
    mask = film.seen()
    pixels = expose(film, view, None)
    return DrawnHand(pixels, {}, _extent(mask), mask, age_months, sex, None, to_film.inverse())


def save_drawings(folder: Path, hands: Iterable[DrawnHand]) -> Path:
    """Write 8-bit PNG files and their manifest into `folder`; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, hand in enumerate(hands):
        name = f"drawn-{number:03d}"
        path = folder / f"{name}.png"
        _, encoded = cv2.imencode(".png", np.round(hand.pixels * 255.0).astype(np.uint8))
        path.write_bytes(encoded.tobytes())
        rows.append(Row(name, path, hand.sex, hand.age_months))
    manifest = folder / "manifest.csv"
    write_manifest(manifest, rows)
    return manifest


def _checked(age_months: float, view: View | None) -> View:
    view = view or View()
    if not 6.0 <= age_months <= 240.0:
        raise ConfigError(
            f"a hand can be drawn from 6 to 240 months, not {age_months:g}: choose an age between"
        )
    if min(view.shape) < 64:
        raise ConfigError(
            f"a drawing needs at least 64 pixels a side, not {view.shape}: choose a larger shape"
        )
    return view


def _zoom(age_months: float, rng: np.random.Generator) -> float:
    """Return how much of the film the hand fills: small children's hands are small on their films."""
    return float(np.interp(age_months, [12.0, 96.0, 192.0], [0.74, 0.9, 1.0]) * rng.uniform(0.95, 1.0))


def _point(place: NDArray[np.float64]) -> Point:
    return float(place[0]), float(place[1])


def _hand_box(mask: NDArray[np.bool_], to_upright: Affine) -> Box:
    """Return the box of the flesh above the growth plates of the forearm."""
    height, width = mask.shape
    (_, _, _), (a, b, c) = to_upright.matrix
    down = a * np.arange(width) + b * np.arange(height)[:, None] + c
    return _extent(mask & (down < _BOX_BOTTOM))


def _extent(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
