"""Read a job's images on a Ray cluster, by Ray Data: the same function an image, the same rows and output.

    here                          on the cluster
    tasks, in blocks of a few --> Conductor --> Ray Data: a pool of actors, each with one reading process
    Output <-- rows ------------- a queue   <-- which loads the bundle once

Ray Data streams: images never enter its store, which holds the list and the rows on their way here. It gives
the block of an actor that died to another one. What an image does to the process that reads it ends there and
becomes a row, so that no image can stop the run.

The conductor is an actor because Ray Data does not work through `ray://`.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boneage import __version__
from boneage.batch.pool import SteadyReader
from boneage.batch.source import Task
from boneage.batch.work import Row, Start, Turn, try_storage
from boneage.core import errors
from boneage.core.errors import BoneAgeError, ConfigError, RuntimeUnavailable
from boneage.core.types import Sex

AUTO, LOCAL = "auto", "local"
"""The cluster that this machine is part of; one that is started here."""

CONNECT_S = 5.0
PROBE_S = 60.0
IN_FLIGHT = 2
"""Blocks that an actor has at a time: one that it reads, one that is there when it ends."""

_BLOCK_ROWS = (8, 64)
"""Rows that an actor takes at a time, at the end of a run and before."""

_BLOCKS_LEFT = 8
"""Blocks become smaller from where fewer than these are left for each actor."""

_BLOCKS_A_CALL = 64
_CALLS_AHEAD = 4
_QUEUED_BLOCKS = 256
_STORE_BYTES = 200 << 20
_PATIENCE_S = 30 * 24 * 3600.0
_REASON_LETTERS = 300
_NO_ROW = -1


@contextmanager
def connected(address: str, workers: int | None = None) -> Iterator[int]:
    """Join a cluster, or start one here, and yield the number of its processors; leave it at the end.

    Args:
        address: `auto`, `local`, `ray://HOST:PORT` or `HOST:PORT`.
        workers: processors of a cluster that is started here; None takes those there are.

    Raises:
        ConfigError: no cluster lets us in there, or it has another version of Ray, Python or this package.
        RuntimeUnavailable: Ray is not installed or does not start, or a node does not answer.
    """
    _check_address(address)
    _prepare(address)
    try:
        import ray
    except ModuleNotFoundError:
        raise RuntimeUnavailable(
            "--cluster needs ray, which is not installed: pip install 'boneage[cluster]'"
        ) from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        processors = workers or os.cpu_count() or 1
        options |= {"num_cpus": processors, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    else:
        options |= {"address": address}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what goes wrong is raised, too
            ray.init(**options)
    except Exception as error:  # noqa: BLE001 - Ray raises what its parts raise
        with suppress(Exception):
            ray.shutdown()  # half a connection would stand in the way of the next
        raise _refusal(address, error) from None
    try:
        _check_versions()
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address that is none, or where nothing listens.

    Raises:
        ConfigError: it is no address, or nobody answers there.
    """
    if address == LOCAL:
        return
    named = os.environ.get("RAY_ADDRESS", "") if address == AUTO else address
    if named in {"", AUTO}:
        return
    place = urlsplit(named if "://" in named else f"tcp://{named}")
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host, port = None, None
    if place.scheme not in {"ray", "tcp"} or not host or not port:
        raise ConfigError(
            f"--cluster must be {AUTO}, {LOCAL}, ray://HOST:PORT or HOST:PORT, not {named!r}: correct it"
        )
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"no cluster answers at {host}:{port} ({reason}): check the address, and the way there from here"
        ) from None


def _prepare(address: str) -> None:
    """Set what Ray takes from the environment, where the user has not."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of every run
    os.environ.setdefault("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "3")
    os.environ.setdefault("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", "5")
    token = "RAY_AUTH_TOKEN" in os.environ or (Path.home() / ".ray" / "auth_token").exists()
    if address.startswith("ray://") and token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's client looks for a token only if told to


def _refusal(address: str, error: Exception) -> BoneAgeError:
    """Return what to say where Ray did not let us in."""
    text = " ".join(str(error).split())[:_REASON_LETTERS] or type(error).__name__
    if "ersion mismatch" in text:
        return ConfigError(
            f"the cluster at {address} and this machine have other versions of Ray or Python ({text}): "
            "install the same ones"
        )
    if address == LOCAL:
        return RuntimeUnavailable(f"Ray could not be started here ({text}): leave --cluster out")
    return ConfigError(
        f"no Ray cluster at {address} let us in ({text}): check the address, that it runs (`ray status`), "
        "and its token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)"
    )


def _check_versions() -> None:
    """Refuse a cluster of which a node has another version of the package, or none.

    Raises:
        ConfigError: it has.
    """

    # Defined in here, so that Ray sends it as it stands: a node may not have this module.
    def version() -> str | None:
        try:
            import boneage
        except ModuleNotFoundError:
            return None
        return boneage.__version__

    for node, found in _on_every_node(version):
        if found != __version__:
            has = f"boneage {found}" if found else "no boneage"
            raise ConfigError(
                f"the cluster's node {node} has {has}, this machine boneage {__version__}: "
                "install the same version"
            )


def _on_every_node(function: Any, *arguments: object) -> list[tuple[str, Any]]:
    """Return (name, what a function gives there) for every node.

    Raises:
        RuntimeUnavailable: nodes do not answer in time.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0, max_retries=1)(function)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = [remote.options(scheduling_strategy=place).remote(*arguments) for place in there]
    names = [str(node.get("NodeManagerHostname") or node["NodeID"]) for node in nodes]
    try:
        return list(zip(names, ray.get(answers, timeout=PROBE_S), strict=True))
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:_REASON_LETTERS]
        raise RuntimeUnavailable(
            f"a node of the cluster gave no answer ({type(error).__name__}: {reason}): look at `ray status`"
        ) from None


@dataclass(frozen=True, slots=True)
class ClusterEngine:
    """The nodes of a Ray cluster.

    Args:
        processors: of the cluster.
        start: makes a reading process's function.
        workers: number of actors; None is one a processor.
        timeout_s: what one image may take.
    """

    processors: int
    start: Start
    workers: int | None
    timeout_s: float
    name: str = "ray"

    def check(self, task: Task) -> None:
        """Refuse to start where a node has another bundle, or cannot ask the storage for the first image.

        Raises:
            BoneAgeError: as the node said.
        """
        expected = self.start.reader.fingerprint()
        for node, found in _on_every_node(_ready, self.start, task):
            if isinstance(found, BoneAgeError):
                raise type(found)(f"the cluster's node {node}: {found}")
            if found != expected:
                raise ConfigError(
                    f"the cluster's node {node} has another bundle, or reads it otherwise: "
                    "give --bundle a folder that all nodes share"
                )

    def rows(self, tasks: Iterable[Task], count: int) -> Generator[tuple[int, Row], None, None]:
        """Yield each task's ordinal with its row, as they come.

        Raises:
            BoneAgeError: an actor could not start, and says why.
            RuntimeUnavailable: the cluster was lost.
        """
        import ray

        workers = min(self.workers or self.processors, count)
        conductor = ray.remote(num_cpus=0)(Conductor).remote(self.start, workers, self.timeout_s)
        try:
            _hand_over(conductor, tasks, block_sizes(count, workers))
            conductor.begin.remote()
            while (found := ray.get(conductor.rows.remote())) is not None:
                if isinstance(found, BoneAgeError):
                    raise found
                for ordinal, row in zip(found["ordinal"].to_pylist(), found["row"].to_pylist(), strict=True):
                    yield ordinal, json.loads(row)
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise RuntimeUnavailable(
                f"the cluster was lost ({type(error).__name__}): what is done is kept; go on with --resume"
            ) from None
        finally:
            with suppress(ray.exceptions.RayError, ConnectionError):  # it may be lost already
                ray.kill(conductor)


def block_sizes(count: int, workers: int) -> Iterator[int]:
    """Yield how many rows each block has.

    An actor's death loses its blocks, but each costs Ray time. They become small towards the end, so that no
    slow actor still has many rows when the others have none.
    """
    fewest, most = _BLOCK_ROWS
    while count:
        size = min(count, most, max(fewest, count // (workers * _BLOCKS_LEFT)))
        yield size
        count -= size


def _hand_over(conductor: Any, tasks: Iterable[Task], sizes: Iterable[int]) -> None:
    """Send the list to the conductor, block by block."""
    import ray

    rest, sent = iter(tasks), []
    each = (list(islice(rest, size)) for size in sizes)
    while blocks := list(islice(each, _BLOCKS_A_CALL)):
        sent.append(conductor.take.remote([_table(block) for block in blocks]))
        if len(sent) > _CALLS_AHEAD:
            ray.get(sent.pop(0))
    ray.get(sent)


def _ready(start: Start, task: Task) -> str | BoneAgeError:
    """Return, on a node, the fingerprint of what reads there, or why nothing can be read."""
    try:
        try_storage(task)
        return start.reader.fingerprint()
    except BoneAgeError as error:
        return error


class Conductor:
    """On the cluster: runs the data set and keeps its rows until they are asked for.

    Args:
        start: makes a reading process's function.
        workers: number of actors.
        timeout_s: what one image may take.
    """

    def __init__(self, start: Start, workers: int, timeout_s: float) -> None:
        self._arguments = (start, timeout_s, __version__)
        self._workers = workers
        self._blocks: list[Any] = []
        self._rows: queue.Queue[Any] = queue.Queue(_QUEUED_BLOCKS)

    def take(self, blocks: list[Any]) -> None:
        """Add blocks of the list."""
        self._blocks += blocks

    def begin(self) -> None:
        """Start to read."""
        threading.Thread(target=self._read, daemon=True).start()

    def rows(self) -> Any:
        """Wait, and return a table of rows that are ready, an error, or None at the end."""
        import pyarrow as pa

        ready = [self._rows.get()]
        while ready[-1] is not None and not isinstance(ready[-1], BoneAgeError) and not self._rows.empty():
            ready.append(self._rows.get())
        if ready[-1] is None or isinstance(ready[-1], BoneAgeError):
            last = ready.pop()
            if not ready:
                return last
            self._rows.put(last)
        return pa.concat_tables(ready)

    def _read(self) -> None:
        try:
            for table in self._data().iter_batches(batch_size=None, batch_format="pyarrow"):
                trouble = _trouble(table)
                if trouble is not None:
                    self._rows.put(trouble)
                    return
                self._rows.put(table)
            self._rows.put(None)
        except Exception as error:  # noqa: BLE001 - Ray raises what its parts raise; the caller is told
            reason = " ".join(str(error).split())[:_REASON_LETTERS]
            self._rows.put(
                RuntimeUnavailable(
                    f"Ray stopped the run ({type(error).__name__}: {reason}): what is done is kept; "
                    "go on with --resume"
                )
            )

    def _data(self) -> Any:
        """Return the data set of all rows, which is worked off as it is gone through."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_no_progress_timeout_s = _PATIENCE_S  # a block of slow images may take hours
        blocks, self._blocks = self._blocks, []
        return ray.data.from_blocks(blocks).map_batches(
            Actor,
            fn_constructor_args=self._arguments,
            batch_format="pyarrow",
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=self._workers, max_tasks_in_flight_per_actor=IN_FLIGHT),
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=-1,
        )


class Actor:
    """On a node: one reading process, and one block of tasks after another.

    Args:
        start: makes the reading process's function.
        timeout_s: what one image may take.
        version: of the package that began the run; a node that joined since may have another.
    """

    def __init__(self, start: Start, timeout_s: float, version: str) -> None:
        self._trouble: BoneAgeError | None = None
        if version != __version__:
            self._trouble = ConfigError(
                f"the cluster's node {socket.gethostname()} has boneage {__version__}, the run boneage "
                f"{version}: install the same version, then go on with --resume"
            )
            return
        _forget_main()
        try:
            self._reader = SteadyReader(start, timeout_s)
        except BoneAgeError as error:
            self._trouble = error

    def __call__(self, table: Any) -> Any:
        """Return the rows of a block of tasks: `ordinal`, and `row` as JSON, or what is the trouble."""
        tasks = _tasks(table)
        try:
            if self._trouble is not None:
                raise self._trouble
            pairs = zip_longest(tasks, tasks[1:])
            rows = [self._reader.row(Turn(task, following)) for task, following in pairs]
        except BoneAgeError as error:
            self._trouble = error
            return _rows_table([_NO_ROW], [json.dumps([type(error).__name__, str(error)])])
        return _rows_table([task.ordinal for task in tasks], [json.dumps(row) for row in rows])


def _forget_main() -> None:
    """Keep multiprocessing from running Ray's start script again in the reading process, which is slow."""
    main = sys.modules["__main__"]
    main.__spec__ = None
    if hasattr(main, "__file__"):
        del main.__file__


def _table(tasks: Sequence[Task]) -> Any:
    """Return tasks as Ray's store holds them."""
    import pyarrow as pa

    schema = {"ordinal": pa.int64(), "id": pa.string(), "path": pa.string(), "sex": pa.string()}
    schema["months"] = pa.float64()
    rows = [(task.ordinal, task.id, task.path, task.sex, task.chronological_age_months) for task in tasks]
    columns = dict(zip(schema, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table(columns, schema=pa.schema(list(schema.items())))


def _tasks(table: Any) -> list[Task]:
    return [
        Task(row["ordinal"], row["id"], row["path"], Sex(row["sex"]) if row["sex"] else None, row["months"])
        for row in table.to_pylist()
    ]


def _rows_table(ordinals: list[int], rows: list[str]) -> Any:
    import pyarrow as pa

    schema = pa.schema([("ordinal", pa.int64()), ("row", pa.string())])
    return pa.table({"ordinal": ordinals, "row": rows}, schema=schema)


def _trouble(table: Any) -> BoneAgeError | None:
    """Return the error that an actor could not start for, where a table tells of one."""
    for ordinal, row in zip(table["ordinal"].to_pylist(), table["row"].to_pylist(), strict=True):
        if ordinal == _NO_ROW:
            kind, text = json.loads(row)
            trouble: BoneAgeError = getattr(errors, kind)(text)
            return trouble
    return None
