"""What a bone age means for growth: by hand, each height by its own bone age, and reasons for none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.inference.growth import RUS_METHOD, Measurements, growth
from boneage.standards.adult_height import METHODS, Child, predict_heights

ALL = Measurements(height_cm=140.0, weight_kg=35.0, father_cm=178.0, mother_cm=166.0)


def test_the_sd_score_by_hand() -> None:
    score = growth(Sex.MALE, 130.0, None, 144.0, Measurements())["sd_score"]
    assert score["difference_months"] == -14.0
    assert score["sd_months"] == 10.38  # Brush, boys of 12 years
    assert score["value"] == pytest.approx(-14.0 / 10.38)
    assert "Brush" in score["reference"] and score["remarks"] == []


def test_plates_need_nothing_and_the_rest_needs_an_age() -> None:
    found = growth(Sex.MALE, 140.0, None, None, Measurements())
    assert [plate["age_months"] for plate in found["plates"]] == [138, 132]
    assert found.keys() == {"plates"}
    assert growth(Sex.MALE, 140.0, None, 130.0, Measurements()).keys() == {"plates", "sd_score"}


def test_a_height_without_an_age_predicts_nothing_and_says_so() -> None:
    found = growth(Sex.MALE, 140.0, 138.0, None, ALL)
    assert found.keys() == {"plates", "adult_heights"}
    assert found["adult_heights"]["predictions"] == []
    assert found["adult_heights"]["left_out"] == dict.fromkeys(METHODS, "needs age_months: give it")


@pytest.mark.parametrize("age", [1.0, 230.0, 300.0, 301.0, 480.0])
def test_an_age_that_the_reference_does_not_reach_has_a_reason_for_a_score(age: float) -> None:
    score = growth(Sex.FEMALE, 200.0, None, age, Measurements())["sd_score"]
    assert score["value"] is None
    assert f"{age:g}" in score["remarks"][0] and "no SD score" in score["remarks"][0]


def test_every_height_is_predicted_from_the_bone_age_that_it_was_made_with() -> None:
    found = growth(Sex.MALE, 118.0, 106.0, 120.0, ALL)["adult_heights"]
    assert found["left_out"] == {}
    child = Child(Sex.MALE, 120.0, 140.0, 35.0, 118.0, 178.0, 166.0)
    expected = {item.method: item.height_cm for item in predict_heights(child).predictions}
    by_rus = {
        item.method: item for item in predict_heights(replace(child, bone_age_months=106.0)).predictions
    }
    predicted = {item["method"]: item for item in found["predictions"]}
    assert predicted.keys() == METHODS.keys()
    assert predicted[RUS_METHOD]["height_cm"] == by_rus[RUS_METHOD].height_cm != expected[RUS_METHOD]
    assert any("TW3-RUS" in remark for remark in predicted[RUS_METHOD]["remarks"])
    for name in METHODS.keys() - {RUS_METHOD}:
        assert predicted[name]["height_cm"] == expected[name]
        assert not any("TW3-RUS" in remark for remark in predicted[name]["remarks"])


def test_without_a_tw3_age_its_method_is_left_out_and_takes_no_other_bone_age() -> None:
    found = growth(Sex.MALE, 118.0, None, 120.0, ALL)["adult_heights"]
    assert RUS_METHOD not in [item["method"] for item in found["predictions"]]
    assert found["left_out"] == {RUS_METHOD: "needs bone_age_months: give it"}


def test_methods_without_their_measurements_say_which() -> None:
    found = growth(Sex.MALE, 118.0, 106.0, 120.0, Measurements(height_cm=140.0))["adult_heights"]
    assert [item["method"] for item in found["predictions"]] == ["bayley_pinneau", RUS_METHOD]
    assert "weight_kg, father_cm, mother_cm" in found["left_out"]["khamis_roche_1995"]
    assert "father_cm" in found["left_out"]["mid_parental"]


def test_a_girl_of_twelve_needs_to_be_asked_for_menarche() -> None:
    asked = growth(Sex.FEMALE, 140.0, 138.0, 144.0, ALL)["adult_heights"]
    assert "menarche" in asked["left_out"][RUS_METHOD]
    told = growth(Sex.FEMALE, 140.0, 138.0, 144.0, replace(ALL, menarche=False))["adult_heights"]
    assert RUS_METHOD in [item["method"] for item in told["predictions"]]


@pytest.mark.parametrize(
    ("sex", "measured", "named"),
    [
        (Sex.MALE, replace(ALL, height_cm=55.0), "centimetres"),  # inches
        (Sex.MALE, replace(ALL, height_cm=1.4), "height_cm"),  # metres
        (Sex.MALE, replace(ALL, height_cm=math.nan), "height_cm"),
        (Sex.MALE, replace(ALL, weight_kg=-3.0), "weight_kg"),
        (Sex.MALE, replace(ALL, father_cm=5.9), "father_cm"),
        (Sex.MALE, replace(ALL, menarche=True), "girls only"),
    ],
)
def test_what_no_child_measures_is_refused(sex: Sex, measured: Measurements, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        growth(sex, 118.0, 106.0, 120.0, measured)
