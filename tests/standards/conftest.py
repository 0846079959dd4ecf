"""A copy of the shipped tables that a test may change."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from boneage.standards.tables import TABLES

Change = Callable[..., Path]


@pytest.fixture
def changed_tables(tmp_path: Path) -> Change:
    """Return a folder of tables in which texts of one file are others, its new checksum recorded."""

    def change(name: str, changes: dict[str, str], *, record: bool = True) -> Path:
        folder = tmp_path / "tables"
        shutil.copytree(TABLES, folder)
        text = (folder / name).read_text("utf-8")
        for old, new in changes.items():
            assert text.count(old) == 1, f"{old!r} must occur once in {name}"
            text = text.replace(old, new)
        (folder / name).write_text(text, "utf-8")
        if record and name != "SOURCES.toml":
            _record(folder, name)
        return folder

    return change


def _record(folder: Path, name: str) -> None:
    described = (folder / "SOURCES.toml").read_text("utf-8")
    head, entry = described.split(f'[tables."{name}"]')
    checksum = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    entry = re.sub(r'sha256 = "\w+"', f'sha256 = "{checksum}"', entry, count=1)
    (folder / "SOURCES.toml").write_text(f'{head}[tables."{name}"]{entry}', "utf-8")
