"""All that runs behind the routes: the store, the workers, who waits for a job's end, the figures."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from boneage.core.errors import BoneAgeError, ConfigError, RuntimeUnavailable
from boneage.core.network import MIB
from boneage.core.processes import Died, Raised, SteadyWorker, TimedOut
from boneage.inference.bundle import Bundle
from boneage.reporting.tabular import Failure
from boneage.service.dispatch import Dispatcher, trouble_of
from boneage.service.metrics import Metrics
from boneage.service.settings import DATABASE, ServiceSettings, known_token, the_token
from boneage.service.store import Ending, State, Store
from boneage.service.work import AssessImages, MakeReports, Picture, Render, View

log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
_INTAKE = 4
"""Images that are in memory at once while they are stored."""

_MOST_WAITING = 64
"""Reports, or pictures, that may wait to be made."""

_LOOK_S = 1.0


class ReportFailed(Exception):
    """A report or picture could not be made: a code, and a message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Press:
    """A worker process for reports or pictures, one after another; it begins with its first task.

    It has a thread of its own: who waits for a report keeps no request waiting that needs none.

    Args:
        timeout_s: what a task may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._worker: SteadyWorker[Render | View, bytes | Picture | Failure] = SteadyWorker(
            MakeReports(), timeout_s
        )
        self._thread = ThreadPoolExecutor(1, "press")
        self._waiting = 0

    def start(self) -> None:
        """Load what drawing needs, so that the first task does not wait for it."""
        self._thread.submit(self._prepare)

    def stop(self) -> None:
        """End, whatever is being made."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._worker.interrupt()
        self._thread.shutdown()
        self._worker.stop()

    def _prepare(self) -> None:
        try:
            self._worker.prepare()
        except BoneAgeError as error:
            log.error("no process for reports can be started: %s", error)

    async def __call__(self, task: Render | View) -> Any:
        """Return what a task makes.

        Raises:
            ReportFailed: it could not be made, or too many wait.
        """
        if self._waiting >= _MOST_WAITING:
            raise ReportFailed(RuntimeUnavailable.code, "too many reports are being made: try again soon")
        self._waiting += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._worker, task)
        finally:
            self._waiting -= 1
        if isinstance(answer, Failure | Died | Raised | TimedOut):
            raise ReportFailed(*trouble_of(answer))
        return answer


class Server:
    """One server: made, started, stopped.

    Args:
        settings: what it is told.

    Raises:
        ConfigError: the data folder, the token or the database's URL cannot be used.
        BundleError: the bundle cannot be read.
        RuntimeUnavailable: the database cannot be reached.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        _make_private(Path(settings.data), settings.database)
        self.settings = settings
        self.token = the_token(settings)
        self.bundle = Bundle.load(Path(settings.bundle) if settings.bundle else None)
        self.store = Store(settings.url)
        self.store.migrate()
        self.dispatcher = Dispatcher(
            self.store,
            settings.name,
            AssessImages(settings.bundle, settings.runtime, settings.threads_each, settings.neighbours),
            workers=settings.workers,
            timeout_s=settings.job_s,
            retention_days=settings.retention_days,
            finished=self._job_ended,
        )
        self.metrics = Metrics(self.store.waiting, lambda: self.dispatcher.ready)
        self._reports = Press(settings.job_s)
        self._pictures = Press(settings.job_s)
        self.intake = asyncio.Semaphore(_INTAKE)
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._job_s = 1.0

    def start(self) -> None:
        """Begin to work; called on the event loop that answers requests."""
        self._loop = asyncio.get_running_loop()
        self.dispatcher.start()
        self._reports.start()
        self._pictures.start()

    def stop(self) -> None:
        """End; running jobs get some seconds, and what they leave goes on at the next start."""
        self.dispatcher.stop(_PATIENCE_S)
        self._reports.stop()
        self._pictures.stop()
        self.store.close()

    async def report(self, task: Render) -> bytes:
        """Make a report, in a process of its own.

        Raises:
            ReportFailed: it could not be made.
        """
        made: bytes = await self._reports(task)
        return made

    async def picture(self, task: View) -> Picture:
        """Make a picture for the viewer, likewise; it waits for no report.

        Raises:
            ReportFailed: it could not be made.
        """
        made: Picture = await self._pictures(task)
        return made

    def has_room(self, size: int = 0) -> bool:
        """Return whether so many bytes leave the disk enough room to end and delete what is there."""
        free = shutil.disk_usage(self.settings.data).free
        return bool(self.settings.database) or free - size >= self.settings.min_free_mib * MIB

    def retry_after_s(self) -> int:
        """Return after how many seconds a full queue should have room again."""
        return max(1, min(120, round(self._job_s * self.store.waiting() / self.settings.workers / 2)))

    def _job_ended(self, name: str, ending: Ending, seconds: float) -> None:
        """Take a job's end into the figures and tell who waits; in a thread of the dispatcher's."""
        self._job_s += 0.1 * (seconds - self._job_s)
        self.metrics.ended.labels(ending.state, ending.error_code or "").inc()
        self.metrics.job_seconds.observe(seconds)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, name)

    def _tell(self, name: str) -> None:
        for event in self._waiters.get(name, ()):
            event.set()

    async def ended_job(self, name: str, seconds: float) -> Any:
        """Return a job's row once it has ended, or as it is after some seconds; None if there is none."""
        event = asyncio.Event()
        until = asyncio.get_running_loop().time() + seconds
        self._waiters[name].add(event)
        try:
            while True:
                row = await run_in_threadpool(self.store.job, name)
                left = until - asyncio.get_running_loop().time()
                if row is None or State(row.state).ended or left <= 0:
                    return row
                try:
                    # Another server that shares the database may end the job; only looking tells.
                    await asyncio.wait_for(event.wait(), min(left, _LOOK_S))
                except TimeoutError:
                    continue
        finally:
            self._waiters[name].discard(event)
            if not self._waiters[name]:
                del self._waiters[name]


def the_server(request: Request) -> Server:
    """Return the server that a request came to."""
    server: Server = request.app.state.server
    return server


def check(settings: ServiceSettings) -> None:
    """Look whether a server could begin with its settings; nothing is made.

    Raises:
        ConfigError, BundleError, RuntimeUnavailable: as `Server`.
    """
    Bundle.load(Path(settings.bundle) if settings.bundle else None)
    known_token(settings)
    check_tls(settings)
    _check_folder(Path(settings.data))
    if settings.database or (Path(settings.data) / DATABASE).exists():
        store = Store(settings.url)
        try:
            store.reach()
        finally:
            store.close()


def _check_folder(folder: Path) -> None:
    """Refuse a data folder that could not be written or made; what is tried leaves nothing behind.

    Raises:
        ConfigError: it cannot be.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return
    except OSError as error:
        raise _no_folder(folder, error) from None


def _no_folder(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the data folder {folder} cannot be made ({error.strerror}): name another with --data"
    )


def check_tls(settings: ServiceSettings) -> None:
    """Refuse a certificate and a key that do not belong together, or cannot be read.

    Raises:
        ConfigError: it names both.
    """
    if not settings.tls_certificate:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise ConfigError(
            f"the certificate {settings.tls_certificate} with the key {settings.tls_key} cannot be used "
            f"({error.strerror or type(error).__name__}): name two PEM files that belong together"
        ) from None


def _make_private(folder: Path, database: str) -> None:
    """Make the data folder, and the file of its own database, for their owner's eyes alone.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not database:
            (folder / DATABASE).touch(mode=0o600)
    except OSError as error:
        raise _no_folder(folder, error) from None
