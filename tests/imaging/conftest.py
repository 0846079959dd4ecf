"""A drawn hand and DICOM files around it, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from boneage.core.types import FloatArray

DicomWriter = Callable[..., bytes]


@pytest.fixture(scope="session")
def drawn_hand() -> FloatArray:
    """(240, 200) float32 in [0, 1]: a bright hand with brighter bones on a dark ground."""
    image = np.full((240, 200), 0.05, np.float32)
    tips = [(30, 120), (62, 50), (98, 30), (134, 45), (165, 80)]
    for thickness, grey in ((20, 0.45), (8, 0.85)):
        for tip in tips:
            cv2.line(image, (100, 170), tip, grey, thickness)
        cv2.line(image, (90, 170), (90, 239), grey, thickness)
        cv2.line(image, (112, 170), (112, 239), grey, thickness)
        if thickness == 20:
            cv2.ellipse(image, (100, 150), (42, 40), 0, 0, 360, grey, -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), dtype=np.float32)


def write_dicom(
    stored: NDArray[Any], *, compress: str | None = None, encoding: dict[str, Any] | None = None, **tags: Any
) -> bytes:
    """Return the bytes of a DICOM file with `stored` as its native values and `tags` on top of the defaults.

    A tag given as None is left out.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID((encoding or {}).get("syntax", ExplicitVRLittleEndian))
    defaults: dict[str, Any] = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=["image"]),
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
        "Modality": "CR",
        "SamplesPerPixel": stored.shape[2] if stored.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if stored.ndim == 3 else "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 8 * stored.dtype.itemsize,
        "BitsStored": 8 * stored.dtype.itemsize,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PlanarConfiguration": 0 if stored.ndim == 3 else None,
    }
    for name, value in {**defaults, **tags}.items():
        if value is not None:
            setattr(dataset, name, value)
    if "HighBit" not in dataset:
        dataset.HighBit = dataset.BitsStored - 1
    if "PixelData" not in tags:
        data = stored.tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
    if "PixelData" in dataset:
        encapsulated = dataset.file_meta.TransferSyntaxUID.is_encapsulated
        dataset["PixelData"].VR = "OB" if encapsulated or stored.dtype.itemsize == 1 else "OW"
        dataset["PixelData"].is_undefined_length = encapsulated
    if compress is not None:
        dataset.compress(compress, stored, generate_instance_uid=False)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="session")
def dicom_file() -> DicomWriter:
    """The writer of DICOM files, `write_dicom`."""
    return write_dicom
