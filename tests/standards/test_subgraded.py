"""CHN with sub-grades of the radius: paper 1's, written ones, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from boneage.core.errors import ConfigError, DeliveryError, TableBroken, UnknownGrade
from boneage.core.types import Sex
from boneage.standards.names import CHN, Bone
from boneage.standards.scoring import score, score_table, standard, standard_names
from boneage.standards.subgraded import NAME, SUBGRADES, write_subgraded
from boneage.standards.tables import read_table, sources

Change = Callable[..., Path]
Scores = dict[Sex, dict[float, float]]
PRINTED: Scores = {
    Sex.MALE: {5: 59, 5.5: 65, 6: 71, 6.5: 79, 7: 87},
    Sex.FEMALE: {5: 57, 5.5: 63, 6: 69, 6.5: 74, 7: 79},
}
"""Paper 1, Table III."""
PAPER: Scores = {sex: {5.5: PRINTED[sex][5.5], 6.5: PRINTED[sex][6.5]} for sex in Sex}
OTHERS: Scores = {Sex.MALE: {6.5: 80.25, 5.5: 62.0}, Sex.FEMALE: {5.5: 60.0, 6.5: 78.0}}
SAID = {"title": "sub-grades of a test", "source": "this test", "remarks": "Nobody looked at an image."}
BOYS = "\nmale,radius,5.5,5_5,65\n"


def write(folder: Path, scores: Mapping[Sex, Mapping[float, float]] = OTHERS) -> None:
    write_subgraded(folder, scores, **SAID)


@pytest.mark.parametrize("sex", Sex)
def test_the_printed_scores(sex: Sex) -> None:
    chosen = standard(NAME)
    assert {grade: chosen.grade_score(sex, "radius", grade) for grade in PRINTED[sex]} == PRINTED[sex]
    assert chosen.grades("radius") == (0, 1, 2, 3, 4, 5, 5.5, 6, 6.5, 7, 8, 9, 10)
    assert [chosen.scale(sex, "radius").label(grade) for grade in PRINTED[sex]] == [
        "5",
        "5_5",
        "6",
        "6_5",
        "7",
    ]


def test_everything_else_is_chn() -> None:
    chosen, chn = standard("CHN-radius-subgraded"), standard("chn")
    assert chosen.bones == CHN
    for sex in Sex:
        for bone in CHN:
            ours, theirs = chosen.scale(sex, bone), chn.scale(sex, bone)
            kept = np.isin(ours.grades, theirs.grades)
            assert kept.all() == (bone is not Bone.RADIUS)
            assert np.array_equal(ours.grades[kept], theirs.grades)
            assert np.array_equal(ours.scores[kept], theirs.scores)
        assert np.array_equal(chosen.curves[sex].totals, chn.curves[sex].totals)
        assert np.array_equal(score_table(NAME, sex)[1], score_table("chn", sex)[1], equal_nan=True)


def test_a_sub_grade_is_given_by_number_or_label() -> None:
    chosen = standard(NAME)
    assert [chosen.parse_grade("radius", text) for text in ("5_5", "5.5", "6_5", "5")] == [5.5, 5.5, 6.5, 5]
    for bone, text in (("mc1", "5_5"), ("radius", "4_5")):
        with pytest.raises(UnknownGrade):
            chosen.parse_grade(bone, text)


@pytest.mark.parametrize(("sex", "points"), [(Sex.MALE, 65), (Sex.FEMALE, 63)])
def test_a_whole_hand_with_a_sub_grade(sex: Sex, points: float) -> None:
    grades = {**dict.fromkeys(CHN, 5.0), Bone.RADIUS: 5.5}
    sheet, whole = score(NAME, sex, grades), score("chn", sex, dict.fromkeys(CHN, 5.0))
    assert (sheet.bones[0].stage, sheet.bones[0].score) == ("5_5", points)
    assert sheet.total == whole.total + points - PRINTED[sex][5]
    assert sheet.age_months > whole.age_months
    # Halfway is where CHN itself puts the fraction: the printed sub-grades move no age.
    assert (sheet.total, sheet.age_months) == (
        score("chn", sex, grades).total,
        score("chn", sex, grades).age_months,
    )
    assert [notice.code for notice in sheet.warnings] == ["weak_source"]
    assert "6, 6, 8 and 8" in sheet.warnings[0].text and SUBGRADES in sheet.warnings[0].text


def test_the_further_table_is_among_the_standards_tables() -> None:
    assert [source.name for source in standard(NAME).tables] == ["chn_scores.csv", SUBGRADES, "chn_curve.csv"]
    assert [source.name for source in standard("chn").tables] == ["chn_scores.csv", "chn_curve.csv"]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("\nmale,radius,5,5,65\n", "male radius: grade 5 is there already"),
        (f"{BOYS}male,radius,5.5,5_5,66\n", r"male radius: grade 5\.5 is there already"),
        ("\nmale,radius,10.5,10_5,65\n", r"grade 10\.5 is not between two grades of chn_scores\.csv"),
        ("\nmale,radius,-0.5,x,65\n", r"grade -0\.5 is not between"),
        ("\nmale,ulna,5.5,5_5,65\n", r"male ulna: grade 5\.5 is not between"),
        ("\nboy,radius,5.5,5_5,65\n", r"boy radius: grade 5\.5 is not between"),
        ("\nmale,radius,many,5_5,65\n", "male radius: grade must be a number, not 'many'"),
        ("\nmale,radius,5.5,5_5,\n", "score must be a number"),
        ("\nmale,radius,5.5,5_5,72\n", f"{SUBGRADES}, male radius: the scores must rise, but 71 follows 72"),
        ("\n", "the radius has other grades for girls than for boys"),
    ],
)
def test_a_wrong_table_of_sub_grades_is_refused(changed_tables: Change, new: str, said: str) -> None:
    folder = changed_tables(SUBGRADES, {BOYS: new})
    with pytest.raises(TableBroken, match=said):
        standard(NAME, folder)
    assert standard("chn", folder).grades("radius") == tuple(range(11))


def test_merging_mends_no_table_that_is_out_of_order(changed_tables: Change) -> None:
    swapped = {"\nmale,radius,5,5,59\nmale,radius,6,6,71\n": "\nmale,radius,6,6,71\nmale,radius,5,5,59\n"}
    folder = changed_tables("chn_scores.csv", swapped)
    with pytest.raises(TableBroken, match="the grades must rise"):
        standard(NAME, folder)


def test_what_is_written_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "standard"
    write(folder)
    assert standard_names(folder) == (NAME,)
    chosen = standard(NAME, folder)
    assert chosen.grades("radius") == standard(NAME).grades("radius")
    for sex in Sex:
        found = {grade: chosen.grade_score(sex, "radius", grade) for grade in OTHERS[sex]}
        assert found == OTHERS[sex]
    assert chosen.parse_grade("radius", "6_5") == 6.5
    assert SAID["title"] in chosen.edition
    text = score(chosen, "male", dict.fromkeys(CHN, 5.5)).warnings[0].text
    assert SAID["title"] in text and SAID["remarks"] in text
    assert all(read_table(table.name, folder).rows for table in sources(folder))
    assert {path.name for path in folder.parent.iterdir()} == {"standard"}


def test_any_number_of_sub_grades_and_any_words(tmp_path: Path) -> None:
    many: Scores = {
        sex: {0.25: 4.5, 5.125: 60.0, 5.5: 60.0, 9.75: 88.0 if sex == "female" else 96.0} for sex in Sex
    }
    words = {"title": 'a "title", \\ and \x7f', "source": "two\nlines", "remarks": "Grösse = [1]"}
    write_subgraded(tmp_path / "tables", many, **words)
    chosen = standard(NAME, tmp_path / "tables")
    assert len(chosen.grades("radius")) == 15
    assert chosen.parse_grade("radius", "5_125") == 5.125
    assert chosen.grade_score("male", "radius", 9.75) == 96
    written = chosen.tables[1]
    assert {"title": written.title, "source": written.source, "remarks": written.remarks} == words


def test_an_earlier_folder_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "tables", PAPER)
    assert standard(NAME, tmp_path / "tables").grade_score("male", "radius", 5.5) == 65
    write(tmp_path / "tables")
    assert standard(NAME, tmp_path / "tables").grade_score("male", "radius", 5.5) == 62
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_a_failed_writing_leaves_the_earlier_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tables", PAPER)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(DeliveryError, match="No space left on device; free space"):
            write(tmp_path / "tables")
        with pytest.raises(DeliveryError):
            write(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]
    standard.cache_clear()
    assert standard(NAME, tmp_path / "tables").grade_score("male", "radius", 5.5) == 65


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch\n")
    with pytest.raises(ConfigError, match=r"holds 'history\.csv', no sub-graded tables: choose another"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
    with pytest.raises(DeliveryError, match="cannot write the tables"):
        write(tmp_path / "history.csv" / "tables")


@pytest.mark.parametrize(
    ("boys", "girls", "said"),
    [
        ({5.5: 58.5}, {5.5: 63}, r"male radius's sub-grade 5\.5 must score from 59 to 71, .* not 58\.5"),
        ({5.5: 71.5}, {5.5: 63}, r"from 59 to 71, .* not 71\.5"),
        ({5.5: 65}, {5.5: 70}, r"female radius's sub-grade 5\.5 must score from 57 to 69"),
        ({5.5: math.nan}, {5.5: 63}, "not nan"),
        ({5.25: 66, 5.5: 65}, {5.25: 60, 5.5: 63}, r"sub-grade 5\.5 must score from 66 to 71"),
        ({6: 71}, {6: 69}, "from 0 to 10, not at 6: give one such as"),
        ({10.5: 101}, {10.5: 88}, r"not at 10\.5"),
        ({-0.5: 0}, {-0.5: 0}, r"not at -0\.5"),
        ({math.nan: 65}, {math.nan: 63}, "not at nan"),
        ({5.5: 65}, {6.5: 74}, "the same for both sexes"),
        ({5.5: 65, 6.5: 79}, {5.5: 63}, "the same for both sexes"),
        ({5.5: 65}, None, "the same for both sexes"),
        ({}, {}, "one or more"),
    ],
)
def test_wrong_sub_grades_are_refused(
    tmp_path: Path, boys: dict[float, float], girls: dict[float, float] | None, said: str
) -> None:
    scores = {Sex.MALE: boys} | ({} if girls is None else {Sex.FEMALE: girls})
    with pytest.raises(ConfigError, match=said):
        write(tmp_path / "tables", scores)
    assert not any(tmp_path.iterdir())
