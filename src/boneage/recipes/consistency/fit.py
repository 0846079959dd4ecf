"""Consistency training of a bundle's graphs.

A run's folder holds `config.json`, `views/` (what the graphs see), `<graph>/` (checkpoint), `<graph>.onnx`
and `results.json`: how far each graph's answers moved on images that it was not trained on.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from boneage.core.errors import ConfigError
from boneage.data.manifest import Row, read_manifest
from boneage.models.onnx_graph import OnnxGraph
from boneage.recipes.consistency.config import Recipe
from boneage.recipes.consistency.learn import Outputs, answers, comparable, learn, scales_of
from boneage.recipes.consistency.views import Seen, looks_of, make_views, open_views
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import log_to, open_run

logger = logging.getLogger(__name__)

RESULTS = "results.json"


def train(job: TrainJob) -> Path:
    """Train the graphs of `job.bundle`, and measure them on images left out.

    Returns:
        The run's folder.

    Raises:
        ConfigError: no bundle, no finder, too few images, a wrong configuration, or another run in `out`.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    if job.bundle is None or job.locate is None:
        raise ConfigError("consistency training needs a bundle whose graphs it trains: give --bundle")
    manifest = _manifest(job.bundle, recipe.schedule.graphs)
    rows = [row for row in read_manifest(job.data) if row.sex is not None]
    if len(rows) < 2 * recipe.schedule.batch:
        raise ConfigError(
            f"{job.data.name} holds {len(rows)} images of known sex: too few for batches of "
            f"{recipe.schedule.batch}; set a smaller schedule.batch"
        )
    open_run(job, "consistency", recipe)
    log_to(job.out / "log.txt")
    torch.set_num_threads(recipe.schedule.threads)
    looks = looks_of(manifest, recipe.schedule.graphs)
    rows = make_views(rows, looks, recipe, job.locate, job.out / "views")
    out_of_training = _held_out(rows, recipe)
    results = {
        name: _train_graph(job, recipe, name, rows, out_of_training) for name in recipe.schedule.graphs
    }
    text = {
        "images": len(rows),
        "held_out": len(out_of_training),
        "teachers": {name: manifest["checksums"][f"{name}.onnx"] for name in recipe.schedule.graphs},
        "graphs": results,
    }
    _write_whole(job.out / RESULTS, text)
    return job.out


def _write_whole(path: Path, text: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(text, indent=2), encoding="utf-8")
    partial.replace(path)


def _manifest(bundle: Path, graphs: Sequence[str]) -> dict[str, Any]:
    """Return a bundle's manifest; its graphs are those that it names."""
    try:
        manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"no bundle at {bundle}: manifest.json cannot be read") from error
    for name in graphs:
        if name not in manifest.get("methods", {}):
            raise ConfigError(
                f"the bundle {bundle.name} has no method {name}: leave it out of schedule.graphs"
            )
        found = hashlib.sha256((bundle / f"{name}.onnx").read_bytes()).hexdigest()
        if found != manifest["checksums"][f"{name}.onnx"]:
            raise ConfigError(f"{bundle.name}/{name}.onnx is not the graph that the bundle's manifest names")
    return manifest


def _held_out(rows: Sequence[Row], recipe: Recipe) -> list[int]:
    """Return the places of the images that are not trained on."""
    order = np.random.default_rng(recipe.schedule.seed).permutation(len(rows))
    return sorted(int(place) for place in order[: max(1, round(recipe.schedule.held_out * len(rows)))])


def _train_graph(
    job: TrainJob, recipe: Recipe, name: str, rows: Sequence[Row], held_out: Sequence[int]
) -> dict[str, Any]:
    """Train one graph unless its result is there already; return what was measured."""
    assert job.bundle is not None
    results = job.out / name / RESULTS
    if results.is_file():
        found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
        return found
    (job.out / name).mkdir(exist_ok=True)
    logger.info("training %s", name)
    seen = open_views(job.out / "views", name, rows)
    teacher = OnnxGraph(job.bundle / f"{name}.onnx")
    taught = answers(teacher, seen, 0)
    trained_on = sorted(set(range(len(rows))) - set(held_out))
    pupil = OnnxGraph(job.bundle / f"{name}.onnx")
    learn(pupil, seen, taught, trained_on, recipe.schedule, job.out / name)
    pupil.save(job.out / f"{name}.onnx")
    left = Seen(seen.images[held_out], seen.readable[held_out], seen.beside[held_out])
    measured = _measure(teacher, OnnxGraph(job.out / f"{name}.onnx"), left)
    _write_whole(results, measured)
    return measured


def _measure(teacher: OnnxGraph, pupil: OnnxGraph, seen: Seen) -> dict[str, Any]:
    """Return output -> mean absolute distance from the teacher's answers for the images as they are.

    `unchanged` is the pupil's on the same images, `changed_before` and `changed_after` the teacher's and
    the pupil's on the changed copies; `scale` is the standard deviation of the teacher's answers.
    """
    wanted = answers(teacher, seen, 0)
    copies = range(1, seen.images.shape[1])
    before = [_distances(answers(teacher, seen, copy), wanted, seen, copy) for copy in copies]
    after = [_distances(answers(pupil, seen, copy), wanted, seen, copy) for copy in copies]
    unchanged = _distances(answers(pupil, seen, 0), wanted, seen, 0)
    return {
        name: {
            "scale": scale,
            "unchanged": unchanged[name],
            "changed_before": float(np.mean([one[name] for one in before])),
            "changed_after": float(np.mean([one[name] for one in after])),
        }
        for name, scale in scales_of(wanted).items()
    }


def _distances(found: Outputs, wanted: Outputs, seen: Seen, copy: int) -> dict[str, float]:
    there = seen.readable[:, 0] & seen.readable[:, copy]
    gaps = {
        name: comparable(name, torch.from_numpy(found[name]))
        - comparable(name, torch.from_numpy(wanted[name]))
        for name in wanted
    }
    return {name: float(gap.abs().numpy()[there].mean()) for name, gap in gaps.items()}
