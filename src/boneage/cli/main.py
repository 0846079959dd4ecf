"""The program `boneage`: its commands, and how an error becomes one line and an exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from boneage.cli import (
    assess,
    batch,
    bundle,
    calibrate,
    data,
    dicom,
    evaluate,
    grade,
    height,
    info,
    reproduce,
    score,
    serve,
    train,
)
from boneage.cli.console import Interrupted, complain
from boneage.core.errors import BoneAgeError, ExitCode, exit_code

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the signal's number, as shells have it."""

app = typer.Typer(
    name="boneage",
    help="Bone age from hand radiographs. Research use only; not a medical device.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad usage, 3 some items failed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
app.command("assess")(assess.assess)
app.command("batch")(batch.batch)
app.command("score")(score.score)
app.command("grade")(grade.grade)
app.command("height")(height.height)
app.command("train")(train.train)
app.command("bundle")(bundle.bundle)
app.command("calibrate")(calibrate.calibrate)
app.command("evaluate")(evaluate.evaluate)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(data.app, name="data")
app.command("serve")(serve.serve)
app.command("dicom")(dicom.dicom)
app.command("info")(info.info)


def _print_version(wanted: bool) -> None:
    if wanted:
        from boneage import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; deliberate errors are one line on stderr."""
    try:
        result = app(args=list(arguments), prog_name="boneage", standalone_mode=False)
    except BoneAgeError as error:
        if "--debug" in arguments:
            raise
        complain(error)
        return exit_code(error)
    except TyperException as error:
        if message := error.format_message():
            complain(f"{message} (see boneage --help)")
        return error.exit_code
    except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
        complain(str(error) or "interrupted")
        return INTERRUPTED
    if result == INTERRUPTED:
        complain("interrupted")
    return int(result or ExitCode.DONE)


def main() -> None:
    """Run the program on the process's own arguments and end it with the exit code."""
    sys.exit(run(sys.argv[1:]))
