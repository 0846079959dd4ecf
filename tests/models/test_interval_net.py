"""The interval network: three heads that give one distribution and one age, and the graph of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from torch import Tensor, nn  # noqa: E402

from boneage.inference.runners import open_graph  # noqa: E402
from boneage.models.backbones import Backbone, create_backbone  # noqa: E402
from boneage.models.intervals import HEADS, IntervalNet  # noqa: E402
from boneage.training.export import HALF_PARITY, PARITY, export_graph  # noqa: E402

EDGES = (12.0, 60.0, 100.0, 150.0, 228.0)
CENTRES = [36.0, 80.0, 125.0, 189.0]
OUTPUTS = ("log_probabilities", "age_months")


class Mean(nn.Module):
    """A body whose features are means of the image's corner and of the whole."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image.mean(dim=(2, 3)), image[:, :, :4, :4].mean(dim=(2, 3))], dim=1)


def net_of(head: str, *, seed: int = 0, **values: object) -> IntervalNet:
    torch.manual_seed(seed)
    backbone = Backbone(Mean(), 6, (0.0,) * 3, (1.0,) * 3)
    settings = {"age_mean": 120.0, "age_std": 40.0, "sex_width": 4, "hidden": 16, **values}
    return IntervalNet(backbone, EDGES, head, **settings).eval()  # type: ignore[arg-type]


def inputs(count: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 1, 24, 20), (torch.arange(count) % 2).float()[:, None]


def raw(head: str) -> Tensor:
    """Scores as far apart as a network may ever give them."""
    if head == "classes":
        return torch.tensor([[0.0, 1, 2, 3], [50, -50, 0, 0], [0, 0, 0, 0]])
    return torch.tensor([[-30.0], [-2.0], [-0.5], [0.0], [0.7], [2.0], [30.0]])


@pytest.mark.parametrize("head", HEADS)
def test_the_probabilities_sum_to_one(head: str) -> None:
    net = net_of(head)
    for chances in (net(*inputs())[0], net.log_probabilities(raw(head))):
        assert chances.shape[1] == 4 and torch.isfinite(chances).all()
        torch.testing.assert_close(chances.exp().sum(dim=1), torch.ones(len(chances)), atol=5e-6, rtol=0)


@pytest.mark.parametrize("head", HEADS)
def test_the_age_is_the_distributions_expectation_or_what_a_regression_predicts(head: str) -> None:
    net = net_of(head)
    chances, ages = net(*inputs())
    assert ages.shape == (5, 1)
    assert net.centres.tolist() == CENTRES
    if head == "regression":
        torch.testing.assert_close(ages, net.scores(*inputs()) * 40 + 120)
    else:
        torch.testing.assert_close(ages, chances.exp() @ torch.tensor(CENTRES)[:, None])


@pytest.mark.parametrize("head", ["ordinal", "regression"])
def test_a_higher_score_moves_the_distribution_up(head: str) -> None:
    net = net_of(head)
    beyond = net.beyond(raw(head))
    assert beyond.shape == (7, 3)
    assert torch.all(beyond.diff(dim=1) < 0), "an age beyond an edge is beyond those below it"
    assert torch.all(beyond.diff(dim=0) > 0)
    found = net.log_probabilities(raw(head)).argmax(dim=1)
    assert found[0] == 0 and found[-1] == 3 and torch.all(found.diff() >= 0)


def test_ordinal_thresholds_begin_at_the_edges_and_stay_ordered() -> None:
    net = net_of("ordinal")
    z_scores = (torch.tensor(EDGES[1:-1]) - 120) / 40
    torch.testing.assert_close(net.beyond(z_scores[:, None]).diagonal(), torch.zeros(3), atol=1e-5, rtol=0)
    with torch.no_grad():
        net.steps.copy_(torch.tensor([-9.0, 3.0]))  # whatever is learnt: their steps stay positive
        net.first.fill_(-4.0)
    assert torch.all(net.beyond(torch.zeros(1, 1)).diff(dim=1) < 0)
    loss = nn.functional.binary_cross_entropy_with_logits(net.beyond(torch.zeros(1, 1)), torch.ones(1, 3))
    loss.backward()
    assert net.steps.grad is not None and torch.all(net.steps.grad != 0)
    assert net.first.grad is not None and net.first.grad.item() > 0  # thresholds fall to reach the age


def test_a_regression_at_an_edge_is_beyond_it_with_probability_one_half() -> None:
    net = net_of("regression")
    scores = ((torch.tensor(EDGES[1:-1]) - 120) / 40)[:, None]
    torch.testing.assert_close(net.months(scores)[:, 0], torch.tensor(EDGES[1:-1]))
    torch.testing.assert_close(
        net.beyond(scores).sigmoid().diagonal(), torch.full((3,), 0.5), atol=1e-5, rtol=0
    )
    assert net.log_scale.exp().item() == pytest.approx(0.3 * 40, rel=1e-4)
    with torch.no_grad():
        sure = net.log_probabilities(scores * 0)
        net.log_scale_tenth.sub_(0.1)  # a smaller error, a surer interval
        assert net.log_scale.exp().item() == pytest.approx(12 / np.e, rel=1e-4)
        assert net.log_probabilities(scores * 0).max() > sure.max()


@pytest.mark.parametrize("head", HEADS)
def test_the_sex_is_an_input_that_can_be_left_out(head: str) -> None:
    image, sex = inputs()
    told, untold = net_of(head), net_of(head, sex_width=0)
    assert untold.embed_sex is None and untold.hidden[0].in_features == told.hidden[0].in_features - 4
    for net, matters in ((told, True), (untold, False)):
        pairs = zip(net(image, sex), net(image, 1 - sex), strict=True)
        assert all(torch.equal(one, other) != matters for one, other in pairs)


def test_the_settings_reach_the_layers() -> None:
    plain = net_of("classes")
    assert [type(layer) for layer in plain.hidden] == [nn.Linear, nn.ReLU, nn.Dropout]
    other = net_of("classes", activation="elu", batch_norm=True, dropout=0.4, hidden=7)
    assert [type(layer) for layer in other.hidden] == [nn.Linear, nn.BatchNorm1d, nn.ELU, nn.Dropout]
    assert other.hidden[-1].p == 0.4 and other.output.in_features == 7
    assert other.embed_sex is not None and isinstance(other.embed_sex[1], nn.ELU)
    other.train()(*inputs())
    assert other.hidden[1].num_batches_tracked == 1


@pytest.mark.parametrize("head", HEADS)
def test_two_intervals_are_enough(head: str) -> None:
    backbone = Backbone(Mean(), 6, (0.0,) * 3, (1.0,) * 3)
    net = IntervalNet(backbone, (12.0, 100.0, 228.0), head, age_mean=110.0, age_std=50.0)
    chances, ages = net(*inputs())
    assert chances.shape == (5, 2) and torch.isfinite(chances).all() and torch.isfinite(ages).all()


@pytest.mark.parametrize("head", HEADS)
def test_every_weight_learns(head: str) -> None:
    net = net_of(head).train()
    chances, ages = net(*inputs())
    (chances[:, 1].sum() + ages.sum() / 100).backward()
    assert not [name for name, weight in net.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("head", HEADS)
def test_the_saved_state_is_all_that_another_network_needs(head: str) -> None:
    net = net_of(head)
    other = net_of(head, seed=5, age_mean=0.0, age_std=24.0)
    assert not torch.equal(other(*inputs())[1], net(*inputs())[1])
    other.load_state_dict(net.state_dict())
    for found, expected in zip(other(*inputs()), net(*inputs()), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("sex_width", [0, 4])
@pytest.mark.parametrize("head", HEADS)
def test_the_graph_computes_what_the_network_does(tmp_path: Path, head: str, sex_width: int) -> None:
    torch.manual_seed(0)
    net = IntervalNet(
        create_backbone("test_resnet"),
        EDGES,
        head,
        age_mean=120.0,
        age_std=40.0,
        sex_width=sex_width,
        activation="elu",
        batch_norm=True,
    ).eval()
    for half, limit in ((False, PARITY), (True, HALF_PARITY)):
        path = tmp_path / f"{half}.onnx"
        examples = dict(zip(("image", "sex"), inputs(2), strict=True))
        assert export_graph(net, examples, OUTPUTS, path, half_weights=half) <= limit
        run = open_graph(path, "onnxruntime", 1)
        image, sex = inputs(5)
        with torch.no_grad():
            expected = dict(zip(OUTPUTS, net(image, sex), strict=True))
        found = run({"image": image.numpy(), "sex": sex.numpy()})
        assert found["log_probabilities"].shape == (5, 4) and found["age_months"].shape == (5, 1)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values.numpy(), atol=limit * float(values.abs().max()))
        other = run({"image": image.numpy(), "sex": 1 - sex.numpy()})
        assert np.array_equal(other["age_months"], found["age_months"]) == (sex_width == 0)


@pytest.mark.parametrize(("name", "activation"), [("custom_cnn", nn.ReLU), ("custom_cnn_elu", nn.ELU)])
def test_the_customised_network_is_what_the_paper_names(name: str, activation: type[nn.Module]) -> None:
    backbone = create_backbone(name).eval()
    kinds = [type(layer) for layer in backbone.body.layers]
    for kind in (nn.Conv2d, nn.BatchNorm2d, activation, nn.MaxPool2d, nn.Dropout2d):
        assert kinds.count(kind) == 4
    assert kinds[-2:] == [nn.AdaptiveAvgPool2d, nn.Flatten]
    for shape in ((48, 32), (33, 57)):
        assert backbone(torch.rand(2, 1, *shape)).shape == (2, backbone.channels)
    assert create_backbone(name, pooled=False)(torch.rand(2, 1, 64, 48)).shape == (2, backbone.channels, 4, 3)
    backbone.train()(torch.rand(2, 1, 32, 32)).sum().backward()
    assert all(weight.grad is not None for weight in backbone.parameters())
