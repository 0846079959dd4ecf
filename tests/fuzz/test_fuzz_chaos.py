"""Two kills of a batch into shards; `make chaos` tries 50, as many of one table and of the server.

Kills of the server are in tests/service/test_service_process.py, of a batch within a run in tests/batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import chaos
import disk


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills are POSIX signals")
def test_a_killed_batch_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    line = chaos.batch_killed(tmp_path, "out", 12, 2, Random(8))
    assert line.times == 2 and line.faults == (), line


def test_what_is_lost_doubled_or_left_over_is_found(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("id,status\na,ok\nb,ok\nb,ok\n")
    (tmp_path / ".out.csv.part").write_bytes(b"")
    (tmp_path / "out.csv.journal").write_bytes(b"")
    found = chaos._table_faults(out, ["a", "b", "c"])
    assert found[:2] == ["lost c", "doubled b"]
    assert sorted(found[2:]) == ["left over: .out.csv.part", "left over: out.csv.journal"]
    out.write_text("id,status\nb,ok\na,ok\n")
    assert "rows out of order" in chaos._table_faults(out, ["a", "b"])


def jobs_of(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{at:032x}", "label": str(at), "state": "done", "bone_age_months": 124.25, "error": None}
        for at in range(count)
    ]


def account_of(jobs: list[dict[str, Any]], **changes: Any) -> chaos.Account:
    names = [job["id"] for job in jobs]
    whole: dict[str, Any] = {
        "given_up": set(),
        "endings": dict.fromkeys(names, 1),
        "attempts": dict.fromkeys(names, 1),
        "begun": {f"m{job['label']}": 1 for job in jobs},
    }
    return chaos.Account(**{**whole, **changes})


def given_up(job: dict[str, Any], **changes: Any) -> None:
    error = {"code": "worker_died", "message": "the process that read the image ended: export it again"}
    job.update({"state": "failed", "bone_age_months": None, "error": error, **changes})


def test_jobs_that_are_there_and_ended_once_have_no_faults() -> None:
    jobs = jobs_of(3)
    accepted = {f"key {at}": {job["id"]} for at, job in enumerate(jobs)}
    assert chaos.job_faults(jobs, accepted, account_of(jobs)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda jobs: jobs.pop(), "lost 0"),
        (lambda jobs: jobs.append({**jobs[0], "id": "f" * 32}), "label 0 is there 2 times"),
        (lambda jobs: jobs[0].update(state="running"), "ended as running"),
        (lambda jobs: jobs[0].update(state="rejected"), "ended as rejected"),
        (lambda jobs: jobs[0].update(bone_age_months=None), "ended as done"),
        (lambda jobs: given_up(jobs[0]), "ended as failed"),
    ],
)
def test_a_lost_or_doubled_or_failed_job_is_found(change: Callable[[Any], None], said: str) -> None:
    jobs = jobs_of(3)
    accepted, account = {f"key {at}": {job["id"]} for at, job in enumerate(jobs)}, account_of(jobs)
    change(jobs)
    assert any(said in fault for fault in chaos.job_faults(jobs, accepted, account))


def test_a_key_with_two_jobs_and_work_done_twice_are_found() -> None:
    jobs = jobs_of(2)
    first, second = (job["id"] for job in jobs)
    account = account_of(jobs, endings={first: 2, second: 1}, begun={"m0": 1, "m1": 2})
    faults = chaos.job_faults(jobs, {"key 0": {first, second}}, account)
    assert faults == [
        "key 0 became 2 jobs",
        f"{first} ended 2 times",
        f"{second} was begun more often than it was taken (1)",
    ]
    assert any("say nothing" in fault for fault in chaos.job_faults(jobs, {}, account_of(jobs, endings={})))


@pytest.mark.parametrize(
    ("changes", "taken", "said"),
    [
        ({}, 6, ""),
        ({}, 5, "taken 5 times only"),
        ({"state": "done"}, 6, "ended as done"),
        ({"error": {"code": "worker_died", "message": ""}}, 6, "ended as failed with"),
        ({"error": {"code": "unforeseen", "message": "x"}}, 6, "ended as failed with"),
        ({"error": None}, 6, "ended as failed with"),
    ],
)
def test_only_a_job_of_many_kills_that_says_so_may_be_given_up(
    changes: dict[str, Any], taken: int, said: str
) -> None:
    jobs = jobs_of(2)
    name = jobs[0]["id"]
    given_up(jobs[0], **changes)
    attempts = {name: taken, jobs[1]["id"]: 1}
    faults = chaos.job_faults(jobs, {"key 0": {name}}, account_of(jobs, given_up={name}, attempts=attempts))
    assert [said in fault for fault in faults] == ([True] if said else [])


def test_a_job_that_was_given_up_and_vanished_is_lost() -> None:
    jobs = jobs_of(2)
    name = jobs.pop(0)["id"]
    faults = chaos.job_faults(jobs, {"key 0": {name}}, account_of(jobs, given_up={name}))
    assert faults == [f"lost {name}"]


def test_a_command_that_claims_to_have_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("half")
    _, faults = disk.tried(["--version"], tmp_path / "out.csv", tmp_path)
    assert faults[0] == "it ended as if it had been written"
    assert faults[-1] == "half-written: out.csv, 4 bytes"


def test_an_error_of_something_else_is_no_error_of_the_disk(tmp_path: Path) -> None:
    _, faults = disk.tried(["batch", "no-such-manifest.csv", "--out", "x.csv"], tmp_path / "x.csv", tmp_path)
    assert len(faults) == 1 and faults[0].startswith("an error of something else")


def test_a_disk_is_filled_to_the_bytes_that_are_to_stay(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import disk\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "disk.fill(Path(sys.argv[1]), left=4096)\n"
    )
    folders = os.pathsep.join(sys.path)
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "filler"],
        check=True,
        env={**os.environ, "PYTHONPATH": folders},
    )
    assert (tmp_path / "filler").stat().st_size == 100_000 - 4096
