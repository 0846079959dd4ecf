"""Training views: every image processed once and kept on disk, and augmented inputs cut from them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError, InputError
from boneage.core.protocols import sex_input
from boneage.core.types import Affine, FloatArray, Hand, Radiograph, Sex
from boneage.data.augment import change_tone, draw_pose
from boneage.data.manifest import Row
from boneage.imaging.geometry import fit_box, warp
from boneage.imaging.read import read
from boneage.recipes.age_intervals.config import InputConfig, Recipe
from boneage.recipes.age_intervals.method import cut, view_of
from boneage.training.config import as_tree

logger = logging.getLogger(__name__)

Sample = tuple[FloatArray, float, float]
"""An input (H, W), the sex (male 1) and the age in months."""


@dataclass(frozen=True)
class Views:
    """Processed views of labelled images, as `method.prepare` makes them, to 8 bits.

    Args:
        rows: of the manifest, one an image; each has a sex and a bone age.
        pixels: (images, rows x H, columns x W) uint8, mapped from a file.
        patches: rows and columns of patches in each.
    """

    rows: tuple[Row, ...]
    pixels: NDArray[np.uint8]
    patches: tuple[int, int]

    @property
    def ages(self) -> NDArray[np.float64]:
        """Bone ages (images,) in months."""
        return np.array([row.bone_age_months for row in self.rows], dtype=np.float64)

    def inputs(self, index: int) -> FloatArray:
        """Return an image's patches (N, H, W) in [0, 1]; one that is the whole view where it is not cut."""
        return cut(self.pixels[index].astype(np.float32) / np.float32(255), self.patches)

    def sex(self, index: int) -> float:
        """Return the network's sex input of an image."""
        return float(sex_input(self.rows[index].sex or Sex.FEMALE)[0, 0])


def make_views(
    rows: Sequence[Row], config: InputConfig, locate: Callable[[Radiograph], Hand] | None, folder: Path
) -> Views:
    """Process every image once: a later call reads what the first one wrote to `folder`.

    Images in which no hand is found are left out, and said so, where the input is cut to the hand.

    Raises:
        ConfigError: hands are wanted and there is nothing that finds them, or no image is left.
    """
    key = json.dumps([as_tree(config), [row.id for row in rows]])
    name = f"views-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    file, index = folder / f"{name}.npy", folder / f"{name}.json"
    if not index.is_file():
        if config.crop != "none" and locate is None:
            raise ConfigError(f"input.crop={config.crop!r} needs a hand localiser; or set input.crop='none'")
        kept, pixels = [], []
        for row in rows:
            try:
                radiograph = read(row.path)
                hand = locate(radiograph) if locate is not None and config.crop != "none" else None
            except InputError as error:
                logger.warning("left out of training: %s (%s)", row.path.name, error)
                continue
            pixels.append((view_of(radiograph, hand, config) * 255).round().astype(np.uint8))
            kept.append(row.id)
        if not kept:
            raise ConfigError("none of the images can be used; see the messages above")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, np.array(pixels))
        partial = index.with_suffix(".partial")
        partial.write_text(json.dumps(kept))
        partial.replace(index)
    by_id = {row.id: row for row in rows}
    kept_rows = tuple(by_id[name] for name in json.loads(index.read_text()))
    return Views(kept_rows, np.load(file, mmap_mode="r"), config.patches)


class Samples:
    """Inputs of some images, one a patch; the same index, epoch and seed give the same sample."""

    def __init__(self, views: Views, chosen: Sequence[int], recipe: Recipe) -> None:
        self.views = views
        self.chosen = chosen
        self.recipe = recipe
        self.per_image = views.patches[0] * views.patches[1]
        self.stages = [stage for stage in recipe.schedule.stages for _ in range(stage.epochs)]

    def __len__(self) -> int:
        return len(self.chosen) * self.per_image

    def __call__(self, index: int, epoch: int | None = None) -> Sample:
        """Return one input, augmented and at the epoch's size where an epoch is given."""
        image = self.chosen[index // self.per_image]
        view = self.views.inputs(image)[index % self.per_image]
        if epoch is not None:
            view = self._moved(view, np.random.default_rng((self.recipe.schedule.seed, epoch, index)), epoch)
        return view, self.views.sex(image), float(self.views.rows[image].bone_age_months or 0.0)

    def _moved(self, view: FloatArray, rng: np.random.Generator, epoch: int) -> FloatArray:
        stage = self.stages[min(epoch, len(self.stages) - 1)]
        shape = (stage.height, stage.width)
        to_stage = fit_box((-0.5, -0.5, view.shape[1] - 0.5, view.shape[0] - 0.5), shape)
        pose: Affine = to_stage.then(draw_pose(shape, self.recipe.augment, rng))
        return change_tone(np.clip(warp(view, pose, shape), 0, 1), self.recipe.augment, rng)
