"""`boneage calibrate`: correct a bundle's answers for a site's own children, or go back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boneage.cli.console import Interrupted, complain, note, print_json, rich_console, warn
from boneage.core.errors import ConfigError, ExitCode
from boneage.core.runtime import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from boneage.data.manifest import Row
    from boneage.inference.bundle import Bundle

SHOWN = 5
"""Images that could not be read whose reasons are told; the rest are counted."""


def calibrate(
    out: Annotated[Path, typer.Option(help="The new bundle's folder; it must not exist.")],
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="The bundle to calibrate; default: the shipped one."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="LOCAL.csv",
            help="Images read at the site: path,sex,bone_age_months; 100 or more, 30 or more of either sex.",
        ),
    ] = None,
    rollback: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Write the bundle that this one was calibrated from; no --data."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="The new bundle's version; default: the old one's, date and checksum.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")] = None,
    runtime: Annotated[
        Literal["onnxruntime", "openvino"], typer.Option(help="What runs the graphs.")
    ] = DEFAULT_RUNTIME,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was fitted and measured as JSON.")
    ] = False,
) -> None:
    """Correct answers and intervals for your own children, from images that your own readers have read.

    The figures shown are of images that the correction had not seen.

    Nothing is written where the images are too few, implausible, or would be answered worse than before.

    A bundle that is calibrated already gets a new correction in place of the old one.
    """
    _check_out(out)
    if rollback is not None:
        if data is not None or bundle is not None or version is not None:
            raise ConfigError("--rollback takes a calibrated bundle and --out, and nothing else: give these")
        _roll_back(rollback, out, as_json)
        return
    if data is None:
        raise ConfigError("calibrating needs --data LOCAL.csv, or --rollback BUNDLE to go back: give one")
    from boneage.inference.site_table import read_local_table

    rows = read_local_table(data)
    with _without_correction(bundle, out) as parent:
        made, lost = _calibrate(rows, parent, _Asked(data, out, version, workers, runtime))
    _tell(made, as_json)
    if lost:
        complain(f"{lost} of {len(rows)} images could not be read; the bundle was calibrated without them")
        raise typer.Exit(ExitCode.SOME_FAILED)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks for."""

    data: Path
    out: Path
    version: str | None
    workers: int | None
    runtime: str


def _check_out(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists: name a folder for the new bundle that does not")
    if not out.parent.is_dir():
        raise ConfigError(f"the folder of the new bundle, {out.parent}, does not exist: create it first")


def _roll_back(calibrated: Path, out: Path, as_json: bool) -> None:
    from boneage.inference.bundle import MANIFEST, Bundle, checksum
    from boneage.inference.site_bundle import roll_back

    restored = roll_back(Bundle.load(calibrated), out)
    digest = checksum(out / MANIFEST)
    if as_json:
        print_json({"bundle": restored.name, "path": str(out), "manifest_sha256": digest})
    else:
        typer.echo(f"{restored.name}: {out}, as it was before calibration (manifest sha256 {digest})")


@contextmanager
def _without_correction(path: Path | None, out: Path) -> Iterator[Bundle]:
    """Yield the bundle to calibrate; of a calibrated one, the one it was made from: nothing stacks."""
    from boneage.inference.bundle import Bundle
    from boneage.inference.site import site_of
    from boneage.inference.site_bundle import roll_back

    bundle = Bundle.load(path)
    if site_of(bundle.manifest) is None:
        yield bundle
        return
    folder = out.with_name(f".{out.name}.parent")
    try:
        parent = roll_back(bundle, folder)
        note(f"{bundle.name} is calibrated already: the new correction takes the place of the old one")
        yield parent
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _calibrate(rows: Sequence[Row], parent: Bundle, asked: _Asked) -> tuple[Bundle, int]:
    """Read the images, fit and write; return the new bundle and how many images could not be read."""
    from boneage.inference.bundle import checksum
    from boneage.inference.site_bundle import site_record, write_calibrated
    from boneage.inference.site_fit import fit_site
    from boneage.inference.site_table import check_readings, gather

    try:
        trained = _warn_of_training_images(parent, rows)
        records = _read(rows, parent, asked)
        lost = _tell_lost(records)
        readings = gather(rows, records, str(parent.manifest["method"]))
        check_readings(readings)
        said = {
            "images": readings.images(),
            "not_read": lost,
            "training_images": trained,
            "table_sha256": checksum(asked.data),
            "runtime": asked.runtime,
        }
        record = site_record(parent, fit_site(readings, parent.manifest), said)
        made = write_calibrated(parent, record, asked.out, asked.version)
    except ConfigError:  # what was read is of no further use; after any other trouble it is
        _clear(asked.out)
        raise
    _clear(asked.out)
    return made, lost


def _read(rows: Sequence[Row], parent: Bundle, asked: _Asked) -> list[dict[str, Any]]:
    """Read every image with the bundle; a command that was stopped goes on where it was."""
    from boneage.batch import table
    from boneage.batch.local import BundleReader, Settings, journal_path
    from boneage.cli.batch import run_with_progress

    reader = BundleReader(parent.path, runtime=asked.runtime)
    readings = asked.out.with_name(f"{_readings_of(asked.out)}{reader.fingerprint()[:8]}.csv")
    begun = journal_path(readings).exists()
    if begun or not _is_whole(readings, rows):
        try:
            settings = Settings(asked.workers, resume=begun, overwrite=not begun)
            run_with_progress(tuple(rows), readings, reader, settings)
        except Interrupted:
            raise Interrupted("interrupted: what is read is kept; the same command goes on") from None
    return table.read(readings)


def _is_whole(readings: Path, rows: Sequence[Row]) -> bool:
    """Return whether a command that was stopped late has left the readings of exactly these rows."""
    from boneage.batch import table

    if not readings.exists():
        return False
    records = table.read(readings)
    return len(records) == len(rows) and all(
        (record["id"], record["path"]) == (row.id, str(row.path)) and row.sex in (None, record["sex"])
        for row, record in zip(rows, records, strict=True)
    )


def _readings_of(out: Path) -> str:
    return f".{out.name}.readings-"


def _clear(out: Path) -> None:
    """Remove what was read on the way; it names images, and the bundle does not need it."""
    for left in out.parent.iterdir():
        if left.name.startswith(_readings_of(out)):
            left.unlink()


def _warn_of_training_images(bundle: Bundle, rows: Sequence[Row]) -> int:
    """Return how many ids are those of training images, and warn: on these a bundle errs too little."""
    from boneage.data.splits import read_folds

    folds = bundle.path / "folds.csv"
    trained = read_folds(folds).keys() if folds.is_file() else set()
    known = sum(row.id in trained for row in rows)
    if known:
        warn(
            f"{known} of {len(rows)} ids are those of images that the bundle was trained on: if they are the "
            "same images, do not use the result, since its intervals are too narrow"
        )
    return known


def _tell_lost(records: Sequence[Mapping[str, Any]]) -> int:
    """Warn of images that could not be read, the first ones with their reasons; return how many there are."""
    lost = [record for record in records if record["status"] != "ok"]
    for record in lost[:SHOWN]:
        warn(f"{record['path']}: {record['message']}")
    if len(lost) > SHOWN:
        warn(f"and {len(lost) - SHOWN} more images could not be read; `boneage batch` lists them all")
    return len(lost)


def _tell(made: Bundle, as_json: bool) -> None:
    from boneage.cli.calibration_table import correction_lines, figure_rows
    from boneage.inference.site import site_of

    site = site_of(made.manifest) or {}
    if site["far_labels"]:
        warn(
            f"labels that lie far from the corrected answers: {site['far_labels']}; look at them with "
            "`boneage evaluate --data LOCAL.csv --out DIR`"
        )
    if as_json:
        print_json({"bundle": made.name, "path": str(made.path), **site})
        return
    from rich.table import Table

    head, *lines = figure_rows(site)
    shown = Table(title=made.name, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(head):
        shown.add_column(name, justify="right" if number > 1 else "left")
    for line in lines:
        shown.add_row(*line)
    rich_console().print(shown, markup=False)
    for text in correction_lines(site):
        typer.echo(text)
    typer.echo(f"{made.name}: {made.path}")
