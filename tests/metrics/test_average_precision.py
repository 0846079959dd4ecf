"""Overlap and average precision against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.metrics.detection import average_precision, mean_average_precision, overlaps

BOX = (0.0, 0.0, 10.0, 10.0)
FAR = (50.0, 50.0, 60.0, 60.0)


def test_overlaps_of_equal_apart_half_and_contained_boxes() -> None:
    others = [BOX, FAR, (5, 0, 15, 10), (0, 0, 5, 10), (10, 0, 20, 10)]
    np.testing.assert_allclose(overlaps([BOX], others), [[1, 0, 1 / 3, 0.5, 0]])
    assert overlaps([], others).shape == (0, 5) and overlaps([BOX], []).shape == (1, 0)


def test_all_found_and_nothing_else_is_one() -> None:
    assert average_precision([[(*BOX, 0.3)], [(*FAR, 0.9)]], [[BOX], [FAR]]) == 1


def test_half_found_is_half() -> None:
    # Recall reaches 0.5 at precision 1: 51 of the 101 recalls.
    assert average_precision([[(*BOX, 0.9)]], [[BOX, FAR]]) == pytest.approx(51 / 101)


def test_a_false_one_before_the_true_one_costs_and_one_after_does_not() -> None:
    assert average_precision([[(*FAR, 0.9), (*BOX, 0.5)]], [[BOX]]) == pytest.approx(0.5)
    assert average_precision([[(*BOX, 0.9), (*FAR, 0.5)]], [[BOX]]) == 1


def test_a_drawn_box_is_taken_once() -> None:
    twice = [[(*BOX, 0.9), (*BOX, 0.8), (*FAR, 0.7)]]
    # Right, wrong, right of two: precision 1 up to recall 0.5, then 2/3.
    assert average_precision(twice, [[BOX, FAR]]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_confidence_ranks_across_images() -> None:
    # A false detection of one image stands between the true ones of two: right, wrong, right.
    found = [[(*BOX, 0.9), (*FAR, 0.8)], [(*BOX, 0.7)]]
    assert average_precision(found, [[BOX], [BOX]]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_threshold_counts_and_their_mean_is_coco_s() -> None:
    shifted = [[(0.0, 0.0, 10.0, 7.2, 0.9)]]  # overlap 0.72
    assert average_precision(shifted, [[BOX]], 0.70) == 1
    assert average_precision(shifted, [[BOX]], 0.75) == 0
    assert mean_average_precision(shifted, [[BOX]]) == pytest.approx(0.5)


def test_nothing_found_is_zero_and_nothing_drawn_is_not_a_number() -> None:
    assert average_precision([[]], [[BOX]]) == 0
    assert np.isnan(average_precision([[(*BOX, 0.9)]], [[]]))
    assert average_precision([[], [(*BOX, 0.5)]], [[], [BOX]]) == 1


@pytest.mark.parametrize(
    ("found", "drawn", "threshold", "message"),
    [
        ([[]], [], 0.5, "for every image, got 1 and 0"),
        ([[BOX]], [[BOX]], 0.5, "confidence; got an array"),
        ([[(*BOX, 1.0)]], [[(1.0, 2.0)]], 0.5, "boxes are rows"),
        ([[(*BOX, 1.0)]], [[BOX]], 0.0, "above 0"),
        ([[(*BOX, 1.0)]], [[BOX]], 1.5, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(
    found: list[list[tuple[float, ...]]], drawn: list[list[tuple[float, ...]]], threshold: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        average_precision(found, drawn, threshold)
