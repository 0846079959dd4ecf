"""One assessment in every form that people and systems read, by the form's name."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from boneage.core.errors import ConfigError, DeliveryError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from boneage.core.types import Assessment, FloatArray, Radiograph
    from boneage.reporting.dicom_results import Instance


class Form(StrEnum):
    """The form of a report."""

    HTML = "html"
    PDF = "pdf"
    REPORT = "sr"
    CAPTURE = "capture"
    FHIR = "fhir"
    JSON = "json"


MEDIA_TYPES = {
    Form.HTML: "text/html; charset=utf-8",
    Form.PDF: "application/pdf",
    Form.REPORT: "application/dicom",
    Form.CAPTURE: "application/dicom",
    Form.FHIR: "application/fhir+json",
    Form.JSON: "application/json",
}

TITLES = {
    Form.HTML: "HTML page",
    Form.PDF: "PDF",
    Form.REPORT: "DICOM structured report",
    Form.CAPTURE: "DICOM secondary capture",
    Form.FHIR: "FHIR report",
    Form.JSON: "JSON",
}

OF_A_STUDY = (Form.REPORT, Form.CAPTURE)
"""Forms that go into the study of a DICOM image, and need its header."""

Release = Literal["R4", "R5"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What reports need beside the assessment.

    Args:
        radiograph: the image that was assessed.
        header: of its DICOM file; None where it came in another.
        saliency: (H, W) in [0, 1], where the method looked, for the HTML page; None leaves it out.
        name: what pages call the image; a file's path may name the patient, so it is given, never taken.
    """

    radiograph: Radiograph
    header: Dataset | None = None
    saliency: FloatArray | None = None
    name: str = ""


def read_header(data: bytes) -> Dataset:
    """Return the header of a DICOM file's bytes, pixels left out."""
    from pydicom import dcmread
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        return dcmread(BytesIO(data), stop_before_pixels=True, force=True)


def check_form(form: Form, radiograph: Radiograph) -> None:
    """Refuse a form that an image cannot have.

    Raises:
        ConfigError: a DICOM result of an image that is no DICOM file of a study.
    """
    if form in OF_A_STUDY and "SOPInstanceUID" not in radiograph.identifiers:
        named = f"{radiograph.path}: " if radiograph.path else ""
        raise ConfigError(
            f"{named}a {TITLES[form]} goes into the study of its image, and this is no DICOM image of a "
            "study: give the DICOM file, or take a .html, .pdf or .fhir.json report"
        )


def render(
    form: Form,
    assessment: Assessment,
    source: Source,
    *,
    instance: Instance | None = None,
    issued: datetime | None = None,
    release: Release = "R4",
) -> bytes:
    """Return an assessment in a form.

    Args:
        form: which.
        assessment: the answer for the source's image.
        source: the image and what is known of its file.
        instance: identifiers and date of a DICOM result; new ones by default.
        issued: date of a FHIR report; now by default.
        release: of FHIR.

    Raises:
        ConfigError: as `check_form`.
        DeliveryError: the image's header lacks what a DICOM result must refer to.
        RuntimeUnavailable: the form's package is not installed.
    """
    check_form(form, source.radiograph)
    assessment = replace(assessment, path=source.name)
    if form is Form.HTML:
        from boneage.reporting import document

        article = document.article(assessment, source.radiograph.pixels, source.saliency)
        return document.page([article]).encode("utf-8")
    if form is Form.PDF:
        from boneage.reporting.summary_page import Book, summary_figure

        book = Book()
        book.add(summary_figure(assessment, source.radiograph.pixels, name=source.name))
        return book.content()
    if form in OF_A_STUDY:
        return _dicom(form, assessment, source, instance)
    if form is Form.FHIR:
        return _json(_fhir(assessment, source.radiograph, issued, release))
    from boneage.reporting.tabular import assessment_record

    return _json(assessment_record(assessment))


def _dicom(form: Form, assessment: Assessment, source: Source, instance: Instance | None) -> bytes:
    from boneage.reporting.dicom_results import file_bytes, secondary_capture, structured_report

    if source.header is None:
        raise DeliveryError(f"a {TITLES[form]} needs the header of the image's DICOM file: give it")
    if form is Form.REPORT:
        return file_bytes(structured_report(assessment, source.header, instance))
    from boneage.reporting.summary_page import page_pixels

    page = page_pixels(assessment, source.radiograph.pixels)
    return file_bytes(secondary_capture(assessment, source.header, page, instance))


def _fhir(
    assessment: Assessment, radiograph: Radiograph, issued: datetime | None, release: Release
) -> dict[str, object]:
    """Return the FHIR report; a DICOM file's own numbers, never its names, say whose it is."""
    from boneage.reporting.fhir import Identifiers, diagnostic_report

    numbers = radiograph.identifiers
    identifiers = Identifiers(
        patient_id=numbers.get("PatientID"),
        accession_number=numbers.get("AccessionNumber"),
        study_uid=numbers.get("StudyInstanceUID"),
    )
    return diagnostic_report(assessment, identifiers, issued=issued, release=release)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
