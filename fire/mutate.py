"""Damage to files of any kind, and to texts; `formats` damages the fields of single formats.

Every function takes its chance as a `random.Random`, so that the nightly run draws from a seed and the test
suite from Hypothesis, which then shrinks what it finds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

Mutation = Callable[[Random, bytes], bytes]
Order = Literal["little", "big"]
ORDERS: tuple[Order, ...] = ("little", "big")

INTEGERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Values at which counters, sizes and signs turn over."""

NASTY_WORDS = (
    "", " ", "nan", "NaN", "inf", "-inf", "-1", "0", "1e400", "-0.0", "0x10", "1_000", "٣", "9" * 400,
    "a" * 5000, "\x00", "\ufeff", "\u202e", "💀", "../../../etc/passwd", "/dev/zero", "C:\\", "~",
    "~nobody/x", "=1+1", '"', "'", ",", ";", "\r", "\n\n", "\t", "%s%n", "${HOME}", "true", "null", "None",
    "[", "{", "]]", "}}", "<script>", "\\ud800", "é\u0301",
)  # fmt: skip

NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**30, -(10**30), 1.5, 1e308, float("nan"), float("inf"), "", "x", "nan",
    "\x00", "../x", "a" * 3000, [], {}, [[]], [None], {"": None}, {"x": {}}, [1, "2", 3.0], "<f8", "|O",
)  # fmt: skip

MOST_BYTES = 1 << 16
"""To which a piece is repeated."""


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
        width, order = chance.choice((1, 2, 4)), chance.choice(ORDERS)
        new = integer(chance, width, order)
    else:
        new = noise(chance, chance.randrange(1, 33))
    return data[:at] + new + data[at + len(new) :]


def truncate(chance: Random, data: bytes) -> bytes:
    """End the file early."""
    return data[: _place(chance, len(data))]


def insert(chance: Random, data: bytes) -> bytes:
    """Put bytes in between."""
    at = _place(chance, len(data))
    return data[:at] + noise(chance, chance.randrange(1, 65)) + data[at:]


def remove(chance: Random, data: bytes) -> bytes:
    """Take bytes out."""
    at = _place(chance, len(data))
    return data[:at] + data[at + chance.randrange(1, 257) :]


def repeat(chance: Random, data: bytes) -> bytes:
    """Say a piece again, a few times or many."""
    at = _place(chance, len(data))
    piece = data[at : at + chance.randrange(1, 257)]
    return data[:at] + piece * min(chance.choice((2, 3, 64)), MOST_BYTES // max(len(piece), 1)) + data[at:]


ANY_BYTES: tuple[Mutation, ...] = (
    flip_bits, flip_bits, overwrite, overwrite, truncate, insert, remove, repeat,
)  # fmt: skip


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


def noise(chance: Random, size: int) -> bytes:
    """Return so many random bytes."""
    return bytes(chance.randrange(256) for _ in range(size))


def integer(chance: Random, width: int, order: Order, also: Sequence[int] = ()) -> bytes:
    """Return one of `INTEGERS`, or of `also`, in `width` bytes; what is too large for them loses its head."""
    return (chance.choice((*INTEGERS, *also)) & ((1 << 8 * width) - 1)).to_bytes(width, order)


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
