"""Hypothesis damages files of every kind: each reader answers rightly, or refuses with a deliberate error.

500 inputs here, within the same time and memory as in `make fuzz`, which tries 10,000.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import garbage
from fuzz import LIMITS, Limits
from readers import ANSWERED, BY_NAME, READERS, FuzzedReader, Wrong

pytestmark = pytest.mark.filterwarnings("ignore")  # decoders warn of damage in words of their own

INPUTS = {
    "DICOM": 64,
    "DICOM results": 3,
    "manifest Parquet": 14,
    "atlas": 8,
    "HTTP": 30,
    "no hand, assessed": 13,
    "damaged hand, assessed": 9,
}
"""Where it is not `SOME`; together 500."""
SOME = 28

CHANCE = st.randoms(use_true_random=False, note_method_calls=False)


@contextmanager
def within_limits() -> Iterator[None]:
    """Stop what takes more processor time, so that a busy machine fails no test, or more memory."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no answer in {LIMITS.processor_s:g} s of processor time")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memory = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + (LIMITS.memory_mib << 20), memory[1]))
    signal.setitimer(signal.ITIMER_PROF, LIMITS.processor_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, memory)
        signal.signal(signal.SIGPROF, before)


def count_of(reader: FuzzedReader) -> int:
    return INPUTS.get(reader.name, SOME)


def test_the_suite_tries_five_hundred_inputs_of_every_reader_there_is() -> None:
    assert set(INPUTS) <= set(BY_NAME)
    assert sum(map(count_of, READERS)) >= 500
    assert sum(reader.share for reader in READERS) == 10_000


@pytest.mark.parametrize("name", [reader.name for reader in READERS if reader.name != "no hand, assessed"])
def test_a_damaged_input_is_answered_or_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    reader = BY_NAME[name]
    reader.outcome(reader.input(Random(0)))  # loads networks, or starts the service, outside any limit
    outcomes = set()

    @settings(
        max_examples=count_of(reader),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(chance=CHANCE)
    def tried(chance: Random) -> None:
        data = reader.input(chance)
        with within_limits():
            outcomes.add(reader.outcome(data))

    tried()
    assert outcomes - {ANSWERED}, "no input was refused: the damage does not reach the reader"


@pytest.mark.parametrize("kind", sorted(garbage.KINDS))
def test_what_is_no_whole_hand_gets_no_age(kind: str) -> None:
    reader = BY_NAME["no hand, assessed"]
    picture = garbage.encoded(".png", garbage.KINDS[kind](garbage.np.random.default_rng(8)))
    assert reader.outcome(kind.encode() + b"\0" + picture) in {
        "not_a_hand", "several_hands", "incomplete_hand", "unsupported_image",
    }  # fmt: skip


def test_the_seeds_themselves_are_answered() -> None:
    """Damage is told from wholeness: what is whole is read."""
    for reader in READERS:
        for data in reader.seeds():
            assert reader.outcome(data) == ANSWERED, reader.name


def test_what_takes_more_than_the_limits_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with within_limits(), pytest.raises(MemoryError):
        garbage.np.empty(3 << 30, garbage.np.uint8)
    garbage.np.empty(3 << 30, garbage.np.uint8)  # the limit is gone
    monkeypatch.setattr("test_fuzz_readers.LIMITS", Limits(processor_s=0.2))
    with pytest.raises(TimeoutError), within_limits():
        while True:
            pass


def test_memory_that_runs_out_is_no_deliberate_error() -> None:
    from boneage.core.errors import UnreadableImage

    def hiding(_: bytes) -> str:
        try:
            raise MemoryError
        except MemoryError as error:
            raise UnreadableImage("damaged") from error

    with pytest.raises(MemoryError):
        FuzzedReader("x", 0, tuple, hiding).outcome(b"")


def test_an_error_without_words_is_wrong() -> None:
    from boneage.core.errors import UnreadableImage

    def wordless(_: bytes) -> str:
        raise UnreadableImage

    with pytest.raises(Wrong):
        FuzzedReader("x", 0, tuple, wordless).outcome(b"")
