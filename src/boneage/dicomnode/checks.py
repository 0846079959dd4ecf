"""What a node's configuration must be before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

from boneage.core.errors import ConfigError
from boneage.core.network import is_loopback
from boneage.dicomnode.settings import (
    ANYONE,
    FORMS,
    KINDS,
    Destination,
    NodeSettings,
    Query,
    Receive,
    Retry,
    Tls,
    Web,
)
from boneage.training.config import choose

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
"""An AE title: 1 to 16 printable ASCII characters but the backslash, no space at its ends (PS3.5 6.2)."""

_HIGHEST_PORT = 65535
_POSITIVE = (
    "max_associations", "max_object_mb", "acse_timeout_s", "network_timeout_s", "object_timeout_s",
)  # fmt: skip


def check(settings: NodeSettings) -> None:
    """Refuse a configuration that cannot work, or that would let anyone in by accident.

    Raises:
        ConfigError: it names the setting and the remedy.
    """
    _check_title("ae_title", settings.ae_title)
    _check_numbers("", settings, ("retention_hours",))
    _check_receive(settings.receive)
    choose("assess.runtime", settings.assess.runtime, ("openvino", "onnxruntime"))
    _check_numbers("assess.", settings.assess, ("workers", "timeout_s"))
    _check_numbers("retry.", settings.retry, [one.name for one in fields(Retry)])
    _check_numbers("watch.", settings.watch, ("every_s",))
    if settings.dead_retention_hours < 0 or settings.watch.settle_s < 0:
        raise ConfigError("dead_retention_hours and watch.settle_s must be 0 or more")
    if settings.watch.folder and not Path(settings.watch.folder).is_dir():
        raise ConfigError(f"watch.folder {settings.watch.folder!r} is no folder: make it, or leave it empty")
    if not settings.send:
        raise ConfigError("no destination: add a [[send]] table, or --send NAME=AET@HOST:PORT")
    _check_names("send", [one.name for one in settings.send])
    _check_names("query", [one.name for one in settings.query])
    for destination in settings.send:
        _check_destination(destination, settings.receive)
    for query in settings.query:
        _check_query(query, settings)
    if not (settings.receive.port or settings.watch.folder or settings.query):
        raise ConfigError("nothing comes in: give receive.port, watch.folder or a [[query]] table")


def _check_receive(receive: Receive) -> None:
    _check_numbers("receive.", receive, _POSITIVE)
    if not 0 <= receive.port <= _HIGHEST_PORT or receive.min_free_mb < 0:
        raise ConfigError("receive.port must be 0 to 65535, and receive.min_free_mb 0 or more")
    if not 4096 <= receive.max_pdu_bytes <= 1 << 20:
        raise ConfigError("receive.max_pdu_bytes must be 4096 to 1048576")
    for title in receive.accept_from:
        if title != ANYONE:
            _check_title("receive.accept_from", title)
    if receive.port and not receive.accept_from and not is_loopback(receive.host):
        raise ConfigError(
            f"receive.host {receive.host} is reached from other machines: list the AE titles that may call "
            f"in receive.accept_from (or --accept), or write {ANYONE!r} there to let anyone in"
        )
    if receive.tls is not None:
        if not (receive.tls.certificate and receive.tls.key):
            raise ConfigError("receive.tls needs certificate and key: name the PEM files")
        _check_files("receive.tls", receive.tls)


def _check_destination(destination: Destination, receive: Receive) -> None:
    where = f"send {destination.name!r}:"
    choose(f"{where} kind", destination.kind, KINDS)
    for form in destination.what:
        choose(f"{where} what", form, FORMS)
    if not destination.what:
        raise ConfigError(f"{where} what is empty: name sr, capture or both")
    _check_numbers(f"{where} ", destination, ("timeout_s",))
    if destination.kind == "dicomweb":
        _check_web(where, destination.web)
        return
    _check_title(f"{where} ae_title", destination.ae_title)
    if not destination.host or not 1 <= destination.port <= _HIGHEST_PORT:
        raise ConfigError(f"{where} a host, and a port from 1 to 65535, are needed")
    if destination.port == receive.port and is_loopback(destination.host):
        raise ConfigError(f"{where} this is the node itself: name the archive's port")
    if destination.tls is not None:
        _check_files(f"{where} tls", destination.tls)


def _check_query(query: Query, settings: NodeSettings) -> None:
    where = f"query {query.name!r}:"
    _check_web(where, query.web)
    _check_numbers(f"{where} ", query, ("every_s",))
    if query.days < 0:
        raise ConfigError(f"{where} days must be 0 or more")
    if settings.retention_hours < 24 * (query.days + 1):
        raise ConfigError(
            f"{where} with {query.days} days back, retention_hours must be at least {24 * (query.days + 1)}: "
            "what the notes have forgotten would be fetched again"
        )


def _check_web(where: str, web: Web) -> None:
    parts = urlsplit(web.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{where} url must begin with http:// or https://, not {web.url!r}")
    if parts.username or parts.password:
        raise ConfigError(f"{where} no password in the url: use user and password_file, or token_file")
    _check_numbers(f"{where} ", web, ("timeout_s",))
    for file in (web.password_file, web.token_file):
        if file and not Path(file).is_file():
            raise ConfigError(f"{where} there is no file {file!r}: write the secret into it")
    if web.tls is not None:
        _check_files(f"{where} tls", web.tls)


def _check_files(where: str, tls: Tls) -> None:
    for name, file in (("certificate", tls.certificate), ("key", tls.key), ("ca", tls.ca)):
        if file and not Path(file).is_file():
            raise ConfigError(f"{where}: {name} {file!r} is no file: name a PEM file")
    if bool(tls.certificate) != bool(tls.key):
        raise ConfigError(f"{where}: certificate and key belong together: name both or none")


def _check_title(where: str, title: str) -> None:
    if not _TITLE.fullmatch(title):
        raise ConfigError(
            f"{where} must be an AE title: 1 to 16 ASCII characters, no backslash, no space at an end"
        )


def _check_names(where: str, names: list[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name) or name == "images":
            raise ConfigError(
                f"{where} {name!r}: a name is up to 32 letters, digits, - and _, but not 'images', "
                "a folder of the spool"
            )
    if len({name.lower() for name in names}) != len(names):
        raise ConfigError(f"{where}: every name must be another")


def _check_numbers(where: str, owner: object, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(owner, name)
        if not 0 < value < float("inf"):
            raise ConfigError(f"{where}{name} must be more than 0, not {value!r}")
