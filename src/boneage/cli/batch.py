"""`boneage batch`: read every image of a manifest or folder into one table, or into a folder of shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from boneage.cli.console import Interrupted, note, parse_sex, rich_console
from boneage.core.errors import ConfigError, ExitCode
from boneage.core.runtime import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from rich.progress import Progress

    from boneage.batch.local import Reader, Settings, Summary
    from boneage.batch.run import Progress as Advance
    from boneage.data.manifest import Row

TIMEOUT_S = 120.0
_LINE_EVERY_S = 60.0


def batch(
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST|DIR", help="A .csv or .parquet with path,sex, or a folder; a path or URL."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(help="The table (.csv or .parquet), or a folder of Parquet shards; a path or a URL."),
    ],
    sex: Annotated[
        str | None, typer.Option(metavar="female|male", help="Sex of rows that name none.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, replacing the output.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")] = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="What one image may take before it is given up.")
    ] = TIMEOUT_S,
    within: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="A folder that holds every image; a manifest may then point there."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|local|ray://HOST:PORT",
            help="Read on a Ray cluster: the one this machine is part of, one started here, or another.",
        ),
    ] = None,
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
    from boneage.batch import local, source
    from boneage.batch.run import Settings, run

    _refuse_to_replace_the_list(manifest, out)
    settings = Settings(workers, parse_sex(sex), resume, overwrite, timeout, cluster)
    reader = local.BundleReader(bundle and bundle.absolute(), localise, runtime)
    images = source.at(manifest, within)
    with progress_shown(out) as advance:
        summary = run(images, out, reader, settings, advance)
    note(describe(summary, out))
    raise typer.Exit(ending(summary))


def _refuse_to_replace_the_list(manifest: str, out: str) -> None:
    """Refuse a list as its own output, which --overwrite would destroy.

    Raises:
        ConfigError: they are one.
    """
    if out == manifest or (Path(out).exists() and Path(manifest).exists() and Path(out).samefile(manifest)):
        raise ConfigError("--out is the list of images itself: name another output")


def run_with_progress(rows: tuple[Row, ...], out: Path, reader: Reader, settings: Settings) -> Summary:
    """Run a batch of rows in hand, and show how far it is.

    Raises:
        Interrupted: Ctrl-C; what is done is kept.
    """
    from boneage.batch import local

    with progress_shown(out) as advance:
        return local.run(rows, out, reader, settings, advance)


@contextmanager
def progress_shown(out: str | Path) -> Iterator[Advance]:
    """Yield what a batch tells its progress: a bar on a terminal, else a line a minute, on standard error.

    Raises:
        Interrupted: Ctrl-C; what is done is kept.
    """
    try:
        with _bar() as bar:
            yield _advance(bar) if not bar.disable else lines(note)
    except KeyboardInterrupt:
        from boneage.batch.storage import shown

        raise Interrupted(
            f"interrupted: what is done of {shown(str(out))} is kept; go on with --resume"
        ) from None


def _advance(bar: Progress) -> Advance:
    """Return what moves a bar; rows of an earlier run are no part of this one's rate."""
    line = bar.add_task("looking through the list", total=None)
    started: list[int] = []

    def advance(done: int, total: int) -> None:
        if not started:
            started.append(done)
            kept = f"reading ({done:,} kept)" if done else "reading"
            bar.reset(line, total=total - done, completed=0, description=kept)
        bar.update(line, completed=done - started[0])

    return advance


def lines(say: Callable[[str], None], every_s: float = _LINE_EVERY_S) -> Advance:
    """Return what says now and then how many rows are done, how fast, and how long the rest will take."""
    began: list[tuple[float, int]] = []
    said = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        began.append((now, done)) if not began else None
        if now - said < every_s or done == total:
            return
        said = now
        rate = (done - began[0][1]) / max(now - began[0][0], 1e-9)
        rest = f"{duration((total - done) / rate)} left" if rate else "not known how long"
        say(f"{done:,} of {total:,} images, {rate:.1f} a second, {rest}")

    return advance


def duration(seconds: float) -> str:
    """Return a time as people say it, in one unit."""
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), seconds / 86400
    if minutes < 60:
        return f"{minutes} min" if minutes else f"{round(seconds)} s"
    return f"{hours} h" if hours < 72 else f"{days:.0f} days"


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


def describe(summary: Summary, out: str | Path) -> str:
    """Return one line about how a batch ended."""
    from boneage.batch.storage import shown

    kept = f", {summary.kept} of them from an earlier run" if summary.kept else ""
    counts = f"{summary.ok} ok, {summary.rejected} rejected, {summary.failed} failed"
    return f"{shown(str(out))}: {summary.total} rows{kept}: {counts}"


def ending(summary: Summary) -> ExitCode:
    """Return the exit code of a batch."""
    if summary.ok == summary.total:
        return ExitCode.DONE
    return ExitCode.SOME_FAILED if summary.ok else ExitCode.FAILED
