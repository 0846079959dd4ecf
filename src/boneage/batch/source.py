"""What a job is to read: a manifest, a folder or rows in hand, looked through whole before work starts.

The list may have millions of rows. It is gone through once, checked, and spooled to a temporary file in the
form that the workers take; in memory stay eight bytes a row, the rows' keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from boneage.batch import dicomweb, storage
from boneage.core.errors import ConfigError, DeliveryError
from boneage.core.types import Sex
from boneage.data.manifest import (
    IMAGE_SUFFIXES,
    Row,
    check_columns,
    iter_table,
    parse_months,
    parse_patient,
)

MANIFEST_SUFFIXES = (".csv", ".parquet")
_IN_MEMORY_BYTES = 1 << 22
_BLOCK_BYTES = 1 << 18
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Task:
    """One image to read.

    Args:
        ordinal: its place in the list, from 0.
        id: its name in the list, which no other row has.
        path: its file, or URL.
        sex: the patient's; None takes the file's.
        chronological_age_months: the patient's; None takes the file's.
    """

    ordinal: int
    id: str
    path: str
    sex: Sex | None
    chronological_age_months: float | None


class Item(NamedTuple):
    """A row of the list: its line or number, and what it says."""

    place: int
    id: str
    path: str
    sex: Sex | None
    chronological_age_months: float | None


@dataclass(frozen=True, slots=True)
class Source:
    """A list of images that has not been looked through.

    Args:
        name: what messages call it.
        items: yields its rows, anew at every call.
        unit: what a row's place counts.
    """

    name: str
    items: Callable[[], Iterator[Item]]
    unit: str = "line"


class Listing:
    """A list of images that was looked through: how many there are, and each by its place.

    Args:
        source: the list.
        salt: what the answers depend on beside the rows; it goes into every row's key.
        sex: of rows that name none.

    Raises:
        ConfigError: no rows; two of one id; a row that cannot be understood, or whose name is no text.
        DeliveryError: the temporary folder is full.
    """

    def __init__(self, source: Source, salt: str, sex: Sex | None = None) -> None:
        self.name = source.name
        # The caller closes it; a small one never reaches the disk.
        self._spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        keys, ids = array("Q"), array("Q")
        mixed = hashlib.sha256(salt.encode("utf-8")).digest()
        for item in source.items():
            said = json.dumps((item.id, item.path, item.sex or sex, item.chronological_age_months))
            self._write(f"{said}\n".encode())
            keys.append(_short_hash(said, mixed))
            ids.append(_short_hash(_text(source, item)))
        self._write(b"", whole=True)
        if not keys:
            raise ConfigError(
                "the manifest lists no image: add a row an image, or name a folder that holds images"
            )
        _refuse_twins(source, np.frombuffer(ids, np.uint64))
        self.keys: Keys = np.frombuffer(keys, np.uint64)

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, ordinal: int) -> str:
        """Return a row's key: a text that changes whenever its answer could."""
        return f"{int(self.keys[ordinal]):016x}"

    def fingerprint(self) -> str:
        """Return a text that changes with every row, their order, and what the answers depend on."""
        return hashlib.sha256(self.keys.tobytes()).hexdigest()

    def tasks(self, wanted: Callable[[int], bool] = lambda ordinal: True) -> Iterator[Task]:
        """Yield the rows that are wanted, in their order."""
        for ordinal, line in enumerate(self._lines()):
            if wanted(ordinal):
                name, path, sex, months = json.loads(line)
                yield Task(ordinal, name, path, Sex(sex) if sex else None, months)

    def close(self) -> None:
        """Give the disk's space back."""
        self._spool.close()

    def _write(self, line: bytes, *, whole: bool = False) -> None:
        try:
            self._spool.write(line)
            if whole:
                self._spool.flush()
        except OSError as error:
            raise DeliveryError(
                f"the list of images cannot be kept in {tempfile.gettempdir()} ({error.strerror}): "
                "free some space, or name another folder in TMPDIR"
            ) from None

    def _lines(self) -> Iterator[bytes]:
        """Yield the spooled lines; several readers may take turns."""
        at, rest = 0, b""
        while True:
            self._spool.seek(at)
            block = self._spool.read(_BLOCK_BYTES)
            if not block:
                return
            at += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines


def _short_hash(text: str, salt: bytes = b"") -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8, key=salt).digest(), "little")


def _text(source: Source, item: Item) -> str:
    """Return a row's id.

    Raises:
        ConfigError: it or the path is no text that a table can hold, as a file's name in another encoding.
    """
    try:
        f"{item.id}{item.path}".encode()
    except UnicodeEncodeError:
        shown = ascii(storage.shown(item.path))
        raise ConfigError(
            f"{source.name}: the name of {source.unit} {item.place}, {shown}, is not readable as UTF-8: "
            "rename it, or leave it out"
        ) from None
    return item.id


def _refuse_twins(source: Source, ids: Keys) -> None:
    """Refuse two rows of one id, which are looked for by their short hashes, a tenth of their memory."""
    ordered = np.sort(ids)
    suspected = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspected:
        return
    first: dict[str, int] = {}
    for item in source.items():
        if _short_hash(item.id) in suspected and first.setdefault(item.id, item.place) != item.place:
            raise ConfigError(
                f"{source.name}:{item.place}: the id is that of {source.unit} {first[item.id]} too; "
                "give every row its own"
            )


def from_rows(rows: Iterable[Row], name: str = "the manifest") -> Source:
    """Return a manifest's rows that are in hand as a source."""

    def items() -> Iterator[Item]:
        for place, row in enumerate(rows, start=1):
            yield Item(place, row.id, str(row.path), row.sex, row.chronological_age_months)

    return Source(name, items, "row")


def at(location: str, within: str | None = None) -> Source:
    """Return the source at a path or URL: a manifest by its ending, or else a folder.

    Args:
        location: a CSV or Parquet file; a folder, in which images are looked for at every depth; or a query
            to a DICOMweb server.
        within: a folder that no image may lie outside of; None lets a path lead out of the manifest's
            folder only where it is absolute or a URL.

    Raises:
        ConfigError: there is nothing, or a URL that is not opened.
    """
    if dicomweb.is_query(location):
        storage.check_url(location)
        return Source(storage.shown(location), lambda: _found_items(location), "instance")
    if location.lower().endswith(MANIFEST_SUFFIXES):
        return Source(storage.shown(location), lambda: _manifest_items(location, within))
    if storage.is_url(location):
        storage.check_url(location)
        return Source(storage.shown(location), lambda: _url_items(location), "file")
    if not Path(location).is_dir():
        if Path(location).is_file():
            return Source(location, lambda: _manifest_items(location, within))
        raise ConfigError(f"{location}: no such file; give a CSV or a folder of images")
    return Source(location, lambda: _folder_items(location), "file")


def _manifest_items(location: str, within: str | None) -> Iterator[Item]:
    name, folder = storage.shown(location), storage.parent(location)
    checked = False
    with storage.open_table(location) as file:
        for line, record in iter_table(file, name):
            if not checked:
                check_columns(name, record)
                checked = True
            yield _item(name, line, record, folder, within)


def _item(name: str, line: int, record: Mapping[str, str], folder: str, within: str | None) -> Item:
    text = record["path"]
    if not text:
        raise ConfigError(
            f"{name}:{line}: the path is empty; give the image's file, relative to the manifest"
        )
    path = _resolved(name, line, text, folder, within)
    sex, _ = parse_patient(name, line, record)
    months = parse_months(name, line, record, "chronological_age_months")
    return Item(line, record.get("id") or _stem(path), path, sex, months)


def _resolved(name: str, line: int, text: str, folder: str, within: str | None) -> str:
    """Return where an image lies.

    Raises:
        ConfigError: no path; a URL that is not opened; a place that it may not be in.
    """
    if _CONTROL.search(text):
        raise ConfigError(
            f"{name}:{line}: the path holds a control character; save the manifest as UTF-8, a row a line"
        )
    if storage.is_url(text):
        try:
            storage.check_url(text)
        except ConfigError as error:
            raise ConfigError(f"{name}:{line}: {error}") from None
    path = storage.join(folder, text)
    if within is not None:
        if not storage.lies_in(within, path):
            raise ConfigError(
                f"{name}:{line}: the path leads out of {storage.shown(within)}; correct it, "
                "or name with --within a folder that holds every image"
            )
    elif ".." in text and _climbs(text, folder, path):
        raise ConfigError(
            f"{name}:{line}: the path leads out of the manifest's folder; correct it, "
            "or name with --within a folder that holds every image"
        )
    return path


def _climbs(text: str, folder: str, path: str) -> bool:
    """Return whether a relative path leads out of its folder."""
    absolute = storage.is_url(text) or os.path.isabs(text) or text.startswith("~")  # noqa: PTH117
    return not absolute and not storage.lies_in(folder, path)


def _stem(path: str) -> str:
    name = storage.name_of(path)
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def _folder_items(folder: str) -> Iterator[Item]:
    """Yield a row an image, in the order that sorted paths have."""
    for place, (name, path) in enumerate(_walk(folder, ""), start=1):
        yield Item(place, name, storage.join(folder, path), None, None)


def _walk(folder: str, below: str) -> Iterator[tuple[str, str]]:
    """Yield (id, path below the folder) of every image; the id lacks the suffix where it can be spared."""
    with os.scandir(os.path.join(folder, below)) as entries:  # noqa: PTH118
        visible = sorted(
            (each for each in entries if not each.name.startswith(".")), key=lambda each: each.name
        )
    images = [each.name for each in visible if _is_image(each.name) and each.is_file()]
    bearers = Counter(map(_stem, images))
    for entry in visible:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, f"{below}{entry.name}/")
        elif _is_image(entry.name) and entry.is_file():
            stem = _stem(entry.name)
            yield f"{below}{stem if bearers[stem] == 1 else entry.name}", f"{below}{entry.name}"


def _url_items(folder: str) -> Iterator[Item]:
    base = f"{storage.shown(folder).rstrip('/')}/"
    below = [url.removeprefix(base) for url in storage.find_files(folder)]
    images = [name for name in below if _is_image(name) and not _is_hidden(name)]
    bearers = Counter(name.rpartition(".")[0] for name in images)
    for place, name in enumerate(images, start=1):
        stem = name.rpartition(".")[0]
        yield Item(place, stem if bearers[stem] == 1 else name, f"{base}{name}", None, None)


def _found_items(query: str) -> Iterator[Item]:
    storage.quieten()
    for place, found in enumerate(dicomweb.find(query), start=1):
        yield Item(place, found["id"], found["path"], Sex(found["sex"]) if found["sex"] else None, None)


def _is_image(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES and "." in name


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
