"""Schemathesis sends what the description allows, and what it does not, and looks at every answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_fakes import FAKES, Served, ended

pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install 'boneage[dev]'")

TOO_STRICT = "positive_data_acceptance"
"""The description cannot say which values go together, as a birth date and an age."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("openapi") / "data", settings={"queue": 100_000}) as made:
        yield made


def tried(server: Served, folder: Path, phases: str, without: str, **environment: str) -> str:
    """Run schemathesis; return its summary, or fail with what it found."""
    # One worker: several threads that parse at once fall over a fault of Python 3.11 (AST recursion depth).
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [
        program, "--no-color", "run", f"{server.base}/openapi.json", "--phases", phases,
        "--exclude-checks", without, "--max-examples", "8", "--seed", "7",
        "--continue-on-failure", "--no-shrink", "--generation-database", "none",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=folder, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Traceback" not in server.said
    return done.stdout


def cases(summary: str) -> int:
    found = re.search(r"(\d+) generated", summary)
    assert found, summary
    return int(found[1])


def test_what_the_description_forbids_is_refused_and_nothing_fails(server: Served, tmp_path: Path) -> None:
    summary = tried(server, tmp_path, "examples,coverage", TOO_STRICT)
    assert cases(summary) > 200


def test_with_real_images_and_jobs_every_answer_is_as_described(server: Served, tmp_path: Path) -> None:
    """The images are put in by hand, so that schemathesis no longer knows which of its bodies were wrong."""
    known = {
        "SCHEMATHESIS_HOOKS": "openapi_hooks",
        "PYTHONPATH": str(FAKES),
        "BONEAGE_KNOWN_JOB": ended(server.client)["id"],
    }
    without = f"{TOO_STRICT},negative_data_rejection"
    assert cases(tried(server, tmp_path, "fuzzing,stateful", without, **known)) > 80
    figures = server.client.get("/metrics").text
    for status, route in (
        ("202", ""),
        ("200", "/{job}"),
        ("200", "/{job}/pixels"),
        ("200", "/{job}/results/{form}"),
    ):
        assert f'route="/api/v1/jobs{route}",status="{status}"' in figures, (status, route)
