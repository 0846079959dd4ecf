"""Figures of interval classification: training curves, confusion, reliability, errors near a border.

Series differ in line style and marker besides colour, so that they can be told apart in black and white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from boneage.core.errors import ConfigError
from boneage.metrics.classification import BorderRow, Reliability
from boneage.reporting.plots import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, Sequence[float]]
"""An epoch a position: `epoch`, `training_accuracy`, `validation_accuracy` (0 to 1) and the two losses."""

HISTORY_KEYS = ("epoch", "training_accuracy", "validation_accuracy", "training_loss", "validation_loss")
MOST_COUNTED = 10
"""Intervals up to which a confusion matrix has its counts printed."""

_PLAIN = "#3b4754"
_UPRIGHT = 30
"""Characters that stand side by side under a confusion matrix."""
_STYLES = (
    ("#0b5f8a", "-", "o"),
    ("#b3446c", "--", "s"),
    ("#3b4754", "-.", "^"),
    ("#c98a00", ":", "D"),
    ("#4c8c4a", (0, (8, 2)), "v"),
    ("#7a5ba8", (0, (3, 1, 1, 1, 1, 1)), "P"),
    ("#9fb3c2", (0, (5, 5)), "X"),
    ("#111111", (0, (1, 3)), "*"),
)
_CURVES = (("training", "#0b5f8a", "-"), ("validation", "#b3446c", "--"))


def curves_png(history: History, title: str = "", best_epoch: int | None = None) -> bytes:
    """Return a model's accuracy and loss by epoch, in training and validation, side by side.

    Args:
        history: `HISTORY_KEYS` -> a value an epoch; accuracies are shares, 0 to 1.
        title: shown above the figure.
        best_epoch: the epoch whose weights were kept, drawn as a dotted line.

    Source: paper 5, figures 8 to 13.

    Raises:
        ConfigError: a series is missing, empty or of another length than the epochs.
    """
    return all_curves_png({"": history}, title, {} if best_epoch is None else {"": best_epoch})


def all_curves_png(
    histories: Mapping[str, History], title: str = "", best_epochs: Mapping[str, int] | None = None
) -> bytes:
    """Return the curves of several models, a row each.

    Args:
        histories: model -> its history, as in `curves_png`.
        title: shown above the figure.
        best_epochs: model -> the epoch whose weights were kept.

    Raises:
        ConfigError: no model; also as `curves_png`.
    """
    _expect_some(len(histories))
    figure = _figure(8.0, 0.6 + 2.4 * len(histories), title)
    rows = figure.subplots(len(histories), 2, squeeze=False, sharex=True)
    for panels, (name, history) in zip(rows, histories.items(), strict=True):
        _check_history(name, history)
        best = (best_epochs or {}).get(name)
        _draw_curves(panels[0], history, "accuracy", 100.0, best)
        _draw_curves(panels[1], history, "loss", 1.0, best)
        panels[0].set_title(name, fontsize=9, loc="left")
        panels[0].set_ylim(0, 100)
        panels[0].set_ylabel("accuracy (%)")
        panels[1].set_ylim(bottom=0)
        panels[1].set_ylabel("loss")
        _legend(panels[1])
    for axes in rows[-1]:
        axes.set_xlabel("epoch")
    return png(figure)


def confusion_png(matrices: Mapping[str, ArrayLike], interval_names: Sequence[str], title: str = "") -> bytes:
    """Return a panel a confusion matrix: shares of each true interval as shades, and the counts where few.

    Args:
        matrices: panel's title -> (K, K) counts, true intervals in rows.
        interval_names: (K,) the intervals, such as `1-46`, in months.
        title: shown above the figure.

    Raises:
        ConfigError: no matrix, or one that is not (K, K).
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    _expect_some(len(matrices))
    count = len(interval_names)
    columns = len(matrices) if len(matrices) <= 3 else int(np.ceil(np.sqrt(len(matrices))))
    rows = -(-len(matrices) // columns)
    side = max(3.2, 0.42 * count + 1.2)
    figure = _figure(side * columns + 0.8, side * rows + 0.3, title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    turned = 0 if count * max(map(len, interval_names)) <= _UPRIGHT else 90
    shades = ScalarMappable(Normalize(0.0, 1.0), "Blues")
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=False):
        counts = np.asarray(matrix)
        if counts.shape != (count, count):
            raise ConfigError(
                f"expected {count} x {count} counts for {name!r}, got shape {counts.shape}; "
                "name every interval once"
            )
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap=shades.cmap, norm=shades.norm)
        if count <= MOST_COUNTED:
            _print_counts(axes, counts, shares)
        axes.set_xticks(range(count), interval_names, rotation=turned, fontsize=8)
        axes.set_yticks(range(count), interval_names, fontsize=8)
        axes.set_title(name, fontsize=9, loc="left")
    for axes in panels[len(matrices) :]:
        axes.set_visible(False)
    figure.supxlabel("predicted interval (months)", fontsize=9)
    figure.supylabel("true interval (months)", fontsize=9)
    bar = figure.colorbar(shades, ax=panels, shrink=0.8)
    bar.set_label("share of the true interval", fontsize=9)
    return png(figure)


def reliability_png(
    curves: Mapping[str, Reliability], title: str = "", errors: Mapping[str, float] | None = None
) -> bytes:
    """Return accuracy against confidence, a line each, with a marker a bin, larger where it has more cases.

    Args:
        curves: name -> its bins.
        title: shown above the figure.
        errors: name -> expected calibration error, 0 to 1, told in the legend.

    Raises:
        ConfigError: no curve, or more than can be told apart.
    """
    _expect_some(len(curves), len(_STYLES))
    figure = _figure(5.6, 5.4, title)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_PLAIN, linewidth=0.8, label="as often right as confident")
    for (name, found), (colour, line, marker) in zip(curves.items(), _STYLES, strict=False):
        filled = found.counts > 0
        x, y = found.confidence[filled], found.accuracy[filled]
        told = f"{name}, ECE {errors[name]:.3f}" if errors and name in errors else name
        axes.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=4, label=told)
        areas = 160.0 * found.counts[filled] / found.counts.max()
        axes.scatter(x, y, s=areas, color=colour, marker=marker, alpha=0.45, linewidths=0)
    _tidy(axes)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    axes.set_xlabel("confidence: probability of the likeliest interval")
    axes.set_ylabel("accuracy: share right")
    _legend(axes, "shaded area: number of cases")
    return png(figure)


def border_png(rows: Mapping[str, Sequence[BorderRow]], title: str = "") -> bytes:
    """Return the share of wrong intervals by distance to the nearest border, with intervals, a line each.

    Under every distance stands its number of cases, where it is the same for all.

    Args:
        rows: name, such as `with sex` -> its rows by distance.
        title: shown above the figure.

    Raises:
        ConfigError: no rows, or more series than can be told apart.
    """
    _expect_some(len(rows), len(_STYLES))
    every = {(row.low_months, row.high_months): row.name for found in rows.values() for row in found}
    places = {distance: place for place, distance in enumerate(sorted(every))}
    _expect_some(len(places))
    figure = _figure(max(5.6, 1.2 * len(places) + 1.2), 4.0, title)
    axes = figure.add_subplot()
    for number, ((name, found), (colour, line, marker)) in enumerate(
        zip(rows.items(), _STYLES, strict=False)
    ):
        shift = 0.1 * (number - (len(rows) - 1) / 2)
        at = [places[row.low_months, row.high_months] + shift for row in found]
        middle = np.array([100 * row.wrong.estimate for row in found])
        low = np.array([100 * row.wrong.low for row in found])
        high = np.array([100 * row.wrong.high for row in found])
        axes.plot(at, middle, color=colour, linestyle=line, marker=marker, clip_on=False, label=name)
        axes.errorbar(at, middle, [middle - low, high - middle], fmt="none", ecolor=colour, capsize=3)
    _tidy(axes, "y")
    axes.set_xticks(range(len(places)), [_told(distance, every[distance], rows) for distance in places])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("distance of the true age from the nearest border")
    axes.set_ylabel("in a wrong interval (%)")
    _legend(axes)
    return png(figure)


def _told(distance: tuple[float, float], name: str, rows: Mapping[str, Sequence[BorderRow]]) -> str:
    """Return a distance's tick label: its name, and its cases where all series have as many."""
    cases = {
        row.cases for found in rows.values() for row in found if (row.low_months, row.high_months) == distance
    }
    return f"{name}\nn={cases.pop()}" if len(cases) == 1 else name


def _figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure of its own, sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _tidy(axes: Axes, grid: Literal["both", "y"] = "both") -> None:
    axes.grid(axis=grid, color="#e4eaef")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, title: str | None = None) -> None:
    """Draw the legend where it covers least, its lines long enough to show their dashes."""
    axes.legend(
        title=title,
        loc="best",
        fontsize=8,
        title_fontsize=8,
        framealpha=0.9,
        edgecolor="none",
        handlelength=4,
    )


def _draw_curves(axes: Axes, history: History, measure: str, scale: float, best: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = history["epoch"]
    marker = "." if len(epochs) == 1 else ""
    for part, colour, line in _CURVES:
        values = scale * np.asarray(history[f"{part}_{measure}"], dtype=np.float64)
        axes.plot(epochs, values, color=colour, linestyle=line, marker=marker, label=part)
    if best is not None:
        axes.axvline(best, color=_PLAIN, linestyle=":", linewidth=1.2, label=f"best epoch, {best}")
    _tidy(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _print_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else _PLAIN
        axes.text(column, row, f"{counts[row, column]:g}", ha="center", va="center", fontsize=8, color=colour)


def _check_history(name: str, history: History) -> None:
    lengths = {key: len(history.get(key, ())) for key in HISTORY_KEYS}
    if lengths["epoch"] == 0 or len(set(lengths.values())) > 1:
        raise ConfigError(
            f"expected as many values as epochs in the history {name!r}, got "
            f"{', '.join(f'{key} {length}' for key, length in lengths.items())}; give all of them"
        )


def _expect_some(series: int, most: int = 100) -> None:
    if not 0 < series <= most:
        raise ConfigError(f"expected 1 to {most} series to draw, got {series}; choose what is compared")
