"""Measure how far bfloat16 moves the bone age, graph by graph, and how much time it saves.

    python benchmarks/precision.py MANIFEST.csv --limit 100 --save precisions.json
    boneage bundle --extend BUNDLE --precisions precisions.json --out BUNDLE --version 1.5.1

Needs a processor with bfloat16 (avx512_bf16 or AMX). Each graph is tried alone; those that move the answer
least are allowed, one more at a time, as long as it moves by at most 0.05 months on average with all of
them together. Float32 and bfloat16 take turns image by image; read the times as ratios. An image that is
refused in one precision alone stops the graph.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import openvino

from boneage.core.errors import InputError
from boneage.core.protocols import Runner
from boneage.core.types import Assessment, Radiograph, Sex
from boneage.data.manifest import read_manifest
from boneage.imaging.read import read
from boneage.inference.assess import Assessor
from boneage.inference.bundle import Bundle
from boneage.inference.precision import HALF, MOST_MOVED_MONTHS
from boneage.inference.runners import open_graph

RUNTIME = "openvino"
FINDER = "hand_finder"
Film = tuple[Radiograph, Sex]


@dataclass(frozen=True)
class Moved:
    """What some graphs in bfloat16 do: how far answers move, in months, and the share of the time."""

    mean: float
    most: float
    shift: float
    refused_otherwise: int
    time_share: float

    @property
    def passes(self) -> bool:
        """Whether the gate lets them through."""
        return self.mean <= MOST_MOVED_MONTHS and self.refused_otherwise == 0


class Switched:
    """An assessor some of whose graphs can be exchanged for the same ones in bfloat16."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        plain = {key: value for key, value in bundle.manifest.items() if key != "precisions"}
        self.assessor = Assessor(Bundle(bundle.path, plain), runtime=RUNTIME, threads=threads)
        self.graphs = sorted(bundle.manifest["graphs"])
        self._half = {name: open_graph(bundle.graph(name), RUNTIME, threads, HALF) for name in self.graphs}

    @contextmanager
    def half(self, names: Sequence[str]) -> Iterator[None]:
        """Compute some graphs in bfloat16 for a while."""
        full = {name: self._put(name, self._half[name]) for name in names}
        try:
            yield
        finally:
            for name, run in full.items():
                self._put(name, run)

    def _put(self, name: str, run: Runner) -> Runner:
        assessor = self.assessor
        if name == FINDER:
            old, assessor._find.run = assessor._find.run, run
        elif name == "graded_regions":
            assert assessor._grade is not None
            old, assessor._grade._run = assessor._grade._run, run
        else:
            method, old = assessor._methods[name]
            assessor._methods[name] = (method, run)
        return old


def answer(assessor: Assessor, film: Film) -> tuple[Assessment | None, float]:
    """Return an assessment, or None of a refusal, and the seconds it took."""
    began = time.perf_counter()
    try:
        found = assessor.assess(film[0], sex=film[1])
    except InputError:
        found = None
    return found, time.perf_counter() - began


def compare(switched: Switched, films: Sequence[Film], names: Sequence[str]) -> Moved:
    """Return what some graphs in bfloat16 do to the answers for films."""
    moves, shares, otherwise = [], [], 0
    for film in films:
        full, full_s = answer(switched.assessor, film)
        with switched.half(names):
            half, half_s = answer(switched.assessor, film)
        shares.append(half_s / full_s)
        otherwise += (full is None) != (half is None)
        if full is not None and half is not None:
            moves.append(half.bone_age_months - full.bone_age_months)
    moved = np.array(moves)
    return Moved(
        float(np.abs(moved).mean()),
        float(np.abs(moved).max()),
        float(moved.mean()),
        otherwise,
        statistics.median(shares),
    )


def choose(switched: Switched, films: Sequence[Film], alone: Mapping[str, Moved]) -> tuple[list[str], Moved]:
    """Return the graphs that are allowed together, and what they do together."""
    allowed: list[str] = []
    together = Moved(0.0, 0.0, 0.0, 0, 1.0)
    for name in sorted(alone, key=lambda name: alone[name].mean):
        if alone[name].passes:
            more = compare(switched, films, [*allowed, name]) if allowed else alone[name]
            if more.passes:
                allowed, together = [*allowed, name], more
    return allowed, together


def line(name: str, moved: Moved) -> str:
    """Return a row of the table."""
    return (
        f"| {name} | {moved.mean:.3f} | {moved.most:.2f} | {moved.shift:+.3f} | {moved.refused_otherwise} "
        f"| {moved.time_share:.2f} | {'yes' if moved.passes else 'no'} |"
    )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--limit", type=int, default=100, help="images (default 100)")
    parser.add_argument("--bundle", type=Path, help="default: the shipped one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", type=Path, help="write what was measured, for `boneage bundle`")
    options = parser.parse_args()
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise SystemExit("this processor has no bfloat16: nothing can be measured here")
    bundle = Bundle.load(options.bundle)
    rows = [row for row in read_manifest(options.manifest) if row.sex is not None]
    films = [(read(row.path), row.sex) for row in rows[:: max(1, len(rows) // options.limit)]][
        : options.limit
    ]
    switched = Switched(bundle, options.threads)
    answer(switched.assessor, films[0])
    print(f"{bundle.name}, {len(films)} images, {RUNTIME}, {options.threads} threads\n")
    print("| in bfloat16 | mean move, months | most | shift | refused otherwise | time / float32 | allowed |")
    print("| --- | --: | --: | --: | --: | --: | --- |")
    alone = {}
    for name in switched.graphs:
        alone[name] = compare(switched, films, [name])
        print(line(name, alone[name]), flush=True)
    print(line("all", compare(switched, films, switched.graphs)), flush=True)
    allowed, together = choose(switched, films, alone)
    print(line(" + ".join(allowed) or "none", together))
    if options.save:
        names = [bundle.manifest["graphs"][name] for name in switched.graphs]
        found = {
            "measured": date.today().isoformat(),
            "openvino": openvino.__version__,
            "images": len(films),
            "graphs": {name: bundle.manifest["checksums"][name] for name in names},
            "alone_months": {name: round(moved.mean, 4) for name, moved in alone.items()},
            "allowed": {RUNTIME: allowed},
            "moved_months": round(together.mean, 4),
            "time_share": round(together.time_share, 3),
        }
        options.save.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
