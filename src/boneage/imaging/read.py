"""A file of any supported kind to a `Radiograph`: the one way in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from boneage.core.errors import BoneAgeError, UnreadableImage, UnsupportedImage
from boneage.core.types import FloatArray, Notice, Radiograph
from boneage.imaging import polarity, raster
from boneage.imaging.polarity import Polarity
from boneage.imaging.quality import MAX_FILE_BYTES, MIN_SIDE


def read(path: str | Path, *, min_side: int = MIN_SIDE) -> Radiograph:
    """Return the radiograph in a PNG, JPEG, TIFF, WebP or DICOM file, bone bright, in [0, 1].

    The kind is told from the content, never from the name. Pixels are as stored: an orientation
    that EXIF states is not applied.

    Args:
        path: the file; every message and the result name it as given here.
        min_side: shortest side that is accepted of a PNG, JPEG, TIFF or WebP, in pixels.

    Raises:
        UnreadableImage: the file is missing, empty, truncated, damaged or no image.
        UnsupportedImage: it is too large or small, multi-frame or of another refused kind.
        NotAHand: it is a colour photograph.
        RuntimeUnavailable: the decoder of its compression is not installed.
    """
    name = str(path)
    try:
        return _read_bytes(_load(Path(path)), name, min_side)
    except BoneAgeError as error:
        raise type(error)(f"{name}: {error}") from error


def read_bytes(data: bytes, name: str = "") -> Radiograph:
    """Return the radiograph in the bytes of a file, as `read` does; `name` becomes its path.

    Raises:
        UnreadableImage, UnsupportedImage, NotAHand, RuntimeUnavailable: as `read`.
    """
    try:
        return _read_bytes(data, name, MIN_SIDE)
    except BoneAgeError as error:
        raise type(error)(f"{name}: {error}" if name else str(error)) from error


def kind_of(data: bytes) -> str | None:
    """Return `dicom` or `picture` by how the bytes of a file begin, None for neither; nothing is decoded."""
    if _is_dicom(data):
        return "dicom"
    return "picture" if raster.is_raster(data) else None


def _load(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise UnreadableImage("a folder, not an image; name a file, or use 'boneage batch' for a folder")
        if path.exists() and not path.is_file():
            raise UnreadableImage("not a regular file; name an image file")
        _check_bytes(path.stat().st_size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImage("no such file; check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise UnreadableImage(
            f"the file cannot be opened ({reason}); check the path and its permissions"
        ) from error


def _check_bytes(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise UnsupportedImage(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB; export one image alone")


def _read_bytes(data: bytes, name: str, min_side: int) -> Radiograph:
    _check_bytes(len(data))
    if not data:
        raise UnreadableImage("the file is empty; copy or export it again")
    if _is_dicom(data):
        from boneage.imaging import dicom  # pydicom is a sixth of a cold start that reads no DICOM

        radiograph = dicom.decode(data)
        tagged = True
    elif raster.is_raster(data):
        levels, notices = raster.decode(data, min_side)
        radiograph = Radiograph(pixels=_to_unit(levels), warnings=notices)
        tagged = False
    else:
        raise UnreadableImage("no image by its content; give a radiograph as PNG, JPEG, TIFF, WebP or DICOM")
    return _turn_bone_bright(replace(radiograph, path=name), tagged)


def _is_dicom(data: bytes) -> bool:
    """Return whether the bytes start as a DICOM file does, with or without its preamble."""
    # Without a preamble a file starts with an element (0002,00xx) or (0008,00xx), little endian.
    return data[128:132] == b"DICM" or (data[:2] in (b"\x02\x00", b"\x08\x00") and data[3:4] == b"\x00")


def _to_unit(levels: raster.Pixels) -> FloatArray:
    """Divide by the full range of the type, not by the brightest pixel: exposure stays visible."""
    full = np.float32(np.iinfo(levels.dtype).max)
    return np.divide(levels, full, dtype=np.float32)


def _turn_bone_bright(radiograph: Radiograph, tagged: bool) -> Radiograph:
    """Invert pixels in which bone is clearly dark, and say so; only warn where it is uncertain."""
    found = polarity.judge(radiograph.pixels)
    if found is Polarity.BONE_BRIGHT:
        return radiograph
    notices: tuple[Notice, ...]
    if found is Polarity.UNCERTAIN:
        notices = (Notice("polarity_uncertain", "it is not clear whether bone is bright; check the image"),)
        return replace(radiograph, warnings=radiograph.warnings + notices)
    notices = (Notice("polarity_corrected", "bone was dark; the image was inverted before reading"),)
    if tagged:
        text = "the DICOM tags promise bright bone but the pixels show dark bone; the pixels were followed"
        notices += (Notice("polarity_tags_disagree", text),)
    return replace(
        radiograph,
        pixels=np.subtract(np.float32(1), radiograph.pixels),
        warnings=radiograph.warnings + notices,
        provenance={**radiograph.provenance, "polarity": "inverted by content"},
    )
