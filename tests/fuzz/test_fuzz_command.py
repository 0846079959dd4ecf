"""The nightly run itself: it repeats, it survives its workers' ends, and it reports what it found."""

from __future__ import annotations

from random import Random

import pytest

import fuzz
from fuzz import FINDINGS, Tried, chance_of, line
from readers import BY_NAME, FuzzedReader, Wrong


def test_an_input_follows_from_seed_name_and_number() -> None:
    reader = BY_NAME["PNG"]
    first = [reader.input(chance_of(8, "PNG", number)) for number in range(5)]
    assert first == [reader.input(chance_of(8, "PNG", number)) for number in range(5)]
    assert len({*first, reader.input(chance_of(9, "PNG", 0))}) == 6


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (Wrong("12 months"), "wrong answer"),
        (MemoryError(), "memory"),
        (KeyError("x"), "crash"),
        (None, "answered"),
    ],
)
def test_what_comes_out_of_a_reader_is_told_apart(raised: Exception | None, outcome: str) -> None:
    def read(_: bytes) -> str:
        if raised is not None:
            raise raised
        return "answered"

    found = fuzz._tried(FuzzedReader("x", 0, tuple, read), b"")
    assert found.outcome == outcome and found.is_finding is (outcome in FINDINGS)


def test_a_line_of_the_table_counts_every_input_once() -> None:
    said = line(
        "PNG", [Tried("answered"), Tried("crash", "x"), Tried("unreadable_image", took_s=1.5, peak_mib=80)]
    )
    assert said == "| PNG | 3 | 1 | unreadable_image 1 | 0 | 1 | 0 | 0 | 0 | 1.5 | 80 |"


def test_inputs_are_damaged_and_not_only_repeated() -> None:
    reader = BY_NAME["JPEG"]
    whole = set(reader.seeds())
    assert sum(reader.input(Random(number)) in whole for number in range(50)) < 5
