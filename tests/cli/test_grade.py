"""`boneage grade`: a crop's grade, stage and score, and every way in which a crop or bundle may be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from boneage.cli import main as program
from boneage.core.errors import ExitCode
from boneage.inference.bundle import Bundle, write_bundle
from boneage.recipes.graded_regions.prior import BONES
from boneage.standards.names import CARPALS, Bone
from boneage.standards.scoring import standard

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; returns exit code, stdout and stderr."""

    def execute(*arguments: object) -> tuple[int, str, str]:
        code = program.run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return execute


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained grading network, exported as a trained one is."""
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    import torch

    from boneage.recipes.graded_regions.config import InputConfig, NetworkConfig, Recipe, ScheduleConfig
    from boneage.recipes.graded_regions.fit import build_net, export

    recipe = Recipe(
        InputConfig(32), NetworkConfig("test_resnet", "none", width=8), ScheduleConfig(1, 16, 1e-4)
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("graph") / "graph.onnx"
    export(build_net(recipe).eval(), recipe, path)
    return path


def bundle_of(graph: Path, out: Path, **settings: object) -> Bundle:
    manifest = {
        "name": "trial",
        "version": "1",
        "method": "hand_regression",
        "methods": {"graded_regions": {"input": {"side": 32}, **settings}},
        "graphs": {"graded_regions": "grades.onnx"},
    }
    return write_bundle(out / "bundle", manifest, {"grades.onnx": graph})


@pytest.fixture
def bundle(graph: Path, tmp_path: Path) -> Path:
    return bundle_of(graph, tmp_path).path


def crop(path: Path, side: int = 90) -> Path:
    """A drawn crop: a bright shaft and its epiphysis."""
    pixels = np.random.default_rng(0).integers(20, 60, (side, side)).astype(np.uint8)
    pixels[: side // 3, side // 4 : -side // 4] += 150
    pixels[side // 2 :, side // 4 : -side // 4] += 150
    assert cv2.imwrite(str(path), pixels)
    return path


def test_a_crop_is_graded(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, out, err = run("grade", crop(tmp_path / "a.png"), "--bone", "radius", "--bundle", bundle)
    assert code == ExitCode.DONE and "error" not in err
    head, line = out.splitlines()[:2]
    assert head.split() == ["crop", "bone", "standard", "grade", "TW3", "confidence", "expected", "remarks"]
    assert line.split()[1:3] == ["radius", "RUS-CHN"]


@pytest.mark.parametrize("bone", list(Bone))
def test_the_record_holds_grade_stage_probabilities_and_scores(
    run: Run, bundle: Path, tmp_path: Path, bone: Bone
) -> None:
    path = crop(tmp_path / "a.png")
    code, out, _ = run("grade", path, "--bone", bone, "--sex", "M", "--bundle", bundle, "--json")
    assert code == ExitCode.DONE
    (record,) = json.loads(out)
    own = "chn" if bone in CARPALS else "rus_chn"
    assert (record["path"], record["status"], record["bone"]) == (str(path), "ok", str(bone))
    assert record["standard"] == own
    shares = record["probabilities"]
    assert [int(grade) for grade in shares] == [g for g in standard(own).grades(bone) if g % 1 == 0]
    assert sum(shares.values()) == pytest.approx(1, abs=2e-3)
    assert record["confidence"] == max(shares.values()) == shares[str(record["grade"])]
    expected = sum(int(grade) * share for grade, share in shares.items())
    assert record["expected_grade"] == pytest.approx(expected, abs=0.01)
    assert record["scores"][own]["score"] == standard(own).grade_score("male", bone, record["grade"])
    if bone in CARPALS:
        assert record["tw3_stage"] is None and set(record["scores"]) == {"chn"}
    else:
        tw3 = standard("tw3")
        assert set(record["scores"]) == {"rus_chn", "tw3"}
        stage = tw3.parse_grade(bone, record["tw3_stage"])
        assert record["scores"]["tw3"]["score"] == tw3.grade_score("male", bone, stage)


def test_without_the_sex_there_is_no_score(run: Run, bundle: Path, tmp_path: Path) -> None:
    path = crop(tmp_path / "a.png")
    _, out, _ = run("grade", path, "--bone", "MCPFirst", "--bundle", bundle, "--json")
    assert json.loads(out)[0]["scores"] == {} and json.loads(out)[0]["bone"] == "mc1"


def test_both_runtimes_say_the_same(run: Run, bundle: Path, tmp_path: Path) -> None:
    path, found = crop(tmp_path / "a.png"), []
    for runtime in ("onnxruntime", "openvino"):
        code, out, _ = run(
            "grade", path, "--bone", "ulna", "--bundle", bundle, "--json", "--runtime", runtime
        )
        assert code == ExitCode.DONE
        found.append(np.array([*json.loads(out)[0]["probabilities"].values()]))
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)


def test_of_several_some_may_fail(run: Run, bundle: Path, tmp_path: Path) -> None:
    good, absent = crop(tmp_path / "a.png"), tmp_path / "none.png"
    words = ("--bone", "radius", "--bundle", bundle)
    code, out, err = run("grade", good, absent, *words, "--json")
    assert code == ExitCode.SOME_FAILED
    first, second = json.loads(out)
    assert (first["status"], second["status"], second["code"]) == ("ok", "rejected", "unreadable_image")
    assert second["grade"] is None and set(first) <= set(second)
    assert err.count("error:") == 1 and f"{absent}: no such file" in err
    code, out, _ = run("grade", good, absent, *words)
    assert code == ExitCode.SOME_FAILED and "rejected: unreadable_image" in out
    code, out, _ = run("grade", absent, *words)
    assert (code, out) == (ExitCode.FAILED, "")


def test_a_tiny_or_flat_crop_is_warned_of(run: Run, bundle: Path, tmp_path: Path) -> None:
    tiny = crop(tmp_path / "tiny.png", 40)
    flat = tmp_path / "flat.png"
    assert cv2.imwrite(str(flat), cv2.imread(str(crop(tmp_path / "a.png")), 0) // 8)
    code, out, err = run("grade", tiny, flat, "--bone", "dp3", "--bundle", bundle, "--json")
    assert code == ExitCode.DONE
    codes = [[warning["code"] for warning in record["warnings"]] for record in json.loads(out)]
    assert "tiny_crop" in codes[0] and "flat" in codes[1]
    assert "the crop is only 40 x 40 px" in err and "of the grey scale" in err


def test_what_is_no_crop_gets_no_grade(run: Run, bundle: Path, tmp_path: Path) -> None:
    blank, colour, text = tmp_path / "blank.png", tmp_path / "colour.png", tmp_path / "text.png"
    cv2.imwrite(str(blank), np.full((90, 90), 80, np.uint8))
    cv2.imwrite(str(colour), np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))
    text.write_text("no image")
    code, out, err = run("grade", blank, colour, text, "--bone", "radius", "--bundle", bundle, "--json")
    assert code == ExitCode.FAILED
    assert [record["grade"] for record in json.loads(out)] == [None] * 3
    assert "the crop is blank" in err and "colour photograph" in err and "no image by its content" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bone", "femur"), "no bone is called 'femur'"),
        (("--bone", "radius", "--sex", "boy"), "sex must be"),
        ((), "Missing option '--bone'"),
        (("--bone", "radius", "--runtime", "tensorrt"), "tensorrt"),
    ],
)
def test_bad_usage_is_one_line_and_2(
    run: Run, bundle: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, out, err = run("grade", crop(tmp_path / "a.png"), "--bundle", bundle, *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert said in err and len(err.splitlines()) == 1


def test_a_bundle_without_the_graph_says_so(run: Run, graph: Path, tmp_path: Path) -> None:
    manifest = {
        "name": "plain",
        "version": "3",
        "method": "hand_regression",
        "methods": {"hand_regression": {}},
        "graphs": {"hand_finder": "finder.onnx"},
    }
    plain = write_bundle(tmp_path / "plain", manifest, {"finder.onnx": graph})
    code, out, err = run("grade", crop(tmp_path / "a.png"), "--bone", "radius", "--bundle", plain.path)
    assert (code, out) == (ExitCode.FAILED, "")
    assert "the bundle plain 3 cannot grade bones (it has no graph 'graded_regions')" in err


def test_a_bone_that_was_never_learnt_gets_no_grade(run: Run, graph: Path, tmp_path: Path) -> None:
    few = bundle_of(graph, tmp_path, bones=["radius", "mc3"])
    path = crop(tmp_path / "a.png")
    code, _, err = run("grade", path, "--bone", "ulna", "--bundle", few.path)
    assert code == ExitCode.FAILED and "never learnt to grade the ulna: it grades radius, mc3" in err
    assert run("grade", path, "--bone", "mc3", "--bundle", few.path)[0] == ExitCode.DONE


def test_the_network_is_told_which_bone_it_is(graph: Path, tmp_path: Path) -> None:
    from boneage.imaging.read import read
    from boneage.inference.grade import Grader

    grader = Grader(bundle_of(graph, tmp_path))
    crop_read = read(crop(tmp_path / "a.png"))
    found = {bone: grader.grade(crop_read, bone) for bone in BONES}
    assert {len(grade.probabilities) for grade in found.values()} >= {8, 9, 12, 15}
    # An untrained network starts half-way up each bone's scale.
    assert all(abs(grade.expected_grade - (len(grade.probabilities) - 1) / 2) < 2 for grade in found.values())
