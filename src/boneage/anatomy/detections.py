"""Regions as a detector gives them: boxes of a class, without a finger's name; and how they get names.

The classes are those of the ossification boxes of Koitka et al. (2018), and the base of the thumb, which
only key points give. A box is named by its place among its class: fingers are counted from the ulna's side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import FINGERS
from boneage.anatomy.regions import BONES, KEY_REGIONS, MIN_VISIBLE, bone_regions, key_regions
from boneage.core.types import Affine, Box, Hand, Point, Radiograph, Side

COUNTS: Mapping[str, int] = {"DIP": 4, "PIP": 5, "MCP": 5, "Wrist": 1, "Radius": 1, "Ulna": 1, "CMC": 1}
"""How many regions of each class a hand has; the thumb's only interphalangeal joint is a PIP."""

CLASSES = tuple(COUNTS)

CLASS_OF_KEY_REGION: Mapping[str, str] = {
    **dict.fromkeys(("3", "6", "9", "12"), "DIP"),
    **dict.fromkeys(("1", "4", "7", "10", "13"), "PIP"),
    **dict.fromkeys(("2", "5", "8", "11", "14"), "MCP"),
    "15": "CMC",
    "16": "Wrist",
    "17": "Radius",
    "18": "Ulna",
}
"""Paper 2's key region -> class; 19 lies within 16 and has none."""

MIN_CONFIDENCE = 0.3
"""Of a detection that may be named."""

_BOX_OF_BONE: Mapping[str, tuple[str, str]] = {
    "radius": ("Radius", ""),
    "ulna": ("Ulna", ""),
    "mc1": ("CMC", ""),
    "mc3": ("MCP", "middle_finger"),
    "mc5": ("MCP", "pinky_finger"),
    "pp1": ("MCP", "thumb"),
    "pp3": ("MCP", "middle_finger"),
    "pp5": ("MCP", "pinky_finger"),
    "mp3": ("PIP", "middle_finger"),
    "mp5": ("PIP", "pinky_finger"),
    "dp1": ("PIP", "thumb"),
    "dp3": ("DIP", "middle_finger"),
    "dp5": ("DIP", "pinky_finger"),
    "capitate": ("Wrist", ""),
    "hamate": ("Wrist", ""),
}
_FROM_ULNA = FINGERS[::-1]
_JOINT_OF_CLASS = {"MCP": "1", "PIP": "2", "DIP": "3"}


@dataclass(frozen=True, slots=True)
class Detection:
    """One box of a class: `label` is one of `CLASSES`, `box_px` source pixels, `confidence` 0 to 1."""

    label: str
    box_px: Box
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class FoundRegion:
    """A named bone's region, as `regions.PlacedRegion`, and how sure its detector is of it (0 to 1)."""

    name: str
    box_px: Box
    to_view: Affine
    visible: float
    confidence: float


class RegionDetector(Protocol):
    """Finds the graded bones of one radiograph, by key points or by boxes."""

    def __call__(self, radiograph: Radiograph) -> tuple[FoundRegion, ...]:
        """Return the bones found, in the order of `regions.BONES`; one that is not found is absent.

        Raises:
            NotAHand: there is no hand to place them in.
        """
        ...


class KeypointRegions:
    """Places regions by the key points of the hand that `locate` finds."""

    def __init__(self, locate: Callable[[Radiograph], Hand]) -> None:
        self._locate = locate

    def __call__(self, radiograph: Radiograph) -> tuple[FoundRegion, ...]:
        """Return the bones that lie in the image; a `RegionDetector`."""
        hand = self._locate(radiograph)
        return tuple(
            FoundRegion(placed.name, placed.box_px, placed.to_view, placed.visible, hand.confidence)
            for placed in bone_regions(hand, radiograph.shape)
            if placed.visible >= MIN_VISIBLE
        )


def class_boxes(hand: Hand, shape: tuple[int, int]) -> tuple[Detection, ...]:
    """Return the key regions of a hand as boxes of their classes, those that the image shows."""
    return tuple(
        Detection(CLASS_OF_KEY_REGION[placed.name], placed.box_px, hand.confidence)
        for placed in key_regions(hand, shape)
        if placed.name in CLASS_OF_KEY_REGION and placed.visible >= MIN_VISIBLE
    )


def name_bones(
    detections: Iterable[Detection], shape: tuple[int, int], min_confidence: float = MIN_CONFIDENCE
) -> tuple[FoundRegion, ...]:
    """Return the bones that detections show.

    Of each class the best as many as a hand has are taken. A class of fingers that lacks one has no names,
    since nobody can say which it lacks; without wrist, knuckles, radius and ulna nothing is named.

    Args:
        detections: of one radiograph, in any order.
        shape: height and width of the radiograph.
        min_confidence: weaker ones are left out.
    """
    best = _best_by_class([each for each in detections if each.confidence >= min_confidence])
    if any(len(best[label]) < COUNTS[label] for label in ("Wrist", "MCP", "Radius", "Ulna")):
        return ()
    named = _named(best)
    hand = _hand(named)
    points = {**hand.keypoints_px, **hand.epiphyses_px}
    names = [
        bone
        for bone, spec in BONES.items()
        if _BOX_OF_BONE[bone] in named
        and spec.anchors[0] in points
        and (not spec.towards or spec.towards in points)
    ]
    found = []
    for placed in bone_regions(hand, shape, names):
        detection = named[_BOX_OF_BONE[placed.name]]
        box = placed.box_px if detection.label == "Wrist" else detection.box_px
        found.append(FoundRegion(placed.name, box, placed.to_view, placed.visible, detection.confidence))
    return tuple(found)


def _best_by_class(detections: Sequence[Detection]) -> dict[str, list[Detection]]:
    ranked = sorted(detections, key=lambda each: -each.confidence)
    members = {label: [each for each in ranked if each.label == label] for label in CLASSES}
    return {label: members[label][:count] for label, count in COUNTS.items()}


def _named(best: Mapping[str, Sequence[Detection]]) -> dict[tuple[str, str], Detection]:
    """Return (class, finger) -> detection; the finger of a single region is ''."""
    wrist = _centre(best["Wrist"][0])
    up = np.mean([_centre(each) for each in best["MCP"]], axis=0) - wrist
    thumbwards = np.array([-up[1], up[0]])
    if (_centre(best["Radius"][0]) - _centre(best["Ulna"][0])) @ thumbwards < 0:
        thumbwards = -thumbwards

    def angle(detection: Detection) -> float:
        reach = _centre(detection) - wrist
        return float(np.arctan2(reach @ thumbwards, reach @ up))

    named: dict[tuple[str, str], Detection] = {}
    for label, members in best.items():
        if COUNTS[label] == 1:
            named.update({(each.label, ""): each for each in members})
        elif len(members) == COUNTS[label]:
            order = sorted(members, key=angle)
            named.update({(label, finger): each for finger, each in zip(_FROM_ULNA, order, strict=False)})
    return named


def _hand(named: Mapping[tuple[str, str], Detection]) -> Hand:
    """Return a hand whose key points place regions where the detections are."""
    frame, mirrored = _frame(named)
    to_source = frame.inverse()
    unit = float(np.sqrt(abs(np.linalg.det(to_source.matrix[:, :2]))))
    centres = _joint_centres(named)
    points: dict[str, Point] = {"wrist": _point(to_source(np.zeros(2)))}
    for finger in FINGERS:
        chain = [centres[name] for joint in "123" if (name := f"{finger}{joint}") in centres]
        if len(chain) < 3:
            continue
        chain.append(2 * chain[2] - chain[1])  # the fingertip, of which only the direction matters
        for joint in range(3):
            axis = chain[joint + 1] - chain[joint]
            along = _ALONG[f"{finger}{joint + 1}"] * unit / max(float(np.hypot(*axis)), 1e-6)
            points[f"{finger}{joint + 1}"] = _point(chain[joint] - along * axis)
        points[f"{finger}4"] = _point(chain[3])
    boxes = np.array([each.box_px for each in named.values()])
    upright = frame(np.array([_centre(each) for each in named.values()]))
    return Hand(
        box_px=(*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()),
        to_upright=frame,
        upright_box=(*upright.min(axis=0).tolist(), *upright.max(axis=0).tolist()),
        side=Side.RIGHT if mirrored else Side.LEFT,
        outline_px=np.empty((0, 2), np.float32),
        keypoints_px=points,
        confidence=min(each.confidence for each in named.values()),
        method="detector",
        epiphyses_px={bone: _point(_centre(named[bone.title(), ""])) for bone in ("radius", "ulna")},
    )


def _joint_centres(named: Mapping[tuple[str, str], Detection]) -> dict[str, NDArray[np.float64]]:
    """Return key point name -> the centre of its joint's box; the thumb's are CMC, MCP and IP."""
    centres = {}
    for (label, finger), detection in named.items():
        if label == "CMC":
            centres["thumb1"] = _centre(detection)
        elif finger == "thumb":
            centres["thumb2" if label == "MCP" else "thumb3"] = _centre(detection)
        elif finger:
            centres[finger + _JOINT_OF_CLASS[label]] = _centre(detection)
    return centres


def _frame(named: Mapping[tuple[str, str], Detection]) -> tuple[Affine, bool]:
    """Return source pixels -> upright frame, from the wrist's and the middle knuckle's box; and mirroring."""
    wrist, knuckle = _centre(named["Wrist", ""]), _centre(named["MCP", "middle_finger"])
    thumbwards = _centre(named["Radius", ""]) - _centre(named["Ulna", ""])
    up = knuckle - wrist
    mirrored = bool(thumbwards @ np.array([-up[1], up[0]]) < 0)
    mirror = -1.0 if mirrored else 1.0
    along, across = KEY_REGIONS["16"].offsets[0]
    # A similarity by two points as complex numbers: upright (x, y), mirrored where the hand is.
    first, second = complex(mirror * across, -along), complex(0.0, -1.0 - _ALONG["middle_finger1"])
    turn = complex(*up) / (second - first)
    shift = complex(*wrist) - turn * first
    linear = np.array([[turn.real * mirror, -turn.imag], [turn.imag * mirror, turn.real]])
    return Affine(np.column_stack([linear, [shift.real, shift.imag]])).inverse(), mirrored


def _centre(detection: Detection) -> NDArray[np.float64]:
    x0, y0, x1, y1 = detection.box_px
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2])


def _point(at: NDArray[np.float64]) -> Point:
    return float(at[0]), float(at[1])


_ALONG = {spec.anchors[0]: spec.offsets[0][0] for spec in KEY_REGIONS.values() if spec.towards}
"""Joint's key point -> how far distally of it its box's centre lies, hand units."""
