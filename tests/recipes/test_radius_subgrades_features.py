"""Features and clusters of the radius: equations 1 to 4 and 6, k-means, and both learnt together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.metrics import adjusted_rand_score  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.core.types import FloatArray  # noqa: E402
from boneage.models.autoencoder import AutoEncoder  # noqa: E402
from boneage.recipes.radius_subgrades import learn  # noqa: E402
from boneage.recipes.radius_subgrades.config import (  # noqa: E402
    ClusteringConfig,
    InputConfig,
    NetworkConfig,
    Recipe,
    ScheduleConfig,
)
from boneage.recipes.radius_subgrades.encoder import (  # noqa: E402
    Encoder,
    Labels,
    PixelFeatures,
    nearest,
)
from boneage.recipes.radius_subgrades.evidence import GradeAxis  # noqa: E402
from boneage.recipes.radius_subgrades.learn import (  # noqa: E402
    Clustering,
    ClusteringTask,
    fit_clusters,
    fit_pixels,
    kmeans,
    renew,
)
from boneage.recipes.radius_subgrades.subgrades import PairModel, Subgrader  # noqa: E402

TINY = Recipe(
    InputConfig(16),
    NetworkConfig(components=20, hidden=(32, 16, 32), features=6),
    ScheduleConfig(pretrain_epochs=4, epochs=4, batch=16, learning_rate=1e-3, threads=1),
)


def images(count: int, side: int = 6, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).random((count, side, side)).astype(np.float32)


def kinds(count: int = 20, noise: float = 0.05, seed: int = 0) -> tuple[FloatArray, Labels]:
    """Three images, each many times with noise, and which of them each is."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(3), count)
    drawn = rng.random((3, 16, 16))[kind] + rng.normal(0, noise, (3 * count, 16, 16))
    return np.clip(drawn, 0, 1).astype(np.float32), kind


# Equation 1


def test_pixels_are_standardised_to_mean_0_and_deviation_1() -> None:
    views = images(30)
    views[:, 2, 3] = 0.25  # a constant pixel
    pixels = fit_pixels(views, 4, 0)
    found = pixels.standardise(views)
    assert found.shape == (30, 36) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    varied = np.arange(36) != 2 * 6 + 3
    np.testing.assert_allclose(found.std(axis=0)[varied], 1, atol=1e-5)
    assert (found[:, ~varied] == 0).all()
    np.testing.assert_allclose(
        found[:, varied],
        ((views.reshape(30, 36) - views.reshape(30, 36).mean(axis=0)) / pixels.std)[:, varied],
        atol=1e-5,
    )


# Equations 2 to 4


@pytest.mark.parametrize(("count", "side"), [(60, 5), (20, 6)], ids=["more crops", "more pixels"])
def test_components_are_the_covariances_eigenvectors(count: int, side: int) -> None:
    views = images(count, side)
    wanted = 5
    pixels = fit_pixels(views, wanted, 0)
    x = pixels.standardise(views).astype(np.float64)
    values, vectors = np.linalg.eigh(x.T @ x / count)  # equations 2 and 3
    values, vectors = values[::-1][:wanted], vectors[:, ::-1][:, :wanted]
    assert pixels.components.shape == (side * side, wanted)
    overlap = np.abs(np.sum(pixels.components * vectors, axis=0))  # their signs are free
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    found = pixels(views)
    np.testing.assert_allclose(found, x @ pixels.components, atol=1e-4)  # equation 4
    np.testing.assert_allclose(np.square(found).mean(axis=0), values, rtol=1e-3)
    np.testing.assert_allclose(np.cov(found.T) - np.diag(np.diag(np.cov(found.T))), 0, atol=1e-3)


@pytest.mark.parametrize(
    ("count", "side", "wanted", "expected"), [(10, 6, 4096, 9), (60, 5, 4096, 25), (60, 5, 7, 7)]
)
def test_there_are_as_many_components_as_crops_and_pixels_allow(
    count: int, side: int, wanted: int, expected: int
) -> None:
    pixels = fit_pixels(images(count, side), wanted, 0)
    assert pixels.components.shape == (side * side, expected)
    np.testing.assert_allclose(pixels.components.T @ pixels.components, np.eye(expected), atol=1e-4)


def test_many_crops_have_the_same_leading_components(monkeypatch: pytest.MonkeyPatch) -> None:
    views, _ = kinds(40)
    exact = fit_pixels(views, 2, 0)
    monkeypatch.setattr(learn, "RANDOMISED_FROM", 50)
    found = fit_pixels(views, 2, 0)
    np.testing.assert_allclose(np.abs(np.sum(exact.components * found.components, axis=0)), 1, atol=1e-3)
    np.testing.assert_array_equal(found.components, fit_pixels(views, 2, 0).components)


def with_nan() -> FloatArray:
    views = images(10)
    views[3, 1, 1] = np.nan
    return views


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: images(2), "need three crops or more of finite pixels, not 2: give more crops"),
        (with_nan, "of finite pixels, not 10: .*mend those with NaN"),
        (lambda: np.repeat(images(1), 8, axis=0), "all 8 crops are the same image: give crops that differ"),
        (lambda: np.zeros((8, 6, 6), np.float32), "all 8 crops are the same image"),
    ],
    ids=["two crops", "NaN", "one image", "blank"],
)
def test_views_that_hold_nothing_are_refused(make: Callable[[], FloatArray], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit_pixels(make(), 4, 0)


# Equation 6, and k-means


def test_the_nearest_centroid_is_that_of_the_least_euclidean_distance() -> None:
    features = np.array([[0, 0], [3, 4], [10, 1]], np.float32)
    centroids = np.array([[0, 0], [10, 0]], np.float32)
    labels, distances = nearest(features, centroids)
    assert labels.tolist() == [0, 0, 1]
    np.testing.assert_allclose(distances, [0, 5, 1])


def test_kmeans_finds_clusters_and_keeps_the_best_start() -> None:
    values = np.concatenate([images(20, 2, seed).reshape(20, 4) + 4 * seed for seed in range(3)])
    kind = np.repeat(np.arange(3), 20)
    labels, centroids = kmeans(values, ClusteringConfig(), 0)
    assert adjusted_rand_score(kind, labels) == 1
    means = [values[labels == cluster].mean(axis=0) for cluster in range(3)]
    np.testing.assert_allclose(centroids, means, atol=1e-4)
    again, _ = kmeans(values, ClusteringConfig(), 0)
    np.testing.assert_array_equal(labels, again)

    def loss(starts: int, seed: int) -> float:
        noise = images(60, 3).reshape(60, 9)
        found, centres = kmeans(noise, ClusteringConfig(clusters=6, starts=starts), seed)
        return float(np.square(noise - centres[found]).sum())

    gains = [loss(1, seed) - loss(10, seed) for seed in range(4)]  # the ten begin with the one
    assert min(gains) > -1e-3 and max(gains) > 0.1


def test_clusters_become_the_means_of_the_crops_nearest_to_them() -> None:
    features = np.array([[0.0], [1.0], [9.0], [10.0]], np.float32)
    labels, centroids = renew(features, np.array([[2.0], [7.0]], np.float32))
    assert labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(centroids, [[0.5], [9.5]])


def test_a_dead_cluster_begins_anew_at_the_farthest_crop() -> None:
    features = np.array([[0.0], [1.0], [4.0], [10.0], [10.2]], np.float32)
    labels, centroids = renew(features, np.array([[0.5], [10.1], [99.0]], np.float32))
    assert labels.tolist() == [0, 0, 2, 1, 1]
    np.testing.assert_allclose(centroids, [[0.5], [10.1], [4.0]], rtol=1e-6)


def test_several_dead_clusters_begin_at_crops_of_their_own_and_kill_no_other() -> None:
    features = np.array([[0.0], [1.0], [3.0], [50.0]], np.float32)
    labels, centroids = renew(features, np.array([[0.0], [40.0], [900.0], [950.0]], np.float32))
    assert sorted(labels.tolist()) == [0, 1, 2, 3]
    assert labels[3] == 1  # the farthest from its own, but alone there
    assert np.isfinite(centroids).all()


# Learnt together


@pytest.fixture(scope="module")
def found() -> tuple[FloatArray, Labels, Clustering]:
    views, kind = kinds()
    return views, kind, fit_clusters(views, TINY)


def test_three_kinds_of_image_are_found(found: tuple[FloatArray, Labels, Clustering]) -> None:
    _, kind, clustering = found
    assert adjusted_rand_score(kind, clustering.labels) > 0.9
    assert clustering.features.shape == clustering.before.shape == (60, 6)
    assert clustering.centroids.shape == (3, 6)
    assert clustering.first.shape == clustering.labels.shape == (60,)
    # Labels and centroids are those of the features that are kept.
    labels, centroids = renew(clustering.features, clustering.centroids)
    means = [clustering.features[clustering.labels == cluster].mean(axis=0) for cluster in range(3)]
    np.testing.assert_allclose(clustering.centroids, means, rtol=1e-5)
    assert adjusted_rand_score(labels, clustering.labels) == 1
    np.testing.assert_allclose(centroids, clustering.centroids, rtol=1e-5)


def test_the_same_seed_has_the_same_clusters_and_another_other_features(
    found: tuple[FloatArray, Labels, Clustering],
) -> None:
    views, _, clustering = found
    again = fit_clusters(views, TINY)
    np.testing.assert_array_equal(again.labels, clustering.labels)
    np.testing.assert_array_equal(again.features, clustering.features)
    other = fit_clusters(views, replace(TINY, schedule=replace(TINY.schedule, seed=1)))
    assert not np.allclose(other.features, clustering.features)


def test_features_without_torch_are_those_of_the_network(
    found: tuple[FloatArray, Labels, Clustering],
) -> None:
    views, _, clustering = found
    np.testing.assert_allclose(clustering.encoder(views), clustering.features, rtol=1e-3, atol=1e-4)
    torch.manual_seed(0)
    net = AutoEncoder(9, (8, 7), 3)
    pixels = PixelFeatures(np.zeros(9, np.float32), np.ones(9, np.float32), np.eye(9, dtype=np.float32))
    encoder = learn._encoder(pixels, net, NetworkConfig(components=9, hidden=(8, 7), features=3))
    inputs = images(12, 3) - np.float32(0.5)
    with torch.no_grad():
        expected = net.encoder(torch.from_numpy(inputs.reshape(12, 9))).numpy()
    np.testing.assert_allclose(encoder(inputs), expected, rtol=1e-4, atol=1e-6)


def kmeans_loss_of(features: FloatArray) -> float:
    """Equation 7 of the best clusters of some features, a mean over the crops."""
    labels, centroids = kmeans(features, TINY.clustering, 0)
    return float(np.square(features - centroids[labels]).sum(axis=1).mean())


def test_the_joint_loss_draws_crops_to_their_clusters() -> None:
    """Beside the features before it, and beside training as long on the reconstruction alone."""
    views, _ = kinds(noise=0.4)
    schedule = replace(TINY.schedule, pretrain_epochs=30, epochs=20)
    losses = {}
    for weight in (0.0, 1.0):
        clustering = replace(TINY.clustering, weight=weight)
        learnt = fit_clusters(views, replace(TINY, schedule=schedule, clustering=clustering))
        losses[weight] = (kmeans_loss_of(learnt.before), kmeans_loss_of(learnt.features))
    assert losses[0.0][0] == pytest.approx(losses[1.0][0])  # lambda has no part in the pretraining
    assert losses[1.0][1] < 0.9 * losses[1.0][0]
    assert losses[1.0][1] < 0.5 * losses[0.0][1]


def test_clusters_begin_when_the_reconstruction_has_been_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []
    step = ClusteringTask.training_step

    def watched(self: ClusteringTask, batch: Any, index: int) -> Any:
        seen.append((self.current_epoch, self.centroids is not None))
        return step(self, batch, index)

    monkeypatch.setattr(ClusteringTask, "training_step", watched)
    views, _ = kinds()
    fit_clusters(views, replace(TINY, schedule=replace(TINY.schedule, pretrain_epochs=2, epochs=3)))
    # 60 crops make three whole batches of 16 an epoch.
    assert seen == [(epoch, epoch >= 2) for epoch in range(5) for _ in range(3)]


def test_clusters_are_renewed_after_every_epoch_of_the_joint_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[FloatArray] = []
    loss = learn.joint_loss

    def watched(*values: Any) -> Any:
        used.append(values[3].numpy().copy())
        return loss(*values)

    monkeypatch.setattr(learn, "joint_loss", watched)
    views, _ = kinds()
    learnt = fit_clusters(views, replace(TINY, schedule=replace(TINY.schedule, epochs=3)))
    _, begun = kmeans(learnt.before, TINY.clustering, TINY.schedule.seed)
    np.testing.assert_allclose(used[0], begun, rtol=1e-5)
    epochs = np.array(used).reshape(3, -1, *begun.shape)
    np.testing.assert_array_equal(epochs, np.repeat(epochs[:, :1], epochs.shape[1], axis=1))
    assert all(np.abs(later - earlier).max() > 1e-4 for earlier, later in pairwise(epochs[:, 0]))
    assert np.abs(learnt.centroids - epochs[2, 0]).max() > 1e-4


def test_fewer_crops_than_a_batch_are_learnt_as_one() -> None:
    views, kind = kinds(5)
    learnt = fit_clusters(views, replace(TINY, schedule=replace(TINY.schedule, batch=4096)))
    assert adjusted_rand_score(kind, learnt.labels) > 0.9
    assert learnt.encoder.pixels.components.shape == (256, 14)


def test_crops_that_make_no_clusters_are_refused() -> None:
    views, _ = kinds(1)
    with pytest.raises(ConfigError, match="3 crops cannot be sorted into 3 clusters: give more crops"):
        fit_clusters(views, TINY)
    with pytest.raises(ConfigError, match="all 12 crops are the same image"):
        fit_clusters(np.repeat(views[:1], 12, axis=0), TINY)


def test_features_that_diverge_in_the_pretraining_are_refused() -> None:
    wild = replace(TINY, schedule=replace(TINY.schedule, learning_rate=1e30))
    with pytest.raises(ConfigError, match=r"no finite numbers: set a smaller schedule\.learning_rate"):
        fit_clusters(kinds()[0], wild)


def test_features_that_diverge_in_the_joint_training_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    features = ClusteringTask.features

    def diverged(self: ClusteringTask) -> FloatArray:
        found = features(self)
        return found if self.centroids is None else found * np.float32(np.nan)

    monkeypatch.setattr(ClusteringTask, "features", diverged)
    with pytest.raises(ConfigError, match=r"no finite numbers: set a smaller schedule\.learning_rate"):
        fit_clusters(kinds()[0], TINY)


# Kept in half precision


def test_clusters_are_the_same_from_a_file_in_half_precision(
    found: tuple[FloatArray, Labels, Clustering], tmp_path: Path
) -> None:
    views, kind, clustering = found
    axis = GradeAxis.between(clustering.features, kind == 2)
    pair = PairModel((5, 6), clustering.encoder, clustering.centroids, axis, "")
    subgrader = Subgrader(TINY.input, None, (pair,))
    subgrader.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as saved:
        assert saved["pair0.components"].dtype == saved["pair0.weight0"].dtype == np.float16
    loaded = Subgrader.load(tmp_path / "model.npz", json.loads(json.dumps(subgrader.settings())))
    labels, way = loaded.pairs[0].read(views)
    np.testing.assert_array_equal(labels, clustering.labels)
    np.testing.assert_allclose(way, axis.way(clustering.features), atol=0.02)
    own = list(views)
    np.testing.assert_array_equal(loaded.subgrade(own, [5] * 60), subgrader.subgrade(own, [5] * 60))


def test_an_encoder_is_the_same_from_its_arrays(found: tuple[FloatArray, Labels, Clustering]) -> None:
    views, _, clustering = found
    again = Encoder.of(clustering.encoder.arrays())
    assert len(again.layers) == 4
    scale = np.abs(clustering.features).max()
    np.testing.assert_allclose(again(views), clustering.features, atol=0.01 * scale)
