"""The published JSON Schema of an assessment: what the program prints is valid, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from boneage_fakes import DISTRIBUTION, assessment, graded_assessment
from cluster_fakes import found_group, found_neighbours, small_group
from jsonschema import Draft202012Validator
from radius_fakes import found_subgrade

from boneage.core.errors import BoneAgeError, NotAHand
from boneage.core.types import Assessment, Neighbours, Notice, Sex
from boneage.data.synthetic import draw_foot, draw_hand
from boneage.inference.assess import Assessor
from boneage.inference.bundle import SHIPPED, Bundle
from boneage.inference.growth import Measurements
from boneage.inference.reading import read_over
from boneage.reporting.tabular import Failure, assessment_record, failure_record

SCHEMA = json.loads(files("boneage.reporting").joinpath("assessment.schema.json").read_text(encoding="utf-8"))
EVERYTHING = Measurements(140.0, 35.0, 178.0, 165.0, False)


def strict(part: Any) -> Any:
    """Return a schema that refuses what it does not name, so that a new key cannot go unsaid."""
    if isinstance(part, list):
        return [strict(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: strict(item) for key, item in part.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


VALIDATOR = Draft202012Validator(strict(SCHEMA))


def complaints(record: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a record as it is printed."""
    printed = json.loads(json.dumps(record, allow_nan=False))
    return [f"{list(error.path)}: {error.message}" for error in VALIDATOR.iter_errors(printed)]


READ = {"rus_chn": {"radius": 9}, "tw3": {"ulna": "H"}, "chn_radius_subgraded": {"radius": 6.5}}
"""A reader's grades."""


def full(**changes: Any) -> Assessment:
    values = {"distribution": DISTRIBUTION, "radius_subgrade": found_subgrade(), "measured": EVERYTHING}
    return graded_assessment(age_months=120.0, **{**values, **changes})


MADE: dict[str, Callable[[], Assessment]] = {
    "plain": assessment,
    "graded": graded_assessment,
    "a part": lambda: graded_assessment(missing=("radius",)),
    "everything": lambda: full(neighbours=found_neighbours()),
    "a boy": lambda: full(sex=Sex.MALE, measured=Measurements(140.0)),
    "an adult": lambda: graded_assessment(age_months=600.0),
    "a height without an age": lambda: graded_assessment(measured=EVERYTHING),
    "a small group": lambda: full(neighbours=Neighbours(small_group(), None, (), ("1",))),
    "no typical age": lambda: full(neighbours=Neighbours(found_group(), None, ("1",), ())),
    "no group": lambda: full(neighbours=Neighbours(None, found_neighbours().typical)),
    "no side": lambda: replace(full(), hand=replace(full().hand, side=None)),
    "read": lambda: read_over(full(), READ),
    "read, an adult": lambda: read_over(graded_assessment(age_months=600.0), READ),
    "read, without a total": lambda: read_over(graded_assessment(missing=("radius",)), {"tw3": {"ulna": 2}}),
    "read alone": lambda: read_over(assessment(), READ),
    "a warning": lambda: assessment(warnings=(Notice("dark", "the image is dark"),)),
}


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("case", MADE)
def test_an_assessment_is_valid(case: str) -> None:
    assert complaints(assessment_record(MADE[case]())) == []


@pytest.mark.parametrize("error", [NotAHand("no hand: send one"), BoneAgeError("broken: try again")])
def test_a_failure_is_valid(error: BoneAgeError) -> None:
    assert complaints(failure_record(Failure.of("x.png", error))) == []


GOOD = json.loads(json.dumps(assessment_record(read_over(full(neighbours=found_neighbours()), READ))))
WRONG: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "an age in words": (("bone_age_months",), "10 y"),
    "no age": (("bone_age_months",), None),
    "an unknown status": (("status",), "done"),
    "a failure with an answer": (("status",), "failed"),
    "a reason without a failure": (("message",), "why"),
    "one end of an interval": (("interval_months",), [1.0]),
    "a coverage in per cent": (("coverage",), 90),
    "an unknown sex": (("sex",), "F"),
    "an unknown bone": (("regions", 0, "bone"), "lunate"),
    "a box of three": (("regions", 0, "box_px"), [1, 2, 3]),
    "an unsure confidence": (("regions", 0, "confidence"), 1.2),
    "a grade in words": (("regions", 0, "grades", "tw3"), "F"),
    "a share above one": (("age_intervals", 0, "probability"), 1.01),
    "no totals": (("scores", "rus_chn"), {}),
    "a score without its reference": (("growth", "sd_score"), {"value": 1.0, "remarks": []}),
    "a half hand": (("neighbours", "typical", "hands"), 1.5),
    "a sheet without its edition": (("reading", 0, "edition"), ""),
    "a sheet on which nothing changed": (("reading", 0, "changed"), {}),
    "a stage in letters": (("reading", 1, "grades", "ulna"), "H"),
    "a sheet of an unknown bone": (("reading", 0, "scores"), {"lunate": 1.0}),
    "a total in words": (("reading", 0, "total"), "many"),
    "half a sheet": (("reading", 0), {"standard": "tw3"}),
    "a warning without a text": (("warnings",), [{"code": "dark"}]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_assessment_is_refused(case: str) -> None:
    *path, last = WRONG[case][0]
    record: Any = deepcopy(GOOD)
    inner = record
    for key in path:
        inner = inner[key]
    inner[last] = WRONG[case][1]
    assert complaints(GOOD) == [] and not Draft202012Validator(SCHEMA).is_valid(record)


@pytest.mark.parametrize("key", [key for key in GOOD if key != "code"])
def test_no_key_may_be_missing(key: str) -> None:
    assert not Draft202012Validator(SCHEMA).is_valid({name: GOOD[name] for name in GOOD if name != key})


def test_other_keys_may_join() -> None:
    assert Draft202012Validator(SCHEMA).is_valid({**GOOD, "something_new": 1})
    assert complaints({**GOOD, "something_new": 1}), "the tests would notice"


def test_the_shipped_bundles_own_answers_are_valid() -> None:
    if not (SHIPPED / "manifest.json").is_file():
        pytest.skip(f"no shipped bundle: {SHIPPED}/manifest.json is absent")
    bundle = Bundle.load()
    plain = Assessor(bundle, threads=1)
    told = Assessor(
        bundle,
        threads=1,
        radius_subgrades="radius_subgrades" in bundle.manifest,
        neighbours="region_clusters" in bundle.manifest,
    )
    drawn = draw_hand(120.0, Sex.FEMALE).radiograph
    records = [
        assessment_record(plain.assess(drawn)),
        assessment_record(told.assess(drawn, chronological_age_months=118.0, measured=EVERYTHING)),
    ]
    assert records[0]["neighbours"] is None and records[0]["growth"].keys() == {"plates"}
    assert records[1]["growth"].keys() == {"plates", "sd_score", "adult_heights"}
    with pytest.raises(NotAHand) as caught:
        plain.assess(draw_foot().radiograph, sex=Sex.FEMALE)
    records.append(failure_record(Failure.of("foot.png", caught.value)))
    assert [complaints(record) for record in records] == [[], [], []]
    assert [record["status"] for record in records] == ["ok", "ok", "rejected"]
