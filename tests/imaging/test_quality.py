"""What is refused and what is only warned of."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from boneage.core.errors import UnsupportedImage
from boneage.core.types import FloatArray, Radiograph
from boneage.imaging.quality import MAX_PIXELS, MAX_SIDE, MIN_SIDE, check_size, inspect, noise_share
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


def with_noise(pixels: FloatArray, deviation: float) -> FloatArray:
    noise = np.random.default_rng(0).standard_normal(pixels.shape, dtype=np.float32)
    return np.asarray(pixels + np.float32(deviation) * noise, np.float32)


@pytest.mark.parametrize("deviation", [0.005, 0.02, 0.05])
def test_noise_is_measured_as_a_share_of_the_grey_range(deviation: float) -> None:
    ramp = np.tile(np.linspace(0.2, 0.7, 512, dtype=np.float32), (400, 1))
    assert noise_share(with_noise(ramp, deviation)) == pytest.approx(deviation / 0.5, rel=0.25)


def test_grain_that_is_averaged_away_counts_less_and_edges_are_no_noise() -> None:
    ramp = np.tile(np.linspace(0.2, 0.7, 2048, dtype=np.float32), (1600, 1))
    assert noise_share(with_noise(ramp, 0.02)) == pytest.approx(0.01, rel=0.25)
    stripes = np.zeros((400, 512), np.float32)
    stripes[:, ::16] = 1
    assert noise_share(stripes) < 0.001


@pytest.mark.parametrize(
    ("deviation", "share", "found"),
    [(0.001, 0.001, []), (0.01, 0.0095, ["noisy"]), (0.03, 0.03, None)],
)
def test_a_noisy_image_is_warned_of_and_a_very_noisy_one_refused(
    deviation: float, share: float, found: list[str] | None, drawn_hand: FloatArray
) -> None:
    image = cv2.resize(np.asarray(0.4 + 0.5 * drawn_hand, np.float32), (420, 504))
    image = with_noise(image, deviation * float(np.subtract(*np.percentile(image, [99.5, 1]))))
    assert noise_share(image) == pytest.approx(share, rel=0.2)
    if found is not None:
        assert codes(image) == found
        return
    with pytest.raises(UnsupportedImage, match=r"too noisy: its noise is .*; give the original"):
        codes(image)


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
        assert {notice.code for notice in inspect(read(path))} <= {"flat", "saturated", "noisy"}
