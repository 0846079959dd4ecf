"""What is done to a spool from outside, or now and then: count, forget, bring back the dead."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from boneage.core.errors import ConfigError, DeliveryError
from boneage.dicomnode import files
from boneage.dicomnode.spool import IMAGES, Spool

_HOUR_S = 3600.0


def counts(spool: Spool) -> dict[str, Any]:
    """Return how much lies where; the spool is only read.

    Raises:
        ConfigError: there is no spool.
    """
    if not spool.incoming.is_dir():
        raise ConfigError(f"there is no spool at {spool.root}: name the one of a node that has run")
    outcomes = [files.read_json(path).get("state", "unknown") for path in spool.done.glob("*.json")]
    return {
        "running": spool.is_held(),
        "waiting": _number(spool.incoming),
        "outbox": {path.name: _number(path) for path in _folders(spool.outbox)},
        "dead": {path.name: _number(path) for path in _folders(spool.dead)},
        "done": {state: outcomes.count(state) for state in sorted(set(outcomes))},
    }


def revive(spool: Spool) -> int:
    """Put every dead letter and image back where it waited, as if new; return how many.

    A running node takes them up by itself.

    Raises:
        ConfigError: there is no spool.
        DeliveryError: a folder of it cannot be written.
    """
    if not spool.incoming.is_dir():
        raise ConfigError(f"there is no spool at {spool.root}: name the one of a node that has run")
    revived = 0
    try:
        for folder in _folders(spool.dead):
            alive = spool.incoming if folder.name == IMAGES else spool.outbox / folder.name
            alive.mkdir(parents=True, exist_ok=True, mode=0o700)
            for _, path in files.oldest_first(folder, ".dcm"):
                said = files.read_json(path.with_suffix(".json"))
                files.remove(path.with_suffix(".json"))
                if (alive / path.name).exists():  # it has come again, or was made again, meanwhile
                    files.remove(path)
                    continue
                # A result's age, after which it would be given up, begins anew; an image's arrival stays.
                arrived = int(said.get("arrived_ns", time.time_ns()))
                os.utime(path, ns=(arrived, arrived))
                path.replace(alive / path.name)
                revived += 1
    except OSError as error:
        raise DeliveryError(
            f"the spool {spool.root} cannot be changed ({error.strerror}): run this as the node's user"
        ) from None
    return revived


def expire(spool: Spool, retention_hours: float, dead_retention_hours: float) -> int:
    """Delete notes of finished images, and dead letters, that are older than they may be; return how many.

    Args:
        spool: the spool.
        retention_hours: of notes.
        dead_retention_hours: of dead letters and images; 0 keeps them.

    Raises:
        OSError: one cannot be deleted.
    """
    gone = 0
    limits = [(spool.done, retention_hours)]
    if dead_retention_hours:
        limits += [(folder, dead_retention_hours) for folder in _folders(spool.dead)]
    for folder, hours in limits:
        before = time.time() - hours * _HOUR_S
        for suffix in (".dcm", ".json"):
            for written, path in files.oldest_first(folder, suffix):
                if written >= before:
                    break
                files.remove(path)
                gone += suffix == ".dcm" or folder == spool.done
    return gone


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _number(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.dcm"))
