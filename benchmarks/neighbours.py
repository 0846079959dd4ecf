"""How well a bundle's label-free groups tell held-out bone ages, and what `--explain neighbours` costs.

Groups, positions and typical ages come from the bundle's own table: every hand's by encoders, groups and
labels that had not seen it.

    python benchmarks/neighbours.py
    python benchmarks/neighbours.py --time manifest.csv --limit 40
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from boneage import Assessor, Bundle
from boneage.core.errors import InputError
from boneage.data.manifest import read_manifest
from boneage.imaging.read import read
from boneage.inference.neighbours import CLUSTERS
from boneage.metrics.bootstrap import bootstrap_interval, mean_absolute, rank_correlation
from boneage.recipes.region_clusters.results import PAPER_CLASSES

BANDS = (0, 72, 120, 168, 300)
"""Borders of the age bands in months."""


def of_held_out(bundle: Bundle) -> None:
    """Print accuracy, error and order of held-out hands."""
    with (bundle.path / f"{CLUSTERS}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ages, positions, typical = (
        np.array([float(row[name] or "nan") for row in rows])
        for name in ("bone_age_months", "position", "typical_months")
    )
    classed = [row for row in rows if row["class"]]
    right = np.array([row["class"] == row["predicted_class"] for row in classed])
    of_class = defaultdict(list)
    for row, hit in zip(classed, right, strict=True):
        of_class[row["class"]].append(bool(hit))
    recalls = [np.mean(of_class[name]) for name in sorted(of_class, key=lambda name: int(name.split("-")[0]))]
    print(f"class of 48 months, {len(right)} hands: {bootstrap_interval(100.0 * right)} %")
    print("  by class: " + ", ".join(f"{100 * recall:.1f}" for recall in recalls))
    print(f"  weighted as the paper's hands: {100 * np.average(recalls, weights=PAPER_CLASSES):.1f}")
    girls = np.array([row["sex"] == "female" for row in rows])
    known = np.isfinite(positions) & np.isfinite(typical)
    bands = [(f"{low} to {high}", (ages >= low) & (ages < high)) for low, high in pairwise(BANDS)]
    print("months       sex     hands  Spearman of the position  MAE of the typical age")
    for name, band in (*bands, ("all", np.ones(len(ages), dtype=bool))):
        for sex, own in (("girls", girls), ("boys", ~girls), ("both", np.ones(len(ages), dtype=bool))):
            mine = band & own & known
            order = bootstrap_interval(np.column_stack([positions[mine], ages[mine]]), rank_correlation)
            error = bootstrap_interval(typical[mine] - ages[mine], mean_absolute)
            print(f"{name:11}  {sex:6}  {mine.sum():5}  {order!s:24}  {error}")


def time_stages(bundle: Bundle, manifest: Path, limit: int) -> None:
    """Print what neighbours take of an assessment."""
    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def watch(stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent[stage] += time.perf_counter() - start

    assessor = Assessor(bundle, watch=watch, neighbours=True)
    rows = [row for row in read_manifest(manifest) if row.sex is not None][: limit + 1]
    total, count = 0.0, 0
    for number, row in enumerate(rows):
        radiograph = read(row.path)
        start = time.perf_counter()
        try:
            assessor.assess(radiograph, sex=row.sex)
        except InputError:
            continue
        if number == 0:  # the first one warms up
            spent.clear()
            continue
        total, count = total + time.perf_counter() - start, count + 1
    share = spent["neighbours"] / total
    print(f"{count} images: {1000 * total / count:.0f} ms an assessment, neighbours {100 * share:.0f}% of it")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="another one than the shipped")
    parser.add_argument("--time", type=Path, metavar="MANIFEST", help="assess images and time the stage")
    parser.add_argument("--limit", type=int, default=40, help="images that are timed")
    given = parser.parse_args()
    bundle = Bundle.load(given.bundle)
    if given.time is None:
        of_held_out(bundle)
    else:
        time_stages(bundle, given.time, given.limit)


if __name__ == "__main__":
    main()
