"""The append-only record of finished rows that lets an interrupted run go on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from boneage.core.errors import DeliveryError

_SYNC_EVERY = 16


class Journal:
    """JSON lines, one a finished row, each with its row's key; only their offsets stay in memory.

    Every line is handed to the system at once, so that killing the process loses nothing, and is
    forced to the disk in small groups, so that a power cut loses a group at most. A last line that
    was cut short is dropped when the journal is opened again.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the journal.

        Raises:
            DeliveryError: the file cannot be written, or is no journal.
        """
        self.path = path
        self.offsets: dict[str, int] = {}
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise DeliveryError(
                f"{path} cannot be written ({error.strerror}): name an output in a folder you may write to"
            ) from None
        self._load()
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
        if not self._file.closed:
            self._sync()
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
                self.offsets[json.loads(line)["key"]] = offset
            except (ValueError, KeyError, TypeError):
                self._file.close()
                raise DeliveryError(
                    f"{self.path} is no journal of boneage (byte {offset}): move it away, "
                    "or start anew with --overwrite"
                ) from None
            offset += len(line)
        self._file.truncate(offset)
