"""The append-only record of finished rows that lets an interrupted run go on where it stopped."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from boneage.batch.source import Keys
from boneage.core.errors import DeliveryError

_SYNC_EVERY = 16
_NOWHERE = -1
_KEY = re.compile("[0-9a-f]{16}")


class Journal:
    """JSON lines, one a finished row, each with its row's key; only their offsets stay in memory.

    Every line is handed to the system at once, so that killing the process loses nothing, and is
    forced to the disk in small groups, so that a power cut loses a group at most. A last line that
    was cut short is dropped when the journal is opened again.

    Args:
        path: the file.
        offsets: keeps where the row of each key lies; a dictionary, or `Offsets` of a long list.
        anew: drop what is there, whatever it is, once no other run holds it.
    """

    def __init__(
        self, path: Path, offsets: MutableMapping[str, int] | None = None, *, anew: bool = False
    ) -> None:
        """Open or create the journal.

        Raises:
            DeliveryError: the file cannot be written, is no journal, or another run has it.
        """
        self.path = path
        self.offsets: MutableMapping[str, int] = {} if offsets is None else offsets
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise DeliveryError(
                f"{path} cannot be written ({error.strerror}): name an output in a folder you may write to"
            ) from None
        try:
            lock(self._file, path)
            if anew:
                self._file.truncate(0)
            self._load()
        except BaseException:
            self._file.close()
            raise
        self._unsynced = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, key: str, row: Mapping[str, Any]) -> None:
        """Record a finished row under its key."""
        self._file.seek(0, os.SEEK_END)
        offset = self._file.tell()
        line = json.dumps({"key": key, "row": row}, allow_nan=False).encode("utf-8") + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise DeliveryError(
                f"{self.path} cannot be written ({error.strerror}): free some space and --resume"
            ) from None
        self.offsets[key] = offset
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            self._sync()

    def row(self, key: str) -> dict[str, Any]:
        """Return the row recorded under a key."""
        self._file.seek(self.offsets[key])
        row: dict[str, Any] = json.loads(self._file.readline())["row"]
        return row

    def close(self) -> None:
        """Force what is recorded to the disk and close the file."""
        if self._file.closed:
            return
        try:
            self._sync()
        finally:
            with suppress(OSError):  # a line that did not fit, of which `append` told, is tried once more
                self._file.close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def _load(self) -> None:
        self._file.seek(0)
        offset = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
                if not isinstance(record["row"], dict):
                    raise TypeError
                self.offsets[record["key"]] = offset
            except (ValueError, KeyError, TypeError, RecursionError):
                raise DeliveryError(
                    f"{self.path} is no journal of boneage (byte {offset}): move it away, "
                    "or start anew with --overwrite"
                ) from None
            offset += len(line)
        self._file.truncate(offset)


class Offsets(MutableMapping[str, int]):
    """Where the rows of a long list lie in a journal, 16 bytes a row; other keys than the list's are dropped.

    Args:
        keys: of the list's rows.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = np.sort(keys)
        self._offsets = np.full(len(keys), _NOWHERE, np.int64)

    def __setitem__(self, key: str, offset: int) -> None:
        place = self._place(key)
        if place is not None:
            self._offsets[place] = offset

    def __getitem__(self, key: str) -> int:
        place = self._place(key)
        if place is None or self._offsets[place] < 0:
            raise KeyError(key)
        return int(self._offsets[place])

    def __delitem__(self, key: str) -> None:
        self[key] = _NOWHERE

    def __iter__(self) -> Iterator[str]:
        return (f"{int(key):016x}" for key in self._keys[self._offsets >= 0])

    def __len__(self) -> int:
        return int((self._offsets >= 0).sum())

    def _place(self, key: str) -> int | None:
        if not _KEY.fullmatch(key):
            return None
        value = np.uint64(int(key, 16))
        place = int(np.searchsorted(self._keys, value))
        return place if place < len(self._keys) and self._keys[place] == value else None


def lock(file: IO[bytes], path: Path) -> None:
    """Hold a file until it is closed or this process ends, so that two runs do not write to one output.

    Raises:
        DeliveryError: another run holds it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DeliveryError(
            f"{path} is held by another run, which still writes to this output: wait for its end, "
            "or name another output"
        ) from None
    except OSError:  # some network file systems have no locks
        return
