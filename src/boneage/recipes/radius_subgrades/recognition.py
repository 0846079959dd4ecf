"""Recognise grades before and after they are subdivided, with the network of the recipe `graded_regions`.

The recipes know nothing of each other: crops go over in a folder, grades numbered in their order around the
middle of the radius' scale, and what comes back is a run's `validation.csv`.

Source: paper 1, section IV.B, which takes the recognition of Mao et al. (2023) for this.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.registry import RECIPES, load
from boneage.recipes.radius_subgrades.config import RecognitionConfig
from boneage.recipes.radius_subgrades.crops import RADIUS, RadiusCrops
from boneage.training.config import TrainJob
from boneage.training.run import write_table

CROPS, RUN, TABLE = "crops", "run", "crops.csv"
MIDDLE = 7
"""Of the grades that `graded_regions` knows for the radius; its network starts there."""


def recognise(
    crops: RadiusCrops, grades: NDArray[np.float64], config: RecognitionConfig, folder: Path
) -> NDArray[np.float64]:
    """Train on crops with their grades, fold by fold, and return what each is recognised as when held out.

    Args:
        crops: the crops.
        grades: (N,) grades or sub-grades.
        config: of the network.
        folder: for the crops as files and the run; what is trained already is not trained again.

    Returns:
        (N,) recognised grades, NaN for crops of folds that the configuration leaves out.
    """
    levels = np.unique(grades)
    first = MIDDLE - len(levels) // 2
    names = _write(crops, np.searchsorted(levels, grades) + first, folder / CROPS)
    overrides = (*config.overrides, f'network.pretrained="{config.pretrained}"')
    job = TrainJob(
        folder / CROPS / TABLE, folder / RUN, config=Path(config.config), overrides=overrides, resume=True
    )
    load(RECIPES, "graded_regions")(job)
    with (folder / RUN / "validation.csv").open(newline="") as file:
        found = {Path(line["file"]).stem: int(line["predicted"]) for line in csv.DictReader(file)}
    places = [np.clip(found[name] - first, 0, len(levels) - 1) if name in found else None for name in names]
    return np.array([np.nan if place is None else levels[place] for place in places])


def _write(crops: RadiusCrops, ranks: Sequence[int] | NDArray[np.int64], folder: Path) -> list[str]:
    """Write every crop as RADIUS/RANK/NAME.png and a table of them, whole or not at all; return the names.

    A hand is called by the name of its first crop, so that crops of one hand stay in one fold.
    """
    names = [f"{index:05d}" for index in range(len(crops))]
    if folder.is_dir():
        return names
    hands: dict[str, str] = {}
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    lines = []
    for name, hand, patch, rank in zip(names, crops.ids, crops.patches, ranks, strict=True):
        file = f"{RADIUS}/{rank}/{name}.png"
        (partial / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(partial / file), patch)
        lines.append([file, str(RADIUS), int(rank), hands.setdefault(hand, name)])
    write_table(partial / TABLE, ["file", "bone", "grade", "hand"], sorted(lines))
    partial.rename(folder)
    return names
