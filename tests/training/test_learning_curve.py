"""A learning curve's trainings: nested subsets, fixed held-out images, equal steps, going on after a cut."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest, write_manifest
from boneage.data.splits import read_folds
from boneage.data.synthetic import View, draw_hand, save_drawings
from boneage.training import learning_curve as module
from boneage.training.config import Stage, TrainJob, read_tree
from boneage.training.curve_config import CurveConfig, read_curve_config, recipe_tree
from boneage.training.learning_curve import Cell, LearningCurve

CONFIG = CurveConfig(
    "age_intervals",
    "first",
    changes=("schedule.batch=4", "schedule.stages=[{epochs=3, height=16, width=12}]", "input.crop='none'"),
    sizes=(8, 16, 999),
    seeds=(0, 1),
    held_out=(1,),
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 40 rows whose images are one drawing."""
    folder = tmp_path_factory.mktemp("drawn")
    (drawing,) = read_manifest(save_drawings(folder, [draw_hand(120, Sex.FEMALE, view=View(shape=(96, 72)))]))
    sexes = (Sex.FEMALE, Sex.MALE)
    rows = [Row(f"h{n}", drawing.path, sexes[n % 2], 24.0 + 4 * n) for n in range(40)]
    write_manifest(folder / "forty.csv", [*rows, Row("unlabelled", drawing.path, Sex.MALE)])
    return folder / "forty.csv"


class Trainer:
    """Stands in for a recipe: predicts 100 / (training images) months too much, and keeps its jobs."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.jobs: list[tuple[TrainJob, list[Row], dict[str, int]]] = []
        self.fail_at = fail_at

    def __call__(self, job: TrainJob) -> Path:
        rows, folds = list(read_manifest(job.data)), read_folds(job.out / "folds.csv")
        if len(self.jobs) == self.fail_at:
            raise KeyboardInterrupt
        self.jobs.append((job, rows, folds))
        held_out = [row for row in rows if folds[row.id] == 1]
        wrong = 100 / (len(rows) - len(held_out))
        with (job.out / "oof.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "sex", "bone_age_months", "prediction"])
            writer.writerows(
                [r.id, r.sex, r.bone_age_months, (r.bone_age_months or 0) + wrong] for r in held_out
            )
        return job.out


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    stand_in = Trainer()
    monkeypatch.setattr(module, "load", lambda _registry, _name: stand_in)
    return stand_in


def test_subsets_are_nested_and_every_training_holds_out_the_same_images(
    trainer: Trainer, manifest: Path, tmp_path: Path
) -> None:
    curve = LearningCurve(CONFIG, manifest, tmp_path / "c")
    ended = list(curve.train())
    assert [(cell.size, cell.seed) for cell in ended] == [(s, seed) for seed in (0, 1) for s in (8, 16, 32)]
    held_out, learnt = [], {}
    for cell, (_, rows, folds) in zip(ended, trainer.jobs, strict=True):
        held_out.append(frozenset(row.id for row in rows if folds[row.id] == 1))
        learnt[cell] = {row.id for row in rows if folds[row.id] != 1}
        assert len(learnt[cell]) == cell.size
    assert len(set(held_out)) == 1 and len(held_out[0]) == 8
    for seed in (0, 1):
        assert learnt[Cell(8, seed, 1)] < learnt[Cell(16, seed, 1)] < learnt[Cell(32, seed, 1)]
    assert learnt[Cell(8, 0, 1)] != learnt[Cell(8, 1, 1)]
    errors = curve.errors()
    assert {size: len(each) for size, each in errors.items()} == {8: 2, 16: 2, 32: 2}
    np.testing.assert_allclose(errors[16], np.full((2, 8), 100 / 16))
    assert not list((tmp_path / "c" / "trainings").iterdir())


def test_every_size_takes_the_steps_of_all_images_or_the_recipes_epochs(
    trainer: Trainer, manifest: Path, tmp_path: Path
) -> None:
    list(LearningCurve(CONFIG, manifest, tmp_path / "steps").train())
    list(LearningCurve(replace(CONFIG, effort="epochs"), manifest, tmp_path / "epochs").train())

    def epochs(job: TrainJob) -> int:
        tree = read_tree(Path(module.__file__).parents[1] / "recipes/age_intervals/first.toml", job.overrides)
        assert tree["schedule"]["run_folds"] == [1] and tree["schedule"]["final_epochs"] == 0
        return sum(Stage(**stage).epochs for stage in tree["schedule"]["stages"])

    assert [epochs(job) for job, *_ in trainer.jobs] == [12, 6, 3] * 2 + [3] * 6


def test_a_curve_goes_on_where_it_was_cut_off_and_may_grow(
    monkeypatch: pytest.MonkeyPatch, manifest: Path, tmp_path: Path
) -> None:
    cut, rest = Trainer(fail_at=2), Trainer()
    monkeypatch.setattr(module, "load", lambda *_: cut)
    with pytest.raises(KeyboardInterrupt):
        list(LearningCurve(CONFIG, manifest, tmp_path).train())
    monkeypatch.setattr(module, "load", lambda *_: rest)
    grown = LearningCurve(replace(CONFIG, seeds=(0, 1, 2)), manifest, tmp_path)
    assert sum(map(grown.done, grown.cells())) == 2
    assert grown.errors().keys() == {8, 16}
    assert [cell.seed for cell in grown.train()] == [0, 1, 1, 1, 2, 2, 2]
    assert all(job.resume for job, *_ in rest.jobs)
    assert list(LearningCurve(CONFIG, manifest, tmp_path).train()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [({"effort": "epochs"}, "effort"), ({"split_seed": 1}, "split_seed"), ({"changes": ()}, "settings")],
)
def test_another_curves_folder_is_refused(
    change: dict[str, object], named: str, manifest: Path, tmp_path: Path
) -> None:
    LearningCurve(CONFIG, manifest, tmp_path)
    with pytest.raises(ConfigError, match=f"other .*{named}"):
        LearningCurve(replace(CONFIG, **change), manifest, tmp_path)


def test_other_labels_are_another_curve(manifest: Path, tmp_path: Path) -> None:
    LearningCurve(CONFIG, manifest, tmp_path)
    rows = list(read_manifest(manifest))
    write_manifest(manifest.parent / "other.csv", [replace(rows[0], bone_age_months=200.0), *rows[1:]])
    with pytest.raises(ConfigError, match="labels"):
        LearningCurve(CONFIG, manifest.parent / "other.csv", tmp_path)


def test_images_that_cannot_be_read_are_left_out_of_the_folds(manifest: Path, tmp_path: Path) -> None:
    rows = [row for row in read_manifest(manifest) if row.bone_age_months is not None]
    write_manifest(
        manifest.parent / "holes.csv", [*rows, Row("gone", manifest.parent / "gone.png", Sex.MALE, 90)]
    )
    curve = LearningCurve(CONFIG, manifest.parent / "holes.csv", tmp_path)
    assert "gone" not in curve.folds and len(curve.rows) == 40


def test_too_few_images_are_refused(manifest: Path, tmp_path: Path) -> None:
    few = LearningCurve(replace(CONFIG, sizes=(500,), whole=False), manifest, tmp_path)
    with pytest.raises(ConfigError, match="fewer images than 500"):
        few.cells()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "none"}, "recipe"),
        ({"seeds": ()}, "must not be empty"),
        ({"held_out": (5,)}, "folds from 0 to 4"),
        ({"sizes": (0,)}, "from 1"),
        ({"effort": "hours"}, "effort"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(CONFIG, **changes)


def test_a_recipe_that_stops_early_is_refused() -> None:
    with pytest.raises(ConfigError, match="patience=0"):
        recipe_tree(replace(CONFIG, changes=("schedule.patience=3",)))


def test_the_default_configuration_is_one_for_a_cpu() -> None:
    config = read_curve_config(None, ["network.pretrained=FILE"])
    tree = recipe_tree(config)
    assert config.forecast == (12611,) and config.sizes == (200, 400, 800) and len(config.seeds) > 1
    assert tree["network"]["pretrained"] == "FILE"
    assert (tree["schedule"]["threads"], tree["schedule"]["processes"]) == (1, 1)


@pytest.mark.slow
def test_a_real_recipe_of_a_tiny_network_makes_a_curve(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    config = CurveConfig(
        "age_intervals",
        "first",
        changes=(
            *("input.crop='none'", "input.height=32", "input.width=32", "network.hidden=4"),
            *("network.backbone='custom_cnn_elu'", "network.pretrained='none'", "network.frozen_stages=0"),
            *("intervals.edges_months=[0, 100, 228]", "schedule.batch=4", "schedule.processes=1"),
            *("schedule.stages=[{epochs=1, height=32, width=32}]", "schedule.precision='32-true'"),
        ),
        sizes=(8,),
    )
    curve = LearningCurve(config, manifest, tmp_path)
    assert [cell.size for cell in curve.train()] == [8, 32]
    assert {size: np.shape(each) for size, each in curve.errors().items()} == {8: (1, 8), 32: (1, 8)}
    assert np.isfinite([error for each in curve.errors().values() for error in each]).all()
    assert json.loads((tmp_path / "curve.json").read_text())["images"] == 40
