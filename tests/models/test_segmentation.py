"""Differentiable feature clustering on small drawn images."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.models.segmentation import (  # noqa: E402
    ClusterConfig,
    FeatureClustering,
    cluster_features,
    clustering_loss,
    shrink,
)

SMALL = ClusterConfig(channels=16, labels=16, long_side=48)


@pytest.fixture
def square() -> np.ndarray:
    """A bright square on a dark, slightly noisy ground."""
    image = np.random.default_rng(0).normal(0.1, 0.02, (48, 40)).astype(np.float32)
    image[12:36, 10:30] += 0.7
    return image


@pytest.mark.parametrize("bfloat16", [False, True])
def test_things_of_different_brightness_share_no_label(square: np.ndarray, bfloat16: bool) -> None:
    labels = cluster_features(
        square, ClusterConfig(channels=16, labels=16, long_side=48, iterations=30, bfloat16=bfloat16)
    )
    inside, outside = (
        set(labels[15:33, 13:27].ravel()),
        set(np.r_[labels[3:9, 3:37], labels[39:45, 3:37]].ravel()),
    )
    assert not inside & outside
    assert len(inside) == 1


def test_labels_have_the_image_shape_and_no_gaps(square: np.ndarray) -> None:
    labels = cluster_features(np.kron(square, np.ones((2, 2), np.float32)), SMALL)
    assert labels.shape == (96, 80)
    assert set(np.unique(labels)) == set(range(labels.max() + 1))


def test_same_image_same_labels_and_the_callers_random_state_is_kept(square: np.ndarray) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = cluster_features(square, SMALL)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first, cluster_features(square, SMALL))


def test_labels_do_not_depend_on_brightness_and_contrast(square: np.ndarray) -> None:
    few = ClusterConfig(channels=16, labels=16, long_side=48, iterations=3)
    scaled = cluster_features(square * np.float32(0.25) + np.float32(0.5), few)
    assert np.mean(scaled == cluster_features(square, few)) > 0.99


def test_spatial_continuity_leaves_fewer_labels(square: np.ndarray) -> None:
    def left(continuity: float) -> int:
        config = ClusterConfig(channels=16, labels=16, long_side=48, iterations=25, continuity=continuity)
        return int(cluster_features(square, config).max()) + 1

    assert left(20.0) < left(0.0)


def test_a_blank_image_is_one_label_but_for_its_edge() -> None:
    labels = cluster_features(np.full((30, 20), 0.4, np.float32), SMALL)
    assert len(np.unique(labels[2:-2, 2:-2])) == 1


def test_min_labels_stops_before_the_first_step(square: np.ndarray) -> None:
    one = ClusterConfig(channels=16, labels=16, long_side=48, iterations=1)
    stopped = ClusterConfig(channels=16, labels=16, long_side=48, iterations=40, min_labels=16)
    assert np.array_equal(cluster_features(square, one), cluster_features(square, stopped))


def test_loss_is_the_printed_sum_of_its_two_parts() -> None:
    responses = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]]]])  # two channels, one row of two pixels
    labels = responses.argmax(dim=1)[0]
    alike = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    two_rows = torch.cat([responses, responses + 0.5], dim=2)
    both = clustering_loss(two_rows, labels.repeat(2, 1), similarity=4.0, continuity=1.0)
    assert both.item() == pytest.approx(4 * alike + 0.5 + 1.5)  # 0.5 down; |-2| and |1| across


def test_network_has_the_papers_shape_and_learns() -> None:
    network = FeatureClustering()
    kernels = [tuple(p.shape) for p in network.parameters() if p.dim() == 4]
    assert kernels == [(90, 1, 3, 3), (90, 90, 3, 3), (90, 90, 1, 1)]
    responses = network(torch.rand(1, 1, 12, 10))
    assert responses.shape == (1, 90, 12, 10)
    clustering_loss(responses, responses.argmax(dim=1)[0], 4.0, 1.0).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_default_settings_are_the_papers() -> None:
    config = ClusterConfig()
    assert (config.channels, config.labels, config.iterations) == (90, 90, 50)
    assert (config.rate, config.momentum, config.similarity, config.continuity) == (0.1, 0.9, 4.0, 1.0)


@pytest.mark.parametrize("wrong", [{"channels": 1}, {"labels": 0}, {"long_side": 4}, {"iterations": 0}])
def test_settings_that_cannot_run_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="clustering needs"):
        ClusterConfig(**wrong)


def test_shrink_keeps_the_aspect_and_never_enlarges() -> None:
    assert shrink(np.zeros((400, 300), np.float32), 100).shape == (100, 75)
    small = np.zeros((40, 30), np.float32)
    assert shrink(small, 100) is small
