"""From a patch to what an encoder sees: laid over the mean region, cut, and preprocessed as the paper prints.

The same functions serve training and inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import cv2
import numpy as np

from boneage.core.types import FloatArray
from boneage.imaging.enhance import adaptive_threshold, equalise, gaussian
from boneage.imaging.registration import OF_A_BONE, align, mean_image, move
from boneage.recipes.region_clusters.config import InputConfig
from boneage.recipes.region_clusters.crops import PATCH_MARGIN, PATCH_SIDE, Patches

TEMPLATE_SIDE = 64
"""Pixels of the mean region, and of the patches that are laid over it: half the patches' side."""

_SMOOTH_PX = 1.2
_EDGE = 8
"""Pixels at the template's edge that are not compared: other bones lie there."""

_MOST_OF_A_MEAN = 400
"""Patches, evenly taken, that the mean region is found from."""

STEPS: Mapping[str, Callable[[FloatArray, InputConfig], FloatArray]] = {
    "equalise": lambda view, config: equalise(view),
    "blur": lambda view, config: gaussian(view, config.blur * len(view)),
    "threshold": lambda view, config: adaptive_threshold(
        view, max(3, round(config.block * len(view)) | 1), config.offset
    ),
}
"""Name -> what it does to a view (S, S) in [0, 1].

Source: paper 2, section 2.2: contrast equalisation, Gaussian blurring, adaptive threshold segmentation.
"""


def mean_region(patches: Patches) -> FloatArray:
    """Return the mean (T, T) of patches (N, P, P) of one region that are laid over it."""
    step = -(-len(patches) // _MOST_OF_A_MEAN)
    return mean_image([_small(patch) for patch in patches[::step]], _compared(), OF_A_BONE)


def view_of(patch: Patches, config: InputConfig, side: int, template: FloatArray | None) -> FloatArray | None:
    """Return the view (S, S) in [0, 1] of a patch, or None where it cannot be laid over the mean region.

    Args:
        patch: (P, P).
        config: which steps.
        side: S.
        template: (T, T) mean region; None where nothing is aligned.
    """
    cut = cut_view(patch, side, template)
    return None if cut is None else preprocess(cut, config)


def cut_view(patch: Patches, side: int, template: FloatArray | None) -> FloatArray | None:
    """Return the view (S, S) before its preprocessing; arguments as `view_of`."""
    scale = PATCH_SIDE / PATCH_MARGIN / side
    margin = PATCH_SIDE * (1 - 1 / PATCH_MARGIN) / 2
    to_patch = np.array([[scale, 0, margin + scale / 2 - 0.5], [0, scale, margin + scale / 2 - 0.5]])
    if template is not None:
        found = align(_small(patch), template, _compared(), OF_A_BONE)
        if found is None:
            return None
        to_patch = _in_patch(found) @ np.vstack([to_patch, [0, 0, 1]])
    smooth = cv2.GaussianBlur(patch.astype(np.float32) / np.float32(255), (0, 0), max(0.4 * scale, 0.1))
    return move(np.asarray(smooth, dtype=np.float32), to_patch, side)


def preprocess(view: FloatArray, config: InputConfig) -> FloatArray:
    """Return a view (S, S) in [0, 1] after the configured steps."""
    for name in config.steps:
        view = STEPS[name](view, config)
    return view


def views_of(
    patches: Iterable[Patches], config: InputConfig, side: int, template: FloatArray | None
) -> list[FloatArray | None]:
    """Return the view of every patch, None where there is none; arguments as `view_of`."""
    return [view_of(patch, config, side, template) for patch in patches]


def _small(patch: Patches) -> FloatArray:
    shrunk = cv2.resize(patch, (TEMPLATE_SIDE, TEMPLATE_SIDE), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(shrunk.astype(np.float32) / np.float32(255), (0, 0), _SMOOTH_PX)
    return np.asarray(blurred, dtype=np.float32)


def _in_patch(found: FloatArray) -> FloatArray:
    """Return a map (2, 3) of the small images as one of the patches, in homogeneous form but for the row."""
    factor = PATCH_SIDE / TEMPLATE_SIDE
    half = (factor - 1) / 2
    grow = np.array([[factor, 0, half], [0, factor, half], [0, 0, 1]])
    whole = grow @ np.vstack([found, [0, 0, 1]]) @ np.linalg.inv(grow)
    return np.asarray(whole[:2], dtype=np.float64)


def _compared() -> Patches:
    mask = np.zeros((TEMPLATE_SIDE, TEMPLATE_SIDE), np.uint8)
    mask[_EDGE:-_EDGE, _EDGE:-_EDGE] = 255
    return mask
