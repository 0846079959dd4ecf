"""The node as a hospital runs it: its own process, a real Orthanc, real radiographs, and all that fails."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import highdicom as hd
import numpy as np
import pytest
from dicom_peers import (
    OWN_TITLE,
    PEER_TITLE,
    Archive,
    NodeProcess,
    Orthanc,
    free_port,
    running,
    storescu,
    study,
    until,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, MultiFrameGrayscaleByteSecondaryCaptureImageStorage
from pynetdicom import AE

from boneage.dicomnode import objects
from boneage.inference.bundle import SHIPPED

pytestmark = [
    pytest.mark.dicom,
    pytest.mark.skipif(not (SHIPPED / "manifest.json").is_file(), reason="no shipped bundle"),
    pytest.mark.filterwarnings("ignore:The value length"),
]

STUDIES = 50
NOW = datetime(2026, 3, 10, tzinfo=UTC)
REFUSED = {"1766"}
"""Among the first radiographs, those that are refused as no complete hand."""


@pytest.fixture(scope="module")
def hands(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fifty studies of one real radiograph each, every one of another patient."""
    folder = tmp_path_factory.mktemp("hands")
    with (shared_data / "rsna" / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] not in REFUSED]
    return [
        study(
            folder,
            row["id"],
            cv2.imread(str(shared_data / "rsna" / row["path"]), cv2.IMREAD_GRAYSCALE),
            PatientSex=row["sex"][0].upper(),
        )
        for row in rows[:STUDIES]
    ]


def toml(*sends: tuple[str, int], more: str = "", accept: tuple[str, ...] = ("MODALITY", PEER_TITLE)) -> str:
    """Return a node's configuration that sends to peers on loopback."""
    tables = [
        f'[[send]]\nname = "{name}"\nae_title = "{PEER_TITLE}"\nhost = "127.0.0.1"\nport = {port}\n'
        for name, port in sends
    ]
    return "".join(
        [
            f'ae_title = "{OWN_TITLE}"\n[receive]\naccept_from = {json.dumps(accept)}\nmin_free_mb = 1\n',
            "network_timeout_s = 2.0\n[assess]\nworkers = 2\n",
            *tables,
            more,
        ]
    )


def age_months(report: Dataset) -> float:
    """Return the bone age in a structured report, as highdicom reads it; those of each method follow it."""
    tree = hd.sr.ComprehensiveSR.from_dataset(report).content
    found = []

    def walk(items: Any) -> None:
        for item in items:
            code = item.ConceptNameCodeSequence[0] if "ConceptNameCodeSequence" in item else None
            if item.ValueType == "NUM" and code is not None and code.CodeValue == "85151-9":
                value = item.MeasuredValueSequence[0]
                assert value.MeasurementUnitsCodeSequence[0].CodeValue == "mo"
                found.append(float(value.NumericValue))
            walk(item.get("ContentSequence", ()))

    walk(tree)
    assert found
    return found[0]


def test_fifty_studies_come_back_whole_though_the_archive_stops_and_the_node_is_killed(
    hands: list[Path], tmp_path: Path
) -> None:
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", port)
    retry = "[retry]\nfirst_s = 0.5\nlongest_s = 1.0\n"
    node = NodeProcess(tmp_path / "node", toml(("pacs", orthanc.dicom_port), more=retry), port)
    half = STUDIES // 2
    began = time.monotonic()
    with running(orthanc, node):
        routed = [orthanc.post("/instances", path.read_bytes())["ID"] for path in hands]
        orthanc.post("/modalities/boneage/store", json.dumps(routed[:half]).encode())
        until(lambda: node.count("done") >= 3, "some are assessed")
        orthanc.stop()
        assert storescu(port, *hands[half:]) == 0
        taken = node.count("incoming") + node.count("done")
        assert taken >= STUDIES
        until(lambda: node.count("outbox/pacs") >= 4, "results queue up")
        node.kill()
        assert node.count("incoming") > 0
        node.start()
        until(lambda: node.count("outbox/pacs") >= 30, "more results queue up")
        orthanc.start()
        until(lambda: node.count("incoming") == 0 == node.count("outbox/pacs"), "all is delivered", 240)
        print(f"\n{STUDIES} studies there and back in {time.monotonic() - began:.0f} s")
        held = orthanc.by_study()
        assert len(held) == STUDIES and set(map(tuple, held.values())) == {("DX", "OT", "SR")}

        assert storescu(port, *hands[:5]) == 0  # a repetition changes nothing
        until(lambda: node.log.read_text().count("nothing to do") >= 5, "they are known")
        assert node.count("incoming") == 0 == node.count("outbox/pacs")
        assert node.status()["done"] == {"assessed": STUDIES}
        check_reports(orthanc, hands)
        assert node.stop() == 0
    log = node.log.read_text()
    assert "Traceback" not in log and "Secret" not in log and "drawn-" not in log


def check_reports(orthanc: Orthanc, hands: list[Path]) -> None:
    """Check that every image has one readable report of its own, in its own study."""
    images = {
        str(one.SOPInstanceUID): one for one in (dcmread(path, stop_before_pixels=True) for path in hands)
    }
    reported: Counter[str] = Counter()
    for one in orthanc.get("/instances?expand"):
        tags = orthanc.get(f"/instances/{one['ID']}/simplified-tags")
        if tags["Modality"] != "SR":
            continue
        report = dcmread(BytesIO(orthanc.file(one["ID"])))
        evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
        uid = str(evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        image = images[uid]
        assert (report.StudyInstanceUID, report.PatientID) == (image.StudyInstanceUID, image.PatientID)
        assert str(report.PatientName) == str(image.PatientName)
        assert 0 < age_months(report) < 240
        reported[uid] += 1
    assert reported == Counter(dict.fromkeys(images, 1))


def send(node: NodeProcess, dataset: Dataset) -> int:
    """Send a data set with pynetdicom; return the status, -1 where no context was accepted."""
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", node.port, ae_title=OWN_TITLE)
    if not association.accepted_contexts:
        association.abort()
        return -1
    status = association.send_c_store(dataset).Status
    association.release()
    return int(status)


def test_what_is_no_hand_sends_nothing_and_the_node_goes_on(hands: list[Path], tmp_path: Path) -> None:
    archive = Archive()
    node = NodeProcess(tmp_path / "node", toml(("pacs", archive.port)), free_port())
    noise = np.random.default_rng(7).integers(0, 256, (700, 500)).astype(np.uint8)
    frames = np.zeros((3 * 80, 60), np.uint8)
    several = dcmread(
        study(tmp_path, "frames", frames, SOPClassUID=MultiFrameGrayscaleByteSecondaryCaptureImageStorage)
    )
    several.Rows, several.NumberOfFrames = 80, 3
    document = dcmread(study(tmp_path, "document", SOPClassUID=EncapsulatedPDFStorage))
    disguised = dcmread(study(tmp_path, "disguised"))
    del disguised.PixelData
    disguised.add_new("EncapsulatedDocument", "OB", b"%PDF-1.7")
    sexless = dcmread(hands[0])
    sexless.PatientSex, sexless.SOPInstanceUID = "", "1.2.3.4"
    odd = dcmread(hands[2])
    for name in ("PatientBirthDate", "AccessionNumber", "StudyTime", "StudyID", "PatientComments"):
        odd.add_new(name, "LO", f"Secret {name} " * 9)
    cut = study(tmp_path, "cut", noise)
    cut.write_bytes(cut.read_bytes()[:-9000])
    with running(archive, node):
        assert send(node, dcmread(study(tmp_path, "noise", noise))) == 0
        assert send(node, several) == 0
        assert send(node, document) == -1
        assert send(node, disguised) == 0
        assert send(node, sexless) == 0
        assert storescu(node.port, cut) != 0
        assert send(node, dcmread(hands[0])) == 0
        assert send(node, odd) == 0
        until(lambda: len(archive.kept) == 4, "the hands between them are assessed")
        until(lambda: node.count("incoming") == 0, "all are judged")
        assert node.status()["done"] == {"assessed": 2, "refused": 4}
        notes = [json.loads(path.read_text()) for path in (node.spool / "done").iterdir()]
        codes = Counter(note.get("code") for note in notes)
        assert codes[None] == 2 and codes["unsupported_image"] == 2 and codes["sex_required"] == 1
        assert codes["unreadable_image"] >= 1 and sum(codes.values()) == 6
        assert all("Secret" not in json.dumps(note) and "drawn" not in json.dumps(note) for note in notes)
        assert len(archive.kept) == 4 and node.alive
        assert "Secret" not in node.log.read_text() and "Traceback" not in node.log.read_text()


def test_a_dead_letter_comes_back_to_life(hands: list[Path], tmp_path: Path) -> None:
    archive, second = Archive(answers=[0xA700] * 4), Archive()
    more = "[retry]\nfirst_s = 0.1\nlongest_s = 0.1\nmax_attempts = 2\n"
    watched = tmp_path / "in"
    watched.mkdir()
    more += f'[watch]\nfolder = "{watched}"\nevery_s = 0.1\nsettle_s = 0.3\n'
    settings = toml(("pacs", archive.port), ("second", second.port), more=more)
    node = NodeProcess(tmp_path / "node", settings, free_port())
    with running(archive, second, node):
        checked = node.run("--check")
        assert checked.returncode == 0 and checked.stdout.count("answers") == 2
        (watched / "hand.dcm").write_bytes(hands[1].read_bytes())
        until(lambda: node.count("dead/pacs") == 4, "both results, and why, are dead letters")
        until(lambda: len(second.kept) == 2, "the other destination has them")
        assert not list(watched.iterdir())
        assert node.status()["dead"] == {"images": 0, "pacs": 2, "second": 0}
        revived = node.run("--retry-dead")
        assert revived.returncode == 0 and "2 put back" in revived.stderr
        until(lambda: len(archive.kept) == 2, "they are delivered")
        assert node.run("--status").stdout.splitlines()[0].split() == ["node", "running"]
        second.stop()
        checked = node.run("--check")
        assert checked.returncode == 3 and "no connection" in checked.stdout
        assert node.stop() == 0 and not node.status()["running"]
    uid = str(dcmread(hands[1]).SOPInstanceUID)
    bundle = json.loads((SHIPPED / "manifest.json").read_text())
    name = f"{bundle['name']} {bundle['version']}"
    digest = objects.digest_of(hands[1].read_bytes())
    expected = {objects.instance_of(uid, digest, form, name, NOW).sop_uid for form in ("sr", "capture")}
    assert set(archive.kept) == set(second.kept) == expected


def test_a_second_node_on_the_spool_and_a_taken_port_are_refused(tmp_path: Path) -> None:
    archive = Archive()
    node = NodeProcess(tmp_path / "node", toml(("pacs", archive.port)), free_port())
    with running(node):
        again = node.run("--port", free_port())
        assert again.returncode == 2 and "another node works in the spool" in again.stderr
        elsewhere = node.run("--port", node.port, "--spool", tmp_path / "other")
        assert elsewhere.returncode == 2 and f"127.0.0.1:{node.port}" in elsewhere.stderr
        assert again.stderr.count("\n") == 1 and "Traceback" not in elsewhere.stderr
