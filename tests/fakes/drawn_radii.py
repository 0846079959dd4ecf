"""Drawn radii: an epiphysis that widens from grade 5 to 6; those halfway have either grade."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def draw(level: float, seed: int, side: int = 120) -> NDArray[np.uint8]:
    """A bar over a shaft, the wider the higher the level between the two grades, 0 to 1."""
    image = np.full((side, side), 35.0)
    half = 0.08 + 0.22 * level

    def at(x: float, y: float) -> tuple[int, int]:
        return round(x * side), round(y * side)

    cv2.rectangle(image, at(0.30, 0.56), at(0.70, 1.2), 165, -1)
    cv2.rectangle(image, at(0.5 - half, 0.22), at(0.5 + half, 0.50), 200, -1)
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), side / 80) + noise, 0, 255).astype(np.uint8)


def level_of(index: int) -> float:
    """Thirds of the crops are like a 5, halfway, and like a 6."""
    return (index % 3) / 2 + 0.05 * float(np.sin(7 * index))


def grade_of(index: int) -> int:
    return (5, 5 + index // 3 % 2, 6)[index % 3]
