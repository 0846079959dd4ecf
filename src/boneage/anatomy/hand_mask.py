"""From an unsupervised label map to a hand mask: merge labels, keep one region, refuse what is no hand.

The rules look at brightness, edges and shape only. They need no key points and no training, so that
their masks may label the images from which the fast localiser learns.

Source: paper 4, Algorithm 1, lines 8 and 9, and its section on the image processing pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.localise import upright_frame
from boneage.core.errors import NotAHand
from boneage.core.types import Affine, Box, FloatArray, Hand, Notice, Side

Mask = NDArray[np.bool_]

BORDER_SHARE = 0.35
"""A label that holds more of the image's border than this is background: no forearm is as wide."""

AREA = (0.06, 0.75)
"""Least and greatest share of the image that a hand with its forearm covers."""

BORDER_CONTACT = 0.30
"""Greatest share of the border that the hand may touch: a forearm, or a finger cut off."""

RECTANGULARITY = 0.86
"""A region that fills its rectangle more than this is a collimator's field or a plate, not a hand."""

SOLIDITY = (0.45, 0.93)
"""Least and greatest share of its convex hull that a hand fills: fingers leave gaps."""

MIN_GAPS = 2
"""Fewest gaps between fingers in a hand: deep dents of the outline."""

GAP_DEPTH = 0.35
"""Depth of such a dent in radii of the palm."""

MIN_EDGE = 0.02
"""Least sharpness of the outline."""

EDGE_QUANTILE = 0.25
"""An outline is as sharp as all but this share of it: a long bad stretch shows, a short one does not."""

FLOOR = 0.05
"""Added to brightness before its logarithm, so that noise in the dark stays small."""

SHARP_ENOUGH = 0.75
"""Of the candidates this nearly as sharp as the sharpest the largest wins: fingertips are faint."""

RING = 0.03
"""Width of the image's outermost ring, share of its longer side: a label mostly in it frames the image."""


WRIST_REACH = 1.85
"""From the palm's centre to just below the growth plates of radius and ulna, in radii of the palm.

Measured on 117 masks by wrist and knuckle points (standard deviation 7%); where the outline is
narrowest says nothing more about it (correlation 0.06), so the wrist's waist is not looked for.
"""


UNIT_RADII = 2.1
"""From the wrist to the middle finger's knuckle, in radii of the palm; measured with `WRIST_REACH`."""

BOX_MARGIN = 0.04
MARGIN_WRIST = 0.38
"""Below the wrist as a mask shows it, which lies higher than the finder's key point: the growth plates."""
"""Around fingers and thumb, in wrist-to-knuckle lengths: labels end a little inside the skin."""

CLEAR_EDGE = 0.3
"""Sharpness of a good mask's outline."""

REASONS = {
    "no_region": "every label is background",
    "too_small": "the region is too small",
    "too_large": "the region fills the image",
    "touches_border": "the region touches too much of the border",
    "rectangle": "the region is a rectangle",
    "ragged": "the region is ragged",
    "no_fingers": "the region has no fingers",
    "weak_edge": "the region's outline is not sharp",
}
"""What a refusal's code means."""


@dataclass(frozen=True, slots=True, eq=False)
class HandMask:
    """The region that looks most like a hand, and why it is refused where it is.

    Args:
        mask: (H, W) hand with its forearm; empty where there is no region at all.
        reason: a key of `REASONS`, None where the mask is accepted.
        edge: sharpness of the outline.
    """

    mask: Mask
    reason: str | None
    edge: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether the mask passed every check."""
        return self.reason is None


def extract_hand(labels: NDArray[np.integer], image: FloatArray) -> HandMask:
    """Merge labels into the region whose outline is the sharpest and whose shape is a hand's.

    Labels are ranked by brightness. Every cut of that ranking merges the labels above it into one
    candidate; the background labels are left out, the largest region is kept and its holes are
    filled. Of the candidates shaped like a hand the one with the sharpest outline wins.

    Args:
        labels: (H, W) label of every pixel, from `models.segmentation.cluster_features`.
        image: (H, W) the clustered image, contrast stretched to [0, 1], bone bright.

    Returns:
        The winner; or, where no candidate is shaped like a hand, the sharpest of them with the reason.
    """
    steepness = _steepness(image)
    regions = [region for region in map(largest_region, _merges(labels, image)) if region.any()]
    if not regions:
        return HandMask(np.zeros(labels.shape, bool), "no_region")
    edges = [_edge(region, steepness) for region in regions]
    candidates = [HandMask(r, _implausible(r, e), e) for r, e in zip(regions, edges, strict=True)]
    hands = [candidate for candidate in candidates if candidate.accepted]
    if not hands:
        return max(candidates, key=lambda candidate: candidate.edge)
    sharpest = max(hand.edge for hand in hands)
    return max((h for h in hands if h.edge >= SHARP_ENOUGH * sharpest), key=lambda hand: hand.mask.sum())


def largest_region(mask: Mask) -> Mask:
    """Return the largest connected region of a mask (H, W), smoothed and with its holes filled."""
    size = 2 * max(1, round(max(mask.shape) / 128)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opened = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
    )  # outside counts as background, so that a thin strip along the image's edge goes too
    count, components, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros(mask.shape, bool)
    largest = components == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, [_outline(largest)], -1, 1, cv2.FILLED)
    return np.asarray(filled > 0)


def hand_from_labels(labels: NDArray[np.integer], image: FloatArray, shape: tuple[int, int]) -> Hand:
    """Return the hand that a label map shows; it has no key points, and its frame comes from the palm alone.

    Args:
        labels: (h, w) label of every pixel, at the working size.
        image: (h, w) the clustered image, contrast stretched to [0, 1], bone bright.
        shape: height and width of the source image, to whose pixels the hand is scaled.

    Raises:
        NotAHand: no merged label is shaped like a hand.
    """
    found = extract_hand(labels, image)
    if found.reason is not None:
        raise NotAHand(
            f"feature clustering found no hand ({REASONS[found.reason]}); "
            "locate it with --localise fast, or give a radiograph of one hand with its fingers apart"
        )
    height, width = labels.shape
    scale = np.array([shape[1] / width, shape[0] / height])
    to_source = Affine(np.column_stack([np.diag(scale), (scale - 1) / 2]))
    hand = trim_at_wrist(found.mask)
    outline = _outline(hand).reshape(-1, 2).astype(np.float64)
    frame, side = _palm_frame(found.mask, hand)
    extent = frame(outline)
    (x0, y0), x1 = extent.min(axis=0) - BOX_MARGIN, extent[:, 0].max() + BOX_MARGIN
    margin = BOX_MARGIN / np.sqrt(abs(np.linalg.det(frame.matrix[:, :2])))
    box = np.array(mask_box(hand)) + margin * np.array([-1, -1, 1, 0])
    left, top, right, bottom = np.clip(box, 0, [width, height, width, height]) * np.tile(scale, 2)
    return Hand(
        box_px=(float(left), float(top), float(right), float(bottom)),
        to_upright=to_source.inverse().then(frame),
        upright_box=(float(x0), float(y0), float(x1), MARGIN_WRIST),
        side=side,
        outline_px=to_source(outline).astype(np.float32),
        keypoints_px={},
        confidence=float(min(1.0, found.edge / CLEAR_EDGE)),
        method="dfc",
        warnings=(Notice("no_keypoints", "feature clustering finds the hand's outline but no key points"),),
    )


def _palm_frame(whole: Mask, hand: Mask) -> tuple[Affine, Side]:
    """Return mask pixels -> upright frame, and which hand it is by the side on which the thumb stands out."""
    centre, radius = palm(whole)
    up, unit = finger_direction(whole), UNIT_RADII * radius
    wrist = centre - (WRIST_REACH - MARGIN_WRIST * UNIT_RADII) * radius * up
    rows = np.array([[-up[1], up[0]], -up]) / unit
    x, y = rows @ (np.argwhere(hand)[:, ::-1] - wrist).T
    beside = x[(y > -1) & (y < -0.2)]  # between wrist and knuckles only the thumb stands out
    mirrored = bool(len(beside)) and -beside.min() > beside.max()
    if mirrored:
        rows[0] = -rows[0]
    return Affine(np.column_stack([rows, -rows @ wrist])), Side.RIGHT if mirrored else Side.LEFT


def trim_at_wrist(mask: Mask, keypoints: NDArray[np.float64] | None = None) -> Mask:
    """Return the mask without the forearm: from the fingertips to the growth plates of radius and ulna.

    Without key points the cut lies `WRIST_REACH` palm radii below the palm's centre, square to the
    direction in which the fingers point. The palm is the widest disc inside the mask: the forearm
    is narrower, so its length on the film moves neither the disc nor the cut.

    Args:
        mask: (H, W) one hand, with or without its forearm; not empty.
        keypoints: (21, 2) key points as in `anatomy.keypoints.NAMES`, in the mask's pixels, where they
            are known: the cut then lies `MARGIN_WRIST` below the wrist.

    Raises:
        NotAHand: the key points of wrist and knuckle coincide.
    """
    rows, columns = np.indices(mask.shape)
    pixels = np.stack([columns, rows], axis=-1).astype(np.float64)
    if keypoints is not None:
        below = upright_frame(keypoints)[0](pixels)[..., 1] - MARGIN_WRIST
    else:
        centre, radius = palm(mask)
        below = -(pixels - centre) @ finger_direction(mask) - WRIST_REACH * radius
    return largest_region(mask & (below <= 0))


def finger_direction(mask: Mask) -> NDArray[np.float64]:
    """Return the unit vector (x, y) from the palm's centre to the middle of the fingers.

    Fingers are what an opening with a disc of the palm's radius across takes from the mask. A mask
    without any (a mitten) points away from the mean of all that is not palm.
    """
    centre, radius = palm(mask)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(radius / 2) + 1,) * 2)
    pad = round(radius) + 1
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    core = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[pad:-pad, pad:-pad] > 0
    fingers, sign = _beyond_palm(mask & ~core, centre, radius), 1.0
    if not len(fingers):
        fingers, sign = _beyond_palm(mask, centre, radius), -1.0
    if not len(fingers):
        return np.array([0.0, -1.0])
    direction: NDArray[np.float64] = sign * (fingers.mean(axis=0) - centre)
    return direction / max(float(np.hypot(*direction)), 1e-9)


def _beyond_palm(mask: Mask, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Return the pixels (N, 2) of a mask that are clear of the palm's disc."""
    points = np.argwhere(mask)[:, ::-1].astype(np.float64)
    clear: NDArray[np.float64] = points[np.hypot(*(points - centre).T) > 1.2 * radius]
    return clear


def mask_box(mask: Mask) -> Box:
    """Return the box (x0, y0, x1, y1), end-exclusive, around a mask (H, W) that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _merges(labels: NDArray[np.integer], image: FloatArray) -> list[Mask]:
    """Return a mask for every cut of the labels' ranking by brightness, background left out."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count)
    brightness = np.bincount(labels.ravel(), weights=image.ravel(), minlength=count) / np.maximum(sizes, 1)
    border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    ring = max(2, round(RING * max(labels.shape)))
    inner = np.bincount(labels[ring:-ring, ring:-ring].ravel(), minlength=count)
    background = (np.bincount(border, minlength=count) > BORDER_SHARE * border.size) | (inner < 0.5 * sizes)
    ranking = [label for label in np.argsort(-brightness) if sizes[label] and not background[label]]
    return [np.isin(labels, ranking[: cut + 1]) for cut in range(len(ranking))]


def _steepness(image: FloatArray) -> FloatArray:
    """Return the rise of log brightness across one 128th of the image: faint skin counts as bone does."""
    unit = max(image.shape) / 128
    faint = np.log(cv2.GaussianBlur(image, (0, 0), 0.7 * unit) + np.float32(FLOOR))
    across, down = (
        cv2.Sobel(faint, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(faint, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    return np.asarray(np.hypot(across, down) * unit, dtype=np.float32)


def _edge(region: Mask, steepness: FloatArray) -> float:
    """Return the steepness that most of a region's outline has, leaving out the image's border."""
    columns, rows = _outline(region).reshape(-1, 2).T
    height, width = region.shape
    inner = (columns > 1) & (columns < width - 2) & (rows > 1) & (rows < height - 2)
    return float(np.quantile(steepness[rows[inner], columns[inner]], EDGE_QUANTILE)) if inner.any() else 0.0


def _implausible(region: Mask, edge: float) -> str | None:
    """Return why a region cannot be one hand, or None."""
    area, outline = float(region.sum()), _outline(region)
    border = np.concatenate([region[0], region[-1], region[1:-1, 0], region[1:-1, -1]])
    _, (width, height), _ = cv2.minAreaRect(outline)
    solidity = area / max(cv2.contourArea(cv2.convexHull(outline)), 1.0)
    checks = {
        "too_small": area < AREA[0] * region.size,
        "too_large": area > AREA[1] * region.size,
        "touches_border": border.mean() > BORDER_CONTACT,
        "rectangle": area > RECTANGULARITY * max(width * height, 1.0),
        "ragged": solidity < SOLIDITY[0],
        "no_fingers": solidity > SOLIDITY[1] or finger_gaps(region) < MIN_GAPS,
        "weak_edge": edge < MIN_EDGE,
    }
    return next((reason for reason, failed in checks.items() if failed), None)


def finger_gaps(region: Mask) -> int:
    """Count the dents of a region's outline that are deep enough to lie between two fingers."""
    outline = _outline(region)
    hull = cv2.convexHull(outline, returnPoints=False)
    defects = cv2.convexityDefects(outline, np.sort(hull, axis=0)[::-1]) if len(hull) > 3 else None
    if defects is None:
        return 0
    return int((defects.reshape(-1, 4)[:, 3] / 256 > GAP_DEPTH * palm(region)[1]).sum())


def palm(region: Mask) -> tuple[NDArray[np.float64], float]:
    """Return centre (x, y) and radius, px, of the largest disc inside a region and the image."""
    reach = cv2.distanceTransform(
        cv2.copyMakeBorder(region.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5
    )[1:-1, 1:-1]
    row, column = np.unravel_index(int(reach.argmax()), reach.shape)
    return np.array([column, row], dtype=np.float64), float(reach[row, column])


def _outline(region: Mask) -> NDArray[np.int32]:
    """Return the longest outer contour (N, 1, 2) of a region that is not empty."""
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(max(contours, key=len), dtype=np.int32)
