"""Which of a bundle's graphs may be computed in bfloat16, as a measurement allowed it.

Bfloat16 is two to five times as fast on processors that have it, and has 8 bits of precision: it moves an
age. So a bundle says which of its graphs may use it (`benchmarks/precision.py` measures that, `boneage
bundle --extend BUNDLE --precisions FILE` records it); the others, and all on other processors, stay float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError

PRECISIONS = "precisions"
"""Of the manifest's part on it."""

FULL, HALF = "f32", "bf16"

MOST_MOVED_MONTHS = 0.05
"""What the bone age may move by, on average over the images, with all allowed graphs in bfloat16 together."""


def precision_of(manifest: Mapping[str, Any], runtime: str, graph: str) -> str:
    """Return `bf16` where the bundle allows it for a graph on a runtime, else `f32`."""
    allowed = manifest.get(PRECISIONS, {}).get("allowed", {}).get(runtime, ())
    return HALF if graph in allowed else FULL


def precision_settings(path: Path, checksums: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest's part from what `benchmarks/precision.py` measured.

    Args:
        path: its file.
        checksums: file -> SHA-256 of the bundle.

    Raises:
        ConfigError: the file is no such measurement, was made of other graphs, or moves the bone age too far.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        graphs, moved, images = found["graphs"], float(found["moved_months"]), int(found["images"])
        allowed = {str(runtime): [str(name) for name in names] for runtime, names in found["allowed"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no measurement of precisions ({error!r}); make one with benchmarks/precision.py"
        ) from error
    if any(checksums.get(name) != value for name, value in graphs.items()):
        raise ConfigError(f"{path} was measured with other graphs than the bundle's: measure again")
    if not moved <= MOST_MOVED_MONTHS or images < 1:
        raise ConfigError(
            f"{path}: the bone age moves by {moved:.3f} months on average over {images} images; at most "
            f"{MOST_MOVED_MONTHS} is allowed: leave out the graphs that move it"
        )
    return {**found, "allowed": allowed}
