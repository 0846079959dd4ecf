"""Read one radiograph as it is and under every stress, by the same way in as a file.

A changed image is written as a PNG of 16 bits and read back, so that what looks at pixels while a file is
read, as the judgement of polarity does, is under the same stress.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from boneage.core.errors import ConfigError, InputError
from boneage.core.types import Assessment, FloatArray, Radiograph, Sex
from boneage.imaging.read import read, read_bytes
from boneage.imaging.stress import STRESSES, cell_of
from boneage.metrics.paired_change import PairedChange, paired_change

UNCHANGED = "unchanged"
OK, REFUSED = "ok", "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one image in one cell.

    Args:
        status: `ok` or `refused`.
        age_months: the bone age, where there is one.
        code: of the refusal, or "".
        warnings: codes of the notices.
    """

    status: str
    age_months: float | None = None
    code: str = ""
    warnings: tuple[str, ...] = ()


class Reads(Protocol):
    """What assesses a radiograph, as `inference.assess.Assessor`."""

    def assess(self, source: str | Path | Radiograph, *, sex: Sex | None = None) -> Assessment:
        """Assess one radiograph."""
        ...


def cells() -> tuple[str, ...]:
    """Return the names of all cells, the unchanged image first."""
    changed = (cell_of(stress, strength) for stress in STRESSES for strength in stress.strengths)
    return (UNCHANGED, *changed)


def answers(reader: Reads, path: Path, sex: Sex, seed: int) -> dict[str, Answer]:
    """Return cell -> answer of one image; none but that of the unchanged image where that is refused.

    Args:
        reader: what assesses.
        path: the image.
        sex: the patient's.
        seed: of the changes that draw something.
    """
    try:
        pixels = read(path).pixels
    except InputError as error:
        return {UNCHANGED: Answer(REFUSED, code=error.code)}
    found = {UNCHANGED: _answer(reader, pixels, sex)}
    if found[UNCHANGED].status == OK:
        found |= {name: _answer(reader, image, sex) for name, image in _changed(pixels, seed)}
    return found


def record(found: Mapping[str, Answer]) -> dict[str, list[object]]:
    """Return answers in JSON's types."""
    return {name: [a.status, a.age_months, a.code, list(a.warnings)] for name, a in found.items()}


def from_record(kept: Mapping[str, list[object]]) -> dict[str, Answer]:
    """Return the answers of a record."""
    found = {}
    for name, (status, age, code, warnings) in kept.items():
        codes = tuple(map(str, warnings)) if isinstance(warnings, list) else ()
        found[name] = Answer(str(status), age if isinstance(age, float) else None, str(code), codes)
    return found


def _changed(pixels: FloatArray, seed: int) -> Iterator[tuple[str, FloatArray]]:
    for stress in STRESSES:
        for strength in stress.strengths:
            yield cell_of(stress, strength), stress.change(pixels, strength.value, seed)


def _answer(reader: Reads, pixels: FloatArray, sex: Sex) -> Answer:
    levels = np.rint(pixels * np.float32(65535)).astype(np.uint16)
    _, encoded = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    try:
        found = reader.assess(read_bytes(encoded.tobytes()), sex=sex)
    except InputError as error:
        return Answer(REFUSED, code=error.code)
    return Answer(OK, float(found.bone_age_months), "", tuple(notice.code for notice in found.warnings))


def effects(found: Mapping[str, Mapping[str, Answer]], truth: Mapping[str, float]) -> dict[str, PairedChange]:
    """Return cell -> what it did to the images that are read unchanged; none of the unchanged cell.

    Args:
        found: image -> cell -> answer.
        truth: image -> reference age in months.

    Raises:
        ConfigError: no image is read unchanged.
    """
    images = [image for image, each in found.items() if each[UNCHANGED].status == OK]
    if not images:
        raise ConfigError("none of the images is read as it is, so that nothing can be compared: give others")
    reference = [truth[image] for image in images]
    before = [_age(found[image][UNCHANGED]) for image in images]
    return {
        name: paired_change(reference, before, [_age(found[image][name]) for image in images])
        for name in cells()
        if name != UNCHANGED
    }


def new_warnings(found: Mapping[str, Mapping[str, Answer]]) -> dict[str, dict[str, int]]:
    """Return cell -> notice -> images read with it, and without it as they are; the most frequent first."""
    result: dict[str, dict[str, int]] = {}
    for name in cells():
        counts = Counter(
            code
            for each in found.values()
            if name in each and each[name].status == OK
            for code in set(each[name].warnings) - set(each[UNCHANGED].warnings)
        )
        result[name] = dict(counts.most_common())
    return result


def _age(answer: Answer) -> float:
    return math.nan if answer.age_months is None else answer.age_months
