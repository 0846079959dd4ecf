"""Encoders without torch against the networks that they are made of; learning them; readers of regions."""

from __future__ import annotations

from dataclasses import replace

import drawn_regions
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.decomposition import PCA  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.core.types import FloatArray  # noqa: E402
from boneage.models.region_autoencoder import Layer, SameConv2d  # noqa: E402
from boneage.recipes.region_clusters import learn as module  # noqa: E402
from boneage.recipes.region_clusters.config import (  # noqa: E402
    InputConfig,
    NetworkConfig,
    ScheduleConfig,
)
from boneage.recipes.region_clusters.encoder import CENTRE, ConvolutionLayer, Encoder  # noqa: E402
from boneage.recipes.region_clusters.learn import LEAST_VIEWS, RegionTask, fit_encoder  # noqa: E402
from boneage.recipes.region_clusters.reader import RegionReader, half_precision  # noqa: E402
from boneage.recipes.region_clusters.views import mean_region, view_of, views_of  # noqa: E402

SIDE = 16
INPUT = InputConfig(side=SIDE, wide_side=24)
NETWORK = NetworkConfig(layers=((10, 6, 2), (3, 4, 1), (3, 2, 2)), components=5)
SCHEDULE = ScheduleConfig(epochs=2, batch=8, learning_rate=3e-3, processes=1)
LEVELS = np.linspace(0, 1, 26)


def views(region: str = "2", levels: FloatArray = LEVELS, config: InputConfig = INPUT) -> FloatArray:
    """Drawn regions (N, S, S), from the youngest to the oldest."""
    found = views_of(drawn_regions.patches(region, levels), config, config.side_of(region), None)
    return np.array(found, np.float32)


def trained(kind: str, monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[Encoder, RegionTask]:
    """A learnt encoder, and the task that ended with it."""
    tasks: list[RegionTask] = []
    run = module.run_at_once

    def run_and_keep(task: RegionTask, epochs: int) -> None:
        tasks.append(task)
        run(task, epochs)

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_at_once", run_and_keep)
        learnt = fit_encoder(views(), replace(NETWORK, kind=kind, **changes), SCHEDULE, "2")
    return learnt.encoder, tasks[0]


# One convolution


@pytest.mark.parametrize("kernel", [30, 15, 8, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_convolution_is_the_torch_layer_s(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = SameConv2d(2, Layer(kernel, 3, stride))
    layer.bias.data.normal_()
    images = torch.randn(2, 2, 16, 16)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected = layer(images).detach().numpy()
    found = ConvolutionLayer(weight, bias, stride, relu=False)(images.numpy())
    assert found.flags["C_CONTIGUOUS"] and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(
        ConvolutionLayer(weight, bias, stride, relu=True)(images.numpy()), np.maximum(expected, 0), atol=1e-4
    )


# A learnt encoder


@pytest.mark.parametrize("kind", ["ccae", "vae"])
def test_the_encoder_is_the_network_that_was_trained(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, task = trained(kind, monkeypatch)
    some = views(levels=np.linspace(0, 1, 70))  # more than are encoded at once
    with torch.no_grad():
        expected, _ = task.net.eval().encode(torch.from_numpy(some)[:, None] - CENTRE)
    flat = expected.flatten(1).numpy()
    found = encoder(some)
    assert found.dtype == np.float32 and found.shape == flat.shape == (70, 2 * 4 * 4)
    # Weights are kept at half precision.
    assert np.linalg.norm(found - flat) < 1e-2 * np.linalg.norm(flat)
    assert np.abs(found - flat).max() < 1e-2 * np.abs(flat).max()
    assert len(task.losses) == SCHEDULE.epochs


@pytest.mark.parametrize("kind", ["ccae", "vae", "pca"])
def test_an_encoder_is_the_same_after_it_was_kept(kind: str) -> None:
    encoder = fit_encoder(views(), replace(NETWORK, kind=kind), SCHEDULE, "2").encoder
    arrays = encoder.arrays()
    assert all(values.dtype == np.float16 for name, values in arrays.items() if name.startswith("weight"))
    for again in (Encoder.of(arrays), encoder.stored(), encoder.stored().stored()):
        np.testing.assert_array_equal(again(views()), encoder(views()))


def test_how_many_views_are_encoded_together_does_not_matter() -> None:
    encoder = fit_encoder(views(), NETWORK, SCHEDULE, "2").encoder
    together = encoder(views())
    alone = np.concatenate([encoder(view[None]) for view in views()])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_principal_components_are_sklearns() -> None:
    learnt = fit_encoder(views(), replace(NETWORK, kind="pca"), SCHEDULE, "2")
    assert learnt.losses == ()
    flat = views().reshape(len(LEVELS), -1)
    expected = PCA(5, svd_solver="full").fit_transform(flat)
    found = learnt.encoder(views())
    assert found.shape == (len(LEVELS), 5)
    for one, other in zip(found.T, expected.T, strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) > 0.999
    np.testing.assert_allclose(found.var(axis=0), expected.var(axis=0), rtol=1e-2)


def test_there_are_no_more_components_than_views_less_one() -> None:
    some = views()[:LEAST_VIEWS]
    learnt = fit_encoder(some, replace(NETWORK, kind="pca", components=96), SCHEDULE, "2")
    assert learnt.encoder(some).shape == (LEAST_VIEWS, LEAST_VIEWS - 1)


@pytest.mark.parametrize("kind", ["ccae", "pca"])
def test_a_missing_array_is_an_error(kind: str) -> None:
    arrays = fit_encoder(views(), replace(NETWORK, kind=kind), SCHEDULE, "2").encoder.arrays()
    assert len(arrays) == (2 if kind == "pca" else 9)
    for name in arrays:
        with pytest.raises(KeyError):
            Encoder.of({other: values for other, values in arrays.items() if other != name})
    with pytest.raises(KeyError):
        Encoder.of({})


# Learning


def test_learning_lowers_the_loss_and_depends_on_the_seed_alone() -> None:
    longer = replace(SCHEDULE, epochs=8)
    first, again = (fit_encoder(views(), NETWORK, longer, "2") for _ in range(2))
    assert len(first.losses) == 8 and first.losses[-1] < 0.8 * first.losses[0]
    assert first.losses == again.losses
    np.testing.assert_array_equal(first.encoder(views()), again.encoder(views()))
    other = fit_encoder(views(), NETWORK, replace(longer, seed=1), "2")
    assert np.abs(other.encoder(views()) - first.encoder(views())).max() > 1e-3


def test_an_epochs_loss_is_the_mean_of_its_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    _, task = trained("ccae", monkeypatch)
    kept: list[float] = []
    task.network = replace(task.network, weight=0.0)
    for batch in (8, len(LEVELS), 1000):
        task.schedule = replace(SCHEDULE, batch=batch)
        loader = task.train_dataloader()
        kept.append(len(loader))
        places = [place for (some,) in loader for place in some.tolist()]
        assert len(set(places)) == len(places)
        task.losses, task._sum = [], 0.0
        steps = [float(task.training_step((some,), 0).detach()) for (some,) in loader]
        task.on_train_epoch_end()
        assert task.losses == [pytest.approx(np.mean(steps))]
        whole = torch.from_numpy(views())[:, None]  # centred as the encoder has them
        with torch.no_grad():
            told = [float((task.net(whole[s] - CENTRE)[1] - whole[s]).square().mean()) for (s,) in loader]
        assert steps == pytest.approx(told, rel=1e-4)
    assert kept == [3, 1, 1]


@pytest.mark.parametrize("kind", ["ccae", "pca"])
@pytest.mark.parametrize("region", ["2", "16"])
def test_regions_that_are_near_in_latent_space_are_alike_in_maturity(kind: str, region: str) -> None:
    levels = np.linspace(0, 1, 60)
    some = views(region, levels, replace(INPUT, steps=("equalise",)))
    network = replace(NETWORK, kind=kind, weight=0.1)
    latent = fit_encoder(some[::2], network, replace(SCHEDULE, epochs=10), region).encoder(some)
    gaps = np.square(latent[:, None] - latent[None]).sum(axis=2)
    np.fill_diagonal(gaps, np.inf)
    nearest = np.abs(levels - levels[gaps.argmin(axis=1)])
    assert nearest[1::2].mean() < 0.15  # by chance, a third


def test_the_variational_one_is_learnt_by_its_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("constrained_loss", "variational_loss"):
        own = getattr(module, name)

        def loss(*arguments: object, name: str = name, own: object = own) -> object:
            called.append(name)
            return own(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(module, name, loss)
    fit_encoder(views(), replace(NETWORK, kind="vae"), SCHEDULE, "2")
    assert set(called) == {"variational_loss"}
    fit_encoder(views(), NETWORK, SCHEDULE, "2")
    assert set(called) == {"variational_loss", "constrained_loss"}


@pytest.mark.parametrize("kind", ["ccae", "vae", "pca"])
def test_too_few_views_and_views_that_are_alike_are_refused(kind: str) -> None:
    network = replace(NETWORK, kind=kind)
    with pytest.raises(ConfigError, match=r"region 7: 19 views are too few to learn from; give 20 or more"):
        fit_encoder(views()[:19], network, SCHEDULE, "7")
    with pytest.raises(ConfigError, match=r"region 7: 0 views are too few"):
        fit_encoder(views()[:0], network, SCHEDULE, "7")
    same = np.repeat(views()[:1], 30, axis=0)
    with pytest.raises(ConfigError, match=r"region 7: all 30 views are the same image; give crops that"):
        fit_encoder(same, network, SCHEDULE, "7")
    with pytest.raises(ConfigError, match="all 30 views are the same image"):
        fit_encoder(np.zeros((30, SIDE, SIDE), np.float32), network, SCHEDULE, "7")


def test_strides_that_do_not_divide_the_side_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"region 2: the strides of network\.layers shrink by 4, which does"
    ):
        fit_encoder(views()[:, :14, :14].copy(), NETWORK, SCHEDULE, "2")


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_an_encoder_that_says_the_same_of_all_views_is_refused(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(task: RegionTask, epochs: int) -> None:
        task.net.encoder[-1].weight.data.fill_(value)

    monkeypatch.setattr(module, "run_at_once", run)
    with pytest.raises(
        ConfigError, match=r"region 2: its auto-encoder gives all views the same vector; set a"
    ):
        fit_encoder(views(), NETWORK, SCHEDULE, "2")


def test_views_may_be_alike_at_the_beginning() -> None:
    """Such as those of a manifest that is sorted by age."""
    some = views(levels=np.linspace(0, 1, 60))
    some[:LEAST_VIEWS] = some[0]
    assert fit_encoder(some, NETWORK, SCHEDULE, "2").encoder(some).std() > 0


# Readers


@pytest.fixture(scope="module")
def reader() -> RegionReader:
    patches = drawn_regions.patches("2", LEVELS)
    return RegionReader(
        "2", INPUT, half_precision(mean_region(patches)), fit_encoder(views(), NETWORK, SCHEDULE, "2").encoder
    )


def test_a_reader_gives_nan_for_a_masked_region_and_never_zero(reader: RegionReader) -> None:
    patches = drawn_regions.patches("2", LEVELS[:5])
    patches[3] = 90  # shows nothing, so it cannot be laid over the mean
    seen = np.array([True, False, True, True, True])
    found = reader(patches, seen)
    assert found.shape == (5, 32) and found.dtype == np.float32
    assert np.isnan(found[[1, 3]]).all() and np.isfinite(found[[0, 2, 4]]).all()
    single = view_of(patches[2], INPUT, SIDE, reader.template)
    assert single is not None
    np.testing.assert_allclose(found[2], reader.encoder(single[None])[0], atol=1e-5)


def test_a_reader_of_nothing_but_masked_regions_gives_nan(reader: RegionReader) -> None:
    found = reader(np.zeros((2, 128, 128), np.uint8), np.zeros(2, np.bool_))
    assert found.shape == (2, 32) and np.isnan(found).all()


@pytest.mark.parametrize("align", [False, True])
def test_a_reader_is_the_same_after_it_was_kept(reader: RegionReader, align: bool) -> None:
    own = reader if align else replace(reader, template=None)
    arrays = own.arrays()
    assert ("template" in arrays) == align
    again = RegionReader.of("2", INPUT, arrays)
    patches, seen = drawn_regions.patches("2", LEVELS[::5]), np.ones(6, np.bool_)
    np.testing.assert_array_equal(again(patches, seen), own(patches, seen))


def test_a_readers_views_have_its_regions_side() -> None:
    encoder = Encoder((), np.zeros(24 * 24, np.float32), np.ones((24 * 24, 1), np.float32))
    wide = RegionReader("16", INPUT, None, encoder)
    (view,) = wide.views(drawn_regions.patches("16", [0.5]))
    assert view is not None and view.shape == (24, 24)
    assert wide(drawn_regions.patches("16", [0.5]), np.ones(1, np.bool_)).shape == (1, 1)
