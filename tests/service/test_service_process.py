"""Processes that are killed: workers in the middle of a job, and the whole server at any moment."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_fakes import JOBS, Served, client_at, ended, send, until_ended
from worker_fakes import picture

Start = Callable[..., Served]


def tried(server: Served) -> Counter[str]:
    """Return how often each picture was begun, by its mark."""
    return Counter(server.notes.read_text().splitlines() if server.notes.exists() else [])


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose workers alone are killed."""
    with Served(tmp_path_factory.mktemp("steady") / "data") as server:
        yield server


def test_a_worker_killed_in_the_middle_costs_no_job(steady: Served) -> None:
    known = set(steady.workers())
    jobs = [send(steady.client, picture("slow", 0.7, mark=f"m{at}")).json()["id"] for at in range(3)]
    until(lambda: tried(steady)["m0"])
    for worker in known:  # one assesses, the other makes reports
        os.kill(worker, signal.SIGKILL)
    found = until_ended(steady.client, jobs)
    assert {job["state"] for job in found.values()} == {"done"}
    assert tried(steady) == {"m0": 2, "m1": 1, "m2": 1}
    assert steady.client.get(found[jobs[0]]["links"]["pdf"]).status_code == 200
    assert not known & set(steady.workers())


def test_an_image_that_kills_its_worker_once_is_tried_again(steady: Served) -> None:
    assert ended(steady.client, picture("once", mark="unlucky"))["state"] == "done"
    assert tried(steady)["unlucky"] == 2


def test_an_image_that_always_kills_its_worker_fails_and_the_next_one_is_done(steady: Served) -> None:
    poison = [send(steady.client, picture("kill", mark=f"p{at}")).json()["id"] for at in range(3)]
    good = [send(steady.client, picture("age", 90 + at)).json()["id"] for at in range(3)]
    found = until_ended(steady.client, [*poison, *good])
    for name in poison:
        assert (found[name]["state"], found[name]["error"]["code"]) == ("failed", "worker_died")
        assert "exit code -9" in found[name]["error"]["message"]
    assert [found[name]["bone_age_months"] for name in good] == [90, 91, 92]
    assert [tried(steady)[f"p{at}"] for at in range(3)] == [2, 2, 2]
    assert steady.client.get("/health/ready").status_code == 200


def test_a_deleted_job_that_runs_stays_deleted(steady: Served) -> None:
    job = send(steady.client, picture("slow", 0.7, mark="runs")).json()
    until(lambda: tried(steady)["runs"])
    assert steady.client.delete(job["links"]["self"]).status_code == 204
    assert ended(steady.client)["state"] == "done"
    assert steady.client.get(job["links"]["self"]).status_code == 404


def test_a_worker_that_hangs_is_given_up(served: Start) -> None:
    server = served(job_s=1.5)
    hanging = send(server.client, picture("hang", mark="stuck")).json()["id"]
    good = send(server.client).json()["id"]
    found = until_ended(server.client, [hanging, good])
    assert (found[hanging]["state"], found[hanging]["error"]["code"]) == ("failed", "timed_out")
    assert found[good]["state"] == "done" and tried(server)["stuck"] == 1


def test_a_killed_server_goes_on_where_it_was(served: Start) -> None:
    server = served()
    images = [picture("slow", 0.5, mark=f"m{at}") for at in range(4)]
    jobs = [send(server.client, image, key=f"k{at}").json()["id"] for at, image in enumerate(images)]
    until(lambda: tried(server)["m1"])
    server.kill()
    again = served(server.data)
    repeated = send(again.client, images[3], key="k3")
    assert repeated.status_code == 200 and repeated.json()["id"] == jobs[3]
    found = until_ended(again.client, jobs)
    assert {job["state"] for job in found.values()} == {"done"}
    assert [job["id"] for job in again.client.get(JOBS).json()["jobs"]] == jobs[::-1]
    assert tried(again) == {"m0": 1, "m1": 2, "m2": 1, "m3": 1}


def test_killed_at_random_moments_every_accepted_job_ends_once(served: Start) -> None:
    """Clients send the same keys until they are answered, and the server is killed four times meanwhile."""
    moments = random.Random(7)
    server = served(queue=1000, workers=2)
    current = [server]
    accepted: dict[str, set[str]] = {}
    done = threading.Event()

    def offer(at: int) -> None:
        image, key = picture("slow", 0.02, mark=f"m{at}"), f"key {at}"
        while not done.is_set():
            try:
                with client_at(current[0].base, 10) as client:
                    answer = send(client, image, key=key, label=str(at))
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            assert answer.status_code in (200, 202), answer.text
            accepted.setdefault(key, set()).add(answer.json()["id"])
            return

    many = 100
    with ThreadPoolExecutor(4) as pool:
        offers = [pool.submit(offer, at) for at in range(many)]
        for _ in range(4):
            time.sleep(moments.uniform(0.02, 0.4))
            current[0].kill()
            current[0] = served(server.data, queue=1000, workers=2)
        try:
            for one in offers:
                one.result(60)
        finally:
            done.set()
    last = current[0].client
    assert len(accepted) == many and all(len(names) == 1 for names in accepted.values())
    names = sorted(name for known in accepted.values() for name in known)
    found = until_ended(last, names)
    assert {job["state"] for job in found.values()} == {"done"}
    listed = last.get(JOBS, params={"limit": 200}).json()["jobs"]
    assert sorted(job["id"] for job in listed) == names
    assert sorted(int(job["label"]) for job in listed) == list(range(many))


def test_servers_share_a_postgresql_database_and_one_takes_over_when_the_other_is_killed(
    served: Start, database: str, tmp_path: Path
) -> None:
    impatient = "import boneage.service.dispatch as a\na._LEASE_ROOM_S = 0.5\na._HOUSEKEEPING_S = 0.3\n"
    shared = {"database": database, "job_s": 1.5, "first": impatient}
    one = served(tmp_path / "one", **{**shared, "server": "one"})
    two = served(tmp_path / "two", **{**shared, "server": "two"})
    first = send(one.client, key="shared", wait=20).json()
    assert send(two.client, key="shared").json()["id"] == first["id"]
    jobs = [send(one.client, picture("slow", 0.6, mark=f"m{at}")).json()["id"] for at in range(6)]
    until(lambda: tried(one) and tried(two))
    one.kill()
    found = until_ended(two.client, jobs)
    assert {job["state"] for job in found.values()} == {"done"}
    begun = tried(one) + tried(two)
    assert {f"m{at}" for at in range(6)} <= set(begun) and sum(begun.values()) <= 1 + 6 + 1
    assert len(two.client.get(JOBS).json()["jobs"]) == 7
    assert {path.name for path in (tmp_path / "two").iterdir()} == set()


def test_sigterm_lets_what_runs_end_and_keeps_what_waits(served: Start) -> None:
    server = served()
    jobs = [send(server.client, picture("slow", 1, mark=f"m{at}")).json()["id"] for at in range(3)]
    until(lambda: tried(server)["m0"])
    workers = server.workers()
    server.end()
    assert tried(server) == {"m0": 1}
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert "Traceback" not in server.said
    again = served(server.data)
    assert again.client.get(f"{JOBS}/{jobs[0]}").json()["state"] == "done"
    found = until_ended(again.client, jobs)
    assert {job["state"] for job in found.values()} == {"done"}
    assert tried(again) == {"m0": 1, "m1": 1, "m2": 1}


def test_sigterm_does_not_wait_for_ever(served: Start) -> None:
    """A job and a report that hang, a client that waits, half an upload: it ends, and keeps the job."""
    import socket

    hurried = "import boneage.service.listen as a, boneage.service.server as b\n"
    hurried += "a._GRACE_S = 1\nb._PATIENCE_S = 1.0\n"
    server = served(job_s=500.0, first=hurried)
    gate = server.data.parent / "never"
    report = ended(server.client, picture("gate", mark=str(gate)))
    stuck = send(server.client, picture("hang", mark="stuck")).json()["id"]
    until(lambda: tried(server)["stuck"])
    half = socket.create_connection(("127.0.0.1", server.port))
    half.sendall(
        f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 999999\r\n\r\n--b\r\n".encode()
    )

    def ask(path: str) -> None:
        try:
            with client_at(server.base) as client:
                client.get(path)
        except httpx.TransportError:
            pass

    asking = [
        threading.Thread(target=ask, args=(path,))
        for path in (f"{JOBS}/{stuck}?wait=60", report["links"]["pdf"], report["links"]["html"])
    ]
    for thread in asking:
        thread.start()
    time.sleep(0.5)
    workers = server.workers()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(40)
    for thread in asking:
        thread.join(20)
    half.close()
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    again = served(server.data, job_s=1.0)
    found = until_ended(again.client, [stuck])
    assert found[stuck]["error"]["code"] == "timed_out"
    assert tried(again)["stuck"] == 2
