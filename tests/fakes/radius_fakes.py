"""Sub-grades of the radius made by hand: models whose answer is chosen, a run, and a found sub-grade."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from boneage.core.types import MeanRadius, RadiusSubgrade
from boneage.inference.bundle import Bundle
from boneage.recipes.radius_subgrades.config import InputConfig
from boneage.recipes.radius_subgrades.encoder import Encoder, PixelFeatures
from boneage.recipes.radius_subgrades.evidence import GradeAxis
from boneage.recipes.radius_subgrades.subgrades import PairModel, Subgrader
from boneage.standards.subgraded import subgrade_name

SIDE = 16
GRADES = (5.0, 5.5, 6.0, 6.5, 7.0)


def pair_model(pair: tuple[int, int], way: float, refusal: str = "", *, looks: bool = False) -> PairModel:
    """Return a model with a cluster at 0, one half and 1 of the way between two grades.

    Every radius lies at `way`; where it `looks`, a view's mean brightness is added to that.
    """
    pixels = np.full((SIDE**2, 1), float(looks) / SIDE**2, np.float32)
    features = PixelFeatures(np.zeros(SIDE**2, np.float32), np.ones(SIDE**2, np.float32), pixels)
    encoder = Encoder(features, ((np.ones((1, 1), np.float32), np.full(1, way, np.float32)),))
    axis = GradeAxis(np.zeros(1, np.float32), np.ones(1, np.float32))
    return PairModel(pair, encoder, np.array([[0.0], [0.5], [1.0]], np.float32), axis, refusal)


def subgrader(*pairs: PairModel, unlike: bool = False) -> Subgrader:
    """Return a subgrader; with `unlike`, no radius can be laid over its mean one."""
    config = InputConfig(side=SIDE, align=unlike)
    return Subgrader(config, np.zeros((144, 144), np.float32) if unlike else None, pairs)


def write_means(path: Path) -> None:
    """Write mean views of the grades 5 to 7 as a run does: the higher, the brighter."""
    arrays: dict[str, Any] = {}
    for place, grade in enumerate(GRADES):
        name = subgrade_name(grade)
        arrays[name] = np.full((SIDE, SIDE), 40 * place, np.uint8)
        arrays[f"count_{name}"] = np.array(10 + place)
    np.savez_compressed(path, **arrays)


def with_subgrades(bundle: Bundle, folder: Path, made: Subgrader, **changes: Any) -> Bundle:
    """Return a bundle with sub-grades whose files lie in a folder."""
    made.save(folder / "radius_subgrades.npz")
    write_means(folder / "radius_means.npz")
    files = {role: str(folder / f"{role}.npz") for role in ("radius_subgrades", "radius_means")}
    manifest = {
        **bundle.manifest,
        "files": {**bundle.manifest.get("files", {}), **files},
        "radius_subgrades": made.settings(),
        **changes,
    }
    return Bundle(bundle.path, manifest)


def write_run(run: Path, made: Subgrader | None = None) -> Path:
    """Write the folder of a finished run of `radius_subgrades`."""
    run.mkdir()
    made = made or subgrader(pair_model((5, 6), 0.5), pair_model((6, 7), 0.5, "nothing rises"))
    made.save(run / "subgrades.npz")
    found = {"crops": 30, "evidence": [{"sizes": [9, 8, 13]}], "scores": {"paper": {"male": {"5_5": 65.5}}}}
    (run / "subgrades.json").write_text(json.dumps({**made.settings(), **found}))
    write_means(run / "means.npz")
    weights = run / "weights.safetensors"
    weights.write_bytes(b"weights")
    (run / "config.json").write_text(json.dumps({"recipe": "r", "scores": {"pretrained": str(weights)}}))
    with (run / "oof.csv").open("w", newline="") as file:
        rows = [(str(at), 6, grade) for at, grade in enumerate((5, 5.5, 5.5, 6, 10))]
        csv.writer(file).writerows([("id", "grade", "subgrade"), *rows])
    return run


def found_subgrade(**changes: Any) -> RadiusSubgrade:
    """Return a girl's sub-grade 5_5."""
    means = tuple(
        MeanRadius(grade, subgrade_name(grade), np.full((SIDE, SIDE), 90, np.uint8), 10 + place)
        for place, grade in enumerate(GRADES[:3])
    )
    view = np.tile(np.linspace(0, 1, SIDE, dtype=np.float32), (SIDE, 1))
    values: Mapping[str, Any] = {
        "grade": 5,
        "subgrade": 5.5,
        "name": "5_5",
        "score": 63.0,
        "position": {"5-6": 0.4375},
        "view": view,
        "means": means,
    }
    return RadiusSubgrade(**{**values, **changes})
