"""The batch: order, bad rows, dying workers, interruption and resuming."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from batch_fakes import PoisonReader

from boneage.batch import local, source, table
from boneage.batch.journal import Journal
from boneage.batch.local import Settings, Summary
from boneage.batch.source import Listing
from boneage.batch.work import failed_row
from boneage.core.errors import ChecksumMismatch, ConfigError, DeliveryError, RuntimeUnavailable
from boneage.core.types import Sex
from boneage.data.manifest import Row

Rows = Callable[..., list[Row]]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_every_image_is_a_row_in_the_manifests_order_whatever_befalls_it(
    tmp_path: Path, log: Path, rows: Rows, name: str
) -> None:
    out = tmp_path / name
    names = ["age120", "foot", "kill", "bug", "nan", "age90slow", "dark80"]
    summary = local.run(rows(*names), out, PoisonReader(log), Settings(workers=2))
    found = table.read(out)
    assert [row["id"] for row in found] == names
    assert [row["status"] for row in found] == ["ok", "rejected", "failed", "failed", "failed", "ok", "ok"]
    assert summary == Summary(total=7, ok=3, rejected=1, failed=3, kept=0)
    assert tuple(found[0]) == (*table.COLUMNS, "hand_regression")
    assert found[0] | {"path": "", "message": ""} == {
        "id": "age120", "path": "", "sex": "female", "bone_age_months": 120.0, "lower_months": 108.0,
        "upper_months": 132.0, "status": "ok", "message": "", "hand_regression": 120.0,
    }  # fmt: skip
    assert found[1]["bone_age_months"] is None
    assert "exit code 9" in found[2]["message"]
    assert "ValueError (a shape that nobody foresaw)" in found[3]["message"]
    assert found[6]["message"] == "dark: the image is dark"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, log.name, "images"])


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_every_method_and_standard_has_a_column_empty_where_it_gave_no_age(
    tmp_path: Path, log: Path, rows: Rows, name: str
) -> None:
    out = tmp_path / name
    local.run(
        rows("graded", "gradedpart", "classified90", "foot"), out, PoisonReader(log), Settings(workers=1)
    )
    found = table.read(out)
    graded, classified = ["chn", "hand_regression", "rus_chn", "tw3"], ["age_intervals", "hand_regression"]
    methods = tuple(sorted({*graded, *classified}))
    assert tuple(found[0]) == (*table.COLUMNS, *methods)
    given = [[method for method in methods if row[method] is not None] for row in found]
    assert given == [graded, ["hand_regression"], classified, []]
    assert found[0]["hand_regression"] == found[0]["bone_age_months"] == 124.25
    assert found[1]["status"] == "ok" and found[1]["message"].startswith("bone_not_graded: ")


def test_a_default_sex_serves_rows_that_name_none(tmp_path: Path, log: Path, rows: Rows) -> None:
    out = tmp_path / "out.csv"
    local.run(rows("age1", sex=None), out, PoisonReader(log), Settings(workers=1))
    assert table.read(out)[0]["status"] == "rejected"
    local.run(
        rows("age1", sex=None), out, PoisonReader(log), Settings(workers=1, sex=Sex.MALE, overwrite=True)
    )
    assert table.read(out)[0]["sex"] == "male"


def test_progress_counts_up_to_the_total(tmp_path: Path, log: Path, rows: Rows) -> None:
    seen: list[tuple[int, int]] = []
    local.run(
        rows("age1", "age2"),
        tmp_path / "o.csv",
        PoisonReader(log),
        Settings(1),
        lambda *step: seen.append(step),
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_an_existing_output_is_refused_replaced_or_recognised(tmp_path: Path, log: Path, rows: Rows) -> None:
    out = tmp_path / "out.csv"
    run = lambda names, **how: local.run(rows(*names), out, PoisonReader(log), Settings(1, **how))  # noqa: E731
    run(["age1"])
    with pytest.raises(ConfigError, match=r"exists: .*--overwrite"):
        run(["age1"])
    assert run(["age1"], resume=True) == Summary(1, 1, 0, 0, kept=1)
    with pytest.raises(ConfigError, match="other rows"):
        run(["age2"], resume=True)
    run(["age2"], overwrite=True)
    assert table.read(out)[0]["id"] == "age2"
    assert log.read_text().split() == ["age1.png", "age2.png"]


def test_a_begun_output_is_refused_without_resume(tmp_path: Path, log: Path, rows: Rows) -> None:
    out = tmp_path / "out.csv"
    (tmp_path / "out.csv.journal").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"interrupted: .*--resume"):
        local.run(rows("age1"), out, PoisonReader(log), Settings(1))


def test_rows_of_another_bundle_are_read_again(tmp_path: Path, log: Path, rows: Rows) -> None:
    out = tmp_path / "out.csv"
    items = rows("age1", "age2")
    listing = Listing(source.from_rows(items), "old")
    with closing(listing), Journal(tmp_path / "out.csv.journal") as journal:
        for task in listing.tasks():
            journal.append(listing.key(task.ordinal), failed_row(task, "failed", "old"))
    summary = local.run(items, out, PoisonReader(log, tag="new"), Settings(1, resume=True))
    assert (summary.kept, summary.ok) == (0, 2)


@pytest.mark.parametrize(
    ("names", "out", "message"),
    [
        ([], "out.csv", "no image"),
        (["age1"], "out.txt", "must end in"),
        (["age1"], "no/out.csv", "does not exist"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(
    tmp_path: Path, log: Path, rows: Rows, names: list[str], out: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        local.run(rows(*names), tmp_path / out, PoisonReader(log), Settings(1))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_bundle_that_no_worker_can_load_ends_the_run_with_its_reason(
    tmp_path: Path, log: Path, rows: Rows
) -> None:
    with pytest.raises(ChecksumMismatch, match="checksum"):
        local.run(rows("age1"), tmp_path / "o.csv", PoisonReader(log, tag="tampered"), Settings(1))


def test_workers_that_die_as_they_start_end_the_run(tmp_path: Path, log: Path, rows: Rows) -> None:
    with pytest.raises(RuntimeUnavailable, match="exit code 7"):
        local.run(rows("age1"), tmp_path / "o.csv", PoisonReader(log, tag="stillborn"), Settings(1))


BATCH = """
import sys
from pathlib import Path
from boneage.batch.local import Settings, run
from boneage.core.types import Sex
from boneage.data.manifest import Row
from batch_fakes import PoisonReader
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    rows = [Row(f"slow{n}", folder / "images" / f"slow{n}.png", Sex.MALE) for n in range(60)]
    print(run(rows, folder / "out.csv", PoisonReader(folder / "read.log"), Settings(2, resume=True)))
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_batch_resumes_with_nothing_lost_or_done_twice(
    tmp_path: Path, log: Path, rows: Rows, blow: int
) -> None:
    rows(*(f"slow{n}" for n in range(60)))
    script = tmp_path / "batch_script.py"
    script.write_text(BATCH)
    command = [sys.executable, str(script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out.csv.journal"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 7):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the batch recorded no rows"
        time.sleep(0.01)
    process.send_signal(blow)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (tmp_path / "out.csv").exists()
    recorded = journal.read_bytes().count(b"\n")
    assert 7 <= recorded < 60
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert f"kept={recorded}" in done.stdout
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [f"slow{n}" for n in range(60)]
    read = log.read_text().split()
    assert set(read) == {f"slow{n}.png" for n in range(60)}
    assert len(read) <= 60 + 2 * 2  # only what the two workers held at the blow is read again
    assert not journal.exists()


def test_a_journal_drops_a_line_that_was_cut_short_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append("a", {"n": 1})
    path.write_bytes(path.read_bytes() + b'{"key": "b", "row": {"n"')
    with Journal(path) as journal:
        assert set(journal.offsets) == {"a"}
        journal.append("b", {"n": 2})
    with Journal(path) as journal:
        assert [journal.row(key) for key in ("a", "b")] == [{"n": 1}, {"n": 2}]


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("my thesis\n")
    with pytest.raises(DeliveryError, match="no journal"):
        Journal(path)
    assert path.read_text() == "my thesis\n"


def test_a_file_that_is_no_table_is_told_so(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name).write_bytes(b"x,y\n1,2\n")
        with pytest.raises(ConfigError, match="no table of a batch"):
            table.read(tmp_path / name)
