"""`boneage bundle`: assemble a bundle from trained runs, or extend one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boneage.core.errors import ConfigError


def bundle(
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    version: Annotated[str, typer.Option(help="The bundle's version.")],
    finder_run: Annotated[
        Path | None, typer.Argument(metavar="FINDER_RUN", help="A run of hand_localisation.")
    ] = None,
    age_run: Annotated[
        Path | None, typer.Argument(metavar="AGE_RUN", help="A run of hand_regression.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="What it was trained on and on what terms, one sentence.")
    ] = None,
    grades: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run of graded_regions on the same folds; without it, no grades."),
    ] = None,
    intervals: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="A run of age_intervals on the same folds; without it, no intervals."
        ),
    ] = None,
    radius_subgrades: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run of radius_subgrades; without it, no sub-grades."),
    ] = None,
    region_clusters: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run of region_clusters; without it, no groups of hands alike."),
    ] = None,
    consistency: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="With --extend: a run of consistency on that bundle's graphs."),
    ] = None,
    precisions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --extend: what benchmarks/precision.py measured with it."),
    ] = None,
    extend: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Add --intervals, --radius-subgrades, ..., --precisions to this bundle.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The bundle's name; default: standard, or the extended one's.")
    ] = None,
) -> None:
    """Assemble a bundle: graphs, calibration from out-of-fold predictions, figures, checksums.

    From a FINDER_RUN and an AGE_RUN, or from a bundle with --extend.
    """
    from boneage.inference import assemble
    from boneage.inference.bundle import Bundle

    if extend is not None:
        runs = (intervals, radius_subgrades, region_clusters, consistency, precisions)
        given = any(run is not None for run in runs)
        if not given or finder_run is not None or grades is not None:
            raise ConfigError(
                "--extend takes a bundle and one or more of --intervals, --radius-subgrades, "
                "--region-clusters, --consistency and --precisions, and no other run: give these"
            )
        made = assemble.extend(
            Bundle.load(extend),
            out,
            intervals_run=intervals,
            subgrades_run=radius_subgrades,
            clusters_run=region_clusters,
            consistency_run=consistency,
            precisions=precisions,
            version=version,
            name=name,
            data=data,
        )
    elif consistency is not None or precisions is not None:
        raise ConfigError("--consistency and --precisions are of a whole bundle: write it, then --extend it")
    elif finder_run is None or age_run is None or data is None:
        raise ConfigError(
            "a bundle is made of FINDER_RUN, AGE_RUN and --data: give them, or a bundle to --extend"
        )
    else:
        made = assemble.assemble(
            finder_run,
            age_run,
            out,
            grades_run=grades,
            intervals_run=intervals,
            subgrades_run=radius_subgrades,
            clusters_run=region_clusters,
            name=name or "standard",
            version=version,
            data=data,
        )
    typer.echo(f"{made.name}: {made.path}")
