"""A site's table of locally read images: what it must hold, and what makes it implausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest, read_table
from boneage.data.splits import stratified_folds
from boneage.inference.conclude import AGE_LIMITS_MONTHS
from boneage.inference.site import Vector

LEAST_IMAGES = 100
LEAST_OF_A_SEX = 30
FOLDS = 10

LEAST_SPAN_MONTHS = 12.0
"""Labels of a sex that lie closer together are taken for constant."""

MOST_YEARS = 25.0
"""Labels that are all below it are taken for years."""

LEAST_CORRELATION = 0.5
"""Of labels and answers; below it they are taken to belong to different images."""

MOST_DIFFERENCE_MONTHS = 24.0
"""Labels and answers that differ more on average are taken for another unit, another sex, or other images."""


@dataclass(frozen=True, eq=False)
class LocalReadings:
    """What a site and the bundle read on the same N images, by column.

    Args:
        sex: (N,) as `Sex` writes it.
        truth: (N,) the site's labels in months.
        answered: (N,) the bundle's answers in months.
        lower: (N,) lower ends of their intervals.
        upper: (N,) upper ends.
        alone: (N,) ages of the bundle's main method, which stand alone where another gives none.
        fold: (N,) fold of each image; those of one patient share it.
    """

    sex: NDArray[np.str_]
    truth: Vector
    answered: Vector
    lower: Vector
    upper: Vector
    alone: Vector
    fold: NDArray[np.int64]

    def __len__(self) -> int:
        """Return N."""
        return len(self.truth)

    def take(self, wanted: NDArray[np.bool_] | NDArray[np.int64]) -> LocalReadings:
        """Return the images chosen."""
        return LocalReadings(
            self.sex[wanted],
            self.truth[wanted],
            self.answered[wanted],
            self.lower[wanted],
            self.upper[wanted],
            self.alone[wanted],
            self.fold[wanted],
        )

    def with_answers(self, answered: Vector, lower: Vector, upper: Vector) -> LocalReadings:
        """Return the same images with other answers (N,) and intervals."""
        return replace(self, answered=answered, lower=lower, upper=upper)

    def images(self) -> dict[str, int]:
        """Return the number of images of either sex."""
        return {str(sex): int((self.sex == sex).sum()) for sex in Sex}


def read_local_table(path: Path) -> tuple[Row, ...]:
    """Return the rows of a site's table that have a label, after every check that needs no image.

    Raises:
        ConfigError: no such table; a column or the labels are missing; an id or an image is there twice; too
            few rows, or too few of a sex; labels that are constant, in years, or no child's.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: give a CSV with path, sex and bone_age_months")
    header = read_table(path)[0][1]
    for column, remedy in (
        ("path", "the image's file"),
        ("sex", "female or male"),
        ("bone_age_months", "your own reading, in months"),
    ):
        if column not in header and not (column == "sex" and "male" in header):
            raise ConfigError(
                f"{path}:1: calibrating needs a column {column!r} ({remedy}), found only: "
                f"{', '.join(header)}; add it to the header"
            )
    rows = tuple(row for row in read_manifest(path) if row.bone_age_months is not None)
    _refuse_an_image_twice(path, rows)
    truth = np.array([row.bone_age_months for row in rows], dtype=np.float64)
    known = [row.sex for row in rows]
    _refuse_few("with a label", len(rows), {str(sex): known.count(sex) + known.count(None) for sex in Sex})
    _refuse_labels(truth)
    return rows


def gather(rows: Sequence[Row], records: Sequence[Mapping[str, object]], main: str) -> LocalReadings:
    """Return what the site and the bundle read, of the images that the bundle could read.

    Args:
        rows: of the site's table.
        records: of the batch, in the same order: `status`, `sex`, `bone_age_months`, `lower_months`,
            `upper_months`, and a column for each method.
        main: the bundle's main method.

    Raises:
        ConfigError: too few images could be read.
    """
    pairs = [(row, record) for row, record in zip(rows, records, strict=True) if record["status"] == "ok"]
    sexes = [str(record["sex"]) for _, record in pairs]
    _refuse_few("that can be read", len(pairs), {str(sex): sexes.count(str(sex)) for sex in Sex})

    def column(name: str) -> Vector:
        return np.array([float(str(record[name])) for _, record in pairs])

    known = [replace(row, sex=Sex(sex)) for (row, _), sex in zip(pairs, sexes, strict=True)]
    return LocalReadings(
        sex=np.array(sexes),
        truth=np.array([row.bone_age_months for row in known], dtype=np.float64),
        answered=column("bone_age_months"),
        lower=column("lower_months"),
        upper=column("upper_months"),
        alone=np.clip(column(main), *AGE_LIMITS_MONTHS),
        fold=stratified_folds(known, FOLDS),
    )


def check_readings(readings: LocalReadings) -> None:
    """Refuse labels that no site can mean: constant, of other images, in another unit.

    Raises:
        ConfigError: of either sex, the labels hardly vary, do not go with the answers, or differ from them by
            more than sites do.
    """
    for sex in Sex:
        mine = readings.take(readings.sex == sex)
        truth, answered = mine.truth, mine.answered
        if np.ptp(truth) < LEAST_SPAN_MONTHS:
            raise ConfigError(
                f"the labels of {sex} hands lie within {np.ptp(truth):.0f} months of each other: hardly "
                "anything can be learnt from them; give images of children of different ages"
            )
        together = float(np.corrcoef(truth, answered)[0, 1]) if np.ptp(answered) > 0 else 0.0
        if together < LEAST_CORRELATION:
            raise ConfigError(
                f"the labels of {sex} hands do not go with the answers (correlation {together:.2f}, expected "
                f"{LEAST_CORRELATION} or more): check that each label stands beside its own image, or give "
                "children of more different ages"
            )
        apart = float((truth - answered).mean())
        if abs(apart) > MOST_DIFFERENCE_MONTHS:
            raise ConfigError(
                f"the labels of {sex} hands differ from the answers by {apart:+.0f} months on average, more "
                "than sites do: check the unit (months), the sex and the images"
            )


def _refuse_an_image_twice(path: Path, rows: Sequence[Row]) -> None:
    seen: dict[Path, str] = {}
    for row in rows:
        if row.path in seen:
            raise ConfigError(
                f"{path}: the rows {seen[row.path]!r} and {row.id!r} name the same image; keep one of them"
            )
        seen[row.path] = row.id


def _refuse_few(which: str, count: int, by_sex: Mapping[str, int]) -> None:
    lacking = [
        f"{LEAST_OF_A_SEX - found} more of {sex} hands ({found} of {LEAST_OF_A_SEX})"
        for sex, found in by_sex.items()
        if found < LEAST_OF_A_SEX
    ]
    if count < LEAST_IMAGES:
        lacking.insert(0, f"{LEAST_IMAGES - count} more images ({count} of {LEAST_IMAGES})")
    if lacking:
        raise ConfigError(f"too few images {which} to calibrate: add {', '.join(lacking)}")


def _refuse_labels(truth: Vector) -> None:
    least, most = float(truth.min()), float(truth.max())
    if most - least < LEAST_SPAN_MONTHS:
        raise ConfigError(
            f"the labels run from {least:g} to {most:g} months only: hardly anything can be learnt from "
            "them; give images of children of different ages"
        )
    if most <= MOST_YEARS:
        raise ConfigError(
            f"the greatest label is {most:g} months: the labels look like years; give bone_age_months in "
            "months"
        )
    if most > AGE_LIMITS_MONTHS[1]:
        raise ConfigError(
            f"a label says {most:g} months; no bone age lies above {AGE_LIMITS_MONTHS[1]:g}: correct it, or "
            "leave it empty"
        )
