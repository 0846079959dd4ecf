"""Images a second, processor time and memory of `boneage batch`: 1 and 2 workers, here and on Ray.

Also what it costs to be killed at half and resumed, and what a list of a million rows takes before work
starts. Every run is a process of its own; what it and all its descendants use is read from /proc (Linux
only) while it runs. The images of the manifest are repeated under new ids until there are enough rows.
Engines take turns, so that what else the machine does falls on all of them alike; read the ratios, and the
processor time.

What is done with an image is the whole assessment; or, where the queues, the journal and the shards are to be
measured rather than the networks, only its file is decoded, or a drawn one of 80 x 64 pixels is.

    python benchmarks/batch.py manifest.csv --rows 10000
    python benchmarks/batch.py manifest.csv --rows 400 --save measured.json
    python benchmarks/batch.py manifest.csv --rows 10000 --read decode --list-rows 0 --save decoded.json
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest

if TYPE_CHECKING:
    from boneage.batch.work import Reader

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 1.0
TOGETHER_S = 0.05
JOB, LIST = "job", "list"
WHOLE, DECODE, TINY = "whole", "decode", "tiny"
AGES = ("age_intervals", "chn", "hand_regression", "rus_chn", "tw3")


@dataclass(frozen=True)
class Decoder:
    """Stands for a bundle's reader where an image is only decoded, which the worker does before it asks."""

    def load(self) -> Any:
        """Return what assesses nothing."""
        return self

    def assess(self, _: object, *, sex: Sex | None, **__: object) -> Any:
        """Return the same answer always."""
        ages = dict.fromkeys(AGES, 100.0)
        warning = SimpleNamespace(code="none", text=12 * "a warning of usual length ")
        return SimpleNamespace(
            sex=sex or "",
            bone_age_months=100.0,
            interval_months=(90.0, 110.0),
            ages=ages,
            warnings=(warning,),
        )

    def fingerprint(self) -> str:
        """Return a name."""
        return DECODE

    def ages(self) -> tuple[str, ...]:
        """Return the names of its ages."""
        return AGES

    def description(self) -> dict[str, str]:
        """Return what a run records."""
        return {"bundle": "none: images are only decoded"}


def reader_for(read: str) -> Reader:
    """Return what reads an image.

    Workers find it in the module of this file's name, which they import, not in the script that runs.
    """
    if read == WHOLE:
        from boneage.batch.work import BundleReader

        return BundleReader()
    found: Reader = importlib.import_module(Path(__file__).stem).Decoder()
    return found


@dataclass(frozen=True)
class Measured:
    """One run.

    Args:
        engine: `local` or `ray`.
        workers: number of them.
        rows: read in this run.
        start_s: until the first row.
        first: rows that came with the first one, as a block of them does from Ray.
        reading_s: from the first row to the last.
        wall_s: of the whole process.
        cpu_s: of it and its descendants, as far as they were seen.
        peak_mb: their memory together, shared pages counted once.
        early_mb: the same, when a fifth of the rows was there; of the latest sample.
        late_mb: when four fifths were there.
        driver_ms: processor time of the process that takes the rows in, for a row.
        conductor_ms: of the one on the cluster that hands them on, for a row.
        between_s: the seconds from each row to the next.
    """

    engine: str
    workers: int
    rows: int
    start_s: float
    first: int
    reading_s: float
    wall_s: float
    cpu_s: float
    peak_mb: float
    early_mb: float
    late_mb: float
    driver_ms: float
    conductor_ms: float
    between_s: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Images a second once the first were read."""
        return (self.rows - self.first) / self.reading_s if self.reading_s else float("nan")


@dataclass(frozen=True)
class Sample:
    """What a run had used at a moment: memory now, processor time of two of its processes until now."""

    at_s: float
    memory_mb: float
    driver_s: float
    conductor_s: float


class Watcher:
    """Samples what a process and its descendants use, until it ends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu: dict[int, float] = {}
        self._conductor: int | None = None
        self._began = time.perf_counter()
        self.samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Return the seconds of processor time."""
        self._ended.set()
        self._thread.join()
        return sum(self._cpu.values())

    def memory_mb(self, until_s: float = float("inf")) -> float:
        """Return what was last seen before a moment."""
        return next((each.memory_mb for each in reversed(self.samples) if each.at_s <= until_s), float("nan"))

    def for_a_row(self, at: Sequence[float]) -> tuple[float, float]:
        """Return the processor time in ms that driver and conductor took for a row, while rows came."""
        inside = [each for each in self.samples if at[0] <= each.at_s <= at[-1]]
        first, last = (inside[0], inside[-1]) if inside else (Sample(0, 0, 0, 0),) * 2
        rows = sum(first.at_s < moment <= last.at_s for moment in at) / 1000
        if not rows:
            return float("nan"), float("nan")
        return (last.driver_s - first.driver_s) / rows, (last.conductor_s - first.conductor_s) / rows

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            memory = 0.0
            for pid in family(self._pid):
                try:
                    self._cpu[pid] = max(self._cpu.get(pid, 0.0), cpu_seconds(pid))
                    memory += proportional_mb(pid)
                    if self._conductor is None and is_conductor(pid):
                        self._conductor = pid
                except (OSError, IndexError, ValueError):
                    continue  # it has just ended
            at = time.perf_counter() - self._began
            driver, conductor = self._cpu.get(self._pid, 0.0), self._cpu.get(self._conductor or 0, 0.0)
            self.samples.append(Sample(at, memory, driver, conductor))


def family(root: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    yield from found


def cpu_seconds(pid: int) -> float:
    """Return a process's user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def proportional_mb(pid: int) -> float:
    """Return a process's memory, with its share of the pages that it has in common with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def is_conductor(pid: int) -> bool:
    """Return whether a process is the one on the cluster that hands rows on."""
    return b"ray::Conductor" in Path(f"/proc/{pid}/cmdline").read_bytes()


def tiny_image(folder: Path) -> list[Row]:
    """Draw an image of 80 x 64 pixels, and return it as the only row of a manifest."""
    import cv2

    path = folder / "tiny.png"
    pixels = np.random.default_rng(0).integers(0, 255, (80, 64)).astype(np.uint8)
    assert cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 9))
    return [Row("tiny", path, Sex.FEMALE)]


def write_rows(rows: Sequence[Row], count: int, path: Path) -> None:
    """Write a manifest of `count` rows that repeats the images."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "sex"])
        for number, row in enumerate(islice(cycle(rows), count)):
            writer.writerow([f"study-{number:08d}", row.path.absolute(), row.sex or ""])


def run_job(
    manifest: Path, out: Path, engine: str, workers: int, read: str, kill_at: int | None = None
) -> Measured | None:
    """Run a job in a process of its own; None where it was killed after `kill_at` rows."""
    words = [sys.executable, __file__, str(manifest), "--as", JOB, "--out", str(out)]
    words += ["--engine", engine, "--only-workers", str(workers), "--read", read]
    environment = os.environ | {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    modules = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, modules))
    began = time.perf_counter()
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    watcher = Watcher(process.pid)
    at: list[float] = []
    assert process.stdout is not None
    for _ in process.stdout:
        at.append(time.perf_counter() - began)
        if kill_at is not None and len(at) >= kill_at:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    wall, cpu = time.perf_counter() - began, watcher.stop()
    if kill_at is not None:
        return None
    if process.returncode not in (0, 3):
        raise SystemExit(f"the run of {engine} with {workers} workers ended with {process.returncode}")
    between = tuple(round(value, 4) for value in np.diff(at))
    first = sum(moment < at[0] + TOGETHER_S for moment in at)
    reading = at[-1] - at[0]
    fifth = len(at) // 5
    return Measured(
        engine=engine,
        workers=workers,
        rows=len(at),
        start_s=at[0],
        first=first,
        reading_s=reading,
        wall_s=wall,
        cpu_s=cpu,
        peak_mb=max((each.memory_mb for each in watcher.samples), default=float("nan")),
        early_mb=watcher.memory_mb(at[fifth]),
        late_mb=watcher.memory_mb(at[-1 - fifth]),
        driver_ms=watcher.for_a_row(at)[0],
        conductor_ms=watcher.for_a_row(at)[1],
        between_s=between,
    )


def job(options: argparse.Namespace) -> None:
    """Run a job in this process, and write a line for each row as it is recorded."""
    from boneage.batch import source
    from boneage.batch.run import Settings, run

    cluster = "local" if options.engine == "ray" else None
    settings = Settings(options.only_workers, resume=True, cluster=cluster, shard_rows=options.shard_rows)
    began = False

    def advance(done: int, _: int) -> None:
        nonlocal began
        if began:
            print(done, flush=True)
        began = True

    run(source.at(str(options.manifest)), str(options.out), reader_for(options.read), settings, advance)


def list_job(options: argparse.Namespace) -> None:
    """Look a long list through, put a row for each of it into shards, and print what that takes as JSON."""
    import resource

    from boneage.batch import source
    from boneage.batch.results import About
    from boneage.batch.shards import ShardFolder
    from boneage.batch.work import BundleReader, failed_row

    def used() -> tuple[float, float, float]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        return time.process_time(), time.perf_counter(), peak

    begun = used()
    listing = source.Listing(source.at(str(options.manifest)), "salt")
    looked = used()
    output = ShardFolder(str(options.out), resume=False, overwrite=False, shard_rows=1000)
    output.begin(listing, About(BundleReader(), "salt", {}))
    started = used()
    message = "bone_not_graded: " + 12 * "a warning of usual length "
    for task in listing.tasks():
        output.add(task.ordinal, failed_row(task, "failed", message))
    output.finish()
    ended = used()
    print(
        json.dumps(
            {
                "rows": len(listing),
                "look_cpu_s": looked[0] - begun[0],
                "look_wall_s": looked[1] - begun[1],
                "look_peak_mb": looked[2],
                "before_peak_mb": begun[2],
                "take_cpu_s": ended[0] - started[0],
                "take_peak_mb": ended[2],
            }
        )
    )


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def engine_table(found: Sequence[Measured]) -> str:
    """Return the medians of every engine and number of workers, and how they scale."""
    lines = []
    kinds = list(dict.fromkeys((each.engine, each.workers) for each in found))
    rates = {
        kind: np.median([each.rate for each in found if (each.engine, each.workers) == kind])
        for kind in kinds
    }
    for engine, workers in kinds:
        these = [each for each in found if (each.engine, each.workers) == (engine, workers)]
        cpu = np.median([each.cpu_s / each.rows for each in these])
        share = np.median([each.cpu_s / each.wall_s for each in these])
        alone = rates.get((engine, 1))
        lines.append(
            [
                f"{engine}, {workers}",
                f"{rates[engine, workers]:.2f}",
                "" if alone is None or workers == 1 else f"{rates[engine, workers] / workers / alone:.0%}",
                f"{cpu:.3f}",
                f"{share:.2f}",
                f"{np.median([each.start_s for each in these]):.1f}",
                f"{max(each.peak_mb for each in these):.0f}",
                f"{np.median([each.late_mb - each.early_mb for each in these]):+.0f}",
            ]
        )
    head = [
        "engine, workers",
        "images/s",
        "efficiency",
        "CPU s an image",
        "cores had",
        "s to the first",
        "peak MB",
        "MB more at 4/5 than at 1/5",
    ]
    return markdown(head, lines)


def intake_table(found: Sequence[Measured]) -> str:
    """Return what the processes that are there once, however many workers, take for a row."""
    lines = []
    for engine in dict.fromkeys(each.engine for each in found):
        these = [each for each in found if each.engine == engine]
        driver = np.median([each.driver_ms for each in these])
        conductor = np.median([each.conductor_ms for each in these])
        slower = max(driver, conductor)
        shown = f"{conductor:.3f}" if engine == "ray" else ""
        lines.append([engine, f"{driver:.3f}", shown, f"{1000 / slower:,.0f}"])
    head = ["engine", "driver, CPU ms a row", "conductor, CPU ms a row", "rows a second that they can take"]
    return markdown(head, lines)


def resume_table(rows: Sequence[Row], options: argparse.Namespace, folder: Path) -> str:
    """Return what a run costs that is killed at half and resumed, against one that is not."""
    count, read = options.resume_rows, options.read
    manifest = folder / "resumed.csv"
    write_rows(rows, count, manifest)
    lines = []
    for engine in options.engines:
        whole, halved = folder / f"{engine}-straight", folder / f"{engine}-halved"
        straight = run_job(manifest, whole, engine, 1, read)
        began = time.perf_counter()
        run_job(manifest, halved, engine, 1, read, kill_at=count // 2)
        first = time.perf_counter() - began
        second = run_job(manifest, halved, engine, 1, read)
        assert straight is not None and second is not None
        shards = sorted(path.name for path in whole.glob("part-*.parquet"))
        same = shards == sorted(path.name for path in halved.glob("part-*.parquet")) and all(
            (whole / name).read_bytes() == (halved / name).read_bytes() for name in shards
        )
        times = [straight.wall_s, first, second.wall_s]
        overhead = first + second.wall_s - straight.wall_s
        kept = f"{count - second.rows:,}"
        lines.append(
            [engine, *(f"{each:.1f}" for each in times), f"{overhead:+.1f}", kept, "yes" if same else "NO"]
        )
    head = [f"engine, 1 worker, {count:,} rows", "straight s", "to the kill -9 s", "resumed s", "overhead s"]
    return markdown([*head, "rows kept", "same shards"], lines)


def list_table(rows: Sequence[Row], count: int, folder: Path) -> tuple[str, dict[str, float]]:
    """Return what a list of `count` rows takes to be looked through, and its rows to be taken in."""
    manifest = folder / "list.csv"
    write_rows(rows, count, manifest)
    words = [sys.executable, __file__, str(manifest), "--as", LIST, "--out", str(folder / "list")]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(said)
    lines = [
        ["looked through before work starts", f"{found['look_cpu_s']:.1f}", f"{found['look_wall_s']:.1f}",
         f"{found['look_peak_mb'] - found['before_peak_mb']:.0f}", f"{found['look_peak_mb']:.0f}"],
        ["its rows journalled and written as shards", f"{found['take_cpu_s']:.1f}", "", "",
         f"{found['take_peak_mb']:.0f}"],
    ]  # fmt: skip
    head = [f"{count:,} rows", "CPU s", "wall s", "more memory, MB", "peak of the process, MB"]
    return markdown(head, lines), found


def measure(options: argparse.Namespace) -> None:
    """Measure and print, what is quick first."""
    rows: Sequence[Row] = read_manifest(options.manifest)
    saved: dict[str, object] = {"rows": options.rows, "read": options.read}
    sizes = [row.path.stat().st_size for row in rows if row.path.is_file()]
    saved["image_bytes"] = float(np.mean(sizes))
    load = os.getloadavg()[0]
    print(f"{len(rows)} images, {np.mean(sizes) / 1e6:.2f} MB on average; load average {load:.1f}\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.read == TINY:
            rows = tiny_image(folder)
        if options.list_rows:
            table, saved["list"] = list_table(rows, options.list_rows, folder)
            print(table, end="\n\n", flush=True)
        manifest = folder / "manifest.csv"
        write_rows(rows, options.rows, manifest)
        found: list[Measured] = []
        for turn in range(options.passes):
            for engine in options.engines:
                for workers in options.workers:
                    out = folder / f"{engine}-{workers}-{turn}"
                    done = run_job(manifest, out, engine, workers, options.read)
                    assert done is not None
                    found.append(done)
                    print(f"{engine}, {workers}: {done.rate:.2f} images/s", file=sys.stderr, flush=True)
        print(
            f"{options.rows:,} rows, {options.read}, median of {options.passes} passes\n\n"
            f"{engine_table(found)}\n\n{intake_table(found)}",
            end="\n\n",
            flush=True,
        )
        saved["runs"] = [asdict(each) for each in found]
        if options.save:
            options.save.write_text(json.dumps(saved))
        if options.resume_rows:
            print(resume_table(rows, options, folder), flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="manifest of radiographs (CSV), or a folder")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the job (default 10,000)")
    parser.add_argument("--passes", type=int, default=1, help="times each engine runs it (default 1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--engines", nargs="+", choices=["local", "ray"], default=["local", "ray"])
    parser.add_argument(
        "--read",
        choices=[WHOLE, DECODE, TINY],
        default=WHOLE,
        help="what is done with an image: assessed, only decoded, or a tiny one decoded (default whole)",
    )
    parser.add_argument(
        "--resume-rows", type=int, default=200, help="rows that are killed at half; 0 leaves it out"
    )
    parser.add_argument(
        "--list-rows", type=int, default=1_000_000, help="rows of the long list; 0 leaves it out"
    )
    parser.add_argument("--shard-rows", type=int, default=100, help="rows in a shard of the job")
    parser.add_argument("--save", type=Path, help="write what was measured, for benchmarks/cluster_model.py")
    parser.add_argument("--as", dest="part", choices=[JOB, LIST], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--only-workers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    {JOB: job, LIST: list_job, None: measure}[options.part](options)


if __name__ == "__main__":
    main()
