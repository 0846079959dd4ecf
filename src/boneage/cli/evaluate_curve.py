"""`boneage evaluate --learning-curve`: how the error falls with more images, and what more would bring."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from boneage.cli.console import Interrupted, make_folder, missing_package, note, rich_console, write_file
from boneage.cli.train import check_overrides, locator

if TYPE_CHECKING:
    from boneage.metrics.power_law import Curve
    from boneage.reporting.learning_curve import CurveReport
    from boneage.training.learning_curve import LearningCurve

TITLE = "Learning curve"


def evaluate_curve(
    data: Path, out: Path, config: Path | None, overrides: list[str], finder: Path | None
) -> None:
    """Train what is still to be trained, and write the curve anew after every training.

    Raises:
        ConfigError: as `training.learning_curve.LearningCurve`.
        RuntimeUnavailable: the extra `train` is not installed.
        Interrupted: Ctrl-C; what is done is kept.
    """
    from boneage.training.curve_config import read_curve_config
    from boneage.training.learning_curve import LearningCurve

    check_overrides(overrides)
    settings = read_curve_config(config, overrides)
    make_folder(out)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("boneage").setLevel(logging.INFO)
    try:
        curve = LearningCurve(settings, data, out, locator(finder))
        total, done = len(curve.cells()), sum(map(curve.done, curve.cells()))
        note(f"{total} trainings, {done} of them done")
        for ended in curve.train():
            done += 1
            note(f"{ended.name} has ended: {done} of {total}")
            if curve.errors():  # a size counts once all its held-out folds are predicted
                write_curve(report_of(curve), out)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: what is done of {out} is kept; the same command goes on") from None
    except ModuleNotFoundError as error:
        unavailable = missing_package(error)
        if unavailable is None:
            raise
        raise unavailable from error
    report = report_of(curve)
    write_curve(report, out)
    print_curve(report)


def report_of(curve: LearningCurve) -> CurveReport:
    """Return what the trainings that have ended say."""
    from boneage.metrics.power_law import learning_curve
    from boneage.reporting.learning_curve import CurveReport

    config, errors = curve.config, curve.errors()
    measured = learning_curve({size: list(each) for size, each in errors.items()}, config.forecast)
    settings = {
        "recipe": f"{config.recipe}, {config.config or 'recipe'}.toml",
        "changes": "; ".join(config.changes) or "none",
        "held-out folds": f"{', '.join(map(str, config.held_out))} of {config.folds}",
        "seeds": ", ".join(map(str, config.seeds)),
        "effort": "the same steps for every size"
        if config.effort == "steps"
        else "the same epochs for every size",
    }
    held_out = sum(curve.folds[row.id] in config.held_out for row in curve.rows)
    unfinished = sum(not curve.done(cell) for cell in curve.cells())
    return CurveReport(TITLE, measured, held_out, unfinished, settings, _remarks(measured))


def _remarks(curve: Curve) -> tuple[str, ...]:
    told = [
        "The curve is that of the recipe and effort named below, not of the shipped bundle: read the fall, "
        "not the height. A forecast holds for images like these and their readers."
    ]
    if min(curve.seeds.values()) < 2:
        told.append(
            "Some sizes have one seed alone: their intervals leave out the chance of subset and training."
        )
    return tuple(told)


def write_curve(report: CurveReport, out: Path) -> None:
    """Write a curve as table, JSON and plot."""
    from boneage.reporting import learning_curve as figures

    text = json.dumps(figures.record(report), indent=2, allow_nan=False) + "\n"
    write_file(out / "learning_curve.json", text)
    write_file(out / "learning_curve.csv", figures.csv_text(report))
    write_file(out / "learning_curve.md", figures.markdown(report))
    write_file(out / "learning_curve.png", figures.curve_png(report))


def print_curve(report: CurveReport) -> None:
    """Print the tables."""
    from rich.table import Table

    from boneage.reporting.learning_curve import HEAD, forecast_rows, measured_rows

    console = rich_console()
    sizes = Table(title=report.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in HEAD:
        sizes.add_column(name, justify="right")
    for row in measured_rows(report):
        sizes.add_row(*row)
    fitted = Table(box=None, show_header=False, pad_edge=False)
    for row in forecast_rows(report):
        fitted.add_row(*row)
    console.print(sizes, "", fitted, markup=False)
