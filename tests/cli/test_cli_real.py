"""The program as a user starts it: its own process, and the shipped bundle where there is one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from boneage.batch import table
from boneage.inference.bundle import SHIPPED

START = [sys.executable, "-c", "from boneage.cli.main import main; main()"]


def program(*arguments: object, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the program in its own process."""
    command = [*START, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The shipped bundle's folder."""
    if not (SHIPPED / "manifest.json").is_file():
        pytest.skip(f"no shipped bundle: {SHIPPED}/manifest.json is absent")
    return SHIPPED


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom boneage.cli.main import run\nassert run(['--help']) == 0\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'openvino', 'pydicom', 'torch', 'matplotlib', 'pyarrow'}\n"
        "sys.exit(' '.join(sorted(heavy & sys.modules.keys())) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("assess", "batch", "train", "evaluate", "reproduce", "data", "info"):
        assert command in done.stdout


def test_without_arguments_it_shows_its_help_and_ends_with_2() -> None:
    done = program()
    assert done.returncode == 2 and "Usage" in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_bad_input_in_its_own_process_shows_no_traceback(tmp_path: Path, shipped: Path) -> None:
    for path in _bad_files(tmp_path):
        done = program("assess", path, "--sex", "female", "--json")
        assert done.returncode == 1, (path.name, done.stderr)
        assert done.stderr.count("\n") == 1 and path.name in done.stderr, done.stderr
        assert [record["status"] for record in json.loads(done.stdout)] == ["rejected"]


def _bad_files(folder: Path) -> list[Path]:
    """Write one file of every kind that is refused."""
    noise = np.random.default_rng(0).integers(0, 255, (600, 400, 3)).astype(np.uint8)
    images = {
        "black.png": np.zeros((600, 400), np.uint8),
        "pixel.png": np.zeros((1, 1), np.uint8),
        "colour.png": cv2.GaussianBlur(noise, (0, 0), 20) * np.array([1, 0, 0], np.uint8),
    }
    for name, pixels in images.items():
        assert cv2.imwrite(str(folder / name), pixels)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image\n")
    with zipfile.ZipFile(folder / "zip.png", "w") as archive:
        archive.writestr("a", "b")
    (folder / "cut.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes()[:9000])
    return [*sorted(folder.glob("*.png")), folder / "absent.png"]


def test_a_real_hand_is_read_and_reported(
    radiograph_paths: tuple[Path, ...], shipped: Path, tmp_path: Path
) -> None:
    page = tmp_path / "hand.html"
    done = program("assess", radiograph_paths[0], "--sex", "female", "--json", "--report", page)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    low, high = record["interval_months"]
    assert 0 <= low < record["bone_age_months"] < high <= 240
    assert record["status"] == "ok" and record["provenance"]["checksums"]
    assert "Research use only" in page.read_text("utf-8")


def test_a_missing_sex_ends_with_2(radiograph_paths: tuple[Path, ...], shipped: Path) -> None:
    done = program("assess", radiograph_paths[0])
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--sex" in done.stderr


def test_a_batch_of_real_hands_is_interrupted_and_resumed(
    radiograph_paths: tuple[Path, ...], shipped: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.csv"
    lines = [f"{number},{path.resolve()},male" for number, path in enumerate(radiograph_paths[:12])]
    manifest.write_text("\n".join(["id,path,sex", *lines, "gone,gone.png,male"]) + "\n")
    out, journal = tmp_path / "out.parquet", tmp_path / "out.parquet.journal"
    arguments = ["batch", manifest, "--out", out, "--workers", 1, "--resume"]
    process = subprocess.Popen([*START, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    _wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.count("\n") == 1 and "--resume" in said
    done = program(*arguments)
    assert done.returncode == 3, done.stderr
    rows = table.read(out)
    assert [row["id"] for row in rows] == [*map(str, range(12)), "gone"]
    assert [row["status"] for row in rows] == ["ok"] * 12 + ["rejected"]
    assert "from an earlier run" in done.stderr and not journal.exists()


def _wait_until(true: Callable[[], bool], process: subprocess.Popen[str], limit_s: float = 240) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_info_of_the_shipped_bundle(shipped: Path) -> None:
    done = program("info", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["bundle"]["usable"] is True and facts["bundle"]["checksums"]


def test_a_changed_file_of_the_bundle_is_refused(
    radiograph_paths: tuple[Path, ...], shipped: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in shipped.iterdir():
        whole = file.name == "manifest.json"
        (bundle / file.name).write_bytes(file.read_bytes() if whole else b"another file")
    done = program("assess", radiograph_paths[0], "--sex", "F", "--bundle", bundle)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "sha256" in done.stderr


def test_ctrl_c_ends_a_started_program_with_130_and_one_line(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom boneage.cli import info\n"
        "info.gather = lambda bundle: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(9)\n"
        "from boneage.cli.main import run\nsys.exit(run(['info']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
