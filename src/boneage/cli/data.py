"""`boneage data`: turn a data set's own layout into a manifest, and a manifest into an atlas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.console import note, warn
from boneage.core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boneage.anatomy.mean_hands import LaidHand
    from boneage.data.manifest import Row

app = typer.Typer(help="Make a manifest of a data set, or an atlas of a manifest.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Make a manifest of a data set, or an atlas of a manifest."""


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


@app.command()
def atlas(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.csv", help="With path,sex,bone_age_months.")],
    out: Annotated[Path, typer.Option(help="The atlas' folder, new or empty.")],
) -> None:
    """Make the atlas of mean hands: plates by sex and bone age, each the mean of many children."""
    from boneage.anatomy.mean_hands import mean_hands
    from boneage.data.manifest import read_manifest
    from boneage.inference.atlas import check_atlas_folder, write_atlas
    from boneage.inference.bundle import checksum

    check_atlas_folder(out)
    rows = _labelled(manifest, read_manifest(manifest))
    hands = _laid(rows)
    note(f"{len(hands)} of {len(rows)} hands found; averaging")
    data = {"images": len(rows), "hands_found": len(hands), "manifest_sha256": checksum(manifest)}
    made = write_atlas(out, mean_hands(hands), data)
    note(f"{out}: {len(made.plates)} plates")


def _labelled(manifest: Path, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have a sex and a bone age.

    Raises:
        ConfigError: none has; the manifest is a folder, which holds neither.
    """
    labelled = [row for row in rows if row.sex is not None and row.bone_age_months is not None]
    if not labelled or manifest.is_dir():
        raise ConfigError(
            f"{manifest}: no image has a sex and a bone age; an atlas needs a CSV with the columns "
            "path,sex,bone_age_months, for example from `boneage data rsna DIR`"
        )
    if len(labelled) < len(rows):
        warn(f"{len(rows) - len(labelled)} images have no sex or no bone age and are left out")
    return labelled


def _laid(rows: Sequence[Row]) -> list[LaidHand]:
    """Return the hands that were found, laid upright; an image without one is named and left out."""
    from boneage.anatomy.mean_hands import lay_upright
    from boneage.cli.train import locator
    from boneage.imaging.read import read

    locate = locator(None)
    hands = []
    for row in rows:
        if row.sex is None or row.bone_age_months is None:
            continue
        try:
            radiograph = read(row.path)
            hand = locate(radiograph)
        except InputError as error:
            warn(f"left out: {error}")
            continue
        child = row.patient_id or row.id
        hands.append(lay_upright(radiograph, hand, child, row.sex, row.bone_age_months))
    return hands
