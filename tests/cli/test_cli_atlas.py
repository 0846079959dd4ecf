"""`boneage data atlas` on drawn hands: what it writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from boneage.cli import main as program
from boneage.core.errors import ExitCode
from boneage.core.types import Sex
from boneage.data.synthetic import draw_foot, draw_hand, save_drawings

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def execute(*arguments: object) -> tuple[int, str]:
        code = program.run(["data", "atlas", *(str(argument) for argument in arguments)])
        return code, capfd.readouterr().err

    return execute


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of twenty-one drawn hands of girls of ten, and a foot."""
    drawn = [draw_hand(120.0, Sex.FEMALE, seed) for seed in range(21)]
    return save_drawings(tmp_path_factory.mktemp("drawn"), [*drawn, draw_foot()])


def test_an_atlas_is_made_of_drawn_hands(run: Run, drawings: Path, tmp_path: Path) -> None:
    from boneage.inference.atlas import Atlas

    code, said = run(drawings, "--out", tmp_path / "atlas")
    assert code == ExitCode.DONE, said
    (plate,) = [found for found in Atlas.load(tmp_path / "atlas").plates if found.age_months == 120]
    assert plate.sex is Sex.FEMALE
    assert plate.children_effective >= 15
    record = json.loads((tmp_path / "atlas" / "atlas.json").read_text())
    assert record["data"]["images"] == 22
    assert "drawn-0" not in json.dumps(record), "a child's file is named nowhere"
    code, said = run(drawings, "--out", tmp_path / "atlas")
    assert code == ExitCode.USAGE
    assert "holds another atlas" in said


@pytest.mark.parametrize("header", ["path", "path,sex", "path,bone_age_months"])
def test_a_manifest_without_sex_or_ages_is_refused(run: Run, tmp_path: Path, header: str) -> None:
    manifest = tmp_path / "manifest.csv"
    cells = {"path": "a.png", "sex": "female", "bone_age_months": "120"}
    manifest.write_text(f"{header}\n{','.join(cells[name] for name in header.split(','))}\n")
    code, said = run(manifest, "--out", tmp_path / "atlas")
    assert code == ExitCode.USAGE
    assert "no image has a sex and a bone age" in said
    assert not (tmp_path / "atlas").exists()


def test_too_few_hands_are_refused(run: Run, tmp_path: Path) -> None:
    manifest = save_drawings(tmp_path / "few", [draw_hand(120.0, Sex.MALE, seed) for seed in range(3)])
    code, said = run(manifest, "--out", tmp_path / "atlas")
    assert code == ExitCode.USAGE
    assert "15 children or more" in said
    assert not (tmp_path / "atlas").exists()
