"""The tables: described, checked as they are loaded, and refused where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boneage.core.errors import TableBroken, TableMissing
from boneage.core.types import Sex
from boneage.standards.mapping import grade_map
from boneage.standards.scoring import standard, standard_names
from boneage.standards.tables import TABLES, Agreement, grid, read_table, source, sources

Change = Callable[..., Path]


def test_every_file_is_described_and_every_description_has_its_file() -> None:
    files = {path.name for path in TABLES.iterdir()}
    assert files == {"SOURCES.toml", *(table.name for table in sources())}


@pytest.mark.parametrize("table", sources(), ids=lambda table: table.name)
def test_every_table_passes_its_checks(table: object) -> None:
    name = table.name  # type: ignore[attr-defined]
    read = read_table(name)
    assert read.rows
    assert all((read.source.title, read.source.source, read.source.remarks))


def test_agreement_is_by_sex_where_the_sources_are() -> None:
    curve = source("tw3_rus_curve.csv")
    assert (curve.agreement[Sex.MALE], curve.agreement[Sex.FEMALE]) == (Agreement.STRONG, Agreement.WEAK)
    assert curve.warning(Sex.MALE) is None
    notice = curve.warning(Sex.FEMALE)
    assert notice is not None and notice.code == "weak_source" and "one transcription" in notice.text


def test_grades_and_stages_are_complete() -> None:
    lasts = {
        name: [standard(name).grades(bone)[-1] for bone in standard(name).bones] for name in standard_names()
    }
    assert lasts["rus_chn"] == [14, 12, 11, 10, 10, 12, 12, 12, 12, 12, 11, 11, 11]
    assert lasts["tw3"] == lasts["tw3_c_rus"] == [8, 7, *[8] * 11]
    assert lasts["chn"] == lasts["chn_radius_subgraded"] == [10, *[8] * 11, 7, 8]


def test_a_changed_table_is_refused_until_its_checksum_is_recorded(changed_tables: Change) -> None:
    folder = changed_tables(
        "rus_chn_scores.csv", {"male,ulna,1,1,25\nmale": "male,ulna,1,1,26\nmale"}, record=False
    )
    with pytest.raises(TableBroken, match=r"rus_chn_scores\.csv is not the table that was checked"):
        standard("rus_chn", folder)


def test_line_ends_of_another_system_are_the_same_table(changed_tables: Change) -> None:
    folder = changed_tables("gp_plates.csv", {}, record=False)
    content = (folder / "gp_plates.csv").read_bytes().replace(b"\n", b"\r\n")
    (folder / "gp_plates.csv").write_bytes(content)
    assert read_table("gp_plates.csv", folder).rows == read_table("gp_plates.csv").rows


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "rus_chn_curve.csv",
            "\nmale,13,547,",
            "\nmale,13,647,",
            "totals must rise, but 628 follows 647",
        ),
        (
            "rus_chn_curve.csv",
            "\nmale,13,547,",
            "\nmale,13,480,",
            "totals must rise, but 480 follows 480",
        ),
        ("rus_chn_curve.csv", "\nmale,13,547,", "\nmale,12,547,", "the ages must rise"),
        ("rus_chn_curve.csv", "\nmale,13,547,", "\nmale,13,many,", "total must be a number, not 'many'"),
        ("rus_chn_curve.csv", "\nmale,13,547,", "\nmale,13,nan,", "total must be a number, not 'nan'"),
        ("rus_chn_scores.csv", "\nmale,mc1,3,3,8\n", "\nmale,mc1,3,3,4\n", "the scores must rise"),
        ("rus_chn_scores.csv", "\nmale,mc1,3,3,8\n", "\n", "without a gap"),
        ("rus_chn_scores.csv", "\nmale,mc1,11,8,66\n", "\n", "the mc1 has other grades for girls"),
        ("rus_chn_scores.csv", "\nmale,mc1,0,0,0\n", "\nmale,mc1,0,0,2\n", "grade 0 must score 0, not 2"),
        ("rus_chn_scores.csv", "\nmale,mc1,3,3,8\n", "\nmale,mc1,3,3\n", "expected 5 cells"),
        (
            "rus_chn_scores.csv",
            "sex,bone,grade,label,score",
            "sex,bone,grade,label,points",
            "score must be a number",
        ),
        (
            "SOURCES.toml",
            '{ male = "strong", female = "weak" }',
            '"certain"',
            "tw3_rus_curve.csv wrongly",
        ),
        ("SOURCES.toml", "[standards.rus_chn]", "[standards.rus_chn", "is not TOML"),
    ],
)
def test_a_wrong_table_is_refused(changed_tables: Change, name: str, old: str, new: str, said: str) -> None:
    folder = changed_tables(name, {old: new})
    with pytest.raises(TableBroken, match=said):
        for each in standard_names(folder):
            standard(each, folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\nmc1,4,5,", "\nmc1,4,2,", "the mapped grades must rise, but 2 follows 3"),
        ("\nmc1,11,8,", "\nmc1,11,9,", "the ends of both standards must map to each other"),
        ("\nmc1,4,5,", "\nmc1,3,5,", "expected a row for each RUS-CHN grade"),
    ],
)
def test_a_wrong_mapping_is_refused(changed_tables: Change, old: str, new: str, said: str) -> None:
    folder = changed_tables("rus_chn_to_chn.csv", {old: new})
    with pytest.raises(TableBroken, match=said):
        grade_map("chn", folder)


def test_what_is_not_there_is_named(changed_tables: Change, tmp_path: Path) -> None:
    with pytest.raises(TableMissing, match=r"there is no table 'tw2\.csv'"):
        source("tw2.csv")
    with pytest.raises(TableMissing, match=r"SOURCES\.toml cannot be read"):
        sources(tmp_path)
    folder = changed_tables("gp_plates.csv", {})
    (folder / "chn_curve.csv").unlink()
    with pytest.raises(TableMissing, match=r"chn_curve\.csv cannot be read"):
        standard("chn", folder)
    with pytest.raises(TableBroken, match="expected two rows or more, got 0"):
        grid("bayley_pinneau.csv", Sex.MALE, "bone_age_months", ("percent",), "early")


def test_mended_misprints_say_so() -> None:
    names = ("rus_chn_curve.csv", "tw3_c_rus_curve.csv", "rwt_1975.csv", "rwt_1993.csv")
    notes = [[row["note"] for row in read_table(name).rows if row["note"]] for name in names]
    assert [len(each) for each in notes] == [1, 1, 3, 1]
