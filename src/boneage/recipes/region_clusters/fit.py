"""Train label-free groups of hands: on all hands, and fold by fold for what is held out.

A run's folder holds `config.json`, `folds.csv`, `regions` (the patches, cut once), `all` and `foldN` (a file
a region: its encoder and what it says of all hands), and in the end `clusters.npz` and `clusters.json` (the
model, and what its groups' bone ages are) and, where bone ages are known, `oof.csv` (groups and ages of hands
by models that had not seen them).
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.data.manifest import read_manifest, write_text_atomically
from boneage.data.splits import read_folds, write_folds
from boneage.recipes.region_clusters.config import Recipe
from boneage.recipes.region_clusters.crops import HandRegions, folds_of, read_regions
from boneage.recipes.region_clusters.encode import Encoded, encode
from boneage.recipes.region_clusters.groups import (
    NO_GROUP,
    Labels,
    age_classes,
    class_edges,
    class_names,
    count_classes,
    dominating,
    fit_groups,
    typical_ages,
)
from boneage.recipes.region_clusters.joining import (
    chosen,
    complete,
    correlation_of,
    fit_join,
    mean_correlation,
)
from boneage.recipes.region_clusters.maturity import ages_along, ages_of_groups, fit_coordinate
from boneage.recipes.region_clusters.model import RegionClusters
from boneage.recipes.region_clusters.results import order_of
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import open_run, write_table

logger = logging.getLogger(__name__)

MODEL, SUMMARY, OUT_OF_FOLD = "clusters.npz", "clusters.json", "oof.csv"
FOLDS = "folds.csv"
REGIONS_FOLDER = "regions"
_COLUMNS = (
    "id",
    "sex",
    "bone_age_months",
    "group",
    "position",
    "class",
    "predicted_class",
    "group_median_months",
    "typical_months",
    "masked",
    "fold",
)


def train(job: TrainJob) -> Path:
    """Learn groups of all hands, and of every fold's by the others.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the configuration or the images are wrong, or `out` holds another run.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    open_run(job, "region_clusters", recipe, may_change=())
    rows = read_manifest(job.data)
    hands = read_regions(rows, job.out / REGIONS_FOLDER, job.locate)
    held_out = np.isfinite(hands.ages).sum() >= recipe.schedule.folds
    folds = folds_of(hands, rows, recipe) if held_out else None
    _keep_folds(hands, folds, job.out / FOLDS)
    every = np.ones(len(hands), dtype=np.bool_)
    fitted = fit_hands(hands, every, recipe, job.out / "all")
    fitted.model.save(job.out / MODEL)
    record = _record(fitted, hands)
    if folds is not None:
        record["out_of_fold"] = _hold_out(hands, folds, recipe, job.out)
    else:
        logger.warning("too few bone ages are known: nothing is held out, and groups have no ages")
    write_text_atomically(job.out / SUMMARY, json.dumps(record, indent=2) + "\n")
    return job.out


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model, and what it says of all hands.

    Args:
        model: learnt from some of them.
        encoded: by its encoders.
        labels: (N,) groups.
        positions: (N,) on the coordinate of maturity, NaN where no region is read.
        agreement: the mean correlation between regions of their say on that coordinate.
    """

    model: RegionClusters
    encoded: Encoded
    labels: Labels
    positions: FloatArray
    agreement: float


def fit_hands(hands: HandRegions, learn: NDArray[np.bool_], recipe: Recipe, folder: Path) -> Fitted:
    """Learn from some hands, and group all of them.

    Args:
        hands: all hands.
        learn: (N,) which of them are learnt from.
        recipe: the configuration.
        folder: where the regions' encoders are kept.

    Raises:
        ConfigError: as `encode.encode`, `joining.fit_join` and `groups.fit_groups`.
    """
    join_config, sexes = recipe.join, [row.sex for row in hands.rows]
    encoded = encode(hands, learn, recipe, join_config.regions, folder)
    latents = chosen(encoded.latents, learn)
    known = [sex for sex, own in zip(sexes, learn, strict=True) if own]
    coordinate = fit_coordinate(latents, chosen(encoded.contours, learn), join_config)
    join = coordinate if join_config.agreement == 1 else fit_join(latents, join_config)
    groups = fit_groups(join(latents), known, recipe.groups, recipe.schedule.seed)
    positions = coordinate(encoded.latents)[:, 0]
    values = join(encoded.latents)
    first = groups.nearest(values[learn], known)
    whole = complete(latents, join_config.regions)
    groups = groups.ordered(positions[learn][whole], first[whole])
    labels = groups.nearest(values, sexes)
    ages = np.where(learn, hands.ages, np.nan)
    model = RegionClusters(
        recipe.input,
        tuple(encoded.readers[name] for name in join_config.regions),
        join,
        coordinate,
        groups,
        ages_of_groups(groups, labels, ages, recipe.groups),
        ages_along(positions, ages, sexes),
    )
    return Fitted(model, encoded, labels, positions, mean_correlation(coordinate, latents))


def _keep_folds(hands: HandRegions, folds: Labels | None, file: Path) -> None:
    """Write the folds, or refuse to go on with others: encoders of a fold must not have seen its hands."""
    if folds is None:
        return
    if file.exists():
        known = read_folds(file)
        if known != {row.id: int(fold) for row, fold in zip(hands.rows, folds, strict=True)}:
            raise ConfigError(
                f"{file} has other folds than the manifest's sexes and bone ages give now: begin with "
                "another --out"
            )
        return
    write_folds(file, hands.rows, folds)


def _hold_out(hands: HandRegions, folds: Labels, recipe: Recipe, out: Path) -> dict[str, Any]:
    """Learn from every four folds what the fifth is told by; write `oof.csv` and return what it shows."""
    edges = class_edges(recipe.groups)
    classes, names = age_classes(hands.ages, edges), class_names(edges)
    lines: list[tuple[object, ...]] = []
    positions = np.full(len(hands), np.nan, dtype=np.float32)
    parts = np.full((len(recipe.join.regions), len(hands)), np.nan, dtype=np.float32)
    predicted, typical = np.full(len(hands), -1), np.full(len(hands), np.nan)
    median = np.full(len(hands), np.nan)
    for fold in np.unique(folds):
        mine = folds == fold
        fitted = fit_hands(hands, ~mine, recipe, out / f"fold{fold}")
        positions[mine] = fitted.positions[mine]
        told_by = fitted.model.coordinate.parts(chosen(fitted.encoded.latents, mine))
        parts[:, mine] = np.stack([part[:, 0] for part in told_by])
        count = len(fitted.model.groups)
        table = count_classes(fitted.labels[~mine], classes[~mine], count, len(edges) - 1)
        told, medians = dominating(table), typical_ages(fitted.labels[~mine], hands.ages[~mine], count)
        for at in np.flatnonzero(mine):
            group = int(fitted.labels[at])
            row = hands.rows[at]
            if group != NO_GROUP:
                predicted[at], median[at] = told[group], medians[group]
            along = None if row.sex is None else fitted.model.maturity_ages.get(row.sex)
            if along is not None and np.isfinite(positions[at]):
                typical[at] = along.at(float(positions[at]))[0]
            masked = [name for name, own in fitted.encoded.latents.items() if not np.isfinite(own[at, 0])]
            lines.append(
                (
                    row.id,
                    row.sex or "",
                    _number(hands.ages[at]),
                    group,
                    _number(positions[at], 4),
                    names[classes[at]] if classes[at] >= 0 else "",
                    names[predicted[at]] if predicted[at] >= 0 else "",
                    _number(median[at]),
                    _number(typical[at]),
                    " ".join(masked),
                    int(fold),
                )
            )
    write_table(out / OUT_OF_FOLD, _COLUMNS, lines)
    agreement = _mean(np.array([correlation_of(parts)]))
    return {
        **_held_out_figures(hands, classes, predicted, positions, median, typical),
        "agreement": agreement,
    }


def _held_out_figures(
    hands: HandRegions,
    classes: Labels,
    predicted: Labels,
    positions: FloatArray,
    median: NDArray[np.float64],
    typical: NDArray[np.float64],
) -> dict[str, Any]:
    known = classes >= 0
    order = order_of(positions, hands.ages, [row.sex for row in hands.rows])
    return {
        "hands_of_known_age": int(np.isfinite(hands.ages).sum()),
        "hands_in_a_class": int(known.sum()),
        "accuracy": _mean(np.where(known, predicted == classes, np.nan)),
        "group_median_mae_months": _mean(np.abs(median - hands.ages)),
        "typical_mae_months": _mean(np.abs(typical - hands.ages)),
        "spearman": asdict(order),
    }


def _record(fitted: Fitted, hands: HandRegions) -> dict[str, Any]:
    """Return what a run says of its model: settings, sizes, how far regions agree, losses."""
    encoded: Mapping[str, FloatArray] = fitted.encoded.latents
    return {
        **fitted.model.settings(),
        "hands": len(hands),
        "masked": {name: int((~np.isfinite(own[:, 0])).sum()) for name, own in encoded.items()},
        "agreement_same_hands": fitted.agreement,
        "losses": {
            name: [float(losses[0]), float(losses[-1])]
            for name, losses in fitted.encoded.losses.items()
            if len(losses)
        },
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean of the values that are known, None without one."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _number(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""
