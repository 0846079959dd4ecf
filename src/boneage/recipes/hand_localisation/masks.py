"""Hand masks by feature clustering, kept only where pseudo-labelled key points agree with them."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.hand_mask import extract_hand
from boneage.anatomy.localise import upright_frame
from boneage.core.errors import InputError
from boneage.data.manifest import Row
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.read import read
from boneage.models.segmentation import ClusterConfig, cluster_features, shrink

logger = logging.getLogger(__name__)

LONG_SIDE = 112
POINTS_INSIDE = 20
STRAY_SHARE = 0.03
REACH = 0.35
"""How far, in wrist-to-knuckle lengths, skin may lie beyond the hull of the key points."""


def cluster_masks(
    rows: Sequence[Row],
    points: Mapping[str, tuple[NDArray[np.float64], float]],
    count: int,
    seed: int,
    out: Path,
) -> dict[str, Path]:
    """Cluster `count` radiographs and return id -> accepted mask (PNG, 0 or 255, clustering size).

    Tries already listed in `out/masks.csv` are not made again.
    """
    folder, log = out / "masks", out / "masks.csv"
    folder.mkdir(exist_ok=True)
    if not log.exists():
        log.write_text("id,accepted,reason,seconds\n")
    with log.open(newline="") as file:
        tried = {line["id"] for line in csv.DictReader(file)}
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    for row in (rows[index] for index in order):
        if row.id in tried or row.id not in points:
            continue
        started = time.perf_counter()
        reason = _cluster(row, points[row.id][0], folder / f"{row.id}.png")
        with log.open("a") as file:
            file.write(f"{row.id},{not reason},{reason or ''},{time.perf_counter() - started:.2f}\n")
    return {path.stem: path for path in sorted(folder.glob("*.png"))}


def _cluster(row: Row, points: NDArray[np.float64], path: Path) -> str | None:
    try:
        pixels = read(row.path).pixels
    except InputError as error:
        logger.warning("not clustered: %s (%s)", row.path.name, error)
        return error.code
    small = stretch_contrast(shrink(pixels, LONG_SIDE))
    labels = cluster_features(small, ClusterConfig(long_side=LONG_SIDE, bfloat16=True))
    found = extract_hand(labels, small)
    reason = found.reason or disagreement(found.mask, points * (small.shape[1] / pixels.shape[1]))
    if reason is None:
        cv2.imwrite(str(path), found.mask.astype(np.uint8) * 255)
    return reason


def disagreement(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> str | None:
    """Return why a mask (H, W) and key points (21, 2) in its pixels cannot be the same hand, or None."""
    height, width = mask.shape
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    columns, rows = np.round(points).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if wide[rows[inside], columns[inside]].sum() < POINTS_INSIDE:
        return "points_outside"
    frame, _ = upright_frame(points)
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points.astype(np.float32)).round().astype(np.int32), 1)
    reach = max(1, round(REACH / float(np.sqrt(abs(np.linalg.det(frame.matrix[:, :2]))))))
    near = cv2.dilate(hull, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    y, x = np.nonzero(mask)
    of_hand = frame(np.column_stack([x, y]).astype(np.float64))[:, 1] < 0
    stray = (near[y, x] == 0) & of_hand
    return "stray_area" if stray.sum() > STRAY_SHARE * max(int(of_hand.sum()), 1) else None
