"""Figures of sub-grades: clusters of features, counts of grades, ages by sub-grade, and mean images.

Series differ in marker or hatch, and in lightness, besides colour, so that they can be told apart in black
and white.

Source: paper 1, section IV, figures 4 to 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.metrics.bootstrap import Interval, bootstrap_interval
from boneage.reporting.plots import (
    GRID,
    PLAIN,
    Ages,
    expect_image,
    expect_some,
    finite,
    panels_figure,
    png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LAYERS = 12
"""In which a panel's points are drawn; a label that is on top in each still hides little of the others."""
_RARE = 0.05
"""Share of the points below which a label is drawn last."""
_COLOURS = ("#0a3d62", "#e0a526", "#b9487d", "#8fb8d0", "#4c8c4a", "#111111", "#b79bd6", "#e07a5f")
_POINTS = tuple(zip(_COLOURS, "o^sDvPX*", strict=True))
_FACES = ("#dfe7ee", "#0b5f8a", "#e9a8c0", "#f3d58a", "#a9c4a4")
_BARS: tuple[dict[str, Any], ...] = tuple(
    {"facecolor": face, "hatch": hatch, "edgecolor": PLAIN, "linewidth": 0.7}
    for face, hatch in zip(_FACES, ("////", "", "....", "xxxx", "----"), strict=True)
)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterPanel:
    """The first two features of every image, (N, 2), and the grade or cluster each is in, (N,)."""

    features: ArrayLike
    labels: Sequence[str]


def clusters_png(panels: Mapping[str, ClusterPanel], title: str = "") -> bytes:
    """Return a panel a clustering: every image's first two features, a marker a label, counts underneath.

    A label has the same marker in every panel, and labels follow by the numbers in them: 5, 5_5, 6. Each
    panel has a scale of its own, since features of another length are another space.

    Args:
        panels: readable name, such as `after, 24 features` -> its features and labels.
        title: shown above the figure.

    Source: paper 1, figures 4 to 7.

    Raises:
        ConfigError: no panel, features that are not finite (N, 2), not a label for each, or more labels than
            can be told apart.
    """
    points = {}
    for name, panel in panels.items():
        what = f"features (N, 2) of {name!r} for N = {len(panel.labels)} labels"
        points[name] = finite(what, panel.features, len(panel.labels), 2)
    labels = _ordered(label for panel in panels.values() for label in panel.labels)
    expect_some("panels", panels)
    expect_some("labels", labels, len(_POINTS))
    figure, axes_of = panels_figure(panels, 3.6, 3.9, title)
    for name, axes in axes_of.items():
        _draw_clusters(axes, points[name], np.array(panels[name].labels), labels)
    figure.supylabel("second feature", fontsize=9)
    return png(figure)


def distribution_png(counts: Mapping[str, Mapping[str, Mapping[str, int]]], title: str = "") -> bytes:
    """Return a panel a group of hands: how many have each grade, a bar a series, its count above.

    A grade that a series does not name has no bar; one that it names with 0 has a 0.

    Args:
        counts: panel, such as `boys` -> series, such as `before` -> grade -> hands.
        title: shown above the figure.

    Source: paper 1, figure 8.

    Raises:
        ConfigError: no panel, series or grade, a count that is no whole number from 0, or more series
            than can be told apart.
    """
    from matplotlib.patches import Patch

    series = list(dict.fromkeys(name for panel in counts.values() for name in panel))
    grades = _ordered(grade for panel in counts.values() for found in panel.values() for grade in found)
    expect_some("panels", counts)
    expect_some("series", series, len(_BARS))
    expect_some("grades", grades)
    _check_counts(counts)
    width = max(3.2, 0.4 * len(grades) * (len(series) + 0.6))
    figure, axes_of = panels_figure(counts, width, 3.8, title, sharey=True)
    for panel, axes in axes_of.items():
        _draw_counts(axes, counts[panel], series, grades)
    figure.supylabel("hands", fontsize=9)
    keys = [Patch(label=name, **look) for name, look in zip(series, _BARS, strict=False)]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=8, frameon=False)
    return png(figure)


def ages_png(groups: Mapping[str, Mapping[str, ArrayLike]], title: str = "") -> bytes:
    """Return a panel a sex: the bone ages of every sub-grade as points and a box, and their mean.

    The mean is drawn with its 95% bootstrap interval, and both are printed under the sub-grade. A line joins
    the means, so that a sub-grade out of order shows as a fall.

    Args:
        groups: panel, such as `boys` -> sub-grade -> (N,) bone ages in months.
        title: shown above the figure.

    Raises:
        ConfigError: no panel or sub-grade, one without ages, or ages that are not finite (N,).
    """
    grades = _ordered(grade for found in groups.values() for grade in found)
    expect_some("panels", groups)
    ages = {}
    for panel, found in groups.items():
        expect_some(f"sub-grades of {panel!r}", found)
        ages[panel] = {at: finite(f"ages (N,) of {panel}, {at}", v, np.size(v)) for at, v in found.items()}
    figure, axes_of = panels_figure(groups, max(2.6, 1.35 * len(grades) + 0.3), 4.6, title, sharey=True)
    for panel, axes in axes_of.items():
        _draw_ages(axes, ages[panel], grades)
    figure.supylabel("bone age (months)", fontsize=9)
    handles, names = next(iter(axes_of.values())).get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", fontsize=8, frameon=False, handlelength=4)
    return png(figure)


def means_png(images: Mapping[str, FloatArray], title: str = "") -> bytes:
    """Return the images in rows, bone bright, each with its label above and nothing else.

    Args:
        images: label, such as `5_5, n = 123` -> mean image, (H, W) in [0, 1].
        title: shown above the figure.

    Raises:
        ConfigError: no image, or one that is not a finite (H, W) in [0, 1].
    """
    expect_some("images", images)
    for label, image in images.items():
        expect_image(repr(label), image)
    tallest = max(image.shape[0] / image.shape[1] for image in images.values())
    figure, axes_of = panels_figure(images, 2.0, float(np.clip(2.0 * tallest, 0.8, 5.0)) + 0.3, title)
    for label, axes in axes_of.items():
        axes.imshow(images[label], cmap="gray", vmin=0.0, vmax=1.0)
        axes.set_axis_off()
    return png(figure)


def _draw_clusters(axes: Axes, points: Ages, present: NDArray[np.str_], labels: Sequence[str]) -> None:
    area = float(np.clip(9000 / len(points), 7, 26))
    shown = [(label, *style) for label, style in zip(labels, _POINTS, strict=False) if label in present]
    for label, colour, marker in shown:
        told = f"{label}, n = {(present == label).sum()}"
        axes.scatter([], [], s=30, c=colour, marker=marker, label=told, linewidths=0)
    # In layers of all labels, so that where clusters mix none hides the others; the rare ones last, on top.
    rare = np.isin(present, [label for label, *_ in shown if (present == label).sum() < _RARE * len(points)])
    mixed = np.random.default_rng(0).permutation(len(points))
    for rows in (*np.array_split(mixed[~rare[mixed]], _LAYERS), mixed[rare[mixed]]):
        for label, colour, marker in shown:
            x, y = points[rows[present[rows] == label]].T
            axes.scatter(x, y, s=area, c=colour, marker=marker, edgecolors="white", linewidths=0.3)
    axes.grid(color=GRID)
    axes.ticklabel_format(scilimits=(-3, 4))
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_offset_text().set_fontsize(8)
    axes.set_xlabel("first feature", fontsize=9)
    close: dict[str, Any] = {"fontsize": 8, "frameon": False, "handletextpad": 0.2, "columnspacing": 1.2}
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=min(3, len(shown)), **close)


def _draw_counts(
    axes: Axes, counts: Mapping[str, Mapping[str, int]], series: Sequence[str], grades: Sequence[str]
) -> None:
    from matplotlib.ticker import MaxNLocator

    width = 0.84 / len(series)
    for number, (name, look) in enumerate(zip(series, _BARS, strict=False)):
        found = counts.get(name, {})
        at = np.array([place for place, grade in enumerate(grades) if grade in found])
        heights = [found[grade] for grade in grades if grade in found]
        shift = (number - (len(series) - 1) / 2) * width
        bars = axes.bar(at + shift, heights, 0.92 * width, **look)
        axes.bar_label(bars, fmt="%d", fontsize=7.5, padding=1.5)
    axes.set_xticks(range(len(grades)), grades)
    axes.set_xlim(-0.6, len(grades) - 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.1)
    axes.grid(axis="y", color=GRID)
    axes.set_xlabel("grade", fontsize=9)


def _draw_ages(axes: Axes, ages: Mapping[str, Ages], grades: Sequence[str]) -> None:
    """Draw every sub-grade's ages: points on the left of its place, a box on it, the mean on the right."""
    rng = np.random.default_rng(0)
    found = {place: ages[grade] for place, grade in enumerate(grades) if grade in ages}
    for place, values in found.items():
        across = place - 0.25 + rng.uniform(-0.1, 0.1, len(values))
        axes.plot(across, values, ".", markersize=4, alpha=0.5, color="#7e93a3", markeredgewidth=0)
    look: dict[str, Any] = {f"{part}props": {"color": PLAIN} for part in ("median", "whisker", "cap")}
    look |= {"boxprops": {"facecolor": GRID, "edgecolor": PLAIN}, "patch_artist": True, "showfliers": False}
    axes.boxplot(list(found.values()), positions=list(found), widths=0.2, manage_ticks=False, **look)
    means = [bootstrap_interval(values) for values in found.values()]
    middle, low, high = np.array([(mean.estimate, mean.low, mean.high) for mean in means]).T
    look = {"color": "#b3446c", "linewidth": 1, "elinewidth": 1.5, "markersize": 4, "capsize": 5}
    look["label"] = "mean and its 95% interval"
    axes.errorbar(np.array(list(found)) + 0.25, middle, (middle - low, high - middle), fmt="D--", **look)
    told = {at: _told(len(v), mean) for (at, v), mean in zip(found.items(), means, strict=True)}
    names = [f"{grade}\n{told.get(at, 'n = 0')}" for at, grade in enumerate(grades)]
    axes.set_xticks(range(len(grades)), names, fontsize=8)
    axes.set_xlim(-0.55, len(grades) - 0.45)
    axes.grid(axis="y", color=GRID)
    axes.set_xlabel("sub-grade, number of hands,\nmean age and its 95% interval", fontsize=9)


def _told(hands: int, mean: Interval) -> str:
    """Return a sub-grade's count and mean; of a single hand there is no interval to print."""
    reach = f"({mean.low:.1f} to {mean.high:.1f})" if hands > 1 else "(one hand)"
    return f"n = {hands}\n{mean.estimate:.1f}\n{reach}"


def _ordered(labels: Iterable[str]) -> list[str]:
    """Return the labels once each, by the numbers in them."""
    return sorted(dict.fromkeys(labels), key=lambda text: [int(part) for part in re.findall(r"\d+", text)])


def _check_counts(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    for panel, series in counts.items():
        expect_some(f"series of {panel!r}", series)
        for name, found in series.items():
            # Of what is not finite, the remainder is nan, which is true.
            if wrong := {grade: count for grade, count in found.items() if count % 1 or count < 0}:
                raise ConfigError(f"expected counts from 0 of {panel!r}, {name!r}, got {wrong}; count hands")
