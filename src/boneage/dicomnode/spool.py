"""The node's memory: a folder in which every state is a place, and every change a rename.

    receiving/                 unfinished files; emptied when the node starts
    incoming/KEY.dcm           images that were taken and are not yet assessed; beside each that is or was
                               being assessed, a .json with how often that was begun
    arrived/DIGEST             an empty file for each data set ever taken; its time is the first arrival
    outbox/DESTINATION/KEY.sr.dcm, KEY.capture.dcm   results to deliver; beside each, once it was refused,
                               a .json with attempts, reason and the time of the next
    dead/DESTINATION/          results that were given up, each with a .json that says why
    dead/images/               images that could not be assessed, likewise
    done/KEY.json              what became of every finished image; no identifiers
    lock                       held by the running node

KEY is a digest of the image's SOP Instance UID: no name comes from the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError, DeliveryError
from boneage.dicomnode import files

IMAGES = "images"
"""The folder of dead images, among those of destinations."""

_LETTER = ".dcm"
_NOTE = ".json"


def key_of(sop_uid: str) -> str:
    """Return the name of all that belongs to an image."""
    return hashlib.sha256(sop_uid.encode("utf-8")).hexdigest()[:32]


def short(key: str) -> str:
    """Return a key as logs show it."""
    return key[:10]


@dataclass(frozen=True, slots=True)
class Letter:
    """A result that waits for its delivery.

    Args:
        destination: its name.
        path: of the file.
        queued_at: when it was put there, in seconds since the epoch.
        attempts: refusals so far.
    """

    destination: str
    path: Path
    queued_at: float
    attempts: int = 0

    @property
    def key(self) -> str:
        """The image's key."""
        return self.path.name.partition(".")[0]

    @property
    def label(self) -> str:
        """What it is, as logs show it."""
        return f"{short(self.key)} {self.path.name.split('.')[1]}"


class Spool:
    """The folder; one object may be used by many threads.

    Args:
        root: the folder.
        destinations: their names.
        maker: what results depend on beside the image; an image is assessed again when it changes.
        min_free_bytes: that stay free on the disk when an image is taken.
    """

    def __init__(
        self, root: Path, destinations: Sequence[str] = (), maker: str = "", min_free_bytes: int = 0
    ) -> None:
        self.root = root
        self.destinations = tuple(destinations)
        self.receiving, self.incoming, self.done = root / "receiving", root / "incoming", root / "done"
        self.outbox, self.dead, self.arrived = root / "outbox", root / "dead", root / "arrived"
        self._maker = maker
        self._min_free_bytes = min_free_bytes
        self._lock = threading.RLock()
        self._held: int | None = None

    def open(self) -> None:
        """Make the folders, take the lock, and drop what an earlier node left unfinished.

        Raises:
            ConfigError: another node holds the spool.
            DeliveryError: it cannot be written.
        """
        try:
            self._make_folders()
            self._held = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for part in self.receiving.iterdir():
                files.remove(part)
        except BlockingIOError:
            self.close()
            raise ConfigError(
                f"another node works in the spool {self.root}: stop it, or name another"
            ) from None
        except OSError as error:
            raise DeliveryError(
                f"the spool {self.root} cannot be written ({error.strerror}): name a folder you may write to"
            ) from None

    def _make_folders(self) -> None:
        """Make every folder for its owner alone, those also that an earlier version made for all."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(exist_ok=True, mode=0o700)  # one that is there may be another's: it is left as it is
        inner = [self.receiving, self.incoming, self.arrived, self.done, self.outbox, self.dead]
        inner += [self.dead / IMAGES]
        inner += [folder / name for name in self.destinations for folder in (self.outbox, self.dead)]
        for folder in inner:
            folder.mkdir(exist_ok=True, mode=0o700)
            folder.chmod(0o700)

    def close(self) -> None:
        """Give the lock back."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def is_held(self) -> bool:
        """Return whether a node works in the spool."""
        try:
            handle = os.open(self.root / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def is_full(self, size: int) -> bool:
        """Return whether so many bytes would leave less than the free space that is to stay."""
        return shutil.disk_usage(self.receiving).free - size < self._min_free_bytes

    def take(self, key: str, pieces: Iterable[files.Piece], digest: str) -> bool:
        """Put an image where it waits to be assessed; it is on the disk when this returns.

        The time of its file is that of the data set's first arrival, however often it comes.

        Args:
            key: the image's.
            pieces: of its file.
            digest: SHA-256 of its data set.

        Returns:
            Whether it is new: the very data set that was finished before is dropped.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        part = files.write_part(self.receiving, pieces)
        try:
            with self._lock:
                if self._is_finished(key, digest):
                    return False
                os.utime(part, ns=(self._arrival(digest),) * 2)
                files.place(part, self._image(key))
                return True
        finally:
            files.remove(part)

    def waiting(self) -> list[str]:
        """Return the keys of the images to assess, oldest first."""
        return [path.stem for _, path in files.oldest_first(self.incoming, _LETTER)]

    def image(self, key: str) -> tuple[Path, os.stat_result]:
        """Return a waiting image and what tells it from one that takes its place.

        Raises:
            OSError: there is none.
        """
        path = self._image(key)
        return path, path.stat()

    def attempts(self, key: str, status: os.stat_result) -> int:
        """Return how often the assessment of an image was begun, and not ended in any way."""
        begun = files.read_json(self._image(key).with_suffix(_NOTE))
        return int(begun.get("attempts", 0)) if begun.get("arrived_ns") == status.st_mtime_ns else 0

    def set_attempts(self, key: str, status: os.stat_result, attempts: int) -> None:
        """Keep on the disk how often an image's assessment was begun: what ends the node does not forget it.

        Raises:
            OSError: it cannot be written.
        """
        note = self._image(key).with_suffix(_NOTE)
        with self._lock:
            if attempts:
                begun = {"attempts": attempts, "arrived_ns": status.st_mtime_ns}
                files.write_json(note, begun, self.receiving)
            else:
                files.remove(note)

    def publish(
        self, key: str, assessed: os.stat_result, note: Mapping[str, Any], results: Mapping[str, bytes]
    ) -> None:
        """Put an image's results into the outboxes, its note into `done`, and delete it.

        Args:
            key: the image's.
            assessed: of the file that was assessed; a newer one in its place stays, and waits.
            note: what became of it.
            results: `DESTINATION/FORM` and the DICOM file for it.

        Raises:
            OSError: the disk is full; the image waits on, and results that are in place are replaced later.
        """
        parts: dict[str, Path] = {}
        try:
            for name, content in results.items():
                parts[name] = files.write_part(self.receiving, [content])
            with self._lock:
                for name, part in parts.items():
                    destination, _, form = name.partition("/")
                    path = self.outbox / destination / f"{key}.{form}{_LETTER}"
                    files.place(part, path)
                    for stale in (path, self.dead / destination / path.name):
                        files.remove(stale.with_suffix(_NOTE))
                    files.remove(self.dead / destination / path.name)
                self._finish(key, assessed, note)
        finally:
            for part in parts.values():
                files.remove(part)

    def _finish(self, key: str, assessed: os.stat_result, note: Mapping[str, Any]) -> None:
        self.remember(key, note)
        for suffix in (_LETTER, _NOTE):
            files.remove(self.dead / IMAGES / f"{key}{suffix}")
        try:
            path, now = self.image(key)
        except OSError:
            return
        if (now.st_ino, now.st_mtime_ns) == (assessed.st_ino, assessed.st_mtime_ns):
            files.remove(path)

    def bury_image(self, key: str, reason: str) -> None:
        """Put an image aside that cannot be assessed."""
        try:
            said = {"reason": reason, "arrived_ns": self.image(key)[1].st_mtime_ns}
        except FileNotFoundError:
            return
        self._bury(self._image(key), self.dead / IMAGES, said)

    def knows(self, key: str) -> bool:
        """Return whether an image is finished, waits, or lies among the dead."""
        places = (self.done / f"{key}{_NOTE}", self._image(key), self.dead / IMAGES / f"{key}{_LETTER}")
        return any(path.exists() for path in places)

    def remember(self, key: str, note: Mapping[str, Any]) -> None:
        """Write the note of an image that is never to be assessed.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            full = {**note, "maker": self._maker, "finished_at": _written(time.time()), "delivered": {}}
            files.write_json(self.done / f"{key}{_NOTE}", full, self.receiving)

    def due(self, destination: str, now: float) -> list[Letter]:
        """Return what may be delivered now, oldest first."""
        letters = []
        for queued_at, path in files.oldest_first(self.outbox / destination, _LETTER):
            tried = files.read_json(path.with_suffix(_NOTE))
            if float(tried.get("next_at", 0)) <= now:
                letters.append(Letter(destination, path, queued_at, int(tried.get("attempts", 0))))
        return letters

    def delivered(self, letter: Letter) -> None:
        """Delete what has arrived, and note when."""
        with self._lock:
            note = self.done / f"{letter.key}{_NOTE}"
            if known := files.read_json(note):
                form = letter.path.name.split(".")[1]
                known.setdefault("delivered", {})[f"{letter.destination}/{form}"] = _written(time.time())
                files.write_json(note, known, self.receiving)
            files.remove(letter.path.with_suffix(_NOTE))
            files.remove(letter.path)

    def postpone(self, letter: Letter, reason: str, next_at: float) -> None:
        """Keep what was refused for another attempt."""
        tried = {"attempts": letter.attempts + 1, "reason": reason, "next_at": next_at}
        with self._lock:
            files.write_json(letter.path.with_suffix(_NOTE), tried, self.receiving)

    def bury(self, letter: Letter, reason: str) -> None:
        """Give a result up, and say why."""
        tried = {"attempts": letter.attempts, "reason": reason}
        self._bury(letter.path, self.dead / letter.destination, tried)

    def _bury(self, path: Path, folder: Path, said: Mapping[str, Any]) -> None:
        with self._lock:
            note = folder / path.with_suffix(_NOTE).name
            files.write_json(note, {**said, "buried_at": _written(time.time())}, self.receiving)
            try:
                os.utime(path)  # from now on its age among the dead counts
                path.replace(folder / path.name)
            except FileNotFoundError:
                files.remove(note)
            files.remove(path.with_suffix(_NOTE))

    def _image(self, key: str) -> Path:
        return self.incoming / f"{key}{_LETTER}"

    def _arrival(self, digest: str) -> int:
        """Return when a data set came first, in nanoseconds since the epoch: now, where it never came."""
        path = self.arrived / digest
        if not path.exists():
            path.touch(0o600)
            files.sync_folder(self.arrived)
        return path.stat().st_mtime_ns

    def _is_finished(self, key: str, digest: str) -> bool:
        note = files.read_json(self.done / f"{key}{_NOTE}")
        return note.get("digest") == digest and note.get("maker") == self._maker


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
