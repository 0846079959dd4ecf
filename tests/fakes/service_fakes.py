"""A service whose workers cost nothing, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from starlette.testclient import TestClient
from worker_fakes import FakeAssess, FakeReports, picture

from boneage.service import server as server_module
from boneage.service.app import create_app
from boneage.service.server import Server
from boneage.service.settings import ServiceSettings

FAKES = Path(__file__).parent
HOME = "http://127.0.0.1"
JOBS = "/api/v1/jobs"


@dataclass(frozen=True)
class Hand:
    """A radiograph of a hand: as a file, and as (H, W) uint8."""

    content: bytes
    pixels: Any
    sex: str


@contextmanager
def faked(reports: bool = True) -> Iterator[None]:
    """Let servers that are made meanwhile have cheap workers; with `reports` False, real reports."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(server_module, "AssessImages", FakeAssess))
        if reports:
            stack.enter_context(patch.object(server_module, "MakeReports", FakeReports))
        yield


@contextmanager
def client_of(
    data: Path, *, fake: bool = True, real_reports: bool = False, **settings: Any
) -> Iterator[TestClient]:
    """Start an application in this process, and talk to it without a network."""
    with faked(not real_reports) if fake else contextlib.nullcontext():
        server = Server(ServiceSettings(data=str(data), **settings))
        app = create_app(server)
        token = {} if server.token is None else {"Authorization": f"Bearer {server.token}"}
        with TestClient(app, HOME, raise_server_exceptions=False, headers=token) as client:
            yield client


def send(client: Any, content: bytes | None = None, **said: Any) -> httpx.Response:
    """Send a picture as a job; `wait`, `key`, `name`, `kind` go where they belong, the rest is the form."""
    wait, key = said.pop("wait", 0), said.pop("key", None)
    name, kind = said.pop("name", "hand.png"), said.pop("kind", "image/png")
    form = {"sex": "female", **said}
    answer: httpx.Response = client.post(
        JOBS,
        params={"wait": wait} if wait else {},
        headers={} if key is None else {"Idempotency-Key": key},
        files={"file": (name, picture() if content is None else content, kind)},
        data={field: str(value) for field, value in form.items() if value is not None},
    )
    return answer


def ended(client: Any, content: bytes | None = None, **said: Any) -> dict[str, Any]:
    """Send a picture and return the job when it has ended."""
    answer = send(client, content, wait=30, **said)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    assert job["state"] not in ("queued", "running"), job
    return job


def counted(client: Any, name: str) -> float:
    """Return one of Prometheus' figures, by its name with labels as it is written."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    return 0.0


_START = """
import sys
from service_fakes import faked
from boneage.cli.main import main
sys.argv[0] = "boneage"
with faked():
    main()
"""


class Served:
    """`boneage serve` in a process of its own, on a free port.

    Args:
        data: its data folder; settings are written beside it.
        fake: whether its workers are stand-ins.
        first: Python that runs before the program.
        settings: of the server, beside.
    """

    def __init__(
        self, data: Path, *, fake: bool = True, first: str = "", settings: dict[str, Any] | None = None
    ) -> None:
        self.data = data
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.stderr = data.parent / f"{data.name}-stderr-{self.port}.txt"
        self.notes = data.parent / f"{data.name}-notes.txt"
        config = data.parent / f"{data.name}-{self.port}.toml"
        # The name stays when the port changes, as a server's does that starts again.
        told = {"data": str(data), "server": "tested", **(settings or {})}
        config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in told.items()))
        program = _START if fake else "from boneage.cli.main import main\nmain()\n"
        command = [
            sys.executable,
            "-c",
            f"{first}\n{program}",
            "serve",
            "--config",
            config,
            "--port",
            self.port,
        ]
        environment = {
            **{name: value for name, value in os.environ.items() if name != "BONEAGE_TOKEN"},
            "PYTHONPATH": str(FAKES),
            "BONEAGE_FAKE_NOTES": str(self.notes),
            "OMP_NUM_THREADS": "1",
        }
        with self.stderr.open("wb") as file:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
            )
        token = data / "token"
        self.client = client_at(self.base)
        self._wait_until_ready()
        if token.exists():
            self.client.headers["Authorization"] = f"Bearer {token.read_text().strip()}"

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process.poll() is None, self.stderr.read_text(errors="replace")
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/health/ready").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(self.stderr.read_text(errors="replace"))

    @property
    def said(self) -> str:
        """All that the process wrote."""
        return self.stderr.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Return the ids of the server's children that are workers."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        found = [int(child) for path in children for child in path.read_text().split()]
        return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]

    def memory_mib(self) -> float:
        """Return the most memory that the server's own process has had, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]

    def kill(self) -> None:
        """Kill it without a word, as a power cut would."""
        left = self.workers()
        self.process.kill()
        self.process.wait(30)
        self.client.close()
        for child in left:  # they see that their parent is gone by themselves; the test does not wait for it
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def end(self) -> int:
        """Ask it to end; return the exit code."""
        self.process.terminate()
        code = self.process.wait(60)
        self.client.close()
        return code

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def client_at(base: str, timeout_s: float = 60) -> httpx.Client:
    """Return a client that keeps no connection, which a server may be closing as it is used again.

    It loads no certificates, which takes long and loopback needs not.
    """
    alone = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=base, timeout=timeout_s, verify=False, trust_env=False, limits=alone)


def free_port() -> int:
    """Return a port of loopback on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until_ready(client: Any, seconds: float = 30) -> None:
    """Return when a worker can take a job."""
    until = time.monotonic() + seconds
    while (answer := client.get("/health/ready")).status_code != 200:
        assert time.monotonic() < until, answer.text
        time.sleep(0.05)


def until_ended(client: Any, names: list[str], seconds: float = 60) -> dict[str, dict[str, Any]]:
    """Return jobs by id once all have ended."""
    until = time.monotonic() + seconds
    while True:
        jobs = {name: client.get(f"{JOBS}/{name}").json() for name in names}
        if all(job.get("state") in ("done", "rejected", "failed") for job in jobs.values()):
            return jobs
        assert time.monotonic() < until, {name: job.get("state") for name, job in jobs.items()}
        time.sleep(0.1)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def folder_holds(folder: Path, words: list[bytes]) -> list[tuple[str, bytes]]:
    """Return which of some words lie in a file of a folder, or in a file's name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        (path.name, word)
        for path in files
        for word in words
        if word in path.read_bytes() or word in str(path.relative_to(folder)).encode()
    ]
