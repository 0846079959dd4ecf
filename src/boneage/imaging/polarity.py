"""Whether bone is bright, judged by the pixels and not by what a file says of them.

Three clues are taken from a thumbnail, each positive where bone is bright and exactly negated by
an inversion of the image:

- `fine`: at the width of a bone, bright ridges outweigh dark ones (skewness of a band-pass);
- `shape`: at the width of a hand, bright structures outweigh dark ones (the same, coarser);
- `centre`: the middle of the image is brighter than its surroundings.

A bright collimator border or a black frame may fool one of them; an image is inverted only if all
three say so by a margin, because to turn a right image is worse than to leave an inverted one with
a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from boneage.core.types import FloatArray

_THUMBNAIL = 128
_TYPICAL = {"fine": 0.23, "shape": 1.07, "centre": 0.33}
"""Medians of the clues over 1,226 bone-bright radiographs: they set the clues' common scale."""

MARGIN = 0.26
"""How far below zero every clue must lie, as a part of its typical size, for an inversion."""


class Polarity(StrEnum):
    """What the pixels say of bone."""

    BONE_BRIGHT = "bone_bright"
    UNCERTAIN = "uncertain"
    BONE_DARK = "bone_dark"


@dataclass(frozen=True, slots=True)
class Clues:
    """The three clues, each in units of its typical size over bone-bright radiographs."""

    fine: float
    shape: float
    centre: float

    @property
    def polarity(self) -> Polarity:
        """What the clues say together."""
        values = (self.fine, self.shape, self.centre)
        if max(values) < -MARGIN:
            return Polarity.BONE_DARK
        return Polarity.BONE_BRIGHT if sum(np.clip(values, -1, 1)) > 0 else Polarity.UNCERTAIN


def judge(pixels: FloatArray) -> Polarity:
    """Return whether bone is bright or dark in an image (H, W) of any range."""
    return clues(pixels).polarity


def clues(pixels: FloatArray) -> Clues:
    """Return the clues of an image (H, W) of any range; all zero for a constant image."""
    image = _normalise(pixels)
    quarter = _resize(image, _THUMBNAIL // 4)
    return Clues(
        fine=_skewness(image, 1.5) / _TYPICAL["fine"],
        shape=_skewness(quarter, 3.0) / _TYPICAL["shape"],
        centre=_centre(quarter) / _TYPICAL["centre"],
    )


def _normalise(pixels: FloatArray) -> FloatArray:
    """Return a thumbnail without its plain frame, 128 px along the longer side, robustly in [0, 1]."""
    image = _resize(pixels)
    low, high = np.percentile(image[::2, ::2], [1, 99])
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    trimmed = _trim(image)
    return _resize(trimmed) if min(trimmed.shape) >= 32 else image


def _resize(image: FloatArray, side: int = _THUMBNAIL) -> FloatArray:
    scale = side / max(image.shape)
    height, width = (max(8, round(length * scale)) for length in image.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), dtype=np.float32)


def _trim(image: FloatArray) -> FloatArray:
    """Cut off plain rows and columns from outside, twice: a frame may lie within a frame."""
    for _ in range(2):
        for axis in (1, 0):
            lively = np.flatnonzero(image.std(axis=axis) > 0.03)
            if lively.size:
                image = np.take(image, range(lively[0], lively[-1] + 1), axis=1 - axis)
    return np.ascontiguousarray(image)


def _window(shape: tuple[int, ...]) -> FloatArray:
    """Return weights (H, W), summing to 1, that favour the middle, where the hand is."""
    along = [np.exp(-0.5 * (((np.arange(n) - (n - 1) / 2) / n) / 0.3) ** 2) for n in shape]
    weights = np.outer(*along).astype(np.float32)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def _blur(image: FloatArray, sigma: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


def _skewness(image: FloatArray, sigma: float) -> float:
    """Return the skewness of structures about 3 sigma wide, after local contrast is evened out."""
    background = _blur(image, 2 * sigma)
    rest = image - background
    contrast = np.sqrt(_blur(rest * rest, 4 * sigma) + 1e-3)
    band = np.clip((_blur(image, sigma) - background) / contrast, -3, 3)
    squares = band * band * _window(image.shape)
    return float((squares * band).sum() / (squares.sum() + 1e-9) ** 1.5)


def _centre(image: FloatArray) -> float:
    """Return by how much the middle stands out from its surroundings, in units of its contrast."""
    window = _window(image.shape)
    band = _blur(image, 3.0) - _blur(image, 6.0)
    contrast = (window * np.abs(band)).sum() + 1e-9
    return float((window * np.clip(band / contrast, -3, 3)).sum())
