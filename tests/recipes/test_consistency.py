"""Consistency training: a run from drawings to graphs and into a bundle, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import boneage.recipes.consistency as package
from boneage.cli.train import locator
from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.synthetic import draw_hand, save_drawings
from boneage.inference.assemble import extend
from boneage.inference.bundle import SHIPPED, Bundle
from boneage.recipes.consistency.changes import worsen
from boneage.recipes.consistency.config import ChangeConfig, Recipe
from boneage.recipes.consistency.fit import train
from boneage.training.config import TrainJob, as_tree, build, read_config

RECIPE = read_config(Path(package.__file__).parent / "recipe.toml", Recipe)
CHANGES = RECIPE.changes
SMALL = (
    "schedule.graphs=['graded_regions']",
    "schedule.epochs=2",
    "schedule.copies=1",
    "schedule.batch=2",
    "schedule.held_out=0.4",
    "schedule.threads=1",
    "schedule.learning_rate=0.2",  # one step of it is still seen in weights of 16 bits
    *(f"changes.{name}_chance=0.0" for name in ("resolution", "contrast", "brightness", "jpeg", "turn")),
    "changes.mirror_chance=0.0",
    "changes.crop_chance=0.0",
    "changes.noise_chance=1.0",
    "changes.noise=[0.004, 0.006]",  # a finder of real hands still finds drawn ones
)


def never() -> ChangeConfig:
    chances = {name: 0.0 for name in asdict(CHANGES) if name.endswith("_chance")}
    return replace(CHANGES, **chances)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    hands = [draw_hand(90.0 + 12 * seed, (Sex.FEMALE, Sex.MALE)[seed % 2], seed) for seed in range(5)]
    return save_drawings(folder, hands)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("consistency") / "run"
    return train(TrainJob(manifest, out, overrides=SMALL, locate=locator(None), bundle=SHIPPED))


def test_the_configuration_is_read_and_written_back() -> None:
    assert build(Recipe, json.loads(json.dumps(as_tree(RECIPE))), "again") == RECIPE


def test_without_a_chance_nothing_changes_and_one_seed_gives_one_copy() -> None:
    image = draw_hand(120.0, Sex.MALE, 0).radiograph.pixels
    np.testing.assert_array_equal(worsen(image, never(), np.random.default_rng(0)), image)
    always = replace(never(), noise_chance=1.0, jpeg_chance=1.0, turn_chance=1.0)
    first, again, other = (worsen(image, always, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or np.abs(first - other).max() > 0.01
    assert first.min() >= 0 and first.max() <= 1


def test_noise_is_as_strong_as_it_is_drawn() -> None:
    config = replace(never(), noise_chance=1.0, noise=(0.02, 0.02))
    noisy = worsen(np.full((200, 200), 0.5, np.float32), config, np.random.default_rng(0))
    assert noisy.std() == pytest.approx(0.02, rel=0.05)


def test_a_run_writes_graphs_and_what_they_changed_on_images_left_out(run: Path) -> None:
    found = json.loads((run / "results.json").read_text())
    assert found["images"] >= 4 and found["held_out"] == 2
    figures = found["graphs"]["graded_regions"]["at_least"]
    assert 0 < figures["unchanged"] < figures["scale"]
    assert 0 < figures["changed_before"] < figures["scale"]
    assert (run / "graded_regions.onnx").read_bytes() != (SHIPPED / "graded_regions.onnx").read_bytes()


def test_a_finished_run_is_not_trained_again(run: Path, manifest: Path) -> None:
    before = (run / "graded_regions.onnx").stat().st_mtime_ns
    job = TrainJob(manifest, run, overrides=SMALL, locate=locator(None), bundle=SHIPPED, resume=True)
    train(job)
    assert (run / "graded_regions.onnx").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="--resume"):
        train(replace(job, resume=False))


def test_a_bundle_takes_the_graphs_and_keeps_its_figures(run: Path, tmp_path: Path) -> None:
    shipped = Bundle.load()
    made = extend(shipped, tmp_path / "b", consistency_run=run, version="9.0.0")
    assert made.graph("graded_regions").read_bytes() == (run / "graded_regions.onnx").read_bytes()
    assert made.graph("hand_regression").read_bytes() == shipped.graph("hand_regression").read_bytes()
    for part in ("methods", "combination"):
        assert made.manifest[part] == json.loads(json.dumps(shipped.manifest[part]))
    said = made.manifest["consistency"]
    assert said["pupils"]["graded_regions"] == made.manifest["checksums"]["graded_regions.onnx"]
    assert said["teachers"]["graded_regions"] == shipped.manifest["checksums"]["graded_regions.onnx"]
    with pytest.raises(ConfigError, match=r"another graded_regions\.onnx"):
        extend(made, tmp_path / "c", consistency_run=run, version="9.0.1")


def test_what_cannot_be_trained_is_said(manifest: Path, tmp_path: Path) -> None:
    job = TrainJob(manifest, tmp_path / "run", locate=locator(None), bundle=SHIPPED)
    with pytest.raises(ConfigError, match="too few"):
        train(job)
    with pytest.raises(ConfigError, match="--bundle"):
        train(replace(job, bundle=None))
    with pytest.raises(ConfigError, match=r"manifest\.json cannot be read"):
        train(replace(job, bundle=tmp_path))
    with pytest.raises(ConfigError, match=r"schedule\.graphs"):
        train(replace(job, overrides=("schedule.graphs=['hand_finder']",)))
    with pytest.raises(ConfigError, match="backwards"):
        train(replace(job, overrides=("changes.noise=[0.5, 0.1]",)))
    other = tmp_path / "other"
    shutil.copytree(SHIPPED, other)
    (other / "graded_regions.onnx").write_bytes(b"another")
    with pytest.raises(ConfigError, match="not the graph"):
        train(replace(job, bundle=other, overrides=SMALL))
    assert not (tmp_path / "run").exists()
