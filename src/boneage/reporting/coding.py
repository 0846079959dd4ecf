"""What the codes of DICOM and FHIR results are: LOINC, SNOMED CT and DICOM's where there are well-known ones.

What has none there is coded in this project's own scheme, 99BONEAGE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from boneage.core.types import Assessment, RadiusSubgrade, Sex, Side
from boneage.standards.names import TW3_STAGES, Bone
from boneage.standards.scoring import standard

INTENDED_USE = "Research use only; not a medical device."
LEARNT = "Grades were learnt from bone ages, not from graders."
"""What every result says of itself, the second where it holds grades."""

LOINC, SNOMED, DICOM, UCUM, OWN = "LN", "SCT", "DCM", "UCUM", "99BONEAGE"
"""Coding schemes, by DICOM's designators."""


class Code(NamedTuple):
    """A coded concept, in the order in which DICOM's libraries take one."""

    value: str
    scheme: str
    meaning: str


BONE_AGE = Code("85151-9", LOINC, "Bone age")
BONE_AGE_METHOD = Code("85150-1", LOINC, "Bone age method")
PROCEDURE = Code("37362-1", LOINC, "XR Bone age")
CHRONOLOGICAL_AGE = Code("30525-0", LOINC, "Age")
Z_SCORE = Code("121416", DICOM, "Z-Score of measurement")
COMMENT = Code("121106", DICOM, "Comment")
SUBJECT_SEX = Code("121032", DICOM, "Subject Sex")
SEXES = {Sex.FEMALE: Code("F", DICOM, "Female"), Sex.MALE: Code("M", DICOM, "Male")}
STANDARD_DEVIATION = Code("386136009", SNOMED, "Standard deviation")
HAND = Code("85562004", SNOMED, "Hand")
SIDES = {Side.LEFT: Code("7771000", SNOMED, "Left"), Side.RIGHT: Code("24028007", SNOMED, "Right")}

MONTHS = Code("mo", UCUM, "month")
NO_UNITS = Code("1", UCUM, "no units")
PER_CENT = Code("%", UCUM, "percent")

INTERVAL_LOW = Code("interval_low", OWN, "Lower end of the bone age interval")
INTERVAL_HIGH = Code("interval_high", OWN, "Upper end of the bone age interval")
COVERAGE = Code("coverage", OWN, "Coverage of the bone age interval")
CONFIDENCE = Code("confidence", OWN, "Probability of the grade by the network")
TOTAL = Code("total", OWN, "Total of the scores of the grades")
EXPECTED_TOTAL = Code("expected_total", OWN, "Total of the scores, expected")
BONE_GRADE = Code("bone_grade", OWN, "Grade of a bone")
SUBGRADE = Code("radius_subgrade", OWN, "CHN sub-grade of the radius")
WARNING = Code("warning", OWN, "Warning")

SITES: Mapping[Bone, Code] = {
    Bone.RADIUS: Code("62413002", SNOMED, "Radius"),
    Bone.ULNA: Code("23416004", SNOMED, "Ulna"),
    Bone.MC1: Code("4247003", SNOMED, "Bone structure of first metacarpal"),
}
"""Bones whose SNOMED CT codes are sure; the others are coded in this project's scheme, never by a guess."""

METHODS = {
    "hand_regression": "Whole hand, direct",
    "age_intervals": "Whole hand, age intervals",
    "graded_regions": "RUS-CHN, expected score",
    "rus_chn": "RUS-CHN, expected score",
    "tw3": "TW3-RUS, expected score",
    "chn": "CHN, expected score",
}
"""Method or standard -> what its bone age is called."""


def site(bone: str) -> Code:
    """Return the code of a bone as a finding's site."""
    named = Bone(bone)
    return SITES.get(named, Code(str(named), OWN, named.readable))


def method(name: str) -> Code:
    """Return the code of a method or standard that gives a bone age."""
    return Code(name, OWN, METHODS.get(name, name))


def joined_methods(assessment: Assessment) -> list[Code]:
    """Return the methods that the answer was made from; all that gave an age where that is not recorded."""
    named = str(assessment.provenance.get("method", ""))
    names = [name.strip() for name in named.split("+") if name.strip()]
    return [method(name) for name in names or assessment.ages]


def scores_of(name: str) -> Code:
    """Return the code of a scoring standard."""
    return Code(name, OWN, standard(name).title)


def grade_of(name: str) -> Code:
    """Return the code of the question which grade a bone has by a standard."""
    return Code(f"{name}_grade", OWN, f"Grade by {standard(name).title}")


def grade(name: str, value: float) -> Code:
    """Return the code of a grade of a standard: `rus_chn:6`, `tw3:F`."""
    written = written_grade(name, value)
    return Code(f"{name}:{written}", OWN, f"{standard(name).title} {written}")


def subgrade(radius: RadiusSubgrade) -> Code:
    """Return the code of a sub-grade of the radius: `chn:5_5`."""
    return Code(f"chn:{radius.name}", OWN, f"CHN {radius.name}")


def written_grade(name: str, value: float) -> str:
    """Return a grade as its standard writes it: TW3's stages are letters."""
    return TW3_STAGES[round(value)] if name == "tw3" else f"{value:g}"


def sd_score(assessment: Assessment) -> Mapping[str, Any] | None:
    """Return the SD score with what it rests on; None where there is none."""
    score = assessment.growth.get("sd_score")
    return None if score is None or score["value"] is None else score
