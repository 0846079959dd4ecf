"""Read and write manifests: the list of images that every command over many images starts from."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from boneage.core.errors import ConfigError, DeliveryError
from boneage.core.types import Sex

COLUMNS = ("id", "path", "sex", "bone_age_months", "chronological_age_months", "patient_id", "split")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".dcm", ".dicom"})
_OLDEST_MONTHS = 300.0
_PARQUET_ROWS = 8192
_MALE = {"true": Sex.MALE, "1": Sex.MALE, "false": Sex.FEMALE, "0": Sex.FEMALE}


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a manifest; whatever is not known is None.

    Args:
        id: unique in the manifest; the file's name without its suffix where no id is given.
        path: the image's file, resolved from the manifest's folder.
        sex: the patient's sex.
        bone_age_months: the reference reading.
        chronological_age_months: age at examination.
        patient_id: what groups the images of one patient (a pseudonym, never a name).
        split: the name of the part it belongs to.
    """

    id: str
    path: Path
    sex: Sex | None = None
    bone_age_months: float | None = None
    chronological_age_months: float | None = None
    patient_id: str | None = None
    split: str | None = None


def read_manifest(path: str | Path) -> tuple[Row, ...]:
    """Return the rows of a manifest (CSV, Parquet), or of the images in a folder (recursive, sorted).

    An image that is missing is no error here: it becomes a failed row where it is read.

    Raises:
        ConfigError: no such file; no image or row; no `path` column; a cell that cannot be understood.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    records = read_table(path)
    check_columns(path, records[0][1])
    rows: list[Row] = []
    first_line: dict[str, int] = {}
    for line, record in records:
        row = _row(path, line, record)
        if row.id in first_line:
            raise ConfigError(
                f"{path}:{line}: the id is that of line {first_line[row.id]} too; give every row its own"
            )
        first_line[row.id] = line
        rows.append(row)
    return tuple(rows)


def write_manifest(path: str | Path, rows: Iterable[Row]) -> None:
    """Write a manifest CSV, paths relative to its folder where they lie below or beside it.

    Raises:
        DeliveryError: the file cannot be written.
    """
    path = Path(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(_record(row, path.parent))
    write_text_atomically(path, text.getvalue())


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file that is either the old one or the whole new one, also if interrupted.

    Raises:
        DeliveryError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        if draft.exists():
            draft.unlink()
        reason = error.strerror or type(error).__name__
        raise DeliveryError(f"{path}: cannot be written ({reason}); choose a folder that can be") from error


def read_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, {column: text}) for every row of a table, as `iter_table` does.

    Raises:
        ConfigError: the file is missing or cannot be opened, or as `iter_table`.
    """
    try:
        with path.open("rb") as file:
            return list(iter_table(file, path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give a CSV or a folder of images") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a CSV file, got a folder; name the file in it") from None
    except PermissionError:
        raise ConfigError(
            f"{path}: the file cannot be opened (PermissionError); make it readable, or name another"
        ) from None


def iter_table(file: BinaryIO, source: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, {column: text}) for every row of a CSV, or of a Parquet file by its name's ending.

    Of a CSV, a byte order mark, quotes, CRLF line ends and blank lines are understood; names and cells are
    stripped, an empty cell is ''. Of a Parquet file the line is the row's number, from 1.

    Args:
        file: the open table; it must allow seeking.
        source: its name, which every message begins with.

    Raises:
        ConfigError: no UTF-8 text or no Parquet, no rows, or a row that is longer than the header.
    """
    parquet = str(source).lower().endswith(".parquet")
    empty = True
    for line, record in (_parquet_records if parquet else _csv_records)(file, source):
        empty = False
        yield line, record
    if empty:
        raise ConfigError(
            f"{source}: expected a header and at least one row, the file has none; list your images in it"
        )


def check_columns(source: str | Path, record: Mapping[str, str]) -> None:
    """Refuse a manifest whose rows, of which this is one, name no image.

    Raises:
        ConfigError: there is no column `path`.
    """
    if "path" not in record:
        found = ", ".join(record)
        raise ConfigError(
            f"{source}:1: a manifest needs a column 'path', found only: {found}; add it to the header"
        )


def _csv_records(file: BinaryIO, source: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cells) or not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(source, [cell.strip() for cell in cells])
                continue
            yield reader.line_num, _cells(source, reader.line_num, header, cells)
    except csv.Error as error:
        raise ConfigError(
            f"{source}:{reader.line_num}: not a CSV line ({error}); check quotes and commas"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(_no_utf8(file, source)) from None
    finally:
        with suppress(ValueError):  # it may be closed already
            text.detach()  # the file is the caller's to close


def _no_utf8(file: BinaryIO, source: str | Path) -> str:
    """Return what to say of a file that is not UTF-8, with its first line that is not."""
    file.seek(0)
    for number, line in enumerate(file, start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            mixed = ", though the lines before it are: encodings are mixed" if number > 1 else ""
            return (
                f"{source}:{number}: not readable as UTF-8 text (byte 0x{line[error.start]:02X}){mixed}; "
                "save the whole file as a UTF-8 CSV"
            )
    return f"{source}: not readable as UTF-8 text; save it as a UTF-8 CSV"


def _parquet_records(file: BinaryIO, source: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        names = _header(source, [name.strip() for name in table.schema_arrow.names])
        line = 0
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
            columns = [[_cell(value) for value in column.to_pylist()] for column in batch.columns]
            for cells in zip(*columns, strict=True):
                line += 1
                yield line, dict(zip(names, cells, strict=True))
    except (pa.ArrowException, OSError, ValueError) as error:  # names in its footer may be no UTF-8
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source}: not readable as Parquet ({reason}); write it again") from None


def _cell(value: object) -> str:
    """Return a Parquet value as a CSV has it."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value).strip()


def _header(path: str | Path, names: list[str]) -> list[str]:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path}:1: the column {twice[0]!r} is there twice; remove one")
    return names


def _cells(path: str | Path, line: int, header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) > len(header):
        raise ConfigError(
            f"{path}:{line}: {len(cells)} cells under {len(header)} columns; quote a cell that holds a comma"
        )
    padded = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
    return dict(zip(header, padded, strict=True))


def _row(source: Path, line: int, record: Mapping[str, str]) -> Row:
    if not record["path"]:
        raise ConfigError(f"{source}:{line}: the path is empty; give the image's file, relative to the CSV")
    image = Path(os.path.normpath(source.parent / Path(record["path"]).expanduser()))
    sex, bone_age = parse_patient(source, line, record)
    return Row(
        id=record.get("id") or image.stem,
        path=image,
        sex=sex,
        bone_age_months=bone_age,
        chronological_age_months=parse_months(source, line, record, "chronological_age_months"),
        patient_id=record.get("patient_id") or None,
        split=record.get("split") or None,
    )


def parse_patient(
    source: str | Path, line: int, record: Mapping[str, str]
) -> tuple[Sex | None, float | None]:
    """Return the sex and the bone age in months of a table's line, None where it does not say.

    Raises:
        ConfigError: it says what is no sex, or no bone age.
    """
    return _sex(source, line, record), parse_months(source, line, record, "bone_age_months")


def _sex(source: str | Path, line: int, record: Mapping[str, str]) -> Sex | None:
    """Return the sex from `sex`, or else from the challenge's `male` column."""
    text = record.get("sex", "")
    if text:
        try:
            return Sex.parse(text)
        except ConfigError as error:
            raise ConfigError(
                f"{source}:{line}: {error}; correct the column 'sex' or leave it empty"
            ) from None
    male = record.get("male", "").lower()
    if not male:
        return None
    if male not in _MALE:
        raise ConfigError(f"{source}:{line}: male must be True or False, not {record['male']!r}; correct it")
    return _MALE[male]


def parse_months(source: str | Path, line: int, record: Mapping[str, str], column: str) -> float | None:
    """Return a column's age in months, None where it is empty.

    Raises:
        ConfigError: it is no number of months of a child.
    """
    text = record.get(column, "")
    if not text:
        return None
    try:
        months = float(text)
    except ValueError:
        months = math.nan
    if not 0.0 <= months <= _OLDEST_MONTHS:
        raise ConfigError(
            f"{source}:{line}: {column} must be a number of months from 0 to {_OLDEST_MONTHS:g}, "
            f"not {text!r}; correct it or leave it empty"
        )
    return months


def _read_folder(folder: Path) -> tuple[Row, ...]:
    """Return a row an image; its id is its path below the folder, without the suffix where that is unique."""
    images = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and _is_visible_file(p, folder)
    )
    if not images:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ConfigError(
            f"{folder}: expected a folder with images ({known}), found none; name another folder or a CSV"
        )
    stems = [image.relative_to(folder).with_suffix("").as_posix() for image in images]
    bearers = Counter(stems)
    return tuple(
        Row(stem if bearers[stem] == 1 else image.relative_to(folder).as_posix(), image)
        for stem, image in zip(stems, images, strict=True)
    )


def _is_visible_file(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _record(row: Row, folder: Path) -> dict[str, str]:
    absolute, base = row.path.resolve(), folder.resolve()
    near = absolute.is_relative_to(base) or absolute.is_relative_to(base.parent)
    shown = Path(os.path.relpath(absolute, base)) if near else absolute
    return {
        "id": row.id,
        "path": shown.as_posix(),
        "sex": row.sex or "",
        "bone_age_months": _number(row.bone_age_months),
        "chronological_age_months": _number(row.chronological_age_months),
        "patient_id": row.patient_id or "",
        "split": row.split or "",
    }


def _number(value: float | None) -> str:
    return "" if value is None else repr(round(value, 4)).removesuffix(".0")
