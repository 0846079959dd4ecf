"""The learning curve: error against training images, and its forecast, as table, JSON and plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from boneage.metrics.bootstrap import Interval
from boneage.metrics.power_law import LEAST_SIZES, Curve
from boneage.reporting.plots import COLOURS, GRID, PLAIN, png, titled_figure
from boneage.reporting.tabular import markdown_table, plain

HEAD = ("training images", "trainings", "MAE, months (95% interval)", "change from the size before")
_MEASURED, _FORECAST = COLOURS["male"], COLOURS["female"]


@dataclass(frozen=True, slots=True)
class CurveReport:
    """A curve and what must be said with it.

    Args:
        title: of the page.
        curve: what was measured and fitted.
        held_out: images that every training is measured on.
        unfinished: trainings that are still to be done.
        settings: what was trained, in words, by name.
        remarks: to be read first.
    """

    title: str
    curve: Curve
    held_out: int
    unfinished: int
    settings: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def measured_rows(report: CurveReport) -> list[tuple[str, ...]]:
    """Return a row a training size, under `HEAD`."""
    curve = report.curve
    return [
        (
            f"{size:,}",
            str(curve.seeds[size]),
            str(mae),
            _signed(curve.gain[size]) if size in curve.gain else "-",
        )
        for size, mae in curve.mae.items()
    ]


def forecast_rows(report: CurveReport) -> list[tuple[str, ...]]:
    """Return (figure, value) of the fitted law; nothing where there are too few sizes."""
    curve = report.curve
    if curve.floor is None or curve.exponent is None:
        return []
    forecasts = [(f"MAE with {size:,} images", f"{value} months") for size, value in curve.forecast.items()]
    floor = ("floor: MAE with endless data", f"{curve.floor} months")
    return [floor, ("exponent", str(curve.exponent)), *forecasts]


def markdown(report: CurveReport) -> str:
    """Return the curve as a Markdown page, remarks first."""
    parts = [f"# {report.title}", *(f"> {remark}" for remark in report.remarks)]
    if report.unfinished:
        parts.append(
            f"> {report.unfinished} trainings are still to be done; the same command goes on with them."
        )
    parts.append(f"Every training is measured on the same {report.held_out} held-out images.")
    parts.append(markdown_table(HEAD, measured_rows(report)))
    parts.append("## Forecast\n\n" + _forecast(report))
    settings = [(name, f"`{value}`") for name, value in report.settings.items()]
    parts.append("## What was trained\n\n" + markdown_table(("setting", "value"), settings))
    return "\n\n".join(parts) + "\n"


def _forecast(report: CurveReport) -> str:
    rows, sizes = forecast_rows(report), list(report.curve.mae)
    if not rows:
        return f"None: a forecast needs at least {LEAST_SIZES} sizes, and {len(sizes)} have ended."
    beyond = [f"{size / sizes[-1]:.1f}" for size in report.curve.forecast if size > sizes[-1]]
    told = "MAE = floor + scale x images^-exponent; intervals by a bootstrap of seeds and held-out images."
    if beyond:
        told += (
            f" The forecast is of {' and '.join(beyond)} times the largest size trained: an extrapolation."
        )
    if len(sizes) == LEAST_SIZES:
        told += " Three sizes just determine the three constants, so the fit itself is not tested."
    return told + "\n\n" + markdown_table(("figure", "value"), rows)


def _signed(value: Interval) -> str:
    return f"{value.estimate:+.2f} ({value.low:+.2f} to {value.high:+.2f})"


def record(report: CurveReport) -> dict[str, Any]:
    """Return the curve in JSON's types."""
    whole: dict[str, Any] = plain(asdict(report))
    return whole


def csv_text(report: CurveReport) -> str:
    """Return the sizes measured and forecast as a CSV."""
    text, curve = io.StringIO(), report.curve
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("training_images", "kind", "trainings", "mae_months", "low", "high"))
    for kind, values in (("measured", curve.mae), ("forecast", curve.forecast)):
        for size, mae in values.items():
            ends = (f"{value:.4f}" for value in (mae.estimate, mae.low, mae.high))
            writer.writerow((size, kind, curve.seeds.get(size, "") if kind == "measured" else "", *ends))
    return text.getvalue()


def curve_png(report: CurveReport) -> bytes:
    """Return MAE against training images, these in logarithms, with the fitted law and its forecast."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    curve = report.curve
    figure = titled_figure(8.0, 4.8, report.title)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    if curve.line:
        sizes = [size for size, _ in curve.line]
        axes.plot(
            sizes, [v.estimate for _, v in curve.line], color=PLAIN, linewidth=1.2, label="fitted power law"
        )
        lows, highs = [v.low for _, v in curve.line], [v.high for _, v in curve.line]
        axes.fill_between(sizes, lows, highs, color=PLAIN, alpha=0.12, linewidth=0, label="its 95% interval")
    for values, colour, name in ((curve.mae, _MEASURED, "measured"), (curve.forecast, _FORECAST, "forecast")):
        if values:
            maes = list(values.values())
            below = [max(0.0, v.estimate - v.low) for v in maes]
            above = [max(0.0, v.high - v.estimate) for v in maes]
            axes.errorbar(
                list(values),
                [v.estimate for v in maes],
                [below, above],
                fmt="o",
                color=colour,
                capsize=3,
                label=name,
            )
            for size, mae in values.items():
                axes.annotate(
                    f"{mae.estimate:.1f}",
                    (size, mae.estimate),
                    (6, 4),
                    textcoords="offset points",
                    fontsize=8,
                )
    ticks = [*curve.mae, *curve.forecast]
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(axis="x", labelrotation=30)
    axes.yaxis.set_major_locator(MaxNLocator(8))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training images")
    axes.set_ylabel("MAE on held-out images (months)")
    axes.legend(loc="lower left", framealpha=0.9, edgecolor="none")
    return png(figure)
