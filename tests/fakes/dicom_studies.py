"""DICOM images of studies that never were, and the validators that judge what is put beside them."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

WHOSE: dict[str, Any] = {
    "PatientName": "Drawn^Hand",
    "PatientID": "drawn-7",
    "PatientBirthDate": "20160301",
    "PatientSex": "F",
    "AccessionNumber": "A-2041",
    "StudyID": "S-3",
    "StudyDate": "20260310",
    "StudyTime": "101500",
    "StudyDescription": "Hand, bone age",
    "ReferringPhysicianName": "Nobody^Ann",
}
"""What results must keep of an image's header."""


def study_image(pixels: NDArray[np.uint8] | None = None, **tags: Any) -> Dataset:
    """Return a DX image of 60 x 40, or of (H, W) uint8 pixels; a tag given as None is left out."""
    stored = np.zeros((60, 40), np.uint8) if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": generate_uid(entropy_srcs=["image"]),
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
        "Modality": "DX",
        **WHOSE,
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        **tags,
    }
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.add_new("PixelData", "OB", stored.tobytes() + b"\0" * (stored.size % 2))
    return dataset


def write_study_image(path: Path, pixels: NDArray[np.uint8], **tags: Any) -> Path:
    """Write such an image as a file."""
    file = BytesIO()
    study_image(pixels, **tags).save_as(file, enforce_file_format=True)
    path.write_bytes(file.getvalue())
    return path


def validator(name: str, package: str) -> str:
    """Return the path of a validator, or skip the test that needs it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; Debian's package {package} has it")
    return found


def errors_of(path: Path) -> list[str]:
    """Return what dicom3tools' validator calls an error in a DICOM object, and the object's kind first."""
    program = validator("dciodvfy", "dicom3tools")
    done = subprocess.run(
        [program, str(path)], capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    kinds = [line for line in lines if line in {"ComprehensiveSR", "SCImage"}]
    return [*kinds, *(line for line in lines if line.startswith("Error"))]


def report_text(path: Path) -> str:
    """Return a structured report as dcmtk reads and prints it, with every value in full."""
    program = validator("dsrdump", "dcmtk")
    done = subprocess.run(
        [program, "+Pl", str(path)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "E:" not in done.stderr, done.stderr
    return done.stdout
