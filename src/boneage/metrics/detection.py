"""How well boxes found agree with boxes drawn: overlap, and average precision as COCO defines it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError

Values = NDArray[np.float64]

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps over which COCO averages: 0.50, 0.55, ... 0.95."""

_RECALLS = np.linspace(0.0, 1.0, 101)


def overlaps(first: ArrayLike, second: ArrayLike) -> Values:
    """Return intersection over union of every pair of boxes, (N, 4) with (M, 4), as (N, M).

    Raises:
        ConfigError: boxes are not (N, 4).
    """
    a, b = _boxes(first), _boxes(second)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=2)
    area_a, area_b = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (a, b))
    union = area_a[:, None] + area_b[None, :] - common
    return np.asarray(common / np.where(union > 0, union, 1.0))


def average_precision(
    found: Sequence[ArrayLike], drawn: Sequence[ArrayLike], threshold: float = 0.5
) -> float:
    """Return the average precision of one class over images.

    Detections of all images are taken by confidence, best first; each takes the drawn box of its image
    that it overlaps most among those not taken yet, and is right if that overlap reaches the threshold.
    Precision, made falling, is averaged at 101 recalls.

    Args:
        found: for every image (N, 5): box and confidence.
        drawn: for every image (M, 4).
        threshold: the least overlap, above 0 and at most 1.

    Returns:
        0 to 1; nan where nothing is drawn.

    Raises:
        ConfigError: not as many images found as drawn, an odd shape, or a threshold out of range.

    Source: Lin et al. 2014 (COCO); the evaluation of its reference implementation.
    """
    if len(found) != len(drawn):
        raise ConfigError(
            f"expected boxes found and drawn for every image, got {len(found)} and {len(drawn)}"
        )
    if not 0 < threshold <= 1:
        raise ConfigError(f"an overlap's threshold lies above 0 and is at most 1, not {threshold:g}")
    total = sum(len(_boxes(boxes)) for boxes in drawn)
    if total == 0:
        return float("nan")
    judged = [_judge(each, boxes, threshold) for each, boxes in zip(found, drawn, strict=True)]
    confidence = np.concatenate([each[0] for each in judged])
    right = np.concatenate([each[1] for each in judged])[np.argsort(-confidence, kind="stable")]
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / total, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[at].mean())


def mean_average_precision(
    found: Sequence[ArrayLike], drawn: Sequence[ArrayLike], thresholds: Sequence[float] = COCO_THRESHOLDS
) -> float:
    """Return the average precision of one class, averaged over thresholds of overlap.

    Raises:
        ConfigError: as `average_precision`.
    """
    return float(np.mean([average_precision(found, drawn, threshold) for threshold in thresholds]))


def _judge(found: ArrayLike, drawn: ArrayLike, threshold: float) -> tuple[Values, NDArray[np.bool_]]:
    """Return one image's confidences, best first, and whether each of these detections is right."""
    rows = np.asarray(found, dtype=np.float64) if np.size(found) else np.empty((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise ConfigError(f"detections are rows x0, y0, x1, y1, confidence; got an array {rows.shape}")
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    overlap = overlaps(rows[:, :4], drawn)
    right = np.zeros(len(rows), dtype=bool)
    if not overlap.size:
        return rows[:, 4], right
    for index in range(len(rows)):
        best = int(overlap[index].argmax())
        right[index] = overlap[index, best] >= threshold
        if right[index]:
            overlap[:, best] = -1.0  # taken
    return rows[:, 4], right


def _boxes(boxes: ArrayLike) -> Values:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.empty((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ConfigError(f"boxes are rows x0, y0, x1, y1; got an array {array.shape}")
    return array
