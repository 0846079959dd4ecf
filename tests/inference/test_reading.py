"""A reader's grades over the network's: what follows from them, what is refused, what stays as it was."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from boneage_fakes import assessment, graded_assessment
from hypothesis import given, settings
from hypothesis import strategies as st
from radius_fakes import found_subgrade

from boneage.core.errors import BoneAgeError, ConfigError, TableMissing, UnknownGrade, WrongBones
from boneage.core.types import Assessment, Notice, Sex
from boneage.inference.reading import READER, read_over
from boneage.reporting.tabular import network_grades
from boneage.standards.growth import bone_age_sd_score
from boneage.standards.names import CHN, RUS, Bone
from boneage.standards.scoring import score, standard, standard_names

DARK = Notice("dark", "the image is dark")


def notices(made: Assessment) -> list[str]:
    return [notice.text for notice in made.warnings if notice.code == READER]


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(("rus_chn", "tw3", "chn")),
    sex=st.sampled_from(Sex),
    shifts=st.dictionaries(st.integers(0, 12), st.integers(0, 7), min_size=1),
)
def test_a_sheet_is_scored_as_its_standard_scores_it(name: str, sex: Sex, shifts: dict[int, int]) -> None:
    machine = graded_assessment(sex=sex, age_months=120.0)
    chosen = standard(name)
    given_ = {str(chosen.bones[place]): float(grade) for place, grade in shifts.items()}
    whole = network_grades(machine, name) | given_
    made = read_over(machine, {name: given_})
    own = network_grades(machine, name)
    changed = {bone: grade for bone, grade in given_.items() if own[bone] != grade}
    if not changed:
        assert made.reading == () and made.warnings == machine.warnings
        return
    (sheet,) = made.reading
    expected = score(name, sex, {bone: whole[bone] for bone in chosen.bones})
    assert (sheet.standard, sheet.edition, sheet.changed) == (name, chosen.edition, changed)
    assert sheet.total == pytest.approx(expected.total)
    assert sheet.age_months == pytest.approx(expected.age_months)
    assert sheet.scores == {str(bone.bone): bone.score for bone in expected.bones}
    assert sheet.age_months is not None
    assert sheet.sd_score == bone_age_sd_score(sheet.age_months, 120.0, sex).value


def test_the_machines_answer_is_untouched() -> None:
    machine = graded_assessment(age_months=120.0, warnings=(DARK,))
    made = read_over(machine, {"rus_chn": {"radius": 9}, "tw3": {"ulna": "H"}})
    kept = {one.name for one in fields(Assessment)} - {"reading", "warnings"}
    assert all(getattr(made, name) is getattr(machine, name) for name in kept)
    assert machine.reading == () and made.warnings[-1] is DARK and len(made.warnings) == 3


def test_a_notice_says_what_was_changed_and_what_came_of_it() -> None:
    made = read_over(graded_assessment(), {"RUS-CHN": {"radius": 9, "MCPThird": 6}, "tw3": {"ulna": "h"}})
    first, second = notices(made)
    rus, _ = made.reading
    assert first == (
        f"a reader changed grades of RUS-CHN: radius 6 to 9; its total is then {rus.total:.0f}, "
        f"its bone age {rus.age_months:.1f} months"
    )
    assert second.startswith("a reader changed grades of TW3-RUS: ulna F to H; ")


@pytest.mark.parametrize(
    "grades", [{}, {"rus_chn": {}}, {"rus_chn": {"radius": 6}, "chn": {}}, {"tw3": {"ulna": "F"}}]
)
def test_where_nothing_changed_there_is_no_sheet_and_no_notice(grades: dict[str, Any]) -> None:
    made = read_over(graded_assessment(warnings=(DARK,)), grades)
    assert made.reading == () and made.warnings == (DARK,)


def test_a_second_reading_replaces_the_first() -> None:
    once = read_over(graded_assessment(warnings=(DARK,)), {"rus_chn": {"radius": 9}})
    again = read_over(once, {"chn": {"capitate": 3}})
    assert [sheet.standard for sheet in again.reading] == ["chn"]
    assert len(notices(again)) == 1 and again.warnings[-1] is DARK
    back = read_over(again, {})
    assert back.reading == () and back.warnings == (DARK,)


def test_an_ungraded_bone_makes_no_total_until_the_reader_grades_it() -> None:
    machine = graded_assessment(missing=("radius",), age_months=120.0)
    part = read_over(machine, {"rus_chn": {"ulna": 9}})
    (sheet,) = part.reading
    assert sheet.total is sheet.age_months is sheet.sd_score is None
    assert "radius" not in sheet.grades and len(sheet.scores) == 12
    assert notices(part)[0].endswith("bones without a grade leave it without a total")
    (sheet,) = read_over(machine, {"rus_chn": {"radius": 6}}).reading
    assert sheet.changed == {"radius": 6.0} and sheet.total is not None and sheet.sd_score is not None
    assert "radius none to 6" in notices(read_over(machine, {"rus_chn": {"radius": 6}}))[0]


def test_a_hand_without_any_grade_can_be_read_whole() -> None:
    (sheet,) = read_over(assessment(), {"chn": {str(bone): 5 for bone in CHN}}).reading
    assert sheet.total == pytest.approx(score("chn", Sex.FEMALE, dict.fromkeys(CHN, 5.0)).total)
    assert len(sheet.changed) == len(CHN) and sheet.sd_score is None


def test_standards_that_share_grades_start_from_the_networks() -> None:
    machine = graded_assessment(radius_subgrade=found_subgrade())
    tw3_c, sub = read_over(
        machine, {"tw3_c_rus": {"ulna": "H"}, "chn_radius_subgraded": {"radius": "6_5"}}
    ).reading
    assert tw3_c.total is not None and tw3_c.changed == {"ulna": 7.0} and len(tw3_c.grades) == len(RUS)
    assert sub.total is not None and sub.changed == {"radius": 6.5} and sub.grades["capitate"] == 6.0
    assert read_over(machine, {"chn_radius_subgraded": {"radius": "5_5"}}).reading == ()
    assert "ulna F to H" in notices(read_over(machine, {"tw3_c_rus": {"ulna": "H"}}))[0]


def test_a_grade_between_two_stages_is_told_as_a_number() -> None:
    made = read_over(graded_assessment(), {"tw3": {"ulna": 6.5}})
    assert "ulna F to 6.5" in notices(made)[0]


@pytest.mark.parametrize("age", [None, 2.0, 200.0, 600.0, -3.0])
def test_an_age_that_no_reference_reaches_leaves_the_score_out(age: float | None) -> None:
    (sheet,) = read_over(graded_assessment(chronological_age_months=age), {"rus_chn": {"radius": 9}}).reading
    assert sheet.age_months is not None and sheet.sd_score is None


@pytest.mark.parametrize(
    ("grades", "error", "said"),
    [
        ({"greulich": {"radius": 9}}, TableMissing, "no standard 'greulich'"),
        ({"rus_chn": {"lunate": 9}}, WrongBones, "no bone is called 'lunate'"),
        ({"rus_chn": {"capitate": 3}}, WrongBones, "does not grade the capitate"),
        ({"chn": {"ulna": 3}}, WrongBones, "does not grade the ulna"),
        ({"rus_chn": {"radius": 15}}, UnknownGrade, "from 0 to 14"),
        ({"rus_chn": {"radius": -1}}, UnknownGrade, "from 0 to 14"),
        ({"rus_chn": {"radius": float("nan")}}, UnknownGrade, "from 0 to 14"),
        ({"rus_chn": {"radius": "ripe"}}, UnknownGrade, "no grade 'ripe'"),
        ({"tw3": {"ulna": "I"}}, UnknownGrade, "no grade 'I'"),
        ({"tw3": {"ulna": True}}, UnknownGrade, "no grade 'True'"),
        ({"tw3": {"ulna": None}}, UnknownGrade, "no grade 'None'"),
        ({"rus_chn": {"mc1": 6, "MCPFirst": 7}}, WrongBones, "given twice"),
        ({"rus_chn": {"radius": 9}, "RUS-CHN": {"ulna": 9}}, ConfigError, "given twice"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    grades: dict[str, Any], error: type[BoneAgeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_over(graded_assessment(), grades)


@pytest.mark.parametrize("name", standard_names())
def test_every_standard_can_be_read_by(name: str) -> None:
    bones = standard(name).bones
    (sheet,) = read_over(assessment(), {name: {str(bone): 3 for bone in bones}}).reading
    assert sheet.total is not None and list(sheet.scores) == [str(Bone(bone)) for bone in bones]
