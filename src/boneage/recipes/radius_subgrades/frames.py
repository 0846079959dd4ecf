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
from boneage.imaging.registration import OF_A_BONE, align, mean_image, move
from boneage.recipes.radius_subgrades.config import InputConfig

PATCH_SIDE = 144
"""Pixels of a patch; it shows `PATCH_MARGIN` times the region's side, so that the view can move in it."""

PATCH_MARGIN = 1.4
CLAHE_TILES = 4

_BLUR = 2.0

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
    return mean_image([_smooth(patch) for patch in patches], _seen(), OF_A_BONE)


def view_of(patch: Patches, config: InputConfig, template: FloatArray | None) -> FloatArray | None:
    """Return the view (S, S) in [0, 1] of a patch, or None where it cannot be laid over the mean radius.

    Args:
        patch: (P, P).
        config: which view.
        template: (P, P) mean radius; None where nothing is aligned.
    """
    pixels = _pixels(patch)
    if template is not None:
        found = align(_smooth(patch), template, _seen(), OF_A_BONE)
        if found is None:
            return None
        pixels = move(pixels, found, PATCH_SIDE)
    left, top, side = (
        (value + 0.5 * (PATCH_MARGIN - 1) * shift) / PATCH_MARGIN * PATCH_SIDE
        for value, shift in zip(config.window, (1, 1, 0), strict=True)
    )
    scale = side / config.side
    to_patch = np.array([[scale, 0, left + 0.5 * scale - 0.5], [0, scale, top + 0.5 * scale - 0.5]])
    if scale > 1:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.4 * scale), dtype=np.float32)
    view = stretch_contrast(move(pixels, to_patch, config.side))
    return clahe(view, tiles=CLAHE_TILES) if config.contrast == "clahe" else view


def _pixels(patch: Patches) -> FloatArray:
    return np.asarray(patch / np.float32(255), dtype=np.float32)


def _smooth(patch: Patches) -> FloatArray:
    blurred = cv2.GaussianBlur(_pixels(patch), (0, 0), _BLUR)
    return np.asarray(blurred, dtype=np.float32)


def _seen() -> Patches:
    """Return the mask of the pixels that are compared: the epiphysis and its metaphysis."""
    mask = np.zeros((PATCH_SIDE, PATCH_SIDE), np.uint8)
    mask[8:100, 26:118] = 255
    return mask
