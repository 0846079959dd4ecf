"""One assessment in every form: each is what its name says, and what an image cannot have is refused."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from boneage_fakes import graded_assessment
from dicom_studies import WHOSE, errors_of, study_image
from pydicom import dcmread

from boneage.core.errors import ConfigError, DeliveryError
from boneage.core.types import Assessment, Radiograph
from boneage.inference.growth import Measurements
from boneage.inference.reading import read_over
from boneage.reporting.dicom_results import Instance, file_bytes
from boneage.reporting.forms import (
    MEDIA_TYPES,
    OF_A_STUDY,
    TITLES,
    Form,
    Source,
    check_form,
    read_header,
    render,
)

PIXELS = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (60, 1))
WHEN = datetime(2026, 3, 11, 8, 30, 5, tzinfo=UTC)
INSTANCE = Instance("2.25.11", "2.25.12", WHEN)


def answer() -> Assessment:
    """A graded girl with heights and a reader's grades, whose path names her."""
    made = graded_assessment(
        path="/films/Doe_Jane.dcm", age_months=120.0, measured=Measurements(140.0, 35.0, 178.0, 165.0, False)
    )
    return read_over(made, {"rus_chn": {"radius": 9}})


def source(**changes: object) -> Source:
    """The image as a DICOM file of a study gives it."""
    header = study_image()
    numbers = ("SOPInstanceUID", "StudyInstanceUID", "PatientID", "AccessionNumber")
    radiograph = Radiograph(PIXELS, identifiers={name: str(header[name].value) for name in numbers})
    values = {"radiograph": radiograph, "header": header, **changes}
    return Source(**values)  # type: ignore[arg-type]


def made(form: Form, **changes: object) -> bytes:
    return render(form, answer(), source(**changes), instance=INSTANCE, issued=WHEN)


class Text(HTMLParser):
    """Collects the texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""

    def handle_data(self, data: str) -> None:
        self.said += data


def test_every_form_has_a_title_and_a_media_type() -> None:
    assert set(TITLES) == set(MEDIA_TYPES) == set(Form)
    assert {MEDIA_TYPES[form] for form in OF_A_STUDY} == {"application/dicom"}


@pytest.mark.parametrize("form", Form)
def test_the_same_answer_is_the_same_file_and_names_nobody(form: Form) -> None:
    content = made(form)
    assert content == made(form) and len(content) > 1000
    assert b"Doe_Jane" not in content


def test_html_is_a_page_under_the_name_that_was_given() -> None:
    page = made(Form.HTML, name="Film <3>", saliency=PIXELS).decode("utf-8")
    text = Text()
    text.feed(page)
    assert page.startswith("<!DOCTYPE html>")
    for words in ("Film <3>", "10 y 4 m", "Where the reading rests", "Adult height", "Reader's score sheet"):
        assert words in text.said
    assert "Where the reading rests" not in made(Form.HTML).decode("utf-8")


def test_pdf_is_one_page() -> None:
    content = made(Form.PDF)
    assert content.startswith(b"%PDF-") and len(re.findall(rb"/Type /Page\b", content)) == 1


def test_a_structured_report_goes_into_the_study() -> None:
    report = dcmread(io.BytesIO(made(Form.REPORT)))
    assert (report.Modality, report.SOPInstanceUID) == ("SR", "2.25.12")
    assert {name: str(report[name].value) for name in WHOSE} == WHOSE


def test_a_capture_shows_the_page() -> None:
    capture = dcmread(io.BytesIO(made(Form.CAPTURE)))
    assert (capture.Modality, capture.SOPInstanceUID) == ("OT", "2.25.12")
    assert capture.pixel_array.shape == (1636, 1157, 3)
    assert capture.StudyInstanceUID == study_image().StudyInstanceUID


@pytest.mark.parametrize(("release", "study"), [("R4", "imagingStudy"), ("R5", "study")])
def test_fhir_has_the_files_numbers_and_says_what_a_reader_changed(release: str, study: str) -> None:
    content = render(Form.FHIR, answer(), source(), issued=WHEN, release=release)  # type: ignore[arg-type]
    report = json.loads(content)
    assert report["resourceType"] == "DiagnosticReport" and study in report
    assert report["subject"]["identifier"]["value"] == WHOSE["PatientID"]
    assert report["issued"].startswith("2026-03-11") and "a reader changed grades" in report["conclusion"]
    assert "Drawn" not in content.decode("utf-8")


def test_json_is_the_record() -> None:
    record = json.loads(made(Form.JSON, name="film 3"))
    assert (record["path"], record["status"], record["bone_age_months"]) == ("film 3", "ok", 124.25)
    assert record["reading"][0]["changed"] == {"radius": 9.0}


@pytest.mark.parametrize("form", Form)
def test_an_image_of_no_study_has_every_other_form(form: Form) -> None:
    photo = Source(Radiograph(PIXELS, path="photo.png"))
    if form in OF_A_STUDY:
        for refuse in (check_form, lambda form, image: render(form, answer(), Source(image))):
            with pytest.raises(ConfigError, match=r"photo\.png: .*this is no DICOM image") as caught:
                refuse(form, photo.radiograph)
            assert TITLES[form] in str(caught.value)
    else:
        check_form(form, photo.radiograph)
        assert render(form, answer(), photo)


@pytest.mark.parametrize("form", OF_A_STUDY)
def test_a_dicom_result_needs_the_header(form: Form) -> None:
    with pytest.raises(DeliveryError, match="needs the header"):
        made(form, header=None)


def test_a_header_is_read_without_the_pixels() -> None:
    header = read_header(file_bytes(study_image()))
    assert "PixelData" not in header and header.PatientID == WHOSE["PatientID"]


@pytest.mark.dicom
@pytest.mark.parametrize(("form", "kind"), [(Form.REPORT, "ComprehensiveSR"), (Form.CAPTURE, "SCImage")])
def test_dicom3tools_finds_no_error_in_what_is_rendered(
    form: Form, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("forms") / "made.dcm"
    path.write_bytes(made(form))
    assert errors_of(path) == [kind]
