"""Greulich-Pyle plate ages, and how far a bone age lies from the age in standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from boneage.core.errors import ConfigError, NotApplicable
from boneage.core.types import Notice, Sex
from boneage.standards.tables import check_rising, grid, number, read_table, source, warnings_of

OLDEST_MONTHS = 300.0
"""No standard reaches beyond 20 years; more months than this are a slip."""


class Reference(StrEnum):
    """Whose standard deviations a bone age is set against; the two are never mixed."""

    BRUSH = "brush"
    GREULICH_PYLE = "gp_tables_5_6"


_SD_TABLES = {Reference.BRUSH: "brush_sd.csv", Reference.GREULICH_PYLE: "gp_tables_5_6_sd.csv"}
_SD_NAMES = {
    Reference.BRUSH: "Brush Foundation, in Greulich and Pyle 1959",
    Reference.GREULICH_PYLE: "Greulich and Pyle 1959, tables V and VI",
}


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate of the Greulich-Pyle atlas: its number and the age it stands for."""

    number: int
    age_months: float


@dataclass(frozen=True, slots=True)
class SdScore:
    """How far a bone age lies from the chronological age.

    Args:
        value: (bone age - chronological age) / standard deviation at the chronological age.
        difference_months: bone age - chronological age.
        sd_months: that standard deviation.
        reference: whose it is, in words.
    """

    value: float
    difference_months: float
    sd_months: float
    reference: str
    warnings: tuple[Notice, ...] = ()


def checked(name: str, value: float, low: float, high: float, unit: str) -> float:
    """Return a measurement after checking that it is a number within what people can be.

    Raises:
        ConfigError: it is not; the message names the unit, since a wrong one is the usual cause.
    """
    if not low <= value <= high:  # NaN fails both
        raise ConfigError(f"{name} must be {unit} from {low:g} to {high:g}, not {value!r}: give it in {unit}")
    return float(value)


def reference_sd(
    sex: Sex | str, reference: Reference = Reference.BRUSH
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return a reference's chronological ages and standard deviations, both in months, and its name.

    Raises:
        ConfigError: the sex is no sex.
    """
    name = _SD_TABLES[reference]
    rows = read_table(name).of(Sex.parse(sex))
    ages = tuple(number(row, "chronological_age_months", name) for row in rows)
    return ages, tuple(number(row, "sd_months", name) for row in rows), _SD_NAMES[reference]


def plates(sex: Sex | str) -> tuple[Plate, ...]:
    """Return the plates of the Greulich-Pyle atlas for one sex, youngest first.

    Raises:
        ConfigError: the sex is no sex.
    """
    name = "gp_plates.csv"
    rows = read_table(name).of(Sex.parse(sex))
    found = tuple(Plate(int(number(row, "plate", name)), number(row, "age_months", name)) for row in rows)
    check_rising([plate.age_months for plate in found], f"{name}: the ages")
    return found


def nearest_plates(sex: Sex | str, bone_age_months: float, count: int = 2) -> tuple[Plate, ...]:
    """Return the plates whose ages are nearest to a bone age, nearest first; of two as near, the younger.

    Raises:
        ConfigError: the sex is no sex, or the bone age no number of months from 0 to 300.
    """
    age = checked("bone_age_months", bone_age_months, 0, OLDEST_MONTHS, "months")
    return tuple(sorted(plates(sex), key=lambda plate: abs(plate.age_months - age))[:count])


def bone_age_sd_score(
    bone_age_months: float,
    chronological_age_months: float,
    sex: Sex | str,
    reference: Reference = Reference.BRUSH,
) -> SdScore:
    """Return how many standard deviations a bone age lies above the chronological age.

    The deviation is that of the chronological age, linear between the table's ages. The difference is
    taken from the age itself, not from the reference's mean bone age at that age.

    Raises:
        ConfigError: the sex is no sex, or an age is no number of months from 0 to 300.
        NotApplicable: the reference does not reach the chronological age; the message says its range.
    """
    sex = Sex.parse(sex)
    bone_age = checked("bone_age_months", bone_age_months, 0, OLDEST_MONTHS, "months")
    age = checked("chronological_age_months", chronological_age_months, 0, OLDEST_MONTHS, "months")
    table = _SD_TABLES[reference]
    deviations = grid(table, sex, "chronological_age_months", ("sd_months",))
    first, last = deviations.ends
    if not first <= age <= last:
        raise NotApplicable(
            f"{_SD_NAMES[reference]}, covers {sex} patients of {first:g} to {last:g} months, not {age:g}: "
            "no SD score can be given"
        )
    sd = float(deviations.at(age)[0])
    return SdScore(
        value=(bone_age - age) / sd,
        difference_months=bone_age - age,
        sd_months=sd,
        reference=_SD_NAMES[reference],
        warnings=warnings_of([source(table)], sex),
    )
