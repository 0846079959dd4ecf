"""An audit that could not be made is never taken for one that found nothing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def audit() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answering(stdout: str, stderr: str = "", code: int = 1) -> Any:
    return lambda *_, **__: subprocess.CompletedProcess([], code, stdout, stderr)


def package(*faults: dict[str, Any]) -> str:
    return json.dumps({"dependencies": [{"name": "pillow", "version": "1.0", "vulns": [*faults]}]})


@pytest.mark.parametrize(
    ("stdout", "words", "code"),
    [
        ("", [], 3),
        ("", ["--if-reachable"], 0),
        (package(), [], 0),
        (package({"id": "CVE-1", "fix_versions": ["2.0"]}), [], 1),
        (package({"id": "CVE-1", "fix_versions": []}), ["--if-reachable"], 1),
    ],
)
def test_the_exit_code_tells_unknown_from_none_and_some(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    stdout: str, words: list[str], code: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(subprocess, "run", answering(stdout, "Failed to resolve 'api.osv.dev'\n"))
    monkeypatch.setattr(sys, "argv", ["audit.py", *words])
    assert audit.main() == code
    said = capsys.readouterr()
    assert ("NOT AUDITED" in said.err) is (stdout == "")
    assert ("1 packages audited" in said.out) is (stdout != "")
