"""Finding the hand: the upright frame holds for every pose, heat maps become hands, no hand is refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boneage.anatomy.keypoints import EPIPHYSES, KNUCKLE, NAMES, TIPS, WRIST
from boneage.anatomy.localise import (
    CLOSER_FACTOR,
    EPIPHYSIS_ROOM,
    FINDER_SIZE,
    FINDER_STRIDE,
    MARGIN_WRIST,
    MIN_CONFIDENCE,
    MIN_CONFIDENCE_EPIPHYSIS,
    MIN_CONFIDENCE_OUT_OF_ORDER,
    MIN_CONFIDENCE_WRIST,
    closer_region,
    decode_finder,
    find_hand,
    hand_from_points,
    prepare_finder,
    upright_extent,
    upright_frame,
)
from boneage.core.errors import NotAHand
from boneage.core.types import Affine, Box, FloatArray, Hand, Radiograph, Sex, Side
from boneage.data.synthetic import DrawnHand, View, draw_hand
from boneage.imaging.geometry import pad, rotate
from boneage.inference.bundle import Bundle
from boneage.inference.runners import open_graph

CELLS = FINDER_SIZE // FINDER_STRIDE
DRAWN = {side: draw_hand(120.0, Sex.MALE, 0, View(shape=(320, 240), side=side)) for side in Side}


def points_of(hand: DrawnHand) -> NDArray[np.float64]:
    return np.array([hand.keypoints_px[name] for name in NAMES])


EPIPHYSES_UPRIGHT = np.array([[0.06, 0.14], [-0.23, 0.17]])


def epiphyses_of(hand: DrawnHand) -> NDArray[np.float64]:
    """Where radius and ulna (2, 2) of a drawn hand would have their growth plates."""
    return upright_frame(points_of(hand))[0].inverse()(EPIPHYSES_UPRIGHT)


def maps_of(hand: DrawnHand, confidence: float = 0.9, region: Box | None = None) -> tuple[FloatArray, Affine]:
    """What a finder without error would say of a drawn hand: maps (1, 24, 48, 48), and its input's map."""
    _, to_input = prepare_finder(hand.radiograph, region)
    cells = (to_input(np.vstack([points_of(hand), epiphyses_of(hand)])) + 0.5) / FINDER_STRIDE - 0.5
    grid = np.arange(CELLS)
    gauss_x = np.exp(-0.5 * ((grid - cells[:, :1]) / 1.3) ** 2)
    gauss_y = np.exp(-0.5 * ((grid - cells[:, 1:]) / 1.3) ** 2)
    joints = gauss_y[:, :, None] * gauss_x[:, None, :]
    joints *= confidence / joints.max(axis=(1, 2), keepdims=True)
    to_cells = to_input.then(Affine(np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]])))
    mask = cv2.warpAffine(hand.mask.astype(np.float32), to_cells.matrix, (CELLS, CELLS))
    return np.concatenate([joints, mask[None]])[None].astype(np.float32), to_input


def decode(maps: FloatArray, to_input: Affine, hand: DrawnHand) -> Hand:
    return decode_finder({"maps": maps}, to_input, hand.radiograph.shape)


@st.composite
def poses(draw: st.DrawFn) -> Affine:
    """Any rotation about the origin, a scale of 0.3 to 3, and a shift."""
    angle, size = draw(st.floats(-np.pi, np.pi)), draw(st.floats(0.3, 3))
    shift = [draw(st.floats(-500, 500)), draw(st.floats(-500, 500))]
    linear = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Affine(np.column_stack([linear, shift]))


@given(st.sampled_from(list(Side)), poses())
@settings(deadline=None)
def test_the_upright_frame_is_the_same_hand_whatever_its_pose(side: Side, pose: Affine) -> None:
    points = points_of(DRAWN[side])
    plain, mirrored = upright_frame(points)
    posed, mirrored_too = upright_frame(pose(points))
    assert mirrored == mirrored_too == (side is Side.RIGHT)
    np.testing.assert_allclose(posed(pose(points)), plain(points), atol=1e-9)
    np.testing.assert_allclose(posed.inverse()(posed(pose(points))), pose(points), atol=1e-6)


@pytest.mark.parametrize("side", list(Side))
def test_upright_the_wrist_is_the_origin_the_knuckle_above_it_and_the_thumb_on_the_right(side: Side) -> None:
    points = points_of(DRAWN[side])
    upright = upright_frame(points)[0](points)
    np.testing.assert_allclose(upright[WRIST], [0, 0], atol=1e-9)
    np.testing.assert_allclose(upright[KNUCKLE], [0, -1], atol=1e-9)
    assert upright[NAMES.index("thumb4"), 0] > upright[NAMES.index("pinky_finger4"), 0]
    x0, y0, x1, y1 = upright_extent(upright)
    assert np.all(upright > [x0, y0]) and np.all(upright < [x1, y1]) and y1 == MARGIN_WRIST


def test_a_mirrored_hand_has_the_same_upright_points() -> None:
    points = points_of(DRAWN[Side.LEFT])
    mirror = points * [-1, 1] + [239, 0]
    np.testing.assert_allclose(upright_frame(mirror)[0](mirror), upright_frame(points)[0](points), atol=1e-9)


def test_joints_on_one_point_are_no_hand() -> None:
    with pytest.raises(NotAHand, match="one point"):
        upright_frame(np.full((21, 2), 7.0))


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (256, 256)])
def test_the_finders_input_is_square_in_range_and_maps_back(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).random(shape).astype(np.float32)
    inputs, to_input = prepare_finder(Radiograph(pixels))
    image = inputs["image"]
    assert image.shape == (1, 1, FINDER_SIZE, FINDER_SIZE) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1
    corners = to_input(np.array([[-0.5, -0.5], [shape[1] - 0.5, shape[0] - 0.5]]))
    assert np.all(corners >= -1) and np.all(corners <= FINDER_SIZE)
    assert np.ptp(corners, axis=0).max() == pytest.approx(FINDER_SIZE)


@pytest.mark.parametrize("side", list(Side))
def test_maps_without_error_become_the_drawn_hand(side: Side) -> None:
    truth = DRAWN[side]
    hand = decode(*maps_of(truth), truth)
    pixels_a_cell = FINDER_STRIDE * 320 / FINDER_SIZE
    for name in NAMES:
        np.testing.assert_allclose(
            hand.keypoints_px[name], truth.keypoints_px[name], atol=0.2 * pixels_a_cell
        )
    assert hand.side is side and hand.method == "fast" and hand.warnings == ()
    assert hand.confidence == pytest.approx(0.9)
    # A drawing ends its box closer to the growth plates than the boxes of real hands that set the margin.
    assert overlap(hand.box_px, truth.box_px) > 0.75
    assert forearm_is_trimmed(hand)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    x0, y0, x1, y1 = *np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:])
    common = max(x1 - x0, 0) * max(y1 - y0, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(common / (sum(areas) - common))


def forearm_is_trimmed(hand: Hand) -> bool:
    """Whether nothing of the outline lies below the growth plates of radius and ulna (a pixel of slack)."""
    pixel = np.sqrt(abs(np.linalg.det(hand.to_upright.matrix[:, :2])))
    return bool(hand.to_upright(hand.outline_px)[:, 1].max() <= MARGIN_WRIST + 1.5 * pixel)


@pytest.mark.parametrize("side", list(Side))
def test_epiphyses_are_found_where_they_are(side: Side) -> None:
    truth = DRAWN[side]
    found = decode(*maps_of(truth), truth).epiphyses_px
    assert tuple(found) == EPIPHYSES
    pixels_a_cell = FINDER_STRIDE * 320 / FINDER_SIZE
    np.testing.assert_allclose([*found.values()], epiphyses_of(truth), atol=0.2 * pixels_a_cell)


@pytest.mark.parametrize("bone", EPIPHYSES)
def test_an_epiphysis_that_is_not_seen_is_absent(bone: str) -> None:
    truth = DRAWN[Side.LEFT]
    maps, to_input = maps_of(truth)
    index = len(NAMES) + EPIPHYSES.index(bone)
    maps[0, index] *= (MIN_CONFIDENCE_EPIPHYSIS - 0.02) / 0.9
    assert set(decode(maps, to_input, truth).epiphyses_px) == set(EPIPHYSES) - {bone}
    maps[0, index] *= (MIN_CONFIDENCE_EPIPHYSIS + 0.02) / (MIN_CONFIDENCE_EPIPHYSIS - 0.02)
    assert set(decode(maps, to_input, truth).epiphyses_px) == set(EPIPHYSES)


@pytest.mark.parametrize(("room", "names"), [(0.7, ()), (1.1, ("radius",)), (1.6, EPIPHYSES)])
def test_an_epiphysis_at_the_images_edge_is_absent(room: float, names: tuple[str, ...]) -> None:
    """The image ends a multiple of the room that is needed below the radius; the ulna lies a little lower."""
    whole = DRAWN[Side.LEFT]
    length = 1 / np.sqrt(abs(np.linalg.det(upright_frame(points_of(whole))[0].matrix[:, :2])))
    rows = round(float(epiphyses_of(whole)[0, 1] + room * EPIPHYSIS_ROOM * length))
    pixels, mask = (np.pad(image, ((0, 200), (0, 0)))[:rows] for image in (whole.pixels, whole.mask))
    truth = replace(whole, pixels=pixels, mask=mask)
    assert tuple(decode(*maps_of(truth), truth).epiphyses_px) == names


def test_epiphyses_that_no_forearm_has_are_absent_and_the_hand_is_found() -> None:
    truth = DRAWN[Side.LEFT]
    maps, to_input = maps_of(truth)
    maps[0, len(NAMES) : -1] = maps[0, len(NAMES) : -1][::-1].copy()
    hand = decode(maps, to_input, truth)
    assert hand.epiphyses_px == {} and hand.warnings == ()


def test_a_graph_without_maps_of_epiphyses_finds_the_same_hand() -> None:
    truth = DRAWN[Side.LEFT]
    maps, to_input = maps_of(truth)
    old = np.delete(maps, [len(NAMES), len(NAMES) + 1], axis=1)
    hand = decode(old, to_input, truth)
    assert hand.epiphyses_px == {} and hand.keypoints_px == decode(maps, to_input, truth).keypoints_px


@pytest.mark.parametrize("rotation", [0.0, 90.0, -135.0])
def test_box_and_outline_stay_in_the_image_and_hold_the_joints(rotation: float) -> None:
    truth = draw_hand(60.0, Sex.FEMALE, 1, View(shape=(300, 320), rotation_degrees=rotation))
    hand = decode(*maps_of(truth), truth)
    x0, y0, x1, y1 = hand.box_px
    height, width = truth.radiograph.shape
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert np.all(hand.outline_px >= 0) and np.all(hand.outline_px < [width, height])
    points = points_of(truth)
    assert np.all(points >= [x0, y0]) and np.all(points < [x1, y1])


def test_without_a_mask_the_outline_is_the_upright_box() -> None:
    truth = DRAWN[Side.LEFT]
    hand = hand_from_points(
        points_of(truth), None, truth.radiograph.shape, confidence=0.8, method="dfc", warnings=()
    )
    x0, y0, x1, y1 = hand.upright_box
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    np.testing.assert_allclose(hand.to_upright(hand.outline_px), corners, atol=1e-5)
    assert all(hand.box_px[0] <= points_of(truth)[tip][0] < hand.box_px[2] for tip in TIPS)


def small_hand() -> DrawnHand:
    """A drawn hand in a corner of a film five times its size."""
    drawn = DRAWN[Side.LEFT]
    pixels, to_film = pad(drawn.pixels, 40, 600, 520, 80)
    keypoints = {name: tuple(to_film(np.array(point))) for name, point in drawn.keypoints_px.items()}
    mask = pad(drawn.mask.astype(np.float32), 40, 600, 520, 80)[0] > 0
    return replace(drawn, pixels=pixels, keypoints_px=keypoints, mask=mask)


def test_a_hand_that_fills_the_film_is_looked_at_once() -> None:
    truth = DRAWN[Side.LEFT]
    maps, to_input = maps_of(truth)
    assert closer_region({"maps": maps}, to_input, truth.radiograph.shape) is None


def test_a_small_hand_is_looked_at_closer_and_found_more_exactly() -> None:
    truth = small_hand()
    shape = truth.radiograph.shape
    far, to_far = maps_of(truth)
    region = closer_region({"maps": far}, to_far, shape)
    assert region is not None
    points = points_of(truth)
    assert np.all(points > region[:2]) and np.all(points < region[2:])
    side = np.ptp(points, axis=0).max() * CLOSER_FACTOR
    assert (region[2] - region[0], region[3] - region[1]) == pytest.approx((side, side), rel=0.05)
    near, to_near = maps_of(truth, region=region)

    def error(hand: Hand) -> float:
        found = np.array([*hand.keypoints_px.values()])
        return float(np.linalg.norm(found - points, axis=1).mean())

    near_hand = decode(near, to_near, truth)
    assert error(near_hand) < 0.5 * error(decode(far, to_far, truth))
    assert np.all(near_hand.outline_px >= 0) and np.all(near_hand.outline_px < shape[::-1])


def test_no_hand_is_not_looked_at_closer_and_two_are_refused_before() -> None:
    truth = small_hand()
    weak, to_input = maps_of(truth, MIN_CONFIDENCE - 0.05)
    assert closer_region({"maps": weak}, to_input, truth.radiograph.shape) is None
    maps, to_input = maps_of(truth)
    maps[0, -1] = 0
    maps[0, -1, 5:40, 8:20] = maps[0, -1, 5:40, 28:40] = 0.9
    with pytest.raises(NotAHand, match="more than one hand"):
        closer_region({"maps": maps}, to_input, truth.radiograph.shape)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_an_image_turned_by_quarters_gives_the_same_hand(quarters: int) -> None:
    run = open_graph(Bundle.load().graph("hand_finder"), "onnxruntime", 1)
    upright = Radiograph(rotate(draw_hand(120.0, Sex.MALE, 0).pixels, 0.0)[0])
    turned, to_turned = rotate(upright.pixels, 90.0 * quarters)
    straight, found = find_hand(upright, run), find_hand(Radiograph(turned), run)
    for name, point in straight.keypoints_px.items():
        there = to_turned(np.array([point]))[0]
        np.testing.assert_allclose(found.keypoints_px[name], there, atol=0.05)
    assert found.side is straight.side


def test_weak_joints_are_no_hand() -> None:
    truth = DRAWN[Side.LEFT]
    with pytest.raises(NotAHand, match=r"no hand found \(confidence 0.4") as caught:
        decode(*maps_of(truth, MIN_CONFIDENCE - 0.05), truth)
    assert "\n" not in str(caught.value)
    assert decode(*maps_of(truth, MIN_CONFIDENCE + 0.05), truth).confidence > MIN_CONFIDENCE


def test_a_second_hand_is_refused_and_a_small_blot_is_not() -> None:
    truth = DRAWN[Side.LEFT]
    maps, to_input = maps_of(truth)
    maps[0, -1] = 0
    maps[0, -1, 5:40, 8:22] = 0.9
    maps[0, -1, 5:10, 40:45] = 0.9
    assert decode(maps, to_input, truth).confidence == pytest.approx(0.9)
    maps[0, -1, 5:40, 28:40] = 0.9
    with pytest.raises(NotAHand, match="more than one hand"):
        decode(maps, to_input, truth)


def test_a_wrist_outside_the_image_is_refused() -> None:
    truth = DRAWN[Side.LEFT]
    maps, to_input = maps_of(truth)
    maps[0, WRIST] *= (MIN_CONFIDENCE_WRIST - 0.05) / 0.9
    with pytest.raises(NotAHand, match="wrist is not in the image"):
        decode(maps, to_input, truth)


@pytest.mark.parametrize("above", [False, True])
def test_disordered_joints_are_refused_or_where_the_finder_is_sure_warned_of(above: bool) -> None:
    truth = DRAWN[Side.LEFT]
    maps, to_input = maps_of(truth, MIN_CONFIDENCE_OUT_OF_ORDER + (0.05 if above else -0.05))
    exchanged = [NAMES.index("forefinger1"), NAMES.index("ring_finger1")]
    maps[0, exchanged] = maps[0, exchanged[::-1]]
    if above:
        assert [notice.code for notice in decode(maps, to_input, truth).warnings] == ["joint_order"]
    else:
        with pytest.raises(NotAHand, match="do not lie as a hand's do"):
            decode(maps, to_input, truth)
