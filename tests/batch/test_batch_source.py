"""Lists of images as people write them: what is taken, and what is refused before any work."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from boneage.batch import source
from boneage.batch.source import Listing, Task
from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest


def tasks_of(location: Path | str, within: str | None = None, sex: Sex | None = None) -> list[Task]:
    with closing(Listing(source.at(str(location), within), "salt", sex)) as listing:
        return list(listing.tasks())


def test_a_csv_and_a_parquet_file_say_the_same(tmp_path: Path) -> None:
    text = "id,path,male,chronological_age_months\n007,a.png,True,120.5\n8,b.png,,\n"
    (tmp_path / "m.csv").write_text(text)
    columns = {"id": ["007", "8"], "path": ["a.png", "b.png"], "male": [True, None]}
    whole = pa.table({**columns, "chronological_age_months": [120.5, float("nan")]})
    parquet.write_table(whole, tmp_path / "m.parquet")
    expected = [
        Task(0, "007", str(tmp_path / "a.png"), Sex.MALE, 120.5),
        Task(1, "8", str(tmp_path / "b.png"), None, None),
    ]
    assert tasks_of(tmp_path / "m.csv") == tasks_of(tmp_path / "m.parquet") == expected
    assert read_manifest(tmp_path / "m.parquet") == read_manifest(tmp_path / "m.csv")
    assert [task.sex for task in tasks_of(tmp_path / "m.csv", sex=Sex.FEMALE)] == [Sex.MALE, Sex.FEMALE]


def test_a_folder_is_listed_as_every_other_command_lists_it(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/er/a.dcm", "n.txt", ".hid/x.png", "twin.png", "twin.jpg", "a/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [(task.id, task.path) for task in tasks_of(tmp_path)]
    assert found == [(row.id, str(row.path)) for row in read_manifest(tmp_path)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one row"),
        ("file,sex\nx.png,F\n", ":1: a manifest needs a column 'path'"),
        ("id,path\n7,x.png\n8,y.png\n7,z.png\n", ":4: the id is that of line 2 too"),
        ("path\na/x.png\nb/x.png\n", ":3: the id is that of line 2 too"),
        ("path\nx.png\n../x2.png\n", ":3: the path leads out of the manifest's folder; .*--within"),
        ("path\na/../../x.png\n", ":2: the path leads out of the manifest's folder"),
        ("path\nx\ty.png\n", ":2: the path holds a control character"),
        ("path\ns3://k:secret@b/x.png\n", ":2: s3://b/x.png: a user or password"),
        ("path\ngopher://b/x.png\n", ":2: gopher://b/x.png: not a kind of URL"),
        ("path,sex\nx.png,boy\n", ":2: sex must be"),
        ("path,chronological_age_months\nx.png,old\n", ":2: chronological_age_months must be"),
        ("path,sex\nx,y.png,F\n", ":2: 3 cells under 2 columns"),
    ],
)
def test_a_bad_manifest_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        tasks_of(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_mixed_encodings_are_refused_with_the_first_line_that_differs(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("path\nimages/ü.png\n".encode() + "images/é.png\n".encode("latin-1") + b"x.png\n")
    with pytest.raises(ConfigError, match=r":3: not readable as UTF-8 text \(byte 0xE9\), .*mixed"):
        tasks_of(path)
    path.write_bytes("path\nü.png\n".encode("utf-16"))
    with pytest.raises(ConfigError, match=r":1: not readable as UTF-8 text \(byte 0xFF\); save"):
        tasks_of(path)


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"path\nx.png\n")
    with pytest.raises(ConfigError, match="not readable as Parquet"):
        tasks_of(tmp_path / "m.parquet")


def test_paths_may_lead_where_within_says_and_nowhere_else(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "m.csv").write_text("path\n../images/x.png\n")
    (found,) = tasks_of(lists / "m.csv", within=str(tmp_path))
    assert found.path == str(tmp_path / "images" / "x.png")
    for outside in ("../../x.png", "/etc/x.png", "s3://bucket/x.png", f"{tmp_path}-other/x.png"):
        (lists / "m.csv").write_text(f"path\n{outside}\n")
        with pytest.raises(ConfigError, match=":2: the path leads out of"):
            tasks_of(lists / "m.csv", within=str(tmp_path))
    (lists / "m.csv").write_text(f"path\n{tmp_path}/images/x.png\n")
    assert len(tasks_of(lists / "m.csv")) == 1, "an absolute path says plainly where it leads"


@pytest.mark.parametrize("location", ["gone.csv", "gone", "gone.parquet"])
def test_a_list_that_is_not_there_is_named(tmp_path: Path, location: str) -> None:
    with pytest.raises(ConfigError, match=f"{location}: no such file"):
        tasks_of(tmp_path / location)


@pytest.mark.skipif(os.name != "posix", reason="names of files are text on this system")
def test_a_file_whose_name_is_no_text_is_told_before_work_starts(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(
        ConfigError, match=r"name of file 2, .*caf\\udce9\.png', is not readable as UTF-8: rename"
    ):
        tasks_of(tmp_path)


def test_rows_in_hand_are_checked_too() -> None:
    rows = [Row("1", Path("a.png")), Row("2", Path("b.png")), Row("1", Path("c.png"))]
    with pytest.raises(ConfigError, match="the manifest:3: the id is that of row 1 too"):
        Listing(source.from_rows(rows), "salt")


def test_a_long_list_takes_eight_bytes_a_row_and_can_be_gone_through_by_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(source, "_BLOCK_BYTES", 777)
    path = tmp_path / "m.csv"
    count = 3000
    path.write_text("path,sex\n" + "".join(f"images/{number}.png,F\n" for number in range(count)))
    with closing(Listing(source.at(str(path)), "salt")) as listing:
        assert (len(listing), listing.keys.nbytes) == (count, 8 * count)
        assert listing._spool._rolled, "the rows themselves lie on the disk"
        odd = listing.tasks(lambda ordinal: ordinal % 2 == 1)
        for number, task in enumerate(listing.tasks()):
            assert (task.ordinal, task.id) == (number, str(number))
            if number % 2:
                assert next(odd) == task


def test_keys_and_fingerprint_follow_everything_that_an_answer_depends_on(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,sex\na.png,F\nb.png,\n")
    first = Listing(source.at(str(path)), "salt")
    other_salt = Listing(source.at(str(path)), "pepper")
    other_sex = Listing(source.at(str(path)), "salt", Sex.MALE)
    assert first.key(0) != other_salt.key(0) and first.key(0) == other_sex.key(0)
    assert first.key(1) != other_sex.key(1)
    assert len({each.fingerprint() for each in (first, other_salt, other_sex)}) == 3
    assert Listing(source.at(str(path)), "salt").fingerprint() == first.fingerprint()
