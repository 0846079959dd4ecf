"""Geometry of images, each step with the exact map of points from its source to its result.

A pixel's centre is at whole coordinates: the first pixel's centre is the point (0, 0), and the
image reaches from -0.5 to width - 0.5. Boxes are pixel indices (x0, y0, x1, y1), end-exclusive.
`Affine.inverse` of what a function returns maps points of the result back to the source.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np

from boneage.core.errors import ConfigError
from boneage.core.types import Affine, Box, FloatArray

Border = Literal["replicate", "constant", "reflect"]

_BORDERS: dict[str, int] = {
    "replicate": cv2.BORDER_REPLICATE,
    "constant": cv2.BORDER_CONSTANT,
    "reflect": cv2.BORDER_REFLECT_101,
}


def warp(
    image: FloatArray, transform: Affine, shape: tuple[int, int], border: Border = "replicate"
) -> FloatArray:
    """Return the image (H, W) of `shape` into which `transform` carries the source's points.

    A map that shrinks first averages to its own scale, so that thin lines do not alias.

    Args:
        image: (H, W) float32.
        transform: source pixels -> result pixels.
        shape: (height, width) of the result.
        border: what lies outside the source: its edge, black, or its mirror image.

    Raises:
        ConfigError: the border is unknown, the shape is empty, or the map cannot be inverted.
    """
    if border not in _BORDERS:
        raise ConfigError(f"border must be one of {', '.join(_BORDERS)}, not {border!r}")
    _check_shape(shape)
    scale = math.sqrt(abs(np.linalg.det(transform.matrix[:, :2])))
    if not math.isfinite(scale) or scale < 1e-9:
        raise ConfigError("the transform shrinks the image to nothing; give one that can be inverted")
    if scale < 0.9:
        height, width = (max(1, round(side * scale)) for side in image.shape)
        image, smaller = resize(image, (height, width))
        transform = smaller.inverse().then(transform)
    result = cv2.warpAffine(
        image, transform.matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR, borderMode=_BORDERS[border]
    )
    return np.asarray(result, dtype=np.float32)


def letterbox(image: FloatArray, size: int, fill: float = 0.0) -> tuple[FloatArray, Affine]:
    """Return the image scaled to fit a square of `size` pixels, centred on `fill`, and its map."""
    scale = size / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    small, to_small = resize(image, (height, width))
    left, top = (size - width) // 2, (size - height) // 2
    square, to_square = pad(small, left, top, size - width - left, size - height - top, fill)
    return square, to_small.then(to_square)


def fit_box(box: Box, shape: tuple[int, int]) -> Affine:
    """Return the map that scales a box (x0, y0, x1, y1) to just fit an image of `shape`, and centres it."""
    x0, y0, x1, y1 = box
    height, width = shape
    scale = min(width / (x1 - x0), height / (y1 - y0))
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return Affine(np.column_stack([np.eye(2) * scale, middle - scale * centre]))


def crop(image: FloatArray, box: Box) -> tuple[FloatArray, Affine]:
    """Return a copy of the part of the image in a box, and its map.

    The box is widened to whole pixels and cut at the image's edges.

    Raises:
        ConfigError: nothing of the box lies in the image.
    """
    height, width = image.shape
    x0, y0 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    x1, y1 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if x0 >= x1 or y0 >= y1:
        raise ConfigError(f"the box {box} holds no pixel of an image {width} x {height} px")
    return image[y0:y1, x0:x1].copy(), _translation(-x0, -y0)


def resize(image: FloatArray, shape: tuple[int, int]) -> tuple[FloatArray, Affine]:
    """Return the image resampled to (height, width), averaging where it shrinks, and its map."""
    _check_shape(shape)
    height, width = image.shape
    fy, fx = shape[0] / height, shape[1] / width
    how = cv2.INTER_AREA if fx < 1 or fy < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=how), dtype=np.float32)
    # Edges meet edges, so centres move by the half pixel by which a pixel grew or shrank.
    return resized, Affine(np.array([[fx, 0.0, (fx - 1) / 2], [0.0, fy, (fy - 1) / 2]]))


def rotate(image: FloatArray, degrees: float, border: Border = "constant") -> tuple[FloatArray, Affine]:
    """Return the whole image turned counter-clockwise about its centre, and its map.

    The canvas grows to hold the corners; quarter turns only move pixels and change no value.
    """
    height, width = image.shape
    turn = math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    quarters = degrees / 90
    if quarters == round(quarters):
        cos, sin = round(cos), round(sin)
    new_width = math.ceil(abs(width * cos) + abs(height * sin) - 1e-9)
    new_height = math.ceil(abs(width * sin) + abs(height * cos) - 1e-9)
    # y grows downwards, so that a counter-clockwise turn has its sine above the diagonal.
    linear = np.array([[cos, sin], [-sin, cos]], dtype=np.float64)
    old = np.array([(width - 1) / 2, (height - 1) / 2])
    new = np.array([(new_width - 1) / 2, (new_height - 1) / 2])
    transform = Affine(np.column_stack([linear, new - linear @ old]))
    if quarters == round(quarters):
        return np.ascontiguousarray(np.rot90(image, round(quarters))), transform
    return warp(image, transform, (new_height, new_width), border), transform


def flip(image: FloatArray) -> tuple[FloatArray, Affine]:
    """Return the image mirrored left to right, and its map."""
    width = image.shape[1]
    transform = Affine(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))
    return np.ascontiguousarray(image[:, ::-1]), transform


def pad(
    image: FloatArray, left: int, top: int, right: int, bottom: int, fill: float = 0.0
) -> tuple[FloatArray, Affine]:
    """Return the image with so many pixels of `fill` added on each side, and its map.

    Raises:
        ConfigError: a side is negative.
    """
    if min(left, top, right, bottom) < 0:
        raise ConfigError(f"pads must not be negative, not {(left, top, right, bottom)}; use crop")
    padded = np.pad(image, ((top, bottom), (left, right)), constant_values=np.float32(fill))
    return padded, _translation(left, top)


def _translation(dx: float, dy: float) -> Affine:
    return Affine(np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]], dtype=np.float64))


def _check_shape(shape: tuple[int, int]) -> None:
    if min(shape) < 1:
        raise ConfigError(f"a shape (height, width) must be positive, not {shape}")
