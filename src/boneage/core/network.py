"""What all that listens on the network shares: whose an address is, and the unit of limits."""

from __future__ import annotations

import ipaddress

MIB = 1 << 20
"""Bytes of a mebibyte."""


def is_loopback(host: str) -> bool:
    """Return whether a name or address is reached from this machine alone, whoever resolves it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
