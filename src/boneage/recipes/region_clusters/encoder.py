"""From a view to its latent vector, without torch: what the auto-encoders learnt, or principal components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from boneage.core.types import FloatArray

Arrays = Mapping[str, NDArray[np.generic]]
CENTRE = 0.5
"""Grey that is taken from views before they are convolved, so that no kernel sees their mean alone."""

_OF_A_LAYER = ("weight", "bias", "form")
_AT_ONCE = 32
"""Views that are encoded together; their unfolded pixels take about 30 MB."""


@dataclass(frozen=True, eq=False)
class ConvolutionLayer:
    """A convolution that leaves an image its side over the stride.

    Args:
        weight: (K, C, k, k).
        bias: (K,).
        stride: by which it shrinks the image.
        relu: whether negative outputs become 0.
    """

    weight: FloatArray
    bias: FloatArray
    stride: int
    relu: bool

    def __call__(self, images: FloatArray) -> FloatArray:
        """Return images (N, C, H, W) convolved to (N, K, H / stride, W / stride)."""
        kernel = self.weight.shape[2]
        margin = max(0, kernel - self.stride)
        around = (margin // 2, margin - margin // 2)
        padded = np.pad(images, ((0, 0), (0, 0), around, around))
        windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        count, _, rows, columns = windows.shape[:4]
        flat = windows.transpose(0, 2, 3, 1, 4, 5).reshape(count * rows * columns, -1)
        found = flat @ self.weight.reshape(len(self.weight), -1).T + self.bias
        if self.relu:
            np.maximum(found, 0, out=found)
        return np.ascontiguousarray(found.reshape(count, rows, columns, -1).transpose(0, 3, 1, 2))


@dataclass(frozen=True, eq=False)
class Encoder:
    """Maps views of one region to latent vectors.

    Args:
        layers: convolutions, the last of which gives the latent map; empty for principal components.
        mean: (S * S,) of the pixels, for principal components.
        components: (S * S, F).
    """

    layers: tuple[ConvolutionLayer, ...] = ()
    mean: FloatArray | None = None
    components: FloatArray | None = None

    def __call__(self, views: FloatArray) -> FloatArray:
        """Return the latent vectors (N, F) of views (N, S, S)."""
        parts = [self._encode(views[at : at + _AT_ONCE]) for at in range(0, len(views), _AT_ONCE)]
        return np.concatenate(parts)

    def _encode(self, views: FloatArray) -> FloatArray:
        if self.mean is not None and self.components is not None:
            projected = (views.reshape(len(views), -1) - self.mean) @ self.components
            return np.asarray(projected, dtype=np.float32)
        images = views[:, None] - np.float32(CENTRE)
        for layer in self.layers:
            images = layer(images)
        return images.reshape(len(images), -1)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what `of` makes the encoder of again."""
        kept: dict[str, NDArray[np.generic]] = {}
        if self.mean is not None and self.components is not None:
            kept |= {"mean": self.mean, "components": self.components.astype(np.float16)}
        for index, layer in enumerate(self.layers):
            kept[f"weight{index}"] = layer.weight.astype(np.float16)
            kept[f"bias{index}"] = layer.bias
            kept[f"form{index}"] = np.array([layer.stride, layer.relu])
        return kept

    @classmethod
    def of(cls, arrays: Arrays) -> Encoder:
        """Return the encoder that `arrays` has kept.

        Raises:
            KeyError: an array is missing.
        """
        if "mean" in arrays:
            return cls((), _floats(arrays["mean"]), _floats(arrays["components"]))
        count = max(1, *(sum(name.startswith(kind) for name in arrays) for kind in _OF_A_LAYER))
        forms = [tuple(map(int, arrays[f"form{index}"])) for index in range(count)]
        return cls(
            tuple(
                ConvolutionLayer(
                    _floats(arrays[f"weight{index}"]), _floats(arrays[f"bias{index}"]), stride, bool(relu)
                )
                for index, (stride, relu) in enumerate(forms)
            )
        )

    def stored(self) -> Encoder:
        """Return the encoder as it is after `arrays` and `of`: at half precision."""
        return Encoder.of(self.arrays())


def _floats(values: NDArray[np.generic]) -> FloatArray:
    return np.asarray(values, dtype=np.float32)
