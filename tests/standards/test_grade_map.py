"""RUS-CHN grades as TW3 stages and CHN grades."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import TableMissing, UnknownGrade, WrongBones
from boneage.core.types import Sex
from boneage.standards.mapping import grade_map
from boneage.standards.names import CARPALS, CHN, RUS, Bone
from boneage.standards.scoring import score, standard
from boneage.standards.tables import TABLES

RUS_CHN = standard("rus_chn")


@pytest.mark.parametrize(
    ("bone", "grade", "stage"),
    [
        ("radius", 6, "F"),
        ("radius", 7, "G"),
        ("radius", 10, "I"),
        ("ulna", 12, "H"),
        ("mc3", 5, "E"),
        ("pp3", 9, "G"),
    ],
)
def test_whole_grades_map_to_their_stage(bone: str, grade: int, stage: str) -> None:
    tw3 = standard("tw3")
    mapped = grade_map("tw3")({bone: grade})
    assert mapped == {Bone(bone): tw3.parse_grade(bone, stage)}


@settings(deadline=None, max_examples=60)
@given(bone=st.sampled_from(RUS), sex=st.sampled_from(Sex), data=st.data())
def test_a_fraction_scores_between_its_neighbours_stages(bone: Bone, sex: Sex, data: st.DataObject) -> None:
    tw3, mapping = standard("tw3"), grade_map("tw3")
    grade = data.draw(st.floats(0, RUS_CHN.grades(bone)[-1]))
    low, high = (mapping({bone: float(side(grade))})[bone] for side in (np.floor, np.ceil))
    ends = [tw3.grade_score(sex, bone, end) for end in (low, high)]
    expected = ends[0] + (grade - np.floor(grade)) * (ends[1] - ends[0])
    assert tw3.grade_score(sex, bone, mapping({bone: grade})[bone]) == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(target=st.sampled_from(["tw3", "tw3_c_rus", "chn"]), bone=st.sampled_from(RUS), data=st.data())
def test_a_mapping_never_falls(target: str, bone: Bone, data: st.DataObject) -> None:
    mapping = grade_map(target)
    low, high = sorted(data.draw(st.tuples(*[st.floats(0, RUS_CHN.grades(bone)[-1])] * 2)))
    if bone in mapping.bones:
        assert mapping({bone: low})[bone] <= mapping({bone: high})[bone]


def test_mapped_hands_can_be_scored() -> None:
    grades = dict.fromkeys(RUS, 7.3)
    assert score("tw3", "male", grade_map("tw3")(grades)).total > 0
    mapped = grade_map("chn")(grades)
    assert tuple(mapped) == tuple(bone for bone in CHN if bone not in CARPALS)
    with pytest.raises(WrongBones, match="grade capitate, hamate too"):
        score("chn", "male", mapped)


def test_the_mapping_of_our_own_says_that_it_is_and_why() -> None:
    assert [notice.code for notice in grade_map("chn").warnings] == ["weak_mapping"]
    assert grade_map("tw3").warnings == ()
    rows = list(csv.DictReader((TABLES / "rus_chn_to_chn.csv").read_text("utf-8").splitlines()))
    assert all(row["reason"] for row in rows)


def test_bad_input_is_refused() -> None:
    with pytest.raises(TableMissing, match="not to 'gp'"):
        grade_map("gp")
    with pytest.raises(UnknownGrade):
        grade_map("tw3")({"radius": 15})
    with pytest.raises(UnknownGrade):
        grade_map("chn")({"ulna": float("nan")})
    with pytest.raises(WrongBones):
        grade_map("chn")({"hamate": 3})
