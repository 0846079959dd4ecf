"""Contrast and noise: pure functions on (H, W) float32 in [0, 1] that return the same."""

from __future__ import annotations

import math

import cv2
import numpy as np

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray

_LEVELS = 4096
_SAMPLE = 1 << 17


def stretch_contrast(image: FloatArray, low: float = 1.0, high: float = 99.5) -> FloatArray:
    """Return the image with its percentiles `low` and `high` moved to 0 and 1, the rest clipped.

    The percentiles of a large image are those of every second, third, ... of its rows and columns,
    of which at least 131,072 pixels remain. A constant image is returned as zeros.

    Raises:
        ConfigError: the percentiles are not 0 <= low < high <= 100.
    """
    if not 0 <= low < high <= 100:
        raise ConfigError(f"percentiles must be 0 <= low < high <= 100, not {low} and {high}")
    step = max(1, math.isqrt(image.size // _SAMPLE))
    dark, bright = (float(value) for value in np.percentile(image[::step, ::step], [low, high]))
    if bright <= dark:
        return np.zeros_like(image, dtype=np.float32)
    stretched = (image - np.float32(dark)) * np.float32(1 / (bright - dark))
    return np.asarray(np.clip(stretched, 0, 1, out=stretched), dtype=np.float32)


def equalise(image: FloatArray) -> FloatArray:
    """Return the image with its histogram equalised over 4096 levels.

    On 8-bit data it is what OpenCV's `equalizeHist` does, before that rounds; finer data keep their
    depth. A constant image is returned as zeros.

    Source: paper 4, section on preprocessing (histogram equalisation).
    """
    levels = np.rint(image * np.float32(_LEVELS - 1)).astype(np.uint16)
    counts = np.bincount(levels.ravel(), minlength=_LEVELS)
    cumulative = np.cumsum(counts)
    first = counts[np.flatnonzero(counts)[0]]
    rest = levels.size - first
    if rest == 0:
        return np.zeros_like(image, dtype=np.float32)
    table = (np.maximum(cumulative - first, 0) / rest).astype(np.float32)
    return np.asarray(table[levels], dtype=np.float32)


def clahe(image: FloatArray, clip: float = 2.0, tiles: int = 8) -> FloatArray:
    """Return the image after contrast-limited adaptive equalisation on `tiles` x `tiles` tiles.

    It works on 256 levels (OpenCV's clip limit loses its meaning at 16 bits), so stretch a flat
    image first.

    Raises:
        ConfigError: `clip` or `tiles` is not positive.
    """
    if clip <= 0 or tiles <= 0:
        raise ConfigError(f"clip and tiles must be positive, not {clip} and {tiles}")
    engine = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles))
    levels = engine.apply(np.rint(image * np.float32(255)).astype(np.uint8))
    return np.asarray(np.divide(levels, np.float32(255), dtype=np.float32))


def brighten(image: FloatArray, factor: float) -> FloatArray:
    """Return the image with every grey value times `factor`, clipped, as PIL's `ImageEnhance.Brightness`.

    Raises:
        ConfigError: `factor` is negative.
    """
    if factor < 0:
        raise ConfigError(f"a brightness factor must not be negative, not {factor}")
    return np.asarray(np.clip(image * np.float32(factor), 0, 1), dtype=np.float32)


def raise_contrast(image: FloatArray, factor: float) -> FloatArray:
    """Return the image with differences from its mean times `factor`, as PIL's `ImageEnhance.Contrast`.

    Raises:
        ConfigError: `factor` is negative.
    """
    if factor < 0:
        raise ConfigError(f"a contrast factor must not be negative, not {factor}")
    mean = image.mean(dtype=np.float32)
    return np.asarray(np.clip(mean + (image - mean) * np.float32(factor), 0, 1), dtype=np.float32)


def bilateral(
    image: FloatArray, diameter: int = 5, sigma_grey: float = 0.1, sigma_px: float = 3.0
) -> FloatArray:
    """Return the image smoothed within edges.

    Args:
        image: (H, W) float32 in [0, 1].
        diameter: of the neighbourhood, in pixels.
        sigma_grey: difference in grey, in [0, 1], across which pixels hardly mix.
        sigma_px: distance, in pixels, across which pixels hardly mix.

    Raises:
        ConfigError: one of them is not positive.
    """
    if diameter <= 0 or sigma_grey <= 0 or sigma_px <= 0:
        raise ConfigError("diameter, sigma_grey and sigma_px must be positive")
    return np.asarray(cv2.bilateralFilter(image, diameter, sigma_grey, sigma_px), dtype=np.float32)


def gaussian(image: FloatArray, sigma: float) -> FloatArray:
    """Return the image blurred by a Gaussian of `sigma` pixels; 0 leaves it as it is.

    Raises:
        ConfigError: `sigma` is negative.
    """
    if sigma < 0:
        raise ConfigError(f"sigma must not be negative, not {sigma}")
    if sigma == 0:
        return image.copy()
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


def adaptive_threshold(image: FloatArray, block: int, c: float) -> FloatArray:
    """Return 1 where a pixel is brighter than the mean of its block less `c`, else 0.

    Args:
        image: (H, W) float32 in [0, 1].
        block: odd side of the square neighbourhood, in pixels.
        c: taken from the local mean, in grey of [0, 1].

    Raises:
        ConfigError: `block` is not odd and at least 3.
    """
    if block < 3 or block % 2 == 0:
        raise ConfigError(f"block must be odd and at least 3, not {block}")
    mean = cv2.blur(image, (block, block), borderType=cv2.BORDER_REPLICATE)
    return (image > mean - np.float32(c)).astype(np.float32)
