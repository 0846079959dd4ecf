"""Runs jobs: threads that each hold one worker process, and a housekeeper."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import OperationalError

from boneage.core.errors import BoneAgeError
from boneage.core.processes import Died, Raised, SteadyWorker, TimedOut
from boneage.reporting.tabular import REJECTED, Failure
from boneage.service.store import Ending, State, Store
from boneage.service.work import Assess, Assessed

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often an image is tried that brings its worker down."""

MOST_ATTEMPTS = 5
"""How often one is taken at all: what brings the whole server down each time would do so for ever."""

_LOOK_S = 1.0
"""How often a thread looks for jobs that another server left."""

_RESTART_S = 5.0
_HOUSEKEEPING_S = 60.0
_LEASE_ROOM_S = 60.0

Finished = Callable[[str, Ending, float], None]


class Dispatcher:
    """Takes jobs from the store and ends them.

    Args:
        store: where jobs are.
        server: this server's name in it.
        start: of the workers, as `work.AssessImages`.
        workers: how many.
        timeout_s: what an assessment may take.
        retention_days: after which ended jobs are deleted; 0 keeps them.
        finished: called, from a thread of the dispatcher's, with every job's id, ending and seconds.
    """

    def __init__(
        self,
        store: Store,
        server: str,
        start: Callable[[], Callable[[Assess], Assessed | Failure]],
        *,
        workers: int,
        timeout_s: float,
        retention_days: float,
        finished: Finished,
    ) -> None:
        self._store = store
        self._server = server
        self._timeout_s = timeout_s
        self._retention_days = retention_days
        self._finished = finished
        self._work: threading.Condition = threading.Condition()
        self._stopping = threading.Event()
        self._ready = [threading.Event() for _ in range(workers)]
        self._workers: list[SteadyWorker[Assess, Assessed | Failure]] = [
            SteadyWorker(start, timeout_s) for _ in range(workers)
        ]
        self._threads = [
            threading.Thread(target=self._serve, args=(at,), name=f"assess-{at}") for at in range(workers)
        ]
        self._threads.append(threading.Thread(target=self._keep_house, name="housekeeping"))
        self.trouble: str | None = None

    @property
    def ready(self) -> bool:
        """Whether a worker can take a job."""
        return any(event.is_set() for event in self._ready)

    def start(self) -> None:
        """Take up what was left by this server when it ended, and begin."""
        left = self._store.recover(self._server)
        if left:
            log.info("%d jobs go on that an earlier run of this server left", left)
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that there is a job."""
        with self._work:
            self._work.notify()

    def stop(self, patience_s: float) -> None:
        """End: running jobs get some seconds to finish; what does not goes back into the queue."""
        self._stopping.set()
        with self._work:
            self._work.notify_all()
        until = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for worker in self._workers:
            worker.interrupt()
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.stop()

    def _serve(self, at: int) -> None:
        while not self._stopping.is_set():
            try:
                self._workers[at].prepare()
                self._ready[at].set()
                self.trouble = None
                if self._stopping.is_set():  # told while the worker started
                    return
                if not self._run_one(self._workers[at]):
                    with self._work:
                        self._work.wait(_LOOK_S)
            except BoneAgeError as error:
                if self._stopping.is_set():
                    return
                self._ready[at].clear()
                self.trouble = str(error)
                log.error("no worker can be started: %s", error)
                self._stopping.wait(_RESTART_S)
            except Exception:  # a database that is away comes back; the thread must be there then
                log.exception("a job could not be taken or ended; trying again")
                self._stopping.wait(_RESTART_S)

    def _run_one(self, worker: SteadyWorker[Assess, Assessed | Failure]) -> bool:
        """Take a job and end it; return whether there was one."""
        row = self._store.claim(self._server, 2 * self._timeout_s + _LEASE_ROOM_S)
        if row is None:
            return False
        if row.attempts > MOST_ATTEMPTS:
            log.error(
                "job %s: given up, as the server ended %d times while it was read", row.id, MOST_ATTEMPTS
            )
            self._end(row.id, _given_up(), 0.0)
            return True
        began = time.monotonic()
        try:
            answer = worker(Assess(row.content, row.patient))
        except BoneAgeError:
            self._store.release(row.id, counted=False)
            raise
        if isinstance(answer, Died):
            if self._stopping.is_set():
                self._store.release(row.id, counted=False)
                return True
            if row.attempts < ATTEMPTS:
                log.warning("job %s: its worker ended (exit code %s); once more", row.id, answer.exit_code)
                self._store.release(row.id, counted=True)
                return True
        self._end(row.id, ending_of(answer), time.monotonic() - began)
        return True

    def _end(self, name: str, ending: Ending, seconds: float) -> None:
        """Record how a job ended; a database that is away comes back, and the work need not be done again."""
        while True:
            try:
                self._store.finish(name, ending)
                break
            except OperationalError as error:
                log.error("job %s: its end cannot be kept yet (%s)", name, type(error).__name__)
                if self._stopping.wait(_RESTART_S):
                    raise
        log.info("job %s: %s in %.2f s", name, ending.error_code or ending.state, seconds)
        self._finished(name, ending, seconds)

    def _keep_house(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._store.expire_leases():
                    self.wake()
                if self._retention_days and (gone := self._store.purge(self._retention_days)):
                    log.info("%d jobs are older than the retention and were deleted", gone)
                self._store.wipe()  # also what could not be wiped when it was deleted
            except Exception:  # as in `_serve`
                log.exception("housekeeping failed; trying again")
            self._stopping.wait(_HOUSEKEEPING_S)


def ending_of(answer: Assessed | Failure | Died | Raised | TimedOut) -> Ending:
    """Return how a job ends with an answer."""
    if isinstance(answer, Assessed):
        return Ending(State.DONE, answer.assessment, summary=answer.summary)
    code, message = trouble_of(answer)
    rejected = isinstance(answer, Failure) and answer.status == REJECTED
    return Ending(State.REJECTED if rejected else State.FAILED, error_code=code, error_message=message)


def _given_up() -> Ending:
    """Return how a job ends that was being read each time the server ended."""
    message = (
        f"the server ended {MOST_ATTEMPTS} times while the image was read: send it once more; if that does "
        "not help, export it again"
    )
    return Ending(State.FAILED, error_code="worker_died", error_message=message)


def trouble_of(answer: Failure | Died | Raised | TimedOut) -> tuple[str, str]:
    """Return code and message of an answer that is none."""
    if isinstance(answer, Failure):
        return answer.code, answer.message
    if isinstance(answer, TimedOut):
        return "timed_out", (
            f"the image took longer than {answer.after_s:g} seconds and was given up: send it once more, or "
            "a smaller export of it"
        )
    if isinstance(answer, Died):
        return "worker_died", (
            f"the process that read the image ended (exit code {answer.exit_code}): export the image again; "
            "if that does not help, report it"
        )
    # Its text may name a patient: neither kept nor shown.
    return "unforeseen", f"an unforeseen error ({answer.kind}): report it with the server's version"
