"""Train sub-grades of the radius: on all crops, and fold by fold for what is held out.

A run's folder holds `config.json`, `patches.npz` (of a manifest), `outputs.npy` (MobileNetV2's), a folder a
fold, and in the end `oof.csv` (sub-grades by models that had not seen the crop), `subgrades.npz` and
`subgrades.json` (the model and what speaks for it), `means.npz`, `chn_grades.csv` (the table of grades, in
CHN's) and, where a sub-grade was named, `standard`
(its score table, to be loaded as a standard).
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.models.imagenet import MobileNetOutputs
from boneage.recipes.radius_subgrades.config import Recipe
from boneage.recipes.radius_subgrades.crops import (
    RADIUS,
    SEXES,
    STANDARD,
    RadiusCrops,
    read_bones,
    read_crops,
)
from boneage.recipes.radius_subgrades.encoder import Labels, nearest
from boneage.recipes.radius_subgrades.evidence import (
    Evidence,
    GradeAxis,
    Quality,
    quality,
    unseen_ways,
    weigh,
)
from boneage.recipes.radius_subgrades.frames import PATCH_MARGIN, mean_radius
from boneage.recipes.radius_subgrades.learn import Clustering, fit_clusters, kmeans
from boneage.recipes.radius_subgrades.scores import Levels, Ways, measure_ways, score_between
from boneage.recipes.radius_subgrades.subgrades import PairModel, Subgrader, stacked, subgrade_name
from boneage.standards.names import Bone
from boneage.standards.scoring import standard
from boneage.standards.subgraded import write_subgraded
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import join_tables, open_run, write_table

logger = logging.getLogger(__name__)

MODEL, SUMMARY, OUT_OF_FOLD = "subgrades.npz", "subgrades.json", "oof.csv"
MEANS, OUTPUTS, SCORED, GRADED = "means.npz", "outputs.npy", "standard", "chn_grades.csv"
LEAST_CROPS = 10
"""Crops of each grade of a pair without which no features are learnt."""

LEAST_OF_A_MEAN = 5
"""Crops without which no mean image is written, so that none shows one child."""


def train(job: TrainJob) -> Path:
    """Learn sub-grades of all crops, and of every fold's by the others.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the configuration or the crops are wrong, or `out` holds another run.
        InputError: a crop cannot be read.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    return train_recipe(job, recipe)


def train_recipe(job: TrainJob, recipe: Recipe) -> Path:
    """Train a recipe that is already read; as `train`."""
    open_run(job, "radius_subgrades", recipe, may_change=("recognition",))
    torch.set_num_threads(recipe.schedule.threads)
    crops = read_crops(job.data, recipe, job.out, job.locate, logger.warning)
    if recipe.grades.table:
        _write_bones(read_bones(Path(recipe.grades.table), recipe.grades.given), job.out / GRADED)
    outputs = _outputs(crops, recipe, job.out / OUTPUTS)
    for fold in np.unique(crops.folds):
        _fit_fold(crops, outputs, recipe, int(fold), job.out / f"fold{fold}")
    join_tables(job.out, OUT_OF_FOLD, OUT_OF_FOLD)
    if not (job.out / SUMMARY).exists():
        _fit_all(crops, outputs, recipe, job.out)
    return job.out


@dataclass(frozen=True, eq=False)
class FittedPair:
    """A pair's model, and what it was made from.

    Args:
        model: the model.
        clustering: features and clusters, as learnt.
        labels: (N,) clusters, numbered in their order on the grade axis.
        quality: how well the clusters hang together.
        evidence: what speaks for their order.
        mine: (M,) which of all crops the N are.
    """

    model: PairModel
    clustering: Clustering
    labels: Labels
    quality: Quality
    evidence: Evidence
    mine: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A subgrader, and what it was made from; `views` are those of its crops, None where there is none."""

    subgrader: Subgrader
    pairs: tuple[FittedPair, ...]
    views: list[FloatArray | None]

    def subgrades(self, crops: RadiusCrops) -> NDArray[np.float64]:
        """Return the sub-grades (N,) of the crops that it was made from."""
        return self.subgrader.subgrade(self.views, crops.grades.tolist())


def fit_subgrader(crops: RadiusCrops, recipe: Recipe) -> Fitted:
    """Learn the mean radius, and features and clusters of every pair of grades.

    Raises:
        ConfigError: too few crops of a grade, or crops that hold nothing to tell them by.
    """
    template = mean_radius(list(crops.patches)) if recipe.input.align else None
    bare = Subgrader(recipe.input, template, ())
    views = bare.views(crops.patches)
    pairs = tuple(fit_pair(views, crops, pair, recipe) for pair in recipe.grades.pairs)
    return Fitted(Subgrader(recipe.input, template, tuple(pair.model for pair in pairs)), pairs, views)


def fit_pair(
    views: Sequence[FloatArray | None], crops: RadiusCrops, pair: tuple[int, int], recipe: Recipe
) -> FittedPair:
    """Learn what lies between two grades.

    Args:
        views: (S, S) of every crop, None where there is none.
        crops: the crops.
        pair: the two grades.
        recipe: how.

    Raises:
        ConfigError: too few crops of a grade, or crops that hold nothing to tell them by.
    """
    mine = np.isin(crops.grades, pair) & np.array([view is not None for view in views])
    is_high = crops.grades[mine] == pair[1]
    fewest = int(min(is_high.sum(), (~is_high).sum()))
    if fewest < max(LEAST_CROPS, recipe.clustering.clusters):
        raise ConfigError(
            f"grades {pair[0]} and {pair[1]} have {int((~is_high).sum())} and {int(is_high.sum())} crops to "
            f"learn from, and need {max(LEAST_CROPS, recipe.clustering.clusters)} of each: give more crops, "
            "or leave the pair out of grades.pairs"
        )
    seen = stacked(views, mine)
    found = fit_clusters(seen, recipe)
    axis = GradeAxis.between(found.features, is_high)
    way = axis.way(found.features)
    where, labels, centroids = found.features, found.labels, found.centroids
    if recipe.clustering.along == "axis":
        where = _column(way)
        labels, centroids = kmeans(where, recipe.clustering, recipe.schedule.seed)
    order = np.argsort([way[labels == one].mean() for one in range(len(centroids))], kind="stable")
    labels = np.argsort(order)[labels]
    how_good = quality(where, labels, recipe.clustering)
    way = unseen_ways(found.features, is_high, recipe.schedule.seed)
    judged = labels if where is found.features else nearest(_column(way), centroids[order])[0]
    own = crops.take(mine)
    speaks = weigh(way, judged, len(centroids), is_high, own.ages, own.sexes, how_good)
    model = PairModel(pair, found.encoder, centroids[order], axis, speaks.refusal)
    return FittedPair(model, found, labels, how_good, speaks, mine)


def _column(values: NDArray[np.float64]) -> FloatArray:
    return values[:, None].astype(np.float32)


def _outputs(crops: RadiusCrops, recipe: Recipe, file: Path) -> NDArray[np.float32]:
    """Return MobileNetV2's 1000 outputs (N, 1000) of the crops' regions, kept in a file."""
    if not file.is_file():
        net = MobileNetOutputs(recipe.scores.pretrained)
        edge = round((1 - 1 / PATCH_MARGIN) / 2 * crops.patches.shape[1])  # the region without its margin
        images = torch.from_numpy(crops.patches[:, None, edge:-edge, edge:-edge].astype(np.float32) / 255)
        parts = [net(batch).numpy() for batch in images.split(32)]
        partial = file.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(parts))
        partial.replace(file)
    outputs = np.load(file)
    if len(outputs) != len(crops):
        raise ConfigError(f"{file} is of other crops than those given; begin with another --out")
    return np.asarray(outputs, dtype=np.float32)


def ways_of(
    grades: NDArray[np.float64], outputs: NDArray[np.float32], subgrader: Subgrader, recipe: Recipe
) -> dict[float, Ways]:
    """Return how far between its neighbours every sub-grade that was named lies.

    Args:
        grades: (N,) sub-grades of the crops.
        outputs: (N, 1000).
        subgrader: with its pairs.
        recipe: how many images, and the seed.
    """
    found = {}
    for pair in subgrader.pairs:
        for grade in pair.subgrades:
            lists = [outputs[grades == level] for level in (pair.pair[0], grade, pair.pair[1])]
            if all(len(level) > 1 for level in lists):
                levels = Levels.drawn(lists, recipe.scores.images, recipe.schedule.seed)
                found[grade] = measure_ways(levels, seed=recipe.schedule.seed)
    return found


def score_columns(ways: Mapping[float, Ways]) -> dict[str, dict[Sex, dict[float, float]]]:
    """Return reading -> sex -> sub-grade -> score, each between those of its neighbours in CHN's table."""
    chosen = standard(STANDARD)

    def scored(sex: Sex, grade: float, way: float) -> float:
        low, high = (chosen.grade_score(sex, RADIUS, g) for g in (np.floor(grade), np.ceil(grade)))
        return score_between(low, high, way)

    return {
        reading: {
            sex: {grade: scored(sex, grade, getattr(way, reading).estimate) for grade, way in ways.items()}
            for sex in Sex
        }
        for reading in ("paper", "geometric", "shuffled")
    }


def _fit_fold(
    crops: RadiusCrops, outputs: NDArray[np.float32], recipe: Recipe, fold: int, folder: Path
) -> None:
    """Learn from all other folds and name the sub-grades of this one, unless that is done already."""
    if (folder / OUT_OF_FOLD).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    others = crops.folds != fold
    learnt, held_out = crops.take(others), crops.take(~others)
    fitted = fit_subgrader(learnt, recipe)
    ways = ways_of(fitted.subgrades(learnt), outputs[others], fitted.subgrader, recipe)
    (folder / SUMMARY).write_text(json.dumps(_record(fitted, ways), indent=2) + "\n")
    _write_subgrades(fitted.subgrader, held_out, ways, fold, folder / OUT_OF_FOLD)
    told = ", ".join(f"{grade:g}" for grade in ways) or "none"
    logger.info("fold %d: sub-grades %s", fold, told)


def _write_subgrades(
    subgrader: Subgrader, crops: RadiusCrops, ways: Mapping[float, Ways], fold: int, file: Path
) -> None:
    """Write the sub-grades of held-out crops, with cluster, position and score from the other folds."""
    views, grades = subgrader.views(crops.patches), crops.grades.tolist()
    found = subgrader.subgrade(views, grades)
    clusters = [subgrader.clusters(pair, views, grades) for pair in subgrader.pairs]
    scores = score_columns(ways)
    chosen = standard(STANDARD)
    lines = []
    for index, name in enumerate(crops.ids):
        sex = SEXES[crops.sexes[index]]
        mine = [own.get(found[index]) for by_sex in scores.values() if sex for own in [by_sex[sex]]]
        whole = chosen.grade_score(sex, RADIUS, grades[index]) if sex else np.nan
        own_scores = [whole if score is None else score for score in mine[:2]] or [np.nan, np.nan]
        positions = [_position(pair, views[index], grades[index]) for pair in subgrader.pairs]
        lines.append(
            [
                name,
                sex or "",
                "" if np.isnan(crops.ages[index]) else f"{crops.ages[index]:g}",
                grades[index],
                f"{found[index]:g}",
                *(f"{score:.3f}" if np.isfinite(score) else "" for score in own_scores),
                *(int(cluster[index]) for cluster in clusters),
                *("" if position is None else f"{position:.4f}" for position in positions),
                fold,
            ]
        )
    names = ["_".join(map(str, pair.pair)) for pair in subgrader.pairs]
    header = ["id", "sex", "bone_age_months", "grade", "subgrade", "score_paper", "score_geometric"]
    header += [f"{what}_{name}" for what in ("cluster", "way") for name in names]
    write_table(file, [*header, "fold"], lines)


def _position(pair: PairModel, view: FloatArray | None, grade: int) -> float | None:
    if view is None or grade not in pair.pair:
        return None
    return float(pair.read(view[None])[1][0])


def _fit_all(crops: RadiusCrops, outputs: NDArray[np.float32], recipe: Recipe, out: Path) -> None:
    """Learn from all crops; write the model, what speaks for it, the mean images and the score table."""
    fitted = fit_subgrader(crops, recipe)
    grades = fitted.subgrades(crops)
    ways = ways_of(grades, outputs, fitted.subgrader, recipe)
    fitted.subgrader.save(out / MODEL)
    _write_means(fitted, grades, out / MEANS)
    for pair in fitted.pairs:
        if pair.model.refusal:
            low, high = pair.model.pair
            logger.warning("no sub-grade between %d and %d: %s", low, high, pair.model.refusal)
    if ways:
        write_subgraded(
            out / SCORED,
            score_columns(ways)["geometric"],
            title="CHN scores of the radius' sub-grades, interpolated between MobileNetV2 features",
            source=f"boneage, recipe radius_subgrades, {len(crops)} crops",
            remarks="The share of the straight way between the means of the neighbouring grades.",
        )
    (out / SUMMARY).write_text(json.dumps(_record(fitted, ways), indent=2) + "\n")


def _write_bones(bones: Mapping[str, Mapping[Bone, float]], file: Path) -> None:
    """Write the CHN grades of all bones that the table gave, a column a bone; they are a table again."""
    chosen = standard(STANDARD).bones
    lines = [
        [name, *(f"{own[bone]:g}" if bone in own else "" for bone in chosen)] for name, own in bones.items()
    ]
    write_table(file, ["id", *chosen], lines)


def _write_means(fitted: Fitted, grades: NDArray[np.float64], file: Path) -> None:
    """Write the mean view of every grade and sub-grade that enough crops have."""
    seen = np.array([view is not None for view in fitted.views])
    arrays: dict[str, NDArray[np.generic]] = {}
    for grade in np.unique(grades):
        mine = seen & (grades == grade)
        if mine.sum() >= LEAST_OF_A_MEAN:
            name = subgrade_name(float(grade))
            mean_view = stacked(fitted.views, mine).mean(axis=0)
            arrays[name] = (mean_view * 255).round().astype(np.uint8)
            arrays[f"count_{name}"] = np.array(mine.sum())
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(file)


def _record(fitted: Fitted, ways: Mapping[float, Ways]) -> dict[str, Any]:
    """Return what a run says of its model: settings, sizes, evidence and scores."""
    unseen = sum(view is None for view in fitted.views)
    return {
        **fitted.subgrader.settings(),
        "crops": len(fitted.views),
        "not_aligned": unseen,
        "evidence": [
            {
                "grades": list(pair.model.pair),
                "crops": int(pair.mine.sum()),
                "components": pair.model.encoder.pixels.components.shape[1],
                **asdict(pair.quality),
                **asdict(pair.evidence),
            }
            for pair in fitted.pairs
        ],
        "ways": {subgrade_name(grade): asdict(way) for grade, way in ways.items()},
        "scores": {
            reading: {
                str(sex): {subgrade_name(grade): score for grade, score in own.items()}
                for sex, own in by_sex.items()
            }
            for reading, by_sex in score_columns(ways).items()
        },
    }
