"""`boneage batch`: read every image of a manifest or folder into one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from boneage.cli.console import Interrupted, note, parse_sex, rich_console
from boneage.core.errors import ExitCode
from boneage.core.runtime import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from rich.progress import Progress

    from boneage.batch.local import Reader, Settings, Summary
    from boneage.data.manifest import Row


def batch(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST.csv|DIR", help="A CSV with path,sex, or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="The table: .csv or .parquet.")],
    sex: Annotated[
        str | None, typer.Option(metavar="female|male", help="Sex of rows that name none.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, replacing the output.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")] = None,
    localise: Annotated[
        Literal["fast", "dfc"],
        typer.Option(help="Find the hand by the shipped net, or by clustering (slow)."),
    ] = "fast",
    runtime: Annotated[
        Literal["onnxruntime", "openvino"], typer.Option(help="What runs the graphs.")
    ] = DEFAULT_RUNTIME,
    bundle: Annotated[Path | None, typer.Option(help="Use this bundle, not the shipped one.")] = None,
) -> None:
    """Read many images: one row an image, in the manifest's order; a bad image is a row too.

    It may be stopped at any moment, and goes on with --resume.

    Ends with 0 if every image was read, 3 if some were not, 1 if none was.
    """
    from boneage.batch.local import BundleReader, Settings
    from boneage.data.manifest import read_manifest

    settings = Settings(workers, parse_sex(sex), resume, overwrite)
    rows = read_manifest(manifest)
    summary = run_with_progress(rows, out, BundleReader(bundle, localise, runtime), settings)
    note(describe(summary, out))
    raise typer.Exit(ending(summary))


def run_with_progress(rows: tuple[Row, ...], out: Path, reader: Reader, settings: Settings) -> Summary:
    """Run a batch with a bar on standard error that shows its rate and the time that remains.

    Raises:
        Interrupted: Ctrl-C; what is done is kept.
    """
    from boneage.batch import local

    with _bar() as bar:
        line = bar.add_task("reading", total=None, done=0)
        started: list[int] = []

        def advance(done: int, total: int) -> None:
            if not started:  # rows of an earlier run are no part of this one's rate
                started.append(done)
                bar.reset(
                    line,
                    total=total - done,
                    completed=0,
                    description=f"reading ({done} kept)" if done else "reading",
                )
            bar.update(line, completed=done - started[0])

        try:
            return local.run(rows, out, reader, settings, advance)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: what is done is kept beside {out}; go on with --resume"
            ) from None


def _bar() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(TaskProgressColumn):
        """Images a second, as far as it is known."""

        def render(self, task: object) -> Text:
            speed = getattr(task, "finished_speed", None) or getattr(task, "speed", None)
            return Text("" if speed is None else f"{speed:.1f} images/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    console = rich_console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def describe(summary: Summary, out: Path) -> str:
    """Return one line about how a batch ended."""
    kept = f", {summary.kept} of them from an earlier run" if summary.kept else ""
    counts = f"{summary.ok} ok, {summary.rejected} rejected, {summary.failed} failed"
    return f"{out}: {summary.total} rows{kept}: {counts}"


def ending(summary: Summary) -> ExitCode:
    """Return the exit code of a batch."""
    if summary.ok == summary.total:
        return ExitCode.DONE
    return ExitCode.SOME_FAILED if summary.ok else ExitCode.FAILED
