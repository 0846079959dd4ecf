"""Whether bone is bright, on drawn hands and on real radiographs, as they are and inverted."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boneage.core.types import FloatArray
from boneage.imaging.polarity import Polarity, clues, judge
from boneage.imaging.read import read, read_bytes


def framed(image: FloatArray, level: float, share: float = 0.15) -> FloatArray:
    width = int(share * max(image.shape))
    return np.pad(image, width, constant_values=np.float32(level))


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("frame", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("contrast", [1.0, 0.1])
def test_a_drawn_hand(quarters: int, frame: float | None, contrast: float, drawn_hand: FloatArray) -> None:
    for expected, hand in ((Polarity.BONE_BRIGHT, drawn_hand), (Polarity.BONE_DARK, 1 - drawn_hand)):
        image = np.rot90(0.3 + contrast * (hand - 0.3), quarters).astype(np.float32)
        assert judge(image if frame is None else framed(image, frame)) is expected


def test_the_clues_are_negated_by_an_inversion(drawn_hand: FloatArray) -> None:
    right, inverted = clues(drawn_hand), clues(1 - drawn_hand)
    for name in ("fine", "shape", "centre"):
        assert getattr(right, name) == pytest.approx(-getattr(inverted, name), abs=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_constant_image_is_uncertain(level: float) -> None:
    assert judge(np.full((100, 100), level, np.float32)) is Polarity.UNCERTAIN


def test_noise_is_never_inverted() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).random((120, 100)).astype(np.float32)
        assert judge(noise) is not Polarity.BONE_DARK


def test_reading_corrects_an_inverted_raster_and_says_so(drawn_hand: FloatArray) -> None:
    file = BytesIO()
    Image.fromarray(np.rint((1 - drawn_hand) * 255).astype(np.uint8)).save(file, "PNG")
    radiograph = read_bytes(file.getvalue())
    np.testing.assert_allclose(radiograph.pixels, drawn_hand, atol=1 / 255)
    assert [notice.code for notice in radiograph.warnings] == ["polarity_corrected"]
    assert radiograph.provenance["polarity"] == "inverted by content"


def test_real_radiographs_as_they_are_and_inverted(radiograph_paths: tuple[Path, ...]) -> None:
    """All of them are bone-bright: none may be turned, and nearly all are found when turned."""
    sample = radiograph_paths[::12]
    found = []
    for path in sample:
        radiograph = read(path)
        assert "polarity_corrected" not in {notice.code for notice in radiograph.warnings}
        found.append(judge(1 - radiograph.pixels))
    assert found.count(Polarity.BONE_DARK) >= 0.9 * len(sample)
    assert found.count(Polarity.BONE_BRIGHT) <= 0.02 * len(sample)
