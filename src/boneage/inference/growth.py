"""What a bone age means for growth: its SD score at the child's age, and adult heights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from boneage.core.errors import NotApplicable
from boneage.core.types import Sex
from boneage.standards.adult_height import METHODS, Child, HeightForecast, HeightPrediction, predict_heights
from boneage.standards.growth import OLDEST_MONTHS, bone_age_sd_score, nearest_plates

RUS_METHOD = "tw_mark1_1975"
"""The one height method that was made with RUS bone ages; the others were made with Greulich-Pyle's."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured of a child beside the radiograph; see `standards.adult_height.Child`."""

    height_cm: float | None = None
    weight_kg: float | None = None
    father_cm: float | None = None
    mother_cm: float | None = None
    menarche: bool | None = None


def growth(
    sex: Sex,
    bone_age_months: float,
    tw3_age_months: float | None,
    age_months: float | None,
    measured: Measurements,
) -> dict[str, Any]:
    """Return `plates`, `sd_score` and `adult_heights`, each where what it needs is known.

    Args:
        sex: the patient's.
        bone_age_months: the answer; its labels were read by Greulich and Pyle's atlas.
        tw3_age_months: by TW3-RUS, for the method that was made with RUS bone ages.
        age_months: chronological age.
        measured: height and so on.

    Raises:
        ConfigError: a measurement is no child's.
    """
    plates = nearest_plates(sex, bone_age_months)
    found: dict[str, Any] = {"plates": [asdict(plate) for plate in plates]}
    if age_months is None:
        if measured.height_cm is not None:
            reasons = dict.fromkeys(METHODS, "needs age_months: give it")
            found["adult_heights"] = {"predictions": [], "left_out": reasons}
        return found
    found["sd_score"] = _sd_score(sex, bone_age_months, age_months)
    if measured.height_cm is not None:
        found["adult_heights"] = _heights(sex, bone_age_months, tw3_age_months, age_months, measured)
    return found


def _sd_score(sex: Sex, bone_age_months: float, age_months: float) -> dict[str, Any]:
    """Return the SD score; an adult's age, as a file may carry it, has none and is no reason to refuse."""
    if age_months > OLDEST_MONTHS:
        reason = f"no reference reaches {age_months:g} months: no SD score can be given"
        return {"value": None, "remarks": [reason]}
    try:
        score = bone_age_sd_score(bone_age_months, age_months, sex)
    except NotApplicable as reason:
        return {"value": None, "remarks": [str(reason)]}
    return {
        "value": score.value,
        "difference_months": score.difference_months,
        "sd_months": score.sd_months,
        "reference": score.reference,
        "remarks": [notice.text for notice in score.warnings],
    }


def _heights(
    sex: Sex, bone_age: float, tw3_age: float | None, age_months: float, measured: Measurements
) -> dict[str, Any]:
    child = Child(
        sex=sex,
        age_months=age_months,
        height_cm=measured.height_cm or 0.0,
        weight_kg=measured.weight_kg,
        bone_age_months=bone_age,
        father_cm=measured.father_cm,
        mother_cm=measured.mother_cm,
        menarche=measured.menarche,
    )
    forecast = predict_heights(child)
    by_rus = predict_heights(replace(child, bone_age_months=tw3_age))
    kept = [item for item in forecast.predictions if item.method != RUS_METHOD]
    rus = [item for item in by_rus.predictions if item.method == RUS_METHOD]
    left_out = {name: text for name, text in forecast.left_out.items() if name != RUS_METHOD}
    left_out |= {name: text for name, text in by_rus.left_out.items() if name == RUS_METHOD}
    return _record(HeightForecast((*kept, *rus), left_out), tw3_age)


def _record(forecast: HeightForecast, tw3_age: float | None) -> dict[str, Any]:
    return {
        "predictions": [_prediction(item, tw3_age) for item in forecast.predictions],
        "left_out": dict(forecast.left_out),
    }


def _prediction(item: HeightPrediction, tw3_age: float | None) -> dict[str, Any]:
    remarks = [notice.text for notice in item.warnings]
    if item.method == RUS_METHOD and tw3_age is not None:
        remarks.append("made with TW2-RUS bone ages; TW3-RUS, used here, reads up to a year younger")
    return {
        "method": item.method,
        "edition": item.edition,
        "height_cm": item.height_cm,
        "residual_sd_cm": item.residual_sd_cm,
        "bone_age_scale": item.bone_age_scale,
        "remarks": remarks,
    }
