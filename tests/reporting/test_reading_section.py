"""A reader's score sheets on the page and in the record: both grades, what was changed, totals and ages."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from boneage_fakes import assessment, graded_assessment
from radius_fakes import found_subgrade

from boneage.core.types import Assessment
from boneage.inference.reading import read_over
from boneage.reporting import document
from boneage.reporting.reading_section import HEAD, NOT_GRADED, UNKNOWN, readers_line, reading_section
from boneage.reporting.tabular import (
    assessment_record,
    failure_record,
    grade_words,
    network_grades,
    score_record,
)
from boneage.standards.names import CHN, RUS
from boneage.standards.scoring import score, standard

GREY = np.full((60, 40), 0.5, np.float32)
CHANGES: dict[str, dict[str, float | str]] = {"rus_chn": {"radius": 9, "pp3": 6}, "tw3": {"ulna": "H"}}


def read(changes: dict[str, dict[str, float | str]] = CHANGES, **given: Any) -> Assessment:
    return read_over(graded_assessment(**given), changes)


def section(made: Assessment) -> str:
    return "\n".join(reading_section(made))


def rows(page: str) -> list[tuple[str, ...]]:
    """Every row's class, head and cells."""
    found = re.findall(r'<tr( class="own")?><th scope="row">(.*?)</th>(.*?)</tr>', page)
    return [(kind, head, *re.findall(r"<td>(.*?)</td>", cells)) for kind, head, cells in found]


def test_network_and_reader_stand_side_by_side_and_changes_are_marked_in_words() -> None:
    made = read(age_months=120.0)
    page = section(made)
    assert [title in page for title in HEAD] == [True] * 5
    assert page.count("<table>") == len(made.reading) == 2
    first = rows(page)[:16]
    by_bone = {row[1]: row for row in first}
    rus = standard("rus_chn")
    before, after = (rus.grade_score("female", "radius", grade) for grade in (6, 9))
    assert by_bone["radius"] == (
        ' class="own"', "radius", "6", "9", f"{after:g}", f"changed: score {after - before:+g}",
    )  # fmt: skip
    same = rus.grade_score("female", "ulna", 6)
    assert by_bone["ulna"] == ("", "ulna", "6", "6", f"{same:g}", "")
    assert by_bone["third proximal phalanx"][0] == "", "the grade that the network gave is no change"
    assert sum(float(row[4]) for row in first[:13]) == made.reading[0].total
    assert [row[1] for row in first[:13]] == [bone.readable for bone in RUS]


def test_totals_ages_and_scores_of_both_are_told() -> None:
    made = read(age_months=120.0)
    total, age, sd = rows(section(made))[13:16]
    own, sheet = made.scores["rus_chn"], made.reading[0]
    assert total[1:4] == ("Total", f"{own['total']:g}", f"{sheet.total:g}")
    assert age[1] == "Bone age at the total" and age[2] != age[3]
    deviation = made.growth["sd_score"]["sd_months"]
    assert sd[1:4] == (
        "SD score",
        f"{(own['age_months'] - 120) / deviation:+.1f}",
        f"{sheet.sd_score:+.1f}",
    )
    assert "SD score" not in section(read())


def test_tw3_is_written_in_letters() -> None:
    ulna = next(row for row in rows(section(read()))[16:] if row[1] == "ulna")
    network = int(network_grades(graded_assessment(), "tw3")["ulna"])
    assert ulna[2:4] == ("ABCDEFGHI"[network], "H") and ulna[5].startswith("changed")


def test_a_bone_that_only_the_reader_graded_has_no_grade_by_the_network() -> None:
    made = read({"rus_chn": {"radius": 9}}, missing=("radius", "ulna"))
    by_bone = {row[1]: row for row in rows(section(made))}
    assert by_bone["radius"][2:4] == (NOT_GRADED, "9") and by_bone["radius"][5] == "graded"
    assert by_bone["ulna"][2:] == (NOT_GRADED, NOT_GRADED, UNKNOWN, "")
    assert by_bone["Total"][2:4] == by_bone["Bone age at the total"][2:4] == (UNKNOWN, UNKNOWN)
    assert "a bone is not graded" in section(made)


def test_the_machines_answer_stays_the_headline() -> None:
    made = read(age_months=120.0)
    page = document.html([made], [GREY], [None])
    answer = page[page.index('<div class="answer">') : page.index("<h3>By method")]
    assert '<p class="age">10 y 4 m</p>' in answer
    assert "This is the machine&#x27;s answer. A reader changed grades of RUS-CHN and TW3-RUS" in answer
    assert page.index("Grades and scores") < page.index('class="reading"') < page.index("How this was made")
    assert "RUS-CHN, reader&#x27;s grades" in page and "Warning: a reader changed grades" in page
    untouched = graded_assessment(age_months=120.0)
    assert readers_line(untouched) == section(untouched) == ""
    assert "reader" not in document.html([untouched], [GREY], [None])


def test_a_reader_may_grade_a_hand_that_the_network_did_not() -> None:
    made = read_over(assessment(), {"chn": {str(bone): 5 for bone in CHN}})
    assert made.reading[0].total is not None
    page = document.html([made], [GREY], [None])
    assert page.count(">graded<") == len(CHN) and "By method" in page


def test_the_record_holds_the_sheets_rounded() -> None:
    made = read({"rus_chn": {"radius": 8.333333}, "tw3": {"ulna": "H"}}, age_months=120.0)
    record = json.loads(json.dumps(assessment_record(made), allow_nan=False))
    first, second = record["reading"]
    assert list(first) == [
        "standard", "edition", "changed", "grades", "scores", "total", "age_months", "sd_score",
    ]  # fmt: skip
    assert first["changed"] == {"radius": 8.333333} and len(first["grades"]) == len(first["scores"]) == 13
    sheet = made.reading[0]
    assert sheet.total is not None and first["total"] == round(sheet.total, 2) != sheet.total
    assert first["sd_score"] == round(sheet.sd_score or 0, 2)
    assert (second["standard"], second["changed"]) == ("tw3", {"ulna": 7.0})
    unread = assessment_record(graded_assessment(age_months=120.0))
    changed = {key for key in record if record[key] != unread[key]}
    assert changed == {"reading", "warnings"}, "the machine's answer is the same"


def test_without_a_reader_the_list_is_empty() -> None:
    assert assessment_record(assessment())["reading"] == []
    assert failure_record(document.Failure("x.png", "failed", "x", "y"))["reading"] == []


@pytest.mark.parametrize(
    ("name", "grade", "words"),
    [
        ("rus_chn", 7.0, "7"), ("rus_chn", 6.5, "6.5"), ("tw3", 5.0, "F"), ("tw3", 5.5, "5.5"),
        ("tw3_c_rus", 0.0, "A"), ("chn_radius_subgraded", 5.5, "5.5"),
    ],
)  # fmt: skip
def test_grades_are_written_as_their_standard_does(name: str, grade: float, words: str) -> None:
    assert grade_words(name, grade) == words


def test_standards_that_share_grades_have_the_networks_too() -> None:
    made = graded_assessment(radius_subgrade=found_subgrade())
    assert network_grades(made, "tw3_c_rus") == network_grades(made, "tw3") != {}
    own, whole = (network_grades(made, name) for name in ("chn_radius_subgraded", "chn"))
    assert own == {**whole, "radius": 5.5}
    assert network_grades(assessment(), "chn") == {}


def test_a_score_sheet_as_a_record() -> None:
    sheet = score("tw3", "female", dict.fromkeys(map(str, RUS), 5.5))
    record = json.loads(json.dumps(score_record(sheet), allow_nan=False))
    assert list(record) == ["standard", "edition", "sex", "bones", "total", "age_months", "warnings"]
    assert (record["standard"], record["sex"], len(record["bones"])) == ("tw3", "female", 13)
    assert list(record["bones"][0]) == ["bone", "grade", "stage", "score", "maximum"]
    assert record["total"] == round(sum(bone["score"] for bone in record["bones"]), 4)
    assert record["age_months"] == round(sheet.age_months, 4)
    assert all(notice.keys() == {"code", "text"} for notice in record["warnings"])
