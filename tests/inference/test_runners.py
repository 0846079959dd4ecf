"""Runners give a graph's outputs under its own names, alike on every engine; what cannot run says why."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from boneage.anatomy.localise import prepare_finder
from boneage.core.errors import BundleError, ConfigError, RuntimeUnavailable
from boneage.core.protocols import Arrays
from boneage.core.types import Sex
from boneage.data.synthetic import draw_hand
from boneage.inference.bundle import Bundle
from boneage.inference.runners import RUNTIMES, open_graph, runtime_versions

onnx = pytest.importorskip("onnx", reason="the extra `train` is not installed: it makes the test's graph")

WATCHED_RUN = """
import os, sys, threading
import numpy as np
from boneage.inference.bundle import Bundle
from boneage.inference.runners import open_graph

run = open_graph(Bundle.load().graph("hand_regression"), sys.argv[1], 1)
caller, allowed, seen, ended = threading.get_native_id(), os.sched_getaffinity(0), [], threading.Event()

def watch():
    while not ended.wait(0.002):
        seen.append(os.sched_getaffinity(caller))

thread = threading.Thread(target=watch)
thread.start()
for _ in range(5):
    run({"image": np.zeros((1, 1, 384, 288), np.float32), "sex": np.zeros((1, 1), np.float32)})
ended.set()
thread.join()
assert seen and all(one == allowed for one in seen), seen
"""

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


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two processors"
)
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_runner_binds_its_process_to_no_processor(runtime: str) -> None:
    """Else all workers of a batch share the first one."""
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED_RUN, runtime], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_damaged_graph_is_a_bundle_error(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"no graph at all")
    with pytest.raises(BundleError, match=r"graph\.onnx cannot be loaded"):
        open_graph(path, runtime, 1)


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="onnxruntime, openvino"):
        open_graph(tmp_path / "graph.onnx", "tensorrt", 1)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def inputs_of(bundle: Bundle, role: str) -> Arrays:
    """One drawn hand for a graph: the finder's own input, or a whole-image view of the size it takes."""
    hand = draw_hand(120.0, Sex.MALE).radiograph
    image = prepare_finder(hand)[0]["image"]
    if role == "hand_finder":
        return {"image": image}
    settings = bundle.manifest["methods"][role]["input"]
    view = np.zeros((2, 1, settings["height"], settings["width"]), np.float32)
    height, width = min(image.shape[2], view.shape[2]), min(image.shape[3], view.shape[3])
    view[:, :, :height, :width] = image[:, :, :height, :width]
    return {"image": view, "sex": np.array([[0.0], [1.0]], np.float32)}


@pytest.mark.parametrize("role", ["hand_finder", "hand_regression"])
def test_both_runtimes_agree_on_the_shipped_graphs(bundle: Bundle, role: str) -> None:
    inputs = inputs_of(bundle, role)
    results = {runtime: open_graph(bundle.graph(role), runtime, 1)(inputs) for runtime in RUNTIMES}
    first, second = results["onnxruntime"], results["openvino"]
    assert first.keys() == second.keys() and first
    for name, values in first.items():
        assert values.dtype == np.float32 and np.all(np.isfinite(values))
        np.testing.assert_allclose(second[name], values, atol=1e-3 * max(1.0, float(np.abs(values).max())))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_is_its_singles(bundle: Bundle, runtime: str) -> None:
    run = open_graph(bundle.graph("hand_regression"), runtime, 1)
    inputs = inputs_of(bundle, "hand_regression")
    whole = run(inputs)
    for index in range(2):
        single = run({name: batch[index : index + 1] for name, batch in inputs.items()})
        for name, values in single.items():
            np.testing.assert_allclose(values[0], whole[name][index], atol=1e-2)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: str
) -> None:
    package = RUNTIMES[runtime][0]
    monkeypatch.setitem(sys.modules, package, None)  # an import of it fails from here on
    with pytest.raises(RuntimeUnavailable, match=f"pip install {package}"):
        open_graph(tmp_path / "any.onnx", runtime, 1)


def test_versions_are_listed_or_their_absence_is(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = runtime_versions()
    assert versions == {name: importlib.metadata.version(package) for name, (package, _) in RUNTIMES.items()}
    monkeypatch.setitem(RUNTIMES, "other", ("no-such-package", RUNTIMES["openvino"][1]))
    assert runtime_versions()["other"] == "not installed (pip install no-such-package)"
