"""A shipped graph as a network: it computes the same, its filters keep their moments, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import boneage.models  # noqa: F401  first, as training imports it

# isort: split

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from boneage.core.errors import BundleError
from boneage.inference.bundle import SHIPPED
from boneage.models.onnx_graph import OnnxGraph

INPUTS = {
    "hand_regression": {"image": (2, 1, 384, 288), "sex": (2, 1)},
    "graded_regions": {"crop": (15, 1, 80, 80), "bone": (15, 15)},
    "age_intervals": {"image": (2, 1, 288, 216), "sex": (2, 1)},
}


def example(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {key: rng.random(shape, dtype=np.float32) for key, shape in INPUTS[name].items()}
    if "bone" in made:
        made["bone"] = np.eye(15, dtype=np.float32)
    return made


def by_runtime(path: Path, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, given)


@pytest.mark.parametrize("name", INPUTS)
def test_it_computes_what_the_graph_computes_and_writes_it_back(name: str, tmp_path: Path) -> None:
    path, given = SHIPPED / f"{name}.onnx", example(name)
    graph = OnnxGraph(path)
    assert graph.inputs == list(given)
    wanted = by_runtime(path, given)
    with torch.no_grad():
        found = graph(*map(torch.from_numpy, given.values()))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-3)
    graph.save(tmp_path / "again.onnx")
    for one, other in zip(by_runtime(tmp_path / "again.onnx", given), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
    assert (tmp_path / "again.onnx").stat().st_size == path.stat().st_size


def test_a_step_moves_filters_and_keeps_their_mean_and_deviation(tmp_path: Path) -> None:
    path, given = SHIPPED / "graded_regions.onnx", example("graded_regions")
    graph = OnnxGraph(path)
    before = [filters().detach().clone() for filters in graph.filters]
    optimiser = torch.optim.SGD(graph.parameters(), lr=0.1)
    (output,) = graph(*map(torch.from_numpy, given.values()))
    output.sum().backward()
    optimiser.step()
    after = [filters().detach() for filters in graph.filters]
    assert any(not torch.allclose(one, other) for one, other in zip(before, after, strict=True))
    for one, other in zip(before, after, strict=True):
        axes = tuple(range(1, one.dim()))
        torch.testing.assert_close(one.mean(axes), other.mean(axes), rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(one.std(axes), other.std(axes), rtol=1e-3, atol=1e-6)
    graph.save(tmp_path / "moved.onnx")
    (moved,) = by_runtime(tmp_path / "moved.onnx", given)
    assert np.isfinite(moved).all() and np.abs(moved - output.detach().numpy()).max() > 1e-4


def test_a_node_that_is_not_known_is_named(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Erf", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph), tmp_path / "odd.onnx")
    with pytest.raises(BundleError, match=r"odd\.onnx has nodes that cannot be trained: Erf"):
        OnnxGraph(tmp_path / "odd.onnx")


def test_what_is_no_graph_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"\x80\x04 not a graph")
    with pytest.raises(BundleError, match=r"no\.onnx"):
        OnnxGraph(tmp_path / "no.onnx")
