"""Archives of arrays (.npz) from a bundle: numbers and texts only, and nothing that runs when it is read."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MAX_BYTES = 1 << 30
"""Most that an archive may unpack to; the shipped ones stay under 10 MB."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file by their names.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no archive of arrays, is damaged, or promises more than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"no whole archive of arrays: {type(error).__name__}: {error}") from error


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuse what would unpack to too much, and arrays whose header promises more than lies behind it."""
    members = archive.infolist()
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
    for member in members:
        with archive.open(member) as file:
            if _promised(file) > member.file_size - file.tell():
                raise ValueError(f"{member.filename} ends early")


def _promised(file: IO[bytes]) -> int:
    """Return how many bytes an array's header promises."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"arrays of version {version} are not read")
    shape, _, kind = _HEADERS[version](file)
    return math.prod(shape) * kind.itemsize
