"""Runners of exported graphs: ONNX Runtime and OpenVINO, behind one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import BundleError, ConfigError, RuntimeUnavailable
from boneage.core.protocols import Runner
from boneage.inference.precision import FULL

Arrays = dict[str, NDArray[np.float32]]


class OnnxRuntimeRunner:
    """Runs a graph with ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int, precision: str = FULL) -> None:
        del precision  # it has no bfloat16 on the CPU
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailable("ONNX Runtime is not installed; pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BundleError(f"{path.name} cannot be loaded by ONNX Runtime: {error}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Run one batch."""
        results = self._session.run(self._outputs, dict(inputs))
        return {name: np.asarray(result) for name, result in zip(self._outputs, results, strict=True)}


class OpenVinoRunner:
    """Runs a graph with OpenVINO on the CPU, in float32; in bfloat16 if asked, where the CPU has it."""

    def __init__(self, path: Path, threads: int, precision: str = FULL) -> None:
        try:
            import openvino
        except ImportError as error:
            raise RuntimeUnavailable("OpenVINO is not installed; pip install openvino") from error
        core = openvino.Core()
        has_half = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision if has_half else FULL,
            "PERFORMANCE_HINT": "LATENCY",
            # Else every process binds itself to the first processors, and the workers of a batch share one.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = core.read_model(str(path))
            # Compiled, an output also bears the names of the nodes that were merged into it.
            self._outputs = [output.get_any_name() for output in model.outputs]
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise BundleError(f"{path.name} cannot be loaded by OpenVINO: {error}") from error

    def __call__(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Run one batch."""
        results = self._compiled(dict(inputs))
        return {name: np.asarray(results[place]) for place, name in enumerate(self._outputs)}


RUNTIMES: dict[str, tuple[str, Callable[[Path, int, str], Runner]]] = {
    "onnxruntime": ("onnxruntime", OnnxRuntimeRunner),
    "openvino": ("openvino", OpenVinoRunner),
}
"""Runtime -> the package it comes with, and its runner."""


def open_graph(path: Path, runtime: str, threads: int, precision: str = FULL) -> Runner:
    """Load a graph.

    Args:
        path: the file.
        runtime: `onnxruntime` or `openvino`.
        threads: of the runtime.
        precision: `f32`, or `bf16` where the runtime and the processor have it.

    Raises:
        ConfigError: no such runtime.
        RuntimeUnavailable: its package is not installed.
        BundleError: the graph does not load.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime must be one of {', '.join(RUNTIMES)}, not {runtime!r}")
    return RUNTIMES[runtime][1](path, threads, precision)


def runtime_versions() -> dict[str, str]:
    """Return every runtime's version, or why it is not available, without loading it."""
    found = {}
    for name, (package, _) in RUNTIMES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = f"not installed (pip install {package})"
    return found
