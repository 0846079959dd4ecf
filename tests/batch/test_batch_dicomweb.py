"""A DICOMweb query as a list of images, against a small server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from batch_fakes import PoisonReader

from boneage.batch import dicomweb, source, storage, table
from boneage.batch.run import Settings, run
from boneage.batch.source import Listing
from boneage.core.errors import ConfigError, RuntimeUnavailable, UnreadableImage
from boneage.core.types import Sex

COUNT, PAGE = 7, 3
TOKEN = "a-token-that-nobody-may-read"


class Server(BaseHTTPRequestHandler):
    """Seven instances, three a page, whatever limit is asked for; the last one's file is gone."""

    image = b""

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, b"", "text/plain")
        elif parts.path == "/dicom-web/instances":
            asked = parse_qs(parts.query)
            assert asked["Modality"] == ["DX"]
            first = int(asked["offset"][0])
            found = [self.instance(COUNT - number) for number in range(first, min(first + PAGE, COUNT))]
            self.answer(
                200 if found else 204, json.dumps(found).encode() if found else b"", "application/dicom+json"
            )
        elif parts.path.endswith(f"1.2.{COUNT}"):
            self.answer(404, b"", "text/plain")
        elif parts.path.endswith("1.2.2"):
            self.answer(200, self.image, "application/dicom")
        else:
            body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + self.image + b"\r\n--xx--\r\n"
            self.answer(200, body, 'multipart/related; type="application/dicom"; boundary="xx"')

    def instance(self, number: int) -> dict[str, object]:
        said: dict[str, object] = {
            "0020000D": {"vr": "UI", "Value": ["1.2"]},
            "0020000E": {"vr": "UI", "Value": ["1.2.0"]},
            "00080018": {"vr": "UI", "Value": [f"1.2.{number}"]},
        }
        return said | (
            {"00100040": {"vr": "CS", "Value": ["F" if number % 2 else "M"]}} if number > 1 else {}
        )

    def answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server(radiograph: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("httpx", reason="a DICOMweb list needs httpx: pip install 'boneage[dicom]'")
    monkeypatch.setattr(Server, "image", radiograph)
    monkeypatch.setenv(dicomweb.TOKEN, TOKEN)
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"dicomweb+http://127.0.0.1:{found.server_port}/dicom-web"
        found.shutdown()


def test_a_query_is_a_list_in_the_order_of_uids_page_by_page(server: str) -> None:
    with closing(Listing(source.at(f"{server}/?Modality=DX"), "salt")) as listing:
        tasks = list(listing.tasks())
    assert [task.id for task in tasks] == [f"1.2.{number}" for number in range(1, COUNT + 1)]
    assert [task.sex for task in tasks[:3]] == [None, Sex.MALE, Sex.FEMALE]
    assert tasks[0].path == f"{server}/studies/1.2/series/1.2.0/instances/1.2.1"


def test_the_images_of_a_query_become_rows(server: str, tmp_path: Path, log: Path) -> None:
    settings = Settings(1, sex=Sex.FEMALE)
    run(source.at(f"{server}?Modality=DX"), tmp_path / "out.csv", PoisonReader(log), settings)
    rows = table.read(tmp_path / "out.csv")
    assert [row["status"] for row in rows] == ["ok"] * (COUNT - 1) + ["rejected"]
    assert "status 404" in rows[-1]["message"] and TOKEN not in (tmp_path / "out.csv").read_text()


def test_a_server_that_refuses_or_is_none_is_told_before_work_starts(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dicomweb.TOKEN, "wrong")
    with pytest.raises(ConfigError, match=r"refused \(status 401\)"):
        Listing(source.at(f"{server}?Modality=DX"), "salt")
    with pytest.raises(RuntimeUnavailable, match=r"127\.0\.0\.1:9 does not answer"):
        Listing(source.at("dicomweb+http://127.0.0.1:9/dicom-web?Modality=DX"), "salt")
    with pytest.raises(ConfigError, match="user or password"):
        source.at("dicomweb+https://me:secret@pacs/dicom-web")
    with pytest.raises(ConfigError, match="nothing else"):
        storage.folder_at(server)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html>", "text/html"),
        (b"--xx\r\nContent-Type: application/dicom\r\n\r\ncut short", "multipart/related; boundary=xx"),
        (b"", "multipart/related; boundary=xx"),
        (b"", ""),
    ],
)
def test_an_answer_without_a_file_is_an_unreadable_image(content: bytes, kind: str) -> None:
    with pytest.raises(UnreadableImage, match="no DICOM file"):
        dicomweb._first_part(content, kind)
