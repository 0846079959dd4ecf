"""PNG, JPEG, TIFF and WebP to grey levels.

Pillow reads the header alone, so that nothing large, animated or cut short is ever decoded; OpenCV
decodes the pixels once. Whether the file is whole is told from its structure, because decoders
differ in what they do with a file that ends early: some return a picture that is half grey.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.Image import DecompressionBombError

from boneage.core.errors import NotAHand, UnreadableImage, UnsupportedImage
from boneage.core.types import Notice
from boneage.imaging.quality import MIN_SIDE, check_size

Pixels = NDArray[Any]
"""Pixels of an unsigned 8 or 16 bit type."""

_HEADER_ERRORS = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, struct.error)
"""What Pillow raises on a damaged header."""

_OFF_TINT = 0.12
"""Distance in colour, in [0, 1], from the tint of equally bright pixels that only a photograph has."""

_OFF_TINT_SHARE = 0.05
_VIVID = 0.45
"""Saturation of the brighter half beyond that of any tinted film."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How one format is told, opened and checked for being whole."""

    name: str
    matches: Callable[[bytes], bool]
    open: Callable[[BytesIO], Any]
    is_whole: Callable[[bytes, Any], bool]


def is_raster(data: bytes) -> bool:
    """Return whether the first bytes are those of a PNG, JPEG, TIFF or WebP file."""
    return _format_of(data) is not None


def decode(data: bytes, min_side: int = MIN_SIDE) -> tuple[Pixels, tuple[Notice, ...]]:
    """Return the grey levels (H, W), 8 or 16 bit, of a whole raster file, and what was doubtful.

    Colour is weighted to grey, a palette is looked up, and alpha is blended on black. Sides shorter than
    `min_side` pixels are refused.

    Raises:
        UnreadableImage: the file is damaged or ends early.
        UnsupportedImage: it is too large or small, has several pages, or levels of another type.
        NotAHand: it is a colour photograph.
    """
    kind = _format_of(data)
    if kind is None:
        raise UnreadableImage(
            "not a PNG, JPEG, TIFF or WebP image; give a radiograph in one of these or as DICOM"
        )
    white_is_zero = _check_header(data, kind, min_side)
    pixels = _decode_pixels(data, kind.name)
    if white_is_zero and pixels.dtype == np.uint16 and pixels.ndim == 2:
        # OpenCV turns such a TIFF at 8 bits and leaves it as stored at 16.
        pixels = 65535 - pixels
    return _to_grey(pixels)


def _format_of(data: bytes) -> _Format | None:
    return next((kind for kind in _FORMATS if kind.matches(data)), None)


def _check_header(data: bytes, kind: _Format, min_side: int) -> bool:
    """Refuse by its header what may not be decoded; return whether it is a TIFF whose zero is white."""
    try:
        with kind.open(BytesIO(data)) as header:
            width, height = header.size
            pages = getattr(header, "n_frames", 1)
            whole = kind.is_whole(data, header)
            white_is_zero = kind.name == "TIFF" and header.tag_v2.get(262) == 0
    except DecompressionBombError as error:  # Pillow's own limit, which it may reach before `check_size` does
        raise UnsupportedImage(
            f"the image is too large, or its {kind.name} header is damaged; export or reduce it first"
        ) from error
    except _HEADER_ERRORS as error:
        raise UnreadableImage(
            f"the {kind.name} file is damaged or ends early; copy or export it again"
        ) from error
    check_size(height, width, min_side)
    if pages > 1:
        raise UnsupportedImage(f"the {kind.name} file holds {pages} pages or frames; give one image a file")
    if not whole:
        raise UnreadableImage(f"the {kind.name} file ends early or is damaged; copy or export it again")
    return white_is_zero


def _decode_pixels(data: bytes, name: str) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage(f"the {name} file cannot be decoded; export it again") from error
    if pixels is None:
        raise UnreadableImage(
            f"the {name} file is damaged or uses a compression that is not known; export it again"
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnsupportedImage(
            f"the {name} file has {pixels.dtype} levels; export it with 8 or 16 bit unsigned ones"
        )
    return np.asarray(pixels)


def _to_grey(pixels: Pixels) -> tuple[Pixels, tuple[Notice, ...]]:
    """Return one channel of the type of the input: (H, W), (H, W, 1), (H, W, 3 BGR) or (H, W, 4 BGRA)."""
    if pixels.ndim == 2:
        return pixels, ()
    channels = pixels.shape[2]
    if channels not in (1, 3, 4):
        raise UnsupportedImage(f"the image has {channels} channels; export it as grey or RGB")
    if channels == 1:
        return pixels[..., 0], ()
    colour = pixels[..., :3]
    notices = check_colour(colour)
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_BGR2GRAY))
    full = np.iinfo(pixels.dtype).max
    if channels == 4 and not np.all(pixels[..., 3] == full):
        grey = np.rint(grey * (pixels[..., 3] / np.float32(full))).astype(pixels.dtype)
    return grey, notices


def check_colour(colour: Pixels) -> tuple[Notice, ...]:
    """Refuse a colour photograph; a tinted scan passes with the notice `tinted`.

    In a tinted film the colour follows from the brightness; in a photograph it varies among equally
    bright pixels, or is more vivid than any film.

    Args:
        colour: (H, W, 3) 8 or 16 bit, channels in any order.

    Raises:
        NotAHand: the image is a colour photograph.
    """
    step = max(1, min(colour.shape[:2]) // 128)
    sample = colour[::step, ::step].reshape(-1, 3) / np.float32(np.iinfo(colour.dtype).max)
    chroma = np.ptp(sample, axis=1)
    if chroma.max() < 0.02:
        return ()
    brightness = sample.mean(axis=1)
    difference = sample[:, ::2] - sample[:, 1:2]
    off_tint = float(np.mean(_distance_from_tint(difference, brightness) > _OFF_TINT))
    bright = brightness >= max(float(np.median(brightness)), 0.1)
    saturation = chroma[bright] / np.maximum(sample[bright].max(axis=1), 1e-6)
    vivid = float(np.median(saturation)) if saturation.size else 0.0
    if off_tint > _OFF_TINT_SHARE or vivid > _VIVID:
        raise NotAHand("a colour photograph, not a radiograph; give the radiograph itself")
    if vivid < 0.05:
        return ()
    return (
        Notice(
            "tinted", "the image is tinted, as a photographed or scanned film is; its brightness was read"
        ),
    )


def _distance_from_tint(
    difference: NDArray[np.floating[Any]], brightness: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Return each pixel's (N,) distance in colour from the median of the pixels as bright as it."""
    bins = np.minimum((brightness * 16).astype(int), 15)
    distance = np.zeros(len(brightness), np.float32)
    for level in np.unique(bins):
        same = bins == level
        distance[same] = np.abs(difference[same] - np.median(difference[same], axis=0)).max(axis=1)
    return distance


def _png_is_whole(data: bytes, _header: Any) -> bool:
    """Walk the chunks to IEND, checking each one's checksum."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            return False
        (stated,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != stated:
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


def _jpeg_is_whole(data: bytes, _header: Any) -> bool:
    """Look for the end marker after the first scan starts: earlier ones belong to a thumbnail."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        # A marker may be preceded by any number of fill bytes.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _tiff_is_whole(data: bytes, header: Any) -> bool:
    """Check that every strip or tile lies within the file."""
    tags = header.tag_v2
    offsets, counts = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
    if not offsets or not counts or len(offsets) != len(counts):
        return False
    return all(offset + count <= len(data) for offset, count in zip(offsets, counts, strict=True))


def _webp_is_whole(data: bytes, _header: Any) -> bool:
    """Compare the length that the RIFF header states."""
    return int.from_bytes(data[4:8], "little") + 8 <= len(data)


_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_FORMATS = (
    # The plug-ins are opened by themselves: `Image.open` would try every format and issue its own
    # warning of large images, which `check_size` refuses more strictly.
    _Format("PNG", lambda d: d.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile, _png_is_whole),
    _Format("JPEG", lambda d: d.startswith(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile, _jpeg_is_whole),
    _Format("TIFF", lambda d: d.startswith(_TIFF_STARTS), TiffImagePlugin.TiffImageFile, _tiff_is_whole),
    _Format(
        "WebP",
        lambda d: d[:4] == b"RIFF" and d[8:12] == b"WEBP",
        WebPImagePlugin.WebPImageFile,
        _webp_is_whole,
    ),
)
