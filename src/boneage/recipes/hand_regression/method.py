"""Paper 4's method: one hand, one sex, one age.

Source: paper 4, "Image processing pipeline" and "Deep-learning-based bone age assessment".
Departs: the crop is the upright hand rather than its axis-aligned box, so that pose is not a
nuisance the network must unlearn; `crop = "box"` is the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.protocols import Arrays, sex_input
from boneage.core.types import Affine, Findings, FloatArray, Hand, Radiograph, Sex
from boneage.imaging.enhance import clahe, equalise, stretch_contrast
from boneage.imaging.geometry import fit_box, warp
from boneage.recipes.hand_regression.config import InputConfig

VIEW_TURNS_DEGREES = (0.0, -7.0, 7.0)

_CONTRASTS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "equalise": equalise,
    "clahe": clahe,
    "none": lambda view: view,
}


def frame_of(radiograph: Radiograph, hand: Hand | None, config: InputConfig) -> Affine:
    """Return source pixels -> view pixels: the chosen frame fitted centrally into the view.

    Raises:
        ConfigError: `config.crop` is unknown.
    """
    height, width = radiograph.shape
    if config.crop == "none" or hand is None:
        frame, box = Affine.identity(), (-0.5, -0.5, width - 0.5, height - 0.5)
    elif config.crop == "box":
        frame, box = Affine.identity(), hand.box_px
    elif config.crop == "hand":
        frame, box = hand.to_upright, hand.upright_box
    else:
        raise ConfigError(f"input.crop must be hand, box or none, not {config.crop!r}")
    return frame.then(fit_box(box, (config.height, config.width)))


def view_of(
    radiograph: Radiograph, hand: Hand | None, config: InputConfig, pose: Affine | None = None
) -> FloatArray:
    """Return one view of the hand (height, width) in [0, 1], contrast normalised.

    Args:
        radiograph: the image as read.
        hand: where the hand is; None takes the whole image.
        config: size, crop and contrast.
        pose: a map of the view onto itself that is applied last (augmentation, view averaging).
    """
    if config.contrast not in _CONTRASTS:
        raise ConfigError(f"input.contrast must be one of {', '.join(_CONTRASTS)}, not {config.contrast!r}")
    transform = frame_of(radiograph, hand, config)
    view = warp(
        radiograph.pixels,
        transform.then(pose) if pose is not None else transform,
        (config.height, config.width),
    )
    return _CONTRASTS[config.contrast](stretch_contrast(view))


class HandRegression:
    """`prepare -> run -> decode` of the whole-hand age network.

    Args:
        config: what the graph sees.
        correction: sex -> (slope, offset in months) of a line fitted out of fold; empty corrects nothing.
    """

    name = "hand_regression"
    graph = "hand_regression"
    needs_sex = True

    def __init__(self, config: InputConfig, correction: Mapping[str, Sequence[float]] | None = None) -> None:
        self.config = config
        self.correction = correction or {}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> HandRegression:
        """Build the method from its part of a bundle's manifest."""
        return cls(InputConfig(**settings["input"]), settings["correction"])

    def prepare(self, radiograph: Radiograph, hand: Hand | None, sex: Sex) -> dict[str, NDArray[np.float32]]:
        """Return `image` (views, 1, H, W) in [0, 1] and `sex` (views, 1)."""
        turns = VIEW_TURNS_DEGREES[: self.config.views]
        poses = [turn_view(self.config, degrees) if degrees else None for degrees in turns]
        views = np.stack([view_of(radiograph, hand, self.config, pose) for pose in poses])
        return {"image": views[:, None], "sex": sex_input(sex, len(views))}

    def decode(self, outputs: Arrays, sex: Sex) -> Findings:
        """Average over views and members; the spread is that of the mixture, in months."""
        ages = np.asarray(outputs["age_months"], dtype=np.float64)
        spreads = np.asarray(outputs["spread_months"], dtype=np.float64)
        mixture = float(np.sqrt((spreads**2).mean() + ages.var()))
        slope, offset = self.correction.get(sex, (1.0, 0.0))
        age = float(np.clip(slope * ages.mean() + offset, 0.0, 240.0))
        return Findings(self.name, age, spread_months=slope * mixture or None)


def turn_view(config: InputConfig, degrees: float) -> Affine:
    """Return the rotation of a view about its centre."""
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([(config.width - 1) / 2, (config.height - 1) / 2])
    return Affine(np.column_stack([linear, centre - linear @ centre]))
