"""Pseudo-labelled key points: a landmark model for photographs, shown radiographs until it is sure.

The model sees the whole radiograph at several rotations, then once more a crop turned upright;
its presence score tells whether to believe it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import KNUCKLE, WRIST
from boneage.core.errors import ConfigError
from boneage.core.types import Affine, FloatArray
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.geometry import warp

SIZE = 224
ROTATIONS_DEGREES = (0, -25, 25, -50, 50, -90, 90, 180)
SURE = 0.9
CROP_FACTOR = 1.5


class LandmarkModel:
    """The 21-landmark model, run by OpenVINO (which reads its file format).

    Raises:
        ConfigError: the file is missing.
    """

    def __init__(self, path: Path) -> None:
        import openvino

        if not path.is_file():
            raise ConfigError(f"landmark model not found: {path}; set labels.landmarks to its .tflite file")
        self._compiled = openvino.Core().compile_model(str(path), "CPU")

    def label(self, pixels: FloatArray) -> tuple[NDArray[np.float64], float]:
        """Return 21 points (x, y) in pixels of a radiograph (H, W) and the model's presence score."""
        image = stretch_contrast(pixels)
        height, width = image.shape
        centre, side = np.array([(width - 1) / 2, (height - 1) / 2]), float(max(height, width))
        points, presence = np.zeros((21, 2)), -1.0
        for degrees in ROTATIONS_DEGREES:
            tried, score = self._look(image, centre, side, degrees)
            if score > presence:
                points, presence = tried, score
            if presence > SURE:
                break
        axis = points[KNUCKLE] - points[WRIST]
        low, high = points.min(axis=0), points.max(axis=0)
        turn = float(np.degrees(np.arctan2(axis[0], -axis[1])))
        closer, score = self._look(image, (low + high) / 2, float((high - low).max()) * CROP_FACTOR, turn)
        return (closer, score) if score > min(presence, SURE) else (points, presence)

    def _look(
        self, image: FloatArray, centre: NDArray[np.float64], side: float, degrees: float
    ) -> tuple[NDArray[np.float64], float]:
        angle = np.deg2rad(-degrees)
        linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * SIZE / side
        middle = np.full(2, (SIZE - 1) / 2)
        transform = Affine(np.column_stack([linear, middle - linear @ centre]))
        view = warp(image, transform, (SIZE, SIZE))
        outputs = self._compiled(np.repeat(view[None, :, :, None], 3, axis=3))
        landmarks = np.asarray(outputs[0]).reshape(21, 3)[:, :2]
        return transform.inverse()(landmarks), float(np.asarray(outputs[1])[0, 0])
