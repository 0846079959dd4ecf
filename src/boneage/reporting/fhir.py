"""FHIR results of an assessment: a DiagnosticReport that contains its Observations, as plain dictionaries.

What they say and how it is coded is the same as in the DICOM structured report; regions on the image are
there alone. No name, birth date or path enters; identifiers only where the caller gives them.

Source: HL7 FHIR R4 (4.0.1) and R5 (5.0.0), DiagnosticReport and Observation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from boneage import __version__
from boneage.core.errors import ConfigError
from boneage.core.types import Assessment, Region
from boneage.reporting import coding
from boneage.reporting.coding import Code
from boneage.reporting.tabular import years_and_months
from boneage.standards.names import Bone

Resource = dict[str, Any]
Release = Literal["R4", "R5"]

SYSTEMS = {
    coding.LOINC: "http://loinc.org",
    coding.SNOMED: "http://snomed.info/sct",
    coding.DICOM: "http://dicom.nema.org/resources/ontology/DCM",
    coding.UCUM: "http://unitsofmeasure.org",
    coding.OWN: "urn:x-boneage:codes",
}
"""Coding scheme, by DICOM's designator -> FHIR's code system."""

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
STUDY = {"R4": "imagingStudy", "R5": "study"}
"""What each release calls a report's study."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """What a report may say of the patient and the study, where the caller wants it to.

    Args:
        patient_id: the patient's number.
        patient_id_system: the URI of those who gave the number, where known.
        accession_number: of the request.
        study_uid: DICOM's Study Instance UID.
    """

    patient_id: str | None = None
    patient_id_system: str | None = None
    accession_number: str | None = None
    study_uid: str | None = None


NOBODY = Identifiers()


def diagnostic_report(
    assessment: Assessment,
    identifiers: Identifiers = NOBODY,
    *,
    issued: datetime | None = None,
    release: Release = "R4",
) -> Resource:
    """Return the report; its results are the Observations that it contains.

    Args:
        assessment: the answer for one image.
        identifiers: of patient and study; none by default.
        issued: when, with a time zone; now by default.
        release: which of FHIR's releases names the study; all else is valid in both.

    Raises:
        ConfigError: the release is unknown, or the time has no zone.
    """
    if release not in STUDY:
        raise ConfigError(f"FHIR's release must be {' or '.join(STUDY)}, not {release!r}: name one of them")
    when = issued or datetime.now(UTC)
    if when.tzinfo is None:
        raise ConfigError("a FHIR report is issued at a time with a zone: give one, as datetime.now(UTC)")
    shared = _shared(identifiers, when)
    observations = [{**shared, **observation} for observation in _observations(assessment)]
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "contained": observations,
        "status": "preliminary",
        "category": [_concept_of(f"{TERMINOLOGY}/v2-0074", "RAD", "Radiology")],
        "code": _concept(coding.PROCEDURE),
        "issued": shared["issued"],
        "result": [{"reference": f"#{item['id']}"} for item in observations],
        "conclusion": _conclusion(assessment),
    }
    return {**report, **_subject(identifiers), **_links(identifiers, release)}


def _shared(identifiers: Identifiers, when: datetime) -> Resource:
    """Return what every Observation says."""
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [_concept_of(f"{TERMINOLOGY}/observation-category", "imaging", "Imaging")],
        "issued": when.isoformat(timespec="seconds"),
        **_subject(identifiers),
    }


def _subject(identifiers: Identifiers) -> Resource:
    if identifiers.patient_id is None:
        return {}
    named = {"value": identifiers.patient_id}
    if identifiers.patient_id_system is not None:
        named["system"] = identifiers.patient_id_system
    return {"subject": {"type": "Patient", "identifier": named}}


def _links(identifiers: Identifiers, release: Release) -> Resource:
    """Return references to the request and the study, by their numbers."""
    links: Resource = {}
    if identifiers.accession_number is not None:
        kind = _concept_of(f"{TERMINOLOGY}/v2-0203", "ACSN", "Accession ID")
        named = {"type": kind, "value": identifiers.accession_number}
        links["basedOn"] = [{"type": "ServiceRequest", "identifier": named}]
    if identifiers.study_uid is not None:
        named = {"system": "urn:dicom:uid", "value": f"urn:oid:{identifiers.study_uid}"}
        links[STUDY[release]] = [{"type": "ImagingStudy", "identifier": named}]
    return links


def _observations(assessment: Assessment) -> Iterator[Resource]:
    yield _bone_age(assessment)
    if assessment.chronological_age_months is not None:
        age = assessment.chronological_age_months
        yield _observation("chronological-age", coding.CHRONOLOGICAL_AGE, _quantity(age, coding.MONTHS))
    if score := coding.sd_score(assessment):
        yield _sd_score(score)
    for name, totals in assessment.scores.items():
        yield _totals(name, totals)
    for region in assessment.regions:
        if region.grades:
            yield _bone(assessment, region)


def _bone_age(assessment: Assessment) -> Resource:
    """Return the answer: its interval, methods and their own ages are components, for there is one answer."""
    low, high = assessment.interval_months
    methods = coding.joined_methods(assessment)
    components = [
        _component(coding.INTERVAL_LOW, _quantity(low, coding.MONTHS)),
        _component(coding.INTERVAL_HIGH, _quantity(high, coding.MONTHS)),
        _component(coding.COVERAGE, _quantity(100 * assessment.coverage, coding.PER_CENT)),
        _component(coding.SUBJECT_SEX, _coded(coding.SEXES[assessment.sex])),
        *(_component(coding.BONE_AGE_METHOD, _coded(method)) for method in methods),
        *(
            _component(coding.method(name), _quantity(age, coding.MONTHS))
            for name, age in assessment.ages.items()
        ),
    ]
    warnings = [f"Warning: {notice.text} [{notice.code}]" for notice in assessment.warnings]
    return {
        **_observation("bone-age", coding.BONE_AGE, _quantity(assessment.bone_age_months, coding.MONTHS)),
        "bodySite": _site(assessment, coding.HAND, ""),
        "method": {"text": " + ".join(method.meaning for method in methods)},
        "device": {"display": _device(assessment)},
        "note": [{"text": text} for text in (coding.INTENDED_USE, *warnings)],
        "component": components,
    }


def _sd_score(score: Mapping[str, Any]) -> Resource:
    deviation = _quantity(score["sd_months"], coding.MONTHS)
    return {
        **_observation("sd-score", coding.Z_SCORE, _quantity(score["value"], coding.NO_UNITS)),
        "derivedFrom": [{"reference": "#bone-age"}],
        "note": [{"text": text} for text in (f"Reference: {score['reference']}", *score.get("remarks", ()))],
        "component": [_component(coding.STANDARD_DEVIATION, deviation)],
    }


def _totals(name: str, score: Mapping[str, Any]) -> Resource:
    """Return a standard's totals, with what is weak in its tables."""
    made = {
        **_observation(_id("total", name), coding.TOTAL, _quantity(score["total"], coding.NO_UNITS)),
        "method": _concept(coding.scores_of(name)),
        "component": [
            _component(coding.EXPECTED_TOTAL, _quantity(score["expected_total"], coding.NO_UNITS)),
            _component(coding.BONE_AGE, _quantity(score["age_months"], coding.MONTHS)),
        ],
    }
    remarks = [{"text": text} for text in score.get("remarks", ())]
    return {**made, "note": remarks} if remarks else made


def _bone(assessment: Assessment, region: Region) -> Resource:
    """Return a bone's grade by every standard, and how sure the network is."""
    components = [
        _component(coding.grade_of(name), _coded(coding.grade(name, grade)))
        for name, grade in region.grades.items()
    ]
    radius = assessment.radius_subgrade
    if radius is not None and region.bone == Bone.RADIUS:
        components.append(_component(coding.SUBGRADE, _coded(coding.subgrade(radius))))
    if region.confidence is not None:
        sure = _quantity(100 * region.confidence, coding.PER_CENT)
        components.append(_component(coding.CONFIDENCE, sure))
    return {
        **_observation(_id("bone", region.bone), coding.BONE_GRADE, {}),
        "bodySite": _site(assessment, coding.site(region.bone), Bone(region.bone).readable),
        "note": [{"text": coding.LEARNT}],
        "component": components,
    }


def _observation(name: str, code: Code, value: Resource) -> Resource:
    return {"id": name, "code": _concept(code), **value}


def _component(code: Code, value: Resource) -> Resource:
    return {"code": _concept(code), **value}


def _quantity(value: float, unit: Code) -> Resource:
    """Return a value with its unit in UCUM, rounded as in the JSON record."""
    return {
        "valueQuantity": {
            "value": round(float(value), 2),
            "unit": unit.meaning,
            "system": SYSTEMS[unit.scheme],
            "code": unit.value,
        }
    }


def _coded(code: Code) -> Resource:
    return {"valueCodeableConcept": _concept(code)}


def _concept(code: Code) -> Resource:
    """Return a concept; of LOINC without `display`, which may hold nothing but LOINC's own long names."""
    display = None if code.scheme == coding.LOINC else code.meaning
    return {**_concept_of(SYSTEMS[code.scheme], code.value, display), "text": code.meaning}


def _concept_of(system: str, code: str, display: str | None) -> Resource:
    named = {"system": system, "code": code}
    return {"coding": [named if display is None else {**named, "display": display}]}


def _site(assessment: Assessment, code: Code, words: str) -> Resource:
    side = assessment.hand.side
    named = words if side is None else f"{words}, {side} hand".removeprefix(", ")
    return {**_concept(code), "text": named or code.meaning}


def _id(*parts: str) -> str:
    """Return an id as FHIR allows it: letters, digits and hyphens."""
    return "-".join(parts).replace("_", "-")


def _device(assessment: Assessment) -> str:
    bundle = assessment.provenance.get("bundle")
    return f"boneage {__version__}" + (f", bundle {bundle}" if isinstance(bundle, str) else "")


def _conclusion(assessment: Assessment) -> str:
    low, high = assessment.interval_months
    warnings = [f"Warning: {notice.text.rstrip('.')}." for notice in assessment.warnings]
    answer = (
        f"Bone age {years_and_months(assessment.bone_age_months)} ({assessment.bone_age_months:.1f} months), "
        f"{assessment.coverage:.0%} interval {low:.1f} to {high:.1f} months."
    )
    return " ".join([answer, *warnings, coding.INTENDED_USE])
