"""Mend a torchvision whose binary does not load: declare its operators, and give those a detector needs.

A torchvision wheel built for another torch raises "operator torchvision::nms does not exist" on
import, and timm, torchmetrics and lightning fail with it. Declaring the missing schemas first
mends the imports; non-maximum suppression and RoI align are given in plain torch, with gradients.
Where torchvision loads by itself nothing is declared and its own operators run.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of boxes (N, 4) that no better one overlaps by more than a threshold, best first.

    Source: torchvision's `nms`, whose results these are.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = dets[order].detach().cpu().double().numpy()
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0) * (y1 - y0)
    alive = np.ones(len(boxes), dtype=bool)
    kept = []
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        kept.append(index)
        width = np.minimum(x1[index], x1) - np.maximum(x0[index], x0)
        height = np.minimum(y1[index], y1) - np.maximum(y0[index], y0)
        common = np.maximum(width, 0) * np.maximum(height, 0)
        alive &= common <= iou_threshold * (areas[index] + areas - common)
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Pool regions of feature maps (N, C, H, W) to (K, C, pooled_height, pooled_width), bilinearly.

    Args:
        input: feature maps.
        rois: (K, 5) image number and box (x0, y0, x1, y1) in pixels of the image.
        spatial_scale: feature cells per pixel.
        pooled_height: rows of the result.
        pooled_width: columns of the result.
        sampling_ratio: points per cell and axis, 1 or more.
        aligned: whether a cell's centre, rather than its corner, is at whole coordinates.

    Raises:
        NotImplementedError: `sampling_ratio` is 0, torchvision's size-dependent number of points.

    Source: He et al. 2017 (Mask R-CNN), RoIAlign; torchvision's operator, whose results these are.
    """
    if sampling_ratio < 1:
        raise NotImplementedError(f"sampling_ratio must be 1 or more, not {sampling_ratio}")
    height, width = input.shape[-2:]
    boxes = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    extent = boxes[:, 2:] - boxes[:, :2]
    if not aligned:
        extent = extent.clamp_min(1.0)
    rows = _points(boxes[:, 1], extent[:, 1], pooled_height * sampling_ratio)
    columns = _points(boxes[:, 0], extent[:, 0], pooled_width * sampling_ratio)
    pooled = input.new_zeros(len(rois), input.shape[1], pooled_height, pooled_width)
    for image in range(len(input)):
        mine = (rois[:, 0] == image).nonzero()[:, 0]
        if len(mine):
            sampled = _sample(input[image], rows[mine], columns[mine], (height, width))
            pooled = pooled.index_copy(0, mine, avg_pool2d(sampled, sampling_ratio))
    return pooled


def _points(start: Tensor, extent: Tensor, count: int) -> Tensor:
    """Return `count` evenly spaced points (K, count) inside every interval."""
    steps = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
    return start[:, None] + extent[:, None] * steps


def _sample(features: Tensor, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return features (C, H, W) at points (K, R) x (K, S), as (K, C, R, S); 0 beyond a cell outside."""
    height, width = shape
    inside_rows, inside_columns = (rows >= -1) & (rows <= height), (columns >= -1) & (columns <= width)
    y = rows * (2 / max(height - 1, 1)) - 1
    x = columns * (2 / max(width - 1, 1)) - 1
    count, down, across = len(rows), rows.shape[1], columns.shape[1]
    grid = torch.stack(
        [x[:, None, :].expand(count, down, across), y[:, :, None].expand(count, down, across)], dim=-1
    ).reshape(1, count * down, across, 2)
    sampled = grid_sample(features[None], grid.to(features.dtype), padding_mode="border", align_corners=True)
    sampled = sampled.view(-1, count, down, across).transpose(0, 1)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return sampled * inside


def _torchvision_loads() -> bool:
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


def declare_missing() -> torch.library.Library | None:
    """Declare the missing operators and return the library that holds them, or None if none were missing."""
    if _torchvision_loads():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    library.impl("nms", nms, "CompositeExplicitAutograd")
    library.impl("roi_align", roi_align, "CompositeImplicitAutograd")
    return library


_declared = declare_missing()


def lend_operators() -> None:
    """Let torchvision's detection code call the operators given here, where its own are missing.

    It asks before every call whether its binary was loaded, and stops, or compiles another version, where
    it was not.
    """
    if _declared is None:
        return
    for name in ("boxes", "roi_align"):
        module = importlib.import_module(f"torchvision.ops.{name}")
        vars(module).update(_assert_has_ops=lambda: None, _has_ops=lambda: True)
