"""What a learning curve trains: a recipe, and the sizes, seeds and folds that it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError
from boneage.core.registry import RECIPES
from boneage.training.config import choose, named_config, read_config, read_tree

DEFAULT = Path(__file__).with_name("learning_curve.toml")
EFFORTS = ("steps", "epochs")


@dataclass(frozen=True)
class CurveConfig:
    """What is trained, on how many images.

    Args:
        recipe: a name of `boneage train --list` whose run has an `oof.csv` of ages.
        config: its TOML file, or the name of one beside `recipe.toml`; "" is `recipe.toml`.
        changes: `section.key=value` texts that replace values of that file.
        sizes: training images; those that the training folds do not have are left out.
        whole: train on all images of the training folds too.
        seeds: of the subsets and the trainings; a seed's smaller subset lies in its larger ones.
        folds: that the images are split into.
        held_out: folds that are predicted, each by trainings on the others.
        split_seed: of the folds.
        effort: `steps` trains every size for as many steps as all images take, so that few images are not
            also little training; `epochs` keeps the recipe's epochs.
        forecast: training sizes to forecast.
    """

    recipe: str
    config: str = ""
    changes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = (200, 400, 800)
    whole: bool = True
    seeds: tuple[int, ...] = (0,)
    folds: int = 5
    held_out: tuple[int, ...] = (0,)
    split_seed: int = 0
    effort: str = "steps"
    forecast: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        choose("effort", self.effort, EFFORTS)
        choose("recipe", self.recipe, tuple(sorted(RECIPES)))
        if not self.seeds or not self.held_out or not (self.sizes or self.whole):
            raise ConfigError("seeds, held_out and sizes must not be empty: give one of each at least")
        if min((*self.sizes, *self.forecast, 1)) < 1:
            raise ConfigError("sizes and forecast are numbers of images, from 1")
        if min(self.seeds) < 0 or not 0 <= min(self.held_out) <= max(self.held_out) < self.folds:
            raise ConfigError(
                f"seeds must not be negative, and held_out must be folds from 0 to {self.folds - 1}"
            )


def read_curve_config(path: Path | None = None, changes: Sequence[str] = ()) -> CurveConfig:
    """Return a curve's configuration from its TOML file, the default where none is given.

    Args:
        path: the file.
        changes: of the recipe, after the file's own.

    Raises:
        ConfigError: as `training.config.read_config`.
    """
    config = read_config(path or DEFAULT, CurveConfig)
    return replace(config, changes=(*config.changes, *changes))


def recipe_tree(config: CurveConfig) -> dict[str, Any]:
    """Return the recipe's settings.

    Raises:
        ConfigError: they cannot be read, or do not suit a curve.
    """
    module = RECIPES[config.recipe].partition(":")[0]
    found = find_spec(module.rpartition(".")[0])
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"the recipe {config.recipe!r} has no folder of configurations")
    folder = Path(next(iter(found.submodule_search_locations)))
    path = named_config(folder, Path(config.config) if config.config else None)
    tree = read_tree(path, config.changes)
    schedule = tree.get("schedule", {})
    if schedule.get("patience"):
        raise ConfigError(
            "a curve's recipe must not stop early, as that takes images from training: set patience=0"
        )
    if config.effort == "steps" and not schedule.get("stages"):
        raise ConfigError(
            f"effort='steps' needs schedule.stages, which {path.name} has not: use effort='epochs'"
        )
    return tree
