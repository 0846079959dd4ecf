"""How often a bundle's out-of-fold ages lie in the right one of paper 5's intervals.

python benchmarks/intervals.py [BUNDLE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from boneage.inference.bundle import Bundle
from boneage.inference.out_of_fold import read_oof
from boneage.metrics.bootstrap import bootstrap_interval, mean
from boneage.recipes.age_intervals.intervals import IntervalsConfig, make_intervals

COUNTS = (3, 5, 10)


def main() -> None:
    """Print a row for the answer and for every method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", help="a bundle's folder; the shipped one if absent")
    bundle = Bundle.load(parser.parse_args().bundle)
    table = bundle.path / "oof.csv"
    print(f"{bundle.name}: out-of-fold ages in the right interval, percent (95%)\n")
    print(f"| age by | {' | '.join(f'{count} intervals' for count in COUNTS)} |")
    print("|---|---|---|---|")
    for name, column in {"answer": "prediction", **{n: n for n in bundle.manifest["methods"]}}.items():
        oof = read_oof(table, column)
        cells = []
        for count in COUNTS:
            intervals = make_intervals(IntervalsConfig("cut", count), oof.truth)
            right = intervals.nearest(oof.predicted) == intervals.classes(oof.truth)
            share = bootstrap_interval(100.0 * np.asarray(right, dtype=np.float64), mean)
            cells.append(f"{share.estimate:.1f} ({share.low:.1f} to {share.high:.1f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
