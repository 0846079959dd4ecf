"""From a radiograph to the view of the radius that is clustered: cut, laid over the mean radius, windowed.

The same functions serve training and inference.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.regions import RegionViews
from boneage.core.types import Affine, FloatArray
from boneage.imaging.enhance import clahe, stretch_contrast
from boneage.recipes.radius_subgrades.config import InputConfig

PATCH_SIDE = 144
"""Pixels of a patch; it shows `PATCH_MARGIN` times the region's side, so that the view can move in it."""

PATCH_MARGIN = 1.4
CLAHE_TILES = 4

_BLUR = 2.0
_ROUNDS = 3
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
_MOST_SHIFT = 0.28
_SCALES = (0.7, 1.4)

Patches = NDArray[np.uint8]


def patch_of(views: RegionViews, to_view: Affine) -> Patches:
    """Return the patch (P, P) around the radius.

    Args:
        views: of the radiograph.
        to_view: source pixels -> the region's unit square.
    """
    return views.patch(to_view, PATCH_SIDE, PATCH_MARGIN)


def mean_radius(patches: Sequence[Patches]) -> FloatArray:
    """Return the mean (P, P) of patches that are laid over it, found in a few rounds of both."""
    smooth = [_smooth(patch) for patch in patches]
    template: FloatArray = np.mean(smooth, axis=0, dtype=np.float32)
    for _ in range(_ROUNDS):
        maps = [_motion(image, template) for image in smooth]
        moved = [_move(image, map_) for image, map_ in zip(smooth, maps, strict=True) if map_ is not None]
        if not moved:
            break
        template = np.mean(moved, axis=0, dtype=np.float32)
    return np.asarray(template, dtype=np.float32)


def view_of(patch: Patches, config: InputConfig, template: FloatArray | None) -> FloatArray | None:
    """Return the view (S, S) in [0, 1] of a patch, or None where it cannot be laid over the mean radius.

    Args:
        patch: (P, P).
        config: which view.
        template: (P, P) mean radius; None where nothing is aligned.
    """
    pixels = _pixels(patch)
    if template is not None:
        found = _motion(_smooth(patch), template)
        if found is None:
            return None
        pixels = _move(pixels, found)
    left, top, side = (
        (value + 0.5 * (PATCH_MARGIN - 1) * shift) / PATCH_MARGIN * PATCH_SIDE
        for value, shift in zip(config.window, (1, 1, 0), strict=True)
    )
    scale = side / config.side
    to_patch = np.array([[scale, 0, left + 0.5 * scale - 0.5], [0, scale, top + 0.5 * scale - 0.5]])
    if scale > 1:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.4 * scale), dtype=np.float32)
    view = stretch_contrast(_move(pixels, to_patch, config.side))
    return clahe(view, tiles=CLAHE_TILES) if config.contrast == "clahe" else view


def _pixels(patch: Patches) -> FloatArray:
    return np.asarray(patch / np.float32(255), dtype=np.float32)


def _smooth(patch: Patches) -> FloatArray:
    blurred = cv2.GaussianBlur(_pixels(patch), (0, 0), _BLUR)
    return np.asarray(blurred, dtype=np.float32)


def _move(image: FloatArray, to_image: NDArray[np.floating], side: int = PATCH_SIDE) -> FloatArray:
    """Return the image (side, side) whose pixels lie where `to_image` (2, 3) says."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image, to_image, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)


def _motion(image: FloatArray, template: FloatArray) -> NDArray[np.float32] | None:
    """Return the affine map (2, 3) from the template's pixels to the image's, None without a likely one.

    Source: Evangelidis GD, Psarakis EZ. Parametric image alignment using enhanced correlation coefficient
    maximization. IEEE TPAMI 2008;30(10):1858-1865; first rigid, then affine.
    """
    found: NDArray[np.float32] = np.eye(2, 3, dtype=np.float32)
    try:
        for motion in (cv2.MOTION_EUCLIDEAN, cv2.MOTION_AFFINE):
            _, moved = cv2.findTransformECC(template, image, found, motion, _STEPS, _seen(), 1)
            found = np.asarray(moved, dtype=np.float32)
    except cv2.error:  # it did not converge
        return None
    centre = np.array([PATCH_SIDE / 2, PATCH_SIDE / 2, 1.0])
    shift = np.abs(found @ centre - centre[:2]).max() / PATCH_SIDE
    scale = float(np.sqrt(abs(np.linalg.det(found[:, :2]))))
    likely = shift < _MOST_SHIFT and _SCALES[0] < scale < _SCALES[1]
    return found if likely else None


def _seen() -> Patches:
    """Return the mask of the pixels that are compared: the epiphysis and its metaphysis."""
    mask = np.zeros((PATCH_SIDE, PATCH_SIDE), np.uint8)
    mask[8:100, 26:118] = 255
    return mask
