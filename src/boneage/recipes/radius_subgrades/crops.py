"""Radius crops with their CHN grades, from a folder of graded crops or from a manifest of radiographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.regions import MIN_VISIBLE, RegionViews, bone_regions, square_of
from boneage.core.errors import ConfigError, InputError
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.graded_crops import holds_graded_crops, read_crop, read_graded_crops
from boneage.data.manifest import Row, read_manifest, read_table
from boneage.data.splits import stratified_folds
from boneage.imaging.read import read
from boneage.recipes.radius_subgrades.config import GradesConfig, Recipe, ScheduleConfig
from boneage.recipes.radius_subgrades.frames import PATCH_SIDE, Patches, patch_of
from boneage.standards.mapping import grade_map
from boneage.standards.names import CARPALS, Bone, parse_bone
from boneage.standards.scoring import age_curve, score_table, standard

RADIUS = Bone("radius")
STANDARD = "chn"
"""The standard whose radius grades are subdivided."""

PATCHES = "patches.npz"
"""Of a run on a manifest: the radii that were cut, so that hands are found once."""

SEXES: tuple[Sex | None, ...] = (*Sex, None)


@dataclass(frozen=True, eq=False)
class RadiusCrops:
    """Crops, and what is known of them.

    Args:
        ids: names; crops of one hand share theirs.
        patches: (N, P, P) uint8.
        grades: (N,) CHN grades, -1 where a crop has none.
        sexes: (N,) place in `SEXES`.
        ages: (N,) bone ages in months, NaN where unknown.
        folds: (N,) of cross-validation; crops of one hand share theirs.
    """

    ids: tuple[str, ...]
    patches: Patches
    grades: NDArray[np.int64]
    sexes: NDArray[np.int64]
    ages: NDArray[np.float64]
    folds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, wanted: NDArray[np.bool_]) -> RadiusCrops:
        """Return the crops chosen (N,)."""
        ids = tuple(name for name, chosen in zip(self.ids, wanted, strict=True) if chosen)
        return RadiusCrops(
            ids,
            self.patches[wanted],
            self.grades[wanted],
            self.sexes[wanted],
            self.ages[wanted],
            self.folds[wanted],
        )

    def first_of_hands(self) -> NDArray[np.bool_]:
        """Return which crops (N,) are their hands' first."""
        found = np.zeros(len(self), dtype=np.bool_)
        found[np.unique(np.array(self.ids), return_index=True)[1]] = True
        return found

    def of(self, sex: Sex) -> NDArray[np.bool_]:
        """Return which crops (N,) are of a sex."""
        return np.asarray(self.sexes == SEXES.index(sex))


def read_crops(
    source: Path,
    recipe: Recipe,
    folder: Path,
    locate: Callable[[Radiograph], Hand] | None,
    report: Callable[[str], None],
) -> RadiusCrops:
    """Read radius crops and their grades, and keep the crops that have a grade of some pair.

    Args:
        source: a folder radius/GRADE/*.png, a CSV of graded crops, or a manifest with sexes and bone ages.
        recipe: which grades, and how many folds.
        folder: where patches are kept, so that a manifest's hands are found once.
        locate: finds the hand; None where graded crops need none.
        report: is told of every crop that is left out.

    Raises:
        ConfigError: no crops, or no grades for them.
        InputError: a graded crop cannot be read.
    """
    config = recipe.grades
    if holds_graded_crops(source):
        _check_column(source, config)
        crops = _graded(source, recipe)
    else:
        table = _read_table(Path(config.table)) if config.table else None  # before hands are looked for
        crops = _located(_known(source, report), recipe.schedule, folder, locate, report)
        crops = replace(
            crops, grades=_from_ages(crops) if table is None else _from_table(crops, table, config)
        )
    wanted = sorted({grade for pair in config.pairs for grade in pair})
    kept = crops.take(np.isin(crops.grades, wanted))
    for grade in wanted:
        if not (kept.grades == grade).any():
            have = ", ".join(str(found) for found in np.unique(crops.grades[crops.grades >= 0]))
            raise ConfigError(
                f"{source.name} has no radius of CHN grade {grade} (it has {have or 'none'}): give crops of "
                "both grades of every pair, or other grades.pairs"
            )
    return kept


def _graded(source: Path, recipe: Recipe) -> RadiusCrops:
    found = [crop for crop in read_graded_crops(source) if crop.bone is RADIUS]
    if not found:
        raise ConfigError(f"{source.name} has no crops of the radius: give radius/GRADE/*.png")
    patches = []
    for crop in found:
        image = read_crop(crop.path)
        patches.append(patch_of(RegionViews(image), square_of(image)))
    # Folds are stratified by what a manifest's are, the bone age; here the grade stands for it.
    rows = [
        Row(str(index), crop.path, crop.sex, float(crop.grade), patient_id=crop.hand)
        for index, crop in enumerate(found)
    ]
    return RadiusCrops(
        tuple(crop.hand for crop in found),
        np.array(patches),
        _as_chn([crop.grade for crop in found], recipe.grades.given),
        np.array([SEXES.index(crop.sex) for crop in found], dtype=np.int64),
        np.array([np.nan if crop.bone_age_months is None else crop.bone_age_months for crop in found]),
        stratified_folds(rows, recipe.schedule.folds, recipe.schedule.seed),
    )


def _as_chn(grades: Sequence[int], given: str) -> NDArray[np.int64]:
    """Return CHN's grades of grades of CHN or of RUS-CHN."""
    last = int(standard(given).grades(RADIUS)[-1])
    beyond = [grade for grade in grades if not 0 <= grade <= last]
    if beyond:
        raise ConfigError(f"{given} grades the radius from 0 to {last}, not {beyond[0]}: see grades.given")
    if given == STANDARD:
        return np.array(grades, dtype=np.int64)
    return np.array([round(grade_map(STANDARD)({RADIUS: grade})[RADIUS]) for grade in grades], dtype=np.int64)


def _check_column(source: Path, config: GradesConfig) -> None:
    """Refuse grades whose column says that they are RUS-CHN's where they are taken for CHN's."""
    if source.is_file() and "rus_chn_grade" in read_table(source)[0][1] and config.given == STANDARD:
        raise ConfigError(
            f"{source.name} has RUS-CHN grades: give --set grades.given=rus_chn to map them to CHN's"
        )


def _known(source: Path, report: Callable[[str], None]) -> list[Row]:
    every = read_manifest(source)
    rows = [row for row in every if row.sex is not None and row.bone_age_months is not None]
    if not rows:
        raise ConfigError(f"{source.name} has no image with sex and bone age; give a labelled manifest")
    if len(rows) < len(every):
        report(f"left out: {len(every) - len(rows)} images without sex or bone age")
    return rows


def _located(
    rows: Sequence[Row],
    schedule: ScheduleConfig,
    folder: Path,
    locate: Callable[[Radiograph], Hand] | None,
    report: Callable[[str], None],
) -> RadiusCrops:
    """Cut the radius out of every radiograph, once: a second call reads what the first one wrote."""
    file = folder / PATCHES
    if not file.is_file():
        if locate is None:
            raise ConfigError("a manifest needs a hand localiser; the bundle has none")
        kept, patches = [], []
        for row in rows:
            try:
                radiograph = read(row.path)
                (region,) = bone_regions(locate(radiograph), radiograph.shape, [str(RADIUS)])
            except InputError as error:
                report(f"left out: {row.path.name} ({error})")
                continue
            if region.visible < MIN_VISIBLE:
                report(f"left out: {row.path.name} (the radius is not in the image)")
                continue
            kept.append(row.id)
            patches.append(patch_of(RegionViews(radiograph), region.to_view))
        if not kept:
            raise ConfigError("no radius was found in any image: see the reasons above")
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "patches.partial.npz"
        np.savez(partial, ids=np.array(kept, dtype=np.str_), patches=_stacked(patches))
        partial.replace(file)
    with np.load(file) as saved:
        ids, patches_ = tuple(map(str, saved["ids"])), saved["patches"]
    by_id = {row.id: row for row in rows}
    if missing := [name for name in ids if name not in by_id]:
        raise ConfigError(f"{file} is of another manifest (it has {missing[0]!r}): begin with another --out")
    found = [by_id[name] for name in ids]
    folds = stratified_folds(rows, schedule.folds, schedule.seed)
    fold_of = {row.id: fold for row, fold in zip(rows, folds, strict=True)}
    return RadiusCrops(
        ids,
        patches_,
        np.full(len(ids), -1, dtype=np.int64),
        np.array([SEXES.index(row.sex) for row in found], dtype=np.int64),
        np.array([row.bone_age_months for row in found], dtype=np.float64),
        np.array([fold_of[name] for name in ids], dtype=np.int64),
    )


def _stacked(patches: Sequence[Patches]) -> Patches:
    return np.array(patches, dtype=np.uint8).reshape(len(patches), PATCH_SIDE, PATCH_SIDE)


def _from_table(
    crops: RadiusCrops, table: Mapping[str, Mapping[Bone, int]], config: GradesConfig
) -> NDArray[np.int64]:
    """Return the grades that a table gives, -1 for crops that it does not have."""
    by_id = {name: bones[RADIUS] for name, bones in table.items() if RADIUS in bones}
    known = [name in by_id for name in crops.ids]
    if not any(known):
        raise ConfigError(
            f"{Path(config.table).name} grades none of the manifest's radii: its ids must be the manifest's"
        )
    grades = np.full(len(crops), -1, dtype=np.int64)
    grades[known] = _as_chn([by_id[name] for name in crops.ids if name in by_id], config.given)
    return grades


def read_bones(table: Path, given: str) -> dict[str, dict[Bone, float]]:
    """Return id -> bone -> CHN grade of all bones that a table grades.

    Args:
        table: as `GradesConfig.table`.
        given: what its grades are, `chn` or `rus_chn`; those of the carpals are always CHN's.
    """
    found = {}
    for name, bones in _read_table(table).items():
        rus = {bone: float(grade) for bone, grade in bones.items() if bone not in CARPALS}
        carpals = {bone: float(grade) for bone, grade in bones.items() if bone in CARPALS}
        found[name] = (dict(grade_map(STANDARD)(rus)) if given != STANDARD else rus) | carpals
    return found


def _read_table(table: Path) -> dict[str, dict[Bone, int]]:
    """Return id -> bone -> grade: a line a bone (`id,bone,grade`), or a column a bone (`id,radius,...`)."""
    found: dict[str, dict[Bone, int]] = {}
    for line, record in read_table(table):
        columns = {name: text for name, text in record.items() if name in tuple(Bone)}
        if "bone" in record and "grade" in record:
            columns = {record["bone"]: record["grade"]}
        if "id" not in record or not columns:
            raise ConfigError(
                f"{table}:1: expected the columns id,radius or id,bone,grade, not {', '.join(record)}"
            )
        own = found.setdefault(record["id"], {})
        own |= {parse_bone(name): _whole(text, table, line) for name, text in columns.items() if text}
    return found


def _whole(text: str, table: Path, line: int) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"{table}:{line}: grade must be a whole number from 0, not {text!r}; correct it")
    return int(text)


def _from_ages(crops: RadiusCrops) -> NDArray[np.int64]:
    """Return the grades that go with the bone ages: windows of age, which no grader has seen.

    At an age the radius has the share of its greatest score that CHN's total has of 1000; the grade whose
    score is nearest on that scale.
    """
    grades = np.full(len(crops), -1, dtype=np.int64)
    for sex in Sex:
        totals, ages = age_curve(STANDARD, sex)
        bones, table = score_table(STANDARD, sex)
        own = table[bones.index(RADIUS)]
        own = own[~np.isnan(own)]
        mine = crops.of(sex)
        share = np.interp(crops.ages[mine], ages, totals) / totals[-1]
        grades[mine] = np.interp(share, own / own[-1], np.arange(len(own))).round().astype(np.int64)
    return grades
