"""Images laid over each other: the affine motion between two, and the mean of many that show the same thing.

Images are square, (S, S) float32 in [0, 1]. A map (2, 3) goes from the template's pixels to the image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray

_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
_BLUR_PX = 1  # the width of ECC's own blur, so none: callers smooth as their images need

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Likely:
    """What motion is believed.

    Args:
        most_shift: share of the side by which the centre may move, along either axis.
        scales: the smallest and the largest scale, the square root of the change in area.
    """

    most_shift: float
    scales: tuple[float, float]

    def believes(self, motion: FloatArray, side: int) -> bool:
        """Return whether the map (2, 3) of an image of `side` pixels is one of these."""
        centre = np.array([side / 2, side / 2, 1.0])
        shift = np.abs(motion @ centre - centre[:2]).max() / side
        scale = float(np.sqrt(abs(np.linalg.det(motion[:, :2]))))
        return bool(shift < self.most_shift and self.scales[0] < scale < self.scales[1])


OF_A_BONE = Likely(most_shift=0.28, scales=(0.7, 1.4))
"""Between a bone's region as key points place it, and the mean of such regions."""


def move(image: FloatArray, to_image: NDArray[np.floating], side: int) -> FloatArray:
    """Return the image (side, side) whose pixels lie where `to_image` says, bilinear between pixels.

    Args:
        image: (H, W); beyond its edge, the edge goes on.
        to_image: (2, 3), the result's pixels -> the image's.
        side: of the result, pixels.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image, to_image, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)


def align(image: FloatArray, template: FloatArray, mask: Mask, likely: Likely) -> FloatArray | None:
    """Return the affine map (2, 3) from the template's pixels to the image's, None without a likely one.

    A rigid map is found first, and the affine one from there. There is none for an image in which nothing
    shows.

    Args:
        image: (S, S).
        template: (S, S).
        mask: (S, S), above 0 at the pixels of the image that are compared.
        likely: what motion is believed.

    Raises:
        ConfigError: the three are not squares of one size, or the mask is not uint8.

    Source: Evangelidis GD, Psarakis EZ. Parametric image alignment using enhanced correlation coefficient
    maximization. IEEE TPAMI 2008;30(10):1858-1865.
    """
    _check(image, template, mask)
    found: FloatArray = np.eye(2, 3, dtype=np.float32)
    try:
        for motion in (cv2.MOTION_EUCLIDEAN, cv2.MOTION_AFFINE):
            _, moved = cv2.findTransformECC(template, image, found, motion, _STEPS, mask, _BLUR_PX)
            found = np.asarray(moved, dtype=np.float32)
    except cv2.error:  # it did not converge
        return None
    return found if likely.believes(found, len(image)) else None


def mean_image(images: Sequence[FloatArray], mask: Mask, likely: Likely, rounds: int = 3) -> FloatArray:
    """Return the mean (S, S) of images that are laid over it, found in some rounds of both.

    The first mean is the plain one. An image that cannot be laid over a round's mean is left out of the
    next mean; where none can, the mean stays as it is.

    Args:
        images: (S, S) each.
        mask: (S, S), above 0 at the pixels of the images that are compared.
        likely: what motion is believed.
        rounds: of laying all images over their mean.

    Raises:
        ConfigError: there is no image, or as `align`.
    """
    if not len(images):
        raise ConfigError("a mean image needs one image or more; none was given")
    for image in images:
        _check(image, images[0], mask)
    template: FloatArray = np.mean(images, axis=0, dtype=np.float32)
    for _ in range(rounds):
        maps = [align(image, template, mask, likely) for image in images]
        pairs = zip(images, maps, strict=True)
        laid = [move(image, to_image, len(image)) for image, to_image in pairs if to_image is not None]
        if not laid:
            break
        template = np.mean(laid, axis=0, dtype=np.float32)
    return np.asarray(template, dtype=np.float32)


def _check(image: FloatArray, template: FloatArray, mask: Mask) -> None:
    """Refuse what OpenCV would refuse with the same error as an alignment that fails."""
    shapes = [array.shape for array in (image, template, mask)]
    if any(shape != (len(image), len(image)) for shape in shapes):
        raise ConfigError(
            f"image, template and mask must be squares of one size, not {shapes}; cut them alike"
        )
    if mask.dtype != np.uint8:
        raise ConfigError(
            f"the mask must be uint8, not {mask.dtype}; give 255 where pixels are compared and 0 elsewhere"
        )
