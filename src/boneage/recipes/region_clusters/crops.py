"""The 19 key regions of many hands, cut once and kept: a file a region.

A region that is not in the image is kept as a blank patch that nobody reads: `HandRegions.seen` says which
are there, and everything after asks it.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.regions import KEY_REGIONS, MIN_VISIBLE, RegionViews, key_regions
from boneage.core.errors import ConfigError, InputError
from boneage.core.types import Hand, Radiograph
from boneage.data.manifest import Row
from boneage.data.splits import stratified_folds
from boneage.imaging.read import read
from boneage.recipes.region_clusters.config import Recipe
from boneage.training.run import write_table

logger = logging.getLogger(__name__)

REGIONS = tuple(KEY_REGIONS)
"""Their numbers, "1" to "19", in order."""

PATCH_SIDE = 128
"""Pixels of a patch; it shows `PATCH_MARGIN` times the region's view, so that the view can move in it."""

PATCH_MARGIN = 1.3
FLAT = 8
"""Grey levels, of 255, that a patch must span to show anything."""

INDEX = "index.csv"
Patches = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class HandRegions:
    """Key regions of some hands.

    Args:
        rows: of the manifest, a hand each.
        seen: (N, 19) which regions are in the image, and show something.
        folder: where the patches lie, for all hands that were cut.
    """

    rows: tuple[Row, ...]
    seen: NDArray[np.bool_]
    folder: Path

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ages(self) -> NDArray[np.float64]:
        """Bone ages (N,) in months, NaN where unknown."""
        ages = (row.bone_age_months for row in self.rows)
        return np.array([np.nan if age is None else age for age in ages], dtype=np.float64)

    def patches(self, region: str) -> Patches:
        """Return the patches (N, P, P) of one region; those of hands that do not show it mean nothing."""
        stored = np.load(self.folder / f"{region}.npy", mmap_mode="r")
        return np.asarray(stored[: len(self)])  # room is made for the images in which no hand is found too


def patches_of(radiograph: Radiograph, hand: Hand) -> tuple[Patches, NDArray[np.bool_]]:
    """Return the patches (19, P, P) of a hand's key regions, and which of them (19,) show something."""
    views = RegionViews(radiograph)
    patches = np.zeros((len(REGIONS), PATCH_SIDE, PATCH_SIDE), np.uint8)
    seen = np.zeros(len(REGIONS), np.bool_)
    for place, region in enumerate(key_regions(hand, radiograph.shape)):
        if region.visible >= MIN_VISIBLE:
            patches[place] = views.patch(region.to_view, PATCH_SIDE, PATCH_MARGIN)
            seen[place] = np.ptp(patches[place]) >= FLAT
    return patches, seen


def read_regions(
    rows: Sequence[Row], folder: Path, locate: Callable[[Radiograph], Hand] | None
) -> HandRegions:
    """Return the key regions of a manifest's hands; a later call reads what the first one wrote to `folder`.

    Images in which no hand is found are left out, and said so; so is every region that is not in the image.

    Raises:
        ConfigError: there is nothing that finds hands, none is found, or `folder` is of another manifest.
    """
    if not (folder / INDEX).is_file():
        if locate is None:
            raise ConfigError("key regions need a hand localiser; the bundle has none")
        _cut(rows, folder, locate)
    by_id = {row.id: row for row in rows}
    kept, seen = _read_index(folder / INDEX)
    if missing := [name for name in kept if name not in by_id]:
        raise ConfigError(
            f"{folder} is of another manifest (it has {missing[0]!r}): begin with another --out"
        )
    if len(kept) < len(by_id):
        logger.warning(
            "%d of %d images have no key regions: no hand was found in them, or they were not yet in the "
            "manifest when %s was cut; for new ones, begin with another --out",
            len(by_id) - len(kept),
            len(by_id),
            folder,
        )
    return HandRegions(tuple(by_id[name] for name in kept), seen, folder)


def folds_of(hands: HandRegions, rows: Sequence[Row], recipe: Recipe) -> NDArray[np.int64]:
    """Return the fold (N,) of every hand: the same for all that share the manifest's rows.

    Raises:
        ConfigError: as `stratified_folds`.
    """
    folds = stratified_folds(rows, recipe.schedule.folds, recipe.schedule.seed)
    fold_of = {row.id: int(fold) for row, fold in zip(rows, folds, strict=True)}
    return np.array([fold_of[row.id] for row in hands.rows], dtype=np.int64)


def _cut(rows: Sequence[Row], folder: Path, locate: Callable[[Radiograph], Hand]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(rows), PATCH_SIDE, PATCH_SIDE)
    files = {name: folder / f"{name}.npy" for name in REGIONS}
    stored = {
        name: np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        for name, file in files.items()
    }
    lines: list[list[object]] = []
    for row in rows:
        try:
            radiograph = read(row.path)
            patches, seen = patches_of(radiograph, locate(radiograph))
        except InputError as error:
            logger.warning("left out: %s (%s)", row.path.name, error)
            continue
        if absent := [name for name, there in zip(REGIONS, seen, strict=True) if not there]:
            logger.warning("%s: masked, not in the image or blank: regions %s", row.id, ", ".join(absent))
        for name, patch in zip(REGIONS, patches, strict=True):
            stored[name][len(lines)] = patch
        lines.append([row.id, *seen.astype(int)])
    for pixels in stored.values():
        pixels.flush()
    if not lines:
        raise ConfigError("no hand was found in any image: see the reasons above")
    write_table(folder / INDEX, ["id", *REGIONS], lines)


def _read_index(file: Path) -> tuple[list[str], NDArray[np.bool_]]:
    with file.open(newline="") as opened:
        lines = list(csv.reader(opened))[1:]
    return [line[0] for line in lines], np.array([[cell == "1" for cell in line[1:]] for line in lines])
