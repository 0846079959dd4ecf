"""Fixtures that every test may use, and the suite's closing line about what was skipped."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

import boneage.models  # noqa: F401 - so that Lightning can be imported where tests are shared out among processes

# A shell starts background jobs with Ctrl-C ignored, and children inherit that;
# tests that interrupt a program need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real radiographs: `BONEAGE_DATA`, or the one beside the repository."""
    folder = Path(os.environ.get("BONEAGE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "rsna" / "labels.csv").is_file():
        pytest.skip(f"no real radiographs: {folder}/rsna/labels.csv is absent; BONEAGE_DATA names the folder")
    return folder


@pytest.fixture(scope="session")
def radiograph_paths(shared_data: Path) -> tuple[Path, ...]:
    """Every labelled real radiograph, in the order of its file name."""
    return tuple(sorted((shared_data / "rsna" / "images").iterdir()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, and why; a suite that skips nothing says that too."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        terminalreporter.write_line("skipped: 0")
        return
    reasons = Counter(_reason(report) for report in skipped)
    terminalreporter.write_line(f"skipped: {len(skipped)}", yellow=True)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count} x {reason}", yellow=True)


def _reason(report: object) -> str:
    """The words of a skip, from the (file, line, reason) that pytest reports."""
    longrepr = getattr(report, "longrepr", None)
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")
