"""Figures of an evaluation as PNG files: agreement with the reference, and error by age."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ages = NDArray[np.float64]

COLOURS = {"female": "#b3446c", "male": "#0b5f8a"}
_PLAIN = "#3b4754"
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
        axes.axhline(level, color=_PLAIN, linewidth=1.2, linestyle="-" if name == "bias" else "--")
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
        boxprops={"facecolor": "#e4eaef", "edgecolor": _PLAIN},
        medianprops={"color": _PLAIN},
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
    axes.grid(axis="y", color="#e4eaef")
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
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
