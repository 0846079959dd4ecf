"""Paper 1's auto-encoder: its layers, equations 5, 7 and 8 by hand, and what their gradients reach."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from torch import Tensor, nn  # noqa: E402

from boneage.models.autoencoder import (  # noqa: E402
    AutoEncoder,
    joint_loss,
    kmeans_loss,
    reconstruction_loss,
)

INPUTS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
RECONSTRUCTED = torch.tensor([[1.0, 0.0, 3.0], [1.0, 1.0, -1.0]])  # squared errors 4 and 3
FEATURES = torch.tensor([[0.0, 1.0], [2.0, 2.0]])
CENTROIDS = torch.tensor([[5.0, 5.0], [0.0, 0.0], [2.0, 4.0]])
ASSIGNED = torch.tensor([1, 2])  # squared distances 1 and 4


def tiny() -> AutoEncoder:
    torch.manual_seed(0)
    return AutoEncoder(6, (5, 4), 3)


def widths(layers: nn.Sequential) -> list[int]:
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


def test_the_layers_are_the_papers_and_the_decoder_mirrors_them() -> None:
    net = AutoEncoder(96)
    assert widths(net.encoder) == [96, 500, 500, 2000, 24]
    assert widths(net.decoder) == [24, 2000, 500, 500, 96]
    for layers in (net.encoder, net.decoder):
        kinds = [type(layer) for layer in layers]
        assert kinds == [nn.Linear, nn.ReLU] * 3 + [nn.Linear]  # neither ends in a ReLU


def test_features_and_reconstructions_have_their_shapes_and_may_be_negative() -> None:
    net, inputs = tiny(), torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    features, reconstructed = net(inputs)
    assert features.shape == (40, 3) and reconstructed.shape == inputs.shape
    assert features.min() < 0 and reconstructed.min() < 0
    torch.testing.assert_close(features, net.encoder(inputs))
    torch.testing.assert_close(reconstructed, net.decoder(features))


def test_the_reconstruction_loss_is_equation_5_a_crop() -> None:
    assert reconstruction_loss(RECONSTRUCTED, INPUTS).item() == pytest.approx((4 + 3) / 2)
    assert reconstruction_loss(INPUTS, INPUTS).item() == 0


def test_the_kmeans_loss_is_equation_7_a_crop() -> None:
    assert kmeans_loss(FEATURES, CENTROIDS, ASSIGNED).item() == pytest.approx((1 + 4) / 2)
    one_hot = nn.functional.one_hot(ASSIGNED, 3).float()  # the paper's s, and M with a centroid a column
    printed = sum((f - CENTROIDS.T @ s).norm() ** 2 for f, s in zip(FEATURES, one_hot, strict=True))
    assert kmeans_loss(FEATURES, CENTROIDS, ASSIGNED).item() == pytest.approx(float(printed) / 2)
    assert kmeans_loss(CENTROIDS[ASSIGNED], CENTROIDS, ASSIGNED).item() == 0


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 3.5), (1.0, 3.5 + 1.25), (4.0, 3.5 + 5.0)])
def test_the_joint_loss_is_equation_8_with_half_of_lambda(weight: float, expected: float) -> None:
    found = joint_loss(RECONSTRUCTED, INPUTS, FEATURES, CENTROIDS, ASSIGNED, weight)
    assert found.item() == pytest.approx(expected)


def gradients(loss: Tensor, net: AutoEncoder) -> dict[str, bool]:
    """Whether any parameter of the encoder and of the decoder has a gradient."""
    net.zero_grad()
    loss.backward()
    parts = {"encoder": net.encoder, "decoder": net.decoder}
    return {
        name: all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters())
        for name, part in parts.items()
    }


def test_the_joint_loss_reaches_every_layer_and_the_kmeans_loss_the_encoder_alone() -> None:
    net, inputs = tiny(), torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    centroids, assigned = torch.zeros(2, 3), torch.zeros(64, dtype=torch.int64)
    features, reconstructed = net(inputs)
    joint = joint_loss(reconstructed, inputs, features, centroids, assigned, 1.0)
    assert gradients(joint, net) == {"encoder": True, "decoder": True}
    features, _ = net(inputs)
    alone = gradients(kmeans_loss(features, centroids, assigned), net)
    assert alone == {"encoder": True, "decoder": False}
    features, reconstructed = net(inputs)
    assert gradients(reconstruction_loss(reconstructed, inputs), net) == {"encoder": True, "decoder": True}


def test_lambda_0_has_the_reconstructions_gradients() -> None:
    net, inputs = tiny(), torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    found = []
    for loss in (
        lambda f, r: joint_loss(r, inputs, f, torch.ones(2, 3), torch.ones(8, dtype=torch.int64), 0.0),
        lambda _, r: reconstruction_loss(r, inputs),
    ):
        net.zero_grad()
        loss(*net(inputs)).backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) == len(list(net.parameters()))
    for joint, plain in zip(*found, strict=True):
        torch.testing.assert_close(joint, plain)


def test_eight_inputs_are_learnt_by_heart() -> None:
    net, inputs = tiny(), torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(300):
        optimiser.zero_grad()
        loss = reconstruction_loss(net(inputs)[1], inputs)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
