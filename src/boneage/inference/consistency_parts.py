"""What a bundle takes from a run of `consistency`: its own graphs, trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError
from boneage.inference.bundle import checksum
from boneage.inference.run_files import configuration_of, require

CONSISTENCY = "consistency"
"""Of the manifest's part on it."""

_RESULTS = "results.json"


def consistency_files(run: Path, checksums: Mapping[str, str]) -> dict[str, Path]:
    """Return name in the bundle -> file of the run: the graphs.

    Args:
        run: its folder.
        checksums: file -> SHA-256 of the bundle whose graphs they replace.

    Raises:
        ConfigError: the run is not complete, or was trained on from another bundle's graphs.
    """
    teachers = _results(run)["teachers"]
    files = {f"{graph}.onnx": run / f"{graph}.onnx" for graph in teachers}
    require(run, *files)
    for graph, taught_by in teachers.items():
        if checksums.get(f"{graph}.onnx") != taught_by:
            raise ConfigError(
                f"{run} was trained on from another {graph}.onnx than the bundle's: train it again with "
                "this bundle (--bundle)"
            )
    return files


def consistency_settings(run: Path) -> dict[str, Any]:
    """Return the manifest's part on the training: which graphs, what it changed, figures, configuration.

    Raises:
        ConfigError: the run is not complete.
    """
    results = _results(run)
    pupils = {graph: checksum(run / f"{graph}.onnx") for graph in results["teachers"]}
    return {**results, "pupils": pupils, "configuration": configuration_of(run)}


def _results(run: Path) -> dict[str, Any]:
    require(run, "config.json", _RESULTS)
    found: dict[str, Any] = json.loads((run / _RESULTS).read_text(encoding="utf-8"))
    return found
