"""Paper 1's Figures 4 to 8 on the data given, and the bone ages and mean images of sub-grades."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boneage.core.types import Sex
from boneage.recipes.radius_subgrades.results import HeldOut
from boneage.reporting.subgrade_plots import ClusterPanel, ages_png, clusters_png, distribution_png, means_png
from boneage.standards.subgraded import subgrade_name

if TYPE_CHECKING:
    from boneage.recipes.radius_subgrades.reproduce import Source


def write_figures(out: Path, sources: Sequence[Source]) -> None:
    """Write every figure of every source of grades to a folder."""
    for source in sources:
        name = source.folder.name
        for file, picture in _draw(source).items():
            partial = out / f"{name}-{file}.partial"
            partial.write_bytes(picture)
            partial.replace(partial.with_suffix(".png"))


def _draw(source: Source) -> dict[str, bytes]:
    """Return file name -> PNG."""
    figures = {}
    for record in source.features:
        low, high = record["grades"]
        key = f"{record['features']}-{low}-{high}"
        figures[f"features-{key}"] = _clusters(source, key, record)
    for run, held in source.runs.items():
        if (held.sexes != "").any():
            figures[f"grades-{run}"] = _distribution(source, run, held)
        if held.aged.any():
            figures[f"ages-{run}"] = ages_png(
                {
                    str(sex): {
                        subgrade_name(float(grade)): held.ages[mine & (held.subgrades == grade)]
                        for grade in np.unique(held.subgrades[mine])
                    }
                    for sex in Sex
                    if (mine := held.aged & (held.sexes == str(sex))).any()
                },
                f"Held-out bone ages by sub-grade; {source.title}; {run}",
            )
        figures[f"means-{run}"] = _means(source, run)
    return figures


def _clusters(source: Source, key: str, record: dict[str, object]) -> bytes:
    """Figures 4 to 7: the first two features before and after the joint training, by cluster and by grade."""
    with np.load(source.folder / f"features-{key}.npz") as saved:
        panels = {
            "before, by cluster": ClusterPanel(saved["before"], [str(k + 1) for k in saved["first"]]),
            "after, by cluster": ClusterPanel(saved["after"], [str(k + 1) for k in saved["labels"]]),
            "after, by grade": ClusterPanel(saved["after"], [f"grade {g}" for g in saved["grades"]]),
        }
    return clusters_png(
        panels, f"features_num = {record['features']}, grades {record['grades']}; {source.title}"
    )


def _distribution(source: Source, run: str, held: HeldOut) -> bytes:
    """Figure 8: the grades by sex, before and after subdivision, and as recognised."""
    series = {"before": held.grades.astype(float), "after": held.subgrades}
    if run in source.recognised:
        series["recognised"] = source.recognised[run]
    counts = {}
    for sex in Sex:
        mine = held.sexes == str(sex)
        counts[str(sex)] = {
            name: {
                subgrade_name(float(grade)): int((mine & (grades == grade)).sum())
                for grade in np.unique(grades[np.isfinite(grades)])
            }
            for name, grades in series.items()
        }
    return distribution_png(counts, f"Radii by grade and sex; {source.title}; {run}")


def _means(source: Source, run: str) -> bytes:
    with np.load(source.folder / run / "means.npz") as saved:
        names = [name for name in saved.files if not name.startswith("count_")]
        images = {
            f"{name}, n = {int(saved[f'count_{name}'])}": saved[name].astype(np.float32) / np.float32(255)
            for name in sorted(names, key=lambda text: float(text.replace("_", ".")))
        }
    return means_png(images, f"Mean radius of each sub-grade; {source.title}; {run}")
