"""The DICOM node and its peers on loopback: a real Orthanc, dcmtk's storescu, archives that misbehave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_studies import write_study_image
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

START = [sys.executable, "-c", "from boneage.cli.main import main; main()"]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
OWN_TITLE, PEER_TITLE, CALLER = "BONEAGE", "ORTHANC", "MODALITY"


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(true: Callable[[], Any], what: str, limit_s: float = 120) -> Any:
    """Wait until something is so, and return it."""
    end = time.monotonic() + limit_s
    while not (value := true()):
        assert time.monotonic() < end, f"it did not come to pass: {what}"
        time.sleep(0.05)
    return value


def study(folder: Path, name: str, pixels: NDArray[np.uint8] | None = None, **tags: Any) -> Path:
    """Write an image of a study of its own; the same name gives the same identifiers."""
    shown = np.zeros((60, 40), np.uint8) if pixels is None else pixels
    uids = {
        keyword: generate_uid(entropy_srcs=["node", keyword, name])
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    }
    patient = {"PatientID": f"drawn-{name}", "PatientName": f"Secret^{name}", "AccessionNumber": f"A-{name}"}
    return write_study_image(folder / f"{name}.dcm", shown, **{**uids, **patient, **tags})


def encoded(dataset: Dataset) -> bytes:
    """Return a data set as it travels, Explicit VR Little Endian, without a file header."""
    content = DicomBytesIO()
    content.is_little_endian, content.is_implicit_VR = True, False
    write_dataset(content, Dataset({element.tag: element for element in dataset}))
    return bytes(content.getvalue())


def certificates(folder: Path) -> tuple[str, str]:
    """Make a certificate for localhost that signs itself; return its file, and that of its key."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    request = [program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(
        [*request, *subject, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return str(certificate), str(key)


def program(name: str, package: str) -> str:
    """Return the path of a program, or skip the test that needs it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; Debian's package {package} has it")
    return found


def storescu(port: int, *arguments: object, called: str = OWN_TITLE, calling: str = CALLER) -> int:
    """Send files with dcmtk's storescu; return its exit status."""
    command = [program("storescu", "dcmtk"), "-aec", called, "-aet", calling, "127.0.0.1", str(port)]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode


@dataclass
class Archive:
    """A storage SCP that keeps what it gets, and answers what it is told.

    Args:
        port: where it listens.
        answers: status of the next objects, in turn; then success.
        classes: that it takes.
        title: by which it must be called.
        kept: SOP instances that it took.
        tls: None listens in clear.
    """

    port: int = field(default_factory=free_port)
    answers: list[int] = field(default_factory=list)
    classes: Sequence[str] = (ComprehensiveSRStorage, SecondaryCaptureImageStorage)
    title: str = PEER_TITLE
    kept: list[str] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    _server: Any = None

    def start(self) -> Archive:
        """Listen."""
        entity = AE(ae_title=self.title)
        entity.require_called_aet = True
        entity.add_supported_context(Verification)
        for one in self.classes:
            entity.add_supported_context(one)
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls
        )
        return self

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _store(self, event: evt.Event) -> int:
        status = self.answers.pop(0) if self.answers else 0
        if status == 0:
            self.kept.append(str(event.request.AffectedSOPInstanceUID))
        return status


class Orthanc:
    """A real Orthanc with a storage of its own, which may be stopped and started again.

    Args:
        folder: of its configuration and storage.
        node_port: where it finds the node, as modality `boneage`.
    """

    def __init__(self, folder: Path, node_port: int = 104) -> None:
        self._program = shutil.which("Orthanc") or pytest.skip(
            "Orthanc is not installed; Debian's package orthanc has it"
        )
        self.dicom_port, self.http_port = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "orthanc.log"
        self._configuration = folder / "orthanc.json"
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": PEER_TITLE,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "DicomModalities": {"boneage": [OWN_TITLE, "127.0.0.1", node_port]},
            "Plugins": [str(PLUGIN)] if PLUGIN.is_file() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        self._configuration.write_text(json.dumps(settings))

    @property
    def web(self) -> str:
        """The DICOMweb service's address; skips where the plugin is not there."""
        if not PLUGIN.is_file():
            pytest.skip("Orthanc's DICOMweb plugin is not installed; Debian's orthanc-dicomweb has it")
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def start(self) -> Orthanc:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._configuration)], stdout=log, stderr=log
            )
        until(self._answers, "Orthanc answers", 60)
        return self

    def stop(self) -> None:
        """Stop it; its storage stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def get(self, path: str) -> Any:
        """Return what its REST answers, as JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: bytes) -> Any:
        """Post to its REST, and return the answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", body, method="POST")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def file(self, instance: str) -> bytes:
        """Return an instance as a DICOM file."""
        address = f"http://127.0.0.1:{self.http_port}/instances/{instance}/file"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return bytes(answer.read())

    def by_study(self) -> dict[str, list[str]]:
        """Return the modalities of the instances of each study, sorted; an `SC` may be an `OT`."""
        series = self.get("/series?expand")
        studies = {one["ID"]: one["MainDicomTags"]["StudyInstanceUID"] for one in self.get("/studies?expand")}
        held: dict[str, list[str]] = {uid: [] for uid in studies.values()}
        for one in series:
            modality = one["MainDicomTags"]["Modality"]
            held[studies[one["ParentStudy"]]] += [modality] * len(one["Instances"])
        return {uid: sorted(modalities) for uid, modalities in held.items()}

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log.read_text()
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False


class NodeProcess:
    """`boneage dicom` in its own process, as an administrator runs it.

    Args:
        folder: of its configuration, spool and log.
        settings: TOML of all but the spool and the port.
        port: to listen on.
    """

    def __init__(self, folder: Path, settings: str, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.spool, self.log = port, folder / "spool", folder / "node.log"
        self.config = folder / "node.toml"
        self.config.write_text(f'spool = "{self.spool}"\n{settings}')
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> NodeProcess:
        """Start it, and wait until it listens."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                [*START, "dicom", "--config", str(self.config), "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        until(lambda: self._listens(begin), "the node listens", 120)
        return self

    def kill(self) -> None:
        """End it as a power cut would, its workers too."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._process = None
        return code

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run another command with the node's configuration."""
        command = [*START, "dicom", "--config", str(self.config), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def status(self) -> Mapping[str, Any]:
        """Return the counts of its spool."""
        done = self.run("--status", "--json")
        assert done.returncode == 0, done.stderr
        found: Mapping[str, Any] = json.loads(done.stdout)
        return found

    def count(self, where: str) -> int:
        """Return how many files lie in a folder of the spool."""
        return len(list((self.spool / where).glob("*")))

    def _listens(self, begin: int) -> bool:
        assert self.alive, self.log.read_text()
        return b"listens on" in self.log.read_bytes()[begin:]


@contextmanager
def running(*peers: Any) -> Iterator[None]:
    """Start peers, and stop them in the end, whatever happens."""
    try:
        for peer in peers:
            peer.start()
        yield
    finally:
        for peer in reversed(peers):
            peer.stop()
