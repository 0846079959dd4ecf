"""What a server is told: one frozen dataclass, from one TOML file."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from boneage.core.errors import ConfigError
from boneage.core.network import is_loopback
from boneage.core.runtime import DEFAULT_RUNTIME

DATABASE = "boneage.sqlite"
TOKEN = "token"


@dataclass(frozen=True)
class ServiceSettings:
    """The settings of `boneage serve`.

    Args:
        host: address to listen on; beyond loopback every request needs the token.
        port: likewise; 0 takes a free one.
        data: folder of the database and the token; made where it is absent.
        database: SQLAlchemy URL of a PostgreSQL database, as `postgresql+psycopg://user@host/name`; empty
            takes an SQLite file in `data`.
        token_file: file whose first line is the token; empty takes the environment's BONEAGE_TOKEN, else, off
            loopback, a token made once and kept in `data`.
        bundle: folder of another bundle than the shipped one.
        runtime: `onnxruntime` or `openvino`.
        workers: processes that assess.
        threads: of the runtime in each; 0 shares the processors out.
        queue: accepted jobs that may wait; one more is answered 429.
        upload_mib: largest body of a request.
        upload_s: time a request's body may take to arrive.
        idle_s: time a connection may stay without a request.
        neighbours: whether results tell which training hands are alike; takes a quarter more time.
        job_s: time an assessment may take, and a report.
        min_free_mib: MiB that stay free on the disk of `data`, so that what is there can be ended and
            deleted; beyond them uploads are answered 507.
        connections: served at once; beyond them 503.
        retention_days: after which an ended job is deleted with its image; 0 keeps it for ever.
        tls_certificate: PEM file, with `tls_key`; empty serves plain HTTP.
        tls_key: its private key.
        server: this server's name among those that share a database; empty takes host name and port.
    """

    host: str = "127.0.0.1"
    port: int = 8077
    data: str = "boneage-data"
    database: str = ""
    token_file: str = ""
    bundle: str = ""
    runtime: str = DEFAULT_RUNTIME
    workers: int = 1
    neighbours: bool = False
    threads: int = 0
    queue: int = 100
    upload_mib: int = 64
    upload_s: float = 60.0
    idle_s: float = 15.0
    job_s: float = 60.0
    min_free_mib: int = 512
    connections: int = 512
    retention_days: float = 30.0
    tls_certificate: str = ""
    tls_key: str = ""
    server: str = ""

    def __post_init__(self) -> None:
        """Check what no server could run with."""
        for name in ("workers", "queue", "upload_mib", "connections"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, not {getattr(self, name)}: raise it")
        for name in ("upload_s", "idle_s", "job_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be seconds above 0, not {getattr(self, name)}: raise it")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be from 0 to 65535, not {self.port}: name another")
        if self.threads < 0 or self.min_free_mib < 0 or not self.retention_days >= 0:
            raise ConfigError("threads, min_free_mib and retention_days must be 0 or more: raise them")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ConfigError("tls_certificate and tls_key belong together: give both, or none")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def name(self) -> str:
        """The server's name among those that share a database."""
        return self.server or f"{socket.gethostname()}:{self.port}"

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database."""
        return self.database or f"sqlite:///{Path(self.data).resolve() / DATABASE}"

    @property
    def threads_each(self) -> int:
        """Threads of the runtime in each worker."""
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        return self.threads or max(1, min(8, processors // self.workers))


def the_token(settings: ServiceSettings) -> str | None:
    """Return the token that requests must bear; None on loopback where none is set.

    Off loopback, where none is set, one is made and kept in the data folder, readable by its owner alone.

    Raises:
        ConfigError: the token's file cannot be read or made, or holds none.
    """
    known = known_token(settings)
    return _made_token(settings) if known is None and not settings.loopback else known


def known_token(settings: ServiceSettings) -> str | None:
    """Return the token that is set, or was made before; None where there is none.

    Raises:
        ConfigError: the token's file cannot be read, or holds none.
    """
    if settings.token_file:
        return _read_token(Path(settings.token_file))
    if given := os.environ.get("BONEAGE_TOKEN", "").strip():
        return _checked(given, "BONEAGE_TOKEN")
    kept = Path(settings.data) / TOKEN
    return _read_token(kept) if kept.exists() else None


def _made_token(settings: ServiceSettings) -> str:
    kept = Path(settings.data) / TOKEN
    token = secrets.token_urlsafe(32)
    try:
        kept.touch(mode=0o600, exist_ok=False)
        kept.write_text(token + "\n", encoding="ascii")
    except OSError as error:
        raise ConfigError(
            f"the token cannot be kept in {kept} ({error.strerror}): name a token_file"
        ) from None
    return token


def _read_token(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ConfigError(f"the token file {path} cannot be read ({reason}): name another") from None
    return _checked(lines[0].strip() if lines else "", str(path))


def _checked(token: str, where: str) -> str:
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where} must hold a token of 16 or more printable ASCII characters without blanks: make one "
            "with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return token
