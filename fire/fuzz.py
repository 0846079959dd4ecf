"""Try every reader with thousands of damaged inputs: what `make fuzz` runs.

    python fire/fuzz.py [--inputs 10000] [--seed 8] [--only NAME] [--from N]
    python fire/fuzz.py --replay out/fuzz/PNG-123.bin

Every input follows from the seed, the reader's name and its number, so a run can be repeated, and gone on
with by `--from`. Inputs run in a worker process of limited memory that is replaced when it dies or takes too
long. What fails is kept in out/fuzz.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import platform
import re
import resource
import secrets
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from random import Random

import readers
from boneage.core.processes import Died, Raised, SteadyWorker, TimedOut
from readers import ANSWERED, BY_NAME, READERS, FuzzedReader, Wrong

FINDINGS = ("wrong answer", "crash", "memory", "died", "hang")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an input may take.

    Args:
        processor_s: of processor time, so that a busy machine makes no findings.
        silence_s: without an answer, for an input that waits and does not work; the first of a reader is
            slow, as it loads the networks or starts the service.
        memory_mib: beyond what the process had when it was ready.
    """

    processor_s: float = 10.0
    silence_s: float = 70.0
    memory_mib: int = 2048


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one input.

    Args:
        outcome: `answered`, the code of a deliberate error, or one of `FINDINGS`.
        text: what is known of a finding.
        took_s: time of the reader alone.
        peak_mib: most memory that its process has had so far.
    """

    outcome: str
    text: str = ""
    took_s: float = 0.0
    peak_mib: float = 0.0

    @property
    def is_finding(self) -> bool:
        """Whether the promise was broken."""
        return self.outcome in FINDINGS


def main() -> int:
    """Run, print a table, and return 1 where anything was found."""
    given = _arguments()
    if given.replay:
        return _replay(given.replay)
    seed = given.seed if given.seed is not None else secrets.randbelow(1 << 32)
    chosen = [BY_NAME[given.only]] if given.only else list(READERS)
    part = f" --only '{given.only}'" if given.only else ""
    part += f" --from {given.start}" if given.start else ""
    print(f"boneage fuzz, {date.today()}, python {platform.python_version()}, seed {seed}: to repeat it,")
    print(f"  python fire/fuzz.py --inputs {given.inputs} --seed {seed}{part}", flush=True)
    given.keep.mkdir(parents=True, exist_ok=True)
    tried: dict[str, list[Tried]] = {}
    began = time.monotonic()
    for reader in chosen:
        count = given.inputs if given.only else max(1, round(given.inputs * reader.share / 10_000))
        tried[reader.name] = [*runs(reader, range(given.start, count), seed, given.keep)]
        print(line(reader.name, tried[reader.name]), flush=True)
    _print_table(tried, time.monotonic() - began)
    return int(any(one.is_finding for found in tried.values() for one in found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=10_000, help="how many, shared out among the readers")
    parser.add_argument("--seed", type=int, help="of all inputs; another one each time by default")
    parser.add_argument("--only", choices=sorted(BY_NAME), help="one reader, with all inputs")
    parser.add_argument(
        "--from", dest="start", type=int, default=0, help="go on at this number of each reader"
    )
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="folder of inputs that fail")
    parser.add_argument("--replay", type=Path, help="a kept input")
    return parser.parse_args()


def runs(
    reader: FuzzedReader, numbers: Iterable[int], seed: int, keep: Path, limits: Limits = LIMITS
) -> Iterator[Tried]:
    """Try a reader's inputs one after another; a worker that ends or hangs is replaced."""
    start = partial(_start, reader, limits)
    worker: SteadyWorker[tuple[int, int], Tried] = SteadyWorker(start, limits.silence_s)
    try:
        for number in numbers:
            answer = worker((seed, number))
            match answer:
                case Died(exit_code=code):
                    one = Tried("died", f"exit code {code}")
                case TimedOut(after_s=after_s):
                    one = Tried("hang", f"no answer in {after_s:.0f} s")
                case Raised(kind=kind, text=text):
                    one = Tried("crash", f"{kind}: {text}")
                case _:
                    one = answer
            if one.is_finding:
                _keep(reader, number, seed, keep, one)
            yield one
    finally:
        worker.stop()


def _keep(reader: FuzzedReader, number: int, seed: int, keep: Path, one: Tried) -> None:
    """Keep an input that fails, and what was seen; it is made anew, for its worker may be gone."""
    name = re.sub(r"\W+", "-", reader.name)
    path = keep / f"{name}-{seed}-{number}.bin"
    path.write_bytes(reader.input(chance_of(seed, reader.name, number)))
    path.with_suffix(".txt").write_text(f"{reader.name}\n{one.outcome}: {one.text}\n")
    print(f"  {one.outcome}: {reader.name} {number}: {one.text.splitlines()[0][:150]} ({path})", flush=True)


def chance_of(seed: int, name: str, number: int) -> Random:
    """Return the chance from which an input is made."""
    return Random(f"{seed} {name} {number}")


def _start(reader: FuzzedReader, limits: Limits) -> Callable[[tuple[int, int]], Tried]:
    """Make ready in the worker: load what the reader needs, then limit the memory."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    _mute()
    # A daemon may have no children, as the service's workers are; they end when their parent is gone.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    judged(reader, reader.input(Random(0)), limits)
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
    most = (used << 10) + (limits.memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return lambda task: judged(reader, reader.input(chance_of(task[0], reader.name, task[1])), limits)


def _mute() -> None:
    """Let no decoder's own words through: a damaged file makes thousands of lines."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def judged(reader: FuzzedReader, data: bytes, limits: Limits = LIMITS) -> Tried:
    """Give an input to a reader, and judge what comes of it."""
    began, text = time.process_time(), ""
    try:
        outcome = reader.outcome(data)
    except Wrong as error:
        outcome, text = "wrong answer", str(error)
    except MemoryError as error:
        outcome, text = "memory", f"more than {limits.memory_mib} MiB were asked for\n{error}"
    except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
        outcome, text = "crash", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    took_s = time.process_time() - began
    if took_s > limits.processor_s:
        outcome, text = "hang", f"{took_s:.1f} s of processor time"
    return Tried(outcome, text, took_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _replay(path: Path) -> int:
    """Give a kept input to its reader in this process, and let what it raises through."""
    reader = BY_NAME[path.with_suffix(".txt").read_text().splitlines()[0]]
    try:
        print(f"{reader.name}: {reader.outcome(path.read_bytes())}")
    finally:
        readers.close()
    return 0


def line(name: str, tried: list[Tried]) -> str:
    """Return a reader's line of the table, in Markdown."""
    counts = Counter(one.outcome for one in tried)
    refused = {name: count for name, count in counts.items() if name not in (ANSWERED, *FINDINGS)}
    said = ", ".join(f"{name} {count}" for name, count in sorted(refused.items(), key=lambda item: -item[1]))
    slowest, peak = max(one.took_s for one in tried), max(one.peak_mib for one in tried)
    found = " | ".join(str(counts[kind]) for kind in FINDINGS)
    return f"| {name} | {len(tried)} | {counts[ANSWERED]} | {said} | {found} | {slowest:.1f} | {peak:.0f} |"


def _print_table(tried: dict[str, list[Tried]], took_s: float) -> None:
    print(f"\n| reader | inputs | answered | refused, by code | {' | '.join(FINDINGS)} | slowest, s | MiB |")
    print(f"|{'---|' * (6 + len(FINDINGS))}")
    for name, found in tried.items():
        print(line(name, found))
    kinds: dict[str, int] = defaultdict(int)
    for found in tried.values():
        for one in found:
            kinds[one.outcome if one.is_finding else "as promised"] += 1
    total = sum(kinds.values())
    print(
        f"\n{total} inputs in {took_s:.0f} s: "
        + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    )


if __name__ == "__main__":
    sys.exit(main())
