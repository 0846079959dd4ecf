"""Kept assessments: all of one comes back, and a text that is no kept assessment is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from boneage_fakes import DISTRIBUTION, assessment, graded_assessment
from cluster_fakes import found_neighbours, small_group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from radius_fakes import found_subgrade

from boneage.core.errors import Incompatible
from boneage.core.types import (
    AgeDistribution,
    Assessment,
    MeanRadius,
    Neighbours,
    Notice,
    Sex,
)
from boneage.inference.growth import Measurements
from boneage.inference.reading import read_over
from boneage.reporting import stored
from boneage.reporting.document import html
from boneage.reporting.summary_page import page_pixels
from boneage.reporting.tabular import assessment_record

EVERYTHING = Measurements(140.0, 35.0, 178.0, 165.0, False)


def full(**changes: Any) -> Assessment:
    values: dict[str, Any] = {
        "age_months": 120.0,
        "measured": EVERYTHING,
        "distribution": DISTRIBUTION,
        "radius_subgrade": found_subgrade(),
        "neighbours": found_neighbours(),
        "warnings": (Notice("dark", "dark \N{EN DASH} \N{SNOWMAN}"),),
    }
    made = graded_assessment(**{**values, **changes})
    return read_over(made, {"rus_chn": {"radius": 9}, "tw3": {"ulna": "H"}})


MADE: dict[str, Callable[[], Assessment]] = {
    "plain": assessment,
    "graded": graded_assessment,
    "a part": lambda: graded_assessment(missing=("radius",)),
    "all": full,
    "a boy": lambda: full(sex=Sex.MALE, measured=Measurements(140.0)),
    "no side": lambda: replace(
        full(), hand=replace(full().hand, side=None, epiphyses_px={"ulna": (1.0, 2.5)})
    ),
    "a small group": lambda: full(neighbours=Neighbours(small_group(), None, (), ("1",))),
    "no group": lambda: full(neighbours=Neighbours(None, None)),
    "a whole grade": lambda: full(radius_subgrade=found_subgrade(view=None, means=(), position={})),
    "read without a total": lambda: read_over(
        graded_assessment(missing=("radius",)), {"rus_chn": {"ulna": 9}}
    ),
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Whether two values hold the same, arrays and nested values too, of the same types."""
    if is_dataclass(one) and not isinstance(one, type):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and (type(one) is type(other) or isinstance(one, int | float))


@pytest.mark.parametrize("case", MADE)
def test_what_was_kept_comes_back_whole(case: str) -> None:
    made = MADE[case]()
    back = stored.loads(stored.dumps(made))
    assert same(made, back)
    assert assessment_record(back) == assessment_record(made)
    assert stored.dumps(back) == stored.dumps(made)


def test_reports_of_what_was_kept_are_the_same() -> None:
    made, image = full(), np.tile(np.linspace(0, 1, 40, dtype=np.float32), (60, 1))
    back = stored.loads(stored.dumps(made))
    assert html([back], [image], [None]) == html([made], [image], [None])
    assert np.array_equal(page_pixels(back, image), page_pixels(made, image))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=3, max_size=3),
    numbers=st.lists(st.floats(allow_nan=False), min_size=4, max_size=4),
    sex=st.sampled_from(Sex),
    outline=arrays(
        np.float32, array_shapes(min_dims=2, max_dims=2, min_side=0), elements=st.floats(width=32)
    ),
    counts=st.lists(st.floats(0, 1), min_size=1, max_size=40),
)
def test_any_text_and_any_number_is_kept_in_full(
    texts: list[str], numbers: list[float], sex: Sex, outline: np.ndarray, counts: list[float]
) -> None:
    edges = tuple(float(edge) for edge in range(len(counts) + 1))
    made = assessment(
        texts[0],
        sex,
        bone_age_months=numbers[0],
        interval_months=(numbers[1], numbers[2]),
        chronological_age_months=numbers[3],
        ages={texts[1]: numbers[0]},
        warnings=(Notice("dark", texts[2]),),
        provenance={texts[1]: {texts[2]: numbers}},
        distribution=AgeDistribution(edges, tuple(counts)),
    )
    made = replace(made, hand=replace(made.hand, outline_px=outline))
    back = stored.loads(stored.dumps(made))
    assert np.array_equal(back.hand.outline_px, outline, equal_nan=True)
    assert back.hand.outline_px.dtype == outline.dtype and back.hand.outline_px.shape == outline.shape
    plain = replace(made.hand, outline_px=np.zeros((0, 2), np.float32))
    assert same(replace(made, hand=plain), replace(back, hand=plain))


@settings(deadline=None, max_examples=40)
@given(
    image=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9)),
    view=arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)),
)
def test_pictures_of_the_radius_are_kept(image: np.ndarray, view: np.ndarray) -> None:
    radius = found_subgrade(view=view[:, ::-1], means=(MeanRadius(5.0, "5", image.T, 3),))
    back = stored.loads(stored.dumps(assessment(radius_subgrade=radius))).radius_subgrade
    assert back is not None and same(radius, back)


KEPT = json.loads(stored.dumps(full()))
DAMAGED: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "an age in words": (("bone_age_months",), "ten"),
    "no age": (("bone_age_months",), None),
    "true for an age": (("bone_age_months",), True),
    "a list for a path": (("path",), ["x"]),
    "an unknown sex": (("sex",), "F"),
    "half an interval": (("interval_months",), [1.0]),
    "a text for an interval": (("interval_months",), "ab"),
    "a list for a mapping": (("ages",), [1.0]),
    "an age of a method in words": (("ages", "tw3"), "ten"),
    "no hand": (("hand",), None),
    "no regions": (("regions",), None),
    "a number for a region": (("regions", 0), 3),
    "a text for warnings": (("warnings",), ""),
    "a mapping for warnings": (("warnings",), {}),
    "half a count": (("radius_subgrade", "grade"), 5.5),
    "no probabilities": (("distribution", "probabilities"), []),
    "objects for numbers": (("hand", "outline_px", "dtype"), "O"),
    "texts for numbers": (("hand", "outline_px", "dtype"), "S4"),
    "no type of numbers": (("hand", "outline_px", "dtype"), "xyz"),
    "too large a shape": (("hand", "outline_px", "shape"), [9, 2]),
    "a shape that is to be guessed": (("hand", "outline_px", "shape"), [-1, 2]),
    "no base64": (("hand", "outline_px", "data"), "@@@@"),
    "a score in words": (("reading", 0, "total"), "many"),
    "a sheet as a text": (("reading", 0), "rus_chn"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_text_is_refused(case: str) -> None:
    *path, last = ("assessment", *DAMAGED[case][0])
    damaged: Any = deepcopy(KEPT)
    inner = damaged
    for key in path:
        inner = inner[key]
    inner[last] = DAMAGED[case][1]
    with pytest.raises(Incompatible, match="assess the image again"):
        stored.loads(json.dumps(damaged))


@pytest.mark.parametrize("key", KEPT["assessment"])
def test_no_field_may_be_missing(key: str) -> None:
    rest = {name: value for name, value in KEPT["assessment"].items() if name != key}
    with pytest.raises(Incompatible, match=key):
        stored.loads(json.dumps({**KEPT, "assessment": rest}))


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", "null", "3", "{}", '"x"', '{"schema": 1}', '{"schema": 1, "assessment": []}']
    + ["[" * 200_000]
    + [json.dumps({**KEPT, "schema": schema}) for schema in (0, 2, "1", None)],
)  # fmt: skip
def test_what_is_no_kept_assessment_is_refused(text: str) -> None:
    with pytest.raises(Incompatible):
        stored.loads(text)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_text_that_was_cut_off_is_refused(data: st.DataObject) -> None:
    text = json.dumps(KEPT)
    with pytest.raises(Incompatible):
        stored.loads(text[: data.draw(st.integers(0, len(text) - 1))])
