"""What routes take and give, in the words of the OpenAPI document."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from boneage.reporting.forms import OF_A_STUDY, Form

JOBS = "/api/v1/jobs"
SexName = Literal["female", "male"]
Months = Annotated[float, Field(ge=0, le=1200, strict=True, description="months")]

GradeGiven = Annotated[float, Field(strict=True)] | Annotated[str, Field(max_length=16)]
GradesGiven = dict[Annotated[str, Field(max_length=40)], GradeGiven]
"""Bone -> grade or stage; `true` is none."""


def _record_schema() -> dict[str, Any]:
    """Return the published schema of an assessment, its definitions in place, as OpenAPI wants it."""
    text = files("boneage.reporting").joinpath("assessment.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    shared = schema.pop("$defs", {})
    for key in ("$schema", "$id"):
        schema.pop(key, None)

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        if not isinstance(value, dict):
            return value
        rest = {key: placed(item) for key, item in value.items() if key != "$ref"}
        if "$ref" not in value:
            return rest
        return {**placed(shared[value["$ref"].rpartition("/")[2]]), **rest}

    whole: dict[str, Any] = placed(schema)
    return whole


Record = Annotated[dict[str, Any], WithJsonSchema(_record_schema())]


class Problem(BaseModel):
    """Why a request was not done."""

    code: str = Field(examples=["not_a_hand"])
    message: str = Field(examples=["no hand was found: give a radiograph of one hand"])
    fields: list[str] | None = Field(None, description="which of the request's fields are wrong")


class JobError(BaseModel):
    """Why an image got no bone age."""

    code: str
    message: str


class JobSummary(BaseModel):
    """A job in the worklist."""

    id: str = Field(examples=["0660cfa50e4fca0439b2b36f2e553499"])
    state: Literal["queued", "running", "done", "rejected", "failed"]
    label: str
    kind: Literal["dicom", "picture"]
    created_at: datetime
    finished_at: datetime | None
    position: int | None = Field(description="place in the queue, from 1; null where the job does not wait")
    sex: SexName | None
    bone_age_months: float | None
    chronological_age_months: float | None
    sd_score: float | None
    changed: bool = Field(description="whether a reader changed grades")
    error: JobError | None


class Job(JobSummary):
    """A job with its result."""

    result: Record | None = Field(description="the assessment, where the job is done")
    links: dict[str, str] = Field(description="what can be had of the job now: name -> path")


class JobPage(BaseModel):
    """A page of the worklist, newest first."""

    jobs: list[JobSummary]
    next: str | None = Field(description="give it as `before` for the next page")


class Reading(BaseModel):
    """A reader's grades: standard -> bone -> grade, or the stage's letter; only those that differ."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"grades": {"rus_chn": {"radius": 9}, "tw3": {"ulna": "F"}}}]},
    )
    grades: dict[Annotated[str, Field(max_length=40)], GradesGiven] = Field(max_length=8)


class Sheet(BaseModel):
    """Grades to score."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "standard": "rus_chn",
                    "sex": "male",
                    "grades": {
                        "radius": 7, "ulna": 6, "mc1": 7, "mc3": 6, "mc5": 6, "pp1": 7, "pp3": 7, "pp5": 7,
                        "mp3": 7, "mp5": 7, "dp1": 7, "dp3": 7, "dp5": 7,
                    },
                    "chronological_age_months": 124,
                }
            ]
        },
    )  # fmt: skip
    standard: str = Field(max_length=40)
    sex: SexName
    grades: GradesGiven = Field(max_length=40)
    chronological_age_months: Months | None = None
    partial: bool = Field(
        False, strict=True, description="score what is there; without it every bone must be given"
    )


class ScoredBone(BaseModel):
    """A bone with its score."""

    bone: str
    grade: float
    stage: str
    score: float
    maximum: float


class Remark(BaseModel):
    """A warning."""

    code: str
    text: str


class Scored(BaseModel):
    """A scored hand; no total where a bone is missing."""

    standard: str
    edition: str
    sex: SexName
    bones: list[ScoredBone]
    missing: list[str]
    total: float | None
    age_months: float | None
    sd_score: float | None
    sd_months: float | None
    warnings: list[Remark]


class Grade(BaseModel):
    """A grade and the standard's own word for it."""

    grade: float
    label: str


class StandardBone(BaseModel):
    """A bone of a standard."""

    bone: str
    name: str
    grades: list[Grade]


class StandardShown(BaseModel):
    """A scoring standard."""

    name: str
    title: str
    edition: str
    bones: list[StandardBone]


class GrowthReference(BaseModel):
    """Standard deviations of the bone age by chronological age."""

    sex: SexName
    reference: str
    ages_months: list[float]
    sd_months: list[float]


class PlateShown(BaseModel):
    """A plate of the atlas of mean hands."""

    sex: SexName
    age_months: float
    mean_age_months: float
    hands: int
    width: int
    height: int
    image: str


class AtlasShown(BaseModel):
    """The atlas of mean hands."""

    description: str
    plates: list[PlateShown]


class Limits(BaseModel):
    """What the server takes."""

    upload_bytes: int
    queue: int


class Info(BaseModel):
    """What serves here."""

    software: str
    bundle: str
    limits: Limits
    retention_days: float
    intended_use: str


def summary(row: Any, position: int | None) -> dict[str, Any]:
    """Return a job's row as the worklist shows it."""
    error = None
    if row.error_code is not None:
        error = {"code": row.error_code, "message": row.error_message}
    return {
        "id": row.id,
        "state": row.state,
        "label": row.label,
        "kind": row.kind,
        "created_at": datetime.fromtimestamp(row.created_at, UTC),
        "finished_at": None if row.finished_at is None else datetime.fromtimestamp(row.finished_at, UTC),
        "position": position,
        "sex": row.sex,
        "bone_age_months": row.bone_age_months,
        "chronological_age_months": row.chronological_age_months,
        "sd_score": row.sd_score,
        "changed": bool(row.changed),
        "error": error,
    }


def links(row: Any) -> dict[str, str]:
    """Return what can be had of a job now."""
    own = f"{JOBS}/{row.id}"
    found = {"self": own}
    if row.assessment is not None:
        found |= {"pixels": f"{own}/pixels", "reading": f"{own}/reading"}
        forms = [form for form in Form if row.kind == "dicom" or form not in OF_A_STUDY]
        found |= {str(form): f"{own}/results/{form}" for form in forms}
    return found
