"""Figures of unsupervised age groups: accuracies, maps, groups, and a coordinate.

Series differ in marker, hatch or line style besides colour, and shades of age rise in lightness, so that all
can be told apart in black and white.

Source: paper 2, figures 6 to 9, and table 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import Interval
from boneage.reporting.plots import (
    CHARACTERS_AN_INCH,
    GRID,
    PLAIN,
    Ages,
    bare,
    expect_some,
    finite,
    lines_height,
    panels_figure,
    png,
    titled_figure,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

Counts = NDArray[np.int64]

_SMALL = 1.3 * CHARACTERS_AN_INCH
"""Characters an inch of the smallest letters, of 8 points."""
_SAMPLE = 9
"""Characters that are as wide as the sample of a line or hatch beside its name."""
_LINES = (
    ("#0a3d62", "-", "o"),
    ("#c98a00", "--", "^"),
    ("#b3446c", "-.", "s"),
    ("#3f8fc0", (0, (8, 2)), "D"),
    ("#4c8c4a", (0, (2, 1.2)), "v"),
    ("#111111", (0, (3, 1, 1, 1, 1, 1)), "P"),
    ("#a583cc", (0, (5, 5)), "X"),
    ("#d95f3b", (0, (6, 2, 1, 2)), "*"),
)
"""Colour, line and marker of a series; every second marker is hollow, and dotted lines are references."""
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "||||")
_MOST_CLASSES = 16
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_DARK = 0.45
"""Luminance of a shade below which the hatch on it is white."""
_AGES = "viridis"
"""Its lightness rises evenly, so that it is as readable in grey."""
_CORNER = (0.5, 0.25)
"""Width and height, as shares of a panel, of the corner that a note of a coordinate lies in."""
_WINDOW = 0.1
"""Share of the hands in a running median, of which there are at least `_FEWEST`."""
_FEWEST, _MEDIANS = 9, 120


@dataclass(frozen=True, slots=True, eq=False)
class MapPanel:
    """Every hand's place on a map, (N, 2), and its bone age in months, (N,)."""

    points: ArrayLike
    ages: ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class CoordinatePanel:
    """Every hand's coordinate, (N,), its bone age in months, (N,), and a note, such as `Spearman 0.93`."""

    position: ArrayLike
    ages: ArrayLike
    note: str = ""


def lines_png(
    series: Mapping[str, Mapping[str, float | Interval]],
    what: str,
    per: str,
    title: str = "",
    reference: Mapping[str, float] | None = None,
) -> bytes:
    """Return shares in percent, a line a series; an `Interval` has a bar from its low to its high end.

    Values stand side by side in the order in which the series name them first. Where a series lacks one, its
    line is broken.

    Args:
        series: such as `48 months` -> place, such as the key region `19` -> share, 0 to 1.
        what: the vertical axis' title, such as `accuracy`; the unit is added.
        per: the horizontal axis' title, such as `key region`.
        title: shown above the figure.
        reference: such as `paper, 16 groups` -> share, 0 to 1, drawn as a dotted line across.

    Source: paper 2, figures 7 and 8.

    Raises:
        ConfigError: no series, more than can be told apart, one without values, or a share outside 0 to 1.
    """
    expect_some("series", series, len(_LINES))
    if reference:
        expect_some("references", reference, 8)
    places = list(dict.fromkeys(place for found in series.values() for place in found))
    bounds = {name: _bounds(name, found, places) for name, found in series.items()}
    levels = {name: 100 * _share(f"the reference {name!r}", at) for name, at in (reference or {}).items()}
    barred = any(np.isfinite(found[:, 1]).any() for found in bounds.values())
    names = [wrapped(place, 12) for place in places]
    widest = max(len(line) for name in names for line in name.split("\n"))
    # A place has room for its name, and for the bars of all series side by side.
    slot = max(3.4 / len(places), 0.38, (widest + 1) / _SMALL, 0.11 * len(series) if barred else 0.0)
    width = slot * len(places) + 0.8 + (2.3 if levels else 0.0)
    figure = titled_figure(width, 3.6 + _legend_height(series, width) + lines_height(names), title)
    axes = figure.add_subplot()
    _draw_lines(axes, bounds, min(0.6, 0.15 * len(series) / slot) if barred else 0.0)
    axes.set_xticks(range(len(places)), names, fontsize=8)
    axes.set_xlim(-0.6, len(places) - 0.4)
    _scale_percent(axes, np.concatenate([list(levels.values()), *map(np.ravel, bounds.values())]))
    axes.set_xlabel(wrapped(per, CHARACTERS_AN_INCH * width), fontsize=9)
    axes.set_ylabel(wrapped(f"{what} (%)", 36), fontsize=9)
    _draw_levels(axes, levels)
    _legend(figure, *axes.get_legend_handles_labels(), width)
    return png(figure)


def map_png(panels: Mapping[str, MapPanel], title: str = "") -> bytes:
    """Return a panel a map: every hand a point, shaded by its bone age on one scale for all panels.

    The axes of such a map, as t-SNE makes it, mean nothing by themselves, so they have no numbers.

    Args:
        panels: readable name, such as `960 hands` -> the hands' places and ages.
        title: shown above the figure.

    Source: paper 2, figures 6 and 9.

    Raises:
        ConfigError: no panel, or points (N, 2) or ages (N,) that are not finite.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    expect_some("panels", panels)
    points, years = {}, {}
    for name, panel in panels.items():
        count = np.size(panel.ages)
        points[name] = finite(f"points (N, 2) of {name!r} for N = {count} ages", panel.points, count, 2)
        years[name] = finite(f"ages (N,) of {name!r}", panel.ages, count) / 12
    youngest = np.floor(min(found.min() for found in years.values()))
    oldest = max(np.ceil(max(found.max() for found in years.values())), youngest + 1)
    shades = ScalarMappable(Normalize(youngest, oldest), _AGES)
    figure, axes_of = panels_figure(panels, 3.9, 4.1, title)
    for name, axes in axes_of.items():
        _draw_map(axes, points[name], years[name], shades)
    bar = figure.colorbar(shades, ax=list(axes_of.values()), shrink=0.85, aspect=30, pad=0.02)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.ax.tick_params(labelsize=8)
    bar.set_label("bone age (years)", fontsize=9)
    return png(figure)


def groups_png(counts: Mapping[str, Counts], classes: Sequence[str], title: str = "") -> bytes:
    """Return a panel a clustering: a bar a group, in parts of the age classes in it, the youngest on top.

    A group keeps its number, and stands by the mean class of its hands. At its end is printed which share of
    it is of the class that most of its hands have; under the panel, which share of all hands is. A group that
    nobody is in comes last.

    Args:
        counts: readable name, such as `16 groups` -> (K, C) hands of group k and class c.
        classes: (C,) names of the age classes, from the youngest, such as `24 to 71`.
        title: shown above the figure.

    Source: paper 2, table 1.

    Raises:
        ConfigError: no panel or class, more classes than can be told apart, or counts that are not whole
            numbers from 0, (K, C), with a hand at least.
    """
    from matplotlib.patches import Patch

    expect_some("panels", counts)
    expect_some("classes", classes, _MOST_CLASSES)
    found = {name: _counted(name, table, len(classes)) for name, table in counts.items()}
    most = max(len(table) for table in found.values())
    looks = _class_looks(len(classes))
    width, columns = 4.6, min(len(counts), 3)
    legend = _legend_height(classes, columns * width) / -(-len(counts) // columns)
    figure, axes_of = panels_figure(counts, width, 1.1 + 0.23 * max(most, 4) + legend, title)
    for name, axes in axes_of.items():
        _draw_groups(axes, found[name], looks, most)
    figure.supylabel("group", fontsize=9)
    keys = [Patch(label=name, **look) for name, look in zip(classes, looks, strict=True)]
    _legend(figure, keys, classes, columns * width)
    return png(figure)


def coordinate_png(panels: Mapping[str, CoordinatePanel], title: str = "") -> bytes:
    """Return a panel a coordinate: bone age in years against it, a point a hand, with their running median.

    Args:
        panels: readable name, such as `girls` -> the hands' coordinates and ages.
        title: shown above the figure.

    Raises:
        ConfigError: no panel, or positions or ages that are not finite (N,).
    """
    expect_some("panels", panels)
    places, years = {}, {}
    for name, panel in panels.items():
        count = np.size(panel.ages)
        places[name] = finite(f"position (N,) of {name!r} for N = {count} ages", panel.position, count)
        years[name] = finite(f"ages (N,) of {name!r}", panel.ages, count) / 12
    figure, axes_of = panels_figure(panels, 3.9, 3.9, title, sharey=True)
    for name, axes in axes_of.items():
        _draw_coordinate(axes, places[name], years[name], panels[name].note)
        axes.set_xlabel("maturity coordinate, found without ages", fontsize=9)
    figure.supylabel("bone age (years)", fontsize=9)
    _legend(figure, *next(iter(axes_of.values())).get_legend_handles_labels(), 3.9)
    return png(figure)


def _legend_names(names: Collection[str], width: float) -> list[str]:
    return [wrapped(name, width * _SMALL - _SAMPLE) for name in names]


def _legend_columns(names: Sequence[str], width: float) -> int:
    longest = max(len(line) for name in names for line in name.split("\n"))
    return max(1, min(len(names), int(width * _SMALL / (longest + _SAMPLE))))


def _legend_height(names: Collection[str], width: float) -> float:
    told = _legend_names(names, width)
    rows = -(-len(told) // _legend_columns(told, width))
    return rows * (0.04 + lines_height(told))


def _legend(figure: Figure, handles: Sequence[Any], names: Collection[str], width: float) -> None:
    """Tell the series under the figure, in as many columns as its width in inches has room for."""
    told = _legend_names(names, width)
    look: dict[str, Any] = {"fontsize": 8, "frameon": False, "handlelength": 4.0, "handleheight": 1.2}
    figure.legend(handles, told, loc="outside lower center", ncols=_legend_columns(told, width), **look)


def _share(what: str, value: float) -> float:
    # A comparison with nan is false.
    if not 0 <= value <= 1:
        raise ConfigError(f"expected a share from 0 to 1 for {what}, got {value:g}; divide percent by 100")
    return float(value)


def _bounds(name: str, found: Mapping[str, float | Interval], places: Sequence[str]) -> Ages:
    """Return a series' (P, 3) values, low and high ends in percent, nan where there is none."""
    expect_some(f"values of {name!r}", found)
    rows = np.full((len(places), 3), np.nan)
    for row, place in zip(rows, places, strict=True):
        if (value := found.get(place)) is not None:
            shares = (value.estimate, value.low, value.high) if isinstance(value, Interval) else (value,)
            row[: len(shares)] = [_share(f"{name!r} at {place!r}", share) for share in shares]
    return 100 * rows


def _draw_lines(axes: Axes, bounds: Mapping[str, Ages], spread: float) -> None:
    """Draw the series, each a little further right than the one before, over `spread` of a place in all."""
    for number, (name, rows) in enumerate(bounds.items()):
        colour, line, marker = _LINES[number]
        at = np.arange(len(rows)) + spread * ((number + 0.5) / len(bounds) - 0.5)
        middle, low, high = rows.T
        # Drawn by their ends, for an estimate may lie outside its interval.
        bars: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 1.1, "capsize": 2.5}
        axes.errorbar(at, (low + high) / 2, (high - low) / 2, **bars)
        look: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.4}
        look |= {"marker": marker, "markersize": 5.5, "markerfacecolor": "white" if number % 2 else colour}
        axes.plot(at, middle, label=name, clip_on=False, **look)


def _scale_percent(axes: Axes, every: Ages) -> None:
    """Let the vertical axis reach beyond all that is drawn, but not beyond what a share can be."""
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    reach = max(0.06 * (high - low), 3.0)
    axes.set_ylim(max(0.0, low - reach), min(100.0, high + reach))
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", labelsize=8)


def _draw_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Draw the dotted lines, and name them on the right, moved apart where they are close together."""
    ascending = sorted(levels.items(), key=lambda item: item[1])
    told = {wrapped(f"{name}: {level:.4g}%", 24): level for name, level in ascending}
    low, high = axes.get_ylim()
    heights = [0.055 * (high - low) * (1 + text.count("\n")) for text in told]
    places = _apart(list(told.values()), heights, high)
    for (text, level), place in zip(told.items(), places, strict=True):
        axes.axhline(level, color=PLAIN, linestyle=":", linewidth=1.3, zorder=1)
        axes.annotate(
            text,
            (1.0, level),
            (1.04, place),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (0.0, 0.5), "color": PLAIN, "linewidth": 0.7},
        )


def _apart(wanted: Sequence[float], heights: Sequence[float], top: float) -> list[float]:
    """Return places near those wanted, ascending, so that labels of those heights do not touch."""
    steps = [(lower + upper) / 2 for lower, upper in pairwise(heights)]
    places = list(wanted)
    for number, step in enumerate(steps, start=1):
        places[number] = max(places[number], places[number - 1] + step)
    places[-1:] = [min(place, top) for place in places[-1:]]
    for number, step in reversed(list(enumerate(steps))):
        places[number] = min(places[number], places[number + 1] - step)
    return places


def _draw_map(axes: Axes, points: Ages, years: Ages, shades: ScalarMappable) -> None:
    # Mixed, so that where ages overlap no file's order decides which is seen.
    mixed = np.random.default_rng(0).permutation(len(points))
    x, y = points[mixed].T
    area = float(np.clip(16000 / len(points), 6, 30))
    look: dict[str, Any] = {"cmap": shades.cmap, "norm": shades.norm, "edgecolors": PLAIN, "linewidths": 0.25}
    axes.scatter(x, y, s=area, c=years[mixed], **look)
    axes.set_aspect("equal", adjustable="datalim")
    bare(axes)
    axes.set_xlabel(f"n = {len(points)}", fontsize=8)


def _counted(name: str, table: Counts, classes: int) -> Counts:
    found = np.asarray(table)
    whole = np.isfinite(found) & (found >= 0) & (found == np.floor(found))
    if found.ndim != 2 or found.shape[1] != classes or not whole.all():
        raise ConfigError(
            f"expected counts (K, C) from 0 of {name!r} for C = {classes} classes, got shape {found.shape}; "
            "count the hands of every group and class"
        )
    if not found.any():
        raise ConfigError(f"expected a hand at least in {name!r}, got none; leave the clustering out")
    return found.astype(np.int64)


def _class_looks(classes: int) -> list[dict[str, Any]]:
    """Return each class' face and hatch: the older the lighter, as on a map."""
    from matplotlib import colormaps

    looks = []
    for number, shade in enumerate(colormaps[_AGES](np.linspace(0.08, 1.0, classes))):
        dark = shade[:3] @ _LUMINANCE < _DARK
        edge = "white" if dark else PLAIN
        hatch = _HATCHES[number % len(_HATCHES)]
        looks.append({"facecolor": tuple(shade), "edgecolor": edge, "hatch": hatch, "linewidth": 0.6})
    return looks


def _draw_groups(axes: Axes, table: Counts, looks: Sequence[dict[str, Any]], most: int) -> None:
    """Draw a clustering's groups from the top, in as much height as `most` groups need."""
    from matplotlib.ticker import MaxNLocator

    sizes, modes = table.sum(axis=1), table.max(axis=1)
    means = table @ np.arange(table.shape[1]) / np.maximum(sizes, 1)
    order = np.lexsort((means, sizes == 0))
    ends = table[order].cumsum(axis=1)
    for number, look in enumerate(looks):
        parts = table[order, number]
        axes.barh(range(len(order)), parts, 0.8, left=ends[:, number] - parts, **look)
    for place, group in enumerate(order):
        told = f"{modes[group] / sizes[group]:.0%}" if sizes[group] else "nobody"
        axes.annotate(
            told, (sizes[group], place), (3, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(order)), [str(group) for group in order])
    axes.set_ylim(most - 0.4, -0.6)
    axes.set_xlim(0, 1.14 * sizes.max())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", color=GRID)
    share = f"{modes.sum() / table.sum():.1%} of {table.sum()} in their group's dominating class"
    axes.set_xlabel(f"hands, {share}", fontsize=9)


def _draw_coordinate(axes: Axes, position: Ages, years: Ages, note: str) -> None:
    from matplotlib.patheffects import withStroke

    area = float(np.clip(9000 / len(years), 5, 22))
    axes.scatter(position, years, s=area, c="#7e93a3", alpha=0.55, linewidths=0)
    halo = [withStroke(linewidth=4.0, foreground="white")]
    look: dict[str, Any] = {"color": "#111111", "linewidth": 2.0, "path_effects": halo}
    axes.plot(*_running_median(position, years), label="running median of the ages", **look)
    axes.grid(color=GRID)
    axes.set_xmargin(0.05)
    told = "\n".join(wrapped(line, 24) for line in (note, f"n = {len(years)}") if line)
    across, up = _emptiest_corner(position, years)
    axes.annotate(
        told,
        (0.03 + 0.94 * across, 0.03 + 0.94 * up),
        xycoords="axes fraction",
        ha="right" if across else "left",
        va="top" if up else "bottom",
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5},
    )


def _running_median(position: Ages, years: Ages) -> tuple[Ages, Ages]:
    """Return the medians of the hands next to each other by position, at most `_MEDIANS` times."""
    order = np.argsort(position, kind="stable")
    window = min(len(order), max(_FEWEST, round(_WINDOW * len(order))))
    starts = np.unique(np.linspace(0, len(order) - window, _MEDIANS).astype(int))
    rows = order[starts[:, None] + np.arange(window)]
    return np.median(position[rows], axis=1), np.median(years[rows], axis=1)


def _emptiest_corner(position: Ages, years: Ages) -> tuple[int, int]:
    """Return the corner with the fewest hands: 0 or 1 across, 0 or 1 up."""
    wide, tall = _CORNER
    across, up = ((v - v.min()) / max(float(np.ptp(v)), 1e-12) for v in (position, years))

    def hands(corner: tuple[int, int]) -> int:
        near = (np.abs(across - corner[0]) < wide) & (np.abs(up - corner[1]) < tall)
        return int(near.sum())

    return min(((0, 1), (1, 1), (1, 0), (0, 0)), key=hands)
