"""What the detector sees of a radiograph, and its augmented training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Affine, FloatArray, Radiograph
from boneage.data.augment import AugmentConfig, change_tone, draw_pose
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.geometry import resize, warp

MIN_INSIDE = 0.5
"""Share of a box that must stay in a moved image for the box to stay."""


def prepare(radiograph: Radiograph, long_side: int) -> tuple[FloatArray, Affine]:
    """Return the image (H, W) in [0, 1] whose longer side is `long_side`, and source pixels -> it."""
    scale = long_side / max(radiograph.shape)
    height, width = (max(1, round(side * scale)) for side in radiograph.shape)
    return resize(stretch_contrast(radiograph.pixels), (height, width))


def map_boxes(boxes: NDArray[np.float64], transform: Affine) -> NDArray[np.float64]:
    """Return boxes (N, 4) moved by a map, upright again.

    Half sides are root sums of squares, so that a little turn does not grow them.
    """
    centres = transform((boxes[:, :2] + boxes[:, 2:]) / 2)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    linear = transform.matrix[:, :2]
    moved = np.sqrt(half**2 @ (linear**2).T)
    return np.hstack([centres - moved, centres + moved])


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A prepared radiograph with its boxes.

    Args:
        image: (H, W) uint8.
        boxes: (N, 4) in its pixels.
        labels: (N,) numbers of `anatomy.detections.CLASSES`.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RegionSample:
    """Image (H, W) in [0, 1], boxes (N, 4) in its pixels, labels (N,)."""

    image: FloatArray
    boxes: FloatArray
    labels: NDArray[np.int64]


class RegionSamples:
    """Augmented samples; the same index and epoch give the same sample."""

    def __init__(self, images: Sequence[LabelledImage], augment: AugmentConfig, seed: int) -> None:
        self.images, self.augment, self.seed = images, augment, seed

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, index: int, epoch: int) -> RegionSample:
        """Return one sample: turned, scaled, mirrored in half of them, its tone changed."""
        rng = np.random.default_rng((self.seed, epoch, index))
        labelled = self.images[index]
        height, width = labelled.image.shape
        pose = draw_pose((height, width), self.augment, rng)
        if rng.random() < 0.5:
            pose = pose.then(Affine(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])))
        image = warp(labelled.image.astype(np.float32) / np.float32(255), pose, (height, width))
        boxes, kept = _inside(map_boxes(labelled.boxes, pose), width, height)
        toned = change_tone(image, self.augment, rng)
        return RegionSample(toned, boxes[kept].astype(np.float32), labelled.labels[kept])


def _inside(
    boxes: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return boxes cut at the image's edges, and which of them stay."""
    clipped = np.clip(boxes, 0, [width, height, width, height])
    areas, left = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, clipped))
    return clipped, left >= MIN_INSIDE * areas
