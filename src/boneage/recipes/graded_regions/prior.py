"""Which grades go with an age where nobody graded: a declared prior, and the scores it rests on.

The scores of TW and of RUS-CHN were fitted so that the bones of a child agree: a stage's share of its
bone's greatest score says how mature the child is. So at an age, each bone's share follows the total's
share, moved on the logit scale by the bone's lead over the total. The leads are read off a few graded
hands and shrunk towards none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Sex
from boneage.data.graded_crops import GradedCrop
from boneage.standards.mapping import grade_map
from boneage.standards.names import CARPALS, RUS, Bone
from boneage.standards.scoring import age_curve, score_table

Vector = NDArray[np.float64]

BONES: tuple[Bone, ...] = tuple(Bone)
"""Order of the bones in every array of this recipe: the 13 of RUS-CHN, then capitate and hamate."""

STANDARDS = ("rus_chn", "tw3", "chn")
"""The standards that grades are scored by; ages are learnt through the first and, for carpals, the last."""

_SHARES = (0.004, 0.996)  # logits of 0 and 1 are not finite


@dataclass(frozen=True)
class Scores:
    """A standard's scores on the grades that the network gives: RUS-CHN's, and CHN's for the carpals.

    Args:
        table: sex -> (15, K + 1) score by bone and grade; 0 for bones that the standard does not use,
            the last grade's score beyond it.
        curve: sex -> (totals, ages in months), strictly rising.
    """

    table: Mapping[Sex, Vector]
    curve: Mapping[Sex, tuple[Vector, Vector]]


def highest_grades() -> NDArray[np.int64]:
    """Return the last grade of every bone (15,): RUS-CHN's, CHN's for the carpals."""
    return np.array([int((~np.isnan(_own_table(bone, Sex.FEMALE))).sum()) - 1 for bone in BONES])


def _own_table(bone: Bone, sex: Sex) -> Vector:
    """Return a bone's scores by grade in the standard whose grades the network gives for it."""
    bones, table = score_table("chn" if bone in CARPALS else "rus_chn", sex)
    return np.asarray(table[bones.index(bone)], dtype=np.float64)


@cache
def scores_of(name: str) -> Scores:
    """Return a standard's scores on the network's grades."""
    width = int(highest_grades().max()) + 1
    tables = {sex: np.stack([_scores(name, bone, sex, width) for bone in BONES]) for sex in Sex}
    return Scores(tables, {sex: age_curve(name, sex) for sex in Sex})


def _scores(name: str, bone: Bone, sex: Sex, width: int) -> Vector:
    bones, table = score_table(name, sex)
    if bone not in bones:
        return np.zeros(width)
    own = table[bones.index(bone)]
    own = own[~np.isnan(own)]
    if name != "rus_chn" and bone in RUS:
        own = np.interp(grade_map(name).bones[bone], np.arange(len(own)), own)
    return np.asarray(np.pad(own, (0, width - len(own)), mode="edge"), dtype=np.float64)


class MaturityPrior:
    """The grades that go with an age and a sex.

    Args:
        graded: crops of whole graded hands, from which the bones' leads are read; may be empty.
        shrinkage: number of hands that a lead is shrunk by.
    """

    def __init__(self, graded: Sequence[GradedCrop] = (), shrinkage: float = 4.0) -> None:
        self.lead_ = _leads(graded, shrinkage)

    def grades(self, sex: Sex, age_months: float) -> Vector:
        """Return a fractional grade for every bone (15,) at an age."""
        wanted = np.empty(len(BONES))
        for index, bone in enumerate(BONES):
            totals, ages = age_curve("chn" if bone in CARPALS else "rus_chn", sex)
            share = float(np.interp(age_months, ages, totals)) / 1000
            table = _own_table(bone, sex)
            table = table[~np.isnan(table)]
            wanted[index] = np.interp(
                _move(share, self.lead_[index]), table / table[-1], np.arange(len(table))
            )
        return wanted


def _move(share: float, lead: float) -> float:
    """Move a share on the logit scale."""
    return float(1 / (1 + np.exp(-(_logit(share) + lead))))


def _logit(share: float) -> float:
    inside = float(np.clip(share, *_SHARES))
    return float(np.log(inside / (1 - inside)))


def _leads(graded: Sequence[GradedCrop], shrinkage: float) -> Vector:
    """Return every bone's lead (15,): the mean over graded hands and sexes, shrunk."""
    hands: dict[str, dict[Bone, int]] = {}
    for crop in graded:
        hands.setdefault(crop.hand, {})[crop.bone] = crop.grade
    found: list[list[float]] = [[] for _ in BONES]
    for grades in hands.values():
        if set(grades) >= set(RUS):
            for index, bone in enumerate(RUS):
                found[index].append(float(np.mean([_lead(grades, bone, sex) for sex in Sex])))
    # Leads beyond 1.5 come from first and last grades, whose shares say little.
    return np.array([sum(np.clip(values, -1.5, 1.5)) / (len(values) + shrinkage) for values in found])


def _lead(grades: Mapping[Bone, int], bone: Bone, sex: Sex) -> float:
    total = sum(_own_table(bone, sex)[grade] for bone, grade in grades.items() if bone in RUS)
    table = _own_table(bone, sex)
    return _logit(table[grades[bone]] / np.nanmax(table)) - _logit(total / 1000)
