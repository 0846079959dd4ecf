"""The hand's 21 key points and the epiphyses of the forearm: names, decoding, anatomical order checks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import FloatArray

FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
NAMES = ("wrist", *(f"{finger}{joint}" for finger in FINGERS for joint in (1, 2, 3, 4)))
"""Wrist, then every finger from its base to its tip."""

EPIPHYSES = ("radius", "ulna")
"""The forearm's growth plates, whose regions' centres the finder gives besides the key points."""

WRIST = NAMES.index("wrist")
KNUCKLE = NAMES.index("middle_finger1")
TIPS = tuple(NAMES.index(f"{finger}4") for finger in FINGERS)

_EPIPHYSIS_ROWS = (-0.15, 0.5)
"""How far below the wrist an epiphysis' centre may lie, upright: labelled ones are at 0.02 to 0.26."""

_EPIPHYSIS_ASIDE = 0.6
_EPIPHYSIS_GAP = (0.08, 0.6)
"""How far the radius may lie on the thumb's side of the ulna, upright: labelled ones do by 0.21 to 0.39."""

_WINDOW = 2  # cells either side of a peak that its centroid is taken over


def decode_heatmaps(heatmaps: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find each key point as the centroid around its heat map's peak.

    Args:
        heatmaps: (N, h, w) probabilities.

    Returns:
        Points (N, 2) as (x, y) in heat-map cells (cell centres at integers), and confidences (N,).
    """
    count, _, width = heatmaps.shape
    peaks = heatmaps.reshape(count, -1).argmax(axis=1)
    rows, columns = np.divmod(peaks, width)
    points = np.empty((count, 2))
    for index, (row, column) in enumerate(zip(rows, columns, strict=True)):
        top, left = max(row - _WINDOW, 0), max(column - _WINDOW, 0)
        window = heatmaps[index, top : row + _WINDOW + 1, left : column + _WINDOW + 1].astype(np.float64)
        y, x = np.mgrid[: window.shape[0], : window.shape[1]]
        weight = window.sum() + 1e-9
        points[index] = left + (window * x).sum() / weight, top + (window * y).sum() / weight
    return points, heatmaps.reshape(count, -1).max(axis=1).astype(np.float64)


def in_anatomical_order(upright: NDArray[np.float64]) -> bool:
    """Tell whether points (21, 2) of an upright, thumb-right hand lie as a hand's do.

    Every finger's four joints must follow each other away from the wrist, and the four knuckles and
    fingertips must run from little finger to forefinger.
    """
    reach = np.linalg.norm(upright - upright[WRIST], axis=1)
    fingers = [[NAMES.index(f"{finger}{joint}") for joint in (1, 2, 3, 4)] for finger in FINGERS]
    outward = all(np.all(np.diff(reach[finger]) > -0.05) for finger in fingers[1:])
    bases = [upright[finger[0], 0] for finger in fingers[1:]]
    thumb_outside = upright[fingers[0][1], 0] > upright[fingers[2][0], 0]
    return bool(outward and thumb_outside and np.all(np.diff(bases) < 0))


def epiphyses_in_order(upright: Mapping[str, NDArray[np.float64]]) -> bool:
    """Tell whether epiphyses, name -> point (2,) in the upright frame, lie where a forearm's do.

    Each must lie about the wrist's height or below it, and the radius on the thumb's side of the ulna.
    """
    low, high = _EPIPHYSIS_ROWS
    near = all(low < y < high and abs(x) < _EPIPHYSIS_ASIDE for x, y in upright.values())
    if len(upright) < len(EPIPHYSES):
        return near
    gap = upright["radius"][0] - upright["ulna"][0]
    return bool(near and _EPIPHYSIS_GAP[0] < gap < _EPIPHYSIS_GAP[1])
