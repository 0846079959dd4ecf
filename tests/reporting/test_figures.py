"""Records, the tables of an evaluation, and its plots."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import cv2
import numpy as np
import pytest
from boneage_fakes import DISTRIBUTION, assessment

from boneage.core.errors import BundleError, ConfigError, NotAHand
from boneage.core.types import AgeDistribution, Region, Sex, Side
from boneage.reporting import accuracy, plots
from boneage.reporting.tabular import (
    Failure,
    assessment_record,
    failure_record,
    likely_intervals,
    one_line,
    plain,
    years_and_months,
)


@pytest.mark.parametrize(
    ("months", "text"), [(0, "0 y 0 m"), (11.6, "1 y 0 m"), (124.25, "10 y 4 m"), (-3.2, "-0 y 3 m")]
)
def test_ages_as_people_write_them(months: float, text: str) -> None:
    assert years_and_months(months) == text


def test_records_of_successes_and_failures_have_the_same_keys_and_are_json() -> None:
    region = Region("radius", (1.0, 2.0, 3.0, 4.0), {"rus_chn": np.float32(7.0)}, 0.5)
    found = assessment(regions=(region,), scores={"rus_chn": {"total": 500.0, "age_months": float("nan")}})
    record = json.loads(json.dumps(assessment_record(found), allow_nan=False))
    failed = failure_record(Failure.of("x.png", NotAHand("a foot")))
    assert failed.keys() - record.keys() == {"code"} and record.keys() <= failed.keys()
    assert record["regions"] == [
        {
            "bone": "radius",
            "box_px": [1.0, 2.0, 3.0, 4.0],
            "grades": {"rus_chn": 7.0},
            "confidence": 0.5,
            "expected_grade": None,
        }
    ]
    assert record["scores"]["rus_chn"] == {"total": 500.0, "age_months": None}
    assert record["hand"]["side"] == "left"


def test_age_intervals_are_in_the_record() -> None:
    assert assessment_record(assessment())["age_intervals"] == []
    records = assessment_record(assessment(distribution=DISTRIBUTION))["age_intervals"]
    assert records[2] == {"from_months": 108.0, "to_months": 120.0, "probability": 0.62}
    assert sum(record["probability"] for record in records) == pytest.approx(1)
    assert [record["to_months"] for record in records[:-1]] == [
        record["from_months"] for record in records[1:]
    ]


@pytest.mark.parametrize(
    ("probabilities", "named"),
    [
        ((0.62, 0.25, 0.07, 0.03, 0.03), [0.62, 0.25, 0.07]),
        ((0.02, 0.95, 0.01, 0.01, 0.01), [0.95]),
        ((0.0, 0.0, 1.0, 0.0, 0.0), [1.0]),
        ((0.06, 0.93, 0.01, 0.0, 0.0), [0.93, 0.06]),
    ],
)
def test_intervals_worth_naming(probabilities: tuple[float, ...], named: list[float]) -> None:
    distribution = AgeDistribution((0.0, 12.0, 24.0, 36.0, 48.0, 60.0), probabilities)
    assert [share for _, share in likely_intervals(distribution)] == named


def test_of_many_improbable_intervals_the_fewest_that_hold_nine_tenths_are_named() -> None:
    distribution = AgeDistribution(tuple(12.0 * year for year in range(41)), (0.025,) * 40)
    assert len(likely_intervals(distribution)) in {36, 37}  # 36, but for rounding in the sum
    assert likely_intervals(distribution)[0] == ("0 to 1 years", 0.025)


def test_status_of_a_failure() -> None:
    assert Failure.of("x", NotAHand("a")).status == "rejected"
    assert Failure.of("x", BundleError("a")).status == "failed"


def test_a_failures_line_names_the_file_once() -> None:
    assert Failure.of("a/x.png", NotAHand("a\n foot")).line == "a/x.png: a foot"
    assert Failure.of("a/x.png", NotAHand("a/x.png: a foot")).line == "a/x.png: a foot"
    assert Failure.of("a/x.png", NotAHand("a/x.png: a foot")).message == "a foot"


def test_a_failures_line_names_a_file_whose_name_is_a_word_of_the_message() -> None:
    assert Failure.of("hand", NotAHand("no hand found")).line == "hand: no hand found"


def test_plain_values() -> None:
    odd = {
        1: (np.arange(2), Sex.MALE, PurePosixPath("a"), float("inf")),
        "s": {Side.LEFT},
        "n": None,
        "b": True,
    }
    assert plain(odd) == {"1": [[0, 1], "male", "a", None], "s": ["left"], "n": None, "b": True}
    assert one_line(" a\n\tb ") == "a b"


def predictions(count: int = 60, bounded: bool = True) -> accuracy.Predictions:
    rng = np.random.default_rng(1)
    reference = rng.uniform(20, 220, count)
    predicted = reference + np.where(np.arange(count) % 2 == 0, 4.0, -2.0)
    sexes = tuple((Sex.FEMALE, Sex.MALE)[number % 2] for number in range(count))
    ids = tuple(map(str, range(count)))
    low, high = (predicted - 3.0, predicted + 3.0) if bounded else (None, None)
    return accuracy.Predictions(ids, sexes, reference, predicted, low, high)


def test_figures_are_those_of_the_errors() -> None:
    measured = accuracy.measure(predictions(), ["read me"])
    record = json.loads(json.dumps(accuracy.record(measured), allow_nan=False))
    assert record["overall"]["mae"] == pytest.approx(3.0) and record["overall"]["bias"] == pytest.approx(1.0)
    assert record["agreement"]["bias"]["estimate"] == pytest.approx(1.0)
    assert [entry["name"] for entry in record["subgroups"]][:3] == [
        "both sexes, all ages", "female, all ages", "male, all ages",
    ]  # fmt: skip
    assert record["coverage"][0]["coverage"]["estimate"] == pytest.approx(0.5)
    page = accuracy.markdown(measured, "A title")
    assert page.startswith("# A title\n\n> **read me**")
    assert "| MAE (95% interval) | 3.00 (" in page and "## Prediction intervals" in page


def test_without_intervals_no_coverage_is_told() -> None:
    assert "Prediction intervals" not in accuracy.markdown(accuracy.measure(predictions(bounded=False)), "t")


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        accuracy.measure(predictions(2))


@pytest.mark.parametrize("plot", [plots.bland_altman_png, plots.error_by_age_png])
@pytest.mark.parametrize("count", [1, 60])
def test_plots_are_pictures_and_differ_with_the_data(plot: object, count: int) -> None:
    some = predictions(count)
    draw = lambda shift: plot(some.reference, some.predicted + shift, some.sexes, "t")  # type: ignore[operator]  # noqa: E731
    first = draw(0.0)
    picture = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape[1] == 1040
    assert first == draw(0.0) and first != draw(30.0)
