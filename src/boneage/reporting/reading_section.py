"""The report's part on a reader's grades: each score sheet beside the network's, what was changed marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from boneage.core.errors import NotApplicable
from boneage.core.types import Assessment, ReadSheet
from boneage.reporting.markup import table
from boneage.reporting.tabular import grade_words, network_grades, years_and_months
from boneage.standards.growth import bone_age_sd_score
from boneage.standards.names import Bone
from boneage.standards.scoring import standard

HEAD = ("Bone", "Network", "Reader", "Score", "What the reader did")
NOT_GRADED, UNKNOWN = "not graded", "\N{EN DASH}"


def readers_line(assessment: Assessment) -> str:
    """Return the line that stands by the bone age where a reader changed grades; else nothing."""
    if not assessment.reading:
        return ""
    titles = " and ".join(standard(sheet.standard).title for sheet in assessment.reading)
    return f"This is the machine's answer. A reader changed grades of {titles}: see the reader's score sheet."


def read_age_words(sheet: ReadSheet) -> str:
    """Return the bone age of a sheet as people write it, or why there is none."""
    if sheet.age_months is None:
        return "a bone is not graded"
    score = "" if sheet.sd_score is None else f", {sheet.sd_score:+.1f} SD"
    return f"{years_and_months(sheet.age_months)} ({sheet.age_months:.1f} months{score})"


def reading_section(assessment: Assessment) -> Iterator[str]:
    """Return the section; nothing where no reader changed a grade."""
    if not assessment.reading:
        return
    yield '<section class="reading"><h3>Reader&#x27;s score sheet</h3>'
    yield (
        "<p>A reader gave these grades in place of the network&#x27;s. "
        "The bone age at the top is the machine&#x27;s and stays as it is.</p>"
    )
    for sheet in assessment.reading:
        yield _sheet(assessment, sheet)
    yield "</section>"


def _sheet(assessment: Assessment, sheet: ReadSheet) -> str:
    chosen = standard(sheet.standard)
    network = network_grades(assessment, sheet.standard)
    rows = [_row(assessment, sheet, network, bone) for bone in chosen.bones]
    marked = [place for place, bone in enumerate(chosen.bones) if bone in sheet.changed]
    return (
        f'<div class="sheet"><h4>{escape(chosen.title)}: {escape(read_age_words(sheet))}</h4>'
        f'<p class="soft">{escape(sheet.edition)}</p>'
        f"{table(HEAD, rows, feet=_feet(assessment, sheet), marked=marked)}</div>"
    )


def _row(
    assessment: Assessment, sheet: ReadSheet, network: Mapping[str, float], bone: Bone
) -> tuple[str, ...]:
    """Return a bone's cells; a bone that the reader let stand has the network's grade in both columns."""
    own, read = (
        NOT_GRADED if grade is None else grade_words(sheet.standard, grade)
        for grade in (network.get(bone), sheet.grades.get(bone))
    )
    score = sheet.scores.get(bone)
    return (
        bone.readable,
        own,
        read,
        UNKNOWN if score is None else f"{score:g}",
        _done(assessment, sheet, network.get(bone), bone),
    )


def _done(assessment: Assessment, sheet: ReadSheet, own: float | None, bone: Bone) -> str:
    if bone not in sheet.changed:
        return ""
    if own is None:
        return "graded"
    before = standard(sheet.standard).grade_score(assessment.sex, bone, own)
    return f"changed: score {sheet.scores[bone] - before:+g}"


def _feet(assessment: Assessment, sheet: ReadSheet) -> Iterator[tuple[str, ...]]:
    """Return the rows below the bones: totals and bone ages of both, and their SD scores where known."""
    network: Mapping[str, Any] | None = assessment.scores.get(sheet.standard)
    own_total = UNKNOWN if network is None else f"{network['total']:g}"
    own_age = UNKNOWN if network is None else years_and_months(network["age_months"])
    yield "Total", own_total, UNKNOWN if sheet.total is None else f"{sheet.total:g}", "", ""
    age = UNKNOWN if sheet.age_months is None else years_and_months(sheet.age_months)
    yield "Bone age at the total", own_age, age, "", ""
    if sheet.sd_score is not None:
        own_score = UNKNOWN if network is None else _sd_score(assessment, network["age_months"])
        yield "SD score", own_score, f"{sheet.sd_score:+.1f}", "", ""


def _sd_score(assessment: Assessment, age_months: float) -> str:
    chronological = assessment.chronological_age_months
    if chronological is None:
        return UNKNOWN
    try:
        return f"{bone_age_sd_score(age_months, chronological, assessment.sex).value:+.1f}"
    except NotApplicable:
        return UNKNOWN
