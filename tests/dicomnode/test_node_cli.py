"""`boneage dicom` as it is typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from dicom_peers import Archive, free_port
from spooled import put

from boneage.cli import dicom
from boneage.cli.main import run
from boneage.dicomnode import node as nodes
from boneage.dicomnode.settings import Destination, NodeSettings
from boneage.dicomnode.spool import Spool, key_of


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NodeSettings]:
    """The settings of nodes that would have been served."""
    made: list[NodeSettings] = []

    class Unserved:
        def __init__(self, settings: NodeSettings) -> None:
            made.append(settings)

        def serve(self) -> None:
            pass

    monkeypatch.setattr(nodes, "Node", Unserved)
    monkeypatch.setattr(dicom, "_log_to_stderr", lambda: None)
    return made


def test_a_node_is_begun_without_a_file(asked: list[NodeSettings]) -> None:
    options = "--ae-title NODE --host 0.0.0.0 --port 104 --spool /s --accept CR1 --accept CR2"
    sends = "--send pacs=PACS@10.0.0.5:104 --send second=P2@h:11112"
    assert run(["dicom", *options.split(), *sends.split()]) == 0
    (settings,) = asked
    assert (settings.ae_title, settings.spool) == ("NODE", "/s")
    assert (settings.receive.host, settings.receive.port) == ("0.0.0.0", 104)
    assert settings.receive.accept_from == ("CR1", "CR2")
    assert [one.address for one in settings.send] == ["PACS@10.0.0.5:104", "P2@h:11112"]


def test_options_win_over_the_file_or_add_to_it(asked: list[NodeSettings], tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'ae_title = "FILE"\nspool = "kept"\n[receive]\nport = 104\naccept_from = ["CR1"]\n'
        '[[send]]\nname = "pacs"\nae_title = "P"\nhost = "h"\n'
    )
    arguments = ["dicom", "--config", str(file), "--ae-title", "NODE", "--accept", "CR2", "--send", "b=B@h:1"]
    assert run(arguments) == 0
    (settings,) = asked
    assert (settings.ae_title, settings.spool, settings.receive.port) == ("NODE", "kept", 104)
    assert settings.receive.accept_from == ("CR1", "CR2")
    assert settings.send == (
        Destination("pacs", ae_title="P", host="h"),
        Destination("b", ae_title="B", host="h", port=1),
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no destination"),
        (["--send", "nonsense"], "NAME=AET@HOST:PORT"),
        (["--send", "p=P@h:104", "--host", "0.0.0.0"], "accept_from"),
        (["--config", "/no/such/file.toml"], "/no/such/file.toml"),
        (["--status", "--spool", "/no/such/spool"], "no spool at /no/such/spool"),
        (["--retry-dead", "--spool", "/no/such/spool"], "no spool at /no/such/spool"),
        (["--check"], "no destination"),
    ],
)
def test_what_cannot_work_ends_with_2_and_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dicom", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [one for one in sys.modules if one.startswith(("boneage.dicomnode", "pynetdicom"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    assert run(["dicom", "--send", "p=P@h:104"]) == 1
    assert "pip install 'boneage[dicom]'" in capsys.readouterr().err


@pytest.mark.parametrize(("up", "code"), [((True, True), 0), ((True, False), 3), ((False, False), 1)])
def test_check_asks_every_peer(
    up: tuple[bool, bool], code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    archives = [Archive().start() if one else Archive() for one in up]
    sends = [f"--send=peer{number}=ORTHANC@127.0.0.1:{one.port}" for number, one in enumerate(archives)]
    port = ["--port", str(free_port()), "--spool", str(tmp_path / "none")]
    assert run(["dicom", "--check", *port, *sends]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith(": answers") for line in lines] == list(up)
    assert not (tmp_path / "none").exists()
    for one in archives:
        one.stop()


def test_status_counts_and_the_dead_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = Spool(tmp_path / "spool", ("pacs",))
    spool.open()
    put(spool, key_of("1"), b"image")
    spool.bury_image(key_of("1"), "the worker died")
    spool.close()
    where = ["--spool", str(spool.root)]
    assert run(["dicom", "--status", "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["running"], found["waiting"], found["dead"]["images"]) == (False, 0, 1)
    assert run(["dicom", "--retry-dead", "--status", *where]) == 0
    told = capsys.readouterr()
    assert "1 put back" in told.err
    assert [line.split() for line in told.out.splitlines()][:2] == [["node", "stopped"], ["waiting", "1"]]
