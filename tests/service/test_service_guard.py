"""Who may ask, from where, and how much: token, host, origin, sizes; and that answers carry safe headers."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_fakes import JOBS, client_of, ended, send
from starlette.testclient import TestClient
from worker_fakes import picture

from boneage.core.errors import ConfigError
from boneage.service.settings import ServiceSettings, the_token

TOKEN = "a-token-of-more-than-16"
GUARDED = [
    ("GET", JOBS),
    ("POST", JOBS),
    ("GET", f"{JOBS}/{'f' * 32}"),
    ("DELETE", f"{JOBS}/{'f' * 32}"),
    ("PUT", f"{JOBS}/{'f' * 32}/reading"),
    ("GET", f"{JOBS}/{'f' * 32}/results/pdf"),
    ("GET", "/api/v1/info"),
    ("GET", "/api/v1/standards"),
    ("POST", "/api/v1/score"),
    ("GET", "/api/v1/atlas/female/120.png"),
    ("GET", "/api/nothing"),
    ("GET", "/metrics"),
    ("GET", "/metrics/"),
]


def settings_of(folder: Path, **changes: Any) -> ServiceSettings:
    return ServiceSettings(data=str(folder), **changes)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server off loopback; the client bears its token."""
    with client_of(tmp_path_factory.mktemp("guarded") / "data", host="0.0.0.0") as client:
        yield client


@pytest.fixture(scope="module")
def open_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server on loopback, without a token."""
    with client_of(tmp_path_factory.mktemp("open") / "data", upload_mib=1) as client:
        yield client


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "reading-room.example", "127.0.0.1.example"])
def test_off_loopback_a_token_is_made_once_for_its_owner_alone(tmp_path: Path, host: str) -> None:
    settings = settings_of(tmp_path, host=host)
    token = the_token(settings)
    kept = tmp_path / "token"
    assert token is not None and len(token) >= 43 and token == kept.read_text().strip()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert the_token(settings) == token
    (tmp_path / "other").mkdir()
    assert the_token(settings_of(tmp_path / "other", host=host)) != token


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_on_loopback_none_is_needed_but_one_that_is_there_counts(tmp_path: Path, host: str) -> None:
    assert the_token(settings_of(tmp_path, host=host)) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert the_token(settings_of(tmp_path, host=host)) == TOKEN


def test_the_files_token_counts_before_the_environments_before_the_kept_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("kept-" + TOKEN)
    monkeypatch.setenv("BONEAGE_TOKEN", "environment-" + TOKEN)
    file = tmp_path / "mine"
    file.write_text(f"  file-{TOKEN}  \nanother line\n")
    assert the_token(settings_of(tmp_path, token_file=str(file))) == "file-" + TOKEN
    assert the_token(settings_of(tmp_path)) == "environment-" + TOKEN
    monkeypatch.setenv("BONEAGE_TOKEN", "  ")
    assert the_token(settings_of(tmp_path)) == "kept-" + TOKEN


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"short", b"with a blank in it, so", b"\xff\xfe\x00\x01" * 9, "ümläut".encode() * 5],
)
def test_a_token_that_is_none_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        the_token(settings_of(tmp_path, token_file=str(file)))
    assert str(file) in str(caught.value) and "blank in it" not in str(caught.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        the_token(settings_of(tmp_path, token_file=str(tmp_path / "nowhere")))


def test_the_data_folder_and_database_are_their_owners_alone(tmp_path: Path) -> None:
    """Also where the folder was there before, for everyone to read."""
    (tmp_path / "data").mkdir(mode=0o755)
    with client_of(tmp_path / "data") as client:
        ended(client)
        for path in (tmp_path / "data").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name
    with client_of(tmp_path / "made") as client:
        assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic {}",
        "{}",
        "Bearer {}x",
        "Bearer x{}",
        "Bearer {} {}",
        "Bearer \xff",
    ],
)
def test_without_the_token_nothing_is_told(
    guarded: TestClient, method: str, path: str, header: str | None
) -> None:
    token = guarded.headers["authorization"].split()[1]
    headers = {} if header is None else {"Authorization": header.format(token, token).encode("latin-1")}
    bare = TestClient(guarded.app, "http://reading-room", raise_server_exceptions=False)
    answer = bare.request(method, path, headers=headers)
    assert answer.status_code == 401 and answer.json()["code"] == "unauthorised"
    assert answer.headers["www-authenticate"] == "Bearer" and token not in answer.text


def test_with_the_token_it_answers_under_any_name(guarded: TestClient) -> None:
    for host in ("reading-room", "192.0.2.7:8077", "[2001:db8::1]"):
        assert guarded.get("/api/v1/info", headers={"Host": host}).status_code == 200
    token = guarded.headers["authorization"].split()[1]
    assert guarded.get("/api/v1/info", headers={"Authorization": f"bearer   {token}"}).status_code == 200
    assert send(guarded, wait=30).status_code == 200


def test_a_token_in_the_query_is_none(guarded: TestClient) -> None:
    token = guarded.headers["authorization"].split()[1]
    bare = TestClient(guarded.app, raise_server_exceptions=False)
    for name in ("token", "access_token", "authorization"):
        assert bare.get("/api/v1/info", params={name: token}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/static/icon.svg", "/health/live", "/openapi.json"])
def test_what_tells_nothing_needs_no_token(guarded: TestClient, path: str) -> None:
    bare = TestClient(guarded.app, "http://reading-room", raise_server_exceptions=False)
    assert bare.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/info",
        "/./api/v1/info",
        "/static/../api/v1/info",
        "/%61pi/v1/info",
        "/API/v1/info",
        "/api%2fv1/info",
    ],
)
def test_no_spelling_of_a_path_goes_round_the_token(guarded: TestClient, path: str) -> None:
    bare = TestClient(guarded.app, "http://reading-room", raise_server_exceptions=False)
    assert bare.get(path).status_code in (401, 404)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8077",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example#localhost",
        "[::1].evil.example",
        "[::1]evil",
        "192.168.0.7",
        "testserver",
        "",
        "[",
        "2130706433",
    ],
)
def test_without_a_token_only_this_machines_names_are_answered(open_one: TestClient, host: str) -> None:
    """A page elsewhere whose name is made to point here must not read what lies here."""
    for path in ("/", "/api/v1/info", JOBS, "/health/live", "/static/icon.svg"):
        answer = open_one.get(path, headers={"Host": host})
        assert answer.status_code == 421 and answer.json()["code"] == "wrong_host", path


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8077", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:8077"]
)
def test_without_a_token_this_machines_names_are_answered(open_one: TestClient, host: str) -> None:
    assert open_one.get("/api/v1/info", headers={"Host": host}).status_code == 200


def test_a_server_on_another_address_of_loopback_answers_under_it(tmp_path: Path) -> None:
    with client_of(tmp_path / "data", host="127.8.9.1") as client:
        assert client.get("/api/v1/info", headers={"Host": "127.8.9.1:8077"}).status_code == 200


FOREIGN = [
    "http://evil.example",
    "null",
    "",
    "file://",
    "http://localhost.evil.example",
    "http://localhost:1",
    "https://localhost@evil.example",
    "localhost:8077",
    "chrome-extension://abc",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_can_change_nothing(open_one: TestClient, origin: str) -> None:
    headers = {"Origin": origin, "Host": "localhost:8077"}
    job = ended(open_one)["id"]
    files = {"file": ("a.png", picture(), "image/png")}
    answers = [
        open_one.post(JOBS, files=files, data={"sex": "male"}, headers=headers),
        open_one.delete(f"{JOBS}/{job}", headers=headers),
        open_one.put(f"{JOBS}/{job}/reading", json={"grades": {}}, headers=headers),
        open_one.post("/api/v1/score", json={}, headers=headers),
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert {answer.json()["code"] for answer in answers} == {"foreign_origin"}
    assert open_one.get(JOBS, params={"limit": 1}).json()["jobs"][0]["id"] == job


def test_its_own_page_may(open_one: TestClient) -> None:
    for scheme in ("http", "https"):
        headers = {"Origin": f"{scheme}://localhost:8077", "Host": "localhost:8077"}
        answer = open_one.post("/api/v1/score", json={}, headers=headers)
        assert answer.status_code == 422  # it was read


def test_no_other_page_may_read_an_answer(open_one: TestClient) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    for method, path in (("OPTIONS", JOBS), ("OPTIONS", "/api/v1/score"), ("GET", JOBS), ("GET", "/")):
        answer = open_one.request(method, path, headers=headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")], path
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/static/icon.svg", 200),
        ("GET", "/static/nothing.js", 404),
        ("GET", JOBS, 200),
        ("GET", f"{JOBS}/{'f' * 32}", 404),
        ("GET", f"{JOBS}?limit=0", 422),
        ("PATCH", JOBS, 405),
        ("POST", JOBS, 415),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
    ],
)
def test_every_answer_carries_safe_headers(open_one: TestClient, method: str, path: str, status: int) -> None:
    answer = open_one.request(method, path)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "server" not in answer.headers and "x-powered-by" not in answer.headers
    if path.startswith("/api/"):
        assert answer.headers["cache-control"] == "no-store"


def test_an_unforeseen_error_carries_them_too_and_tells_nothing(
    open_one: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a text that names Lovelace^Ada")

    monkeypatch.setattr("boneage.service.store.Store.page", broken)
    answer = open_one.get(JOBS)
    assert answer.status_code == 500 and answer.json()["code"] == "unforeseen"
    assert "Lovelace" not in answer.text and "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "image/png",
        "application/json",
        "application/x-www-form-urlencoded",
        "application/dicom",
        "multipart/mixed; boundary=b",
        "text/plain",
        "multipart/form-datax; boundary=b",
        "x" * 5000,
    ],
)
def test_an_image_comes_as_a_form_or_not_at_all(open_one: TestClient, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = open_one.post(JOBS, content=picture(), headers=headers)
    assert answer.status_code == 415 and answer.json()["code"] == "wrong_content_type"
    assert len(answer.text) < 400


def test_a_body_that_is_too_large_is_refused_by_its_length_and_by_its_size(open_one: TestClient) -> None:
    limit = open_one.get("/api/v1/info").json()["limits"]["upload_bytes"]
    before = open_one.get(JOBS).json()
    answer = send(open_one, picture() + b"\0" * (limit + (1 << 20)))
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"
    assert "1 MiB" in answer.json()["message"]
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture()
    pieces = (piece for piece in [form, *[b"\0" * 65536] * 64, b"\r\n--b--\r\n"])
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = open_one.post(JOBS, content=pieces, headers=kind)
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"
    assert open_one.get(JOBS).json() == before


def test_an_image_as_large_as_told_is_taken(open_one: TestClient) -> None:
    limit = open_one.get("/api/v1/info").json()["limits"]["upload_bytes"]
    image = picture()
    job = ended(open_one, image + b"\0" * (limit - len(image)))
    assert job["state"] == "done"


def test_one_more_byte_than_told_is_refused(open_one: TestClient) -> None:
    limit = open_one.get("/api/v1/info").json()["limits"]["upload_bytes"]
    image = picture()
    answer = send(open_one, image + b"\0" * (limit + 1 - len(image)))
    assert answer.status_code == 413, answer.text
