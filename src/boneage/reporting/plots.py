"""Figures of an evaluation as PNG files: agreement with the reference, and error by age.

Figures of several panels are begun here too, and what they show is checked here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.reporting.letters import give_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ages = NDArray[np.float64]

COLOURS = {"female": "#b3446c", "male": "#0b5f8a"}
PLAIN = "#3b4754"
"""Of lines and edges that belong to no series."""
FRAME: dict[str, Any] = {"edgecolor": "#9fb3c2", "linewidth": 0.6}
"""Of an image's edge, by which a white one can be told from the page."""

GRID = "#e4eaef"
CHARACTERS_AN_INCH = 10.5
"""Of a figure's title; a panel's letters are smaller."""
_MOST_COLUMNS, _MOST_INCHES = 4, 16.0
BAND_YEARS = 2
"""Width of an age band of `error_by_age_png`."""


def bland_altman_png(truth: Ages, prediction: Ages, sexes: Sequence[str], title: str = "") -> bytes:
    """Return the differences against the means, with the bias and the 95% limits of agreement.

    Args:
        truth: (N,) reference ages in months.
        prediction: (N,) predicted ages in months.
        sexes: `female` or `male` of each.
        title: shown above the figure.

    Source:
        Bland JM, Altman DG. Lancet 1986;327:307-310: limits at the bias -/+ 1.96 standard deviations.
    """
    from matplotlib.ticker import MultipleLocator

    means, differences = (truth + prediction) / 24.0, prediction - truth
    bias, spread = float(differences.mean()), float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    figure, axes = _figure(title)
    _points_by_sex(axes, means, differences, sexes)
    for level, name in (
        (bias, "bias"),
        (bias - 1.96 * spread, "lower limit"),
        (bias + 1.96 * spread, "upper limit"),
    ):
        axes.axhline(level, color=PLAIN, linewidth=1.2, linestyle="-" if name == "bias" else "--")
        axes.annotate(
            f"{name} {level:+.1f}",
            (1.0, level),
            (-4, 3),
            ("axes fraction", "data"),
            "offset points",
            ha="right",
            bbox=_LABEL,
        )
    axes.xaxis.set_major_locator(MultipleLocator(BAND_YEARS))
    axes.set_xlabel("mean of reference and prediction (years)")
    axes.set_ylabel("prediction - reference (months)")
    axes.legend(loc="upper left", framealpha=0.9, edgecolor="none")
    return png(figure)


def error_by_age_png(truth: Ages, prediction: Ages, sexes: Sequence[str], title: str = "") -> bytes:
    """Return the absolute error by two-year band of reference age: quartiles as boxes, means as points.

    Args are those of `bland_altman_png`. Under every band stands its number of images.
    """
    errors = np.abs(prediction - truth)
    bands = (truth // (12 * BAND_YEARS)).astype(int)
    present = sorted(set(bands.tolist()))
    groups = [errors[bands == band] for band in present]
    figure, axes = _figure(title)
    axes.boxplot(
        groups,
        positions=range(len(present)),
        widths=0.55,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": GRID, "edgecolor": PLAIN},
        medianprops={"color": PLAIN},
    )
    for sex, shift in (("female", -0.12), ("male", 0.12)):
        chosen = np.array([text == sex for text in sexes], dtype=bool)
        means = [
            float(errors[(bands == band) & chosen].mean()) if (chosen & (bands == band)).any() else np.nan
            for band in present
        ]
        axes.plot(np.arange(len(present)) + shift, means, "o", color=COLOURS[sex], label=f"mean, {sex}")
    labels = [
        f"{BAND_YEARS * band}-{BAND_YEARS * (band + 1)}\nn={len(group)}"
        for band, group in zip(present, groups, strict=True)
    ]
    axes.set_xticks(range(len(present)), labels)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("reference age (years)")
    axes.set_ylabel("absolute error (months)")
    axes.legend(loc="upper right", framealpha=0.9, edgecolor="none")
    return png(figure)


_LABEL = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}


def _figure(title: str) -> tuple[Figure, Axes]:
    """Return a figure of its own: nothing of matplotlib's global state is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    return figure, axes


def _points_by_sex(axes: Axes, x: Ages, y: Ages, sexes: Sequence[str]) -> None:
    for sex, colour in COLOURS.items():
        chosen = np.array([text == sex for text in sexes], dtype=bool)
        axes.scatter(
            x[chosen],
            y[chosen],
            s=9,
            alpha=0.55,
            color=colour,
            linewidths=0,
            label=f"{sex}, n={chosen.sum()}",
        )


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file; the same figure gives the same bytes."""
    _give_fonts(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file, its letters as shapes; the same figure gives the same bytes."""
    _give_fonts(figure)
    file = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue().decode("utf-8")
    # matplotlib begins the names of its shared parts anew with every file, by chance.
    names = dict.fromkeys(re.findall(r'(?<= id=")[a-z][0-9a-f]{10}(?=")', text))
    for number, name in enumerate(names):
        text = text.replace(name, f"part{number}")
    return text.encode("utf-8")


def _give_fonts(figure: Figure) -> None:
    from matplotlib.text import Text

    give_fonts(figure.findobj(Text))


def titled_figure(width: float, height: float, title: str = "") -> Figure:
    """Return a figure of its own with a title on the left, in as many lines as it needs.

    Nothing of matplotlib's global state is touched.

    Args:
        width: in inches.
        height: in inches, without the title, which is added.
        title: shown above everything; "" for none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    told = wrapped(title, CHARACTERS_AN_INCH * width)
    tall = height + 0.25 * (1 + told.count("\n"))
    figure = Figure(figsize=(width, tall), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(told, fontsize=11, x=0.01, ha="left")
    return figure


def panels_figure(
    names: Collection[str], width: float, height: float, title: str = "", sharey: bool = False
) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel a name, each name above its panel.

    Args:
        names: of the panels, once each; they fill rows from the left.
        width: of a panel, in inches.
        height: of a panel with its name and the labels of its axes, in inches.
        title: shown above everything.
        sharey: whether all panels have one vertical scale.
    """
    columns = min(len(names), _MOST_COLUMNS, max(1, int(_MOST_INCHES / width)))
    rows = -(-len(names) // columns)
    # The common label of the vertical axes needs room beside a single panel.
    figure = titled_figure(width * columns + 0.4, height * rows, title)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(wrapped(name, 1.2 * CHARACTERS_AN_INCH * width), fontsize=9, loc="left")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, dict(zip(names, panels, strict=False))


def wrapped(text: str, characters: float) -> str:
    """Return the text in lines of at most so many characters, `n = 123` and `sub-grade` unbroken."""
    return fill(text.replace(" = ", "\u00a0=\u00a0"), max(1, int(characters)), break_on_hyphens=False)


def finite(what: str, values: ArrayLike, *shape: int) -> Ages:
    """Return the values as an array of that shape.

    Args:
        what: what they are called in the message, such as `ages (N,) of 'boys'`.
        values: what is to be drawn.
        shape: that they must have.

    Raises:
        ConfigError: another shape, no value at all, or one that is not finite.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.shape != shape or not found.size or not np.isfinite(found).all():
        raise ConfigError(f"expected finite {what}, got shape {found.shape}; leave out hands without a value")
    return found


def expect_some(what: str, found: Collection[object], most: int = 100) -> None:
    """Refuse what is empty, and more than a figure has room for or can tell apart.

    Raises:
        ConfigError: none, or more than `most`.
    """
    if not 0 < len(found) <= most:
        raise ConfigError(f"expected 1 to {most} {what} to draw, got {len(found)}; choose what is compared")


def expect_image(what: str, image: FloatArray) -> None:
    """Refuse what is no image (H, W) in [0, 1].

    Raises:
        ConfigError: another number of axes, no pixel, or a value outside [0, 1] or not finite.
    """
    # A comparison with nan is false, so the range refuses what is not finite as well.
    if image.ndim != 2 or image.size == 0 or not ((image >= 0) & (image <= 1)).all():
        raise ConfigError(
            f"expected an image (H, W) with finite values in [0, 1] for {what}, got shape {image.shape}; "
            "take the crops before they are normalised for the network"
        )


def bare(axes: Axes) -> None:
    """Leave an image nothing but a thin frame, by which a white one can be told from the page."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, **FRAME)


def lines_height(texts: Sequence[str]) -> float:
    """Return the height in inches of the text with the most lines."""
    return 0.17 * max(1 + text.count("\n") for text in texts)
