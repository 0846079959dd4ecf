"""Adult height by six published methods, each under its edition's true name.

Centimetres, kilograms and months at the border; a method's own units are made inside it. Linear
coefficients are interpolated between the ages of their table, so that a birthday makes no jump;
TW Mark I is printed for age bands and keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from boneage.core.errors import ConfigError, NotApplicable
from boneage.core.types import Notice, Sex
from boneage.standards.growth import OLDEST_MONTHS, checked
from boneage.standards.tables import Grid, grid, number, read_table, source, warnings_of

CM_PER_INCH = 2.54
KG_PER_POUND = 0.45359237
RECUMBENT_EXCESS_CM = 1.25
"""Recumbent length exceeds standing height by this much (Roche et al. 1975)."""
BRITISH_MID_PARENT_CM = 168.0
"""The mean from which Tanner et al. 1975 count the parents' allowance."""
AFTER_18_CM = {Sex.MALE: 0.8, Sex.FEMALE: 0.6}
"""Growth after 18 years (Khamis and Guo 1993)."""
TANNER_SEX_CM = 13.0
"""Mean difference between the heights of men and women in the mid-parental formula."""

_LIMITS = {
    "age_months": (0.0, OLDEST_MONTHS, "months"),
    "bone_age_months": (0.0, OLDEST_MONTHS, "months"),
    "height_cm": (30.0, 230.0, "centimetres"),
    "recumbent_length_cm": (30.0, 230.0, "centimetres"),
    "weight_kg": (1.0, 250.0, "kilograms"),
    "father_cm": (100.0, 250.0, "centimetres"),
    "mother_cm": (100.0, 250.0, "centimetres"),
}
_ADULT_CM = (100.0, 250.0)

RWT_COLUMNS = ("height_cm", "weight_kg", "mid_parent_cm", "bone_age_years", "constant")
"""Coefficients of both RWT editions; the first is of recumbent length in 1975, of stature in 1993."""


@dataclass(frozen=True, slots=True)
class Child:
    """What is known of a child whose adult height is asked for.

    Args:
        sex: `Sex`, or a word that `Sex.parse` knows.
        age_months: chronological age.
        height_cm: standing height.
        weight_kg: weight without clothes.
        bone_age_months: by the standard that a method was made with, see `HeightPrediction.bone_age_scale`.
        father_cm: the father's height.
        mother_cm: the mother's height.
        menarche: whether a girl's periods have begun.
        recumbent_length_cm: length lying down; the height and 1.25 cm where it was not measured.

    Raises:
        ConfigError: the sex is no sex, a measurement is no number or no person's, or a boy has a menarche.
    """

    sex: Sex
    age_months: float
    height_cm: float
    weight_kg: float | None = None
    bone_age_months: float | None = None
    father_cm: float | None = None
    mother_cm: float | None = None
    menarche: bool | None = None
    recumbent_length_cm: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sex", Sex.parse(self.sex))
        for name, (low, high, unit) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None:
                checked(name, value, low, high, unit)
        _check_height_for_age(self)
        if self.sex is Sex.MALE and self.menarche is not None:
            raise ConfigError("menarche is asked of girls only: leave it out for a boy")

    def need(self, *names: str) -> tuple[float, ...]:
        """Return measurements.

        Raises:
            NotApplicable: some are not there; the message names all of them.
        """
        if missing := [name for name in names if getattr(self, name) is None]:
            raise NotApplicable(f"needs {', '.join(missing)}: give {'it' if len(missing) == 1 else 'them'}")
        return tuple(float(getattr(self, name)) for name in names)


@dataclass(frozen=True, slots=True)
class HeightPrediction:
    """An adult height by one method.

    Args:
        method: its short name, as `tw_mark1_1975`.
        edition: what it is called in print.
        height_cm: the height it predicts.
        residual_sd_cm: standard deviation of its error, where its table prints one.
        bone_age_scale: whose bone ages it was made with; those of another standard shift it.
        warnings: weak source, a misprint in the table's row, a measurement stood in for, ...
    """

    method: str
    edition: str
    height_cm: float
    residual_sd_cm: float | None = None
    bone_age_scale: str | None = None
    warnings: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        low, high = _ADULT_CM
        if not low <= self.height_cm <= high:
            raise NotApplicable(
                f"gives {self.height_cm:.1f} cm, which is no adult's height ({low:g} to {high:g} cm): "
                "check that ages are months, heights centimetres and the weight kilograms"
            )


@dataclass(frozen=True, slots=True)
class HeightForecast:
    """Every method's answer, and for each of the others why it has none."""

    predictions: tuple[HeightPrediction, ...]
    left_out: Mapping[str, str]


def bayley_pinneau(child: Child) -> HeightPrediction:
    """Predict from the share of mature height that a bone age has reached.

    The share is linear between the table's bone ages. A bone age 12 months or more ahead of the age
    takes the accelerated table, 12 or more behind the delayed one.

    Raises:
        NotApplicable: no bone age, or one that the category's table does not reach.
    """
    (bone_age,) = child.need("bone_age_months")
    ahead = bone_age - child.age_months
    category = "accelerated" if ahead >= 12 else "delayed" if ahead <= -12 else "average"
    shares = grid("bayley_pinneau.csv", child.sex, "bone_age_months", ("percent",), category)
    _check_reach(f"the table of {category} {child.sex} patients", "bone ages", shares.ends, bone_age)
    edge = f"the bone age is exactly 12 months off: read as {category}, where others read average"
    notices = (Notice("category_edge", edge),) if abs(ahead) == 12 else ()
    return HeightPrediction(
        method="bayley_pinneau",
        edition=f"Bayley-Pinneau 1952, as in Greulich and Pyle 1959: {category} bone age",
        height_cm=child.height_cm / float(shares.at(bone_age)[0]) * 100,
        bone_age_scale="Greulich-Pyle",
        warnings=(*notices, *_weak("bayley_pinneau.csv", child)),
    )


def tw_mark1(child: Child) -> HeightPrediction:
    """Predict by the equations of Tanner et al. 1975, with the parents' allowance where both are known.

    Raises:
        NotApplicable: no bone age, a girl of 11 to 15 years without `menarche`, or an age out of reach.
    """
    name = "tw_mark1_1975.csv"
    age, rows = child.age_months / 12, read_table(name).of(child.sex)
    bands = [(number(row, "age_from_years", name), number(row, "age_below_years", name)) for row in rows]
    start, end = min(low for low, _ in bands) * 12, max(high for _, high in bands) * 12
    if not start <= child.age_months < end:
        raise NotApplicable(
            f"the table of {child.sex} patients holds ages from {start:g} to below {end:g} months, "
            f"not {child.age_months:g}: use another method"
        )
    (bone_age_months,) = child.need("bone_age_months")
    fitting = [row for row, (low, high) in zip(rows, bands, strict=True) if low <= age < high]
    if fitting[0]["menarche"]:
        if child.menarche is None:
            raise NotApplicable("needs menarche of a girl of 11 to 15 years: say whether it was")
        fitting = [row for row in fitting if row["menarche"] == ("yes" if child.menarche else "no")]
    (row,) = fitting
    weights = [
        number(row, column, name) for column in ("height_cm", "age_years", "bone_age_years", "constant")
    ]
    height = float(np.dot(weights, [child.height_cm, age, bone_age_months / 12, 1.0]))
    notices = [Notice("residual_estimated", row["note"])] if row["note"] else []
    if child.father_cm is not None and child.mother_cm is not None:
        mid_parent = (child.father_cm + child.mother_cm) / 2
        allowance = (mid_parent - BRITISH_MID_PARENT_CM) / 3
        height += allowance
        notices.append(Notice("parental_allowance", f"{allowance:+.1f} cm are for the parents' heights"))
    return HeightPrediction(
        method="tw_mark1_1975",
        edition="TW Mark I (Tanner et al. 1975)",
        height_cm=height,
        residual_sd_cm=number(row, "residual_sd_cm", name),
        bone_age_scale="TW2-RUS",
        warnings=(*notices, *_weak(name, child)),
    )


def rwt_1975(child: Child) -> HeightPrediction:
    """Predict by the equations of Roche, Wainer and Thissen 1975, from recumbent length.

    Raises:
        NotApplicable: weight, bone age or a parent's height is missing, or the age is out of reach.
    """
    coefficients = _coefficients("rwt_1975.csv", child, RWT_COLUMNS)
    measures = _rwt_measures(child)
    notices: tuple[Notice, ...] = ()
    if child.recumbent_length_cm is None:
        text = f"recumbent length is taken as the height and {RECUMBENT_EXCESS_CM} cm"
        notices = (Notice("length_from_height", text),)
    length = child.recumbent_length_cm or child.height_cm + RECUMBENT_EXCESS_CM
    height, remarks = _combine(coefficients, child, [length, *measures])
    return HeightPrediction(
        method="rwt_1975",
        edition="RWT (Roche, Wainer and Thissen 1975)",
        height_cm=height,
        bone_age_scale="Greulich-Pyle",
        warnings=(*notices, *remarks),
    )


def rwt_1993(child: Child) -> HeightPrediction:
    """Predict the height at 18 years by the RWT method as modified by Khamis and Guo 1993, from stature.

    Raises:
        NotApplicable: weight, bone age or a parent's height is missing, or the age is out of reach.
    """
    coefficients = _coefficients("rwt_1993.csv", child, RWT_COLUMNS)
    height, remarks = _combine(coefficients, child, [child.height_cm, *_rwt_measures(child)])
    text = f"this is the height at 18 years; add {AFTER_18_CM[child.sex]} cm for the final height"
    return HeightPrediction(
        method="rwt_1993",
        edition="RWT as modified by Khamis and Guo 1993",
        height_cm=height,
        bone_age_scale="Greulich-Pyle",
        warnings=(Notice("height_at_18", text), *remarks),
    )


def khamis_roche(child: Child) -> HeightPrediction:
    """Predict without a bone age, by Khamis and Roche with the coefficients of the 1995 erratum.

    Raises:
        NotApplicable: weight or a parent's height is missing, or the age is out of reach.
    """
    columns = ("height_in", "weight_lb", "mid_parent_in", "constant")
    coefficients = _coefficients("khamis_roche_1995.csv", child, columns)
    weight, father, mother = child.need("weight_kg", "father_cm", "mother_cm")
    mid_parent_in = (father + mother) / 2 / CM_PER_INCH
    measures = [child.height_cm / CM_PER_INCH, weight / KG_PER_POUND, mid_parent_in, 1.0]
    inches, remarks = _combine(coefficients, child, measures)
    return HeightPrediction(
        method="khamis_roche_1995",
        edition="Khamis-Roche (1994, coefficients of the 1995 erratum)",
        height_cm=inches * CM_PER_INCH,
        warnings=remarks,
    )


def mid_parental(child: Child) -> HeightPrediction:
    """Return Tanner's mid-parental target height; it knows nothing of the child but the sex.

    The sources give different ranges around it, so none is given.

    Raises:
        NotApplicable: a parent's height is missing.
    """
    father, mother = child.need("father_cm", "mother_cm")
    shift = TANNER_SEX_CM if child.sex is Sex.MALE else -TANNER_SEX_CM
    return HeightPrediction(
        method="mid_parental",
        edition="mid-parental target height (Tanner, 13 cm)",
        height_cm=(father + mother + shift) / 2,
    )


METHODS: Mapping[str, Callable[[Child], HeightPrediction]] = MappingProxyType(
    {
        "bayley_pinneau": bayley_pinneau,
        "tw_mark1_1975": tw_mark1,
        "rwt_1975": rwt_1975,
        "rwt_1993": rwt_1993,
        "khamis_roche_1995": khamis_roche,
        "mid_parental": mid_parental,
    }
)
"""Method -> the function that predicts by it."""


def predict_heights(child: Child) -> HeightForecast:
    """Predict by every method that can, and say why each of the others cannot."""
    predictions: list[HeightPrediction] = []
    left_out: dict[str, str] = {}
    for name, predict in METHODS.items():
        try:
            prediction = predict(child)
        except NotApplicable as reason:
            left_out[name] = str(reason)
            continue
        if name != "mid_parental" and prediction.height_cm < child.height_cm:
            text = f"the prediction is below the present height of {child.height_cm:g} cm"
            prediction = replace(prediction, warnings=(*prediction.warnings, Notice("below_height", text)))
        predictions.append(prediction)
    return HeightForecast(tuple(predictions), MappingProxyType(left_out))


def _check_height_for_age(child: Child) -> None:
    """Refuse a height that no child of that age has: years for months, inches or metres for centimetres.

    Raises:
        ConfigError: the height or the length is far from any child's.
    """
    low, high = 30 + 0.25 * child.age_months, 100 + 0.75 * child.age_months
    for value in (child.height_cm, child.recumbent_length_cm):
        if value is not None and not low <= value <= high:
            raise ConfigError(
                f"a child of {child.age_months:g} months measures {low:.0f} to {high:.0f} cm, not {value:g}: "
                "give ages in months and heights in centimetres"
            )


def _coefficients(name: str, child: Child, columns: tuple[str, ...]) -> Grid:
    """Return a table's coefficients over the age in years, once they are known to reach the child's."""
    coefficients = grid(name, child.sex, "age_years", columns)
    first, last = coefficients.ends
    _check_reach(f"the table of {child.sex} patients", "ages", (first * 12, last * 12), child.age_months)
    return coefficients


def _rwt_measures(child: Child) -> list[float]:
    """Return what both RWT editions multiply after the length."""
    weight, father, mother, bone_age = child.need("weight_kg", "father_cm", "mother_cm", "bone_age_months")
    return [weight, (father + mother) / 2, bone_age / 12, 1.0]


def _combine(coefficients: Grid, child: Child, measures: list[float]) -> tuple[float, tuple[Notice, ...]]:
    """Return coefficients times measures at the child's age, and what the table remarks on its rows."""
    age = child.age_months / 12
    misprints = tuple(Notice("misprint", text) for text in coefficients.notes_at(age))
    return float(np.dot(coefficients.at(age), measures)), (*misprints, *_weak(coefficients.table, child))


def _weak(name: str, child: Child) -> tuple[Notice, ...]:
    return warnings_of([source(name)], child.sex)


def _check_reach(table: str, what: str, ends: tuple[float, float], months: float) -> None:
    if not ends[0] <= months <= ends[1]:
        raise NotApplicable(
            f"{table} holds {what} of {ends[0]:g} to {ends[1]:g} months, not {months:g}: use another method"
        )
