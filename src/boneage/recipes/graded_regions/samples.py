"""Training crops: patches around every bone of every hand, cut once, and augmented views of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.regions import PlacedRegion, RegionViews, square_of
from boneage.core.errors import InputError
from boneage.core.types import Affine, FloatArray, Hand, Radiograph, Sex
from boneage.data.augment import change_tone, draw_pose
from boneage.data.graded_crops import GradedCrop, read_crop
from boneage.data.manifest import Row
from boneage.imaging.geometry import resize
from boneage.imaging.read import read
from boneage.recipes.graded_regions.config import InputConfig, Recipe
from boneage.recipes.graded_regions.method import GradedRegions, enhance
from boneage.recipes.graded_regions.prior import BONES

PATCH_SIDE = 144
"""Pixels of a stored patch; it shows `PATCH_MARGIN` times the view's side, so that views can move in it."""

PATCH_MARGIN = 1.4


@dataclass(frozen=True)
class Cuts:
    """The patches of some hands.

    Args:
        rows: of the manifest, one a hand.
        patches: (hands, bones, PATCH_SIDE, PATCH_SIDE) uint8, mapped from a file.
        visible: (hands, bones) share of each region that lies in the image.
        to_view: (hands, bones, 2, 3) maps from source pixels to views.
    """

    rows: tuple[Row, ...]
    patches: NDArray[np.uint8]
    visible: NDArray[np.float64]
    to_view: NDArray[np.float64]

    def regions(self, index: int) -> tuple[PlacedRegion, ...]:
        """Return a hand's regions again, as far as cutting its views needs them."""
        return tuple(
            PlacedRegion(
                str(bone), (0.0, 0.0, 0.0, 0.0), Affine(self.to_view[index, at]), self.visible[index, at]
            )
            for at, bone in enumerate(BONES)
        )


def cut_patches(
    rows: Sequence[Row], locate: Callable[[Radiograph], Hand], folder: Path, report: Callable[[str], None]
) -> Cuts:
    """Cut every hand's bones, once: a second call reads what the first one wrote to `folder`.

    Hands that cannot be found are left out and reported.
    """
    file, index = folder / "patches.npy", folder / "patches.npz"
    if not index.is_file():
        kept, patches, visible, to_view = [], [], [], []
        method = GradedRegions(InputConfig(PATCH_SIDE))
        for row in rows:
            try:
                radiograph = read(row.path)
                regions = method.regions(radiograph, locate(radiograph))
            except InputError as error:
                report(f"left out of training: {row.path.name} ({error})")
                continue
            views = RegionViews(radiograph)
            patches.append([views.patch(region.to_view, PATCH_SIDE, PATCH_MARGIN) for region in regions])
            visible.append([region.visible for region in regions])
            to_view.append([region.to_view.matrix for region in regions])
            kept.append(row.id)
        np.save(file, np.array(patches, dtype=np.uint8))
        partial = folder / "patches.partial.npz"
        np.savez(partial, ids=np.array(kept), visible=np.array(visible), to_view=np.array(to_view))
        partial.replace(index)
    by_id, saved = {row.id: row for row in rows}, np.load(index)
    kept_rows = tuple(by_id[str(name)] for name in saved["ids"])
    return Cuts(kept_rows, np.load(file, mmap_mode="r"), saved["visible"], saved["to_view"])


def view_of_patch(patch: NDArray[np.uint8], config: InputConfig, pose: Affine | None = None) -> FloatArray:
    """Return the view (S, S) that a patch holds, moved by a pose of the view's pixels."""
    size, margin = PATCH_SIDE, PATCH_MARGIN
    shift = 0.5 - 0.5 * margin + 0.5 * margin / size
    to_view = Affine(np.array([[margin / size, 0, shift], [0, margin / size, shift]]))
    radiograph = Radiograph(patch.astype(np.float32) / np.float32(255))
    return enhance(RegionViews(radiograph).cut(to_view, config.side, pose), config)


class HandCrops:
    """All crops of one hand: (15, 1, S, S), augmented where an epoch is given."""

    def __init__(self, cuts: Cuts, recipe: Recipe) -> None:
        self.cuts = cuts
        self.recipe = recipe

    def __call__(self, index: int, epoch: int | None = None) -> FloatArray:
        """Return a hand's crops; every bone moves by itself, and all change their tone by themselves."""
        config, augment = self.recipe.input, self.recipe.augment
        crops = np.empty((len(BONES), 1, config.side, config.side), np.float32)
        for bone, patch in enumerate(self.cuts.patches[index]):
            if epoch is None:
                crops[bone, 0] = view_of_patch(patch, config)
                continue
            rng = np.random.default_rng((self.recipe.schedule.seed, epoch, index, bone))
            view = view_of_patch(patch, config, draw_pose((config.side, config.side), augment, rng))
            crops[bone, 0] = change_tone(view, augment, rng)
        return crops


class LooseCrops:
    """Graded crops that were cut elsewhere: view (1, S, S), index of the bone, grade.

    They are kept in memory, the large ones at half their size, a quarter, ...
    """

    def __init__(self, crops: Sequence[GradedCrop], recipe: Recipe) -> None:
        self.crops = crops
        self.recipe = recipe
        self.images_ = [_reduced(read_crop(crop.path), recipe.input.side) for crop in crops]

    def __call__(self, index: int, epoch: int | None = None) -> tuple[FloatArray, int, int]:
        """Return one crop, augmented where an epoch is given."""
        config, augment, crop = self.recipe.input, self.recipe.augment, self.crops[index]
        image, to_view = self.images_[index]
        where = (BONES.index(crop.bone), crop.grade)
        if epoch is None:
            view = RegionViews(image).cut(to_view, config.side)
            return enhance(view, config)[None], *where
        rng = np.random.default_rng((self.recipe.schedule.seed, epoch, index, 1))
        pose = draw_pose((config.side, config.side), augment, rng)
        view = RegionViews(image).cut(to_view, config.side, pose)
        return change_tone(enhance(view, config), augment, rng)[None], *where


def _reduced(crop: Radiograph, side: int) -> tuple[Radiograph, Affine]:
    """Return a crop at the level of `RegionViews` that its view is cut from, and the map to the view."""
    height, width = crop.shape
    level = max(0, int(np.floor(np.log2(max(height, width) / side) + 0.4)))
    if level == 0:
        return crop, square_of(crop)
    smaller = (max(1, round(height / 2**level)), max(1, round(width / 2**level)))
    pixels, to_level = resize(crop.pixels, smaller)
    return Radiograph(pixels), to_level.inverse().then(square_of(crop))


def sex_code(sex: Sex) -> int:
    """Return the place of a sex in arrays that have one."""
    return list(Sex).index(sex)
