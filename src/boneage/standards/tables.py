"""Load the tables and check them: the file is the one that was checked, complete, and in order."""

from __future__ import annotations

import csv
import hashlib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import TableBroken, TableMissing
from boneage.core.types import Notice, Sex

TABLES = Path(__file__).parent / "tables"
"""The shipped tables and their SOURCES.toml."""


class Agreement(StrEnum):
    """How far the sources of a table agree."""

    STRONG = "strong"
    MEDIUM = "medium"
    WEAK = "weak"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table comes from.

    Args:
        name: the file's name.
        title: what the table holds.
        source: publication, and the public transcriptions that were compared.
        agreement: how far they agree, for each sex.
        remarks: disagreements and how they were settled.
        sha256: checksum of the file, with line ends as a single line feed.
    """

    name: str
    title: str
    source: str
    agreement: Mapping[Sex, Agreement]
    remarks: str
    sha256: str

    def warning(self, sex: Sex) -> Notice | None:
        """Return the notice that a result owes to a weak table, None for a better one."""
        if self.agreement[sex] is not Agreement.WEAK:
            return None
        return Notice(
            "weak_source", f"weak source for {sex} patients: {self.title} ({self.name}). {self.remarks}"
        )


@dataclass(frozen=True, slots=True)
class Table:
    """A checked table: its rows, column to text, and where they come from."""

    source: Source
    rows: tuple[Mapping[str, str], ...]

    def of(self, sex: Sex) -> tuple[Mapping[str, str], ...]:
        """Return the rows of one sex.

        Raises:
            TableBroken: there are none.
        """
        rows = tuple(row for row in self.rows if row.get("sex") == sex)
        if not rows:
            raise TableBroken(f"{self.source.name} has no rows for {sex}: install the package again")
        return rows


@cache
def catalogue(folder: Path = TABLES) -> Mapping[str, Any]:
    """Return SOURCES.toml as it stands: `standards` and `tables`.

    Raises:
        TableMissing: the folder has none.
        TableBroken: it is no TOML, or lacks a section.
    """
    path = folder / "SOURCES.toml"
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise TableMissing(f"{path} cannot be read ({error.strerror}): install the package again") from None
    except ValueError as error:
        raise TableBroken(f"{path} is not TOML ({error}): install the package again") from None
    if missing := {"standards", "tables"} - tree.keys():
        raise TableBroken(f"{path} lacks the section {min(missing)!r}: install the package again")
    return MappingProxyType(tree)


def source(name: str, folder: Path = TABLES) -> Source:
    """Return where a table comes from.

    Raises:
        TableMissing: there is no such table.
        TableBroken: its entry is incomplete or names an unknown agreement.
    """
    entries = catalogue(folder)["tables"]
    if name not in entries:
        raise TableMissing(f"there is no table {name!r}; known: {', '.join(sorted(entries))}")
    entry = dict(entries[name])
    try:
        said = entry.pop("agreement")
        by_sex = said if isinstance(said, dict) else {str(sex): said for sex in Sex}
        agreement = MappingProxyType({sex: Agreement(by_sex[sex]) for sex in Sex})
        return Source(name=name, agreement=agreement, **entry)
    except (KeyError, TypeError, ValueError) as error:
        raise TableBroken(f"SOURCES.toml describes {name} wrongly ({error}): mend its entry") from None


def sources(folder: Path = TABLES) -> tuple[Source, ...]:
    """Return where every table comes from, in the order of SOURCES.toml."""
    return tuple(source(name, folder) for name in catalogue(folder)["tables"])


@cache
def read_table(name: str, folder: Path = TABLES) -> Table:
    """Read a table after checking that its file is the one that SOURCES.toml describes.

    Raises:
        TableMissing: no such table, or its file is not there.
        TableBroken: the checksum differs, or a row has too few or too many cells.
    """
    origin = source(name, folder)
    try:
        content = (folder / name).read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise TableMissing(f"{folder / name} cannot be read ({error.strerror}): install again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != origin.sha256:
        raise TableBroken(
            f"{name} is not the table that was checked: expected sha256 {origin.sha256[:12]}..., "
            f"got {found[:12]}...: install the package again, or record the new sum in SOURCES.toml"
        )
    rows = tuple(csv.DictReader(content.decode("utf-8").splitlines(), strict=True))
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise TableBroken(f"{name}, line {line}: expected {len(rows[0])} cells: mend the row")
    return Table(origin, tuple(MappingProxyType(row) for row in rows))


def number(row: Mapping[str, str], column: str, table: str) -> float:
    """Return a cell as a finite number.

    Raises:
        TableBroken: the column is missing, or the cell is no finite number.
    """
    try:
        value = float(row[column])
    except (KeyError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise TableBroken(f"{table}: {column} must be a number, not {row.get(column)!r}: mend the table")
    return value


def check_rising(values: Sequence[float], what: str, *, strictly: bool = True) -> None:
    """Refuse values that do not rise.

    Raises:
        TableBroken: a value is below the one before it, or equal to it where they must rise strictly.
    """
    for before, after in pairwise(values):
        if after < before or (strictly and after == before):
            raise TableBroken(f"{what} must rise, but {after:g} follows {before:g}: mend the table")


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Columns of a table over a rising argument, as coefficients over age.

    Args:
        argument: (R,) strictly rising.
        values: (R, C) the columns.
        notes: (R) what the table remarks on a row, empty where nothing.
        table: the table's name.
    """

    argument: NDArray[np.float64]
    values: NDArray[np.float64]
    notes: tuple[str, ...]
    table: str

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last argument."""
        return float(self.argument[0]), float(self.argument[-1])

    def at(self, argument: float) -> NDArray[np.float64]:
        """Return the (C,) columns at an argument within `ends`, linear between rows."""
        return np.array([np.interp(argument, self.argument, column) for column in self.values.T])

    def notes_at(self, argument: float) -> tuple[str, ...]:
        """Return the remarks on the rows that `at` rests on: one row, or the two around the argument."""
        used = np.interp(argument, self.argument, np.arange(len(self.argument)))
        rows = sorted({int(np.floor(used)), int(np.ceil(used))})
        return tuple(self.notes[row] for row in rows if self.notes[row])


@cache
def grid(name: str, sex: Sex, argument: str, columns: tuple[str, ...], category: str = "") -> Grid:
    """Return columns of a shipped table for one sex, and one category where the table has them.

    Raises:
        TableMissing: there is no such table.
        TableBroken: it is not the one that was checked, lacks the rows, or its argument does not rise.
    """
    where = " ".join(filter(None, (name, str(sex), category)))
    rows = [row for row in read_table(name).of(sex) if row.get("category", "") == category]
    if len(rows) < 2:
        raise TableBroken(f"{where}: expected two rows or more, got {len(rows)}: mend the table")
    at = [number(row, argument, where) for row in rows]
    check_rising(at, f"{where}: {argument}")
    values = [[number(row, column, where) for column in columns] for row in rows]
    return Grid(np.array(at), np.array(values), tuple(row.get("note", "") for row in rows), name)


def warnings_of(tables: Iterable[Source], sex: Sex) -> tuple[Notice, ...]:
    """Return the notices that a result owes to the weak ones among its tables."""
    return tuple(notice for table in tables if (notice := table.warning(sex)) is not None)
