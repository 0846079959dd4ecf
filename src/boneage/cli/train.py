"""`boneage train`: train a recipe."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.console import make_folder, missing_package
from boneage.core.errors import ConfigError
from boneage.core.registry import RECIPES, load

if TYPE_CHECKING:
    from boneage.core.types import Hand, Radiograph
    from boneage.inference.assess import Finder
    from boneage.training.config import TrainJob


def train(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="A name of --list.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Manifest with path,sex,bone_age_months; or graded crops: BONE/GRADE/*.png, file,bone,grade."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of recipe.toml."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A TOML file, or the name of one beside recipe.toml: shipped, baseline."),
    ] = None,
    finder: Annotated[
        Path | None,
        typer.Option(help="Find hands with this run of hand_localisation, not the shipped bundle."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Find hands, and train graphs on, with this bundle; without it, the shipped one."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoints.")] = False,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and end.")] = False,
) -> None:
    """Train a recipe on a manifest or on graded crops (needs the extra `train`)."""
    if list_recipes:
        typer.echo("\n".join(sorted(RECIPES)))
        return
    if recipe is None or data is None or out is None:
        raise ConfigError("train needs a RECIPE, --data MANIFEST.csv and --out RUN: see boneage train --list")
    from boneage.inference.bundle import SHIPPED
    from boneage.training.config import TrainJob

    check_overrides(overrides or [])
    job = TrainJob(
        data,
        out,
        config=config,
        overrides=tuple(overrides or ()),
        resume=resume,
        locate=locator(finder, bundle),
        bundle=bundle or SHIPPED,
    )
    run_recipe(RECIPES, recipe, job)
    typer.echo(str(out))


def locator(finder_run: Path | None, bundle: Path | None = None) -> Callable[[Radiograph], Hand]:
    """Return what finds hands: a finder run's graph or a bundle's, loaded when first wanted.

    Without either it is the shipped bundle's.
    """

    @cache
    def opened() -> Finder:
        from boneage.inference.assess import Finder
        from boneage.inference.bundle import Bundle

        graph = finder_run / "graph.onnx" if finder_run else Bundle.load(bundle).graph("hand_finder")
        if not graph.is_file():
            raise ConfigError(f"{graph} is missing: give a finished run of hand_localisation to --finder")
        return Finder(graph)

    def locate(radiograph: Radiograph) -> Hand:
        return opened()(radiograph)

    return locate


def run_recipe(registry: dict[str, str], name: str, job: TrainJob) -> None:
    """Call a registry's function on a job.

    Raises:
        ConfigError: an unknown name, or a manifest that does not exist.
        RuntimeUnavailable: the extra `train` is not installed.
    """
    if name not in registry:
        raise ConfigError(f"there is no recipe {name!r}; known: {', '.join(sorted(registry))}")
    if not job.data.exists():
        raise ConfigError(
            f"the manifest {job.data} does not exist: make one, for example with `boneage data rsna DIR`"
        )
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("boneage").setLevel(logging.INFO)
    try:
        function = load(registry, name)
        make_folder(job.out)
        function(job)
    except ModuleNotFoundError as error:
        unavailable = missing_package(error)
        if unavailable is None:
            raise
        raise unavailable from error


def check_overrides(overrides: list[str]) -> None:
    """Refuse a change that is not written `section.key=value`.

    Raises:
        ConfigError: it is written otherwise.
    """
    for override in overrides:
        name, separator, _ = override.partition("=")
        if not separator or not name.strip():
            raise ConfigError(
                f"--set takes SECTION.KEY=VALUE, not {override!r}: for example schedule.batch=16"
            )
