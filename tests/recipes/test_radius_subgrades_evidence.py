"""What earns a sub-grade: clusters in order and not noise; and which radii are then given one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.core.errors import BundleError, ConfigError
from boneage.core.types import FloatArray
from boneage.recipes.radius_subgrades.config import ClusteringConfig, GradesConfig, InputConfig
from boneage.recipes.radius_subgrades.encoder import Encoder, Labels, PixelFeatures
from boneage.recipes.radius_subgrades.evidence import (
    FEWEST,
    PARTS,
    Evidence,
    GradeAxis,
    Quality,
    quality,
    stability,
    unseen_ways,
    weigh,
)
from boneage.recipes.radius_subgrades.subgrades import UNSEEN, PairModel, Subgrader
from boneage.standards.subgraded import subgrade_name

GOOD = Quality(0.4, 0.5, "")
NO_AGES = "the share of the higher grade does not rise beyond chance from each cluster to the next"
NEITHER = (
    "neither the share of the higher grade nor the bone age rises beyond chance from each cluster to the next"
)


def three(count: int = 40) -> Labels:
    """Clusters 0, 1 and 2, as many crops of each."""
    return np.repeat(np.arange(3), count)


def shares_of(labels: Labels, shares: Sequence[float]) -> NDArray[np.bool_]:
    """Which crops have the higher grade: the shares of each cluster, exactly."""
    found = np.zeros(len(labels), dtype=bool)
    for cluster, share in enumerate(shares):
        mine = np.flatnonzero(labels == cluster)
        found[mine[: round(share * len(mine))]] = True
    return found


def ages_of(labels: Labels, means: Sequence[float], seed: int = 0) -> NDArray[np.float64]:
    """Bone ages around the mean of each cluster."""
    noise = np.random.default_rng(seed).normal(0, 6, len(labels))
    for cluster in np.unique(labels):
        noise[labels == cluster] -= noise[labels == cluster].mean()
    return np.asarray(np.array(means, dtype=np.float64)[labels] + noise)


def weighed(
    shares: Sequence[float],
    ages: NDArray[np.float64] | Sequence[float] | None = None,
    sexes: Labels | None = None,
    found: Quality = GOOD,
    labels: Labels | None = None,
) -> Evidence:
    labels = three() if labels is None else labels
    if ages is None:
        ages = np.full(len(labels), np.nan)
    elif not isinstance(ages, np.ndarray):
        ages = ages_of(labels, ages)
    sexes = np.zeros(len(labels), dtype=np.int64) if sexes is None else sexes
    return weigh(0.5 * labels, labels, 3, shares_of(labels, shares), ages, sexes, found)


# What is weighed


def test_clusters_in_their_true_order_earn_a_sub_grade() -> None:
    found = weighed((0.1, 0.5, 0.9), (110, 120, 130))
    assert found.refusal == ""
    assert found.sizes == (40, 40, 40) and found.ways == pytest.approx((0, 0.5, 1))
    assert found.shares == pytest.approx((0.1, 0.5, 0.9))
    assert found.ages == pytest.approx((-10, 0, 10))
    for steps, expected in ((found.grade_steps, 0.4), (found.age_steps, 10)):
        assert [step.estimate for step in steps] == pytest.approx([expected, expected])
        assert all(0 < step.low < step.estimate < step.high for step in steps)


def test_either_the_grades_or_the_ages_are_enough() -> None:
    assert weighed((0.5, 0.5, 0.5), (110, 120, 130)).refusal == ""
    assert weighed((0.1, 0.5, 0.9), (120, 120, 120)).refusal == ""


@pytest.mark.parametrize(
    ("shares", "ages"),
    [
        ((0.5, 0.5, 0.5), (120, 120, 120)),
        ((0.1, 0.1, 0.9), (110, 110, 130)),  # the middle is the lower one
        ((0.1, 0.5, 0.5), (110, 110, 130)),  # neither rises at every step
    ],
)
def test_clusters_without_an_order_are_refused(shares: Sequence[float], ages: Sequence[float]) -> None:
    assert weighed(shares, ages).refusal == NEITHER


def test_where_ages_are_unknown_the_grades_decide() -> None:
    found = weighed((0.1, 0.5, 0.9))
    assert found.refusal == "" and found.ages == () and found.age_steps == ()
    assert weighed((0.5, 0.5, 0.5)).refusal == NO_AGES
    some = ages_of(three(), (110, 120, 130))
    some[three() == 1] = np.nan  # of one cluster none is known
    assert weighed((0.5, 0.5, 0.5), some).refusal == NO_AGES


def test_ages_that_some_crops_lack_are_taken_of_the_others() -> None:
    ages = ages_of(three(), (110, 120, 130))
    ages[::2] = np.nan
    found = weighed((0.5, 0.5, 0.5), ages)
    assert found.refusal == ""
    known = np.isfinite(ages)
    means = [ages[known & (three() == group)].mean() - ages[known].mean() for group in range(3)]
    assert found.ages == pytest.approx(means)


def test_what_falls_from_cluster_to_cluster_is_a_refusal_whatever_else_rises() -> None:
    falling = weighed((0.1, 0.5, 0.9), (120, 110, 130))
    assert falling.refusal == "the bone age falls from one cluster to the next along the grade axis"
    falling = weighed((0.2, 0.8, 0.3), (110, 120, 130))
    assert (
        falling.refusal == "the share of the higher grade falls from one cluster to the next along the "
        "grade axis"
    )
    # A fall within chance is none.
    assert weighed((0.1, 0.5, 0.9), (120, 119.8, 121)).refusal == ""


def test_ages_are_compared_within_a_sex() -> None:
    """Boys are older at a grade: clusters of more and more boys show no development."""
    labels = three()
    boys = shares_of(labels, (0.1, 0.5, 0.9)).astype(np.int64)
    ages = np.where(boys == 1, 135.0, 110.0) + ages_of(labels, (0, 0, 0))
    assert weighed((0.5, 0.5, 0.5), ages, boys).refusal == NEITHER
    assert weighed((0.5, 0.5, 0.5), ages).refusal == ""  # what it would be without sexes


def test_a_failed_clustering_is_a_refusal_in_its_own_words() -> None:
    failed = Quality(0.9, 0.5, "one cluster holds 90% of the crops (more than 70%)")
    assert weighed((0.1, 0.5, 0.9), (110, 120, 130), found=failed).refusal == failed.failure


def test_of_a_cluster_of_a_few_crops_nothing_is_said() -> None:
    labels = np.array([0] * 40 + [1] * (FEWEST - 1) + [2] * 40)
    found = weighed((0.1, 0.5, 0.9), labels=labels)
    assert found.refusal == f"a cluster holds {FEWEST - 1} crops, fewer than {FEWEST}"
    assert found.sizes == (40, FEWEST - 1, 40) and found.ways == found.shares == found.grade_steps == ()
    failed = Quality(0.9, 0.5, "one cluster holds 90% of the crops (more than 70%)")
    assert weighed((0.1, 0.5, 0.9), labels=labels, found=failed).refusal == failed.failure


# The grade axis


def hands(count: int) -> list[str]:
    """A hand of its own for every crop."""
    return [f"h{index:03d}" for index in range(count)]


def test_the_axis_runs_from_the_lower_grades_mean_to_the_highers() -> None:
    features = np.array([[0, 0], [2, 0], [5, 1], [5, -1]], np.float32)
    axis = GradeAxis.between(features, np.array([False, False, True, True]))
    np.testing.assert_allclose(axis.way(features), [-0.25, 0.25, 1, 1])
    np.testing.assert_allclose(axis.way(np.array([[1, 9], [3, 0]], np.float32)), [0, 0.5])
    flat = GradeAxis.between(features, np.array([False, True, False, True])[[0, 1, 1, 0]])
    assert np.isfinite(flat.way(features)).all()
    still = GradeAxis(features[0], features[0])
    assert (still.way(features) == 0).all()


def test_a_crop_does_not_lay_the_axis_that_it_is_measured_by() -> None:
    rng = np.random.default_rng(0)
    features, is_high = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) >= 20
    features[is_high] += 2
    ways = []
    for step in (0, 1, 2):
        changed = features.copy()
        changed[7] += np.float32(step)
        ways.append(unseen_ways(changed, is_high, hands(40), 0))
    # On a line of others' a crop moves as far with every step; were it its own, the line would turn.
    assert ways[2][7] - ways[1][7] == pytest.approx(ways[1][7] - ways[0][7], rel=1e-4)
    still = np.isclose(ways[1], ways[0])
    assert (~still).any() and still.sum() == 40 // PARTS - 1  # the others of its part


def test_crops_of_one_hand_do_not_lay_each_others_axis() -> None:
    rng = np.random.default_rng(0)
    features, is_high = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 20 >= 10
    features[is_high] += 2
    own = hands(20) * 2  # crops n and n + 20 are of one hand
    ways = []
    for step in (0, 1):
        changed = features.copy()
        changed[7] += np.float32(step)
        ways.append(unseen_ways(changed, is_high, own, 0))
    assert ways[1][7] != ways[0][7] and ways[1][27] == ways[0][27]
    # Whichever of its crops changes, the same others are measured on the line that it lays.
    other = features.copy()
    other[27] += 1
    turned = [~np.isclose(found, ways[0]) for found in (ways[1], unseen_ways(other, is_high, own, 0))]
    turned[0][7] = turned[1][27] = False
    np.testing.assert_array_equal(*turned)
    assert turned[0].sum() == 40 - 2 * 20 // PARTS


def test_true_positions_survive_unseen_axes() -> None:
    rng = np.random.default_rng(1)
    is_high = np.arange(200) >= 100
    features = rng.normal(0, 0.3, (200, 4)).astype(np.float32)
    features[:, 0] += is_high
    own = GradeAxis.between(features, is_high).way(features)
    assert np.corrcoef(own, unseen_ways(features, is_high, hands(200), 0))[0, 1] > 0.99


def noise_named(seed: int, *, unseen: bool, aged: bool) -> bool:
    """Whether features that know nothing of grades and ages would earn a sub-grade, by thirds of the axis."""
    rng = np.random.default_rng(seed)
    features, is_high = rng.normal(size=(200, 24)).astype(np.float32), np.arange(200) >= 100
    ages = rng.normal(120, 10, 200) + 6 * is_high if aged else np.full(200, np.nan)
    own = GradeAxis.between(features, is_high).way(features)
    way = unseen_ways(features, is_high, hands(200), seed) if unseen else own
    labels = np.digitize(way, np.quantile(own, [1 / 3, 2 / 3]))
    return not weigh(way, labels, 3, is_high, ages, np.zeros(200, np.int64), GOOD).refusal


@pytest.mark.parametrize("aged", [False, True], ids=["grades alone", "with ages"])
def test_noise_is_named_on_an_axis_of_its_own_and_not_on_unseen_ones(aged: bool) -> None:
    seeds = range(12)
    assert sum(noise_named(seed, unseen=False, aged=aged) for seed in seeds) >= 3
    assert not any(noise_named(seed, unseen=True, aged=aged) for seed in seeds)


# How clusters hang together

CONFIG = ClusteringConfig()


@pytest.fixture
def sklearn() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.mark.usefixtures("sklearn")
def test_separate_clusters_are_good() -> None:
    labels = three(20)
    features = np.random.default_rng(0).normal(0, 0.1, (60, 4)).astype(np.float32)
    features[:, 0] += 5 * labels
    found = quality(features, labels, CONFIG)
    assert found.failure == "" and found.largest_share == pytest.approx(1 / 3) and found.silhouette > 0.9


@pytest.mark.usefixtures("sklearn")
def test_almost_all_crops_in_one_cluster_are_a_failure() -> None:
    labels = np.array([0] * 54 + [1] * 3 + [2] * 3)
    features = np.random.default_rng(0).normal(0, 0.1, (60, 4)).astype(np.float32)
    features[:, 0] += 5 * labels
    assert quality(features, labels, CONFIG).failure == ("one cluster holds 90% of the crops (more than 70%)")
    assert quality(features, labels, replace(CONFIG, largest_share=0.9)).failure == ""
    assert quality(features, np.zeros(60, np.int64), CONFIG).largest_share == 1
    assert quality(features, np.zeros(60, np.int64), CONFIG).failure.startswith("one cluster holds 100%")


@pytest.mark.usefixtures("sklearn")
def test_clusters_that_do_not_hang_together_are_a_failure() -> None:
    features = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    found = quality(features, three(20), CONFIG)
    assert found.silhouette < 0.05
    assert found.failure == f"the clusters' silhouette is {found.silhouette:.3f} (less than 0.05)"


@pytest.mark.usefixtures("sklearn")
def test_stability_is_how_far_seeds_agree_whatever_they_call_their_clusters() -> None:
    labels = three(20)
    assert stability([labels]) == 1
    assert stability([labels, 2 - labels]) == pytest.approx(1)
    other = np.random.default_rng(0).integers(0, 3, 60)
    assert abs(stability([labels, other])) < 0.1
    # Three pairs: one agrees, two do not.
    assert stability([labels, labels, other]) == pytest.approx((1 + 2 * stability([labels, other])) / 3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"clusters": 2}, r"clusters must be 3 or more \(low, between, high\), not 2"),
        ({"along": "line"}, "clustering.along must be one of features, axis, not 'line'"),
        ({"weight": -1.0}, "a weight from 0 and a start or more"),
        ({"starts": 0}, "a weight from 0 and a start or more"),
    ],
)
def test_clusterings_that_cannot_be_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ClusteringConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ((), "must be neighbouring grades"),
        (((5, 7),), "must be neighbouring grades"),
        (((6, 5),), "must be neighbouring grades"),
        (((6, 7), (5, 6)), "must ascend"),
        (((5, 6), (5, 6)), "must ascend"),
    ],
)
def test_pairs_of_grades_are_neighbours_that_ascend(pairs: tuple[tuple[int, int], ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GradesConfig(pairs)
    with pytest.raises(ConfigError, match=r"grades\.given must be one of chn, rus_chn"):
        GradesConfig(given="tw3")


# Who is given a sub-grade: views whose first two pixels are the positions between 5 and 6, and 6 and 7.

SIDE = 4


def seen_at(x: float, y: float) -> FloatArray:
    view = np.zeros((SIDE, SIDE), np.float32)
    view[0, :2] = x, y
    return view


def reader() -> Encoder:
    """Features: the first two pixels."""
    pixels = SIDE * SIDE
    standard = PixelFeatures(
        np.zeros(pixels, np.float32), np.ones(pixels, np.float32), np.eye(pixels, 2, dtype=np.float32)
    )
    return Encoder(standard, ((np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),))


def pair_of(index: int, along: str, refusal: str = "", clusters: int = 3) -> PairModel:
    axis = GradeAxis(np.zeros(2, np.float32), np.eye(2, dtype=np.float32)[index])
    places = np.linspace(0, 1, clusters, dtype=np.float32)[:, None]
    centroids = places if along == "axis" else places * axis.high
    return PairModel((5 + index, 6 + index), reader(), centroids, axis, refusal)


def subgrader_of(*pairs: PairModel) -> Subgrader:
    return Subgrader(InputConfig(16), None, pairs)


@pytest.mark.parametrize("along", ["features", "axis"])
@pytest.mark.parametrize(
    ("x", "y", "grade", "expected"),
    [
        (0.5, 0.0, 5, 5.5),
        (0.5, 0.0, 6, 5.5),
        (1.0, 0.5, 6, 6.5),
        (1.0, 0.5, 7, 6.5),
        (0.5, 0.5, 6, 6.0),  # between both its neighbours
        (0.5, 0.5, 5, 5.5),
        (0.5, 0.5, 7, 6.5),
        (0.1, 0.0, 5, 5.0),
        (0.9, 0.1, 6, 6.0),
        (1.0, 0.9, 7, 7.0),
        (0.9, 0.0, 5, 5.5),  # like a 6, but read as a 5: put between the two
        (0.1, 0.1, 6, 5.5),
        (0.9, 0.9, 6, 6.5),
        (0.1, 0.9, 6, 6.0),  # like a 5 as well as like a 7
        (0.5, 0.5, 4, 4.0),
        (0.5, 0.5, 8, 8.0),
    ],
)
def test_a_radius_between_two_grades_has_their_sub_grade_whichever_it_had(
    along: str, x: float, y: float, grade: int, expected: float
) -> None:
    found = subgrader_of(pair_of(0, along), pair_of(1, along)).subgrade([seen_at(x, y)], [grade])
    assert found.tolist() == [expected]


def test_a_refused_pair_names_none() -> None:
    views, grades = [seen_at(0.5, 0.5)] * 3, [5, 6, 7]
    first, second = pair_of(0, "axis", refusal="noise"), pair_of(1, "axis")
    assert first.subgrades == () and second.subgrades == (6.5,)
    assert subgrader_of(first, second).subgrade(views, grades).tolist() == [5, 6.5, 6.5]
    assert subgrader_of(first).subgrade(views, grades).tolist() == [5, 6, 7]


def test_a_radius_that_could_not_be_laid_over_the_mean_one_keeps_its_grade() -> None:
    subgrader = subgrader_of(pair_of(0, "axis"), pair_of(1, "axis"))
    views = [None, seen_at(0.5, 0.0), None]
    assert subgrader.subgrade(views, [5, 5, 6]).tolist() == [5, 5.5, 6]
    assert subgrader.clusters(subgrader.pairs[0], views, [5, 5, 6]).tolist() == [UNSEEN, 1, UNSEEN]
    assert subgrader.subgrade([None], [6]).tolist() == [6]


def test_clusters_are_those_of_a_pairs_own_grades() -> None:
    pair = pair_of(1, "features")
    views = [seen_at(0, y) for y in (0.0, 0.4, 0.5, 1.3, 0.5)]
    assert subgrader_of(pair).clusters(pair, views, [6, 6, 7, 7, 5]).tolist() == [0, 1, 1, 2, UNSEEN]
    labels, way = pair.read(np.stack(views))
    assert labels.tolist() == [0, 1, 1, 2, 1]
    np.testing.assert_allclose(way, [0, 0.4, 0.5, 1.3, 0.5], rtol=1e-6)


def test_more_clusters_are_more_sub_grades() -> None:
    pair = pair_of(0, "axis", clusters=5)
    assert pair.subgrades == (5.25, 5.5, 5.75)
    views = [seen_at(x, 0) for x in (0, 0.25, 0.5, 0.75, 1)]
    assert subgrader_of(pair).subgrade(views, [5] * 5).tolist() == [5, 5.25, 5.5, 5.75, 5.5]
    assert subgrader_of(pair).subgrade(views, [6] * 5).tolist() == [5.5, 5.25, 5.5, 5.75, 6]
    assert pair_of(0, "axis", clusters=4).subgrades == (5.33, 5.67)


def test_sub_grades_are_written_as_the_paper_writes_them() -> None:
    assert [subgrade_name(grade) for grade in (5.0, 5.5, 5.25, 10.0)] == ["5", "5_5", "5_25", "10"]


# As a file


def test_a_subgrader_is_the_same_from_its_file(tmp_path: Path) -> None:
    template = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    config = InputConfig(16, (0.1, -0.1, 0.7), align=True, contrast="clahe")
    first = Subgrader(config, template, (pair_of(0, "features"), pair_of(1, "axis", refusal="noise")))
    first.save(tmp_path / "model.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    second = Subgrader.load(tmp_path / "model.npz", json.loads(json.dumps(first.settings())))
    assert second.config == config and second.template is not None
    np.testing.assert_allclose(second.template, template, atol=1e-3)
    assert [pair.pair for pair in second.pairs] == [(5, 6), (6, 7)]
    assert [pair.refusal for pair in second.pairs] == ["", "noise"]
    views = [seen_at(x, y) for x in (0, 0.4, 1) for y in (0, 0.4, 1)]
    grades = [6] * len(views)
    np.testing.assert_array_equal(second.subgrade(views, grades), first.subgrade(views, grades))
    bare = subgrader_of(pair_of(0, "axis"))
    bare.save(tmp_path / "model.npz")
    assert Subgrader.load(tmp_path / "model.npz", bare.settings()).template is None


@pytest.mark.parametrize(
    "change",
    [
        {"pairs": [{"grades": [5, 6], "refusal": ""}, {"grades": [6, 7], "refusal": ""}]},
        {"pairs": [{"grades": [5], "refusal": ""}]},
        {"pairs": [{"grades": [5, 6]}]},
        {"input": {"side": 16, "window": [0, 0, 1], "align": True, "contrast": "none"}},
        {"input": {"side": 16, "window": [0, 0, 1], "align": False, "colour": "none"}},
        {"input": {"side": 16}},
    ],
    ids=["one pair too many", "half a pair", "no refusal", "no template", "unknown key", "missing key"],
)
def test_a_file_that_its_settings_do_not_describe_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    subgrader, path = subgrader_of(pair_of(0, "axis")), tmp_path / "model.npz"
    subgrader.save(path)
    Subgrader.load(path, subgrader.settings())
    with pytest.raises(BundleError, match=r"model\.npz is not what its settings say .*install it again"):
        Subgrader.load(path, {**subgrader.settings(), **change})


def test_a_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    subgrader, path = subgrader_of(pair_of(0, "axis")), tmp_path / "model.npz"
    subgrader.save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:80] + bytes(200) + whole[280:]):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=r"model\.npz is not what its settings say .*install it again"):
            Subgrader.load(path, subgrader.settings())


def test_a_missing_file_and_one_that_is_no_model_are_refused(tmp_path: Path) -> None:
    settings = subgrader_of(pair_of(0, "axis")).settings()
    with pytest.raises(BundleError, match=r"none\.npz is not what its settings say"):
        Subgrader.load(tmp_path / "none.npz", settings)
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(BundleError, match=r"text\.npz is not what its settings say"):
        Subgrader.load(tmp_path / "text.npz", settings)


def test_a_few_known_ages_decide_nothing() -> None:
    labels = np.repeat([0, 1, 2], 30)
    ages = np.full(90, np.nan)
    ages[[0, 30, 60]] = 100, 110, 120  # one crop a cluster
    is_high = np.arange(90) % 2 == 1
    found = weigh(labels / 2, labels, 3, is_high, ages, np.zeros(90, np.int64), GOOD)
    assert found.refusal and not found.age_steps


def test_no_crops_have_no_sub_grades() -> None:
    pair = PairModel(
        (5, 6),
        Encoder(
            PixelFeatures(np.zeros(4, np.float32), np.ones(4, np.float32), np.ones((4, 1), np.float32)),
            ((np.ones((1, 1), np.float32), np.zeros(1, np.float32)),),
        ),
        np.array([[0.0], [0.5], [1.0]], np.float32),
        GradeAxis(np.zeros(1, np.float32), np.ones(1, np.float32)),
        "",
    )
    assert Subgrader(InputConfig(side=16), None, (pair,)).subgrade([], []).shape == (0,)


def test_nearly_constant_bright_pixels_are_kept_to_the_last_digit() -> None:
    mean = np.full(4, 0.9, np.float32) + np.arange(4, dtype=np.float32) * np.float32(1e-5)
    pixels = PixelFeatures(mean, np.full(4, 1e-5, np.float32), np.eye(4, dtype=np.float32))
    encoder = Encoder(pixels, ((np.eye(4, dtype=np.float32), np.zeros(4, np.float32)),))
    views = mean.reshape(1, 2, 2) + np.float32(1e-5)
    np.testing.assert_array_equal(Encoder.of(encoder.arrays())(views), encoder(views))
