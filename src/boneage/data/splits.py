"""Split a manifest into folds by sex and age, and keep the folds in a file that others can use."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.data.manifest import Row, read_table, write_text_atomically


def stratified_folds(rows: Sequence[Row], folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold, 0 to `folds` - 1, of each row; images of one patient share a fold.

    Patients are sorted by sex and bone age and dealt out in blocks of `folds`, one to each fold, so
    that even the smallest age band is spread as evenly as it can be. The folds depend on ids, ages, sexes and
    seed, not on the order of the rows.

    Returns:
        (N,) fold numbers in the order of `rows`.

    Raises:
        ConfigError: fewer than two folds, or fewer patients than folds.
    """
    groups = _patients(rows)
    if folds < 2:
        raise ConfigError(f"expected at least 2 folds, got {folds}; choose 2 or more")
    if len(groups) < folds:
        raise ConfigError(
            f"expected at least {folds} patients, got {len(groups)}; use fewer folds or more images"
        )
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(groups))
    order = sorted(range(len(groups)), key=lambda g: (*_stratum(rows, groups[g]), shuffled[g]))
    result = np.empty(len(rows), np.int64)
    filled = np.zeros(folds, np.int64)
    for start in range(0, len(order), folds):
        # A block's largest patient goes to the fold that is emptiest so far; chance decides between equals.
        block = sorted(order[start : start + folds], key=lambda g: -len(groups[g]))
        emptiest = sorted(rng.permutation(folds), key=lambda fold: int(filled[fold]))
        for group, fold in zip(block, emptiest, strict=False):
            result[groups[group]] = fold
            filled[fold] += len(groups[group])
    return result


def write_folds(path: str | Path, rows: Sequence[Row], folds: NDArray[np.integer]) -> None:
    """Write the folds as a CSV with the columns id and fold, whole or not at all.

    Raises:
        ConfigError: not one fold for every row.
        DeliveryError: the file cannot be written.
    """
    if len(rows) != len(folds):
        raise ConfigError(
            f"expected a fold for each of {len(rows)} rows, got {len(folds)}; split these rows again"
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "fold"))
    writer.writerows((row.id, int(fold)) for row, fold in zip(rows, folds, strict=True))
    write_text_atomically(Path(path), text.getvalue())


def read_folds(path: str | Path) -> dict[str, int]:
    """Return id -> fold from a CSV with the columns id and fold.

    Raises:
        ConfigError: the file is missing, lacks a column, or a line names no fold or an id a second time.
    """
    path = Path(path)
    result: dict[str, int] = {}
    for line, record in read_table(path):
        if "id" not in record or "fold" not in record:
            raise ConfigError(
                f"{path}:1: expected the columns id and fold, found {', '.join(record)}; add them"
            )
        identity, fold = record["id"], record["fold"]
        if not (fold.isascii() and fold.isdigit()):
            raise ConfigError(f"{path}:{line}: fold must be a whole number from 0, not {fold!r}; correct it")
        if not identity or identity in result:
            raise ConfigError(
                f"{path}:{line}: the id is empty or was there before; give every line its own id"
            )
        result[identity] = int(fold)
    return result


def _patients(rows: Sequence[Row]) -> list[list[int]]:
    """Return the row numbers of each patient, in the order of the patients' names."""
    groups: dict[tuple[bool, str], list[int]] = {}
    for number, row in enumerate(rows):
        known = row.patient_id is not None
        groups.setdefault((known, row.patient_id or row.id), []).append(number)
    return [groups[name] for name in sorted(groups)]


def _stratum(rows: Sequence[Row], group: Sequence[int]) -> tuple[str, float]:
    """Return a patient's sex and mean bone age; unknown ones sort before the others."""
    sexes = sorted(rows[number].sex or "" for number in group)
    ages = [age for number in group if (age := rows[number].bone_age_months) is not None]
    return sexes[0], math.fsum(ages) / len(ages) if ages else -1.0
