"""Deliver results: every destination in a thread of its own, again and again until it has them."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from boneage.core.errors import ConfigError, DeliveryError
from boneage.dicomnode.receiver import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from boneage.dicomnode.settings import Destination, Retry, Tls
from boneage.dicomnode.spool import Letter, Spool

log = logging.getLogger(__name__)

_BATCH = 50
_IDLE_S = 1.0
_HOUR_S = 3600.0
_SUCCESS = 0x0000
_WARNINGS = range(0xB000, 0xC000)
_DOUBLINGS = 30


class Unreachable(DeliveryError):
    """The destination does not answer, or wants no association: nothing is wrong with the result."""

    code = "unreachable"


class Channel(Protocol):
    """A way to a destination."""

    def send(self, paths: Sequence[Path]) -> Generator[str, None, None]:
        """Send files; yield after each why it was refused, an empty text where it was taken.

        Raises:
            Unreachable: from here on, none could be sent.
        """
        ...

    def check(self) -> None:
        """Ask whether the destination is there and wants what it shall get.

        Raises:
            DeliveryError: it is not, or does not.
        """
        ...


class StoreChannel:
    """C-STORE to a peer, one association for a batch.

    Raises:
        ConfigError: its TLS files cannot be used.
    """

    def __init__(self, destination: Destination, calling_title: str) -> None:
        self._destination = destination
        self._tls = None if destination.tls is None else calling_context(destination.name, destination.tls)
        self._entity = AE(ae_title=calling_title)
        self._entity.implementation_class_uid = IMPLEMENTATION_UID
        self._entity.implementation_version_name = IMPLEMENTATION_NAME
        for name in ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout"):
            setattr(self._entity, name, destination.timeout_s)
        self._classes = {"sr": ComprehensiveSRStorage, "capture": SecondaryCaptureImageStorage}

    def send(self, paths: Sequence[Path]) -> Generator[str, None, None]:
        """Send files; see `Channel`."""
        association = self._associate([self._classes[form] for form in self._destination.what])
        try:
            for path in paths:
                yield self._store(association, path)
        finally:
            if association.is_established:
                association.release()

    def check(self) -> None:
        """Echo, on an association that also proposes what will be sent; see `Channel`."""
        classes = [self._classes[form] for form in self._destination.what]
        association = self._associate([Verification, *classes])
        try:
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
            lacking = [form for form in self._destination.what if self._classes[form] not in accepted]
            if lacking:
                raise DeliveryError(f"it takes no {' and no '.join(lacking)}: allow these SOP classes there")
            status = association.send_c_echo().get("Status") if Verification in accepted else _SUCCESS
            if status != _SUCCESS:
                raise DeliveryError("it answers no C-ECHO: see its log")
        finally:
            if association.is_established:
                association.release()

    def _associate(self, classes: Sequence[str]) -> Association:
        for context in self._entity.requested_contexts:
            self._entity.remove_requested_context(str(context.abstract_syntax))
        for one in classes:
            self._entity.add_requested_context(one, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        peer = self._destination
        try:
            association = self._entity.associate(
                peer.host,
                peer.port,
                ae_title=peer.ae_title,
                tls_args=None if self._tls is None else (self._tls, peer.host),
            )
        except OSError as error:  # the name of the host is not known
            raise Unreachable(f"{peer.host}: {error.strerror or 'unknown host'}") from None
        if association.is_established:
            return association
        if association.is_rejected:
            raise Unreachable("it rejects the association: check both AE titles, and that it knows this node")
        raise Unreachable("no connection, or no answer: check host and port, and that it runs")

    def _store(self, association: Association, path: Path) -> str:
        if not association.is_established:
            raise Unreachable("the association ended")
        try:
            dataset = dcmread(path)
        except InvalidDicomError:
            return "the file in the outbox is damaged"
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        if dataset.SOPClassUID not in accepted:
            return f"it accepts no {dataset.SOPClassUID.name}"
        try:
            status = association.send_c_store(dataset).get("Status")
        except (ValueError, RuntimeError) as error:
            return f"it cannot be sent as the peer wants it ({type(error).__name__})"
        if (
            status is None
        ):  # told as this object's fault: one that brings a peer down must not go first for ever
            return "the association ended while it was sent, or no answer came in time"
        taken = status == _SUCCESS or status in _WARNINGS
        return "" if taken else f"status {status:#06x}"


class Sender:
    """Delivers what lies in one destination's outbox.

    Args:
        name: of the destination.
        channel: the way to it.
        spool: where results wait.
        retry: how long.
    """

    def __init__(self, name: str, channel: Channel, spool: Spool, retry: Retry) -> None:
        self._name = name
        self._channel = channel
        self._spool = spool
        self._retry = retry
        self._silences = 0
        self.woken = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Deliver until told to stop."""
        while not stop.is_set():
            pause = self.deliver(stop)
            if pause > _IDLE_S:
                stop.wait(pause)  # what is new does not make a peer answer sooner
            elif pause:
                self.woken.wait(pause)
                self.woken.clear()

    def deliver(self, stop: threading.Event) -> float:
        """Send what is due, and return how long to wait before the next time, in seconds."""
        letters = self._give_up_old(self._spool.due(self._name, time.time()))[:_BATCH]
        if not letters:
            return _IDLE_S
        try:
            with closing(self._channel.send([one.path for one in letters])) as answers:
                for letter, refusal in zip(letters, answers, strict=False):
                    self._silences = 0
                    self._note(letter, refusal)
                    if stop.is_set():
                        break
        except Unreachable as error:
            return self._silence(str(error))
        return 0.0

    def _silence(self, reason: str) -> float:
        pause = _pause(self._retry, self._silences)
        self._silences += 1
        log.warning("%s: %s; next try in %.0f s", self._name, reason, pause)
        return pause

    def _note(self, letter: Letter, refusal: str) -> None:
        if not refusal:
            self._spool.delivered(letter)
            log.info("%s: %s delivered", self._name, letter.label)
        elif letter.attempts + 1 >= self._retry.max_attempts:
            self._bury(letter, f"refused {letter.attempts + 1} times, at last with: {refusal}")
        else:
            pause = _pause(self._retry, letter.attempts)
            self._spool.postpone(letter, refusal, time.time() + pause)
            log.warning("%s: %s refused (%s); again in %.0f s", self._name, letter.label, refusal, pause)

    def _give_up_old(self, letters: list[Letter]) -> list[Letter]:
        born = time.time() - self._retry.max_age_hours * _HOUR_S
        for letter in letters:
            if letter.queued_at < born:
                self._bury(letter, f"not delivered in {self._retry.max_age_hours:g} hours")
        return [letter for letter in letters if letter.queued_at >= born]

    def _bury(self, letter: Letter, reason: str) -> None:
        self._spool.bury(letter, reason)
        log.error("%s: %s is a dead letter: %s", self._name, letter.label, reason)


def calling_context(name: str, tls: Tls) -> ssl.SSLContext:
    """Return how a connection to a peer is wrapped.

    Raises:
        ConfigError: a file holds no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        context.check_hostname = tls.check_host
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"send {name!r}: the TLS files cannot be used ({error}): give PEM files") from None
    return context


def _pause(retry: Retry, failures: int) -> float:
    return float(min(retry.longest_s, retry.first_s * 2.0 ** min(failures, _DOUBLINGS)))
