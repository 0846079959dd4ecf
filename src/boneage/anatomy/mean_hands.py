"""Mean hands: hands laid over each other bone by bone, and averaged with weights that show no one child.

Every hand is laid upright (`Hand.to_upright`) and bent, by lines drawn along its bones, until these lie on
the mean lines of the hands of that sex and age; what then still lies beside the mean, the carpals above all,
is moved onto it by a smooth optical flow of a few pixels. A plate is a plain weighted mean, pixel by pixel:
what a child adds to any pixel is its weight times its grey, no weight may exceed `MAX_WEIGHT`, and no
stretching of contrast follows. What most of the hands do not reach, such as a film's edge, is black;
only at that rim, where the share of hands decides, may a child count for more than its weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import EPIPHYSES, NAMES
from boneage.core.errors import ConfigError
from boneage.core.types import Affine, FloatArray, Hand, Radiograph, Sex
from boneage.imaging.enhance import clahe
from boneage.imaging.geometry import warp

Points = NDArray[np.float64]

PLATE_SHAPE = (368, 320)
"""Height and width of a plate, in pixels."""

PLATE_SCALE = 150.0
"""Pixels of a plate to a hand unit, the distance from the wrist to the middle finger's knuckle."""

PLATE_WRIST = (144.0, 312.0)
"""Where the wrist's key point lies on a plate before hands are bent, (x, y) in pixels."""

MIN_EFFECTIVE = 15.0
"""The least effective number of children, (sum w)^2 / sum w^2, that a plate may be the mean of."""

MAX_WEIGHT = 0.15
"""The largest share that one child may have in a plate."""

SIGMAS_MONTHS = tuple(float(sigma) for sigma in range(6, 13))
"""Widths of the kernel in bone age; the first that keeps the two limits above is taken."""

REACH = 2.5
"""How many sigma from a plate's age a hand still counts."""

MAX_OFFSET_MONTHS = 3.0
"""How far the mean bone age of a plate's hands may lie from the age that the plate stands for."""

PLATE_AGES_MONTHS = tuple(range(24, 217, 6))
"""The ages of plates: every whole and half year."""

MAX_MISFIT = 0.35
"""A hand with a key point so far from the mean place, in hand units, is too unusual to be bent: left out."""

POINTS = (*NAMES, *EPIPHYSES)
"""The points that a hand is bent by."""

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_LINES = (
    *((f"{finger}{joint}", f"{finger}{joint + 1}") for finger in _FINGERS for joint in (1, 2, 3)),
    *(("wrist", f"{finger}1") for finger in _FINGERS),
    ("ulna", "radius"),
)
_STARTS = np.array([POINTS.index(start) for start, _ in _LINES])
_ENDS = np.array([POINTS.index(end) for _, end in _LINES])

_FALL_OFF = 2.0
_NEAR_PX = 2.0
_GRID_PX = 4
_FEATHER_PX = 5.0
_FLOW_WINDOWS_PX = (31, 21)  # of the rounds in which hands are moved onto their mean
_FLOW_SMOOTH_PX = 4.0
_FLOW_MOST_PX = 8.0
_COVERED = (0.35, 0.5)  # share of hands at a pixel, below which it is black and above which it is whole
_ANY_GREY = 8
_MARGIN_PX = 9
_TISSUE, _BONE = 0.30, 0.72  # grey that the darker and brighter fifth of every hand are brought to


@dataclass(frozen=True, slots=True, eq=False)
class LaidHand:
    """One hand laid upright on the plate's frame, its contrast made alike.

    Args:
        child: whose it is; hands of one child share one weight's limit.
        sex: of the child.
        age_months: its bone age.
        image: (H, W) uint8 of `PLATE_SHAPE`, bone bright, black outside the hand.
        points: (P, 2) of `POINTS`, pixels of `image`; NaN where one is not seen.
    """

    child: str
    sex: Sex
    age_months: float
    image: NDArray[np.uint8]
    points: Points


@dataclass(frozen=True, slots=True, eq=False)
class MeanHand:
    """The mean of many children's hands, a plate of the atlas.

    Args:
        sex: of the children.
        age_months: that the plate stands for.
        image: (H, W) uint8, bone bright.
        hands: radiographs with any weight in it.
        children_effective: (sum w)^2 / sum w^2 over children.
        largest_weight: the largest share of one child.
        mean_age_months: mean bone age of its hands, with their weights.
        sigma_months: width of the kernel.
    """

    sex: Sex
    age_months: int
    image: NDArray[np.uint8]
    hands: int
    children_effective: float
    largest_weight: float
    mean_age_months: float
    sigma_months: float


@dataclass(frozen=True, slots=True, eq=False)
class KernelWeights:
    """The shares of hands (N) in a plate, that sum to 1, and what they amount to (as in `MeanHand`)."""

    weights: NDArray[np.float64]
    sigma_months: float
    children_effective: float
    largest_weight: float
    mean_age_months: float


def lay_upright(radiograph: Radiograph, hand: Hand, child: str, sex: Sex, age_months: float) -> LaidHand:
    """Return a hand on the plate's frame, with its contrast made alike and all else on the film black."""
    to_plate = hand.to_upright.then(_frame())
    image = warp(radiograph.pixels, to_plate, PLATE_SHAPE, "constant")
    inside = _silhouette(to_plate(hand.outline_px.reshape(-1, 2)))
    named = {**hand.keypoints_px, **hand.epiphyses_px}
    points = to_plate(np.array([named.get(name, (np.nan, np.nan)) for name in POINTS]))
    alike = _alike(image, inside > 0.5) * inside
    return LaidHand(child, sex, age_months, np.rint(alike * 255).astype(np.uint8), points)


def _frame() -> Affine:
    return Affine(np.column_stack([np.eye(2) * PLATE_SCALE, np.array(PLATE_WRIST)]))


def _silhouette(outline: Points) -> FloatArray:
    """Return 1 inside an outline (N, 2) and a margin about it, falling softly to 0 outside."""
    mask = np.zeros(PLATE_SHAPE, np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 255)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_MARGIN_PX, _MARGIN_PX))
    soft = cv2.GaussianBlur(cv2.dilate(mask, disc), (0, 0), _FEATHER_PX / 2)
    return np.asarray(soft, np.float32) / np.float32(255)


def _alike(image: FloatArray, inside: NDArray[np.bool_]) -> FloatArray:
    """Return the image with the hand's own dark and bright greys brought to the same two for every hand."""
    if not inside.any():
        return np.zeros_like(image)
    low, high = (float(value) for value in np.percentile(image[inside], [1.0, 99.7]))
    spread = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    local = clahe(spread, 2.0, 6)
    dark, bright = (float(value) for value in np.percentile(local[inside], [20.0, 80.0]))
    matched = _TISSUE + (local - dark) * ((_BONE - _TISSUE) / max(bright - dark, 1e-6))
    return np.asarray(np.clip(matched, 0, 1), np.float32)


def kernel_weights(
    ages_months: Sequence[float], children: Sequence[str], age_months: float
) -> KernelWeights | None:
    """Return every hand's weight in a plate, by the narrowest kernel that lets no child show.

    Args:
        ages_months: bone ages of the hands (N) of one sex.
        children: whose hands (N) they are.
        age_months: that the plate stands for.

    Returns:
        The weights, or None where even the widest kernel holds too few children, or their mean age is
        too far from the plate's.
    """
    ages = np.asarray(ages_months, np.float64)
    for sigma in SIGMAS_MONTHS:
        distance = np.abs(ages - age_months)
        raw = np.exp(-0.5 * (distance / sigma) ** 2) * (distance <= REACH * sigma)
        if not raw.any():
            continue
        weights = raw / raw.sum()
        _, of_child = np.unique(np.asarray(children), return_inverse=True)
        shares = np.bincount(of_child, weights)
        effective, largest = float(1 / np.sum(shares**2)), float(shares.max())
        mean = float(weights @ ages)
        enough = effective >= MIN_EFFECTIVE and largest <= MAX_WEIGHT
        if enough and abs(mean - age_months) <= MAX_OFFSET_MONTHS:
            return KernelWeights(weights, sigma, effective, largest, mean)
    return None


def mean_points(points: Points, weights: NDArray[np.float64]) -> Points:
    """Return the weighted mean (P, 2) of points (N, P, 2), each over the hands in which it is seen.

    A point that none of them shows is NaN.
    """
    seen = ~np.isnan(points[..., 0])
    share = seen * weights[:, None]
    total = np.einsum("np,npd->pd", share, np.nan_to_num(points))
    weight = share.sum(axis=0)
    return np.where(weight[:, None] > 0, total / np.maximum(weight, 1e-12)[:, None], np.nan)


def bend(image: NDArray[np.uint8], own: Points, target: Points) -> NDArray[np.uint8]:
    """Return the image bent so that the lines along its bones lie on the target's.

    A bone is turned, moved and stretched along its length as one piece, so that it stays straight; between
    bones the maps are mixed by the distance from their lines.

    Args:
        image: (H, W) uint8.
        own: (P, 2) of `POINTS` in the image; a point that is not seen (NaN) is taken to lie on the target's.
        target: (P, 2) where they shall lie; a line of which an end is NaN is left out.

    Source: Beier, Neely (1992), Feature-based image metamorphosis, SIGGRAPH, section 3.
    """
    own = np.where(np.isnan(own), target, own)
    height, width = image.shape
    y, x = np.mgrid[0 : height + _GRID_PX : _GRID_PX, 0 : width + _GRID_PX : _GRID_PX]
    coarse = _sources(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64), own, target)
    field = coarse.reshape(*x.shape, 2).astype(np.float32)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(_GRID_PX)
    places = np.asarray(cv2.remap(field, columns, rows, cv2.INTER_LINEAR), np.float32)
    return _taken_from(image, places)


def _taken_from(image: NDArray[np.uint8], places: FloatArray) -> NDArray[np.uint8]:
    """Return the image whose pixels come from places (H, W, 2), (x, y) in the source; black beyond it."""
    x, y = places[..., 0], places[..., 1]
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT), np.uint8)


def _sources(places: Points, own: Points, target: Points) -> Points:
    """Return where in its own image each place (M, 2) of the bent image comes from."""
    known = ~np.isnan(target[_STARTS] + target[_ENDS]).any(axis=1)
    first, last = _STARTS[known], _ENDS[known]
    starts = target[first]
    along = target[last] - starts
    square = np.maximum(np.sum(along**2, axis=1), 1e-9)
    off = places[:, None] - starts
    part = np.sum(off * along, axis=2) / square
    aside = (off[..., 1] * along[:, 0] - off[..., 0] * along[:, 1]) / np.sqrt(square)
    own_along = own[last] - own[first]
    length = np.maximum(np.linalg.norm(own_along, axis=1), 1e-9)
    normal = np.stack([-own_along[:, 1], own_along[:, 0]], axis=1) / length[:, None]
    moved = own[first] + part[..., None] * own_along + aside[..., None] * normal
    nearest = starts + np.clip(part, 0, 1)[..., None] * along
    distance = np.linalg.norm(places[:, None] - nearest, axis=2)
    weight = (distance + _NEAR_PX) ** (-2 * _FALL_OFF)
    return np.asarray(np.einsum("ml,mld->md", weight / weight.sum(axis=1, keepdims=True), moved))


def mean_image(
    images: Sequence[NDArray[np.uint8]],
    weights: NDArray[np.float64],
    windows_px: Sequence[int] = _FLOW_WINDOWS_PX,
) -> NDArray[np.uint8]:
    """Return the weighted mean of bent hands, each moved onto the mean in some rounds of optical flow.

    Args:
        images: (H, W) uint8 each, by `bend`.
        weights: (N), that sum to 1.
        windows_px: of the rounds; none leaves the hands where they are.

    Source: the flow is Farneback (2003), Two-frame motion estimation based on polynomial expansion.
    """
    mean = _mean(images, weights)
    moved = list(images)
    for window in windows_px:
        moved = [_moved_onto(mean, image, window) for image in images]
        mean = _mean(moved, weights)
    covered = _mean([np.where(image > _ANY_GREY, np.uint8(255), np.uint8(0)) for image in moved], weights)
    low, high = _COVERED
    kept = np.clip((covered.astype(np.float32) / 255 - low) / (high - low), 0, 1)
    return np.rint(mean * kept).astype(np.uint8)


def _mean(images: Sequence[NDArray[np.uint8]], weights: NDArray[np.float64]) -> NDArray[np.uint8]:
    total = np.zeros(images[0].shape, np.float64)
    for weight, image in zip(weights, images, strict=True):
        total += weight * image
    return np.rint(total).astype(np.uint8)


def _moved_onto(mean: NDArray[np.uint8], image: NDArray[np.uint8], window_px: int) -> NDArray[np.uint8]:
    """Return the image with each place moved smoothly, by a few pixels at most, to where the mean has it."""
    none = np.zeros((*mean.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(
        mean, image, none, 0.5, 3, window_px, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    )
    flow = cv2.GaussianBlur(flow, (0, 0), _FLOW_SMOOTH_PX)
    length = np.linalg.norm(flow, axis=2, keepdims=True)
    flow = flow * np.minimum(1, _FLOW_MOST_PX / np.maximum(length, 1e-6))
    rows, columns = np.mgrid[0 : mean.shape[0], 0 : mean.shape[1]].astype(np.float32)
    return _taken_from(image, np.stack([columns, rows], axis=2) + flow.astype(np.float32))


def mean_hands(hands: Sequence[LaidHand], ages_months: Sequence[int] = PLATE_AGES_MONTHS) -> list[MeanHand]:
    """Return the plates that hands of known sex and bone age allow, by sex and age.

    Raises:
        ConfigError: they allow none.
    """
    plates: list[MeanHand] = []
    for sex in Sex:
        own = _usual([hand for hand in hands if hand.sex is sex])
        plates.extend(plate for age in ages_months if (plate := _plate(own, sex, age)) is not None)
    if not plates:
        raise ConfigError(
            f"no plate can be made of {len(hands)} hands: a plate needs {MIN_EFFECTIVE:g} children or more "
            "of one sex and about one bone age, so that it shows no one child; give a larger manifest"
        )
    return plates


def _usual(hands: list[LaidHand]) -> list[LaidHand]:
    """Return the hands whose points lie near those of the others; a misplaced point would smear a plate."""
    if not hands:
        return hands
    points = np.stack([hand.points for hand in hands])
    points = points[:, ~np.isnan(points[..., 0]).all(axis=0)]
    off = np.linalg.norm(points - np.nanmedian(points, axis=0), axis=2)
    near = np.nanmax(off, axis=1) <= MAX_MISFIT * PLATE_SCALE
    return [hand for hand, keep in zip(hands, near, strict=True) if keep]


def _plate(hands: list[LaidHand], sex: Sex, age_months: int) -> MeanHand | None:
    kernel = kernel_weights([h.age_months for h in hands], [h.child for h in hands], age_months)
    if kernel is None:
        return None
    used = np.flatnonzero(kernel.weights)
    target = mean_points(np.stack([hands[index].points for index in used]), kernel.weights[used])
    bent = [bend(hands[index].image, hands[index].points, target) for index in used]
    return MeanHand(
        sex=sex,
        age_months=age_months,
        image=mean_image(bent, kernel.weights[used]),
        hands=len(used),
        children_effective=kernel.children_effective,
        largest_weight=kernel.largest_weight,
        mean_age_months=kernel.mean_age_months,
        sigma_months=kernel.sigma_months,
    )
