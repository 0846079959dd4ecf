"""A reader's grades in place of the network's: the score sheets and ages that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from boneage.core.errors import NotApplicable
from boneage.core.types import Assessment, Notice, ReadSheet
from boneage.reporting.coding import written_grade
from boneage.standards.growth import bone_age_sd_score
from boneage.standards.names import parse_bone
from boneage.standards.scoring import standard

READER = "reader_grades"
"""Code of the notice that says that a reader changed grades."""


def read_over(assessment: Assessment, grades: Mapping[str, Mapping[str, float | str]]) -> Assessment:
    """Return an assessment with the score sheets that a reader's grades give.

    The machine's grades, scores and bone age stay as they are, and a notice says what a reader changed.

    Args:
        assessment: the machine's; a reading that it already has is replaced.
        grades: standard -> bone -> grade or stage, of the bones that the reader graded; a standard may be
            named in any case, and a bone that is left out keeps the network's grade.

    Raises:
        TableMissing: there is no such standard.
        WrongBones: the standard does not grade such a bone.
        UnknownGrade: the bone has no such grade.
    """
    sheets = tuple(_sheet(assessment, name, given) for name, given in grades.items() if given)
    changed = tuple(sheet for sheet in sheets if sheet.changed)
    kept = tuple(notice for notice in assessment.warnings if notice.code != READER)
    notices = tuple(Notice(READER, _words(assessment, sheet)) for sheet in changed)
    return replace(assessment, reading=changed, warnings=(*notices, *kept))


def _sheet(assessment: Assessment, name: str, given: Mapping[str, float | str]) -> ReadSheet:
    chosen = standard(name)
    own = {
        region.bone: float(region.grades[chosen.name])
        for region in assessment.regions
        if chosen.name in region.grades
    }
    read = {str(parse_bone(bone)): chosen.parse_grade(bone, str(grade)) for bone, grade in given.items()}
    known = own | read
    grades = {str(bone): known[bone] for bone in chosen.bones if bone in known}
    scores = {bone: chosen.grade_score(assessment.sex, bone, grade) for bone, grade in grades.items()}
    total = sum(scores.values()) if len(scores) == len(chosen.bones) else None
    age = None if total is None else chosen.age_months(assessment.sex, total)[0]
    return ReadSheet(
        standard=chosen.name,
        edition=chosen.edition,
        changed={bone: grade for bone, grade in read.items() if own.get(bone) != grade},
        grades=grades,
        scores=scores,
        total=total,
        age_months=age,
        sd_score=_sd_score(assessment, age),
    )


def _sd_score(assessment: Assessment, age_months: float | None) -> float | None:
    chronological = assessment.chronological_age_months
    if age_months is None or chronological is None:
        return None
    try:
        return bone_age_sd_score(age_months, chronological, assessment.sex).value
    except NotApplicable:
        return None


def _words(assessment: Assessment, sheet: ReadSheet) -> str:
    """Return what a reader changed, in a sentence that every form of report can hold."""
    chosen = standard(sheet.standard)
    own = {region.bone: region.grades.get(sheet.standard) for region in assessment.regions}
    changes = []
    for bone, grade in sheet.changed.items():
        before = own.get(bone)
        machine = "none" if before is None else written_grade(sheet.standard, before)
        changes.append(f"{parse_bone(bone).readable} {machine} to {written_grade(sheet.standard, grade)}")
    if sheet.total is None or sheet.age_months is None:
        outcome = "bones without a grade leave it without a total"
    else:
        outcome = f"its total is then {sheet.total:.0f}, its bone age {sheet.age_months:.1f} months"
    return f"a reader changed grades of {chosen.title}: {', '.join(changes)}; {outcome}"
