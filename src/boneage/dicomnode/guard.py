"""Limits that pynetdicom's server lacks: what one connection may cost before it is cut."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

log = logging.getLogger(__name__)

_LONGEST_PDU = 1 << 20
"""Bytes; no request for an association is larger, and no PDU of data that was agreed upon."""

_LONGEST_COMMAND = 1 << 16
_PIECE = 1 << 16
_FAREWELL_S = 0.2
_TOO_MANY_MESSAGES = 2
"""A caller has to wait for each answer: asynchronous operations are not negotiated."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is borne: connections at once, seconds of silence and for an object, bytes of an object."""

    connections: int
    silence_s: float
    object_s: float
    object_bytes: int


class Overrun(BytesIO):
    """Stands in for a data set that grew beyond the limit; what else comes of it is dropped."""

    def write(self, data: Any, /) -> int:
        """Drop the data."""
        return len(data)


class Listener(ThreadedAssociationServer):
    """The server of associations, with a limit on connections and TLS that waits in no other's way.

    Args:
        entity: the application entity that is called, with its contexts.
        address: host and port.
        handlers: of events, as pynetdicom has them.
        limits: what is borne.
        tls: what wraps a caller's connection; None leaves it clear.

    Raises:
        OSError: the address cannot be listened on.
    """

    request_queue_size = 64
    daemon_threads = True

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        handlers: Sequence[EventHandlerType],
        limits: Limits,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.limits = limits
        self.tls = tls
        super().__init__(
            entity,
            address,
            entity.ae_title,
            entity.supported_contexts,
            evt_handlers=[*handlers, (evt.EVT_CONN_OPEN, self._watch)],
            request_handler=_Caller,
        )

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether one more connection may be opened, whoever asks."""
        return len(self.active_associations) < self.limits.connections

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line that a connection failed before there was an association."""
        log.info("a connection failed before it asked for an association")

    def _watch(self, event: Event) -> None:
        _Watched(event.assoc, self.limits)

    def stop(self) -> None:
        """Take no more callers; associations go on."""
        BaseServer.shutdown(self)  # pynetdicom's own wants a list of which this server is no part
        self.server_close()

    def cut_all(self) -> None:
        """Abort what is left, and end connections in which a part of a PDU is awaited."""
        left = self.active_associations
        for association in left:
            association.abort(block=False)
        time.sleep(_FAREWELL_S if left else 0.0)
        for association in left:
            wire = association.dul.socket
            if wire is not None and wire.socket is not None:
                with suppress(OSError):
                    wire.socket.shutdown(socket.SHUT_RDWR)


class _Caller(RequestHandler):
    """A connection in its own thread, in which TLS shakes hands."""

    server: Listener

    def setup(self) -> None:
        """Limit how long the caller may be silent, and wrap the connection."""
        self.request.settimeout(self.server.limits.silence_s)
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)


class _Watched:
    """One association's connection, read with limits; pynetdicom reads whatever length a PDU states."""

    def __init__(self, association: Any, limits: Limits) -> None:
        self._limits = limits
        self._began: float | None = None
        self._is_cut = False
        self._wire = association.dul.socket
        self._wire.recv = self.receive
        association.bind(evt.EVT_PDU_RECV, self._on_pdu)
        association.bind(evt.EVT_DIMSE_RECV, self._on_message)

    def receive(self, count: int) -> bytearray:
        """Return so many bytes, fewer where the caller has gone.

        Raises:
            OSError: they are too many, or do not come in time; the connection is then closed.
        """
        connection: socket.socket = self._wire.socket
        if self._is_cut:
            raise OSError("the association was cut")
        if count > _LONGEST_PDU:
            log.warning("a connection was cut: it announced a PDU of %d bytes", count)
            raise OSError("the PDU is too long")
        end = time.monotonic() + self._limits.silence_s
        received = bytearray()
        try:
            while len(received) < count:
                connection.settimeout(max(end - time.monotonic(), 0.001))
                piece = connection.recv(min(_PIECE, count - len(received)))
                if not piece:
                    break
                received += piece
        finally:
            connection.settimeout(self._limits.silence_s)
        return received

    def _on_pdu(self, event: Event) -> None:
        """Look at the message that is under way, each time that a part of it comes."""
        message = event.assoc.dimse.message
        if message is None:
            return
        now = time.monotonic()
        self._began = self._began or now
        late = now - self._began > self._limits.object_s
        if late or message.encoded_command_set.tell() > _LONGEST_COMMAND:
            log.warning(
                "an association was cut: its message %s", "took too long" if late else "makes no sense"
            )
            self._cut(event)
        elif message.data_set is not None and message.data_set.tell() > self._limits.object_bytes:
            message.data_set = Overrun()

    def _on_message(self, event: Event) -> None:
        self._began = None
        if event.assoc.dimse.msg_queue.qsize() >= _TOO_MANY_MESSAGES:
            log.warning("an association was cut: it did not wait for answers")
            self._cut(event)

    def _cut(self, event: Event) -> None:
        """Abort; whatever the caller still sends closes the connection."""
        self._is_cut = True
        event.assoc.abort()
