"""Workers that die once, always, or never end; and what the next image's bytes are fetched for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_fakes import PoisonReader

from boneage.batch import local, storage, table
from boneage.batch.local import Settings
from boneage.batch.pool import SteadyReader, one_thread_each
from boneage.batch.source import Task
from boneage.batch.work import ImageReader, Start, Turn
from boneage.core.errors import ChecksumMismatch
from boneage.core.types import Sex
from boneage.data.manifest import Row

Rows = Callable[..., list[Row]]


def task(row: Row, ordinal: int = 0) -> Task:
    return Task(ordinal, row.id, str(row.path), Sex.FEMALE, None)


@pytest.mark.parametrize("workers", [1, 3])
def test_poison_is_a_row_and_everything_else_is_read(
    tmp_path: Path, log: Path, rows: Rows, workers: int
) -> None:
    names = ["age1", "segfault", "unlucky5", "endless", "age2", "kill", "age3", "age4"]
    out = tmp_path / "out.csv"
    local.run(rows(*names), out, PoisonReader(log), Settings(workers, timeout_s=3))
    found = {row["id"]: row for row in table.read(out)}
    assert [row["status"] for row in found.values()] == [
        "ok", "failed", "ok", "failed", "ok", "failed", "ok", "ok",
    ]  # fmt: skip
    assert "exit code -11" in found["segfault"]["message"] and "so did another" in found["kill"]["message"]
    assert found["endless"]["message"].startswith("no answer after 3 s")
    read = log.read_text().split()
    assert [read.count(f"{name}.png") for name in ("segfault", "unlucky5", "kill", "endless")] == [2, 2, 2, 1]
    assert all(read.count(f"{name}.png") == 1 for name in names if name.startswith("age"))


def test_an_idle_worker_takes_what_waits_for_a_busy_one(tmp_path: Path, log: Path, rows: Rows) -> None:
    out = tmp_path / "out.csv"
    local.run(rows("endless", "age1", "age2"), out, PoisonReader(log), Settings(2, timeout_s=4))
    assert [row["status"] for row in table.read(out)] == ["failed", "ok", "ok"]
    assert sorted(log.read_text().split()) == ["age1.png", "age2.png", "endless.png"]


def test_a_steady_reader_outlives_what_it_reads(log: Path, rows: Rows) -> None:
    dead, unlucky, hanging, good = rows("segfault", "unlucky7", "endless", "age9")
    reader = SteadyReader(Start(PoisonReader(log), ""), timeout_s=3)
    statuses = [reader.row(Turn(task(row)))["status"] for row in (dead, unlucky, hanging, good)]
    assert statuses == ["failed", "ok", "failed", "ok"]
    with pytest.raises(ChecksumMismatch):
        SteadyReader(Start(PoisonReader(log, "tampered"), ""), timeout_s=3)


def test_a_worker_that_dies_as_it_takes_anothers_place_is_replaced_too(
    tmp_path: Path, log: Path, rows: Rows
) -> None:
    out, starts = tmp_path / "out.csv", log.with_suffix(".starts")
    names = ["age1", "unlucky2", "age3"]
    local.run(rows(*names), out, PoisonReader(log, "weak"), Settings(1))
    assert [row["status"] for row in table.read(out)] == ["ok"] * 3
    assert len(starts.read_text().split()) == 4
    log.unlink()
    starts.unlink()
    reader = SteadyReader(Start(PoisonReader(log, "weak"), ""), timeout_s=30)
    assert [reader.row(Turn(task(row)))["status"] for row in rows(*names)] == ["ok"] * 3
    assert len(starts.read_text().split()) == 4


def test_the_next_images_bytes_are_fetched_once_while_this_one_is_read(
    log: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    load = storage.load_image
    monkeypatch.setattr(storage, "load_image", lambda path: (fetched.append(Path(path).stem), load(path))[1])
    first, second, third = (task(row, place) for place, row in enumerate(rows("age1", "age2", "age3")))
    reader = ImageReader(PoisonReader(log).load(), "")
    reader(Turn(first, second))
    wait_until(lambda: fetched == ["age1", "age2"])
    assert reader(Turn(second, third))["bone_age_months"] == 2.0
    assert reader(Turn(first))["bone_age_months"] == 1.0, "what was fetched in vain is dropped"
    wait_until(lambda: sorted(fetched) == ["age1", "age1", "age2", "age3"])


def wait_until(so: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 60
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_that_cannot_be_fetched_ahead_is_its_own_rows_trouble(log: Path, rows: Rows) -> None:
    (good,) = rows("age1")
    gone = Task(1, "gone", "/nowhere/gone.png", Sex.MALE, None)
    reader = ImageReader(PoisonReader(log).load(), "")
    assert reader(Turn(task(good), gone))["status"] == "ok"
    row = reader(Turn(gone))
    assert (row["status"], row["message"]) == ("rejected", "no such file; check the path")


def test_workers_start_with_one_thread_and_this_process_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ
