"""How commands speak: results on standard output, everything else as single lines on standard error."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from boneage.core.errors import ConfigError, DeliveryError, RuntimeUnavailable

if TYPE_CHECKING:
    from rich.console import Console

    from boneage.core.types import Sex

TRAINING_PACKAGES = frozenset(
    {"torch", "torchvision", "timm", "lightning", "safetensors", "onnx", "onnxscript"}
)
"""What the extra `train` installs."""


class Interrupted(Exception):
    """The user pressed Ctrl-C; the message says what became of the work."""


def complain(message: object) -> None:
    """Write one line `error: ...` to standard error."""
    typer.echo(f"error: {' '.join(str(message).split())}", err=True)


def warn(message: object) -> None:
    """Write one line `warning: ...` to standard error."""
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


def note(message: object) -> None:
    """Write one line to standard error."""
    typer.echo(str(message), err=True)


def print_json(value: Any) -> None:
    """Write a value as JSON to standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def rich_console(stderr: bool = False) -> Console:
    """Return a Rich console; where there is no terminal it is wide enough not to fold a table."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console


def parse_sex(text: str | None) -> Sex | None:
    """Return the sex that an option names, None where it was not given.

    Raises:
        ConfigError: the text names no sex.
    """
    from boneage.core.types import Sex

    return None if text is None else Sex.parse(text)


def check_age(age_months: float | None) -> None:
    """Refuse an age that no patient can have.

    Raises:
        ConfigError: it is not a number of months from 0 to 1,200.
    """
    if age_months is not None and not (math.isfinite(age_months) and 0 <= age_months <= 1200):
        raise ConfigError(
            f"--age-months must be months from 0 to 1200, not {age_months:g}: give the age in months"
        )


def write_file(path: Path, content: bytes | str) -> None:
    """Write a whole file, or none: to a temporary name first.

    Raises:
        DeliveryError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        raise DeliveryError(
            f"{path} cannot be written ({error.strerror}): name a file in a folder you may write to"
        ) from None
    finally:
        with suppress(OSError):  # a read-only disk, or a file where a folder should be
            part.unlink()


def make_folder(path: Path) -> None:
    """Create a folder for results, with its parents.

    Raises:
        DeliveryError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeliveryError(
            f"the folder {path} cannot be made ({error.strerror}): name another with --out"
        ) from None


def missing_package(error: ModuleNotFoundError) -> RuntimeUnavailable | None:
    """Return the error to show where a package of the extra `train` is not installed."""
    package = (error.name or "").partition(".")[0]
    if package not in TRAINING_PACKAGES:
        return None
    return RuntimeUnavailable(
        f"training needs {package}, which is not installed: pip install 'boneage[train]'"
    )
