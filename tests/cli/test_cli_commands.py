"""The command line's contract, with a stand-in for the bundle: output, exit codes, one line an error."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import boneage_fakes
import cv2
import numpy as np
import pytest

from boneage.cli import main as program
from boneage.core import registry
from boneage.core.errors import ExitCode
from boneage.training.config import TrainJob

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def image(tmp_path: Path) -> Callable[[str], Path]:
    """Write a small, hand-less, but readable image."""

    def write(name: str) -> Path:
        path = tmp_path / name
        pixels = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
        assert cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 9))
        return path

    return write


def test_one_image_is_a_line_of_a_table(run: Run, image: Callable[[str], Path]) -> None:
    code, out, err = run("assess", image("age124.png"), "--sex", "F")
    assert code == ExitCode.DONE
    assert "10 y 4 m" in out and "112.0 to 136.0 (90%)" in out
    assert err == ""


def test_json_has_the_contracts_keys_for_every_image(run: Run, image: Callable[[str], Path]) -> None:
    good, bad, gone = image("dark90.png"), image("foot.png"), "absent.png"
    code, out, err = run("assess", good, bad, gone, "--sex", "male", "--age-months", 100, "--json")
    assert code == ExitCode.SOME_FAILED
    records = json.loads(out)
    assert [record["status"] for record in records] == ["ok", "rejected", "rejected"]
    assert all(record.keys() >= CONTRACT for record in records)
    first = records[0]
    assert (first["sex"], first["bone_age_months"], first["interval_months"]) == ("male", 90.0, [78.0, 102.0])
    assert first["ages"] == {"hand_regression": 90.0}
    assert first["hand"]["keypoints_px"] == {"wrist": [20.0, 50.0]}
    assert first["warnings"] == [{"code": "dark", "text": "the image is dark"}]
    assert first["chronological_age_months"] == 100.0
    assert records[1]["bone_age_months"] is None and "expected one hand" in records[1]["message"]
    lines = err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("warning: ") and "dark90.png" in lines[0]
    assert lines[1].startswith("error: ") and "foot.png" in lines[1]
    assert lines[2].startswith("error: ") and "absent.png" in lines[2]


CONTRACT = {
    "path", "status", "message", "sex", "bone_age_months", "interval_months", "ages", "hand", "regions",
    "scores", "growth", "warnings", "provenance", "age_intervals",
}  # fmt: skip


def test_one_image_shows_its_grades_totals_and_growth(run: Run, image: Callable[[str], Path]) -> None:
    arguments = ("--sex", "M", "--age-months", 120, "--height-cm", 140)
    code, out, err = run("assess", image("graded.png"), *arguments)
    assert code == ExitCode.DONE
    lines = {line.split("  ")[0]: line.split() for line in out.splitlines() if line}
    assert lines["radius"][-1] == "80%" and lines["capitate"] == ["capitate", "6", "80%"]
    assert lines["radius"][2] in "ABCDEFGHI"
    assert len(lines["total"]) == 4 and len(lines["expected total"]) == 5
    assert "Adult height, TW Mark I (Tanner et al. 1975): 1" in out
    assert re.search(r"^Bone age against chronological age: [+-]\d\.\d SD", out, re.MULTILINE)
    assert all(line.startswith("note: ") for line in err.splitlines())
    assert "weak mapping" in err and "Khamis-Roche 1995: none, needs the weight" in err


def test_one_image_shows_its_age_intervals(run: Run, image: Callable[[str], Path]) -> None:
    images = image("classified110.png"), image("age110.png")
    _, out, _ = run("assess", images[0], "--sex", "F")
    assert "bone age lies in: 9 to 10 years 62%, 10 to 11 years 25%, 11 to 12 years 7%\n" in out
    assert "lies in" not in run("assess", images[1], "--sex", "F")[1]
    assert "lies in" not in run("assess", *images, "--sex", "F")[1]
    records = json.loads(run("assess", *images, "--sex", "F", "--json")[1])
    assert [len(record["age_intervals"]) for record in records] == [6, 0]
    assert records[0]["ages"] == {"hand_regression": 110.0, "age_intervals": 112.0}


def test_a_partial_hand_names_what_is_missing(run: Run, image: Callable[[str], Path]) -> None:
    code, out, err = run("assess", image("gradedpart.png"), "--sex", "M")
    assert code == ExitCode.DONE
    lines = {line.split("  ")[0]: line.split() for line in out.splitlines() if line}
    assert lines["radius"] == ["radius", "not", "graded"] and lines["total"] == ["total", "-", "-", "-"]
    assert err.startswith("warning: ") and "radius; no total of RUS-CHN or TW3-RUS or CHN" in err


def test_grades_of_several_images_are_in_the_json_not_on_the_screen(
    run: Run, image: Callable[[str], Path]
) -> None:
    images = image("graded.png"), image("gradedpart.png"), image("age90.png")
    _, out, _ = run("assess", *images, "--sex", "F")
    assert "radius" not in out and "RUS-CHN" in out
    records = json.loads(run("assess", *images, "--sex", "F", "--age-months", 120, "--json")[1])
    assert [len(record["regions"]) for record in records] == [15, 15, 0]
    assert records[0]["regions"][0]["grades"].keys() == {"rus_chn", "tw3", "chn"}
    assert records[0]["scores"]["rus_chn"].keys() >= {"total", "age_months"}
    assert records[0]["growth"].keys() == {"plates", "sd_score"}
    assert records[1]["regions"][0] | {"box_px": []} == {
        "bone": "radius", "box_px": [], "grades": {}, "confidence": None, "expected_grade": None,
    }  # fmt: skip
    assert [sorted(record["scores"]) for record in records[1:]] == [[], []]


def test_measurements_belong_to_one_patient(run: Run, image: Callable[[str], Path]) -> None:
    images = image("graded1.png"), image("graded2.png")
    code, out, err = run("assess", *images, "--sex", "F", "--age-months", 120, "--height-cm", 140)
    assert (code, out) == (ExitCode.USAGE, "") and "give one image" in err
    code, out, err = run("assess", images[0], "--sex", "F", "--weight-kg", 30)
    assert (code, out) == (ExitCode.USAGE, "") and "--height-cm" in err


def test_exit_codes_of_one_and_of_several_images(run: Run, image: Callable[[str], Path]) -> None:
    good, foot = image("age1.png"), image("foot.png")
    assert run("assess", foot, "--sex", "F")[0] == ExitCode.FAILED
    assert run("assess", foot, "gone.png", "--sex", "F")[0] == ExitCode.FAILED
    assert run("assess", foot, good, "--sex", "F")[0] == ExitCode.SOME_FAILED


def test_a_missing_sex_is_bad_usage_with_its_remedy(run: Run, image: Callable[[str], Path]) -> None:
    code, out, err = run("assess", image("age1.png"))
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.count("\n") == 1 and "age1.png" in err and "--sex" in err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("text.png", b"this is no image\n"),
        ("zip.png", b"PK\x03\x04" + b"\0" * 60),
        ("cut.png", None),
    ],
)
def test_bad_files_end_in_one_line(run: Run, tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is None:
        data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (99, 99)).astype(np.uint8))[
            1
        ].tobytes()
        content = data[: len(data) // 2]
    path.write_bytes(content)
    code, out, err = run("assess", path, "--sex", "female", "--json")
    assert code == ExitCode.FAILED
    assert err.count("\n") == 1 and name in err
    assert [record["status"] for record in json.loads(out)] == ["rejected"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("assess",), "IMAGE"),
        (("assess", "x.png", "--sex", "unknown"), "female"),
        (("assess", "x.png", "--sex", "F", "--age-months", "-3"), "--age-months"),
        (("assess", "x.png", "--sex", "F", "--age-months", "nan"), "--age-months"),
        (("assess", "x.png", "--sex", "F", "--localise", "magic"), "localise"),
        (("assess", "x.png", "--sex", "F", "--threads", "0"), "threads"),
        (("assess", "x.png", "--sex", "F", "--report", "x.docx"), ".fhir.json"),
        (("assess", "x.png", "--sex", "F", "--report", "x.json"), ".fhir.json"),
        (("assess", "x.png", "y.png", "--sex", "F", "--report", "x.dcm"), "one image"),
        (("assess", "x.png", "y.png", "--sex", "F", "--report", "x.fhir.json"), "one image"),
        (("assess", "x.png", "--sex", "F", "--report", "no/where.html"), "does not exist"),
        (("batch", "absent.csv", "--out", "x.csv"), "absent.csv"),
        (("batch", "absent.csv"), "--out"),
        (("train",), "--list"),
        (("train", "no_recipe", "--data", "x", "--out", "y"), "hand_regression"),
        (("train", "hand_regression", "--data", "absent.csv", "--out", "y"), "absent.csv"),
        (("train", "hand_regression", "--data", "x", "--out", "y", "--set", "epochs"), "SECTION.KEY=VALUE"),
        (("reproduce", "9", "--data", "x", "--out", "y"), "known: 1, 2, 3, 4, 5"),
        (("evaluate", "x", "--data", "absent.csv", "--out", "y"), "absent.csv"),
        (("data", "rsna", "absent", "--out", "x.csv"), "absent"),
        (("nonsense",), "nonsense"),
        (("assess", "--nonsense"), "nonsense"),
    ],
)
def test_bad_usage_is_one_line_and_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(*arguments)
    assert code == ExitCode.USAGE
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err


def test_a_tampered_bundle_is_refused_and_json_stays_json(run: Run, image: Callable[[str], Path]) -> None:
    code, out, err = run("assess", image("age1.png"), "--sex", "F", "--bundle", "tampered", "--json")
    assert code == ExitCode.FAILED
    assert err.count("\n") == 1 and "checksum" in err
    assert [(record["status"], record["code"]) for record in json.loads(out)] == [
        ("failed", "checksum_mismatch")
    ]


def test_a_report_holds_all_images_and_failures(
    run: Run, image: Callable[[str], Path], tmp_path: Path
) -> None:
    page = tmp_path / "out.html"
    code, out, _ = run(
        "assess", image("age1.png"), image("age2.png"), image("foot.png"), "--sex", "F", "--report", page
    )
    assert code == ExitCode.SOME_FAILED
    text = page.read_text("utf-8")
    assert text.count("<article>") == 2 and "Not read: 1" in text and str(page) in out
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".html", ".png", ".png", ".png"]


def test_debug_raises(run: Run, tmp_path: Path) -> None:
    from boneage.core.errors import ConfigError

    with pytest.raises(ConfigError):
        run("--debug", "train", "no_recipe", "--data", tmp_path, "--out", tmp_path)


def test_batch_refuses_a_tampered_bundle_and_leaves_nothing(
    run: Run, tmp_path: Path, image: Callable[[str], Path]
) -> None:
    image("age10.png")
    image("foot.png")
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,sex\nfoot.png,F\nage10.png,M\n")
    out = tmp_path / "o.csv"
    code, text, err = run("batch", manifest, "--out", out, "--bundle", "tampered")
    assert (code, text) == (ExitCode.FAILED, "") and err.count("\n") == 1 and "checksum" in err
    assert not out.exists()


def test_train_lists_and_calls_the_recipe(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("train", "--list")[1].split() == sorted(registry.RECIPES)
    jobs: list[TrainJob] = []
    module = ModuleType("fake_recipe")
    module.train = jobs.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_recipe", module)
    monkeypatch.setitem(registry.RECIPES, "fake", "fake_recipe:train")
    (tmp_path / "m.csv").write_text("path\nx.png\n")
    arguments = (
        "--data",
        tmp_path / "m.csv",
        "--out",
        tmp_path / "run",
        "--set",
        "a.b=1",
        "--set",
        "c=x",
        "--resume",
    )
    assert run("train", "fake", *arguments)[0] == ExitCode.DONE
    assert (jobs[0].overrides, jobs[0].resume, jobs[0].out) == (("a.b=1", "c=x"), True, tmp_path / "run")


def test_training_without_torch_names_the_extra(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without_torch.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(registry.RECIPES, "fake", "without_torch:train")
    (tmp_path / "m.csv").write_text("path\nx.png\n")
    code, _, err = run("train", "fake", "--data", tmp_path / "m.csv", "--out", tmp_path / "run")
    assert code == ExitCode.FAILED and "boneage[train]" in err and err.count("\n") == 1


@pytest.fixture
def oof(tmp_path: Path) -> Path:
    """A run with out-of-fold predictions of 40 images, and its manifest."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / "oof.csv").open("w") as file, (tmp_path / "m.csv").open("w") as manifest:
        file.write("id,sex,bone_age_months,prediction,lower,upper,fold\n")
        manifest.write("id,path,sex,bone_age_months\n")
        for number in range(40):
            age, sex = rng.uniform(20, 200), ("female", "male")[number % 2]
            file.write(f"{number},{sex},{age},{age + (-1) ** number * 5},{age - 9},{age + 9},0\n")
            manifest.write(f"{number},x{number}.png,{sex},{age}\n")
    return folder


def test_evaluate_measures_out_of_fold_predictions(run: Run, oof: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures"
    code, text, err = run("evaluate", oof, "--data", tmp_path / "m.csv", "--out", out)
    assert code == ExitCode.DONE, err
    assert "5.00 (5.00 to 5.00) months" in text
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["overall"]["mae"] == pytest.approx(5.0)
    assert figures["subgroups"][1]["name"] == "female, all ages"
    assert figures["subgroups"][1]["bias"]["estimate"] == pytest.approx(5.0)
    assert figures["coverage"][0]["coverage"]["estimate"] == 1.0
    assert "not trained on it" in err
    assert (out / "metrics.md").read_text().startswith("# Out-of-fold accuracy of run")
    for name in ("bland_altman.png", "error_by_age.png"):
        assert cv2.imread(str(out / name)) is not None


def test_evaluate_counts_images_without_a_prediction(run: Run, oof: Path, tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("a") as manifest:
        manifest.write("new,n.png,male,50\n")
    code, _, err = run("evaluate", oof, "--data", tmp_path / "m.csv", "--out", tmp_path / "f")
    assert code == ExitCode.SOME_FAILED and "1 of 41 images have no prediction" in err


def test_evaluate_says_loudly_that_images_were_trained_on(
    run: Run, tmp_path: Path, oof: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    (bundle / "folds.csv").write_text("id,fold\n1,0\n2,0\n")
    rows = list(csv.DictReader((oof / "oof.csv").open()))

    def pretend(items: object, out: Path, *_: object) -> None:
        from boneage.batch import table

        empty = {
            "path": "",
            "lower_months": 1.0,
            "upper_months": 300.0,
            "status": "ok",
            "message": "",
            "ages": {},
        }
        table.write(out, (), [{**empty, **row, "bone_age_months": float(row["prediction"])} for row in rows])

    monkeypatch.setattr("boneage.cli.batch.run_with_progress", pretend)
    monkeypatch.setattr(boneage_fakes.Bundle, "name", "fake 0", raising=False)
    code, _, err = run("evaluate", bundle, "--data", tmp_path / "m.csv", "--out", tmp_path / "f")
    assert code == ExitCode.DONE
    assert "THESE ARE TRAINING IMAGES: NOT AN ACCURACY" in err and "2 of these 40" in err
    assert "THESE ARE TRAINING IMAGES" in (tmp_path / "f" / "metrics.md").read_text()


def test_data_rsna_writes_a_manifest_that_batch_reads(run: Run, tmp_path: Path) -> None:
    from boneage.data.manifest import read_manifest

    folder = tmp_path / "rsna"
    (folder / "boneage-training-dataset").mkdir(parents=True)
    (folder / "boneage-training-dataset.csv").write_text("id,boneage,male\n1377,180,False\n1378,12,True\n")
    for name in ("1377", "1378"):
        cv2.imwrite(str(folder / "boneage-training-dataset" / f"{name}.png"), np.zeros((9, 9), np.uint8))
    code, out, err = run("data", "rsna", folder, "--out", tmp_path / "m.csv")
    assert (code, out) == (ExitCode.DONE, "") and "2 images" in err
    assert [(row.id, row.sex, row.bone_age_months) for row in read_manifest(tmp_path / "m.csv")] == [
        ("1377", "female", 180.0), ("1378", "male", 12.0),
    ]  # fmt: skip


def test_info_tells_versions_methods_runtimes_and_a_broken_bundle(run: Run) -> None:
    code, out, _ = run("info", "--json")
    facts = json.loads(out)
    assert code == ExitCode.DONE and facts["bundle"]["usable"] is True
    assert facts["methods"] == sorted(registry.METHODS)
    assert all(
        runtime["available"] or "pip install" in runtime["reason"] for runtime in facts["runtimes"].values()
    )
    code, out, _ = run("info", "--bundle", "tampered", "--json")
    assert code == ExitCode.DONE and json.loads(out)["bundle"]["code"] == "checksum_mismatch"
    assert "onnxruntime" in run("info")[1]


def test_ctrl_c_is_130_and_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("boneage.cli.info.gather", interrupt)
    assert run("info") == (program.INTERRUPTED, "", "error: interrupted\n")


def test_version(run: Run) -> None:
    import boneage

    assert run("--version") == (ExitCode.DONE, f"{boneage.__version__}\n", "")


def test_batch_counts_on_stderr_and_ends_with_3(
    run: Run, tmp_path: Path, image: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from boneage.batch import local

    image("age10.png")
    image("foot.png")
    (tmp_path / "m.csv").write_text("path,sex\nfoot.png,F\nage10.png,M\ngone_age.png,\n")
    reader = boneage_fakes.FakeReader(
        tmp_path / "read.log"
    )  # workers are other processes: they need their own
    monkeypatch.setattr(local, "BundleReader", lambda *_: reader)
    arguments = ("batch", tmp_path / "m.csv", "--out", tmp_path / "o.csv", "--workers", 1)
    code, out, err = run(*arguments)
    assert (code, out) == (ExitCode.SOME_FAILED, "")
    assert err.count("\n") == 1 and "3 rows: 1 ok, 2 rejected, 0 failed" in err
    assert run(*arguments)[0] == ExitCode.USAGE
    code, _, err = run(*arguments, "--resume")
    assert code == ExitCode.SOME_FAILED and "3 of them from an earlier run" in err
