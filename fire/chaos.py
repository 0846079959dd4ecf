"""Kill a batch and a server at random moments, fill their disk, take their right to write: `make chaos`.

    python fire/chaos.py [--kills 50] [--seed 8] [--only batch|shards|serve|disk] [--rows 120]

What is killed gets SIGKILL, workers too, as a power cut of the process would be. Afterwards everything that
was asked for must be there once. Workers are stand-ins that read no image, so that moments and not minutes
are spent; what is tried is the keeping of rows, jobs and files, which is the product's own.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import platform
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

from boneage.service.dispatch import MOST_ATTEMPTS
from seeds import FAKES, ROOT, encoded, small_hand

DISK = Path(__file__).with_name("disk.py")

_BATCH = """
import sys
from pathlib import Path
from unittest.mock import patch
from batch_fakes import PoisonReader
from boneage.batch import local
from boneage.cli.main import main

if __name__ == "__main__":
    sys.argv[0] = "boneage"
    with patch.object(local, "BundleReader", lambda *_: PoisonReader(Path({log!r}))):
        main()
"""


@dataclass(frozen=True)
class Line:
    """A row of the summary: what was done, how often, and what was lost, doubled or half-written."""

    name: str
    times: int
    told: str
    faults: tuple[str, ...] = ()


def main() -> int:
    """Run, print the summary, and return 1 where anything was lost, doubled or half-written."""
    given = _arguments()
    seed = given.seed if given.seed is not None else secrets.randbelow(1 << 32)
    print(
        f"boneage chaos, {date.today()}, python {platform.python_version()}, seed {seed}, "
        f"{given.kills} kills of each program"
    )
    parts: dict[str, Callable[[Path], list[Line]]] = {
        "batch": lambda folder: [batch_killed(folder, "out.csv", given.rows, given.kills, Random(seed))],
        "shards": lambda folder: [batch_killed(folder, "out", given.rows, given.kills, Random(seed + 1))],
        "serve": lambda folder: [service_killed(folder, given.rows, given.kills, Random(seed + 2))],
        "disk": lambda folder: disk(),
    }
    lines: list[Line] = []
    for name, part in parts.items():
        if given.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="boneage-chaos-") as folder:
                found = part(Path(folder))
            lines += found
            for line in found:
                print(shown(line), flush=True)
    print("\n| what was done | times | what came of it | faults |\n|---|---|---|---|")
    print("\n".join(map(shown, lines)))
    faults = [fault for line in lines for fault in line.faults]
    print(f"\n{len(faults)} faults" + "".join(f"\n- {fault}" for fault in faults))
    return int(bool(faults))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="moments, of each program")
    parser.add_argument("--seed", type=int, help="of the moments; another one each time by default")
    parser.add_argument("--rows", type=int, default=120, help="images of the batch, and jobs of the server")
    parser.add_argument("--only", choices=("batch", "shards", "serve", "disk"))
    return parser.parse_args()


def shown(line: Line) -> str:
    """Return a line in Markdown."""
    return f"| {line.name} | {line.times} | {line.told} | {len(line.faults)} |"


# --- kill -9 ------------------------------------------------------------------------------------------------


def batch_killed(folder: Path, out: str, rows: int, kills: int, chance: Random) -> Line:
    """Kill `boneage batch` at random moments and go on with --resume, until every moment was tried.

    A run that ends before its moment begins anew in another output, and is checked as every run is.
    """
    log = folder / "read.log"
    # `dark` makes a row with a notice, `foot` a rejected one: rows of every kind are kept.
    names = [f"{('ageslow', 'darkslow', 'foot')[at % 3]}{60 + at}" for at in range(rows)]
    manifest = folder / "manifest.csv"
    manifest.write_text("path,sex\n" + "".join(f"{name}.png,female\n" for name in names))
    image = encoded(".png", small_hand())
    for name in names:
        (folder / f"{name}.png").write_bytes(image)
    faults: list[str] = []
    killed = runs = resumed = 0
    while killed < kills:
        target = folder / (f"{runs}-{out}" if "." in out else f"{out}-{runs}")
        runs += 1
        while _killed(_batch(folder, log, target, resumed=_begun(target)), log, chance, killed):
            killed += 1
            resumed += _begun(target)
            if killed >= kills:
                _batch(folder, log, target, resumed=_begun(target)).wait(300)
                break
        if not target.exists():
            raise RuntimeError(
                f"a batch ended without its output: {(folder / 'stderr.txt').read_text()[-500:]}"
            )
        faults += [f"{target.name}: {fault}" for fault in _table_faults(target, names)]
    read = Counter(log.read_text().split())
    again = sum(read.values()) - runs * rows
    whole = "not all whole" if faults else "all whole"
    told = f"{runs} outputs of {rows} rows, {whole}; {resumed} resumptions; {again} images read again"
    return Line(
        f"kill -9 of boneage batch, {'one table' if '.' in out else 'shards'}", killed, told, tuple(faults)
    )


def _batch(folder: Path, log: Path, out: Path, *, resumed: bool) -> subprocess.Popen[bytes]:
    program = folder / "batch.py"
    program.write_text(_BATCH.format(log=str(log)))
    words = [sys.executable, program, "batch", folder / "manifest.csv", "--out", out, "--workers", "2"]
    return subprocess.Popen(
        [str(word) for word in [*words, *(["--resume"] if resumed else [])]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr.txt").open("ab"),
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FAKES)},
    )


def _begun(out: Path) -> bool:
    return out.exists() or out.with_name(f"{out.name}.journal").exists()


def _killed(process: subprocess.Popen[bytes], log: Path, chance: Random, number: int) -> bool:
    """Kill a process and its workers at a random moment; return False where it ended by itself before.

    Every third moment lies anywhere as the program starts; the others, after this run's first image.
    """
    try:
        if number % 3 == 0:
            process.wait(chance.uniform(0.1, 3.0))
        else:
            size = log.stat().st_size if log.exists() else 0
            while process.poll() is None and (not log.exists() or log.stat().st_size == size):
                time.sleep(0.01)
            process.wait(chance.uniform(0.0, 1.5))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        return True
    return False


def _table_faults(out: Path, names: Sequence[str]) -> list[str]:
    """Return what is wrong with a finished output: rows lost, doubled or out of order, files left over."""
    found = [row["id"] for row in _rows(out)]
    doubled = [name for name, count in Counter(found).items() if count > 1]
    lost = sorted(set(names) - set(found))
    faults = [f"lost {name}" for name in lost] + [f"doubled {name}" for name in doubled]
    if not faults and found != list(names):
        faults.append("rows out of order")
    left = [
        path.name for path in out.parent.iterdir() if path.name.startswith((f"{out.name}.", f".{out.name}"))
    ]
    if out.is_dir():
        left += [path.name for path in out.iterdir() if path.name.startswith(".") or path.suffix == ".part"]
    return faults + [f"left over: {name}" for name in left]


def _rows(out: Path) -> list[dict[str, Any]]:
    if out.is_dir():
        from pyarrow import parquet

        return [
            row for path in sorted(out.glob("part-*.parquet")) for row in parquet.read_table(path).to_pylist()
        ]
    if not out.exists():
        return []
    with out.open(newline="") as file:
        return [*csv.DictReader(file)]


def service_killed(folder: Path, jobs: int, kills: int, chance: Random) -> Line:
    """Kill `boneage serve` at random moments while clients send jobs with keys until they are answered."""
    import httpx
    import service_fakes
    from service_fakes import picture, send

    settings = {"queue": 100_000, "workers": 2}
    current = [_served(folder, settings)]
    accepted: dict[str, set[str]] = {}
    keys = iter(range(1_000_000))
    over, guard = threading.Event(), threading.Lock()

    def offer() -> None:
        while not over.is_set():
            with guard:
                at = next(keys)
            image = picture("slow", chance.uniform(0.01, 0.3), mark=f"m{at}")
            while not over.is_set() and not _offered(current[0].base, image, at):
                time.sleep(0.02)

    def _offered(base: str, image: bytes, at: int) -> bool:
        with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=base, timeout=10) as client:
            answer = send(client, image, key=f"key {at}", label=str(at))
            if answer.status_code in (200, 202):
                accepted.setdefault(f"key {at}", set()).add(answer.json()["id"])
                # The same request once more: a client that did not hear the answer would send it.
                again = send(client, image, key=f"key {at}", label=str(at))
                accepted[f"key {at}"].add(again.json()["id"])
                return True
        return False

    with ThreadPoolExecutor(2) as pool:
        offers = [pool.submit(offer) for _ in range(2)]
        try:
            for at in range(kills):
                if at % 2:  # its workers are at work
                    service_fakes.until_ready(current[0].client, 600)
                time.sleep(chance.uniform(0.05, 1.2))
                current[0].kill()
                current[0] = _served(folder, settings)
            while len(accepted) < jobs and not any(one.done() for one in offers):
                time.sleep(0.05)
        finally:
            over.set()
        for one in offers:
            one.result(60)
    listed = _listed_at_the_end(current[0].client)
    current[0].end()
    account = Account.of(folder)
    faults = job_faults(listed, accepted, account)
    told = f"{len(accepted)} accepted jobs, {'not ' if faults else ''}each there and ended once"
    if account.given_up:
        told += f", {len(account.given_up)} as failed: killed in all {MOST_ATTEMPTS} attempts"
    told += f"; {account.again} begun again"
    return Line("kill -9 of boneage serve with jobs in flight", kills, told, tuple(faults))


@dataclass(frozen=True)
class Account:
    """What is known of jobs beside what the server answers.

    Args:
        given_up: ids of jobs that a server's log says it gave up.
        endings: id -> how often the logs say that it ended.
        attempts: id -> how often the database says that it was taken.
        begun: mark of an image -> how often a worker began it.
    """

    given_up: Set[str]
    endings: Mapping[str, int]
    attempts: Mapping[str, int]
    begun: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path) -> Account:
        """Read the logs, the database and the workers' notes of a server that has ended."""
        logs = "".join(path.read_text(errors="replace") for path in folder.glob("data-stderr-*.txt"))
        with contextlib.closing(sqlite3.connect(folder / "data" / "boneage.sqlite")) as database:
            attempts = dict(database.execute("SELECT id, attempts FROM jobs").fetchall())
        return cls(
            given_up=set(re.findall(r"job ([0-9a-f]{32}): given up", logs)),
            endings=Counter(re.findall(r"job ([0-9a-f]{32}): \S+ in \d", logs)),
            attempts=attempts,
            begun=Counter((folder / "data-notes.txt").read_text().split()),
        )

    @property
    def again(self) -> int:
        """How often a worker began an image that had been begun before."""
        return sum(self.begun.values()) - len(self.begun)


def _listed_at_the_end(client: Any) -> list[dict[str, Any]]:
    """Return all jobs of a server's worklist once none waits or runs, or after ten minutes."""
    from service_fakes import JOBS

    until = time.monotonic() + 600
    while True:
        listed: list[dict[str, Any]] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            before = {"before": page["next"]} if page["next"] else {}
            page = client.get(JOBS, params={"limit": 200, **before}).json()
            listed += page["jobs"]
        if time.monotonic() > until or not any(job["state"] in ("queued", "running") for job in listed):
            return listed
        time.sleep(0.2)


def job_faults(
    listed: Sequence[Mapping[str, Any]], accepted: Mapping[str, Set[str]], account: Account
) -> list[str]:
    """Return what is wrong with the jobs of a server that was killed again and again.

    Args:
        listed: its worklist, once all have ended.
        accepted: key of a request -> ids that its repetitions got.
        account: what is known beside.
    """
    faults = [f"{key} became {len(ids)} jobs" for key, ids in accepted.items() if len(ids) != 1]
    lost = {name for ids in accepted.values() for name in ids} - {job["id"] for job in listed}
    faults += [f"lost {name}" for name in sorted(lost)]
    labels = Counter(job["label"] for job in listed)
    faults += [f"label {label} is there {count} times" for label, count in labels.items() if count != 1]
    faults += [f"{name} ended {count} times" for name, count in account.endings.items() if count != 1]
    if not account.endings:
        faults.append("the logs say nothing of how jobs ended: none can be said to have ended once")
    for job in listed:
        name, taken = job["id"], account.attempts.get(job["id"], 0)
        if account.begun.get(f"m{job['label']}", 0) > taken:
            faults.append(f"{name} was begun more often than it was taken ({taken})")
        if name in account.given_up:
            faults += _given_up_faults(job, taken)
        elif job["state"] != "done" or job["bone_age_months"] is None:
            faults.append(f"{name} ended as {job['state']}")
    return faults


def _given_up_faults(job: Mapping[str, Any], taken: int) -> list[str]:
    """Return what is wrong with a job that the log gave up: it must be there, failed, and say why.

    That is right only of one that was being read at `MOST_ATTEMPTS` ends of the server: such an image is
    taken for one that ends servers.
    """
    error = job["error"] or {}
    faults = []
    if taken <= MOST_ATTEMPTS:
        faults.append(f"{job['id']} was given up, though it was taken {taken} times only")
    if job["state"] != "failed" or error.get("code") != "worker_died" or not error.get("message"):
        faults.append(f"{job['id']} was given up and ended as {job['state']} with {error}")
    return faults


def _served(folder: Path, settings: dict[str, Any]) -> Any:
    """Start the server and wait until it listens; on a busy machine its workers may be long in coming."""
    import httpx
    from service_fakes import Served

    class Patient(Served):
        def _wait_until_ready(self) -> None:
            until = time.monotonic() + 600
            while time.monotonic() < until and self.process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if self.client.get("/health/live").status_code == 200:
                        return
                time.sleep(0.05)
            self.process.kill()
            raise RuntimeError(f"the server did not start: {self.said[-500:]}")

    return Patient(folder / "data", settings=settings)


# --- disk full, read-only -----------------------------------------------------------------------------------


def disk() -> list[Line]:
    """Run the cases of `disk.py`, in a name space of their own where small file systems may be mounted."""
    found = []
    for alone in (["unshare", "--map-root-user", "--mount"], []):
        with contextlib.suppress(FileNotFoundError):
            run = subprocess.run(
                [*alone, sys.executable, str(DISK)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                start_new_session=True,
            )
            if run.returncode == 0:
                for row in csv.reader(run.stdout.splitlines(), delimiter="\t"):
                    name, told, *faults = row
                    found.append(Line(name, 1, told, tuple(faults)))
                return found
    return [Line("disk full and read-only output", 0, "not tried: no file system may be mounted here")]


if __name__ == "__main__":
    sys.exit(main())
