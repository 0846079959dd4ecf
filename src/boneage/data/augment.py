"""Random changes of pose and tone that a bone age does not depend on.

Source: paper 4, "Details of training": cropping, resizing, rotation, contrast and brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from boneage.core.types import Affine, FloatArray


@dataclass(frozen=True)
class AugmentConfig:
    """How far pose and tone may move.

    Args:
        rotation_degrees: rotation, uniform in plus or minus this.
        scale: size, uniform in 1 plus or minus this (resizing).
        shift: translation as a share of the view's height, uniform in plus or minus this (cropping).
        gamma: standard deviation of the logarithm of a gamma.
        contrast: contrast about mid-grey, uniform in 1 plus or minus this.
        brightness: added, uniform in plus or minus this.
        erase: probability that one rectangle of up to a quarter of each side is painted over.
    """

    rotation_degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0


def draw_pose(shape: tuple[int, int], config: AugmentConfig, rng: np.random.Generator) -> Affine:
    """Draw a map of a view (height, width) onto itself: rotation and scale about its centre, and a shift."""
    height, width = shape
    angle = np.deg2rad(rng.uniform(-1, 1) * config.rotation_degrees)
    scale = 1 + rng.uniform(-1, 1) * config.scale
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = rng.uniform(-1, 1, size=2) * config.shift * height
    return Affine(np.column_stack([linear, centre + shift - linear @ centre]))


def change_tone(view: FloatArray, config: AugmentConfig, rng: np.random.Generator) -> FloatArray:
    """Return a view (H, W) in [0, 1] with another gamma, contrast and brightness, perhaps partly erased."""
    gamma = float(np.exp(rng.normal(0.0, config.gamma))) if config.gamma else 1.0
    contrast = 1 + rng.uniform(-1, 1) * config.contrast
    brightness = rng.uniform(-1, 1) * config.brightness
    toned: FloatArray = np.clip((view**gamma - 0.5) * contrast + 0.5 + brightness, 0.0, 1.0).astype(
        np.float32
    )
    if rng.random() < config.erase:
        _erase(toned, rng)
    return toned


def _erase(view: FloatArray, rng: np.random.Generator) -> None:
    height, width = view.shape
    tall, wide = int(height * rng.uniform(0.08, 0.25)), int(width * rng.uniform(0.08, 0.25))
    top, left = rng.integers(0, height - tall), rng.integers(0, width - wide)
    view[top : top + tall, left : left + wide] = rng.random()
