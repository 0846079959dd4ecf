"""`boneage bundle`: assemble a bundle from trained runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bundle(
    finder_run: Annotated[Path, typer.Argument(metavar="FINDER_RUN", help="A run of hand_localisation.")],
    age_run: Annotated[Path, typer.Argument(metavar="AGE_RUN", help="A run of hand_regression.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    version: Annotated[str, typer.Option(help="The bundle's version.")],
    data: Annotated[str, typer.Option(help="What it was trained on and on what terms, one sentence.")],
    grades: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run of graded_regions on the same folds; without it, no grades."),
    ] = None,
    name: Annotated[str, typer.Option(help="The bundle's name.")] = "standard",
) -> None:
    """Assemble a bundle: graphs, calibration from out-of-fold predictions, figures, checksums."""
    from boneage.inference.assemble import assemble

    made = assemble(finder_run, age_run, out, grades_run=grades, name=name, version=version, data=data)
    typer.echo(f"{made.name}: {made.path}")
