"""Reads one region of a hand: its view, then its latent vector; in training and at inference alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import FloatArray
from boneage.recipes.region_clusters.config import InputConfig
from boneage.recipes.region_clusters.crops import Patches
from boneage.recipes.region_clusters.encoder import Encoder
from boneage.recipes.region_clusters.views import views_of

_TEMPLATE = "template"


@dataclass(frozen=True, eq=False)
class RegionReader:
    """Maps patches of one region to latent vectors.

    Args:
        name: of the region.
        config: how its views are made.
        template: (T, T) mean region that they are laid over; None where they are not.
        encoder: of the views.
    """

    name: str
    config: InputConfig
    template: FloatArray | None
    encoder: Encoder

    def views(self, patches: Patches) -> list[FloatArray | None]:
        """Return the views of patches (N, P, P), None where one cannot be laid over the mean region."""
        return views_of(patches, self.config, self.config.side_of(self.name), self.template)

    def __call__(self, patches: Patches, seen: NDArray[np.bool_]) -> FloatArray:
        """Return the latent vectors (N, F) of patches (N, P, P), NaN where the region is masked.

        Args:
            patches: of the hands.
            seen: (N,) which of them show the region.
        """
        return self.encode(
            [view if shown else None for view, shown in zip(self.views(patches), seen, strict=True)]
        )

    def encode(self, views: list[FloatArray | None]) -> FloatArray:
        """Return the latent vectors (N, F) of views, NaN where there is none."""
        there = np.array([view is not None for view in views])
        side = self.config.side_of(self.name)
        known = [view for view in views if view is not None] or [np.zeros((side, side), np.float32)]
        found = self.encoder(np.stack(known))
        vectors = np.full((len(views), found.shape[1]), np.nan, dtype=np.float32)
        vectors[there] = found[: there.sum()]
        return vectors

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what `of` makes the reader of again."""
        kept = self.encoder.arrays()
        return kept if self.template is None else {**kept, _TEMPLATE: self.template.astype(np.float16)}

    @classmethod
    def of(cls, name: str, config: InputConfig, arrays: Mapping[str, NDArray[np.generic]]) -> RegionReader:
        """Return the reader that `arrays` has kept.

        Raises:
            KeyError: an array is missing.
        """
        template = np.asarray(arrays[_TEMPLATE], dtype=np.float32) if _TEMPLATE in arrays else None
        return cls(name, config, template, Encoder.of(arrays))


def half_precision(template: FloatArray) -> FloatArray:
    """Return a mean region as it will be after it was kept."""
    return template.astype(np.float16).astype(np.float32)
