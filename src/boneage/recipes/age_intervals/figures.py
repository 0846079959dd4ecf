"""The figures of `reproduce`: paper 5's Figures 8 to 13, and what belongs to its tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from boneage.metrics.classification import (
    expected_calibration_error,
    reliability,
    temper,
)
from boneage.recipes.age_intervals.intervals import AgeIntervals
from boneage.recipes.age_intervals.results import Result, cross_entropy
from boneage.reporting.interval_plots import all_curves_png, border_png, confusion_png, reliability_png


def draw(results: Sequence[Result], by_loss: Sequence[Result]) -> dict[str, bytes]:
    """Return file name -> PNG: curves, confusion and borders by number of intervals, and reliability.

    Args:
        results: without those in which one thing was changed.
        by_loss: those of which the losses are compared.
    """
    figures = {}
    for count in sorted({result.row.count for result in results}):
        known, unknown = (
            [result for result in cross_entropy(results, sex=sex) if result.row.count == count]
            for sex in (True, False)
        )
        figures[f"curves-{count}.png"] = _curves(known, f"{count} intervals, sex known")
        figures[f"confusion-{count}.png"] = confusion_png(
            {result.row.model: result.confusion() for result in known},
            _short(known[0].intervals),
            f"{count} intervals (months), held-out images",
        )
        figures[f"border-{count}.png"] = border_png(
            {"with the sex": known[-1].borders(), "without": unknown[-1].borders()},
            f"{known[-1].row.model}, {count} intervals: wrong by distance to a border",
        )
    figures["reliability.png"] = _reliability(by_loss)
    return figures


def _curves(results: Sequence[Result], title: str) -> bytes:
    histories = {
        result.row.model: {name: values.tolist() for name, values in result.history.items()}
        for result in results
    }
    best = {result.row.model: int(result.history["validation_loss"].argmin()) + 1 for result in results}
    return all_curves_png(histories, title, best)


def _short(intervals: AgeIntervals) -> list[str]:
    edges = [round(edge) for edge in intervals.edges_months]
    return [f"{low}-{high}" for low, high in pairwise(edges)]


def _reliability(results: Sequence[Result]) -> bytes:
    """Draw the cross-entropy networks before and after their temperature."""
    curves, errors = {}, {}
    for result in cross_entropy(results, sex=True)[-2:]:
        part = result.parts["held_out"]
        for told, temperature in (("as trained", 1.0), ("calibrated", result.temperature())):
            name = f"{result.row.model}, {told}"
            found = temper(part.log_probabilities, temperature)
            curves[name] = reliability(found, part.classes)
            errors[name] = expected_calibration_error(found, part.classes)
    return reliability_png(curves, f"{results[0].row.count} intervals, held-out images", errors)
