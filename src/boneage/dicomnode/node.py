"""The node: its parts, each in its thread, from the start to a graceful stop."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom.config

from boneage.core.errors import BoneAgeError
from boneage.core.network import MIB
from boneage.dicomnode import upkeep
from boneage.dicomnode.checks import check
from boneage.dicomnode.dicomweb import StowChannel
from boneage.dicomnode.query import WebQuery
from boneage.dicomnode.receiver import Receiver
from boneage.dicomnode.sender import Channel, Sender, StoreChannel
from boneage.dicomnode.settings import Destination, NodeSettings
from boneage.dicomnode.spool import Spool
from boneage.dicomnode.watch import FolderWatch
from boneage.dicomnode.work import Assessing, Claims, maker

log = logging.getLogger(__name__)

Loop = Callable[[threading.Event], None]

_GRACE_S = 10.0
_TROUBLE_S = 5.0
_UPKEEP_S = 600.0


class Node:
    """Everything that runs, from `start` to `stop`.

    Args:
        settings: what it is told.

    Raises:
        ConfigError: the settings cannot work.
        BundleError: there is no bundle.
        RuntimeUnavailable: a package is missing.
    """

    def __init__(self, settings: NodeSettings) -> None:
        check(settings)
        self._settings = settings
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._spool = Spool(
            Path(settings.spool),
            [one.name for one in settings.send],
            maker(settings.assess),
            settings.receive.min_free_mb * MIB,
        )
        claims = Claims(self._spool)
        self._assessing = [
            Assessing(settings.assess, self._spool, claims, settings.send, self._wake_senders)
            for _ in range(settings.assess.workers)
        ]
        self._senders = {
            one.name: Sender(one.name, channel(one, settings.ae_title), self._spool, settings.retry)
            for one in settings.send
        }
        self._sources: dict[str, Any] = {
            f"query-{one.name}": WebQuery(one, settings, self._spool, self._wake_assessing)
            for one in settings.query
        }
        if settings.watch.folder:
            self._sources["watch"] = FolderWatch(settings, self._spool, self._wake_assessing)
        self._receiver = Receiver(settings, self._spool, self._wake_assessing)

    def start(self) -> None:
        """Listen, load the workers, and take up what the spool holds.

        Raises:
            BoneAgeError: the spool, the bundle or the address cannot be used.
        """
        self._spool.open()
        try:
            if self._settings.receive.port:
                self._receiver.start()
            for assessing in self._assessing:
                assessing.prepare()
        except BoneAgeError:
            self.stop()
            raise
        for number, assessing in enumerate(self._assessing):
            self._run(f"assess-{number}", assessing.run)
        for name, sender in self._senders.items():
            self._run(f"send-{name}", sender.run)
        for name, source in self._sources.items():
            self._run(name, source.run)
        self._run("upkeep", self._keep_up)
        self._say_what_waits()

    def stop(self) -> None:
        """Take nothing more, finish what is in hand for a while, and give the spool back."""
        self._stop.set()
        self._receiver.stop(_GRACE_S)
        self._wake_assessing()
        self._wake_senders()
        end = time.monotonic() + _GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for assessing in self._assessing:
            assessing.interrupt()
        for thread in self._threads:
            thread.join(_TROUBLE_S)
        for assessing in self._assessing:
            assessing.close()
        self._spool.close()

    def serve(self) -> None:
        """Start, run until SIGTERM or Ctrl-C, and stop.

        Raises:
            BoneAgeError: as `start`.
        """
        told = threading.Event()
        with _signals(told), _quiet_libraries():
            self.start()
            try:
                receive = self._settings.receive
                if receive.port:
                    log.info("%s listens on %s:%d", self._settings.ae_title, receive.host, receive.port)
                told.wait()
                log.info("stopping; what waits in the spool goes on at the next start")
            finally:
                self.stop()

    def _run(self, name: str, loop: Loop) -> None:
        thread = threading.Thread(target=self._steadily, args=(name, loop), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _steadily(self, name: str, loop: Loop) -> None:
        """Run a loop, and begin it anew where something unforeseen ends it."""
        while not self._stop.is_set():
            try:
                loop(self._stop)
            except Exception as error:  # noqa: BLE001 - one part must not end the others, nor itself for good
                log.error("%s: unforeseen %s; it begins anew", name, type(error).__name__)
                log.debug("%s", name, exc_info=True)
                self._stop.wait(_TROUBLE_S)

    def _keep_up(self, stop: threading.Event) -> None:
        while not stop.is_set():
            gone = upkeep.expire(
                self._spool, self._settings.retention_hours, self._settings.dead_retention_hours
            )
            if gone:
                log.info("%d notes and dead letters were deleted for their age", gone)
            stop.wait(_UPKEEP_S)

    def _wake_assessing(self) -> None:
        for assessing in self._assessing:
            assessing.woken.set()

    def _wake_senders(self) -> None:
        for sender in self._senders.values():
            sender.woken.set()

    def _say_what_waits(self) -> None:
        found = upkeep.counts(self._spool)
        log.info("the spool holds %d images and %d results", found["waiting"], sum(found["outbox"].values()))
        for name in sorted(set(found["outbox"]) - set(self._senders)):
            if found["outbox"][name]:
                log.warning("results wait for %s, which is no destination any more", name)


def channel(destination: Destination, calling_title: str) -> Channel:
    """Return the way to a destination.

    Raises:
        ConfigError: its files of certificates or secrets cannot be used.
        RuntimeUnavailable: a package is missing.
    """
    if destination.kind == "dicomweb":
        return StowChannel(destination.name, destination.web)
    return StoreChannel(destination, calling_title)


def check_peers(settings: NodeSettings) -> dict[str, str]:
    """Return for each destination and query why it does not answer, an empty text where it does.

    Raises:
        ConfigError: the settings cannot work.
        BundleError: there is no bundle.
        RuntimeUnavailable: a package is missing.
    """
    check(settings)
    maker(settings.assess)
    spool = Spool(Path(settings.spool))
    asked: dict[str, Callable[[], None]] = {
        f"{one.name} ({one.address})": channel(one, settings.ae_title).check for one in settings.send
    }
    for one in settings.query:
        asked[f"{one.name} ({one.web.url})"] = WebQuery(one, settings, spool, lambda: None).check
    answers = {}
    with _quiet_libraries():
        for name, ask in asked.items():
            try:
                ask()
                answers[name] = ""
            except BoneAgeError as error:
                answers[name] = str(error)
    return answers


@contextmanager
def _signals(told: threading.Event) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C ask for a graceful stop."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: told.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep what DICOM libraries say out of the log: they quote values of headers, which may be names."""
    loggers = [
        logging.getLogger(name) for name in ("pynetdicom", "pydicom", "highdicom", "httpx", "httpcore")
    ]
    before = [one.propagate for one in loggers]
    hook = threading.excepthook
    for one in loggers:
        one.propagate = False
    threading.excepthook = _thread_ended
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        threading.excepthook = hook
        for one, propagated in zip(loggers, before, strict=True):
            one.propagate = propagated


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    """Say in one line that a thread of an association ended, as pynetdicom's do on nonsense from a peer."""
    log.info("a connection's thread ended: %s", arguments.exc_type.__name__)
