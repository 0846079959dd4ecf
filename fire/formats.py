"""Damage to the fields that a format's own readers look at; checksums and lengths are made right again.

A reader stops at the first checksum that does not hold: what lies behind it is reached by damage that keeps
them. `mutate` damages bytes of any kind.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from random import Random

from mutate import ANY_BYTES, INTEGERS, MOST_BYTES, Mutation, flip_bits, insert, integer, noise

# --- PNG ----------------------------------------------------------------------------------------------------


def png_chunks(chance: Random, data: bytes) -> bytes:
    """Damage a PNG's chunks and make their checksums right again, so that a decoder gets to see it."""
    chunks = _png_split(data)
    if not chunks:
        return flip_bits(chance, data)
    at = chance.randrange(len(chunks))
    kind, body = chunks[at]
    what = chance.randrange(6)
    if what == 0:
        del chunks[at]
    elif what == 1:
        chunks.insert(chance.randrange(len(chunks) + 1), (kind, body))
    elif what == 2 and kind == b"IDAT":
        chunks[at] = kind, _recompressed(chance, body)
    elif what == 3 and chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13:
        chunks[0] = b"IHDR", _png_header(chance, chunks[0][1])
    elif what == 4:
        name = chance.choice(
            (b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"tEXt", b"acTL", b"fcTL", b"eXIf", b"zzZz")
        )
        chunks.insert(1, (name, noise(chance, chance.randrange(40))))
    else:
        chunks[at] = kind, chance.choice(ANY_BYTES)(chance, body)
    return data[:8] + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _png_split(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_header(chance: Random, body: bytes) -> bytes:
    width, height, *rest = struct.unpack(">IIBBBBB", body)
    fields = [width, height, *rest]
    at = chance.randrange(7)
    fields[at] = (
        chance.choice((*INTEGERS, 10_000, 29_999, width * 2, height // 2)) & 0xFFFFFFFF
        if at < 2
        else chance.choice((0, 1, 2, 3, 4, 5, 6, 8, 16, 255))
    )
    return struct.pack(">IIBBBBB", *fields)


def _recompressed(chance: Random, body: bytes) -> bytes:
    """Damage what is compressed and compress it again: filters and levels change, the stream is whole."""
    try:
        levels = zlib.decompress(body)
    except zlib.error:
        return flip_bits(chance, body)
    return zlib.compress(chance.choice(ANY_BYTES)(chance, levels), 1)


# --- JPEG, WebP, TIFF ---------------------------------------------------------------------------------------


def jpeg_segments(chance: Random, data: bytes) -> bytes:
    """Damage one of a JPEG's segments: its length, marker, or a field of its header."""
    places, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        places.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if not places:
        return flip_bits(chance, data)
    at = chance.choice(places)
    found = bytearray(data)
    what = chance.randrange(4)
    length = int.from_bytes(found[at + 2 : at + 4], "big")
    if what == 0:
        found[at + 2 : at + 4] = integer(chance, 2, "big")
    elif what == 1:
        found[at + 1] = chance.choice(
            (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC9, 0xD8, 0xD9, 0xDB, 0xDD, 0xE1, 0xF7, 0xFF)
        )
    elif what == 2:
        del found[at : at + 2 + length]
    else:
        field = at + 4 + chance.randrange(max(min(length - 2, 16), 1))
        found[field : field + 2] = integer(chance, 2, "big")
    return bytes(found)


def riff_chunks(chance: Random, data: bytes) -> bytes:
    """Damage a chunk's size or name of a WebP file, or the sizes in its first chunk."""
    at = chance.choice((4, 8, 12, 16, 20, 24, 26, 28))
    width = chance.choice((2, 4))
    value = integer(chance, width, "little", (len(data) - 8, len(data) * 2))
    return data[:at] + value + data[at + width :]


def tiff_entries(chance: Random, data: bytes) -> bytes:
    """Damage an entry of a TIFF's first directory: its tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        return insert(chance, data)
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start + 2 > len(data):
        return flip_bits(chance, data)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entry = start + 2 + 12 * chance.randrange(max(min(count, 64), 1))
    field, width = chance.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 2), (8, 4)))
    if entry + field + width > len(data):
        return flip_bits(chance, data)
    tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 339, 347)
    value = chance.choice(tags) if field == 0 else chance.choice((*INTEGERS, 32773, 5, 8, 32946, start))
    found = bytearray(data)
    struct.pack_into(
        f"{order}{'H' if width == 2 else 'I'}", found, entry + field, value & ((1 << 8 * width) - 1)
    )
    return bytes(found)


# --- DICOM --------------------------------------------------------------------------------------------------

_LONG = tuple(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ALL_VRS = (
    *_LONG, *b"AE AS CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US AT ZZ".split(), b"\x00\x00",
)  # fmt: skip

_WORTH = {
    b"AS": (0x00101010,),
    b"CS": (0x00080005, 0x00080060, 0x00100040, 0x00200062, 0x00280004, 0x00281056, 0x20500020),
    b"DA": (0x00080020, 0x00100030),
    b"DS": (0x00181114, 0x00181164, 0x00280030, 0x00281050, 0x00281051, 0x00281052, 0x00281053),
    b"IS": (0x00280008,),
    b"OV": (0x7FE00001,),
    b"OW": (0x7FE00010,),
    b"PN": (0x00100010,),
    b"SQ": (0x00283000, 0x00283010),
    b"SS": (0x00280120, 0x00280121),
    b"UI": (0x00020010, 0x00080016),
    b"US": (
        0x00280002, 0x00280006, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103,
    ),
}  # fmt: skip
"""Elements that the reader looks at: VR -> tags."""

_ADDED = tuple((tag >> 16, tag & 0xFFFF, vr) for vr, tags in _WORTH.items() for tag in tags)

_VALUES = (
    b"", b"\x00\x00", b"\xff\xff", b"\x01\x00", b"\x10\x00", b"\x0c\x00", b"\x08\x00", b"0", b"-1", b"nan ",
    b"1E400 ", b"1\\2", b"1\\2\\3 ", b"\\", b"\\\\\\\\", b"MONOCHROME1 ", b"RGB ", b"PALETTE COLOR ",
    b"YBR_FULL_422", b"INVERSE ", b"SIGMOID ", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"999Y", b"-05Y",
    b"20260230", b"99999999", b"O ", b"9" * 60, b"1.2.840.10008.1.2.4.90\x00", b"1.2.840.10008.1.2.1.99",
    b"1.2.840.10008.1.2.5\x00", b"1.2.840.10008.1.2.2\x00", b"1.2.3\x00", b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\x08\x00\x00\x00" + b"\x28\x00\x02\x30US\x06\x00",
)  # fmt: skip

Element = tuple[int, int, bytes, bytes]


def dicom_elements(chance: Random, data: bytes) -> bytes:
    """Change, add, drop or move an element of a DICOM file, its lengths made right again."""
    start, elements = _dicom_split(data)
    if not elements:
        return flip_bits(chance, data)
    at = chance.randrange(len(elements))
    group, element, vr, value = elements[at]
    what = chance.randrange(7)
    if what == 0:
        del elements[at]
    elif what == 1:
        elements[at] = group, element, chance.choice(_ALL_VRS), value
    elif what == 2:
        elements[at] = group, element, vr, chance.choice(_VALUES)
    elif what == 3:
        elements.insert(chance.randrange(len(elements)), elements[at])
    elif what == 4 and len(value) < MOST_BYTES:
        elements[at] = group, element, vr, chance.choice(ANY_BYTES)(chance, value)
    else:
        group, element, vr = chance.choice(_ADDED)
        others = [one for one in elements if one[:2] != (group, element)]
        elements = sorted([*others, (group, element, vr, chance.choice(_VALUES))], key=lambda one: one[:2])
    return data[:start] + b"".join(_dicom_element(*one) for one in elements)


def dicom_headers(chance: Random, data: bytes) -> bytes:
    """Let an element's header lie: another tag, another VR, a length that does not hold."""
    start, elements = _dicom_split(data)
    if not elements:
        return flip_bits(chance, data)
    at = start + sum(len(_dicom_element(*one)) for one in elements[: chance.randrange(len(elements))])
    field, width = chance.choice(((0, 2), (2, 2), (4, 2), (6, 2), (8, 4)))
    value = integer(chance, width, "little")
    return data[: at + field] + value + data[at + field + width :]


def _dicom_split(data: bytes) -> tuple[int, list[Element]]:
    """Return where the elements of an explicit little-endian file start, and those that can be told."""
    start = 132 if data[128:132] == b"DICM" else 0
    elements: list[Element] = []
    at = start
    while at + 8 <= len(data):
        group, element = struct.unpack_from("<HH", data, at)
        vr = data[at + 4 : at + 6]
        if not vr.isalpha():
            return start, []
        wide = vr in _LONG
        if wide and at + 12 > len(data):
            return start, []
        (length,) = struct.unpack_from("<I" if wide else "<H", data, at + (8 if wide else 6))
        at += 12 if wide else 8
        elements.append((group, element, vr, data[at : at + length]))
        at += min(length, len(data))
    return start, elements


def _dicom_element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH", group, element) + vr
    if vr in _LONG:
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value) & 0xFFFF) + value


DICOM: tuple[Mutation, ...] = (dicom_elements, dicom_elements, dicom_headers)


# --- NumPy archives -----------------------------------------------------------------------------------------

_HEADERS = (
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
    b"{'descr': '<U9', 'fortran_order': False, 'shape': (2,), }",
    b"{'descr': [('a', '<f8')], 'fortran_order': True, 'shape': (), }",
    b"{'descr': '<f8'}",
    b"__import__('os').getpid()",
    b"(" * 300,
)


def npz_arrays(chance: Random, data: bytes) -> bytes:
    """Damage an array of an archive, its header's type and shape above all; the archive stays whole."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, zlib.error, EOFError):
        return flip_bits(chance, data)
    if not files:
        return data
    name = chance.choice(sorted(files))
    what = chance.randrange(5)
    if what == 0:
        del files[name]
    elif what == 1:
        files[chance.choice(("x.npy", "../x.npy", "mean.npy", "limits.npy"))] = files[name]
    elif what == 2:
        files[name] = chance.choice([*files.values()])
    elif what == 3:
        header = chance.choice(_HEADERS) + b"\n"
        files[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + files[name][128:]
    else:
        files[name] = chance.choice(ANY_BYTES)(chance, files[name])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for own, content in files.items():
            archive.writestr(zipfile.ZipInfo(own), content)
    return out.getvalue()
