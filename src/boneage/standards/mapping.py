"""RUS-CHN grades as TW3 stages and as CHN grades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from boneage.core.errors import TableBroken, TableMissing
from boneage.core.types import Notice, Sex
from boneage.standards.names import Bone, parse_bone
from boneage.standards.scales import Floats
from boneage.standards.scoring import standard
from boneage.standards.tables import TABLES, Agreement, Source, check_rising, number, read_table

MAPPED = {"tw3": "rus_chn_to_tw3.csv", "tw3_c_rus": "rus_chn_to_tw3.csv", "chn": "rus_chn_to_chn.csv"}
"""Standard -> the table that maps RUS-CHN grades to its own."""


@dataclass(frozen=True, slots=True, eq=False)
class GradeMap:
    """RUS-CHN grades to another standard's grades.

    Args:
        target: the other standard's name.
        bones: bone -> (G + 1,) the other's grade at RUS-CHN grade 0, 1, 2 ...; never falls.
        source: where the mapping comes from.
    """

    target: str
    bones: Mapping[Bone, Floats]
    source: Source

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """The notice that every result of a weak mapping owes."""
        if Agreement.WEAK not in self.source.agreement.values():
            return ()
        return (Notice("weak_mapping", f"weak mapping: {self.source.title}. {self.source.remarks}"),)

    def __call__(self, grades: Mapping[Bone, float] | Mapping[str, float]) -> dict[Bone, float]:
        """Return the other standard's grades of the bones that both grade; the others are left out.

        A grade between two whole ones maps between theirs, linearly. Neighbouring RUS-CHN grades lie
        in the same or in neighbouring TW3 stages, so the TW3 score is then interpolated linearly too.

        Raises:
            WrongBones: a bone is not one of RUS-CHN.
            UnknownGrade: RUS-CHN has no such grade for the bone.
        """
        rus_chn = standard("rus_chn")
        mapped: dict[Bone, float] = {}
        for name, grade in grades.items():
            bone = parse_bone(name)
            rus_chn.grade_score(Sex.FEMALE, bone, grade)  # refuses what RUS-CHN does not have
            if bone in self.bones:
                steps = self.bones[bone]
                mapped[bone] = float(np.interp(grade, np.arange(len(steps)), steps))
        return mapped


@cache
def grade_map(target: str, folder: Path = TABLES) -> GradeMap:
    """Return the map of RUS-CHN grades to `tw3`, `tw3_c_rus` or `chn`.

    Raises:
        TableMissing: there is no map to that standard.
        TableBroken: a bone's rows are incomplete, fall, or lead to a grade that the target does not have.
    """
    key = target.strip().lower().replace("-", "_")
    if key not in MAPPED:
        raise TableMissing(f"RUS-CHN grades map to {', '.join(MAPPED)}, not to {target!r}: name one of these")
    table = read_table(MAPPED[key], folder)
    rus_chn, other = standard("rus_chn", folder), standard(key, folder)
    bones = {}
    for bone in (bone for bone in rus_chn.bones if bone in other.bones):
        where = f"{table.source.name}, {bone}"
        rows = [row for row in table.rows if row.get("bone") == bone]
        if [number(row, "grade", where) for row in rows] != list(rus_chn.grades(bone)):
            raise TableBroken(f"{where}: expected a row for each RUS-CHN grade, in order: mend the table")
        steps = [number(row, "mapped", where) for row in rows]
        check_rising(steps, f"{where}: the mapped grades", strictly=False)
        if (steps[0], steps[-1]) != (other.grades(bone)[0], other.grades(bone)[-1]):
            raise TableBroken(f"{where}: the ends of both standards must map to each other: mend the table")
        bones[bone] = np.array(steps)
        bones[bone].flags.writeable = False
    return GradeMap(key, MappingProxyType(bones), table.source)
