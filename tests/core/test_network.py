"""Whose an address is."""

from __future__ import annotations

import pytest

from boneage.core.network import MIB, is_loopback


@pytest.mark.parametrize(
    ("host", "true"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.9", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_known(host: str, true: bool) -> None:
    assert is_loopback(host) is true


def test_a_mebibyte_is_binary() -> None:
    assert MIB == 1024 * 1024
