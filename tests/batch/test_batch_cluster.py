"""A batch on a Ray cluster of one node: the same shards, poison, a killed actor, clusters that refuse."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from batch_fakes import PoisonReader

from boneage.batch import cluster, source
from boneage.batch.run import Settings, run
from boneage.batch.source import Task
from boneage.core.errors import BundleError, ConfigError, RuntimeUnavailable
from boneage.core.types import Sex

Manifest = Callable[[Sequence[str]], Path]
SETTINGS = Settings(2, shard_rows=3, timeout_s=3)

TOO_BUSY = "this machine is too busy: Ray did not start within the 30 s that it gives itself"
NEEDS_RAY = "a cluster needs Ray, which is not installed: pip install 'boneage[cluster]'"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A cluster of one node with two processors; its addresses by kind, and its process."""
    pytest.importorskip("ray", reason=NEEDS_RAY)
    folder = tmp_path_factory.mktemp("r")
    port, client = free_port(), free_port()
    words = [
        "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", f"--port={port}",
        f"--ray-client-server-port={client}", "--include-dashboard=false", "--object-store-memory=100000000",
        f"--temp-dir={folder}", "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",
        "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "300",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 600
        while "Ray runtime started" not in (folder / "log").read_text():
            said = (folder / "log").read_text()
            if process.poll() is not None and ("timed out during startup" in said or "Deadline" in said):
                pytest.skip(TOO_BUSY)
            assert process.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.1)
        addresses = {"gcs": f"127.0.0.1:{port}", "client": f"ray://127.0.0.1:{client}"}
        yield {**addresses, "process": str(process.pid)}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # on SIGTERM it would wait half a minute for work to end
        process.wait(30)


@pytest.fixture(autouse=True)
def _quiet_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `_prepare` sets is undone after each test; the cluster here asks for no token."""
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def test_the_cluster_gives_the_shards_that_this_machine_gives_poison_included(
    head: dict[str, str], tmp_path: Path, log: Path, manifest: Manifest
) -> None:
    names = ["age1", "segfault", "foot", "endless", "unlucky5", "bug", "gone", "age8"]
    images = source.at(str(manifest(names)))
    (tmp_path / "images" / "gone.png").unlink()
    summary = run(images, tmp_path / "ray", PoisonReader(log), replace(SETTINGS, cluster=head["gcs"]))
    assert (summary.total, summary.ok, summary.rejected, summary.failed) == (8, 3, 2, 3)
    log.unlink()
    assert run(images, tmp_path / "local", PoisonReader(log), SETTINGS) == summary
    for number in range(3):
        name = f"part-0000{number}.parquet"
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_a_killed_actor_is_replaced_and_an_interrupted_run_resumed_from_elsewhere(
    head: dict[str, str], tmp_path: Path, log: Path, manifest: Manifest
) -> None:
    names = [f"slow{number}" for number in range(48)]
    images, out = source.at(str(manifest(names))), tmp_path / "results"
    killed: list[int] = []

    def advance(done: int, _: int) -> None:
        if done >= 8 and not killed:
            killed.extend(_kill_an_actor(int(head["process"])))
        if done >= 32:
            raise KeyboardInterrupt

    on_ray = replace(SETTINGS, cluster=head["client"])
    with pytest.raises(KeyboardInterrupt):
        run(images, out, PoisonReader(log), on_ray, advance)
    assert killed
    summary = run(images, out, PoisonReader(log), replace(SETTINGS, resume=True))
    assert (summary.total, summary.ok, summary.kept >= 32) == (48, 48, True)


def _kill_an_actor(head: int) -> list[int]:
    """Kill one of a cluster's actors as an operator's `kill -9` would; return its process."""
    for folder in Path("/proc").iterdir():
        actor = folder.name.isdigit() and b"ray::MapWorker" in _read(folder / "cmdline")
        if actor and head in _forebears(int(folder.name)):  # not another cluster's on this machine
            os.kill(int(folder.name), signal.SIGKILL)
            return [int(folder.name)]
    return []


def _forebears(process: int) -> Iterator[int]:
    while process > 1:
        fields = _read(Path(f"/proc/{process}/stat")).rpartition(b")")[2].split()
        process = int(fields[1]) if fields else 0
        yield process


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_cluster_with_another_version_is_refused_before_work_starts(
    head: dict[str, str], tmp_path: Path, log: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "__version__", "99.0")
    with pytest.raises(ConfigError, match=r"node \S+ has boneage \S+, this machine boneage 99\.0: install"):
        run(
            source.at(str(manifest(["age1"]))), tmp_path / "out", PoisonReader(log),
            replace(SETTINGS, cluster=head["gcs"]),
        )  # fmt: skip
    assert not (tmp_path / "out").exists() and not log.exists()


def test_a_bundle_that_a_node_cannot_load_ends_the_run_with_its_reason(
    head: dict[str, str], tmp_path: Path, log: Path, manifest: Manifest
) -> None:
    with pytest.raises(BundleError, match="checksum"):
        run(
            source.at(str(manifest(["age1"]))), tmp_path / "out", PoisonReader(log, "tampered"),
            replace(SETTINGS, cluster=head["gcs"]),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://127.0.0.1:9", "no cluster answers at 127.0.0.1:9"),
        ("127.0.0.1:9", "no cluster answers"),
        ("ray://nowhere.invalid:10001", "no cluster answers at nowhere.invalid:10001"),
        ("ray://host", "must be auto, local"),
        ("http://host:80", "must be auto, local"),
        ("somewhere", "must be auto, local"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_told_at_once(
    tmp_path: Path, log: Path, manifest: Manifest, address: str, said: str
) -> None:
    images = source.at(str(manifest(["age1"])))
    with pytest.raises(ConfigError, match=re.escape(said)):
        run(images, tmp_path / "out", PoisonReader(log), replace(SETTINGS, cluster=address))
    assert not (tmp_path / "out").exists() and not log.exists()


def test_a_cluster_is_started_here_and_ended() -> None:
    ray = pytest.importorskip("ray", reason=NEEDS_RAY)
    try:
        with cluster.connected("local", 1) as processors:
            assert processors == 1
    except RuntimeUnavailable as error:
        if "timed out during startup" in str(error):
            pytest.skip(TOO_BUSY)
        raise
    assert not ray.is_initialized()


def test_a_port_where_something_else_listens_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("ray.util.client.worker", reason=NEEDS_RAY)
    monkeypatch.setattr(client, "INITIAL_TIMEOUT_SEC", 1)
    monkeypatch.setattr(client, "MAX_TIMEOUT_SEC", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match="no Ray cluster at ray://"), cluster.connected(address):
            pass


def test_auto_without_a_cluster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConfigError, match="no cluster answers"), cluster.connected("auto"):
        pass


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (9, 2), (1000, 3), (1_000_000, 500)])
def test_blocks_hold_every_row_and_become_small_towards_the_end(count: int, workers: int) -> None:
    sizes = list(cluster.block_sizes(count, workers))
    assert sum(sizes) == count and sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= 64 and all(size >= 8 for size in sizes[:-1])
    assert sizes[-1] <= 8


def test_tasks_travel_as_they_are() -> None:
    tasks = [Task(3, "a", "x/ü.png", Sex.MALE, 120.5), Task(9, "b", "s3://b/k.png", None, None)]
    assert cluster._tasks(cluster._table(tasks)) == tasks
