"""A second, upright look at a hand that was found: what is measured of it, whatever its pose on the film.

The finder sees the hand once more turned upright, the thumb on its right and filling the view. What it
says then no longer depends on how the film was laid, so that one limit holds for every pose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import EPIPHYSES, NAMES, decode_heatmaps
from boneage.anatomy.localise import FINDER_SIZE, FINDER_STRIDE, upright_frame
from boneage.core.protocols import Runner
from boneage.core.types import Affine, FloatArray, Hand, Radiograph
from boneage.imaging.geometry import warp

VIEW_FACTOR = 1.25
"""Side of the view, in the longer side of the hand's upright box."""

RIVAL_CELLS = 5.0
"""How far from a key point, in heat-map cells, a second peak is another hand's and not its own slope."""

PICTURE_SHAPE = (64, 48)
PICTURE = Affine(np.array([[24.0, 0.0, 23.5], [0.0, 24.0, 51.1]]))
"""Upright frame -> picture: from 2.15 above the wrist to half below it, one to either side."""


@dataclass(frozen=True, slots=True, eq=False)
class CloseUp:
    """What the upright look at one hand shows.

    Args:
        confidences: (21,) peaks of the key points' heat maps.
        rivals: (21,) highest value of each of those maps away from its peak.
        upright: (21, 2) key points in the upright frame.
        clearance: (21,) their distance from the film's nearest edge, in wrist-to-knuckle lengths.
        picture: (64, 48) the hand, contrast stretched; 0 beyond the film.
        epiphyses: radius and ulna -> peak of their heat maps, where the finder has such maps.
    """

    confidences: NDArray[np.float64]
    rivals: NDArray[np.float64]
    upright: NDArray[np.float64]
    clearance: NDArray[np.float64]
    picture: FloatArray
    epiphyses: Mapping[str, float]


def look(radiograph: Radiograph, hand: Hand, finder: Runner) -> CloseUp:
    """Look at a found hand again, upright and close.

    Args:
        radiograph: the image.
        hand: the hand found in it.
        finder: runs the finder's graph: `image` (1, 1, 192, 192) -> `maps` (1, C, 48, 48): the key
            points', then perhaps the epiphyses', and the mask.

    Raises:
        NotAHand: seen upright, wrist and knuckle fall on one point.
    """
    to_view = _to_view(hand)
    view = _stretched(radiograph, to_view)
    everything = finder({"image": view[None, None]})["maps"][0]
    maps, others = everything[: len(NAMES)], everything[len(NAMES) : -1]
    cells, confidences = decode_heatmaps(maps)
    in_view = (cells + 0.5) * FINDER_STRIDE - 0.5
    source = to_view.inverse()(in_view)
    to_upright, _ = upright_frame(source)
    unit = 1 / float(np.sqrt(abs(np.linalg.det(to_upright.matrix[:, :2]))))
    height, width = radiograph.shape
    edges = np.column_stack([source + 0.5, [width - 0.5, height - 0.5] - source])
    view_to_upright = to_view.inverse().then(to_upright)
    return CloseUp(
        confidences=confidences,
        rivals=_rivals(maps, cells),
        upright=to_upright(source),
        clearance=edges.min(axis=1) / unit,
        picture=warp(view, view_to_upright.then(PICTURE), PICTURE_SHAPE, "constant"),
        epiphyses={name: float(one.max()) for name, one in zip(EPIPHYSES, others, strict=False)},
    )


def _to_view(hand: Hand) -> Affine:
    x0, y0, x1, y1 = hand.upright_box
    scale = FINDER_SIZE / (VIEW_FACTOR * max(x1 - x0, y1 - y0))
    middle = np.full(2, (FINDER_SIZE - 1) / 2)
    shift = middle - scale * np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return hand.to_upright.then(Affine(np.column_stack([np.eye(2) * scale, shift])))


def _stretched(radiograph: Radiograph, to_view: Affine) -> FloatArray:
    """Return the view, its contrast stretched over what lies on the film, 0 beyond it."""
    shape = (FINDER_SIZE, FINDER_SIZE)
    view = warp(radiograph.pixels, to_view, shape, "constant")
    film = cv2.warpAffine(np.ones(radiograph.shape, np.uint8), to_view.matrix, shape, flags=cv2.INTER_NEAREST)
    low, high = (float(value) for value in np.percentile(view[film > 0], [1.0, 99.5]))
    stretched = np.clip((view - low) / max(high - low, 1e-6), 0.0, 1.0) * film
    return np.asarray(stretched, np.float32)


def _rivals(maps: FloatArray, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: maps.shape[1], : maps.shape[2]]
    far = np.hypot(columns - cells[:, 0, None, None], rows - cells[:, 1, None, None]) > RIVAL_CELLS
    return np.asarray((maps * far).max(axis=(1, 2)), np.float64)
