"""From grade probabilities to what a reader expects: grades, score sheets and ages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.regions import PlacedRegion
from boneage.core.types import Notice, Region, Sex
from boneage.recipes.graded_regions.prior import BONES, STANDARDS, scores_of
from boneage.standards.mapping import grade_map
from boneage.standards.names import CARPALS, RUS, Bone
from boneage.standards.scoring import score, standard

OWN_STANDARD = "rus_chn"
"""The standard whose expected total is the method's own age."""


@dataclass(frozen=True)
class GradedHand:
    """What the grading method says of one hand.

    Args:
        regions: every bone's box, with its grades where it was graded.
        scores: standard -> `total` and `age_months` of the most probable whole grades, as a reader would
            add them up; `expected_total` and `expected_age_months` over the grades' distribution; and
            `remarks` on the tables used. Only standards all of whose bones were graded.
        age_months: the RUS-CHN age of the expected total; None where a bone of it is missing.
        warnings: which bones could not be graded.
    """

    regions: tuple[Region, ...]
    scores: Mapping[str, Mapping[str, Any]]
    age_months: float | None
    warnings: tuple[Notice, ...] = ()


def grade_hand(
    regions: Sequence[PlacedRegion],
    read: Sequence[PlacedRegion],
    probabilities: NDArray[np.float64],
    sex: Sex,
) -> GradedHand:
    """Return the grades, scores and ages of one hand.

    Args:
        regions: all bones' regions.
        read: those that were graded, in the order of the rows of `probabilities`.
        probabilities: (N, K + 1) P(grade = 0, 1, ...).
        sex: whose tables to use.
    """
    by_bone = {Bone(region.name): row for region, row in zip(read, probabilities, strict=True)}
    grades = {bone: int(row.argmax()) for bone, row in by_bone.items()}
    own = _by_standard(grades)
    scores = {
        name: _score(name, own[name], by_bone, sex)
        for name in STANDARDS
        if all(bone in own[name] for bone in standard(name).bones)
    }
    absent = [region.name for region in regions if Bone(region.name) not in by_bone]
    return GradedHand(
        tuple(_region(region, by_bone, own) for region in regions),
        scores,
        scores[OWN_STANDARD]["expected_age_months"] if OWN_STANDARD in scores else None,
        _missing(absent, scores),
    )


def _by_standard(grades: Mapping[Bone, int]) -> dict[str, dict[Bone, float]]:
    """Return every standard's grades of the bones: RUS-CHN's own, mapped ones, CHN's own carpals."""
    rus = {bone: float(grade) for bone, grade in grades.items() if bone in RUS}
    carpals = {bone: float(grade) for bone, grade in grades.items() if bone in CARPALS}
    return {
        name: rus if name == "rus_chn" else grade_map(name)(rus) | (carpals if name == "chn" else {})
        for name in STANDARDS
    }


def _score(
    name: str, grades: Mapping[Bone, float], by_bone: Mapping[Bone, NDArray[np.float64]], sex: Sex
) -> dict[str, Any]:
    sheet = score(name, sex, {bone: grades[bone] for bone in standard(name).bones})
    tables = scores_of(name)
    rows = np.array([by_bone[bone] for bone in BONES if bone in by_bone])
    table = tables.table[sex][[index for index, bone in enumerate(BONES) if bone in by_bone]]
    total = float((rows * table).sum())
    notices = [*sheet.warnings, *(grade_map(name).warnings if name != OWN_STANDARD else ())]
    return {
        "total": sheet.total,
        "age_months": sheet.age_months,
        "expected_total": total,
        "expected_age_months": float(np.interp(total, *tables.curve[sex])),
        "edition": sheet.edition,
        "remarks": [notice.text for notice in notices],
    }


def _region(
    region: PlacedRegion,
    by_bone: Mapping[Bone, NDArray[np.float64]],
    own: Mapping[str, Mapping[Bone, float]],
) -> Region:
    bone = Bone(region.name)
    if bone not in by_bone:
        return Region(region.name, region.box_px)
    row = by_bone[bone]
    grades = {name: found[bone] for name, found in own.items() if bone in found}
    expected = float(row @ np.arange(len(row)))
    return Region(region.name, region.box_px, grades, float(row.max()), expected)


def _missing(absent: Sequence[str], scores: Mapping[str, object]) -> tuple[Notice, ...]:
    if not absent:
        return ()
    unscored = [standard(name).title for name in STANDARDS if name not in scores]
    left_out = f"; no total of {' or '.join(unscored)} is given" if unscored else ""
    text = f"not graded, since its growth plate is not in the image: {', '.join(absent)}{left_out}"
    return (Notice("bone_not_graded", text),)
