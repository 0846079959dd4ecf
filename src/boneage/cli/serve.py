"""`boneage serve`: the reading room in a browser, and the REST service behind it."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from boneage.cli.console import note
from boneage.core.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from boneage.service.server import Server
    from boneage.service.settings import ServiceSettings


def serve(
    config: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Settings; the options override it.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if absent.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 8077 if absent, 0 for a free one.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of database and token.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that assess.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Use this bundle, not the shipped one.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check settings, bundle and database, make nothing, and end.")
    ] = False,
) -> None:
    """Serve the web page and the REST service.

    Off loopback every request needs a token; where none is set, one is made and its file is named.
    """
    settings = _settings(
        config,
        {
            "host": host,
            "port": port,
            "data": None if data is None else str(data),
            "workers": workers,
            "bundle": None if bundle is None else str(bundle),
        },
    )
    try:
        from boneage.service.listen import serve as listen
        from boneage.service.server import check as look
    except ModuleNotFoundError as error:
        raise RuntimeUnavailable(
            f"the service needs {error.name}, which is not installed: pip install 'boneage[serve]'"
        ) from error
    if check:
        look(settings)
        note("settings, bundle and database are in order")
        return
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    listen(settings, _said)


def _settings(config: Path | None, given: dict[str, Any]) -> ServiceSettings:
    """Return the settings of a file, with what was given on the command line in their place."""
    from boneage.service.settings import ServiceSettings
    from boneage.training.config import read_config

    settings = ServiceSettings() if config is None else read_config(config, ServiceSettings)
    return dataclasses.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )


def _said(address: str, server: Server) -> None:
    """Say where the server listens and where its token is."""
    from boneage.service.settings import TOKEN

    kept = Path(server.settings.data) / TOKEN
    note(f"boneage listens on {address} (end with Ctrl-C)")
    if server.token is None:
        note("no token is needed: only this machine can reach it")
    elif kept.exists() and not server.settings.token_file and not os.environ.get("BONEAGE_TOKEN"):
        note(f"every request needs the token in {kept}")
