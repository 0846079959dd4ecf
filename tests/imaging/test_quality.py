"""What is refused and what is only warned of."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import UnsupportedImage
from boneage.core.types import FloatArray, Radiograph
from boneage.imaging.quality import MAX_PIXELS, MAX_SIDE, MIN_SIDE, check_size, inspect
from boneage.imaging.read import read


def codes(pixels: FloatArray) -> list[str]:
    return [notice.code for notice in inspect(Radiograph(pixels=pixels.astype(np.float32)))]


@pytest.fixture(scope="module")
def large_hand(drawn_hand: FloatArray) -> FloatArray:
    return drawn_hand.repeat(3, 0).repeat(3, 1)


def test_a_good_image_has_no_notice(large_hand: FloatArray) -> None:
    assert codes(large_hand) == []


@pytest.mark.parametrize(("level", "shade"), [(0.0, "all black"), (1.0, "all white"), (0.5, "all one grey")])
@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_blank_image_is_refused(level: float, shade: str, noise: float) -> None:
    pixels = level + noise * np.random.default_rng(0).standard_normal((300, 300))
    with pytest.raises(UnsupportedImage, match=rf"scan\.png: the image is blank \({shade}\)"):
        inspect(Radiograph(pixels=np.clip(pixels, 0, 1).astype(np.float32), path="scan.png"))


def test_a_black_image_with_a_marker_is_refused() -> None:
    pixels = np.zeros((800, 800), np.float32)
    pixels[10:40, 10:40] = 1
    with pytest.raises(UnsupportedImage, match="blank"):
        codes(pixels)


def test_values_that_are_no_numbers_are_refused(large_hand: FloatArray) -> None:
    pixels = large_hand.copy()
    pixels[::2] = np.nan
    with pytest.raises(UnsupportedImage, match="not numbers"):
        codes(pixels)


def test_flat(large_hand: FloatArray) -> None:
    assert codes(large_hand * 0.2) == ["flat"]
    assert codes(0.4 + large_hand * 0.5) == []


def test_saturated(large_hand: FloatArray) -> None:
    assert codes(np.clip(large_hand * 2.5, 0, 1)) == ["saturated"]


def test_low_resolution(drawn_hand: FloatArray) -> None:
    assert codes(drawn_hand) == ["low_resolution"]


@pytest.mark.parametrize(
    ("height", "width", "fits"),
    [
        (MIN_SIDE, MIN_SIDE, True),
        (MIN_SIDE - 1, 500, False),
        (10_000, MAX_PIXELS // 10_000, True),
        (10_000, MAX_PIXELS // 10_000 + 1, False),
        (MAX_SIDE, MIN_SIDE, True),
        (MAX_SIDE + 1, MIN_SIDE, False),
        (0, 0, False),
    ],
)
def test_size_limits(height: int, width: int, fits: bool) -> None:
    if fits:
        check_size(height, width)
        return
    with pytest.raises(UnsupportedImage, match=f"{width} x {height} px"):
        check_size(height, width)


def test_no_real_radiograph_is_refused(radiograph_paths: tuple) -> None:
    for path in radiograph_paths[::40]:
        assert {notice.code for notice in inspect(read(path))} <= {"flat", "saturated"}
