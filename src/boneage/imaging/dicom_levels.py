"""Stored DICOM values to grey in [0, 1], bone bright: the grey-scale pipeline of PS3.3 C.11.

Stored values -> Modality LUT or rescale -> VOI LUT or window -> [0, 1] -> one inversion, if any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from boneage.core.errors import UnreadableImage
from boneage.core.types import FloatArray, Notice

Stored = NDArray[Any]

_ROBUST = (0.1, 99.9)
"""Percentiles that stand for the smallest and largest value, so that a dead pixel counts for nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Grey:
    """Pixels (H, W) float32 in [0, 1], the rule that made them, and what was doubtful."""

    pixels: FloatArray
    rule: str
    inverted: bool
    notices: tuple[Notice, ...] = ()


def to_grey(stored: Stored, dataset: Dataset) -> Grey:
    """Return the grey picture that the tags describe, from stored values (H, W).

    Padding becomes black and takes no part in scaling.

    Raises:
        UnreadableImage: a look-up table or a window in the file is malformed.
    """
    padding = _padding(stored, dataset)
    try:
        values, modality = _modality(stored, dataset)
        pixels, voi, notices = _values_of_interest(values, dataset, padding)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise UnreadableImage(
            "the grey-scale tags of the DICOM file are malformed; export it again"
        ) from error
    inverted = is_inverse(dataset)
    if inverted:
        np.subtract(np.float32(1), pixels, out=pixels)
    if padding is not None:
        pixels[padding] = 0
    return Grey(pixels, f"{modality}, {voi}", inverted, notices)


def is_inverse(dataset: Dataset) -> bool:
    """Return whether small values are to be shown bright.

    MONOCHROME1 and PresentationLUTShape INVERSE say the same thing twice (PS3.3 C.8.11.3), so
    together they invert once. PixelIntensityRelationshipSign tells how values follow the X-ray
    beam, not how they are shown; whether the outcome has bright bone is checked on the pixels.
    """
    monochrome1 = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    return monochrome1 or str(dataset.get("PresentationLUTShape", "")).upper() == "INVERSE"


def _padding(stored: Stored, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Return where the stored values are padding (PS3.3 C.7.5.1.1.2), or None where there is none."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    mask = (stored >= low) & (stored <= high)
    return mask if mask.any() and not mask.all() else None


def _modality(stored: Stored, dataset: Dataset) -> tuple[Stored, str]:
    sequence = dataset.get("ModalityLUTSequence")
    if sequence:
        return _look_up(stored, sequence[0], dataset)[0], "(0028,3000) Modality LUT Sequence"
    slope, intercept = (_number(dataset, name) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None or slope == 0:
        return stored, "stored values"
    if (slope, intercept) == (1.0, 0.0):
        return stored, "(0028,1053) Rescale Slope 1"
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept), "(0028,1053) Rescale Slope"


def _values_of_interest(
    values: Stored, dataset: Dataset, padding: NDArray[np.bool_] | None
) -> tuple[FloatArray, str, tuple[Notice, ...]]:
    """Apply the VOI LUT, else the first window, else the range of the values themselves."""
    shown, rule = _as_described(values, dataset)
    if shown is None:
        return _full_range(values, padding), "no VOI: scaled from the smallest to the largest value", ()
    if not _is_lost(shown, values, padding):
        return shown, rule, ()
    notice = Notice(
        "window_ignored", "the window in the DICOM tags leaves no detail; the full range was used"
    )
    return (
        _full_range(values, padding),
        f"{rule} ignored: scaled from the smallest to the largest value",
        (notice,),
    )


def _as_described(values: Stored, dataset: Dataset) -> tuple[FloatArray | None, str]:
    sequence = dataset.get("VOILUTSequence")
    if sequence:
        looked_up, full = _look_up(values, sequence[0], dataset)
        return np.divide(looked_up, np.float32(full), dtype=np.float32), "(0028,3010) VOI LUT Sequence"
    centre, width = (_number(dataset, name) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    smallest = 1.0 if function == "LINEAR" else 0.0
    if centre is None or width is None or width < smallest or width == 0:
        return None, ""
    if function not in _WINDOWS:
        raise ValueError(f"VOI LUT function {function}")
    shown = _WINDOWS[function](values.astype(np.float32), np.float32(centre), np.float32(width))
    return shown, f"(0028,1050) Window Center, {function}"


def _linear(values: FloatArray, centre: np.float32, width: np.float32) -> FloatArray:
    """PS3.3 C.11.2.1.2.1: the window is `width` values, its first at 0 and its last at 1."""
    half = np.float32(0.5)
    if width == 1:
        return (values > centre - half).astype(np.float32)
    scaled = (values - (centre - half)) / (width - np.float32(1)) + half
    return np.asarray(np.clip(scaled, 0, 1, out=scaled), dtype=np.float32)


def _linear_exact(values: FloatArray, centre: np.float32, width: np.float32) -> FloatArray:
    """PS3.3 C.11.2.1.3.2: exactly `width` wide."""
    scaled = (values - centre) / width + np.float32(0.5)
    return np.asarray(np.clip(scaled, 0, 1, out=scaled), dtype=np.float32)


def _sigmoid(values: FloatArray, centre: np.float32, width: np.float32) -> FloatArray:
    """PS3.3 C.11.2.1.3.1."""
    exponent = np.clip(np.float32(-4) * (values - centre) / width, -80, 80)
    return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float32)


_WINDOWS: dict[str, Callable[[FloatArray, np.float32, np.float32], FloatArray]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}


def _look_up(values: Stored, item: Dataset, dataset: Dataset) -> tuple[NDArray[np.uint16], int]:
    """Return what a LUT item maps the values to, and the largest value of its bit depth."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        # Eight-bit entries may lie one a byte (PS3.3 C.11.1.1.1); else words in the file's byte order.
        order = "<" if dataset.original_encoding[1] is not False else ">"
        packed = bits <= 8 and len(data) < 2 * entries
        table = np.frombuffer(data, np.uint8 if packed else np.dtype(f"{order}u2"))
    else:
        table = np.asarray(data, dtype=np.uint16)
    table = table[:entries].astype(np.uint16)
    if not 1 <= bits <= 16 or not table.size:
        raise ValueError("look-up table")
    index = np.rint(values) if values.dtype.kind == "f" else values
    index = np.clip(index.astype(np.int32) - first, 0, table.size - 1)
    return table[index], (1 << bits) - 1


def _number(dataset: Dataset, name: str) -> float | None:
    """Return the first value of a numeric tag; None where it is absent or no finite number."""
    value = dataset.get(name)
    if value is None or value == "":
        return None
    first = value[0] if not isinstance(value, (str, int, float)) and hasattr(value, "__getitem__") else value
    try:
        number = float(first)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _sample(values: Stored, padding: NDArray[np.bool_] | None) -> Stored:
    step = max(1, min(values.shape) // 512)
    sample = values[::step, ::step]
    if padding is None:
        return sample.ravel()
    kept = sample[~padding[::step, ::step]]
    return kept if kept.size else values[~padding]


def _full_range(values: Stored, padding: NDArray[np.bool_] | None) -> FloatArray:
    low, high = (float(value) for value in np.percentile(_sample(values, padding), _ROBUST))
    if high <= low:
        return np.zeros(values.shape, np.float32)
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    return np.asarray(np.clip(scaled, 0, 1, out=scaled), dtype=np.float32)


def _is_lost(shown: FloatArray, values: Stored, padding: NDArray[np.bool_] | None) -> bool:
    """Return whether a window turned a picture into one flat grey."""
    return bool(np.ptp(np.percentile(_sample(shown, padding), (1, 99))) < 1e-3) and bool(
        np.ptp(np.percentile(_sample(values, padding), (1, 99))) > 0
    )
