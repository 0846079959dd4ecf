"""The node's configuration: one TOML file, one frozen dataclass; `checks` judges it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from boneage.core.errors import ConfigError
from boneage.core.runtime import DEFAULT_RUNTIME
from boneage.training.config import read_config

ANYONE = "*"
"""In `accept_from`: whatever the caller names itself."""

FORMS = ("sr", "capture")
KINDS = ("dicom", "dicomweb")

_SEND_WRITTEN = re.compile(r"(?P<name>[^=]+)=(?P<title>[^@]+)@(?P<host>.+):(?P<port>\d+)")


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a TLS connection, in PEM.

    Args:
        certificate: this node's; a listener needs one, a sender where its peer asks for one.
        key: of the certificate.
        ca: whose signature the peer must show; empty takes the system's for a sender, and for a listener
            asks the callers for none.
        check_host: a sender's peer must be the host that its certificate names.
    """

    certificate: str = ""
    key: str = ""
    ca: str = ""
    check_host: bool = True


@dataclass(frozen=True, slots=True)
class Receive:
    """Who may send to the node, and what it bears.

    Args:
        host: address to listen on.
        port: to listen on; 0 does not listen.
        accept_from: AE titles that may call; `*` is anyone. Empty is anyone too, on loopback alone.
        max_associations: at once.
        max_pdu_bytes: of a PDU, as told to the callers.
        max_object_mb: MiB of one object, held in memory while it arrives.
        min_free_mb: MiB that stay free on the spool's disk; beyond that objects are answered 0xA700.
        acse_timeout_s: a caller has that long to ask for an association.
        network_timeout_s: silence, or one PDU, may last that long.
        object_timeout_s: one object may take that long to arrive.
        tls: None listens in clear.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    accept_from: tuple[str, ...] = ()
    max_associations: int = 10
    max_pdu_bytes: int = 65536
    max_object_mb: int = 256
    min_free_mb: int = 512
    acse_timeout_s: float = 15.0
    network_timeout_s: float = 30.0
    object_timeout_s: float = 300.0
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Assess:
    """How images are assessed.

    Args:
        bundle: its folder; empty is the shipped one.
        runtime: `openvino` or `onnxruntime`.
        workers: processes, each with one thread and its own networks in memory.
        timeout_s: one image with its results may take that long.
    """

    bundle: str = ""
    runtime: str = DEFAULT_RUNTIME
    workers: int = 1
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Web:
    """How a DICOMweb server is reached.

    Args:
        url: of its service, up to and without `/studies`.
        user: for basic authentication, with `password_file`.
        password_file: holds the password alone.
        token_file: holds a bearer token alone.
        timeout_s: for a connection, and for silence.
        tls: certificates, for https.
    """

    url: str = ""
    user: str = ""
    password_file: str = ""
    token_file: str = ""
    timeout_s: float = 30.0
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go.

    Args:
        name: yours for it; also the name of its folder in the spool.
        kind: `dicom` (C-STORE) or `dicomweb` (STOW-RS).
        what: `sr`, `capture` or both.
        ae_title: of the peer, for `dicom`.
        host: of the peer, for `dicom`.
        port: of the peer, for `dicom`.
        timeout_s: for a connection, for an answer, and for silence.
        tls: for `dicom`; None sends in clear.
        web: for `dicomweb`.
    """

    name: str
    kind: str = "dicom"
    what: tuple[str, ...] = FORMS
    ae_title: str = ""
    host: str = ""
    port: int = 104
    timeout_s: float = 30.0
    tls: Tls | None = None
    web: Web = field(default_factory=Web)

    @property
    def address(self) -> str:
        """Where it is, as people write it."""
        return self.web.url if self.kind == "dicomweb" else f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a delivery is tried.

    Args:
        first_s: pause after the first failure; it doubles with each.
        longest_s: the longest pause.
        max_attempts: so many refusals by the peer make a dead letter. A peer that does not answer
            refuses nothing.
        max_age_hours: so old an undelivered result is a dead letter.
    """

    first_s: float = 10.0
    longest_s: float = 600.0
    max_attempts: int = 10
    max_age_hours: float = 168.0


@dataclass(frozen=True, slots=True)
class Watch:
    """A folder whose DICOM files are taken in and removed from it.

    Args:
        folder: empty watches none.
        every_s: pause between two looks.
        settle_s: a file is read when it has not changed for so long.
    """

    folder: str = ""
    every_s: float = 2.0
    settle_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Query:
    """Images fetched from a DICOMweb server.

    Args:
        name: yours for it, in the log.
        web: the server.
        filter: DICOM keyword and value that QIDO-RS must match, as `{Modality = "DX"}`.
        days: studies of today and so many days before.
        every_s: pause between two queries.
    """

    name: str
    web: Web
    filter: dict[str, str] = field(default_factory=dict)
    days: int = 2
    every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """All that a node is told.

    Args:
        ae_title: its own, called and calling.
        spool: folder of all that it holds; made where it is not there.
        retention_hours: notes on finished images are deleted after it.
        dead_retention_hours: dead letters are deleted after it; 0 keeps them until a person acts.
        receive, assess, send, retry, watch, query: the parts.
    """

    ae_title: str = "BONEAGE"
    spool: str = "boneage-spool"
    retention_hours: float = 168.0
    dead_retention_hours: float = 0.0
    receive: Receive = field(default_factory=Receive)
    assess: Assess = field(default_factory=Assess)
    send: tuple[Destination, ...] = ()
    retry: Retry = field(default_factory=Retry)
    watch: Watch = field(default_factory=Watch)
    query: tuple[Query, ...] = ()


def read_settings(path: Path) -> NodeSettings:
    """Read a node's configuration; `checks.check` judges it.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown, a value has the wrong type.
    """
    return read_config(path, NodeSettings)


def parse_destination(text: str) -> Destination:
    """Return the destination written NAME=AET@HOST:PORT.

    Raises:
        ConfigError: it is written otherwise.
    """
    found = _SEND_WRITTEN.fullmatch(text)
    if found is None:
        raise ConfigError(f"a destination is written NAME=AET@HOST:PORT, not {text!r}")
    host = found["host"].removeprefix("[").removesuffix("]")
    return Destination(found["name"], ae_title=found["title"], host=host, port=int(found["port"]))
