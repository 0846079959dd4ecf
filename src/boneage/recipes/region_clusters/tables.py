"""The report of `reproduce`: paper 2's tables beside those on the data given, and what it leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boneage.data.manifest import write_text_atomically
from boneage.recipes.region_clusters.config import PAPER_BEST, JoinConfig
from boneage.recipes.region_clusters.crops import REGIONS
from boneage.recipes.region_clusters.groups import age_classes, class_edges, class_names, dominating
from boneage.recipes.region_clusters.reproduce import (
    ALIGNED,
    CCAE,
    COMBINATIONS,
    EVERY,
    INTERVALS,
    PAPER,
    PIXELS,
    TITLES,
    VAE,
    group_counts,
)
from boneage.recipes.region_clusters.results import Outcome, group, held_out_positions, measure, order_of
from boneage.reporting.tabular import markdown_table
from boneage.training.config import as_tree

if TYPE_CHECKING:
    from boneage.recipes.region_clusters.reproduce import Study, Way
    from boneage.recipes.region_clusters.results import Grouping, Order

PRINTED_BEST = 76.15
"""Accuracy in percent of the best combination, 16 groups and 48 months (section 4.1)."""

PRINTED_COMBINATIONS = (72.08, 73.33, 76.15, 69.69, 49.48)
"""Table 2, in percent, in the order of `COMBINATIONS`."""

PRINTED_GROUPS = {
    4: (64.27, 98.25),
    8: (67.81, 67.18),
    16: (76.15, 35.7),
    24: (74.06, 28.0),
    32: (74.90, 28.22),
    64: (76.88, 17.38),
}
"""Table 3: groups -> accuracy in percent, and a mean absolute error whose definition is not printed."""

PRINTED_REGIONS = {
    "1": (47.81, 51.35),
    "2": (52.19, 58.13),
    "3": (42.71, 47.71),
    "4": (46.56, 49.58),
    "5": (51.04, 52.3),
    "6": (48.44, 46.04),
    "7": (46.25, 50.63),
    "8": (48.96, 57.50),
    "9": (40.52, 45.83),
    "10": (47.29, 51.15),
    "11": (50.10, 54.06),
    "12": (40.63, 41.04),
    "13": (43.65, 49.58),
    "14": (47.81, 52.29),
    "16": (58.02, 65.0),
    "17": (53.65, 61.77),
    "18": (44.90, 47.92),
    "19": (60.73, 65.42),
}
"""Table 4: region -> accuracy of the VAE and of the CCAE in percent; region 15 is not printed."""

Lines = list[tuple[str, ...]]


class Measurements:
    """Measures each way of grouping once, whatever tables and figures ask for it."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._group = cache(self._grouped)

    def of(self, way: Way, subset: str = PAPER, interval: int | None = None) -> Outcome:
        """Return what a way of grouping gives for a subset, at an interval in months or the recipe's."""
        config = way.groups
        if interval is not None:
            config = replace(config, interval_months=interval)
        # Groups do not depend on the interval, so ways that differ in it alone share theirs.
        grouping = self._group(way.encoding, way.join, replace(way.groups, interval_months=1), subset)
        return measure(self.study.sample(way.encoding, subset), grouping, config)

    def single(self, encoding: str, region: str, interval: int | None = None) -> Outcome:
        """Return what one region gives."""
        return self.of(self.way(encoding, (region,)), interval=interval)

    def way(self, encoding: str, regions: Sequence[str]) -> Way:
        """Return the way of one encoding with another combination."""
        own = self.study.ways[encoding]
        return replace(own, join=replace(own.join, regions=tuple(regions)))

    def _grouped(self, encoding: str, join: JoinConfig, config: Any, subset: str) -> Grouping:
        return group(self.study.sample(encoding, subset), join, config, self.study.recipe.schedule.seed)


def write_tables(out: Path, measured: Measurements) -> None:
    """Write `tables.md` and `tables.json` to a folder."""
    tree: dict[str, Any] = {"recipe": as_tree(measured.study.recipe)}
    sections = ["# Paper 2 on the data given", _head(measured.study)]
    for title, make in (
        (f"Best combination, {measured.study.recipe.groups.count} groups", _best),
        ("Table 1: the groups", _groups),
        ("Table 2: combinations of regions", _combinations),
        ("Table 3: number of groups", _numbers),
        ("Table 4 and Figure 7: single regions", _regions),
        ("Figure 8: numbers of hands", _sizes),
        ("A coordinate of maturity without a label", _coordinates),
        ("Regions that were masked", _masked),
    ):
        text, record = make(measured)
        sections += [f"## {title}", *text]
        tree[title] = record
    write_text_atomically(out / "tables.md", "\n\n".join(sections) + "\n")
    write_text_atomically(out / "tables.json", json.dumps(as_tree(tree), indent=2) + "\n")


def _head(study: Study) -> str:
    recipe, edges = study.recipe, class_edges(study.recipe.groups)
    classes = age_classes(study.hands.ages, edges)
    counts = {
        name: np.bincount(classes[hands], minlength=len(edges) - 1) for name, hands in study.subsets.items()
    }
    sizes = "; ".join(f"{name}, {' + '.join(map(str, own))} = {own.sum()}" for name, own in counts.items())
    return (
        f"Encoders learnt without labels from all {len(study.hands)} hands: views of {recipe.input.side} and "
        f"{recipe.input.wide_side} px ({', '.join(recipe.input.steps) or 'no steps'}), "
        "layers (kernel, channels, stride) "
        f"{', '.join(str(layer) for layer in recipe.network.layers)}, weight of the constraint "
        f"{recipe.network.weight:g}, {recipe.schedule.epochs} epochs. Groups are measured on hands of "
        f"{edges[0]:g} to {edges[-1]:g} months, by class: {sizes}. Unless said otherwise, figures are of the "
        "paper's balance (211 + 213 + 260 + 276 = 960).\n\n"
        "*same hands*: labels are read off the hands that they are applied to, as in the paper. *held out*: "
        f"groups and labels come from the other folds of {recipe.schedule.folds}. "
        "In parentheses, 95% intervals by bootstrap over the hands. *raw pixels, PCA* is the baseline."
    )


def _best(measured: Measurements) -> tuple[list[str], Any]:
    lines: Lines = [("the paper, 960 hands, same hands", "", "", f"{PRINTED_BEST}", "", "", "", "")]
    record = {}
    for subset, hands in measured.study.subsets.items():
        for name, way in measured.study.ways.items():
            outcome = measured.of(way, subset)
            rand, information = outcome.agreement()
            lines.append(
                (
                    way.title,
                    subset,
                    f"{hands.sum()}",
                    _percent(outcome.same),
                    _percent(outcome.held_out),
                    f"{outcome.held_out.mean_error:.1f}",
                    f"{rand:.2f}",
                    f"{information:.2f}",
                )
            )
            record[f"{name}, {subset}"] = _record(outcome)
    header = ("way", "hands", "n", "same hands %", "held out %", "MAE months", "ARI", "NMI")
    told = (
        f"Regions {', '.join(measured.study.recipe.join.regions)}; where regions agree, all 19. MAE: of the "
        "group's median age, held out. ARI and NMI compare the groups themselves with the classes."
    )
    return [told, markdown_table(header, lines)], record


def _groups(measured: Measurements) -> tuple[list[str], Any]:
    text, record = [], {}
    for name in (CCAE, "agreed_by_sex"):
        way = measured.study.ways[name]
        table = measured.of(way).table
        names = class_names(class_edges(way.groups))
        lines: Lines = []
        for number, (row, best) in enumerate(zip(table, dominating(table), strict=True)):
            share = f"{100 * row.max() / row.sum():.1f}" if row.sum() else ""
            lines.append(
                (f"{number}", *(f"{count}" for count in row), names[best] if row.sum() else "", share)
            )
        text += [f"{way.title}:", markdown_table(("group", *names, "dominating", "accuracy %"), lines)]
        record[name] = table.tolist()
    return text, record


def _combinations(measured: Measurements) -> tuple[list[str], Any]:
    lines, record = [], {}
    printed: Iterable[float | None] = (*PRINTED_COMBINATIONS, None)
    for regions, paper in zip((*COMBINATIONS, REGIONS), printed, strict=True):
        cells = []
        for encoding in (CCAE, VAE, PIXELS, ALIGNED):
            outcome = measured.of(measured.way(encoding, regions))
            cells.append(_both(outcome))
            record[f"{encoding}, {' '.join(regions)}"] = _record(outcome)
        told = "all 19" if regions == REGIONS else ", ".join(regions)
        lines.append((told, "" if paper is None else f"{paper}", *cells))
    header = ("regions", "paper", *(TITLES[name] for name in (CCAE, VAE, PIXELS, ALIGNED)))
    return [_told_accuracy(measured), markdown_table(header, lines)], record


def _numbers(measured: Measurements) -> tuple[list[str], Any]:
    lines, record = [], {}
    names = (CCAE, PIXELS, ALIGNED, "agreed_by_sex")
    for count in group_counts(int(measured.study.subsets[PAPER].sum())):
        cells = []
        for name in names:
            way = measured.study.ways[name]
            outcome = measured.of(replace(way, groups=replace(way.groups, count=count)))
            cells.append(
                f"{_both(outcome)}; {outcome.same.mean_error:.1f} / {outcome.held_out.mean_error:.1f}"
            )
            record[f"{name}, {count}"] = _record(outcome)
        accuracy, error = PRINTED_GROUPS[count]
        lines.append((f"{count}", f"{accuracy}; {error}", *cells))
    told = (
        f"{_told_accuracy(measured)} After it the MAE in months of the group's median age, likewise. The "
        "paper does not say what its MAE is of: 98 months with four groups is more than any of these."
    )
    header = ("groups", "paper", *(measured.study.ways[name].title for name in names))
    return [told, markdown_table(header, lines)], record


def _regions(measured: Measurements) -> tuple[list[str], Any]:
    lines, record = [], {}
    for region in REGIONS:
        paper = PRINTED_REGIONS.get(region)
        cells = []
        for encoding in (VAE, CCAE, PIXELS, ALIGNED):
            outcome = measured.single(encoding, region)
            cells.append(_both(outcome))
            record[f"{encoding}, {region}"] = _record(outcome)
        for interval in INTERVALS[:-1]:
            outcome = measured.single(CCAE, region, interval)
            cells.append(_both(outcome))
            record[f"{CCAE}, {region}, {interval}"] = _record(outcome)
        told = ("", "") if paper is None else (f"{paper[0]}", f"{paper[1]}")
        lines.append((region, *told, *cells))
    header = (
        "region",
        "paper's VAE",
        "paper's CCAE",
        *(TITLES[name] for name in (VAE, CCAE, PIXELS, ALIGNED)),
    )
    header += tuple(f"CCAE, {interval} months" for interval in INTERVALS[:-1])
    ahead = sum(
        record[f"{CCAE}, {region}"]["held_out"]["accuracy"]["estimate"]
        > record[f"{VAE}, {region}"]["held_out"]["accuracy"]["estimate"]
        for region in REGIONS
    )
    told_ahead = f"Held out, the CCAE is ahead of the VAE in {ahead} of {len(REGIONS)} regions."
    text = [
        _told_accuracy(measured),
        markdown_table(header, lines),
        told_ahead,
    ]
    return text, record


def by_size(measured: Measurements) -> dict[str, dict[int, Outcome]]:
    """Return, for growing numbers of hands, what the best combination gives by the number of groups."""
    way = measured.study.ways[CCAE]
    found = {
        name: {
            count: measured.of(replace(way, groups=replace(way.groups, count=count)), name)
            for count in group_counts(int(hands.sum()))
        }
        for name, hands in measured.study.sizes.items()
    }
    return {name: own for name, own in found.items() if own}


def _sizes(measured: Measurements) -> tuple[list[str], Any]:
    found = by_size(measured)
    counts = sorted({count for own in found.values() for count in own})
    lines = [
        (name, *(_both(own[count]) if count in own else "" for count in counts))
        for name, own in found.items()
    ]
    record = {
        f"{name}, {count}": _record(outcome) for name, own in found.items() for count, outcome in own.items()
    }
    told = f"{TITLES[CCAE]}, the paper's best combination, by number of groups. {_told_accuracy(measured)}"
    return [told, markdown_table(("hands", *map(str, counts)), lines)], record


def _coordinates(measured: Measurements) -> tuple[list[str], Any]:
    lines, record = [], {}
    study = measured.study
    for encoding in TITLES:
        for regions in (("19",), PAPER_BEST, REGIONS):
            join = replace(study.recipe.join, regions=regions)
            sample = study.sample(encoding, EVERY)
            positions, correlation = held_out_positions(sample, join)
            order = order_of(positions, sample.ages, sample.sexes)
            told = "all 19" if regions == REGIONS else ", ".join(regions)
            lines.append((TITLES[encoding], told, f"{correlation:.2f}", *_orders(order)))
            record[f"{encoding}, {told}"] = {"agreement": correlation, "spearman": asdict(order)}
    told_rows = (
        "The direction in which the regions of a hand agree most (of one region, its first principal "
        "component), learnt from the other folds' hands; which end is mature is told by contours. Regions' "
        "agreement is their mean correlation, Spearman's correlation is with the bone age; both are of "
        "held-out hands."
    )
    header = ("encoding", "regions", "regions' agreement", "girls", "boys", "all")
    return [told_rows, markdown_table(header, lines)], record


def _masked(measured: Measurements) -> tuple[list[str], Any]:
    counts: Mapping[str, dict[str, int]] = {
        name: {region: int((~np.isfinite(own[:, 0])).sum()) for region, own in sample.latents.items()}
        for name, sample in measured.study.samples.items()
    }
    lines = [
        (TITLES[name], ", ".join(f"{region}: {count}" for region, count in own.items() if count) or "none")
        for name, own in counts.items()
    ]
    told = (
        "Hands that do not show a region, or whose region cannot be laid over the mean one: they take no "
        "part in learning it, and are grouped by their other regions."
    )
    return [told, markdown_table(("encoding", "region: hands"), lines)], counts


def _orders(order: Order) -> tuple[str, ...]:
    return tuple("" if told is None else f"{told}" for told in (order.girls, order.boys, order.every))


def _told_accuracy(measured: Measurements) -> str:
    interval = measured.study.recipe.groups.interval_months
    return f"Accuracy in percent at {interval} months: same hands / held out."


def _both(outcome: Outcome) -> str:
    return f"{100 * outcome.same.accuracy.estimate:.1f} / {100 * outcome.held_out.accuracy.estimate:.1f}"


def _percent(read: Any) -> str:
    found = read.accuracy
    return f"{100 * found.estimate:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _record(outcome: Outcome) -> dict[str, Any]:
    rand, information = outcome.agreement()
    return {
        "same": {"accuracy": asdict(outcome.same.accuracy), "mae_months": outcome.same.mean_error},
        "held_out": {
            "accuracy": asdict(outcome.held_out.accuracy),
            "mae_months": outcome.held_out.mean_error,
        },
        "adjusted_rand": rand,
        "normalised_mutual_information": information,
    }
