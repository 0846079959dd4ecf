"""The batch's table: its columns, and how it is written, to a temporary name renamed when it is whole."""

from __future__ import annotations

import csv
import os
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
            f"the output must end in {' or '.join(SUFFIXES)}, not {out.name!r}: name one of these, "
            "or a folder with / at its end"
        )


def write(out: Path, methods: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows, each with the contract's columns and its ages by method under `ages`.

    Raises:
        DeliveryError: the file cannot be written.
    """
    check_suffix(out)
    flat = _flat(methods, rows)
    with _renamed_when_whole(out) as part:
        (_write_csv if out.suffix.lower() == ".csv" else _write_parquet)(part, (*COLUMNS, *methods), flat)


def shard(methods: Sequence[str], rows: Iterable[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    """Return rows as the content of a Parquet file; equal rows give equal bytes.

    Args:
        methods: the columns of ages.
        rows: as `write`'s.
        about: what the file says of itself.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema((*COLUMNS, *methods)).with_metadata(dict(about))
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(list(_flat(methods, rows)), schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_shard(content: bytes, columns: Sequence[str]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return what a shard says of itself, and some columns of its rows.

    Raises:
        ValueError: it is no shard, or is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_table(pa.BufferReader(content), columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from None
    about = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in (found.schema.metadata or {}).items()
    }
    rows: list[dict[str, Any]] = found.to_pylist()
    return about, rows


def read(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a finished table; missing values are None, numbers are numbers.

    Raises:
        ConfigError: the file is no such table.
    """
    return list(scan(out))


def scan(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a finished table, as `read` returns them, a few thousand at a time in memory.

    Raises:
        ConfigError: the file is no such table.
    """
    check_suffix(out)
    first = True
    try:
        for row in (_read_csv if out.suffix.lower() == ".csv" else _read_parquet)(out):
            if first and not set(COLUMNS) <= set(row):
                missing = ", ".join(sorted(set(COLUMNS) - set(row)))
                raise ConfigError(
                    f"{out} is no table of a batch, it has no {missing}: name another output, or --overwrite"
                )
            first = False
            yield row
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{out} is no table of a batch ({error}): name another output, or --overwrite"
        ) from None


def _flat(methods: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {name: row[name] for name in COLUMNS} | {name: row["ages"].get(name) for name in methods}


@contextmanager
def _renamed_when_whole(out: Path) -> Iterator[Path]:
    part = out.with_name(f".{out.name}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # its journal is removed next, and must not be all that was on the disk
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

    schema = _schema(columns)
    rest = iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rest, _GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _schema(columns: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.schema([(name, pa.string() if name in TEXT_COLUMNS else pa.float64()) for name in columns])


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {name: _cell(name, text) for name, text in row.items()}


def _cell(name: str, text: str) -> str | float | None:
    if name in TEXT_COLUMNS:
        return text
    return float(text) if text else None


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_GROUP):
            yield from batch.to_pylist()
