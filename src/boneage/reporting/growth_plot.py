"""The growth plot: bone age against chronological age, over the bands of the reference that is named."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Assessment, Sex
from boneage.reporting.plots import svg
from boneage.reporting.tabular import years_and_months
from boneage.standards.growth import reference_sd
from boneage.standards.scoring import standard

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHOSE = {Sex.FEMALE: "girls", Sex.MALE: "boys"}

_INK, _SOFT = "#17212b", "#52606d"
_BANDS = ((2, "#e3e8ec", "--"), (1, "#c3ccd3", "-."))
"""Standard deviations, grey and line of a band's edges, the widest first: each tells bands apart."""

_MARKERS: Mapping[str, str] = {
    "rus_chn": "D", "tw3": "s", "chn": "^", "tw3_c_rus": "v", "chn_radius_subgraded": "P",
}  # fmt: skip
"""Standard -> the shape of a reader's age; the machine's is a circle."""

_YOUNG_YEARS, _YOUNG_TOP, _TOP = 6.0, 8.0, 20.0
"""Up to this age a narrower frame is drawn, since a small child's deviations are small; the frames' tops."""

_BESIDE = 1.15
"""From the line of the age to a reader's marker, and from that to the next, in letters."""

_WIDE, _TALL = 6.0, 3.4
"""Inches of the plot on the HTML page."""


@dataclass(frozen=True, slots=True, eq=False)
class GrowthChart:
    """What a growth plot shows, in years.

    Args:
        sex: whose reference it is.
        reference: what the reference is called.
        ages: (N,) ascending, the reference's chronological ages.
        deviations: (N,) its standard deviations at them.
        chronological: the child's age.
        bone_age: the machine's.
        interval: of the bone age.
        coverage: of the interval.
        read: standard -> bone age by a reader's grades.
    """

    sex: Sex
    reference: str
    ages: NDArray[np.float64]
    deviations: NDArray[np.float64]
    chronological: float
    bone_age: float
    interval: tuple[float, float]
    coverage: float
    read: Mapping[str, float] = field(default_factory=dict)

    @property
    def sd_score(self) -> float:
        """How many standard deviations the machine's bone age lies above the child's age."""
        deviation = float(np.interp(self.chronological, self.ages, self.deviations))
        return (self.bone_age - self.chronological) / deviation

    @property
    def frame(self) -> tuple[float, float]:
        """The ages at the plot's right and upper edges."""
        highest = max(self.bone_age, self.interval[1], *self.read.values())
        young = max(self.chronological, highest) <= _YOUNG_YEARS
        return (_YOUNG_YEARS, _YOUNG_TOP) if young else (float(self.ages[-1]), max(_TOP, math.ceil(highest)))


def growth_chart(assessment: Assessment) -> GrowthChart | None:
    """Return what the plot shows; None where the age is not known or the reference does not reach it."""
    age = assessment.chronological_age_months
    shown = (assessment.bone_age_months, *assessment.interval_months)
    if age is None or not all(map(math.isfinite, shown)):
        return None
    ages, deviations, reference = reference_sd(assessment.sex)
    if not ages[0] <= age <= ages[-1]:
        return None
    bone_age, low, high = (months / 12 for months in shown)
    return GrowthChart(
        sex=assessment.sex,
        reference=reference,
        ages=np.array(ages) / 12,
        deviations=np.array(deviations) / 12,
        chronological=age / 12,
        bone_age=bone_age,
        interval=(low, high),
        coverage=assessment.coverage,
        read={
            sheet.standard: sheet.age_months / 12
            for sheet in assessment.reading
            if sheet.age_months is not None
        },
    )


def draw_growth(axes: Axes, chart: GrowthChart, letters: float = 8.0) -> None:
    """Draw a growth plot.

    Args:
        axes: of a figure whose size is final; to their right is room for six letters.
        chart: what is shown.
        letters: size of the letters, in points.
    """
    right, top = chart.frame
    axes.set(xlim=(0, right), ylim=(0, top), xticks=_ticks(right), yticks=_ticks(top))
    axes.set_xlabel("chronological age (years)", size=letters, color=_SOFT, labelpad=2)
    axes.set_ylabel("bone age (years)", size=letters, color=_SOFT, labelpad=3)
    axes.tick_params(labelsize=letters, colors=_SOFT, length=2.5, pad=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(_SOFT)
    _draw_bands(axes, chart)
    _label_bands(axes, chart, letters)
    axes.axvline(chart.chronological, color=_SOFT, linewidth=0.7, linestyle=(0, (1, 2)))
    _draw_ages(axes, chart, letters)
    legend = axes.legend(
        loc=_free_corner(axes, chart, letters),
        fontsize=letters,
        labelcolor=_INK,
        edgecolor="none",
        framealpha=1.0,
        handletextpad=0.5,
        borderaxespad=0.2,
    )
    legend.set_zorder(4)


def growth_figure(assessment: Assessment) -> Iterator[str]:
    """Return the plot as a part of the HTML page; nothing where there is none to draw."""
    from matplotlib.figure import Figure

    chart = growth_chart(assessment)
    if chart is None:
        return
    figure = Figure(figsize=(_WIDE, _TALL), facecolor="white")
    draw_growth(figure.add_axes((0.085, 0.13, 0.81, 0.85)), chart)
    data = base64.b64encode(svg(figure)).decode("ascii")
    yield (
        f'<figure class="growth"><img alt="{escape(said(chart))}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption(chart))}</figcaption></figure>"
    )


def said(chart: GrowthChart) -> str:
    """Return in words what the plot shows, for those who cannot see it."""
    low, high = map(_age, chart.interval)
    read = ", ".join(f"{_title(name)} {_age(age)}" for name, age in chart.read.items())
    return (
        f"Growth plot: bone age {_age(chart.bone_age)} ({low} to {high}) at the age of "
        f"{_age(chart.chronological)}, {chart.sd_score:+.1f} SD of {_reference(chart)}"
        + (f"; by a reader's grades {read}" if read else "")
    )


def caption(chart: GrowthChart) -> str:
    """Return what the plot's marks mean, and whose its bands are."""
    read = " Open shapes beside the dotted line of the age: by a reader's grades." if chart.read else ""
    return (
        f"Bone age against chronological age. Bands: 1 and 2 SD around equality (solid line), by "
        f"{_reference(chart)}. Filled circle: the machine's bone age with its {chart.coverage:.0%} "
        f"interval.{read}"
    )


def short_caption(chart: GrowthChart) -> str:
    """Return whose the plot's bands are, where there is little room."""
    return f"Bands: 1 and 2 SD around equality, by {_reference(chart)}. Bar: {chart.coverage:.0%} interval."


def _draw_bands(axes: Axes, chart: GrowthChart) -> None:
    ages = chart.ages
    for count, grey, line in _BANDS:
        low, high = (ages + sign * count * chart.deviations for sign in (-1, 1))
        axes.fill_between(ages, low, high, color=grey, linewidth=0, zorder=0.5 - count / 10)
        for edge in (low, high):
            axes.plot(ages, edge, linestyle=line, color=_SOFT, linewidth=0.8, zorder=1)
    axes.plot(ages, ages, color=_SOFT, linewidth=1.1, zorder=1)


def _label_bands(axes: Axes, chart: GrowthChart, letters: float) -> None:
    """Name the bands' edges where they meet the right one; names that would touch are drawn apart."""
    right, top = chart.frame
    deviation = float(np.interp(right, chart.ages, chart.deviations))
    step = max(deviation, 1.2 * letters * top / _size_points(axes)[1])
    for count in (-2, -1, 0, 1, 2):
        axes.annotate(
            f"{count:+d} SD" if count else "equal",
            (right, right + count * deviation),
            xytext=(1.02, right + count * step),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            size=letters,
            color=_INK,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": _SOFT, "shrinkA": 0.5, "shrinkB": 0},
            annotation_clip=False,
        )


def _draw_ages(axes: Axes, chart: GrowthChart, letters: float) -> None:
    from matplotlib.transforms import offset_copy

    age = chart.chronological
    look: dict[str, Any] = {"color": _INK, "linestyle": "none", "markeredgewidth": 1.2, "zorder": 3}
    axes.plot((age, age), chart.interval, color=_INK, linewidth=1.4, marker="_", markersize=letters, zorder=3)
    label = f"machine: {_age(chart.bone_age)}"
    axes.plot(age, chart.bone_age, **look, marker="o", markersize=0.75 * letters, label=label)
    # Beside the line, where those of several standards at one age can be told apart; towards the middle.
    way = _BESIDE * letters * (1 if age < chart.frame[0] / 2 else -1)
    for place, (name, found) in enumerate(chart.read.items(), start=1):
        beside = offset_copy(axes.transData, axes.figure, x=way * place, units="points")  # type: ignore[arg-type]
        axes.plot(
            age, found, **look, marker=_MARKERS.get(name, "X"), markersize=0.75 * letters,
            markerfacecolor="white", transform=beside, clip_on=False,
            label=f"reader, {_title(name)}: {_age(found)}",
        )  # fmt: skip


def _free_corner(axes: Axes, chart: GrowthChart, letters: float) -> Literal["lower right", "upper left"]:
    """Return where the legend hides no mark: above the bands, or for a child far ahead below them."""
    labels = [str(label) for label in axes.get_legend_handles_labels()[1]]
    wide, tall = _size_points(axes)
    # A letter is about six tenths as wide as high; beside and between the lines is white space.
    right = letters * (0.6 * max(map(len, labels)) + 4 + _BESIDE * len(chart.read)) / wide
    bottom = 1 - letters * (1.5 * len(labels) + 1) / tall
    highest = max(chart.bone_age, chart.interval[1], *chart.read.values()) / chart.frame[1]
    return (
        "lower right" if chart.chronological / chart.frame[0] < right and highest > bottom else "upper left"
    )


def _size_points(axes: Axes) -> tuple[float, float]:
    """Return how wide and how high the axes are, in points."""
    box = axes.get_window_extent()
    scale = 72 / axes.figure.dpi
    return box.width * scale, box.height * scale


def _ticks(end: float) -> range:
    return range(0, int(end) + 1, 1 if end <= _YOUNG_TOP else 2)


def _age(years: float) -> str:
    return years_and_months(12 * years)


def _title(name: str) -> str:
    return standard(name).title


def _reference(chart: GrowthChart) -> str:
    return f"{chart.reference} ({WHOSE[chart.sex]})"
