"""What a standard is: bones, the scores of their grades, and the curve from total to age.

Conventions. A grade between two rows of a score table takes the score between theirs, linearly. A
total between two knots of a curve takes the age between theirs, linearly. Outside the curve the age
is that of its end, and a notice says so. A curve's knot of CHN is the lowest total of its age.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import NotApplicable, UnknownGrade, WrongBones
from boneage.core.types import Notice, Sex
from boneage.standards.names import Bone, parse_bone
from boneage.standards.tables import Source, warnings_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """One bone's rows in a score table.

    Args:
        grades: (R,) strictly rising; whole grades from 0, sub-grades between them where a table has any.
        labels: (R) the standard's own word for each: a stage's letter, a sub-code.
        scores: (R,) from 0, never falling.
    """

    grades: Floats
    labels: tuple[str, ...]
    scores: Floats

    def label(self, grade: float) -> str:
        """Return the label of the row nearest to a grade; halfway, that of the lower row."""
        return self.labels[int(np.abs(self.grades - grade).argmin())]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A sex's curve: (K,) totals and the ages in months at them, both strictly rising."""

    totals: Floats
    ages_months: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Standard:
    """A scoring standard: bones, the scores of their grades, and the curve from total to age.

    Every method takes the sex as `Sex` or as a word that `Sex.parse` knows, and raises `ConfigError`
    for another. A bone may be given by any name that `parse_bone` knows.
    """

    name: str
    title: str
    edition: str
    bones: tuple[Bone, ...]
    scales: Mapping[Sex, Mapping[Bone, Scale]]
    curves: Mapping[Sex, Curve]
    tables: tuple[Source, ...]

    def scale(self, sex: Sex | str, bone: Bone | str) -> Scale:
        """Return a bone's rows in the score table.

        Raises:
            WrongBones: the standard does not grade that bone.
        """
        known = parse_bone(bone)
        if known not in self.bones:
            raise WrongBones(
                f"{self.title} does not grade the {known}: its bones are {', '.join(self.bones)}"
            )
        return self.scales[Sex.parse(sex)][known]

    def grades(self, bone: Bone | str) -> tuple[float, ...]:
        """Return a bone's grades, sub-grades included; they are the same for both sexes.

        Raises:
            WrongBones: the standard does not grade that bone.
        """
        return tuple(self.scale(Sex.FEMALE, bone).grades.tolist())

    def parse_grade(self, bone: Bone | str, text: str) -> float:
        """Return the grade that a text means: a number, or the standard's own label as `F` or `5(2)`.

        A plain number is always a grade, never a sub-code.

        Raises:
            WrongBones: the standard does not grade that bone.
            UnknownGrade: the text is neither.
        """
        scale = self.scale(Sex.FEMALE, bone)
        word = text.strip().upper()
        named = dict(zip(scale.labels, scale.grades, strict=True))
        if word in named and not word.isdigit():
            return float(named[word])
        try:
            grade = math.nan if "_" in word else float(word)  # Python reads 5_5 as 55
        except ValueError:
            raise UnknownGrade(
                f"{self.title} has no grade {text!r} for the {parse_bone(bone)}: give {_choices(scale)}"
            ) from None
        return self._checked_grade(scale, parse_bone(bone), grade)

    def _checked_grade(self, scale: Scale, bone: Bone, grade: float) -> float:
        if not 0 <= grade <= scale.grades[-1]:  # NaN fails both
            raise UnknownGrade(
                f"{self.title} grades the {bone} from 0 to {scale.grades[-1]:g}, not {grade!r}: "
                f"give {_choices(scale)}"
            )
        return float(grade)

    def grade_score(self, sex: Sex | str, bone: Bone | str, grade: float) -> float:
        """Return a grade's score; a grade between two rows scores between them, linearly.

        Raises:
            WrongBones: the standard does not grade that bone.
            UnknownGrade: the grade is no number from 0 to the bone's last.
        """
        scale = self.scale(sex, bone)
        return float(
            np.interp(self._checked_grade(scale, parse_bone(bone), grade), scale.grades, scale.scores)
        )

    def total(self, sex: Sex | str, grades: Mapping[Bone, float] | Mapping[str, float]) -> float:
        """Return the sum of the scores of all the standard's bones.

        Raises:
            WrongBones: a bone is unknown, missing, given twice, or not the standard's.
            UnknownGrade: a bone has no such grade.
        """
        return math.fsum(
            self.grade_score(sex, bone, grade) for bone, grade in self.complete_grades(grades).items()
        )

    def complete_grades(self, grades: Mapping[Bone, float] | Mapping[str, float]) -> dict[Bone, float]:
        """Return the grades by bone, in the standard's order, after checking that each bone is there once.

        Raises:
            WrongBones: a bone is unknown, missing, given twice, or not the standard's.
        """
        found: dict[Bone, float] = {}
        for name, grade in grades.items():
            bone = parse_bone(name)
            self.scale(Sex.FEMALE, bone)
            if bone in found:
                raise WrongBones(f"the {bone} is given twice, once as {name!r}: give each bone once")
            found[bone] = grade
        if missing := [bone for bone in self.bones if bone not in found]:
            raise WrongBones(
                f"{self.title} needs {len(self.bones)} bones, and {len(missing)} are missing: "
                f"grade {', '.join(missing)} too"
            )
        return {bone: found[bone] for bone in self.bones}

    def age_months(self, sex: Sex | str, total: float) -> tuple[float, tuple[Notice, ...]]:
        """Return the bone age at a total, with notices where it is the curve's end or the table is weak.

        Raises:
            NotApplicable: the total is negative or no number.
        """
        sex = Sex.parse(sex)
        if not (math.isfinite(total) and total >= 0):
            raise NotApplicable(
                f"a total score is a number from 0 up, not {total!r}: add up the scores again"
            )
        curve = self.curves[sex]
        age = float(np.interp(total, curve.totals, curve.ages_months))
        return age, (*self._end_notices(curve, total), *warnings_of(self.tables, sex))

    def _end_notices(self, curve: Curve, total: float) -> tuple[Notice, ...]:
        low, high = curve.totals[0], curve.totals[-1]
        youngest, oldest = curve.ages_months[0] / 12, curve.ages_months[-1] / 12
        if total < low:
            text = f"total {total:g} is below {self.title}'s table ({low:g} at {youngest:g} years)"
            return (Notice("clamped", f"{text}: the age is that of its start, an upper bound"),)
        if total > high:
            text = f"total {total:g} is above {self.title}'s table ({high:g} at {oldest:g} years)"
            return (Notice("clamped", f"{text}: the age is that of its end"),)
        if total == high:
            text = f"{self.title}'s table ends here: {oldest:g} years is a lower bound of the age"
            return (Notice("mature", f"every bone is mature and {text}"),)
        return ()

    def total_at(self, sex: Sex | str, age_months: float) -> tuple[float, tuple[Notice, ...]]:
        """Return the total that the curve has at an age: the inverse of `age_months`.

        Raises:
            NotApplicable: the age is negative or no number.
        """
        sex = Sex.parse(sex)
        if not (math.isfinite(age_months) and age_months >= 0):
            raise NotApplicable(f"an age is a number of months from 0 up, not {age_months!r}: give one")
        curve = self.curves[sex]
        total = float(np.interp(age_months, curve.ages_months, curve.totals))
        notices = warnings_of(self.tables, sex)
        if not curve.ages_months[0] <= age_months <= curve.ages_months[-1]:
            first, last = curve.ages_months[0], curve.ages_months[-1]
            text = f"{age_months:g} months is outside {self.title}'s table ({first:g} to {last:g} months)"
            notices = (Notice("clamped", f"{text}: the total is that of its nearer end"), *notices)
        return total, notices


def _choices(scale: Scale) -> str:
    numbers = f"a number from 0 to {scale.grades[-1]:g}"
    letters = [label for label in scale.labels if label.isalpha()]
    return f"{numbers} or a stage from {letters[0]} to {letters[-1]}" if letters else numbers
