"""What is taken as an image, and the identifiers of its results."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_peers import encoded, study
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from boneage.dicomnode import objects
from boneage.dicomnode.objects import Unacceptable, digest_of, inspect_data_set, inspect_file, instance_of

RAMP = np.linspace(0, 255, 60 * 40).reshape(60, 40).astype(np.uint8)
LIMIT = 1 << 20
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def as_file(folder: Path, syntax: UID = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """Return the bytes of an image in a transfer syntax."""
    dataset = dcmread(study(folder, "hand", RAMP, **tags))
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        dataset.compress(syntax)
    dataset.file_meta.TransferSyntaxUID = syntax
    fresh = Dataset({element.tag: element for element in dataset})
    fresh.file_meta = dataset.file_meta
    file = BytesIO()
    dcmwrite(file, fresh, enforce_file_format=True)
    return file.getvalue()


SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
    RLELossless, JPEG2000Lossless, JPEGLSLossless,
)  # fmt: skip


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: one.name)
def test_an_image_is_taken_in_any_transfer_syntax(tmp_path: Path, syntax: UID) -> None:
    content = as_file(tmp_path, syntax)
    accepted = inspect_file(content, LIMIT)
    assert accepted.sop_uid == dcmread(BytesIO(content)).SOPInstanceUID and not accepted.is_own


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: one.name)
def test_an_image_cut_anywhere_is_refused(tmp_path: Path, syntax: UID) -> None:
    content = as_file(tmp_path, syntax)
    for kept in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(Unacceptable) as refused:
            inspect_file(content[: int(len(content) * kept)], LIMIT)
        assert refused.value.status in (objects.MALFORMED, objects.MISMATCH)


def test_every_transfer_syntax_that_is_offered_can_be_decoded() -> None:
    offered = objects.transfer_syntaxes()
    assert {*SYNTAXES, JPEGBaseline8Bit} <= set(offered) and len(set(offered)) == len(offered)
    lossy = [number for number, one in enumerate(offered) if one in (JPEGBaseline8Bit,)]
    assert min(lossy) > offered.index(JPEGLSLossless) > offered.index(ExplicitVRLittleEndian)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ({"SOPClassUID": EncapsulatedPDFStorage}, objects.MISMATCH),
        ({"SOPClassUID": CTImageStorage}, objects.MISMATCH),
        ({"SOPClassUID": None}, objects.MISMATCH),
        ({"SOPInstanceUID": "../../etc"}, objects.MISMATCH),
        ({"StudyInstanceUID": None}, objects.MISMATCH),
        ({"StudyInstanceUID": ""}, objects.MISMATCH),
        ({"Rows": None}, objects.MISMATCH),
    ],
)
def test_what_is_no_image_of_a_study_is_refused(tmp_path: Path, tags: dict[str, Any], status: int) -> None:
    dataset = dcmread(study(tmp_path, "hand"))
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            dataset.add_new(name, "US" if name == "Rows" else "UI", value)
    with pytest.raises(Unacceptable) as refused:
        inspect_data_set(BytesIO(encoded(dataset)), ExplicitVRLittleEndian, None, LIMIT)
    assert refused.value.status == status and "etc" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 128, b"\x89PNG\r\n", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + bytes(range(256)) * 20],
    ids=["empty", "zeros", "a picture", "a beginning", "noise"],
)
def test_what_is_no_dicom_file_is_refused(content: bytes) -> None:
    with pytest.raises(Unacceptable):
        inspect_file(content, LIMIT)


def test_a_transfer_syntax_that_is_not_read_is_refused() -> None:
    with pytest.raises(Unacceptable) as refused:
        inspect_data_set(BytesIO(b""), UID("1.2.840.10008.1.2.4.102"), None, LIMIT)
    assert refused.value.status == objects.UNREADABLE_SYNTAX


def test_a_deflate_bomb_is_not_unpacked() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(64)) + packer.flush()
    with pytest.raises(Unacceptable) as refused:
        inspect_data_set(BytesIO(bomb), DeflatedExplicitVRLittleEndian, None, LIMIT)
    assert refused.value.status == objects.TOO_LARGE


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unacceptable) as refused:
        inspect_file(as_file(tmp_path), 1000)
    assert refused.value.status == objects.TOO_LARGE


def test_a_result_of_this_product_is_known(tmp_path: Path) -> None:
    own = as_file(tmp_path, Manufacturer="boneage", ManufacturerModelName="boneage")
    other = as_file(tmp_path, Manufacturer="boneage", ManufacturerModelName="another")
    assert inspect_file(own, LIMIT).is_own and not inspect_file(other, LIMIT).is_own


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: one.name)
def test_the_digest_is_that_of_the_data_set_whatever_file_header_it_bears(
    tmp_path: Path, syntax: UID
) -> None:
    content = as_file(tmp_path, syntax)
    meta = dcmread(BytesIO(content)).file_meta
    meta_length = 132 + 12 + meta.FileMetaInformationGroupLength
    travelled = inspect_data_set(BytesIO(content[meta_length:]), syntax, None, LIMIT)
    other = FileMetaDataset()
    other.update(meta)
    other.ImplementationVersionName, other.SourceApplicationEntityTitle = "OTHER", "ELSEWHERE"
    file = BytesIO()
    file.write(b"\1" * 128 + b"DICM")
    write_file_meta_info(file, other)
    file.write(content[meta_length:])
    again = file.getvalue()
    assert again != content
    assert travelled.digest == inspect_file(content, LIMIT).digest == inspect_file(again, LIMIT).digest
    assert digest_of(again) == digest_of(content) == travelled.digest


def test_the_digest_is_another_where_one_element_is(tmp_path: Path) -> None:
    girl, boy = (as_file(tmp_path, PatientSex=sex) for sex in "FM")
    assert digest_of(girl) != digest_of(boy)
    with pytest.raises(Unacceptable, match="no DICOM file"):
        digest_of(b"no DICOM")


def test_results_have_the_same_identifiers_each_time_and_others_for_each_thing() -> None:
    first = instance_of("1.2.3", "d1", "sr", "standard 1", NOW)
    assert first == instance_of("1.2.3", "d1", "sr", "standard 1", NOW)
    others = [
        instance_of("1.2.4", "d1", "sr", "standard 1", NOW),
        instance_of("1.2.3", "d2", "sr", "standard 1", NOW),
        instance_of("1.2.3", "d1", "capture", "standard 1", NOW),
        instance_of("1.2.3", "d1", "sr", "standard 2", NOW),
    ]
    uids = [uid for one in (first, *others) for uid in (one.sop_uid, one.series_uid)]
    assert len(set(uids)) == 10
    assert all(UID(uid).is_valid and uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
