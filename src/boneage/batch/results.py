"""Where a job's rows go: what every kind of output answers, and the single table."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from boneage.batch import storage, table
from boneage.batch.journal import Journal, Offsets
from boneage.batch.source import Listing
from boneage.batch.work import Reader, Row
from boneage.core.errors import ConfigError
from boneage.reporting.tabular import FAILED, OK


@dataclass(frozen=True, slots=True)
class Summary:
    """How a batch ended: rows by status, and how many of them an earlier run had done."""

    total: int
    ok: int
    rejected: int
    failed: int
    kept: int

    @classmethod
    def of(cls, statuses: Counter[str], kept: int) -> Summary:
        """Return the summary of rows counted by status."""
        ok, failed, total = statuses[OK], statuses[FAILED], statuses.total()
        return cls(total, ok, total - ok - failed, failed, kept)


@dataclass(frozen=True, slots=True)
class About:
    """What an output says of the job that it belongs to.

    Args:
        reader: what reads its images.
        salt: a text that changes with whatever the answers depend on beside the list.
        facts: what else is recorded, by name.
    """

    reader: Reader
    salt: str
    facts: Mapping[str, Any]


class Output(Protocol):
    """Takes rows in any order; is made before the list is read, so that a bad one is refused at once."""

    kept: int

    def begin(self, listing: Listing, about: About) -> None:
        """Make ready, and find out what an earlier run has done."""
        ...

    def wants(self, ordinal: int) -> bool:
        """Return whether a row is not yet there."""
        ...

    def add(self, ordinal: int, row: Row) -> None:
        """Record a row for good."""
        ...

    def finish(self) -> Summary:
        """Write what is left when every row was added."""
        ...

    def close(self) -> None:
        """Let go of files; what was added stays for a later run."""
        ...


def open_output(out: str, *, resume: bool, overwrite: bool, shard_rows: int) -> Output:
    """Return the output at a path or URL: a table by its ending, or else a folder of shards.

    Raises:
        ConfigError: it cannot be told what it is, or it is there and neither to be resumed nor overwritten.
    """
    from boneage.batch.shards import ShardFolder

    name = storage.name_of(out)
    is_table = name.lower().endswith(table.SUFFIXES)
    is_folder = out.endswith("/") or "." not in name[1:] or (not is_table and Path(out).is_dir())
    if not is_folder:
        return SingleTable(out, resume=resume, overwrite=overwrite)
    return ShardFolder(out, resume=resume, overwrite=overwrite, shard_rows=shard_rows)


def journal_path(out: Path) -> Path:
    """Return where the finished rows of a table lie until it is whole."""
    return out.with_name(f"{out.name}.journal")


def state_folder(url: str) -> Path:
    """Return where this machine keeps the journal of an output that lies elsewhere."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "boneage" / "batch" / hashlib.sha256(url.encode("utf-8")).hexdigest()[:24]


class SingleTable:
    """One CSV or Parquet file in the list's order; until it is whole, its rows lie in a journal beside it.

    Args:
        out: its path or URL.
        resume: go on with what an earlier run has done.
        overwrite: start anew.

    Raises:
        ConfigError: its ending is unknown, its folder does not exist, or it is there already.
    """

    def __init__(self, out: str, *, resume: bool, overwrite: bool) -> None:
        self._out, self._resume = out, resume
        self._remote = storage.is_url(out)
        local = Path(storage.name_of(out) if self._remote else out)
        table.check_suffix(local)
        if not self._remote and not local.parent.is_dir():
            raise ConfigError(
                f"the folder of the output, {local.parent}, does not exist: create it, or name another"
            )
        self._journal_at = state_folder(out) / "rows.journal" if self._remote else journal_path(local)
        self._there = storage.exists(out)
        if not (resume or overwrite):
            self._refuse_what_is_there()
        self._anew = overwrite and not resume
        self._suffix = local.suffix
        self._journal: Journal | None = None
        self._finished: Summary | None = None
        self.kept = 0

    def _refuse_what_is_there(self) -> None:
        name = storage.shown(self._out)
        if self._there:
            raise ConfigError(f"{name} exists: name another output, or replace it with --overwrite")
        if self._journal_at.exists():
            raise ConfigError(
                f"{name} was begun and interrupted: go on with --resume, or start anew with --overwrite"
            )

    def begin(self, listing: Listing, about: About) -> None:
        """Open the journal, or recognise a table that is whole.

        Raises:
            ConfigError: the table holds other rows than the list.
            DeliveryError: the journal cannot be written, or another run holds it.
        """
        self._listing = listing
        if self._resume and self._there and not self._journal_at.exists():
            self._finished = self._recognised(listing)
            self.kept = len(listing)
            return
        if self._remote:
            self._journal_at.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._journal = Journal(self._journal_at, Offsets(listing.keys), anew=self._anew)
        self.kept = len(self._journal.offsets)

    def _recognised(self, listing: Listing) -> Summary:
        statuses: Counter[str] = Counter()
        with self._readable() as path:
            rows = table.scan(path)
            for task in listing.tasks():
                row = next(rows, None)
                if row is None or (row["id"], row["path"]) != (task.id, storage.shown(task.path)):
                    break
                statuses[str(row["status"])] += 1
            else:
                if next(rows, None) is None:
                    return Summary.of(statuses, len(listing))
        raise ConfigError(
            f"{storage.shown(self._out)} holds other rows than the manifest: name another output, "
            "or replace it with --overwrite"
        )

    @contextmanager
    def _readable(self) -> Iterator[Path]:
        if not self._remote:
            yield Path(self._out)
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"table{self._suffix}"
            storage.download(self._out, copy)
            yield copy

    def wants(self, ordinal: int) -> bool:
        """Return whether a row is not yet there."""
        return self._journal is not None and self._listing.key(ordinal) not in self._journal.offsets

    def add(self, ordinal: int, row: Row) -> None:
        """Record a row for good.

        Raises:
            DeliveryError: it cannot be written.
        """
        if self._journal is not None:
            self._journal.append(self._listing.key(ordinal), row)

    def finish(self) -> Summary:
        """Write the table from the journal, whose rows are read twice so that they need no memory.

        Raises:
            DeliveryError: it cannot be written.
        """
        if self._finished is not None or self._journal is None:
            return self._finished or Summary(0, 0, 0, 0, 0)
        methods: set[str] = set()
        statuses: Counter[str] = Counter()
        for row in self._rows(self._journal):
            methods.update(row["ages"])
            statuses[row["status"]] += 1
        if self._remote:
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(folder) / f"table{self._suffix}"
                table.write(whole, sorted(methods), self._rows(self._journal))
                storage.upload(whole, self._out)
        else:
            table.write(Path(self._out), sorted(methods), self._rows(self._journal))
        self.close()
        self._journal_at.unlink()
        return Summary.of(statuses, self.kept)

    def _rows(self, journal: Journal) -> Iterator[Row]:
        return (journal.row(self._listing.key(ordinal)) for ordinal in range(len(self._listing)))

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
