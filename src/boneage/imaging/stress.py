"""What may happen to a radiograph between the detector and the reader, at graded strengths.

Every change is a pure function of an image (H, W) float32 in [0, 1], a strength and a seed, and returns
such an image. `STRESSES` lists them with the strengths that the stress card measures, and says which of
these are realistic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.imaging import geometry

Change = Callable[[FloatArray, float, int], FloatArray]

_LINES = (
    "L",
    "PA 54 KV 2.5 MAS",
    "FFD 110 CM",
    "ROOM 2",
    "EXPOSED BY 017",
    "STANDING",
    "COPY 1 OF 1",
    "NOT FOR ARCHIVE",
)
_LINE_SHARE = 0.035
"""Height of a line of burned-in text, as a share of the image's longer side."""


@dataclass(frozen=True, slots=True)
class Strength:
    """One graded strength of a change.

    Args:
        value: what the change's function takes.
        label: how a table calls it.
        realistic: whether a film or a file in daily work may be so.
    """

    value: float
    label: str
    realistic: bool


@dataclass(frozen=True, slots=True)
class Stress:
    """One kind of change.

    Args:
        name: in tables and files.
        change: the function.
        strengths: from which the card is made, in the order of the table.
        meaning: what a strength says.
    """

    name: str
    change: Change
    strengths: tuple[Strength, ...]
    meaning: str


def rotate(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image turned by so many degrees to the side that the seed draws; the canvas grows."""
    side = 1 if np.random.default_rng(seed).integers(2) else -1
    return geometry.rotate(image, side * strength)[0]


def flip(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image mirrored left to right (1), or top to bottom (2), as of a film laid on its face."""
    del seed
    if strength not in (1, 2):
        raise ConfigError(f"flip takes 1 (left to right) or 2 (top to bottom), not {strength:g}")
    return np.ascontiguousarray(image[:, ::-1] if strength == 1 else image[::-1])


def brighten(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image with a share of the full range added to every pixel, clipped."""
    del seed
    return _clipped(image + np.float32(strength))


def scale_contrast(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image with differences from mid-grey times the strength, clipped.

    Raises:
        ConfigError: the strength is not positive.
    """
    del seed
    _positive("contrast", strength)
    return _clipped((image - np.float32(0.5)) * np.float32(strength) + np.float32(0.5))


def invert(image: FloatArray, strength: float = 1.0, seed: int = 0) -> FloatArray:
    """Return the image with black and white exchanged, bone dark; it knows one strength."""
    del strength, seed
    return np.subtract(np.float32(1), image)


def reduce_resolution(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image with so many pixels along its longer side; a smaller one stays as it is.

    Raises:
        ConfigError: under one pixel.
    """
    del seed
    _positive("resolution", strength)
    factor = strength / max(image.shape)
    if factor >= 1:
        return image.copy()
    height, width = (max(1, round(side * factor)) for side in image.shape)
    return geometry.resize(image, (height, width))[0]


def add_noise(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image with normal noise added, its standard deviation a share of the full range, clipped."""
    noise = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return _clipped(image + np.float32(strength) * noise)


def compress(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image after JPEG compression of 8 bits at a quality of 1 to 100.

    Raises:
        ConfigError: another quality.
    """
    del seed
    if not 1 <= strength <= 100:
        raise ConfigError(f"a JPEG quality is 1 to 100, not {strength:g}")
    levels = np.rint(image * np.float32(255)).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, round(strength)])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    return np.divide(decoded, np.float32(255), dtype=np.float32)


def crop(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image without a share of its height above and below and of its width left and right.

    Raises:
        ConfigError: nothing would be left.
    """
    del seed
    if not 0 <= strength < 0.5:
        raise ConfigError(f"crop takes a share of each side from 0 to under 0.5, not {strength:g}")
    height, width = image.shape
    top, left = round(height * strength), round(width * strength)
    return image[top : height - top, left : width - left].copy()


def burn_in_text(image: FloatArray, strength: float, seed: int = 0) -> FloatArray:
    """Return the image with so many lines of white letters in the corner that the seed draws.

    Raises:
        ConfigError: no line, or more than there are.
    """
    if not 1 <= strength <= len(_LINES):
        raise ConfigError(f"text takes 1 to {len(_LINES)} lines, not {strength:g}")
    lines = _LINES[: round(strength)]
    letters = np.zeros(image.shape, np.uint8)
    rng = np.random.default_rng(seed)
    at_bottom, at_right = bool(rng.integers(2)), bool(rng.integers(2))
    tall = max(6, round(_LINE_SHARE * max(image.shape)))
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, tall // 10)
    scale = 0.7 * tall / 22  # letters of this font are 22 pixels high at scale 1
    top = image.shape[0] - tall * len(lines) - tall // 2 if at_bottom else tall // 2
    for number, line in enumerate(lines):
        (wide, _), _ = cv2.getTextSize(line, font, scale, thickness)
        left = image.shape[1] - wide - tall // 2 if at_right else tall // 2
        place = (left, top + tall * (number + 1) - tall // 4)
        cv2.putText(letters, line, place, font, scale, 255, thickness, cv2.LINE_AA)
    return np.maximum(image, np.divide(letters, np.float32(255), dtype=np.float32))


def _clipped(image: FloatArray) -> FloatArray:
    return np.asarray(np.clip(image, 0, 1), dtype=np.float32)


def _positive(name: str, strength: float) -> None:
    if not strength > 0:
        raise ConfigError(f"{name} takes a positive strength, not {strength:g}")


def _graded(unit: str, *strengths: tuple[float, bool]) -> tuple[Strength, ...]:
    return tuple(Strength(value, unit.format(value), realistic) for value, realistic in strengths)


STRESSES: tuple[Stress, ...] = (
    Stress(
        "rotation",
        rotate,
        _graded("{:g} degrees", (5, True), (10, True), (20, True), (45, False), (90, True), (180, True)),
        "turned to either side; a film lies askew by some degrees, or was stored sideways or upside down",
    ),
    Stress(
        "flip",
        flip,
        (Strength(1, "left to right", True), Strength(2, "top to bottom", False)),
        "mirrored: the other hand, or a film scanned on its face",
    ),
    Stress(
        "brightness",
        brighten,
        _graded("{:+g} of full range", (-0.3, False), (-0.15, True), (0.15, True), (0.3, False)),
        "added to every pixel and clipped",
    ),
    Stress(
        "contrast",
        scale_contrast,
        _graded("x {:g}", (0.4, False), (0.7, True), (1.4, True), (2.0, False)),
        "differences from mid-grey multiplied and clipped: another window",
    ),
    Stress(
        "inversion",
        invert,
        (Strength(1, "bone dark", True),),
        "black and white exchanged, and no tag says so",
    ),
    Stress(
        "resolution",
        reduce_resolution,
        _graded("{:g} px", (768, True), (512, True), (384, False), (256, False)),
        "pixels along the longer side",
    ),
    Stress(
        "noise",
        add_noise,
        _graded("SD {:g}", (0.01, True), (0.02, True), (0.05, False), (0.1, False)),
        "normal noise, as a share of the full range",
    ),
    Stress(
        "jpeg",
        compress,
        _graded("quality {:g}", (75, True), (50, True), (30, False), (10, False)),
        "compressed once more",
    ),
    Stress(
        "crop",
        crop,
        _graded("{:.0%} of each side", (0.02, True), (0.05, True), (0.1, False), (0.2, False)),
        "cut off all round; on a full film that takes fingertips, or growth plates of radius and ulna",
    ),
    Stress(
        "text",
        burn_in_text,
        (Strength(1, "1 line", True), Strength(3, "3 lines", True), Strength(8, "8 lines", False)),
        f"white letters burned into a corner, a line {_LINE_SHARE:.1%} of the longer side",
    ),
)
"""What the stress card measures."""


def cell_of(stress: Stress, strength: Strength) -> str:
    """Return the name of a stress at a strength."""
    return f"{stress.name} {strength.label}"
