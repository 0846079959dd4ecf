"""A worse copy of an image, as daily work makes them: coarser, noisier, compressed, turned, cut."""

from __future__ import annotations

import math

import numpy as np

from boneage.core.types import FloatArray
from boneage.imaging import stress
from boneage.recipes.consistency.config import ChangeConfig, Range


def worsen(image: FloatArray, config: ChangeConfig, rng: np.random.Generator) -> FloatArray:
    """Return a changed copy of an image (H, W) in [0, 1], of another size where it is turned, cut or shrunk.

    The changes come in the order in which a film meets them: how it lies, how it is exposed and scanned,
    how it is stored.
    """

    def happens(chance: float) -> bool:
        return bool(rng.random() < chance)

    def within(bounds: Range) -> float:
        return float(rng.uniform(*bounds))

    seed = int(rng.integers(1 << 31))
    if happens(config.mirror_chance):
        image = stress.flip(image, 1)
    if happens(config.turn_chance):
        image = _turned(image, config.turn_degrees, rng)
    if happens(config.crop_chance):
        image = stress.crop(image, within(config.crop))
    if happens(config.brightness_chance):
        image = stress.brighten(image, within(config.brightness))
    if happens(config.contrast_chance):
        image = stress.scale_contrast(image, within(config.contrast))
    if happens(config.noise_chance):
        low, high = config.noise
        image = stress.add_noise(image, math.exp(within((math.log(low), math.log(high)))), seed)
    if happens(config.resolution_chance):
        image = stress.reduce_resolution(image, within(config.resolution_px))
    if happens(config.jpeg_chance):
        image = stress.compress(image, within(config.jpeg_quality))
    return image


def _turned(image: FloatArray, degrees: float, rng: np.random.Generator) -> FloatArray:
    """Return the image turned by quarters or, as often, by up to so many degrees."""
    if rng.random() < 0.5:
        return np.ascontiguousarray(np.rot90(image, int(rng.integers(1, 4))))
    return stress.rotate(image, float(rng.uniform(1, degrees)), int(rng.integers(1 << 31)))
