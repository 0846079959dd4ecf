"""Images laid over a template by motions that are known, and the mean of images that moved."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.imaging.registration import Likely, Mask, align, mean_image, move

SIDE = 96
WIDE = Likely(most_shift=0.25, scales=(0.7, 1.4))
ALL: Mask = np.full((SIDE, SIDE), 255, np.uint8)
STILL = np.eye(2, 3, dtype=np.float32)


def textured(seed: int = 0, side: int = SIDE) -> FloatArray:
    """An image (S, S) in [0, 1] of coarse blobs, which ECC can follow over several pixels."""
    noise = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 5.0)
    return ((blobs - blobs.min()) / np.ptp(blobs)).astype(np.float32)


def flat(grey: float, side: int = SIDE) -> FloatArray:
    return np.full((side, side), grey, np.float32)


def motion(
    degrees: float = 0, scale: float = 1, shift: tuple[float, float] = (0, 0), shear: float = 0
) -> FloatArray:
    """A map (2, 3) about the image's centre, from the template's pixels to the image's."""
    to_image = cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), degrees, scale)
    to_image[0, 1] += shear
    to_image[0, 2] -= shear * (SIDE - 1) / 2
    to_image[:, 2] += shift
    return to_image.astype(np.float32)


def moved_by(to_image: FloatArray, template: FloatArray) -> FloatArray:
    """The image on which `to_image` lays the template."""
    return move(template, cv2.invertAffineTransform(to_image), SIDE)


def farthest(found: FloatArray, expected: FloatArray) -> float:
    """The largest distance, pixels, between where two maps put the image's corners."""
    last = SIDE - 1
    corners = np.array([[0, 0, 1], [last, 0, 1], [0, last, 1], [last, last, 1]], np.float64)
    return float(np.linalg.norm(corners @ (found - expected).T.astype(np.float64), axis=1).max())


# Moved


def test_an_image_that_does_not_move_stays_as_it_is() -> None:
    image = textured()
    before = image.copy()
    np.testing.assert_array_equal(move(image, STILL, SIDE), image)
    np.testing.assert_array_equal(image, before)


def test_a_result_s_pixels_lie_where_the_map_says_between_them_bilinear_and_beyond_them_the_edge() -> None:
    image = np.arange(16, dtype=np.float32).reshape(4, 4) / 16
    to_image = np.array([[1, 0, 0.5], [0, 1, 1]])
    result = move(image, to_image, 3)
    assert (result.shape, result.dtype) == ((3, 3), np.float32)
    np.testing.assert_allclose(result, (image[1:, :3] + image[1:, 1:]) / 2, atol=1e-6)
    outside = move(image, np.array([[1.0, 0, 0], [0, 1, 2]]), 4)
    np.testing.assert_array_equal(outside, image[[2, 3, 3, 3]])


# Aligned


@pytest.mark.parametrize(
    "known",
    [
        motion(),
        motion(shift=(4.3, -3.6)),
        motion(degrees=4),
        motion(scale=1.06),
        motion(scale=0.95),
        motion(shear=0.05),
        motion(degrees=-3, scale=1.04, shift=(2.5, 1.5), shear=-0.04),
    ],
    ids=["still", "shifted", "turned", "larger", "smaller", "sheared", "all"],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_small_motion_is_recovered_within_half_a_pixel(known: FloatArray, seed: int) -> None:
    template = textured(seed)
    found = align(moved_by(known, template), template, ALL, WIDE)
    assert found is not None
    assert (found.shape, found.dtype) == ((2, 3), np.float32)
    assert farthest(found, known) < 0.5


def test_brightness_and_contrast_do_not_matter() -> None:
    known, template = motion(degrees=3, shift=(3, -2)), textured()
    found = align(0.2 + 0.4 * moved_by(known, template), template, ALL, WIDE)
    assert found is not None and farthest(found, known) < 0.5


@pytest.mark.parametrize("down", [4, -4])
def test_only_pixels_of_the_image_in_the_mask_are_compared(down: float) -> None:
    known, template = motion(shift=(0, down)), textured()
    image = moved_by(known, template)
    image[56:] = textured(seed=1)[56:]  # another image, below what the mask shows and its slope there
    mask = np.zeros_like(ALL)
    mask[:54] = 255
    found = align(image, template, mask, WIDE)
    assert found is not None and farthest(found, known) < 0.5
    everywhere = align(image, template, ALL, WIDE)
    assert everywhere is None or farthest(everywhere, known) > 1


def test_what_it_is_given_stays_as_it_is() -> None:
    template = textured()
    image, mask = moved_by(motion(shift=(3, 2)), template), ALL.copy()
    given = [image, template, mask]
    before = [array.copy() for array in given]
    first = align(image, template, mask, WIDE)
    second = align(image, template, mask, WIDE)
    assert first is not None and second is not None
    np.testing.assert_array_equal(first, second)
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("grey", [0.0, 0.4, 1.0])
def test_a_constant_image_or_template_has_no_map(grey: float) -> None:
    assert align(flat(grey), textured(), ALL, WIDE) is None
    assert align(textured(), flat(grey), ALL, WIDE) is None
    assert align(flat(grey), flat(grey), ALL, WIDE) is None


def test_an_image_of_which_the_mask_shows_nothing_has_no_map() -> None:
    assert align(textured(), textured(), np.zeros_like(ALL), WIDE) is None


def test_an_image_that_is_the_template_s_opposite_has_no_map() -> None:
    template = textured()
    assert align(1 - template, template, ALL, WIDE) is None


# Likely: the same motion is found where it is believed, so that the refusal is that of the limit


@pytest.mark.parametrize(
    ("known", "strict"),
    [
        (motion(shift=(8, 0)), Likely(0.06, WIDE.scales)),
        (motion(shift=(0, -8)), Likely(0.06, WIDE.scales)),
        (motion(scale=1.1), Likely(WIDE.most_shift, (0.93, 1.07))),
        (motion(scale=0.9), Likely(WIDE.most_shift, (0.93, 1.07))),
    ],
    ids=["right", "up", "larger", "smaller"],
)
def test_an_unlikely_motion_is_refused(known: FloatArray, strict: Likely) -> None:
    template = textured()
    image = moved_by(known, template)
    believed = align(image, template, ALL, WIDE)
    assert believed is not None and farthest(believed, known) < 0.5
    assert align(image, template, ALL, strict) is None


@pytest.mark.parametrize("shift", [(40, 0), (0, 45), (-60, 60)])
def test_a_big_shift_is_refused(shift: tuple[float, float]) -> None:
    template = textured()
    assert align(moved_by(motion(shift=shift), template), template, ALL, WIDE) is None


@pytest.mark.parametrize(
    ("known", "believed"),
    [
        (motion(), True),
        (motion(shift=(0.24 * SIDE, -0.24 * SIDE)), True),
        (motion(shift=(0.26 * SIDE, 0)), False),
        (motion(shift=(0, -0.26 * SIDE)), False),
        (motion(degrees=30), True),
        (motion(scale=1.38), True),
        (motion(scale=1.42), False),
        (motion(scale=0.72), True),
        (motion(scale=0.68), False),
    ],
)
def test_a_motion_is_believed_up_to_its_limits(known: FloatArray, believed: bool) -> None:
    assert WIDE.believes(known, SIDE) is believed


# The mean of images


def shifted_copies(image: FloatArray, count: int = 8) -> list[FloatArray]:
    shifts = np.random.default_rng(1).uniform(-7, 7, (count, 2))
    return [moved_by(motion(shift=(x, y)), image) for x, y in shifts]


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_shifted_copies_is_sharper_than_their_plain_mean(seed: int) -> None:
    copies = shifted_copies(textured(seed))
    found = mean_image(copies, ALL, WIDE)
    assert (found.shape, found.dtype) == ((SIDE, SIDE), np.float32)
    assert found.min() >= 0 and found.max() <= 1
    inner = np.s_[12:-12, 12:-12]  # away from edges that were replicated
    plain = np.mean(copies, axis=0)
    assert found[inner].var() > 1.2 * plain[inner].var()
    assert found[inner].var() > 0.8 * np.mean([copy[inner].var() for copy in copies])


def test_without_a_round_the_mean_is_the_plain_one() -> None:
    copies = shifted_copies(textured())
    np.testing.assert_allclose(mean_image(copies, ALL, WIDE, rounds=0), np.mean(copies, axis=0), atol=1e-6)


def test_images_that_cannot_be_laid_are_left_out() -> None:
    copies = shifted_copies(textured())
    found = mean_image([*copies, flat(1.0)], ALL, WIDE)
    assert np.abs(found - mean_image(copies, ALL, WIDE)).mean() < 0.01
    assert np.abs(found - np.mean([*copies, flat(1.0)], axis=0)).mean() > 0.05


def test_where_none_can_be_laid_the_mean_stays_plain() -> None:
    np.testing.assert_allclose(mean_image([flat(0.2), flat(0.6)], ALL, WIDE), 0.4, atol=1e-6)


def test_one_image_is_its_own_mean() -> None:
    image = textured()
    np.testing.assert_allclose(mean_image([image], ALL, WIDE), image, atol=1e-3)


# What cannot be compared


@pytest.mark.parametrize(
    ("image", "template", "mask"),
    [
        (flat(0.5, 48), textured(), ALL),
        (textured(), textured(side=48), ALL),
        (textured(), textured(), ALL[:48, :48]),
        (textured()[:48], textured()[:48], ALL[:48]),
    ],
    ids=["image", "template", "mask", "oblong"],
)
def test_arrays_of_several_sizes_are_refused(image: FloatArray, template: FloatArray, mask: Mask) -> None:
    with pytest.raises(ConfigError, match=r"must be squares of one size, not .*; cut them alike"):
        align(image, template, mask, WIDE)
    with pytest.raises(ConfigError, match="must be squares of one size"):
        mean_image([template, image], mask, WIDE)


@pytest.mark.parametrize("kind", [bool, np.float32])
def test_a_mask_of_another_type_is_refused(kind: type) -> None:
    with pytest.raises(ConfigError, match="the mask must be uint8, not"):
        align(textured(), textured(), ALL.astype(kind), WIDE)  # type: ignore[arg-type]


def test_no_image_has_no_mean() -> None:
    with pytest.raises(ConfigError, match="one image or more"):
        mean_image([], ALL, WIDE)
