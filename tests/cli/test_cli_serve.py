"""`boneage serve`: settings from a file and from options, what it says, and how it refuses."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boneage.cli import main as program
from boneage.core.errors import ExitCode
from boneage.inference.bundle import SHIPPED
from boneage.service import listen as serving
from boneage.service.settings import ServiceSettings

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.skipif(
    not (SHIPPED / "manifest.json").is_file(), reason=f"no shipped bundle: {SHIPPED}/manifest.json is absent"
)


@pytest.fixture(autouse=True)
def _no_token_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BONEAGE_TOKEN", raising=False)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command; where it would listen, it only says so."""

    def listen(settings: ServiceSettings, begun: Callable[[str, Any], None]) -> None:
        heard.append(settings)
        server = serving.Server(settings)
        begun(f"http://{settings.host}:{settings.port}", server)
        server.store.close()

    heard: list[ServiceSettings] = []
    monkeypatch.setattr(serving, "serve", listen)

    def execute(*arguments: object) -> tuple[int, str, str]:
        code = program.run(["serve", *map(str, arguments)])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    execute.heard = heard  # type: ignore[attr-defined]
    return execute


def test_without_options_it_listens_on_loopback_without_a_token(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = serve()
    assert code == ExitCode.DONE
    assert "http://127.0.0.1:8077" in err and "no token is needed" in err
    assert serve.heard == [ServiceSettings()]
    assert {path.name for path in (tmp_path / "boneage-data").iterdir()} == {"boneage.sqlite"}


def test_options_override_the_file_and_the_file_the_defaults(serve: Any, tmp_path: Path) -> None:
    config = tmp_path / "service.toml"
    config.write_text(f'port = 9000\nworkers = 2\nqueue = 7\nretention_days = 0\ndata = "{tmp_path / "a"}"\n')
    code, _, _ = serve("--config", config, "--port", 9001, "--data", tmp_path / "b", "--host", "::1")
    assert code == ExitCode.DONE
    (heard,) = serve.heard
    assert (heard.host, heard.port, heard.workers, heard.queue) == ("::1", 9001, 2, 7)
    assert (heard.retention_days, heard.data) == (0, str(tmp_path / "b"))
    assert not (tmp_path / "a").exists()


def test_off_loopback_it_names_the_tokens_file_and_never_the_token(serve: Any, tmp_path: Path) -> None:
    _, out, err = serve("--host", "0.0.0.0", "--data", tmp_path)
    token = (tmp_path / "token").read_text().strip()
    assert str(tmp_path / "token") in re.sub(r"\n\s*", "", err) and token not in out + err
    again = serve("--host", "0.0.0.0", "--data", tmp_path)
    assert (tmp_path / "token").read_text().strip() == token and token not in again[1] + again[2]


def test_a_token_of_the_environment_is_not_said_to_lie_in_a_file(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("--host", "0.0.0.0", "--data", tmp_path)
    monkeypatch.setenv("BONEAGE_TOKEN", "a-token-of-the-environment")
    _, out, err = serve("--host", "0.0.0.0", "--data", tmp_path)
    assert str(tmp_path / "token") not in re.sub(r"\n\s*", "", err)
    assert "a-token-of-the-environment" not in out + err


def test_check_checks_and_ends(serve: Any, tmp_path: Path) -> None:
    code, _, err = serve("--check", "--data", tmp_path)
    assert code == ExitCode.DONE and "in order" in err and serve.heard == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 9000", "prot"),
        ("port = 70000", "port"),
        ("port = 'many'", "port"),
        ("workers = 0", "workers"),
        ("queue = 0", "queue"),
        ("upload_mib = 0", "upload_mib"),
        ("connections = 0", "connections"),
        ("threads = -1", "threads"),
        ("retention_days = -1", "retention_days"),
        ("retention_days = nan", "retention_days"),
        ("upload_s = 0", "upload_s"),
        ("job_s = -5", "job_s"),
        ("idle_s = nan", "idle_s"),
        ("tls_key = 'key.pem'", "tls_certificate"),
        ("database = 'mysql://root@localhost/x'", "postgresql"),
        ("database = 'no url'", "database"),
        ("token_file = '/nowhere/token'", "/nowhere/token"),
        ("data = '/proc/nowhere'", "/proc/nowhere"),
        ("port = ", "TOML"),
        ("[server]\nport = 1", "server"),
    ],
)
@pytest.mark.parametrize("option", [[], ["--check"]])
def test_a_setting_that_cannot_be_is_named_with_a_remedy(
    serve: Any, tmp_path: Path, text: str, words: str, option: list[str]
) -> None:
    config = tmp_path / "service.toml"
    config.write_text(text if text.startswith(("data", "[")) else f'data = "{tmp_path / "data"}"\n{text}')
    code, out, err = serve("--config", config, *option)
    assert code == ExitCode.USAGE, err
    assert words in err and "listens" not in err and out == ""


def test_a_database_that_is_away_is_told_without_its_password(serve: Any, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
    config = tmp_path / "service.toml"
    url = f"postgresql+psycopg://someone:secretword@/jobs?host={tmp_path}"
    config.write_text(f'data = "{tmp_path / "data"}"\ndatabase = "{url}"\n')
    code, out, err = serve("--config", config)
    assert code == ExitCode.FAILED and "cannot be opened" in err and "secretword" not in out + err


def test_a_bundle_that_is_none_is_told(serve: Any, tmp_path: Path) -> None:
    code, _, err = serve("--data", tmp_path / "data", "--bundle", tmp_path)
    assert code == ExitCode.FAILED and str(tmp_path) in re.sub(r"\n\s*", "", err)


def test_a_missing_package_names_the_extra(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boneage.service.listen", None)
    code, _, err = serve("--data", tmp_path)
    assert code == ExitCode.FAILED and "boneage[serve]" in err


START = [sys.executable, "-c", "from boneage.cli.main import main; main()", "serve"]


def started(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    """Start a server as a user does; return it and the address that it names."""
    process = subprocess.Popen(
        [*START, *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"(https?://\S+)", line):
            return process, found[1]
    raise AssertionError(said)


def test_it_takes_a_free_port_where_it_is_told_0_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    process, address = started("--port", 0, "--data", tmp_path)
    try:
        assert not address.endswith(":0")
        with urllib.request.urlopen(f"{address}/health/live", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        rest = process.stderr.read()
        assert process.wait(40) in (0, 1, -signal.SIGINT, 130) and "Traceback" not in rest
    finally:
        process.kill()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*START, "--port", str(port), "--data", str(tmp_path)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    assert str(port) in done.stderr and "--port" in done.stderr and "Traceback" not in done.stderr


def test_with_a_certificate_it_speaks_https(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    _certify(certificate, key)
    config = tmp_path / "service.toml"
    config.write_text(
        f'port = 0\ndata = "{tmp_path / "data"}"\ntls_certificate = "{certificate}"\ntls_key = "{key}"\n'
    )
    process, address = started("--config", config)
    try:
        assert address.startswith("https://")
        trust = ssl.create_default_context(cafile=str(certificate))
        trust.check_hostname = False
        with urllib.request.urlopen(f"{address}/health/live", timeout=30, context=trust) as answer:
            assert answer.status == 200
    finally:
        process.terminate()
        process.communicate(timeout=40)


def _certify(certificate: Path, key: Path) -> None:
    """Make a certificate that signs itself."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    from datetime import UTC, datetime, timedelta

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(encoding, kind, serialization.NoEncryption()))


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    config = tmp_path / "service.toml"
    config.write_text(
        f'port = 0\ndata = "{tmp_path / "data"}"\n'
        'tls_certificate = "/nowhere/c.pem"\ntls_key = "/nowhere/k.pem"\n'
    )
    done = subprocess.run(
        [*START, "--config", str(config)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "/nowhere/c.pem" in done.stderr.replace("\n", "") and "Traceback" not in done.stderr
