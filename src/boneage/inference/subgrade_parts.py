"""What a bundle takes from a run of `radius_subgrades`."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from boneage.core.errors import BundleError, ConfigError
from boneage.inference.radius_subgrading import MEANS, SUBGRADES, read_means
from boneage.inference.run_files import configuration_of, require
from boneage.recipes.radius_subgrades.subgrades import Subgrader
from boneage.standards.subgraded import subgrade_name

_MODEL, _SUMMARY, _MEANS, _OUT_OF_FOLD = "subgrades.npz", "subgrades.json", "means.npz", "oof.csv"

TABLES = (f"{SUBGRADES}.csv", "chn_grades.csv")
"""Of the bundle: held-out sub-grades, and the CHN grades of all bones that they rest on, if from a table."""


def subgrade_files(run: Path) -> dict[str, Path]:
    """Return name in the bundle -> file of the run: model, mean views, and the tables its figures rest on.

    Raises:
        ConfigError: the run is not complete.
    """
    require(run, "config.json", _MODEL, _SUMMARY, _MEANS, _OUT_OF_FOLD)
    out_of_fold, grades = TABLES
    tables = {out_of_fold: run / _OUT_OF_FOLD}
    if (run / grades).is_file():
        tables[grades] = run / grades
    return {f"{SUBGRADES}.npz": run / _MODEL, f"{MEANS}.npz": run / _MEANS, **tables}


def subgrade_settings(run: Path) -> dict[str, Any]:
    """Return the manifest's part on the sub-grades: settings, evidence, scores, counts, configuration.

    Raises:
        ConfigError: the run is not complete, or its files do not belong together.
    """
    files = subgrade_files(run)
    try:
        settings = json.loads((run / _SUMMARY).read_text(encoding="utf-8"))
        Subgrader.load(files[f"{SUBGRADES}.npz"], settings)
        read_means(files[f"{MEANS}.npz"])
        counts = _counts(run / _OUT_OF_FOLD)
    except (BundleError, ValueError, KeyError) as error:
        raise ConfigError(f"{run} is no whole run of radius_subgrades ({error}); train it again") from error
    return {**settings, "out_of_fold": counts, "configuration": configuration_of(run)}


def _counts(table: Path) -> dict[str, int]:
    """Return how many radii have each grade and sub-grade by models that had not seen them."""
    with table.open(newline="", encoding="utf-8") as file:
        found = Counter(float(row["subgrade"]) for row in csv.DictReader(file))
    return {subgrade_name(grade): found[grade] for grade in sorted(found)}
