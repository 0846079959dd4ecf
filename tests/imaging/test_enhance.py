"""Contrast and noise functions against plain definitions and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.imaging import enhance

FUNCTIONS = {
    "stretch_contrast": enhance.stretch_contrast,
    "equalise": enhance.equalise,
    "clahe": enhance.clahe,
    "brighten": lambda image: enhance.brighten(image, 1.5),
    "raise_contrast": lambda image: enhance.raise_contrast(image, 1.5),
    "bilateral": enhance.bilateral,
    "gaussian": lambda image: enhance.gaussian(image, 2.0),
    "adaptive_threshold": lambda image: enhance.adaptive_threshold(image, 15, 0.02),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("kind", ["hand", "black", "white"])
def test_keeps_shape_type_and_range_and_leaves_its_input(
    name: str, kind: str, drawn_hand: FloatArray
) -> None:
    image = {"hand": drawn_hand, "black": drawn_hand * 0, "white": drawn_hand * 0 + 1}[kind].copy()
    before = image.copy()
    result = FUNCTIONS[name](image)
    assert (result.shape, result.dtype) == (image.shape, np.float32)
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-6
    np.testing.assert_array_equal(image, before)
    assert result is not image


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.0, 0.5))
def test_stretching_undoes_a_loss_of_contrast(gain: float, offset: float) -> None:
    image = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    faded = (image * np.float32(gain) + np.float32(offset)).astype(np.float32)
    np.testing.assert_allclose(enhance.stretch_contrast(faded), enhance.stretch_contrast(image), atol=1e-4)


def test_stretching_puts_the_percentiles_at_the_ends() -> None:
    ramp = np.linspace(0.2, 0.6, 10_001, dtype=np.float32).reshape(73, 137)
    result = enhance.stretch_contrast(ramp, 10, 90)
    assert np.mean(result == 0) == pytest.approx(0.1, abs=0.001)
    assert np.mean(result == 1) == pytest.approx(0.1, abs=0.001)


def test_equalise_is_opencv_s_on_eight_bits(drawn_hand: FloatArray) -> None:
    levels = np.rint(drawn_hand * 255).astype(np.uint8)
    expected = cv2.equalizeHist(levels)
    np.testing.assert_allclose(enhance.equalise(levels / np.float32(255)) * 255, expected, atol=0.51)


def test_equalise_keeps_twelve_bits_apart() -> None:
    flat = ((2048 + np.arange(64).reshape(8, 8)) / 4095).astype(np.float32)
    assert len(np.unique(enhance.equalise(flat))) == 64


def test_clahe_lifts_local_contrast(drawn_hand: FloatArray) -> None:
    flat = (0.4 + 0.2 * drawn_hand).astype(np.float32)
    assert enhance.clahe(flat).std() > flat.std()


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.2, 3.0])
@pytest.mark.parametrize("kind", ["Brightness", "Contrast"])
def test_brightness_and_contrast_are_pil_s(kind: str, factor: float) -> None:
    levels = np.random.default_rng(0).integers(0, 200, (40, 50), dtype=np.uint8)
    expected = np.asarray(getattr(ImageEnhance, kind)(Image.fromarray(levels)).enhance(factor), np.float32)
    ours = {"Brightness": enhance.brighten, "Contrast": enhance.raise_contrast}[kind]
    found = ours(levels / np.float32(255), factor) * 255
    # PIL drops the fraction of its result, and rounds the mean that contrast is measured from.
    mean = 0.5 * abs(1 - factor) if kind == "Contrast" else 0.0
    np.testing.assert_allclose(found, expected, atol=1.01 + mean)


def test_contrast_keeps_the_mean_and_brightness_the_ratios() -> None:
    image = np.random.default_rng(0).uniform(0.3, 0.6, (40, 50)).astype(np.float32)
    contrasted = enhance.raise_contrast(image, 1.5)
    assert contrasted.mean() == pytest.approx(image.mean(), abs=1e-4)
    assert contrasted.std() == pytest.approx(1.5 * image.std(), rel=1e-3)
    np.testing.assert_allclose(enhance.brighten(image, 1.5), image * 1.5, rtol=1e-5)


def test_bilateral_smooths_within_an_edge_and_keeps_it() -> None:
    rng = np.random.default_rng(0)
    clean = np.repeat(np.array([0.2, 0.8], np.float32), 32)[None].repeat(64, 0)
    noisy = (clean + 0.02 * rng.standard_normal(clean.shape)).astype(np.float32)
    result = enhance.bilateral(noisy)
    assert (result - clean).std() < 0.6 * (noisy - clean).std()
    assert result[:, 32].mean() - result[:, 31].mean() > 0.58


def test_adaptive_threshold_finds_bones_under_a_slope() -> None:
    slope = np.linspace(0, 0.5, 100, dtype=np.float32)[None].repeat(60, 0)
    image = slope.copy()
    image[:, ::10] += 0.3
    mask = enhance.adaptive_threshold(image, 21, -0.1)
    assert mask[:, ::10].all()
    assert mask.mean() == pytest.approx(0.1)


def test_gaussian_of_nothing_is_a_copy(drawn_hand: FloatArray) -> None:
    result = enhance.gaussian(drawn_hand, 0)
    np.testing.assert_array_equal(result, drawn_hand)
    assert result is not drawn_hand


@pytest.mark.parametrize(
    "call",
    [
        lambda image: enhance.stretch_contrast(image, 90, 10),
        lambda image: enhance.stretch_contrast(image, -1, 10),
        lambda image: enhance.clahe(image, clip=0),
        lambda image: enhance.clahe(image, tiles=0),
        lambda image: enhance.brighten(image, -0.1),
        lambda image: enhance.raise_contrast(image, -0.1),
        lambda image: enhance.bilateral(image, diameter=0),
        lambda image: enhance.gaussian(image, -1),
        lambda image: enhance.adaptive_threshold(image, 4, 0.0),
        lambda image: enhance.adaptive_threshold(image, 1, 0.0),
    ],
)
def test_impossible_settings_are_refused(call: object, drawn_hand: FloatArray) -> None:
    with pytest.raises(ConfigError):
        call(drawn_hand)  # type: ignore[operator]
