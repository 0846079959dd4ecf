"""Where the graded bones and the key regions of a hand lie, as upright views of the source image.

A region is placed by a key point, in the upright frame of `Hand.to_upright`, in which the distance
from the wrist to the middle finger's knuckle is 1. Its box frames the growth plate, as the
ossification boxes of Koitka et al. (2018) do; its square view is wider and shows what a grade is read
from: the epiphysis, its metaphysis, and the neighbour across the joint. A finger's view is turned so
that the finger points as it does in a relaxed hand, and graded crops cut from upright hands look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Affine, Box, FloatArray, Hand, Radiograph
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.geometry import resize

MIN_VISIBLE = 0.6
"""Share of a region's box that must lie in the image for the region to be read."""


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """How a region is placed; lengths in hand units.

    Args:
        anchors: names of points to place it by; the first that the hand has is taken, with its offset.
        offsets: for every anchor, the box centre from it: (along, across) the axis, distally and towards
            the thumb.
        towards: key point that the axis runs to from the (first) anchor; empty is the hand's own axis.
        rest_degrees: the axis' usual direction, clockwise from the hand's; the view is turned by the rest.
        size: (width, height) of the box.
        view_along: the view's centre from the box's, along the axis.
        view_side: side of the square view.
    """

    anchors: tuple[str, ...]
    offsets: tuple[tuple[float, float], ...]
    size: tuple[float, float]
    view_side: float
    view_along: float = 0.0
    towards: str = ""
    rest_degrees: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRegion:
    """A region in one radiograph.

    Args:
        name: bone or key region.
        box_px: box around the growth plate, source pixels.
        to_view: source pixels -> the view, a unit square with (0, 0) at its upper left corner.
        visible: share of the box that lies in the image.
    """

    name: str
    box_px: Box
    to_view: Affine
    visible: float


def _joint(
    anchor: str,
    towards: str,
    rest: float,
    along: float,
    size: tuple[float, float],
    view: tuple[float, float] = (0.0, 0.0),
) -> RegionSpec:
    """Return a joint's region; a view of (0, 0) is a square a little over the box."""
    view_along, view_side = view if view[1] else (0.0, 1.1 * max(size))
    return RegionSpec((anchor,), ((along, 0.0),), size, view_side, view_along, towards, rest)


# Radius and ulna lie where the hand finder sees their epiphyses; where it has none for them, an offset from
# the wrist stands in. Offsets and sizes of the joints agree with the 20 hands of `ossification_boxes.csv`
# (MIT, razorx89); docs/reference/regions.md has by how much. Rest directions are medians over the training
# hands. Views frame what the graded crops in use frame.
_RADIUS = RegionSpec(("radius", "wrist"), ((0.0, 0.0), (-0.074, 0.065)), (0.395, 0.29), 0.45, -0.11)
_ULNA = RegionSpec(("ulna", "wrist"), ((0.0, 0.0), (-0.103, -0.200)), (0.25, 0.25), 0.395, -0.09)

BONES: Mapping[str, RegionSpec] = {
    "radius": _RADIUS,
    "ulna": _ULNA,
    "mc1": _joint("thumb1", "thumb2", 36.0, 0.038, (0.24, 0.24), (0.045, 0.36)),
    "mc3": _joint("middle_finger1", "middle_finger2", -2.0, -0.014, (0.215, 0.27), (-0.125, 0.323)),
    "mc5": _joint("pinky_finger1", "pinky_finger2", -25.0, -0.011, (0.205, 0.25), (-0.10, 0.323)),
    "pp1": _joint("thumb2", "thumb3", 33.0, 0.006, (0.225, 0.245), (0.054, 0.287)),
    "pp3": _joint("middle_finger1", "middle_finger2", -2.0, -0.014, (0.215, 0.27), (0.063, 0.278)),
    "pp5": _joint("pinky_finger1", "pinky_finger2", -32.0, -0.011, (0.205, 0.25), (0.081, 0.27)),
    "mp3": _joint("middle_finger2", "middle_finger3", -2.0, 0.025, (0.20, 0.245), (-0.018, 0.234)),
    "mp5": _joint("pinky_finger2", "pinky_finger3", -30.0, 0.016, (0.16, 0.20), (0.0, 0.225)),
    "dp1": _joint("thumb3", "thumb4", 39.0, 0.002, (0.20, 0.235), (0.054, 0.323)),
    "dp3": _joint("middle_finger3", "middle_finger4", -6.0, 0.037, (0.18, 0.215), (0.027, 0.278)),
    "dp5": _joint("pinky_finger3", "pinky_finger4", -26.0, 0.031, (0.17, 0.20), (0.036, 0.252)),
    "capitate": RegionSpec(("wrist",), ((0.26, 0.023),), (0.215, 0.27), 0.36),
    "hamate": RegionSpec(("wrist",), ((0.25, -0.111),), (0.215, 0.25), 0.36),
}
"""The thirteen bones of RUS-CHN and TW3 and the two carpals that CHN adds."""


def _finger(
    name: str, rest: Sequence[float], along: Sequence[float], sizes: Sequence[float]
) -> list[RegionSpec]:
    """Return a finger's regions from DIP to MCP; `sizes` are widths, and heights are a fifth more."""
    return [
        _joint(f"{name}{joint}", f"{name}{joint + 1}", turn, offset, (width, 1.2 * width))
        for joint, turn, offset, width in zip((3, 2, 1), rest, along, sizes, strict=True)
    ]


_KEY_REGIONS = [
    _joint("thumb3", "thumb4", 39.0, 0.002, (0.20, 0.235)),
    _joint("thumb2", "thumb3", 33.0, 0.006, (0.225, 0.245)),
    *_finger("forefinger", (4.0, 8.0, 8.0), (0.010, 0.022, 0.012), (0.17, 0.20, 0.235)),
    *_finger("middle_finger", (-6.0, -2.0, -2.0), (0.037, 0.025, -0.014), (0.18, 0.20, 0.215)),
    *_finger("ring_finger", (-11.0, -12.0, -12.0), (0.030, 0.017, -0.019), (0.17, 0.19, 0.215)),
    *_finger("pinky_finger", (-26.0, -30.0, -32.0), (0.031, 0.016, -0.011), (0.17, 0.16, 0.205)),
    _joint("thumb1", "thumb2", 36.0, 0.038, (0.24, 0.24)),
    RegionSpec(("wrist",), ((0.187, 0.042),), (0.77, 0.51), 0.81),
    RegionSpec(_RADIUS.anchors, _RADIUS.offsets, _RADIUS.size, 0.41),
    RegionSpec(_ULNA.anchors, _ULNA.offsets, _ULNA.size, 0.29),
    RegionSpec(("wrist",), ((0.232, 0.023),), (0.50, 0.38), 0.52),
]

KEY_REGIONS: Mapping[str, RegionSpec] = {str(n): spec for n, spec in enumerate(_KEY_REGIONS, start=1)}
"""Paper 2's 19 key regions by their number.

From tip to base: 1, 2 thumb IP and MCP; 3 to 5 forefinger DIP, PIP, MCP; 6 to 8 middle, 9 to 11 ring, 12 to
14 little finger; 15 base of the thumb; 16 carpals with their surroundings; 17 distal radius; 18 distal
ulna; 19 carpals without background.

Source: paper 2, Figure 2, which is lost; the numbering is inferred from its text and tables.
"""


def place(hand: Hand, spec: RegionSpec, name: str, shape: tuple[int, int]) -> PlacedRegion:
    """Return where a region lies.

    Args:
        hand: the hand, with its key points.
        spec: how the region is placed.
        name: the region's name.
        shape: height and width of the radiograph.
    """
    points = {**hand.keypoints_px, **hand.epiphyses_px}
    index, anchor = next((i, name) for i, name in enumerate(spec.anchors) if name in points)
    at = hand.to_upright(np.array(points[anchor]))
    axis = np.array([0.0, -1.0])
    if spec.towards:
        axis = hand.to_upright(np.array(points[spec.towards])) - at
        axis = axis / max(float(np.hypot(*axis)), 1e-6)
    across = np.array([-axis[1], axis[0]])
    along_by, across_by = spec.offsets[index]
    centre = at + along_by * axis + across_by * across
    return PlacedRegion(
        name,
        box := _source_box(hand, centre, spec.size),
        hand.to_upright.then(_view_frame(centre + spec.view_along * axis, axis, spec)),
        _share_inside(box, shape),
    )


def bone_regions(
    hand: Hand, shape: tuple[int, int], names: Iterable[str] = BONES
) -> tuple[PlacedRegion, ...]:
    """Return the regions of some bones, in the order named."""
    return tuple(place(hand, BONES[name], name, shape) for name in names)


def key_regions(hand: Hand, shape: tuple[int, int]) -> tuple[PlacedRegion, ...]:
    """Return paper 2's 19 key regions, in their numbers' order."""
    return tuple(place(hand, spec, name, shape) for name, spec in KEY_REGIONS.items())


def square_of(radiograph: Radiograph) -> Affine:
    """Return source pixels -> the unit square around a whole crop, for crops that were cut elsewhere."""
    height, width = radiograph.shape
    side = float(max(height, width))
    shift = [0.5 - (width - 1) / 2 / side, 0.5 - (height - 1) / 2 / side]
    return Affine(np.column_stack([np.eye(2) / side, shift]))


def widened(to_view: Affine, factor: float) -> Affine:
    """Return the map to a unit square that shows `factor` times as much to each side of the same centre."""
    shift = 0.5 - 0.5 / factor
    return to_view.then(Affine(np.array([[1 / factor, 0, shift], [0, 1 / factor, shift]])))


def _view_frame(centre: NDArray[np.float64], axis: NDArray[np.float64], spec: RegionSpec) -> Affine:
    """Return upright frame -> unit square, turned so that the axis points in its usual direction."""
    found = np.degrees(np.arctan2(axis[0], -axis[1])) if spec.towards else 0.0
    turn = np.deg2rad(spec.rest_degrees - found)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / spec.view_side
    return Affine(np.column_stack([linear, 0.5 - linear @ centre]))


def _source_box(hand: Hand, centre: NDArray[np.float64], size: tuple[float, float]) -> Box:
    """Return the box of a size in the upright frame as an axis-aligned one of source pixels.

    Half sides are root sums of squares, so that a hand turned a little keeps its boxes' size and one
    turned by a right angle has width and height exchanged.
    """
    matrix = hand.to_upright.inverse().matrix[:, :2]
    x, y = hand.to_upright.inverse()(centre)
    half_x, half_y = np.hypot(matrix[:, 0] * size[0], matrix[:, 1] * size[1]) / 2
    return float(x - half_x), float(y - half_y), float(x + half_x), float(y + half_y)


def _share_inside(box: Box, shape: tuple[int, int]) -> float:
    height, width = shape
    x0, y0, x1, y1 = box
    inside = max(0.0, min(x1, width) - max(x0, 0)) * max(0.0, min(y1, height) - max(y0, 0))
    return float(inside / max((x1 - x0) * (y1 - y0), 1e-6))


class RegionViews:
    """Cuts square views out of one radiograph; shrinks it once where views are much coarser than it."""

    def __init__(self, radiograph: Radiograph) -> None:
        self._levels: dict[int, tuple[FloatArray, Affine]] = {0: (radiograph.pixels, Affine.identity())}

    def cut(self, to_view: Affine, side: int, pose: Affine | None = None) -> FloatArray:
        """Return a view (side, side) in [0, 1], contrast stretched.

        Args:
            to_view: source pixels -> unit square.
            side: of the view, pixels.
            pose: a map of the view's pixels onto themselves that is applied last (augmentation).
        """
        scale = Affine(np.array([[side, 0.0, -0.5], [0.0, side, -0.5]]))
        transform = to_view.then(scale)
        if pose is not None:
            transform = transform.then(pose)
        shrink = float(np.sqrt(abs(np.linalg.det(transform.matrix[:, :2]))))
        level = max(0, int(np.floor(-np.log2(max(shrink, 1e-6)) + 0.4)))
        pixels, to_level = self._level(level)
        view = cv2.warpAffine(
            pixels,
            to_level.inverse().then(transform).matrix,
            (side, side),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return stretch_contrast(np.asarray(view, dtype=np.float32))

    def patch(self, to_view: Affine, side: int, margin: float) -> NDArray[np.uint8]:
        """Return a view (side, side) for storing, that shows `margin` times the unit square's side."""
        return (self.cut(widened(to_view, margin), side) * 255).round().astype(np.uint8)

    def _level(self, level: int) -> tuple[FloatArray, Affine]:
        """Return the radiograph shrunk by 2 ** level, averaging."""
        if level not in self._levels:
            pixels = self._levels[0][0]
            height, width = (max(1, round(side / 2**level)) for side in pixels.shape)
            self._levels[level] = resize(pixels, (height, width))
        return self._levels[level]
