"""`boneage data`: turn a data set's own layout into a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boneage.cli.console import note

app = typer.Typer(help="Turn a data set's own layout into a manifest.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Turn a data set's own layout into a manifest."""


@app.command()
def rsna(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The challenge's folder, unpacked.")],
    out: Annotated[Path, typer.Option(help="The manifest to write, a CSV.")],
) -> None:
    """Write the manifest of the RSNA Pediatric Bone Age Challenge's own layout."""
    from boneage.data.challenge import convert_rsna
    from boneage.data.manifest import write_manifest

    rows = convert_rsna(folder)
    write_manifest(out, rows)
    note(f"{out}: {len(rows)} images")
