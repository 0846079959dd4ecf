"""Load a standard by its name, and score a hand by it: grades -> scores -> total -> bone age."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from boneage.core.errors import TableBroken, TableMissing
from boneage.core.types import Notice, Sex
from boneage.standards.names import Bone, parse_bone
from boneage.standards.scales import Curve, Floats, Scale, Standard
from boneage.standards.tables import TABLES, Table, catalogue, check_rising, number, read_table

__all__ = [
    "BoneScore",
    "ScoreSheet",
    "Standard",
    "age_curve",
    "score",
    "score_table",
    "standard",
    "standard_names",
]


@dataclass(frozen=True, slots=True)
class BoneScore:
    """One bone on a score sheet: its grade, the stage nearest to it, and what it scores of its maximum."""

    bone: Bone
    grade: float
    stage: str
    score: float
    maximum: float


@dataclass(frozen=True, slots=True)
class ScoreSheet:
    """A hand scored by one standard.

    Args:
        standard: the standard's name, as `rus_chn`.
        edition: what it is called in print.
        sex: whose table was used.
        bones: every bone of the standard, in its order.
        total: sum of the scores.
        age_months: the bone age at that total.
        warnings: clamped, mature, weak source.
    """

    standard: str
    edition: str
    sex: Sex
    bones: tuple[BoneScore, ...]
    total: float
    age_months: float
    warnings: tuple[Notice, ...] = ()


def standard_names(folder: Path = TABLES) -> tuple[str, ...]:
    """Return the names of the standards."""
    return tuple(catalogue(folder)["standards"])


@cache
def standard(name: str, folder: Path = TABLES) -> Standard:
    """Return a standard by its name, `rus_chn` or `rus-chn`, its tables loaded and checked.

    Raises:
        TableMissing: there is no such standard, or a file of it is not there.
        TableBroken: a table is not the one that was checked, is incomplete or out of order, or a sub-grade
            is not between the grades of the first table.
    """
    key = name.strip().lower().replace("-", "_")
    entries: Mapping[str, Mapping[str, Any]] = catalogue(folder)["standards"]
    if key not in entries:
        raise TableMissing(f"there is no standard {name!r}: name one of {', '.join(entries)}")
    entry = entries[key]
    bones = tuple(parse_bone(bone) for bone in entry["bones"])
    scores, curve = read_table(entry["scores"], folder), read_table(entry["curve"], folder)
    merged, origins = scores, [scores.source]
    if "subgrades" in entry:
        further = read_table(entry["subgrades"], folder)
        merged = _merged(scores, further)
        origins.append(further.source)
    return Standard(
        name=key,
        title=entry["title"],
        edition=entry["edition"],
        bones=bones,
        scales=_scales(merged, bones),
        curves=MappingProxyType({sex: _curve(curve, sex) for sex in Sex}),
        tables=(*origins, curve.source),
    )


def score(
    name: str | Standard, sex: Sex | str, grades: Mapping[Bone, float] | Mapping[str, float]
) -> ScoreSheet:
    """Score a hand by a standard.

    Args:
        name: the standard, or its name.
        sex: whose table to use.
        grades: bone -> grade, whole or fractional; all of the standard's bones, and no others.

    Raises:
        TableMissing: there is no such standard.
        WrongBones: a bone is unknown, missing, given twice, or not the standard's.
        UnknownGrade: a bone has no such grade, or it is no number.
        ConfigError: the sex is no sex.
    """
    chosen = name if isinstance(name, Standard) else standard(name)
    sex = Sex.parse(sex)
    bones = tuple(
        BoneScore(
            bone=bone,
            grade=float(grade),
            stage=chosen.scale(sex, bone).label(grade),
            score=chosen.grade_score(sex, bone, grade),
            maximum=float(chosen.scale(sex, bone).scores[-1]),
        )
        for bone, grade in chosen.complete_grades(grades).items()
    )
    total = math.fsum(bone.score for bone in bones)
    age, notices = chosen.age_months(sex, total)
    return ScoreSheet(chosen.name, chosen.edition, sex, bones, total, age, notices)


def score_table(name: str, sex: Sex | str) -> tuple[tuple[Bone, ...], Floats]:
    """Return a standard's bones and the scores of their whole grades, for code that works on arrays.

    Returns:
        Bones (B), and (B, G + 1) scores with a column a whole grade from 0 to the most that any bone
        has; NaN where a bone has no such grade.
    """
    chosen = standard(name)
    scales = [chosen.scale(sex, bone) for bone in chosen.bones]
    last = int(max(scale.grades[-1] for scale in scales))
    table = np.full((len(scales), last + 1), np.nan)
    for row, scale in zip(table, scales, strict=True):
        whole = scale.grades % 1 == 0
        row[scale.grades[whole].astype(int)] = scale.scores[whole]
    return chosen.bones, table


def age_curve(name: str, sex: Sex | str) -> tuple[Floats, Floats]:
    """Return a standard's curve: (K,) totals and (K,) ages in months, both strictly rising.

    `np.interp(total, totals, ages)` is the age at a total, `np.interp(age, ages, totals)` the inverse.
    """
    curve = standard(name).curves[Sex.parse(sex)]
    return curve.totals, curve.ages_months


def _frozen(values: list[float]) -> Floats:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _merged(first: Table, further: Table) -> Table:
    """Return a score table with each row of a further one before the next higher grade of its sex and bone.

    The first table's rows keep their order, so that rows out of order are still found out.
    """
    rows = list(first.rows)
    for row in further.rows:
        which = (row.get("sex"), row.get("bone"))
        where = f"{further.source.name}, {which[0]} {which[1]}"
        grade = number(row, "grade", where)
        places = [place for place, other in enumerate(rows) if (other.get("sex"), other.get("bone")) == which]
        known = [number(rows[place], "grade", first.source.name) for place in places]
        if grade in known:
            raise TableBroken(f"{where}: grade {grade:g} is there already: remove the row")
        if not known or not known[0] < grade < known[-1]:
            raise TableBroken(
                f"{where}: grade {grade:g} is not between two grades of {first.source.name}: remove the row"
            )
        rows.insert(places[bisect(known, grade)], row)
    named = replace(first.source, name=f"{first.source.name} with {further.source.name}")
    return Table(named, tuple(rows))


def _scales(table: Table, bones: tuple[Bone, ...]) -> Mapping[Sex, Mapping[Bone, Scale]]:
    name = table.source.name
    found = {sex: MappingProxyType({bone: _scale(table, sex, bone) for bone in bones}) for sex in Sex}
    for bone in bones:
        if not np.array_equal(found[Sex.FEMALE][bone].grades, found[Sex.MALE][bone].grades):
            raise TableBroken(f"{name}: the {bone} has other grades for girls than for boys: mend the table")
    return MappingProxyType(found)


def _scale(table: Table, sex: Sex, bone: Bone) -> Scale:
    """Check and return one bone's rows: grades from 0 without a gap, scores from 0 that never fall."""
    where = f"{table.source.name}, {sex} {bone}"
    rows = [row for row in table.of(sex) if row.get("bone") == bone]
    grades = [number(row, "grade", where) for row in rows]
    scores = [number(row, "score", where) for row in rows]
    check_rising(grades, f"{where}: the grades")
    check_rising(scores, f"{where}: the scores", strictly=False)
    whole = [grade for grade in grades if grade % 1 == 0]
    if len(whole) < 2 or whole != list(range(len(whole))) or grades[-1] != whole[-1]:
        raise TableBroken(
            f"{where}: expected the grades 0, 1, 2 ... without a gap, got {grades}: mend the table"
        )
    if scores[0] != 0:
        raise TableBroken(f"{where}: grade 0 must score 0, not {scores[0]:g}: mend the table")
    return Scale(_frozen(grades), tuple(row.get("label", "").upper() for row in rows), _frozen(scores))


def _curve(table: Table, sex: Sex) -> Curve:
    """Check and return one sex's curve; ages become months, at the table's own precision."""
    where = f"{table.source.name}, {sex}"
    rows = table.of(sex)
    totals = [number(row, "total", where) for row in rows]
    months = [round(number(row, "age_years", where) * 12, 6) for row in rows]
    if len(rows) < 2:
        raise TableBroken(f"{where}: expected two knots or more, got {len(rows)}: mend the table")
    check_rising(totals, f"{where}: the totals")
    check_rising(months, f"{where}: the ages")
    return Curve(_frozen(totals), _frozen(months))
