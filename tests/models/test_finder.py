"""The hand finder: maps of every size, learning everywhere, and moving with the image."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from boneage.anatomy.keypoints import EPIPHYSES as EPIPHYSIS_NAMES  # noqa: E402
from boneage.anatomy.keypoints import NAMES  # noqa: E402
from boneage.models.backbones import MobileNetV2Features  # noqa: E402
from boneage.models.finder import EPIPHYSES, KEYPOINTS, MAPS, HandFinder  # noqa: E402


@pytest.fixture
def finder() -> HandFinder:
    torch.manual_seed(0)
    return HandFinder(MobileNetV2Features())


def test_one_map_a_key_point_and_the_mask(finder: HandFinder) -> None:
    assert len(NAMES) == KEYPOINTS and len(EPIPHYSIS_NAMES) == EPIPHYSES
    finder.eval()
    with torch.no_grad():
        for side in (96, 192):
            maps = finder(torch.rand(2, 1, side, side))
            assert maps.shape == (2, MAPS, side // 4, side // 4)
            assert maps.min() > 0 and maps.max() < 1


def test_it_begins_with_empty_maps(finder: HandFinder) -> None:
    maps = finder(torch.rand(2, 1, 96, 96))
    assert maps.mean().item() == pytest.approx(1 / (1 + np.exp(3)), abs=0.03)


def test_every_weight_learns(finder: HandFinder) -> None:
    logits = finder.logits(torch.rand(2, 1, 96, 96))
    torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.rand_like(logits)).backward()
    assert not [name for name, weight in finder.named_parameters() if weight.grad is None]


def test_probabilities_are_those_of_the_logits(finder: HandFinder) -> None:
    finder.eval()
    image = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(finder(image), finder.logits(image).sigmoid())


def test_a_shift_of_the_image_shifts_the_maps(finder: HandFinder) -> None:
    finder.eval()
    image = torch.zeros(1, 1, 256, 256)
    image[..., 100:140, 90:150] = torch.rand(40, 60)
    with torch.no_grad():
        here, there = finder.logits(image), finder.logits(image.roll((16, 32), (2, 3)))
    # 16 and 32 px are whole cells of the coarsest map; far from the border nothing else changes.
    inner = (slice(None), slice(None), slice(20, 40), slice(20, 36))
    torch.testing.assert_close(there.roll((-4, -8), (2, 3))[inner], here[inner], atol=1e-3, rtol=1e-3)
