"""The stress card as table, JSON, CSV and plot."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from boneage.imaging.stress import STRESSES, cell_of
from boneage.metrics.paired_change import PairedChange, paired_change
from boneage.reporting.stress_card import (
    HEAD,
    StressCard,
    csv_text,
    fragile,
    markdown,
    record,
    stress_png,
    table_rows,
)

CELLS = [cell_of(each, strength) for each in STRESSES for strength in each.strengths]
TRUTH = np.linspace(60.0, 180.0, 30)


def changed(months: float, refused: int = 0) -> PairedChange:
    """All ages too high by 2 months before, and by some more after; the first images are refused."""
    after = TRUTH + 2 + months
    after[:refused] = np.nan
    return paired_change(TRUTH, TRUTH + 2, after, n=50)


@pytest.fixture
def card() -> StressCard:
    effects = dict.fromkeys(CELLS, changed(0.1))
    effects["rotation 90 degrees"] = changed(3.0)
    effects["noise SD 0.1"] = changed(9.0, refused=10)
    effects["crop 20% of each side"] = changed(0.0, refused=30)
    warnings = {"inversion bone dark": {"polarity_uncertain": 15, "flat": 1}}
    return StressCard("Card", 32, 2, effects, warnings, ("Read this first.",))


def test_every_cell_is_a_row(card: StressCard) -> None:
    rows = table_rows(card)
    assert len(rows) == len(CELLS) and all(len(row) == len(HEAD) for row in rows)
    by_cell = {f"{row[0]} {row[1]}": row for row in rows}
    assert by_cell["rotation 90 degrees"][2:7] == ("yes", "+3.00 (+3.00 to +3.00)", "3.00", "+3.00", "0%")
    assert by_cell["crop 20% of each side"][2:7] == ("no", "-", "-", "-", "100%")
    assert by_cell["inversion bone dark"][-1] == "polarity_uncertain 50%"


def test_only_what_is_realistic_and_too_much_is_called_fragile(card: StressCard) -> None:
    assert [name for name, _ in fragile(card)] == ["rotation 90 degrees"]
    text = markdown(card)
    assert "30 of 32 images are read" in text and "rotation 90 degrees (+3.00)" in text
    assert text.index("Read this first.") < text.index("| change |")
    sound = StressCard("Card", 30, 0, dict.fromkeys(CELLS, changed(0.1)))
    assert "No realistic strength raises the MAE" in markdown(sound)


def test_json_and_csv_hold_every_cell(card: StressCard) -> None:
    whole = json.loads(json.dumps(record(card), allow_nan=False))
    assert len(whole["cells"]) == len(CELLS) and whole["refused_unchanged"] == 2
    lines = list(csv.DictReader(io.StringIO(csv_text(card))))
    assert len(lines) == len(CELLS)
    (gone,) = [line for line in lines if line["label"] == "20% of each side"]
    assert (gone["read"], gone["refused"], gone["mae_change"]) == ("0", "1.0000", "")


def test_the_plot_is_a_picture_and_the_same_each_time(card: StressCard) -> None:
    picture = stress_png(card)
    assert picture.startswith(b"\x89PNG") and picture == stress_png(card)


def test_a_card_of_some_cells_has_only_these() -> None:
    card = StressCard("Card", 30, 0, {"inversion bone dark": changed(0.0)})
    assert len(table_rows(card)) == 1
    assert stress_png(card).startswith(b"\x89PNG")
