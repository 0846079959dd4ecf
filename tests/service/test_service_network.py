"""A real server on a real socket, and clients that send too much, too slowly, half of it, or nothing."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_fakes import JOBS, Served, client_at, ended, folder_holds, send
from worker_fakes import LARGE, picture

GIB = 1 << 30
ROOM_MIB = 120
"""How much more memory the server may take than at its start, whatever is thrown at it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("network")
    with Served(folder / "data", settings={"upload_s": 1.5, "idle_s": 0.8, "upload_mib": 16}) as made:
        ended(made.client)
        yield made


@pytest.fixture(autouse=True)
def _goes_on_and_wrote_nothing(server: Served) -> Iterator[None]:
    """After every test the server answers, has no new job and has not grown."""
    before, memory = jobs(server), server.memory_mib()
    yield
    assert server.process.poll() is None
    assert jobs(server) == before
    assert ended(server.client)["state"] == "done"
    assert server.memory_mib() - memory < ROOM_MIB
    assert "Traceback" not in server.said


def jobs(server: Served) -> list[str]:
    return [job["id"] for job in server.client.get(JOBS).json()["jobs"]]


def connected(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def answered(raw: socket.socket) -> bytes:
    """Return all that comes until the server closes; a reset ends it too."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := raw.recv(65536):
            said += piece
    return said


def status_of(said: bytes) -> int:
    return int(said.split()[1]) if said else 0


FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="hand.png"\r\n\r\n'
KIND = "multipart/form-data; boundary=b"
HEAD = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\n".encode()


def zeros(size: int) -> Iterator[bytes]:
    """Give a form whose image never ends."""
    yield FORM + picture()
    piece = bytes(1 << 20)
    for _ in range(size >> 20):
        yield piece


@pytest.mark.parametrize("told", [True, False], ids=["by its length", "in chunks"])
def test_five_gigabytes_are_refused_early(server: Served, told: bool) -> None:
    kind = {"Content-Type": KIND}
    length = {"Content-Length": str(5 * GIB)} if told else {}
    sent = 0

    def counting() -> Iterator[bytes]:
        nonlocal sent
        for piece in zeros(5 * GIB):
            sent += len(piece)
            yield piece

    with client_at(server.base) as client:
        answer = client.post(JOBS, content=counting(), headers={**kind, **length})
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"
    assert "16 MiB" in answer.json()["message"]
    assert sent < (16 << 20 if told else 64 << 20)


def test_five_gigabytes_of_grades_are_refused_early(server: Served) -> None:
    with client_at(server.base) as client:
        answer = client.post(
            "/api/v1/score", content=zeros(5 * GIB), headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 413


def test_who_asks_before_sending_is_refused_before_sending(server: Served) -> None:
    with connected(server) as raw:
        raw.sendall(HEAD + f"Content-Length: {5 * GIB}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert status_of(answered(raw)) == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 40, "0x10", "12, 13", "", "+5"])
def test_a_length_that_is_none_is_refused(server: Served, length: str) -> None:
    with connected(server) as raw:
        raw.sendall(HEAD + f"Content-Length: {length}\r\n\r\n".encode() + FORM)
        assert status_of(answered(raw)) in (400, 413)


def test_two_ways_to_tell_a_length_are_refused(server: Served) -> None:
    with connected(server) as raw:
        raw.sendall(
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        )
        assert status_of(answered(raw)) in (400, 422)  # the chunks count, and there is no file in them


def test_a_body_that_comes_too_slowly_is_refused(server: Served) -> None:
    with connected(server) as raw:
        raw.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + FORM)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 15:
                raw.sendall(b"\0")
                time.sleep(0.1)
                raw.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    if said := raw.recv(65536):
                        break
                raw.setblocking(True)
        assert status_of(said) == 408 and b'"too_slow"' in said


def test_a_body_that_stops_coming_is_refused(server: Served) -> None:
    with connected(server) as raw:
        raw.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + FORM)
        said = answered(raw)
    assert status_of(said) == 408 and b'"too_slow"' in said


def test_a_connection_without_a_whole_request_is_closed(server: Served) -> None:
    starts = [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "]
    raws = [connected(server) for _ in starts]
    for raw, start in zip(raws, starts, strict=True):
        raw.sendall(start)
    for raw in raws:
        assert status_of(answered(raw)) in (0, 400, 408)
        raw.close()


def test_headers_that_drip_for_ever_are_cut_off(server: Served) -> None:
    with connected(server) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):
            while True:
                assert time.monotonic() - began < 15
                raw.sendall(b"X-Drip: 1\r\n")
                time.sleep(0.1)


def test_a_connection_that_was_used_and_falls_silent_is_closed(server: Served) -> None:
    with connected(server) as raw:
        raw.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(answered(raw)) == 200  # and then the end, without being asked


def test_a_request_that_waits_is_not_cut_off(server: Served) -> None:
    """To wait for a result is not to be silent."""
    job = send(server.client, picture("slow", 2.5)).json()
    try:
        answer = server.client.get(job["links"]["self"], params={"wait": 30})
        assert answer.status_code == 200 and answer.json()["state"] == "done"
    finally:
        server.client.delete(job["links"]["self"])


def test_a_slow_reader_gets_the_whole_answer(server: Served) -> None:
    """It takes longer than a silent connection may stay, but it takes."""
    job = ended(server.client, picture("large"))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    raw.connect(("127.0.0.1", server.port))
    raw.sendall(f"GET {job['links']['pixels']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    raw.settimeout(20)
    size, began = 0, time.monotonic()
    while size < LARGE:
        piece = raw.recv(LARGE // 40)
        assert piece, size
        size += len(piece)
        time.sleep(max(0.0, 3 * size / LARGE - (time.monotonic() - began)))  # three seconds for all of it
    raw.close()
    server.client.delete(job["links"]["self"])


def test_a_client_that_reads_nothing_holds_no_connection_for_ever(server: Served) -> None:
    """Those that ask for long answers and never read them are let go of, once the kernel takes no more."""
    raws, begun = [], time.monotonic()
    for _ in range(3):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.connect(("127.0.0.1", server.port))
        with contextlib.suppress(ConnectionError):
            raw.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        raws.append(raw)
    taken: set[str] = set()
    while len(taken) < len(raws):  # they are taken one after the other, and held for a while
        taken |= {line.split()[1] for line in open_sockets(server)}
        assert time.monotonic() < begun + 60, "the server takes no connection"
        time.sleep(0.02)
    for _ in range(1200):
        if not open_sockets(server):
            break
        time.sleep(0.1)
    still = open_sockets(server)
    for raw in raws:
        raw.close()
    assert not still, still


def open_sockets(server: Served) -> list[str]:
    """Return the connections that the server still holds and that are not the test's own client.

    Each with its state, and the bytes in the kernel's queues, as /proc/net/tcp has them.
    """
    server.client.close()
    server.client = client_at(server.base)
    held = set()
    for path in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(path.readlink().name)
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        " ".join(line[1:6])
        for line in lines
        if f"socket:[{line[9]}]" in held and int(line[1].split(":")[1], 16) == server.port and line[3] != "0A"
    ]


@pytest.mark.parametrize("part", [0.3, 0.9], ids=["early", "late"])
def test_a_client_that_goes_away_in_the_middle_leaves_nothing(server: Served, part: float) -> None:
    body = FORM + picture() + bytes(500_000) + b"\r\n--b--\r\n"
    with connected(server) as raw:
        raw.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[: int(len(body) * part)])
    time.sleep(0.2)


@pytest.mark.parametrize(
    "start",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\0" * 70_000,
        b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x02\x00\x00\x00\x00\xce\x00\x01\x00\x00" + b"BONEAGE".ljust(16) + bytes(180),
    ],
    ids=[
        "TLS",
        "SSH",
        "zeros",
        "long path",
        "version",
        "0.9",
        "no host",
        "two hosts",
        "headers",
        "NUL",
        "DICOM",
    ],
)
def test_what_is_hardly_a_request_does_no_harm(server: Served, start: bytes) -> None:
    with connected(server) as raw:
        with contextlib.suppress(ConnectionError):
            raw.sendall(start)
        assert status_of(answered(raw)) < 500


def form(*parts: bytes, boundary: bytes = b"b") -> dict[str, Any]:
    return {
        "content": b"".join(parts),
        "headers": {"Content-Type": b"multipart/form-data; boundary=" + boundary},
    }


PART = FORM + b"x\r\n"
FIELD = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
MALFORMED = {
    "nothing": form(),
    "no boundary": {"content": PART, "headers": {"Content-Type": "multipart/form-data"}},
    "empty boundary": form(PART, boundary=b""),
    "another boundary": form(PART + b"--b--\r\n", boundary=b"c"),
    "long boundary": form(b"--" + b"b" * 5000 + b"\r\n", boundary=b"b" * 5000),
    "no end": form(PART),
    "no headers": form(b"--b\r\n\r\nx\r\n--b--\r\n"),
    "header without colon": form(b"--b\r\nContent-Disposition form-data\r\n\r\nx\r\n--b--\r\n"),
    "no name": form(b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "a file as text": form(b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n'),
    "endless header": form(b"--b\r\nContent-Disposition: form-data; name=" + b"x" * 100_000),
    "many headers": form(b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\nx\r\n--b--\r\n"),
    "two thousand fields": form(*[FIELD % b"x", b"y\r\n"] * 2000, b"--b--\r\n"),
    "two thousand files": form(*[PART] * 2000, b"--b--\r\n"),
    "large field": form(FIELD % b"sex", b"x" * 3_000_000, b"\r\n--b--\r\n"),
    "noise": form(bytes(range(256)) * 999),
    "odd charset": form(
        FORM + picture() + b"\r\n",
        (FIELD % b"sex").replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=rot13\r\n\r\n"),
        b"\xff\xfe\r\n--b--\r\n",
    ),
    "no file": form(FIELD % b"sex", b"male\r\n--b--\r\n"),
    "empty file": form(FORM, b"\r\n--b--\r\n"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_form_that_is_none_is_refused(server: Served, name: str) -> None:
    answer = server.client.post(JOBS, **MALFORMED[name])
    assert answer.status_code in (400, 415, 422), (answer.status_code, answer.text[:200])
    said = answer.json()
    assert said["code"] and len(said["message"]) > 10 and len(answer.text) < 3000
    assert not folder_holds(server.data, [b"rot13"])


def test_more_connections_than_it_serves_are_told_so(tmp_path: Path) -> None:
    with Served(tmp_path / "few", settings={"connections": 8, "idle_s": 20.0}) as few:
        raws = [connected(few) for _ in range(20)]
        said = []
        for raw in raws:
            raw.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said.append(status_of(raw.recv(65536)))
        assert set(said) == {200, 503} or set(said) == {503}
        for raw in raws:
            raw.close()
        time.sleep(0.2)
        assert few.client.get("/health/live").status_code == 200
