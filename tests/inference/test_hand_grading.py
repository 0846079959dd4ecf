"""Grading a hand with a graph: the same each time, a hand at a time or many, and nothing outside the film."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.synthetic import draw_hand
from boneage.inference import hand_grading
from boneage.inference.bundle import Bundle
from boneage.inference.hand_grading import HandGrader
from boneage.recipes.graded_regions.grades import GradedHand
from boneage.recipes.graded_regions.prior import BONES, highest_grades
from boneage.standards.names import CARPALS, Bone

BUNDLE = Bundle(
    Path("fake"),
    {
        "methods": {"graded_regions": {"input": {"side": 32, "contrast": "clahe"}}},
        "graphs": {"graded_regions": "x"},
    },
)


class Graph:
    """A stand-in for the grading graph: what it says depends on the crop's brightness and on the bone."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        assert inputs["crop"].shape[1:] == (1, 32, 32) and inputs["bone"].shape[1:] == (15,)
        self.batches.append(len(inputs["crop"]))
        last = highest_grades()[inputs["bone"].argmax(axis=1)]
        middle = inputs["crop"].mean(axis=(1, 2, 3)) * last
        steps = np.arange(1, highest_grades().max() + 1)
        at_least = 1 / (1 + np.exp(2.0 * (steps - 0.5 - middle[:, None])))
        at_least[steps > last[:, None]] = 0.0
        return {"at_least": at_least.astype(np.float32)}


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    made = Graph()
    monkeypatch.setattr(hand_grading, "open_graph", lambda *_: made)
    return made


def film(seed: int = 0, rows: int | None = None) -> tuple[Radiograph, Hand]:
    """A drawn hand, the film cut off below some row, and where it lies."""
    drawn = draw_hand(120.0, Sex.FEMALE, seed)
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    pixels = drawn.radiograph.pixels[:rows]
    hand = hand_from_points(points, None, pixels.shape, confidence=0.9, method="fast")
    return replace(drawn.radiograph, pixels=pixels), hand


def same(one: GradedHand, other: GradedHand) -> bool:
    return (one.regions, one.scores, one.age_months) == (other.regions, other.scores, other.age_months)


def test_all_bones_go_through_the_graph_in_one_batch_and_come_out_graded(graph: Graph) -> None:
    found = HandGrader(BUNDLE)(*film(), Sex.FEMALE)
    assert graph.batches == [15]
    assert [region.bone for region in found.regions] == list(map(str, BONES))
    assert all(region.grades and 0 < region.confidence <= 1 for region in found.regions)
    for region, last in zip(found.regions, highest_grades(), strict=True):
        own = region.grades["chn" if region.bone in CARPALS else "rus_chn"]
        assert 0 <= own <= last and 0 <= region.expected_grade <= last
    assert found.scores.keys() == {"rus_chn", "tw3", "chn"} and found.warnings == ()


def test_it_is_deterministic_and_hands_do_not_touch_each_other(graph: Graph) -> None:
    grader = HandGrader(BUNDLE)
    hands = [film(seed) for seed in range(3)]
    together = [grader(*hand, Sex.MALE) for hand in hands]
    alone = [HandGrader(BUNDLE)(*hand, Sex.MALE) for hand in reversed(hands)][::-1]
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    assert not same(together[0], together[1])


def test_a_radiograph_is_left_as_it_was(graph: Graph) -> None:
    radiograph, hand = film()
    before = radiograph.pixels.copy()
    HandGrader(BUNDLE)(radiograph, hand, Sex.MALE)
    assert np.array_equal(before, radiograph.pixels)


def test_bones_beyond_the_film_are_named_and_never_shown_to_the_graph(graph: Graph) -> None:
    radiograph, hand = film()
    wrist = hand.keypoints_px["wrist"][1]
    found = HandGrader(BUNDLE)(*film(rows=int(wrist)), Sex.FEMALE)
    missing = [region.bone for region in found.regions if not region.grades]
    assert {"radius", "ulna"} <= set(missing) and "mc3" not in missing
    assert graph.batches == [15 - len(missing)]
    assert found.age_months is None and found.scores == {}
    (notice,) = found.warnings
    assert notice.code == "bone_not_graded" and ", ".join(missing) in notice.text
    whole = HandGrader(BUNDLE)(radiograph, hand, Sex.FEMALE)
    kept = {region.bone: region for region in whole.regions}
    assert all(kept[region.bone].bone not in missing for region in found.regions if region.grades)


def test_bones_known_to_be_absent_are_not_graded(graph: Graph) -> None:
    found = HandGrader(BUNDLE)(*film(), Sex.FEMALE, absent=("ulna",))
    assert graph.batches == [14]
    assert [region.bone for region in found.regions if not region.grades] == [str(Bone.ULNA)]
    assert found.scores.keys() == {"chn"}


def test_a_hand_without_one_readable_bone_gets_no_grade(graph: Graph) -> None:
    found = HandGrader(BUNDLE)(*film(), Sex.FEMALE, absent=tuple(map(str, BONES)))
    assert graph.batches == []
    assert not any(region.grades for region in found.regions)
    assert (found.scores, found.age_months) == ({}, None)
    assert len(found.warnings) == 1


def test_stages_are_watched(graph: Graph) -> None:
    stages: list[str] = []

    @contextmanager
    def watch(stage: str) -> Iterator[None]:
        stages.append(stage)
        yield

    HandGrader(BUNDLE, watch=watch)(*film(), Sex.FEMALE)
    assert stages == ["crop", "grade", "score"]
