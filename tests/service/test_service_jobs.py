"""Routes of jobs, with workers that cost nothing: every documented answer, and what happens at the edges."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dicom_studies import study_image
from service_fakes import JOBS, client_of, counted, ended, send, until_ended
from sqlalchemy.exc import OperationalError
from worker_fakes import picture

from boneage.service import dispatch
from boneage.service.store import Ending, Store, Submission

FORMS = {
    "json": ("application/json", "json"),
    "html": ("text/html; charset=utf-8", "html"),
    "pdf": ("application/pdf", "pdf"),
    "fhir": ("application/fhir+json", "fhir.json"),
    "sr": ("application/dicom", "sr.dcm"),
    "capture": ("application/dicom", "capture.dcm"),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with client_of(tmp_path_factory.mktemp("jobs") / "data", queue=1000, job_s=20) as made:
        yield made


def dicom(**tags: Any) -> bytes:
    from io import BytesIO

    file = BytesIO()
    study_image(**tags).save_as(file, enforce_file_format=True)
    return file.getvalue()


def refused(answer: Any, status: int, code: str, *words: str) -> dict[str, Any]:
    """Check that an answer is an error as every error is."""
    assert answer.status_code == status, answer.text
    said: dict[str, Any] = answer.json()
    assert said["code"] == code
    assert all(word in said["message"] for word in words), said
    return said


def newest(client: Any) -> str | None:
    """Return the id of the job that came last."""
    jobs = client.get(JOBS, params={"limit": 1}).json()["jobs"]
    return jobs[0]["id"] if jobs else None


def test_an_image_becomes_a_job_with_its_result(client: Any) -> None:
    answer = send(client, picture("age", 150), age_months=148, label="Zimmer 4 · 手", wait=30)
    job = answer.json()
    assert answer.status_code == 200 and answer.headers["location"] == f"{JOBS}/{job['id']}"
    assert (job["state"], job["label"], job["kind"], job["sex"]) == (
        "done",
        "Zimmer 4 · 手",
        "picture",
        "female",
    )
    assert job["bone_age_months"] == job["result"]["bone_age_months"] == 150
    assert job["chronological_age_months"] == 148 and job["sd_score"] == 0.5
    assert job["error"] is None and job["position"] is None and job["changed"] is False
    created, finished = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    assert datetime.now(UTC) - timedelta(minutes=1) < created <= finished <= datetime.now(UTC)
    assert client.get(answer.headers["location"]).json() == job


def test_without_wait_it_is_accepted_and_followed(client: Any) -> None:
    answer = send(client, picture("slow", 0.3))
    job = answer.json()
    assert answer.status_code == 202 and job["state"] in ("queued", "running")
    assert job["result"] is None and job["finished_at"] is None
    assert job["links"] == {"self": f"{JOBS}/{job['id']}"}
    followed = client.get(f"{JOBS}/{job['id']}", params={"wait": 30})
    assert followed.status_code == 200 and followed.json()["state"] == "done"


def test_wait_ends_when_its_seconds_are_over(client: Any) -> None:
    answer = send(client, picture("slow", 1), wait=0.2)
    assert answer.status_code == 202 and answer.json()["state"] == "running"
    once_more = client.get(f"{JOBS}/{answer.json()['id']}", params={"wait": 0.2})
    assert once_more.status_code == 200 and once_more.json()["state"] == "running"
    until_ended(client, [answer.json()["id"]])


def test_places_in_the_queue_are_told(client: Any) -> None:
    names = [send(client, picture("slow", 0.4)).json()["id"] for _ in range(3)]
    last = client.get(f"{JOBS}/{names[-1]}").json()
    assert last["state"] == "queued" and last["position"] in (1, 2)
    shown = client.get(JOBS, params={"limit": 1}).json()["jobs"][0]
    assert (shown["id"], shown["state"]) == (names[-1], "queued") and shown["position"] in (1, 2)
    jobs = until_ended(client, names)
    assert all(job["position"] is None for job in jobs.values())


@pytest.mark.parametrize(
    ("wish", "state", "code"),
    [
        ("foot", "rejected", "not_a_hand"),
        ("bug", "failed", "unforeseen"),
        ("kill", "failed", "worker_died"),
    ],
)
def test_an_image_without_a_bone_age_says_why(client: Any, wish: str, state: str, code: str) -> None:
    job = ended(client, picture(wish))
    assert (job["state"], job["error"]["code"], job["result"]) == (state, code, None)
    assert job["error"]["message"] and "Lovelace" not in job["error"]["message"]
    assert job["links"] == {"self": f"{JOBS}/{job['id']}"}
    for path in ("pixels", "results/json"):
        refused(client.get(f"{JOBS}/{job['id']}/{path}"), 409, "no_result")
    refused(client.put(f"{JOBS}/{job['id']}/reading", json={"grades": {}}), 409, "no_result")


def test_a_sex_that_nothing_tells_is_asked_for(client: Any) -> None:
    job = ended(client, sex=None)
    assert (job["state"], job["error"]["code"]) == ("rejected", "sex_required")


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ({"sex": "boy"}, 400, "sex"),
        ({"age_months": 120, "birth_date": "2015-01-01"}, 400, "give one of them"),
        ({"exam_date": "2025-01-01"}, 400, "birth_date"),
        ({"birth_date": "2015-01-02", "exam_date": "2015-01-01"}, 400, "after the examination"),
        ({"birth_date": "1800-01-01", "exam_date": "2015-01-01"}, 400, "too long before"),
        ({"birth_date": "9999-12-31"}, 400, "after the examination"),
        ({"birth_date": "2015-02-30"}, 422, "birth_date"),
        ({"birth_date": "20150230"}, 422, "birth_date"),
        ({"birth_date": "01.02.2015"}, 422, "birth_date"),
        ({"birth_date": "1700006400"}, 422, "birth_date"),
        ({"birth_date": "yesterday", "exam_date": "today"}, 422, "exam_date"),
        ({"age_months": "-1"}, 422, "age_months"),
        ({"age_months": "1e308"}, 422, "age_months"),
        ({"age_months": "nan"}, 422, "age_months"),
        ({"age_months": "inf"}, 422, "age_months"),
        ({"age_months": "12 years"}, 422, "age_months"),
        ({"height_cm": "nan"}, 400, "height"),
        ({"height_cm": "inf"}, 400, "height"),
        ({"height_cm": "-140"}, 400, "height"),
        ({"height_cm": "1e300"}, 400, "height"),
        ({"height_cm": "tall"}, 422, "height_cm"),
        ({"weight_kg": "30"}, 400, "height_cm"),
        ({"height_cm": "140", "father_cm": "nan"}, 400, "father"),
        ({"height_cm": "140", "menarche": "perhaps"}, 422, "menarche"),
        ({"label": "x" * 81}, 422, "label"),
        ({"label": "two\nlines"}, 400, "one line"),
        ({"label": "nothing\0behind"}, 400, "one line"),
        ({"label": "turned \u202e around"}, 400, "one line"),
        ({"wait": "nan"}, 422, "wait"),
        ({"wait": "61"}, 422, "wait"),
        ({"wait": "-1"}, 422, "wait"),
        ({"key": "k" * 201}, 422, "idempotency-key"),
    ],
)
def test_what_does_not_go_together_is_refused_and_nothing_is_written(
    client: Any, said: dict[str, Any], status: int, words: str
) -> None:
    before = newest(client)
    answer = send(client, **said)
    code = "invalid_request" if status == 422 else answer.json()["code"]
    told = refused(answer, status, code, words)
    assert status != 422 or words in told["fields"]
    assert newest(client) == before


@pytest.mark.parametrize(
    "label", ["王小明\u3000左手", "a\u00a0b", "Zoë’s – 2", "👩🏽", "<script>", "'; DROP TABLE jobs; --"]
)
def test_a_label_in_any_script_comes_back_as_it_was_sent(client: Any, label: str) -> None:
    job = ended(client, label=label)
    assert job["label"] == label
    assert client.get(JOBS, params={"limit": 1}).json()["jobs"][0]["label"] == label


def test_dates_give_the_age_and_are_not_kept(client: Any, tmp_path: Path) -> None:
    job = ended(client, birth_date="2015-03-14", exam_date="2025-03-14")
    assert job["chronological_age_months"] == pytest.approx(120, abs=0.1)
    assert "2015-03-14" not in client.get(f"{JOBS}/{job['id']}").text


def test_measurements_reach_the_assessment(client: Any) -> None:
    job = ended(client, age_months=124, height_cm=140, father_cm=180, mother_cm=165, menarche="false")
    assert job["state"] == "done", job


def test_the_same_key_gives_the_same_job(client: Any) -> None:
    first = send(client, key="the key", label="a")
    again = send(client, key="the key", label="a")
    assert first.status_code in (200, 202) and again.status_code == 200
    assert again.json()["id"] == first.json()["id"]
    refused(send(client, key="the key", label="b"), 409, "key_reused")
    refused(send(client, picture("age", 9), key="the key", label="a"), 409, "key_reused")
    refused(send(client, key="the key", label="a", sex="male"), 409, "key_reused")


def test_duplicates_at_once_make_one_job(client: Any) -> None:
    accepted = counted(client, "boneage_jobs_accepted_total")
    gate = threading.Barrier(8)

    def once(_at: int) -> Any:
        gate.wait()
        return send(client, key="at once")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(once, range(8)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert counted(client, "boneage_jobs_accepted_total") == accepted + 1


def test_a_key_outlives_midnight(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry on the next day is the same request, though the child is a day older by then."""
    from boneage.service import job_routes

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=1)

    first = send(client, key="late", birth_date="2015-03-14")
    monkeypatch.setattr(job_routes, "datetime", Tomorrow)
    again = send(client, key="late", birth_date="2015-03-14")
    assert again.status_code == 200 and again.json()["id"] == first.json()["id"]


def test_the_worklist_pages_from_new_to_old(client: Any) -> None:
    names = [ended(client, label=f"page {at}")["id"] for at in range(5)]
    seen: list[str] = []
    page = client.get(JOBS, params={"limit": 2}).json()
    assert len(page["jobs"]) == 2 and page["next"] == page["jobs"][-1]["id"]
    while not set(names) <= set(seen):
        seen += [job["id"] for job in page["jobs"]]
        page = client.get(JOBS, params={"limit": 2, "before": page["next"]}).json()
    assert seen[:5] == names[::-1]
    first = client.get(JOBS, params={"limit": 1}).json()["jobs"][0]
    assert "result" not in first and "links" not in first and first["bone_age_months"] == 124.25


def test_the_last_page_says_that_it_is(client: Any) -> None:
    ended(client)
    rows = client.get(JOBS, params={"limit": 200}).json()["jobs"]
    page = client.get(JOBS, params={"limit": 200, "before": rows[-1]["id"]}).json()
    assert page == {"jobs": [], "next": None}
    exact = client.get(JOBS, params={"limit": 1, "before": rows[-2]["id"]}).json()
    assert [job["id"] for job in exact["jobs"]] == [rows[-1]["id"]] and exact["next"] is None


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"limit": "all"}, {"before": "x"}, {"before": "f" * 33}]
)
def test_a_page_that_cannot_be_is_refused(client: Any, query: dict[str, Any]) -> None:
    said = refused(client.get(JOBS, params=query), 422, "invalid_request")
    assert said["fields"] == list(query)


NO_IDS = [
    "f" * 32,
    "0",
    "F" * 32,
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "f" * 32 + "%0a",
    "%F0%9F%92%80",
    "x" * 5000,
    "1' OR '1'='1",
    "%ff%fe",
]


@pytest.mark.parametrize("name", NO_IDS)
def test_an_id_that_never_was_is_not_found_by_any_route(client: Any, name: str) -> None:
    for method, path in (
        ("GET", ""),
        ("GET", "?wait=1"),
        ("DELETE", ""),
        ("GET", "/pixels"),
        ("GET", "/results/json"),
    ):
        said = client.request(method, f"{JOBS}/{name}{path}")
        assert said.status_code == 404 and said.json()["code"] in ("no_such_job", "http"), (method, path)
    said = client.put(f"{JOBS}/{name}/reading", json={"grades": {}})
    assert said.status_code == 404


@pytest.mark.parametrize(("form", "expected"), FORMS.items())
def test_a_report_comes_in_every_form_as_a_file(client: Any, form: str, expected: tuple[str, str]) -> None:
    job = ended(client, dicom(), kind="application/dicom")
    kind, ending = expected
    answer = client.get(job["links"][form])
    assert answer.status_code == 200 and answer.headers["content-type"] == kind
    assert answer.headers["content-disposition"] == f'attachment; filename="boneage-{job["id"][:8]}.{ending}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text == f"{form} R4 {job['id']} {{}}"


def test_the_release_of_fhir_is_chosen(client: Any) -> None:
    path = ended(client)["links"]["fhir"]
    assert client.get(path, params={"release": "R5"}).text.startswith("fhir R5 ")
    refused(client.get(path, params={"release": "R3"}), 422, "invalid_request")


def test_a_form_that_is_none_is_refused(client: Any) -> None:
    refused(client.get(f"{JOBS}/{ended(client)['id']}/results/docx"), 422, "invalid_request", "form")


@pytest.mark.parametrize("form", ["sr", "capture"])
def test_a_picture_has_no_study_to_put_a_dicom_result_into(client: Any, form: str) -> None:
    job = ended(client)
    assert form not in job["links"] and job["kind"] == "picture"
    refused(client.get(f"{JOBS}/{job['id']}/results/{form}"), 409, "no_study", "DICOM")


def test_before_the_end_there_is_no_result(client: Any) -> None:
    name = send(client, picture("slow", 0.5)).json()["id"]
    for path in ("pixels", "results/pdf"):
        refused(client.get(f"{JOBS}/{name}/{path}"), 409, "not_done")
    refused(client.put(f"{JOBS}/{name}/reading", json={"grades": {}}), 409, "not_done")
    until_ended(client, [name])


def test_the_viewers_picture_has_its_sizes_in_headers(client: Any) -> None:
    answer = client.get(ended(client)["links"]["pixels"])
    assert answer.headers["content-type"] == "application/octet-stream" and answer.content == b"\1\2" * 6
    sizes = [answer.headers[f"x-{name}"] for name in ("width", "height", "scale")]
    assert sizes == ["3", "2", "1.500000"]
    assert (answer.headers["x-window-low"], answer.headers["x-window-high"]) == ("10", "60000")


def test_a_readers_grades_stand_beside_the_machines_and_can_be_taken_back(client: Any) -> None:
    job = ended(client, age_months=124)
    path = f"{JOBS}/{job['id']}"
    read = client.put(f"{path}/reading", json={"grades": {"RUS_CHN": {"radius": 9}, "tw3": {"ulna": "g"}}})
    assert read.status_code == 200
    sheets = {sheet["standard"]: sheet for sheet in read.json()["result"]["reading"]}
    assert set(sheets) == {"rus_chn", "tw3"} and sheets["rus_chn"]["changed"] == {"radius": 9}
    assert list(sheets["tw3"]["changed"]) == ["ulna"]
    assert sheets["rus_chn"]["total"] > 0 and sheets["rus_chn"]["sd_score"] is not None
    assert read.json()["changed"] and read.json()["bone_age_months"] == job["bone_age_months"]
    assert client.get(path).json() == read.json()
    assert client.get(JOBS, params={"limit": 1}).json()["jobs"][0]["changed"]
    assert "'radius': 9" in client.get(f"{path}/results/html").text
    again = client.put(f"{path}/reading", json={"grades": {"rus_chn": {"ulna": 6}}})
    assert [sheet["standard"] for sheet in again.json()["result"]["reading"]] == []  # 6 is the machine's own
    assert again.json()["changed"] is False
    client.put(f"{path}/reading", json={"grades": {"rus_chn": {"radius": 9}}})
    back = client.put(f"{path}/reading", json={"grades": {}})
    assert back.json() == job
    assert "radius" not in client.get(f"{path}/results/html").text


@pytest.mark.parametrize(
    ("grades", "status", "code"),
    [
        ({"tanner": {"radius": 5}}, 400, "table_missing"),
        ({"rus_chn": {"femur": 5}}, 400, "wrong_bones"),
        ({"rus_chn": {"capitate": 5}}, 400, "wrong_bones"),
        ({"rus_chn": {"radius": 99}}, 400, "unknown_grade"),
        ({"rus_chn": {"radius": 14.5}}, 400, "unknown_grade"),
        ({"rus_chn": {"radius": -1}}, 400, "unknown_grade"),
        ({"tw3": {"ulna": "Z"}}, 400, "unknown_grade"),
        ({"tw3": {"ulna": ""}}, 400, "unknown_grade"),
        ({"rus_chn": {"radius": None}}, 422, "invalid_request"),
        ({"rus_chn": {"radius": [9]}}, 422, "invalid_request"),
        ({"rus_chn": 9}, 422, "invalid_request"),
        ({f"s{at}": {} for at in range(9)}, 422, "invalid_request"),
    ],
)
def test_grades_that_no_standard_has_are_refused_and_change_nothing(
    client: Any, grades: Any, status: int, code: str
) -> None:
    job = ended(client)
    path = f"{JOBS}/{job['id']}"
    assert client.put(f"{path}/reading", json={"grades": {"rus_chn": {"radius": 9}}}).status_code == 200
    kept = client.get(path).json()
    refused(client.put(f"{path}/reading", json={"grades": grades}), status, code)
    assert client.get(path).json() == kept


def test_deleting_takes_the_job_away_in_any_state(client: Any) -> None:
    done = ended(client)["id"]
    running = send(client, picture("slow", 0.5)).json()["id"]
    waiting = send(client, picture("slow", 0)).json()["id"]
    for name in (done, waiting, running):
        answer = client.delete(f"{JOBS}/{name}")
        assert answer.status_code == 204 and answer.content == b""
        refused(client.get(f"{JOBS}/{name}"), 404, "no_such_job")
        refused(client.delete(f"{JOBS}/{name}"), 404, "no_such_job")
    assert ended(client)["state"] == "done"  # behind the one that ran
    for name in (done, waiting, running):
        refused(client.get(f"{JOBS}/{name}"), 404, "no_such_job")


def test_who_waits_for_a_job_that_is_deleted_is_told(client: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, client, picture("slow", 1), wait=30, label="will be deleted")
        while True:
            newest = client.get(JOBS, params={"limit": 1}).json()["jobs"]
            if newest and newest[0]["label"] == "will be deleted":
                break
            time.sleep(0.02)
        assert client.delete(f"{JOBS}/{newest[0]['id']}").status_code == 204
        refused(waiting.result(30), 404, "no_such_job")


def test_a_report_that_brings_its_process_down_is_told_and_the_next_one_is_made(client: Any) -> None:
    job = ended(client, picture("report", 1))
    refused(client.get(job["links"]["pdf"]), 500, "worker_died")
    assert client.get(ended(client)["links"]["pdf"]).status_code == 200


def test_many_reports_at_once_keep_nobody_else_waiting(client: Any, tmp_path: Path) -> None:
    """Reports are made one after another; who asks for something else does not stand behind them."""
    gate = tmp_path / "open"
    job = ended(client, picture("gate", mark=str(gate)))  # its reports wait for that file
    with ThreadPoolExecutor(61) as pool:
        asked = [pool.submit(client.get, job["links"]["html"]) for _ in range(60)]
        try:
            time.sleep(0.5)
            other = pool.submit(ended, client, picture("age", 99)).result(15)
            ready = pool.submit(client.get, "/health/ready").result(15)
            assert not any(answer.done() for answer in asked)
        finally:
            gate.touch()
        assert other["bone_age_months"] == 99 and ready.status_code == 200
        assert {answer.result(30).status_code for answer in asked} == {200}


def test_few_images_at_once_are_in_memory(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many send at once; the rest waits on disk, and SQLite's one writer is not overrun."""
    lock, now, most = threading.Lock(), 0, 0
    submit = Store.submit

    def counting(store: Store, submission: Submission, capacity: int) -> tuple[str, bool]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.1)
        with lock:
            now -= 1
        return submit(store, submission, capacity)

    monkeypatch.setattr(Store, "submit", counting)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: send(client), range(16)))
    assert {answer.status_code for answer in answers} <= {200, 202} and 1 < most <= 4
    until_ended(client, [answer.json()["id"] for answer in answers])
    for answer in answers:  # the next test counts what ends
        client.get(f"{JOBS}/{answer.json()['id']}", params={"wait": 30})


def test_figures_count_what_happened(tmp_path: Path) -> None:
    with client_of(tmp_path / "data") as client:
        _count(client)


def _count(client: Any) -> None:
    """Let things happen, and compare the figures before and after."""
    names = {
        "accepted": "boneage_jobs_accepted_total",
        "done": 'boneage_jobs_ended_total{code="",state="done"}',
        "rejected": 'boneage_jobs_ended_total{code="not_a_hand",state="rejected"}',
        "asked": f'boneage_http_requests_total{{method="POST",route="{JOBS}",status="200"}}',
        "missed": f'boneage_http_requests_total{{method="GET",route="{JOBS}/{{job}}",status="404"}}',
    }
    before = {name: counted(client, line) for name, line in names.items()}
    ended(client)
    ended(client, picture("foot"))
    client.get(f"{JOBS}/{'f' * 32}")
    expected = {"accepted": 2, "done": 1, "rejected": 1, "asked": 2, "missed": 1}
    for _ in range(100):  # an end is counted a moment after it is told
        after = {name: counted(client, line) for name, line in names.items()}
        if (found := {name: after[name] - before[name] for name in names}) == expected:
            return
        time.sleep(0.02)
    assert found == expected


def test_a_database_that_is_away_for_a_moment_costs_no_job_and_no_second_try(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    finish = Store.finish

    def failing(store: Store, name: str, ending: Ending) -> None:
        tries.append(name)
        if len(tries) < 4:
            raise OperationalError("UPDATE jobs", {}, Exception("the database is away"))
        finish(store, name, ending)

    monkeypatch.setattr(dispatch, "_RESTART_S", 0.05)
    monkeypatch.setattr(Store, "finish", failing)
    job = ended(client)
    assert job["state"] == "done" and tries == [job["id"]] * 4
    row = client.app.state.server.store.job(job["id"])
    assert row.attempts == 1


def test_a_full_queue_says_when_to_come_back_and_loses_nothing(tmp_path: Path) -> None:
    with client_of(tmp_path / "data", queue=2) as client:
        answers = [send(client, picture("slow", 0.3), label=str(at), key=f"k{at}") for at in range(8)]
        accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        full = [answer for answer in answers if answer.status_code == 429]
        assert len(full) >= 5 and len(accepted) + len(full) == 8
        for answer in full:
            refused(answer, 429, "queue_full", answer.headers["retry-after"])
            assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert send(client, picture("slow", 0.3), label="0", key="k0").json()["id"] == accepted[0]
        assert counted(client, "boneage_jobs_turned_away_total") == len(full)
        jobs = until_ended(client, accepted)
        assert {job["state"] for job in jobs.values()} == {"done"}
        assert [job["id"] for job in client.get(JOBS).json()["jobs"]] == accepted[::-1]
        assert send(client, key="k7", label="7").status_code in (200, 202)  # there is room again


def test_at_overload_every_accepted_job_ends_once(tmp_path: Path) -> None:
    with client_of(tmp_path / "data", queue=5, workers=2) as client:

        def offer(at: int) -> Any:
            return send(client, picture("age", at), wait=1)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(offer, range(80)))
        assert {answer.status_code for answer in answers} <= {200, 202, 429}
        accepted = {answer.json()["id"]: at for at, answer in enumerate(answers) if answer.status_code != 429}
        jobs = until_ended(client, list(accepted))
        assert {job["bone_age_months"] for job in jobs.values()} == set(map(float, accepted.values()))
        assert len(accepted) == len(set(accepted)) == counted(client, "boneage_jobs_accepted_total")
        assert counted(client, 'boneage_jobs_ended_total{code="",state="done"}') == len(accepted)
