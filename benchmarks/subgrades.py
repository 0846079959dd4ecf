"""How long sub-grades of the radius take to learn, stage by stage, and in how much memory.

The radii of a manifest are cut once, then repeated, each time moved, turned and made brighter a little, until
there are as many as asked for.

    python benchmarks/subgrades.py manifest.csv --crops 6000 --config recipe
"""

from __future__ import annotations

import argparse
import logging
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import cv2
import numpy as np
import torch

from boneage.cli.train import locator
from boneage.recipes import radius_subgrades
from boneage.recipes.radius_subgrades.config import Recipe
from boneage.recipes.radius_subgrades.crops import RadiusCrops, read_crops
from boneage.recipes.radius_subgrades.fitting import fit_pair
from boneage.recipes.radius_subgrades.frames import PATCH_SIDE, mean_radius
from boneage.recipes.radius_subgrades.learn import fit_pixels
from boneage.recipes.radius_subgrades.subgrades import Subgrader, stacked
from boneage.training.config import named_config, read_config


def repeated(crops: RadiusCrops, count: int, seed: int = 0) -> RadiusCrops:
    """Return `count` crops: the given ones over and over, moved, turned and made brighter a little."""
    rng = np.random.default_rng(seed)
    places = np.arange(count) % len(crops)
    patches = np.empty((count, PATCH_SIDE, PATCH_SIDE), np.uint8)
    for index, place in enumerate(places):
        centre = PATCH_SIDE / 2
        move = cv2.getRotationMatrix2D((centre, centre), rng.normal(0, 4), rng.uniform(0.95, 1.05))
        move[:, 2] += rng.normal(0, 2, 2)
        turned = cv2.warpAffine(
            crops.patches[place], move, (PATCH_SIDE, PATCH_SIDE), borderMode=cv2.BORDER_REPLICATE
        )
        patches[index] = np.clip(turned * rng.uniform(0.9, 1.1) + rng.normal(0, 3, turned.shape), 0, 255)
    ids = tuple(f"{crops.ids[place]}-{index}" for index, place in enumerate(places))
    return replace(
        crops,
        ids=ids,
        patches=patches,
        grades=crops.grades[places],
        sexes=crops.sexes[places],
        ages=crops.ages[places],
        folds=crops.folds[places],
    )


def main() -> None:
    """Print a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("manifest", type=Path, help="CSV with path,sex,bone_age_months")
    parser.add_argument("--crops", type=int, default=6000)
    parser.add_argument("--config", default="recipe", help="recipe or shipped")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(given.threads)
    recipe = read_config(
        named_config(Path(radius_subgrades.__file__).parent, Path(given.config)), Recipe, ["grades.table="]
    )
    recipe = replace(recipe, grades=replace(recipe.grades, pairs=((5, 6),)))
    with tempfile.TemporaryDirectory() as folder:
        found = read_crops(given.manifest, recipe, Path(folder), locator(None), print)
    crops = repeated(found, given.crops)
    print(
        f"{len(crops)} crops of {len(found)} radii, views of {recipe.input.side} px, {given.threads} threads"
    )
    since = time.perf_counter()

    def said(stage: str) -> None:
        nonlocal since
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(
            f"{stage:<22} {time.perf_counter() - since:7.1f} s   peak memory so far {peak:.2f} GiB",
            flush=True,
        )
        since = time.perf_counter()

    template = mean_radius(list(crops.patches)) if recipe.input.align else None
    said("mean radius")
    views = Subgrader(recipe.input, template, ()).views(crops.patches)
    said("views")
    seen = np.array([view is not None for view in views])
    pixels = fit_pixels(stacked(views, seen), recipe.network.components, recipe.schedule.seed)
    said(f"PCA, k = {pixels.components.shape[1]}")
    fitted = fit_pair(views, crops, (5, 6), recipe)
    said("PCA and clustering")
    print(f"largest cluster {fitted.quality.largest_share:.0%}, silhouette {fitted.quality.silhouette:.3f}")


if __name__ == "__main__":
    main()
