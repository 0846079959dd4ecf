"""Changes of an image: pure, repeatable, in range, and doing what they are called after."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.data.synthetic import View, draw_hand
from boneage.imaging import stress
from boneage.imaging.stress import STRESSES, Strength, Stress, cell_of

CELLS = [(each, strength) for each in STRESSES for strength in each.strengths]


@pytest.fixture(scope="module")
def hand() -> FloatArray:
    return draw_hand(120, Sex.FEMALE, view=View(shape=(260, 200))).pixels


@pytest.mark.parametrize(("kind", "strength"), CELLS, ids=[cell_of(*cell) for cell in CELLS])
def test_a_change_is_a_pure_function_of_image_strength_and_seed(
    kind: Stress, strength: Strength, hand: FloatArray
) -> None:
    before = hand.copy()
    first, again = (kind.change(hand, strength.value, 3) for _ in range(2))
    np.testing.assert_array_equal(hand, before)
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32 and first.ndim == 2
    assert first.min() >= 0 and first.max() <= 1
    assert not np.shares_memory(first, hand)


def test_the_issues_ten_changes_are_there_each_with_a_realistic_strength_and_its_own_names() -> None:
    assert {each.name for each in STRESSES} == {
        *("rotation", "flip", "brightness", "contrast", "inversion"),
        *("resolution", "noise", "jpeg", "crop", "text"),
    }
    assert all(any(strength.realistic for strength in each.strengths) for each in STRESSES)
    assert len({cell_of(*cell) for cell in CELLS}) == len(CELLS)


@pytest.mark.parametrize("name", ["brightness", "contrast", "noise", "jpeg", "text"])
def test_what_is_stronger_changes_more(name: str, hand: FloatArray) -> None:
    kind = next(each for each in STRESSES if each.name == name)
    by_strength = {
        s.value: float(np.abs(kind.change(hand, s.value, 0) - hand).mean()) for s in kind.strengths
    }
    assert all(moved > 0 for moved in by_strength.values())
    by_distance = {
        "brightness": [0.15, 0.3],
        "contrast": [1.4, 2.0],
        "noise": [0.01, 0.02, 0.05, 0.1],
        "jpeg": [75, 50, 30, 10],
        "text": [1, 3, 8],
    }
    moves = [by_strength[value] for value in by_distance[name]]
    assert all(less < more for less, more in itertools.pairwise(moves))


def test_turns_and_flips_lose_nothing(hand: FloatArray) -> None:
    np.testing.assert_array_equal(stress.rotate(hand, 180), hand[::-1, ::-1])
    np.testing.assert_array_equal(stress.flip(hand, 1), hand[:, ::-1])
    np.testing.assert_array_equal(stress.flip(hand, 2), hand[::-1])
    np.testing.assert_allclose(stress.invert(stress.invert(hand)), hand, atol=1e-6)
    assert stress.rotate(hand, 90).shape == (200, 260)


def test_the_seed_draws_the_side_of_a_turn_and_the_corner_of_a_text(hand: FloatArray) -> None:
    turned = {stress.rotate(hand, 20, seed).tobytes() for seed in range(12)}
    written = {stress.burn_in_text(hand, 1, seed).tobytes() for seed in range(24)}
    assert (len(turned), len(written)) == (2, 4)


def test_sizes_are_those_that_the_strength_names(hand: FloatArray) -> None:
    assert stress.reduce_resolution(hand, 130).shape == (130, 100)
    assert stress.reduce_resolution(hand, 512).shape == hand.shape
    assert stress.crop(hand, 0.1).shape == (208, 160)
    np.testing.assert_array_equal(stress.crop(hand, 0.1), hand[26:234, 20:180])


def test_noise_has_the_spread_that_it_is_given() -> None:
    grey = np.full((300, 300), 0.5, np.float32)
    assert stress.add_noise(grey, 0.05, 1).std() == pytest.approx(0.05, rel=0.02)


def test_letters_lie_in_one_corner_and_are_white(hand: FloatArray) -> None:
    changed = stress.burn_in_text(hand, 3, 0) != hand
    rows, columns = np.nonzero(changed)
    assert changed.mean() < 0.05
    assert np.ptp(rows) < 0.2 * hand.shape[0] and np.ptp(columns) < hand.shape[1]
    assert stress.burn_in_text(hand, 3, 0)[changed].max() == 1


@pytest.mark.parametrize(
    ("change", "strength"),
    [
        (stress.flip, 3),
        (stress.scale_contrast, 0),
        (stress.reduce_resolution, -1),
        (stress.compress, 0),
        (stress.crop, 0.5),
        (stress.burn_in_text, 99),
    ],
)
def test_a_strength_that_means_nothing_is_refused(
    change: stress.Change, strength: float, hand: FloatArray
) -> None:
    with pytest.raises(ConfigError, match=f"{strength:g}"):
        change(hand, strength, 0)
