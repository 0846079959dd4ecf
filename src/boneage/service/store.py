"""Jobs, their images and results in one database: what is accepted is there, and what is deleted is gone.

An image lies in the database too, so that a job is accepted, repeated or deleted in one transaction, and
several servers that share a PostgreSQL database need no folder in common.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from boneage.core.errors import ConfigError, RuntimeUnavailable

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("state", String(8), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float, index=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("server", String(255)),
    Column("lease_until", Float),
    Column("key", String(64), unique=True),
    Column("request", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("label", Text, nullable=False),
    Column("patient", JSON, nullable=False),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("assessment", Text),
    Column("grades", JSON, nullable=False),
    Column("sex", String(6)),
    Column("bone_age_months", Float),
    Column("chronological_age_months", Float),
    Column("sd_score", Float),
    Column("changed", Boolean, nullable=False, default=False),
)

images = Table(
    "images",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)


class State(StrEnum):
    """Where a job is; the last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (State.QUEUED, State.RUNNING)


class QueueFull(Exception):
    """As many jobs wait as may."""


class KeyReused(Exception):
    """The idempotency key belongs to another request."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to assess an image.

    Args:
        content: the image's file.
        kind: what the content is, as `dicom`.
        patient: what is said of the patient: `sex`, `age_months` and measurements.
        request: digest of all that makes the request, to know its repetition.
        key: digest of the idempotency key, None where there is none.
        label: the sender's own words, for the worklist.
    """

    content: bytes
    kind: str
    patient: Mapping[str, Any]
    request: str
    key: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: with an assessment, or an error."""

    state: State
    assessment: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    summary: Mapping[str, Any] | None = None


class Store:
    """The database of one server.

    Args:
        url: SQLAlchemy's.

    Raises:
        ConfigError: it is no URL of a database that the service knows.
        RuntimeUnavailable: the database cannot be reached, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._sqlite = self.engine.dialect.name == "sqlite"

    def migrate(self) -> None:
        """Bring the tables to this version's shape.

        Raises:
            RuntimeUnavailable: the database cannot be reached or written.
        """
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with self.engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except SQLAlchemyError as error:
            raise _unreachable(error) from error

    def reach(self) -> None:
        """Connect, and change nothing.

        Raises:
            RuntimeUnavailable: the database cannot be reached.
        """
        try:
            with self.engine.connect():
                pass
        except SQLAlchemyError as error:
            raise _unreachable(error) from error

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    def check(self) -> None:
        """Ask the database for anything at all."""
        with self._reading() as connection:
            connection.execute(select(func.count()).select_from(jobs).limit(1))

    def submit(self, submission: Submission, capacity: int) -> tuple[str, bool]:
        """Accept a job; when this returns it is kept. Return its id, and whether it is new.

        Raises:
            KeyReused: the key came with another request before.
            QueueFull: `capacity` jobs wait.
        """
        try:
            with self._writing() as connection:
                if (known := self._same(connection, submission)) is not None:
                    return known, False
                if self._count(connection, State.QUEUED) >= capacity:
                    raise QueueFull
                name = _new_id()
                connection.execute(
                    insert(jobs).values(
                        id=name,
                        state=State.QUEUED,
                        created_at=time.time(),
                        key=submission.key,
                        request=submission.request,
                        kind=submission.kind,
                        label=submission.label,
                        patient=dict(submission.patient),
                        grades={},
                    )
                )
                connection.execute(insert(images).values(job=name, content=submission.content))
                return name, True
        except IntegrityError:
            # The same key at the same moment, through another server.
            with self._reading() as connection:
                known = self._same(connection, submission)
            if known is None:
                raise
            return known, False

    def _same(self, connection: Connection, submission: Submission) -> str | None:
        """Return the job that the same key made."""
        if submission.key is None:
            return None
        row = connection.execute(
            select(jobs.c.id, jobs.c.request).where(jobs.c.key == submission.key)
        ).first()
        if row is None:
            return None
        if row.request != submission.request:
            raise KeyReused
        return str(row.id)

    def claim(self, server: str, lease_s: float) -> Row[Any] | None:
        """Take the job that has waited longest, for this server; None where none waits."""
        now = time.time()
        with self._writing() as connection:
            waiting = select(jobs.c.id).where(jobs.c.state == State.QUEUED).order_by(jobs.c.id).limit(1)
            name = connection.execute(waiting.with_for_update(skip_locked=True)).scalar()
            if name is None:
                return None
            connection.execute(
                update(jobs)
                .where(jobs.c.id == name)
                .values(
                    state=State.RUNNING,
                    started_at=now,
                    server=server,
                    lease_until=now + lease_s,
                    attempts=jobs.c.attempts + 1,
                )
            )
            return connection.execute(_whole().where(jobs.c.id == name)).first()

    def finish(self, name: str, ending: Ending) -> None:
        """Record how a running job ended; one that was deleted meanwhile stays deleted."""
        with self._writing() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == name, jobs.c.state == State.RUNNING)
                .values(
                    state=ending.state,
                    finished_at=time.time(),
                    assessment=ending.assessment,
                    error_code=ending.error_code,
                    error_message=_writable(ending.error_message),
                    lease_until=None,
                    **(ending.summary or {}),
                )
            )

    def release(self, name: str, counted: bool) -> None:
        """Put a running job back into the queue; `counted` says whether the attempt was one."""
        with self._writing() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == name, jobs.c.state == State.RUNNING)
                .values(
                    state=State.QUEUED, lease_until=None, attempts=jobs.c.attempts - (0 if counted else 1)
                )
            )

    def recover(self, server: str) -> int:
        """Put back into the queue what this server ran when it was killed; return how many jobs that are."""
        return self._requeue(jobs.c.server == server)

    def expire_leases(self) -> int:
        """Put back into the queue what another server took and never ended; return how many jobs that are."""
        return self._requeue(jobs.c.lease_until < time.time())

    def _requeue(self, condition: Any) -> int:
        with self._writing() as connection:
            done = connection.execute(
                update(jobs)
                .where(jobs.c.state == State.RUNNING, condition)
                .values(state=State.QUEUED, lease_until=None)
            )
            return int(done.rowcount)

    def job(self, name: str) -> Row[Any] | None:
        """Return a job's row, without its image."""
        with self._reading() as connection:
            return connection.execute(select(jobs).where(jobs.c.id == name)).first()

    def job_with_image(self, name: str) -> Row[Any] | None:
        """Return a job's row with its image as `content`."""
        with self._reading() as connection:
            return connection.execute(_whole().where(jobs.c.id == name)).first()

    def position(self, name: str) -> int:
        """Return how many waiting jobs come before one, and it: 1 is the next."""
        with self._reading() as connection:
            query = select(func.count()).select_from(jobs)
            found = connection.execute(query.where(jobs.c.state == State.QUEUED, jobs.c.id <= name)).scalar()
            return int(found or 0)

    def page(self, limit: int, before: str | None) -> list[Row[Any]]:
        """Return at most `limit` jobs, newest first, older than the job `before`; without assessments."""
        columns = [column for column in jobs.c if column.name not in ("assessment", "patient", "request")]
        query = select(*columns).order_by(jobs.c.id.desc()).limit(limit)
        with self._reading() as connection:
            found = connection.execute(query if before is None else query.where(jobs.c.id < before))
            return list(found)

    def waiting(self) -> int:
        """Return how many jobs wait."""
        with self._reading() as connection:
            return self._count(connection, State.QUEUED)

    def _count(self, connection: Connection, state: State) -> int:
        query = select(func.count()).select_from(jobs).where(jobs.c.state == state)
        return int(connection.execute(query).scalar() or 0)

    def read_over(self, name: str, grades: Mapping[str, Any], changed: bool) -> None:
        """Keep a reader's grades beside the network's."""
        with self._writing() as connection:
            values = {"grades": dict(grades), "changed": changed}
            connection.execute(update(jobs).where(jobs.c.id == name).values(**values))

    def delete(self, name: str) -> bool:
        """Delete a job, its image and its result; return whether there was one."""
        with self._writing() as connection:
            connection.execute(images.delete().where(images.c.job == name))
            gone = connection.execute(jobs.delete().where(jobs.c.id == name)).rowcount
        if gone:
            self.wipe()
        return bool(gone)

    def purge(self, days: float) -> int:
        """Delete ended jobs older than some days, with images and results; return how many."""
        old = select(jobs.c.id).where(jobs.c.finished_at < time.time() - days * 86400)
        with self._writing() as connection:
            connection.execute(images.delete().where(images.c.job.in_(old)))
            gone = int(connection.execute(jobs.delete().where(jobs.c.id.in_(old))).rowcount)
        self.wipe()
        return gone

    def wipe(self) -> None:
        """Leave nothing of what was deleted in SQLite's files: it overwrites pages, but keeps a journal.

        What another connection still reads stays there; to call this again wipes it later.
        """
        if self._sqlite:
            with self._reading() as connection:
                driver: Any = connection.connection.driver_connection
                driver.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")


def _unreachable(error: SQLAlchemyError) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"the service's database cannot be opened ({type(error).__name__}): check that it runs, that the URL "
        "is right, that its disk has room and that this user may write to it"
    )


def _whole() -> Select[Any]:
    return select(jobs, images.c.content).join(images, images.c.job == jobs.c.id)


def _writable(text: str | None) -> str | None:
    """Return a text without what no database takes; a message may quote a damaged file."""
    return None if text is None else text.encode("utf-8", "replace").decode().replace("\0", "?")


def _new_id() -> str:
    """Return an id that nobody can guess and that sorts by time."""
    return f"{time.time_ns() // 1000:016x}"[-14:] + secrets.token_hex(9)


def _engine(url: str) -> Engine:
    try:
        # What is sent names patients, and the text of an error may end in a log.
        engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"), hide_parameters=True)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError(
            "database must be a URL as postgresql+psycopg://user@host/name, with its driver installed, not "
            f"what was given ({type(error).__name__}): correct it, or leave it out for SQLite"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_at_once)
    elif engine.dialect.name != "postgresql":
        raise ConfigError(
            f"database is {engine.dialect.name}; the service knows SQLite and PostgreSQL: name one"
        )
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_at_once`
    for pragma in (
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = FULL",  # what was accepted outlives a power cut
        "secure_delete = ON",
        "foreign_keys = ON",
        "busy_timeout = 10000",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_at_once(connection: Connection) -> None:
    """Take SQLite's one writing lock at the start; to take it later may fail instead of waiting."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
