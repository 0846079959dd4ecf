"""The configuration: what is read, and what is refused before anything starts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boneage.core.errors import ConfigError
from boneage.dicomnode.checks import check
from boneage.dicomnode.settings import (
    Assess,
    Destination,
    NodeSettings,
    Query,
    Receive,
    Retry,
    Tls,
    Watch,
    Web,
    parse_destination,
    read_settings,
)

PACS = Destination("pacs", ae_title="PACS", host="10.0.0.5", port=104)
GOOD = NodeSettings(send=(PACS,))
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "node.toml"


def test_the_example_that_is_shipped_can_be_read() -> None:
    settings = read_settings(EXAMPLE)
    assert settings.send and settings.receive.accept_from and settings.retention_hours > 0
    check(settings)


def test_the_unit_goes_on_when_one_process_has_no_memory() -> None:
    assert "OOMPolicy=continue" in (ROOT / "deploy" / "boneage-dicom.service").read_text().splitlines()


def test_both_how_tos_make_the_folder_of_secrets_for_its_owner_alone() -> None:
    for name in ("dicom-node", "serve"):
        lines = (ROOT / "docs" / "how-to" / f"{name}.md").read_text().splitlines()
        made = [line for line in lines if line.startswith("install -d") and "/etc/boneage" in line]
        assert made == ["install -d -o boneage -m 0700 /etc/boneage"], name


def test_a_file_becomes_settings(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'ae_title = "NODE"\n[receive]\nport = 104\naccept_from = ["CR1"]\n[receive.tls]\nca = "x"\n'
        '[[send]]\nname = "pacs"\nae_title = "PACS"\nhost = "pacs"\nwhat = ["sr"]\n'
        '[[query]]\nname = "web"\nweb = {url = "http://x"}\nfilter = {Modality = "DX"}\n'
    )
    settings = read_settings(file)
    assert settings.ae_title == "NODE" and settings.receive.tls == Tls(ca="x")
    assert settings.send == (Destination("pacs", ae_title="PACS", host="pacs", what=("sr",)),)
    assert settings.query[0].filter == {"Modality": "DX"} and settings.query[0].web.url == "http://x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recieve = 1", "unknown key 'recieve'"),
        ("[receive]\nport = '104'", "port must be int"),
        ("[[send]]\nport = 104", "name"),
        ("[receive", "not TOML"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_settings(file)


def receive(**changed: Any) -> NodeSettings:
    return replace(GOOD, receive=Receive(**changed))


def send(**changed: Any) -> NodeSettings:
    return replace(GOOD, send=(replace(PACS, **changed),))


def query(**changed: Any) -> NodeSettings:
    usual = {"name": "web", "web": Web("http://127.0.0.1/dicom-web")}
    return replace(GOOD, query=(Query(**{**usual, **changed}),))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (replace(GOOD, ae_title=""), "ae_title"),
        (replace(GOOD, ae_title="SEVENTEEN_LETTERS"), "ae_title"),
        (replace(GOOD, ae_title="BACK\\SLASH"), "ae_title"),
        (replace(GOOD, ae_title=" SPACE"), "ae_title"),
        (replace(GOOD, ae_title="MÜLLER"), "ae_title"),
        (replace(GOOD, retention_hours=0), "retention_hours"),
        (replace(GOOD, retention_hours=float("nan")), "retention_hours"),
        (replace(GOOD, dead_retention_hours=-1), "dead_retention_hours"),
        (replace(GOOD, send=()), "no destination"),
        (replace(GOOD, send=(PACS, replace(PACS, name="PACS"))), "every name"),
        (replace(GOOD, assess=Assess(workers=0)), "assess.workers"),
        (replace(GOOD, assess=Assess(runtime="torch")), "assess.runtime"),
        (replace(GOOD, retry=Retry(max_attempts=0)), "retry.max_attempts"),
        (replace(GOOD, watch=Watch("/no/such/folder")), "watch.folder"),
        (receive(port=0), "nothing comes in"),
        (receive(port=70000), "receive.port"),
        (receive(max_pdu_bytes=100), "max_pdu_bytes"),
        (receive(max_associations=0), "max_associations"),
        (receive(network_timeout_s=0.0), "network_timeout_s"),
        (receive(host="0.0.0.0"), "accept_from"),
        (receive(host="pacs.hospital"), "accept_from"),
        (receive(accept_from=("A" * 17,)), "accept_from"),
        (receive(tls=Tls()), "receive.tls needs certificate"),
        (receive(tls=Tls("no.pem", "no.pem")), "no.pem"),
        (send(name="../pacs"), "'../pacs'"),
        (send(name="images"), "images"),
        (send(name=""), "a name is"),
        (send(kind="ftp"), "kind"),
        (send(what=()), "what"),
        (send(what=("pdf",)), "what"),
        (send(host=""), "host"),
        (send(port=0), "port"),
        (send(host="127.0.0.1", port=11112), "the node itself"),
        (send(tls=Tls(ca="no.pem")), "no.pem"),
        (send(kind="dicomweb"), "url"),
        (send(kind="dicomweb", web=Web("ftp://x")), "url"),
        (send(kind="dicomweb", web=Web("http://me:secret@x")), "password"),
        (send(kind="dicomweb", web=Web("http://x", token_file="no.txt")), "no.txt"),
        (query(days=-1), "days"),
        (query(days=30), "retention_hours must be at least 744"),
        (query(web=Web("x")), "url"),
        (query(every_s=0.0), "every_s"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: NodeSettings, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        check(settings)


@pytest.mark.parametrize(
    "settings",
    [
        GOOD,
        receive(host="0.0.0.0", accept_from=("CR1",)),
        receive(host="0.0.0.0", accept_from=("*",)),
        send(kind="dicomweb", web=Web("https://pacs/dicom-web")),
        replace(query(), receive=Receive(port=0)),
    ],
)
def test_what_can_work_is_taken(settings: NodeSettings) -> None:
    check(settings)


@pytest.mark.parametrize(
    ("text", "host"),
    [("pacs=P1@10.0.0.5:104", "10.0.0.5"), ("pacs=P1@[::1]:104", "::1"), ("pacs=P1@h:104", "h")],
)
def test_a_destination_is_written_short(text: str, host: str) -> None:
    assert parse_destination(text) == Destination("pacs", ae_title="P1", host=host, port=104)


@pytest.mark.parametrize(
    "text", ["", "pacs", "pacs=P1@host", "P1@host:104", "pacs=host:104", "pacs=P1@host:x"]
)
def test_a_destination_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=AET@HOST:PORT"):
        parse_destination(text)
