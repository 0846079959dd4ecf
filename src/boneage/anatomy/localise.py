"""Find the hand: the finder graph's input and output, and the upright frame of a hand.

The upright frame has its origin at the wrist and the middle finger's knuckle at (0, -1): fingers
up, thumb on the right, y downwards. Margins below are in that frame's unit, about 6 cm in an adult.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import (
    EPIPHYSES,
    KNUCKLE,
    NAMES,
    TIPS,
    WRIST,
    decode_heatmaps,
    epiphyses_in_order,
    in_anatomical_order,
)
from boneage.core.errors import NotAHand
from boneage.core.protocols import Runner
from boneage.core.types import Affine, Box, FloatArray, Hand, Notice, Point, Radiograph, Side
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.geometry import crop, letterbox, rotate

FINDER_SIZE = 192
FINDER_STRIDE = 4

MARGIN_TIP = 0.07
MARGIN_SIDE = 0.07
MARGIN_WRIST = 0.28
"""Below the wrist point: growth plates of radius and ulna and a little more (measured on labelled boxes)."""
MARGIN_BOX = 0.055
"""Around outline and fingertips in the hand box."""

MIN_CONFIDENCE = 0.5
"""Of the median key point; 1,318 real hands have 0.60 and more, drawn feet 0.39 to 0.53."""

MIN_CONFIDENCE_OUT_OF_ORDER = 0.7
"""The same where the joints do not lie as a hand's do."""

MIN_CONFIDENCE_WRIST = 0.15
"""Of the wrist; it is 0.20 and more on those hands, and under 0.05 where the wrist is not in the image."""

MIN_CONFIDENCE_EPIPHYSIS = 0.4
"""Of the centre of an epiphysis of the forearm; a weaker one is not seen."""

EPIPHYSIS_ROOM = 0.14
"""Least distance of such a centre to the image's edge; the growth plate of one that is closer is cut off."""

MASK_LEVEL = 0.5
SECOND_HAND_SHARE = 0.45

SMALL_HAND = 0.55
"""Share of the image's longer side under which a hand is looked at once more, closer."""

CLOSER_FACTOR = 1.5
"""Side of that closer look, in extents of the key points."""


def prepare_finder(
    radiograph: Radiograph, region: Box | None = None, quarters: int = 0
) -> tuple[dict[str, FloatArray], Affine]:
    """Return the finder graph's input and the map from source pixels to it.

    Args:
        radiograph: the image.
        region: the part of it to look at; None is all of it.
        quarters: by how many quarter turns, to the left, that part is turned first.
    """
    pixels, to_region = radiograph.pixels, Affine.identity()
    if region is not None:
        pixels, to_region = crop(pixels, region)
    pixels, to_turned = rotate(pixels, 90.0 * quarters)
    image, to_input = letterbox(stretch_contrast(pixels), FINDER_SIZE)
    return {"image": image[None, None].astype(np.float32)}, to_region.then(to_turned).then(to_input)


def quarters_to_upright(outputs: Mapping[str, FloatArray]) -> int:
    """Return by how many quarter turns, to the left, the fingers of a hand in the graph's input come up.

    Args:
        outputs: of the finder graph.

    Returns:
        0 to 3; 0 where there is no hand.
    """
    cells, confidences = decode_heatmaps(outputs["maps"][0][: len(NAMES)])
    if float(np.median(confidences)) < MIN_CONFIDENCE:
        return 0
    right, down = cells[KNUCKLE] - cells[WRIST]
    if abs(right) > abs(down):
        return 1 if right > 0 else 3
    return 2 if down > 0 else 0


def closer_region(outputs: Mapping[str, FloatArray], to_input: Affine, shape: tuple[int, int]) -> Box | None:
    """Return the part of the image worth a second look: around the key points of a small hand.

    Args:
        outputs: of the finder graph on the whole image.
        to_input: source pixels -> graph input.
        shape: height and width of the source image.

    Returns:
        A box in source pixels; None where the hand fills the image well, or there is none.

    Raises:
        NotAHand: there are two hands, of which the closer look would show one.
    """
    _refuse_second_hand(outputs["maps"][0][-1] > MASK_LEVEL)
    cells, confidences = decode_heatmaps(outputs["maps"][0][: len(NAMES)])
    if float(np.median(confidences)) < MIN_CONFIDENCE:
        return None
    points = to_input.inverse()((cells + 0.5) * FINDER_STRIDE - 0.5)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    if extent > SMALL_HAND * max(shape) or extent < FINDER_SIZE / 4:
        return None
    centre, half = (low + high) / 2, extent * CLOSER_FACTOR / 2
    return (*(centre - half), *(centre + half))


def find_hand(radiograph: Radiograph, run: Runner) -> Hand:
    """Return the hand in a radiograph, looked at again with its fingers up, and closer where it is small.

    So an image gives the same hand however it was turned by quarters.

    Args:
        radiograph: the image.
        run: runs the finder's graph.

    Raises:
        NotAHand: none, or more than one.
    """
    inputs, to_input = prepare_finder(radiograph)
    outputs = run(inputs)
    quarters = quarters_to_upright(outputs)
    if quarters:
        inputs, to_input = prepare_finder(radiograph, quarters=quarters)
        outputs = run(inputs)
    region = closer_region(outputs, to_input, radiograph.shape)
    if region is not None:
        inputs, to_input = prepare_finder(radiograph, region, quarters)
        outputs = run(inputs)
    return decode_finder(outputs, to_input, radiograph.shape)


def upright_frame(points: NDArray[np.float64]) -> tuple[Affine, bool]:
    """Return source pixels -> upright frame for key points (21, 2), and whether the hand was mirrored.

    Raises:
        NotAHand: wrist and knuckle coincide.
    """
    axis = points[KNUCKLE] - points[WRIST]
    length = float(np.hypot(*axis))
    if length < 1.0:
        raise NotAHand(
            "no hand found: its wrist and knuckles fall on one point; give a radiograph of one hand"
        )
    across, up = np.array([-axis[1], axis[0]]) / length, -axis / length
    rows = np.stack([across, up]) / length
    mirrored = bool((rows @ (points[NAMES.index("thumb3")] - points[NAMES.index("pinky_finger1")]))[0] < 0)
    if mirrored:
        rows[0] = -rows[0]
    return Affine(np.column_stack([rows, -rows @ points[WRIST]])), mirrored


def upright_extent(upright: NDArray[np.float64]) -> Box:
    """Return the hand's box in the upright frame: fingertips to growth plates, with margins."""
    x0, x1 = upright[:, 0].min() - MARGIN_SIDE, upright[:, 0].max() + MARGIN_SIDE
    return float(x0), float(upright[:, 1].min() - MARGIN_TIP), float(x1), MARGIN_WRIST


def hand_from_points(
    points: NDArray[np.float64], mask: NDArray[np.bool_] | None, shape: tuple[int, int], **described: object
) -> Hand:
    """Build a hand from key points and, where there is one, its mask; both in source pixels.

    Args:
        points: (21, 2) key points.
        mask: (H, W) hand with or without forearm; None draws the outline from the key points.
        shape: height and width of the source image.
        described: `confidence`, `method`, `warnings` and, where they are known, `epiphyses_px` of the hand.
    """
    to_upright, mirrored = upright_frame(points)
    upright_box = upright_extent(to_upright(points))
    outline = _outline(mask, to_upright, upright_box, shape)
    return Hand(
        box_px=_box(outline, points, to_upright, shape),
        to_upright=to_upright,
        upright_box=upright_box,
        side=Side.RIGHT if mirrored else Side.LEFT,
        outline_px=outline,
        keypoints_px={name: (float(x), float(y)) for name, (x, y) in zip(NAMES, points, strict=True)},
        **described,  # type: ignore[arg-type]
    )


def decode_finder(outputs: Mapping[str, FloatArray], to_input: Affine, shape: tuple[int, int]) -> Hand:
    """Turn the finder graph's output into a hand in source pixels.

    Args:
        outputs: `maps` (1, 24, h, w), probabilities: the heat maps of 21 key points and of the epiphyses
            of radius and ulna, and the mask. A graph without the epiphyses' (22 maps) finds none of them.
        to_input: source pixels -> graph input, from `prepare_finder`.
        shape: height and width of the source image.

    Raises:
        NotAHand: no hand, more than one, or one whose joints do not lie as a hand's do.
    """
    maps = outputs["maps"][0]
    cells, all_confidences = decode_heatmaps(maps[:-1])
    confidences = all_confidences[: len(NAMES)]
    confidence = float(np.median(confidences))
    if confidence < MIN_CONFIDENCE:
        raise NotAHand(
            f"no hand found (confidence {confidence:.2f}, at least {MIN_CONFIDENCE} expected); "
            "give a radiograph that shows one whole hand with the wrist"
        )
    _refuse_second_hand(maps[-1] > MASK_LEVEL)
    if confidences[WRIST] < MIN_CONFIDENCE_WRIST:
        raise NotAHand("the wrist is not in the image; give a radiograph of the whole hand with its wrist")
    everything = to_input.inverse()((cells + 0.5) * FINDER_STRIDE - 0.5)
    points = everything[: len(NAMES)]
    return hand_from_points(
        points,
        _source_mask(maps[-1], to_input, shape),
        shape,
        confidence=confidence,
        method="fast",
        warnings=_doubts(points, confidence),
        epiphyses_px=_epiphyses(everything, all_confidences, shape),
    )


def _epiphyses(
    points: NDArray[np.float64], confidences: NDArray[np.float64], shape: tuple[int, int]
) -> dict[str, Point]:
    """Return those epiphyses that are seen, of key points (21 or 23, 2) and their confidences.

    Two that do not lie as a forearm's do are both left out: which of them is wrong is not known.
    """
    upright, _ = upright_frame(points[: len(NAMES)])
    found = dict(zip(EPIPHYSES, points[len(NAMES) :], strict=False))  # an old graph gives none
    last = np.array(shape[::-1]) - 1.0
    room = EPIPHYSIS_ROOM / float(np.sqrt(abs(np.linalg.det(upright.matrix[:, :2]))))
    seen = {
        name: point
        for (name, point), confidence in zip(found.items(), confidences[len(NAMES) :], strict=True)
        if confidence >= MIN_CONFIDENCE_EPIPHYSIS and min(*point, *(last - point)) >= room
    }
    if not epiphyses_in_order({name: upright(point) for name, point in seen.items()}):
        return {}
    return {name: (float(x), float(y)) for name, (x, y) in seen.items()}


def _doubts(points: NDArray[np.float64], confidence: float) -> tuple[Notice, ...]:
    """Return what is doubtful about key points (21, 2), or refuse them."""
    if in_anatomical_order(upright_frame(points)[0](points)):
        return ()
    if confidence < MIN_CONFIDENCE_OUT_OF_ORDER:
        raise NotAHand(
            "no hand found: the joints found do not lie as a hand's do; "
            "give a radiograph of one whole hand, palm down"
        )
    return (Notice("joint_order", "the joints found do not lie as a hand's do; check the outline"),)


def _source_mask(probability: FloatArray, to_input: Affine, shape: tuple[int, int]) -> NDArray[np.bool_]:
    cells_to_input = Affine(
        np.array([[FINDER_STRIDE, 0, (FINDER_STRIDE - 1) / 2], [0, FINDER_STRIDE, (FINDER_STRIDE - 1) / 2]])
    )
    matrix = cells_to_input.then(to_input.inverse()).matrix
    height, width = shape
    source = cv2.warpAffine(probability, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(source > MASK_LEVEL)


def _refuse_second_hand(mask: NDArray[np.bool_]) -> None:
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = sorted(stats[1:count, cv2.CC_STAT_AREA], reverse=True)
    if len(areas) > 1 and areas[1] > SECOND_HAND_SHARE * areas[0] and areas[1] > 0.02 * mask.size:
        raise NotAHand("more than one hand found; give one hand an image (crop it to the left hand)")


def _outline(
    mask: NDArray[np.bool_] | None, to_upright: Affine, box: Box, shape: tuple[int, int]
) -> FloatArray:
    """Contour of the mask inside the upright box (which trims the forearm), or the box itself."""
    x0, y0, x1, y1 = box
    corners = to_upright.inverse()(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    if mask is not None:
        window = np.zeros(shape, np.uint8)
        cv2.fillPoly(window, [np.round(corners).astype(np.int32)], 1)
        contours, _ = cv2.findContours(
            window * mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        if contours:
            largest = max(contours, key=cv2.contourArea)
            if cv2.contourArea(largest) > 0.2 * cv2.contourArea(corners.astype(np.float32)):
                return largest[:, 0, :].astype(np.float32)
    return corners.astype(np.float32)


def _box(outline: FloatArray, points: NDArray[np.float64], to_upright: Affine, shape: tuple[int, int]) -> Box:
    """Axis-aligned box around the outline and the fingertips, with a margin, inside the image."""
    everything = np.vstack([outline, points[list(TIPS)], points[[WRIST]]])
    margin = MARGIN_BOX / float(np.sqrt(abs(np.linalg.det(to_upright.matrix[:, :2]))))
    height, width = shape
    x0, y0 = np.clip(everything.min(axis=0) - margin, 0, [width - 1, height - 1])
    x1, y1 = np.clip(everything.max(axis=0) + 1 + margin, 1, [width, height])
    return float(x0), float(y0), float(x1), float(y1)
