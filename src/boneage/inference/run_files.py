"""What a bundle takes from the folder of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError
from boneage.inference.bundle import checksum


def require(run: Path, *names: str) -> None:
    """Refuse a run that is not complete before anything is written.

    Raises:
        ConfigError: a file is missing.
    """
    absent = [name for name in names if not (run / name).is_file()]
    if absent:
        raise ConfigError(f"{run / absent[0]} is missing; finish the run first")


def configuration_of(run: Path) -> Any:
    """Return a run's configuration, files in it by name and checksum: paths mean nothing elsewhere.

    Raises:
        ConfigError: the folder holds no configuration.
    """
    try:
        return _without_paths(json.loads((run / "config.json").read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{run} holds no config.json; give the folder of a finished run") from error


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, str) and Path(value).suffix and Path(value).is_file():
        return {"file": Path(value).name, "sha256": checksum(Path(value))}
    if isinstance(value, str) and "/" in value and Path(value).is_dir():
        return {"folder": Path(value).name}
    return value
