"""Hand masks from label maps: drawn hands, drawn things that are no hand, one real radiograph."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from boneage.anatomy.hand_mask import (
    MARGIN_WRIST,
    REASONS,
    extract_hand,
    finger_direction,
    finger_gaps,
    hand_from_labels,
    largest_region,
    mask_box,
    palm,
    trim_at_wrist,
)
from boneage.anatomy.keypoints import KNUCKLE, NAMES, WRIST
from boneage.core.errors import NotAHand
from boneage.core.types import Side

SHAPE = (128, 112)
CENTRE = (56, 64)
TIPS = ((28, 26), (42, 12), (57, 8), (72, 13), (93, 52))  # the thumb on the right, as in a left hand
FINGERS_END = 8 - 4


def draw_hand(forearm: int = 60) -> np.ndarray:
    """A left hand, palm down, with a forearm that reaches `forearm` px below the palm's centre."""
    mask = np.zeros(SHAPE, np.uint8)
    cv2.circle(mask, CENTRE, 18, 1, -1)
    for tip in TIPS:
        cv2.line(mask, CENTRE, tip, 1, 8)
    cv2.rectangle(mask, (45, CENTRE[1]), (67, CENTRE[1] + forearm), 1, -1)
    return mask > 0


def draw_labels(mask: np.ndarray, brightness: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels and image of a mask: ground 0, skin 1, bone 2, a bright marker 3 off the hand."""
    labels = mask.astype(np.int64)
    labels[cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0] = 2
    labels[5:15, 3:11] = 3
    image = np.choose(labels, [0.02, brightness, 0.8, 1.0]).astype(np.float32)
    return labels, cv2.GaussianBlur(image, (0, 0), 0.7)


def turn(mask: np.ndarray, degrees: float) -> np.ndarray:
    """The mask turned about the palm's centre (counter-clockwise), on a canvas that holds all of it."""
    matrix = cv2.getRotationMatrix2D(CENTRE, degrees, 1.0)
    matrix[:, 2] += 40
    return cv2.warpAffine(mask.astype(np.uint8), matrix, (192, 208)) > 0


def share(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_labels_of_one_hand_are_merged_and_the_marker_is_left_out() -> None:
    mask = draw_hand()
    found = extract_hand(*draw_labels(mask))
    assert found.accepted
    assert share(found.mask, mask) > 0.95
    assert not found.mask[5:15, 3:11].any()


def test_holes_are_filled() -> None:
    labels, image = draw_labels(draw_hand())
    labels[60:64, 54:58], image[60:64, 54:58] = 0, 0.02
    assert extract_hand(labels, image).mask[60:64, 54:58].all()


def test_a_bright_frame_of_the_image_is_background() -> None:
    mask = draw_hand(40)
    labels, image = draw_labels(mask)
    for side in (np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]):
        labels[side], image[side] = 4, 1.0
    found = extract_hand(labels, image)
    assert found.accepted
    assert share(found.mask, mask) > 0.95


def test_fainter_skin_is_kept_with_the_bone() -> None:
    mask = draw_hand()
    assert share(extract_hand(*draw_labels(mask, brightness=0.2)).mask, mask) > 0.95


def refused(mask: np.ndarray, brightness: float = 0.8) -> str | None:
    labels = mask.astype(np.int64)
    image = np.where(mask, brightness, 0.1).astype(np.float32)
    return extract_hand(labels, cv2.GaussianBlur(image, (0, 0), 0.7)).reason


def disc(radius: int) -> np.ndarray:
    return cv2.circle(np.zeros(SHAPE, np.uint8), CENTRE, radius, 1, -1) > 0


def test_what_is_no_hand_is_refused_with_its_reason() -> None:
    plate = np.zeros(SHAPE, bool)
    plate[30:90, 20:90] = True
    cross = np.zeros(SHAPE, bool)
    cross[:, 40:80] = cross[40:80, :] = True
    assert refused(np.zeros(SHAPE, bool)) == "no_region"
    assert refused(disc(9)) == "too_small"
    assert refused(plate) == "rectangle"
    assert refused(disc(36)) == "no_fingers"
    assert refused(cross) == "touches_border"
    assert refused(draw_hand(), brightness=0.101) == "weak_edge"
    assert refused(draw_hand()) is None


def test_every_reason_of_a_refusal_is_explained() -> None:
    assert {"no_region", "too_small", "rectangle", "no_fingers", "touches_border", "weak_edge"} <= set(
        REASONS
    )


def test_the_largest_region_alone_is_kept_and_strips_along_the_edge_go() -> None:
    mask = disc(20)
    mask[-2:] = True
    mask[:2] = True
    assert np.array_equal(largest_region(mask), largest_region(disc(20)))
    assert not largest_region(np.zeros(SHAPE, bool)).any()


@pytest.mark.parametrize("forearm", [36, 42, 50, 63])
def test_the_cut_does_not_move_with_the_length_of_the_forearm(forearm: int) -> None:
    trimmed = trim_at_wrist(draw_hand(forearm))
    reference = trim_at_wrist(draw_hand(56))
    assert abs(mask_box(trimmed)[3] - mask_box(reference)[3]) <= 1
    assert mask_box(trimmed)[1] == mask_box(draw_hand())[1]  # no finger is lost


def test_a_forearm_shorter_than_the_cut_is_kept_whole() -> None:
    assert mask_box(trim_at_wrist(draw_hand(25)))[3] == mask_box(draw_hand(25))[3]


@pytest.mark.parametrize("degrees", [-150, -90, -40, 25, 70, 180])
def test_a_turned_hand_is_cut_in_the_same_place(degrees: float) -> None:
    expected = turn(trim_at_wrist(draw_hand()), degrees)
    assert share(trim_at_wrist(turn(draw_hand(), degrees)), expected) > 0.93


@pytest.mark.parametrize("degrees", [0, 45, 120, 200])
def test_fingers_point_away_from_the_forearm(degrees: float) -> None:
    turned = finger_direction(turn(draw_hand(), degrees))
    angle = np.radians(degrees)
    assert turned @ np.array([-np.sin(angle), -np.cos(angle)]) > np.cos(np.radians(12))


def test_a_mitten_points_away_from_its_forearm() -> None:
    mitten = disc(24)
    mitten[64:128, 38:75] = True
    assert finger_direction(mitten) @ np.array([0.0, -1.0]) > 0.98


def test_known_key_points_move_the_cut_below_their_wrist() -> None:
    points = np.tile(np.array(CENTRE, dtype=float), (len(NAMES), 1))
    points[WRIST], points[KNUCKLE] = (56, 80), (56, 50)
    points[NAMES.index("thumb3")], points[NAMES.index("pinky_finger1")] = (80, 60), (40, 55)
    bottom = mask_box(trim_at_wrist(draw_hand(), points))[3]
    assert bottom == pytest.approx(80 + 30 * MARGIN_WRIST, abs=1.5)


def test_palm_is_the_widest_disc() -> None:
    centre, radius = palm(draw_hand())
    assert np.hypot(*(centre - CENTRE)) < 4
    assert 17 < radius < 22


def test_gaps_between_fingers_are_counted() -> None:
    assert finger_gaps(draw_hand()) >= 4
    assert finger_gaps(disc(30)) == 0


def test_boxes_end_after_the_last_pixel() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    assert mask_box(mask) == (3.0, 2.0, 9.0, 5.0)


def test_a_hand_is_given_in_source_pixels_upright_and_with_its_side() -> None:
    labels, image = draw_labels(draw_hand())
    hand = hand_from_labels(labels, image, (SHAPE[0] * 8, SHAPE[1] * 8))
    x0, y0, x1, y1 = hand.box_px
    assert (x0, x1) == pytest.approx((8 * (28 - 6), 8 * (93 + 6)), abs=32)
    assert y0 == pytest.approx(8 * FINGERS_END, abs=32)
    assert 8 * 85 < y1 < 8 * 112  # below the palm, well above the end of the forearm
    tip, palm_centre = hand.to_upright(
        np.array([[57 * 8, 10 * 8], [CENTRE[0] * 8, CENTRE[1] * 8]]).astype(float)
    )
    assert tip[1] < -1 < palm_centre[1] < 0
    assert hand.to_upright(np.array([93.0 * 8, 52.0 * 8]))[0] > 0.5  # the thumb, on the right
    assert hand.side is Side.LEFT
    assert hand.method == "dfc"
    assert hand.keypoints_px == {}
    assert [notice.code for notice in hand.warnings] == ["no_keypoints"]


def test_a_mirrored_hand_is_the_other_side_in_the_same_frame() -> None:
    labels, image = draw_labels(draw_hand())
    hand = hand_from_labels(labels[:, ::-1].copy(), image[:, ::-1].copy(), SHAPE)
    assert hand.side is Side.RIGHT
    assert hand.to_upright(np.array([SHAPE[1] - 1 - 93.0, 52.0]))[0] > 0.5


def test_no_hand_is_one_clear_line() -> None:
    with pytest.raises(NotAHand, match=r"rectangle.*--localise fast") as caught:
        plate = np.zeros(SHAPE, np.int64)
        plate[30:90, 20:90] = 1
        hand_from_labels(plate, np.where(plate, 0.8, 0.1).astype(np.float32), SHAPE)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_real_radiograph_is_clustered_cut_and_boxed(shared_data: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.imaging.enhance import stretch_contrast
    from boneage.imaging.read import read
    from boneage.models.segmentation import ClusterConfig, cluster_features, shrink

    torch.set_num_threads(1)
    with (shared_data / "keypoints" / "hand_keypoints.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "1380")
    radiograph = read(shared_data / "rsna" / "images" / "1380.jpg")
    image = stretch_contrast(shrink(radiograph.pixels, 96))
    hand = hand_from_labels(cluster_features(image, ClusterConfig(long_side=96)), image, radiograph.shape)
    box = [float(row[f"box_{corner}"]) for corner in ("x0", "y0", "x1", "y1")]
    assert np.abs(np.array(hand.box_px) - box).max() < 0.1 * (box[3] - box[1])
    assert hand.side == row["hand"]
