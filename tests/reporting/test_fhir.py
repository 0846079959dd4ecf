"""FHIR results: valid by the models of both releases, the same answer, and nobody's name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from boneage_fakes import assessment, graded_assessment
from fhir.resources import diagnosticreport as report_r5
from fhir.resources import observation as observation_r5
from fhir.resources.R4B import diagnosticreport as report_r4
from fhir.resources.R4B import observation as observation_r4
from pydantic import ValidationError
from radius_fakes import found_subgrade

from boneage.core.errors import ConfigError
from boneage.core.types import Assessment, Notice
from boneage.reporting.fhir import SYSTEMS, Identifiers, diagnostic_report

WHEN = datetime(2026, 3, 11, 8, 30, tzinfo=UTC)
EVERYTHING = Identifiers("P-1", "urn:oid:1.2.3", "A-2041", "1.2.840.1")
MODELS = {
    "R4": (report_r4.DiagnosticReport, observation_r4.Observation),
    "R5": (report_r5.DiagnosticReport, observation_r5.Observation),
}
CASES = {
    "all": lambda: graded_assessment(
        path="Doe_Jane.dcm",
        age_months=120.0,
        radius_subgrade=found_subgrade(),
        warnings=(Notice("dark", "the image is dark."),),
    ),
    "no grades": assessment,
    "a part": lambda: graded_assessment(missing=("radius",)),
    "an adult": lambda: graded_assessment(age_months=600.0),
}


def made(case: str = "all", identifiers: Identifiers = EVERYTHING, **options: Any) -> dict[str, Any]:
    return diagnostic_report(CASES[case](), identifiers, issued=WHEN, **options)


def by_id(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in report["contained"]}


def value(item: dict[str, Any]) -> tuple[str, Any]:
    """Return a code and its value: a number with its unit, or a coded answer."""
    code = item["code"]["coding"][0]["code"]
    if "valueQuantity" in item:
        quantity = item["valueQuantity"]
        assert quantity["system"] == "http://unitsofmeasure.org"
        return code, (quantity["value"], quantity["code"])
    return code, item["valueCodeableConcept"]["coding"][0]["code"]


@pytest.mark.parametrize("release", MODELS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("identifiers", [Identifiers(), EVERYTHING], ids=["nobody", "everything"])
def test_it_is_valid_in_both_releases(case: str, release: Any, identifiers: Identifiers) -> None:
    report = json.loads(json.dumps(made(case, identifiers, release=release), allow_nan=False))
    of_report, of_observation = MODELS[release]
    again = of_report.model_validate(report)
    assert len(again.contained) == len(again.result) == len(report["contained"])
    text = again.model_dump_json().replace("2026-03-11T08:30:00Z", WHEN.isoformat())
    assert json.loads(text) == report
    for item in report["contained"]:
        of_observation.model_validate(item)


@pytest.mark.parametrize("release", MODELS)
def test_the_models_would_find_an_error(release: Any) -> None:
    other = "R5" if release == "R4" else "R4"
    for wrong in (made(release=other), {**made(release=release), "status": None}):
        with pytest.raises(ValidationError):
            MODELS[release][0].model_validate(wrong)


def test_every_result_is_an_observation_that_the_report_contains() -> None:
    report = made()
    assert [item["reference"] for item in report["result"]] == [f"#{name}" for name in by_id(report)]
    assert len(by_id(report)) == len(report["contained"]) == 1 + 2 + 3 + 15
    assert {item["status"] for item in (report, *report["contained"])} == {"preliminary"}


def test_there_is_one_bone_age_with_its_interval_methods_and_ages() -> None:
    report, answer = made(), CASES["all"]()
    found = [item for item in report["contained"] if value_code(item) == "85151-9"]
    (bone_age,) = found
    assert value(bone_age) == ("85151-9", (124.25, "mo"))
    parts = [value(part) for part in bone_age["component"]]
    assert parts[:4] == [
        ("interval_low", (110.5, "mo")),
        ("interval_high", (138.0, "mo")),
        ("coverage", (90.0, "%")),
        ("121032", "F"),
    ]
    ages = dict(parts)
    for name, age in answer.ages.items():
        assert ages[name] == (pytest.approx(age, abs=0.006), "mo")
    assert [said for code, said in parts if code == "85150-1"] == list(answer.ages)
    assert bone_age["bodySite"]["text"] == "left hand"
    texts = [note["text"] for note in bone_age["note"]]
    assert texts == ["Research use only; not a medical device.", "Warning: the image is dark. [dark]"]
    assert report["conclusion"].startswith("Bone age 10 y 4 m (124.2 months), 90% interval 110.5 to 138.0")
    assert report["conclusion"].endswith(
        "Warning: the image is dark. Research use only; not a medical device."
    )


def value_code(item: dict[str, Any]) -> str:
    return str(item["code"]["coding"][0]["code"])


def test_scores_totals_and_grades_are_the_assessments() -> None:
    answer, items = CASES["all"](), by_id(made())
    score = answer.growth["sd_score"]
    assert value(items["sd-score"]) == ("121416", (pytest.approx(score["value"], abs=0.006), "1"))
    assert score["reference"] in items["sd-score"]["note"][0]["text"]
    assert value(items["chronological-age"]) == ("30525-0", (120.0, "mo"))
    for name, totals in answer.scores.items():
        item = items[f"total-{name.replace('_', '-')}"]
        assert value(item)[1] == (pytest.approx(totals["total"], abs=0.006), "1")
        assert [note["text"] for note in item.get("note", ())] == totals["remarks"]
    for region in answer.regions:
        item = items[f"bone-{region.bone}"]
        grades = dict(map(value, item["component"]))
        assert grades["confidence"] == (80.0, "%")
        for name, grade in region.grades.items():
            written = "ABCDEFGHI"[round(grade)] if name == "tw3" else f"{grade:g}"
            assert grades[f"{name}_grade"] == f"{name}:{written}"
    assert dict(map(value, items["bone-radius"]["component"]))["radius_subgrade"] == "chn:5_5"
    assert items["bone-mc3"]["bodySite"]["text"] == "third metacarpal, left hand"


@pytest.mark.parametrize(("case", "absent"), [("a part", "bone-radius"), ("an adult", "sd-score")])
def test_what_is_not_known_is_left_out(case: str, absent: str) -> None:
    assert absent in by_id(made()) and absent not in by_id(made(case))


def test_identifiers_stand_where_they_belong_and_only_if_given() -> None:
    report = made()
    for item in (report, *report["contained"]):
        assert item["subject"]["identifier"] == {"value": "P-1", "system": "urn:oid:1.2.3"}
    assert report["basedOn"][0]["identifier"]["value"] == "A-2041"
    for release, name in (("R4", "imagingStudy"), ("R5", "study")):
        (study,) = made(release=release)[name]
        assert study["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.1"}
    nobody = json.dumps(made(identifiers=Identifiers()))
    for word in ("subject", "basedOn", "imagingStudy", "Doe", "Jane"):
        assert word not in nobody
    assert "Doe" not in json.dumps(report)


def test_every_code_is_of_a_known_system_and_loincs_have_no_names_of_ours() -> None:
    codings: list[dict[str, str]] = []

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            codings.extend(part.get("coding", ()))
            for inner in part.values():
                collect(inner)
        elif isinstance(part, list):
            for inner in part:
                collect(inner)

    collect(made())
    known = set(SYSTEMS.values())
    assert {c["system"] for c in codings if "terminology.hl7.org" not in c["system"]} <= known
    assert all(("display" in c) is (c["system"] != "http://loinc.org") for c in codings)


def test_the_same_answer_at_the_same_time_is_the_same_report() -> None:
    assert made() == made()
    assert made()["issued"] == "2026-03-11T08:30:00+00:00"


def test_a_wrong_release_or_a_time_without_zone_is_refused() -> None:
    answer: Assessment = assessment()
    with pytest.raises(ConfigError, match="R4 or R5"):
        diagnostic_report(answer, release="R3")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="zone"):
        diagnostic_report(answer, issued=datetime(2026, 3, 11, 8, 30))
