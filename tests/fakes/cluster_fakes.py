"""Groups of hands made by hand: a model whose answer is chosen, a run, and found neighbours."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boneage.core.types import HandGroup, Neighbours, Sex, TypicalAge
from boneage.inference.bundle import Bundle
from boneage.recipes.region_clusters.config import GroupsConfig, InputConfig, Recipe, ScheduleConfig
from boneage.recipes.region_clusters.encoder import Encoder
from boneage.recipes.region_clusters.groups import Groups
from boneage.recipes.region_clusters.joining import Join
from boneage.recipes.region_clusters.maturity import GroupAges, MaturityAges
from boneage.recipes.region_clusters.model import RegionClusters
from boneage.recipes.region_clusters.reader import RegionReader
from boneage.training.config import as_tree

REGIONS = ("2", "17", "19")
EDGES = (24.0, 72.0, 120.0, 168.0, 216.0)
SIDE = 16

TOLD = GroupAges(Sex.FEMALE, 40, (0, 25, 15, 0), 118.5, 11.25, (101.0, 110.5, 118.0, 126.25, 137.0))
"""Of the girls' middle group."""

ALONG = MaturityAges((0.1, 0.5, 0.9), (60.0, 120.0, 180.0), (6.0, 12.0, 8.0), 15)


def clusters(
    position: float = 0.5,
    *,
    looks: bool = False,
    regions: Sequence[str] = REGIONS,
    unlike: Sequence[str] = (),
    shared: bool = False,
    known: bool = True,
) -> RegionClusters:
    """Return a model with groups at 0.2, 0.5 and 0.8 of the way to maturity.

    Args:
        position: of every hand; where the model `looks`, the mean brightness of its views is added.
        looks: see there.
        regions: the combination.
        unlike: those that can never be laid over their mean region.
        shared: girls and boys share the groups; else the girls' come first, then the boys'.
        known: bone ages of enough hands are known to tell averages.
    """
    config = InputConfig(side=SIDE, wide=(), steps=())
    pixels = np.full((SIDE**2, 1), float(looks) / SIDE**2, np.float32)
    encoder = Encoder((), np.zeros(SIDE**2, np.float32), pixels)
    flat = np.zeros((64, 64), np.float32)
    readers = tuple(RegionReader(name, config, flat if name in unlike else None, encoder) for name in regions)
    count = len(regions)
    means = (np.full(1, -position, np.float32),) * count
    join = Join(tuple(regions), means, (np.ones((1, 1), np.float32),) * count, True)
    sexes: tuple[Sex | None, ...] = (None,) * 3 if shared else (Sex.FEMALE,) * 3 + (Sex.MALE,) * 3
    centroids = np.array([[0.2], [0.5], [0.8]] * (len(sexes) // 3), np.float32)
    ages = [GroupAges(sex, 3 + place) for place, sex in enumerate(sexes)]
    if known:
        ages[1] = GroupAges(sexes[1], *list(vars(TOLD).values())[1:])
    return RegionClusters(
        config,
        readers,
        join,
        join,
        Groups(centroids, sexes),
        tuple(ages),
        {Sex.FEMALE: ALONG} if known else {},
    )


def settings_of(made: RegionClusters) -> dict[str, Any]:
    """Return a manifest's part on a model."""
    return {**json.loads(json.dumps(made.settings())), "edges_months": list(EDGES)}


def with_clusters(bundle: Bundle, folder: Path, made: RegionClusters, **changes: Any) -> Bundle:
    """Return a bundle with groups of hands whose file lies in a folder; `changes` are of their settings."""
    made.save(folder / "region_clusters.npz")
    files = {**bundle.manifest.get("files", {}), "region_clusters": str(folder / "region_clusters.npz")}
    settings = {**settings_of(made), **changes}
    return Bundle(bundle.path, {**bundle.manifest, "files": files, "region_clusters": settings})


def write_run(run: Path, made: RegionClusters | None = None) -> Path:
    """Write the folder of a finished run of `region_clusters` on four hands."""
    run.mkdir()
    made = made or clusters()
    made.save(run / "clusters.npz")
    found = {"hands": 4, "agreement": 0.7, "out_of_fold": {"hands": 4, "typical_mae_months": 9.5}}
    (run / "clusters.json").write_text(json.dumps({**made.settings(), **found}))
    recipe = Recipe(ScheduleConfig(1, 1, 1e-3), groups=GroupsConfig(6, by_sex=True))
    (run / "config.json").write_text(json.dumps({"recipe": "region_clusters", **as_tree(recipe)}))
    with (run / "oof.csv").open("w", newline="") as file:
        rows = [(str(at), at % 2, 0.1 * at) for at in range(4)]
        csv.writer(file).writerows([("id", "group", "position"), *rows])
    return run


def found_group(**changes: Any) -> HandGroup:
    """Return the girls' second of three groups."""
    values: dict[str, Any] = {
        "number": 2,
        "count": 3,
        "sex": Sex.FEMALE,
        "hands": TOLD.hands,
        "mean_months": TOLD.mean_months,
        "sd_months": TOLD.sd_months,
        "percentiles_months": TOLD.percentiles_months,
        "edges_months": EDGES,
        "classes": TOLD.classes,
    }
    return HandGroup(**{**values, **changes})


def small_group(**changes: Any) -> HandGroup:
    """Return the boys' first of three groups, of too few hands to tell averages of."""
    return HandGroup(**{"number": 1, "count": 3, "sex": Sex.MALE, "hands": 4, **changes})


def found_neighbours(**changes: Any) -> Neighbours:
    """Return a girl's neighbours."""
    values: dict[str, Any] = {
        "group": found_group(),
        "typical": TypicalAge(120.0, 12.0, 15),
        "regions": REGIONS,
    }
    return Neighbours(**{**values, **changes})
