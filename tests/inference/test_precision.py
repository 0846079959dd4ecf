"""Bfloat16 is used for the graphs that a measurement allowed, and no measurement that is none is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino
import pytest

from boneage.core.errors import ConfigError
from boneage.inference import assess as module
from boneage.inference.assemble import extend
from boneage.inference.bundle import Bundle
from boneage.inference.precision import FULL, HALF, PRECISIONS, precision_of, precision_settings
from boneage.inference.runners import open_graph

Write = Callable[..., Path]


@pytest.fixture
def measured(tmp_path: Path) -> Write:
    """Return what writes a measurement of the shipped bundle, some of its values changed."""

    def write(**changes: Any) -> Path:
        bundle = Bundle.load()
        names = bundle.manifest["graphs"].values()
        said = {
            "images": 40,
            "graphs": {name: bundle.manifest["checksums"][name] for name in names},
            "allowed": {"openvino": ["age_intervals"]},
            "moved_months": 0.01,
            **changes,
        }
        path = tmp_path / "precisions.json"
        path.write_text(json.dumps(said))
        return path

    return write


def test_a_bundle_that_says_nothing_computes_in_float32() -> None:
    assert precision_of({}, "openvino", "age_intervals") == FULL


def test_a_graph_is_opened_in_the_precision_that_its_bundle_allows(
    measured: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = extend(Bundle.load(), tmp_path / "b", precisions=measured(), version="9.0.0")
    assert precision_of(bundle.manifest, "openvino", "age_intervals") == HALF
    assert precision_of(bundle.manifest, "openvino", "hand_regression") == FULL
    assert precision_of(bundle.manifest, "onnxruntime", "age_intervals") == FULL
    opened: dict[str, str] = {}

    def remember(path: Path, runtime: str, threads: int, precision: str = FULL) -> Any:
        opened[path.stem] = precision
        return open_graph(path, runtime, threads, precision)

    monkeypatch.setattr(module, "open_graph", remember)
    module.Assessor(bundle, runtime="openvino", threads=1)
    assert opened["age_intervals"] == HALF and opened["hand_regression"] == FULL


def test_a_processor_without_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class OldCore(openvino.Core):
        def get_property(self, device: str, name: str) -> Any:
            return ["FP32"] if name == "OPTIMIZATION_CAPABILITIES" else super().get_property(device, name)

        def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
            asked.append(settings)
            return super().compile_model(model, device, settings)

    monkeypatch.setattr(openvino, "Core", OldCore)
    open_graph(Bundle.load().graph("hand_finder"), "openvino", 1, HALF)
    assert asked[0]["INFERENCE_PRECISION_HINT"] == FULL


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"moved_months": 0.06}, "at most 0.05"),
        ({"moved_months": float("nan")}, "at most 0.05"),
        ({"images": 0}, "over 0 images"),
        ({"graphs": {"age_intervals.onnx": "0" * 64}}, "other graphs"),
        ({"allowed": 3}, "no measurement"),
    ],
)
def test_what_is_no_measurement_of_the_bundle_is_refused(
    measured: Write, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        precision_settings(measured(**changes), Bundle.load().manifest["checksums"])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"benchmarks/precision\.py"):
        precision_settings(tmp_path / "none.json", {})


def test_precisions_go_when_graphs_are_exchanged(measured: Write, tmp_path: Path) -> None:
    bundle = extend(Bundle.load(), tmp_path / "b", precisions=measured(), version="9.0.0")
    assert PRECISIONS in bundle.manifest
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(bundle.graph("graded_regions"), run / "graded_regions.onnx")
    (run / "config.json").write_text("{}")
    teachers = {"graded_regions": bundle.manifest["checksums"]["graded_regions.onnx"]}
    (run / "results.json").write_text(json.dumps({"teachers": teachers}))
    assert PRECISIONS not in extend(bundle, tmp_path / "d", consistency_run=run, version="9.0.2").manifest
    with pytest.raises(ConfigError, match="one after the other"):
        extend(bundle, tmp_path / "c", precisions=measured(), consistency_run=run, version="9.0.1")
