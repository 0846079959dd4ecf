"""Radius crops and their grades: folders, tables and manifests, folds by hand, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.core.errors import ConfigError, InputError, NotAHand, UnsupportedImage
from boneage.core.types import Affine, Hand, Radiograph, Sex
from boneage.recipes.radius_subgrades import crops as module
from boneage.recipes.radius_subgrades.config import (
    GradesConfig,
    InputConfig,
    NetworkConfig,
    Recipe,
    ScheduleConfig,
)
from boneage.recipes.radius_subgrades.crops import (
    RADIUS,
    SEXES,
    STANDARD,
    RadiusCrops,
    read_bones,
    read_crops,
)
from boneage.recipes.radius_subgrades.frames import PATCH_SIDE
from boneage.standards.names import CHN, Bone
from boneage.standards.scoring import age_curve, score_table

Locate = Callable[[Radiograph], Hand]
PAIRS = ((5, 6), (6, 7))


def recipe_of(folds: int = 3, **grades: object) -> Recipe:
    return Recipe(
        InputConfig(32),
        NetworkConfig(components=4, hidden=(8,), features=2),
        ScheduleConfig(1, 1, 8, 1e-3, folds=folds, threads=1),
        GradesConfig(**grades),  # type: ignore[arg-type]
    )


def draw(path: Path, seed: int, shape: tuple[int, int] = (90, 80), bright: int = 160) -> Path:
    """Write a bar over a shaft, as an epiphysis lies over its metaphysis."""
    height, width = shape
    pixels = np.random.default_rng(seed).integers(20, 50, shape).astype(np.uint8)
    pixels[height // 3 : height // 2, width // 4 : -width // 4] += bright
    pixels[int(0.6 * height) :, width // 3 : -width // 3] += bright - 20
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def forget(text: str) -> None:
    """A report that nothing is expected to be told to."""
    raise AssertionError(text)


def read_now(source: Path, recipe: Recipe, folder: Path, locate: Locate | None = None) -> RadiusCrops:
    return read_crops(source, recipe, folder, locate, forget)


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


# Graded crops


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three crops each of three grades, each of another size; another grade and bone besides."""
    for grade in (5, 6, 7):
        for number in range(3):
            shape = (60 + 40 * number, 80 + 25 * grade)
            draw(tmp_path / "crops" / "radius" / str(grade) / f"g{grade}n{number}.png", grade, shape)
    draw(tmp_path / "crops" / "Radius" / "3" / "young.png", 1)
    draw(tmp_path / "crops" / "mc1" / "5" / "thumb.png", 2)
    return tmp_path / "crops"


def test_a_folder_of_radii_is_read_whatever_the_crops_sizes(folder: Path) -> None:
    found = read_now(folder, recipe_of(pairs=PAIRS), folder)
    assert len(found) == 9 and sorted(found.ids) == [f"g{g}n{n}" for g in (5, 6, 7) for n in range(3)]
    assert [int(name[1]) for name in found.ids] == found.grades.tolist()  # others are left out
    assert found.patches.shape == (9, PATCH_SIDE, PATCH_SIDE) and found.patches.dtype == np.uint8
    assert all(np.ptp(patch) > 200 for patch in found.patches)
    assert {SEXES[place] for place in found.sexes} == {None} and np.isnan(found.ages).all()
    assert set(found.folds.tolist()) == {0, 1, 2}
    pair = read_now(folder, recipe_of(pairs=((5, 6),)), folder)
    assert set(pair.grades.tolist()) == {5, 6}


def test_a_table_of_crops_says_sex_and_age_and_keeps_a_hand_in_one_fold(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "file": draw(tmp_path / "images" / f"{index}.png", index).name,
            "bone": "radius",
            "grade": 5 + index % 2,
            "hand": f"hand{index // 3}",
            "sex": "FM"[index // 3 % 2] if index < 15 else "",
            "bone_age_months": 100 + index if index else "",
        }
        for index in range(18)
    ]
    found = read_now(write_csv(tmp_path / "crops.csv", rows), recipe_of(pairs=((5, 6),)), tmp_path)
    assert found.ids == tuple(row["hand"] for row in rows)
    assert np.isnan(found.ages[0]) and found.ages[1:].tolist() == [100 + n for n in range(1, 18)]
    sexes = [SEXES[place] for place in found.sexes]
    assert sexes == [Sex.FEMALE, Sex.FEMALE, Sex.FEMALE, Sex.MALE, Sex.MALE, Sex.MALE] * 2 + [
        *[Sex.FEMALE] * 3,
        *[None] * 3,
    ]
    for hand in set(found.ids):
        assert len({int(f) for name, f in zip(found.ids, found.folds, strict=True) if name == hand}) == 1
    assert set(found.folds.tolist()) == {0, 1, 2}
    assert found.of(Sex.MALE).tolist() == [sex is Sex.MALE for sex in sexes]


def test_grades_of_rus_chn_become_chns(tmp_path: Path) -> None:
    for grade in (5, 6, 7, 8, 9):
        draw(tmp_path / "crops" / "radius" / str(grade) / f"{grade}.png", grade)
    found = read_now(tmp_path / "crops", recipe_of(pairs=PAIRS, given="rus_chn"), tmp_path)
    told = {int(name): int(grade) for name, grade in zip(found.ids, found.grades, strict=True)}
    assert told == {5: 5, 6: 5, 7: 6, 8: 7, 9: 7}


def test_a_grade_that_chn_does_not_have_is_refused(tmp_path: Path) -> None:
    for grade in (5, 6, 12):
        draw(tmp_path / "crops" / "radius" / str(grade) / f"{grade}.png", grade)
    with pytest.raises(ConfigError, match=r"chn grades the radius from 0 to 10, not 12: see grades\.given"):
        read_now(tmp_path / "crops", recipe_of(pairs=((5, 6),)), tmp_path)
    with pytest.raises(ConfigError, match=r"grades the radius from 0 to 14, not 15"):
        draw(tmp_path / "crops" / "radius" / "15" / "x.png", 0)
        read_now(tmp_path / "crops", recipe_of(given="rus_chn"), tmp_path)


def test_a_column_of_rus_chn_grades_is_not_taken_for_chns(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"file": draw(tmp_path / f"{n}.png", n).name, "bone": "radius", "rus_chn_grade": 5 + 2 * (n % 2)}
        for n in range(6)
    ]
    table = write_csv(tmp_path / "crops.csv", rows)
    with pytest.raises(ConfigError, match=r"has RUS-CHN grades: give --set grades\.given=rus_chn"):
        read_now(table, recipe_of(), tmp_path)
    found = read_now(table, recipe_of(given="rus_chn", pairs=((5, 6),)), tmp_path)
    assert found.grades.tolist() == [5, 6] * 3  # RUS-CHN's 7 is CHN's 6


def test_one_grade_of_a_pair_alone_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no radius of CHN grade 8 \(it has 3, 5, 6, 7\): give crops of"):
        read_now(folder, recipe_of(pairs=((7, 8),)), folder)


def test_crops_of_other_bones_alone_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "crops" / "mc1" / "5" / "thumb.png", 2)
    with pytest.raises(ConfigError, match="crops has no crops of the radius: give radius/GRADE"):
        read_now(tmp_path / "crops", recipe_of(), tmp_path)


def test_a_blank_crop_and_one_that_is_no_image_are_refused(folder: Path) -> None:
    blank = folder / "radius" / "5" / "blank.png"
    assert cv2.imwrite(str(blank), np.full((80, 80), 90, np.uint8))
    with pytest.raises(UnsupportedImage, match=r"blank\.png: the crop is blank"):
        read_now(folder, recipe_of(), folder)
    blank.write_text("no image")
    with pytest.raises(InputError, match=r"blank\.png"):
        read_now(folder, recipe_of(), folder)


def test_fewer_hands_than_folds_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="expected at least 30 patients, got 10; use fewer folds"):
        read_now(folder, recipe_of(folds=30), folder)


# A manifest


def manifest_of(
    folder: Path, ages: Sequence[float | None], sexes: Sequence[str] = ("F", "M"), *, images: bool = False
) -> Path:
    """A manifest whose images need not exist, since `patches_of` stands for them."""
    folder.mkdir(parents=True, exist_ok=True)
    if images:
        for index in range(len(ages)):
            draw(folder / f"h{index}.png", index, (300, 260))
    return write_csv(
        folder / "manifest.csv",
        [
            {
                "id": f"h{index}",
                "path": f"h{index}.png",
                "sex": sexes[index % len(sexes)],
                "bone_age_months": "" if age is None else age,
            }
            for index, age in enumerate(ages)
        ],
    )


def patches_of(folder: Path, count: int, prefix: str = "h") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(0).integers(0, 255, (count, PATCH_SIDE, PATCH_SIDE)).astype(np.uint8)
    np.savez(folder / "patches.npz", ids=[f"{prefix}{index}" for index in range(count)], patches=patches)
    return folder


def hand_at(x: float, y: float, length: float = 200.0) -> Hand:
    """An upright hand whose radius lies at a place; `length` is its wrist to the knuckle, pixels."""
    to_upright = Affine(np.array([[1 / length, 0, -x / length], [0, 1 / length, -y / length]]))
    return Hand(
        (0, 0, 260, 300),
        to_upright,
        (-1.0, -2.0, 1.0, 0.5),
        None,
        np.zeros((4, 2), np.float32),
        {"wrist": (x, y)},
        1.0,
        "fast",
        epiphyses_px={"radius": (x, y)},
    )


AGES = [100.0 + 8 * index for index in range(12)]


def test_a_manifests_radii_are_cut_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def locate(radiograph: Radiograph) -> Hand:
        calls.append(Path(radiograph.path).stem)
        return hand_at(130, 140)

    data, wide = manifest_of(tmp_path / "data", AGES, images=True), recipe_of(pairs=PAIRS)
    first = read_now(data, wide, tmp_path / "run", locate)
    assert calls == [f"h{index}" for index in range(12)]
    assert first.patches.shape[1:] == (PATCH_SIDE, PATCH_SIDE)
    again = read_now(data, wide, tmp_path / "run")  # nothing is located: None would fail
    assert len(calls) == 12 and again.ids == first.ids
    np.testing.assert_array_equal(again.patches, first.patches)
    np.testing.assert_array_equal(again.folds, first.folds)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["patches.npz"]
    places = [int(name[1:]) for name in first.ids]
    assert first.ages.tolist() == [AGES[place] for place in places]
    assert [SEXES[place] for place in first.sexes] == [list(Sex)[place % 2] for place in places]


def test_hands_that_cannot_be_read_are_left_out_and_said(tmp_path: Path) -> None:
    data = manifest_of(tmp_path / "data", AGES, images=True)
    (tmp_path / "data" / "h3.png").write_text("no image")
    (tmp_path / "data" / "h4.png").unlink()

    def locate(radiograph: Radiograph) -> Hand:
        name = Path(radiograph.path).stem
        if name == "h5":
            raise NotAHand("no hand here")
        return hand_at(130, 400 if name == "h6" else 140)

    told: list[str] = []
    read_crops(data, recipe_of(pairs=PAIRS), tmp_path / "run", locate, told.append)
    assert len(told) == 4 and all(text.startswith("left out: ") for text in told)
    assert [name in text for name, text in zip(("h3", "h4", "h5", "h6"), told, strict=True)] == [True] * 4
    assert "no hand here" in told[2] and "the radius is not in the image" in told[3]
    with np.load(tmp_path / "run" / "patches.npz") as saved:
        assert saved["ids"].tolist() == [f"h{n}" for n in (0, 1, 2, 7, 8, 9, 10, 11)]
        assert len(saved["patches"]) == 8


def test_a_manifest_of_which_nothing_can_be_read_is_refused_and_tried_again(tmp_path: Path) -> None:
    data = manifest_of(tmp_path / "data", AGES)
    told: list[str] = []
    for _ in range(2):
        with pytest.raises(ConfigError, match="no radius was found in any image: see the reasons above"):
            read_crops(data, recipe_of(), tmp_path / "run", lambda _: hand_at(9, 9), told.append)
    assert len(told) == 2 * len(AGES)


def test_images_without_sex_or_age_are_left_out_and_said(tmp_path: Path) -> None:
    ages = [None, *AGES]
    data, run = manifest_of(tmp_path, ages, ("F", "M", "")), patches_of(tmp_path / "run", 0)
    told: list[str] = []
    with pytest.raises(ConfigError, match="no radius of CHN grade"):
        read_crops(data, recipe_of(), run, None, told.append)
    assert told == ["left out: 5 images without sex or bone age"]  # one has no age, four no sex


def test_a_manifest_needs_labels_and_a_localiser(tmp_path: Path) -> None:
    data = manifest_of(tmp_path, AGES)
    with pytest.raises(ConfigError, match="a manifest needs a hand localiser"):
        read_now(data, recipe_of(), tmp_path / "run")
    data = manifest_of(tmp_path, [None] * 4)
    with pytest.raises(ConfigError, match=r"manifest\.csv has no image with sex and bone age"):
        read_now(data, recipe_of(), tmp_path / "run")


def test_patches_of_another_manifest_are_refused(tmp_path: Path) -> None:
    data, run = manifest_of(tmp_path, AGES), patches_of(tmp_path / "run", 3, "other")
    with pytest.raises(ConfigError, match=r"of another manifest \(it has 'other0'\): begin with another"):
        read_now(data, recipe_of(), run)


# Windows of bone age


def test_windows_of_bone_age_rise_with_it_and_follow_chns_scores(tmp_path: Path) -> None:
    ages = [30.0 + index // 2 for index in range(360)]  # every month for both sexes
    recipe = recipe_of(pairs=((3, 4), (4, 5), (5, 6), (6, 7), (7, 8)))
    found = read_now(manifest_of(tmp_path, ages), recipe, patches_of(tmp_path / "run", 360))
    assert set(found.grades.tolist()) == {3, 4, 5, 6, 7, 8}
    for sex in Sex:
        mine = found.of(sex)
        assert mine.any() and (np.diff(found.ages[mine]) > 0).all()
        assert (np.diff(found.grades[mine]) >= 0).all()
        totals, months = age_curve(STANDARD, sex)
        bones, table = score_table(STANDARD, sex)
        own = table[bones.index(RADIUS)]
        shares = own[~np.isnan(own)] / np.nanmax(own)
        at_age = np.interp(found.ages[mine], months, totals) / totals[-1]
        nearest = np.abs(at_age[:, None] - shares).argmin(axis=1)
        assert (nearest == found.grades[mine]).mean() > 0.98  # all but ages on a border


def test_girls_reach_a_grade_before_boys(tmp_path: Path) -> None:
    ages = [60.0 + index // 2 for index in range(260)]
    found = read_now(manifest_of(tmp_path, ages), recipe_of(pairs=PAIRS), patches_of(tmp_path / "run", 260))
    for grade in (5, 6, 7):
        girls, boys = (found.ages[found.of(sex) & (found.grades == grade)] for sex in Sex)
        assert girls.mean() < boys.mean() - 6


# Tables of grades


def graded(
    tmp_path: Path, rows: Sequence[dict[str, object]], count: int = 6, given: str = "chn"
) -> tuple[RadiusCrops, NDArray[np.int64]]:
    """Read six hands with a table of grades."""
    table = write_csv(tmp_path / "grades.csv", rows)
    recipe = recipe_of(folds=2, pairs=((5, 6),), table=str(table), given=given)
    data, run = manifest_of(tmp_path, [120.0 + n for n in range(count)]), patches_of(tmp_path / "run", count)
    found = read_now(data, recipe, run)
    return found, found.grades


def test_a_table_has_a_column_a_bone_or_a_line_a_bone(tmp_path: Path) -> None:
    grades = {"h0": 5, "h1": 6, "h2": 5, "h3": 7, "h9": 6}
    wide: list[dict[str, object]] = [
        {"id": name, "ulna": 9, "radius": grade, "note": "x"} for name, grade in grades.items()
    ]
    wide.append({"id": "h4", "ulna": 3, "radius": "", "note": ""})
    found, own = graded(tmp_path, wide)
    assert dict(zip(found.ids, own.tolist(), strict=True)) == {"h0": 5, "h1": 6, "h2": 5}
    long: list[dict[str, object]] = []
    for name, grade in grades.items():
        long += [
            {"id": name, "bone": "Radius", "grade": grade, "confidence": 0.9},
            {"id": name, "bone": "ulna", "grade": 1, "confidence": 0.9},
        ]
    again, same = graded(tmp_path, long)
    assert again.ids == found.ids and same.tolist() == own.tolist()


def test_a_tables_rus_chn_grades_become_chns(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": f"h{n}", "radius": 5 + n} for n in range(6)]
    found, own = graded(tmp_path, rows, given="rus_chn")  # 5 to 10 are CHN's 5, 5, 6, 7, 7, 8
    assert dict(zip(found.ids, own.tolist(), strict=True)) == {"h0": 5, "h1": 5, "h2": 6}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "other", "radius": 5}], r"grades\.csv grades none of the manifest's radii: its ids must"),
        ([{"id": "h0", "ulna": 5}], "grades none of the manifest's radii"),
        ([{"name": "h0", "radius": 5}], r"grades\.csv:1: expected the columns id,radius or id,bone,grade"),
        ([{"id": "h0", "age": 5}], "expected the columns id,radius or id,bone,grade, not id, age"),
        ([{"id": "h0", "radius": 5}, {"id": "h1", "radius": "5.5"}], r":3: grade must be .*not '5\.5'"),
        ([{"id": "h0", "radius": "-1"}], r":2: grade must be a whole number from 0, not '-1'"),
        ([{"id": "h0", "bone": "radius", "grade": "six"}], r":2: grade must be .*not 'six'; correct it"),
        ([{"id": "h0", "radius": 11}], r"chn grades the radius from 0 to 10, not 11: see grades\.given"),
        ([{"id": "h0", "radius": 5}], r"no radius of CHN grade 6 \(it has 5\)"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, rows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        graded(tmp_path, rows)


def test_a_table_that_is_missing_is_refused(tmp_path: Path) -> None:
    data, run = manifest_of(tmp_path, AGES), patches_of(tmp_path / "run", len(AGES))
    with pytest.raises(ConfigError, match=r"none\.csv: no such file"):
        read_now(data, recipe_of(table=str(tmp_path / "none.csv")), run)


def test_all_bones_of_a_table_are_chns(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "h0", "bone": bone, "grade": 7 if bone is RADIUS else 3} for bone in Bone
    ]
    table = write_csv(tmp_path / "grades.csv", rows)
    found = read_bones(table, "rus_chn")["h0"]
    assert set(found) == set(CHN)  # CHN does not grade the ulna
    assert found[RADIUS] == 6 and found[Bone.CAPITATE] == found[Bone.HAMATE] == 3
    own = read_bones(table, "chn")["h0"]
    assert own[RADIUS] == 7 and own[Bone.HAMATE] == 3


# Crops as values


def test_of_a_hand_with_several_crops_one_is_the_first(folder: Path) -> None:
    found = read_now(folder, recipe_of(pairs=PAIRS), folder)
    assert found.first_of_hands().all()
    again = replace(found, ids=("b", "a", "b", "c", "a", "a", "d", "c", "e"))
    assert np.flatnonzero(again.first_of_hands()).tolist() == [0, 1, 3, 6, 8]


def test_crops_are_taken_with_all_that_is_known_of_them(folder: Path) -> None:
    found = read_now(folder, recipe_of(pairs=PAIRS), folder)
    wanted = found.grades == 6
    own = found.take(wanted)
    assert len(own) == 3 and set(own.grades.tolist()) == {6}
    assert own.ids == tuple(name for name in found.ids if name.startswith("g6"))
    np.testing.assert_array_equal(own.patches, found.patches[wanted])
    np.testing.assert_array_equal(own.folds, found.folds[wanted])
    assert len(own.take(np.zeros(3, dtype=bool))) == 0


def test_folds_depend_on_the_seed(folder: Path) -> None:
    plain = recipe_of(pairs=PAIRS)
    other = replace(plain, schedule=replace(plain.schedule, seed=1))
    found = [read_now(folder, recipe, folder).folds for recipe in (plain, plain, other)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_the_sexes_have_a_place_each() -> None:
    assert module.SEXES == (Sex.FEMALE, Sex.MALE, None)
