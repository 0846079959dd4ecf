"""Runners give a graph's outputs under the graph's own names, whichever engine runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from boneage.core.errors import BundleError, ConfigError
from boneage.inference.runners import RUNTIMES, open_graph

onnx = pytest.importorskip("onnx", reason="the extra `train` is not installed: it makes the test's graph")

ALIASES = ("zeta", "alpha", "mu", "beta", "omega", "kappa")
"""Steps that change nothing: an engine may leave them out, and give the output their names as well."""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Write a graph with the outputs `twice` and `again`, at the end of steps that change nothing."""
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = []
    for operator, output in (("Add", "twice"), ("Mul", "again")):
        steps = [f"{output}_{alias}" for alias in ALIASES]
        nodes.append(node(operator, ["image", "image"], [steps[0]]))
        ends = zip(steps, [*steps[1:], output], strict=True)
        nodes.extend(node("Identity", [before], [after]) for before, after in ends)
    shape, kind = ["views", 1, 4, 4], onnx.TensorProto.FLOAT
    outputs = [value(name, kind, shape) for name in ("twice", "again")]
    made = onnx.helper.make_graph(nodes, "names", [value("image", kind, shape)], outputs)
    path = tmp_path / "graph.onnx"
    onnx.save(
        onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_outputs_bear_the_graphs_own_names(graph: Path, runtime: str) -> None:
    image = np.random.default_rng(0).random((3, 1, 4, 4), dtype=np.float32)
    outputs = open_graph(graph, runtime, 1)({"image": image})
    assert list(outputs) == ["twice", "again"]
    np.testing.assert_allclose(outputs["twice"], 2 * image, rtol=1e-6)
    np.testing.assert_allclose(outputs["again"], image**2, rtol=1e-6)


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_damaged_graph_is_a_bundle_error(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"no graph at all")
    with pytest.raises(BundleError, match=r"graph\.onnx cannot be loaded"):
        open_graph(path, runtime, 1)


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="onnxruntime, openvino"):
        open_graph(tmp_path / "graph.onnx", "tensorrt", 1)
