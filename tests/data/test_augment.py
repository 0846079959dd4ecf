"""Augmentation: within the ranges asked for, the same for the same seed, nothing where nothing is asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.core.types import FloatArray
from boneage.data.augment import AugmentConfig, change_tone, draw_pose

SHAPE = (96, 64)
NONE = AugmentConfig()
ALL = AugmentConfig(
    rotation_degrees=20, scale=0.2, shift=0.1, gamma=0.3, contrast=0.3, brightness=0.2, erase=0.5
)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def view() -> FloatArray:
    return np.random.default_rng(0).random(SHAPE).astype(np.float32)


def test_nothing_asked_changes_nothing(view: FloatArray) -> None:
    rng = np.random.default_rng(1)
    np.testing.assert_allclose(draw_pose(SHAPE, NONE, rng).matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(change_tone(view, NONE, rng), view, atol=1e-6)


@given(SEEDS)
def test_a_pose_stays_within_its_ranges(seed: int) -> None:
    pose = draw_pose(SHAPE, ALL, np.random.default_rng(seed))
    linear = pose.matrix[:, :2]
    scale = np.sqrt(np.linalg.det(linear))
    assert 0.8 - 1e-9 <= scale <= 1.2 + 1e-9
    np.testing.assert_allclose(linear.T @ linear, np.eye(2) * scale**2, atol=1e-9)
    turn = np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))
    assert abs(turn) <= 20 + 1e-9
    centre = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    assert np.all(np.abs(pose(centre) - centre) <= 0.1 * SHAPE[0] + 1e-9)


def test_poses_use_the_whole_of_their_ranges() -> None:
    rng = np.random.default_rng(0)
    linear = np.array([draw_pose(SHAPE, ALL, rng).matrix[:, :2] for _ in range(300)])
    turns = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    scales = np.sqrt(np.linalg.det(linear))
    assert turns.min() < -17 and turns.max() > 17
    assert scales.min() < 0.83 and scales.max() > 1.17


@given(SEEDS)
def test_tone_stays_in_range_and_leaves_the_callers_view_alone(seed: int) -> None:
    view = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    before = view.copy()
    toned = change_tone(view, ALL, np.random.default_rng(seed))
    assert toned.shape == SHAPE and toned.dtype == np.float32
    assert toned.min() >= 0 and toned.max() <= 1
    assert np.array_equal(view, before)


def test_the_same_seed_gives_the_same_and_another_seed_does_not(view: FloatArray) -> None:
    first, again, other = (change_tone(view, ALL, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    poses = [draw_pose(SHAPE, ALL, np.random.default_rng(seed)).matrix for seed in (1, 1, 2)]
    assert np.array_equal(poses[0], poses[1])
    assert not np.array_equal(poses[0], poses[2])


def test_brightness_adds_and_contrast_stretches_about_mid_grey() -> None:
    grey = np.full(SHAPE, 0.5, np.float32)
    brighter = change_tone(grey, AugmentConfig(brightness=0.2), np.random.default_rng(3))
    assert 0 < abs(float(brighter[0, 0]) - 0.5) <= 0.2
    stretched = change_tone(grey, AugmentConfig(contrast=0.5), np.random.default_rng(3))
    np.testing.assert_allclose(stretched, 0.5, atol=1e-6)


def test_gamma_keeps_black_white_and_order() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, axis=0)
    toned = change_tone(ramp, AugmentConfig(gamma=0.5), np.random.default_rng(4))
    assert toned[0, 0] == 0 and toned[0, -1] == pytest.approx(1)
    assert np.all(np.diff(toned[0]) > 0)
    assert not np.allclose(toned, ramp, atol=0.01)


def test_erasing_paints_one_rectangle_of_up_to_a_quarter_of_each_side() -> None:
    black = np.zeros(SHAPE, np.float32)
    painted = change_tone(black, AugmentConfig(erase=1.0), np.random.default_rng(5))
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert 0 < tall <= SHAPE[0] / 4 and 0 < wide <= SHAPE[1] / 4
    assert np.unique(painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]).size == 1
    assert np.count_nonzero(painted) == tall * wide
