"""Take in what modalities and people put into a folder."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from boneage.core.network import MIB
from boneage.dicomnode import objects
from boneage.dicomnode.settings import NodeSettings
from boneage.dicomnode.spool import Spool, key_of, short

log = logging.getLogger(__name__)

REJECTED = "rejected"
"""Folder in the watched one for files that are no images of a study; nothing is deleted that is not taken."""

_UNFINISHED = (".part", ".tmp", ".partial", ".crdownload", ".filepart")


class FolderWatch:
    """Looks into a folder again and again.

    Args:
        settings: the node's.
        spool: where images go.
        arrived: called after each that is new.
    """

    def __init__(self, settings: NodeSettings, spool: Spool, arrived: Callable[[], None]) -> None:
        self._folder = Path(settings.watch.folder)
        self._settings = settings
        self._max_bytes = settings.receive.max_object_mb * MIB
        self._spool = spool
        self._arrived = arrived
        self._seen: dict[Path, tuple[int, int, float]] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        clock = 0.0
        while not stop.is_set():
            self.look(clock)
            stop.wait(self._settings.watch.every_s)
            clock += self._settings.watch.every_s

    def look(self, clock: float) -> None:
        """Take every file that has not changed for `settle_s`.

        Args:
            clock: seconds, of any beginning; only what passes between two looks counts.
        """
        present = {}
        for path, status in self._files():
            before = self._seen.get(path)
            same = before is not None and before[:2] == (status.st_size, status.st_mtime_ns)
            since = before[2] if before is not None and same else clock
            present[path] = (status.st_size, status.st_mtime_ns, since)
            if clock - since >= self._settings.watch.settle_s and self._take(path):
                del present[path]
        self._seen = present

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield regular files, and never what a link leads to."""
        for folder, folders, names in os.walk(self._folder, followlinks=False):
            here = Path(folder)
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and not (here == self._folder and name == REJECTED)
            )
            for name in sorted(names):
                if name.startswith(".") or name.lower().endswith(_UNFINISHED):
                    continue
                try:
                    status = (here / name).lstat()
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield here / name, status

    def _take(self, path: Path) -> bool:
        """Take a file into the spool or put it aside; return whether it is gone from its place."""
        label = hashlib.sha256(os.fsencode(path)).hexdigest()[:10]
        try:
            content = self._read(path)
            accepted = objects.inspect_file(content, self._max_bytes)
        except objects.Unacceptable as error:
            log.warning("watch: file %s put into %s: %s", label, REJECTED, error)
            return self._put_aside(path)
        except OSError as error:
            log.warning("watch: file %s cannot be read (%s)", label, error.strerror)
            return False
        key = key_of(accepted.sop_uid)
        try:
            if self._spool.is_full(len(content)):
                log.error("watch: less than min_free_mb would stay free on the spool's disk; files wait")
                return False
            new = not accepted.is_own and self._spool.take(key, [content], accepted.digest)
            path.unlink()
        except OSError as error:
            log.error("watch: file %s cannot be moved into the spool (%s)", label, error.strerror)
            return False
        log.info("%s taken from the watched folder%s", short(key), "" if new else ": nothing to do")
        if new:
            self._arrived()
        return True

    def _read(self, path: Path) -> bytes:
        """Return a file's bytes, one more than are allowed at most.

        Raises:
            OSError: it cannot be opened, or is a link by now.
        """
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(self._max_bytes + 1)

    def _put_aside(self, path: Path) -> bool:
        aside = self._folder / REJECTED
        try:
            aside.mkdir(exist_ok=True)
            target = aside / path.name
            number = 1
            while target.exists() or target.is_symlink():
                number += 1
                target = aside / f"{number}-{path.name}"
            path.rename(target)
        except OSError as error:
            log.error("watch: a file cannot be put into %s (%s)", REJECTED, error.strerror)
            return False
        return True
