"""A batch on a large cluster, simulated: how long 10 million studies take 1,000 workers, and why.

A worker takes blocks of rows, two at a time as the product's actors do; a row takes one of the times that
were measured. Slow machines, deaths, storage that all share, images that never end, and the one process that
takes the rows in are put in by the assumptions below, and left out one by one, so that the table says what
each costs. The same simulation, without them, is held against the measured runs with 1 and 2 workers,
each file of them by its own times of an image.

    python benchmarks/batch.py manifest.csv --rows 400 --save measured.json
    python benchmarks/batch.py manifest.csv --rows 10000 --read tiny --list-rows 0 --save tiny.json
    python benchmarks/cluster_model.py measured.json --framework tiny.json
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.batch.cluster import IN_FLIGHT, block_sizes

DRAWN = 1_000_000


@dataclass(frozen=True)
class Site:
    """What a simulation assumes.

    Args:
        workers: actors, each with one processor.
        rows: studies, an image each.
        rows_a_block: rows that an actor takes at a time; 0 is the product's own rule.
        start_s: until an actor has its bundle.
        image_bytes: size of a file.
        bandwidth_bytes_s: what the storage gives all workers together.
        slow: (share of workers, their speed) pairs; the rest has speed 1.
        deaths_an_hour: of a worker: preempted, out of memory, its node lost.
        replaced_s: until a dead worker's successor begins.
        endless: share of images that are given up after `timeout_s`.
        timeout_s: what one image may take.
        taken_a_second: rows that the slower of the two processes at the end can take in.
    """

    workers: int = 1000
    rows: int = 10_000_000
    rows_a_block: int = 0
    start_s: float = 30.0
    image_bytes: float = 8e6
    bandwidth_bytes_s: float = 12.5e9
    slow: tuple[tuple[float, float], ...] = ((0.05, 0.5), (0.01, 0.1))
    deaths_an_hour: float = 0.05
    replaced_s: float = 300.0
    endless: float = 1e-5
    timeout_s: float = 120.0
    taken_a_second: float = math.inf


class Event(IntEnum):
    """What happens to a worker."""

    DONE = 0
    DEATH = 1
    SUCCESSOR = 2


@dataclass(frozen=True)
class Outcome:
    """How a simulated run went.

    Args:
        hours: from the start of the actors to the last row.
        deaths: of workers.
        redone: rows that were read more than once.
        last_percent_s: from the row that makes 99% to the last.
    """

    hours: float
    deaths: int
    redone: int
    last_percent_s: float


def simulate(site: Site, seconds: NDArray[np.float64], seed: int = 0) -> Outcome:
    """Return how a run goes.

    Args:
        site: what is assumed.
        seconds: (N,) times of an image on one worker, drawn from with replacement.
        seed: of all that is drawn.
    """
    random = np.random.default_rng(seed)
    sizes = _sizes(site)
    work, starved = _block_seconds(sizes, seconds, random), _starved(site, seconds)
    waiting = random.binomial(sizes, site.endless) * site.timeout_s
    speed = np.ones(site.workers)
    order, at = random.permutation(site.workers), 0
    for share, slower in site.slow:
        many = round(share * site.workers)
        speed[order[at : at + many]] = slower
        at += many
    pending = deque(range(len(sizes)))
    held: list[deque[int]] = [deque() for _ in range(site.workers)]
    events: list[tuple[float, int, Event]] = []
    idle: set[int] = set()
    ends = np.zeros(len(sizes))
    deaths = redone = 0

    def begin(worker: int, now: float) -> None:
        while len(held[worker]) < IN_FLIGHT and pending:
            held[worker].append(pending.popleft())
        if held[worker]:
            takes = float(work[held[worker][0]] * max(starved, 1 / speed[worker]) + waiting[held[worker][0]])
            dies = random.exponential(3600 / site.deaths_an_hour) if site.deaths_an_hour else math.inf
            heapq.heappush(
                events, (now + min(takes, dies), worker, Event.DEATH if dies < takes else Event.DONE)
            )
        else:
            idle.add(worker)

    for worker in range(site.workers):
        begin(worker, site.start_s)
    while events:
        now, worker, event = heapq.heappop(events)
        if event is Event.DEATH:
            deaths += 1
            redone += int(sizes[held[worker][0]])
            pending.extendleft(reversed(held[worker]))
            held[worker].clear()
            heapq.heappush(events, (now + site.replaced_s, worker, Event.SUCCESSOR))
            while pending and idle:
                begin(idle.pop(), now)
            continue
        if event is Event.DONE:
            ends[held[worker].popleft()] = now
        begin(worker, now)
    ends = np.maximum(np.sort(ends), np.cumsum(sizes) / site.taken_a_second)
    last = float(ends[-1])
    return Outcome(last / 3600, deaths, redone, last - float(ends[math.ceil(0.99 * len(ends)) - 1]))


def _sizes(site: Site) -> NDArray[np.int64]:
    """Return the rows of every block."""
    if not site.rows_a_block:
        return np.array(list(block_sizes(site.rows, site.workers)))
    whole, rest = divmod(site.rows, site.rows_a_block)
    return np.array([site.rows_a_block] * whole + [rest] * bool(rest))


def _block_seconds(
    sizes: NDArray[np.int64], seconds: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Return what a worker of speed 1 takes for each block: pieces of one long row of drawn times."""
    drawn = random.choice(seconds, DRAWN)
    until = np.concatenate([[0.0], np.cumsum(drawn)])
    at = random.integers(0, DRAWN - sizes.max(), len(sizes))
    pieces: NDArray[np.float64] = until[at + sizes] - until[at]
    return pieces


def _starved(site: Site, seconds: NDArray[np.float64]) -> float:
    """Return how much longer an image takes where the storage gives less than all workers could read."""
    wanted = site.workers * site.image_bytes / float(seconds.mean())
    return max(1.0, wanted / site.bandwidth_bytes_s)


def ideal_hours(site: Site, seconds: NDArray[np.float64]) -> float:
    """Return the time of a run in which every worker reads images from its first second to its last."""
    return site.rows * float(seconds.mean()) / site.workers / 3600


def seconds_of(measured: dict[str, Any]) -> NDArray[np.float64]:
    """Return the times of an image on one worker of this machine that has a processor for itself, (N,).

    Where the machine did other things too, a run waited for its turn: its times are made shorter, all alike,
    until their mean is the processor time of an image, the start of the run included.
    """
    alone = [run for run in measured["runs"] if (run["engine"], run["workers"]) == ("local", 1)]
    seconds = np.concatenate([run["between_s"] for run in alone])
    processor = sum(run["cpu_s"] for run in alone) / sum(run["rows"] for run in alone)
    shorter: NDArray[np.float64] = seconds * min(1.0, processor / seconds.mean())
    return shorter


def intake(files: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return what the two processes that are there once take: seconds of processor a row, share by the clock.

    The conductor looks at its actors many times a second, also while no row comes. So what it took in all
    runs is laid out to the rows and to the seconds of each, by least squares.
    """
    runs = [run for file in files for run in file["runs"] if run["engine"] == "ray"]
    runs = [run for run in runs if math.isfinite(run["driver_ms"])]
    if len(runs) < 2:
        return {}
    each = np.array([(run["rows"], run["reading_s"]) for run in runs])
    found = {}
    for name in ("driver", "conductor"):
        took = np.array([run[f"{name}_ms"] * run["rows"] / 1000 for run in runs])
        a_row, a_second = np.linalg.lstsq(each, took, rcond=None)[0]
        found[name] = (max(float(a_row), 1e-9), float(a_second))
    return found


def check(measured: dict[str, Any]) -> str:
    """Return the measured runs beside what the simulation says, given the share of a core that they had."""
    seconds = seconds_of(measured)
    lines = []
    for run in measured["runs"]:
        cores = run["cpu_s"] / run["wall_s"]
        speed = min(1.0, cores / run["workers"])
        undisturbed = Site(
            start_s=0.0, bandwidth_bytes_s=math.inf, slow=((1.0, speed),), deaths_an_hour=0.0, endless=0.0
        )
        block = 1 if run["engine"] == "local" else 0
        site = replace(undisturbed, workers=run["workers"], rows=run["rows"], rows_a_block=block)
        said = run["rows"] / (simulate(site, seconds).hours * 3600)
        found = (run["rows"] - run["first"]) / run["reading_s"]
        lines.append(
            [
                f"{measured['read']}, {run['engine']}, {run['workers']}",
                f"{found:.2f}",
                f"{said:.2f}",
                f"{found / said:.2f}",
                f"{cores:.2f}",
            ]
        )
    head = ["read, engine, workers", "measured images/s", "simulated", "measured / simulated", "cores had"]
    return markdown(head, lines)


def intake_table(found: dict[str, tuple[float, float]]) -> str:
    """Return what `intake` found as a table."""
    lines = [
        [name, f"{1000 * a_row:.2f}", f"{a_second:.1%}", f"{1 / a_row:,.0f}"]
        for name, (a_row, a_second) in found.items()
    ]
    head = ["process", "CPU ms a row", "of a core by the clock", "rows a second that it can take"]
    return markdown(head, lines)


def forecast(site: Site, seconds: NDArray[np.float64]) -> str:
    """Return what a large run takes, and what each assumption adds to it."""
    without: dict[str, Site] = {
        "all of it": site,
        "no slow workers": replace(site, slow=()),
        "no deaths": replace(site, deaths_an_hour=0.0),
        "no endless images": replace(site, endless=0.0),
        "storage without limit": replace(site, bandwidth_bytes_s=math.inf),
        "half the storage": replace(site, bandwidth_bytes_s=site.bandwidth_bytes_s / 2),
        "blocks of 64 rows to the end": replace(site, rows_a_block=64),
        "blocks of 256 rows to the end": replace(site, rows_a_block=256),
        "ten times the deaths": replace(site, deaths_an_hour=10 * site.deaths_an_hour),
        "rows taken in without limit": replace(site, taken_a_second=math.inf),
        "250 workers": replace(site, workers=250),
        "4,000 workers": replace(site, workers=4000),
    }
    lines = []
    for name, each in without.items():
        found = simulate(each, seconds)
        ideal = ideal_hours(each, seconds)
        counts = [f"{found.deaths:,}", f"{found.redone:,}", f"{found.last_percent_s / 60:.1f}"]
        lines.append([name, f"{found.hours:.2f}", f"{ideal / found.hours:.0%}", *counts])
    head = ["assumed", "hours", "of the ideal", "deaths", "rows read twice", "last 1%, min"]
    return markdown(head, lines)


def assumptions(site: Site, seconds: NDArray[np.float64]) -> str:
    """Return what is assumed, as a list."""
    wanted = site.workers * site.image_bytes / float(seconds.mean()) / 1e9
    hours, given = 1 / site.deaths_an_hour, site.bandwidth_bytes_s / 1e9
    slow = " and ".join(
        f"{share:.0%} of the workers have {speed:g} of the speed" for share, speed in site.slow
    )
    often = np.percentile(seconds, 95)
    return "\n".join(
        [
            f"- {site.workers:,} workers of one processor each; {site.rows:,} studies of one image.",
            f"- An image takes one of the {len(seconds)} times that were measured with one worker, as on a "
            f"core for itself: {seconds.mean():.2f} s on average, 95th percentile {often:.2f} s.",
            f"- {slow}.",
            f"- A worker dies once in {hours:.0f} hours of work; its blocks go to whoever is free, and "
            f"are read again from their beginning, and its successor begins {site.replaced_s:.0f} s later.",
            f"- Files of {site.image_bytes / 1e6:.0f} MB; the storage gives {given:.1f} GB/s to all "
            f"together, of {wanted:.1f} GB/s that they could read; the next file comes while one is read.",
            f"- One image in {1 / site.endless:,.0f} never ends: it is given up after {site.timeout_s:g} s.",
            f"- Two processes are there once, and every row goes through both: the slower takes "
            f"{site.taken_a_second:,.0f} rows a second, as measured.",
            "- No network between nodes, no limits of Ray's with so many actors: neither was measured.",
        ]
    )


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def main() -> None:
    """Read the command line, check and simulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measured", type=Path, help="what benchmarks/batch.py --save wrote")
    parser.add_argument(
        "--framework", type=Path, nargs="+", default=[], help="more such files, of --read tiny or decode"
    )
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--studies", type=int, default=10_000_000)
    parser.add_argument(
        "--gigabytes-a-second", type=float, default=12.5, help="of the storage (default 12.5)"
    )
    parser.add_argument("--megabytes", type=float, default=8.0, help="of a file (default 8)")
    options = parser.parse_args()
    measured = json.loads(options.measured.read_text())
    others = [json.loads(path.read_text()) for path in options.framework]
    seconds = seconds_of(measured)
    starts = [run["start_s"] for run in measured["runs"] if run["engine"] == "ray"]
    taken = intake([measured, *others])
    site = Site(
        workers=options.workers,
        rows=options.studies,
        start_s=float(np.median(starts)) if starts else Site.start_s,
        image_bytes=options.megabytes * 1e6,
        bandwidth_bytes_s=options.gigabytes_a_second * 1e9,
        taken_a_second=1 / max(a_row for a_row, _ in taken.values()) if taken else math.inf,
    )
    checks = [check(each) for each in (measured, *others)]
    print(*checks, intake_table(taken), assumptions(site, seconds), forecast(site, seconds), sep="\n\n")


if __name__ == "__main__":
    main()
