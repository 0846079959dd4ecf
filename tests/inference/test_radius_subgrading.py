"""The radius' sub-grade at inference: what training would name, scored beside CHN, and no age is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from boneage_fakes import graded_hand
from radius_fakes import pair_model, subgrader, with_subgrades

from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.anatomy.regions import RegionViews, bone_regions
from boneage.core.errors import BundleError
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.synthetic import draw_hand
from boneage.inference.assess import Assessor
from boneage.inference.bundle import Bundle
from boneage.inference.radius_subgrading import NOTHING, RadiusSubgrading, SubgradedRadius
from boneage.recipes.graded_regions.grades import GradedHand
from boneage.recipes.graded_regions.prior import BONES
from boneage.recipes.radius_subgrades.frames import patch_of
from boneage.recipes.radius_subgrades.subgrades import PairModel, Subgrader
from boneage.standards.names import Bone
from boneage.standards.scoring import score, standard

GRADING = Bundle(Path("fake"), {"name": "fake", "version": "0", "methods": {"graded_regions": {}}})
OF_CHN = {5: 6, 6: 7, 7: 8, 8: 10}
"""CHN's radius grade -> a RUS-CHN grade that is mapped to it."""


@pytest.fixture(scope="module")
def film() -> tuple[Radiograph, Hand]:
    """A drawn hand, and where it lies."""
    drawn = draw_hand(120.0, Sex.FEMALE, 0)
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    hand = hand_from_points(points, None, drawn.pixels.shape, confidence=0.9, method="fast")
    return drawn.radiograph, hand


def graded(grade: int, sex: Sex = Sex.MALE, missing: Sequence[str] = ()) -> GradedHand:
    """A hand whose radius has a CHN grade."""
    grades = tuple(OF_CHN[grade] if bone is Bone.RADIUS else 6 for bone in BONES)
    return graded_hand(sex, missing, grades)


@pytest.fixture
def tell(tmp_path: Path, film: tuple[Radiograph, Hand]):  # type: ignore[no-untyped-def]
    """Subgrade the drawn hand's radius with models made by hand."""

    def ask(
        hand: GradedHand, *pairs: PairModel, sex: Sex = Sex.MALE, unlike: bool = False
    ) -> SubgradedRadius:
        bundle = with_subgrades(GRADING, tmp_path, subgrader(*pairs, unlike=unlike))
        return RadiusSubgrading(bundle)(*film, sex, hand)

    return ask


@pytest.mark.parametrize(
    ("grade", "pair", "sex", "name", "points"),
    [
        (5, (5, 6), Sex.MALE, "5_5", 65),
        (6, (5, 6), Sex.FEMALE, "5_5", 63),
        (6, (6, 7), Sex.MALE, "6_5", 79),
        (7, (6, 7), Sex.FEMALE, "6_5", 74),
    ],
)
def test_a_radius_between_two_grades_has_the_papers_name_and_score(
    tell, grade: int, pair: tuple[int, int], sex: Sex, name: str, points: float
) -> None:
    found = tell(graded(grade, sex), pair_model(pair, 0.4), sex=sex)
    radius = found.subgrade
    assert (radius.grade, radius.name, radius.subgrade) == (grade, name, pair[0] + 0.5)
    assert (radius.score, radius.between) == (points, pair)
    assert radius.position == {f"{pair[0]}-{pair[1]}": pytest.approx(0.4, abs=1e-3)}
    assert [mean.grade for mean in radius.means] == [pair[0], pair[0] + 0.5, pair[1]]
    assert found.warnings == ()


def test_the_view_is_the_one_that_training_cuts(tmp_path: Path, film: tuple[Radiograph, Hand]) -> None:
    radiograph, hand = film
    made = subgrader(pair_model((5, 6), 0.0, looks=True))
    radius = RadiusSubgrading(with_subgrades(GRADING, tmp_path, made))(*film, Sex.MALE, graded(5)).subgrade
    (region,) = bone_regions(hand, radiograph.shape, ["radius"])
    (expected,) = made.views([patch_of(RegionViews(radiograph), region.to_view)])
    assert radius is not None and radius.view is not None and expected is not None
    assert np.array_equal(radius.view, expected) and np.ptp(expected) > 0.5
    assert radius.position["5-6"] == pytest.approx(float(expected.mean()), abs=1e-3)
    mean = radius.means[-1]
    assert (mean.name, mean.count, int(mean.image[0, 0])) == ("6", 12, 80)


def test_the_total_takes_the_sub_grades_score_and_the_expected_one_is_kept(tell) -> None:
    hand = graded(5)
    found = tell(hand, pair_model((5, 6), 0.5))
    own, whole = found.scores["chn_radius_subgraded"], hand.scores["chn"]
    assert own.keys() == whole.keys()
    assert own["total"] == whole["total"] + 65 - 59
    grades = {Bone(region.bone): region.grades["chn"] for region in hand.regions if "chn" in region.grades}
    sheet = score("chn_radius_subgraded", Sex.MALE, {**grades, Bone.RADIUS: 5.5})
    assert (own["total"], own["age_months"]) == (sheet.total, sheet.age_months)
    assert own["age_months"] > whole["age_months"]
    assert all(own[key] == whole[key] for key in ("expected_total", "expected_age_months"))
    assert "sub-grades" in own["edition"] and own["edition"] == standard("chn_radius_subgraded").edition
    assert any("CHN's own" in remark for remark in own["remarks"])
    assert any("weak mapping" in remark for remark in own["remarks"])
    assert any("One source" in remark for remark in own["remarks"]), "the sub-grades' table is weak"


@pytest.mark.parametrize(("grade", "way"), [(5, -0.6), (5, 0.1), (6, 0.9), (6, 1.7)])
def test_a_radius_in_its_own_grades_group_keeps_the_grade(tell, grade: int, way: float) -> None:
    found = tell(graded(grade), pair_model((5, 6), way))
    radius = found.subgrade
    assert (radius.subgrade, radius.name, radius.between) == (grade, str(grade), None)
    assert radius.score == {5: 59, 6: 71}[grade] and found.warnings == ()
    assert found.scores["chn_radius_subgraded"]["total"] == graded(grade).scores["chn"]["total"]


@pytest.mark.parametrize(("grade", "way"), [(6, -0.6), (6, 0.1), (5, 0.9), (5, 1.7)])
def test_a_radius_in_the_other_grades_group_lies_between(tell, grade: int, way: float) -> None:
    found = tell(graded(grade), pair_model((5, 6), way))
    assert (found.subgrade.grade, found.subgrade.name, found.warnings) == (grade, "5_5", ())


def test_a_radius_between_both_its_neighbours_keeps_its_grade_and_that_is_said(tell) -> None:
    found = tell(graded(6), pair_model((5, 6), 0.5), pair_model((6, 7), 0.4))
    assert found.subgrade.name == "6" and found.subgrade.position.keys() == {"5-6", "6-7"}
    (notice,) = found.warnings
    assert notice.code == "radius_not_subgraded"
    assert "between 5 and 6 as well as between 6 and 7" in notice.text


def test_a_refused_pair_names_no_sub_grade_and_says_why(tell) -> None:
    refused, other = pair_model((5, 6), 0.5, "the bone age falls"), pair_model((6, 7), 0.1)
    found = tell(graded(6), refused, other)
    assert found.subgrade.name == "6"
    assert [(notice.code, "5 and 6: the bone age falls" in notice.text) for notice in found.warnings] == [
        ("radius_not_subgraded", True)
    ]
    assert tell(graded(7), refused, other).warnings == ()
    between = tell(graded(6), refused, pair_model((6, 7), 0.5))
    assert (between.subgrade.name, between.warnings) == ("6_5", ())


def test_a_radius_unlike_the_mean_one_keeps_its_grade_and_that_is_said(tell) -> None:
    found = tell(graded(5), pair_model((5, 6), 0.5), unlike=True)
    assert (found.subgrade.name, found.subgrade.view, found.subgrade.position) == ("5", None, {})
    (notice,) = found.warnings
    assert notice.code == "radius_not_subgraded" and "cannot be laid over the mean radius" in notice.text


def test_a_grade_in_no_pair_is_kept_without_a_word(tell) -> None:
    found = tell(graded(8), pair_model((5, 6), 0.5), unlike=True)
    assert (found.subgrade.grade, found.subgrade.name) == (8, "8")
    assert (found.subgrade.view, found.subgrade.means, found.warnings) == (None, (), ())
    assert found.subgrade.score == standard("chn").grade_score(Sex.MALE, Bone.RADIUS, 8)


def test_a_radius_without_a_grade_has_no_sub_grade(tell) -> None:
    assert tell(graded(5, missing=("radius",)), pair_model((5, 6), 0.5)) == NOTHING


def test_without_a_total_of_chn_there_is_none_with_the_sub_grade(tell) -> None:
    found = tell(graded(5, missing=("hamate",)), pair_model((5, 6), 0.5))
    assert found.subgrade.name == "5_5" and found.scores == {}
    without_ulna = tell(graded(5, missing=("ulna",)), pair_model((5, 6), 0.5))
    assert without_ulna.scores.keys() == {"chn_radius_subgraded"}


def test_the_radiograph_is_left_as_it_was_and_the_stage_is_watched(
    tmp_path: Path, film: tuple[Radiograph, Hand]
) -> None:
    stages: list[str] = []

    @contextmanager
    def watch(stage: str) -> Iterator[None]:
        stages.append(stage)
        yield

    before = film[0].pixels.copy()
    bundle = with_subgrades(GRADING, tmp_path, subgrader(pair_model((5, 6), 0.5)))
    RadiusSubgrading(bundle, watch)(*film, Sex.MALE, graded(5))
    assert stages == ["subgrade"] and np.array_equal(before, film[0].pixels)


def test_a_bundle_without_sub_grades_or_grades_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"fake 0 has no sub-grades.*--radius-subgrades RUN"):
        RadiusSubgrading(GRADING)
    bundle = with_subgrades(GRADING, tmp_path, subgrader(pair_model((5, 6), 0.5)), methods={})
    with pytest.raises(BundleError, match=r"does not grade bones.*--grades"):
        RadiusSubgrading(bundle)


def test_files_that_are_not_what_the_manifest_says_are_refused(tmp_path: Path) -> None:
    bundle = with_subgrades(GRADING, tmp_path, subgrader(pair_model((5, 6), 0.5)))
    two: Subgrader = subgrader(pair_model((5, 6), 0.5), pair_model((6, 7), 0.5))
    with pytest.raises(BundleError, match=r"radius_subgrades\.npz"):
        RadiusSubgrading(Bundle(bundle.path, {**bundle.manifest, "radius_subgrades": two.settings()}))
    (tmp_path / "radius_means.npz").write_bytes(b"no arrays")
    with pytest.raises(BundleError, match=r"radius_means\.npz holds no mean radii"):
        RadiusSubgrading(bundle)


def test_the_answer_is_the_same_with_and_without(tmp_path: Path) -> None:
    shipped = Bundle.load()
    drawn = draw_hand(120.0, Sex.FEMALE).radiograph
    plain = Assessor(shipped, threads=1).assess(drawn)
    assert plain.radius_subgrade is None and "chn_radius_subgraded" not in plain.scores
    grade = round(plain.regions[0].grades["chn"])
    pair = (grade, grade + 1) if grade < 9 else (grade - 1, grade)
    bundle = with_subgrades(shipped, tmp_path, subgrader(pair_model(pair, 0.5)))
    found = Assessor(bundle, threads=1, radius_subgrades=True).assess(drawn)
    assert found.radius_subgrade is not None and found.radius_subgrade.subgrade == pair[0] + 0.5
    for key in ("bone_age_months", "interval_months", "ages", "regions", "growth", "warnings"):
        assert getattr(found, key) == getattr(plain, key), key
    assert {**found.scores, "chn_radius_subgraded": None} == {**plain.scores, "chn_radius_subgraded": None}
    assert found.provenance["method"] == plain.provenance["method"]
