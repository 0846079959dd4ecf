"""The grading network's output: a distribution that has an order, an end, and tables as layers."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor  # noqa: E402

from boneage.models.backbones import create_backbone  # noqa: E402
from boneage.models.grading import GradeNet, grade_probabilities, interpolate  # noqa: E402

HIGHEST = torch.tensor([6, 14, 1])


def network(*, attention: bool = True, double_pool: bool = True, dropout: float = 0.0) -> GradeNet:
    torch.manual_seed(0)
    backbone = create_backbone("test_resnet", pooled=False)
    return GradeNet(
        backbone, HIGHEST, attention=attention, double_pool=double_pool, width=8, dropout=dropout
    ).eval()


NET = network()


def distribution(maturity: float, spread: float, bone: int) -> Tensor:
    one_hot = torch.eye(3)[[bone]]
    return grade_probabilities(NET.at_least(torch.tensor([maturity]), torch.tensor([spread]), one_hot))[0]


@given(st.floats(-40, 60), st.floats(0.25, 20), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_probabilities_are_a_distribution_that_ends_at_the_bones_last_grade(
    maturity: float, spread: float, bone: int
) -> None:
    found = distribution(maturity, spread, bone)
    assert found.shape == (15,)
    assert found.min() >= 0 and float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert not found[int(HIGHEST[bone]) + 1 :].any()
    inner = found[1 : int(HIGHEST[bone])]  # the first and last grades take the tails
    rises = torch.sign(torch.diff(inner)[torch.diff(inner).abs() > 1e-6])
    assert int((torch.diff(rises) > 0).sum()) == 0  # one peak


@given(st.floats(-20, 30), st.floats(0.01, 5), st.floats(0.25, 10), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_riper_bone_is_at_every_grade_as_likely_or_more(
    maturity: float, more: float, spread: float, bone: int
) -> None:
    low, high = distribution(maturity, spread, bone), distribution(maturity + more, spread, bone)
    assert (torch.cumsum(high, 0) <= torch.cumsum(low, 0) + 1e-5).all()
    grades = torch.arange(15.0)
    assert float(high @ grades) >= float(low @ grades) - 1e-4


@pytest.mark.parametrize("grade", range(7))
def test_a_maturity_on_a_grade_is_that_grade(grade: int) -> None:
    assert int(distribution(float(grade), 0.25, 0).argmax()) == grade


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("double_pool", [True, False])
def test_every_form_of_the_network_grades_and_learns(attention: bool, double_pool: bool) -> None:
    net = network(attention=attention, double_pool=double_pool, dropout=0.1).train()
    crops, bones = torch.rand(4, 1, 48, 48), torch.eye(3)[[0, 1, 2, 1]]
    at_least = net(crops, bones)
    assert at_least.shape == (4, 14) and at_least.dtype == torch.float32
    grade_probabilities(at_least)[:, 1].log().sum().backward()
    without = [name for name, weight in net.named_parameters() if weight.grad is None]
    assert not without


def test_a_bone_is_read_by_its_own_head_and_alone() -> None:
    net = network()
    crop = torch.rand(1, 1, 48, 48).expand(3, -1, -1, -1)
    together = net(crop, torch.eye(3))
    for bone in range(3):
        torch.testing.assert_close(net(crop[:1], torch.eye(3)[[bone]])[0], together[bone])
    with torch.no_grad():
        net.bias[0] += 1
    again = net(crop, torch.eye(3))
    assert not torch.equal(again[0], together[0]) and torch.equal(again[1:], together[1:])


KNOTS, VALUES = torch.tensor([0.0, 1.0, 3.0, 10.0]), torch.tensor([2.0, 4.0, 5.0, 5.5])


@given(st.floats(-5, 15, width=32))
def test_interpolation_is_numpys(x: float) -> None:
    found = float(interpolate(torch.tensor([x]), KNOTS, VALUES)[0])
    assert found == pytest.approx(float(np.interp(x, KNOTS.numpy(), VALUES.numpy())), abs=1e-5)


@pytest.mark.parametrize(("x", "slope"), [(0.5, 2.0), (2.0, 0.5), (9.0, 0.5 / 7), (-1.0, 0.0), (11.0, 0.0)])
def test_interpolation_passes_on_the_slope_of_its_segment(x: float, slope: float) -> None:
    at = torch.tensor([x], requires_grad=True)
    interpolate(at, KNOTS, VALUES).sum().backward()
    assert at.grad is not None and float(at.grad[0]) == pytest.approx(slope, abs=1e-6)
