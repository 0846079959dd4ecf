"""Drawn hands: true to their own truth, growing with age, and plainly drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError
from boneage.core.types import Sex, Side
from boneage.data.manifest import read_manifest
from boneage.data.phantom import JOINTS, hand_anatomy
from boneage.data.synthetic import (
    DrawnHand,
    View,
    draw_cut_off_hand,
    draw_foot,
    draw_hand,
    draw_two_hands,
    save_drawings,
)

QUIET = View(noise=0.0)


def _names(age_months: float, sex: Sex) -> set[str]:
    return {bone.name for bone in hand_anatomy(age_months, sex, np.random.default_rng(0)).bones}


def test_the_same_arguments_draw_the_same_pixels_and_another_seed_others() -> None:
    first, again, other = (draw_hand(100.0, Sex.MALE, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.pixels, again.pixels)
    assert first.keypoints_px == again.keypoints_px
    assert not np.array_equal(first.pixels, other.pixels)


def test_pixels_are_a_radiograph_that_says_it_is_drawn() -> None:
    drawn = draw_hand(100.0, Sex.FEMALE)
    radiograph = drawn.radiograph
    assert drawn.pixels.dtype == np.float32
    assert drawn.pixels.shape == (800, 600)
    assert 0.0 <= drawn.pixels.min() < drawn.pixels.max() <= 1.0
    assert drawn.label == "DRAWN"
    assert [warning.code for warning in radiograph.warnings] == ["drawn_hand"]
    assert "drawn" in radiograph.provenance["pixels"]
    assert (radiograph.sex, radiograph.side) == (Sex.FEMALE, Side.LEFT)


def test_the_word_is_burned_in_even_where_no_side_is_marked() -> None:
    bare = draw_hand(100.0, Sex.MALE, view=View(marker=False, noise=0.0))
    marked = draw_hand(100.0, Sex.MALE, view=QUIET)
    assert (bare.pixels[~bare.mask] > 0.8).sum() > 100
    assert (marked.pixels > 0.8).sum() > (bare.pixels > 0.8).sum(), "the letter L joins the word"


@settings(deadline=None, max_examples=15)
@given(
    age=st.floats(6, 240),
    sex=st.sampled_from(Sex),
    seed=st.integers(0, 1000),
    turn=st.floats(-180, 180),
    side=st.sampled_from(Side),
    exposure=st.floats(0.2, 1.5),
    forearm=st.floats(0.2, 1.0),
)
def test_truth_holds_in_every_pose(
    age: float, sex: Sex, seed: int, turn: float, side: Side, exposure: float, forearm: float
) -> None:
    view = View((400, 300), turn, side, exposure, forearm)
    hand = draw_hand(age, sex, seed, view)
    x0, y0, x1, y1 = hand.box_px
    assert set(hand.keypoints_px) == set(JOINTS)
    for name, (x, y) in hand.keypoints_px.items():
        assert x0 <= x < x1, name
        assert y0 <= y < y1, name
        assert hand.mask[int(y), int(x)], f"{name} lies in the flesh"
    wrist, knuckle = hand.to_upright(
        np.array([hand.keypoints_px["wrist"], hand.keypoints_px["middle_finger1"]])
    )
    assert wrist == pytest.approx([0, 0], abs=1e-6)
    assert knuckle == pytest.approx([0, -1], abs=1e-6)
    mirrored = np.linalg.det(hand.to_upright.matrix[:, :2]) < 0
    assert mirrored == (side is Side.RIGHT)


def test_bones_are_brighter_than_flesh_and_flesh_than_air() -> None:
    hand = draw_hand(120.0, Sex.MALE, view=QUIET)
    middle = np.mean(
        [hand.keypoints_px["middle_finger1"], hand.keypoints_px["middle_finger2"]], axis=0
    ).astype(int)
    bone = hand.pixels[middle[1], middle[0]]
    inner = cv2.erode(hand.mask.astype(np.uint8), np.ones((9, 9))) > 0
    flesh = np.quantile(hand.pixels[inner], 0.2)
    x0, y0, x1, y1 = (int(edge) for edge in hand.box_px)
    air = np.median(hand.pixels[y0:y1, x0:x1][~hand.mask[y0:y1, x0:x1]])
    assert bone > 1.3 * flesh
    assert flesh > 1.5 * air


def test_a_dark_film_is_darker() -> None:
    bright, dark = (draw_hand(120.0, Sex.MALE, view=View(exposure=e, noise=0.0)) for e in (1.0, 0.2))
    assert dark.pixels[dark.mask].mean() < 0.5 * bright.pixels[bright.mask].mean()


def test_the_forearm_leaves_the_film_and_is_no_part_of_the_box() -> None:
    hand = draw_hand(120.0, Sex.MALE, view=View(forearm=1.0, collimator=False))
    assert hand.mask[-1].any(), "the arm runs over the film's edge"
    assert hand.box_px[3] < 0.85 * hand.pixels.shape[0]
    below = hand.keypoints_px["wrist"][1]
    assert below < hand.box_px[3], "the growth plates of the forearm are in the box"


def test_ossification_follows_the_calendar() -> None:
    carpals = {"capitate", "hamate", "triquetrum", "lunate", "scaphoid", "trapezium", "trapezoid", "pisiform"}
    assert _names(12.0, Sex.MALE) & carpals == {"capitate", "hamate"}
    assert _names(12 * 14.0, Sex.MALE) >= carpals
    assert "ulna_epiphysis" not in _names(60.0, Sex.MALE)
    assert "ulna_epiphysis" in _names(90.0, Sex.MALE)
    assert len(_names(72.0, Sex.FEMALE)) > len(_names(72.0, Sex.MALE)), "girls are ahead"
    assert not [name for name in _names(12 * 17.5, Sex.MALE) if name.startswith("dp") and "epi" in name]


def test_epiphyses_widen_with_age() -> None:
    widths = []
    for years in (3, 6, 9, 12):
        bones = hand_anatomy(12.0 * years, Sex.MALE, np.random.default_rng(0)).bones
        outline = next(bone.outline for bone in bones if bone.name == "radius_epiphysis")
        widths.append(np.ptp(outline[:, 0]))
    assert (np.diff(widths) > 0.01).all()


def test_what_must_be_refused_is_drawn_as_such() -> None:
    foot, pair = draw_foot(), draw_two_hands(100.0, Sex.FEMALE)
    assert not foot.keypoints_px
    assert not pair.keypoints_px
    parts, _ = cv2.connectedComponents(pair.mask.astype(np.uint8))
    assert parts - 1 == 2
    assert cv2.connectedComponents(foot.mask.astype(np.uint8))[0] - 1 == 1


@pytest.mark.parametrize("turn", [0.0, 90.0, 180.0, -60.0])
def test_a_cut_off_hand_loses_its_fingertips(turn: float) -> None:
    hand = draw_cut_off_hand(120.0, Sex.MALE, view=View(rotation_degrees=turn))
    height, width = hand.pixels.shape
    x, y = hand.keypoints_px["middle_finger4"]
    assert not (0 <= x < width and 0 <= y < height)
    x, y = hand.keypoints_px["wrist"]
    assert 0 <= x < width
    assert 0 <= y < height


def test_impossible_drawings_are_refused() -> None:
    with pytest.raises(ConfigError, match="6 to 240 months"):
        draw_hand(3.0, Sex.MALE)
    with pytest.raises(ConfigError, match="64 pixels"):
        draw_hand(100.0, Sex.MALE, view=View((10, 10)))


def test_drawings_are_saved_with_their_manifest(tmp_path: Path) -> None:
    hands: list[DrawnHand] = [draw_hand(age, Sex.FEMALE, view=View((160, 120))) for age in (50.0, 150.0)]
    rows = read_manifest(save_drawings(tmp_path / "drawn", hands))
    assert [(row.sex, row.bone_age_months) for row in rows] == [(Sex.FEMALE, 50.0), (Sex.FEMALE, 150.0)]
    stored = cv2.imread(str(rows[0].path), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert np.abs(stored / 255.0 - hands[0].pixels).max() <= 0.5 / 255 + 1e-6
