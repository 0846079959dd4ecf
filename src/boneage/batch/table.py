"""Write the batch's table, row by row, to a temporary name that is renamed when it is whole."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError, DeliveryError

TEXT_COLUMNS = ("id", "path", "sex", "status", "message")
COLUMNS = ("id", "path", "sex", "bone_age_months", "lower_months", "upper_months", "status", "message")
"""The contract's columns; one a method follows them."""

SUFFIXES = (".csv", ".parquet")
_GROUP = 4096


def check_suffix(out: Path) -> None:
    """Refuse an output whose name does not say CSV or Parquet.

    Raises:
        ConfigError: the suffix is another.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"the output must end in {' or '.join(SUFFIXES)}, not {out.name!r}: name one of these"
        )


def write(out: Path, methods: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows, each with the contract's columns and its ages by method under `ages`.

    Raises:
        DeliveryError: the file cannot be written.
    """
    check_suffix(out)
    flat = (
        {name: row[name] for name in COLUMNS} | {name: row["ages"].get(name) for name in methods}
        for row in rows
    )
    with _renamed_when_whole(out) as part:
        (_write_csv if out.suffix.lower() == ".csv" else _write_parquet)(part, (*COLUMNS, *methods), flat)


def read_identities(out: Path) -> tuple[tuple[str, str], ...]:
    """Return the (id, path) of every row of a finished table, in its order.

    Raises:
        ConfigError: the file is no such table.
    """
    check_suffix(out)
    return tuple((str(row["id"]), str(row["path"])) for row in read(out))


def read(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a finished table; missing values are None, numbers are numbers.

    Raises:
        ConfigError: the file is no such table.
    """
    try:
        rows = _read_csv(out) if out.suffix.lower() == ".csv" else _read_parquet(out)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{out} is no table of a batch ({error}): name another output, or --overwrite"
        ) from None
    if rows and not set(COLUMNS) <= set(rows[0]):
        missing = ", ".join(sorted(set(COLUMNS) - set(rows[0])))
        raise ConfigError(
            f"{out} is no table of a batch, it has no {missing}: name another output, or --overwrite"
        )
    return rows


@contextmanager
def _renamed_when_whole(out: Path) -> Iterator[Path]:
    part = out.with_name(f".{out.name}.part")
    try:
        yield part
        part.replace(out)
    except OSError as error:
        raise DeliveryError(
            f"{out} cannot be written ({error.strerror}): free some space, then go on with --resume"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {name: pa.string() if name in TEXT_COLUMNS else pa.float64() for name in columns}
    schema = pa.schema(types.items())
    rest = iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rest, _GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def _cell(name: str, text: str) -> str | float | None:
    if name in TEXT_COLUMNS:
        return text
    return float(text) if text else None


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows
