"""The stress card: what changes of an image do to its bone age, as table, JSON and plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from boneage.imaging.stress import STRESSES, Strength, Stress, cell_of
from boneage.metrics.bootstrap import Interval
from boneage.metrics.paired_change import PairedChange
from boneage.reporting.plots import COLOURS, GRID, PLAIN, panels_figure, png
from boneage.reporting.tabular import markdown_table, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOLERATED_MONTHS = 0.5
"""By how much a realistic change may raise the MAE."""

HEAD = (
    "change",
    "strength",
    "realistic",
    "MAE change, months (95% interval)",
    "mean move of the age",
    "mean shift",
    "refused",
    "new warnings",
)
_MOST_SHOWN_MONTHS = 12.0
_REFUSED_COLOUR = COLOURS["female"]
_CHANGE_COLOUR = COLOURS["male"]


@dataclass(frozen=True, slots=True)
class StressCard:
    """What was measured.

    Args:
        title: of the card.
        images: that were drawn.
        refused_unchanged: of them, that are refused as they are; no figure has them.
        effects: cell, as `imaging.stress.cell_of` names it -> what it did.
        warnings: cell -> notice -> images that are read with it, but without it as they are.
        remarks: to be read first.
    """

    title: str
    images: int
    refused_unchanged: int
    effects: Mapping[str, PairedChange]
    warnings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def measured(card: StressCard) -> list[tuple[Stress, Strength, PairedChange]]:
    """Return every cell of the card, in the order of `STRESSES`."""
    cells = [(stress, strength) for stress in STRESSES for strength in stress.strengths]
    return [
        (stress, strength, card.effects[cell_of(stress, strength)])
        for stress, strength in cells
        if cell_of(stress, strength) in card.effects
    ]


def fragile(card: StressCard) -> list[tuple[str, PairedChange]]:
    """Return the realistic cells whose MAE rises by more than is tolerated among the images that are read."""
    return [
        (cell_of(stress, strength), effect)
        for stress, strength, effect in measured(card)
        if strength.realistic
        and effect.mae_change is not None
        and effect.mae_change.estimate > TOLERATED_MONTHS
    ]


def table_rows(card: StressCard) -> list[tuple[str, ...]]:
    """Return a row a cell, under `HEAD`."""
    return [
        (
            stress.name,
            strength.label,
            "yes" if strength.realistic else "no",
            "-" if effect.mae_change is None else _signed(effect.mae_change),
            "-" if effect.move is None else f"{effect.move.estimate:.2f}",
            "-" if effect.shift is None else f"{effect.shift.estimate:+.2f}",
            f"{effect.refused.estimate:.0%}",
            _notices(card.warnings.get(cell_of(stress, strength), {}), effect.images),
        )
        for stress, strength, effect in measured(card)
    ]


def _signed(value: Interval) -> str:
    return f"{value.estimate:+.2f} ({value.low:+.2f} to {value.high:+.2f})"


def _notices(counts: Mapping[str, int], images: int) -> str:
    """Return the notices that at least one image in twenty has newly."""
    told = [f"{code} {count / images:.0%}" for code, count in counts.items() if count >= 0.05 * images]
    return ", ".join(told) or "-"


def markdown(card: StressCard) -> str:
    """Return the card as a Markdown page, remarks first."""
    parts = [f"# {card.title}", *(f"> {remark}" for remark in card.remarks), told(card)]
    parts.append(markdown_table(HEAD, table_rows(card)))
    meanings = [f"- {stress.name}: {stress.meaning}" for stress in STRESSES]
    parts.append("## What the changes are\n\n" + "\n".join(meanings))
    return "\n\n".join(parts) + "\n"


def told(card: StressCard) -> str:
    """Return in words how many images were read, and what realistic change harms."""
    read = card.images - card.refused_unchanged
    text = (
        f"{read} of {card.images} images are read as they are; the figures are of these, each beside itself."
    )
    harmed = fragile(card)
    if not harmed:
        return f"{text} No realistic strength raises the MAE by more than {TOLERATED_MONTHS:g} months."
    names = "; ".join(
        f"{name} ({effect.mae_change.estimate:+.2f})" for name, effect in harmed if effect.mae_change
    )
    return f"{text} More than {TOLERATED_MONTHS:g} months of MAE, at a realistic strength: {names}."


def record(card: StressCard) -> dict[str, Any]:
    """Return the card in JSON's types."""
    cells = [
        {
            "change": stress.name,
            "strength": strength.value,
            "label": strength.label,
            "realistic": strength.realistic,
            **asdict(effect),
            "new_warnings": dict(card.warnings.get(cell_of(stress, strength), {})),
        }
        for stress, strength, effect in measured(card)
    ]
    whole: dict[str, Any] = plain(
        {
            "title": card.title,
            "remarks": card.remarks,
            "images": card.images,
            "refused_unchanged": card.refused_unchanged,
            "tolerated_months": TOLERATED_MONTHS,
            "cells": cells,
        }
    )
    return whole


def csv_text(card: StressCard) -> str:
    """Return the card as a CSV, a line a cell, numbers unrounded but for what no reader needs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("", "_low", "_high")
    figures = ("mae_change", "move", "shift", "refused")
    head = ["change", "strength", "label", "realistic", "images", "read"]
    writer.writerow([*head, *(figure + end for figure in figures for end in ends)])
    for stress, strength, effect in measured(card):
        values = [value for figure in figures for value in _ends(getattr(effect, figure))]
        known = [stress.name, f"{strength.value:g}", strength.label, str(strength.realistic).lower()]
        writer.writerow([*known, effect.images, effect.read, *values])
    return text.getvalue()


def _ends(value: Interval | None) -> tuple[str, str, str]:
    if value is None:
        return "", "", ""
    return f"{value.estimate:.4f}", f"{value.low:.4f}", f"{value.high:.4f}"


def stress_png(card: StressCard) -> bytes:
    """Return a panel a change: the MAE change with its interval as points, refusals as bars, by strength.

    Strengths that are not realistic are hollow; the dashed line is what is tolerated.
    """
    cells = measured(card)
    names = [stress.name for stress in STRESSES if any(stress is each for each, _, _ in cells)]
    figure, panels = panels_figure(names, 3.1, 2.9, card.title)
    highest = max((e.mae_change.estimate for _, _, e in cells if e.mae_change), default=1.0)
    lowest = min((e.mae_change.estimate for _, _, e in cells if e.mae_change), default=0.0)
    top = max(1.0, min(1.15 * highest, _MOST_SHOWN_MONTHS))
    bottom = min(-0.15 * top, max(1.15 * lowest, -0.5 * _MOST_SHOWN_MONTHS))
    for name, axes in panels.items():
        of_name = [(strength, effect) for stress, strength, effect in cells if stress.name == name]
        _draw(axes, of_name, bottom, top)
    figure.supylabel("change of the MAE (months): points", fontsize=9, color=_CHANGE_COLOUR)
    figure.text(
        1.0,
        0.5,
        "refused (%): bars",
        rotation=270,
        ha="right",
        va="center",
        fontsize=9,
        color=_REFUSED_COLOUR,
    )
    figure.set_layout_engine("constrained", rect=(0.0, 0.0, 0.98, 1.0))
    return png(figure)


def _draw(axes: Axes, cells: list[tuple[Strength, PairedChange]], bottom: float, top: float) -> None:
    behind = axes.twinx()
    behind.set_zorder(0)
    axes.set_zorder(1)
    axes.patch.set_visible(False)
    places = range(len(cells))
    shares = [100 * effect.refused.estimate for _, effect in cells]
    behind.bar(places, shares, width=0.7, color=_REFUSED_COLOUR, alpha=0.3, linewidth=0)
    behind.set_ylim(0, 100)
    behind.tick_params(labelsize=7, colors=_REFUSED_COLOUR)
    behind.spines[["top"]].set_visible(False)
    axes.axhline(0, color=PLAIN, linewidth=0.8)
    axes.axhline(TOLERATED_MONTHS, color=PLAIN, linewidth=0.8, linestyle="--")
    for place, (strength, effect) in zip(places, cells, strict=True):
        if effect.mae_change is None:
            continue
        value = effect.mae_change
        fill = _CHANGE_COLOUR if strength.realistic else "white"
        axes.plot([place, place], [value.low, value.high], color=_CHANGE_COLOUR, linewidth=1.2)
        if value.estimate > top:  # beyond the panel: an arrow and the number
            axes.annotate(
                f"{value.estimate:+.1f}", (place, 0.9 * top), ha="center", fontsize=8, color=_CHANGE_COLOUR
            )
            axes.plot(place, 0.85 * top, "^", color=_CHANGE_COLOUR, markerfacecolor=fill)
        else:
            axes.plot(place, value.estimate, "o", color=_CHANGE_COLOUR, markerfacecolor=fill)
    axes.set_xticks(
        list(places), [_short(strength.label) for strength, _ in cells], rotation=30, ha="right", fontsize=7
    )
    middle, half = (len(cells) - 1) / 2, max(len(cells) / 2, 1.5) + 0.1
    axes.set_xlim(middle - half, middle + half)
    axes.set_ylim(bottom, top)
    axes.grid(axis="y", color=GRID)


def _short(label: str) -> str:
    """Return a strength's label without the words that its panel's name says."""
    for words in (" degrees", " of full range", " of each side", "quality ", "SD "):
        label = label.replace(words, "\N{DEGREE SIGN}" if words == " degrees" else "")
    return label
