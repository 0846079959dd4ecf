"""A service whose workers cost nothing: what a picture says after its last pixel is what happens to it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boneage_fakes
import cv2
import httpx
import numpy as np
from boneage.core.errors import NotAHand, SexRequired
from boneage.core.types import Sex
from boneage.reporting import stored
from boneage.reporting.tabular import Failure
from boneage.service import server as server_module
from boneage.service.app import create_app
from boneage.service.server import Server
from boneage.service.settings import ServiceSettings
from boneage.service.work import Assess, Assessed, Picture, Render, View
from starlette.testclient import TestClient

FAKES = Path(__file__).parent
HOME = "http://127.0.0.1"
JOBS = "/api/v1/jobs"
LARGE = 16 << 20
"""Bytes of the viewer's picture where `large` is wished."""

_WISH = re.compile(rb"wish=([a-z]+)([0-9.]*);(.*?);", re.DOTALL)


def picture(wish: str = "age", number: float | None = None, mark: str = "") -> bytes:
    """Return a whole PNG file of 400 x 300 with a wish behind its end.

    Wishes: age (the bone age in months), slow (seconds it takes), kill (the worker dies), once (it dies the
    first time), hang, foot (no hand), bug (an unforeseen error). `mark` makes the file one of its own.
    """
    pixels = np.zeros((400, 300), np.uint8)
    cv2.ellipse(pixels, (150, 210), (90, 160), 0, 0, 360, 190, -1)
    said = f"wish={wish}{'' if number is None else f'{number:g}'};{mark};"
    return cv2.imencode(".png", pixels)[1].tobytes() + said.encode()


@dataclass(frozen=True)
class Hand:
    """A radiograph of a hand: as a file, and as (H, W) uint8."""

    content: bytes
    pixels: Any
    sex: str


@dataclass(frozen=True)
class FakeAssess:
    """Stands in for `work.AssessImages`, with the same arguments; notes each task beside the bundle."""

    bundle: str = ""
    runtime: str = ""
    threads: int = 1
    neighbours: bool = False

    def __call__(self) -> Callable[[Assess], Assessed | Failure]:
        """Return what does a task."""
        notes = os.environ.get("BONEAGE_FAKE_NOTES", "")

        def work(task: Assess) -> Assessed | Failure:
            wish, number, mark = wish_of(task.content)
            first = note(Path(notes), f"{mark or wish}") if notes else True
            return granted(wish, number, first, task)

        return work


def wish_of(content: bytes) -> tuple[str, float, str]:
    """Return the wish, its number and the mark of a picture."""
    found = _WISH.search(content)
    if found is None:
        return "age", 124.25, ""
    wish, number, mark = (part.decode() for part in found.groups())
    return wish, float(number or 124.25), mark


def note(path: Path, text: str) -> bool:
    """Append a line to a file; return whether it is the first of its kind."""
    first = not path.exists() or text not in path.read_text().splitlines()
    with path.open("a") as file:
        file.write(f"{text}\n")
    return first


def granted(wish: str, number: float, first: bool, task: Assess) -> Assessed | Failure:
    """Do what a picture wishes."""
    if wish == "kill" or (wish == "once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "hang":
        time.sleep(600)
    if wish == "slow":
        time.sleep(number)
    if wish == "bug":
        raise ValueError("a text that names Lovelace^Ada")
    if wish == "foot":
        return Failure.of("", NotAHand("expected one hand, found none: send a radiograph of one hand"))
    said = task.patient.get("sex")
    if said is None:
        return Failure.of("", SexRequired("the sex is needed: give female or male"))
    age = number if wish == "age" else 124.25
    months = task.patient.get("age_months")
    made = boneage_fakes.graded_assessment("", Sex.parse(said), (), months, bone_age_months=age)
    summary = {
        "sex": said,
        "bone_age_months": age,
        "chronological_age_months": months,
        "sd_score": None if months is None else 0.5,
    }
    return Assessed(stored.dumps(made), summary)


@dataclass(frozen=True)
class FakeReports:
    """Stands in for `work.MakeReports`; a report says which form it is, and whose job."""

    def __call__(self) -> Callable[[Render | View], bytes | Picture | Failure]:
        """Return what does a task."""

        def work(task: Render | View) -> bytes | Picture | Failure:
            wish, number, mark = wish_of(task.content)
            if isinstance(task, View) and wish == "large":
                return Picture(bytes(LARGE), LARGE // 2, 1, 1.0, (10, 60000))
            if isinstance(task, View):
                return Picture(b"\1\2" * 6, 3, 2, 1.5, (10, 60000))
            if wish == "report" and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if wish == "report" and number == 2:
                time.sleep(600)
            while wish == "gate" and not Path(mark).exists():
                time.sleep(0.02)
            return f"{task.form} {task.release} {task.job} {dict(task.grades)}".encode()

        return work


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
    """Send a picture as a job; `wait`, `key`, `name` and `kind` go where they belong, the rest is the form."""
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
        lines = [f"{name} = {_toml(value)}" for name, value in (settings or {}).items()]
        # The name stays when the port changes, as a server's does that starts again.
        config.write_text("\n".join([*lines, f'data = "{data}"', 'server = "tested"']) + "\n")
        program = _START if fake else "from boneage.cli.main import main\nmain()\n"
        command = [sys.executable, "-c", f"{first}\n{program}", "serve", "--config", config, "--port", self.port]
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
        self.client = httpx.Client(base_url=self.base, timeout=60)
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
