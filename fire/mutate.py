"""Damage to files: of any bytes, and of the fields that a format's own readers look at.

Every function takes its chance as a `random.Random`, so that the nightly run draws from a seed and the test
suite from Hypothesis, which then shrinks what it finds.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

INTEGERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Values at which counters, sizes and signs turn over."""

NASTY_WORDS = (
    "",
    " ",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e400",
    "-0.0",
    "0x10",
    "1_000",
    "٣",
    "9" * 400,
    "a" * 5000,
    "\x00",
    "\ufeff",
    "\u202e",
    "💀",
    "../../../etc/passwd",
    "/dev/zero",
    "C:\\",
    "~",
    "~nobody/x",
    "=1+1",
    '"',
    "'",
    ",",
    ";",
    "\r",
    "\n\n",
    "\t",
    "%s%n",
    "${HOME}",
    "true",
    "null",
    "None",
    "[",
    "{",
    "]]",
    "}}",
    "<script>",
    "\\ud800",
    "é\u0301",
)

NASTY_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    10**30,
    -(10**30),
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "nan",
    "\x00",
    "../x",
    "a" * 3000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"x": {}},
    [1, "2", 3.0],
    "<f8",
    "|O",
)

_MOST_BYTES = 1 << 16


def flip_bits(chance: Random, data: bytes) -> bytes:
    """Turn one to eight bits over, mostly near the beginning, where the header is."""
    found = bytearray(data)
    for _ in range(chance.randrange(1, 9)):
        if found:
            found[_place(chance, len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def overwrite(chance: Random, data: bytes) -> bytes:
    """Put other bytes, or an integer at which counters turn over, over some."""
    at = _place(chance, len(data))
    if chance.randrange(2):
        width, order = chance.choice((1, 2, 4)), chance.choice(("little", "big"))
        new = (chance.choice(INTEGERS) & ((1 << 8 * width) - 1)).to_bytes(width, order)
    else:
        new = _noise(chance, chance.randrange(1, 33))
    return data[:at] + new + data[at + len(new) :]


def truncate(chance: Random, data: bytes) -> bytes:
    """End the file early."""
    return data[: _place(chance, len(data))]


def insert(chance: Random, data: bytes) -> bytes:
    """Put bytes in between."""
    at = _place(chance, len(data))
    return data[:at] + _noise(chance, chance.randrange(1, 65)) + data[at:]


def remove(chance: Random, data: bytes) -> bytes:
    """Take bytes out."""
    at = _place(chance, len(data))
    return data[:at] + data[at + chance.randrange(1, 257) :]


def repeat(chance: Random, data: bytes) -> bytes:
    """Say a piece again, a few times or many."""
    at = _place(chance, len(data))
    piece = data[at : at + chance.randrange(1, 257)]
    return data[:at] + piece * min(chance.choice((2, 3, 64)), _MOST_BYTES // max(len(piece), 1)) + data[at:]


ANY_BYTES: tuple[Mutation, ...] = (
    flip_bits,
    flip_bits,
    overwrite,
    overwrite,
    truncate,
    insert,
    remove,
    repeat,
)


def damaged(chance: Random, seeds: Sequence[bytes], own: Sequence[Mutation] = ()) -> bytes:
    """Return one of the seeds with one to three kinds of damage; now and then spliced with another seed."""
    data = chance.choice(seeds)
    if len(seeds) > 1 and chance.randrange(12) == 0:
        other = chance.choice(seeds)
        data = data[: _place(chance, len(data))] + other[_place(chance, len(other)) :]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        # Fields first where a format has its own kinds: most blind damage ends at the first checksum.
        kinds = own if own and chance.randrange(3) else ANY_BYTES
        data = chance.choice(kinds)(chance, data)
    return data


def _place(chance: Random, size: int) -> int:
    """Return an offset: in half of all cases within the first 256 bytes."""
    near = min(size, 256) if chance.randrange(2) else size
    return chance.randrange(max(near, 1))


def _noise(chance: Random, size: int) -> bytes:
    return bytes(chance.randrange(256) for _ in range(size))


# --- text ---------------------------------------------------------------------------------------------------


def text_words(chance: Random, data: bytes) -> bytes:
    """Put a nasty word in place of a cell or word of a text."""
    lines = data.decode("utf-8", "replace").split("\n")
    at = chance.randrange(len(lines))
    mark = chance.choice((",", "=", " ", '"', "."))
    cells = lines[at].split(mark)
    cells[chance.randrange(len(cells))] = chance.choice(NASTY_WORDS)
    lines[at] = mark.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def text_lines(chance: Random, data: bytes) -> bytes:
    """Repeat, drop or exchange lines; or encode the text otherwise."""
    lines = data.split(b"\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    what = chance.randrange(5)
    if what == 0:
        lines.insert(other, lines[at])
    elif what == 1:
        del lines[at]
    elif what == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif what == 3:
        encoding = chance.choice(("utf-16", "latin-1", "utf-8-sig", "utf-32"))
        return data.decode("utf-8", "replace").encode(encoding, "replace")
    else:
        lines[at] += chance.choice((b"\xff\xfe", b"\x00", b",,,,", b'"', b"\r", b"\xed\xa0\x80"))
    return b"\n".join(lines)


TEXT: tuple[Mutation, ...] = (text_words, text_words, text_lines)


def json_tree(chance: Random, data: bytes) -> bytes:
    """Replace, drop, repeat or wrap a value of a JSON text; some texts are nested beyond all measure."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return flip_bits(chance, data)
    if chance.randrange(40) == 0:
        depth = chance.choice((500, 5000, 100_000))
        return b"[" * depth + data + b"]" * depth
    _change(chance, tree)
    try:
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):
        return data


def _change(chance: Random, tree: Any) -> None:
    """Change one value somewhere in a tree."""
    node = tree
    while isinstance(node, dict | list) and node:
        key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        child: Any = node[key]  # type: ignore[index]
        if isinstance(child, dict | list) and child and chance.randrange(4):
            node = child
            continue
        what = chance.randrange(6)
        if what == 0:
            del node[key]  # type: ignore[arg-type]
        elif what == 1 and isinstance(node, list):
            node.append(child)
        elif what == 1:
            node[chance.choice(NASTY_WORDS)] = child  # type: ignore[call-overload]
        else:
            node[key] = chance.choice(NASTY_VALUES)  # type: ignore[index]
        return


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
        chunks.insert(1, (name, _noise(chance, chance.randrange(40))))
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
        found[at + 2 : at + 4] = (chance.choice(INTEGERS) & 0xFFFF).to_bytes(2, "big")
    elif what == 1:
        found[at + 1] = chance.choice(
            (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC9, 0xD8, 0xD9, 0xDB, 0xDD, 0xE1, 0xF7, 0xFF)
        )
    elif what == 2:
        del found[at : at + 2 + length]
    else:
        field = at + 4 + chance.randrange(max(min(length - 2, 16), 1))
        found[field : field + 2] = (chance.choice(INTEGERS) & 0xFFFF).to_bytes(2, "big")
    return bytes(found)


def riff_chunks(chance: Random, data: bytes) -> bytes:
    """Damage a chunk's size or name of a WebP file, or the sizes in its first chunk."""
    at = chance.choice((4, 8, 12, 16, 20, 24, 26, 28))
    width = chance.choice((2, 4))
    value = (chance.choice((*INTEGERS, len(data) - 8, len(data) * 2)) & ((1 << 8 * width) - 1)).to_bytes(
        width, "little"
    )
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

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_ALL_VRS = (
    *_LONG,
    b"AE",
    b"AS",
    b"CS",
    b"DA",
    b"DS",
    b"DT",
    b"FL",
    b"FD",
    b"IS",
    b"LO",
    b"LT",
    b"PN",
    b"SH",
    b"SL",
    b"SS",
    b"ST",
    b"TM",
    b"UI",
    b"UL",
    b"US",
    b"AT",
    b"ZZ",
    b"\x00\x00",
)
_WORTH = (
    (0x0002, 0x0010, b"UI"),
    (0x0008, 0x0005, b"CS"),
    (0x0008, 0x0016, b"UI"),
    (0x0008, 0x0020, b"DA"),
    (0x0008, 0x0060, b"CS"),
    (0x0010, 0x0010, b"PN"),
    (0x0010, 0x0030, b"DA"),
    (0x0010, 0x0040, b"CS"),
    (0x0010, 0x1010, b"AS"),
    (0x0018, 0x1114, b"DS"),
    (0x0018, 0x1164, b"DS"),
    (0x0020, 0x0062, b"CS"),
    (0x0028, 0x0002, b"US"),
    (0x0028, 0x0004, b"CS"),
    (0x0028, 0x0006, b"US"),
    (0x0028, 0x0008, b"IS"),
    (0x0028, 0x0010, b"US"),
    (0x0028, 0x0011, b"US"),
    (0x0028, 0x0030, b"DS"),
    (0x0028, 0x0100, b"US"),
    (0x0028, 0x0101, b"US"),
    (0x0028, 0x0102, b"US"),
    (0x0028, 0x0103, b"US"),
    (0x0028, 0x0120, b"SS"),
    (0x0028, 0x0121, b"SS"),
    (0x0028, 0x1050, b"DS"),
    (0x0028, 0x1051, b"DS"),
    (0x0028, 0x1052, b"DS"),
    (0x0028, 0x1053, b"DS"),
    (0x0028, 0x1056, b"CS"),
    (0x0028, 0x3000, b"SQ"),
    (0x0028, 0x3010, b"SQ"),
    (0x2050, 0x0020, b"CS"),
    (0x7FE0, 0x0001, b"OV"),
    (0x7FE0, 0x0010, b"OW"),
)
"""Elements that the reader looks at: group, element, VR."""

_VALUES = (
    b"",
    b"\x00\x00",
    b"\xff\xff",
    b"\x01\x00",
    b"\x10\x00",
    b"\x0c\x00",
    b"\x08\x00",
    b"0",
    b"-1",
    b"1E400 ",
    b"nan ",
    b"1\\2",
    b"1\\2\\3 ",
    b"\\",
    b"\\\\\\\\",
    b"MONOCHROME1 ",
    b"RGB ",
    b"PALETTE COLOR ",
    b"YBR_FULL_422",
    b"INVERSE ",
    b"SIGMOID ",
    b"ISO_IR 192",
    b"\\ISO 2022 IR 87",
    b"999Y",
    b"-05Y",
    b"20260230",
    b"99999999",
    b"O ",
    b"9" * 60,
    b"1.2.840.10008.1.2.4.90\x00",
    b"1.2.840.10008.1.2.1.99",
    b"1.2.840.10008.1.2.5\x00",
    b"1.2.840.10008.1.2.2\x00",
    b"1.2.3\x00",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\x08\x00\x00\x00" + b"\x28\x00\x02\x30US\x06\x00",
)

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
    elif what == 4 and len(value) < _MOST_BYTES:
        elements[at] = group, element, vr, chance.choice(ANY_BYTES)(chance, value)
    else:
        group, element, vr = chance.choice(_WORTH)
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
    value = (chance.choice(INTEGERS) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
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
            archive.writestr(own, content)
    return out.getvalue()
