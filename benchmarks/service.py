"""Requests a second and latency of `boneage serve` beside the bare `Assessor`, and what overload does.

Every request sends a whole image, waits for its bone age and reads the result; the bare `Assessor` reads and
assesses the same bytes in this process, with as many threads, just before and just after each round.

    python benchmarks/service.py manifest.csv
    python benchmarks/service.py manifest.csv --requests 200 --workers 2
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from boneage import Assessor, Bundle, Sex
from boneage.core.errors import InputError
from boneage.data.manifest import read_manifest
from boneage.imaging.read import read_bytes

JOBS = "/api/v1/jobs"
CLIENTS = (1, 4, 16)


@dataclass(frozen=True)
class Image:
    """An image to send."""

    content: bytes
    sex: Sex


@dataclass
class Round:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    turned_away: int = 0
    ids: set[str] = field(default_factory=set)
    lost: int = 0


def readable(manifest: Path, assessor: Assessor, limit: int) -> list[Image]:
    """Return images of a manifest that get a bone age."""
    found: list[Image] = []
    for row in read_manifest(manifest):
        image = Image(Path(row.path).read_bytes(), row.sex)
        try:
            assessor.assess(read_bytes(image.content), sex=image.sex)
        except InputError:
            continue
        found.append(image)
        if len(found) == limit:
            break
    return found


def bare(assessor: Assessor, images: Sequence[Image]) -> list[float]:
    """Return the seconds that the Assessor takes for each image."""
    taken = []
    for image in images:
        began = time.perf_counter()
        assessor.assess(read_bytes(image.content), sex=image.sex)
        taken.append(time.perf_counter() - began)
    return taken


@contextmanager
def served(folder: Path, workers: int, threads: int, queue: int) -> Iterator[str]:
    """Run a server and yield its address."""
    config = folder / "service.toml"
    config.write_text(
        f'port = 0\ndata = "{folder / "data"}"\nworkers = {workers}\nthreads = {threads}\nqueue = {queue}\n'
    )
    if not (Path(sys.executable).parent / "boneage").exists():
        raise SystemExit("boneage is not installed beside this Python: pip install '.[serve]'")
    program = [str(Path(sys.executable).parent / "boneage"), "serve", "--config", str(config)]
    with (folder / "log").open("w") as log, subprocess.Popen(program, stderr=log) as process:
        try:
            yield _address(folder / "log", process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        found = re.search(r"listens on (\S+)", log.read_text())
        if found and httpx.get(f"{found[1]}/health/ready").status_code == 200:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {log.read_text()}")


def round_of(address: str, images: Sequence[Image], clients: int, requests: int) -> tuple[Round, float]:
    """Let clients send images, each as soon as its last is answered; return it with the seconds it took."""
    seen, turn, lock = Round(), iter(range(requests)), threading.Lock()

    def client() -> None:
        with httpx.Client(base_url=address, timeout=120) as session:
            while True:
                with lock:
                    at = next(turn, None)
                if at is None:
                    return
                _send(session, images[at % len(images)], seen, lock)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen, time.perf_counter() - began


def _send(session: httpx.Client, image: Image, seen: Round, lock: threading.Lock) -> None:
    """Send an image until it is accepted, and wait for its end."""
    began = time.perf_counter()
    while True:
        files, data = {"file": ("image", image.content)}, {"sex": str(image.sex)}
        answer = session.post(JOBS, files=files, data=data, params={"wait": 60})
        if answer.status_code != 429:
            break
        with lock:
            seen.turned_away += 1
        time.sleep(float(answer.headers["Retry-After"]))
    job = answer.json() if answer.status_code in (200, 202) else {}
    while job.get("state") in ("queued", "running"):
        job = session.get(f"{JOBS}/{job['id']}", params={"wait": 60}).json()
    with lock:
        seen.seconds.append(time.perf_counter() - began)
        seen.ids.add(job.get("id", ""))
        seen.lost += job.get("state") != "done"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--requests", type=int, default=90, help="in a round")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of each worker; 0 shares the processors out")
    options = parser.parse_args()
    threads = options.threads or max(1, len(os.sched_getaffinity(0)) // options.workers)
    assessor = Assessor(Bundle.load(), threads=threads)
    images = readable(options.manifest, assessor, options.images)
    print(
        f"{len(images)} images, {options.requests} requests a round; workers: {options.workers} "
        f"of {threads} threads"
    )
    print("clients  requests/s   p50 ms   p95 ms   p99 ms  bare Assessor: images/s  p50 ms   served to bare")
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), options.workers, threads, queue=1000) as address,
    ):
        round_of(address, images, 1, len(images))
        for clients in CLIENTS:
            _measured(address, assessor, images, clients, options.requests)
        _overhead(address, assessor, images)
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), options.workers, threads, 4) as address,
    ):
        seen, _ = round_of(address, images, 16, options.requests)
        print(
            f"overload, a queue of 4 and 16 clients: {len(seen.seconds)} of {options.requests} images ended, "
            f"{len(seen.ids)} different jobs, {seen.lost} lost; {seen.turned_away} times told to come again"
        )


def _measured(address: str, assessor: Assessor, images: Sequence[Image], clients: int, requests: int) -> None:
    alone = bare(assessor, images)
    seen, took = round_of(address, images, clients, requests)
    alone += bare(assessor, images)
    p50, p95, p99 = (1000 * float(np.percentile(seen.seconds, share)) for share in (50, 95, 99))
    rate, bare_rate = requests / took, len(alone) / sum(alone)
    print(
        f"{clients:7}  {rate:10.2f} {p50:8.0f} {p95:8.0f} {p99:8.0f} {bare_rate:25.2f} "
        f"{1000 * statistics.median(alone):7.0f} {rate / bare_rate:22.2f}"
        + (f"   {seen.lost} LOST" if seen.lost else "")
    )


def _overhead(address: str, assessor: Assessor, images: Sequence[Image]) -> None:
    """Print what a request costs beyond the assessment: image by image, served and bare in turn."""
    apart = []
    with httpx.Client(base_url=address, timeout=120) as session:
        for image in (*images, *images):
            alone = bare(assessor, [image])[0]
            seen = Round()
            _send(session, image, seen, threading.Lock())
            apart.append(seen.seconds[0] - alone)
    p50, p95 = (1000 * float(np.percentile(apart, share)) for share in (50, 95))
    print(f"overhead of a request, one client, image by image: median {p50:.1f} ms, p95 {p95:.1f} ms")


if __name__ == "__main__":
    main()
