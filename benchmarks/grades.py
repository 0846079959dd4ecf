"""How well a run of `graded_regions` grades: ages by standard, agreement with graded crops, order in age.

    python benchmarks/grades.py RUN [--plot curves.png]

All figures are of hands and crops that the grading network had not seen.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.metrics.bootstrap import bootstrap_interval, mean_absolute
from boneage.recipes.graded_regions.prior import BONES, STANDARDS, scores_of
from boneage.recipes.graded_regions.reproduce import grade_curves
from boneage.reporting.grade_plots import grade_curves_png
from boneage.standards.names import CARPALS, RUS

Vector = NDArray[np.float64]


def main() -> None:
    """Print the tables, and draw the curves where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a graded_regions run")
    parser.add_argument("--plot", type=Path, help="PNG of the grades by age")
    arguments = parser.parse_args()
    hands, grades = lines(arguments.run / "oof.csv"), lines(arguments.run / "oof_grades.csv")
    print_ages(hands, grades)
    print_order(hands, grades)
    print_anchors([line for path in sorted(arguments.run.glob("fold*/anchors.csv")) for line in lines(path)])
    if arguments.plot:
        arguments.plot.write_bytes(grade_curves_png(grade_curves(arguments.run), "Grades of held-out hands"))


def lines(path: Path) -> list[dict[str, str]]:
    """Return a CSV's lines."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def print_ages(hands: list[dict[str, str]], grades: list[dict[str, str]]) -> None:
    """Print the error of every standard's age: of expected scores, and of the most probable whole grades."""
    whole = whole_ages(hands, grades)
    truth = np.array([float(hand["bone_age_months"]) for hand in hands])
    sexes = np.array([hand["sex"] for hand in hands])
    print("| age | hands | MAE months (95%) | bias | girls | boys | within 12 months |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in STANDARDS:
        for kind, ages in (("expected score", column(hands, name)), ("whole grades", whole[name])):
            off = ages - truth
            print(
                f"| {name}, {kind} | {len(off)} | {bootstrap_interval(off, mean_absolute)} "
                f"| {off.mean():+.2f} | {np.abs(off[sexes == 'female']).mean():.2f} "
                f"| {np.abs(off[sexes == 'male']).mean():.2f} | {np.mean(np.abs(off) <= 12):.1%} |"
            )


def whole_ages(hands: list[dict[str, str]], grades: list[dict[str, str]]) -> dict[str, Vector]:
    """Return every hand's age by the scores of its most probable grades, by standard."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for line in grades:
        found[line["id"]][line["bone"]] = int(line["grade"])
    ages: dict[str, list[float]] = {name: [] for name in STANDARDS}
    for name in STANDARDS:
        scores = scores_of(name)
        for hand in hands:
            sex = next(sex for sex in scores.table if sex == hand["sex"])
            table = scores.table[sex]
            total = sum(table[row, found[hand["id"]][bone]] for row, bone in enumerate(BONES))
            ages[name].append(float(np.interp(total, *scores.curve[sex])))
    return {name: np.array(values) for name, values in ages.items()}


def print_order(hands: list[dict[str, str]], grades: list[dict[str, str]]) -> None:
    """Print how each bone's expected grade goes with the bone age (Spearman), by sex."""
    age = {hand["id"]: (float(hand["bone_age_months"]), hand["sex"]) for hand in hands}
    print("\n| bone | girls | boys | mean confidence |\n|---|--:|--:|--:|")
    for bone in (*RUS, *CARPALS):
        mine = [line for line in grades if line["bone"] == bone]
        cells = []
        for sex in ("female", "male"):
            pairs = [
                (age[line["id"]][0], float(line["expected_grade"]))
                for line in mine
                if age[line["id"]][1] == sex
            ]
            cells.append(f"{spearman(*np.array(pairs).T):.3f}")
        sure = np.mean([float(line["confidence"]) for line in mine])
        print(f"| {bone} | {' | '.join(cells)} | {sure:.0%} |")


def print_anchors(crops: list[dict[str, str]]) -> None:
    """Print the agreement with graded crops of hands that the grading network never saw."""
    if not crops:
        return
    off = np.array([int(crop["predicted"]) - int(crop["grade"]) for crop in crops])
    print("\n| graded crops | exact | within one grade | mean difference |\n|---|--:|--:|--:|")
    for hand in sorted({crop["hand"] for crop in crops}):
        here = np.array([crop["hand"] == hand for crop in crops])
        print(agreement(f"hand {hand}", off[here]))
    print(agreement("all", off))


def agreement(name: str, off: NDArray[np.int64]) -> str:
    """Return a line of the table of agreement."""
    exact, near = np.mean(off == 0), np.mean(np.abs(off) <= 1)
    return f"| {name} ({len(off)}) | {exact:.0%} | {near:.0%} | {off.mean():+.2f} |"


def column(rows: list[dict[str, str]], name: str) -> Vector:
    """Return a column as numbers."""
    return np.array([float(row[name]) for row in rows])


def spearman(one: Vector, other: Vector) -> float:
    """Return the rank correlation, ties by their mean rank."""
    ranks = [np.array([np.mean(np.flatnonzero(np.sort(v) == x)) for x in v]) for v in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
    main()
