"""Convert the RSNA Pediatric Bone Age Challenge's own layouts to a manifest.

Source: Halabi SS et al., Radiology 2019;290:498-503 (training and validation set as distributed).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import IMAGE_SUFFIXES, Row, read_manifest, read_table

_SEXES = {
    "true": Sex.MALE,
    "m": Sex.MALE,
    "1": Sex.MALE,
    "false": Sex.FEMALE,
    "f": Sex.FEMALE,
    "0": Sex.FEMALE,
}


@dataclass(frozen=True, slots=True)
class _Part:
    """One set of the challenge: its name, how its CSV and its image folders begin (in lower case)."""

    split: str
    tables: tuple[str, ...]
    folders: tuple[str, ...]


_PARTS = (
    _Part(
        "train",
        ("boneage-training-dataset", "boneage_training_dataset", "train.csv"),
        ("boneage-training-dataset",),
    ),
    _Part(
        "validation", ("validation dataset", "boneage-validation-dataset"), ("boneage-validation-dataset",)
    ),
    _Part("test", ("boneage-test-dataset", "test dataset"), ("boneage-test-dataset",)),
)
_ID = ("id", "image id", "case id", "caseid", "image_id")
_AGE = ("boneage", "bone age (months)", "boneage (months)", "bone age", "ground truth bone age (months)")
_MALE = ("male", "sex")


def convert_rsna(folder: str | Path) -> tuple[Row, ...]:
    """Return the rows of every set of the challenge that lies in a folder, sorted by set and id.

    Understood are `boneage-training-dataset.csv` (id, boneage, male), `Validation Dataset.csv` (Image ID,
    male, Bone Age (months)) and `boneage-test-dataset.csv`, each beside its image folders (also one
    inside another of the same name, and in parts -1, -2), or a folder that holds `labels.csv` already.
    An image that is listed but missing stays in: it becomes a failed row where it is read.

    Raises:
        ConfigError: the folder is missing, holds no such CSV, or a CSV cannot be understood.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: no such folder; give the folder with the challenge's CSV and image folders"
        )
    if (folder / "labels.csv").is_file():
        return read_manifest(folder / "labels.csv")
    rows = [row for part in _PARTS for row in _rows_of(folder, part)]
    if not rows:
        raise ConfigError(
            f"{folder}: expected boneage-training-dataset.csv, 'Validation Dataset.csv', "
            "boneage-test-dataset.csv or labels.csv, found none; unpack the challenge's archives here"
        )
    return _with_unique_ids(rows)


def _rows_of(folder: Path, part: _Part) -> list[Row]:
    tables = [
        path
        for path in sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")])
        if path.name.lower().startswith(part.tables)
    ]
    if not tables:
        return []
    images = _images(folder, part)
    default = folder / part.folders[0]
    rows = [
        _row(tables[0], line, record, part.split, images, default) for line, record in read_table(tables[0])
    ]
    return sorted(rows, key=lambda row: (len(row.id), row.id))


def _images(folder: Path, part: _Part) -> dict[str, Path]:
    """Return file name without suffix -> image, over every folder of the set, however nested."""
    found: dict[str, Path] = {}
    roots = [
        path for path in folder.iterdir() if path.is_dir() and path.name.lower().startswith(part.folders)
    ]
    for root in sorted(roots):
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return found


def _row(
    table: Path, line: int, record: Mapping[str, str], split: str, images: Mapping[str, Path], default: Path
) -> Row:
    cells = {name.lower(): text for name, text in record.items()}
    identity = _cell(table, cells, _ID)
    sex = _cell(table, cells, _MALE)
    if not identity:
        raise ConfigError(f"{table}:{line}: the image id is empty; fill it in or remove the line")
    if sex.lower() not in _SEXES:
        raise ConfigError(f"{table}:{line}: expected male True or False (or M, F), got {sex!r}; correct it")
    age = next((cells[name] for name in _AGE if cells.get(name)), "")
    try:
        months = float(age) if age else None
    except ValueError:
        raise ConfigError(
            f"{table}:{line}: bone age must be a number of months, not {age!r}; correct it"
        ) from None
    if months is not None and not 0.0 <= months <= 300.0:
        raise ConfigError(f"{table}:{line}: bone age must be 0 to 300 months, not {age!r}; correct it")
    image = images.get(identity, default / f"{identity}.png")
    return Row(identity, image, _SEXES[sex.lower()], months, split=split)


def _cell(table: Path, cells: Mapping[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in cells:
            return cells[name]
    raise ConfigError(
        f"{table}:1: expected a column named one of {', '.join(names)}, found {', '.join(cells)}"
    )


def _with_unique_ids(rows: list[Row]) -> tuple[Row, ...]:
    """Put the set's name before an id that another set uses too."""
    count: dict[str, int] = {}
    for row in rows:
        count[row.id] = count.get(row.id, 0) + 1
    return tuple(row if count[row.id] == 1 else replace(row, id=f"{row.split}-{row.id}") for row in rows)
