"""A folder of shards: the same bytes whoever writes them, whose they are, and what becomes of damage."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from batch_fakes import PoisonReader
from pyarrow import parquet

from boneage.batch import run as job
from boneage.batch import shards, source, table
from boneage.batch.run import Settings, run
from boneage.core.errors import ConfigError, DeliveryError, RuntimeUnavailable

Manifest = Callable[[Sequence[str]], Path]
NAMES = ["age10", "age20slow", "foot", "graded", "bug", "age60", "classified70"]
SETTINGS = Settings(1, shard_rows=3)


def names_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_a_folder_gets_shards_of_the_list_in_order_and_a_record(
    tmp_path: Path, log: Path, manifest: Manifest
) -> None:
    out = tmp_path / "results"
    summary = run(source.at(str(manifest(NAMES))), out, PoisonReader(log), SETTINGS)
    assert (summary.total, summary.ok, summary.rejected, summary.failed, summary.kept) == (7, 5, 1, 1, 0)
    parts = [f"part-0000{number}.parquet" for number in range(3)]
    assert names_in(out) == ["_run.json", *parts]
    found = [parquet.read_table(out / name) for name in parts]
    assert [row["id"] for part in found for row in part.to_pylist()] == NAMES
    columns = [*table.COLUMNS, "age_intervals", "chn", "hand_regression", "rus_chn", "tw3"]
    assert all(part.schema.names == columns for part in found), "also where no image of a shard has an age"
    record = json.loads((out / "_run.json").read_text())
    assert record["counts"] == {"failed": 1, "ok": 5, "rejected": 1} and record["bundle"] == "fake 0"
    assert (record["state"], record["rows"], record["columns"]) == ("complete", 7, columns)
    for shard, rows in zip(record["shards"], (3, 3, 1), strict=True):
        assert shard["rows"] == rows
        assert shard["sha256"] == hashlib.sha256((out / shard["name"]).read_bytes()).hexdigest()


def test_shards_do_not_depend_on_the_number_of_workers_or_on_interruptions(
    tmp_path: Path, log: Path, manifest: Manifest
) -> None:
    images = source.at(str(manifest(NAMES)))
    run(images, tmp_path / "straight", PoisonReader(log), SETTINGS)

    def stop(done: int, _: int) -> None:
        if done in {2, 4, 5}:
            raise KeyboardInterrupt

    going_on = replace(SETTINGS, workers=2, resume=True)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(
                images,
                tmp_path / "halting",
                PoisonReader(log),
                going_on,
                lambda *at: stop(*at) if at[0] > 1 else None,
            )
    run(images, tmp_path / "halting", PoisonReader(log), going_on)
    for number in range(3):
        name = f"part-0000{number}.parquet"
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "halting" / name).read_bytes()


def test_a_finished_run_is_recognised_and_what_was_damaged_is_made_again(
    tmp_path: Path, log: Path, manifest: Manifest
) -> None:
    images, out = source.at(str(manifest(NAMES))), tmp_path / "results"
    run(images, out, PoisonReader(log), SETTINGS)
    before = {name: (out / name).read_bytes() for name in names_in(out)}
    log.unlink()
    assert run(images, out, PoisonReader(log), replace(SETTINGS, resume=True)).kept == 7
    assert not log.exists() and {name: (out / name).read_bytes() for name in names_in(out)} == before
    (out / "part-00001.parquet").write_bytes(before["part-00001.parquet"][:-7])
    (out / "part-00002.parquet").unlink()
    summary = run(images, out, PoisonReader(log), replace(SETTINGS, resume=True))
    assert (summary.kept, summary.ok) == (3, 5)
    assert sorted(log.read_text().split()) == sorted(f"{name}.png" for name in NAMES[3:])
    assert (out / "part-00001.parquet").read_bytes() == before["part-00001.parquet"]


@pytest.mark.parametrize(
    ("names", "tag", "said"),
    [
        (NAMES[:-1], "fake", r"another run, of other rows or another --sex \(7 there, 6 here\)"),
        (NAMES[::-1], "fake", "another run, of other rows"),
        (NAMES, "newer", r"another run, made with another bundle.* \(fake 0, boneage "),
    ],
)
def test_a_folder_of_another_run_is_refused_and_left_as_it_is(
    tmp_path: Path, log: Path, manifest: Manifest, names: list[str], tag: str, said: str
) -> None:
    out = tmp_path / "results"
    run(source.at(str(manifest(NAMES))), out, PoisonReader(log), SETTINGS)
    before = {name: (out / name).read_bytes() for name in names_in(out)}
    log.unlink()
    with pytest.raises(ConfigError, match=said):
        run(source.at(str(manifest(names))), out, PoisonReader(log, tag), replace(SETTINGS, resume=True))
    assert {name: (out / name).read_bytes() for name in names_in(out)} == before and not log.exists()


def test_a_run_that_is_there_is_neither_taken_over_nor_replaced_unasked(
    tmp_path: Path, log: Path, manifest: Manifest
) -> None:
    images, out = source.at(str(manifest(NAMES))), tmp_path / "results"
    run(images, out, PoisonReader(log), SETTINGS)
    with pytest.raises(ConfigError, match=r"finished run: .*--overwrite"):
        run(images, out, PoisonReader(log), SETTINGS)
    (out / "notes.txt").write_text("mine")
    bad = tmp_path / "bad.csv"
    bad.write_text("file\nx.png\n")
    with pytest.raises(ConfigError, match="column 'path'"):
        run(source.at(str(bad)), out, PoisonReader(log), replace(SETTINGS, overwrite=True))
    assert len(names_in(out)) == 5, "nothing is removed before the new run can begin"
    few = source.at(str(manifest(NAMES[:2])))
    run(few, out, PoisonReader(log, "newer"), replace(SETTINGS, overwrite=True))
    assert names_in(out) == ["_run.json", "notes.txt", "part-00000.parquet"]


@pytest.mark.parametrize("record", [None, "{}", "no json", '{"format": 99, "state": "complete"}'])
def test_a_folder_of_other_things_is_refused(
    tmp_path: Path, log: Path, manifest: Manifest, record: str | None
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.tex").write_text("mine")
    if record is not None:
        (out / "_run.json").write_text(record)
    for settings in (SETTINGS, replace(SETTINGS, resume=True), replace(SETTINGS, overwrite=True)):
        with pytest.raises(ConfigError, match=r"no batch's|no record of a batch"):
            run(source.at(str(manifest(NAMES))), out, PoisonReader(log), settings)
    assert (out / "chapter.tex").read_text() == "mine" and not (out / ".journal").exists()


@pytest.mark.parametrize("name", ["results", "out.csv"])
@pytest.mark.parametrize("asked", ["resume", "overwrite"])
def test_two_runs_cannot_write_to_one_output(
    tmp_path: Path, log: Path, manifest: Manifest, name: str, asked: str
) -> None:
    images, out = source.at(str(manifest(NAMES))), tmp_path / name
    another = replace(SETTINGS, resume=asked == "resume", overwrite=asked == "overwrite")
    said: list[str] = []

    def begin_another(done: int, _: int) -> None:
        if done == 4:
            with pytest.raises(DeliveryError, match="another run") as caught:
                run(images, out, PoisonReader(log), another)
            said.append(str(caught.value))

    summary = run(images, out, PoisonReader(log), SETTINGS, begin_another)
    assert said and (summary.total, summary.kept) == (7, 0)
    found = parquet.read_table(out).to_pylist() if name == "results" else table.read(out)
    assert [row["id"] for row in found] == NAMES


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, log: Path, manifest: Manifest) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match="cannot be written"):
        run(source.at(str(manifest(NAMES))), tmp_path / "file" / "results", PoisonReader(log), SETTINGS)
    assert not log.exists()


def test_journals_of_many_open_shards_are_closed_in_turn(
    tmp_path: Path, log: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_OPEN_JOURNALS", 1)
    names = [f"age{number}" for number in range(1, 9)]
    out = tmp_path / "results"
    output = shards.ShardFolder(str(out), resume=False, overwrite=False, shard_rows=4)
    with closing(source.Listing(source.at(str(manifest(names))), "salt")) as listing:
        output.begin(listing, shards.About(PoisonReader(log), "salt", {}))
        for ordinal in (0, 4, 1, 5, 2, 6, 3, 7):
            row = {name: names[ordinal] if name in table.TEXT_COLUMNS else None for name in table.COLUMNS}
            output.add(ordinal, {**row, "status": "ok", "ages": {}})
        assert output.finish().ok == 8
    assert [row["id"] for row in parquet.read_table(out).to_pylist()] == names


BATCH = """
import sys
from pathlib import Path
from batch_fakes import PoisonReader
from boneage.batch import source
from boneage.batch.run import Settings, run
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    images, reader = source.at(str(folder / "manifest.csv")), PoisonReader(folder / "read.log")
    print(run(images, folder / "results", reader, Settings(2, resume=True, shard_rows=7)))
"""


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_nothing_is_lost_or_done_twice(
    tmp_path: Path, log: Path, manifest: Manifest, seed: int
) -> None:
    names = [f"slow{number}" for number in range(40)]
    manifest(names)
    script, out = tmp_path / "script.py", tmp_path / "results"
    script.write_text(BATCH)
    command = [sys.executable, str(script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    moments = random.Random(seed)
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wanted = recorded(out) + moments.randrange(1, 12)
        deadline = time.monotonic() + 120
        while recorded(out) < wanted and process.poll() is None:
            assert time.monotonic() < deadline, "the batch recorded no rows"
            time.sleep(moments.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        kills += process.returncode == -signal.SIGKILL
    assert kills == 2
    before = recorded(out)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert f"total=40, ok=40, rejected=0, failed=0, kept={before}" in done.stdout
    assert [row["id"] for row in parquet.read_table(out).to_pylist()] == names
    read = log.read_text().split()
    assert set(read) == {f"{name}.png" for name in names}
    assert len(read) <= 40 + kills * 2, "only what two workers held at a kill is read again"
    assert not (out / ".journal").exists()


def recorded(out: Path) -> int:
    """Return how many rows an output has for good."""
    whole = sum(parquet.read_metadata(path).num_rows for path in out.glob("part-*.parquet"))
    return whole + sum(
        path.read_bytes().count(b"\n")
        for path in out.glob(".journal/*.jsonl")
        if not (out / f"{path.stem}.parquet").exists()
    )


class StandInEngine:
    """Gives what it is told to, whatever it is asked."""

    name = "stand-in"

    def __init__(self, answers: list[int]) -> None:
        self.answers = answers

    def check(self, _: object) -> None:
        """Find nothing wrong."""

    def rows(self, *_: object) -> Iterator[tuple[int, dict[str, object]]]:
        """Give a row for each answer."""
        for ordinal in self.answers:
            row = dict.fromkeys(table.COLUMNS) | {
                "id": str(ordinal),
                "path": "",
                "sex": "",
                "message": "",
            }
            yield ordinal, {**row, "status": "ok", "ages": {}}


@pytest.mark.parametrize("name", ["out.csv", "results"])
def test_a_row_that_comes_twice_counts_once_and_one_that_does_not_come_is_missed(
    tmp_path: Path, log: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    images, out = source.at(str(manifest(["a", "b", "c"]))), tmp_path / name
    monkeypatch.setattr(job, "engine_for", lambda *_: nullcontext(StandInEngine([2, 2, 0, 2])))
    with pytest.raises(RuntimeUnavailable, match=r"1 images came to no end: .*--resume"):
        run(images, out, PoisonReader(log), SETTINGS)
    monkeypatch.setattr(job, "engine_for", lambda *_: nullcontext(StandInEngine([1, 1])))
    summary = run(images, out, PoisonReader(log), replace(SETTINGS, resume=True))
    assert (summary.total, summary.ok, summary.kept) == (3, 3, 2)
