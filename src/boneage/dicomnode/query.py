"""Fetch images from a DICOMweb server: ask what is new, and take what is not known."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta

from boneage.core.errors import DeliveryError
from boneage.core.network import MIB
from boneage.dicomnode import objects
from boneage.dicomnode.dicomweb import Found, WebClient
from boneage.dicomnode.sender import Unreachable
from boneage.dicomnode.settings import NodeSettings, Query
from boneage.dicomnode.spool import Spool, key_of, short
from boneage.dicomnode.work import REFUSED

log = logging.getLogger(__name__)

_ATTEMPTS = 5


class WebQuery:
    """Asks one server again and again.

    Args:
        query: whom, and for what.
        settings: the node's.
        spool: where images go.
        arrived: called after each that is new.

    Raises:
        ConfigError: a file of secrets or certificates cannot be used.
        RuntimeUnavailable: httpx is not installed.
    """

    def __init__(
        self, query: Query, settings: NodeSettings, spool: Spool, arrived: Callable[[], None]
    ) -> None:
        self._query = query
        self._max_bytes = settings.receive.max_object_mb * MIB
        self._spool = spool
        self._arrived = arrived
        self._failures: Counter[str] = Counter()
        self._client = WebClient(query.name, query.web)

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop."""
        while not stop.is_set():
            try:
                self.ask(stop, date.today())
            except Unreachable as error:
                log.warning("query %s: %s; next try in %g s", self._query.name, error, self._query.every_s)
            except OSError as error:
                log.error("query %s: cannot store an image (%s)", self._query.name, error.strerror)
            stop.wait(self._query.every_s)

    def check(self) -> None:
        """Ask for one image.

        Raises:
            DeliveryError: the server does not answer as it should.
        """
        for _ in self._client.search(self._wanted(date.today()), limit=1):
            pass

    def ask(self, stop: threading.Event, today: date) -> int:
        """Ask once, and take what is new; return how many that were.

        Raises:
            Unreachable: the server does not answer; what was taken before is taken.
            OSError: the spool cannot be written.
        """
        taken = 0
        for found in self._client.search(self._wanted(today)):
            if stop.is_set():
                break
            if found.sop_class in ("", *objects.IMAGE_CLASSES) and not self._spool.knows(
                key_of(found.instance)
            ):
                taken += self._take(found)
        return taken

    def _wanted(self, today: date) -> dict[str, str]:
        since = today - timedelta(days=self._query.days)
        return {"StudyDate": f"{since:%Y%m%d}-{today:%Y%m%d}", **self._query.filter}

    def _take(self, found: Found) -> bool:
        key = key_of(found.instance)
        try:
            content = self._client.fetch(found, self._max_bytes)
            accepted = objects.inspect_file(content, self._max_bytes)
            if accepted.sop_uid != found.instance:
                raise objects.Unacceptable(objects.MISMATCH, "it is not the instance that was asked for")
        except Unreachable:
            raise
        except (DeliveryError, objects.Unacceptable) as error:
            log.warning("query %s: %s not taken: %s", self._query.name, short(key), error)
            self._failures[key] += 1
            if isinstance(error, objects.Unacceptable) or self._failures[key] >= _ATTEMPTS:
                self._spool.remember(key, {"state": REFUSED, "code": error.code, "message": str(error)})
            return False
        if accepted.is_own:
            self._spool.remember(key, {"state": REFUSED, "code": "own_result", "message": "a result of ours"})
            return False
        if self._spool.is_full(len(content)):
            raise Unreachable("less than min_free_mb would stay free on the spool's disk")
        self._spool.take(key, [content], accepted.digest)
        log.info("%s taken from query %s", short(key), self._query.name)
        self._arrived()
        return True
