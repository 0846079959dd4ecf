"""`boneage evaluate --stress` and `--learning-curve`: what is asked, what is written, and going on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boneage_fakes
import cv2
import numpy as np
import pytest

import boneage.training.learning_curve as trainings
from boneage.cli import evaluate_curve, evaluate_stress
from boneage.core.errors import ConfigError
from boneage.core.types import Assessment, Sex
from boneage.data.manifest import Row, read_manifest, write_manifest
from boneage.data.splits import read_folds
from boneage.inference.stress import UNCHANGED, cells
from boneage.training.config import TrainJob

Run = Callable[..., tuple[int, str, str]]


class Brightness:
    """Reads the mean grey as an age."""

    def assess(self, source: Any, *, sex: Sex | None = None) -> Assessment:
        return boneage_fakes.assessment(bone_age_months=100 + 100 * float(source.pixels.mean()), sex=sex)


@dataclass(frozen=True)
class BrightnessReader:
    """Loads it in a worker."""

    name: str = "brightness"

    def load(self) -> Any:
        return Brightness()

    def fingerprint(self) -> str:
        return self.name

    def ages(self) -> tuple[str, ...]:
        return ()

    def description(self) -> dict[str, str]:
        return {}


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    found = []
    for number in range(4):
        grey = np.tile(np.linspace(10, 120 + 30 * number, 90).astype(np.uint8), (80, 1))
        path = tmp_path / f"h{number}.png"
        path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())
        found.append(Row(f"h{number}", path, Sex.FEMALE, 120.0))
    write_manifest(tmp_path / "m.csv", found)
    return found


def test_the_draw_of_a_larger_limit_holds_that_of_a_smaller_one(rows: list[Row]) -> None:
    draws = [[row.id for row in evaluate_stress.drawn(rows, evaluate_stress.Draw(n, 5))] for n in (2, 3)]
    assert draws[1][:2] == draws[0]
    assert len(evaluate_stress.drawn(rows, evaluate_stress.Draw())) == 4
    with pytest.raises(ConfigError, match="sex and bone_age_months"):
        evaluate_stress.drawn([Row("x", Path("x"))], evaluate_stress.Draw())


def test_a_stress_card_goes_on_with_what_it_has_not_read(
    rows: list[Row], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(limit: int, reader: BrightnessReader | None = None) -> dict[str, Any]:
        draw = evaluate_stress.Draw(limit, 1, 1)
        chosen = evaluate_stress.drawn(rows, draw)
        return dict(evaluate_stress.read_all(chosen, reader or BrightnessReader(), tmp_path, draw))

    first = read(2)
    assert len(first) == 2 and all(tuple(each) == cells() for each in first.values())
    kept = (tmp_path / "stress.journal").read_bytes()
    assert read(2) == first
    assert (tmp_path / "stress.journal").read_bytes() == kept
    grown = read(3)
    assert {name: grown[name] for name in first} == first and len(grown) == 3
    with pytest.raises(ConfigError, match="another bundle"):
        read(3, BrightnessReader("other"))

    card = evaluate_stress.make_card(grown, rows, "Card", evaluate_stress.training_remarks({"h0"}, {"h0"}))
    evaluate_stress.write_card(card, tmp_path)
    evaluate_stress.write_images(grown, tmp_path)
    evaluate_stress.print_card(card)
    assert "brightness" in capfd.readouterr().out
    lines = list(csv.DictReader((tmp_path / "stress.csv").open(newline="")))
    assert len(lines) == len(cells()) - 1 and {line["images"] for line in lines} == {"3"}
    answers = list(csv.DictReader((tmp_path / "stress_images.csv").open(newline="")))
    assert len(answers) == 3 * len(cells()) and float(answers[0]["bone_age_months"]) > 100
    assert "trained on 1 of these 1 images" in (tmp_path / "stress.md").read_text()
    assert (tmp_path / "stress.png").read_bytes().startswith(b"\x89PNG")
    assert UNCHANGED not in {
        cell["change"] for cell in json.loads((tmp_path / "stress.json").read_text())["cells"]
    }


def test_stress_is_asked_of_a_bundle_and_says_what_it_was_trained_on(
    rows: list[Row], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boneage.batch.work.BundleReader", lambda *_, **__: BrightnessReader())
    monkeypatch.setattr(boneage_fakes.Bundle, "name", "fake 0", raising=False)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    (bundle / "folds.csv").write_text("id,fold\nh0,0\nh1,0\nh2,0\n")
    arguments = ("--limit", 2, "--workers", 2, "--data", tmp_path / "m.csv", "--out", tmp_path / "card")
    code, text, err = run("evaluate", bundle, "--stress", *arguments)
    assert code == 0 and "rotation" in text
    assert "of these 2 images" in " ".join(err.split())
    whole = json.loads((tmp_path / "card" / "stress.json").read_text())
    assert (whole["images"], len(whole["cells"])) == (2, len(cells()) - 1)


def test_every_image_has_its_own_seed() -> None:
    seeds = {evaluate_stress.own_seed(name, seed) for name in ("a", "b") for seed in (0, 1)}
    assert len(seeds) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--stress", "--learning-curve"), "different questions"),
        (("--stress", "--out-of-fold"), "different questions"),
        (("--limit", "5"), "belongs to --stress"),
        (("--config", "x.toml"), "belongs to --learning-curve"),
        (("--stress", "--set", "a.b=1"), "belongs to --learning-curve"),
        (("BUNDLE", "--learning-curve"), "leave out the run or bundle"),
        (("absent", "--stress"), "is no bundle"),
        (("--learning-curve", "--set", "nonsense"), "SECTION.KEY=VALUE"),
        (("--learning-curve", "--config", "absent.toml"), "absent.toml"),
    ],
)
def test_questions_that_do_not_go_together_are_refused(
    options: tuple[str, ...], said: str, rows: list[Row], run: Run, tmp_path: Path
) -> None:
    code, _, err = run("evaluate", *options, "--data", tmp_path / "m.csv", "--out", tmp_path / "o")
    assert code == 2 and said in " ".join(err.split())


def test_a_learning_curve_is_trained_written_and_gone_on_with(
    rows: list[Row], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def train(job: TrainJob) -> Path:
        labelled, folds = read_manifest(job.data), read_folds(job.out / "folds.csv")
        held_out = [row for row in labelled if folds[row.id] == 0]
        done.append(len(labelled) - len(held_out))
        lines = [f"{row.id},{row.sex},{row.bone_age_months},{90 + done[-1]}" for row in held_out]
        (job.out / "oof.csv").write_text("\n".join(["id,sex,bone_age_months,prediction", *lines]))
        return job.out

    monkeypatch.setattr(trainings, "load", lambda *_: train)
    copies = [Row(f"{row.id}-{n}", row.path, row.sex, 60.0 + 10 * n) for n in range(5) for row in rows]
    write_manifest(tmp_path / "twenty.csv", copies)
    for name, sizes in (("two", "[4]"), ("four", "[4, 8, 12]")):
        text = f'recipe = "age_intervals"\nconfig = "first"\nsizes = {sizes}\nforecast = [999]\n'
        (tmp_path / f"{name}.toml").write_text(text + 'changes = ["input.crop=none", "schedule.batch=4"]\n')

    def ask(name: str) -> tuple[int, str, str]:
        arguments = ("--config", tmp_path / f"{name}.toml", "--data", tmp_path / "twenty.csv")
        return run("evaluate", "--learning-curve", *arguments, "--out", tmp_path / "curve")

    code, text, err = ask("two")
    assert code == 0 and "999" not in text and "2 trainings, 0 of them done" in err
    assert "None: a forecast needs" in (tmp_path / "curve" / "learning_curve.md").read_text()
    code, text, err = ask("four")
    assert code == 0 and "MAE with 999 images" in text and "4 trainings, 2 of them done" in err
    assert done == [4, 16, 8, 12]
    for ending in ("md", "csv", "json", "png"):
        assert (tmp_path / "curve" / f"learning_curve.{ending}").is_file()


def test_a_curve_that_is_interrupted_says_that_it_goes_on(
    rows: list[Row], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainings.LearningCurve, "_split", stop)
    monkeypatch.setattr(evaluate_curve, "locator", lambda _: None)
    code, _, err = run("evaluate", "--learning-curve", "--data", tmp_path / "m.csv", "--out", tmp_path / "o")
    assert code != 0 and "same command goes on" in err
