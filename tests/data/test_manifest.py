"""Manifests as people write them, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from boneage.core.errors import ConfigError, DeliveryError
from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest, write_manifest


def _csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_reads_every_column_and_resolves_paths_from_the_csv(tmp_path: Path) -> None:
    source = _csv(
        tmp_path,
        "id,path,sex,bone_age_months,chronological_age_months,patient_id,split\n"
        "a1,images/x.png,F,124,120.5,p7,train\n",
    )
    assert read_manifest(source) == (
        Row("a1", tmp_path / "images/x.png", Sex.FEMALE, 124.0, 120.5, "p7", "train"),
    )


def test_reads_bom_quotes_crlf_spaces_and_blank_lines(tmp_path: Path) -> None:
    source = _csv(tmp_path, 'path, sex\r\n"a, b.png",male\r\n\r\n ../c.png , m\r\n', "utf-8-sig")
    first, second = read_manifest(source)
    assert (first.path, first.sex) == (tmp_path / "a, b.png", Sex.MALE)
    assert (second.path, second.sex) == (tmp_path.parent / "c.png", Sex.MALE)


def test_keeps_absolute_paths_and_missing_files(tmp_path: Path) -> None:
    source = _csv(tmp_path, "path\n/nowhere/at/all.png\n")
    assert read_manifest(source) == (Row("all", Path("/nowhere/at/all.png")),)


@pytest.mark.parametrize(("male", "sex"), [("True", Sex.MALE), ("false", Sex.FEMALE), ("", None)])
def test_reads_the_challenge_column_male(tmp_path: Path, male: str, sex: Sex | None) -> None:
    assert read_manifest(_csv(tmp_path, f"path,male\nx.png,{male}\n"))[0].sex is sex


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one row"),
        ("path,sex\n", "at least one row"),
        ("file,sex\nx.png,F\n", ":1: a manifest needs a column 'path', found only: file, sex"),
        ("path,path\nx.png,y.png\n", ":1: the column 'path' is there twice"),
        ("path,sex\nx.png,F\ny.png,boy\n", ":3: sex must be 'female' or 'male' (or F, M), not 'boy'"),
        ("path,male\nx.png,perhaps\n", ":2: male must be True or False, not 'perhaps'"),
        (
            "path,bone_age_months\nx.png,ten\n",
            ":2: bone_age_months must be a number of months from 0 to 300, not 'ten'",
        ),
        ("path,bone_age_months\nx.png,-1\n", ":2: bone_age_months must be"),
        ("path,bone_age_months\nx.png,301\n", ":2: bone_age_months must be"),
        ("path,bone_age_months\nx.png,nan\n", ":2: bone_age_months must be"),
        ("path,chronological_age_months\nx.png,1e9\n", ":2: chronological_age_months must be"),
        ("id,path\n7,x.png\n8,y.png\n7,z.png\n", ":4: the id is that of line 2 too"),
        ("path\na/x.png\nb/x.png\n", ":3: the id is that of line 2 too"),
        ("path,sex\nx,y.png,F\n", ":2: 3 cells under 2 columns"),
        ("path,sex\n,F\n", ":2: the path is empty"),
        ('path,sex\n"x.png,F\n', "not a CSV line"),
    ],
)
def test_says_in_one_line_what_is_wrong_and_where(tmp_path: Path, text: str, said: str) -> None:
    source = _csv(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_manifest(source)
    message = str(caught.value)
    assert message.startswith(str(source))
    assert said in message
    assert "\n" not in message
    assert ";" in message, "a remedy follows the reason"


def test_refuses_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_manifest(tmp_path / "image.csv")


def test_reads_a_folder_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/er/a.dcm", "notes.txt", ".hidden/x.png", "twin.png", "twin.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    rows = read_manifest(tmp_path)
    assert [row.id for row in rows] == ["a", "b", "deep/er/a", "twin.jpg", "twin.png"]
    assert all(row.sex is None and row.path.is_file() for row in rows)


def test_refuses_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found none"):
        read_manifest(tmp_path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = (
        Row("1", tmp_path / "images" / "ü, 1.png", Sex.MALE, 12.25, None, "p", "train"),
        Row("2", tmp_path / "x.png", None, 228.0),
        Row("3", Path("/elsewhere/y.png"), Sex.FEMALE),
    )
    write_manifest(tmp_path / "new" / "m.csv", rows)
    assert read_manifest(tmp_path / "new" / "m.csv") == rows
    written = (tmp_path / "new" / "m.csv").read_text("utf-8")
    assert '"../images/ü, 1.png",male,12.25,' in written
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.csv"], "no draft is left"


def test_writing_where_nothing_can_be_written_is_a_delivery_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match="cannot be written"):
        write_manifest(tmp_path / "file" / "m.csv", [])


def test_reads_the_real_manifest(shared_data: Path) -> None:
    rows = read_manifest(shared_data / "rsna" / "labels.csv")
    ages = [row.bone_age_months for row in rows if row.bone_age_months is not None]
    assert len(rows) == len(ages) == 1226
    assert sum(row.sex is Sex.FEMALE for row in rows) == 572
    assert (min(ages), max(ages)) == (12.0, 228.0)
    assert all(row.path.is_file() for row in rows)
