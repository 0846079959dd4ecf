"""Assess what waits: each image in a worker process that may die or hang without ending the node."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from boneage import __version__
from boneage.core.errors import BoneAgeError, DeliveryError, InputError
from boneage.core.processes import Died, Raised, SteadyWorker, TimedOut
from boneage.dicomnode.settings import Assess, Destination
from boneage.dicomnode.spool import Spool, short
from boneage.inference.bundle import SHIPPED, read_manifest

if TYPE_CHECKING:
    from boneage.inference.assess import Assessor

log = logging.getLogger(__name__)

ASSESSED, REFUSED = "assessed", "refused"
"""States of a finished image."""

UNABLE = "unable"
"""State of an image that waits on: what stopped its assessment lies in the node and not in the image."""

_ATTEMPTS = 2
_IDLE_S = 1.0
_TROUBLE_S = 10.0
_STOPPING_S = 0.5


@dataclass(frozen=True, slots=True)
class Task:
    """An image to assess.

    Args:
        path: of the file.
        forms: to make, of `sr` and `capture`.
    """

    path: Path
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an image.

    Args:
        state: `ASSESSED`, `REFUSED` or `UNABLE`.
        digest: SHA-256 of the data set; empty where the file has none.
        code: of the error.
        message: of the error; no identifiers.
        results: form -> DICOM file.
    """

    state: str
    digest: str
    code: str = ""
    message: str = ""
    results: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """Makes a worker's function, in the worker's own process."""

    settings: Assess

    def __call__(self) -> Callable[[Task], Outcome]:
        """Load the bundle; one thread for every library.

        Raises:
            BoneAgeError: the bundle or the runtime cannot be used.
        """
        import cv2

        from boneage.inference.assess import Assessor
        from boneage.inference.bundle import Bundle

        # Libraries warn and log with values of the header, which may be names.
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        cv2.setNumThreads(1)
        bundle = Bundle.load(Path(self.settings.bundle) if self.settings.bundle else None)
        assessor = Assessor(bundle, runtime=self.settings.runtime, threads=1)
        return lambda task: assess(assessor, task)


def assess(assessor: Assessor, task: Task) -> Outcome:
    """Assess an image and make its results; a refusal is an outcome too.

    The results bear the date and time of the image's arrival, so that a repeat bears them too.
    """
    from boneage.dicomnode.objects import digest_of, instance_of
    from boneage.imaging.read import read_bytes
    from boneage.reporting.forms import Form, Source, read_header, render

    with task.path.open("rb") as file:
        content = file.read()
        arrived = int(os.fstat(file.fileno()).st_mtime)
    made_at = datetime.fromtimestamp(arrived, UTC).astimezone()
    digest = ""
    try:
        digest = digest_of(content)
        radiograph = read_bytes(content)
        source = Source(radiograph, read_header(content))
        assessment = assessor.assess(radiograph)
        sop_uid = str(source.header.SOPInstanceUID) if source.header is not None else ""
        results = {
            form: render(
                Form(form),
                assessment,
                source,
                instance=instance_of(sop_uid, digest, form, assessor.bundle.name, made_at),
            )
            for form in task.forms
        }
    except (InputError, DeliveryError) as error:
        return Outcome(REFUSED, digest, error.code, str(error))
    except BoneAgeError as error:
        return Outcome(UNABLE, digest, error.code, str(error))
    return Outcome(ASSESSED, digest, results=results)


def maker(settings: Assess) -> str:
    """Return what results depend on beside the image: the bundle, to its last byte, and the version.

    Raises:
        BundleError: there is no bundle.
    """
    manifest = read_manifest(Path(settings.bundle) if settings.bundle else SHIPPED)
    sums = json.dumps(manifest["checksums"], sort_keys=True)
    digest = hashlib.sha256(sums.encode("utf-8")).hexdigest()[:16]
    return f"{manifest['name']} {manifest['version']} {digest} {__version__}"


class Claims:
    """Shares waiting images out among threads: each is in one hand at a time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._next: list[str] = []

    def take(self) -> str | None:
        """Return the key of an image that nobody has, the oldest first; None where there is none."""
        with self._lock:
            if not self._next:
                self._next = [key for key in self._spool.waiting() if key not in self._held][::-1]
            if not self._next:
                return None
            key = self._next.pop()
            self._held.add(key)
            return key

    def give_back(self, key: str) -> None:
        """Let go of an image that is finished, or that another may try."""
        with self._lock:
            self._held.discard(key)


class Assessing:
    """Assesses images one after another, for one thread.

    Args:
        settings: how.
        spool: where images wait, and where results go.
        claims: shared with the other threads.
        send: the destinations.
        finished: called after each image with results.
    """

    def __init__(
        self,
        settings: Assess,
        spool: Spool,
        claims: Claims,
        send: tuple[Destination, ...],
        finished: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._claims = claims
        self._finished = finished
        self._worker: SteadyWorker[Task, Outcome] = SteadyWorker(Start(settings), settings.timeout_s)
        self._what = {one.name: one.what for one in send}
        wanted = {form for one in send for form in one.what}
        self._forms = tuple(form for form in ("sr", "capture") if form in wanted)
        self.woken = threading.Event()

    def prepare(self) -> None:
        """Load the worker.

        Raises:
            BoneAgeError: the bundle or the runtime cannot be used.
        """
        self._worker.prepare()

    def run(self, stop: threading.Event) -> None:
        """Assess until told to stop; the image in hand then waits for the next start."""
        while not stop.is_set():
            key = self._claims.take()
            if key is None:
                self.woken.wait(_IDLE_S)
                self.woken.clear()
                continue
            try:
                self._assess(key, stop)
            except FileNotFoundError:
                log.info("%s is gone from incoming", short(key))
            except (OSError, BoneAgeError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                log.error("cannot assess %s now (%s); it waits", short(key), reason)
                stop.wait(_TROUBLE_S)
            finally:
                self._claims.give_back(key)

    def interrupt(self) -> None:
        """End the task in hand, from another thread; its image waits on."""
        self._worker.interrupt()

    def close(self) -> None:
        """End the worker, after the thread."""
        self._worker.stop()

    def _assess(self, key: str, stop: threading.Event) -> None:
        status = self._spool.image(key)[1]
        attempts = self._spool.attempts(key, status)
        trouble = "the node itself ended while it was assessed, perhaps for want of memory"
        while attempts < _ATTEMPTS:
            outcome = self._attempt(key, status, attempts)
            if isinstance(outcome, Outcome):
                self._conclude(key, status, outcome)
                return
            # Whoever stops the node may end its workers too; that is no fault of the image.
            if stop.wait(_STOPPING_S):
                self._spool.set_attempts(key, status, attempts)
                return
            attempts += 1
            trouble = _described(outcome)
            log.error("%s: %s", short(key), trouble)
            if isinstance(outcome, Raised):
                break
        self._spool.bury_image(key, trouble)
        log.error("%s cannot be assessed: it lies in dead/images", short(key))

    def _attempt(self, key: str, status: os.stat_result, attempts: int) -> Outcome | Died | Raised | TimedOut:
        """Assess an image once; the attempt counts, unless it ends in an outcome or does not begin.

        Raises:
            BoneAgeError: no worker could be started, or it cannot assess anything now.
        """
        self._spool.set_attempts(key, status, attempts + 1)
        try:
            outcome = self._worker(Task(self._spool.image(key)[0], self._forms))
        except BoneAgeError:
            self._spool.set_attempts(key, status, attempts)
            raise
        if isinstance(outcome, Outcome):
            self._spool.set_attempts(key, status, 0)
            if outcome.state == UNABLE:
                self._worker.stop()  # the next may find what this one lacked
                raise BoneAgeError(f"{outcome.code}: {outcome.message}")
        return outcome

    def _conclude(self, key: str, status: os.stat_result, outcome: Outcome) -> None:
        note = {"state": outcome.state, "digest": outcome.digest}
        if outcome.state == REFUSED:
            note |= {"code": outcome.code, "message": outcome.message}
            log.info("%s refused: %s", short(key), outcome.code)
        results = {
            f"{name}/{form}": outcome.results[form]
            for name, what in self._what.items()
            for form in what
            if form in outcome.results
        }
        self._spool.publish(key, status, note, results)
        if results:
            log.info("%s assessed: %d results to send", short(key), len(results))
            self._finished()


def _described(trouble: Died | Raised | TimedOut) -> str:
    """Return what happened, without what the error said, in which a name may stand."""
    if isinstance(trouble, Died):
        return f"the worker process ended (exit code {trouble.exit_code}), perhaps for want of memory"
    if isinstance(trouble, TimedOut):
        return f"the worker process was stopped after {trouble.after_s:g} s"
    return f"unforeseen {trouble.kind}"
