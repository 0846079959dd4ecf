"""`boneage batch` as it is typed: tables, shards, lists of every kind, what is refused before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import batch_fakes
import cv2
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from boneage.cli.batch import duration, lines
from boneage.core.errors import ExitCode

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, a manifest of them, and a stand-in for what reads them."""
    from boneage.batch import local

    images = tmp_path / "images"
    images.mkdir()
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (80, 64)).astype(np.uint8), (0, 0), 9)
    for name in ("age90", "age100", "foot"):
        assert cv2.imwrite(str(images / f"{name}.png"), pixels)
    (tmp_path / "m.csv").write_text(
        "id,path,sex\n1,images/age90.png,F\n2,images/foot.png,M\n3,images/age100.png,F\n"
    )
    reader = batch_fakes.PoisonReader(tmp_path / "read.log")
    monkeypatch.setattr(local, "BundleReader", lambda *_: reader)
    return tmp_path


def test_a_folder_of_shards_is_made_and_resumed(run: Run, folder: Path) -> None:
    arguments = ("batch", folder / "m.csv", "--out", f"{folder}/results/", "--workers", 1)
    code, out, err = run(*arguments)
    assert (code, out) == (ExitCode.SOME_FAILED, "")
    assert "3 rows: 2 ok, 1 rejected, 0 failed" in err and err.count("\n") == 1
    rows = parquet.read_table(folder / "results").to_pylist()
    assert [(row["id"], row["bone_age_months"]) for row in rows] == [("1", 90.0), ("2", None), ("3", 100.0)]
    assert json.loads((folder / "results" / "_run.json").read_text())["engine"] == "local"
    code, _, err = run(*arguments)
    assert code == ExitCode.USAGE and "--overwrite" in err
    assert run(*arguments, "--resume")[0] == ExitCode.SOME_FAILED


def test_a_parquet_manifest_and_a_folder_of_images_are_lists_too(run: Run, folder: Path) -> None:
    parquet.write_table(pa.table({"path": ["images/age90.png"], "sex": ["F"]}), folder / "m.parquet")
    code, _, err = run("batch", folder / "m.parquet", "--out", folder / "a.csv", "--workers", 1)
    assert code == ExitCode.DONE, err
    code, _, err = run("batch", folder / "images", "--sex", "F", "--out", folder / "b.csv", "--workers", 1)
    assert code == ExitCode.SOME_FAILED and "3 rows: 2 ok" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,file\n1,a.png\n", "column 'path'"),
        ("id,path\n1,a.png\n1,b.png\n", "the id is that of line 2 too"),
        ("path\n../../etc/a.png\n", "--within"),
        ("path\ns3://me:secret@b/a.png\n", "user or password"),
    ],
)
def test_a_bad_manifest_is_bad_usage_on_one_line(run: Run, folder: Path, text: str, said: str) -> None:
    (folder / "bad.csv").write_text(text)
    before = sorted(folder.iterdir())
    code, out, err = run("batch", folder / "bad.csv", "--out", folder / "o.parquet")
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert said in err and "secret" not in err
    assert sorted(folder.iterdir()) == before


def test_a_list_is_not_replaced_by_its_results(run: Run, folder: Path) -> None:
    before = (folder / "m.csv").read_bytes()
    for out in (folder / "m.csv", folder / "images" / ".." / "m.csv"):
        code, _, err = run("batch", folder / "m.csv", "--out", out, "--overwrite", "--workers", 1)
        assert code == ExitCode.USAGE and "the list of images itself" in err
    assert (folder / "m.csv").read_bytes() == before


def test_within_lets_a_manifest_lead_elsewhere(run: Run, folder: Path) -> None:
    (folder / "lists").mkdir()
    (folder / "lists" / "m.csv").write_text("path,sex\n../images/age90.png,F\n")
    arguments = ("batch", folder / "lists" / "m.csv", "--out", folder / "o.csv", "--workers", 1)
    assert run(*arguments)[0] == ExitCode.USAGE
    assert run(*arguments, "--within", folder)[0] == ExitCode.DONE


def test_a_cluster_that_does_not_answer_is_one_line_and_leaves_nothing(run: Run, folder: Path) -> None:
    code, _, err = run("batch", folder / "m.csv", "--out", f"{folder}/r/", "--cluster", "ray://127.0.0.1:9")
    assert code == ExitCode.USAGE and err.count("\n") == 1 and "no cluster answers at 127.0.0.1:9" in err
    assert not (folder / "r").exists()
    code, _, err = run("batch", folder / "m.csv", "--out", f"{folder}/r/", "--cluster", "mine")
    assert code == ExitCode.USAGE and "ray://HOST:PORT" in err


def test_an_endless_image_is_given_up(run: Run, folder: Path) -> None:
    (folder / "images" / "age90.png").rename(folder / "images" / "endless.png")
    (folder / "m.csv").write_text("path,sex\nimages/endless.png,F\nimages/age100.png,F\n")
    out = folder / "o.csv"
    code, _, err = run("batch", folder / "m.csv", "--out", out, "--workers", 1, "--timeout", 2)
    assert code == ExitCode.SOME_FAILED and "1 ok, 0 rejected, 1 failed" in err
    assert "no answer after 2 s" in out.read_text()


def test_without_a_terminal_progress_is_a_line_now_and_then() -> None:
    said: list[str] = []
    advance = lines(said.append, every_s=0.0)
    for done in (10, 11, 12, 2000):
        advance(done, 2000)
    assert [line.partition(" images, ")[0] for line in said] == ["10 of 2,000", "11 of 2,000", "12 of 2,000"]
    assert "not known" in said[0] and said[2].endswith(" left")
    quiet: list[str] = []
    advance = lines(quiet.append)
    advance(1, 2)
    assert quiet == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (12, "12 s"),
        (61, "1 min"),
        (3599, "1 h"),
        (5400, "2 h"),
        (86400 * 2.9, "70 h"),
        (86400 * 11.2, "11 days"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said
