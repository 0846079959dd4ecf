"""The atlas: what is written is read, what is damaged is refused, and the shipped one shows no child."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from boneage.anatomy.mean_hands import MAX_WEIGHT, MIN_EFFECTIVE, PLATE_SHAPE, MeanHand
from boneage.core.errors import BundleError, ChecksumMismatch, ConfigError, DeliveryError, Incompatible
from boneage.core.types import Sex
from boneage.inference.atlas import SHIPPED, Atlas, write_atlas


def plate(sex: Sex, age_months: int, effective: float = 20.0, largest: float = 0.1) -> MeanHand:
    image = np.random.default_rng(age_months).integers(0, 255, (40, 30)).astype(np.uint8)
    return MeanHand(sex, age_months, image, 25, effective, largest, age_months + 0.5, 6.0)


PLATES = [plate(Sex.FEMALE, 60), plate(Sex.FEMALE, 72), plate(Sex.MALE, 120)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_atlas(tmp_path / "atlas", PLATES, {"images": 3})
    return tmp_path / "atlas"


def test_what_is_written_is_read(folder: Path) -> None:
    atlas = Atlas.load(folder)
    assert [(read.sex, read.age_months) for read in atlas.plates] == [(p.sex, p.age_months) for p in PLATES]
    for read, written in zip(atlas.plates, PLATES, strict=True):
        np.testing.assert_array_equal(read.image, written.image)
        assert (read.hands, read.children_effective) == (written.hands, written.children_effective)
        assert (read.largest_weight, read.sigma_months) == (written.largest_weight, written.sigma_months)
        assert read.mean_age_months == written.mean_age_months
    assert atlas.record["data"] == {"images": 3}
    assert atlas.record["largest_weight_allowed"] == MAX_WEIGHT


def test_the_same_plates_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_atlas(tmp_path / "again", PLATES, {"images": 3})
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("sex", "age_months", "expected"),
    [(Sex.FEMALE, 61.0, 60), (Sex.FEMALE, 66.0, 60), (Sex.FEMALE, 200.0, 72), (Sex.MALE, 0.0, 120)],
)
def test_the_nearest_plate_is_of_the_same_sex(
    folder: Path, sex: Sex, age_months: float, expected: int
) -> None:
    found = Atlas.load(folder).near(sex, age_months)
    assert (found.sex, found.age_months) == (sex, expected)


def test_no_plate_of_a_sex_and_no_age_are_said(tmp_path: Path) -> None:
    atlas = write_atlas(tmp_path / "girls", PLATES[:2], {})
    with pytest.raises(ConfigError, match="no plate for male"):
        atlas.near(Sex.MALE, 60)
    with pytest.raises(ConfigError, match="not by nan"):
        atlas.near(Sex.FEMALE, float("nan"))


@pytest.mark.parametrize(("effective", "largest"), [(14.9, 0.1), (20.0, 0.16), (float("nan"), 0.1)])
def test_a_plate_that_shows_a_child_is_not_written(tmp_path: Path, effective: float, largest: float) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        write_atlas(tmp_path / "atlas", [plate(Sex.MALE, 60, effective, largest)], {})
    assert list(tmp_path.iterdir()) == []


def test_another_atlas_is_not_overwritten(folder: Path) -> None:
    before = (folder / "atlas.json").read_bytes()
    with pytest.raises(ConfigError, match="holds another atlas"):
        write_atlas(folder, PLATES[:1], {})
    assert (folder / "atlas.json").read_bytes() == before


def test_a_folder_with_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_atlas(tmp_path, PLATES, {})
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_atlas(tmp_path / "note.txt", PLATES, {})


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match="cannot write the atlas"):
        write_atlas(tmp_path / "file" / "atlas", PLATES, {})


def test_a_damaged_image_is_refused(folder: Path) -> None:
    path = folder / "female_060.webp"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumMismatch, match=r"female_060\.webp is not what atlas\.json names"):
        Atlas.load(folder)


def test_a_missing_image_is_refused(folder: Path) -> None:
    (folder / "male_120.webp").unlink()
    with pytest.raises(ChecksumMismatch, match=r"male_120\.webp is missing"):
        Atlas.load(folder)


def changed(folder: Path, **values: object) -> None:
    record = json.loads((folder / "atlas.json").read_text())
    (folder / "atlas.json").write_text(json.dumps({**record, **values}))


def test_a_record_that_cannot_be_understood_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no atlas at"):
        Atlas.load(tmp_path / "nowhere")
    changed(folder, plates=[{"file": "male_120.webp"}])
    with pytest.raises(BundleError, match="does not describe its plates"):
        Atlas.load(folder)
    changed(folder, schema=99)
    with pytest.raises(Incompatible, match="schema is 99"):
        Atlas.load(folder)
    (folder / "atlas.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        Atlas.load(folder)


def test_the_shipped_atlas_shows_no_child_and_covers_the_school_years() -> None:
    atlas = Atlas.load()
    for shipped in atlas.plates:
        assert shipped.image.shape == PLATE_SHAPE
        assert shipped.largest_weight <= MAX_WEIGHT
        assert shipped.children_effective >= MIN_EFFECTIVE
        assert 60 < np.percentile(shipped.image[shipped.image > 0], 50) < 200
    for sex in Sex:
        ages = {shipped.age_months for shipped in atlas.plates if shipped.sex is sex}
        assert set(range(72, 163, 6)) <= ages
        assert atlas.near(sex, 100.0).age_months == 102
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 3_000_000
