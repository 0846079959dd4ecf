"""Makes the stand-ins of tests/fakes importable, in worker processes too; a real PostgreSQL where it is."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import sqlalchemy

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from service_fakes import Hand, Served

from boneage.core.types import Sex
from boneage.data.synthetic import draw_hand
from boneage.inference.bundle import SHIPPED


@pytest.fixture(autouse=True)
def _no_token_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BONEAGE_TOKEN", raising=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """SQLAlchemy's URL of a PostgreSQL server that lives as long as the tests, on a socket file."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb", path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("no PostgreSQL server: initdb is neither on PATH nor in /usr/lib/postgresql")
    programs = Path(found).resolve().parent
    as_user = _as_unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="boneage-pg-", dir="/tmp"))  # a socket's path must be short
    try:
        if as_user:
            shutil.chown(folder, "postgres")
        run = [*as_user, str(programs / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "tests"]
        subprocess.run([*run, "--no-sync", "-E", "UTF8"], check=True, capture_output=True, cwd="/")
        control = [*as_user, str(programs / "pg_ctl"), "-D", str(folder / "data"), "-w"]
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        start = [*control, "-l", str(folder / "log"), "-o", options, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql+psycopg://tests@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd="/")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """SQLAlchemy's URL of a PostgreSQL database of the test's own."""
    server = sqlalchemy.create_engine(postgres, isolation_level="AUTOCOMMIT")
    name = f"jobs_{secrets.token_hex(4)}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server.url.set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


def _as_unprivileged_user() -> list[str]:
    """Return what to put before a command so that PostgreSQL, which refuses root, runs."""
    if os.geteuid() != 0:
        return []
    known = subprocess.run(["id", "postgres"], check=False, capture_output=True).returncode == 0
    if not known or shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres to run it as")
    return ["runuser", "-u", "postgres", "--"]


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The shipped bundle's folder."""
    if not (SHIPPED / "manifest.json").is_file():
        pytest.skip(f"no shipped bundle: {SHIPPED}/manifest.json is absent")
    return SHIPPED


@pytest.fixture(scope="session")
def hand() -> Hand:
    """A real radiograph where there are some, else a drawn hand."""
    root = Path(os.environ.get("BONEAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    real = root / "rsna" / "images" / "1377.jpg"
    if real.is_file():
        content = real.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        return Hand(content, np.asarray(pixels, np.uint8), "female")
    drawn = np.rint(draw_hand(120, Sex.FEMALE, 3).pixels * 255).astype(np.uint8)
    return Hand(cv2.imencode(".png", drawn)[1].tobytes(), drawn, "female")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start servers in processes of their own; whatever the test leaves is ended."""
    running: list[Served] = []

    def start(data: Path | None = None, *, fake: bool = True, first: str = "", **settings: object) -> Served:
        running.append(Served(data or tmp_path / "data", fake=fake, first=first, settings=settings))
        return running[-1]

    yield start
    for server in running:
        server.__exit__()
