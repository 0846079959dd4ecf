"""DICOM files (CR, DX, digitised film, secondary capture) to radiographs."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from boneage.core.errors import RuntimeUnavailable, UnreadableImage, UnsupportedImage
from boneage.core.types import Radiograph
from boneage.imaging.dicom_levels import Grey, Stored, to_grey
from boneage.imaging.dicom_tags import read_tags
from boneage.imaging.quality import MAX_FILE_BYTES, check_size
from boneage.imaging.raster import check_colour

_NEVER_A_RADIOGRAPH = {"CT", "MR", "PT", "NM", "US", "SR", "KO", "PR", "ECG", "SEG", "RTSTRUCT", "DOC"}

_MALFORMED = (
    ValueError, TypeError, AttributeError, LookupError, ArithmeticError, NotImplementedError, RuntimeError,
    OSError, EOFError, MemoryError, struct.error, zlib.error,
    InvalidDicomError, BytesLengthException,
)  # fmt: skip
"""What pydicom and its decoders raise on damaged files; they document no closed set."""


def decode(data: bytes) -> Radiograph:
    """Return the radiograph in a DICOM file, with the patient's fields and where each came from.

    Raises:
        UnreadableImage: the file is damaged, ends early or holds no pixels.
        UnsupportedImage: it is multi-frame, too large or small, or no radiograph by its modality.
        NotAHand: it is a colour photograph.
        RuntimeUnavailable: the decoder of its compression is not installed.
    """
    # pydicom's validation warns with the offending value in full, which may be a name or a date of birth.
    with disable_value_validation():
        dataset = _parse(data)
        try:
            _check_kind(dataset)
            tags = read_tags(dataset)
            grey = _grey(dataset)
        except _MALFORMED as error:
            raise UnreadableImage(
                "the DICOM file is damaged: a tag cannot be read; export it again"
            ) from error
    order = "inverted once" if grey.inverted else "as stored"
    return Radiograph(
        pixels=grey.pixels,
        spacing_mm=tags.spacing_mm,
        side=tags.side,
        sex=tags.sex,
        chronological_age_months=tags.chronological_age_months,
        provenance={
            **tags.provenance,
            "intensity": grey.rule,
            "polarity": f"(0028,0004) {dataset.PhotometricInterpretation}: {order}",
        },
        identifiers=tags.identifiers,
        warnings=tags.notices + grey.notices,
    )


def _parse(data: bytes) -> FileDataset:
    _check_inflated_size(data)
    try:
        return dcmread(BytesIO(data), force=data[128:132] != b"DICM")
    except _MALFORMED as error:
        raise UnreadableImage("the DICOM file is damaged or ends early; export it again") from error


def _check_inflated_size(data: bytes) -> None:
    """Refuse a deflated file that would unpack to more than may be read, before pydicom unpacks it."""
    if data[128:132] != b"DICM":
        return
    try:
        stream = BytesIO(data)
        stream.seek(132)
        meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        unpacked, piece = 0, data[stream.tell() :]
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        while piece and not inflater.eof and unpacked <= MAX_FILE_BYTES:
            unpacked += len(inflater.decompress(piece, 1 << 24))
            piece = inflater.unconsumed_tail
    except _MALFORMED as error:
        raise UnreadableImage("the DICOM file is damaged or ends early; export it again") from error
    if unpacked > MAX_FILE_BYTES:
        raise UnsupportedImage(
            f"the DICOM file unpacks to more than {MAX_FILE_BYTES >> 20} MiB; export one image alone"
        )


def _check_kind(dataset: Dataset) -> None:
    """Refuse by the tags alone what is no single radiograph."""
    modality = str(dataset.get("Modality") or "").upper()
    if modality in _NEVER_A_RADIOGRAPH:
        raise UnsupportedImage(
            f"the DICOM file has modality {modality}; give a radiograph (CR, DX or secondary capture)"
        )
    if "PixelData" not in dataset:
        raise UnreadableImage("the DICOM file holds no pixel data; give the image object of the study")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise UnsupportedImage(
            f"the DICOM file is multi-frame ({frames} frames); export the radiograph as one frame"
        )
    missing = [
        name
        for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
        if dataset.get(name) in (None, "")
    ]
    if missing:
        raise UnreadableImage(f"the DICOM file lacks {', '.join(missing)}; export it again")
    check_size(int(dataset.Rows), int(dataset.Columns))
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16) or not 8 <= stored <= allocated:
        raise UnsupportedImage(
            f"the DICOM file has {stored} of {allocated} bits a value; 8 to 16 bits are read, export it so"
        )


def _grey(dataset: FileDataset) -> Grey:
    photometric = str(dataset.PhotometricInterpretation)
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        return to_grey(_pixels(dataset), dataset)
    if photometric.startswith(("RGB", "YBR")):
        return _colour_to_grey(_pixels(dataset), photometric)
    raise UnsupportedImage(
        f"the DICOM file has the photometric interpretation {photometric}; export it as MONOCHROME2 or RGB"
    )


def _colour_to_grey(colour: Stored, photometric: str) -> Grey:
    """Weight RGB (H, W, 3) to grey on the type's full range; windows do not apply to colour."""
    if colour.ndim != 3 or colour.shape[2] != 3:
        raise UnreadableImage(
            f"the DICOM file says {photometric} but does not hold three channels; export it again"
        )
    notices = check_colour(colour)
    grey = cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2GRAY)
    pixels = np.divide(grey, np.float32(np.iinfo(colour.dtype).max), dtype=np.float32)
    return Grey(pixels, f"{photometric} weighted to grey", False, notices)


def _pixels(dataset: FileDataset) -> Stored:
    """Return stored values (H, W) or RGB (H, W, 3), decompressed."""
    dataset = _with_transfer_syntax(dataset)
    _check_decoder(dataset)
    try:
        pixels = pixel_array(dataset)
    except _MALFORMED as error:
        raise UnreadableImage(
            "the pixels of the DICOM file are damaged or end early; export it again"
        ) from error
    if pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.shape[:2] != (int(dataset.Rows), int(dataset.Columns)):
        raise UnreadableImage("the pixels of the DICOM file do not have the stated size; export it again")
    return np.asarray(pixels)


def _with_transfer_syntax(dataset: FileDataset) -> FileDataset:
    """Fill in the transfer syntax that a file without its meta header was just parsed by."""
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def _check_decoder(dataset: FileDataset) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnsupportedImage(
            f"the DICOM file uses {syntax.name}, which is not read; export it as Explicit VR Little Endian"
        ) from error
    if not decoder.is_available:
        raise RuntimeUnavailable(
            f"no decoder for {syntax.name} is installed; install one with: pip install 'pylibjpeg[all]'"
        )
    if syntax.is_encapsulated:
        _check_stream_size(dataset)


def _check_stream_size(dataset: FileDataset) -> None:
    """Refuse a compressed stream whose own header states another size than the tags: it may be huge."""
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1), b"")
    size = stream_size(frame)
    if size is not None and size != (int(dataset.Rows), int(dataset.Columns)):
        raise UnreadableImage("the pixels of the DICOM file do not have the stated size; export it again")


def stream_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) from the header of a JPEG, JPEG-LS or JPEG 2000 stream, else None."""
    if stream.startswith(b"\xff\x4f\xff\x51") and len(stream) >= 24:
        x1, y1, x0, y0 = struct.unpack_from(">4I", stream, 8)
        return y1 - y0, x1 - x0
    if not stream.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        # Start-of-frame markers, without DHT (C4), JPG (C8) and DAC (CC), which lie among them.
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack_from(">2H", stream, at + 5)
            return rows, columns
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
