"""What a bone age means for growth, in lines that people read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from boneage.reporting.tabular import years_and_months

HEIGHT_NAMES = {
    "bayley_pinneau": "Bayley-Pinneau 1952",
    "tw_mark1_1975": "TW Mark I 1975",
    "rwt_1975": "RWT 1975",
    "rwt_1993": "RWT 1993",
    "khamis_roche_1995": "Khamis-Roche 1995",
    "mid_parental": "mid-parental",
}
"""Method of adult height -> what people call it."""

MEASUREMENTS = {
    "weight_kg": "the weight",
    "father_cm": "the father's height",
    "mother_cm": "the mother's height",
    "bone_age_months": "a bone age of its own standard",
    "age_months": "the chronological age",
}
"""Measurement -> what people call it."""


@dataclass(frozen=True, slots=True)
class GrowthLine:
    """One line: what, its value, and what is to be said of it; `given` is False where there is no value."""

    what: str
    value: str
    remarks: str = ""
    given: bool = True


def growth_lines(growth: Mapping[str, Any]) -> Iterator[GrowthLine]:
    """Return the lines of an assessment's `growth`: plates, SD score, adult heights, and those left out."""
    yield from age_lines(growth)
    yield from height_lines(growth)


def age_lines(growth: Mapping[str, Any]) -> Iterator[GrowthLine]:
    """Return the lines on the bone age itself: the plates nearest to it, and its SD score."""
    if plates := growth.get("plates"):
        ages = ", ".join(years_and_months(plate["age_months"]) for plate in plates)
        yield GrowthLine("Nearest Greulich-Pyle plates", ages)
    if score := growth.get("sd_score"):
        yield _sd_score(score)


def height_lines(growth: Mapping[str, Any]) -> Iterator[GrowthLine]:
    """Return a line for every method of adult height, those that are left out last."""
    heights = growth.get("adult_heights", {})
    for item in heights.get("predictions", ()):
        error = item["residual_sd_cm"]
        value = f"{item['height_cm']:.1f} cm" + ("" if error is None else f" (SD {error:g})")
        yield GrowthLine(f"Adult height, {item['edition']}", value, "; ".join(item["remarks"]))
    for name, reason in heights.get("left_out", {}).items():
        yield GrowthLine(f"Adult height, {HEIGHT_NAMES[name]}", "none", _in_words(reason), given=False)


@dataclass(frozen=True, slots=True)
class HeightRow:
    """A row of a narrow table of adult heights: what its cells say, and all remarks in one text."""

    method: str
    height_cm: str
    sd_cm: str
    remarks: str


def height_rows(growth: Mapping[str, Any]) -> list[HeightRow]:
    """Return a row for every method that gives an adult height, under its short name."""
    rows = []
    for item in growth.get("adult_heights", {}).get("predictions", ()):
        error = item["residual_sd_cm"]
        category = item["edition"].partition(": ")[
            2
        ]  # Bayley-Pinneau's table, by how far the bone age is off
        remarks = "; ".join(filter(None, (category, *item["remarks"])))
        name = HEIGHT_NAMES.get(item["method"], item["method"])
        rows.append(
            HeightRow(name, f"{item['height_cm']:.1f}", "" if error is None else f"{error:g}", remarks)
        )
    return rows


def heights_left_out(growth: Mapping[str, Any]) -> dict[str, str]:
    """Return the reasons why methods give no adult height, each with the methods that it holds for."""
    named: dict[str, list[str]] = {}
    for name, reason in growth.get("adult_heights", {}).get("left_out", {}).items():
        named.setdefault(_in_words(reason), []).append(HEIGHT_NAMES[name])
    return {reason: ", ".join(names) for reason, names in named.items()}


def _sd_score(score: Mapping[str, Any]) -> GrowthLine:
    what = "Bone age against chronological age"
    remarks = "; ".join(score["remarks"])
    if score["value"] is None:
        return GrowthLine(what, "none", remarks, given=False)
    reference = f"SD {score['sd_months']:.1f} months ({score['reference']})"
    return GrowthLine(what, f"{score['value']:+.1f} SD", "; ".join(filter(None, (reference, remarks))))


def _in_words(reason: str) -> str:
    """Return a reason with measurements called as people call them."""
    return re.sub("|".join(MEASUREMENTS), lambda found: MEASUREMENTS[found[0]], reason)
