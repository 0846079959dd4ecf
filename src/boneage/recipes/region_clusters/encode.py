"""Learn the encoders of many regions, two at a time, and keep what they say of all hands: a file a region."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.recipes.region_clusters.config import Recipe
from boneage.recipes.region_clusters.crops import REGIONS, HandRegions
from boneage.recipes.region_clusters.joining import Latents
from boneage.recipes.region_clusters.reader import RegionReader, half_precision
from boneage.recipes.region_clusters.views import mean_region, views_of

logger = logging.getLogger(__name__)

_LATENTS, _CONTOURS, _LOSSES = "latents", "contours", "losses"


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoders say of all hands.

    Args:
        readers: region -> what read it.
        latents: region -> latent vectors (N, F), NaN where it is masked.
        contours: region -> how much a view (N,) changes from pixel to pixel, NaN where it is masked.
        losses: region -> the loss of every epoch.
    """

    readers: dict[str, RegionReader]
    latents: Latents
    contours: dict[str, FloatArray]
    losses: dict[str, FloatArray]


def encode(
    hands: HandRegions, learn: NDArray[np.bool_], recipe: Recipe, names: Sequence[str], folder: Path
) -> Encoded:
    """Learn every region's encoder from some hands and encode all hands with it.

    A region whose file is in `folder` is done already.

    Args:
        hands: all hands.
        learn: (N,) which of them are learnt from.
        recipe: the configuration.
        names: of the regions.
        folder: where the regions' files are kept.

    Raises:
        ConfigError: a region cannot be learnt, or a file is of other hands.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [
        _Region(hands, learn, recipe, name, folder) for name in names if not _file(folder, name).is_file()
    ]
    if recipe.schedule.processes > 1 and len(todo) > 1:
        with ProcessPoolExecutor(recipe.schedule.processes, mp_context=get_context("spawn")) as pool:
            for name in pool.map(_learn_alone, todo):
                logger.info("%s: learnt region %s", folder.name, name)
    else:
        for region in todo:
            logger.info("%s: learnt region %s", folder.name, _learn(region))
    return _read(folder, names, recipe, len(hands))


@dataclass(frozen=True, eq=False)
class _Region:
    """What a process is asked to learn."""

    hands: HandRegions
    learn: NDArray[np.bool_]
    recipe: Recipe
    name: str
    folder: Path


def _learn_alone(region: _Region) -> str:
    """Learn in a process of its own, on one thread."""
    import torch

    import boneage.recipes.region_clusters.learn  # noqa: F401  Lightning sets its log's level as it is imported

    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return _learn(region)


def _learn(region: _Region) -> str:
    from boneage.recipes.region_clusters.learn import fit_encoder

    config, name = region.recipe.input, region.name
    seen = region.hands.seen[:, REGIONS.index(name)]
    patches = region.hands.patches(name)
    learn = region.learn & seen
    if not learn.any():
        raise ConfigError(f"no hand shows region {name}: give other images, or a combination without it")
    template = half_precision(mean_region(patches[learn])) if config.align else None
    every = views_of(patches, config, config.side_of(name), template)
    views = [view if shown else None for view, shown in zip(every, seen, strict=True)]
    shown = [view for view, chosen in zip(views, learn, strict=True) if chosen and view is not None]
    side = config.side_of(name)
    learnt = fit_encoder(
        np.array(shown, np.float32).reshape(len(shown), side, side),
        region.recipe.network,
        region.recipe.schedule,
        name,
    )
    reader = RegionReader(name, config, template, learnt.encoder)
    kept = {
        _LATENTS: reader.encode(views),
        _CONTOURS: np.array([np.nan if view is None else _contours(view) for view in views], np.float32),
        _LOSSES: np.array(learnt.losses, np.float32),
    }
    file = _file(region.folder, name)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **kept, **reader.arrays())  # type: ignore[arg-type]
    partial.replace(file)
    return name


def _contours(view: FloatArray) -> float:
    """Return the mean change of grey from pixel to pixel: bones that ossify add contours."""
    return float((np.abs(np.diff(view, axis=0)).mean() + np.abs(np.diff(view, axis=1)).mean()) / 2)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"


def _arrays(file: Path) -> dict[str, Any]:
    try:
        with np.load(file) as saved:
            return {key: saved[key] for key in saved.files}
    except (OSError, ValueError, BadZipFile, zlib.error) as error:
        raise ConfigError(
            f"{file} is damaged ({error}): delete it and resume, so that it is learnt anew"
        ) from error


def _read(folder: Path, names: Sequence[str], recipe: Recipe, count: int) -> Encoded:
    found = Encoded({}, {}, {}, {})
    latents: dict[str, FloatArray] = {}
    for name in names:
        arrays = _arrays(_file(folder, name))
        latents[name], found.contours[name] = arrays.pop(_LATENTS), arrays.pop(_CONTOURS)
        found.losses[name] = arrays.pop(_LOSSES)
        found.readers[name] = RegionReader.of(name, recipe.input, arrays)
        if len(latents[name]) != count:
            raise ConfigError(f"{_file(folder, name)} is of other hands: begin with another --out")
    return Encoded(found.readers, latents, found.contours, found.losses)
