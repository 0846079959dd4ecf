"""DICOMweb: found, fetched and stored against a real Orthanc, and against servers that misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dicom_peers import Orthanc, free_port, running, study
from pydicom import dcmread

from boneage.core.errors import ConfigError, DeliveryError
from boneage.dicomnode import files
from boneage.dicomnode.dicomweb import Found, StowChannel, WebClient, first_part
from boneage.dicomnode.query import WebQuery
from boneage.dicomnode.sender import Sender, Unreachable
from boneage.dicomnode.settings import NodeSettings, Query, Receive, Retry, Web
from boneage.dicomnode.spool import Spool, key_of

GOES_ON = threading.Event()
TODAY = date(2026, 3, 11)
FOUND = Found("1.2", "1.2.3", "1.2.3.4", "")
Reply = tuple[int, str, bytes]


class WebServer:
    """An HTTP server that answers what a function of (method, path, headers, body) says."""

    def __init__(self, answer: Callable[[str, str, Any, bytes], Reply]) -> None:
        asked: list[tuple[str, str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append((self.command, self.path, self.headers))
                status, kind, content = answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        self.asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/web"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., WebServer]]:
    servers: list[WebServer] = []

    def start(answer: Callable[[str, str, Any, bytes], Reply]) -> WebServer:
        servers.append(WebServer(answer))
        return servers[-1]

    yield start
    for one in servers:
        one.stop()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    one = Spool(tmp_path / "spool", ("web",))
    one.open()
    yield one
    one.close()


def attributes(number: int, sop_class: str = "") -> dict[str, Any]:
    values = {"0020000D": "1.2", "0020000E": "1.2.3", "00080018": f"1.2.3.{number}", "00080016": sop_class}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items() if value}


def as_json(value: Any, status: int = 200) -> Reply:
    return status, "application/dicom+json", json.dumps(value).encode()


def test_pages_are_asked_for_until_the_last(serve: Callable[..., WebServer]) -> None:
    def answer(_method: str, path: str, _headers: Any, _body: bytes) -> Reply:
        asked = parse_qs(urlsplit(path).query)
        begin, size = int(asked["offset"][0]), int(asked["limit"][0])
        return as_json([attributes(number) for number in range(begin, min(begin + size, 250))])

    server = serve(answer)
    found = list(WebClient("web", Web(server.url)).search({"Modality": "DX"}))
    assert [one.instance for one in found] == [f"1.2.3.{number}" for number in range(250)]
    assert len(server.asked) == 3 and "Modality=DX" in server.asked[0][1]
    assert len(list(WebClient("web", Web(server.url)).search({}, limit=1))) == 1


@pytest.mark.parametrize(
    "reply",
    [
        as_json([], 500), as_json([], 401), as_json({}), (200, "", b"<html>"), (302, "", b""), as_json([1]),
    ],
    ids=["500", "401", "no list", "a page", "a redirect", "no objects"],
)  # fmt: skip
def test_an_answer_that_is_no_list_is_no_empty_list(serve: Callable[..., WebServer], reply: Reply) -> None:
    with pytest.raises(Unreachable):
        list(WebClient("web", Web(serve(lambda *_: reply).url)).search({}))


def test_nothing_found_is_an_empty_list(serve: Callable[..., WebServer]) -> None:
    assert not list(WebClient("web", Web(serve(lambda *_: (204, "", b"")).url)).search({}))


def test_a_found_instance_whose_uids_are_none_is_passed_over(serve: Callable[..., WebServer]) -> None:
    odd = attributes(1)
    odd["0020000D"]["Value"] = ["../../../admin"]
    server = serve(lambda *_: as_json([odd, {}, {"0020000D": 3}, attributes(2)]))
    assert [one.instance for one in WebClient("web", Web(server.url)).search({})] == ["1.2.3.2"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ((404, "", b""), DeliveryError),
        ((500, "", b""), DeliveryError),
        ((503, "", b""), Unreachable),
        ((200, "application/dicom", b"x" * 5000), DeliveryError),
        ((200, 'multipart/related; boundary="a"', b"no part"), DeliveryError),
    ],
)
def test_an_image_that_is_not_to_be_had_is_told(
    serve: Callable[..., WebServer], reply: Reply, error: type[Exception]
) -> None:
    with pytest.raises(DeliveryError) as told:
        WebClient("web", Web(serve(lambda *_: reply).url)).fetch(FOUND, 4000)
    assert type(told.value) is error


@pytest.mark.parametrize(
    ("kind", "content", "part"),
    [
        ("application/dicom", b"whole", b"whole"),
        ("multipart/related; boundary=b", b"--b\r\nA: c\r\n\r\n\r\n--x\r\n\r\n--b--", b"\r\n--x\r\n"),
        (
            'Multipart/Related; Boundary="b c"; x=y',
            b"pre\r\n--b c\r\n\r\none\r\n--b c\r\n\r\ntwo\r\n--b c--",
            b"one",
        ),
    ],
)
def test_the_first_part_of_an_answer_is_taken(kind: str, content: bytes, part: bytes) -> None:
    assert first_part(content, kind) == part


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        (as_json({"00081199": {"vr": "SQ"}}), False),
        (as_json({}, 202), False),
        ((200, "text/plain", b"stored"), False),
        (as_json({"00081198": {"vr": "SQ", "Value": [{}]}}), True),
        (as_json({}, 409), True),
        (as_json({}, 500), True),
        ((302, "", b""), True),
    ],
)
def test_an_answer_to_stow_is_understood(
    serve: Callable[..., WebServer], tmp_path: Path, reply: Reply, refused: bool
) -> None:
    file = tmp_path / "result.dcm"
    file.write_bytes(b"result\r\n--")
    server = serve(
        lambda _method, _path, _headers, body: reply if file.read_bytes() in body else (400, "", b"")
    )
    assert bool(WebClient("web", Web(server.url)).store(file)) is refused
    assert server.asked[0][1] == "/web/studies" and "application/dicom" in server.asked[0][2]["Content-Type"]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503, 504])
def test_a_service_in_trouble_refuses_nothing(
    serve: Callable[..., WebServer], tmp_path: Path, status: int
) -> None:
    (tmp_path / "result.dcm").write_bytes(b"result")
    with pytest.raises(Unreachable, match=str(status)):
        WebClient("web", Web(serve(lambda *_: (status, "", b"")).url)).store(tmp_path / "result.dcm")


def test_nobody_there_is_told_without_the_address() -> None:
    with pytest.raises(Unreachable) as told:
        list(WebClient("web", Web(f"http://127.0.0.1:{free_port()}")).search({}))
    assert "no answer" in str(told.value) and "127.0.0.1" not in str(told.value)


@pytest.mark.parametrize("how", ["token", "password"])
def test_secrets_are_read_from_files_and_sent(
    serve: Callable[..., WebServer], tmp_path: Path, how: str
) -> None:
    (tmp_path / "secret").write_text("open sesame\n")
    secret = str(tmp_path / "secret")
    server = serve(lambda *_: as_json([]))
    web = (
        Web(server.url, token_file=secret)
        if how == "token"
        else Web(server.url, user="me", password_file=secret)
    )
    list(WebClient("web", web).search({}))
    expected = "Bearer open sesame" if how == "token" else "Basic bWU6b3BlbiBzZXNhbWU="
    assert server.asked[0][2]["Authorization"] == expected
    with pytest.raises(ConfigError, match="gone"):
        WebClient("web", Web(server.url, token_file=str(tmp_path / "gone")))


def query(url: str, spool: Spool, **changed: Any) -> WebQuery:
    settings = NodeSettings(receive=Receive(max_object_mb=1))
    return WebQuery(Query("web", Web(url), **changed), settings, spool, lambda: None)


def test_a_query_asks_for_recent_studies_and_takes_each_image_once(
    serve: Callable[..., WebServer], spool: Spool, tmp_path: Path
) -> None:
    content = study(tmp_path, "hand").read_bytes()
    uid = str(dcmread(tmp_path / "hand.dcm").SOPInstanceUID)
    known = attributes(1)
    known["00080018"]["Value"] = [uid]

    def answer(_method: str, path: str, _headers: Any, _body: bytes) -> Reply:
        searched = "instances?" in path
        return as_json([known]) if searched else (200, "application/dicom", content)

    server = serve(answer)
    asking = query(server.url, spool, filter={"Modality": "DX"}, days=2)
    assert asking.ask(GOES_ON, TODAY) == 1 and spool.waiting() == [key_of(uid)]
    assert "StudyDate=20260309-20260311" in server.asked[0][1] and "Modality=DX" in server.asked[0][1]
    assert asking.ask(GOES_ON, TODAY) == 0
    assert sum("instances/" in path for _, path, _ in server.asked) == 1


@pytest.mark.parametrize(
    ("content", "attempts"),
    [(b"no DICOM", 1), (None, 5)],
    ids=["no image", "never to be had"],
)
def test_what_cannot_be_taken_is_not_asked_for_for_ever(
    serve: Callable[..., WebServer], spool: Spool, content: bytes | None, attempts: int
) -> None:
    def answer(_method: str, path: str, _headers: Any, _body: bytes) -> Reply:
        if "instances?" in path:
            return as_json([attributes(1)])
        return (500, "", b"") if content is None else (200, "application/dicom", content)

    server = serve(answer)
    asking = query(server.url, spool)
    for _ in range(8):
        assert asking.ask(GOES_ON, TODAY) == 0
    assert sum("instances/" in path for _, path, _ in server.asked) == attempts
    assert files.read_json(spool.done / f"{key_of('1.2.3.1')}.json")["state"] == "refused"


def test_an_image_that_is_another_than_was_asked_for_is_not_taken(
    serve: Callable[..., WebServer], spool: Spool, tmp_path: Path
) -> None:
    content = study(tmp_path, "hand").read_bytes()
    server = serve(
        lambda _m, path, *_: (
            as_json([attributes(1)]) if "instances?" in path else (200, "application/dicom", content)
        )
    )
    assert query(server.url, spool).ask(GOES_ON, TODAY) == 0 and not spool.waiting()


def test_reports_and_other_objects_are_not_fetched(serve: Callable[..., WebServer], spool: Spool) -> None:
    server = serve(lambda *_: as_json([attributes(1, "1.2.840.10008.5.1.4.1.1.88.33")]))
    query(server.url, spool).ask(GOES_ON, TODAY)
    assert len(server.asked) == 1


@pytest.mark.dicom
def test_images_are_fetched_from_orthanc_and_results_stored_there(tmp_path: Path, spool: Spool) -> None:
    orthanc = Orthanc(tmp_path / "orthanc")
    web = Web(orthanc.web)
    with running(orthanc):
        sent = [study(tmp_path, f"hand-{number}", StudyDate="20260310") for number in range(3)]
        late = study(tmp_path, "late", StudyDate="20250101")
        ct = study(tmp_path, "computed", Modality="CR", StudyDate="20260310")
        for path in (*sent, late, ct):
            orthanc.post("/instances", path.read_bytes())
        asking = WebQuery(
            Query("web", web, filter={"Modality": "DX"}, days=5), NodeSettings(), spool, lambda: None
        )
        asking.check()
        assert asking.ask(GOES_ON, TODAY) == 3 and asking.ask(GOES_ON, TODAY) == 0
        wanted = {key_of(str(dcmread(path).SOPInstanceUID)): path for path in sent}
        assert set(spool.waiting()) == set(wanted)
        for key, path in wanted.items():
            assert dcmread(spool.image(key)[0]) == dcmread(path)

        result = study(tmp_path, "result", StudyInstanceUID=dcmread(sent[0]).StudyInstanceUID)
        key = spool.waiting()[0]
        spool.publish(key, spool.image(key)[1], {"state": "assessed"}, {"web/capture": result.read_bytes()})
        way = StowChannel("web", web)
        way.check()
        assert Sender("web", way, spool, Retry()).deliver(GOES_ON) == 0.0
        assert not list((spool.outbox / "web").iterdir())
        assert sorted(map(len, orthanc.by_study().values())) == [1, 1, 1, 1, 2]
    with pytest.raises(Unreachable):
        way.check()
