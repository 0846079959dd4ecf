"""Frozen values: maps of points compose and invert, sexes are read as written, nothing can be changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.core.errors import ConfigError
from boneage.core.types import (
    Affine,
    AgeDistribution,
    Findings,
    Notice,
    Radiograph,
    RadiusSubgrade,
    Region,
    Sex,
)

POINTS = np.array([[0.0, 0.0], [5.0, 3.0], [-7.5, 100.25]])
NUMBERS = st.floats(-100, 100)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    """Any map that turns, mirrors, scales by 0.1 to 10 and shifts."""
    angle, size = draw(st.floats(-np.pi, np.pi)), draw(st.floats(0.1, 10))
    linear = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if draw(st.booleans()):
        linear[0] *= -1
    return Affine(np.column_stack([linear, [draw(NUMBERS), draw(NUMBERS)]]))


@given(affines())
def test_an_affine_and_its_inverse_leave_points_where_they_are(transform: Affine) -> None:
    np.testing.assert_allclose(transform.inverse()(transform(POINTS)), POINTS, atol=1e-6)
    np.testing.assert_allclose(transform(transform.inverse()(POINTS)), POINTS, atol=1e-6)


@given(affines(), affines())
def test_then_applies_this_map_first(first: Affine, second: Affine) -> None:
    np.testing.assert_allclose(first.then(second)(POINTS), second(first(POINTS)), atol=1e-6, rtol=1e-9)


def test_an_affine_by_hand() -> None:
    transform = Affine(np.array([[0.0, -2.0, 10.0], [2.0, 0.0, 20.0]]))
    np.testing.assert_array_equal(transform(np.array([3.0, 4.0])), [2.0, 26.0])
    np.testing.assert_array_equal(Affine.identity()(POINTS), POINTS)


@pytest.mark.parametrize(
    ("text", "sex"),
    [("F", Sex.FEMALE), ("female", Sex.FEMALE), (" Male ", Sex.MALE), ("m", Sex.MALE), ("MALE", Sex.MALE)],
)
def test_sex_is_read_in_every_usual_form(text: str, sex: Sex) -> None:
    assert Sex.parse(text) is sex
    assert Sex.parse(str(sex)) is sex


@pytest.mark.parametrize("text", ["", "other", "fm", "1", "O"])
def test_no_sex_is_guessed(text: str) -> None:
    with pytest.raises(ConfigError, match="'female' or 'male'") as caught:
        Sex.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        Notice("code", "text"),
        Affine.identity(),
        Radiograph(np.zeros((2, 3), np.float32)),
        Region("radius", (0, 0, 1, 1)),
        Findings("method", 100.0),
        AgeDistribution((0.0, 12.0), (1.0,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen(value: object) -> None:
    name = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)


def test_default_mappings_are_empty_and_cannot_be_written() -> None:
    radiograph = Radiograph(np.zeros((2, 3), np.float32))
    assert radiograph.shape == (2, 3)
    assert dict(radiograph.provenance) == {}
    with pytest.raises(TypeError):
        radiograph.provenance["spacing_mm"] = "guessed"  # type: ignore[index]


def test_identifiers_never_show() -> None:
    radiograph = Radiograph(np.zeros((2, 3), np.float32), identifiers={"StudyInstanceUID": "1.2.3.4"})
    assert "1.2.3.4" not in repr(radiograph)


def test_age_intervals_are_named_in_years_where_all_edges_are() -> None:
    years = AgeDistribution((0.0, 108.0, 120.0, 228.0), (0.1, 0.5, 0.4))
    assert years.names() == ("0 to 9 years", "9 to 10 years", "10 to 19 years")
    assert years.intervals_months == ((0.0, 108.0), (108.0, 120.0), (120.0, 228.0))
    assert years.most_probable == 1
    assert AgeDistribution((30.0, 48.0, 60.0), (0.2, 0.8)).names() == ("30 to 48 months", "48 to 60 months")
    assert AgeDistribution((3.772, 48.6), (1.0,)).names() == ("4 to 49 months",)


@pytest.mark.parametrize(
    ("edges", "probabilities", "said"),
    [
        ((0.0, 12.0), (0.5, 0.5), "one edge more"),
        ((0.0, 12.0, 24.0), (1.0,), "one edge more"),
        ((), (), "one edge more"),
        ((0.0, 24.0, 12.0), (0.5, 0.5), "must ascend"),
    ],
)
def test_edges_and_probabilities_must_belong_together(
    edges: tuple[float, ...], probabilities: tuple[float, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        AgeDistribution(edges, probabilities)


@pytest.mark.parametrize(
    ("subgrade", "between"), [(5.0, None), (5.5, (5, 6)), (6.25, (6, 7)), (6.99, (6, 7)), (0.5, (0, 1))]
)
def test_a_sub_grade_lies_between_its_whole_neighbours(
    subgrade: float, between: tuple[int, int] | None
) -> None:
    assert RadiusSubgrade(5, subgrade, "name", 60.0).between == between
