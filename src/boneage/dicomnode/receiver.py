"""The storage SCP: verifies, takes images into the spool, and answers when they are on the disk."""

from __future__ import annotations

import errno
import logging
import ssl
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from boneage import __version__
from boneage.core.errors import ConfigError
from boneage.core.network import MIB
from boneage.dicomnode import objects
from boneage.dicomnode.files import Piece
from boneage.dicomnode.guard import Limits, Listener, Overrun
from boneage.dicomnode.settings import ANYONE, NodeSettings, Tls
from boneage.dicomnode.spool import Spool, key_of, short

log = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
IMPLEMENTATION_UID = UID("2.25.225798423635188577452289991473168786251")
IMPLEMENTATION_NAME = f"BONEAGE_{__version__.replace('.', '')}"[:16]

_PREAMBLE = b"\0" * 128 + b"DICM"
_STOP_POLL_S = 0.1


class Receiver:
    """Listens from `start` to `stop`.

    Args:
        settings: the node's.
        spool: where images go.
        arrived: called after each that is new.
    """

    def __init__(self, settings: NodeSettings, spool: Spool, arrived: Callable[[], None]) -> None:
        self._settings = settings
        self._spool = spool
        self._arrived = arrived
        self._max_bytes = settings.receive.max_object_mb * MIB
        self._listener: Listener | None = None

    def start(self) -> None:
        """Listen in a thread of its own.

        Raises:
            ConfigError: the address cannot be listened on, or the TLS files cannot be used.
        """
        receive = self._settings.receive
        try:
            self._listener = Listener(
                self._entity(),
                (receive.host, receive.port),
                [
                    (evt.EVT_C_ECHO, lambda _event: SUCCESS),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_REJECTED, self._rejected),
                ],
                Limits(
                    connections=2 * receive.max_associations,
                    silence_s=receive.network_timeout_s,
                    object_s=receive.object_timeout_s,
                    object_bytes=self._max_bytes,
                ),
                None if receive.tls is None else listening_context(receive.tls),
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {receive.host}:{receive.port} ({error.strerror}): name others"
            ) from None
        threading.Thread(
            target=self._listener.serve_forever, args=(_STOP_POLL_S,), name="listener", daemon=True
        ).start()

    def stop(self, grace_s: float) -> None:
        """Take no more callers, let those that send finish for a while, then cut them."""
        if self._listener is None:
            return
        self._listener.stop()
        end = time.monotonic() + grace_s
        while self._listener.active_associations and time.monotonic() < end:
            time.sleep(_STOP_POLL_S)
        self._listener.cut_all()
        self._listener = None

    def _entity(self) -> AE:
        receive = self._settings.receive
        entity = AE(ae_title=self._settings.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_UID
        entity.implementation_version_name = IMPLEMENTATION_NAME
        entity.require_called_aet = True
        entity.require_calling_aet = [title for title in receive.accept_from if title != ANYONE]
        if ANYONE in receive.accept_from:
            entity.require_calling_aet = []
        entity.maximum_associations = receive.max_associations
        entity.maximum_pdu_size = receive.max_pdu_bytes
        entity.acse_timeout = receive.acse_timeout_s
        entity.dimse_timeout = entity.network_timeout = receive.network_timeout_s
        entity.add_supported_context(Verification)
        for image_class in objects.IMAGE_CLASSES:
            entity.add_supported_context(image_class, list(objects.transfer_syntaxes()))
        return entity

    def _rejected(self, event: Event) -> None:
        asked = event.assoc.requestor.primitive
        if asked is not None:
            log.warning(
                "rejected an association: %r called %r", asked.calling_ae_title, asked.called_ae_title
            )

    def _store(self, event: Event) -> int:
        """Take an object, and return the status of the answer."""
        caller = event.assoc.requestor.ae_title
        try:
            return self._take(event, caller)
        except objects.Unacceptable as error:
            log.warning("refused an object from %r with %#06x: %s", caller, error.status, error)
            return error.status
        except OSError as error:
            log.error("cannot store an object (%s)", errno.errorcode.get(error.errno or 0, "unknown"))
            return OUT_OF_RESOURCES

    def _take(self, event: Event, caller: str) -> int:
        request, syntax = cast(C_STORE, event.request), UID(event.context.transfer_syntax)
        content = request.DataSet
        if isinstance(content, Overrun):
            raise objects.Unacceptable(objects.TOO_LARGE, "it is larger than max_object_mb")
        if not isinstance(content, BytesIO):
            raise objects.Unacceptable(objects.MALFORMED, "it came without a data set")
        named = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
        if named[0] != event.context.abstract_syntax:
            raise objects.Unacceptable(objects.MISMATCH, "its SOP class is not that of its context")
        accepted = objects.inspect_data_set(content, syntax, named, self._max_bytes)
        key = key_of(accepted.sop_uid)
        if accepted.is_own:
            log.info("%s from %r is a result of this product: not assessed", short(key), caller)
            return SUCCESS
        if self._spool.is_full(len(content.getbuffer())):
            log.error("refused an object: less than min_free_mb would stay free on the spool's disk")
            return OUT_OF_RESOURCES
        meta = create_file_meta(
            sop_class_uid=UID(named[0]),
            sop_instance_uid=UID(named[1]),
            transfer_syntax=syntax,
            implementation_uid=IMPLEMENTATION_UID,
            implementation_version=IMPLEMENTATION_NAME,
        )
        pieces: list[Piece] = [_PREAMBLE, encode_file_meta(meta), content.getbuffer()]
        new = self._spool.take(key, pieces, accepted.digest)
        log.info("%s taken from %r%s", short(key), caller, "" if new else ": known, nothing to do")
        if new:
            self._arrived()
        return SUCCESS


def listening_context(tls: Tls) -> ssl.SSLContext:
    """Return how callers' connections are wrapped; with a `ca`, they must show a certificate of it.

    Raises:
        ConfigError: a file holds no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.ca:
            context.load_verify_locations(tls.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"receive.tls: the files cannot be used ({error}): give PEM files") from None
    return context
