"""Figures of grading: every bone's grade against age, and two methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.metrics.bootstrap import Interval
from boneage.reporting.plots import COLOURS, png

Ages = NDArray[np.float64]

MIN_IN_BIN = 3
"""Hands that a year of age needs for its mean to be drawn."""

_COLUMNS = 5


@dataclass(frozen=True, slots=True, eq=False)
class GradesByAge:
    """One bone's grades: ages in months and expected grades, (N,), each hand's sex, and the last grade."""

    ages: Ages
    grades: Ages
    sexes: Sequence[str]
    highest: int


def grade_curves_png(bones: Mapping[str, GradesByAge], title: str = "") -> bytes:
    """Return a panel a bone: expected grade of every hand against its age, and each year's mean by sex.

    Args:
        bones: readable name -> its grades.
        title: shown above the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(bones) // _COLUMNS)
    figure = Figure(figsize=(2.6 * _COLUMNS, 2.3 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True).ravel()
    for axes, (name, found) in zip(panels, bones.items(), strict=False):
        for sex, colour in COLOURS.items():
            chosen = np.array([text == sex for text in found.sexes], dtype=bool)
            years, grades = found.ages[chosen] / 12, found.grades[chosen]
            axes.plot(years, grades, ".", markersize=2.5, alpha=0.35, color=colour, markeredgewidth=0)
            axes.plot(*_yearly_means(years, grades), color=colour, linewidth=1.5, label=sex)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_ylim(-0.3, found.highest + 0.3)
        axes.grid(color="#e4eaef")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(bones) :]:
        axes.set_visible(False)
    panels[0].legend(loc="upper left", fontsize=8, framealpha=0.9, edgecolor="none")
    figure.supxlabel("reference bone age (years)", fontsize=9)
    figure.supylabel("expected grade", fontsize=9)
    return png(figure)


def _yearly_means(years: Ages, grades: Ages) -> tuple[Ages, Ages]:
    """Return the middle of every year that has enough hands, and their mean grade."""
    whole = np.floor(years).astype(int)
    present = [year for year in np.unique(whole) if (whole == year).sum() >= MIN_IN_BIN]
    means = [float(grades[whole == year].mean()) for year in present]
    return np.array(present, dtype=np.float64) + 0.5, np.array(means)


def side_by_side_png(
    measures: Mapping[str, Mapping[str, Sequence[Interval]]],
    groups: Sequence[str],
    printed: Mapping[str, Mapping[str, Sequence[float]]],
    title: str = "",
) -> bytes:
    """Return a panel a measure: bars by group and method with their intervals, and printed values as marks.

    Args:
        measures: measure's label -> method -> an interval a group.
        groups: labels along the axis.
        printed: measure's label -> method -> a paper's value a group; may be empty.
        title: shown above the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(measures), 4.0), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    for axes, (label, methods) in zip(panels, measures.items(), strict=True):
        width = 0.8 / len(methods)
        for number, (method, found) in enumerate(methods.items()):
            at = np.arange(len(groups)) + (number - (len(methods) - 1) / 2) * width
            middle = np.array([value.estimate for value in found])
            reach = [[v.estimate - v.low for v in found], [v.high - v.estimate for v in found]]
            axes.bar(at, middle, 0.9 * width, yerr=reach, capsize=3, color=_BARS[number], label=method)
            if method in printed.get(label, {}):
                name = "printed in the paper" if number == 0 else None
                axes.plot(at, printed[label][method], "kD", markersize=4, label=name)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylabel(label)
        axes.grid(axis="y", color="#e4eaef")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    return png(figure)


_BARS = ("#9fb3c2", "#0b5f8a", "#b3446c")
