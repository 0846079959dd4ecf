"""The store, on SQLite and on a real PostgreSQL: nothing lost or doubled, and what is deleted is gone."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from boneage.core.errors import ConfigError, RuntimeUnavailable
from boneage.service.store import (
    Ending,
    KeyReused,
    QueueFull,
    State,
    Store,
    Submission,
    jobs,
    metadata,
)

IMAGE = b"\x89PNG\r\n\x1a\n" + secrets.token_bytes(40)
MANY = 1000


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'boneage.sqlite'}"
        return
    yield request.getfixturevalue("database")


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Store]]:
    """Open the database once more; each store is one server's."""
    stores: list[Store] = []

    def more() -> Store:
        stores.append(Store(url))
        stores[-1].migrate()
        return stores[-1]

    yield more
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    return opened()


def submission(key: str | None = None, request: str = "r", **changes: Any) -> Submission:
    values: dict[str, Any] = {
        "content": IMAGE,
        "kind": "picture",
        "patient": {"sex": "female", "age_months": 124.5, "measured": {"height_cm": 140.0}},
        "request": request,
        "key": key,
        "label": "",
    }
    return Submission(**{**values, **changes})


def submitted(store: Store, **said: Any) -> str:
    return store.submit(submission(**said), MANY)[0]


def claimed(store: Store, server: str = "one", lease_s: float = 60) -> Any:
    row = store.claim(server, lease_s)
    assert row is not None
    return row


def state_of(store: Store, name: str) -> str:
    row = store.job(name)
    assert row is not None
    return str(row.state)


DONE = Ending(
    State.DONE,
    '{"schema": 1}',
    summary={"sex": "female", "bone_age_months": 124.25, "chronological_age_months": None, "sd_score": 0.4},
)


def test_an_accepted_job_waits_with_all_that_was_said(store: Store) -> None:
    said = submission("k", label="Zimmer 4 · 手")
    name, new = store.submit(said, MANY)
    row = store.job_with_image(name)
    assert new and row is not None
    assert (row.state, row.attempts, row.kind, row.label) == (State.QUEUED, 0, "picture", "Zimmer 4 · 手")
    assert (row.patient, row.grades, row.changed) == (said.patient, {}, False)
    assert bytes(row.content) == IMAGE
    assert abs(row.created_at - time.time()) < 60 and row.finished_at is None


def test_ids_sort_by_time_and_are_never_the_same(store: Store) -> None:
    names = [submitted(store) for _ in range(30)]
    assert names == sorted(set(names))
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)


def test_the_same_key_makes_one_job(store: Store) -> None:
    first = store.submit(submission("k"), MANY)
    assert store.submit(submission("k"), MANY) == (first[0], False)
    assert store.submit(submission("l"), MANY)[1]
    assert store.submit(submission(), MANY)[1] and store.submit(submission(), MANY)[1]
    assert store.waiting() == 4


def test_another_request_with_the_key_is_refused_and_writes_nothing(store: Store) -> None:
    store.submit(submission("k", "one"), MANY)
    with pytest.raises(KeyReused):
        store.submit(submission("k", "another"), MANY)
    assert store.waiting() == 1


def test_the_key_still_finds_its_job_after_the_end_but_not_after_the_deletion(store: Store) -> None:
    name = submitted(store, key="k")
    store.finish(claimed(store).id, DONE)
    assert store.submit(submission("k"), MANY) == (name, False)
    store.delete(name)
    assert store.submit(submission("k"), MANY)[1]


def test_one_key_from_8_threads_of_3_servers_at_once_makes_one_job(opened: Callable[[], Store]) -> None:
    servers = [opened() for _ in range(3)]
    for round_ in range(10):
        together = threading.Barrier(8)

        def send(at: int, key: str = f"key {round_}", gate: threading.Barrier = together) -> tuple[str, bool]:
            gate.wait()
            return servers[at % 3].submit(submission(key), MANY)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(8)))
        assert len({name for name, _ in answers}) == 1
        assert [new for _, new in answers].count(True) == 1
    assert servers[0].waiting() == 10


def test_two_requests_race_for_a_key_and_one_is_refused(opened: Callable[[], Store]) -> None:
    servers = [opened(), opened()]
    for round_ in range(10):
        together = threading.Barrier(2)

        def send(at: int, key: str = f"key {round_}", gate: threading.Barrier = together) -> bool:
            gate.wait()
            try:
                return servers[at].submit(submission(key, f"request {at}"), MANY)[1]
            except KeyReused:
                return False

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(send, range(2))) == [False, True]
    assert servers[0].waiting() == 10


def test_a_full_queue_takes_no_more_but_still_knows_its_keys(store: Store) -> None:
    name = submitted(store, key="k")
    submitted(store)
    with pytest.raises(QueueFull):
        store.submit(submission(), 2)
    assert store.submit(submission("k"), 2) == (name, False)
    assert store.waiting() == 2
    claimed(store)  # what runs does not wait
    assert store.submit(submission(), 2)[1]


def test_what_waited_longest_is_taken_first_and_only_once(store: Store) -> None:
    names = [submitted(store) for _ in range(3)]
    assert [claimed(store).id for _ in range(3)] == names
    assert store.claim("one", 60) is None
    row = store.job(names[0])
    assert row is not None and (row.state, row.attempts, row.server) == (State.RUNNING, 1, "one")


def test_a_claim_brings_the_image_and_what_was_said(store: Store) -> None:
    submitted(store)
    row = claimed(store)
    assert bytes(row.content) == IMAGE and row.patient["measured"] == {"height_cm": 140.0}
    assert row.attempts == 1


def test_servers_and_threads_never_take_the_same_job(opened: Callable[[], Store]) -> None:
    servers = [opened() for _ in range(3)]
    names = [submitted(servers[0]) for _ in range(60)]
    together = threading.Barrier(6)

    def take(at: int) -> list[str]:
        together.wait()
        found = []
        while (row := servers[at % 3].claim(f"server {at % 3}", 60)) is not None:
            found.append(str(row.id))
        return found

    with ThreadPoolExecutor(6) as pool:
        taken = [name for found in pool.map(take, range(6)) for name in found]
    assert sorted(taken) == names


def test_an_end_is_kept(store: Store) -> None:
    name = submitted(store)
    claimed(store)
    store.finish(name, DONE)
    row = store.job(name)
    assert row is not None
    assert (row.state, row.assessment, row.bone_age_months) == (State.DONE, '{"schema": 1}', 124.25)
    assert row.error_code is None and row.lease_until is None and row.finished_at >= row.started_at
    assert store.claim("one", 60) is None


def test_an_error_is_kept(store: Store) -> None:
    name = submitted(store)
    claimed(store)
    store.finish(name, Ending(State.REJECTED, error_code="not_a_hand", error_message="no hand: 手"))
    row = store.job(name)
    assert row is not None
    assert (row.state, row.error_code, row.error_message) == (State.REJECTED, "not_a_hand", "no hand: 手")
    assert State(row.state).ended and row.assessment is None


def test_a_job_ends_once(store: Store) -> None:
    name = submitted(store)
    store.finish(name, DONE)  # it only waits
    assert state_of(store, name) == State.QUEUED
    claimed(store)
    store.finish(name, DONE)
    store.finish(name, Ending(State.FAILED, error_code="worker_died", error_message="too late"))
    store.release(name, counted=True)
    assert state_of(store, name) == State.DONE


@pytest.mark.parametrize(("counted", "attempts"), [(True, 1), (False, 0)])
def test_a_released_job_waits_again(store: Store, counted: bool, attempts: int) -> None:
    name = submitted(store)
    claimed(store)
    store.release(name, counted)
    row = store.job(name)
    assert row is not None and (row.state, row.attempts) == (State.QUEUED, attempts)
    assert claimed(store).attempts == attempts + 1


def test_recovery_takes_back_what_this_server_ran_and_nothing_else(store: Store) -> None:
    mine, others, waits = (submitted(store) for _ in range(3))
    claimed(store, "one")
    claimed(store, "two")
    assert store.recover("one") == 1
    assert [state_of(store, name) for name in (mine, others, waits)] == ["queued", "running", "queued"]
    assert store.recover("one") == 0


def test_a_lease_that_ran_out_gives_the_job_back(store: Store) -> None:
    old, new = submitted(store), submitted(store)
    claimed(store, "gone", lease_s=-1)
    claimed(store, "alive", lease_s=60)
    assert store.expire_leases() == 1
    assert (state_of(store, old), state_of(store, new)) == (State.QUEUED, State.RUNNING)


def test_pages_go_from_new_to_old_without_gap_or_repetition(store: Store) -> None:
    names = [submitted(store) for _ in range(7)]
    seen, before = [], None
    while rows := store.page(3, before):
        seen += [row.id for row in rows]
        before = rows[-1].id
        submitted(store)  # what comes meanwhile does not shift the older pages
    assert seen == names[::-1]
    assert not {"assessment", "patient", "request"} & set(store.page(1, None)[0]._fields)


def test_places_in_the_queue_count_from_1(store: Store) -> None:
    names = [submitted(store) for _ in range(3)]
    assert [store.position(name) for name in names] == [1, 2, 3]
    claimed(store)
    assert [store.position(name) for name in names[1:]] == [1, 2]


def test_a_readers_grades_are_kept_and_taken_back(store: Store) -> None:
    name = submitted(store)
    store.read_over(name, {"rus_chn": {"radius": 9.0}}, True)
    row = store.job(name)
    assert row is not None and (row.grades, row.changed) == ({"rus_chn": {"radius": 9.0}}, True)
    store.read_over(name, {}, False)
    row = store.job(name)
    assert row is not None and (row.grades, row.changed) == ({}, False)


@pytest.mark.parametrize("running", [False, True])
def test_a_deleted_job_is_gone_and_stays_gone(store: Store, running: bool) -> None:
    name, other = submitted(store), submitted(store)
    if running:
        claimed(store)
    assert store.delete(name)
    assert not store.delete(name)
    store.finish(name, DONE)
    store.release(name, counted=True)
    store.read_over(name, {"tw3": {"ulna": 5.0}}, True)
    assert store.job(name) is None and store.job_with_image(name) is None
    assert [row.id for row in store.page(9, None)] == [other]


def test_retention_deletes_what_ended_long_ago_and_nothing_else(store: Store) -> None:
    old, fresh, waits, runs = (submitted(store) for _ in range(4))
    claimed(store)
    store.finish(old, DONE)
    claimed(store)
    store.finish(fresh, DONE)
    store.release(claimed(store).id, counted=False)
    with store.engine.begin() as connection:
        long_ago = time.time() - 31 * 86400
        connection.execute(jobs.update().values(created_at=long_ago))
        connection.execute(jobs.update().where(jobs.c.id == old).values(finished_at=long_ago))
    assert store.purge(30) == 1
    assert {row.id for row in store.page(9, None)} == {fresh, waits, runs}
    assert store.purge(30) == 0


def test_values_that_only_a_file_can_hold_are_kept(store: Store) -> None:
    """A message may repeat a text of a damaged file: no character of it may keep the job from ending."""
    name = submitted(store)
    claimed(store)
    store.finish(name, Ending(State.REJECTED, error_code="input", error_message="kind 'MONO\0CHROME\udc80'"))
    row = store.job(name)
    assert row is not None and row.state == State.REJECTED
    assert "MONO" in row.error_message
    row.error_message.encode("utf-8")


def test_an_error_of_the_database_names_nothing_that_was_sent(store: Store) -> None:
    """Its text goes into a log."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME COLUMN grades TO marks")
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError, match="grades") as caught:
        submitted(store, label="Lovelace^Ada")
    assert "Lovelace" not in str(caught.value) and "age_months" not in str(caught.value)


def test_migrating_twice_is_migrating_once_and_gives_what_the_code_expects(url: str, store: Store) -> None:
    name = submitted(store)
    store.migrate()
    assert state_of(store, name) == State.QUEUED
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_servers_that_start_at_once_migrate_a_new_database_together(url: str) -> None:
    code = f"from boneage.service.store import Store; Store({url!r}).migrate()"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
    said = [process.communicate(timeout=60)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4, said


def test_what_was_accepted_is_there_after_a_kill(url: str, store: Store) -> None:
    code = (
        "import os, signal, sys\nfrom boneage.service.store import Store, Submission\n"
        f"store = Store({url!r})\n"
        "for at in range(5):\n"
        "    said = Submission(b'image', 'picture', {}, 'r', None, f'job {at}')\n"
        "    print(store.submit(said, 100)[0], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert [row.id for row in store.page(9, None)] == done.stdout.split()[::-1]


def test_deleted_words_are_in_no_file(tmp_path: Path) -> None:
    """On SQLite: image, label and result are overwritten, in the database, its journal and its index."""
    store = Store(f"sqlite:///{tmp_path / 'boneage.sqlite'}")
    store.migrate()
    image, label, key = b"PIXELS-" * 300_000, "LABEL-of-Ada", "KEY-of-Ada"
    result = "RESULT-of-Ada " * 3000
    words = [b"PIXELS-", b"LABEL-of-Ada", b"KEY-of-Ada", b"RESULT-of-Ada", b"GRADE-of-Ada"]
    name = submitted(store, content=image, label=label, key=key)
    other = submitted(store, content=b"another image", label="another label")
    claimed(store)
    store.finish(name, Ending(State.DONE, result))
    store.read_over(name, {"GRADE-of-Ada": {}}, True)
    assert {word for word in words if _in_files(tmp_path, word)} == set(words)
    store.delete(name)
    assert [word for word in words if _in_files(tmp_path, word)] == []
    assert _in_files(tmp_path, b"another image")
    assert bytes(store.job_with_image(other).content) == b"another image"  # type: ignore[union-attr]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1 << 20  # the room is given back
    store.close()


def test_deleting_while_another_reads_is_wiped_by_the_next_look_round(tmp_path: Path) -> None:
    """A reader in the middle of its work keeps the journal; housekeeping wipes it, also without retention."""
    store = Store(f"sqlite:///{tmp_path / 'boneage.sqlite'}")
    store.migrate()
    name = submitted(store, content=b"PIXELS-" * 100_000)
    reader = store.engine.raw_connection()
    with store.engine.connect() as next_one:
        next_one.exec_driver_sql("PRAGMA busy_timeout = 50")  # not to wait 10 s for the reader below
    cursor = reader.cursor()
    cursor.execute("BEGIN")
    cursor.execute("SELECT count(*) FROM jobs").fetchall()
    assert store.delete(name) and store.job(name) is None
    assert _in_files(tmp_path, b"PIXELS-")
    reader.rollback()
    reader.close()
    store.wipe()
    assert not _in_files(tmp_path, b"PIXELS-")
    store.close()


def _in_files(folder: Path, word: bytes) -> bool:
    return any(word in path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("not a url", ConfigError, "must be a URL"),
        ("mysql://root@localhost/jobs", ConfigError, "postgresql"),
        ("postgresql+nodriver://x@/y", ConfigError, "postgresql"),
        ("sqlite:////nowhere/at/all/boneage.sqlite", RuntimeUnavailable, "cannot be opened"),
        (
            "postgresql+psycopg://secretname:secretword@/x?host=/nowhere",
            RuntimeUnavailable,
            "cannot be opened",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(
    url: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        Store(url).migrate()
    assert "secret" not in str(caught.value)
