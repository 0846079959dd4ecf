"""What keeps a server up: room on its disk, an image that ends it each time, a look that makes nothing."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from service_fakes import client_of, ended, send
from worker_fakes import picture

from boneage.core.errors import ConfigError
from boneage.core.network import MIB
from boneage.service.dispatch import MOST_ATTEMPTS
from boneage.service.server import check
from boneage.service.settings import DATABASE, ServiceSettings
from boneage.service.store import Store, Submission

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_takes_no_upload_and_still_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(tmp_path, min_free_mib=100) as client:
        job = ended(client)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 100 * MIB - 1))
        refused = send(client)
        assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
        assert client.get("/health/ready").status_code == 503
        assert [one["id"] for one in client.get("/api/v1/jobs").json()["jobs"]] == [job["id"]]
        assert client.delete(job["links"]["self"]).status_code == 204
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, 1 << 40))
        assert ended(client)["state"] == "done"


def test_an_image_that_ends_the_server_each_time_is_given_up(tmp_path: Path) -> None:
    store = Store(ServiceSettings(data=str(tmp_path)).url)
    store.migrate()
    name, _ = store.submit(Submission(picture(), "picture", {"measured": {}, "sex": "male"}, "request"), 9)
    for _ in range(MOST_ATTEMPTS):
        assert store.claim("tested", 60) is not None
        assert store.recover("tested") == 1
    store.close()
    with client_of(tmp_path) as client:
        job = client.get(f"/api/v1/jobs/{name}", params={"wait": 30}).json()
        assert (job["state"], job["error"]["code"]) == ("failed", "worker_died")
        assert ended(client)["state"] == "done"


def test_a_look_makes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    check(ServiceSettings(data=str(data), host="0.0.0.0"))
    assert not data.exists() and not list(tmp_path.iterdir())
    with client_of(data) as client:
        ended(client)
        check(ServiceSettings(data=str(data), host="0.0.0.0"))
        assert len(client.get("/api/v1/jobs").json()["jobs"]) == 1
    assert [path.name for path in data.iterdir()] == [DATABASE]


def test_a_look_refuses_a_certificate_with_another_key(tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("no PEM")
    told = ServiceSettings(
        data=str(tmp_path), tls_certificate=str(tmp_path / "a.pem"), tls_key=str(tmp_path / "b.pem")
    )
    with pytest.raises(ConfigError, match=r"a\.pem.*b\.pem.*belong together"):
        check(told)


def test_the_page_answers_who_asks_for_its_head_alone(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        answer = client.head("/")
        assert (answer.status_code, answer.content) == (200, b"")
