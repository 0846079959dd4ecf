"""What a bundle takes from a run of `region_clusters`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from boneage.core.errors import BundleError, ConfigError
from boneage.inference.neighbours import CLUSTERS, EDGES
from boneage.inference.run_files import configuration_of, require
from boneage.recipes.region_clusters.config import GroupsConfig
from boneage.recipes.region_clusters.groups import class_edges
from boneage.recipes.region_clusters.model import RegionClusters
from boneage.training.config import build

_MODEL, _SUMMARY, _OUT_OF_FOLD = "clusters.npz", "clusters.json", "oof.csv"

TABLES = (f"{CLUSTERS}.csv",)
"""Of the bundle: groups and typical ages of hands by models that had not seen them."""


def cluster_files(run: Path) -> dict[str, Path]:
    """Return name in the bundle -> file of the run: model, and the table that its figures rest on.

    Raises:
        ConfigError: the run is not complete, or no bone ages were known to it.
    """
    require(run, "config.json", _MODEL, _SUMMARY)
    if not (run / _OUT_OF_FOLD).is_file():
        raise ConfigError(
            f"{run / _OUT_OF_FOLD} is missing, and neighbours are told by their bone ages: finish the run, "
            "with a manifest that has bone_age_months"
        )
    (table,) = TABLES
    return {f"{CLUSTERS}.npz": run / _MODEL, table: run / _OUT_OF_FOLD}


def cluster_settings(run: Path) -> dict[str, Any]:
    """Return the manifest's part on the groups: settings, bone ages, figures, age classes, configuration.

    Raises:
        ConfigError: the run is not complete, or its files do not belong together.
    """
    files = cluster_files(run)
    try:
        settings = json.loads((run / _SUMMARY).read_text(encoding="utf-8"))
        RegionClusters.load(files[f"{CLUSTERS}.npz"], settings)
        configuration = configuration_of(run)
        edges = class_edges(build(GroupsConfig, configuration["groups"], "groups"))
        _check_table(run / _OUT_OF_FOLD, settings["hands"])
    except (BundleError, ConfigError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{run} is no whole run of region_clusters ({error}); train it again") from error
    return {**settings, EDGES: list(edges), "configuration": configuration}


def _check_table(table: Path, hands: int) -> None:
    """Refuse a table that is not of the hands that the model was learnt from."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row["group"] for row in csv.DictReader(file)]
    if len(rows) != hands:
        raise ValueError(f"{table.name} has {len(rows)} hands, and the model {hands}")
