"""Paper 3's method: crops of the graded bones to grades, scores and ages.

Source: paper 3, Figure 1 (crop, grade, add the scores, convert the total to an age).
Departs: the total is the sum of expected scores over each bone's grade distribution, so that a bone
between two grades counts as such; the most probable whole grades are scored beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.regions import MIN_VISIBLE, PlacedRegion, RegionViews, bone_regions, square_of
from boneage.core.protocols import Arrays
from boneage.core.types import FloatArray, Hand, Radiograph
from boneage.imaging.enhance import clahe
from boneage.recipes.graded_regions.config import InputConfig
from boneage.recipes.graded_regions.prior import BONES
from boneage.standards.names import Bone

CLAHE_TILES = 4


def enhance(view: FloatArray, config: InputConfig) -> FloatArray:
    """Return a crop (S, S) in [0, 1] with the contrast that the graph expects."""
    return clahe(view, tiles=CLAHE_TILES) if config.contrast == "clahe" else view


def one_hot(bones: Sequence[Bone]) -> FloatArray:
    """Return the graph's bone input (N, 15)."""
    return np.eye(len(BONES), dtype=np.float32)[[BONES.index(bone) for bone in bones]]


class GradedRegions:
    """`prepare -> run -> decode` of the grading network.

    Args:
        config: what the graph sees.
    """

    name = "graded_regions"
    graph = "graded_regions"

    def __init__(self, config: InputConfig) -> None:
        self.config = config

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> GradedRegions:
        """Build the method from its part of a bundle's manifest."""
        return cls(InputConfig(**settings["input"]))

    def regions(self, radiograph: Radiograph, hand: Hand) -> tuple[PlacedRegion, ...]:
        """Return the regions of all bones, those that leave the image too."""
        return bone_regions(hand, radiograph.shape, [str(bone) for bone in BONES])

    def prepare(self, radiograph: Radiograph, regions: Sequence[PlacedRegion]) -> dict[str, FloatArray]:
        """Return `crop` (N, 1, S, S) in [0, 1] and `bone` (N, 15) for the regions that can be read."""
        views = RegionViews(radiograph)
        crops = [enhance(views.cut(region.to_view, self.config.side), self.config) for region in regions]
        return {"crop": np.stack(crops)[:, None], "bone": one_hot([Bone(region.name) for region in regions])}

    def prepare_crop(self, crop: Radiograph, bone: Bone) -> dict[str, FloatArray]:
        """Return the graph's inputs for one crop that was cut elsewhere."""
        view = RegionViews(crop).cut(square_of(crop), self.config.side)
        return {"crop": enhance(view, self.config)[None, None], "bone": one_hot([bone])}

    def decode(self, outputs: Arrays) -> NDArray[np.float64]:
        """Return P(grade = 0, 1, ...) (N, K + 1) of every crop."""
        at_least = np.asarray(outputs["at_least"], dtype=np.float64)
        padded = np.hstack([np.ones((len(at_least), 1)), at_least, np.zeros((len(at_least), 1))])
        return np.asarray(padded[:, :-1] - padded[:, 1:])


def readable(regions: Sequence[PlacedRegion]) -> tuple[PlacedRegion, ...]:
    """Return the regions of which enough lies in the image."""
    return tuple(region for region in regions if region.visible >= MIN_VISIBLE)
