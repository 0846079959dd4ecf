"""The whole service with the shipped bundle and a real radiograph, else a drawn hand: all forms of result."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from dicom_studies import WHOSE, study_image
from fhir.resources import get_fhir_model_class
from jsonschema import Draft202012Validator
from pydicom.config import disable_value_validation
from service_fakes import JOBS, Hand, client_of, ended, send, until_ready

from boneage.data.synthetic import draw_foot


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shipped: Path) -> Iterator[Any]:
    with client_of(tmp_path_factory.mktemp("real") / "data", fake=False) as made:
        until_ready(made)
        yield made


def file_of(pixels: Any, **tags: Any) -> bytes:
    """Return a DICOM file of (H, W) uint8 pixels."""
    file = BytesIO()
    with disable_value_validation():
        study_image(pixels, **{"BodyPartExamined": "HAND", **tags}).save_as(file, enforce_file_format=True)
    return file.getvalue()


def png(pixels: Any) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def from_picture(client: Any, hand: Hand) -> dict[str, Any]:
    job = ended(client, hand.content, sex=hand.sex, age_months=175, height_cm=160, label="Zimmer 4 · 手")
    assert job["state"] == "done", job
    return job


@pytest.fixture(scope="module")
def from_dicom(client: Any, hand: Hand) -> dict[str, Any]:
    content = file_of(hand.pixels, ImagerPixelSpacing=[0.2, 0.2])
    job = ended(client, content, sex=None, kind="application/dicom", name="IM000001")
    assert job["state"] == "done", job
    return job


def test_the_result_is_as_published(client: Any, from_picture: dict[str, Any]) -> None:
    schema = json.loads(files("boneage.reporting").joinpath("assessment.schema.json").read_text())
    result = from_picture["result"]
    Draft202012Validator(schema).validate(result)
    low, high = result["interval_months"]
    assert low < result["bone_age_months"] < high and 20 < result["bone_age_months"] < 228
    assert result["chronological_age_months"] == 175 and len(result["regions"]) >= 13
    assert from_picture["sd_score"] is not None and set(from_picture["links"]) == {
        "self", "pixels", "reading", "html", "pdf", "json", "fhir"
    }  # fmt: skip


def test_a_dicom_file_says_itself_whose_hand_it_is(from_dicom: dict[str, Any]) -> None:
    assert (from_dicom["kind"], from_dicom["sex"]) == ("dicom", "female")
    assert from_dicom["chronological_age_months"] == pytest.approx(120.3, abs=0.3)  # by its two dates
    assert {"sr", "capture"} <= set(from_dicom["links"])
    assert not [word for word in WHOSE.values() if len(word) > 4 and word in json.dumps(from_dicom)]


def test_the_same_pixels_give_the_same_age_in_either_kind_of_file(
    client: Any, hand: Hand, from_dicom: dict[str, Any]
) -> None:
    job = ended(client, png(hand.pixels), sex=hand.sex)
    assert job["bone_age_months"] == pytest.approx(from_dicom["bone_age_months"], abs=0.5)


def get(client: Any, job: dict[str, Any], form: str, kind: str, **query: str) -> bytes:
    answer = client.get(job["links"][form], params=query)
    assert answer.status_code == 200, answer.text[:300]
    assert answer.headers["content-type"] == kind
    return bytes(answer.content)


def test_json(client: Any, from_picture: dict[str, Any]) -> None:
    found = json.loads(get(client, from_picture, "json", "application/json"))
    assert found["path"] == "Zimmer 4 · 手"
    assert {**found, "path": ""} == from_picture["result"]


def test_html_stands_alone(client: Any, from_picture: dict[str, Any]) -> None:
    text = get(client, from_picture, "html", "text/html; charset=utf-8").decode()
    assert "Zimmer 4 · 手" in text and "research use only" in text.lower()
    assert "<script" not in text and "http://" not in text.replace("http://www.w3.org", "")


def test_pdf(client: Any, from_picture: dict[str, Any]) -> None:
    content = get(client, from_picture, "pdf", "application/pdf")
    assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_fhir(client: Any, from_dicom: dict[str, Any], release: str) -> None:
    found = json.loads(get(client, from_dicom, "fhir", "application/fhir+json", release=release))
    assert found["resourceType"] == "DiagnosticReport"
    if release == "R5":
        get_fhir_model_class("DiagnosticReport").model_validate(found)


@pytest.mark.parametrize("form", ["sr", "capture"])
def test_dicom_results_lie_in_the_study_of_the_image(
    client: Any, from_dicom: dict[str, Any], form: str
) -> None:
    content = get(client, from_dicom, form, "application/dicom")
    made = pydicom.dcmread(BytesIO(content))
    assert made.PatientID == WHOSE["PatientID"] and str(made.PatientName) == WHOSE["PatientName"]
    assert made.StudyInstanceUID == study_image().StudyInstanceUID
    assert made.SOPClassUID.name in ("Comprehensive SR Storage", "Secondary Capture Image Storage")
    again = pydicom.dcmread(BytesIO(get(client, from_dicom, form, "application/dicom")))
    assert again.SOPInstanceUID == made.SOPInstanceUID  # asked for twice, it is one object


def test_a_readers_grades_reach_every_report_and_leave_it_again(
    client: Any, from_dicom: dict[str, Any]
) -> None:
    path = f"{JOBS}/{from_dicom['id']}"
    before = get(client, from_dicom, "html", "text/html; charset=utf-8")
    first = pydicom.dcmread(BytesIO(get(client, from_dicom, "sr", "application/dicom")))
    own = {region["bone"]: region["grades"]["rus_chn"] for region in from_dicom["result"]["regions"]
           if "rus_chn" in region["grades"]}  # fmt: skip
    grade = own["radius"] - 1
    answer = client.put(f"{path}/reading", json={"grades": {"rus_chn": {"radius": grade}}})
    (sheet,) = answer.json()["result"]["reading"]
    assert sheet["changed"] == {"radius": grade} and sheet["grades"]["ulna"] == own["ulna"]
    assert sheet["total"] < from_dicom["result"]["scores"]["rus_chn"]["total"]
    assert answer.json()["result"]["bone_age_months"] == from_dicom["result"]["bone_age_months"]
    for form, kind in (("html", "text/html; charset=utf-8"), ("json", "application/json")):
        assert b"reader" in get(client, from_dicom, form, kind)
    assert get(client, from_dicom, "pdf", "application/pdf").startswith(b"%PDF-")
    changed = pydicom.dcmread(BytesIO(get(client, from_dicom, "sr", "application/dicom")))
    assert changed.SOPInstanceUID != first.SOPInstanceUID
    assert client.put(f"{path}/reading", json={"grades": {}}).json() == from_dicom
    assert get(client, from_dicom, "html", "text/html; charset=utf-8") == before


def test_the_viewer_gets_every_pixel_with_bone_bright(
    client: Any, from_picture: dict[str, Any], hand: Hand
) -> None:
    answer = client.get(from_picture["links"]["pixels"])
    width, height = int(answer.headers["x-width"]), int(answer.headers["x-height"])
    scale = float(answer.headers["x-scale"])
    assert (round(height * scale), round(width * scale)) == hand.pixels.shape
    levels = np.frombuffer(answer.content, "<u2").reshape(height, width)
    if scale == 1:
        assert np.abs(levels / 257.0 - hand.pixels).max() <= 1
    low, high = int(answer.headers["x-window-low"]), int(answer.headers["x-window-high"])
    assert 0 <= low < high <= 65535 and low < np.median(levels[levels > levels.mean()]) < high


def test_a_large_image_is_made_smaller_for_the_viewer(client: Any, hand: Hand) -> None:
    large = cv2.resize(hand.pixels, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    job = ended(client, png(large), sex=hand.sex)
    answer = client.get(job["links"]["pixels"])
    width, height = int(answer.headers["x-width"]), int(answer.headers["x-height"])
    assert max(width, height) == 2048 and len(answer.content) == 2 * width * height
    assert float(answer.headers["x-scale"]) == pytest.approx(max(large.shape) / 2048, rel=1e-3)


@pytest.mark.parametrize(
    "label", ["$x^{2}$ \\frac{ & %s {0} {{}}", "<img src=x onerror=alert(1)>", "手" * 80]
)
def test_a_label_is_only_words_to_every_report(client: Any, hand: Hand, label: str) -> None:
    job = ended(client, hand.content, sex=hand.sex, label=label)
    html = get(client, job, "html", "text/html; charset=utf-8").decode()
    assert escape(label) in html and "<img src=x" not in html
    assert json.loads(get(client, job, "json", "application/json"))["path"] == label
    assert get(client, job, "pdf", "application/pdf").startswith(b"%PDF-")


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG file whose header states a size that its few bytes cannot have."""
    import struct

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def frames(pixels: Any) -> bytes:
    dataset = study_image(pixels, NumberOfFrames=3)
    dataset["PixelData"].value = dataset.PixelData * 3
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def document() -> bytes:
    """Return a DICOM file that holds a text, not an image."""
    dataset = study_image(
        np.zeros((4, 4), np.uint8), Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"
    )
    for name in ("PixelData", "Rows", "Columns"):
        delattr(dataset, name)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def foot() -> Any:
    return np.rint(draw_foot(120).pixels * 255).astype(np.uint8)


REFUSED: dict[str, tuple[Callable[[Hand], bytes], str]] = {
    "truncated JPEG or PNG": (lambda hand: cut(hand.content), "unreadable_image"),
    "truncated PNG": (lambda hand: cut(png(hand.pixels)), "unreadable_image"),
    "truncated DICOM": (lambda hand: cut(file_of(hand.pixels)), "unreadable_image"),
    "DICOM header alone": (lambda hand: file_of(hand.pixels)[:200], "unreadable_image"),
    "DICOM of several frames": (lambda hand: frames(hand.pixels), "unsupported_image"),
    "DICOM of a text": (lambda hand: document(), "unsupported_image"),
    "DICOM of a foot": (lambda hand: file_of(foot(), BodyPartExamined="FOOT"), "not_a_hand"),
    "picture of a foot": (lambda hand: png(foot()), "not_a_hand"),
    "two hands": (lambda hand: png(np.hstack([hand.pixels, hand.pixels])), "not_a_hand"),
    "bomb": (lambda hand: bomb(60_000, 60_000), "unsupported_image"),
    "smaller bomb": (lambda hand: bomb(9_000, 9_000), "unreadable_image"),
    "blank": (lambda hand: png(np.zeros((800, 600), np.uint8)), "unsupported_image"),
    "tiny": (lambda hand: png(np.zeros((8, 8), np.uint8)), "unsupported_image"),
    "PNG signature and nothing": (lambda hand: b"\x89PNG\r\n\x1a\n", "unreadable_image"),
    "JPEG signature and noise": (
        lambda hand: b"\xff\xd8\xff\xe0" + bytes(range(256)) * 99, "unreadable_image"
    ),
    "DICOM of an unknown kind of grey": (
        lambda hand: file_of(hand.pixels, PhotometricInterpretation="MONO\0CHROME\x80"), "unsupported_image",
    ),
    "DICOM that states another size": (
        lambda hand: file_of(hand.pixels, Rows=9_000, Columns=9_000), "unreadable_image"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_that_cannot_be_read_is_rejected_with_its_reason(client: Any, hand: Hand, name: str) -> None:
    make, code = REFUSED[name]
    job = ended(client, make(hand), sex="female")
    assert (job["state"], job["error"]["code"]) == ("rejected", code), job["error"]
    assert len(job["error"]["message"]) > 20 and job["result"] is None and list(job["links"]) == ["self"]


def test_after_all_of_that_it_still_works(client: Any, hand: Hand) -> None:
    assert ended(client, hand.content, sex=hand.sex)["state"] == "done"
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n", "no image"),
        (b"This is a letter, not a radiograph.\n" * 99, "no image"),
        (b"<html><script>alert(1)</script></html>", "no image"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
        (b"GIF89a" + bytes(800), "no image"),
        (b"%PDF-1.7\n" + bytes(800), "no image"),
        (b"PK\x03\x04" + bytes(800), "no image"),
        (b"\x7fELF" + bytes(800), "no image"),
        (b"#!/bin/sh\ntouch /tmp/boneage-was-run\n", "no image"),
        (bytes(10_000), "no image"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else value,
)
def test_what_is_no_image_by_its_content_is_refused_whatever_it_is_called(
    client: Any, content: bytes, words: str
) -> None:
    before = client.get(JOBS, params={"limit": 1}).json()
    answer = send(client, content, name="hand.png", kind="image/png")
    assert answer.status_code == 415 and answer.json()["code"] == "unreadable_image"
    assert words in answer.json()["message"]
    assert client.get(JOBS, params={"limit": 1}).json() == before
    assert not Path("/tmp/boneage-was-run").exists()


def test_a_compressed_dicom_file_that_lies_about_its_size_is_rejected(client: Any, hand: Hand) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    dataset = study_image(hand.pixels, Rows=64, Columns=64)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    stream = cv2.imencode(".jpg", np.zeros((9000, 9000), np.uint8))[1].tobytes()
    dataset["PixelData"].value = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    job = ended(client, file.getvalue())
    assert (job["state"], job["error"]["code"]) == ("rejected", "unreadable_image")
