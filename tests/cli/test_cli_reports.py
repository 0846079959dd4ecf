"""`assess --report` in every form: what is written, for whom, and what is refused before work begins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import boneage_fakes
import cv2
import numpy as np
import pytest
from dicom_studies import WHOSE, errors_of, report_text, write_study_image
from numpy.typing import NDArray
from pydicom import dcmread

from boneage.core.errors import ExitCode
from boneage.core.types import Sex
from boneage.data.synthetic import draw_hand
from boneage.inference.bundle import SHIPPED
from boneage.reporting.dicom_results import file_bytes, secondary_capture
from boneage.reporting.summary_page import page_pixels

Run = Callable[..., tuple[int, str, str]]


def blurred() -> NDArray[np.uint8]:
    """Return a small picture that is readable and no hand."""
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 9), dtype=np.uint8)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A DICOM image of a study."""
    return write_study_image(tmp_path / "graded.dcm", blurred())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image of no study."""
    path = tmp_path / "graded.png"
    assert cv2.imwrite(str(path), blurred())
    return path


def test_a_structured_report_goes_into_the_images_study(run: Run, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.dcm"
    code, said, _ = run("assess", film, "--sex", "F", "--report", out)
    assert code == ExitCode.DONE and f"report: {out}" in said
    source, made = dcmread(film), dcmread(out)
    assert made.Modality == "SR" and made.StudyInstanceUID == source.StudyInstanceUID
    assert {name: str(made[name].value) for name in WHOSE} == WHOSE
    assert made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[
        0
    ].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (source.SOPInstanceUID)


def test_a_fhir_report_has_the_files_numbers_and_no_name(run: Run, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.fhir.json"
    code, said, _ = run("assess", film, "--sex", "F", "--report", out)
    assert code == ExitCode.DONE and f"report: {out}" in said
    text = out.read_text("utf-8")
    made = json.loads(text)
    assert made["subject"]["identifier"] == {"value": WHOSE["PatientID"]}
    assert made["basedOn"][0]["identifier"]["value"] == WHOSE["AccessionNumber"]
    assert made["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{dcmread(film).StudyInstanceUID}"
    assert not any(word in text for word in ("Drawn", "Nobody", "20160301", "2016-03-01", "graded.dcm"))


def test_an_image_of_no_study_gives_a_fhir_report_of_nobody(run: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.fhir.json"
    assert run("assess", photo, "--sex", "F", "--report", out)[0] == ExitCode.DONE
    assert not {"subject", "basedOn", "imagingStudy"} & json.loads(out.read_text("utf-8")).keys()


def test_a_pdf_has_a_page_an_image_that_was_read(run: Run, film: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.PDF"
    code, said, _ = run("assess", film, photo, tmp_path / "absent.png", "--sex", "F", "--report", out)
    assert code == ExitCode.SOME_FAILED and f"report: {out}" in said
    assert len(re.findall(rb"/Type /Page\b", out.read_bytes())) == 2


def test_a_structured_report_of_no_dicom_image_is_refused(run: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.dcm"
    code, _, said = run("assess", photo, "--sex", "F", "--report", out)
    assert code == ExitCode.USAGE and said.count("\n") == 1
    assert all(word in said for word in ("graded.png", "no DICOM image", "give the DICOM file", ".html"))
    assert not out.exists()


def test_a_structured_report_without_its_package_is_refused_before_work_begins(
    run: Run, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    code, said, error = run("assess", film, "--sex", "F", "--report", tmp_path / "out.dcm")
    assert (code, said) == (ExitCode.FAILED, "") and "boneage[dicom]" in error


@pytest.mark.parametrize("name", ["out.dcm", "out.fhir.json", "out.pdf"])
def test_where_nothing_was_read_nothing_is_written(run: Run, name: str, tmp_path: Path) -> None:
    foot = write_study_image(tmp_path / "foot.dcm", blurred())
    code, said, _ = run("assess", foot, "--sex", "F", "--report", tmp_path / name)
    assert code == ExitCode.FAILED and "report:" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["foot.dcm"]


@pytest.mark.parametrize("name", ["out.dcm", "out.fhir.json", "out.pdf", "out.html"])
def test_with_json_standard_output_is_json_alone(run: Run, film: Path, name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    code, said, _ = run("assess", film, "--sex", "F", "--json", "--report", out)
    assert code == ExitCode.DONE and len(json.loads(said)) == 1 and out.stat().st_size > 1000


@pytest.mark.dicom
@pytest.mark.parametrize("real", [False, True], ids=["drawn", "real"])
def test_the_shipped_bundles_results_pass_the_validators(
    real: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not (SHIPPED / "manifest.json").is_file():
        pytest.skip(f"no shipped bundle: {SHIPPED}/manifest.json is absent")
    if real:
        path = request.getfixturevalue("radiograph_paths")[0]
        pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    else:
        pixels = (draw_hand(120.0, Sex.FEMALE).pixels * 255).astype(np.uint8)
    film, out = write_study_image(tmp_path / "film.dcm", pixels), tmp_path / "out.dcm"
    start = [sys.executable, "-c", "from boneage.cli.main import main; main()"]
    done = subprocess.run(
        [*start, "assess", str(film), "--json", "--threads", "1", "--report", str(out)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert errors_of(out) == ["ComprehensiveSR"]
    text = report_text(out)
    assert f'NUM:(,,"Bone age")="{record["bone_age_months"]}" (mo,UCUM,"month")' in text
    graded = [region for region in record["regions"] if region["grades"]]
    assert text.count('SCOORD:(,,"Image Region")') == len(graded) > 10
    page = page_pixels(boneage_fakes.graded_assessment(), pixels.astype(np.float32) / 255)
    capture = secondary_capture(boneage_fakes.graded_assessment(), dcmread(film), page)
    (tmp_path / "capture.dcm").write_bytes(file_bytes(capture))
    assert errors_of(tmp_path / "capture.dcm") == ["SCImage"]
