"""Puts bytes into a spool as if they were an image's data set."""

from __future__ import annotations

from hashlib import sha256

from boneage.dicomnode.spool import Spool


def put(spool: Spool, key: str, *pieces: bytes | memoryview) -> bool:
    """Take pieces as an image without a file header; return whether it is new."""
    return spool.take(key, pieces, sha256(b"".join(pieces)).hexdigest())
