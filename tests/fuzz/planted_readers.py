"""Readers with a fault each, in a module of their own, as every worker process loads it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from random import Random

import numpy as np

from boneage.core.errors import UnreadableImage
from readers import ANSWERED, FuzzedReader, Wrong

FIRST = Random(0).randbytes(8)
"""The input with which a worker makes ready; to it alone every reader answers rightly."""


def made(chance: Random) -> bytes:
    return chance.randbytes(8)


def nothing() -> tuple[bytes, ...]:
    return ()


def healthy(_: bytes) -> str:
    return ANSWERED


def numbering(data: bytes) -> str:
    """Gives an age for garbage."""
    if data != FIRST:
        raise Wrong("120.0 months")
    return ANSWERED


def hungry(data: bytes) -> str:
    """Asks for 3 GiB, and hides in a deliberate error that there were none."""
    if data != FIRST:
        try:
            np.empty(3 << 30, np.uint8)
        except MemoryError as error:
            raise UnreadableImage("the file is damaged") from error
    return ANSWERED


def slow(data: bytes) -> str:
    """Works for half a second of processor time, then answers."""
    until = time.process_time() + 0.5
    while data != FIRST and time.process_time() < until:
        pass
    return ANSWERED


def silent(data: bytes) -> str:
    if data != FIRST:
        time.sleep(600)
    return ANSWERED


def dying(data: bytes) -> str:
    if data != FIRST:
        os._exit(9)
    return ANSWERED


def planted(read: Callable[[bytes], str]) -> FuzzedReader:
    return FuzzedReader(read.__name__, 0, nothing, read, make=made)
