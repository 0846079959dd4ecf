"""From views of the radius to features, without torch: eq. 1 and 4, and the encoder's layers.

What training learns is kept as arrays; this module is all that reads them, in training and at inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import FloatArray

MIN_STD = 1e-6
"""Standard deviation under which a pixel counts as constant and is left out of the features."""


Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """Standardised pixels on principal components.

    Args:
        mean: (D,) of every pixel over the training views.
        std: (D,) likewise; 1 where a pixel is constant.
        components: (D, k), W.
    """

    mean: FloatArray
    std: FloatArray
    components: FloatArray

    def __call__(self, views: FloatArray) -> FloatArray:
        """Return features (N, k) of views (N, S, S).

        Source: paper 1, equations 1 (standardised pixels) and 4 (their projection).
        """
        return np.asarray(self.standardise(views) @ self.components, dtype=np.float32)

    def standardise(self, views: FloatArray) -> FloatArray:
        """Return standardised pixels (N, D) of views (N, S, S).

        Source: paper 1, equation 1.
        """
        return np.asarray((views.reshape(len(views), -1) - self.mean) / self.std, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Encoder:
    """Features f(x) of views.

    Args:
        pixels: what comes before the network.
        layers: weight (out, in) and bias (out,) of every linear layer; a ReLU lies between each two.
    """

    pixels: PixelFeatures
    layers: tuple[tuple[FloatArray, FloatArray], ...]

    def __call__(self, views: FloatArray) -> FloatArray:
        """Return features (N, F) of views (N, S, S) in [0, 1].

        Source: paper 1, section III.C.
        """
        values = self.pixels(views)
        *hidden, (weight, bias) = self.layers
        for inner, offset in hidden:
            values = np.maximum(values @ inner.T + offset, 0)
        return np.asarray(values @ weight.T + bias, dtype=np.float32)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the learned state for a file, weights in half precision (pixels may vary by less)."""
        half = {"components": self.pixels.components}
        for index, (weight, bias) in enumerate(self.layers):
            half |= {f"weight{index}": weight, f"bias{index}": bias}
        kept = {name: values.astype(np.float16) for name, values in half.items()}
        return {"mean": self.pixels.mean, "std": self.pixels.std, **kept}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Encoder:
        """Return the encoder that `arrays` has kept."""
        full = {name: values.astype(np.float32) for name, values in arrays.items()}
        count = sum(name.startswith("weight") for name in full)
        layers = tuple((full[f"weight{index}"], full[f"bias{index}"]) for index in range(count))
        return cls(PixelFeatures(full["mean"], full["std"], full["components"]), layers)


def nearest(features: FloatArray, centroids: FloatArray) -> tuple[Labels, NDArray[np.float64]]:
    """Return the nearest centroid of every crop (N,), and its Euclidean distance (N,).

    Source: paper 1, equation 6.
    """
    distances = np.linalg.norm(features[:, None].astype(np.float64) - centroids[None], axis=2)
    return distances.argmin(axis=1), distances.min(axis=1)
