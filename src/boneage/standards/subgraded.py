"""Write tables in which CHN's radius has sub-grades: a folder that `standard` loads like the shipped one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError, DeliveryError
from boneage.core.types import Sex
from boneage.standards.names import Bone
from boneage.standards.scoring import standard
from boneage.standards.tables import TABLES, catalogue, read_table

NAME = "chn_radius_subgraded"
"""The standard's name, in the shipped folder and in a written one."""

SUBGRADES = "chn_radius_subgrades.csv"
"""The file of the sub-grades' scores."""


def subgrade_name(grade: float) -> str:
    """Return a grade or a sub-grade as paper 1 writes it: `5`, `5_5`."""
    return f"{grade:g}".replace(".", "_")


def write_subgraded(
    folder: Path, scores: Mapping[Sex, Mapping[float, float]], *, title: str, source: str, remarks: str
) -> None:
    """Write a folder of tables that `standard("chn_radius_subgraded", folder)` loads, whole or not at all.

    Args:
        folder: where; an earlier one of this function's is replaced.
        scores: sex -> sub-grade of the radius, as 5.5 -> its score.
        title: what the table of the sub-grades holds; this and the remarks are said with every result.
        source: where the scores come from.
        remarks: what is doubtful about them.

    Raises:
        ConfigError: the sub-grades are not the same for both sexes, one is whole or outside CHN's grades, a
            score is not between its neighbours', or the folder holds something else.
        DeliveryError: the folder cannot be written.
        TableMissing: one of CHN's own tables is not there.
        TableBroken: one of CHN's own tables is not the one that was checked.

    Source: paper 1, Table III, where the sub-grades 5.5 and 6.5 are called 5_5 and 6_5.
    """
    checked = _checked(scores)
    entry = catalogue()["standards"]["chn"]
    copied = {name: (TABLES / name).read_bytes() for name in (entry["scores"], entry["curve"])}
    table = _table(checked)
    new = {"title": title, "source": source, "agreement": "weak", "remarks": remarks}
    new["sha256"] = hashlib.sha256(table).hexdigest()
    described = {
        f"standards.{NAME}": {
            **entry,
            "title": "Sub-graded CHN",
            "edition": f"{entry['edition']} with sub-grades of the radius: {title}",
            "subgrades": SUBGRADES,
        },
        **{f'tables."{name}"': catalogue()["tables"][name] for name in copied},
        f'tables."{SUBGRADES}"': new,
    }
    _write(folder, {**copied, SUBGRADES: table, "SOURCES.toml": _toml(described)})
    # What was loaded from an earlier folder of that name is no longer what lies there.
    for loaded in (catalogue, read_table, standard):
        loaded.cache_clear()


def _checked(scores: Mapping[Sex, Mapping[float, float]]) -> dict[Sex, dict[float, float]]:
    """Return the sub-grades' scores in order of grade, after checking them beside CHN's own."""
    grades = {str(sex): sorted(of) for sex, of in scores.items()}
    if set(grades) != set(Sex) or not grades["male"] or grades["male"] != grades["female"]:
        raise ConfigError(
            f"sub-grades are one or more, and the same for both sexes, not {grades}: score each for both"
        )
    return {sex: _between(sex, scores[sex]) for sex in Sex}


def _between(sex: Sex, scores: Mapping[float, float]) -> dict[float, float]:
    """Return one sex's sub-grades in order, each checked to lie between its neighbours in grade and score."""
    scale = standard("chn").scale(sex, Bone.RADIUS)
    first, last = scale.grades[0], scale.grades[-1]
    known = dict(zip(scale.grades.tolist(), scale.scores.tolist(), strict=True))
    found = {}
    for grade in sorted(scores):
        if not first < grade < last or grade % 1 == 0:
            raise ConfigError(
                f"a sub-grade of the radius lies between two whole grades from {first:g} to {last:g}, "
                f"not at {grade:g}: give one such as 5.5"
            )
        low = max(known[other] for other in known if other < grade)
        high = min(known[other] for other in known if other > grade)
        if not low <= scores[grade] <= high:  # NaN fails both
            raise ConfigError(
                f"the {sex} radius's sub-grade {grade:g} must score from {low:g} to {high:g}, "
                f"its neighbours' scores, not {scores[grade]:g}: give another score"
            )
        known[grade] = found[float(grade)] = float(scores[grade])
    return found


def _table(scores: Mapping[Sex, Mapping[float, float]]) -> bytes:
    """Return the score table of the sub-grades; grade 5.5 has the label 5_5."""
    lines = ["sex,bone,grade,label,score"]
    for sex, of in scores.items():
        for grade, points in of.items():
            label = repr(grade).replace(".", "_")
            lines.append(f"{sex},{Bone.RADIUS},{grade!r},{label},{repr(points).removesuffix('.0')}")
    return ("\n".join(lines) + "\n").encode()


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return sections of texts and lists of texts as TOML; JSON writes these alike, but for one character."""
    lines = []
    for head, entry in sections.items():
        values = {key: json.dumps(value, ensure_ascii=False) for key, value in entry.items()}
        written = [f"{key} = {value}".replace("\x7f", "\\u007f") for key, value in values.items()]
        lines += [f"[{head}]", *written, ""]
    return "\n".join(lines).encode()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder of files in an earlier one's place; where that fails, the earlier one is there again."""
    partial, aside = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    try:
        if folder.is_dir() and (others := {path.name for path in folder.iterdir()} - files.keys()):
            raise ConfigError(f"{folder} holds {min(others)!r}, no sub-graded tables: choose another folder")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, content in files.items():
            (partial / name).write_bytes(content)
        if folder.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        try:
            partial.rename(folder)
        except OSError:
            if aside.is_dir():
                aside.rename(folder)
            raise
    except OSError as error:
        raise DeliveryError(
            f"cannot write the tables {folder}: {error.strerror}; free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)
