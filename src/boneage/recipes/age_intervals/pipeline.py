"""Paper 5's preprocessing: each step by its name, in the order in which they are named.

Source: paper 5, section IV, "Pre-processing Data": resize, bilateral filter, brightness and contrast
(PIL's ImageEnhance), normalisation, Gaussian blur, adaptive equalisation of tiles. The paper prints no
parameter: those here are ours, for images of about 100 to 400 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.imaging.enhance import bilateral, brighten, clahe, gaussian, raise_contrast, stretch_contrast


@dataclass(frozen=True)
class PipelineConfig:
    """The steps after resizing, and their parameters.

    Args:
        steps: names out of `STEPS`, in the order in which they are done; leave one out to skip it.
        bilateral_px: diameter of the bilateral filter's neighbourhood.
        bilateral_grey: its grey range, in [0, 1].
        bilateral_sigma_px: its spatial range.
        brightness: factor of every grey value.
        contrast: factor of the difference from the mean grey value.
        normalise_percentiles: that become 0 and 1.
        gaussian_px: standard deviation of the blur.
        tiles: of the equalisation, along each side.
        clip: its contrast limit.
    """

    steps: tuple[str, ...] = (
        "bilateral",
        "brightness",
        "contrast",
        "normalise",
        "gaussian",
        "equalise_tiles",
    )
    bilateral_px: int = 5
    bilateral_grey: float = 0.1
    bilateral_sigma_px: float = 3.0
    brightness: float = 1.1
    contrast: float = 1.2
    normalise_percentiles: tuple[float, float] = (1.0, 99.5)
    gaussian_px: float = 0.5
    tiles: int = 8
    clip: float = 2.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.steps if name not in STEPS]
        if unknown:
            raise ConfigError(f"input.pipeline.steps has no step {unknown[0]!r}; known: {', '.join(STEPS)}")


STEPS: Mapping[str, Callable[[FloatArray, PipelineConfig], FloatArray]] = {
    "bilateral": lambda image, config: bilateral(
        image, config.bilateral_px, config.bilateral_grey, config.bilateral_sigma_px
    ),
    "brightness": lambda image, config: brighten(image, config.brightness),
    "contrast": lambda image, config: raise_contrast(image, config.contrast),
    "normalise": lambda image, config: stretch_contrast(image, *config.normalise_percentiles),
    "gaussian": lambda image, config: gaussian(image, config.gaussian_px),
    "equalise_tiles": lambda image, config: clahe(image, config.clip, config.tiles),
}
"""Name -> what it does to an image (H, W) in [0, 1]."""


def process(image: FloatArray, config: PipelineConfig) -> FloatArray:
    """Return a resized image (H, W) in [0, 1] after all steps."""
    for name in config.steps:
        image = STEPS[name](image, config)
    return image
