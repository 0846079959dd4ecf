"""Boxes of classes become named bones, where nothing has to be guessed."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from boneage.anatomy.detections import (
    CLASSES,
    COUNTS,
    Detection,
    FoundRegion,
    KeypointRegions,
    class_boxes,
    name_bones,
)
from boneage.anatomy.regions import BONES, bone_regions
from boneage.core.types import Affine, Hand, Radiograph, Sex, Side
from boneage.data.synthetic import DrawnHand, View, draw_hand

DRAWN = draw_hand(130.0, Sex.FEMALE, 3, View(shape=(420, 330)))
SHAPE = (420, 330)


def as_hand(drawn: DrawnHand) -> Hand:
    """A drawn hand as a localiser would find it."""
    return Hand(
        box_px=drawn.box_px,
        to_upright=drawn.to_upright,
        upright_box=(-1.0, -2.0, 1.0, 0.4),
        side=drawn.side,
        outline_px=np.empty((0, 2), np.float32),
        keypoints_px=drawn.keypoints_px,
        confidence=0.9,
        method="fast",
    )


HAND = as_hand(DRAWN)
BOXES = class_boxes(HAND, SHAPE)


def turned(detections: tuple[Detection, ...], linear: np.ndarray) -> tuple[Detection, ...]:
    """Detections about the image's centre, each box keeping its size."""
    middle = np.array(SHAPE[::-1]) / 2
    moved = []
    for each in detections:
        box = np.array(each.box_px).reshape(2, 2)
        centre, half = box.mean(axis=0), np.ptp(box, axis=0) / 2
        at = linear @ (centre - middle) + middle
        moved.append(replace(each, box_px=(*(at - half).tolist(), *(at + half).tolist())))
    return tuple(moved)


def rotation(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def by_name(found: tuple[FoundRegion, ...]) -> dict[str, FoundRegion]:
    return {each.name: each for each in found}


def test_a_hand_has_as_many_boxes_of_each_class_as_it_has_joints() -> None:
    assert {label: sum(each.label == label for each in BOXES) for label in CLASSES} == dict(COUNTS)


@pytest.mark.parametrize("seed", range(3))
def test_boxes_in_any_order_are_named_as_key_points_name_them(seed: int) -> None:
    boxes = list(BOXES)
    random.Random(seed).shuffle(boxes)
    found = name_bones(boxes, SHAPE)
    assert [each.name for each in found] == list(BONES)
    for region, placed in zip(found, bone_regions(HAND, SHAPE), strict=True):
        size = placed.box_px[2] - placed.box_px[0]
        np.testing.assert_allclose(region.box_px, placed.box_px, atol=0.05 * size)
        corners = np.array(placed.box_px).reshape(2, 2)
        np.testing.assert_allclose(region.to_view(corners), placed.to_view(corners), atol=0.12)
        assert region.confidence == 0.9


@pytest.mark.parametrize("degrees", [-120, -45, 20, 90, 180])
@pytest.mark.parametrize("mirrored", [False, True])
def test_any_pose_and_either_hand_is_named(degrees: float, mirrored: bool) -> None:
    linear = rotation(degrees) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    moved = turned(BOXES, linear)
    upright = by_name(name_bones(BOXES, SHAPE))
    for name, region in by_name(name_bones(moved, (2000, 2000))).items():
        if name in ("capitate", "hamate"):
            continue
        before = Detection("", upright[name].box_px, 1.0)
        np.testing.assert_allclose(region.box_px, turned((before,), linear)[0].box_px, atol=1e-6)
        # The view turns with the hand: a graded crop looks the same.
        centre = np.array(region.box_px).reshape(2, 2).mean(axis=0)
        old_centre = np.array(before.box_px).reshape(2, 2).mean(axis=0)
        np.testing.assert_allclose(region.to_view(centre), upright[name].to_view(old_centre), atol=1e-6)


def test_a_finger_that_lacks_a_box_leaves_its_class_without_names() -> None:
    last = next(each for each in BOXES if each.label == "DIP")
    found = by_name(name_bones([each for each in BOXES if each is not last], SHAPE))
    assert {"dp3", "dp5"}.isdisjoint(found)
    assert {"radius", "ulna", "mc1", "pp1", "dp1", "capitate", "hamate"} <= set(found)


def test_a_weak_box_does_not_count_and_a_surplus_one_is_the_weakest() -> None:
    weak = [replace(each, confidence=0.2) if each.label == "Ulna" else each for each in BOXES]
    assert name_bones(weak, SHAPE) == ()
    stray = Detection("DIP", (0.0, 0.0, 5.0, 5.0), 0.4)
    np.testing.assert_array_equal(
        [each.box_px for each in name_bones([stray, *BOXES], SHAPE)],
        [each.box_px for each in name_bones(BOXES, SHAPE)],
    )


@pytest.mark.parametrize("label", ["Wrist", "Radius", "Ulna", "MCP"])
def test_without_what_orients_the_hand_nothing_is_named(label: str) -> None:
    assert name_bones([each for each in BOXES if each.label != label], SHAPE) == ()
    assert name_bones([], SHAPE) == ()


def test_without_the_base_of_the_thumb_only_the_thumb_goes() -> None:
    found = by_name(name_bones([each for each in BOXES if each.label != "CMC"], SHAPE))
    assert set(BONES) - set(found) == {"mc1", "pp1", "dp1"}


def test_the_key_point_route_has_the_same_interface_and_leaves_out_what_the_image_does_not_show() -> None:
    radiograph = Radiograph(DRAWN.pixels)
    assert [each.name for each in KeypointRegions(lambda _: HAND)(radiograph)] == list(BONES)
    low = HAND.keypoints_px["wrist"][1]
    cut = Radiograph(DRAWN.pixels[: round(low)])
    assert {"radius", "ulna"}.isdisjoint(by_name(KeypointRegions(lambda _: HAND)(cut)))


def test_the_side_is_known_by_radius_and_ulna() -> None:
    assert HAND.side is Side.LEFT  # as drawn; what follows from it is tested in any pose above
    assert isinstance(name_bones(BOXES, SHAPE)[0].to_view, Affine)
