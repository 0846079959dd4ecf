"""What an object must be to be taken, and the identifiers of what is made of it."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import BinaryIO

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from boneage import __version__
from boneage.core.errors import InputError
from boneage.reporting.dicom_content import NAME
from boneage.reporting.dicom_results import Instance

TOO_LARGE = 0xA701
MISMATCH = 0xA900
MALFORMED = 0xC000
UNREADABLE_SYNTAX = 0xC002
"""Status codes of C-STORE (PS3.4, table B.2-1); the last digits tell this node's reasons apart."""

IMAGE_CLASSES: tuple[UID, ...] = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    XRayRadiofluoroscopicImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
"""Classes that hold radiographs; objects of several frames are taken, and refused when they are assessed."""

_SYNTAXES: tuple[UID, ...] = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian,
    JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1, JPEGLossless, RLELossless, HTJ2KLossless,
    JPEG2000, JPEGLSNearLossless, JPEGExtended12Bit, JPEGBaseline8Bit,
)  # fmt: skip
"""In the order in which a caller that offers several is answered: what loses nothing first."""

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
_READ = ("SOPClassUID", "SOPInstanceUID", "Manufacturer", "ManufacturerModelName", *_NEEDED)
_FIRST_OF_PIXELS = 0x7FE00008
_UNDEFINED = 0xFFFFFFFF
_UID = re.compile(r"[0-9.]{1,64}")
_META_GROUP = 2


class Unacceptable(InputError):
    """An object that the node does not take; `status` is what its sender is told."""

    code = "unacceptable_object"

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is known of an object that may be taken.

    Args:
        sop_uid: its SOP Instance UID.
        is_own: it is a result of this product that came back, and is not to be assessed.
        digest: SHA-256 of its data set, as it came; the same whatever file header it bears.
    """

    sop_uid: str
    is_own: bool
    digest: str


def transfer_syntaxes() -> tuple[UID, ...]:
    """Return the transfer syntaxes whose pixels can be read here."""
    return tuple(syntax for syntax in _SYNTAXES if get_decoder(syntax).is_available)


def inspect_data_set(
    content: BytesIO, syntax: UID, expected: tuple[str, str] | None, max_bytes: int
) -> Accepted:
    """Judge a data set as it came, without its file header.

    Args:
        content: the data set; read from its beginning, and left anywhere.
        syntax: how it is encoded.
        expected: the SOP class and instance that the sender named; None asks for any of an image.
        max_bytes: a deflated data set may be so large.

    Raises:
        Unacceptable: it is malformed, cut short, too large, or no image of a study.
    """
    if syntax not in transfer_syntaxes():
        raise Unacceptable(UNREADABLE_SYNTAX, "its transfer syntax is not read")
    deflated = syntax == DeflatedExplicitVRLittleEndian
    plain = _inflated(content, max_bytes) if deflated else content
    try:
        with disable_value_validation():
            header = _header(plain, syntax)
            found = {name: str(header.get(name) or "") for name in _READ}
    except Unacceptable:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom documents no closed set of what malformed bytes raise
        raise Unacceptable(MALFORMED, f"it is malformed ({type(error).__name__})") from None
    return _accepted(found, expected, hashlib.sha256(content.getbuffer()).hexdigest())


def inspect_file(content: bytes, max_bytes: int) -> Accepted:
    """Judge a DICOM file as `inspect_data_set` judges a data set.

    Raises:
        Unacceptable: as there, or it is no DICOM file.
    """
    if len(content) > max_bytes:
        raise Unacceptable(TOO_LARGE, "it is larger than max_object_mb")
    syntax, at = _file_header(content)
    return inspect_data_set(BytesIO(content[at:]), syntax, None, max_bytes)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of a DICOM file's data set: `Accepted.digest`.

    Raises:
        Unacceptable: it is no DICOM file.
    """
    return hashlib.sha256(memoryview(content)[_file_header(content)[1] :]).hexdigest()


def _file_header(content: bytes) -> tuple[UID, int]:
    """Return a DICOM file's transfer syntax, and where its data set begins.

    Raises:
        Unacceptable: it is no DICOM file.
    """
    if content[128:132] != b"DICM":
        raise Unacceptable(MALFORMED, "it is no DICOM file")
    stream = BytesIO(content)
    stream.seek(132)
    try:
        with disable_value_validation():
            meta = read_dataset(
                stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP
            )
            syntax = UID(str(meta.get("TransferSyntaxUID") or ""))
    except Exception as error:  # noqa: BLE001 - as above
        raise Unacceptable(MALFORMED, f"its file header is malformed ({type(error).__name__})") from None
    return syntax, stream.tell()


def instance_of(sop_uid: str, digest: str, form: str, maker: str, made_at: datetime) -> Instance:
    """Return the identifiers of a result: always the same for an image, a form, a bundle and a version.

    Whatever is made twice is then one and the same instance, of which an archive keeps one. An image that
    was corrected under its old UID has a result of its own: the archive would keep the wrong one else.

    Args:
        sop_uid: of the image.
        digest: of the image's data set.
        form: `sr` or `capture`.
        maker: name and version of the bundle.
        made_at: the date and time that the result shall bear.
    """
    return Instance.of(made_at, sop_uid, digest, form, maker, __version__)


def _accepted(found: dict[str, str], expected: tuple[str, str] | None, digest: str) -> Accepted:
    said = (found["SOPClassUID"], found["SOPInstanceUID"])
    if expected is not None and said != expected:
        raise Unacceptable(MISMATCH, "its SOP class or instance is not the one that was announced")
    if said[0] not in IMAGE_CLASSES:
        raise Unacceptable(MISMATCH, "its SOP class holds no radiographs")
    if not _UID.fullmatch(said[1]):
        raise Unacceptable(MISMATCH, "its SOP Instance UID is none")
    own = found["Manufacturer"] == found["ManufacturerModelName"] == NAME
    lacking = [name for name in _NEEDED if not found[name]]
    if lacking and not own:
        raise Unacceptable(MISMATCH, f"it lacks {', '.join(lacking)}")
    return Accepted(said[1], own, digest)


def _inflated(content: BytesIO, max_bytes: int) -> BytesIO:
    try:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(content.getvalue(), max_bytes + 1)
    except zlib.error:
        raise Unacceptable(MALFORMED, "it is malformed (deflate)") from None
    if len(inflated) > max_bytes:
        raise Unacceptable(TOO_LARGE, "it unpacks to more than max_object_mb")
    if not inflater.eof:
        raise Unacceptable(MALFORMED, "it ends early")
    return BytesIO(inflated)


def _header(content: BytesIO, syntax: UID) -> Dataset:
    """Return the elements that are asked for; the pixels are passed over, but must all be there."""
    size = content.seek(0, 2)
    content.seek(0)
    pixels: list[int] = []

    def at_pixels(tag: int, _vr: str | None, length: int) -> bool:
        if tag >= _FIRST_OF_PIXELS:
            pixels.append(length)
            pixels.append(content.tell())
            return True
        return False

    little = syntax != ExplicitVRBigEndian
    header = read_dataset(
        content,
        syntax == ImplicitVRLittleEndian,
        little,
        stop_when=at_pixels,
        specific_tags=[Tag(name) for name in _READ],
    )
    if not pixels:
        if content.tell() != size:
            raise Unacceptable(MALFORMED, "it ends early")
        return header
    length, at = pixels[-2:]
    if (length == _UNDEFINED and not _has_all_items(content, at, size)) or (
        length != _UNDEFINED and at + length > size
    ):
        raise Unacceptable(MALFORMED, "its pixels end early")
    return header


def _has_all_items(content: BinaryIO, at: int, size: int) -> bool:
    """Return whether a value of items, as compressed pixels are (PS3.5, A.4), goes on to its delimiter."""
    while at + 8 <= size:
        content.seek(at)
        group, element, length = struct.unpack("<HHL", content.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            return True
        if (group, element) != (0xFFFE, 0xE000) or length == _UNDEFINED:
            return False
        at += 8 + length
    return False
