"""What is refused for its size or emptiness, and what is only warned of."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import UnsupportedImage
from boneage.core.types import FloatArray, Notice, Radiograph

MAX_PIXELS = 100_000_000
"""Most pixels that are decoded: a larger header is refused before any pixel is read."""

MAX_SIDE = 30_000
"""Longest side that is decoded, in pixels."""

MIN_SIDE = 64
"""Shortest side in which a hand could be told at all, in pixels."""

MAX_FILE_BYTES = 1 << 30
"""Largest file that is read: `MAX_PIXELS` of 16-bit RGB, uncompressed, with room to spare."""

LOW_RESOLUTION_SIDE = 400
"""Longest side under which growth plates are a pixel or two wide."""

BLANK_RANGE = 0.02
"""Range of the middle 99% of pixels under which an image is called blank."""

FLAT_RANGE = 60 / 255
"""Range of the middle 98% of pixels under which an image is called flat."""

NOISE_SIDE = 512
"""Longer side, in pixels, at which noise is judged: finer grain is averaged away before it is read."""

LEAST_NOISE_SIDE = 256
"""Longer side under which noise is not told from detail, so that it is not judged."""

NOISY = 0.0075
"""Noise as a share of the grey range above which it is warned of; 1 in 80 of the training images has more."""

TOO_NOISY = 0.0125
"""The same above which an image is refused; one of the 1,226 training images has more."""

SATURATED_SHARE = 0.05
"""Share of the central pixels at full white above which detail is lost."""


_SECOND_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_GAIN = 6.0
"""Standard deviation of those of noise of 1."""

_MEDIAN_OF_NORMAL = 0.6745
"""Median of the absolute value of a normal variable of standard deviation 1."""


def check_size(height: int, width: int, min_side: int = MIN_SIDE) -> None:
    """Refuse an image by the size its header states, before it is decoded.

    Args:
        height: rows, in pixels.
        width: columns, in pixels.
        min_side: shortest side that is accepted, in pixels; a crop may be smaller than a hand.

    Raises:
        UnsupportedImage: it is larger than `MAX_PIXELS` or `MAX_SIDE`, or smaller than `min_side`.
    """
    size = f"{width} x {height} px"
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise UnsupportedImage(
            f"the image is too large: {size}, at most {MAX_PIXELS // 1_000_000} million pixels and "
            f"{MAX_SIDE} px a side are read; reduce it first"
        )
    if min(height, width) < min_side:
        raise UnsupportedImage(
            f"the image is too small: {size}, at least {min_side} px a side are needed; "
            "give the original radiograph"
        )


def inspect(radiograph: Radiograph) -> tuple[Notice, ...]:
    """Return what is doubtful about the pixels: `flat`, `saturated`, `low_resolution`, `noisy`.

    Raises:
        UnsupportedImage: the image is too large, too small, blank or too noisy.
    """
    try:
        check_size(*radiograph.shape)
        sample = _sample(radiograph.pixels)
        _refuse_blank(sample)
        noise = noise_share(radiograph.pixels)
        _refuse_noise(noise)
    except UnsupportedImage as error:
        raise UnsupportedImage(f"{radiograph.path}: {error}" if radiograph.path else str(error)) from error
    found = (_flat(sample), _saturated(sample), _low_resolution(*radiograph.shape), _noisy(noise))
    return tuple(notice for notice in found if notice is not None)


def _sample(pixels: FloatArray) -> FloatArray:
    """Return every n-th pixel, so that about 256 remain along the shorter side."""
    step = max(1, min(pixels.shape) // 256)
    return pixels[::step, ::step]


def _range(sample: NDArray[np.float32], outside: float) -> float:
    low, high = np.percentile(sample, [outside, 100 - outside])
    return float(high - low)


def _refuse_blank(sample: FloatArray) -> None:
    if not np.isfinite(sample).all():
        raise UnsupportedImage("the image holds values that are not numbers; export it again")
    if _range(sample, 0.5) < BLANK_RANGE:
        level = float(np.median(sample))
        shade = "black" if level < 0.1 else "white" if level > 0.9 else "one grey"
        raise UnsupportedImage(f"the image is blank (all {shade}); give a radiograph of a hand")


def noise_share(pixels: FloatArray) -> float:
    """Return the standard deviation of an image's noise as a share of its grey range.

    Args:
        pixels: (H, W) float32 in [0, 1]; of an image under `LEAST_NOISE_SIDE` it is called 0.

    Source: Immerkaer J (1996) Fast noise variance estimation, with the median in place of the mean, as
    edges are not noise.
    """
    if max(pixels.shape) < LEAST_NOISE_SIDE:
        return 0.0
    factor = NOISE_SIDE / max(pixels.shape)
    size = (max(3, round(pixels.shape[1] * factor)), max(3, round(pixels.shape[0] * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if factor < 1 else pixels
    grain = cv2.filter2D(small, -1, _SECOND_DIFFERENCES)[1:-1, 1:-1]
    deviation = float(np.median(np.abs(grain))) / (_MEDIAN_OF_NORMAL * _GAIN)
    low, high = np.percentile(small[::2, ::2], [1.0, 99.5])
    return deviation / max(float(high - low), 1e-6)


def _refuse_noise(noise: float) -> None:
    if noise > TOO_NOISY:
        raise UnsupportedImage(
            f"the image is too noisy: its noise is {noise:.1%} of its grey range, at most {TOO_NOISY:.2%} is "
            "read; give the original, or one that was exposed longer"
        )


def _noisy(noise: float) -> Notice | None:
    if noise <= NOISY:
        return None
    return Notice("noisy", f"the image's noise is {noise:.1%} of its grey range; bone ages are less sure")


def _flat(sample: FloatArray) -> Notice | None:
    spread = _range(sample, 1.0)
    if spread >= FLAT_RANGE:
        return None
    return Notice("flat", f"the image uses {spread:.0%} of the grey scale; it may be under-exposed")


def _saturated(sample: FloatArray) -> Notice | None:
    height, width = sample.shape
    centre = sample[height // 5 : height - height // 5, width // 5 : width - width // 5]
    share = float(np.mean(centre >= 0.998))
    if share <= SATURATED_SHARE:
        return None
    return Notice(
        "saturated", f"{share:.0%} of the central pixels are full white; detail of bone is lost there"
    )


def _low_resolution(height: int, width: int) -> Notice | None:
    if max(height, width) >= LOW_RESOLUTION_SIDE:
        return None
    return Notice(
        "low_resolution", f"the image is only {width} x {height} px; growth plates may not be resolved"
    )
