"""The nightly run itself: it repeats, it survives its workers' ends, and it reports what it found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import boneage_fakes
import planted_readers
import pytest
from planted_readers import planted

import boneage.data.manifest
import boneage.imaging.read
import boneage.standards.scoring
import readers
import seeds
from boneage.data.manifest import Row
from fuzz import FINDINGS, LIMITS, Limits, Tried, chance_of, judged, line, runs
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

    found = judged(FuzzedReader("x", 0, tuple, read), b"")
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


def test_the_limits_are_those_that_are_promised() -> None:
    assert (LIMITS.processor_s, LIMITS.memory_mib) == (10.0, 2048)


PATIENT = Limits(processor_s=60.0, silence_s=300.0)
"""On a busy machine nothing but the planted fault is to be found."""


@pytest.mark.parametrize(
    ("read", "limits", "outcome"),
    [
        (planted_readers.healthy, PATIENT, "answered"),
        (planted_readers.numbering, PATIENT, "wrong answer"),
        (planted_readers.hungry, PATIENT, "memory"),
        (planted_readers.dying, PATIENT, "died"),
        (planted_readers.slow, Limits(processor_s=0.3, silence_s=300.0), "hang"),
        (planted_readers.silent, Limits(silence_s=2.0), "hang"),
    ],
)
def test_a_planted_fault_is_found_and_its_input_kept(
    read: Callable[[bytes], str], limits: Limits, outcome: str, tmp_path: Path
) -> None:
    reader = planted(read)
    (found,) = runs(reader, [3], 8, tmp_path, limits)
    assert found.outcome == outcome, found
    kept = [path.read_bytes() for path in tmp_path.glob("*.bin")]
    assert kept == ([reader.input(chance_of(8, reader.name, 3))] if outcome in FINDINGS else [])


def test_a_worker_that_died_is_replaced(tmp_path: Path) -> None:
    found = [*runs(planted(planted_readers.dying), range(2), 8, tmp_path, PATIENT)]
    assert [one.outcome for one in found] == ["died", "died"]


class Careless:
    """An assessor that gives every picture the same age."""

    def assess(self, *_: object, **__: object) -> Any:
        return boneage_fakes.assessment(bone_age_months=400.0)


def test_a_number_for_garbage_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "assessor", Careless)
    data = readers.foreign_picture(Random(1))
    with pytest.raises(Wrong, match="400"):
        BY_NAME["no hand, assessed"].outcome(data)


def test_an_age_far_from_the_whole_files_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = seeds.png()[0]
    monkeypatch.setattr(readers, "assessor", Careless)
    monkeypatch.setattr(readers, "_whole", lambda: {0: (whole, seeds.Sex.MALE, 400.0 - 25.0)})
    with pytest.raises(Wrong, match="375"):
        BY_NAME["damaged hand, assessed"].outcome(b"\0" + whole)


@pytest.mark.parametrize("bright", [1.5, -0.5])
def test_pixels_beyond_the_range_are_wrong(monkeypatch: pytest.MonkeyPatch, bright: float) -> None:
    read = boneage.imaging.read.read_bytes

    def beyond(*words: Any) -> Any:
        radiograph = read(*words)
        radiograph.pixels[0, 0] = bright
        return radiograph

    monkeypatch.setattr(boneage.imaging.read, "read_bytes", beyond)
    with pytest.raises(Wrong, match="beyond"):
        BY_NAME["PNG"].outcome(seeds.png()[0])


def test_a_manifest_with_an_age_of_no_child_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("a", Path("a.png"), bone_age_months=5000.0)
    monkeypatch.setattr(boneage.data.manifest, "read_manifest", lambda _: (row,))
    with pytest.raises(Wrong, match="5000"):
        BY_NAME["manifest CSV"].outcome(b"")


def test_a_score_sheet_with_an_age_of_no_child_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = SimpleNamespace(bones=[SimpleNamespace(maximum=100.0)], total=50.0, age_months=float("nan"))
    monkeypatch.setattr(boneage.standards.scoring, "score", lambda *_: sheet)
    with pytest.raises(Wrong, match="nan"):
        BY_NAME["score sheet"].outcome(seeds.grades()[0])


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (500, "", "status 500"),
        (400, '{"code": "", "message": ""}', "without"),
        (200, "Traceback", "traceback"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_wrong(status: int, text: str, said: str) -> None:
    import httpx

    answer = httpx.Response(status, text=text, request=httpx.Request("GET", "http://127.0.0.1/"))
    with pytest.raises(Wrong, match=said):
        readers._judged(answer)
