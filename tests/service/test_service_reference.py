"""Routes that need no job: score sheet, standards, growth, the atlas, what watches, and the page's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from service_fakes import client_of, counted, until_ready

from boneage import __version__
from boneage.core.types import Sex
from boneage.inference.atlas import Atlas
from boneage.standards.growth import bone_age_sd_score
from boneage.standards.scoring import score, standard

HAND = {
    "radius": 7, "ulna": 6, "mc1": 7, "mc3": 6, "mc5": 6, "pp1": 7, "pp3": 7, "pp5": 7, "mp3": 7, "mp5": 7,
    "dp1": 7, "dp3": 7, "dp5": 7,
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with client_of(tmp_path_factory.mktemp("reference") / "data") as made:
        yield made


def sheet(**changes: Any) -> dict[str, Any]:
    said = {"standard": "rus_chn", "sex": "male", "grades": HAND, "chronological_age_months": 124, **changes}
    return {name: value for name, value in said.items() if value is not None}


def test_grades_in_score_and_age_out(client: Any) -> None:
    answer = client.post("/api/v1/score", json=sheet())
    assert answer.status_code == 200
    found = answer.json()
    chosen = standard("rus_chn")
    expected = score(chosen, Sex.MALE, {bone: float(HAND[str(bone)]) for bone in chosen.bones})
    assert (found["total"], found["age_months"]) == (expected.total, pytest.approx(expected.age_months))
    assert [bone["bone"] for bone in found["bones"]] == [str(bone) for bone in chosen.bones]
    assert sum(bone["score"] for bone in found["bones"]) == found["total"]
    assert all(0 <= bone["score"] <= bone["maximum"] for bone in found["bones"])
    apart = bone_age_sd_score(expected.age_months, 124, Sex.MALE)
    assert found["sd_score"] == pytest.approx(apart.value) and found["sd_months"] == pytest.approx(
        apart.sd_months
    )
    assert found["missing"] == [] and found["edition"] == chosen.edition


@pytest.mark.parametrize(
    "grades",
    [{**HAND, "radius": "7"}, {"R" + bone[1:] if bone[0] == "r" else bone: HAND[bone] for bone in HAND}],
)
def test_grades_are_taken_as_people_write_them(client: Any, grades: dict[str, Any]) -> None:
    same = client.post("/api/v1/score", json=sheet(grades=grades))
    assert same.json() == client.post("/api/v1/score", json=sheet()).json()


def test_letters_of_tw3_are_stages(client: Any) -> None:
    answer = client.post("/api/v1/score", json=sheet(standard="tw3", grades=dict.fromkeys(HAND, "G")))
    assert answer.status_code == 200 and {bone["stage"] for bone in answer.json()["bones"]} == {"G"}


def test_without_an_age_there_is_no_sd_score(client: Any) -> None:
    found = client.post("/api/v1/score", json=sheet(chronological_age_months=None)).json()
    assert found["sd_score"] is None and found["total"] > 0 and found["warnings"] == []


def test_where_the_reference_does_not_reach_the_answer_says_so(client: Any) -> None:
    found = client.post("/api/v1/score", json=sheet(chronological_age_months=1000)).json()
    assert found["sd_score"] is None and found["total"] > 0
    assert [warning["code"] for warning in found["warnings"]] == ["not_applicable"]


def test_a_missing_bone_is_an_error_unless_it_may_be_missing(client: Any) -> None:
    part = {bone: grade for bone, grade in HAND.items() if bone != "ulna"}
    refused = client.post("/api/v1/score", json=sheet(grades=part))
    assert refused.status_code == 400 and "ulna" in refused.json()["message"]
    found = client.post("/api/v1/score", json=sheet(grades=part, partial=True)).json()
    assert found["missing"] == ["ulna"] and found["total"] is None and len(found["bones"]) == 12
    nothing = client.post("/api/v1/score", json=sheet(grades={}, partial=True)).json()
    assert len(nothing["missing"]) == 13 and nothing["bones"] == []


@pytest.mark.parametrize(
    ("changes", "status", "code", "words"),
    [
        ({"standard": "tanner"}, 400, "table_missing", "tanner"),
        ({"standard": ""}, 400, "table_missing", "name one of"),
        ({"standard": "../tables/tw3"}, 400, "table_missing", "name one of"),
        ({"standard": "x" * 41}, 422, "invalid_request", "standard"),
        ({"grades": {**HAND, "femur": 3}}, 400, "wrong_bones", "femur"),
        ({"grades": {**HAND, "capitate": 3}}, 400, "wrong_bones", "capitate"),
        ({"grades": {**HAND, "radius": 77}}, 400, "unknown_grade", "77"),
        ({"grades": {**HAND, "radius": "Q"}}, 400, "unknown_grade", "Q"),
        ({"grades": {**HAND, "radius": "1e400"}}, 400, "unknown_grade", "radius"),
        ({"grades": {**HAND, "radius": "nan"}}, 400, "unknown_grade", "radius"),
        ({"grades": {**HAND, "radius": 10**300}}, 400, "unknown_grade", "radius"),
        ({"grades": {**HAND, "radius": "x" * 17}}, 422, "invalid_request", "radius"),
        ({"grades": {**HAND, "x" * 41: 3}}, 422, "invalid_request", "grades"),
        ({"grades": {**HAND, "radius": {}}}, 422, "invalid_request", "radius"),
        ({"grades": dict.fromkeys(map(str, range(41)), 1)}, 422, "invalid_request", "grades"),
        ({"grades": {**HAND, "Radius": 3}}, 400, "wrong_bones", "twice"),
        ({"sex": "other"}, 422, "invalid_request", "sex"),
        ({"chronological_age_months": -1}, 422, "invalid_request", "chronological_age_months"),
        ({"chronological_age_months": "old"}, 422, "invalid_request", "chronological_age_months"),
        ({"more": 1}, 422, "invalid_request", "more"),
    ],
)
def test_a_sheet_that_cannot_be_scored_says_what_is_wrong(
    client: Any, changes: dict[str, Any], status: int, code: str, words: str
) -> None:
    answer = client.post("/api/v1/score", json=sheet(**changes))
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said["code"] == code and words in said["message"] and len(said["message"]) < 2000
    assert status != 422 or any(words in field for field in said["fields"])


RAW = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"standard": "rus_chn", "sex": "male", "grades": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"chronological_age_months": ' + b"9" * 5000 + b"}",
        b'{"standard": "rus_chn", "sex": "male", "grades": {"radius": NaN}}',
        b'{"standard": "rus_chn", "sex": "male", "grades": {"radius": Infinity}}',
        b'{"standard": "rus_chn", "sex": "male", "grades": {}, "chronological_age_months": NaN}',
        b'{"standard": "rus_chn", "sex": "male", "grades": {}, "chronological_age_months": -Infinity}',
        b'{"standard": "\\ud800", "sex": "male", "grades": {}}',
        b'{"standard": "rus_chn", "sex": "male", "grades": {"\\udcff": 1}}',
        b'{"standard": "rus_chn", "sex": "male", "grades": {"radius": "\\ud800"}}',
        b'{"standard": "rus_chn", "sex": "male", "grades": {"rad\\u0000ius": 1}}',
        b'{"standard": "rus_chn", "sex": "male", "grades": {}, "\\ud800": 1}',
    ],
    ids=lambda body: repr(body[:60] + body[-20:])[2:82],
)
def test_json_that_is_none_or_too_much_is_refused(client: Any, body: bytes) -> None:
    answer = client.post("/api/v1/score", content=body, headers=RAW)
    assert answer.status_code in (400, 422), answer.text
    said = answer.json()
    assert said["code"] and said["message"] and len(answer.content) < 20_000
    assert client.post("/api/v1/score", json=sheet()).status_code == 200


def test_a_sheet_as_a_form_is_refused(client: Any) -> None:
    answer = client.post("/api/v1/score", data={"standard": "rus_chn", "sex": "male"})
    assert answer.status_code in (415, 422) and answer.json()["code"]


def test_json_larger_than_any_sheet_is_refused_unread(client: Any) -> None:
    answer = client.post("/api/v1/score", content=b" " * ((1 << 20) + 1), headers=RAW)
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"
    pieces = (b" " * 65536 for _ in range(20))
    answer = client.post("/api/v1/score", content=pieces, headers=RAW)
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"


def test_standards_tell_bones_and_grades_that_the_score_takes(client: Any) -> None:
    shown = client.get("/api/v1/standards").json()
    assert [one["name"] for one in shown] == ["rus_chn", "tw3", "chn"]
    for one in shown:
        grades = {bone["bone"]: bone["grades"][-1]["grade"] for bone in one["bones"]}
        answer = client.post("/api/v1/score", json=sheet(standard=one["name"], grades=grades))
        assert answer.status_code == 200, answer.text
        stages = {bone["bone"]: bone["stage"] for bone in answer.json()["bones"]}
        assert stages == {bone["bone"]: bone["grades"][-1]["label"] for bone in one["bones"]}
        assert all(bone["score"] == bone["maximum"] for bone in answer.json()["bones"])


@pytest.mark.parametrize("sex", ["female", "male"])
def test_growth_rises_in_age_and_has_a_deviation_for_each(client: Any, sex: str) -> None:
    found = client.get(f"/api/v1/growth/{sex}").json()
    assert found["sex"] == sex and found["reference"]
    assert found["ages_months"] == sorted(set(found["ages_months"]))
    assert len(found["sd_months"]) == len(found["ages_months"]) and min(found["sd_months"]) > 0
    assert client.get("/api/v1/growth/other").status_code == 422


def test_every_plate_of_the_atlas_is_an_image(client: Any) -> None:
    shown = client.get("/api/v1/atlas").json()
    own = Atlas.load().plates
    assert len(shown["plates"]) == len(own) and shown["description"]
    for plate in (shown["plates"][0], shown["plates"][-1]):
        answer = client.get(plate["image"])
        assert answer.headers["content-type"] == "image/png"
        pixels = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (plate["height"], plate["width"]) and plate["hands"] > 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("female/7777.png", 404),
        ("female/nan.png", 404),
        ("female/..%2f..%2fmanifest.png", 404),
        ("other/120.png", 422),
        ("female/000000000120.png", 422),
    ],
)
def test_a_plate_that_is_none_is_not_found(client: Any, path: str, status: int) -> None:
    answer = client.get(f"/api/v1/atlas/{path}")
    assert answer.status_code == status and answer.json()["message"]


def test_info_tells_versions_and_limits(client: Any) -> None:
    found = client.get("/api/v1/info").json()
    assert found["software"] == f"boneage {__version__}" and found["bundle"]
    assert found["limits"] == {"upload_bytes": 64 << 20, "queue": 100} and found["retention_days"] == 30
    assert "research" in found["intended_use"].lower()


def test_what_watches_over_it_is_answered(client: Any) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    until_ready(client)
    assert client.get("/health/ready").json() == {"status": "ready"}
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert counted(client, "boneage_ready") == 1 and counted(client, "boneage_jobs_waiting") == 0


def test_without_a_worker_it_lives_but_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import service_fakes

    monkeypatch.setattr(service_fakes, "FakeAssess", _RefusedAssess)
    with client_of(tmp_path / "data") as client:
        assert client.get("/health/live").status_code == 200
        for _ in range(100):
            answer = client.get("/health/ready")
            if "broken bundle" in answer.text:
                break
        assert answer.status_code == 503 and answer.json()["code"] == "not_ready"
        assert counted(client, "boneage_ready") == 0


class _RefusedAssess:
    def __init__(self, *_: Any) -> None:
        pass

    def __call__(self) -> Any:
        from boneage.core.errors import BundleError

        raise BundleError("a broken bundle: install it again")


def replace_by_folder(path: Path) -> None:
    """Put a folder where a file is gone, which the running service may just have made anew."""
    for _ in range(100):
        path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            path.mkdir()
            return
    raise AssertionError(f"{path.name} comes back all the time")


def test_without_its_database_it_says_so_and_recovers(tmp_path: Path) -> None:
    with client_of(tmp_path / "data") as client:
        database, away = tmp_path / "data" / "boneage.sqlite", tmp_path / "away"
        client.app.state.server.store.engine.dispose()
        database.rename(away)
        replace_by_folder(database)
        for path in ("/health/ready", "/api/v1/jobs", "/metrics"):
            answer = client.get(path)
            assert answer.status_code == 503 and answer.json()["code"] in ("not_ready", "database"), path
            assert "sqlite" not in answer.text
        assert client.get("/health/live").status_code == 200
        database.rmdir()
        away.rename(database)
        assert client.get("/api/v1/jobs").status_code == 200


def test_the_description_has_every_route_with_examples(client: Any) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/api/v1/jobs",
        "/api/v1/jobs/{job}",
        "/api/v1/jobs/{job}/pixels",
        "/api/v1/jobs/{job}/reading",
        "/api/v1/jobs/{job}/results/{form}",
        "/api/v1/score",
        "/api/v1/standards",
        "/api/v1/growth/{sex}",
        "/api/v1/atlas",
        "/api/v1/atlas/{sex}/{age_months}.png",
        "/api/v1/info",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    (example,) = document["components"]["schemas"]["Sheet"]["examples"]
    assert client.post("/api/v1/score", json=example).status_code == 200
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert route["summary"], (method, path)
            for status, answer in route["responses"].items():
                assert int(status) < 400 or "Problem" in str(answer.get("content")), (method, path, status)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api/v2/jobs", "/api", "/favicon.ico", "/.env"])
def test_a_path_that_is_none_is_told_as_an_error(client: Any, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and answer.json()["code"] == "http"


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/api/v1/jobs"), ("PUT", "/api/v1/score"), ("DELETE", "/"), ("TRACE", "/metrics")],
)
def test_a_method_that_is_none_is_told_as_an_error(client: Any, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405 and answer.json()["code"] == "http"


def test_a_trailing_slash_is_not_sent_elsewhere(client: Any) -> None:
    answer = client.post(
        "/api/v1/jobs/", files={"file": ("a.png", b"x", "image/png")}, follow_redirects=False
    )
    assert answer.status_code == 404


PAGE = Path(__file__).parents[2] / "src/boneage/service/web"


def test_the_page_and_all_of_its_files_are_served(client: Any) -> None:
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        answer = client.get(f"/static/{path.relative_to(PAGE)}")
        assert answer.status_code == 200 and answer.content == path.read_bytes()
        assert answer.headers["content-type"].startswith(kinds.get(path.suffix, "")), path.name
        assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..%5capp.py",
        "....//app.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "icon.svg%00.js",
        "%00",
        "",
        ".",
        "x" * 5000,
        "%F0%9F%92%80",
        "%ff%fe",
        "con",
        "icon.svg/../../app.py",
    ],
)
def test_nothing_but_the_pages_files_is_served(client: Any, path: str) -> None:
    answer = client.get(f"/static/{path}")
    assert answer.status_code == 404, (path, answer.status_code, answer.text[:200])
    assert "import" not in answer.text and answer.json()["code"] == "http"
