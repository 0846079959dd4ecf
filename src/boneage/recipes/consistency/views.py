"""What the graphs see of every image and of its worse copies, made once and kept on the disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import InputError
from boneage.core.protocols import sex_input
from boneage.core.types import FloatArray, Hand, Radiograph, Sex
from boneage.data.manifest import Row
from boneage.imaging.read import read
from boneage.recipes.age_intervals.method import AgeIntervalsMethod
from boneage.recipes.consistency.changes import worsen
from boneage.recipes.consistency.config import Recipe
from boneage.recipes.graded_regions.method import GradedRegions, one_hot, readable
from boneage.recipes.graded_regions.prior import BONES
from boneage.recipes.hand_regression.method import HandRegression

logger = logging.getLogger(__name__)

Views = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Of one image: (N, H, W), and which of the N can be read."""

Look = Callable[[Radiograph, Hand, Sex], Views]
DONE = "done.json"
TRIES = 3
"""So many copies are drawn in place of one in which no hand is found; then the image goes without it."""


@dataclass(frozen=True)
class Seen:
    """What one graph sees of all images.

    Args:
        images: (M, 1 + copies, N, H, W) uint8; the first of each row is the image as it is.
        readable: (M, 1 + copies, N), whether a view is there.
        beside: (M, N, K) float32, the graph's second input: sexes, or bones.
    """

    images: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    beside: FloatArray


def looks_of(manifest: Mapping[str, Any], graphs: Sequence[str]) -> dict[str, Look]:
    """Return graph -> what makes its views, with a bundle's settings."""
    settings = manifest["methods"]
    makers: dict[str, Callable[[Mapping[str, Any]], Look]] = {
        "hand_regression": lambda given: _whole_hand(HandRegression.from_settings(given)),
        "age_intervals": lambda given: _whole_hand(AgeIntervalsMethod.from_settings(given)),
        "graded_regions": lambda given: _bones(GradedRegions.from_settings(given)),
    }
    return {name: makers[name](settings[name]) for name in graphs}


def _whole_hand(method: HandRegression | AgeIntervalsMethod) -> Look:
    def look(radiograph: Radiograph, hand: Hand, sex: Sex) -> Views:
        images = _stored(method.prepare(radiograph, hand, sex)["image"][:, 0])
        return images, np.ones(len(images), bool)

    return look


def _bones(method: GradedRegions) -> Look:
    def look(radiograph: Radiograph, hand: Hand, sex: Sex) -> Views:
        del sex
        side = method.config.side
        images, there = np.zeros((len(BONES), side, side), np.uint8), np.zeros(len(BONES), bool)
        regions = readable(method.regions(radiograph, hand))
        if regions:
            places = [BONES.index(region.name) for region in regions]
            images[places] = _stored(method.prepare(radiograph, regions)["crop"][:, 0])
            there[places] = True
        return images, there

    return look


def _stored(views: FloatArray) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(np.clip(views, 0, 1) * np.float32(255)).astype(np.uint8)
    return levels


def make_views(
    rows: Sequence[Row],
    looks: Mapping[str, Look],
    recipe: Recipe,
    locate: Callable[[Radiograph], Hand],
    folder: Path,
) -> list[Row]:
    """Make what the graphs see of every image and its copies, unless the folder has it all already.

    Returns:
        The rows in which a hand was found, in the order of the arrays.
    """
    done = folder / DONE
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(recipe.schedule.threads) as pool:
            made = pool.map(
                lambda number: _of_image(number, rows[number], looks, recipe, locate), range(len(rows))
            )
            kept = _write(folder, rows, looks, recipe.schedule.copies, made)
        partial = done.with_suffix(".partial")
        partial.write_text(json.dumps(kept), encoding="utf-8")
        partial.replace(done)
    names = set(json.loads(done.read_text(encoding="utf-8")))
    return [row for row in rows if row.id in names]


def open_views(folder: Path, graph: str, rows: Sequence[Row]) -> Seen:
    """Return what a graph sees of the rows that `make_views` returned; the images stay on the disk."""
    images = np.load(folder / f"{graph}.npy", mmap_mode="r")[: len(rows)]
    there = np.load(folder / f"{graph}.readable.npy")[: len(rows)]
    views = images.shape[2]
    if graph == GradedRegions.name:
        beside = np.repeat(one_hot(BONES)[None], len(rows), axis=0)
    else:
        beside = np.stack([sex_input(row.sex, views) for row in rows if row.sex is not None])
    return Seen(images, there, beside)


def _of_image(
    number: int, row: Row, looks: Mapping[str, Look], recipe: Recipe, locate: Callable[[Radiograph], Hand]
) -> dict[str, Views] | None:
    """Return what each graph sees of one image and its copies, one behind the other."""
    assert row.sex is not None
    try:
        radiograph = read(row.path)
        hand = locate(radiograph)
    except InputError as error:
        logger.warning("left out: %s (%s)", row.path.name, error)
        return None
    versions = [(radiograph, hand)]
    for copy in range(recipe.schedule.copies):
        versions.append(
            _worse(radiograph, recipe, (recipe.schedule.seed, number, copy), locate) or versions[0]
        )
    looked = {name: [look(*version, row.sex) for version in versions] for name, look in looks.items()}
    return {
        name: (np.stack([one[0] for one in each]), np.stack([one[1] for one in each]))
        for name, each in looked.items()
    }


def _worse(
    radiograph: Radiograph,
    recipe: Recipe,
    seed: tuple[int, int, int],
    locate: Callable[[Radiograph], Hand],
) -> tuple[Radiograph, Hand] | None:
    """Return a changed copy with the hand that is found in it, or None where none is."""
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        copy = Radiograph(worsen(radiograph.pixels, recipe.changes, rng))
        try:
            return copy, locate(copy)
        except InputError:
            continue
    return None


def _write(folder: Path, rows: Sequence[Row], looks: Mapping[str, Look], copies: int, made: Any) -> list[str]:
    """Write arrays as they come; return the identifiers of their rows."""
    images: dict[str, NDArray[np.uint8]] = {}
    there: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in looks}
    kept: list[str] = []
    for row, seen in zip(rows, made, strict=True):
        if seen is None:
            continue
        for name, (views, readable_views) in seen.items():
            if name not in images:
                shape = (len(rows), *views.shape)
                images[name] = np.lib.format.open_memmap(
                    folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape
                )
            images[name][len(kept)] = views
            there[name].append(readable_views)
        kept.append(row.id)
        if len(kept) % 100 == 0:
            logger.info("%d of %d images seen", len(kept), len(rows))
    for name, each in there.items():
        np.save(folder / f"{name}.readable.npy", np.stack(each))
    return kept
