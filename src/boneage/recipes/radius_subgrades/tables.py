"""The report of `reproduce`: paper 1's tables beside those on the data given, and what it leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boneage.data.manifest import write_text_atomically
from boneage.metrics.bootstrap import Interval
from boneage.recipes.radius_subgrades.config import Recipe
from boneage.recipes.radius_subgrades.errors import accuracy, age_by_radius, age_by_standard, table_4
from boneage.recipes.radius_subgrades.results import order_of_ages, within_grades
from boneage.reporting.tabular import markdown_table
from boneage.standards.subgraded import subgrade_name
from boneage.training.config import as_tree

if TYPE_CHECKING:
    from boneage.recipes.radius_subgrades.reproduce import Source

PRINTED_SCORES = {"5_5": {"male": 65, "female": 63}, "6_5": {"male": 79, "female": 74}}
"""Table III."""

PRINTED_TABLE_4 = {"before subdivision": (5632, 5.632, 1.69), "after subdivision": (1233, 1.233, 0.37)}
"""Table 4: sum of differences, mean error score, months; of 1000 children."""

PRINTED_ACCURACY = {"whole": 87.0, "divided": 83.0}
"""Recognition in percent, section IV.B."""

RUN_TITLES = {"clusters": "the paper's clusters", "axis": "clusters along the grade axis"}
Lines = list[tuple[str, ...]]


def write_tables(out: Path, recipe: Recipe, sources: Sequence[Source]) -> None:
    """Write `tables.md` and `tables.json` to a folder."""
    sections = ["# Paper 1 on the data given", _head(recipe)]
    tree: dict[str, Any] = {"recipe": as_tree(recipe), "sources": {}}
    for source in sources:
        text, record = _source(source)
        sections += [f"## {source.title[0].upper()}{source.title[1:]}", *text]
        tree["sources"][source.folder.name] = record
    write_text_atomically(out / "tables.md", "\n\n".join(sections) + "\n")
    write_text_atomically(out / "tables.json", json.dumps(as_tree(tree), indent=2) + "\n")


def _head(recipe: Recipe) -> str:
    schedule = recipe.schedule
    return (
        f"Views of {recipe.input.side} px{', laid over the mean radius' if recipe.input.align else ''}, "
        f"contrast {recipe.input.contrast}; features_num {recipe.network.features}, "
        f"{recipe.clustering.clusters} clusters a pair of grades, lambda {recipe.clustering.weight:g}, "
        f"{schedule.pretrain_epochs} + {schedule.epochs} epochs, {schedule.folds} folds, seed "
        f"{schedule.seed}. Every crop is named by models that learnt from the other folds. Brackets are 95% "
        "bootstrap intervals; differences are paired. The paper's figures are of its own crops and graders."
    )


def _source(source: Source) -> tuple[list[str], dict[str, Any]]:
    """Return the sections of one source of grades, and the same as a tree."""
    grades = source.crops.grades
    counts = {f"grade {grade}": int((grades == grade).sum()) for grade in np.unique(grades)}
    told = ", ".join(f"{count} of {name}" for name, count in counts.items())
    features = _features_table(source.features)
    made = (
        " The grades are windows of the bone ages themselves: errors in months would favour them, and are "
        "left out; within a window the ages still say whether sub-grades order them."
    )
    sections = [
        f"{len(source.crops)} radii: {told}.{made if source.of_ages else ''}",
        "### features_num and seeds\n\n" + features,
    ]
    record: dict[str, Any] = {"crops": counts, "features": list(source.features), "runs": {}}
    whole = accuracy(source.recognised["whole"], source.crops.grades.astype(float))
    for run, held in source.runs.items():
        summary = json.loads((source.folder / run / "subgrades.json").read_text())
        folds = [
            json.loads(path.read_text())
            for path in sorted((source.folder / run).glob("fold*/subgrades.json"))
        ]
        recognised = source.recognised.get(run)
        divided = None if recognised is None else accuracy(recognised, held.subgrades)
        points, gain = (
            ([], None) if recognised is None else table_4(held, source.recognised["whole"], recognised)
        )
        order, within = order_of_ages(held), within_grades(held)
        radius = [] if source.of_ages else age_by_radius(held)
        months = [*radius, *age_by_standard(held, source.bones)]
        sections += [
            f"### {RUN_TITLES[run][0].upper()}{RUN_TITLES[run][1:]}",
            _evidence_table(summary, folds),
            _score_table(summary),
            _recognition_table(whole, divided),
            _table_4(points, gain),
            order_table(order),
            within_table(within),
            months_table(months),
        ]
        record["runs"][run] = {
            "all": summary,
            "folds": folds,
            "recognition": {"whole": whole, "divided": divided},
            "table_4": points,
            "table_4_difference": gain,
            "order": order,
            "within": within,
            "months": months,
        }
    return [section for section in sections if section], record


def _features_table(records: Iterable[Mapping[str, Any]]) -> str:
    lines: Lines = []
    for record in records:
        seeds = record["seeds"]
        lines.append(
            (
                "-".join(map(str, record["grades"])),
                str(record["features"]),
                _range(seed["largest_share"] * 100 for seed in seeds),
                _range((seed["silhouette"] for seed in seeds), 3),
                f"{record['stability']:.2f}",
                f"{sum(bool(seed['failure']) for seed in seeds)} of {len(seeds)}",
                f"{sum(not seed['refusal'] for seed in seeds)} of {len(seeds)}",
            )
        )
    head = (
        "grades",
        "features",
        "largest cluster %",
        "silhouette",
        "ARI of seeds",
        "failed",
        "sub-grade named",
    )
    return "The paper's clusters of all crops, by seed (Figures 4 to 7).\n\n" + markdown_table(head, lines)


def _range(values: Iterable[float], digits: int = 0) -> str:
    found = list(values)
    low, high = f"{min(found):.{digits}f}", f"{max(found):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _evidence_table(summary: Mapping[str, Any], folds: Sequence[Mapping[str, Any]]) -> str:
    lines: Lines = []
    for index, pair in enumerate(summary["evidence"]):
        named = sum(not fold["evidence"][index]["refusal"] for fold in folds)
        lines.append(
            (
                "-".join(map(str, pair["grades"])),
                str(pair["components"]),
                ", ".join(map(str, pair["sizes"])),
                ", ".join(f"{way:.2f}" for way in pair["ways"]),
                ", ".join(f"{100 * share:.0f}" for share in pair["shares"]),
                ", ".join(f"{age:+.1f}" for age in pair["ages"]) or "unknown",
                f"{pair['silhouette']:.2f}",
                pair["refusal"] or "named",
                f"{named} of {len(folds)}",
            )
        )
    head = (
        "grades",
        "k",
        "crops by cluster",
        "position",
        "higher grade %",
        "bone age, months from the sex's mean",
        "silhouette",
        "verdict",
        "folds that name it",
    )
    return "What speaks for the clusters, of all crops.\n\n" + markdown_table(head, lines)


def _score_table(summary: Mapping[str, Any]) -> str:
    lines: Lines = []
    for name, way in summary["ways"].items():
        for sex in ("male", "female"):
            lines.append(
                (
                    name,
                    sex,
                    str(PRINTED_SCORES.get(name, {}).get(sex, "")),
                    *(
                        f"{summary['scores'][reading][sex][name]:.1f}"
                        for reading in ("paper", "geometric", "shuffled")
                    ),
                    *(_told(Interval(**way[reading])) for reading in ("paper", "geometric", "shuffled")),
                    str(way["images"]),
                )
            )
    if not lines:
        return ""
    readings = ("equation 10", "geometric", "shuffled levels")
    ways = ("way, equation 10", "way, geometric", "way, shuffled", "images a level")
    head = ("sub-grade", "sex", "Table III", *readings, *ways)
    return (
        "Scores (equations 9 and 10), and how far between its neighbours a sub-grade lies: 0 the lower, 1 "
        "the higher. `shuffled levels` deals the images out at random: what equation 10 gives where it knows "
        "nothing.\n\n" + markdown_table(head, lines)
    )


def _recognition_table(whole: Interval | None, divided: Interval | None) -> str:
    if whole is None or divided is None:
        return ""
    lines: Lines = [
        ("before subdivision", _told(_percent(whole), 1), f"{PRINTED_ACCURACY['whole']:.0f}"),
        ("after subdivision", _told(_percent(divided), 1), f"{PRINTED_ACCURACY['divided']:.0f}"),
    ]
    return "Grade recognition, held-out crops.\n\n" + markdown_table(("", "accuracy %", "paper"), lines)


def _table_4(points: Sequence[Any], gain: Interval | None) -> str:
    if gain is None:
        return ""
    lines: Lines = []
    for row in points:
        printed = PRINTED_TABLE_4.get(row.what)
        lines.append(
            (
                row.what,
                str(row.hands),
                f"{row.total:.0f}",
                _told(row.points),
                _told(row.months),
                "" if row.by_curve is None else _told(row.by_curve),
                "" if printed is None else " / ".join(map(str, printed)),
            )
        )
    head = (
        "",
        "cases",
        "sum of differences",
        "mean error score",
        "months (0.3 a point)",
        "months by the curve",
        "paper",
    )
    return (
        "Table 4, held-out cases: errors of recognised grades in points.\n\n"
        + markdown_table(head, lines)
        + f"\nAfter less before: {_told(gain)} points a case. The true score is another one before and "
        "after, so that a lower row says that recognition misses by less, not that ages are nearer to a "
        "reader's."
    )


def order_table(rows: Sequence[Any]) -> str:
    """Return the rows of `results.order_of_ages` as a table, empty where there are none."""
    if not rows:
        return ""
    lines: Lines = [
        (
            str(row.sex),
            subgrade_name(row.subgrade),
            str(row.hands),
            _told(row.mean, 1),
            "" if row.step is None else _told(row.step, 1),
            "" if row.by_chance is None else _told(row.by_chance, 1),
        )
        for row in rows
    ]
    head = ("sex", "sub-grade", "hands", "mean bone age, months", "above the one before", "by chance")
    return (
        "Held-out bone ages by sub-grade. `by chance`: the step where sub-grades are dealt out at random "
        "among the hands of each whole grade; one that mixes two grades lies between them anyway.\n\n"
        + markdown_table(head, lines)
    )


def within_table(rows: Sequence[Any]) -> str:
    """Return the rows of `results.within_grades` as a table, empty where there are none."""
    if not rows:
        return ""
    lines: Lines = [
        (
            str(row.sex),
            str(row.grade),
            str(row.hands),
            "one sub-grade" if row.subgrade is None else _told(row.subgrade),
            "; ".join(f"{pair.replace('_', '-')}: {_told(found)}" for pair, found in row.positions.items()),
        )
        for row in rows
    ]
    head = ("sex", "whole grade", "hands", "Spearman of the sub-grade", "of the position on the axis")
    return "Held-out bone ages within one whole grade.\n\n" + markdown_table(head, lines)


def months_table(rows: Sequence[Any]) -> str:
    """Return the rows of `errors.age_by_radius` and `age_by_standard` as a table, empty without any."""
    if not rows:
        return ""
    lines: Lines = [
        (row.what, str(row.hands), _told(row.whole), _told(row.divided), _told(row.difference))
        for row in rows
    ]
    head = ("age of", "hands", "whole grades", "sub-grades", "difference")
    return (
        "Mean absolute error in months against the reference reading, held-out hands.\n\n"
        + markdown_table(head, lines)
    )


def _percent(interval: Interval) -> Interval:
    return Interval(*(100 * value for value in (interval.estimate, interval.low, interval.high)))


def _told(interval: Interval, digits: int = 2) -> str:
    low, high = f"{interval.low:.{digits}f}", f"{interval.high:.{digits}f}"
    return f"{interval.estimate:.{digits}f} ({low} to {high})"
