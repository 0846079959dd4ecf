"""Assessments as plain records (JSON, rows) and ages as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from boneage.core.errors import BoneAgeError, InputError
from boneage.core.types import (
    PERCENTILES,
    AgeDistribution,
    Assessment,
    Hand,
    HandGroup,
    Neighbours,
    Notice,
    Point,
    RadiusSubgrade,
    ReadSheet,
    Region,
)
from boneage.standards.names import TW3_STAGES

if TYPE_CHECKING:
    from boneage.standards.scoring import ScoreSheet

WORTH_NAMING = 0.05
"""Probability from which on an age interval is named."""

NAMED_TOGETHER = 0.9
"""Probability that the named age intervals hold together, at least."""

_GRADED_AS = {"tw3_c_rus": "tw3", "chn_radius_subgraded": "chn"}
"""Standard -> the one by whose name the network gives its grades; the two differ in scores or ages alone."""

OK, REJECTED, FAILED = "ok", "rejected", "failed"
"""Status of an image: read; refused for what it is; not read for another reason."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that got no bone age, and why; `message` leaves the naming of the file to `path`."""

    path: str
    status: str
    code: str
    message: str

    @classmethod
    def of(cls, path: str, error: BoneAgeError) -> Failure:
        """Return the failure that an error means for an image."""
        status = REJECTED if isinstance(error, InputError) else FAILED
        message = one_line(error).removeprefix(f"{one_line(PurePath(path))}: ")
        return cls(path, status, error.code, message)

    @property
    def line(self) -> str:
        """The message on one line, with the file's path in front."""
        return f"{self.path}: {self.message}"


def one_line(text: object) -> str:
    """Return a text with every run of white space, line ends too, as one blank."""
    return " ".join(str(text).split())


def years_and_months(age_months: float) -> str:
    """Return an age as `10 y 4 m`, rounded to the nearest month."""
    sign = "-" if round(age_months) < 0 else ""
    years, months = divmod(abs(round(age_months)), 12)
    return f"{sign}{years} y {months} m"


def percentage(share: float) -> str:
    """Return a probability in whole per cent; one short of certainty is never called 100%."""
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def likely_intervals(distribution: AgeDistribution) -> list[tuple[str, float]]:
    """Return the age intervals worth naming with their probabilities, the most probable first.

    Those are the fewest that together hold `NAMED_TOGETHER`, and all that hold `WORTH_NAMING`.
    """
    pairs = zip(distribution.names(), distribution.probabilities, strict=True)
    named: list[tuple[str, float]] = []
    for name, share in sorted(pairs, key=lambda pair: -pair[1]):
        if round(share, 2) < WORTH_NAMING and sum(probability for _, probability in named) >= NAMED_TOGETHER:
            break
        named.append((name, share))
    return named


def assessment_record(assessment: Assessment) -> dict[str, Any]:
    """Return an assessment as the contract's JSON object; pixels are the source image's."""
    return {
        "path": assessment.path,
        "status": OK,
        "message": "",
        "sex": str(assessment.sex),
        "bone_age_months": _number(assessment.bone_age_months),
        "interval_months": [_number(month) for month in assessment.interval_months],
        "coverage": assessment.coverage,
        "chronological_age_months": _number(assessment.chronological_age_months),
        "ages": {name: _number(age) for name, age in assessment.ages.items()},
        "age_intervals": _age_intervals(assessment.distribution),
        "hand": _hand(assessment.hand),
        "regions": [_region(region) for region in assessment.regions],
        "radius_subgrade": _subgrade(assessment.radius_subgrade),
        "neighbours": _neighbours(assessment.neighbours),
        "scores": _rounded(plain(assessment.scores)),
        "growth": _rounded(plain(assessment.growth)),
        "reading": [_read_sheet(sheet) for sheet in assessment.reading],
        "warnings": [_notice(notice) for notice in assessment.warnings],
        "provenance": plain(assessment.provenance),
    }


def failure_record(failure: Failure) -> dict[str, Any]:
    """Return a failure as the contract's JSON object: the same keys, empty where nothing is known."""
    return {
        "path": failure.path,
        "status": failure.status,
        "message": failure.message,
        "code": failure.code,
        "sex": None,
        "bone_age_months": None,
        "interval_months": None,
        "coverage": None,
        "chronological_age_months": None,
        "ages": {},
        "age_intervals": [],
        "hand": None,
        "regions": [],
        "radius_subgrade": None,
        "neighbours": None,
        "scores": {},
        "growth": {},
        "reading": [],
        "warnings": [],
        "provenance": {},
    }


def score_record(sheet: ScoreSheet) -> dict[str, Any]:
    """Return a score sheet as the contract's JSON object; what it sums up is rounded to four places."""
    return {
        "standard": sheet.standard,
        "edition": sheet.edition,
        "sex": str(sheet.sex),
        "bones": [
            {
                "bone": str(bone.bone),
                "grade": bone.grade,
                "stage": bone.stage,
                "score": round(bone.score, 4),
                "maximum": bone.maximum,
            }
            for bone in sheet.bones
        ],
        "total": round(sheet.total, 4),
        "age_months": round(sheet.age_months, 4),
        "warnings": [_notice(notice) for notice in sheet.warnings],
    }


def network_grades(assessment: Assessment, standard: str) -> dict[str, float]:
    """Return the network's grades of the bones by a standard; some it gives under another's name."""
    given = _GRADED_AS.get(standard, standard)
    grades = {
        region.bone: float(region.grades[given]) for region in assessment.regions if given in region.grades
    }
    if standard == "chn_radius_subgraded" and assessment.radius_subgrade is not None:
        grades["radius"] = assessment.radius_subgrade.subgrade
    return grades


def grade_words(standard: str, grade: float) -> str:
    """Return a grade as its standard writes it: TW3's stages are letters; one between two is a number."""
    if _GRADED_AS.get(standard, standard) == "tw3" and grade % 1 == 0:
        return TW3_STAGES[int(grade)]
    return f"{round(grade, 2):g}"


def plain(value: Any) -> Any:
    """Return a value in the types that JSON has: mappings, lists, numbers, text, booleans and null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def _rounded(value: Any) -> Any:
    """Return a plain value with its fractions rounded for reading."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return _number(value) if isinstance(value, float) else value


def _age_intervals(distribution: AgeDistribution | None) -> list[dict[str, float | None]]:
    if distribution is None:
        return []
    pairs = zip(distribution.intervals_months, distribution.probabilities, strict=True)
    return [
        {"from_months": _number(low), "to_months": _number(high), "probability": _number(share, 4)}
        for (low, high), share in pairs
    ]


def _hand(hand: Hand) -> dict[str, Any]:
    return {
        "box_px": [_number(edge, 1) for edge in hand.box_px],
        "side": None if hand.side is None else str(hand.side),
        "keypoints_px": _points(hand.keypoints_px),
        "epiphyses_px": _points(hand.epiphyses_px),
        "confidence": _number(hand.confidence, 3),
        "method": hand.method,
    }


def _points(points: Mapping[str, Point]) -> dict[str, list[float | None]]:
    return {name: [_number(x, 1), _number(y, 1)] for name, (x, y) in points.items()}


def _region(region: Region) -> dict[str, Any]:
    return {
        "bone": region.bone,
        "box_px": [_number(edge, 1) for edge in region.box_px],
        "grades": plain(region.grades),
        "confidence": _number(region.confidence, 3),
        "expected_grade": _number(region.expected_grade),
    }


def _subgrade(radius: RadiusSubgrade | None) -> dict[str, Any] | None:
    if radius is None:
        return None
    return {
        "grade": radius.grade,
        "subgrade": _number(radius.subgrade),
        "name": radius.name,
        "score": _number(radius.score),
        "position": {pair: _number(way) for pair, way in radius.position.items()},
    }


def _neighbours(near: Neighbours | None) -> dict[str, Any] | None:
    if near is None:
        return None
    typical = near.typical
    return {
        "group": None if near.group is None else _group(near.group),
        "typical": None
        if typical is None
        else {
            "mean_months": _number(typical.mean_months),
            "sd_months": _number(typical.sd_months),
            "hands": typical.hands,
        },
        "regions": list(near.regions),
        "masked": list(near.masked),
    }


def _group(group: HandGroup) -> dict[str, Any]:
    percentiles = zip(PERCENTILES, group.percentiles_months, strict=bool(group.percentiles_months))
    classes = zip(pairwise(group.edges_months), group.classes, strict=True)
    return {
        "number": group.number,
        "of": group.count,
        "sex": None if group.sex is None else str(group.sex),
        "hands": group.hands,
        "mean_months": _number(group.mean_months),
        "sd_months": _number(group.sd_months),
        "percentiles_months": {str(share): _number(age) for share, age in percentiles},
        "age_classes": [
            {"from_months": _number(low), "to_months": _number(high), "hands": hands}
            for (low, high), hands in classes
        ],
    }


def _read_sheet(sheet: ReadSheet) -> dict[str, Any]:
    return {
        "standard": sheet.standard,
        "edition": sheet.edition,
        "changed": plain(sheet.changed),
        "grades": plain(sheet.grades),
        "scores": {bone: _number(score) for bone, score in sheet.scores.items()},
        "total": _number(sheet.total),
        "age_months": _number(sheet.age_months),
        "sd_score": _number(sheet.sd_score),
    }


def _notice(notice: Notice) -> dict[str, str]:
    return {"code": notice.code, "text": notice.text}


def _number(value: float | None, places: int = 2) -> float | None:
    """Return a finite number rounded for reading; anything else is null, which JSON can hold."""
    return None if value is None or not np.isfinite(value) else round(float(value), places)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
