"""How groups are measured: balances of classes, labels off the same hands and held out, held-out order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")

from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.core.types import FloatArray, Sex  # noqa: E402
from boneage.recipes.region_clusters.config import GroupsConfig, JoinConfig  # noqa: E402
from boneage.recipes.region_clusters.groups import (  # noqa: E402
    NO_GROUP,
    Labels,
    age_classes,
    class_edges,
    fit_groups,
)
from boneage.recipes.region_clusters.joining import chosen, fit_join, mean_correlation  # noqa: E402
from boneage.recipes.region_clusters.maturity import fit_coordinate  # noqa: E402
from boneage.recipes.region_clusters.results import (  # noqa: E402
    PAPER_CLASSES,
    Grouping,
    Read,
    Sample,
    balanced,
    group,
    held_out_positions,
    measure,
    order_of,
)

F, M = Sex.FEMALE, Sex.MALE
NAMES = ("2", "8", "17")
JOIN = JoinConfig(NAMES)
GROUPS = GroupsConfig(count=8, starts=2)
EDGES = class_edges(GROUPS)
Floats = NDArray[np.float64]


def sample_of(count: int = 240, seed: int = 0, told: float = 1.0) -> Sample:
    """Hands whose latent vectors tell their age by as much as `told`, in five folds."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(24, 216, count)
    level = told * (ages - 120) / 48
    latents, contours = {}, {}
    for name in NAMES:
        way = np.random.default_rng(int(name)).normal(size=6)
        latents[name] = (level[:, None] * way + rng.normal(size=(count, 6))).astype(np.float32)
        contours[name] = (level + rng.normal(size=count)).astype(np.float32)
    sexes = tuple((F, M)[at % 2] for at in range(count))
    return Sample(latents, contours, sexes, ages, rng.permutation(count) % 5)


# Balances


def test_the_papers_shares_are_the_columns_of_its_table_1() -> None:
    assert PAPER_CLASSES == (211, 213, 260, 276) and sum(PAPER_CLASSES) == 960


@pytest.mark.parametrize(
    ("there", "shares", "expected"),
    [
        ((211, 213, 260, 276), PAPER_CLASSES, (211, 213, 260, 276)),
        ((1000, 1000, 1000, 1000), PAPER_CLASSES, (764, 771, 942, 1000)),
        ((122, 279, 611, 203), PAPER_CLASSES, (122, 123, 150, 159)),
        ((122, 279, 611, 203), (1, 1, 1, 1), (122, 122, 122, 122)),
        ((40, 20, 30, 10), (4, 2, 3, 1), (40, 20, 30, 10)),
        ((1, 500, 500, 500), (10, 1, 1, 1), (1, 1, 1, 1)),  # no class is left empty
    ],
)
def test_a_balance_has_its_shares_and_as_many_hands_as_there_are(
    there: tuple[int, ...], shares: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    ages = np.concatenate([np.linspace(low, low + 47, n) for low, n in zip(EDGES, there, strict=False)])
    ages = np.random.default_rng(0).permutation(np.append(ages, [10.0, 230.0, np.nan]))
    found = balanced(ages, EDGES, shares, 0)
    assert found.dtype == np.bool_ and found.shape == ages.shape
    assert np.bincount(age_classes(ages, EDGES)[found]).tolist() == list(expected)
    assert not found[~((ages >= 24) & (ages <= 216))].any()


def test_a_balance_is_drawn_at_random_by_its_seed() -> None:
    ages = np.random.default_rng(0).uniform(24, 216, 400)
    first = balanced(ages, EDGES, PAPER_CLASSES, 0)
    np.testing.assert_array_equal(first, balanced(ages, EDGES, PAPER_CLASSES, 0))
    other = balanced(ages, EDGES, PAPER_CLASSES, 1)
    assert first.sum() == other.sum() and (first != other).any()
    last = np.flatnonzero(age_classes(ages, EDGES) == 0)
    assert first[last[: len(last) // 2]].any() and first[last[len(last) // 2 :]].any()


def test_a_class_without_hands_cannot_be_balanced() -> None:
    ages = np.linspace(80, 216, 50)
    with pytest.raises(
        ConfigError, match=r"no hand has a bone age of 24 to 72 months: classes cannot be bal"
    ):
        balanced(ages, EDGES, PAPER_CLASSES, 0)


# Some hands of a sample


def test_some_hands_keep_what_is_theirs() -> None:
    whole = sample_of(50)
    wanted = whole.ages > 100
    some = whole.take(wanted)
    assert len(some) == wanted.sum() == len(some.sexes)
    np.testing.assert_array_equal(some.ages, whole.ages[wanted])
    np.testing.assert_array_equal(some.folds, whole.folds[wanted])
    assert some.sexes == tuple(sex for sex, own in zip(whole.sexes, wanted, strict=True) if own)
    for name in NAMES:
        np.testing.assert_array_equal(some.latents[name], whole.latents[name][wanted])
        np.testing.assert_array_equal(some.contours[name], whole.contours[name][wanted])


# Grouping


def test_groups_are_made_of_all_hands_and_of_every_folds_others() -> None:
    sample = sample_of()
    found = group(sample, JOIN, GROUPS, 3)
    assert found.count == 8 and set(found.folds) == {0, 1, 2, 3, 4}
    for learn, labels in [(np.ones(240, bool), found.same)] + [
        (sample.folds != fold, labels) for fold, labels in found.folds.items()
    ]:
        own = chosen(sample.latents, learn)
        join = fit_join(own, JOIN)
        sexes = [sex for sex, there in zip(sample.sexes, learn, strict=True) if there]
        groups = fit_groups(join(own), sexes, GROUPS, 3)
        np.testing.assert_array_equal(labels, groups.nearest(join(sample.latents), sample.sexes))


def test_held_out_hands_do_not_change_the_groups_that_they_are_put_in() -> None:
    """What a fold's hands look like changes every grouping but the one that is made without them."""
    sample = sample_of()
    mine = sample.folds == 2
    latents = {name: vectors.copy() for name, vectors in sample.latents.items()}
    for vectors in latents.values():
        vectors[mine] = 50 + 20 * np.random.default_rng(9).normal(size=vectors[mine].shape)
    changed = replace(sample, latents=latents)
    first, second = (group(one, JOIN, GROUPS, 3) for one in (sample, changed))
    np.testing.assert_array_equal(first.folds[2][~mine], second.folds[2][~mine])
    for labels, others in [(first.same, second.same), (first.folds[0], second.folds[0])]:
        # Numbers may be given anew, so it is pairs that are compared.
        assert adjusted_rand_score(labels[~mine], others[~mine]) < 0.9


@pytest.mark.parametrize("config", [GROUPS, replace(GROUPS, by_sex=True)])
@pytest.mark.parametrize("join", [JOIN, replace(JOIN, agreement=1)])
def test_grouping_needs_no_ages(config: GroupsConfig, join: JoinConfig) -> None:
    sample = sample_of()
    unknown = replace(sample, ages=np.full(240, np.nan))
    first, second = (group(one, join, config, 0) for one in (sample, unknown))
    np.testing.assert_array_equal(first.same, second.same)
    for fold in range(5):
        np.testing.assert_array_equal(first.folds[fold], second.folds[fold])


# Labels


def by_hand() -> tuple[Sample, Grouping]:
    """Eight hands in two folds: groups by hand, so that labels can be told by hand."""
    ages = np.array([30.0, 40.0, 80.0, 130.0, 50.0, 90.0, 100.0, 200.0])
    folds = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    sample = replace(sample_of(8), ages=ages, folds=folds)
    same = np.array([0, 0, 0, 1, 1, 1, 2, NO_GROUP])
    without_0 = np.array([1, 0, 0, 2, 0, 0, 0, 1])  # made of hands 4 to 7
    without_1 = np.array([0, 0, 1, 1, 1, NO_GROUP, 2, 0])  # made of hands 0 to 3
    return sample, Grouping(3, same, {0: without_0, 1: without_1})


def test_labels_off_the_same_hands_by_hand() -> None:
    sample, grouping = by_hand()
    outcome = measure(sample, grouping, GROUPS)
    same = outcome.same
    assert outcome.groups.tolist() == grouping.same.tolist()
    assert same.classes.tolist() == [0, 0, 1, 2, 0, 1, 1, 3]
    assert outcome.table.tolist() == [[2, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0]]
    assert same.predicted.tolist() == [0, 0, 0, 0, 0, 0, 1, -1]
    assert same.accuracy.estimate == pytest.approx(4 / 8)  # a hand without a group is not right
    np.testing.assert_array_equal(same.typical, [40, 40, 40, 90, 90, 90, 100, np.nan])
    assert same.mean_error == pytest.approx((10 + 0 + 40 + 40 + 40 + 0 + 0) / 7)


def test_held_out_labels_by_hand_are_the_other_folds() -> None:
    sample, grouping = by_hand()
    held_out = measure(sample, grouping, GROUPS).held_out
    # Fold 0's labels are of hands 4 to 7: group 0 has classes 0, 1, 1; group 1 has 3; group 2 nobody.
    # Fold 1's are of hands 0 to 3: group 0 has 0, 0; group 1 has 1 and 2, of which the lower; group 2 nobody.
    assert held_out.predicted.tolist() == [3, 1, 1, -1, 1, -1, -1, 0]
    np.testing.assert_array_equal(held_out.typical, [200, 90, 90, np.nan, 105, np.nan, np.nan, 35])
    assert held_out.accuracy.estimate == pytest.approx(1 / 8)
    assert held_out.mean_error == pytest.approx((170 + 50 + 10 + 55 + 165) / 5)


def test_a_hands_own_age_never_tells_its_held_out_label() -> None:
    """Ages of a fold that are permuted change what other folds are told, and nothing of its own."""
    sample = sample_of()
    grouping = group(sample, JOIN, GROUPS, 0)
    mine = sample.folds == 1
    ages = sample.ages.copy()
    ages[mine] = np.random.default_rng(5).permutation(ages[mine])
    first = measure(sample, grouping, GROUPS)
    second = measure(replace(sample, ages=ages), grouping, GROUPS)
    np.testing.assert_array_equal(first.held_out.predicted[mine], second.held_out.predicted[mine])
    np.testing.assert_array_equal(first.held_out.typical[mine], second.held_out.typical[mine])
    assert (first.held_out.typical[~mine] != second.held_out.typical[~mine]).any()
    assert (first.same.typical[mine] != second.same.typical[mine]).any()
    np.testing.assert_array_equal(first.held_out.classes[~mine], second.held_out.classes[~mine])


def test_labels_off_the_same_hands_beat_chance_where_there_is_nothing_to_find() -> None:
    """That is why there is a column of held-out hands."""
    same, held_out = [], []
    for seed in range(4):
        sample = sample_of(160, seed, told=0.0)
        outcome = measure(sample, group(sample, JOIN, replace(GROUPS, count=32), 0), GROUPS)
        same.append(outcome.same.accuracy.estimate)
        held_out.append(outcome.held_out.accuracy.estimate)
    assert np.mean(same) > 0.4 and min(same) > 0.35  # of four classes of a quarter each
    assert 0.15 < np.mean(held_out) < 0.33


def test_where_there_is_something_to_find_both_see_it() -> None:
    sample = sample_of(told=2.0)
    outcome = measure(sample, group(sample, JOIN, GROUPS, 0), GROUPS)
    assert outcome.same.accuracy.estimate > 0.75 and outcome.held_out.accuracy.estimate > 0.7
    assert outcome.same.accuracy.low < outcome.same.accuracy.estimate < outcome.same.accuracy.high
    assert outcome.held_out.mean_error < 20


@pytest.mark.parametrize("interval", [12, 24, 36, 48])
def test_one_grouping_is_measured_at_every_interval(interval: int) -> None:
    sample = sample_of(told=2.0)
    grouping = group(sample, JOIN, GROUPS, 0)
    config = replace(GROUPS, interval_months=interval)
    outcome = measure(sample, grouping, config)
    assert outcome.table.shape == (8, len(class_edges(config)) - 1)
    assert outcome.table.sum() == 240
    counts = np.bincount(outcome.same.classes, minlength=outcome.table.shape[1])
    np.testing.assert_array_equal(outcome.table.sum(axis=0), counts)
    np.testing.assert_array_equal(outcome.table.sum(axis=1), np.bincount(outcome.groups, minlength=8))
    np.testing.assert_array_equal(outcome.same.typical, measure(sample, grouping, GROUPS).same.typical)


def test_hands_of_no_class_are_refused() -> None:
    sample = sample_of()
    ages = sample.ages.copy()
    ages[:3] = [10.0, 240.0, np.nan]
    with pytest.raises(ConfigError, match=r"3 hands have no bone age of 24 to 216 months: leave them out"):
        measure(replace(sample, ages=ages), group(sample, JOIN, GROUPS, 0), GROUPS)


def test_groups_are_compared_with_classes_without_a_label() -> None:
    sample = sample_of()
    outcome = measure(sample, group(sample, JOIN, GROUPS, 0), GROUPS)
    rand, information = outcome.agreement()
    classes = outcome.same.classes
    assert rand == pytest.approx(adjusted_rand_score(classes, outcome.groups))
    assert information == pytest.approx(normalized_mutual_info_score(classes, outcome.groups))
    perfect = replace(outcome, groups=(classes + 2) % 4)
    assert perfect.agreement() == pytest.approx((1, 1))
    assert Read(classes, outcome.same.typical, classes, sample.ages).accuracy.estimate == 1


# Order


def test_a_hands_position_comes_from_the_other_folds() -> None:
    sample = sample_of()
    found, _ = held_out_positions(sample, JOIN)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    for fold in range(5):
        mine = sample.folds == fold
        others = sample.take(~mine)
        coordinate = fit_coordinate(others.latents, others.contours, JOIN)
        np.testing.assert_array_equal(found[mine], coordinate(chosen(sample.latents, mine))[:, 0])
    assert stats.spearmanr(found, sample.ages).statistic > 0.8
    unknown = replace(sample, ages=np.full(240, np.nan))
    np.testing.assert_array_equal(held_out_positions(unknown, JOIN)[0], found)


@pytest.mark.parametrize(("told", "low", "high"), [(0.0, -0.2, 0.1), (1.0, 0.6, 0.95)])
def test_how_far_regions_agree_is_told_of_held_out_hands(told: float, low: float, high: float) -> None:
    """Of the hands that a coordinate was learnt from, regions agree even where they share nothing."""
    sample = sample_of(told=told)
    _, agreement = held_out_positions(sample, JOIN)
    assert low < agreement < high
    every = fit_coordinate(sample.latents, sample.contours, JOIN)
    assert mean_correlation(every, sample.latents) > agreement + (0.1 if told == 0 else 0)


def test_a_fully_masked_hand_has_no_position() -> None:
    sample = sample_of()
    latents: Mapping[str, FloatArray] = {name: vectors.copy() for name, vectors in sample.latents.items()}
    for vectors in latents.values():
        vectors[[0, 9]] = np.nan
    found, agreement = held_out_positions(replace(sample, latents=latents), JOIN)
    assert np.isfinite(agreement)
    assert np.flatnonzero(~np.isfinite(found)).tolist() == [0, 9]


def test_the_order_is_spearmans_of_each_sex_and_of_all() -> None:
    sample = sample_of(120)
    positions, _ = held_out_positions(sample, JOIN)
    positions[5] = np.nan
    ages = sample.ages.copy()
    ages[7] = np.nan
    order = order_of(positions, ages, sample.sexes)
    known = np.isfinite(positions) & np.isfinite(ages)
    girls = np.array([sex is F for sex in sample.sexes])
    for told, part in ((order.girls, known & girls), (order.boys, known & ~girls), (order.every, known)):
        assert told is not None
        assert told.estimate == pytest.approx(stats.spearmanr(positions[part], ages[part]).statistic)
        assert told.low < told.estimate < told.high


@pytest.mark.parametrize("sexes", [(F,) * 40, (None,) * 40, (F,) * 39 + (M,)])
def test_sexes_with_too_few_hands_have_no_order(sexes: tuple[Sex | None, ...]) -> None:
    positions = np.arange(40, dtype=np.float32)
    order = order_of(positions, np.arange(40) + 50.0, sexes)
    assert order.every is not None and order.every.estimate == pytest.approx(1)
    assert order.boys is None
    assert (order.girls is None) == (sexes[0] is None)
    nobody = order_of(np.full(40, np.nan, np.float32), np.arange(40) + 50.0, sexes)
    assert (nobody.girls, nobody.boys, nobody.every) == (None, None, None)


def test_positions_that_are_all_alike_have_no_order() -> None:
    order = order_of(np.zeros(40, np.float32), np.arange(40) + 50.0, (F, M) * 20)
    assert (order.girls, order.boys, order.every) == (None, None, None)


def random_labels(count: int, groups: int, seed: int) -> Labels:
    return np.random.default_rng(seed).integers(0, groups, count)


def test_groups_drawn_at_random_tell_nothing_held_out() -> None:
    sample = sample_of(400, told=3.0)
    grouping = Grouping(
        40, random_labels(400, 40, 0), {fold: random_labels(400, 40, fold + 1) for fold in range(5)}
    )
    outcome = measure(sample, grouping, GROUPS)
    assert outcome.same.accuracy.estimate > 0.38
    assert abs(outcome.held_out.accuracy.estimate - 0.25) < 0.07
