"""What is said of held-out radii: order of ages, errors in points and months, on tables of known answers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed")

from boneage.core.types import Sex
from boneage.recipes.radius_subgrades.crops import RADIUS
from boneage.recipes.radius_subgrades.errors import (
    MONTHS_A_POINT,
    accuracy,
    age_by_radius,
    age_by_standard,
    table_4,
)
from boneage.recipes.radius_subgrades.results import (
    FEWEST,
    HeldOut,
    order_of_ages,
    read_held_out,
    within_grades,
)
from boneage.standards.names import CHN, Bone
from boneage.standards.scoring import age_curve, standard

POINTS = {5.0: 59.0, 5.5: 65.0, 6.0: 71.0, 6.5: 79.0, 7.0: 87.0}
"""Table III, boys."""


def held_out(subgrades: Sequence[float], **given: Any) -> HeldOut:
    """Boys with these sub-grades; what is not given is plain."""
    count = len(subgrades)
    values: dict[str, Any] = {
        "ids": tuple(f"h{index}" for index in range(count)),
        "sexes": ["male"] * count,
        "ages": [np.nan] * count,
        "grades": np.floor(subgrades),
        "subgrades": subgrades,
        "folds": np.arange(count) % 2,
        "ways": {},
        "clusters": {},
        **given,
    }
    scores = np.array([POINTS[grade] for grade in subgrades])
    return HeldOut(
        tuple(values["ids"]),
        np.array(values["sexes"]),
        np.array(values["ages"], dtype=np.float64),
        np.array(values["grades"], dtype=np.int64),
        np.array(subgrades, dtype=np.float64),
        values.get("scores", {"paper": scores, "geometric": scores}),
        {name: np.array(way, dtype=np.float64) for name, way in values["ways"].items()},
        {name: np.array(cluster, dtype=np.float64) for name, cluster in values["clusters"].items()},
        np.array(values["folds"], dtype=np.int64),
    )


# The table that a run leaves

HEADER = (
    "id,sex,bone_age_months,grade,subgrade,score_paper,score_geometric,"
    "cluster_5_6,cluster_6_7,way_5_6,way_6_7,fold"
)


def test_a_runs_table_is_read_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "oof.csv").write_text(
        f"{HEADER}\nb,male,130.5,5,5.5,64.1,65.2,1,-1,0.5000,,1\na,,,6,6,,,2,0,1.1000,-0.1000,0\n"
    )
    held = read_held_out(tmp_path / "oof.csv")
    assert held.ids == ("b", "a") and held.sexes.tolist() == ["male", ""]
    assert held.ages[0] == 130.5 and np.isnan(held.ages[1])
    assert held.aged.tolist() == [True, False]
    assert held.grades.tolist() == [5, 6] and held.subgrades.tolist() == [5.5, 6]
    np.testing.assert_array_equal(held.scores["geometric"], [65.2, np.nan])
    np.testing.assert_array_equal(held.scores["paper"], [64.1, np.nan])
    assert set(held.ways) == {"way_5_6", "way_6_7"} and set(held.clusters) == {"cluster_5_6", "cluster_6_7"}
    np.testing.assert_array_equal(held.ways["way_6_7"], [np.nan, -0.1])
    np.testing.assert_array_equal(held.clusters["cluster_6_7"], [-1, 0])
    assert held.folds.tolist() == [1, 0]


def test_a_table_is_put_in_the_order_of_crops_also_where_a_hand_has_several(tmp_path: Path) -> None:
    rows = [("a", 5, 100), ("b", 6, 101), ("a", 6, 102), ("c", 5, 103), ("b", 5, 104)]
    with (tmp_path / "oof.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER.split(","))
        for name, grade, age in rows:
            writer.writerow([name, "male", age, grade, grade, 59, 59, 0, -1, 0.1, "", 0])
    held = read_held_out(tmp_path / "oof.csv").in_order(["b", "b", "a", "c", "a"])
    assert held.ids == ("b", "b", "a", "c", "a")
    assert held.ages.tolist() == [101, 104, 100, 103, 102]
    assert held.grades.tolist() == [6, 5, 5, 5, 6]
    for column in (held.ways["way_5_6"], held.clusters["cluster_5_6"], held.scores["paper"], held.folds):
        assert len(column) == 5


def test_points_are_the_papers_table_3() -> None:
    held = held_out([5, 5.5, 6, 6.5, 7], sexes=["male", "female", "", "male", "female"])
    np.testing.assert_array_equal(held.points(held.subgrades), [59, 63, np.nan, 79, 79])
    np.testing.assert_array_equal(held.points(np.full(5, np.nan)), [np.nan] * 5)


def test_cells_are_grades_together_with_their_clusters() -> None:
    held = held_out([5, 5, 5.5, 6, 6], clusters={"cluster_5_6": [0, 1, 1, 1, 2]})
    assert len(set(held.cells.tolist())) == 4
    assert held.cells[1] == held.cells[2] != held.cells[3]


# Ages by sub-grade


def test_the_order_of_ages_is_told_by_sex_with_every_step() -> None:
    subgrades = [5.0] * 6 + [5.5] * 6 + [6.0] * 6
    spread = [-2.0, -1.0, 0.0, 0.0, 1.0, 2.0]
    ages = [mean + step for mean in (120, 126, 125) for step in spread]
    both = held_out(subgrades * 2, sexes=["female"] * 18 + ["male"] * 18, ages=[*ages, *np.add(ages, 12)])
    rows = order_of_ages(both)
    assert [(row.sex, row.subgrade, row.hands) for row in rows] == [
        (sex, grade, 6) for sex in Sex for grade in (5.0, 5.5, 6.0)
    ]
    assert [row.mean.estimate for row in rows] == pytest.approx([120, 126, 125, 132, 138, 137])
    for first, second, third in (rows[:3], rows[3:]):
        assert first.step is None and second.step is not None and third.step is not None
        assert second.step.estimate == pytest.approx(6) and second.step.low > 3
        assert third.step.estimate == pytest.approx(-1) and third.step.low < 0 < third.step.high


def test_a_sub_grade_of_two_grades_lies_between_them_by_chance_alone() -> None:
    """Ages that follow the whole grade: 5_5 takes half of each, and its steps are those of any deal."""
    rng = np.random.default_rng(0)
    grades = np.repeat([5, 6], 40)
    ages = np.where(grades == 5, 120.0, 132.0) + rng.normal(0, 3, 80)
    subgrades = np.where(np.arange(80) % 2 == 0, grades, 5.5)
    blind = order_of_ages(held_out(subgrades.tolist(), grades=grades, ages=ages))
    assert blind[0].by_chance is None
    half = (ages[grades == 6].mean() - ages[grades == 5].mean()) / 2
    for row in blind[1:]:
        assert row.step is not None and row.by_chance is not None
        assert row.step.estimate == pytest.approx(half, abs=2) and row.step.low > 0
        assert row.by_chance.estimate == pytest.approx(half, abs=0.3)
        assert row.by_chance.low <= row.step.estimate <= row.by_chance.high
    # A sub-grade that takes the older 5s and the younger 6s steps beyond chance.
    for grade in (5, 6):
        mine = np.flatnonzero(grades == grade)
        order = mine[np.argsort(ages[mine])]
        subgrades[order] = 5.5
        subgrades[order[:20] if grade == 5 else order[20:]] = grade
    knowing = order_of_ages(held_out(subgrades.tolist(), grades=grades, ages=ages))
    assert knowing[1].step is not None and knowing[1].by_chance is not None
    assert knowing[1].step.estimate > knowing[1].by_chance.high


def test_of_a_few_hands_no_mean_is_told() -> None:
    subgrades = [5.0] * FEWEST + [5.5] * (FEWEST - 1) + [6.0] * FEWEST
    ages = np.linspace(100, 140, len(subgrades))
    rows = order_of_ages(held_out(subgrades, ages=ages))
    assert [row.subgrade for row in rows] == [5, 6]
    assert rows[1].step is not None  # from 5 to 6, over what is not told
    assert rows[1].step.estimate == pytest.approx(ages[-FEWEST:].mean() - ages[:FEWEST].mean())
    assert order_of_ages(held_out(subgrades)) == []  # ages unknown
    assert order_of_ages(held_out(subgrades, ages=ages, sexes=[""] * len(subgrades))) == []


def test_order_within_a_grade_is_spearmans_correlation() -> None:
    subgrades, ages = [5.0] * 15 + [5.5] * 15, np.linspace(100, 130, 30)
    way = np.exp(ages / 20)  # rises with the age, on no straight line
    (row,) = within_grades(held_out(subgrades, ages=ages, ways={"way_5_6": way}))
    assert (row.sex, row.grade, row.hands) == (Sex.MALE, 5, 30)
    assert set(row.positions) == {"5_6"} and row.positions["5_6"].estimate == pytest.approx(1)
    assert row.subgrade is not None and row.subgrade.estimate == pytest.approx(np.sqrt(3) / 2, abs=0.02)
    (falling,) = within_grades(held_out(subgrades, ages=-ages + 300, ways={"way_5_6": way}))
    assert falling.positions["5_6"].estimate == pytest.approx(-1)


def test_order_within_a_grade_agrees_with_scipy() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    ages = rng.normal(120, 10, 40).round()  # with ties
    subgrades = np.where(rng.normal(ages - 120, 8) > 0, 5.5, 5.0)
    (row,) = within_grades(held_out(subgrades.tolist(), ages=ages))
    assert row.positions == {} and row.subgrade is not None
    assert row.subgrade.estimate == pytest.approx(spearmanr(subgrades, ages).statistic)
    assert row.subgrade.low < row.subgrade.estimate < row.subgrade.high


def test_within_one_sub_grade_there_is_no_order() -> None:
    ages = np.linspace(100, 130, 20)
    (row,) = within_grades(held_out([5.0] * 20, ages=ages))
    assert row.subgrade is None
    assert within_grades(held_out([5.0] * 19, ages=ages[:19])) == []


# Months


def test_the_radius_own_age_is_the_mean_of_the_other_folds() -> None:
    """Grade 5 is 100 months in one half and 110 in the other, which the sub-grade tells apart."""
    subgrades = [5.0, 5.0, 5.5, 5.5] * 6
    ages = [100.0, 100.0, 110.0, 110.0] * 6
    cells = [0.0, 0.0, 1.0, 1.0] * 6
    plain, cell = age_by_radius(held_out(subgrades, ages=ages, clusters={"cluster_5_6": cells}))
    assert plain.what == "the radius alone" and "grade and cluster together" in cell.what
    for row in (plain, cell):
        assert row.hands == 24
        assert row.whole.estimate == pytest.approx(5)
        assert row.divided.estimate == pytest.approx(0)
        assert row.difference.estimate == pytest.approx(-5)


def test_a_hand_has_no_part_in_its_own_age() -> None:
    ages = np.full(20, 100.0)
    ages[4] = 160  # fold 0: the others of fold 1 say 100, those of fold 0 say 100 with it
    rows = age_by_radius(held_out([5.0] * 20, ages=ages))
    # 10 hands of fold 1 are told 106 by fold 0's ten, one of which is 160.
    assert rows[0].whole.estimate == pytest.approx((60 + 10 * 6) / 20)
    assert rows[0].difference.estimate == 0


def test_a_sub_grade_of_a_few_hands_has_its_whole_grades_age() -> None:
    few = 2 * (FEWEST - 1)  # in each fold fewer than are told
    subgrades = [5.0] * 20 + [5.5] * few
    rows = age_by_radius(held_out(subgrades, ages=[100.0] * 20 + [128.0] * few))
    mean = (100 * 10 + 128 * few / 2) / (10 + few / 2)
    hands = 20 + few
    assert rows[0].whole.estimate == pytest.approx((20 * (mean - 100) + few * (128 - mean)) / hands)
    # The twenty are told by their own sub-grade, the few by the whole grade.
    assert rows[0].divided.estimate == pytest.approx(few * (128 - mean) / hands)


def test_boys_and_girls_have_ages_of_their_own() -> None:
    sexes = ["female", "female", "male", "male"] * 6
    rows = age_by_radius(held_out([5.0] * 24, sexes=sexes, ages=[100.0, 100.0, 130.0, 130.0] * 6))
    assert rows[0].whole.estimate == pytest.approx(0)


def test_a_hand_whose_like_the_other_folds_lack_is_left_out() -> None:
    ages = [100.0, 102.0] * 12 + [130.0, 90.0]
    held = held_out([5.0] * 26, ages=ages, sexes=["female"] * 24 + ["male", ""])
    rows = age_by_radius(held)
    assert [row.hands for row in rows] == [24, 24]  # the one boy has nobody to be told by
    sexes, folds = ["female"] * 19 + ["male"] * 5, [0, 1] * 9 + [0] * 6
    mostly = held_out([5.0] * 24, ages=ages[:24], sexes=sexes, folds=folds)
    assert age_by_radius(mostly) == []  # five boys of one fold leave nineteen hands


def test_of_a_few_aged_hands_no_error_is_told() -> None:
    ages = [100.0] * (4 * FEWEST - 1) + [np.nan] * 10
    assert age_by_radius(held_out([5.0] * len(ages), ages=ages)) == []


def all_bones(radius: float) -> dict[Bone, float]:
    return {bone: radius if bone is RADIUS else 5.0 for bone in CHN}


def age_at(total: float) -> float:
    return float(np.interp(total, *age_curve("chn", "male")))


def test_chns_age_of_all_bones_moves_with_the_radius() -> None:
    subgrades = [5.0, 5.0, 5.5, 5.5, 6.0, 6.0, 6.5, 6.5] * 3
    grades = [5, 5, 5, 5, 6, 6, 7, 7] * 3
    bones = {f"h{index}": all_bones(grade) for index, grade in enumerate(grades)}
    chn = standard("chn")
    totals = [chn.total("male", all_bones(grade)) for grade in grades]
    own = [
        total - POINTS[grade] + POINTS[subgrade]
        for total, grade, subgrade in zip(totals, grades, subgrades, strict=True)
    ]
    truth = [age_at(total) for total in own]
    held = held_out(subgrades, grades=grades, ages=truth)
    rows = age_by_standard(held, bones)
    expected = np.mean([abs(age_at(total) - age) for total, age in zip(totals, truth, strict=True)])
    assert [row.what for row in rows] == [
        f"{kind}, {reading}"
        for reading in ("Table III", "our scores (equation 10)", "our scores (geometric)")
        for kind in ("CHN of all bones", "the same after a line by sex")
    ]
    for row in rows[::2]:  # our scores are the paper's here
        assert row.hands == 24
        assert row.whole.estimate == pytest.approx(expected) and expected > 0.3
        assert row.divided.estimate == pytest.approx(0, abs=1e-9)
        assert row.difference.estimate == pytest.approx(-expected)
    for row in rows[1::2]:
        assert row.divided.estimate == pytest.approx(0, abs=1e-6)
        assert 0.05 < row.whole.estimate < expected + 1


def test_a_bias_of_all_bones_is_taken_out_by_a_line() -> None:
    subgrades = [5.0, 5.0, 5.5, 5.5, 6.0, 6.0, 6.5, 6.5] * 3
    grades = [5, 5, 5, 5, 6, 6, 6, 6] * 3
    bones = {f"h{index}": all_bones(grade) for index, grade in enumerate(grades)}
    chn = standard("chn")
    own = [
        chn.total("male", all_bones(grade)) - POINTS[grade] + POINTS[subgrade]
        for grade, subgrade in zip(grades, subgrades, strict=True)
    ]
    biased = [0.9 * age_at(total) + 24 for total in own]
    direct, lined = age_by_standard(held_out(subgrades, grades=grades, ages=biased), bones)[:2]
    assert direct.divided.estimate > 5
    assert lined.divided.estimate == pytest.approx(0, abs=1e-6)
    assert lined.whole.estimate > 0.2


def test_a_sub_grade_without_a_score_keeps_the_whole_grades() -> None:
    subgrades = [5.0, 5.0, 5.5, 5.5] * 6
    bones = {f"h{n}": {**all_bones(5), Bone.MC1: 4.0 + n % 3} for n in range(24)}
    none = np.where(np.array(subgrades) == 5, POINTS[5.0], np.nan)
    scores = {"paper": none, "geometric": none}
    held = held_out(subgrades, grades=[5] * 24, ages=np.linspace(100, 130, 24), scores=scores)
    rows = {row.what: row for row in age_by_standard(held, bones)}
    assert rows["CHN of all bones, our scores (geometric)"].difference.estimate == 0
    assert rows["CHN of all bones, Table III"].difference.estimate != 0


def test_without_all_bones_there_is_no_age_of_all_bones() -> None:
    subgrades, ages = [5.0] * 24, np.linspace(100, 130, 24)
    incomplete = {f"h{index}": {RADIUS: 5.0} for index in range(24)}
    assert age_by_standard(held_out(subgrades, ages=ages), incomplete) == []
    assert age_by_standard(held_out(subgrades, ages=ages), {}) == []
    some = {f"h{n}": {**all_bones(5), Bone.MC1: 4.0 + n % 3} for n in range(4 * FEWEST - 1)}
    assert age_by_standard(held_out(subgrades, ages=ages), some) == []
    some["h23"] = all_bones(5)
    assert age_by_standard(held_out(subgrades, ages=ages), some)[0].hands == 4 * FEWEST


# Table 4


def test_the_papers_rule_makes_its_own_months_of_its_own_points() -> None:
    """5632 and 1233 points of 1000 children are 1.69 and 0.37 months."""
    assert round(5.632 * MONTHS_A_POINT, 2) == 1.69
    assert round(1.233 * MONTHS_A_POINT, 2) == 0.37


def test_table_4_is_the_sum_and_the_mean_of_errors_in_points_and_their_months() -> None:
    held = held_out([5.0, 5.5, 6.0, 6.5])  # boys, whole grades 5, 5, 6, 6
    before = np.array([5.0, 6.0, 6.0, 7.0])  # 0, 12, 0 and 16 points off
    after = np.array([5.5, 5.5, 6.0, 7.0])  # 6, 0, 0 and 8 points off
    rows, gain = table_4(held, before, after)
    told = {row.what: row for row in rows}
    assert list(told) == [
        "before subdivision",
        "after subdivision",
        "undivided recognition, sub-graded truth",
    ]
    for row, total in zip(rows, (28, 14, 0 + 6 + 0 + 8), strict=True):
        assert row.hands == 4 and row.by_curve is None
        assert row.total == pytest.approx(total)
        assert row.points.estimate == pytest.approx(total / 4)
        assert row.months.estimate == pytest.approx(0.3 * total / 4)
        assert (row.months.low, row.months.high) == pytest.approx(
            (0.3 * row.points.low, 0.3 * row.points.high)
        )
    assert gain is not None and gain.estimate == pytest.approx((14 - 28) / 4)


def test_girls_have_their_own_points() -> None:
    held = held_out([5.0, 6.0], sexes=["female", "male"])
    rows, _ = table_4(held, np.array([6.0, 7.0]), np.array([5.5, 6.5]))
    assert [row.total for row in rows[:2]] == pytest.approx([12 + 16, 6 + 8])


def test_errors_are_put_on_chns_curve_where_all_ages_are_known() -> None:
    held = held_out([5.0] * 3, ages=[130.0, 130.0, 130.0])
    rows, _ = table_4(held, np.array([6.0, 5.0, 5.0]), np.array([5.0, 5.0, 5.0]))
    totals, months = age_curve("chn", "male")
    total = np.interp(130, months, totals)
    moved = np.interp(total + 12, totals, months) - 130
    assert rows[0].by_curve is not None and rows[0].by_curve.estimate == pytest.approx(moved / 3)
    assert 0.5 < moved / (12 * MONTHS_A_POINT) < 2  # the paper's rule is about the curve's
    assert rows[1].by_curve is not None and rows[1].by_curve.estimate == 0
    some = held_out([5.0] * 3, ages=[130.0, np.nan, 130.0])
    assert all(row.by_curve is None for row in table_4(some, np.full(3, 6.0), np.full(3, 5.0))[0])


def test_cases_that_were_not_recognised_or_have_no_sex_are_left_out() -> None:
    held = held_out([5.0] * 5, sexes=["male", "male", "male", "", "male"])
    before = np.array([6.0, np.nan, 6.0, 6.0, 5.0])
    after = np.array([5.0, 5.0, np.nan, 5.0, 5.5])
    rows, gain = table_4(held, before, after)
    assert [(row.hands, row.total) for row in rows] == [(2, 12), (2, 6), (2, 12)]
    assert gain is not None and gain.estimate == pytest.approx(-3)
    assert table_4(held, np.full(5, np.nan), after) == ([], None)


def test_accuracy_is_the_share_of_true_grades_among_those_recognised() -> None:
    found = accuracy(np.array([5.0, 5.5, np.nan, 6.0, 6.0]), np.array([5.0, 5.0, 6.0, 6.0, 6.0]))
    assert found is not None and found.estimate == pytest.approx(0.75)
    assert accuracy(np.full(3, np.nan), np.full(3, 5.0)) is None
