"""Labels of the finder: what people marked, and what the landmark model or the net itself guesses.

Points are (23, 2): the key points, then the epiphyses of radius and ulna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import (
    EPIPHYSES,
    NAMES,
    decode_heatmaps,
    epiphyses_in_order,
    in_anatomical_order,
)
from boneage.anatomy.localise import FINDER_SIZE, FINDER_STRIDE, upright_frame
from boneage.core.errors import ConfigError
from boneage.core.types import Affine, FloatArray
from boneage.data.manifest import read_table
from boneage.recipes.hand_localisation.config import LabelConfig
from boneage.recipes.hand_localisation.samples import JOINTS, POINTS, LabelledHand

Points = NDArray[np.float64]

SURE_HAND = 0.7
"""Median confidence from which the net's own key points of a hand are labels."""

SURE_POINT = 0.3
"""Confidence from which a single point of such a hand is a label."""


@dataclass(frozen=True, eq=False)
class People:
    """What people marked, in source pixels: id -> key points (21, 2), and id -> epiphyses (2, 2)."""

    keypoints: Mapping[str, Points]
    epiphyses: Mapping[str, Points]

    @property
    def ids(self) -> set[str]:
        """Every image that people marked something in."""
        return {*self.keypoints, *self.epiphyses}

    def without(self, ids: set[str]) -> People:
        """Return what they marked in other images."""
        return People(
            {name: points for name, points in self.keypoints.items() if name not in ids},
            {name: points for name, points in self.epiphyses.items() if name not in ids},
        )


@dataclass(frozen=True, eq=False)
class Film:
    """A letterboxed radiograph and its mask, before its points are known.

    Args:
        id: as in the manifest.
        hand: image and mask, no point known.
        to_label: source pixels -> the letterboxed image's.
        low: (2,) first pixel centre (x, y) of the radiograph in the letterboxed image.
        high: (2,) last pixel centre.
    """

    id: str
    hand: LabelledHand
    to_label: Affine
    low: Points
    high: Points

    def seen(self, points: Points) -> Points:
        """Return points (N, 2) of the letterboxed image, NaN where they lie outside the radiograph."""
        inside = np.all((points >= self.low) & (points <= self.high), axis=1)
        return np.where(inside[:, None], points, np.nan)


def read_people(config: LabelConfig) -> People:
    """Read `labels.keypoints` and `labels.regions`; a path that is empty gives no label.

    Raises:
        ConfigError: a table is missing or lacks a column, or a coordinate is no number.
    """
    return People(_read_keypoints(config.keypoints), _read_epiphyses(config.regions))


def _read_keypoints(path: str) -> dict[str, Points]:
    records = read_table(Path(path)) if path else []
    columns = [(f"{name}_x", f"{name}_y") for name in NAMES]
    return {
        record["id"]: np.array([_numbers(path, line, record, pair) for pair in columns])
        for line, record in records
    }


def _read_epiphyses(path: str) -> dict[str, Points]:
    found: dict[str, dict[str, Points]] = {}
    for line, record in read_table(Path(path)) if path else []:
        bone = record.get("region", "").lower()
        if bone in EPIPHYSES:
            x0, y0, x1, y1 = _numbers(path, line, record, ("x0", "y0", "x1", "y1"))
            found.setdefault(record["id"], {})[bone] = np.array([x0 + x1, y0 + y1]) / 2
    missing = np.full(2, np.nan)
    return {name: np.array([bones.get(bone, missing) for bone in EPIPHYSES]) for name, bones in found.items()}


def _numbers(path: str, line: int, record: Mapping[str, str], columns: tuple[str, ...]) -> Points:
    try:
        return np.array([float(record[column]) for column in columns])
    except (KeyError, ValueError):
        raise ConfigError(f"{path}:{line}: expected numbers in {', '.join(columns)}; correct it") from None


def mean_epiphyses(people: People, keypoints: Mapping[str, Points]) -> Points:
    """Return where epiphyses (2, 2) lie on average in the upright frame.

    Args:
        people: whose epiphyses are averaged.
        keypoints: id -> (21, 2) of the same images, source pixels.

    Raises:
        ConfigError: no image has both.
    """
    upright = [
        upright_frame(keypoints[name])[0](points)
        for name, points in people.epiphyses.items()
        if name in keypoints and np.isfinite(points).all()
    ]
    if not upright:
        raise ConfigError(
            "no hand has boxes of both Radius and Ulna and key points; give them with labels.regions"
        )
    return np.asarray(np.mean(upright, axis=0))


def guess_by_landmarks(
    film: Film, keypoints: Points, epiphyses: Points | None, weight: float
) -> LabelledHand:
    """Label a film by key points (21, 2) in source pixels, and its epiphyses by the average hand's.

    Args:
        film: the image.
        keypoints: the landmark model's, or people's.
        epiphyses: (2, 2) where they lie in the upright frame; None leaves them unknown.
        weight: of every guess.
    """
    points, weights = np.full((POINTS, 2), np.nan), np.zeros(POINTS)
    points[:JOINTS], weights[:JOINTS] = film.to_label(keypoints), weight
    if epiphyses is not None:
        points[JOINTS:], weights[JOINTS:] = _usual_epiphyses(film, points[:JOINTS], epiphyses), weight
    return replace(film.hand, points=points, weights=weights)


def guess_by_net(film: Film, maps: FloatArray, epiphyses: Points, weight: float) -> LabelledHand | None:
    """Label a film by the net's own maps (24, h, w), where it is sure and the points lie as a hand's do.

    An epiphysis that the average hand has outside the image is labelled as not there; one inside of which
    the net is not sure stays unknown.
    """
    cells, confidences = decode_heatmaps(maps[:POINTS])
    points = (cells + 0.5) * FINDER_STRIDE * film.hand.image.shape[0] / FINDER_SIZE - 0.5
    joints = points[:JOINTS]
    if np.median(confidences[:JOINTS]) < SURE_HAND:
        return None
    upright, _ = upright_frame(joints)
    if not in_anatomical_order(upright(joints)):
        return None
    weights = np.where(confidences >= SURE_POINT, weight, 0.0)
    found = upright(points[JOINTS:])
    if not epiphyses_in_order(dict(zip(EPIPHYSES, found, strict=True))):
        weights[JOINTS:] = 0
    absent = np.isnan(_usual_epiphyses(film, joints, epiphyses)).any(axis=1) & (weights[JOINTS:] == 0)
    points[JOINTS:][absent], weights[JOINTS:][absent] = np.nan, weight
    return replace(film.hand, points=points, weights=weights)


def _usual_epiphyses(film: Film, joints: Points, epiphyses: Points) -> Points:
    return film.seen(upright_frame(joints)[0].inverse()(epiphyses))


def with_people(hand: LabelledHand, film: Film, people: People) -> LabelledHand:
    """Return a labelled hand with people's labels in place of guesses."""
    points, weights = hand.points.copy(), hand.weights.copy()
    if film.id in people.keypoints:
        points[:JOINTS], weights[:JOINTS] = film.to_label(people.keypoints[film.id]), 1
    if film.id in people.epiphyses:
        marked = film.to_label(people.epiphyses[film.id])
        known = np.isfinite(marked).all(axis=1)
        points[JOINTS:][known], weights[JOINTS:][known] = marked[known], 1
    return replace(hand, points=points, weights=weights)
