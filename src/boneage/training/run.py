"""A run's folder: its configuration, its log, and tables that are written whole or not at all."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError
from boneage.training.config import TrainJob, as_tree


def open_run(job: TrainJob, name: str, recipe: object, *, may_change: Sequence[str] = ("schedule",)) -> None:
    """Make a run's folder and write its configuration, or check that a run is gone on with as begun.

    Args:
        job: what is trained, and where.
        name: of the recipe.
        recipe: its configuration, a dataclass.
        may_change: sections that may differ from those the run was begun with.

    Raises:
        ConfigError: `out` holds another run, or one that is not to be resumed.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / "config.json"
    text = json.dumps({"recipe": name, **as_tree(recipe)}, indent=2)
    if path.exists():
        if not job.resume:
            raise ConfigError(
                f"{job.out} holds a run already; give --resume to go on with it, or another --out"
            )
        if _fixed(path.read_text(encoding="utf-8"), may_change) != _fixed(text, may_change):
            raise ConfigError(f"{path} differs from the configuration given; resume with the same one")
    path.write_text(text, encoding="utf-8")


def _fixed(text: str, may_change: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in json.loads(text).items() if key not in may_change}


def log_to(path: Path) -> None:
    """Log to a file, and no longer to the one before."""
    package = logging.getLogger("boneage")
    for earlier in [handler for handler in package.handlers if isinstance(handler, logging.FileHandler)]:
        package.removeHandler(earlier)
        earlier.close()
    log = logging.FileHandler(path)
    log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package.addHandler(log)
    package.setLevel(logging.INFO)


def write_table(path: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """Write a CSV, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
    partial.replace(path)


def copy_files(source: Path, target: Path, names: Sequence[str]) -> None:
    """Give a run's folder files of another run, unless it has the last of them; that one comes last."""
    target.mkdir(parents=True, exist_ok=True)
    if (target / names[-1]).exists():
        return
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / f"{name}.partial")
            (target / f"{name}.partial").replace(target / name)


def join_tables(out: Path, name: str, part: str) -> None:
    """Join the tables `part` of a run's folds into one, `name`."""
    tables = []
    for path in sorted(out.glob(f"fold*/{part}")):
        with path.open(newline="") as file:
            tables.append(list(csv.reader(file)))
    write_table(out / name, tables[0][0], [line for table in tables for line in table[1:]])
