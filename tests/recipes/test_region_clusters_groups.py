"""K-means in joined latent vectors, age classes, and what groups turn out to be: paper 2's own Table 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.recipes.region_clusters.config import GroupsConfig
from boneage.recipes.region_clusters.groups import (
    NO_GROUP,
    Groups,
    Labels,
    age_classes,
    class_edges,
    count_classes,
    dominating,
    fit_groups,
    typical_ages,
)

F, M = Sex.FEMALE, Sex.MALE
PAPER = GroupsConfig()
TABLE_1 = np.array(
    [
        (0, 2, 8, 25),
        (0, 4, 50, 13),
        (9, 63, 9, 0),
        (0, 3, 10, 48),
        (2, 35, 32, 0),
        (38, 5, 1, 0),
        (0, 0, 28, 38),
        (0, 10, 62, 7),
        (0, 0, 10, 52),
        (4, 2, 1, 0),
        (59, 6, 0, 0),
        (0, 0, 7, 90),
        (55, 15, 0, 0),
        (1, 10, 35, 3),
        (21, 2, 0, 0),
        (22, 56, 7, 0),
    ]
)
"""Hands of every group and class, as the paper prints them."""


def blobs(centres: list[tuple[float, ...]], each: int, spread: float = 0.05, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    places = np.repeat(np.array(centres, np.float32), each, axis=0)
    return (places + spread * rng.normal(size=places.shape)).astype(np.float32)


# Age classes


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (48, (24, 72, 120, 168, 216)),
        (36, (24, 60, 96, 132, 168, 216)),
        (24, (24, 48, 72, 96, 120, 144, 168, 192, 216)),
        (12, tuple(range(24, 217, 12))),
        (192, (24, 216)),
        (100, (24, 216)),
    ],
)
def test_the_borders_of_the_classes(interval: int, expected: tuple[float, ...]) -> None:
    assert class_edges(replace(PAPER, interval_months=interval)) == expected


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (23.0, -1),
        (23.99, -1),
        (24.0, 0),
        (71.0, 0),
        (71.9, 0),
        (72.0, 1),
        (119.0, 1),
        (120.0, 2),
        (167.0, 2),
        (168.0, 3),
        (216.0, 3),
        (216.1, -1),
        (217.0, -1),
        (float("nan"), -1),
    ],
)
def test_the_classes_are_those_of_table_1(age: float, expected: int) -> None:
    assert age_classes(np.array([age]), class_edges(PAPER)).tolist() == [expected]


@pytest.mark.parametrize(("interval", "classes"), [(48, 4), (36, 5), (24, 8), (12, 16), (192, 1)])
def test_every_month_from_24_to_216_is_in_a_class_and_classes_ascend(interval: int, classes: int) -> None:
    edges = class_edges(replace(PAPER, interval_months=interval))
    months = np.arange(0, 241).astype(float)
    found = age_classes(months, edges)
    assert found.dtype == np.int64
    inside = (months >= 24) & (months <= 216)
    assert (found[~inside] == -1).all() and sorted(set(found[inside].tolist())) == list(range(classes))
    assert (np.diff(found[inside]) >= 0).all()
    for own in range(classes):
        assert edges[own] <= months[found == own].min() and months[found == own].max() <= edges[own + 1]


# What groups turn out to be


def spread_out(table: Labels) -> tuple[Labels, Labels]:
    """Groups and classes of as many hands as a table counts, mixed."""
    pairs = np.repeat(np.argwhere(table >= 0), table.ravel(), axis=0)
    mixed = np.random.default_rng(0).permutation(pairs)
    return mixed[:, 0], mixed[:, 1]


def test_the_papers_table_1_has_the_accuracy_that_it_prints() -> None:
    assert TABLE_1.sum() == 960
    best = dominating(TABLE_1)
    assert best.tolist() == [3, 2, 1, 3, 1, 0, 3, 2, 3, 0, 0, 3, 0, 2, 0, 1]
    labels, classes = spread_out(TABLE_1)
    np.testing.assert_array_equal(count_classes(labels, classes, 16, 4), TABLE_1)
    right = best[labels] == classes
    assert right.sum() == 731 and round(100 * right.mean(), 2) == 76.15
    shares = [100 * TABLE_1[group].max() / TABLE_1[group].sum() for group in (0, 2, 11, 14)]
    assert [round(share, 2) for share in shares] == [71.43, 77.78, 92.78, 91.30]


def test_hands_without_a_group_or_a_class_are_not_counted() -> None:
    labels = np.array([0, 0, 1, NO_GROUP, 1, 0])
    classes = np.array([0, 2, 1, 1, -1, 2])
    assert count_classes(labels, classes, 3, 3).tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]
    nobody = count_classes(np.array([NO_GROUP]), np.array([-1]), 2, 3)
    assert nobody.shape == (2, 3) and not nobody.any()


def test_the_dominating_class_is_the_lower_of_equals_and_an_empty_group_has_none() -> None:
    table = np.array([[0, 3, 3, 1], [0, 0, 0, 0], [0, 0, 0, 2], [1, 1, 1, 1]])
    assert dominating(table).tolist() == [1, -1, 3, 0]


def test_a_groups_typical_age_is_the_median_of_those_known() -> None:
    labels = np.array([0, 0, 0, 1, 1, NO_GROUP, 2])
    ages = np.array([50.0, 200.0, 70.0, np.nan, 90.0, 30.0, np.nan])
    found = typical_ages(labels, ages, 4)
    np.testing.assert_array_equal(found, [70, 90, np.nan, np.nan])


# K-means


def test_groups_are_the_blobs_and_depend_on_the_seed_alone() -> None:
    values = blobs([(0, 0), (4, 0), (0, 4)], 20)
    sexes = (F, M) * 30
    groups = fit_groups(values, sexes, GroupsConfig(3, starts=3), seed=5)
    assert len(groups) == 3 and groups.sexes == (None, None, None)
    assert groups.centroids.dtype == np.float32 and groups.centroids.shape == (3, 2)
    labels = groups.nearest(values, sexes)
    assert labels.dtype == np.int64
    assert all(len(set(labels[at : at + 20])) == 1 for at in (0, 20, 40)) and len(set(labels)) == 3
    for group in range(3):
        np.testing.assert_allclose(groups.centroids[group], values[labels == group].mean(axis=0), atol=1e-5)
    again = fit_groups(values, sexes, GroupsConfig(3, starts=3), seed=5)
    np.testing.assert_array_equal(again.centroids, groups.centroids)


def test_by_sex_no_group_mixes_sexes() -> None:
    values = blobs([(0, 0), (4, 0)], 30)  # the sexes look alike
    sexes = (F, M, M) * 20
    groups = fit_groups(values, sexes, GroupsConfig(4, by_sex=True, starts=2), seed=0)
    assert groups.sexes == (F, F, M, M)
    labels = groups.nearest(values, sexes)
    for label, sex in zip(labels, sexes, strict=True):
        assert groups.sexes[label] is sex
    for group, sex in enumerate(groups.sexes):
        mine = values[labels == group]
        np.testing.assert_allclose(groups.centroids[group], mine.mean(axis=0), atol=1e-5)
        assert len(mine) == (10 if sex is F else 20)
    # Whose sex is not known is in none; in groups of both sexes they are as others.
    assert groups.nearest(values[:1], [None]).tolist() == [NO_GROUP]
    both = fit_groups(values, (None, *sexes[1:]), GroupsConfig(2, starts=2), seed=0)
    assert both.nearest(values[:1], [None]).tolist() == both.nearest(values[:1], [F]).tolist()


def test_hands_of_unknown_sex_are_not_learnt_from_by_sex() -> None:
    values = blobs([(0, 0), (4, 0)], 20)
    far = np.vstack([values, [(1000.0, 1000.0)]]).astype(np.float32)
    config = GroupsConfig(4, by_sex=True, starts=2)
    groups = fit_groups(far, (*((F, M) * 20), None), config, seed=0)
    assert groups.centroids.max() < 5


def test_hands_with_a_masked_region_are_not_learnt_from() -> None:
    values = blobs([(0, 0, 0), (4, 4, 4)], 20)
    holes = values.copy()
    holes[3, 1] = np.nan
    kept = np.delete(np.arange(40), 3)
    found = fit_groups(holes, (F,) * 40, GroupsConfig(2), seed=0)
    expected = fit_groups(values[kept], (F,) * 39, GroupsConfig(2), seed=0)
    np.testing.assert_array_equal(found.centroids, expected.centroids)


def test_the_nearest_group_leaves_out_what_is_not_known() -> None:
    centroids = np.array([[0, 0, 100], [10, 10, 0]], np.float32)
    groups = Groups(centroids, (None, None))
    nan = np.nan
    values = np.array(
        [[1, 1, 0], [1, 1, nan], [9, nan, nan], [nan, nan, 60], [nan, nan, nan], [4, 9, nan]], np.float32
    )
    found = groups.nearest(values, [F] * 6)
    assert found.tolist() == [1, 0, 1, 0, NO_GROUP, 1]
    assert groups.nearest(values, [None] * 6).tolist() == found.tolist()


def test_the_nearest_group_is_that_of_plain_distances() -> None:
    rng = np.random.default_rng(0)
    values = (1000 + rng.normal(size=(50, 30))).astype(np.float32)  # far from 0, near to each other
    groups = Groups((1000 + rng.normal(size=(7, 30))).astype(np.float32), (None,) * 7)
    gaps = values[:, None].astype(np.float64) - groups.centroids[None]
    np.testing.assert_array_equal(
        groups.nearest(values, [F] * 50), np.square(gaps).sum(axis=2).argmin(axis=1)
    )
    assert groups.nearest(values[:0], []).shape == (0,)


def test_groups_are_numbered_by_sex_and_then_by_maturity() -> None:
    centroids = np.arange(6, dtype=np.float32)[:, None]
    groups = Groups(centroids, (M, F, M, F, F, M))
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3, 5])
    positions = np.array([5, 3, 1, -2, 7, 1, 1, -2, -9], np.float32)
    ordered = groups.ordered(positions, labels)
    assert ordered.sexes == (F, F, F, M, M, M)
    # Girls' 3 is at -2, 1 at 2 and 4 has nobody, so it is last; boys' 5 is at -9, 2 at 1 and 0 at 6.
    assert ordered.centroids[:, 0].tolist() == [3, 1, 4, 5, 2, 0]


def test_groups_of_both_sexes_are_numbered_by_maturity() -> None:
    values = blobs([(3.0,), (-3.0,), (0.0,)], 10)
    groups = fit_groups(values, [F] * 30, GroupsConfig(3), seed=1)
    ordered = groups.ordered(values[:, 0], groups.nearest(values, [F] * 30))
    np.testing.assert_allclose(ordered.centroids[:, 0], [-3, 0, 3], atol=0.1)
    labels = ordered.nearest(values, [F] * 30)
    assert labels.tolist() == [2] * 10 + [0] * 10 + [1] * 10


# Errors


def test_fewer_different_hands_than_groups_are_refused() -> None:
    values = np.repeat(blobs([(0, 0), (4, 0), (0, 4)], 1), 10, axis=0)  # 30 hands, of which 3 differ
    with pytest.raises(
        ConfigError, match=r"3 different hands cannot be sorted into 4 groups: give more hands"
    ):
        fit_groups(values, [F] * 30, GroupsConfig(4), seed=0)
    assert len(fit_groups(values, [F] * 30, GroupsConfig(3), seed=0)) == 3
    by_sex = GroupsConfig(4, by_sex=True)
    with pytest.raises(
        ConfigError, match="0 different hands of male patients cannot be sorted into 2 groups"
    ):
        fit_groups(values, [F] * 30, by_sex, seed=0)
    with pytest.raises(ConfigError, match="0 different hands of female patients"):
        fit_groups(values, [None] * 30, by_sex, seed=0)
    with pytest.raises(ConfigError, match="0 different hands cannot"):
        fit_groups(np.full((9, 2), np.nan, np.float32), [F] * 9, GroupsConfig(2), seed=0)
