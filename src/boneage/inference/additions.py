"""What a bundle may hold besides its methods' runs: what subdivides, what explains, and graphs trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError
from boneage.inference import cluster_parts, subgrade_parts
from boneage.inference.consistency_parts import CONSISTENCY, consistency_files, consistency_settings
from boneage.inference.neighbours import CLUSTERS
from boneage.inference.precision import PRECISIONS, precision_settings
from boneage.inference.radius_subgrading import SUBGRADES
from boneage.recipes.graded_regions.method import GradedRegions

KEYS = (SUBGRADES, CLUSTERS, CONSISTENCY)
"""Of the manifest's parts on them."""


@dataclass(frozen=True)
class Addition:
    """What a run adds to a bundle, in place of what an older one added.

    Args:
        key: of the manifest's part.
        settings: that part.
        files: name in the bundle -> file.
        tables: names in the bundle of tables that go with an older run.
    """

    key: str
    settings: Mapping[str, Any]
    files: Mapping[str, Path]
    tables: tuple[str, ...]


def additions(
    methods: Collection[str], subgrades_run: Path | None, clusters_run: Path | None
) -> tuple[Addition, ...]:
    """Return what runs add to a bundle; a run that is None adds nothing.

    Args:
        methods: of the bundle.
        subgrades_run: folder of a `radius_subgrades` run.
        clusters_run: folder of a `region_clusters` run.

    Raises:
        ConfigError: a run is not complete; sub-grades for a bundle that grades no bones.
    """
    found = []
    if subgrades_run is not None:
        _expect_grades(methods)
        files = subgrade_parts.subgrade_files(subgrades_run)
        settings = subgrade_parts.subgrade_settings(subgrades_run)
        found.append(Addition(SUBGRADES, settings, files, subgrade_parts.TABLES))
    if clusters_run is not None:
        files = cluster_parts.cluster_files(clusters_run)
        settings = cluster_parts.cluster_settings(clusters_run)
        found.append(Addition(CLUSTERS, settings, files, cluster_parts.TABLES))
    return tuple(found)


def trained_on(run: Path, checksums: Mapping[str, str]) -> Addition:
    """Return what a run of `consistency` puts in place of a bundle's graphs.

    Args:
        run: its folder.
        checksums: file -> SHA-256 of that bundle.

    Raises:
        ConfigError: the run is not complete, or was trained on from another bundle's graphs.
    """
    return Addition(CONSISTENCY, consistency_settings(run), consistency_files(run, checksums), ())


def measured_precisions(path: Path, checksums: Mapping[str, str]) -> Addition:
    """Return what a measurement says of the precision that a bundle's graphs need.

    Args:
        path: its file.
        checksums: file -> SHA-256 of that bundle.

    Raises:
        ConfigError: the file is no such measurement, or one of other graphs, or it moves the bone age.
    """
    return Addition(PRECISIONS, precision_settings(path, checksums), {}, ())


def with_files(files: Mapping[str, Path], added: Sequence[Addition]) -> dict[str, Path]:
    """Return a bundle's files, by name, with those of additions in place of older ones."""
    old = {name for addition in added for name in addition.tables}
    kept = {name: file for name, file in files.items() if name not in old}
    for addition in added:
        kept |= addition.files
    return kept


def with_settings(parts: Mapping[str, Any], added: Sequence[Addition]) -> dict[str, Any]:
    """Return a manifest's parts with those of additions in place of older ones."""
    return {**parts, **{addition.key: addition.settings for addition in added}}


def _expect_grades(methods: Collection[str]) -> None:
    if GradedRegions.name not in methods:
        raise ConfigError(
            "sub-grades of the radius need its grade, and no method of the bundle grades bones: add a "
            "grading network to the bundle first"
        )
