"""Routes of jobs: send an image, follow it, read its result, change grades, take reports, delete."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, File, Form, Header, Path, Query, Response, UploadFile
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool

from boneage.core.network import MIB
from boneage.core.types import Sex
from boneage.imaging.read import kind_of
from boneage.inference.reading import read_over
from boneage.reporting import stored
from boneage.reporting.forms import MEDIA_TYPES, OF_A_STUDY, TITLES, Release
from boneage.reporting.forms import Form as ReportForm
from boneage.reporting.tabular import assessment_record
from boneage.service.answers import JOBS, Job, JobPage, Problem, Reading, links, summary
from boneage.service.limits import refuse, too_large
from boneage.service.server import Server, the_server
from boneage.service.store import KeyReused, QueueFull, State, Submission
from boneage.service.work import Render, View
from boneage.standards.adult_height import Child
from boneage.standards.growth import OLDEST_MONTHS

DAYS_A_MONTH = 30.4375
_ID = re.compile(r"[0-9a-f]{32}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ENDINGS = {
    ReportForm.REPORT: "sr.dcm",
    ReportForm.CAPTURE: "capture.dcm",
    ReportForm.FHIR: "fhir.json",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong"},
    404: {"model": Problem, "description": "There is no such job"},
    422: {"model": Problem, "description": "A value is not of its kind"},
}
_SENDING: dict[int | str, dict[str, Any]] = {
    **{status: _ERRORS[status] for status in (401, 422)},
    200: {"model": Job, "description": "The job had ended, or the same key made it before"},
    400: {"model": Problem, "description": "What is said of the patient does not go together"},
    403: {"model": Problem, "description": "A page of another origin sent it"},
    408: {"model": Problem, "description": "The body came too slowly"},
    409: {"model": Problem, "description": "The idempotency key belongs to another request"},
    413: {"model": Problem, "description": "The image is too large"},
    415: {"model": Problem, "description": "No image by its content, or no multipart form"},
    507: {"model": Problem, "description": "The server's disk is full"},
    429: {
        "model": Problem,
        "description": "The queue is full",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}},
    },
}

_LISTING: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (401, 422)}

Served = Annotated[Server, Depends(the_server)]
JobId = Annotated[str, Path(description="the job's id", examples=["0660cfa50e4fca0439b2b36f2e553499"])]
Seconds = Annotated[float, Query(ge=0, le=60, description="wait so long for the job's end")]
Number = Annotated[float | None, Form()]


def _written_day(value: object) -> object:
    """Refuse what pydantic reads as seconds since 1970."""
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("write the date as YYYY-MM-DD")
    return value


Day = Annotated[date | None, BeforeValidator(_written_day)]

router = APIRouter(prefix=JOBS, tags=["jobs"])


@dataclass(frozen=True, slots=True)
class Said:
    """What a form says of the patient.

    Args:
        kept: goes with the job.
        words: the form's own, to know the same request again: the age by a birth date changes overnight.
    """

    kept: dict[str, Any]
    words: str


def _patient(
    sex: Annotated[str | None, Form(description="female or male; not needed where DICOM gives it")] = None,
    age_months: Annotated[float | None, Form(ge=0, le=1200, description="chronological age")] = None,
    birth_date: Annotated[Day, Form(description="instead of the age; it is not kept")] = None,
    exam_date: Annotated[Day, Form(description="with the birth date; today by default")] = None,
    height_cm: Annotated[float | None, Form(description="to predict the adult's")] = None,
    weight_kg: Number = None,
    father_cm: Number = None,
    mother_cm: Number = None,
    menarche: Annotated[bool | None, Form(description="whether a girl's periods have begun")] = None,
) -> Said:
    """Return what a form says of the patient, after checking that it goes together."""
    known = None if sex is None else Sex.parse(sex)
    age = age_months if birth_date is None else _age_at(birth_date, exam_date)
    if birth_date is not None and age_months is not None:
        raise refuse(400, "config", "age_months and birth_date say the same: give one of them")
    if birth_date is None and exam_date is not None:
        raise refuse(400, "config", "exam_date goes with birth_date: give both, or age_months")
    measured = {
        "height_cm": height_cm,
        "weight_kg": weight_kg,
        "father_cm": father_cm,
        "mother_cm": mother_cm,
        "menarche": menarche,
    }
    given: dict[str, Any] = {name: value for name, value in measured.items() if value is not None}
    if given and height_cm is None:
        raise refuse(400, "config", "an adult height is predicted from height_cm: give it too")
    if given:
        # Refuses what no child has; where sex or age are in the file alone, the assessment checks once more.
        Child(sex=known or Sex.FEMALE, age_months=120 if age is None else age, **given)
    patient: dict[str, Any] = {"measured": given}
    if known is not None:
        patient["sex"] = str(known)
    if age is not None:
        patient["age_months"] = age
    words = [sex, age_months, birth_date, exam_date, measured]
    return Said(patient, json.dumps(words, sort_keys=True, default=str))


def _age_at(birth_date: date, exam_date: date | None) -> float:
    age = ((exam_date or datetime.now(UTC).date()) - birth_date).days / DAYS_A_MONTH
    if not 0 <= age <= OLDEST_MONTHS:
        raise refuse(
            400, "config", "the birth date lies after the examination, or too long before: correct it"
        )
    return age


@router.post("", status_code=202, response_model=Job, responses=_SENDING, summary="Send an image")
async def submit(
    server: Served,
    response: Response,
    patient: Annotated[Said, Depends(_patient)],
    file: Annotated[UploadFile, File(description="PNG, JPEG, TIFF, WebP or DICOM; its name is not kept")],
    label: Annotated[str, Form(max_length=80, description="your own words, for the worklist")] = "",
    idempotency_key: Annotated[
        str | None, Header(max_length=200, description="the same key again makes no second job")
    ] = None,
    wait: Seconds = 0,
) -> Any:
    """Accept an image; where it answers 202 the job is kept, whatever happens to the server."""
    most = server.settings.upload_mib * MIB
    if (file.size or 0) > most:
        raise too_large(most)
    # Few images at once are in memory, and none while its sender waits for the end of the job.
    async with server.intake:
        name, new = await run_in_threadpool(_accepted, server, file.file, (patient, label, idempotency_key))
    row = await server.ended_job(name, wait)
    if row is None:
        raise refuse(404, "no_such_job", "the job was deleted while it was waited for")
    response.headers["Location"] = f"{JOBS}/{name}"
    response.status_code = 200 if State(row.state).ended or not new else 202
    return await run_in_threadpool(_job, server, row)


def _accepted(server: Server, file: BinaryIO, said: tuple[Said, str, str | None]) -> tuple[str, bool]:
    """Return the id of the job that a request makes, or made before, and whether it is new."""
    submission = _submission(file.read(), *said)
    if not server.has_room(len(submission.content)):
        raise refuse(507, "disk_full", "the server's disk is full: tell its administrator")
    try:
        name, new = server.store.submit(submission, server.settings.queue)
    except KeyReused:
        raise refuse(
            409, "key_reused", "this Idempotency-Key came with another request before: use a new one"
        ) from None
    except QueueFull:
        server.metrics.turned_away.inc()
        seconds = str(server.retry_after_s())
        raise refuse(
            429, "queue_full", f"the queue is full: send it again in {seconds} s", {"Retry-After": seconds}
        ) from None
    if new:
        server.metrics.accepted.inc()
        server.dispatcher.wake()
    return name, new


@router.get("", response_model=JobPage, responses=_LISTING, summary="The worklist")
def page(
    server: Served,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[str | None, Query(max_length=32, pattern="^[0-9a-f]{32}$")] = None,
) -> Any:
    """Return jobs, newest first."""
    rows = server.store.page(limit + 1, before)
    shown = [summary(row, _position(server, row)) for row in rows[:limit]]
    return {"jobs": shown, "next": shown[-1]["id"] if len(rows) > limit else None}


@router.get("/{job}", response_model=Job, responses=_ERRORS, summary="A job and its result")
async def one(server: Served, job: JobId, wait: Seconds = 0) -> Any:
    """Return a job as soon as it has ended, or as it is after `wait` seconds."""
    row = await run_in_threadpool(_existing, server, job)
    if wait:
        row = await server.ended_job(job, wait) or row
    return await run_in_threadpool(_job, server, row)


@router.delete(
    "/{job}",
    status_code=204,
    responses={**_ERRORS, 403: _SENDING[403]},
    summary="Delete a job, its image and its result",
)
def delete(server: Served, job: JobId) -> Response:
    """Delete a job in any state; of one that is being read, the result is not kept."""
    _existing(server, job)
    server.store.delete(job)
    return Response(status_code=204)


@router.get(
    "/{job}/pixels",
    responses={
        **_ERRORS,
        200: {"content": {"application/octet-stream": {}}, "description": "uint16, little endian, by rows"},
        409: {"model": Problem, "description": "The job has no result"},
    },
    response_class=Response,
    summary="The image for a viewer",
)
async def pixels(server: Served, job: JobId) -> Response:
    """Return the image as 16-bit levels, bone bright, at most 2048 pixels long; its sizes are in headers."""
    row = await run_in_threadpool(_assessed, server, job)
    picture = await server.picture(View(row.content))
    headers = {
        "X-Width": str(picture.width),
        "X-Height": str(picture.height),
        "X-Scale": f"{picture.scale:.6f}",
        "X-Window-Low": str(picture.window[0]),
        "X-Window-High": str(picture.window[1]),
    }
    return Response(picture.data, media_type="application/octet-stream", headers=headers)


@router.put(
    "/{job}/reading",
    response_model=Job,
    responses={
        **_ERRORS,
        400: {"model": Problem, "description": "An unknown standard, bone or grade"},
        403: _SENDING[403],
        409: {"model": Problem, "description": "The job has no result"},
    },
    summary="Put a reader's grades beside the network's",
)
def read(server: Served, job: JobId, reading: Reading) -> Any:
    """Replace all that a reader changed before; no grades at all take every change back."""
    over = read_over(stored.loads(_assessed(server, job).assessment), reading.grades)
    kept = {sheet.standard: dict(sheet.changed) for sheet in over.reading}
    server.store.read_over(job, kept, bool(kept))
    return _job(server, _existing(server, job))


@router.get(
    "/{job}/results/{form}",
    responses={
        **_ERRORS,
        200: {
            "content": {kind: {} for kind in sorted(set(MEDIA_TYPES.values()))},
            "description": "The report",
        },
        409: {"model": Problem, "description": "The job has no result, or not in this form"},
    },
    response_class=Response,
    summary="A report",
)
async def result(server: Served, job: JobId, form: ReportForm, release: Release = "R4") -> Response:
    """Return the result as a file; a reader's grades, where there are any, stand beside the network's."""
    row = await run_in_threadpool(_assessed, server, job)
    if form in OF_A_STUDY and row.kind != "dicom":
        text = f"a {TITLES[form]} goes into the study of a DICOM image, and this image came as a picture"
        raise refuse(409, "no_study", f"{text}: send the DICOM file, or take html, pdf, json or fhir")
    task = Render(
        form=form,
        content=row.content,
        assessment=row.assessment,
        job=job,
        made_at=row.finished_at,
        grades=row.grades,
        name=row.label,
        release=release,
    )
    name = f"boneage-{job[:8]}.{_ENDINGS.get(form, str(form))}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(await server.report(task), media_type=MEDIA_TYPES[form], headers=headers)


def _existing(server: Server, name: str) -> Any:
    """Return a job's row, without its image."""
    row = server.store.job(name) if _ID.fullmatch(name) else None
    if row is None:
        raise refuse(404, "no_such_job", "there is no such job: it never was, or it was deleted")
    return row


def _assessed(server: Server, name: str) -> Any:
    """Return the row of a job that is done, with its image as `content`."""
    row = server.store.job_with_image(name) if _ID.fullmatch(name) else None
    if row is None:
        raise refuse(404, "no_such_job", "there is no such job: it never was, or it was deleted")
    if row.assessment is None:
        if State(row.state).ended:
            raise refuse(409, "no_result", f"the image got no bone age: {row.error_message}")
        raise refuse(409, "not_done", "the job is not done yet: ask again when its state is done")
    return row


def _position(server: Server, row: Any) -> int | None:
    # It may have been taken since its row was read: it is the next, then.
    return max(1, server.store.position(row.id)) if row.state == State.QUEUED else None


def _job(server: Server, row: Any) -> dict[str, Any]:
    """Return a job as it is shown."""
    record = None
    if row.assessment is not None:
        record = assessment_record(read_over(stored.loads(row.assessment), row.grades))
    return {**summary(row, _position(server, row)), "result": record, "links": links(row)}


def _submission(content: bytes, patient: Said, label: str, key: str | None) -> Submission:
    kind = kind_of(content)
    if kind is None:
        why = "the file is empty" if not content else "the file is no image by its content"
        raise refuse(415, "unreadable_image", f"{why}: send a radiograph as PNG, JPEG, TIFF, WebP or DICOM")
    # The blanks of other scripts, as the ideographic one, are not printable by Python's measure.
    if not all(one.isprintable() or unicodedata.category(one) == "Zs" for one in label):
        raise refuse(400, "config", "the label must be one line of plain text: leave control characters out")
    said = json.dumps([patient.words, label]).encode()
    digest = hashlib.sha256(hashlib.sha256(content).digest() + said).hexdigest()
    hashed = None if key is None else hashlib.sha256(key.encode()).hexdigest()
    return Submission(content, kind, patient.kept, digest, hashed, label)
