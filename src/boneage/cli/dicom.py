"""`boneage dicom`: run the DICOM node, check it, look into its spool."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from boneage.cli.console import note, print_json
from boneage.core.errors import ExitCode, RuntimeUnavailable

if TYPE_CHECKING:
    from boneage.dicomnode.settings import NodeSettings


def dicom(
    config: Annotated[
        Path | None, typer.Option(metavar="NODE.toml", help="The node's configuration.")
    ] = None,
    ae_title: Annotated[str | None, typer.Option(help="The node's own AE title.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default 11112.")] = None,
    spool: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of all that it holds.")] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="AET", help="AE title that may call; '*' is anyone.")
    ] = None,
    send: Annotated[
        list[str] | None, typer.Option(metavar="NAME=AET@HOST:PORT", help="Send results there.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check everything, ask every peer, end.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Count what lies in the spool, and end.")] = False,
    retry_dead: Annotated[
        bool, typer.Option("--retry-dead", help="Put all dead letters back, and end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print --status as JSON.")] = False,
) -> None:
    """Run a DICOM node: radiographs in, structured reports and captures out to the archives.

    It runs until SIGTERM or Ctrl-C. Options win over the file; --send and --accept add to it.

    With --check it ends with 0 if every peer answers, 3 if some do not, 1 if none does.
    """
    settings = _settings(config, ae_title, host, port, spool, accept or [], send or [])
    if status or retry_dead:
        _look(settings, retry_dead, status, as_json)
        return
    try:
        from boneage.dicomnode import node
    except ModuleNotFoundError as error:
        raise RuntimeUnavailable(
            f"the DICOM node needs {error.name}, which is not installed: pip install 'boneage[dicom]'"
        ) from error
    if check:
        raise typer.Exit(_check(node.check_peers(settings)))
    _log_to_stderr()
    node.Node(settings).serve()


def _settings(
    config: Path | None,
    ae_title: str | None,
    host: str | None,
    port: int | None,
    spool: Path | None,
    accept: list[str],
    send: list[str],
) -> NodeSettings:
    """Return the file's settings with the options laid over them."""
    from boneage.dicomnode.settings import NodeSettings, parse_destination, read_settings

    settings = NodeSettings() if config is None else read_settings(config)
    receive = settings.receive
    receive = replace(
        receive,
        host=receive.host if host is None else host,
        port=receive.port if port is None else port,
        accept_from=(*receive.accept_from, *accept),
    )
    return replace(
        settings,
        ae_title=settings.ae_title if ae_title is None else ae_title,
        spool=settings.spool if spool is None else str(spool),
        receive=receive,
        send=(*settings.send, *map(parse_destination, send)),
    )


def _look(settings: NodeSettings, retry_dead: bool, status: bool, as_json: bool) -> None:
    from boneage.dicomnode import upkeep
    from boneage.dicomnode.spool import Spool

    spool = Spool(Path(settings.spool))
    if retry_dead:
        note(f"{upkeep.revive(spool)} put back")
    if status and as_json:
        print_json(upkeep.counts(spool))
    elif status:
        for line in _lines(upkeep.counts(spool)):
            typer.echo(line)


def _lines(counts: dict[str, Any]) -> list[str]:
    lines = [
        f"{'node':<24}{'running' if counts['running'] else 'stopped'}",
        f"{'waiting':<24}{counts['waiting']}",
    ]
    for group in ("outbox", "dead", "done"):
        lines += [f"{f'{group} {name}':<24}{number}" for name, number in counts[group].items()]
    return lines


def _check(answers: dict[str, str]) -> ExitCode:
    """Print a line for each peer; return the exit code."""
    for name, trouble in answers.items():
        typer.echo(f"{name}: {trouble or 'answers'}")
    silent = sum(map(bool, answers.values()))
    if not silent:
        return ExitCode.DONE
    return ExitCode.FAILED if silent == len(answers) else ExitCode.SOME_FAILED


def _log_to_stderr() -> None:
    """Write the node's log to standard error, a line an event."""
    logger = logging.getLogger("boneage")
    if logging.getLogger().handlers:  # --debug
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
