"""The challenge's own layouts, as its archives unpack."""

from __future__ import annotations

from pathlib import Path

import pytest

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.challenge import convert_rsna
from boneage.data.manifest import Row, read_manifest, write_manifest


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize("nested", ["", "boneage-training-dataset"])
def test_training_set_flat_and_nested(tmp_path: Path, nested: str) -> None:
    folder = tmp_path / "boneage-training-dataset" / nested
    _touch(folder / "1377.png", folder / "9.png")
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,male\n1377,180,False\n9,12,True\n")
    assert convert_rsna(tmp_path) == (
        Row("9", folder / "9.png", Sex.MALE, 12.0, split="train"),
        Row("1377", folder / "1377.png", Sex.FEMALE, 180.0, split="train"),
    )


def test_validation_set_in_two_folders_inside_one(tmp_path: Path) -> None:
    base = tmp_path / "boneage-validation-dataset"
    _touch(base / "boneage-validation-dataset-1/1386.png", base / "boneage-validation-dataset-2/5.png")
    (base / "Validation Dataset.csv").write_text(
        "Image ID,male,Bone Age (months)\n1386,TRUE,30.5\n5,FALSE,100\n"
    )
    five, other = convert_rsna(tmp_path)
    assert five == Row(
        "5", base / "boneage-validation-dataset-2/5.png", Sex.FEMALE, 100.0, split="validation"
    )
    assert (other.path.parent.name, other.bone_age_months) == ("boneage-validation-dataset-1", 30.5)


def test_all_sets_at_once_keep_their_ids_apart(tmp_path: Path) -> None:
    _touch(*(tmp_path / f"boneage-{part}" / "7.png" for part in ("training-dataset", "validation-dataset-1")))
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,male\n7,60,True\n")
    (tmp_path / "Validation Dataset.csv").write_text("Image ID,male,Bone Age (months)\n7,True,61\n")
    (tmp_path / "boneage-test-dataset.csv").write_text("Case ID,Sex\n4360,M\n")
    rows = convert_rsna(tmp_path)
    assert [(row.id, row.split, row.bone_age_months) for row in rows] == [
        ("train-7", "train", 60.0),
        ("validation-7", "validation", 61.0),
        ("4360", "test", None),
    ]
    assert not rows[2].path.exists(), "a listed image that is missing stays in the manifest"
    write_manifest(tmp_path / "manifest.csv", rows)
    assert read_manifest(tmp_path / "manifest.csv") == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,boneage,male\n7,60,maybe\n", ":2: expected male True or False"),
        ("id,boneage,male\n7,old,True\n", ":2: bone age must be a number"),
        ("id,boneage,male\n7,999,True\n", ":2: bone age must be 0 to 300"),
        ("name,boneage,male\n7,60,True\n", ":1: expected a column named one of id"),
        ("id,boneage,male\n,60,True\n", ":2: the image id is empty"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "boneage-training-dataset.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        convert_rsna(tmp_path)
    assert said in str(caught.value)


def test_an_empty_or_missing_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"boneage-training-dataset\.csv"):
        convert_rsna(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        convert_rsna(tmp_path / "none")


def test_a_folder_with_labels_is_taken_as_it_is(shared_data: Path) -> None:
    assert convert_rsna(shared_data / "rsna") == read_manifest(shared_data / "rsna" / "labels.csv")
