"""The learning curve as table, JSON, CSV and plot; no forecast from fewer than three sizes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import numpy as np
import pytest

from boneage.metrics.power_law import learning_curve
from boneage.reporting.learning_curve import (
    CurveReport,
    csv_text,
    curve_png,
    forecast_rows,
    markdown,
    measured_rows,
    record,
)


def report(sizes: Sequence[int], unfinished: int = 0) -> CurveReport:
    rng = np.random.default_rng(0)
    errors = {size: [rng.exponential(5 + 100 * size**-0.5, 60) for _ in range(2)] for size in sizes}
    curve = learning_curve(errors, (12611,), n=60)
    return CurveReport("Curve", curve, 60, unfinished, {"recipe": "r"}, ("Read this first.",))


def test_four_sizes_are_a_table_and_a_forecast() -> None:
    found = report((200, 400, 800, 981))
    assert [row[0] for row in measured_rows(found)] == ["200", "400", "800", "981"]
    assert [row[3] == "-" for row in measured_rows(found)] == [True, False, False, False]
    assert [row[0] for row in forecast_rows(found)][-1] == "MAE with 12,611 images"
    text = markdown(found)
    assert "12.9 times the largest size trained: an extrapolation" in text
    assert "not tested" not in text and "still to be done" not in text
    assert text.index("Read this first.") < text.index("| training images |")


def test_three_sizes_say_that_the_fit_is_not_tested() -> None:
    assert "just determine" in markdown(report((200, 400, 800)))


@pytest.mark.parametrize("sizes", [(200,), (200, 400)])
def test_fewer_sizes_are_measured_and_nothing_is_forecast(sizes: Sequence[int]) -> None:
    found = report(sizes, unfinished=7)
    assert not forecast_rows(found)
    text = markdown(found)
    assert "None: a forecast needs at least 3 sizes" in text and "7 trainings are still to be done" in text
    assert "12,611" not in text and "12611" not in csv_text(found)
    assert curve_png(found).startswith(b"\x89PNG")


def test_json_csv_and_plot_hold_the_curve() -> None:
    found = report((200, 400, 800))
    whole = json.loads(json.dumps(record(found), allow_nan=False))
    assert set(whole["curve"]["mae"]) == {"200", "400", "800"} and "12611" in whole["curve"]["forecast"]
    lines = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [(line["training_images"], line["kind"]) for line in lines][-1] == ("12611", "forecast")
    assert curve_png(found) == curve_png(found)
