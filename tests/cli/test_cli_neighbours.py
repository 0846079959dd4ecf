"""Neighbours on the command line: on request, in every form of the answer, never another age."""

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
from cluster_fakes import found_neighbours, small_group

from boneage.cli import main as program
from boneage.core.errors import BundleError, ExitCode
from boneage.core.types import Assessment, Notice
from boneage.inference.bundle import write_bundle

Run = Callable[..., tuple[int, str, str]]


class Assessor(boneage_fakes.Assessor):
    """A stand-in that tells neighbours where it is asked to, unless its bundle is the shipped one."""

    def __init__(self, bundle: boneage_fakes.Bundle, **options: object) -> None:
        super().__init__(bundle, **options)
        if options["neighbours"] and bundle.path.name == "fake":
            raise BundleError("the bundle fake has no groups of training hands: use another bundle")

    def assess(self, *given: Any, **options: Any) -> Assessment:
        found = super().assess(*given, **options)
        if not self.options["neighbours"]:
            return found
        if "blank" in found.path:
            notice = Notice("no_neighbours", "no neighbours are told: nothing can be read")
            return replace(found, warnings=(*found.warnings, notice))
        few = {"group": small_group(), "typical": None} if "few" in found.path else {}
        return replace(found, neighbours=found_neighbours(**few))


@pytest.fixture
def assessor() -> type:
    return Assessor


@pytest.fixture
def image(tmp_path: Path) -> Callable[[str], Path]:
    """Write an image by a name that tells the stand-in what to do."""

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.png"
        pixels = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
        assert cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 9))
        return path

    return write


ASK = ("--explain", "neighbours")


def test_two_lines_tell_the_group_and_the_typical_age(run: Run, image, tmp_path: Path) -> None:
    arguments = ("assess", image("age124"), "--sex", "F", "--bundle", tmp_path)
    code, out, err = run(*arguments, *ASK)
    assert (code, err) == (ExitCode.DONE, "")
    plain = run(*arguments)[1]
    assert out.startswith(plain), "the answer is the same, and stands first"
    blank, group, typical = out.removeprefix(plain).splitlines()
    assert blank == ""
    assert group.startswith(
        "Neighbours, without a label: group 2 of 3 of girls' hands, the least mature first; its 40"
    )
    assert typical == "Most alike in maturity: the 15 training hands nearest: about 10 y 0 m, SD 12 months"


def test_too_few_hands_are_said_to_be(run: Run, image, tmp_path: Path) -> None:
    out = run("assess", image("age90few"), "--sex", "M", "--bundle", tmp_path, *ASK)[1]
    assert out.count("too few to tell averages of") == 2


def test_without_neighbours_the_warning_says_why(run: Run, image, tmp_path: Path) -> None:
    code, out, err = run("assess", image("blank90"), "--sex", "M", "--bundle", tmp_path, *ASK)
    assert code == ExitCode.DONE and "Neighbours" not in out and "no_neighbours" in out
    assert err.count("\n") == 1 and "nothing can be read" in err


def test_json_and_report_carry_the_neighbours(run: Run, image, tmp_path: Path) -> None:
    arguments = ("assess", image("age124"), "--sex", "F", "--bundle", tmp_path, "--json")
    page = tmp_path / "out.html"
    (record,) = json.loads(run(*arguments, *ASK, "--report", page)[1])
    assert record["neighbours"]["group"]["number"] == 2
    assert record["neighbours"]["typical"] == {"mean_months": 120.0, "sd_months": 12.0, "hands": 15}
    assert 'class="neighbours"' in page.read_text("utf-8")
    (plain,) = json.loads(run(*arguments, "--report", page)[1])
    assert {**record, "neighbours": None} == plain
    assert 'class="neighbours"' not in page.read_text("utf-8")


def test_the_option_may_be_repeated(run: Run, image, tmp_path: Path) -> None:
    arguments = ("assess", image("age124"), "--sex", "F", "--bundle", tmp_path)
    assert run(*arguments, *ASK) == run(*arguments, *ASK, *ASK)


@pytest.mark.parametrize("asked", [("--explain", "saliency"), (*ASK, "--explain", "saliency")])
def test_an_unknown_explanation_is_refused_with_those_that_there_are(run: Run, image, asked) -> None:
    code, out, err = run("assess", image("age124"), "--sex", "F", *asked)
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert "'saliency'" in err and "neighbours" in err


def test_a_bundle_without_groups_fails_in_one_line_and_as_json(run: Run, image) -> None:
    arguments = ("assess", image("age124"), "--sex", "F", *ASK)
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (ExitCode.FAILED, "", 1) and "no groups of training hands" in err
    (record,) = json.loads(run(*arguments, "--json")[1])
    assert (record["status"], record["code"], record["neighbours"]) == ("failed", BundleError.code, None)


@pytest.mark.parametrize(("accuracy", "told"), [(0.786, "; 79% of held-out hands"), (None, "")])
def test_info_tells_which_groups_a_bundle_has(
    accuracy: float | None, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clusters = {
        "groups": [{}] * 4,
        "regions": ["2", "17"],
        "hands": 40,
        "out_of_fold": {"accuracy": accuracy},
    }
    about = {"name": "n", "version": "1", "method": "m", "methods": {}, "graphs": {}}
    write_bundle(tmp_path / "with", {**about, "region_clusters": clusters}, {})
    write_bundle(tmp_path / "without", about, {})
    assert program.run(["info", "--bundle", str(tmp_path / "with")]) == ExitCode.DONE
    shown = " ".join(capfd.readouterr().out.split())
    assert f"4 label-free groups from 2 regions of 40 hands{told}" in shown
    assert ("held-out hands in a group" in shown) == (accuracy is not None)
    program.run(["info", "--bundle", str(tmp_path / "without")])
    assert "label-free" not in capfd.readouterr().out
