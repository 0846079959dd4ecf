"""`boneage reproduce`: a paper's tables and figures, on the data given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boneage.cli.train import check_overrides, locator, run_recipe
from boneage.core.errors import ConfigError

PAPERS = {
    "1": "boneage.recipes.radius_subgrades.reproduce:reproduce",
    "2": "boneage.recipes.region_clusters.reproduce:reproduce",
    "3": "boneage.recipes.graded_regions.reproduce:reproduce",
    "4": "boneage.recipes.hand_regression.reproduce:reproduce",
    "5": "boneage.recipes.age_intervals.reproduce:reproduce",
}
"""Number of a paper -> the function that repeats its tables; called as a recipe's is."""


def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="Number of the paper, 1 to 5.")],
    data: Annotated[
        Path, typer.Option(help="Manifest with path,sex,bone_age_months; for 1 and 3 also graded crops.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the tables and figures.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of recipe.toml."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file, or the name of one beside the recipe's, in place of the comparison's."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what is done.")] = False,
) -> None:
    """Repeat a paper's experiments on the data given (needs the extra `train`)."""
    from boneage.training.config import TrainJob

    if paper not in PAPERS:
        raise ConfigError(f"paper {paper!r} cannot be reproduced yet; known: {', '.join(sorted(PAPERS))}")
    check_overrides(overrides or [])
    run_recipe(
        PAPERS,
        paper,
        TrainJob(
            data, out, config=config, overrides=tuple(overrides or ()), resume=resume, locate=locator(None)
        ),
    )
    typer.echo(str(out))
