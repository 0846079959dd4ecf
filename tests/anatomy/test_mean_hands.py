"""Mean hands: bones are laid over each other, and no child shows beyond its weight."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from boneage.anatomy import mean_hands as module
from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.anatomy.mean_hands import (
    MAX_OFFSET_MONTHS,
    MAX_WEIGHT,
    MIN_EFFECTIVE,
    PLATE_SHAPE,
    POINTS,
    LaidHand,
    bend,
    kernel_weights,
    lay_upright,
    mean_hands,
    mean_image,
    mean_points,
)
from boneage.core.errors import ConfigError
from boneage.core.types import Affine, Radiograph, Sex
from boneage.data.synthetic import draw_hand


def laid(seed: int, age_months: float = 120.0, sex: Sex = Sex.FEMALE) -> LaidHand:
    drawn = draw_hand(age_months, sex, seed)
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    shape = drawn.pixels.shape
    hand = hand_from_points(points, None, shape, confidence=0.9, method="fast")
    contours, _ = cv2.findContours(drawn.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea).reshape(-1, 2).astype(np.float32)
    hand = replace(hand, outline_px=outline)
    return lay_upright(drawn.radiograph, hand, f"child {seed}", sex, age_months)


@pytest.fixture(scope="module")
def hands() -> list[LaidHand]:
    """Drawn hands of twenty girls, all of one bone age."""
    return [laid(seed) for seed in range(20)]


def test_a_laid_hand_fills_the_frame_and_black_is_around_it(hands: list[LaidHand]) -> None:
    image = hands[0].image
    assert image.shape == PLATE_SHAPE
    assert image.dtype == np.uint8
    assert image[:3].max() == 0
    inside = hands[0].points[POINTS.index("middle_finger1")].round().astype(int)
    assert image[inside[1], inside[0]] > 40


@pytest.mark.parametrize("gain", [0.5, 0.8])
def test_exposure_does_not_show_in_a_laid_hand(gain: float) -> None:
    drawn = draw_hand(120.0, Sex.MALE, 3)
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    hand = hand_from_points(points, None, drawn.pixels.shape, confidence=0.9, method="fast")
    one, other = (
        lay_upright(Radiograph((drawn.pixels * factor).astype(np.float32)), hand, "a", Sex.MALE, 120.0).image
        for factor in (1.0, gain)
    )
    assert np.abs(one.astype(int) - other).mean() < 1.5


def test_bending_onto_its_own_points_changes_nothing(hands: list[LaidHand]) -> None:
    bent = bend(hands[0].image, hands[0].points, hands[0].points)
    assert np.abs(bent.astype(int) - hands[0].image).max() <= 1


def test_bending_follows_a_similarity_exactly(hands: list[LaidHand]) -> None:
    """Where the target is the hand turned and moved as a whole, so is the image."""
    angle = np.deg2rad(6.0)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    move = Affine(np.column_stack([linear, np.array([160.0, 200.0]) - linear @ [150.0, 205.0]]))
    own = np.where(np.isnan(hands[0].points), 150.0, hands[0].points)
    bent = bend(hands[0].image, own, move(own))
    wanted = cv2.warpAffine(hands[0].image, move.matrix, PLATE_SHAPE[::-1], flags=cv2.INTER_CUBIC)
    assert np.abs(bent.astype(int) - wanted)[20:-20, 20:-20].mean() < 1.0


def test_a_mark_at_a_key_point_lands_on_the_target() -> None:
    own = laid(1).points
    target = laid(2).points
    own, target = (np.where(np.isnan(points), 160.0, points) for points in (own, target))
    for name in ("middle_finger2", "thumb3", "pinky_finger3"):
        image = np.zeros(PLATE_SHAPE, np.float32)
        place = own[POINTS.index(name)]
        y, x = np.mgrid[: PLATE_SHAPE[0], : PLATE_SHAPE[1]]
        image = 250 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 18)
        bent = bend(image.astype(np.uint8), own, target).astype(float)
        found = np.array([(bent * x).sum(), (bent * y).sum()]) / bent.sum()
        assert np.linalg.norm(found - target[POINTS.index(name)]) < 1.5


@pytest.mark.parametrize("sex_count", [16, 40, 200])
@pytest.mark.parametrize("spread", [1.0, 8.0, 20.0])
def test_weights_keep_the_limits_or_there_are_none(sex_count: int, spread: float) -> None:
    rng = np.random.default_rng(sex_count)
    ages = rng.normal(120, spread, sex_count)
    children = [f"child {number // 2}" for number in range(sex_count)]
    for age in range(96, 150, 6):
        kernel = kernel_weights(ages, children, age)
        if kernel is None:
            continue
        shares = np.array([kernel.weights[2 * n : 2 * n + 2].sum() for n in range(sex_count // 2)])
        assert kernel.weights.sum() == pytest.approx(1.0)
        assert shares.max() == pytest.approx(kernel.largest_weight)
        assert kernel.largest_weight <= MAX_WEIGHT
        assert 1 / np.sum(shares**2) == pytest.approx(kernel.children_effective)
        assert kernel.children_effective >= MIN_EFFECTIVE
        assert abs(kernel.mean_age_months - age) <= MAX_OFFSET_MONTHS


def test_many_images_of_few_children_make_no_plate() -> None:
    ages = [120.0] * 60
    assert kernel_weights(ages, [f"child {n}" for n in range(60)], 120) is not None
    assert kernel_weights(ages, [f"child {n % 10}" for n in range(60)], 120) is None


def test_the_kernel_is_widened_where_hands_are_few_and_only_there() -> None:
    dense = kernel_weights(np.arange(60.0, 180.0, 0.5), [str(n) for n in range(240)], 120)
    sparse = kernel_weights(np.arange(60.0, 180.0, 1.6), [str(n) for n in range(75)], 120)
    assert dense is not None
    assert sparse is not None
    assert dense.sigma_months == 6.0
    assert sparse.sigma_months > 6.0


def test_a_plate_far_from_its_hands_is_left_out() -> None:
    assert kernel_weights([100.0] * 50, [str(n) for n in range(50)], 108) is None


def test_mean_points_ignore_what_is_not_seen() -> None:
    points = np.array([[[1.0, 2.0], [np.nan, np.nan]], [[3.0, 4.0], [5.0, 6.0]]])
    np.testing.assert_allclose(mean_points(points, np.array([0.75, 0.25])), [[1.5, 2.5], [5.0, 6.0]])


def odd(hand: LaidHand) -> LaidHand:
    """Return the hand with a bright bar, a ring for one, across its palm."""
    image = hand.image.copy()
    image[215:235, 90:210] = 255
    return replace(hand, image=image)


@pytest.mark.parametrize(("windows_px", "slack"), [((), 1.0), ((31, 21), 8.0)], ids=["laid", "moved"])
def test_an_odd_child_shows_no_more_than_its_weight(
    hands: list[LaidHand], windows_px: tuple[int, ...], slack: float
) -> None:
    weights = np.full(20, 1 / 20)
    plain = mean_image([hand.image for hand in hands], weights, windows_px)
    planted = mean_image([odd(hands[0]).image, *(hand.image for hand in hands[1:])], weights, windows_px)
    change = np.abs(planted.astype(int) - plain)
    assert change[218:232, 100:200].max() > 2, "the bar is there to be found"
    assert change.max() <= 255 / 20 + slack


def test_what_few_hands_reach_is_black() -> None:
    images = [np.full((64, 64), 100, np.uint8) for _ in range(20)]
    for image in images[3:]:
        image[:, 32:] = 0
    mean = mean_image(images, np.full(20, 1 / 20), ())
    assert mean[:, 32:].max() == 0
    assert mean[:, :32].min() == 100


def test_plates_are_the_same_every_time_and_tell_their_counts(hands: list[LaidHand]) -> None:
    one, other = mean_hands(hands, [114, 120]), mean_hands(hands, [114, 120])
    assert [plate.age_months for plate in one] == [120]
    assert one[0].hands == len(hands)
    assert one[0].children_effective == pytest.approx(20)
    assert one[0].largest_weight == pytest.approx(0.05)
    np.testing.assert_array_equal(one[0].image, other[0].image)


def test_a_misplaced_hand_is_left_out(hands: list[LaidHand]) -> None:
    points = hands[0].points.copy()
    points[POINTS.index("thumb4")] += 90.0
    strange = replace(hands[0], points=points, child="strange")
    (plate,) = mean_hands([*hands, strange], [120])
    assert plate.hands == len(hands)


def test_too_few_hands_are_refused(hands: list[LaidHand]) -> None:
    with pytest.raises(ConfigError, match="needs 15 children or more"):
        mean_hands(hands[:10], [120])
    with pytest.raises(ConfigError, match="no plate can be made of 0 hands"):
        mean_hands([])


def test_plates_stand_for_whole_and_half_years() -> None:
    assert {age % 6 for age in module.PLATE_AGES_MONTHS} == {0}
