"""Adult height: editions, units, ranges, and what each method says of its weak points."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError, NotApplicable
from boneage.core.types import Sex
from boneage.standards import adult_height
from boneage.standards.adult_height import METHODS, Child, predict_heights

BOY = Child(
    Sex.MALE,
    age_months=120,
    height_cm=138,
    weight_kg=32,
    bone_age_months=118,
    father_cm=178,
    mother_cm=165,
)
GIRL = replace(BOY, sex=Sex.FEMALE, age_months=144, height_cm=150, bone_age_months=140, menarche=False)

YOUNG = replace(BOY, age_months=47, height_cm=100)
OLDER = replace(BOY, age_months=180, height_cm=160)


def codes(prediction: adult_height.HeightPrediction) -> set[str]:
    return {notice.code for notice in prediction.warnings}


@pytest.mark.parametrize("child", [BOY, GIRL], ids=["boy", "girl"])
def test_every_method_predicts_an_adults_height_under_its_own_name(child: Child) -> None:
    forecast = predict_heights(child)
    assert [prediction.method for prediction in forecast.predictions] == list(METHODS)
    assert forecast.left_out == {}
    assert all(155 < prediction.height_cm < 190 for prediction in forecast.predictions)
    editions = " ".join(prediction.edition for prediction in forecast.predictions)
    for named in ("Bayley-Pinneau 1952", "TW Mark I", "1975", "Khamis and Guo 1993", "1995 erratum"):
        assert named in editions
    assert "TW3" not in editions


@settings(deadline=None, max_examples=40)
@given(
    height=st.floats(100, 160),
    weight=st.floats(15, 80),
    father=st.floats(150, 200),
    mother=st.floats(140, 190),
)
def test_a_boy_of_ten_by_khamis_roches_printed_row(
    height: float, weight: float, father: float, mother: float
) -> None:
    child = Child(Sex.MALE, 120, height, weight_kg=weight, father_cm=father, mother_cm=mother)
    inches, pounds, parents = height / 2.54, weight / 0.45359237, (father + mother) / 2 / 2.54
    expected = -11.038 + 0.97135 * inches - 0.039981 * pounds + 0.45932 * parents
    assert adult_height.khamis_roche(child).height_cm == pytest.approx(expected * 2.54, abs=1e-9)


def test_mid_parental_height() -> None:
    assert adult_height.mid_parental(BOY).height_cm == (178 + 165 + 13) / 2
    assert adult_height.mid_parental(GIRL).height_cm == (178 + 165 - 13) / 2


def test_between_two_rows_coefficients_are_interpolated() -> None:
    at = {age: adult_height.rwt_1993(replace(BOY, age_months=age)).height_cm for age in (120, 123, 126)}
    assert at[123] == pytest.approx((at[120] + at[126]) / 2)


def test_tw_mark1_keeps_its_age_bands_and_residual_error() -> None:
    boy = Child(Sex.MALE, 149.9, 150, bone_age_months=150)
    before, after = adult_height.tw_mark1(boy), adult_height.tw_mark1(replace(boy, age_months=150.0))
    assert (before.residual_sd_cm, after.residual_sd_cm) == (3.5, 3.5)
    assert before.height_cm == pytest.approx(1.08 * 150 - 4.2 * 149.9 / 12 - 2.6 * 12.5 + 98)
    assert after.height_cm == pytest.approx(1.03 * 150 - 3.4 * 12.5 - 3.2 * 12.5 + 103)
    young = adult_height.tw_mark1(Child(Sex.MALE, 60, 110, bone_age_months=60))
    assert young.height_cm == pytest.approx(1.2 * 110 - 7.3 * 5 + 82)  # not 1.29, as some copies have
    after_menarche = adult_height.tw_mark1(replace(GIRL, age_months=135, menarche=True))
    assert "residual_estimated" in codes(after_menarche)
    assert "parental_allowance" in codes(after_menarche)


def test_rwt_1975_takes_recumbent_length_and_rwt_1993_stature() -> None:
    lying = replace(BOY, recumbent_length_cm=138 + 1.25)
    assert adult_height.rwt_1975(lying).height_cm == pytest.approx(adult_height.rwt_1975(BOY).height_cm)
    assert "length_from_height" in codes(adult_height.rwt_1975(BOY))
    assert "length_from_height" not in codes(adult_height.rwt_1975(lying))
    assert adult_height.rwt_1993(lying) == adult_height.rwt_1993(BOY)
    assert "height_at_18" in codes(adult_height.rwt_1993(BOY))


@pytest.mark.parametrize(
    ("child", "method", "said"),
    [
        (replace(BOY, age_months=190, height_cm=172), "rwt_1975", "weight printed -0.014"),
        (replace(GIRL, age_months=165), "rwt_1975", "weight printed -0.085"),
        (replace(GIRL, age_months=134), "rwt_1975", "intercept printed 84.136"),
        (replace(BOY, age_months=151, height_cm=150), "rwt_1993", "weight printed +0.01995"),
    ],
)
def test_a_row_with_a_misprint_says_so(child: Child, method: str, said: str) -> None:
    texts = [notice.text for notice in METHODS[method](child).warnings if notice.code == "misprint"]
    assert len(texts) == 1 and said in texts[0]
    assert "misprint" not in codes(METHODS[method](BOY))


@pytest.mark.parametrize(
    ("ahead", "category", "edge"),
    [
        (-13, "delayed", False),
        (-12, "delayed", True),
        (-11.9, "average", False),
        (0, "average", False),
        (11.9, "average", False),
        (12, "accelerated", True),
        (20, "accelerated", False),
    ],
)
def test_bayley_pinneaus_categories(ahead: float, category: str, edge: bool) -> None:
    prediction = adult_height.bayley_pinneau(replace(BOY, bone_age_months=120 + ahead))
    assert prediction.edition.endswith(f"{category} bone age")
    assert ("category_edge" in codes(prediction)) is edge


@pytest.mark.parametrize(
    ("child", "method", "said"),
    [
        (replace(BOY, bone_age_months=None), "bayley_pinneau", "needs bone_age_months"),
        (replace(OLDER, bone_age_months=159), "bayley_pinneau", "72 to 156 months, not 159"),
        (replace(YOUNG, bone_age_months=50), "bayley_pinneau", "84 to 222 months, not 50"),
        (YOUNG, "tw_mark1_1975", "48 to below 216 months, not 47"),
        (replace(GIRL, age_months=192, height_cm=160), "tw_mark1_1975", "48 to below 192 months, not 192"),
        (replace(GIRL, menarche=None), "tw_mark1_1975", "needs menarche of a girl"),
        (replace(GIRL, age_months=169), "rwt_1975", "12 to 168 months, not 169"),
        (replace(BOY, age_months=211, height_cm=172), "rwt_1993", "36 to 210 months, not 211"),
        (YOUNG, "khamis_roche_1995", "48 to 210 months, not 47"),
        (
            replace(BOY, weight_kg=None, father_cm=None),
            "khamis_roche_1995",
            "needs weight_kg, father_cm",
        ),
        (replace(BOY, mother_cm=None), "mid_parental", "needs mother_cm: give it"),
    ],
)
def test_a_method_that_cannot_says_why_and_the_others_go_on(child: Child, method: str, said: str) -> None:
    with pytest.raises(NotApplicable, match=said):
        METHODS[method](child)
    forecast = predict_heights(child)
    assert said in forecast.left_out[method]
    assert {prediction.method for prediction in forecast.predictions} == set(METHODS) - set(forecast.left_out)


def test_a_prediction_below_the_present_height_is_doubted() -> None:
    grown = replace(BOY, age_months=200, height_cm=190, bone_age_months=200)
    doubted = {prediction.method: codes(prediction) for prediction in predict_heights(grown).predictions}
    assert any("below_height" in found for found in doubted.values())
    assert "below_height" not in doubted["mid_parental"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"height_cm": 1.38}, "height_cm must be centimetres"),
        ({"height_cm": 54.3, "age_months": 126}, "give ages in months and heights in centimetres"),
        ({"age_months": 10}, "give ages in months and heights in centimetres"),
        ({"recumbent_length_cm": 55}, "give ages in months and heights in centimetres"),
        ({"weight_kg": 32000}, "weight_kg must be kilograms"),
        ({"weight_kg": -3}, "weight_kg must be kilograms"),
        ({"father_cm": 70}, "father_cm must be centimetres"),
        ({"mother_cm": math.nan}, "mother_cm must be centimetres"),
        ({"bone_age_months": math.inf}, "bone_age_months must be months"),
        ({"age_months": -1}, "age_months must be months"),
        ({"menarche": True}, "asked of girls only"),
        ({"sex": "boy"}, "sex must be"),
    ],
)
def test_wrong_units_and_impossible_children_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(BOY, **change)  # type: ignore[arg-type]


def test_a_prediction_that_is_no_adults_height_is_refused() -> None:
    with pytest.raises(NotApplicable, match="no adult's height"):
        adult_height.khamis_roche(replace(BOY, weight_kg=250, height_cm=60, father_cm=100, mother_cm=100))
