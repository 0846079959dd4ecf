"""Sub-grades of the radius on the command line: on request, in every form of the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boneage_fakes
import cv2
import numpy as np
import pytest
from radius_fakes import found_subgrade, pair_model, subgrader, write_run

from boneage.cli import main as program
from boneage.core.errors import BundleError, ExitCode
from boneage.core.types import Assessment
from boneage.inference.bundle import write_bundle
from boneage.inference.subgrade_parts import subgrade_settings

Run = Callable[..., tuple[int, str, str]]


class Assessor(boneage_fakes.Assessor):
    """A stand-in that tells the sub-grade 5_5 where it is asked to, unless its bundle is the shipped one."""

    def __init__(self, bundle: boneage_fakes.Bundle, **options: object) -> None:
        super().__init__(bundle, **options)
        if options["radius_subgrades"] and bundle.path.name == "fake":
            raise BundleError("the bundle fake has no sub-grades of the radius: use another bundle")

    def assess(self, *given: Any, **options: Any) -> Assessment:
        found = super().assess(*given, **options)
        if not self.options["radius_subgrades"]:
            return found
        more = {"chn_radius_subgraded": {**found.scores["chn"], "total": 612.0, "remarks": ["a remark"]}}
        return replace(found, radius_subgrade=found_subgrade(), scores={**found.scores, **more})


@pytest.fixture
def assessor() -> type:
    return Assessor


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "graded.png"
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
    assert cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 9))
    return path


def test_one_image_shows_its_sub_grade_where_that_is_asked_for(run: Run, image: Path, tmp_path: Path) -> None:
    arguments = ("assess", image, "--sex", "F", "--bundle", tmp_path)
    code, out, err = run(*arguments, "--radius-subgrades")
    assert code == ExitCode.DONE
    (line,) = [line for line in out.splitlines() if line.startswith("Radius")]
    assert line.startswith("Radius: CHN 5_5 (between 5 and 6), score 63; CHN total 612 (")
    assert "note: a remark" in err
    assert "Radius: " not in run(*arguments)[1]


def test_json_and_report_carry_the_sub_grade(run: Run, image: Path, tmp_path: Path) -> None:
    arguments = ("assess", image, "--sex", "F", "--bundle", tmp_path, "--json")
    page = tmp_path / "out.html"
    (record,) = json.loads(run(*arguments, "--radius-subgrades", "--report", page)[1])
    assert record["radius_subgrade"]["name"] == "5_5"
    assert record["scores"]["chn_radius_subgraded"]["total"] == 612.0
    assert "chn_radius_subgraded" not in record["ages"]
    assert 'class="radius"' in page.read_text("utf-8")
    (record,) = json.loads(run(*arguments)[1])
    assert record["radius_subgrade"] is None and "chn_radius_subgraded" not in record["scores"]


def test_a_bundle_without_sub_grades_fails_in_one_line_and_as_json(run: Run, image: Path) -> None:
    arguments = ("assess", image, "--sex", "F", "--radius-subgrades")
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (ExitCode.FAILED, "", 1) and "no sub-grades" in err
    (record,) = json.loads(run(*arguments, "--json")[1])
    assert (record["status"], record["code"]) == ("failed", BundleError.code)
    assert record["radius_subgrade"] is None


def test_info_tells_which_sub_grades_a_bundle_has(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = subgrader(pair_model((5, 6), 0.5), pair_model((6, 7), 0.5, "nothing rises"))
    settings = subgrade_settings(write_run(tmp_path / "run", made))
    about = {"name": "n", "version": "1", "method": "m", "methods": {}, "graphs": {}}
    write_bundle(tmp_path / "with", {**about, "radius_subgrades": settings}, {})
    write_bundle(tmp_path / "without", about, {})
    assert program.run(["info", "--bundle", str(tmp_path / "with")]) == ExitCode.DONE
    told = capfd.readouterr().out
    assert "between 5 and 6, none between 6 and 7 (nothing rises); learnt from 30 radii" in told
    program.run(["info", "--bundle", str(tmp_path / "without")])
    assert "learnt from" not in capfd.readouterr().out
