"""Draw what was found onto the radiograph: hand, graded regions, and where the method looked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import DeliveryError
from boneage.core.types import Box, FloatArray, Hand, ReadSheet, Region
from boneage.reporting.summary_tables import ARROW

Picture = NDArray[np.uint8]
"""(H, W, 3) 8-bit colour in OpenCV's order (blue, green, red)."""

BOX_COLOUR = (40, 200, 255)
OUTLINE_COLOUR = (200, 210, 60)
KEYPOINT_COLOUR = (70, 90, 255)
REGION_COLOUR = (90, 230, 120)
UNGRADED_COLOUR = (90, 90, 255)
CHANGED_COLOUR = (60, 180, 255)
HEAT_COLOURS = cv2.COLORMAP_INFERNO
_HEAT_OPACITY = 0.75
_SHOWN = ("rus_chn", "chn")
"""Standards whose grades are written on the picture, of a bone those of the first that has any."""
_ARROW_LONG = 1.5  # of an arrow between two grades, with its margins, of the letters' height
_MARGIN = 0.08  # around the hand, of its longer side: room for labels


def outline(image: FloatArray, hand: Hand, side_px: int = 900) -> Picture:
    """Return the radiograph with the hand's box, outline and key points drawn on it.

    Args:
        image: (H, W) float32 in [0, 1], the source pixels.
        hand: where the hand lies in these pixels.
        side_px: longest side of the picture; the radiograph is scaled to it before lines are
            drawn, so that they are equally readable on every size of film.
    """
    picture, scale = _scaled(image, side_px)
    width = max(1, round(side_px / 450))
    contour = _fixed_point(hand.outline_px, scale)
    if len(contour) > 1:
        cv2.polylines(picture, [contour], True, OUTLINE_COLOUR, width, cv2.LINE_AA, _SHIFT)
    corners = _fixed_point(np.reshape(np.asarray(hand.box_px, dtype=np.float64), (2, 2)), scale)
    cv2.rectangle(picture, corners[0], corners[1], BOX_COLOUR, width, cv2.LINE_AA, _SHIFT)
    points = _fixed_point(np.asarray(list(hand.keypoints_px.values())).reshape(-1, 2), scale)
    for point in points:
        cv2.circle(picture, point, (2 * width + 1) << _SHIFT, (0, 0, 0), -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(picture, point, (2 * width) << _SHIFT, KEYPOINT_COLOUR, -1, cv2.LINE_AA, _SHIFT)
    return picture


def graded_regions(
    image: FloatArray,
    regions: Sequence[Region],
    hand_box: Box | None = None,
    side_px: int = 1400,
    reading: Sequence[ReadSheet] = (),
) -> Picture:
    """Return the hand with every bone's region and its RUS-CHN grade (CHN's for carpals) drawn on it.

    Args:
        image: (H, W) float32 in [0, 1], the source pixels.
        regions: of the graded bones; one without grades is drawn in another colour with a question mark.
        hand_box: in source pixels; what lies well outside it and the regions is left out. None keeps all.
        side_px: longest side of the picture.
        reading: a reader's sheets; where they change a grade that is drawn, theirs follows it in a colour
            of its own.
    """
    x0, y0, x1, y1 = _cut_out(image.shape, regions, hand_box)
    picture, scale = _scaled(image[y0:y1, x0:x1], side_px)
    width = max(1, round(side_px / 600))
    moved = [replace(region, box_px=_moved(region.box_px, (x0, y0), scale)) for region in regions]
    for region in moved:
        corners = _fixed_point(np.reshape(np.asarray(region.box_px, dtype=np.float64), (2, 2)), 1.0)
        for colour, line in (
            ((0, 0, 0), width + 2),
            (_colour([region], reading), width),
        ):  # seen on bright films too
            cv2.rectangle(picture, corners[0], corners[1], colour, line, cv2.LINE_AA, _SHIFT)
    for label in labels(moved, picture.shape[:2], reading):
        _write(picture, label)
    return picture


@dataclass(frozen=True, slots=True)
class Label:
    """A text on a picture: its box in the picture's pixels, end-exclusive, and the text's colour and size."""

    text: str
    box_px: tuple[int, int, int, int]
    colour: tuple[int, int, int]
    size: float


def labels(
    regions: Sequence[Region], shape: tuple[int, int], reading: Sequence[ReadSheet] = ()
) -> list[Label]:
    """Return a label for every box, inside the picture, where it hides least of other boxes and labels.

    Args:
        regions: with their boxes in the picture's pixels; regions that share a box share a label.
        shape: height and width of the picture.
        reading: a reader's sheets.
    """
    shared = _shared_boxes(regions)
    taken: list[tuple[float, ...]] = [box for box, _ in shared]
    made = []
    for box, names in shared:
        text = "  ".join(f"{region.bone} {grade_text(region, reading)}" for region in names)
        label = _label(text, box, _colour(names, reading), taken, shape)
        taken.append(label.box_px)
        made.append(label)
    return made


def grade_text(region: Region, reading: Sequence[ReadSheet] = ()) -> str:
    """Return a region's grade as people write it: RUS-CHN's, CHN's where RUS-CHN has none, or `?`.

    Where a reader changed it, an arrow and the reader's grade follow.
    """
    sheet = _shown_sheet(region, reading)
    grade = next((region.grades[name] for name in _SHOWN if name in region.grades), None)
    own = "?" if grade is None else f"{grade:g}"
    return own if sheet is None else f"{own}{ARROW}{sheet.changed[region.bone]:g}"


def readers_caption(regions: Sequence[Region], reading: Sequence[ReadSheet]) -> str:
    """Return what a picture of graded regions says of a reader's changes; nothing where there are none."""
    made = {(sheet.standard, bone) for sheet in reading for bone in sheet.changed}
    sheets = [(region.bone, _shown_sheet(region, reading)) for region in regions]
    shown = {(sheet.standard, bone) for bone, sheet in sheets if sheet is not None}
    if not shown:
        return "A reader changed other grades: see the tables." if made else ""
    more = "; more changes: see the tables" if made - shown else ""
    return f"{ARROW} the network's grade to the reader's{more}."


def _shown_sheet(region: Region, reading: Sequence[ReadSheet]) -> ReadSheet | None:
    """Return the reader's sheet that changes the grade which the picture shows of a region."""
    own = [name for name in _SHOWN if name in region.grades][:1]
    sheets = {sheet.standard: sheet for sheet in reading if region.bone in sheet.changed}
    return next((sheets[name] for name in own or _SHOWN if name in sheets), None)


def _shared_boxes(regions: Sequence[Region]) -> list[tuple[Box, list[Region]]]:
    """Return boxes with their regions: metacarpal and phalanx meet in one joint and share its box."""
    shared: dict[Box, list[Region]] = {}
    for region in regions:
        shared.setdefault(region.box_px, []).append(region)
    return list(shared.items())


def _colour(regions: Sequence[Region], reading: Sequence[ReadSheet]) -> tuple[int, int, int]:
    if any(_shown_sheet(region, reading) for region in regions):
        return CHANGED_COLOUR
    return REGION_COLOUR if all(region.grades for region in regions) else UNGRADED_COLOUR


def _cut_out(
    shape: tuple[int, ...], regions: Sequence[Region], hand_box: Box | None
) -> tuple[int, int, int, int]:
    """Return the part of an image that shows hand and regions with a margin for labels, whole pixels."""
    height, width = shape[:2]
    if hand_box is None:
        return 0, 0, width, height
    boxes = np.array([hand_box, *(region.box_px for region in regions)])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    margin = _MARGIN * float(max(high - low))
    x0, y0 = (int(max(0.0, edge - margin)) for edge in low)
    x1, y1 = (int(min(end, np.ceil(edge + margin))) for edge, end in zip(high, (width, height), strict=True))
    return x0, y0, x1, y1


def _moved(box: Box, origin: tuple[int, int], scale: float) -> Box:
    """Return a box of source pixels in the pixels of a scaled cut-out."""
    x0, y0, x1, y1 = ((edge - origin[index % 2]) * scale for index, edge in enumerate(box))
    return x0, y0, x1, y1


def _label(
    text: str,
    box: Box,
    colour: tuple[int, int, int],
    taken: Sequence[tuple[float, ...]],
    shape: tuple[int, int],
) -> Label:
    """Return a text's label beside a box, or at its corners, where it hides least of what is there."""
    height, width = shape
    size = max(0.4, max(shape) / 1300)
    wide, tall = _text_size(text, size)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    lefts = (x1 + 6, x0 - wide - 6)
    tops = ((y0 + y1 - tall) // 2, y0 - tall, y1)
    spots = [(left, top) for top in tops for left in lefts]
    spots[2:2] = [((x0 + x1 - wide) // 2, top) for top in (y0 - tall - 8, y1 + 6)]
    boxes = []
    for left, top in spots:
        x, y = min(max(left, 2), width - wide - 3), min(max(top, 2), height - tall - 4)
        boxes.append((x - 2, y - 2, x + wide + 2, y + tall + 3))
    chosen = min(boxes, key=lambda spot: sum(_overlap(spot, other) for other in taken))
    return Label(text, chosen, colour, size)


def _write(picture: Picture, label: Label) -> None:
    x0, y0, x1, y1 = label.box_px
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), (0, 0, 0), -1)
    x, y = x0 + 2, y1 - 4
    long, tall = _arrow_size(label.size)
    for piece, after in _pieces(label.text):
        cv2.putText(
            picture, piece, (x, y), cv2.FONT_HERSHEY_SIMPLEX, label.size, label.colour, 2, cv2.LINE_AA
        )
        x += cv2.getTextSize(piece, cv2.FONT_HERSHEY_SIMPLEX, label.size, 2)[0][0]
        if after:
            ends = (x + tall // 6, y - tall // 2), (x + long - tall // 6, y - tall // 2)
            cv2.arrowedLine(picture, *ends, label.colour, 2, cv2.LINE_AA, tipLength=0.4)
            x += long


def _text_size(text: str, size: float) -> tuple[int, int]:
    """Return the width and the height of a text, its arrows drawn, in pixels."""
    long, tall = _arrow_size(size)
    pieces = [piece for piece, _ in _pieces(text)]
    wide = sum(cv2.getTextSize(piece, cv2.FONT_HERSHEY_SIMPLEX, size, 2)[0][0] for piece in pieces)
    return wide + (len(pieces) - 1) * long, tall


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Return what stands between a text's arrows, which OpenCV's letters lack, and whether one follows."""
    pieces = text.split(ARROW)
    yield from ((piece, at + 1 < len(pieces)) for at, piece in enumerate(pieces))


def _arrow_size(size: float) -> tuple[int, int]:
    """Return the length of an arrow with its margins, and the height of the letters beside it."""
    (_, tall), _ = cv2.getTextSize("0", cv2.FONT_HERSHEY_SIMPLEX, size, 2)
    return round(_ARROW_LONG * tall), tall


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the area that two boxes share."""
    wide, tall = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    return max(wide, 0.0) * max(tall, 0.0)


def heat(image: FloatArray, saliency: FloatArray, side_px: int = 900) -> Picture:
    """Return the radiograph with a saliency map laid over it, opaque where the map is high.

    Args:
        image: (H, W) float32 in [0, 1], the source pixels.
        saliency: (H, W) float32 in [0, 1] over the same pixels.
        side_px: longest side of the picture.
    """
    picture, _ = _scaled(image, side_px)
    height, width = picture.shape[:2]
    weight = cv2.resize(np.clip(saliency, 0.0, 1.0).astype(np.float32), (width, height))
    colours = cv2.applyColorMap(_to_byte(weight), HEAT_COLOURS)
    opacity = (_HEAT_OPACITY * weight)[..., None]
    return np.asarray(picture * (1.0 - opacity) + colours * opacity + 0.5, dtype=np.uint8)


def heat_legend(width: int = 256, height: int = 14) -> Picture:
    """Return the colour scale of `heat`, low on the left, as a (height, width, 3) picture."""
    ramp = np.tile(np.linspace(0.0, 1.0, width, dtype=np.float32), (height, 1))
    return np.asarray(cv2.applyColorMap(_to_byte(ramp), HEAT_COLOURS), dtype=np.uint8)


def png(picture: Picture) -> bytes:
    """Return a picture as a PNG file."""
    return _encode(picture, ".png", [])


def jpeg(picture: Picture, quality: int = 90) -> bytes:
    """Return a picture as a JPEG file, which is a tenth of the PNG for a radiograph."""
    return _encode(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


_SHIFT = 3
"""Fractional bits of drawn coordinates: lines are placed to an eighth of a pixel."""


def _encode(picture: Picture, suffix: str, settings: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, picture, settings)
    if not done:
        raise DeliveryError(f"a picture of shape {picture.shape} could not be written as {suffix}")
    return bytes(data.tobytes())


def _to_byte(image: NDArray[np.floating | np.integer]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(image, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)


def _scaled(image: FloatArray, side_px: int) -> tuple[Picture, float]:
    """Return the image in colour with its longest side at `side_px`, stretched to its own contrast."""
    height, width = image.shape
    scale = side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    low, high = np.percentile(small, (0.5, 99.5))
    stretched = (small - low) / max(float(high - low), 1e-6)
    return np.asarray(cv2.cvtColor(_to_byte(stretched), cv2.COLOR_GRAY2BGR), dtype=np.uint8), scale


def _fixed_point(points: NDArray[np.floating], scale: float) -> NDArray[np.int32]:
    return np.asarray(np.round(np.asarray(points).reshape(-1, 2) * scale * (1 << _SHIFT)), dtype=np.int32)
