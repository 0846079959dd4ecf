"""Paper 2's auto-encoders: convolutions by phases against plain ones, transposes, and losses by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402

from boneage.models.region_autoencoder import (  # noqa: E402
    PHASES_FROM,
    Layer,
    RegionAutoEncoder,
    SameConv2d,
    SameDeconv2d,
    constrained_loss,
    variational_loss,
)

PAPER = (Layer(30, 16, 4), Layer(3, 16, 1), Layer(3, 2, 2))
TINY = (Layer(10, 3, 2), Layer(3, 2, 2))
KERNELS, STRIDES = (30, 15, 8, 3), (1, 2, 4, 8)
SIDE = 32

sizes = [
    pytest.mark.parametrize("kernel", KERNELS),
    pytest.mark.parametrize("stride", STRIDES),
]


def each_size(function: object) -> object:
    for mark in sizes:
        function = mark(function)
    return function


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conv_of(kernel: int, stride: int) -> SameConv2d:
    """From two channels to three, with a bias."""
    torch.manual_seed(1)
    layer = SameConv2d(2, Layer(kernel, 3, stride)).double()
    with torch.no_grad():
        layer.bias.copy_(normal(3, seed=2))
    return layer


def deconv_of(conv: SameConv2d) -> SameDeconv2d:
    """Its transpose: from three channels to two, without a bias."""
    layer = SameDeconv2d(3, Layer(conv.kernel, 2, conv.stride)).double()
    with torch.no_grad():
        layer.weight.copy_(conv.weight)
    return layer


def plain_conv(images: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """The same by PyTorch's own convolution: the zeros that are missing, half of them before."""
    missing = max(0, weight.shape[-1] - stride)
    before, after = missing // 2, missing - missing // 2
    return functional.conv2d(functional.pad(images, (before, after, before, after)), weight, bias, stride)


# Convolutions by phases


@each_size
def test_a_convolution_by_phases_is_the_plain_one(kernel: int, stride: int) -> None:
    layer, images = conv_of(kernel, stride), normal(2, 2, SIDE, SIDE)
    found = layer(images)
    assert found.shape == (2, 3, SIDE // stride, SIDE // stride)
    torch.testing.assert_close(found, plain_conv(images, layer.weight, layer.bias, stride))


@each_size
def test_a_convolution_by_phases_has_the_plain_one_s_gradients(kernel: int, stride: int) -> None:
    layer, images = conv_of(kernel, stride), normal(2, 2, SIDE, SIDE).requires_grad_()
    weights = normal(2, 3, SIDE // stride, SIDE // stride, seed=3)
    inputs = (images, layer.weight, layer.bias)
    found = torch.autograd.grad((layer(images) * weights).sum(), inputs)
    plain = plain_conv(images, layer.weight, layer.bias, stride)
    expected = torch.autograd.grad((plain * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("kernel", "stride"), [(30, 4), (15, 2), (3, 2), (3, 4)])
def test_images_need_not_be_square(kernel: int, stride: int) -> None:
    layer, images = conv_of(kernel, stride), normal(1, 2, 16, 24)
    torch.testing.assert_close(layer(images), plain_conv(images, layer.weight, layer.bias, stride))
    back = deconv_of(layer)(normal(1, 3, 4, 6))
    assert back.shape == (1, 2, 4 * stride, 6 * stride)


@pytest.mark.parametrize("kernel", [3, PHASES_FROM])
def test_a_stride_may_be_longer_than_the_kernel(kernel: int) -> None:
    layer, images = conv_of(kernel, 16), normal(2, 2, SIDE, SIDE)
    torch.testing.assert_close(layer(images), plain_conv(images, layer.weight, layer.bias, 16))
    maps = normal(2, 3, 2, 2, seed=4)
    grown = deconv_of(layer)(maps)
    assert grown.shape == images.shape
    layer.bias.data.zero_()
    torch.testing.assert_close((layer(images) * maps).sum(), (images * grown).sum())


# Their transposes


@each_size
def test_a_deconvolution_is_the_convolution_s_adjoint(kernel: int, stride: int) -> None:
    conv = conv_of(kernel, stride)
    conv.bias.data.zero_()
    deconv = deconv_of(conv)
    images, maps = normal(2, 2, SIDE, SIDE), normal(2, 3, SIDE // stride, SIDE // stride, seed=4)
    grown = deconv(maps)
    assert grown.shape == images.shape
    # <conv x, y> = <x, deconv y> for all x and y: it is so for two of them drawn at random.
    torch.testing.assert_close((conv(images) * maps).sum(), (images * grown).sum())
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(plain_conv(images, conv.weight, None, stride), images, maps)
    torch.testing.assert_close(grown, gradient)


@each_size
def test_a_deconvolution_by_phases_has_the_plain_one_s_gradients(kernel: int, stride: int) -> None:
    deconv = deconv_of(conv_of(kernel, stride))
    maps = normal(2, 3, SIDE // stride, SIDE // stride, seed=4).requires_grad_()
    weights = normal(2, 2, SIDE, SIDE, seed=5)
    whole = functional.conv_transpose2d(maps, deconv.weight, None, stride)
    before, grow = max(0, kernel - stride) // 2, max(0, stride - kernel)
    plain = functional.pad(whole, (0, grow, 0, grow))[..., before : before + SIDE, before : before + SIDE]
    inputs = (maps, deconv.weight)
    expected = torch.autograd.grad((plain * weights).sum(), inputs)
    found = torch.autograd.grad((deconv(maps) * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_deconvolution_adds_its_bias_once() -> None:
    deconv = deconv_of(conv_of(30, 4))
    without = deconv(normal(1, 3, 8, 8))
    with torch.no_grad():
        deconv.bias.copy_(torch.tensor([0.5, -2.0]))
    added = deconv(normal(1, 3, 8, 8)) - without
    torch.testing.assert_close(
        added, torch.tensor([0.5, -2.0]).double()[None, :, None, None].expand_as(added)
    )


@pytest.mark.parametrize(("kernel", "stride"), [(15, 1), (30, 4), (15, 4), (3, 2), (8, 8)])
def test_what_layers_begin_with_keeps_the_size_of_what_comes_in(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 16, 64, 64).relu()
    size = images.square().mean().sqrt()
    for layer in (SameConv2d(16, Layer(kernel, 16, stride)), SameDeconv2d(16, Layer(kernel, 16, stride))):
        inner = layer(images)
        edge = -(-kernel // stride) if isinstance(layer, SameConv2d) else kernel
        # Zeros around the images make their edges smaller.
        if inner.shape[2] > 2 * edge:
            inner = inner[:, :, edge:-edge, edge:-edge]
            assert 0.7 * size < inner.relu().square().mean().sqrt() < 1.5 * size


# The auto-encoder


@pytest.mark.parametrize(("side", "latent"), [(64, 2 * 8 * 8), (96, 2 * 12 * 12)])
@pytest.mark.parametrize("variational", [False, True])
def test_shapes_are_those_of_the_recipe(side: int, latent: int, variational: bool) -> None:
    net = RegionAutoEncoder(PAPER, variational)
    views = torch.rand(3, 1, side, side)
    vectors, reconstructed, log_variances = net(views - 0.5)
    assert vectors.shape == (3, latent) and reconstructed.shape == views.shape
    assert reconstructed.min() >= 0 and reconstructed.max() <= 1
    if variational:
        assert log_variances is not None and log_variances.shape == vectors.shape
    else:
        assert log_variances is None


def test_the_decoder_has_the_encoder_s_layers_in_reverse() -> None:
    net = RegionAutoEncoder(PAPER)
    down = [(layer.kernel, layer.stride, tuple(layer.weight.shape[:2])) for layer in net.encoder]
    up = [(layer.kernel, layer.stride, tuple(layer.weight.shape[:2])) for layer in net.decoder]
    assert down == [(30, 4, (16, 1)), (3, 1, (16, 16)), (3, 2, (2, 16))]
    assert up == down[::-1]  # a transposed convolution's weights are the convolution's


def test_the_variational_encoder_has_twice_the_channels_at_its_end_alone() -> None:
    plain, variational = RegionAutoEncoder(PAPER), RegionAutoEncoder(PAPER, variational=True)
    assert variational.encoder[-1].weight.shape[0] == 2 * plain.encoder[-1].weight.shape[0]
    for one, other in zip(
        [*variational.encoder[:-1], *variational.decoder], [*plain.encoder[:-1], *plain.decoder], strict=True
    ):
        assert one.weight.shape == other.weight.shape


def test_latent_vectors_are_the_flattened_map_and_may_be_negative() -> None:
    torch.manual_seed(0)
    net, views = RegionAutoEncoder(TINY), torch.rand(9, 1, 16, 16)
    vectors, _, _ = net(views - 0.5)
    found, log_variance = net.encode(views - 0.5)
    assert log_variance is None and found.shape == (9, 2, 4, 4)
    torch.testing.assert_close(vectors, found.flatten(1))
    assert vectors.min() < 0 < vectors.max()


def test_a_variational_one_draws_in_training_alone_and_its_latent_vector_is_the_mean() -> None:
    torch.manual_seed(0)
    net, views = RegionAutoEncoder(TINY, variational=True), torch.rand(5, 1, 16, 16) - 0.5
    first, second = net(views), net(views)
    mean, log_variance = net.encode(views)
    assert log_variance is not None
    for vectors, _, logs in (first, second):
        torch.testing.assert_close(vectors, mean.flatten(1))
        torch.testing.assert_close(logs, log_variance.flatten(1))
    assert (first[1] - second[1]).abs().max() > 1e-3
    net.eval()
    torch.testing.assert_close(net(views)[1], net(views)[1], rtol=0, atol=0)


def test_what_is_drawn_has_the_variance_that_the_encoder_tells() -> None:
    torch.manual_seed(0)
    net = RegionAutoEncoder([Layer(1, 1, 1)], variational=True)
    with torch.no_grad():
        net.encoder[0].weight.zero_()
        net.encoder[0].bias.copy_(torch.tensor([0.3, math.log(0.25)]))  # mean, log-variance
        net.decoder[0].weight.fill_(1)
        net.decoder[0].bias.zero_()
    _, drawn, _ = net(torch.rand(64, 1, 32, 32))
    latent = drawn.logit()
    assert latent.mean().item() == pytest.approx(0.3, abs=0.01)
    assert latent.std().item() == pytest.approx(0.5, abs=0.01)


# Losses


VIEWS = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]], [[[1.0, 1.0], [0.0, 0.0]]]])
TOLD = torch.tensor([[[[0.5, 1.0], [0.0, 0.0]]], [[[1.0, 0.5], [0.0, 1.0]]]])
RECONSTRUCTION = (0.25 + 1 + 0.25 + 1) / 8
LATENT = torch.tensor([[1.0, -2.0, 0.0], [3.0, 0.0, 0.0]])
LOGS = torch.tensor([[0.0, math.log(4.0), 0.0], [0.0, 0.0, math.log(0.5)]])


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 0.3125), (1.0, 0.3125 + 14 / 6), (0.3, 0.3125 + 0.7)])
def test_the_constrained_loss_by_hand(weight: float, expected: float) -> None:
    assert pytest.approx(0.3125) == RECONSTRUCTION
    assert constrained_loss(TOLD, VIEWS, LATENT, weight).item() == pytest.approx(expected)


@pytest.mark.parametrize("weight", [0.0, 1.0, 4.0])
def test_the_variational_loss_by_hand(weight: float) -> None:
    # -(1 + log v - m^2 - v) / 2 of every latent value; the mean over both views, by 4 pixels.
    first = (1 + (4 + 4 - 1 - math.log(4)) + 0) / 2
    second = (9 + 0 + (0.5 - 1 - math.log(0.5))) / 2
    expected = RECONSTRUCTION + weight * (first + second) / 2 / 4
    assert variational_loss(TOLD, VIEWS, LATENT, LOGS, weight).item() == pytest.approx(expected)


def test_the_divergence_is_that_of_two_normal_distributions_and_0_at_the_prior() -> None:
    from torch.distributions import Normal, kl_divergence

    expected = kl_divergence(Normal(LATENT, (0.5 * LOGS).exp()), Normal(0.0, 1.0)).sum(dim=1).mean() / 4
    found = variational_loss(VIEWS, VIEWS, LATENT, LOGS, 1.0)
    torch.testing.assert_close(found, expected)
    assert variational_loss(VIEWS, VIEWS, torch.zeros(2, 3), torch.zeros(2, 3), 1.0).item() == 0


def test_a_weight_of_1_is_the_evidence_lower_bound_for_a_variance_of_one_half() -> None:
    """Two sets of values differ in the loss by as much as in the bound, by pixel."""
    from torch.distributions import Normal, kl_divergence

    def bound(told: Tensor, mean: Tensor, logs: Tensor) -> Tensor:
        seen = Normal(told, math.sqrt(0.5)).log_prob(VIEWS).sum(dim=(1, 2, 3))
        return (
            seen - kl_divergence(Normal(mean, (0.5 * logs).exp()), Normal(0.0, 1.0)).sum(dim=1)
        ).mean() / 4

    other = (TOLD.flip(0), LATENT / 2, LOGS - 1)
    found = variational_loss(other[0], VIEWS, *other[1:], 1.0) - variational_loss(
        TOLD, VIEWS, LATENT, LOGS, 1.0
    )
    torch.testing.assert_close(found, bound(TOLD, LATENT, LOGS) - bound(*other))


# Learning


@pytest.mark.parametrize("variational", [False, True])
def test_the_loss_reaches_every_parameter(variational: bool) -> None:
    torch.manual_seed(0)
    net, views = RegionAutoEncoder(TINY, variational), torch.rand(16, 1, 16, 16)
    vectors, reconstructed, logs = net(views - 0.5)
    loss = (
        constrained_loss(reconstructed, views, vectors, 1.0)
        if logs is None
        else variational_loss(reconstructed, views, vectors, logs, 1.0)
    )
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    if variational:
        gradient = net.encoder[-1].weight.grad
        assert gradient is not None and (gradient.flatten(1).abs().sum(dim=1) > 0).all()


def test_the_constraint_alone_does_not_reach_the_decoder_and_shrinks_latent_vectors() -> None:
    sizes = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        net, views = RegionAutoEncoder(TINY), torch.rand(16, 1, 16, 16)
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(40):
            optimiser.zero_grad()
            vectors, reconstructed, _ = net(views - 0.5)
            constrained_loss(reconstructed, views, vectors, weight).backward()
            optimiser.step()
        sizes[weight] = net(views - 0.5)[0].square().mean().item()
    assert sizes[1.0] < 0.2 * sizes[0.0]
    net.zero_grad()
    vectors, reconstructed, _ = net(views - 0.5)
    constrained_loss(views, views, vectors, 1.0).backward()
    assert all(parameter.grad is None for parameter in net.decoder.parameters())


@pytest.mark.parametrize("variational", [False, True])
def test_eight_views_are_learnt_by_heart(variational: bool) -> None:
    torch.manual_seed(0)
    net = RegionAutoEncoder([Layer(10, 8, 2), Layer(3, 4, 2)], variational)
    views = (torch.rand(8, 1, 16, 16) > 0.5).float()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    errors = []
    for _ in range(150):
        optimiser.zero_grad()
        vectors, reconstructed, logs = net(views - 0.5)
        loss = (
            constrained_loss(reconstructed, views, vectors, 0.0)
            if logs is None
            else variational_loss(reconstructed, views, vectors, logs, 1e-3)
        )
        loss.backward()
        optimiser.step()
        errors.append((reconstructed - views).square().mean().item())
    assert errors[-1] < 0.4 * errors[0]
