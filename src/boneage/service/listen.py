"""Listens: uvicorn, with connections that say nothing sent away."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from boneage.core.errors import ConfigError
from boneage.service.app import create_app
from boneage.service.server import Server, check_tls
from boneage.service.settings import ServiceSettings

_GRACE_S = 10
"""What requests may still take when the server is told to end."""


def serve(settings: ServiceSettings, begun: Callable[[str, Server], None]) -> None:
    """Serve until the process is told to end (SIGTERM, Ctrl-C).

    Args:
        settings: what the server is told.
        begun: called with the server's address when it listens.

    Raises:
        ConfigError: the address cannot be listened on, or a setting cannot be used.
        BundleError, RuntimeUnavailable: as `Server`.
    """
    listening = _listen(settings)
    try:
        host, port = listening.getsockname()[:2]
        server = Server(dataclasses.replace(settings, port=port))
        check_tls(settings)
        config = uvicorn.Config(
            create_app(server),
            http=_prompt(settings.idle_s),
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            limit_concurrency=settings.connections,
            timeout_keep_alive=int(settings.idle_s),
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=settings.tls_certificate or None,
            ssl_keyfile=settings.tls_key or None,
        )
        # Uploads of more than 1 MiB pass through unnamed files, which belong where the images lie.
        tempfile.tempdir = settings.data
        scheme = "https" if settings.tls_certificate else "http"
        begun(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", server)
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()


def _listen(settings: ServiceSettings) -> socket.socket:
    try:
        family, kind, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): name another with "
            "--host or --port, or stop what listens there"
        ) from None
    return listening


def _prompt(idle_s: float) -> type[H11Protocol]:
    """Return uvicorn's protocol, which also ends who brings no whole request, or reads no answer, in time."""

    class Prompt(H11Protocol):
        _last: Any = None
        _unread = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def _watch(self) -> None:
            self._timer = self.loop.call_later(idle_s, self._look)

        def _look(self) -> None:
            cycle: Any = self.cycle  # None before the first request, whatever its type says
            busy = cycle is not None and (cycle is not self._last or not cycle.response_complete)
            self._last = cycle
            before, self._unread = self._unread, self.transport.get_write_buffer_size()
            if self._unread == before > 0:  # nobody took a byte of the answer
                self.transport.abort()
            elif not busy:
                self.transport.close()
            self._watch()

        def connection_lost(self, error: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(error)

    return Prompt
