"""Files that are whole and on the disk, or not there at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Piece = bytes | memoryview


def write_part(folder: Path, pieces: Iterable[Piece]) -> Path:
    """Write a new file under a name of its own, force it to the disk, and return its path.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    part = folder / f"{secrets.token_hex(12)}.part"
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        remove(part)
        raise
    return part


def place(part: Path, path: Path) -> None:
    """Give a written file its name, for good.

    Raises:
        OSError: it cannot be renamed.
    """
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any, parts: Path) -> None:
    """Write a value as one JSON file, whole or not at all; `parts` is the folder of unfinished files.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    place(write_part(parts, [text.encode("utf-8")]), path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is none, or it cannot be understood."""
    try:
        value: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def remove(path: Path) -> None:
    """Delete a file that may be gone already."""
    path.unlink(missing_ok=True)


def oldest_first(folder: Path, suffix: str) -> list[tuple[float, Path]]:
    """Return the time and path of the folder's files with a suffix; one that goes meanwhile is left out."""
    found = []
    for path in folder.glob(f"*{suffix}"):
        try:
            found.append((path.stat().st_mtime, path))
        except FileNotFoundError:
            continue
    return sorted(found)
