"""Graded epiphysis crops: a folder `BONE/GRADE/*.png`, or a CSV with the columns file,bone,grade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boneage.core.errors import ConfigError, StandardError, UnsupportedImage
from boneage.core.types import Radiograph, Sex
from boneage.data.manifest import parse_patient, read_table
from boneage.imaging.quality import BLANK_RANGE
from boneage.imaging.read import read
from boneage.standards.names import CARPALS, Bone, parse_bone
from boneage.standards.scoring import standard

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"})
MIN_CROP_SIDE = 24
"""Shortest side of a crop that is read, in pixels: under it no growth plate can be told."""

_GRADE_COLUMNS = ("rus_chn_grade", "grade")


@dataclass(frozen=True)
class GradedCrop:
    """One crop: its file, bone and grade, and the hand it is of (its file's name if unknown).

    The grade is RUS-CHN's, and CHN's for the carpals, which RUS-CHN does not grade. Sex and bone age in
    months are None where they are not known.
    """

    path: Path
    bone: Bone
    grade: int
    hand: str
    sex: Sex | None = None
    bone_age_months: float | None = None


def own_standard(bone: Bone) -> str:
    """Return the standard whose grades a bone is given here: RUS-CHN, or CHN for the carpals."""
    return "chn" if bone in CARPALS else "rus_chn"


def holds_graded_crops(source: Path) -> bool:
    """Return whether data are graded crops and no manifest: any folder, or a CSV with their columns."""
    if not source.is_file():
        return source.is_dir()
    columns = read_table(source)[0][1]
    return {"file", "bone"} <= set(columns) and _grade_column(columns) is not None


def read_graded_crops(source: Path) -> tuple[GradedCrop, ...]:
    """Return the crops of a folder or a CSV, in a fixed order.

    A CSV names files relative to itself, or in a folder `images` beside it; a column `hand` groups crops,
    `sex` and `bone_age_months` say whose they are.

    Raises:
        ConfigError: nothing there, a bone or grade that the standard does not have, an image outside a
            grade's folder, or a file that is missing.
    """
    if source.is_dir():
        crops = _from_folder(source)
    elif source.is_file():
        crops = _from_csv(source)
    else:
        raise ConfigError(f"{source} does not exist; give a folder BONE/GRADE/*.png or a CSV of graded crops")
    if not crops:
        raise ConfigError(f"{source} holds no graded crops; expected images as BONE/GRADE/NAME.png")
    return tuple(crops)


def read_crop(path: Path) -> Radiograph:
    """Return one crop, bone bright, in [0, 1].

    Polarity is corrected as for a whole radiograph: of 1,545 views of bones it mistakes none.

    Raises:
        InputError: the file cannot be read, is a colour photograph, too small, or blank.
    """
    crop = read(path, min_side=MIN_CROP_SIDE)
    low, high = np.percentile(crop.pixels, [0.5, 99.5])
    if high - low < BLANK_RANGE:
        raise UnsupportedImage(f"{path}: the crop is blank (one grey); give a crop that shows the epiphysis")
    return crop


def _from_folder(folder: Path) -> list[GradedCrop]:
    crops: list[GradedCrop] = []
    _refuse_images(folder, folder.name, "BONE/GRADE")
    for bone_folder in _subfolders(folder):
        where = f"{folder.name}/{bone_folder.name}"
        _parsed_bone(bone_folder.name, where)
        _refuse_images(bone_folder, where, "GRADE")
        for grade_folder in _subfolders(bone_folder):
            bone, grade = _checked(bone_folder.name, grade_folder.name, f"{where}/{grade_folder.name}")
            crops += [GradedCrop(file, bone, grade, file.stem) for file in _images(grade_folder)]
    return crops


def _subfolders(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES)


def _refuse_images(folder: Path, where: str, missing: str) -> None:
    """Refuse images that lie above the folders of the grades, where nothing says what they are."""
    if stray := _images(folder):
        raise ConfigError(f"{where}/{stray[0].name} has no grade: move it to {where}/{missing}/")


def _from_csv(path: Path) -> list[GradedCrop]:
    lines = read_table(path)
    columns = lines[0][1]
    grade_column = _grade_column(columns)
    if grade_column is None or not {"file", "bone"} <= set(columns):
        raise ConfigError(f"{path.name} needs the columns file,bone,grade; it has {', '.join(columns)}")
    crops = []
    for number, line in lines:
        where = f"{path.name}, line {number}"
        bone, grade = _checked(line["bone"], line[grade_column], where)
        beside = [path.parent / line["file"], path.parent / "images" / line["file"]]
        found = next((file for file in beside if file.is_file()), None)
        if found is None:
            raise ConfigError(f"{where}: the file {line['file']!r} does not exist; correct its name")
        hand = line.get("hand") or found.stem
        crops.append(GradedCrop(found, bone, grade, hand, *parse_patient(path, number, line)))
    return crops


def _grade_column(columns: Mapping[str, str]) -> str | None:
    return next((name for name in _GRADE_COLUMNS if name in columns), None)


def _checked(bone_name: str, grade_text: str, where: str) -> tuple[Bone, int]:
    """Return the bone and grade that two texts name, or say where they are wrong."""
    bone = _parsed_bone(bone_name, where)
    try:
        grade = standard(own_standard(bone)).parse_grade(bone, grade_text)
    except StandardError as error:
        raise ConfigError(f"{where}: {error}") from error
    if grade != int(grade):
        raise ConfigError(f"{where}: a crop's grade must be whole, not {grade_text}; give the nearest one")
    return bone, int(grade)


def _parsed_bone(name: str, where: str) -> Bone:
    try:
        return parse_bone(name)
    except StandardError as error:
        raise ConfigError(f"{where}: {error}") from error
