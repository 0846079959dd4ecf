"""Patches around the radius, laid over the mean one, and the windows that are cut out of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from boneage.anatomy.regions import RegionViews
from boneage.core.errors import ConfigError
from boneage.core.types import Affine, FloatArray, Radiograph
from boneage.recipes.radius_subgrades.config import InputConfig
from boneage.recipes.radius_subgrades.frames import (
    PATCH_MARGIN,
    PATCH_SIDE,
    Patches,
    mean_radius,
    patch_of,
    view_of,
)

WINDOW = (0.15, -0.1, 0.7)  # as shipped: the growth plate
PLATE = InputConfig(64, WINDOW, align=True)


def draw_patch(seed: int, half_width: float = 0.15) -> Patches:
    """A patch with a bar over a shaft, as an epiphysis lies over its metaphysis."""
    image = np.full((PATCH_SIDE, PATCH_SIDE), 35.0)

    def at(x: float, y: float) -> tuple[int, int]:
        return round(x * PATCH_SIDE), round(y * PATCH_SIDE)

    cv2.rectangle(image, at(0.30, 0.56), at(0.70, 1.2), 165, -1)
    cv2.rectangle(image, at(0.5 - half_width, 0.36), at(0.5 + half_width, 0.48), 200, -1)
    noise = np.random.default_rng(seed).normal(0, 5, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.8) + noise, 0, 255).astype(np.uint8)


def moved(patch: Patches, degrees: float, scale: float, shift: tuple[float, float]) -> Patches:
    centre = (PATCH_SIDE - 1) / 2
    to_moved = cv2.getRotationMatrix2D((centre, centre), degrees, scale)
    to_moved[:, 2] += shift
    size = (PATCH_SIDE, PATCH_SIDE)
    return np.asarray(cv2.warpAffine(patch, to_moved, size, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


@pytest.fixture(scope="module")
def template() -> FloatArray:
    return mean_radius([draw_patch(seed, 0.10 + 0.02 * seed) for seed in range(6)])


def seen(patch: Patches, config: InputConfig, template: FloatArray | None) -> FloatArray:
    view = view_of(patch, config, template)
    assert view is not None
    return view


# Laid over the mean radius


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"),
    [(0, 1, (9, -6)), (8, 1, (0, 0)), (0, 1.1, (0, 0)), (0, 0.9, (0, 0)), (-6, 0.94, (6, 5))],
    ids=["shifted", "turned", "larger", "smaller", "all"],
)
def test_a_moved_radius_is_laid_back(
    template: FloatArray, degrees: float, scale: float, shift: tuple[float, float]
) -> None:
    patch = draw_patch(99)
    other = moved(patch, degrees, scale, shift)
    plain = np.abs(seen(other, PLATE, None) - seen(patch, PLATE, None)).mean()
    laid = np.abs(seen(other, PLATE, template) - seen(patch, PLATE, template)).mean()
    assert plain > 0.04 and laid < 0.2 * plain


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_a_blank_patch_has_no_view_where_radii_are_aligned(template: FloatArray, grey: int) -> None:
    blank = np.full((PATCH_SIDE, PATCH_SIDE), grey, np.uint8)
    assert view_of(blank, PLATE, template) is None
    assert (seen(blank, PLATE, None) == 0).all()


@pytest.mark.parametrize(("scale", "shift"), [(1, (60, 0)), (1, (0, 55)), (1.8, (0, 0)), (0.5, (0, 0))])
def test_a_radius_that_lies_elsewhere_has_no_view(
    template: FloatArray, scale: float, shift: tuple[float, float]
) -> None:
    assert view_of(moved(draw_patch(99), 0, scale, shift), PLATE, template) is None


def sharpness(image: FloatArray) -> float:
    return float(np.square(np.diff(image, axis=0)).sum() + np.square(np.diff(image, axis=1)).sum())


def test_the_mean_of_moved_radii_is_sharper_than_their_plain_mean() -> None:
    rng = np.random.default_rng(0)
    patches = [moved(draw_patch(n), *rng.normal((0, 1), (5, 0.04)), rng.normal(0, 5, 2)) for n in range(10)]
    blurred = [cv2.GaussianBlur(patch / np.float32(255), (0, 0), 2.0) for patch in patches]
    found = mean_radius(patches)
    assert found.shape == (PATCH_SIDE, PATCH_SIDE) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    assert sharpness(found) > 1.15 * sharpness(np.mean(blurred, axis=0))


def test_patches_that_cannot_be_laid_do_not_blur_the_mean() -> None:
    radii = [draw_patch(n) for n in range(8)]
    blank = np.full((PATCH_SIDE, PATCH_SIDE), 35, np.uint8)
    with_blank = mean_radius([*radii, blank])
    assert np.abs(with_blank - mean_radius(radii)).mean() < 0.01
    only = mean_radius([blank, blank])
    np.testing.assert_allclose(only, 35 / 255, atol=1e-6)
    assert view_of(blank, PLATE, only) is None


# Patches and windows: a spot whose place is known


def spot(place: tuple[float, float], side: int, width: float) -> FloatArray:
    """An image with a bright spot at a place (x, y), pixels."""
    y, x = np.mgrid[:side, :side]
    return np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * width**2)).astype(np.float32)


def brightest(image: FloatArray | Patches) -> tuple[float, float]:
    """Return the place (x, y) of the spot: the mean of its bright pixels."""
    y, x = np.nonzero(image >= 0.7 * image.max())
    return float(x.mean()), float(y.mean())


def patch_place(u: float, v: float) -> tuple[float, float]:
    """Where a place of the region, the unit square, lies in its patch, pixels."""
    x, y = ((value + 0.5 * (PATCH_MARGIN - 1)) / PATCH_MARGIN * PATCH_SIDE - 0.5 for value in (u, v))
    return x, y


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.1, 0.8), (1.1, -0.1)])
def test_a_patch_shows_the_region_with_its_margin(place: tuple[float, float]) -> None:
    u, v = place
    left, top, side = 120.0, 90.0, 100.0  # of the region in the radiograph
    radiograph = Radiograph(spot((left + u * side, top + v * side), 320, 4.0))
    to_view = Affine(np.array([[1 / side, 0, -left / side], [0, 1 / side, -top / side]]))
    patch = patch_of(RegionViews(radiograph), to_view)
    assert patch.shape == (PATCH_SIDE, PATCH_SIDE) and patch.dtype == np.uint8
    assert (patch.min(), patch.max()) == (0, 255)
    assert brightest(patch) == pytest.approx(patch_place(u, v), abs=1.0)


@pytest.mark.parametrize("side", [32, 64, 96])
@pytest.mark.parametrize("window", [(0.0, 0.0, 1.0), WINDOW, (-0.2, -0.2, 1.4)])
def test_a_window_is_in_sides_of_the_region(window: tuple[float, float, float], side: int) -> None:
    u, v = 0.4, 0.35
    patch = (spot(patch_place(u, v), PATCH_SIDE, 4.0) * 255).astype(np.uint8)
    view = seen(patch, InputConfig(side, window), None)
    left, top, width = window
    expected = [(u - left) / width * side - 0.5, (v - top) / width * side - 0.5]
    assert brightest(view) == pytest.approx(expected, abs=0.8)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("contrast", ["none", "clahe"])
def test_views_are_in_0_to_1_and_the_same_every_time(
    template: FloatArray, contrast: str, align: bool
) -> None:
    config = InputConfig(48, WINDOW, align=align, contrast=contrast)
    views = [seen(draw_patch(5), config, template if align else None) for _ in range(2)]
    assert views[0].shape == (48, 48) and views[0].dtype == np.float32
    assert 0 <= views[0].min() < 0.05 and 0.95 < views[0].max() <= 1
    np.testing.assert_array_equal(views[0], views[1])


def test_clahe_raises_what_is_faint() -> None:
    patch = draw_patch(5)
    plain, enhanced = (
        seen(patch, InputConfig(64, WINDOW, contrast=name), None) for name in ("none", "clahe")
    )
    dark = plain < 0.2
    assert enhanced[dark].std() > 1.5 * plain[dark].std()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"side": 15}, "input.side must be 16 or more"),
        ({"side": 32, "window": (0.0, 0.0, 0.0)}, "the window's side above 0"),
        ({"side": 32, "contrast": "gamma"}, "input.contrast must be one of clahe, none, not 'gamma'"),
    ],
)
def test_views_that_cannot_be_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        InputConfig(**values)  # type: ignore[arg-type]
