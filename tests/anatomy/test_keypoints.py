"""Key points: decoded exactly from drawn heat maps, and known to lie as a hand's do or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boneage.anatomy.keypoints import (
    EPIPHYSES,
    FINGERS,
    KNUCKLE,
    NAMES,
    TIPS,
    WRIST,
    decode_heatmaps,
    epiphyses_in_order,
    in_anatomical_order,
)
from boneage.anatomy.localise import upright_frame
from boneage.core.types import FloatArray, Sex, Side
from boneage.data.synthetic import View, draw_hand

CELLS = 48
SIGMA = 1.3  # cells, as the finder is trained


def gaussians(points: NDArray[np.float64], height: float = 1.0) -> FloatArray:
    """Heat maps (N, 48, 48) with one Gaussian each at (x, y)."""
    grid = np.arange(CELLS)
    gauss_x = np.exp(-0.5 * ((grid - points[:, :1]) / SIGMA) ** 2)
    gauss_y = np.exp(-0.5 * ((grid - points[:, 1:]) / SIGMA) ** 2)
    return (height * gauss_y[:, :, None] * gauss_x[:, None, :]).astype(np.float32)


def drawn(age_months: float, side: Side = Side.LEFT, seed: int = 0) -> NDArray[np.float64]:
    """The key points (21, 2) of a drawn hand, as they are named."""
    hand = draw_hand(age_months, Sex.FEMALE, seed, View(side=side, shape=(400, 300)))
    return np.array([hand.keypoints_px[name] for name in NAMES])


def upright(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return upright_frame(points)[0](points)


def test_names_run_from_the_wrist_along_every_finger() -> None:
    assert len(NAMES) == len(set(NAMES)) == 21
    assert NAMES[WRIST] == "wrist" and NAMES[KNUCKLE] == "middle_finger1"
    assert [NAMES[tip] for tip in TIPS] == [f"{finger}4" for finger in FINGERS]


def test_a_gaussian_on_a_cell_is_decoded_exactly() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(2, CELLS - 2, (21, 2)).astype(np.float64)
    found, confidence = decode_heatmaps(gaussians(points, height=0.8))
    np.testing.assert_allclose(found, points, atol=1e-6)
    np.testing.assert_allclose(confidence, 0.8, rtol=1e-6)


@given(st.floats(3, CELLS - 4), st.floats(3, CELLS - 4))
@settings(deadline=None)
def test_a_gaussian_between_cells_is_decoded_to_a_fifth_of_a_cell(x: float, y: float) -> None:
    # The window of five cells cuts one tail more than the other: at most 0.17 cells, 0.7 px of the input.
    found, _ = decode_heatmaps(gaussians(np.array([[x, y]])))
    np.testing.assert_allclose(found[0], (x, y), atol=0.2)


@pytest.mark.parametrize("point", [(0, 0), (CELLS - 1, 0), (0, CELLS - 1), (CELLS - 1, CELLS - 1)])
def test_a_peak_at_the_edge_stays_in_the_map(point: tuple[int, int]) -> None:
    found, _ = decode_heatmaps(gaussians(np.array([point], dtype=np.float64)))
    assert np.all(np.abs(found[0] - point) < 1) and np.all(found >= 0) and np.all(found <= CELLS - 1)


def test_a_weaker_second_peak_does_not_pull() -> None:
    strong, weak = gaussians(np.array([[10.0, 12.0]])), gaussians(np.array([[30.0, 40.0]]), height=0.6)
    found, _ = decode_heatmaps(np.maximum(strong, weak))
    np.testing.assert_allclose(found[0], (10, 12), atol=1e-6)


def test_an_empty_map_has_no_confidence_and_a_finite_point() -> None:
    found, confidence = decode_heatmaps(np.zeros((21, CELLS, CELLS), np.float32))
    assert np.all(np.isfinite(found)) and np.all(confidence == 0)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("age_months", [12.0, 60.0, 120.0, 216.0])
def test_drawn_hands_are_in_order(age_months: float, side: Side) -> None:
    for seed in range(3):
        assert in_anatomical_order(upright(drawn(age_months, side, seed)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("forefinger1", "pinky_finger1"),
        ("forefinger1", "middle_finger1"),
        ("ring_finger2", "ring_finger4"),
        ("middle_finger1", "middle_finger3"),
        ("thumb2", "pinky_finger1"),
    ],
)
def test_two_joints_exchanged_are_out_of_order(one: str, other: str) -> None:
    points = upright(drawn(120.0))
    swapped = [NAMES.index(one), NAMES.index(other)]
    points[swapped] = points[swapped[::-1]]
    assert not in_anatomical_order(points)


def test_scrambled_joints_are_out_of_order() -> None:
    points = drawn(120.0)
    rng = np.random.default_rng(0)
    assert not any(in_anatomical_order(upright(rng.permutation(points))) for _ in range(200))


def test_a_hand_upside_down_or_mirrored_is_out_of_order() -> None:
    points = upright(drawn(120.0))
    assert not in_anatomical_order(points * [-1, 1])
    assert not in_anatomical_order(np.zeros((21, 2)))


RADIUS, ULNA = np.array([0.06, 0.14]), np.array([-0.23, 0.17])


def test_epiphyses_of_a_forearm_are_in_order_alone_and_together() -> None:
    assert EPIPHYSES == ("radius", "ulna")
    assert epiphyses_in_order({"radius": RADIUS, "ulna": ULNA})
    assert epiphyses_in_order({"radius": RADIUS}) and epiphyses_in_order({"ulna": ULNA})
    assert epiphyses_in_order({})


@pytest.mark.parametrize(
    ("radius", "ulna"),
    [
        (ULNA, RADIUS),  # the ulna is on the little finger's side
        (RADIUS, RADIUS),
        (RADIUS - [0, 0.5], ULNA),  # in the palm
        (RADIUS, ULNA - [0, -0.5]),  # far down the forearm
        (RADIUS, ULNA - [0.5, 0]),  # outside the arm
        (RADIUS - [-0.4, 0], ULNA - [0.2, 0]),  # wider apart than a wrist is
    ],
)
def test_epiphyses_that_no_forearm_has_are_out_of_order(
    radius: NDArray[np.float64], ulna: NDArray[np.float64]
) -> None:
    assert not epiphyses_in_order({"radius": radius, "ulna": ulna})
