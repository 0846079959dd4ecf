"""A folder of Parquet shards with a record of the run: for outputs too large for one file.

    _run.json              the job's fingerprint, bundle, versions; at the end counts and checksums
    part-00000.parquet     rows 0 to 999 of the list, in its order
    part-00001.parquet     ...
    .journal/              while the run lasts, the finished rows of shards that are not whole yet

A shard holds a fixed piece of the list and is written once, whole. So a run that is resumed, also on another
number of workers or on a cluster, gives the same shards, byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import shutil
from collections import Counter, OrderedDict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np

from boneage import __version__
from boneage.batch import storage, table
from boneage.batch.journal import Journal, lock
from boneage.batch.results import About, Summary, state_folder
from boneage.batch.source import Listing
from boneage.batch.work import Row
from boneage.core.errors import ConfigError, DeliveryError

RUN = "_run.json"
"""So named that whoever reads the folder as one data set, which leaves out such names, gets the shards."""

FORMAT = 1
RUNNING, COMPLETE = "running", "complete"
_JOURNAL = ".journal"
_OPEN_JOURNALS = 128
_PACKAGES = ("numpy", "onnxruntime", "openvino", "opencv-python-headless", "pyarrow", "pydicom")

log = logging.getLogger(__name__)


class ShardFolder:
    """The output of a job as shards.

    Args:
        out: the folder's path or URL.
        resume: go on with what an earlier run has done.
        overwrite: start anew; only what a run has written is removed.
        shard_rows: rows in a shard; a resumed run keeps its own.

    Raises:
        ConfigError: the folder belongs to something else, or to a run that is neither to be resumed nor
            overwritten.
    """

    def __init__(self, out: str, *, resume: bool, overwrite: bool, shard_rows: int) -> None:
        self._name = storage.shown(out).rstrip("/")
        self._folder = storage.folder_at(out.rstrip("/"))
        self._journals_at = state_folder(out.rstrip("/")) if storage.is_url(out) else Path(out) / _JOURNAL
        self._resume = resume
        self._shard_rows = shard_rows
        self._names = [name for name in self._folder.names() if not name.startswith(".")]
        self._record = self._earlier()
        if self._record is None and self._names:
            raise ConfigError(
                f"{self._name} holds files that are no batch's ({self._names[0]}): name a new or empty folder"
            )
        if self._record is not None and not (resume or overwrite):
            self._refuse(self._record)
        self._anew = overwrite and not resume
        self._journals: OrderedDict[int, Journal] = OrderedDict()
        self._lock: IO[bytes] | None = None
        self._shards: dict[int, dict[str, Any]] = {}
        self._statuses: Counter[str] = Counter()
        self.kept = 0

    def _earlier(self) -> dict[str, Any] | None:
        """Return the record of the run that the folder belongs to."""
        if RUN not in self._names:
            return None
        try:
            record: Any = json.loads(self._folder.read(RUN))
            if record["format"] == FORMAT and {"job", "reader", "state", "rows", "shard_rows"} <= set(record):
                return dict(record)
        except (ValueError, KeyError, TypeError):
            pass
        raise ConfigError(f"{self._name}/{RUN} is no record of a batch: name another folder")

    def _refuse(self, record: dict[str, Any]) -> None:
        if record["state"] == COMPLETE:
            raise ConfigError(
                f"{self._name} holds a finished run: name another folder, or replace it with --overwrite"
            )
        raise ConfigError(
            f"{self._name} was begun and interrupted: go on with --resume, or start anew with --overwrite"
        )

    def _clear(self) -> None:
        """Remove what an earlier run has written; the caller holds the folder."""
        for name in self._names:
            if _number(name) is not None:
                self._folder.remove(name)
        for path in self._journals_at.glob("part-*.jsonl"):
            path.unlink()
        self._folder.remove(RUN)  # last: until then the folder is known as a run's
        self._names, self._record = [], None

    def begin(self, listing: Listing, about: About) -> None:
        """Take the folder for this job, and find the shards and rows of an earlier run of it.

        Raises:
            ConfigError: the folder belongs to another job.
            DeliveryError: it cannot be written, or another run holds it.
        """
        if self._anew and self._record is not None:
            self._take()  # first: it may be another run's that still writes
            self._clear()
        if self._record is not None:
            self._shard_rows = int(self._record["shard_rows"])
        self._listing, self._ages = listing, about.reader.ages()
        self._salt = hashlib.sha256(about.salt.encode("utf-8")).hexdigest()
        self._facts = {**about.reader.description(), **about.facts}
        said = json.dumps([listing.fingerprint(), self._shard_rows, self._ages])
        self._job = hashlib.sha256(said.encode("utf-8")).hexdigest()
        if self._record is not None and self._record["job"] != self._job:
            raise ConfigError(self._difference(self._record))
        if self._lock is None:
            self._take()
        self._done = np.zeros(len(listing), bool)
        self._begun = (self._record or {}).get("begun_at") or _now()
        if self._record is not None:
            self._find_shards()
        self._find_journals()
        self.kept = int(self._done.sum())
        self._complete = (
            self._record is not None and self._record["state"] == COMPLETE and self.kept == len(listing)
        )
        if not self._complete:
            self._write_record(RUNNING)

    def _difference(self, record: dict[str, Any]) -> str:
        if record["reader"] != self._salt:
            what = (
                f"made with another bundle, other options or another version ({record.get('bundle', '?')}, "
            )
            what += f"boneage {record.get('versions', {}).get('boneage', '?')})"
        else:
            what = f"of other rows or another --sex ({record['rows']:,} there, {len(self._listing):,} here)"
        remedy = "name another folder, or replace it with --overwrite"
        return f"{self._name} belongs to another run, {what}: {remedy}"

    def _take(self) -> None:
        """Make the journals' folder and hold it against other runs."""
        held = self._journals_at / "lock"
        try:
            self._journals_at.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = held.open("ab")
        except OSError as error:
            raise DeliveryError(
                f"{held} cannot be written ({error.strerror}): name an output in a folder you may write to"
            ) from None
        lock(self._lock, held)

    def _find_shards(self) -> None:
        """Count what whole shards hold; a damaged one is not counted, and is written again."""
        for name in self._names:
            number = _number(name)
            if number is None:
                continue
            content = self._folder.read(name)
            ordinals = self._ordinals(number)
            try:
                about, rows = table.read_shard(content, ["status"])
                whole = about.get("job") == self._job and len(rows) == len(ordinals) > 0
            except ValueError:
                whole, rows = False, []
            if not whole:
                log.warning("%s/%s is damaged: its images are read again", self._name, name)
                continue
            self._done[ordinals.start : ordinals.stop] = True
            self._count(number, content, rows)

    def _find_journals(self) -> None:
        """Count the rows of shards that are not whole; write those that want nothing more."""
        for path in sorted(self._journals_at.glob("part-*.jsonl")):
            number = _number(path.with_suffix(".parquet").name)
            if number is None or number in self._shards or not len(self._ordinals(number)):
                path.unlink()
                continue
            offsets = self._journal(number).offsets
            for ordinal in self._ordinals(number):
                self._done[ordinal] = self._listing.key(ordinal) in offsets
            self._write_if_whole(number)

    def wants(self, ordinal: int) -> bool:
        """Return whether a row is not yet there."""
        return not self._done[ordinal]

    def add(self, ordinal: int, row: Row) -> None:
        """Record a row for good, and write its shard where it is the last of it.

        Raises:
            DeliveryError: it cannot be written.
        """
        number = ordinal // self._shard_rows
        self._journal(number).append(self._listing.key(ordinal), row)
        self._done[ordinal] = True
        self._write_if_whole(number)

    def finish(self) -> Summary:
        """Record that the run is complete.

        Raises:
            DeliveryError: it cannot be written.
        """
        if not self._complete:
            self._write_record(COMPLETE)
        self.close()
        shutil.rmtree(self._journals_at, ignore_errors=True)
        return Summary.of(self._statuses, self.kept)

    def close(self) -> None:
        """Close the journals, and let other runs have the folder."""
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()
        if self._lock is not None:
            self._lock.close()

    def _ordinals(self, number: int) -> range:
        return range(number * self._shard_rows, min((number + 1) * self._shard_rows, len(self._listing)))

    def _journal(self, number: int) -> Journal:
        """Return the journal of a shard; only the latest stay open."""
        if number not in self._journals:
            while len(self._journals) >= _OPEN_JOURNALS:
                self._journals.popitem(last=False)[1].close()
            self._journals[number] = Journal(self._journals_at / f"{_stem(number)}.jsonl")
        self._journals.move_to_end(number)
        return self._journals[number]

    def _write_if_whole(self, number: int) -> None:
        ordinals = self._ordinals(number)
        if not self._done[ordinals.start : ordinals.stop].all():
            return
        journal = self._journal(number)
        rows = [journal.row(self._listing.key(ordinal)) for ordinal in ordinals]
        about = {"job": self._job, "shard": str(number), "boneage": __version__}
        content = table.shard(self._ages, rows, about)
        self._folder.write(f"{_stem(number)}.parquet", content)
        self._count(number, content, rows)
        self._journals.pop(number).close()
        journal.path.unlink()

    def _count(self, number: int, content: bytes, rows: list[Row]) -> None:
        statuses = Counter(str(row["status"]) for row in rows)
        self._statuses += statuses
        self._shards[number] = {
            "name": f"{_stem(number)}.parquet",
            "rows": len(rows),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def _write_record(self, state: str) -> None:
        record: dict[str, Any] = {
            "format": FORMAT,
            "state": state,
            "job": self._job,
            "reader": self._salt,
            "source": self._listing.name,
            "rows": len(self._listing),
            "shard_rows": self._shard_rows,
            "columns": [*table.COLUMNS, *self._ages],
            **self._facts,
            "versions": _versions(),
            "begun_at": self._begun,
        }
        if state == COMPLETE:
            record["ended_at"] = _now()
            record["counts"] = dict(sorted(self._statuses.items()))
            record["shards"] = [self._shards[number] for number in sorted(self._shards)]
        self._folder.write(RUN, (json.dumps(record, indent=1) + "\n").encode())


def _stem(number: int) -> str:
    return f"part-{number:05d}"


def _number(name: str) -> int | None:
    """Return a shard's number by its file's name."""
    found = re.fullmatch(r"part-(\d{5,})\.parquet", name)
    return int(found[1]) if found else None


def _versions() -> dict[str, str]:
    found = {"boneage": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
