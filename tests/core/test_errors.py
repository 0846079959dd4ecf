"""The error tree: one code a class, one table to the shell and one to HTTP."""

from __future__ import annotations

import re

import pytest

from boneage.core import errors
from boneage.core.errors import BoneAgeError, ExitCode, exit_code, http_status


def tree(root: type[BoneAgeError]) -> list[type[BoneAgeError]]:
    """Return a class of the product's own and all below it."""
    below = [found for child in root.__subclasses__() for found in tree(child)]
    return [root, *below] if root.__module__ == errors.__name__ else below


ALL = tree(BoneAgeError)


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes) == 20


def depths(root: type[BoneAgeError], depth: int = 0) -> list[tuple[int, str]]:
    """Return depth and name of a class and all below it, as they are defined."""
    mine = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [(depth, root.__name__), *(found for child in mine for found in depths(child, depth + 1))]


def test_the_docstring_draws_the_tree() -> None:
    drawn = [
        (len(bars) // 4, name)
        for bars, name in re.findall(r"^ {4}([│├└─ ]*)([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    ]
    assert drawn == depths(BoneAgeError)


def test_tables_name_only_codes_that_exist() -> None:
    codes = {kind.code for kind in ALL}
    assert set(errors.EXIT_CODES) | set(errors.HTTP_STATUS) <= codes


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, ExitCode.USAGE),
        (errors.SexRequired, ExitCode.USAGE),
        (errors.TableMissing, ExitCode.USAGE),
        (errors.WrongBones, ExitCode.USAGE),
        (errors.UnknownGrade, ExitCode.USAGE),
        (errors.NotApplicable, ExitCode.FAILED),
        (errors.TableBroken, ExitCode.FAILED),
        (errors.UnreadableImage, ExitCode.FAILED),
        (errors.NotAHand, ExitCode.FAILED),
        (errors.ChecksumMismatch, ExitCode.FAILED),
        (errors.DeliveryError, ExitCode.FAILED),
    ],
)
def test_exit_codes(kind: type[BoneAgeError], code: ExitCode) -> None:
    assert exit_code(kind("text")) is code


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.UnreadableImage, 415),
        (errors.NotAHand, 422),
        (errors.SexRequired, 400),
        (errors.RuntimeUnavailable, 503),
        (errors.BundleError, 500),
        (errors.TableBroken, 500),
        (errors.NotApplicable, 422),
        (errors.DeliveryError, 500),
    ],
)
def test_http_status(kind: type[BoneAgeError], status: int) -> None:
    assert http_status(kind("text")) == status


def test_what_the_sender_can_mend_is_never_the_servers_fault() -> None:
    for kind in ALL:
        if kind is errors.TableBroken:  # our own file, not the sender's request
            continue
        if issubclass(kind, errors.InputError | errors.ConfigError | errors.StandardError):
            listed = kind.code in errors.HTTP_STATUS or kind is errors.StandardError
            assert listed and 400 <= http_status(kind("text")) < 500, kind
