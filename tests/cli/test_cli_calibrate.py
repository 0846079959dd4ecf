"""`boneage calibrate`: a bundle for a site, back again, and nothing where the site's table cannot serve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boneage_fakes
import cv2
import numpy as np
import pytest

from boneage.batch import local
from boneage.batch.local import Settings
from boneage.cli import main as program
from boneage.core.errors import ExitCode
from boneage.core.types import Assessment, Radiograph, Sex
from boneage.data.manifest import read_manifest
from boneage.inference.bundle import MANIFEST, Bundle, checksum, write_bundle
from boneage.inference.conclude import conclude
from boneage.inference.site import SITE
from boneage.inference.site_bundle import PARENT_MANIFEST, site_record, write_calibrated
from boneage.inference.site_fit import fit_site
from boneage.inference.site_table import LocalReadings

Run = Callable[..., tuple[int, str, str]]

CALIBRATION = {
    "coverage": 0.9,
    "quantile": 2.0,
    "ages_months": [24.0, 120.0, 192.0],
    "widths_months": [6.0, 8.0, 7.0],
}
HEAD = "id,path,sex,bone_age_months"
PLACED = {"graph", "folds.csv", "bundle", "local.csv", "read.log", "earlier.log", "image", "images"}


@dataclass(frozen=True)
class FakeReader:
    """A batch's reader whose assessor takes the age from the image's name, and logs every reading."""

    log: Path

    def load(self) -> _Logging:
        return _Logging(self.log)

    def fingerprint(self) -> str:
        return "fake"


class _Logging(boneage_fakes.Assessor):
    def __init__(self, log: Path) -> None:
        super().__init__(boneage_fakes.Bundle())
        self.log = log

    def assess(self, source: str | Path | Radiograph, **options: Any) -> Assessment:
        with self.log.open("a") as file:
            file.write("read\n")
        return super().assess(source, **options)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small bundle, in which the fake assessor reads an image's age off its name."""
    (tmp_path / "graph").write_bytes(b"graph")
    (tmp_path / "folds.csv").write_text("id,fold\ntrained,0\n")
    manifest: dict[str, Any] = {
        "name": "trial",
        "version": "1.2",
        "method": "hand_regression",
        "methods": {"hand_regression": {"calibration": CALIBRATION}},
        "graphs": {"hand_finder": "finder.onnx"},
    }
    files = {"finder.onnx": tmp_path / "graph", "folds.csv": tmp_path / "folds.csv"}
    write_bundle(tmp_path / "bundle", manifest, files)
    log = tmp_path / "read.log"
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
    (tmp_path / "image").write_bytes(cv2.imencode(".png", cv2.GaussianBlur(pixels, (0, 0), 9))[1].tobytes())
    monkeypatch.setattr(local, "BundleReader", lambda path, runtime: FakeReader(log))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line on the real bundle; returns exit code, stdout and stderr."""

    def execute(*arguments: object) -> tuple[int, str, str]:
        code = program.run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return execute


def rows(count: int = 120, boys: float = 6.0, seed: int = 0, noise: float = 9.0) -> list[list[str]]:
    """Images whose names say their answer, with labels some months around it, those of boys shifted."""
    rng = np.random.default_rng(seed)
    made = []
    for at in range(count):
        answer, male = int(rng.integers(30, 200)), at % 2
        label = float(np.clip(answer + rng.normal(0, noise) + boys * male, 1, 239))
        made.append([f"i{at}", f"{at}/age{answer}.png", ("female", "male")[male], f"{label:.1f}"])
    return made


def write(lines: list[list[str]], head: str = HEAD) -> Path:
    """Write a site's table into the working folder, and its images."""
    for line in lines:
        image = Path("images", line[1])
        image.parent.mkdir(parents=True, exist_ok=True)
        if not image.exists():
            image.hardlink_to("image")
    path = Path("local.csv")
    placed = [[line[0], f"images/{line[1]}", *line[2:]] for line in lines]
    path.write_text("\n".join([head, *(",".join(line) for line in placed)]) + "\n")
    return path


def calibrate(run: Run, *more: object, out: str = "site") -> tuple[int, str, str]:
    """Calibrate the small bundle on the table."""
    return run("calibrate", "bundle", "--data", "local.csv", "--out", out, "--workers", 1, *more)


def left(here: Path) -> set[str]:
    """What lies in the folder besides what a test puts there."""
    return {path.name for path in here.iterdir()} - PLACED


def test_a_site_gets_a_bundle_and_a_table(here: Path, run: Run) -> None:
    data = write(rows())
    code, out, err = calibrate(run)
    assert (code, err) == (ExitCode.DONE, "")
    made = Bundle.load(Path("site"))
    lines = out.splitlines()
    table = [line for line in lines if line.startswith(("both sexes", "female  ", "male  "))]
    assert len(table) == 6
    assert all(" before " in line for line in table[::2]) and all(" after " in line for line in table[1::2])
    assert [line.split(":")[0] for line in lines if "standard error" in line] == ["female", "male"]
    assert lines[-1] == f"{made.name}: site"
    site = made.manifest[SITE]
    assert site["images"] == {"female": 60, "male": 60} and site["table_sha256"] == checksum(data)
    assert site["parent"]["manifest_sha256"] == checksum(Path("bundle") / MANIFEST)
    found = conclude({"hand_regression": 120.0}, made.manifest, Sex.MALE)
    assert found.age_months == pytest.approx(126, abs=3)
    assert left(here) == {"site"}


def test_json_is_what_the_bundle_records(here: Path, run: Run) -> None:
    write(rows())
    code, out, _ = calibrate(run, "--json", "--version", "1.2-clinic")
    assert code == ExitCode.DONE
    told = json.loads(out)
    assert (told.pop("bundle"), told.pop("path")) == ("trial 1.2-clinic", "site")
    assert told == Bundle.load(Path("site")).manifest[SITE]
    male = told["figures_cross_validated"]["groups"]["male"]
    assert male["before"]["bias_months"]["estimate"] < -3 < male["after"]["bias_months"]["estimate"]
    assert male["before"]["deming"].keys() == {"slope", "intercept_months"}


@pytest.fixture
def site(here: Path) -> Bundle:
    """The small bundle calibrated on the rows, without reading an image."""
    lines = rows()
    answered = np.array([float("".join(filter(str.isdigit, Path(line[1]).stem))) for line in lines])
    truth = np.array([float(line[3]) for line in lines])
    sex, fold = np.array([line[2] for line in lines]), np.arange(120) % 10
    readings = LocalReadings(sex, truth, answered, answered - 12, answered + 12, answered, fold)
    parent = Bundle.load(Path("bundle"))
    said = {"images": readings.images(), "not_read": 0, "table_sha256": "0" * 64}
    record = site_record(parent, fit_site(readings, parent.manifest), said)
    return write_calibrated(parent, record, Path("site"))


def test_info_shows_the_correction(site: Bundle, run: Run) -> None:
    told = " ".join(run("info", "--bundle", "site")[1].split())
    assert "bundle.site_calibration.of trial 1.2" in told and "60 of girls, 60 of boys" in told
    assert "before," in told and "after, cross-validated" in told
    assert json.loads(run("info", "--bundle", "site", "--json")[1])["bundle"][SITE]["not_read"] == 0
    assert "site_calibration" not in run("info", "--bundle", "bundle")[1]


def test_rolling_back_gives_the_parent(site: Bundle, run: Run) -> None:
    code, out, err = run("calibrate", "--rollback", "site", "--out", "back")
    digest = checksum(Path("bundle") / MANIFEST)
    assert (code, err) == (ExitCode.DONE, "") and out.startswith("trial 1.2: back") and digest in out
    assert checksum(Path("back") / MANIFEST) == digest
    assert not (Path("back") / PARENT_MANIFEST).exists()
    told = json.loads(run("calibrate", "--rollback", "site", "--out", "again", "--json")[1])
    assert told == {"bundle": "trial 1.2", "path": "again", "manifest_sha256": digest}


def test_calibrating_again_replaces_the_correction(here: Path, site: Bundle, run: Run) -> None:
    write(rows())
    code, _, err = run("calibrate", "site", "--data", "local.csv", "--out", "twice", "--workers", 1)
    assert code == ExitCode.DONE and "takes the place of the old one" in err
    second = Bundle.load(Path("twice")).manifest[SITE]
    offset = second["correction"]["male"]["offset_months"]["estimate"]
    assert offset == pytest.approx(site.manifest[SITE]["correction"]["male"]["offset_months"]["estimate"])
    assert second["parent"] == site.manifest[SITE]["parent"]
    assert left(here) == {"site", "twice"}


def test_a_command_that_was_killed_goes_on(here: Path, run: Run) -> None:
    items = read_manifest(write(rows()))

    def stop(done: int, total: int) -> None:
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.run(items, Path(".site.readings-fake.csv"), FakeReader(here / "earlier.log"), Settings(1), stop)
    assert left(here) == {".site.readings-fake.csv.journal"}
    assert calibrate(run)[0] == ExitCode.DONE
    assert len(Path("read.log").read_text().split()) == 20
    assert left(here) == {"site"}


def test_what_was_wholly_read_is_not_read_again_unless_the_table_changed(here: Path, run: Run) -> None:
    reader = FakeReader(here / "earlier.log")
    readings = Path(".site.readings-fake.csv")
    local.run(read_manifest(write(rows())), readings, reader, Settings(1))
    shutil.copy(readings, ".other.readings-fake.csv")
    assert calibrate(run)[0] == ExitCode.DONE
    assert not Path("read.log").exists()
    write(rows(seed=1))
    assert calibrate(run, out="other")[0] == ExitCode.DONE
    assert len(Path("read.log").read_text().split()) == 120


def test_images_that_cannot_be_read_are_told_and_left_out(here: Path, run: Run) -> None:
    lines = rows(128)
    for line in lines[:8]:
        line[1] = line[1].replace("age", "foot")
    write(lines)
    code, out, err = calibrate(run)
    assert code == ExitCode.SOME_FAILED and out.endswith(": site\n")
    told = err.splitlines()
    assert sum("expected one hand" in line for line in told) == 5 and "and 3 more images" in err
    assert told[-1].startswith("error: 8 of 128 images could not be read")
    assert Bundle.load(Path("site")).manifest[SITE]["not_read"] == 8


def test_too_few_that_could_be_read_write_nothing(here: Path, run: Run) -> None:
    lines = rows(110)
    for line in lines[:15]:
        line[1] = line[1].replace("age", "foot")
    write(lines)
    code, out, err = calibrate(run)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.splitlines()[-1] == (
        "error: too few images that can be read to calibrate: add 5 more images (95 of 100)"
    )
    assert left(here) == set()


def test_a_correction_that_does_harm_writes_nothing(here: Path, run: Run) -> None:
    lines = rows(200, boys=0.0, noise=3.0)
    for line in lines[1::8]:
        line[3] = str(min(239.0, float(line[3]) + 70))
    write(lines)
    code, out, err = calibrate(run)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("error: calibrating would do harm") and err.count("\n") == 1
    assert left(here) == set()


def test_training_images_are_warned_of(here: Path, run: Run) -> None:
    lines = rows()
    lines[0][0] = "trained"
    write(lines)
    code, _, err = calibrate(run)
    assert code == ExitCode.DONE and "1 of 120 ids are those of images that the bundle was trained on" in err
    assert Bundle.load(Path("site")).manifest[SITE]["training_images"] == 1


@pytest.mark.parametrize(
    ("lines", "head", "said"),
    [
        (rows(), "id,path,sex,age", "needs a column 'bone_age_months'"),
        ([*rows(), rows()[0]], HEAD, "the id is that of line 2 too"),
        ([[*row[:2], "female", row[3]] for row in rows()], HEAD, "30 more of male hands (0 of 30)"),
        (rows(60), HEAD, "40 more images (60 of 100)"),
        ([[*row[:3], "ten"] for row in rows()], HEAD, "bone_age_months must be a number"),
        ([[*row[:3], str(float(row[3]) / 12)] for row in rows()], HEAD, "look like years"),
        ([], HEAD, "at least one row"),
    ],
)
def test_a_table_that_cannot_serve_is_refused_before_anything_is_read(
    here: Path, run: Run, lines: list[list[str]], head: str, said: str
) -> None:
    write(lines, head)
    code, out, err = calibrate(run)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert left(here) == set() and not Path("read.log").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "site"), "--data LOCAL.csv, or --rollback"),
        (("--out", "bundle", "--data", "local.csv"), "bundle exists"),
        (("--out", "local.csv", "--data", "local.csv"), "local.csv exists"),
        (("--out", "no/site", "--data", "local.csv"), "no, does not exist"),
        (("--out", "site", "--data", "absent.csv"), "no such file"),
        (("--out", "site", "--data", "bundle"), "is a folder"),
        (("--out", "site", "--rollback", "bundle"), "nothing to roll back"),
        (("--out", "site", "--rollback", "bundle", "--data", "local.csv"), "nothing else"),
        (("bundle", "--out", "site", "--rollback", "bundle"), "nothing else"),
    ],
)
def test_bad_usage_names_its_remedy(here: Path, run: Run, arguments: tuple[str, ...], said: str) -> None:
    write(rows())
    code, out, err = run("calibrate", *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert left(here) == set()


def test_what_is_no_bundle_is_said(here: Path, run: Run) -> None:
    write(rows())
    code, _, err = run("calibrate", "absent", "--data", "local.csv", "--out", "site")
    assert code == ExitCode.FAILED and "no bundle at absent" in err
    assert left(here) == set()
