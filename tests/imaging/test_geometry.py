"""Every step's map is exact: points go there and back, and pixels lie where the map says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError
from boneage.core.types import Affine, FloatArray
from boneage.imaging import geometry

SIDES = st.integers(8, 60)
POINTS = np.array([[0.0, 0.0], [5.0, 3.0], [-7.5, 100.25], [59.0, 41.0]])


def smooth(height: int, width: int) -> FloatArray:
    """A linear ramp: bilinear sampling reproduces it exactly, so positions can be read from values."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return (x + 100 * y).astype(np.float32)


def assert_round_trip(transform: Affine) -> None:
    np.testing.assert_allclose(transform.inverse()(transform(POINTS)), POINTS, atol=1e-9)
    np.testing.assert_allclose(transform.then(transform.inverse())(POINTS), POINTS, atol=1e-9)


def assert_pixels_follow(source_shape: tuple[int, int], result: FloatArray, transform: Affine) -> None:
    """Each result pixel whose source lies well inside holds the ramp's value at that source point."""
    height, width = result.shape
    y, x = np.mgrid[:height, :width]
    source = transform.inverse()(np.stack([x, y], axis=-1))
    inside = np.all((source >= 1) & (source <= np.array(source_shape[::-1]) - 2), axis=-1)
    expected = source[..., 0] + 100 * source[..., 1]
    # OpenCV places samples on a grid of 1/32 pixel: a hundred units a row, and one a column.
    np.testing.assert_allclose(result[inside], expected[inside], atol=101 / 32)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(16, 90))
def test_letterbox(height: int, width: int, size: int) -> None:
    image = smooth(height, width) + 1
    square, transform = geometry.letterbox(image, size, fill=-1.0)
    assert square.shape == (size, size)
    assert_round_trip(transform)
    corners = transform(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    y, x = np.mgrid[:size, :size]
    covered = (x > corners[0, 0]) & (x < corners[1, 0]) & (y > corners[0, 1]) & (y < corners[1, 1])
    np.testing.assert_array_equal(square >= 0, covered)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.floats(-20, 40), st.floats(-20, 40), st.floats(1, 60), st.floats(1, 60))
def test_crop(height: int, width: int, x0: float, y0: float, dx: float, dy: float) -> None:
    image, box = smooth(height, width), (x0, y0, x0 + dx, y0 + dy)
    if x0 >= width or y0 >= height or x0 + dx <= 0 or y0 + dy <= 0:
        with pytest.raises(ConfigError, match="holds no pixel"):
            geometry.crop(image, box)
        return
    part, transform = geometry.crop(image, box)
    assert_round_trip(transform)
    assert_pixels_follow(image.shape, part, transform)
    assert part.base is None


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(1, 3), st.integers(1, 3))
def test_resize_up(height: int, width: int, times_y: int, times_x: int) -> None:
    image = smooth(height, width)
    result, transform = geometry.resize(image, (height * times_y, width * times_x))
    assert_round_trip(transform)
    assert_pixels_follow(image.shape, result, transform)


def test_resize_down_averages_whole_blocks() -> None:
    image = np.random.default_rng(0).random((60, 40)).astype(np.float32)
    result, transform = geometry.resize(image, (15, 10))
    np.testing.assert_allclose(result, image.reshape(15, 4, 10, 4).mean((1, 3)), atol=1e-6)
    np.testing.assert_allclose(transform(np.array([[1.5, 1.5], [37.5, 57.5]])), [[0, 0], [9, 14]])


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.floats(-400, 400))
def test_rotate(height: int, width: int, degrees: float) -> None:
    image = smooth(height, width)
    result, transform = geometry.rotate(image, degrees)
    assert_round_trip(transform)
    assert_pixels_follow(image.shape, result, transform)
    corners = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [-0.5, height - 0.5], [width - 0.5, height - 0.5]])
    moved = transform(corners)
    assert moved.min() >= -0.5 - 1e-6
    assert np.all(moved <= np.array(result.shape[::-1]) - 0.5 + 1e-6)


BOX_SIDES = st.floats(0.5, 500)


@settings(max_examples=60, deadline=None)
@given(st.floats(-300, 300), st.floats(-300, 300), BOX_SIDES, BOX_SIDES, SIDES, SIDES)
def test_a_fitted_box_is_whole_centred_and_in_proportion(
    x0: float, y0: float, width: float, height: float, rows: int, columns: int
) -> None:
    transform = geometry.fit_box((x0, y0, x0 + width, y0 + height), (rows, columns))
    assert_round_trip(transform)
    scale = transform.matrix[0, 0]
    np.testing.assert_allclose(transform.matrix[:, :2], scale * np.eye(2))
    low, high = transform(np.array([[x0, y0], [x0 + width, y0 + height]]))
    np.testing.assert_allclose((low + high) / 2, [(columns - 1) / 2, (rows - 1) / 2], atol=1e-6)
    share = (high - low) / [columns, rows]
    assert share.max() == pytest.approx(1) and share.min() > 0


def test_a_fitted_box_of_the_images_own_edges_is_the_image() -> None:
    transform = geometry.fit_box((-0.5, -0.5, 39.5, 29.5), (30, 40))
    np.testing.assert_allclose(transform.matrix, Affine.identity().matrix, atol=1e-12)


@pytest.mark.parametrize("quarters", range(-4, 5))
def test_quarter_turns_are_exact(quarters: int) -> None:
    image = np.random.default_rng(1).random((9, 14)).astype(np.float32)
    result, transform = geometry.rotate(image, 90 * quarters)
    np.testing.assert_array_equal(result, np.rot90(image, quarters))
    for x, y in ((0, 0), (13, 0), (4, 8)):
        to_x, to_y = transform(np.array([x, y]))
        assert result[round(to_y), round(to_x)] == image[y, x]


def test_positive_degrees_turn_counter_clockwise() -> None:
    image = np.zeros((41, 41), np.float32)
    _, transform = geometry.rotate(image, 30)
    centre = transform(np.array([20.0, 20.0]))
    right = transform(np.array([40.0, 20.0])) - centre
    assert right[1] == pytest.approx(-10.0)


@settings(max_examples=20, deadline=None)
@given(SIDES, SIDES)
def test_flip(height: int, width: int) -> None:
    image = smooth(height, width)
    result, transform = geometry.flip(image)
    assert_round_trip(transform)
    np.testing.assert_array_equal(result, image[:, ::-1])
    assert_pixels_follow(image.shape, result, transform)
    twice, back = geometry.flip(result)
    np.testing.assert_array_equal(twice, image)
    np.testing.assert_allclose(transform.then(back).matrix, Affine.identity().matrix, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(SIDES, SIDES, st.tuples(*[st.integers(0, 9)] * 4))
def test_pad_then_crop_is_the_image(height: int, width: int, sides: tuple[int, int, int, int]) -> None:
    image = smooth(height, width)
    padded, out = geometry.pad(image, *sides, fill=0.5)
    left, top, _, _ = sides
    again, back = geometry.crop(padded, (left, top, left + width, top + height))
    np.testing.assert_array_equal(again, image)
    np.testing.assert_allclose(out.then(back).matrix, Affine.identity().matrix)
    assert padded.dtype == np.float32


def similarity(scale: float, turn: float, dx: float, dy: float, mirrored: bool) -> Affine:
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    return Affine(np.column_stack([linear, [dx, dy]]))


MOVES = (st.floats(-3.1, 3.1), st.floats(-20, 20), st.floats(-20, 20), st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.floats(0.91, 3), *MOVES)  # at 0.9, rounding decides whether it shrinks, which is less exact
def test_warp(scale: float, turn: float, dx: float, dy: float, mirrored: bool) -> None:
    image, transform = smooth(50, 40), similarity(scale, turn, dx, dy, mirrored)
    assert_round_trip(transform)
    assert_pixels_follow(image.shape, geometry.warp(image, transform, (48, 56)), transform)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 0.9), *MOVES)
def test_a_shrinking_warp_stays_within_a_fifth_of_a_pixel(
    scale: float, turn: float, dx: float, dy: float, mirrored: bool
) -> None:
    """Averaging over parts of pixels shifts a value a little, but never its neighbours past each other."""
    transform = similarity(scale, turn, dx, dy, mirrored)
    image = smooth(90, 80)
    result = geometry.warp(image, transform, (48, 56))
    y, x = np.mgrid[:48, :56]
    source = transform.inverse()(np.stack([x, y], axis=-1))
    inside = np.all((source >= 6) & (source <= np.array([80, 90]) - 7), axis=-1)
    expected = source[..., 0] + 100 * source[..., 1]
    np.testing.assert_allclose(result[inside], expected[inside], atol=101 / 5)


@pytest.mark.parametrize("times", [2, 3, 5, 8])
def test_a_shrinking_warp_neither_moves_nor_aliases(times: int) -> None:
    image = smooth(240, 240)
    matrix = np.array([[1 / times, 0.0, 1.25], [0.0, 1 / times, -0.5]])
    result = geometry.warp(image, Affine(matrix), (30, 30))
    y, x = np.mgrid[:30, :30]
    source = Affine(matrix).inverse()(np.stack([x, y], axis=-1))
    inside = np.all((source >= 2 * times) & (source <= 239 - 2 * times), axis=-1)
    expected = source[..., 0] + 100 * source[..., 1]
    np.testing.assert_allclose(result[inside], expected[inside], atol=101 * times / 32)

    stripes = np.tile(np.array([0, 1], np.float32), 120)[None].repeat(240, 0)
    middle = geometry.warp(stripes, Affine(np.array([[1 / times, 0, 0], [0, 1 / times, 0]])), (20, 20))[
        5:15, 5:15
    ]
    assert np.abs(middle - 0.5).max() < 0.51 / (times // 2 * 2)


@pytest.mark.parametrize(("border", "expected"), [("replicate", 7.0), ("constant", 0.0), ("reflect", 7.0)])
def test_what_lies_outside(border: geometry.Border, expected: float) -> None:
    image = np.full((10, 10), 7, np.float32)
    moved = Affine(np.array([[1.0, 0.0, 4.0], [0.0, 1.0, 0.0]]))
    assert geometry.warp(image, moved, (10, 10), border)[5, 0] == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda image: geometry.warp(image, Affine.identity(), (4, 4), "wrap"),  # type: ignore[arg-type]
        lambda image: geometry.warp(image, Affine(np.zeros((2, 3))), (4, 4)),
        lambda image: geometry.warp(image, Affine.identity(), (0, 4)),
        lambda image: geometry.resize(image, (0, 4)),
        lambda image: geometry.pad(image, -1, 0, 0, 0),
    ],
)
def test_impossible_requests_are_refused(call: object) -> None:
    with pytest.raises(ConfigError):
        call(np.zeros((8, 8), np.float32))  # type: ignore[operator]
