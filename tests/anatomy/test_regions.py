"""Regions move with the hand, look alike however it lies, and agree with hand-drawn boxes."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.anatomy.regions import BONES, KEY_REGIONS, RegionViews, bone_regions, key_regions
from boneage.core.types import Affine, Hand, Radiograph, Sex
from boneage.data.synthetic import draw_hand
from boneage.imaging.read import read
from boneage.inference.assess import Finder
from boneage.inference.bundle import Bundle
from boneage.standards.names import Bone

SIZE = (1000, 800)


def hand_of(points: np.ndarray, shape: tuple[int, int] = SIZE) -> Hand:
    return hand_from_points(points, None, shape, confidence=0.9, method="fast")


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Key points (21, 2) of a drawn left hand."""
    drawn = draw_hand(120.0, Sex.FEMALE)
    scale = 900 / max(drawn.radiograph.shape)
    return np.array([drawn.keypoints_px[name] for name in NAMES]) * scale


def moved(points: np.ndarray, degrees: float, mirrored: bool) -> tuple[np.ndarray, Affine]:
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    move = Affine(np.column_stack([linear, np.array([400.0, 500.0]) - linear @ points.mean(axis=0)]))
    return move(points), move


def test_every_bone_and_every_key_region_is_there(points: np.ndarray) -> None:
    hand = hand_of(points)
    assert [region.name for region in bone_regions(hand, SIZE)] == [str(bone) for bone in Bone]
    assert list(BONES) == [str(bone) for bone in Bone]
    assert [region.name for region in key_regions(hand, SIZE)] == [str(n) for n in range(1, 20)]
    assert set(KEY_REGIONS) == {str(n) for n in range(1, 20)}


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 180.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_regions_move_with_the_hand(points: np.ndarray, degrees: float, mirrored: bool) -> None:
    other, move = moved(points, degrees, mirrored)
    for before, after in zip(
        bone_regions(hand_of(points), SIZE), bone_regions(hand_of(other), SIZE), strict=True
    ):
        centre = np.array(before.box_px).reshape(2, 2).mean(axis=0)
        np.testing.assert_allclose(np.array(after.box_px).reshape(2, 2).mean(axis=0), move(centre), atol=1e-6)
        np.testing.assert_allclose(after.to_view(move(points)), before.to_view(points), atol=1e-9)


def test_boxes_of_a_hand_turned_by_a_right_angle_are_turned_too(points: np.ndarray) -> None:
    other, _ = moved(points, 90.0, mirrored=False)
    one, two = (bone_regions(hand_of(which), SIZE) for which in (moved(points, 0.0, False)[0], other))
    for before, after in zip(one, two, strict=True):
        (x0, y0, x1, y1), (u0, v0, u1, v1) = before.box_px, after.box_px
        assert (u1 - u0, v1 - v0) == pytest.approx((y1 - y0, x1 - x0))


def test_a_view_shows_what_its_map_says(points: np.ndarray) -> None:
    pixels = np.zeros(SIZE, np.float32)
    hand = hand_of(points)
    region = bone_regions(hand, SIZE, ["mp3"])[0]
    x, y = np.round(hand.keypoints_px["middle_finger2"]).astype(int)
    pixels[y - 3 : y + 4, x - 3 : x + 4] = 1.0
    view = RegionViews(Radiograph(pixels)).cut(region.to_view, 80)
    row, column = np.unravel_index(int(view.argmax()), view.shape)
    expected = region.to_view(np.array([float(x), float(y)])) * 80 - 0.5
    assert np.abs(np.array([column, row]) - expected).max() < 6
    assert view.shape == (80, 80)


def test_what_leaves_the_image_is_known(points: np.ndarray) -> None:
    hand = hand_of(points)
    wrist = hand.keypoints_px["wrist"][1]
    cut = {region.name: region.visible for region in bone_regions(hand, (int(wrist), SIZE[1]))}
    assert cut["radius"] < 0.3
    assert cut["ulna"] < 0.3
    assert cut["mp3"] == pytest.approx(1.0)


def test_an_epiphysis_that_was_seen_places_its_bone(points: np.ndarray) -> None:
    hand = replace(hand_of(points), epiphyses_px={"radius": (321.0, 654.0)})
    (radius,) = bone_regions(hand, SIZE, ["radius"])
    assert np.array(radius.box_px).reshape(2, 2).mean(axis=0) == pytest.approx([321.0, 654.0])


def test_boxes_agree_with_hand_drawn_ones(shared_data: Path) -> None:
    boxes: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    with (shared_data / "roi_boxes" / "ossification_boxes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            edges = [float(row[key]) for key in ("x0", "y0", "x1", "y1")]
            boxes[row["id"]][row["region"]].append(np.array(edges))
    with (shared_data / "rsna" / "labels.csv").open(newline="") as file:
        paths = {row["id"]: shared_data / "rsna" / row["path"] for row in csv.DictReader(file)}
    find = Finder(Bundle.load().graph("hand_finder"))
    classes = {"mp3": "PIP", "mp5": "PIP", "dp3": "DIP", "pp3": "MCP", "pp5": "MCP", "radius": "Radius"}
    near = []
    for name in sorted(boxes)[:6]:
        radiograph = read(paths[name])
        for region in bone_regions(find(radiograph), radiograph.shape, classes):
            centre = np.array(region.box_px).reshape(2, 2).mean(axis=0)
            drawn = boxes[name][classes[region.name]]
            offs = [np.abs(centre - (b[:2] + b[2:]) / 2) / (b[2:] - b[:2]) for b in drawn]
            near.append(min(float(off.max()) for off in offs))
    assert np.mean(np.array(near) < 0.25) > 0.9
    assert np.median(near) < 0.12
