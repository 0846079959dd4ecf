"""A reader's grades in place of the network's: the score sheets and ages that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import fsum

from boneage.core.errors import ConfigError, NotApplicable, WrongBones
from boneage.core.types import Assessment, Notice, ReadSheet
from boneage.reporting.tabular import grade_words, network_grades
from boneage.standards.growth import OLDEST_MONTHS, bone_age_sd_score
from boneage.standards.names import parse_bone
from boneage.standards.scoring import Standard, standard

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
        WrongBones: the standard does not grade such a bone, or one is given twice under two names.
        UnknownGrade: the bone has no such grade.
        ConfigError: a standard is given twice, written in two ways.
    """
    sheets = tuple(_sheet(assessment, standard(name), given) for name, given in grades.items() if given)
    names = [sheet.standard for sheet in sheets]
    if len(set(names)) < len(names):
        raise ConfigError(f"a standard is given twice among {', '.join(grades)}: give each once")
    changed = tuple(sheet for sheet in sheets if sheet.changed)
    kept = tuple(notice for notice in assessment.warnings if notice.code != READER)
    notices = tuple(Notice(READER, _words(assessment, sheet)) for sheet in changed)
    return replace(assessment, reading=changed, warnings=(*notices, *kept))


def _sheet(assessment: Assessment, chosen: Standard, given: Mapping[str, float | str]) -> ReadSheet:
    own, read = network_grades(assessment, chosen.name), _parsed(chosen, given)
    known = own | read
    grades = {str(bone): known[bone] for bone in chosen.bones if bone in known}
    scores = {bone: chosen.grade_score(assessment.sex, bone, grade) for bone, grade in grades.items()}
    total = fsum(scores.values()) if len(scores) == len(chosen.bones) else None
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


def _parsed(chosen: Standard, given: Mapping[str, float | str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, grade in given.items():
        bone = str(parse_bone(name))
        if bone in found:
            raise WrongBones(f"the {bone} is given twice, once as {name!r}: give each bone once")
        found[bone] = chosen.parse_grade(bone, str(grade))
    return found


def _sd_score(assessment: Assessment, age_months: float | None) -> float | None:
    chronological = assessment.chronological_age_months
    # An adult's age, as a file may carry it, has no score and is no reason to refuse.
    if age_months is None or chronological is None or not 0 <= chronological <= OLDEST_MONTHS:
        return None
    try:
        return bone_age_sd_score(age_months, chronological, assessment.sex).value
    except NotApplicable:
        return None


def _words(assessment: Assessment, sheet: ReadSheet) -> str:
    """Return what a reader changed, in a sentence that every form of report can hold."""
    chosen = standard(sheet.standard)
    own = network_grades(assessment, sheet.standard)
    changes = []
    for bone, grade in sheet.changed.items():
        machine = grade_words(sheet.standard, own[bone]) if bone in own else "none"
        changes.append(f"{parse_bone(bone).readable} {machine} to {grade_words(sheet.standard, grade)}")
    if sheet.total is None or sheet.age_months is None:
        outcome = "bones without a grade leave it without a total"
    else:
        outcome = f"its total is then {sheet.total:.0f}, its bone age {sheet.age_months:.1f} months"
    return f"a reader changed grades of {chosen.title}: {', '.join(changes)}; {outcome}"
