"""Views of key regions: the paper's steps, where a view lies in its patch, patches laid over their mean."""

from __future__ import annotations

import cv2
import drawn_regions
import numpy as np
import pytest

from boneage.core.types import FloatArray
from boneage.recipes.region_clusters import views as module
from boneage.recipes.region_clusters.config import InputConfig
from boneage.recipes.region_clusters.crops import PATCH_MARGIN, PATCH_SIDE, Patches
from boneage.recipes.region_clusters.views import (
    STEPS,
    TEMPLATE_SIDE,
    cut_view,
    mean_region,
    preprocess,
    view_of,
    views_of,
)

PAPER = InputConfig()
PLAIN = InputConfig(steps=())
SIDE = 64
LEVELS = np.linspace(0.3, 0.7, 12)


def moved(patch: Patches, shift: tuple[float, float], degrees: float = 0, scale: float = 1) -> Patches:
    """The patch after a motion about its centre; the shift is in pixels."""
    middle = (PATCH_SIDE - 1) / 2
    motion = cv2.getRotationMatrix2D((middle, middle), degrees, scale)
    motion[:, 2] += shift
    return np.asarray(
        cv2.warpAffine(patch, motion, (PATCH_SIDE, PATCH_SIDE), borderMode=cv2.BORDER_REPLICATE)
    )


def flat(grey: int) -> Patches:
    return np.full((PATCH_SIDE, PATCH_SIDE), grey, np.uint8)


def likeness(one: FloatArray, other: FloatArray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def template() -> FloatArray:
    return mean_region(drawn_regions.patches("2", LEVELS))


# Steps


def test_the_papers_steps_come_in_its_order_and_each_can_be_seen() -> None:
    view = cut_view(drawn_regions.patch("2", 0.5, 3), SIDE, None)
    assert view is not None
    seen = [view]
    for name in PAPER.steps:
        before = seen[-1].copy()
        seen.append(STEPS[name](seen[-1], PAPER))
        np.testing.assert_array_equal(seen[-2], before)  # what came in stays as it was
        assert np.abs(seen[-1] - before).mean() > 0.005, name
        assert (seen[-1].shape, seen[-1].dtype) == ((SIDE, SIDE), np.float32)
        assert seen[-1].min() >= 0 and seen[-1].max() <= 1 + 1e-6
    assert PAPER.steps == ("equalise", "blur", "threshold")
    np.testing.assert_array_equal(preprocess(view, PAPER), seen[-1])
    equalised, blurred, binary = seen[1:]
    shares, _ = np.histogram(equalised, 8, (0, 1))
    assert shares.max() < 0.25 * equalised.size  # each eighth of the greys has about as many pixels
    assert np.abs(np.diff(blurred)).mean() < 0.8 * np.abs(np.diff(equalised)).mean()
    assert set(np.unique(binary)) == {0, 1}
    assert 0.1 < binary.mean() < 0.9


@pytest.mark.parametrize("region", ["2", "16"])
@pytest.mark.parametrize("level", [0.3, 0.6, 1.0])
def test_bones_are_white_after_the_threshold_whatever_the_contrast(region: str, level: float) -> None:
    side = PAPER.side_of(region)
    patch = drawn_regions.patch(region, level, 5)
    dim = np.round(90 + patch.astype(np.float32) * 0.3).astype(np.uint8)
    views = [view_of(one, PAPER, side, None) for one in (patch, dim)]
    raw = cut_view(patch, side, None)
    assert raw is not None
    for view in views:
        assert view is not None and set(np.unique(view)) == {0, 1}
        assert raw[view == 1].mean() > raw[view == 0].mean() + 0.03
    assert (views[0] == views[1]).mean() > 0.9


def test_other_steps_and_orders_give_other_views() -> None:
    patch = drawn_regions.patch("2", 0.5, 3)
    orders = [
        (),
        ("equalise",),
        ("blur", "equalise"),
        ("equalise", "blur"),
        ("threshold",),
        ("equalise", "threshold"),
    ]
    views = [view_of(patch, InputConfig(steps=steps), SIDE, None) for steps in orders]
    for at, one in enumerate(views):
        for other in views[:at]:
            assert one is not None and other is not None and np.abs(one - other).max() > 0.01


def test_a_blur_of_0_changes_nothing_and_an_offset_of_the_threshold_adds_white() -> None:
    view = cut_view(drawn_regions.patch("2", 0.5, 3), SIDE, None)
    assert view is not None
    np.testing.assert_array_equal(STEPS["blur"](view, InputConfig(blur=0.0)), view)
    shares = [STEPS["threshold"](view, InputConfig(offset=offset)).mean() for offset in (-0.1, 0.0, 0.1)]
    assert shares[0] < shares[1] < shares[2]


def test_blur_and_block_are_shares_of_the_view() -> None:
    """A view twice as large has the same look."""
    patch = drawn_regions.patch("2", 0.5, 3)
    small, large = (view_of(patch, PAPER, side, None) for side in (48, 96))
    assert small is not None and large is not None
    shrunk = cv2.resize(large, (48, 48), interpolation=cv2.INTER_AREA)
    assert ((shrunk > 0.5) == (small > 0.5)).mean() > 0.9


# Where a view lies in its patch


@pytest.mark.parametrize("side", [16, 64, 96, 128])
def test_a_view_is_the_middle_of_its_patch(side: int) -> None:
    """Grey that rises evenly across a patch says where every pixel of a view lies in it."""
    ramp = np.tile(np.arange(PATCH_SIDE, dtype=np.uint8), (PATCH_SIDE, 1))
    shown = PATCH_SIDE / PATCH_MARGIN  # patch pixels that the view spans
    expected = (PATCH_SIDE - shown) / 2 + (np.arange(side) + 0.5) * shown / side - 0.5
    for patch, along in ((ramp, 1), (ramp.T.copy(), 0)):
        view = cut_view(patch, side, None)
        assert view is not None and (view.shape, view.dtype) == ((side, side), np.float32)
        np.testing.assert_allclose(255 * view.mean(axis=1 - along), expected, atol=0.05)
        assert view.std(axis=1 - along).max() < 1e-3


def test_coarse_views_are_smoothed_before_they_are_cut() -> None:
    chequered = (255 * (np.indices((PATCH_SIDE, PATCH_SIDE)).sum(axis=0) % 2)).astype(np.uint8)
    view = cut_view(chequered, 16, None)
    assert view is not None and np.abs(view - 0.5).max() < 0.05


@pytest.mark.parametrize("region", ["2", "17", "16"])
@pytest.mark.parametrize("config", [PAPER, PLAIN], ids=["paper", "plain"])
def test_the_same_patch_has_the_same_view(region: str, config: InputConfig, template: FloatArray) -> None:
    for laid in (None, template):
        patch = drawn_regions.patch(region, 0.5, 1)
        before = patch.copy()
        first, second = (view_of(patch, config, SIDE, laid) for _ in range(2))
        np.testing.assert_array_equal(first, second)  # None where it cannot be laid, twice
        np.testing.assert_array_equal(patch, before)
    for one in views_of([patch] * 3, config, SIDE, None):
        np.testing.assert_array_equal(one, view_of(patch, config, SIDE, None))


# Laid over the mean


@pytest.mark.parametrize(
    ("shift", "degrees", "scale"),
    [((9, -7), 0, 1), ((-8, 10), 0, 1), ((0, 0), 7, 1), ((0, 0), 0, 1.12), ((5, 4), -5, 0.92)],
    ids=["right", "down", "turned", "larger", "all"],
)
def test_alignment_undoes_a_known_motion(
    shift: tuple[float, float], degrees: float, scale: float, template: FloatArray
) -> None:
    still = drawn_regions.patch("2", 0.5, 77, shift=0.0)
    patch = moved(still, shift, degrees, scale)
    expected, found = (view_of(one, PLAIN, SIDE, template) for one in (still, patch))
    left = view_of(patch, PLAIN, SIDE, None)
    assert expected is not None and found is not None and left is not None
    assert likeness(found, expected) > 0.97
    assert likeness(found, expected) > likeness(left, expected) + 0.02
    # To a fraction of a pixel: what is left of the shift shows as the peak of a phase correlation.
    (x, y), _ = cv2.phaseCorrelate(expected.astype(np.float64), found.astype(np.float64))
    assert np.hypot(x, y) < 0.5


def test_shifts_that_mean_nothing_differ_less_after_alignment() -> None:
    patches = np.stack([drawn_regions.patch("2", 0.5, seed, shift=0.09) for seed in range(16)])
    mean = mean_region(patches)
    spread = {}
    for name, laid in (("as cut", None), ("laid", mean)):
        views = [view_of(patch, PLAIN, SIDE, laid) for patch in patches]
        known = [(view - view.mean()) / view.std() for view in views if view is not None]
        assert len(known) >= 15
        spread[name] = np.std(known, axis=0).mean()
    assert spread["laid"] < 0.7 * spread["as cut"]


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
@pytest.mark.parametrize("config", [PAPER, PLAIN], ids=["paper", "plain"])
def test_a_patch_that_shows_nothing_has_no_aligned_view_and_a_flat_one_else(
    grey: int, config: InputConfig, template: FloatArray
) -> None:
    assert view_of(flat(grey), config, SIDE, template) is None
    assert view_of(flat(grey), config, SIDE, np.full_like(template, 0.3)) is None
    view = view_of(flat(grey), config, SIDE, None)
    assert view is not None and np.isfinite(view).all() and np.ptp(view) < 1e-6


def test_noise_and_other_things_never_crash(template: FloatArray) -> None:
    rng = np.random.default_rng(0)
    strange = [
        rng.integers(0, 256, (PATCH_SIDE, PATCH_SIDE)).astype(np.uint8),
        255 - drawn_regions.patch("2", 0.5, 1),
        np.where(np.arange(PATCH_SIDE) == 3, 255, 0).astype(np.uint8) * np.ones((PATCH_SIDE, 1), np.uint8),
        drawn_regions.patch("16", 0.0, 0),
    ]
    for view in views_of(strange, PAPER, SIDE, template):
        assert view is None or (view.shape == (SIDE, SIDE) and np.isfinite(view).all())
    assert all(view is not None for view in views_of(strange, PAPER, SIDE, None))


# The mean region


def test_the_mean_region_is_sharper_than_the_plain_mean(template: FloatArray) -> None:
    assert (template.shape, template.dtype) == ((TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32)
    assert template.min() >= 0 and template.max() <= 1
    patches = np.stack([drawn_regions.patch("2", 0.5, seed, shift=0.09) for seed in range(16)])
    inner = np.s_[10:-10, 10:-10]
    small = [cv2.resize(patch, (TEMPLATE_SIDE,) * 2, interpolation=cv2.INTER_AREA) / 255 for patch in patches]
    plain = cv2.GaussianBlur(np.mean(small, axis=0), (0, 0), 1.2)
    assert mean_region(patches)[inner].var() > 1.1 * plain[inner].var()
    np.testing.assert_array_equal(mean_region(patches), mean_region(patches))


def test_of_very_many_patches_the_mean_is_of_some_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_OF_A_MEAN", 4)
    patches = drawn_regions.patches("2", np.linspace(0, 1, 10))
    np.testing.assert_array_equal(mean_region(patches), mean_region(patches[[0, 3, 6, 9]]))
    np.testing.assert_array_equal(mean_region(patches[:4]), mean_region(patches[[0, 1, 2, 3]]))
    one = mean_region(patches[:1])
    assert one.shape == (TEMPLATE_SIDE, TEMPLATE_SIDE)
