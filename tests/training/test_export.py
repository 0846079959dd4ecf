"""Export: the graph computes what the network does, for any batch, or there is no graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

import onnx  # noqa: E402
from torch import nn  # noqa: E402

from boneage.core.errors import BundleError  # noqa: E402
from boneage.inference.runners import RUNTIMES, open_graph  # noqa: E402
from boneage.models.backbones import create_backbone  # noqa: E402
from boneage.models.heads import AgeEnsemble, AgeNet  # noqa: E402
from boneage.training.export import HALF_PARITY, PARITY, export_graph  # noqa: E402

OUTPUTS = ("age_months", "spread_months")


def ensemble() -> AgeEnsemble:
    """Two members, each with random weights and a distribution head."""
    torch.manual_seed(0)
    members = [
        AgeNet(create_backbone("test_resnet"), "distribution", age_mean=120.0, age_std=40.0, hidden=64)
        for _ in range(2)
    ]
    return AgeEnsemble(members).eval()


def examples(count: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"image": torch.rand(count, 1, 48, 40), "sex": (torch.arange(count) % 2).float()[:, None]}


@pytest.mark.parametrize(("half", "limit"), [(False, PARITY), (True, HALF_PARITY)])
def test_every_runtime_computes_what_torch_does_for_any_batch(
    tmp_path: Path, half: bool, limit: float
) -> None:
    net, path = ensemble(), tmp_path / "graph.onnx"
    difference = export_graph(net, examples(), OUTPUTS, path, half_weights=half)
    assert 0 <= difference <= limit
    assert [file.name for file in tmp_path.iterdir()] == ["graph.onnx"]
    for runtime in RUNTIMES:
        run = open_graph(path, runtime, 1)
        for count in (1, 5):
            inputs = examples(count)
            with torch.no_grad():
                expected = dict(zip(OUTPUTS, net(*inputs.values()), strict=True))
            found = run({name: value.numpy() for name, value in inputs.items()})
            for name, values in expected.items():
                assert found[name].shape == (count, 2)
                np.testing.assert_allclose(
                    found[name], values.numpy(), atol=limit * float(values.abs().max())
                )


def test_a_network_without_sex_exports_and_still_takes_it(tmp_path: Path) -> None:
    backbone = create_backbone("test_resnet")
    net = AgeNet(backbone, "regression", age_mean=120.0, age_std=40.0, sex_width=0, hidden=64).eval()
    path = tmp_path / "graph.onnx"
    export_graph(net, examples(), OUTPUTS, path)
    for runtime in RUNTIMES:
        inputs = {name: value.numpy() for name, value in examples().items()}
        found = open_graph(path, runtime, 1)(inputs)
        other = open_graph(path, runtime, 1)({**inputs, "sex": 1 - inputs["sex"]})
        np.testing.assert_array_equal(found["age_months"], other["age_months"])


def test_half_weights_halve_the_file_and_still_compute_in_float32(tmp_path: Path) -> None:
    net = ensemble()
    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    export_graph(net, examples(), OUTPUTS, whole, half_weights=False)
    export_graph(net, examples(), OUTPUTS, half, half_weights=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    model = onnx.load(half)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    declared = [*model.graph.input, *model.graph.output]
    assert all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in declared)


def test_a_graph_that_differs_is_not_left_behind(tmp_path: Path) -> None:
    class Fickle(nn.Module):
        """Computes something else every time, which a graph cannot repeat."""

        times = 0

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.times += 1
            return image.mean(dim=(1, 2, 3)) + self.times

    path = tmp_path / "graph.onnx"
    path.write_bytes(b"the good one of before")
    with pytest.raises(BundleError, match="differs from torch by"):
        export_graph(Fickle().eval(), {"image": examples()["image"]}, ("value",), path, half_weights=False)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.onnx"]
    assert path.read_bytes() == b"the good one of before"
