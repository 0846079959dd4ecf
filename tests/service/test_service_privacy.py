"""What is sent names patients: no log holds it, nothing is stored under its name, what is deleted is gone."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_studies import study_image
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from service_fakes import JOBS, Hand, Served, folder_holds, send

from boneage.reporting.forms import Form

LOUD = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
"""

NAME, NUMBER, BORN = "Lovelace^Augusta", "PID-18151210", "20160301"
WORDS = {
    "patient's name": ["Lovelace", "Augusta", "王小明", "738b", "738B"],
    "patient's number": ["PID-1815", "PID-99"],
    "birth date": [BORN, "2016-03-01", "2016-13-77"],
    "label": ["Zimmer-vierzehn"],
    "file's name": ["augusta_king", "hand-of-ada"],
    "query": ["querysecret"],
    "key": ["key-of-countess"],
    "token": ["private-token-of-the-room"],
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, shipped: Path) -> Iterator[Served]:
    """A real server that logs all it can."""
    folder = tmp_path_factory.mktemp("privacy")
    token = folder / "room.token"
    token.write_text("private-token-of-the-room\n")
    with Served(folder / "data", fake=False, first=LOUD, settings={"token_file": str(token)}) as server:
        server.client.headers["Authorization"] = "Bearer private-token-of-the-room"
        yield server


def dicom(pixels: Any, **tags: Any) -> bytes:
    """Return a file of a named patient, with tags that are none where a test wants them."""
    whose = {"PatientName": NAME, "PatientID": NUMBER, "PatientBirthDate": BORN, "PatientSex": "F"}
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset: Dataset = study_image(pixels, **{**whose, "BodyPartExamined": "HAND", **tags})
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def worked_through(
    room: Served, content: bytes, forms: Collection[str] | None = None, **said: Any
) -> dict[str, Any]:
    """Send an image and ask for everything that can be had of it, or for some of it."""
    answer = send(room.client, content, wait=30, **said)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    for name, path in job["links"].items():
        if name != "reading" and (forms is None or name in forms):
            assert room.client.get(path, params={"ask": "querysecret"}).status_code in (200, 422), path
    return job


def test_no_log_names_a_patient(room: Served, hand: Hand) -> None:
    """At the lowest level, from every process, over good and bad images and requests."""
    said = {
        "sex": None,
        "label": "Zimmer-vierzehn 王小明",
        "name": "augusta_king/hand-of-ada.dcm",
        "key": "key-of-countess",
        "kind": "application/dicom",
    }
    good = worked_through(room, dicom(hand.pixels), **said)
    assert good["state"] == "done" and set(map(str, Form)) <= set(good["links"])
    room.client.put(good["links"]["reading"], json={"grades": {"rus_chn": {"radius": 3, "Lovelace": 2}}})
    room.client.put(good["links"]["reading"], json={"grades": {"Lovelace": {}}})
    tags: dict[str, Any]
    for at, tags in enumerate(
        (
            {"PatientName": "王小明^Lovelace" * 9, "SpecificCharacterSet": "ISO_IR 100"},
            {"PatientID": "PID-99" * 30, "PatientBirthDate": "2016-13-77"},
            {"PatientSex": "Lovelace", "PatientAge": "Augusta"},
            {"StudyDate": "Lovelace", "AccessionNumber": "Augusta" * 20, "StudyInstanceUID": "Lovelace"},
            {"SpecificCharacterSet": "Lovelace", "SOPInstanceUID": "Augusta"},
            {"PhotometricInterpretation": "RGB"},
            {"NumberOfFrames": 2},
        )
    ):
        key = f"key-of-countess {at}"
        worked_through(room, dicom(hand.pixels, **tags), forms=("fhir", "sr"), sex="female", key=key)
    blank = worked_through(room, dicom(np.zeros((800, 600), np.uint8)), **{**said, "key": None})
    assert blank["state"] == "rejected"
    whole = dicom(hand.pixels)
    for content in (whole[:5000], whole[: len(whole) // 2], whole[:700] + b"\xff" * 300 + whole[1000:]):
        worked_through(room, content, sex="female")
    for bad in (
        {"sex": "Lovelace"},
        {"birth_date": "Augusta"},
        {"label": "Zimmer-vierzehn\n"},
        {"height_cm": "Lovelace"},
        {"key": "key-of-countess" * 20},
        {"content": b"Lovelace, Augusta", "name": "augusta_king.txt"},
        {"birth_date": "2016-03-01", "exam_date": "2000-01-01"},
    ):
        assert 400 <= send(room.client, **bad).status_code < 500, bad
    room.client.get(f"{JOBS}/Lovelace-Augusta", params={"ask": "querysecret"})
    room.client.get("/Lovelace/Augusta")
    room.client.post("/api/v1/score", json={"standard": "Lovelace", "sex": "male", "grades": {"Augusta": 1}})
    room.client.post("/api/v1/score", content=b'{"standard": "Lovelace')
    room.client.post(
        JOBS, content=b"Lovelace", headers={"Content-Type": "multipart/form-data; boundary=Augusta"}
    )
    room.client.get("/api/v1/info", headers={"Authorization": "Bearer wrong-Lovelace"})
    assert room.client.get("/health/ready").status_code == 200
    log = room.said
    assert good["id"] in log and f"POST {JOBS}" in log  # it is a log, and it is this one
    words = [word for words in WORDS.values() for word in words if word in log]
    places = [line for line in log.splitlines() if any(word in line for word in words)]
    assert not places, places[:5]


def test_metrics_name_no_patient(room: Served) -> None:
    text = room.client.get("/metrics").text
    assert "boneage_jobs_ended_total" in text
    assert not [word for words in WORDS.values() for word in words if word in text]


def test_beside_the_image_nothing_of_the_patient_is_kept(room: Served, hand: Hand) -> None:
    worked_through(room, dicom(hand.pixels), forms=(), sex=None, name="hand-of-ada.dcm")
    said = {"birth_date": "2016-03-01", "exam_date": "2026-03-01", "label": "Zimmer-vierzehn"}
    worked_through(room, hand.content, forms=(), key="key-of-countess 77", **said)
    with sqlite3.connect(f"file:{room.data / 'boneage.sqlite'}?mode=ro", uri=True) as database:
        kept = "\n".join(str(value) for row in database.execute("SELECT * FROM jobs") for value in row)
    assert "Zimmer-vierzehn" in kept  # the sender's own words are kept, and nothing else
    words = [word for kind, words in WORDS.items() if kind != "label" for word in words if word != "王小明"]
    assert not [word for word in words if word in kept]


def test_no_file_bears_a_name_that_was_sent(room: Served, hand: Hand) -> None:
    names = [
        "hand-of-ada.png",
        "../../hand-of-ada.png",
        "/tmp/hand-of-ada.png",
        "..\\..\\hand-of-ada.png",
        "hand-of-ada.png\0.sh",
        "C:\\hand-of-ada.exe",
        "hand-of-ada" * 500,
        "\u202egnp.hand-of-ada",
        "hand-of-ada.php",
        "",
        ".",
        "~/hand-of-ada",
        "$(touch hand-of-ada)",
    ]
    for name in names:
        answer = send(room.client, hand.content, name=name)
        assert answer.status_code in (202, 400, 422), (name, answer.text)
    assert {path.name for path in room.data.iterdir()} <= {
        "boneage.sqlite", "boneage.sqlite-shm", "boneage.sqlite-wal", "token"
    }  # fmt: skip
    assert not folder_holds(room.data, [b"hand-of-ada"])
    made = [path for folder in (room.data.parent, Path("/tmp")) for path in folder.glob("*hand-of-ada*")]
    assert not made


def test_deleted_over_http_it_is_in_no_file(served: Callable[..., Served]) -> None:
    server = served()
    image = b"\x89PNG\r\n\x1a\n" + b"PIXELS-OF-ADA " * 40_000
    words = [b"PIXELS-OF-ADA", b"LABEL-OF-ADA"]
    job = send(server.client, image, label="LABEL-OF-ADA", wait=30).json()
    other = send(server.client, label="another", wait=30).json()
    server.client.put(job["links"]["reading"], json={"grades": {"rus_chn": {"radius": 3}}})
    assert {word for _, word in folder_holds(server.data, words)} == set(words)
    assert server.client.delete(job["links"]["self"]).status_code == 204
    assert folder_holds(server.data, [*words, job["id"].encode()]) == []
    assert server.client.get(other["links"]["self"]).json()["label"] == "another"
    server.end()
    assert folder_holds(server.data, [*words, job["id"].encode()]) == []


def test_retention_deletes_from_the_files_what_is_old(served: Callable[..., Served]) -> None:
    server = served(retention_days=30.0)
    image = b"\x89PNG\r\n\x1a\n" + b"PIXELS-OF-ADA " * 4_000
    old = send(server.client, image, label="OLD-LABEL", wait=30).json()
    new = send(server.client, label="NEW-LABEL", wait=30).json()
    server.end()
    with sqlite3.connect(server.data / "boneage.sqlite") as database:
        long_ago = time.time() - 31 * 86400
        database.execute("UPDATE jobs SET finished_at = ? WHERE id = ?", (long_ago, old["id"]))
    database.close()
    again = served(server.data, retention_days=30.0)
    for _ in range(100):
        if again.client.get(old["links"]["self"]).status_code == 404:
            break
        time.sleep(0.1)
    assert again.client.get(old["links"]["self"]).status_code == 404
    assert again.client.get(new["links"]["self"]).json()["label"] == "NEW-LABEL"
    again.end()
    assert folder_holds(server.data, [b"PIXELS-OF-ADA", b"OLD-LABEL", old["id"].encode()]) == []


def test_what_is_sent_is_never_run(room: Served) -> None:
    """A file that would do something where it were opened by its kind or read as Python."""
    sent = [
        b"\x89PNG\r\n\x1a\n#!/bin/sh\ntouch /tmp/boneage-was-run\n",
        b"\xff\xd8\xff\n__import__('os').system('touch /tmp/boneage-was-run')\n",
        bytes(128) + b"DICM" + b"cos\nsystem\n(S'touch /tmp/boneage-was-run'\ntR.",
    ]
    for content in sent:
        job = send(room.client, content, wait=30).json()
        assert job["state"] == "rejected", job
    assert not Path("/tmp/boneage-was-run").exists()
