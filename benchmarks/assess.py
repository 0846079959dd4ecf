"""Time an assessment on real images: stage by stage, from a cold start, and its peak memory.

    python benchmarks/assess.py MANIFEST.csv --limit 40

Stages are those of `boneage.inference.assess`, watched while the product's own `Assessor` works, for
every runtime and number of threads; OpenCV gets as many threads as the runtime. An image's figure is
the best of several passes, which other work on the machine disturbs least; the table has the median
over the images and, in brackets, the 90th percentile. The images are in the file cache. CPU times,
user and system of all threads, hold on a busy machine too, but count a runtime's threads that wait
busily. Figures compare within one run; between machines compare the ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import BoneAgeError, ConfigError, InputError
from boneage.data.manifest import Row, read_manifest

if TYPE_CHECKING:
    from boneage.inference.assess import Assessor
    from boneage.inference.bundle import Bundle

STAGES = ("read", "inspect", "localise", "complete", "prepare", "run", "decode", "crop", "grade", "score")
"""In their order; `complete` and the last three take no time where a bundle has no state for them."""
GRAPHS = ("find", "run", "grade")
"""The stages that are a graph alone; `find` is the part of `localise` that is."""

COLUMNS = (*STAGES, "conclude", "total", "graphs")
"""Of a measurement; `conclude` is what no watched stage took."""

CLOCKS = ("wall", "CPU")

PROGRAM = [sys.executable, "-c", "from boneage.cli.main import main; main()"]
FEW = 20

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs the graphs."""

    runtime: str
    threads: int

    def __str__(self) -> str:
        return f"{self.runtime}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    def assessor(self, bundle: Bundle, clock: Clock) -> Assessor:
        """Return an assessor that runs in this engine, watched by a clock."""
        import cv2

        from boneage.inference.assess import Assessor

        cv2.setNumThreads(self.threads)
        return Assessor(bundle, runtime=self.runtime, threads=self.threads, watch=clock.watch)


def now() -> Table:
    """Return the time on `CLOCKS`, in milliseconds."""
    return np.array([time.perf_counter(), time.process_time()]) * 1000


@dataclass(slots=True)
class Clock:
    """Adds up the milliseconds of every stage, on `CLOCKS`."""

    spent: dict[str, Table] = field(default_factory=dict)

    @contextmanager
    def watch(self, stage: str) -> Iterator[None]:
        """Add the time of what runs inside to a stage."""
        started = now()
        try:
            yield
        finally:
            self.spent[stage] = self.spent.get(stage, 0.0) + now() - started


@dataclass(frozen=True, slots=True)
class Start:
    """One run of the program in a process of its own."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def spread_over(rows: Sequence[Row], limit: int) -> list[Row]:
    """Return at most `limit` rows, evenly from the first to the last."""
    places = np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def measure(row: Row, assessor: Assessor, clock: Clock) -> Table:
    """Assess one image and return its milliseconds (COLUMNS, CLOCKS)."""
    clock.spent.clear()
    started = now()
    assessor.assess(row.path, sex=row.sex)
    total = now() - started
    none = np.zeros(len(CLOCKS))
    stages = np.array([clock.spent.get(stage, none) for stage in STAGES])
    graphs = np.sum([clock.spent.get(stage, none) for stage in GRAPHS], axis=0)
    return np.vstack([stages, total - stages.sum(axis=0), total, graphs])


def readable(rows: Sequence[Row], assessor: Assessor) -> list[Row]:
    """Return the rows that get a bone age, which also warms up; refused images take no full path."""
    kept = []
    for row in rows:
        try:
            assessor.assess(row.path, sex=row.sex)
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
        else:
            kept.append(row)
    if not kept:
        raise ConfigError(
            "no image of the manifest gets a bone age; give radiographs of hands, and their sex"
        )
    return kept


def time_stages(
    rows: Sequence[Row], bundle: Bundle, engines: Sequence[Engine], passes: int
) -> dict[Engine, Table]:
    """Return for every engine the milliseconds (images, COLUMNS, CLOCKS), the best of the passes.

    The engines take turns, so that what else the machine does falls on all of them alike.
    """
    best = {engine: np.full((len(rows), len(COLUMNS), len(CLOCKS)), np.inf) for engine in engines}
    for turn in range(passes):
        for engine in engines:
            clock = Clock()
            assessor = engine.assessor(bundle, clock)
            measure(rows[0], assessor, clock)  # a graph's first run is slower
            here = np.array([measure(row, assessor, clock) for row in rows])
            best[engine] = np.minimum(best[engine], here)
            print(f"pass {turn + 1} of {passes}: {engine}", file=sys.stderr, flush=True)
    return best


def start(arguments: Sequence[str]) -> Start:
    """Run the program once, from a cold start with a warm file cache.

    Raises:
        ConfigError: it did not end well.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    with process:
        said = process.stderr.read().splitlines() if process.stderr else []
    if process.returncode:
        raise ConfigError(f"boneage {' '.join(arguments)} ended with {process.returncode}: {said[-1:]}")
    return Start(wall, usage.ru_utime + usage.ru_stime, megabytes(usage.ru_maxrss))


def megabytes(maxrss: int) -> float:
    """Return `ru_maxrss` in MB; its unit is a KiB on Linux and a byte on macOS."""
    return maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def peak_memory(bundle: Path | None, engine: Engine, rows: Sequence[Row], images: int) -> tuple[float, float]:
    """Return this process's peak memory in MB after `FEW` and after all images, the rows repeated."""
    from boneage.inference.bundle import Bundle

    assessor = engine.assessor(Bundle.load(bundle), Clock())
    peaks = []
    for count, row in enumerate(islice(cycle(rows), images), start=1):
        with suppress(InputError):  # `readable` names what is refused; it may not leak memory either
            assessor.assess(row.path, sex=row.sex)
        if count in (FEW, images):
            peaks.append(megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    return peaks[0], peaks[-1]


def machine() -> str:
    """Return the processor's model, its cores and how busy they are, on one line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}; {os.cpu_count()} cores, {usable} usable; load average {os.getloadavg()[0]:.1f}"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def stage_table(best: dict[Engine, Table], clock: str) -> str:
    """Return the milliseconds of every stage by engine on one of `CLOCKS`, and the share of the graphs."""

    def of(table: Table, column: str) -> Table:
        return np.asarray(table[:, COLUMNS.index(column), CLOCKS.index(clock)])

    def line(name: str, column: str) -> list[str]:
        cells = [of(table, column) for table in best.values()]
        return [name, *(f"{np.median(cell):.1f} ({np.percentile(cell, 90):.1f})" for cell in cells)]

    shares = [f"{of(table, 'graphs').sum() / of(table, 'total').sum():.0%}" for table in best.values()]
    lines = [
        *(line(stage, stage) for stage in (*STAGES, "conclude")),
        line("**total**", "total"),
        line("the graphs alone", "graphs"),
        ["share of the graphs", *shares],
    ]
    return markdown([f"{clock} ms an image", *map(str, best)], lines)


def ratio_table(best: dict[Engine, Table]) -> str:
    """Return how engines that differ in one thing compare, by the medians of the total and the graphs."""
    measures = [(column, clock) for clock in range(len(CLOCKS)) for column in ("total", "graphs")]
    lines = []
    for one in best:
        for other in best:
            if one.threads == other.threads and one.runtime > other.runtime:
                name = f"{one.runtime} / {other.runtime}, {str(one).partition(', ')[2]}"
            elif one.runtime == other.runtime and one.threads > other.threads:
                name = f"{one.threads} threads / {other.threads}, {one.runtime}"
            else:
                continue
            ratios = [
                np.median(best[one][:, COLUMNS.index(column), clock])
                / np.median(best[other][:, COLUMNS.index(column), clock])
                for column, clock in measures
            ]
            lines.append([name, *(f"{ratio:.2f}" for ratio in ratios)])
    return markdown(["ratio of medians", *(f"{CLOCKS[clock]} {column}" for column, clock in measures)], lines)


def start_table(image: Row, bundle: Path | None, runtimes: Sequence[str], runs: int) -> str:
    """Return the median seconds and peak memory of `--help` and of assessing one image."""
    assess = ["assess", str(image.path)]
    if image.sex is not None:
        assess += ["--sex", str(image.sex)]
    if bundle is not None:
        assess += ["--bundle", str(bundle)]
    commands = {
        "`boneage --help`": ["--help"],
        **{f"`boneage assess IMAGE`, {name}": [*assess, "--runtime", name] for name in runtimes},
    }
    lines = []
    for name, arguments in commands.items():
        start(arguments)  # fills the file cache
        done = [start(arguments) for _ in range(runs)]
        figures = [(each.wall_s, each.cpu_s, each.peak_mb) for each in done]
        wall, cpu, peak = np.median(figures, axis=0)
        lines.append([name, f"{wall:.2f}", f"{cpu:.2f}", f"{peak:.0f}"])
    return markdown([f"cold start, median of {runs}", "wall s", "CPU s", "peak MB"], lines)


def memory_table(bundle: Path | None, engines: Sequence[Engine], rows: Sequence[Row], images: int) -> str:
    """Return the peak memory of a process that assesses many images, for every engine."""
    lines = []
    for engine in engines:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            few, all_ = process.submit(peak_memory, bundle, engine, rows, images).result()
        lines.append([str(engine), f"{few:.0f}", f"{all_:.0f}", f"{all_ - few:+.0f}"])
    return markdown(["peak memory, MB", f"{FEW} images", f"{images:,} images", "growth"], lines)


def run(options: argparse.Namespace) -> None:
    """Measure and print, what is quick first."""
    rows = spread_over(read_manifest(options.manifest), options.limit)
    engines = [Engine(runtime, threads) for runtime in options.runtime for threads in options.threads]
    print(machine(), end="\n\n", flush=True)
    # A process inherits the peak memory of the one that started it: these start while this one is small.
    print(start_table(rows[0], options.bundle, options.runtime, options.starts), end="\n\n", flush=True)
    if options.memory_images:
        most = [Engine(runtime, max(options.threads)) for runtime in options.runtime]
        print(
            memory_table(options.bundle, most, rows, max(FEW, options.memory_images)), end="\n\n", flush=True
        )
    from boneage.inference.bundle import Bundle

    bundle = Bundle.load(options.bundle)
    rows = readable(rows, engines[0].assessor(bundle, Clock()))
    best = time_stages(rows, bundle, engines, options.passes)
    print(f"bundle {bundle.name}; {len(rows)} images, best of {options.passes} passes\n")
    print(*(stage_table(best, clock) for clock in CLOCKS), ratio_table(best), sep="\n\n")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="manifest of radiographs (CSV), or a folder")
    parser.add_argument("--limit", type=int, default=40, help="images that are timed (default 40)")
    parser.add_argument("--passes", type=int, default=3, help="times each is assessed (default 3)")
    parser.add_argument("--starts", type=int, default=5, help="cold starts of each command (default 5)")
    parser.add_argument(
        "--memory-images", type=int, default=1000, help="images for peak memory; 0 leaves it out"
    )
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--bundle", type=Path, help="a bundle other than the shipped one")
    try:
        run(parser.parse_args())
    except BoneAgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
