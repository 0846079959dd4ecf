"""`boneage score` and `boneage height`: output, JSON, exit codes, one line an error."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from boneage.cli import main as program
from boneage.core.errors import ExitCode
from boneage.standards.names import CHN, RUS

Run = Callable[..., tuple[int, str, str]]
BOY = ("height", "--sex", "male", "--age-months", 120, "--height-cm", 138)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; returns exit code, stdout and stderr."""

    def execute(*arguments: object) -> tuple[int, str, str]:
        code = program.run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return execute


def hand(bones: tuple[str, ...], grade: object, **others: object) -> list[str]:
    return [f"{bone}={others.get(bone, grade)}" for bone in bones]


def test_a_hand_is_scored(run: Run) -> None:
    code, out, err = run("score", "rus-chn", "--sex", "M", *hand(RUS, 6, radius=7.5))
    assert (code, err) == (ExitCode.DONE, "")
    assert "RUS-CHN of the Chinese standard China-05" in out
    assert "first metacarpal" in out and "5(2)" in out
    assert "total 415 of 1000" in out and "bone age 12 y 0 m (143.9 months)" in out


@pytest.mark.parametrize("standard", ["tw3", "TW3-C-RUS"])
def test_stage_letters_other_names_and_json(run: Run, standard: str) -> None:
    grades = ["MCPFirst=g", *hand(RUS, "F")[:2], *hand(RUS, "F")[3:]]
    code, out, err = run("score", standard, "--sex", "female", *grades, "--json")
    assert code == ExitCode.DONE and err.startswith("warning: weak source")
    record = json.loads(out)
    assert [bone["bone"] for bone in record["bones"]] == list(RUS)
    assert record["bones"][2] == {"bone": "mc1", "grade": 6.0, "stage": "G", "score": 43.0, "maximum": 67.0}
    assert record["total"] == sum(bone["score"] for bone in record["bones"]) == 457
    assert [warning["code"] for warning in record["warnings"]] == ["weak_source"]
    assert record["standard"] == standard.lower().replace("-", "_")


def test_chn_is_scored_with_its_carpals(run: Run) -> None:
    code, out, _ = run("score", "chn", "--sex", "male", *hand(CHN, 8, radius=9, capitate=7), "--json")
    assert code == ExitCode.DONE
    assert (json.loads(out)["total"], json.loads(out)["age_months"]) == (993.0, 211.2)


def test_a_sub_grade_is_given_by_its_label_and_its_weak_source_is_said(run: Run) -> None:
    code, out, err = run("score", "chn-radius-subgraded", "--sex", "female", *hand(CHN, 5, radius="5_5"))
    assert code == ExitCode.DONE and err.startswith("warning: weak source") and "6, 6, 8 and 8" in err
    assert ["radius", "5.5", "5_5", "63", "88"] in [line.split() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rus-chn", "--sex", "m", *hand(RUS[1:], 5)), "1 are missing: grade radius too"),
        (("rus-chn", "--sex", "m", *hand(RUS, 5), "MCPFirst=5"), "mc1 is given twice"),
        (("chn", "--sex", "m", *hand(CHN, 5), "ulna=5"), "CHN does not grade the ulna"),
        (("rus-chn", "--sex", "m", "toe=5"), "no bone is called 'toe'"),
        (("rus-chn", "--sex", "m", "radius=15"), "from 0 to 14, not 15"),
        (("rus-chn", "--sex", "m", "radius=nan"), "not nan"),
        (("rus-chn", "--sex", "m", "radius=-2"), "not -2"),
        (("rus-chn", "--sex", "m", "radius=F"), "no grade 'F'"),
        (("tw3", "--sex", "m", "ulna=I"), "a stage from A to H"),
        (("rus-chn", "--sex", "m", "radius"), "written BONE=GRADE"),
        (("chn", "--sex", "m", "radius=5_5"), "from 0 to 10, not nan"),
        (("gp", "--sex", "m", "radius=3"), "there is no standard 'gp'"),
        (("chn", "--sex", "boy", *hand(CHN, 5)), "sex must be"),
        (("chn", *hand(CHN, 5)), "Missing option '--sex'"),
    ],
)
def test_bad_usage_of_score_is_one_line_and_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run("score", *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err


def test_every_method_with_its_measurements_predicts(run: Run) -> None:
    parents = ("--weight-kg", 32, "--father-cm", 178, "--mother-cm", 165)
    code, out, err = run(*BOY, *parents, "--bone-age-months", 118)
    assert code == ExitCode.DONE
    assert len(out.splitlines()) == 7 and "TW2-RUS" in out and "left out" not in err
    assert "warning: rwt_1993: this is the height at 18 years" in err


def test_the_others_say_why_not(run: Run) -> None:
    code, out, err = run(*BOY, "--father-cm", 178, "--mother-cm", 165)
    assert code == ExitCode.DONE and "178.0 cm" in out
    assert "left out: khamis_roche_1995 needs weight_kg: give it" in err.splitlines()
    code, out, err = run(*BOY, "--father-cm", 178, "--mother-cm", 165, "--json")
    record = json.loads(out)
    assert (code, err) == (ExitCode.DONE, "")
    assert [prediction["method"] for prediction in record["predictions"]] == ["mid_parental"]
    assert record["predictions"][0]["height_cm"] == 178.0
    assert record["left_out"]["khamis_roche_1995"] == "needs weight_kg: give it"


def test_no_method_at_all_is_a_failure(run: Run) -> None:
    code, out, err = run(*BOY)
    assert (code, out) == (ExitCode.FAILED, "")
    assert len(err.splitlines()) == 7 and "no method can predict" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--menarche",), "asked of girls only"),
        (("--weight-kg", "nan"), "weight_kg must be kilograms"),
        (("--bone-age-months", 9000), "bone_age_months must be months"),
        (("--height-cm", 1.38), "height_cm must be centimetres"),
    ],
)
def test_bad_usage_of_height_is_one_line_and_2(run: Run, arguments: tuple[object, ...], said: str) -> None:
    code, out, err = run(*BOY, *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err
