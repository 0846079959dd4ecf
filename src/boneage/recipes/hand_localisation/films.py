"""Radiographs made ready for the finder's labels, and the landmark model's key points of them."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import InputError
from boneage.data.manifest import Row
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.geometry import letterbox
from boneage.imaging.read import read
from boneage.recipes.hand_localisation.labels import Film
from boneage.recipes.hand_localisation.landmarks import LandmarkModel
from boneage.recipes.hand_localisation.samples import POINTS, LabelledHand

logger = logging.getLogger(__name__)

LABEL_SIZE = 384


def label_keypoints(
    rows: Sequence[Row], model: Path, path: Path
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Return id -> (points (21, 2), presence) from the landmark model, kept in a CSV between runs."""
    if not path.exists():
        landmarks = LandmarkModel(model)
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.writer(file)
            for row in rows:
                try:
                    points, presence = landmarks.label(read(row.path).pixels)
                except InputError as error:
                    logger.warning("not labelled: %s (%s)", row.path.name, error)
                    continue
                writer.writerow([row.id, f"{presence:.4f}", *(f"{value:.2f}" for value in points.ravel())])
        partial.replace(path)
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    return {line[0]: (np.array(line[2:], dtype=np.float64).reshape(21, 2), float(line[1])) for line in lines}


def read_film(row: Row, mask_path: Path | None) -> Film | None:
    """Return a letterboxed radiograph with its mask, where it has one; None where it cannot be read."""
    try:
        pixels = read(row.path).pixels
    except InputError as error:
        logger.warning("left out: %s (%s)", row.path.name, error)
        return None
    image, to_label = letterbox(stretch_contrast(pixels), LABEL_SIZE)
    mask = _mask(mask_path, image.shape) if mask_path else None
    unknown = np.full((POINTS, 2), np.nan), np.zeros(POINTS)
    hand = LabelledHand((image * 255).astype(np.uint8), *unknown, mask)
    corners = to_label(np.array([[0.0, 0.0], [pixels.shape[1] - 1.0, pixels.shape[0] - 1.0]]))
    return Film(row.id, hand, to_label, corners[0], corners[1])


def _mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    mask = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.float32)
    square, _ = letterbox(mask / np.float32(255), shape[0])
    return (square > 0.5).astype(np.uint8)
