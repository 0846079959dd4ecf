"""Paper 1's scores of new levels: equations 6, 9 and 10, the geometric reading, and what knows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.metrics.bootstrap import Interval
from boneage.recipes.radius_subgrades.scores import (
    Levels,
    Vectors,
    Ways,
    geometric_way,
    measure_ways,
    normalised_distances,
    paper_ways,
    score_between,
    score_columns,
    ways_of,
)
from boneage.standards.names import Bone
from boneage.standards.scoring import standard
from boneage.standards.subgraded import NAME as SUBGRADED


def points(*rows: tuple[float, ...]) -> Vectors:
    return np.array(rows, dtype=np.float32)


def drawn_levels(seed: int, count: int, width: int = 3, steps: tuple[float, ...] = (0, 0, 0)) -> Levels:
    """Levels of normal vectors, each moved by a step along the first axis."""
    rng = np.random.default_rng(seed)
    lists = rng.normal(size=(3, count, width)).astype(np.float32)
    lists[:, :, 0] += np.array(steps, dtype=np.float32)[:, None]
    return Levels(*lists)


# Equations 6 and 9


def test_distances_are_euclidean_and_brought_to_0_and_1_over_all_three_lists() -> None:
    levels = Levels(points((0, 3), (0, -3)), points((3, 4), (0, 0)), points((6, 8), (0, 1)))
    low, between, high = normalised_distances(levels)  # from the lower grade's mean, (0, 0)
    np.testing.assert_allclose(low, [0.3, 0.3])
    np.testing.assert_allclose(between, [0.5, 0.0])
    np.testing.assert_allclose(high, [1.0, 0.1])


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_the_three_lists_fill_0_to_1_together(seed: int, count: int, width: int) -> None:
    every = np.concatenate(normalised_distances(drawn_levels(seed, count, width)))
    assert len(every) == 3 * count
    assert every.min() == 0 and every.max() == pytest.approx(1)


def test_equal_distances_are_no_division_by_zero() -> None:
    same = points((1, 1), (1, 1))
    assert all((found == 0).all() for found in normalised_distances(Levels(same, same, same)))
    assert len(paper_ways(Levels(same, same, same))) == 0


# Equation 10


def printed(x: float, x0: float, x1: float, f0: float, f1: float) -> float:
    """Equation 10 as printed: f(x) from x."""
    return f0 * (x1 - x) / (x1 - x0) + f1 * (x - x0) / (x1 - x0)


@given(st.integers(0, 10_000), st.floats(10, 100), st.floats(1, 30))
@settings(max_examples=100, deadline=None)
def test_the_score_solves_equation_10_for_every_element(seed: int, lower: float, gap: float) -> None:
    levels = drawn_levels(seed, 6)
    upper = lower + gap
    ways = paper_ways(levels)
    assert len(ways) == 6  # no two distances of drawn vectors are equal
    for way, f0, f, f1 in zip(ways, *normalised_distances(levels), strict=True):
        x = score_between(lower, upper, way)
        assert lower <= x <= upper or x == pytest.approx(upper)
        if 0 < way < 1:
            assert printed(x, lower, upper, f0, f1) == pytest.approx(f, abs=1e-7)
        else:  # no score between its neighbours' solves it
            assert (f - f0) * (f1 - f0) <= 0 or abs(f - f0) >= abs(f1 - f0)


def test_elements_whose_neighbours_are_as_far_are_left_out() -> None:
    levels = Levels(points((1, 0), (-1, 0)), points((2, 0), (2, 0)), points((0, 1), (3, 0)))
    np.testing.assert_allclose(paper_ways(levels), [0.5])  # distances 1, 2, 3; the first pair's are 1 and 1


def test_elements_outside_their_neighbours_have_the_nearer_ones_score() -> None:
    levels = Levels(points((1,), (-1,)), points((9,), (0.5,)), points((3,), (3,)))
    np.testing.assert_allclose(paper_ways(levels), [1.0, 0.0])


@pytest.mark.parametrize("way", [0.0, 0.25, 0.5, 1.0])
def test_a_way_is_the_share_between_two_scores(way: float) -> None:
    assert score_between(59, 71, way) == pytest.approx(59 + 12 * way)


@pytest.mark.parametrize("grade", [5.5, 6.5])
@pytest.mark.parametrize("sex", list(Sex))
def test_the_papers_table_3_is_halfway(sex: Sex, grade: float) -> None:
    low, high = (standard("chn").grade_score(sex, Bone.RADIUS, g) for g in (grade - 0.5, grade + 0.5))
    assert standard(SUBGRADED).grade_score(sex, Bone.RADIUS, grade) == score_between(low, high, 0.5)


# The geometric reading


@pytest.mark.parametrize(
    ("between", "expected"),
    [((0, 0), 0.0), ((2, 0), 0.5), ((4, 0), 1.0), ((1, 7), 0.25), ((-3, 0), 0.0), ((9, 1), 1.0)],
)
def test_the_geometric_way_is_that_of_the_means(between: tuple[float, float], expected: float) -> None:
    spread = points((1, 2), (-1, -2))
    levels = Levels(spread, spread + points(between), spread + points((4, 0)))
    assert geometric_way(levels) == pytest.approx(expected)


def test_the_geometric_way_is_the_same_from_the_other_side() -> None:
    levels = drawn_levels(0, 50, steps=(0, 1, 4))
    other = Levels(levels.high, levels.between, levels.low)
    assert geometric_way(levels) + geometric_way(other) == pytest.approx(1)


def test_levels_that_nothing_tells_apart_are_halfway() -> None:
    same = points((1, 1), (3, 3))
    assert geometric_way(Levels(same, same + 1, same)) == 0.5


# Both, measured


def test_levels_along_a_line_are_found_by_both_readings() -> None:
    levels = drawn_levels(1, 200, steps=(0, 6, 12))
    ways = measure_ways(levels)
    assert ways.geometric.estimate == pytest.approx(0.5, abs=0.03)
    assert 0.35 < ways.paper.estimate < 0.65
    assert ways.images == 200
    for interval in (ways.paper, ways.geometric, ways.shuffled):
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    nearer = measure_ways(drawn_levels(1, 200, steps=(0, 3, 12)))
    assert nearer.geometric.high < ways.geometric.low
    assert nearer.paper.estimate < ways.paper.estimate


@pytest.mark.parametrize("steps", [(0, 0, 0), (0, 3, 12)], ids=["features know nothing", "levels are dealt"])
def test_shuffled_levels_are_about_a_half(steps: tuple[float, ...]) -> None:
    ways = measure_ways(drawn_levels(2, 400, 8, steps))
    assert ways.shuffled.estimate == pytest.approx(0.5, abs=0.08)
    assert ways.shuffled.low < 0.5 < ways.shuffled.high


def test_equation_10_of_features_that_know_nothing_is_about_a_half_too() -> None:
    """So a score of a half is no evidence that a sub-grade lies halfway."""
    assert measure_ways(drawn_levels(3, 400, 8)).paper.estimate == pytest.approx(0.5, abs=0.08)


def test_shuffling_deals_out_the_same_vectors() -> None:
    levels = drawn_levels(4, 10, steps=(0, 10, 20))
    dealt = levels.shuffled(0)
    own, found = (np.concatenate([lists.low, lists.between, lists.high]) for lists in (levels, dealt))
    assert len(dealt.low) == len(dealt.between) == len(dealt.high) == 10
    np.testing.assert_array_equal(np.sort(own[:, 0]), np.sort(found[:, 0]))
    assert not np.array_equal(own, found)
    np.testing.assert_array_equal(levels.shuffled(0).low, dealt.low)


def test_as_many_images_are_drawn_of_each_level_as_the_least_has() -> None:
    lists = [np.arange(count, dtype=np.float32)[:, None] for count in (30, 7, 12)]
    levels = Levels.drawn(lists, 1000, seed=0)
    for level, source in zip((levels.low, levels.between, levels.high), lists, strict=True):
        assert len(level) == 7 and len(np.unique(level)) == 7
        assert set(level.ravel()) <= set(source.ravel())
    assert len(Levels.drawn(lists, 4, seed=0).high) == 4
    np.testing.assert_array_equal(Levels.drawn(lists, 1000, seed=0).low, levels.low)
    assert not np.array_equal(Levels.drawn(lists, 1000, seed=1).low, levels.low)


def test_a_level_without_images_has_no_score() -> None:
    empty = np.zeros((0, 3), np.float32)
    with pytest.raises(ConfigError, match="needs images of the grade below, the sub-grade and the grade"):
        Levels.drawn([np.ones((4, 3), np.float32), empty, np.ones((4, 3), np.float32)], 10, 0)


def test_images_that_are_all_alike_have_no_score() -> None:
    same = np.ones((5, 3), np.float32)
    with pytest.raises(ConfigError, match="all images have the same features"):
        measure_ways(Levels(same, same, same))


# Of the levels that were named


def ways(share: float) -> Ways:
    paper, geometric, shuffled = (Interval(share + step, 0, 1) for step in (0, 0.1, -0.1))
    return Ways(paper, geometric, shuffled, 10)


def test_scores_lie_between_their_neighbours_in_chns_table() -> None:
    found = score_columns({5.5: ways(0.5), 6.25: ways(0.2)})
    assert found["paper"] == {
        Sex.FEMALE: {5.5: pytest.approx(63), 6.25: pytest.approx(71)},
        Sex.MALE: {5.5: pytest.approx(65), 6.25: pytest.approx(74.2)},
    }
    assert found["geometric"][Sex.MALE][5.5] == pytest.approx(66.2)
    assert found["shuffled"][Sex.MALE][5.5] == pytest.approx(63.8)
    assert score_columns({}) == {name: {sex: {} for sex in Sex} for name in found}


@pytest.mark.parametrize(("between", "named"), [(2, [5.5]), (1, []), (0, [])])
def test_a_sub_grade_of_one_crop_has_no_score(between: int, named: list[float]) -> None:
    grades = np.array([5.0] * 6 + [5.5] * between + [6.0] * 6)
    vectors = np.random.default_rng(0).normal(size=(len(grades), 8)).astype(np.float32)
    found = ways_of(grades, vectors, {5.5: (5, 6)}, 1000, 0)
    assert list(found) == named
    assert all(way.images == between for way in found.values())


def test_no_more_images_are_drawn_than_are_asked_for() -> None:
    grades = np.repeat([5.0, 5.5, 6.0], 8)
    vectors = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    assert ways_of(grades, vectors, {5.5: (5, 6)}, 5, 0)[5.5].images == 5
    assert ways_of(grades, vectors, {}, 5, 0) == {}


def test_every_sub_grade_is_measured_between_its_own_pair() -> None:
    grades = np.repeat([5.0, 5.5, 6.0, 6.5, 7.0], 6)
    places = {5.0: 0.0, 5.5: 1.0, 6.0: 4.0, 6.5: 7.0, 7.0: 8.0}
    vectors = np.random.default_rng(0).normal(0, 0.01, (30, 2)).astype(np.float32)
    vectors[:, 0] += np.array([places[grade] for grade in grades], dtype=np.float32)
    found = ways_of(grades, vectors, {5.5: (5, 6), 6.5: (6, 7)}, 1000, 0)
    assert found[5.5].geometric.estimate == pytest.approx(0.25, abs=0.02)
    assert found[6.5].geometric.estimate == pytest.approx(0.75, abs=0.02)
