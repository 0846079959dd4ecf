"""Routes that need no job: score sheets, standards, the growth reference, the atlas, what serves here."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import cv2
from fastapi import APIRouter, Depends, Path, Response

from boneage import __version__
from boneage.core.errors import NotApplicable, WrongBones
from boneage.core.network import MIB
from boneage.core.types import Sex
from boneage.inference.atlas import Atlas
from boneage.reporting.coding import INTENDED_USE
from boneage.service.answers import (
    AtlasShown,
    GrowthReference,
    Info,
    Problem,
    Scored,
    SexName,
    Sheet,
    StandardShown,
)
from boneage.service.limits import refuse
from boneage.service.server import Server, the_server
from boneage.standards.growth import bone_age_sd_score, reference_sd
from boneage.standards.names import parse_bone
from boneage.standards.scoring import score, standard

SHOWN = ("rus_chn", "tw3", "chn")
"""Standards that the page's score sheet offers; `/score` knows all."""

_ATLAS = "/api/v1/atlas"
_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong"},
    422: {"model": Problem, "description": "A value is not of its kind"},
}


Served = Annotated[Server, Depends(the_server)]

router = APIRouter(prefix="/api/v1", tags=["reference"], responses=_REFUSED)


@router.post(
    "/score",
    response_model=Scored,
    responses={
        400: {"model": Problem, "description": "An unknown standard, bone or grade, or a bone is missing"},
        403: {"model": Problem, "description": "A page of another origin sent it"},
    },
    summary="Score a hand from its bones' grades",
)
def score_sheet(sheet: Sheet) -> dict[str, Any]:
    """Return scores, total and bone age; with the chronological age, the SD score too."""
    return scored(sheet)


@router.get("/standards", response_model=list[StandardShown], summary="Bones and grades of the standards")
def standards() -> list[dict[str, Any]]:
    """Return the standards that the network grades by."""
    return [_standard(name) for name in SHOWN]


@router.get("/growth/{sex}", response_model=GrowthReference, summary="Standard deviations by age")
def growth(sex: SexName) -> dict[str, Any]:
    """Return the reference that SD scores rest on."""
    ages, deviations, reference = reference_sd(sex)
    return {"sex": sex, "reference": reference, "ages_months": ages, "sd_months": deviations}


@router.get("/atlas", response_model=AtlasShown, summary="The atlas of mean hands")
def atlas() -> dict[str, Any]:
    """Return every plate: the mean of many children, which shows no one child."""
    found = _atlas()
    return {
        "description": str(
            found.record.get("description", "Mean hands of many children, by sex and bone age")
        ),
        "plates": [
            {
                "sex": str(plate.sex),
                "age_months": plate.age_months,
                "mean_age_months": plate.mean_age_months,
                "hands": plate.hands,
                "width": plate.image.shape[1],
                "height": plate.image.shape[0],
                "image": f"{_ATLAS}/{plate.sex}/{plate.age_months:g}.png",
            }
            for plate in found.plates
        ],
    }


@router.get(
    "/atlas/{sex}/{age_months}.png",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The plate"},
        404: {"model": Problem, "description": "There is no such plate"},
    },
    summary="A plate of the atlas",
)
def plate(sex: SexName, age_months: Annotated[str, Path(max_length=8)]) -> Response:
    """Return a plate as a PNG file."""
    for found in _atlas().plates:
        if str(found.sex) == sex and f"{found.age_months:g}" == age_months:
            drawn = cv2.imencode(".png", found.image)[1].tobytes()
            return Response(drawn, media_type="image/png", headers={"Cache-Control": "max-age=86400"})
    raise refuse(404, "no_such_plate", "the atlas has no such plate: see /api/v1/atlas")


@router.get("/info", response_model=Info, summary="What serves here")
def info(server: Served) -> dict[str, Any]:
    """Return versions and limits."""
    settings = server.settings
    return {
        "software": f"boneage {__version__}",
        "bundle": server.bundle.name,
        "limits": {"upload_bytes": settings.upload_mib * MIB, "queue": settings.queue},
        "retention_days": settings.retention_days,
        "intended_use": INTENDED_USE,
    }


@cache
def _atlas() -> Atlas:
    return Atlas.load()


def scored(sheet: Sheet) -> dict[str, Any]:
    """Return a score sheet's answer.

    Raises:
        StandardError: the standard, a bone or a grade is unknown, or a bone is missing and may not be.
    """
    chosen = standard(sheet.standard)
    sex = Sex.parse(sheet.sex)
    grades = {parse_bone(bone): chosen.parse_grade(bone, str(grade)) for bone, grade in sheet.grades.items()}
    if len(grades) < len(sheet.grades):
        raise WrongBones("a bone is there twice, under two spellings of its name: give each bone once")
    missing = [bone for bone in chosen.bones if bone not in grades]
    bones = [
        {
            "bone": str(bone),
            "grade": grades[bone],
            "stage": chosen.scale(sex, bone).label(grades[bone]),
            "score": chosen.grade_score(sex, bone, grades[bone]),
            "maximum": float(chosen.scale(sex, bone).scores[-1]),
        }
        for bone in chosen.bones
        if bone in grades
    ]
    answer: dict[str, Any] = {
        "standard": chosen.name,
        "edition": chosen.edition,
        "sex": sheet.sex,
        "bones": bones,
        "missing": [str(bone) for bone in missing],
    }
    nothing = dict.fromkeys(("total", "age_months", "sd_score", "sd_months"))
    if missing and sheet.partial:
        return {**answer, **nothing, "warnings": []}
    whole = score(chosen, sex, grades)
    warnings = [{"code": notice.code, "text": notice.text} for notice in whole.warnings]
    found = {**answer, **nothing, "total": whole.total, "age_months": whole.age_months, "warnings": warnings}
    if sheet.chronological_age_months is None:
        return found
    try:
        apart = bone_age_sd_score(whole.age_months, min(sheet.chronological_age_months, 300.0), sex)
    except NotApplicable as reason:
        return {**found, "warnings": [*warnings, {"code": reason.code, "text": str(reason)}]}
    return {**found, "sd_score": apart.value, "sd_months": apart.sd_months}


def _standard(name: str) -> dict[str, Any]:
    chosen = standard(name)
    return {
        "name": chosen.name,
        "title": chosen.title,
        "edition": chosen.edition,
        "bones": [
            {"bone": str(bone), "name": bone.readable, "grades": _grades(name, bone)} for bone in chosen.bones
        ],
    }


def _grades(name: str, bone: Any) -> list[dict[str, Any]]:
    scale = standard(name).scale(Sex.FEMALE, bone)
    return [
        {"grade": float(grade), "label": label}
        for grade, label in zip(scale.grades, scale.labels, strict=True)
    ]
