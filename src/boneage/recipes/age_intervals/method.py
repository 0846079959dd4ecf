"""Paper 5's method: one image, one sex, the probability of each age interval.

Source: paper 5, section III (pipeline) and IV: "provide the model with the full image", or "dividing the
original image into smaller sections and determining the label based on the output from these sections".
Departs: the whole image keeps its proportions when it is resized; `crop` may take the hand alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.protocols import Arrays, sex_input
from boneage.core.types import Affine, Box, Findings, FloatArray, Hand, Radiograph, Sex
from boneage.imaging.geometry import fit_box, warp
from boneage.metrics.classification import temper
from boneage.recipes.age_intervals.config import InputConfig
from boneage.recipes.age_intervals.intervals import AgeIntervals
from boneage.recipes.age_intervals.pipeline import PipelineConfig, process

Vector = NDArray[np.float64]


def view_of(radiograph: Radiograph, hand: Hand | None, config: InputConfig) -> FloatArray:
    """Return the processed view (rows x height, columns x width) in [0, 1] that the patches are cut from."""
    height, width = radiograph.shape
    frame, box = Affine.identity(), (-0.5, -0.5, width - 0.5, height - 0.5)
    if hand is not None and config.crop == "box":
        box = hand.box_px
    elif hand is not None and config.crop == "hand":
        frame, box = hand.to_upright, hand.upright_box
    return process(_resized(radiograph, frame, box, config.view_shape), config.pipeline)


def _resized(radiograph: Radiograph, frame: Affine, box: Box, shape: tuple[int, int]) -> FloatArray:
    return np.clip(warp(radiograph.pixels, frame.then(fit_box(box, shape)), shape), 0, 1)


def cut(view: FloatArray, patches: tuple[int, int]) -> FloatArray:
    """Return a view's patches (N, H, W), row by row, from views (rows x H, columns x W)."""
    rows, columns = patches
    height, width = view.shape[0] // rows, view.shape[1] // columns
    grid = view.reshape(rows, height, columns, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid.reshape(-1, height, width))


def vote(probabilities: Vector) -> int:
    """Return the interval that most patches (N, K) find likeliest; of equals, the likelier in the mean."""
    counts = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    return int(np.lexsort((probabilities.mean(axis=0), counts))[-1])


class AgeIntervalsMethod:
    """`prepare -> run -> decode` of the interval network.

    Args:
        config: what the graph sees.
        intervals: its classes.
        temperature: that calibrates its probabilities (Guo et al. 2017).
        correction: sex -> (slope, offset in months) of a line fitted out of fold; empty corrects nothing.
    """

    name = "age_intervals"
    graph = "age_intervals"
    needs_sex = True

    def __init__(
        self,
        config: InputConfig,
        intervals: AgeIntervals,
        temperature: float = 1.0,
        correction: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.config = config
        self.intervals = intervals
        self.temperature = temperature
        self.correction = correction or {}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> AgeIntervalsMethod:
        """Build the method from its part of a bundle's manifest."""
        given = dict(settings["input"])
        pipeline = {key: _tuple(value) for key, value in given.pop("pipeline").items()}
        config = InputConfig(
            **{key: _tuple(value) for key, value in given.items()}, pipeline=PipelineConfig(**pipeline)
        )
        edges = AgeIntervals(_tuple(settings["intervals"]["edges_months"]))
        return cls(config, edges, settings["temperature"], settings["correction"])

    def prepare(self, radiograph: Radiograph, hand: Hand | None, sex: Sex) -> dict[str, NDArray[np.float32]]:
        """Return `image` (patches, 1, H, W) in [0, 1] and `sex` (patches, 1)."""
        patches = cut(view_of(radiograph, hand, self.config), self.config.patches)
        return {"image": patches[:, None], "sex": sex_input(sex, len(patches))}

    def decode(self, outputs: Arrays, sex: Sex) -> Findings:
        """Average the patches' ages and calibrated probabilities; `interval` is what they vote for.

        The spread is the standard deviation of the mean distribution over the intervals' centres, months.
        """
        probabilities = temper(np.asarray(outputs["log_probabilities"], np.float64), self.temperature)
        mean, centres = probabilities.mean(axis=0), self.intervals.centres_months
        slope, offset = self.correction.get(sex, (1.0, 0.0))
        age = slope * float(np.asarray(outputs["age_months"], np.float64).mean()) + offset
        spread = float(np.sqrt(mean @ (centres - mean @ centres) ** 2))
        return Findings(
            self.name,
            float(np.clip(age, 0.0, 240.0)),
            spread_months=spread,
            details={
                "edges_months": self.intervals.edges_months,
                "probabilities": tuple(float(value) for value in mean),
                "interval": vote(probabilities),
            },
        )


def _tuple(value: Any) -> Any:
    """Return JSON's lists as the tuples that they were."""
    return tuple(value) if isinstance(value, list) else value
