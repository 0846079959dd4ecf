"""Graded crops: folders and CSV files read alike, and every wrong name said where it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from boneage.core.errors import ConfigError, InputError, NotAHand, UnreadableImage, UnsupportedImage
from boneage.data.graded_crops import (
    MIN_CROP_SIDE,
    GradedCrop,
    holds_graded_crops,
    own_standard,
    read_crop,
    read_graded_crops,
)
from boneage.standards.names import RUS, Bone


def image(side: int = 72) -> np.ndarray:
    """A bright bone across a darker field."""
    pixels = np.full((side, side), 60, np.uint8)
    cv2.line(pixels, (side // 2, 0), (side // 2, side), 200, max(2, side // 3))
    return pixels


def save(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image() if pixels is None else pixels)
    return path


def table(folder: Path, *lines: str, head: str = "file,bone,grade") -> Path:
    path = folder / "crops.csv"
    path.write_text("\n".join((head, *lines)) + "\n")
    return path


def test_a_folder_is_read_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("Radius/7/b.png", "Radius/7/a.JPG", "MCPFirst/11/c.png", "Capitate/3/d.png"):
        save(tmp_path / name)
    (tmp_path / "Radius" / "7" / "notes.txt").write_text("no image")
    (tmp_path / ".cache" / "1").mkdir(parents=True)
    (tmp_path / "Radius" / "0").mkdir()
    assert holds_graded_crops(tmp_path)
    assert read_graded_crops(tmp_path) == (
        GradedCrop(tmp_path / "Capitate/3/d.png", Bone.CAPITATE, 3, "d"),
        GradedCrop(tmp_path / "MCPFirst/11/c.png", Bone.MC1, 11, "c"),
        GradedCrop(tmp_path / "Radius/7/a.JPG", Bone.RADIUS, 7, "a"),
        GradedCrop(tmp_path / "Radius/7/b.png", Bone.RADIUS, 7, "b"),
    )


@pytest.mark.parametrize("column", ["grade", "rus_chn_grade"])
def test_a_csv_names_files_beside_it_or_in_images(tmp_path: Path, column: str) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "images" / "b.png")
    source = table(tmp_path, "a.png,radius, 7 ,h1", "b.png,hamate,8,", head=f"file,bone,{column},hand")
    assert holds_graded_crops(source)
    first, second = read_graded_crops(source)
    assert (first.bone, first.grade, first.hand) == (Bone.RADIUS, 7, "h1")
    assert (second.bone, second.grade, second.hand) == (Bone.HAMATE, 8, "b")


def test_a_manifest_is_not_taken_for_graded_crops(tmp_path: Path) -> None:
    assert not holds_graded_crops(table(tmp_path, "a.png,f,100", head="path,sex,bone_age_months"))
    assert not holds_graded_crops(tmp_path / "absent")


def test_carpals_are_graded_by_chn_and_all_others_by_rus_chn() -> None:
    assert {bone for bone in Bone if own_standard(bone) == "rus_chn"} == set(RUS)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Femur/3/a.png"], r"Femur: no bone is called 'Femur'"),
        (["Radius/15/a.png"], r"Radius/15: .* from 0 to 14, not 15"),
        (["Radius/-1/a.png"], r"Radius/-1: .* from 0 to 14"),
        (["Radius/seven/a.png"], r"Radius/seven: .*no grade 'seven'"),
        (["Radius/nan/a.png"], r"Radius/nan: .*not nan"),
        (["Radius/5.5/a.png"], r"Radius/5\.5: .*whole, not 5\.5"),
        (["Capitate/8/a.png"], r"Capitate/8: .*from 0 to 7"),
        (["Radius/a.png"], r"Radius/a\.png has no grade: move it to .*Radius/GRADE/"),
        (["a.png"], r"a\.png has no grade: move it to .*BONE/GRADE/"),
        ([], r"holds no graded crops; expected images as BONE/GRADE/NAME\.png"),
    ],
)
def test_a_wrong_folder_is_said(tmp_path: Path, names: list[str], said: str) -> None:
    for name in names:
        save(tmp_path / name)
    with pytest.raises(ConfigError, match=said):
        read_graded_crops(tmp_path)


@pytest.mark.parametrize("name", ["Femur", "Radius/99"])
def test_a_wrong_folder_is_said_even_if_it_is_empty(tmp_path: Path, name: str) -> None:
    save(tmp_path / "Ulna/3/a.png")
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=name):
        read_graded_crops(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.png,toe,3", r"crops\.csv, line 2: no bone is called 'toe'"),
        ("a.png,,3", "line 2: no bone is called ''"),
        ("a.png,radius,15", "line 2: .*from 0 to 14, not 15"),
        ("a.png,radius", "line 2: .*no grade ''"),
        ("a.png,capitate,9", "line 2: .*from 0 to 7, not 9"),
        ("b.png,radius,3", r"line 2: the file 'b\.png' does not exist"),
        (",radius,3", "line 2: the file '' does not exist"),
        ("a.png,radius,3,4", "4 cells under 3 columns"),
    ],
)
def test_a_wrong_line_is_said_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=said):
        read_graded_crops(table(tmp_path, line))


def test_a_csv_without_the_columns_or_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the columns file,bone,grade; it has file, bone"):
        read_graded_crops(table(tmp_path, "a.png,radius", head="file,bone"))
    with pytest.raises(ConfigError, match="the file has none"):
        read_graded_crops(table(tmp_path))
    with pytest.raises(ConfigError, match="absent does not exist; give a folder"):
        read_graded_crops(tmp_path / "absent")


def write_text(path: Path) -> Path:
    path.write_text("no image")
    return path


def write_cut(path: Path) -> Path:
    data = save(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def coloured(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    return save(path, noise)


def blank(path: Path) -> Path:
    return save(path, np.full((80, 80), 90, np.uint8))


def speck(path: Path) -> Path:
    return save(path, image(MIN_CROP_SIDE - 1))


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (write_text, UnreadableImage, "no image by its content"),
        (write_cut, UnreadableImage, "ends early or is damaged"),
        (coloured, NotAHand, "colour photograph"),
        (blank, UnsupportedImage, "the crop is blank"),
        (speck, UnsupportedImage, f"at least {MIN_CROP_SIDE} px"),
        (lambda path: path, UnreadableImage, "no such file"),
    ],
)
def test_a_crop_that_cannot_be_read_is_said_with_its_file(
    tmp_path: Path, make: Callable[[Path], Path], kind: type[InputError], said: str
) -> None:
    path = make(tmp_path / "crop.png")
    with pytest.raises(kind, match=rf"crop\.png: .*{said}"):
        read_crop(path)


def test_a_crop_may_be_smaller_than_a_radiograph(tmp_path: Path) -> None:
    assert read_crop(save(tmp_path / "a.png", image(MIN_CROP_SIDE))).shape == (MIN_CROP_SIDE,) * 2


def test_real_crops_are_read_as_stored_bone_bright(shared_data: Path) -> None:
    crops = read_graded_crops(shared_data / "joints" / "labels.csv")
    assert len(crops) == 52 and {crop.bone for crop in crops} == set(RUS)
    assert len({crop.hand for crop in crops}) == 4
    for crop in crops:
        read = read_crop(crop.path)
        assert not read.warnings and "polarity" not in read.provenance
