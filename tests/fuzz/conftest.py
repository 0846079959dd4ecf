"""Makes the proof under fire importable, and the stand-ins that it uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT / "fire", ROOT / "tests" / "fakes"):
    sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True)
def _no_token_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BONEAGE_TOKEN", raising=False)


@pytest.fixture(scope="module", autouse=True)
def _tidied() -> Iterator[None]:
    import readers

    yield
    readers.close()
