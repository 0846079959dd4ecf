"""Training samples of the hand finder: posed hands, two hands, and none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import EPIPHYSES, KNUCKLE, NAMES, TIPS, WRIST
from boneage.anatomy.localise import FINDER_SIZE, FINDER_STRIDE, upright_frame
from boneage.core.types import Affine, FloatArray
from boneage.data.augment import change_tone, draw_pose
from boneage.imaging.geometry import resize, warp
from boneage.recipes.hand_localisation.config import Recipe

HEATMAP_SIGMA = 1.3  # cells
CELLS = FINDER_SIZE // FINDER_STRIDE
JOINTS = len(NAMES)
POINTS = JOINTS + len(EPIPHYSES)
FOREARM_CUT = (0.03, 0.3)  # below the wrist, upright: where a cut-off forearm ends

Hides = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
"""Points (..., 2) -> whether each is hidden."""


@dataclass(frozen=True)
class LabelledHand:
    """A letterboxed radiograph with its labels.

    Args:
        image: (S, S) uint8, contrast stretched.
        points: (23, 2) key points and epiphyses in its pixels; NaN is an epiphysis that is not in the image.
        weights: (23,) how much a point counts; 0 is a point that nobody knows.
        mask: (S, S) uint8 0/1, hand and forearm; None where clustering gave no good mask.
    """

    image: NDArray[np.uint8]
    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    mask: NDArray[np.uint8] | None

    @property
    def joints(self) -> NDArray[np.float64]:
        """Its 21 key points."""
        return self.points[:JOINTS]


@dataclass(frozen=True)
class FinderSample:
    """Image (S, S), target maps (24, S/4, S/4), and how much each of them counts (24,)."""

    image: FloatArray
    maps: FloatArray
    weights: FloatArray


class FinderSamples:
    """Augmented samples; the same index and epoch give the same sample."""

    def __init__(self, hands: Sequence[LabelledHand], recipe: Recipe) -> None:
        self.hands = hands
        self.recipe = recipe

    def __call__(self, index: int, epoch: int) -> FinderSample:
        """Return one sample."""
        training = self.recipe.training
        rng = np.random.default_rng((training.seed, epoch, index))
        kind = rng.random()
        if kind < training.no_hand:
            sample = self._no_hand(index, rng)
        elif kind < training.no_hand + training.two_hands:
            sample = self._two_hands(index, rng)
        else:
            sample = self._one_hand(index, rng)
        return FinderSample(change_tone(sample.image, self.recipe.augment, rng), sample.maps, sample.weights)

    def _one_hand(self, index: int, rng: np.random.Generator) -> FinderSample:
        hand = self.hands[index]
        if rng.random() < self.recipe.training.no_forearm:
            hand = without_forearm(hand, rng.uniform(*FOREARM_CUT))
        if rng.random() < self.recipe.training.hidden:
            hand = partly_hidden(hand, rng)
        pose = self._pose(hand, rng)
        image = warp(as_float(hand.image), pose, (FINDER_SIZE, FINDER_SIZE), "constant")
        return FinderSample(image, _maps(hand, pose), _weights(hand))

    def _pose(self, hand: LabelledHand, rng: np.random.Generator) -> Affine:
        size = hand.image.shape[0]
        scale = FINDER_SIZE / size
        pose = Affine(np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]]))
        if rng.random() < 0.5:
            pose = pose.then(Affine(np.array([[-1.0, 0.0, FINDER_SIZE - 1.0], [0.0, 1.0, 0.0]])))
        if rng.random() < self.recipe.training.any_rotation:
            angle = rng.uniform(-np.pi, np.pi)
            linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            centre = np.full(2, (FINDER_SIZE - 1) / 2)
            pose = pose.then(Affine(np.column_stack([linear, centre - linear @ centre])))
        return pose.then(draw_pose((FINDER_SIZE, FINDER_SIZE), self.recipe.augment, rng))

    def _two_hands(self, index: int, rng: np.random.Generator) -> FinderSample:
        """Put two hands side by side, as a film of both hands shows them."""
        image, maps, weights = (
            np.zeros((FINDER_SIZE, FINDER_SIZE), np.float32),
            np.zeros((POINTS + 1, CELLS, CELLS), np.float32),
            np.ones(POINTS + 1, np.float32),
        )
        for half, hand in enumerate((self.hands[index], self.hands[int(rng.integers(len(self.hands)))])):
            low, high = hand.joints.min(axis=0), hand.joints.max(axis=0)
            scale = FINDER_SIZE / 2 / (float((high - low).max()) * rng.uniform(1.2, 1.5))
            mirror = -1.0 if half else 1.0
            middle = np.array([FINDER_SIZE * (0.25 + 0.5 * half), FINDER_SIZE * 0.5])
            linear = np.diag([mirror * scale, scale])
            pose = Affine(np.column_stack([linear, middle - linear @ ((low + high) / 2)]))
            part = warp(as_float(hand.image), pose, (FINDER_SIZE, FINDER_SIZE), "constant")
            columns = slice(half * FINDER_SIZE // 2, (half + 1) * FINDER_SIZE // 2)
            image[:, columns] = part[:, columns]
            cells = slice(half * CELLS // 2, (half + 1) * CELLS // 2)
            maps[:, :, cells] = np.maximum(maps[:, :, cells], _maps(hand, pose)[:, :, cells])
            weights = np.minimum(weights, _weights(hand))
        return FinderSample(image, maps, weights)

    def _no_hand(self, index: int, rng: np.random.Generator) -> FinderSample:
        """Show no hand: shuffled pieces of one, a bone's close-up, or drawn shapes."""
        kind = rng.integers(3)
        image = as_float(self.hands[index].image)
        if kind == 0:
            image = _shuffled(resize(image, (FINDER_SIZE, FINDER_SIZE))[0], int(rng.integers(3, 7)), rng)
        elif kind == 1:
            at = self.hands[index].points[int(rng.integers(JOINTS))]
            scale = FINDER_SIZE / (0.12 * image.shape[0])
            shift = np.full(2, FINDER_SIZE / 2) - scale * at
            image = warp(
                image, Affine(np.column_stack([np.eye(2) * scale, shift])), (FINDER_SIZE, FINDER_SIZE)
            )
        else:
            image = _shapes(rng)
        empty = np.zeros((POINTS + 1, CELLS, CELLS), np.float32)
        return FinderSample(image, empty, np.ones(POINTS + 1, np.float32))


def without_forearm(hand: LabelledHand, end: float) -> LabelledHand:
    """Return a hand whose image is black from `end` below the wrist, in wrist-to-knuckle lengths."""
    upright, _ = upright_frame(hand.joints)
    size = hand.image.shape[0]
    along_x, along_y, offset = upright.matrix[1]
    beyond = along_x * np.arange(size) + along_y * np.arange(size)[:, None] + offset > end
    points = np.where((upright(hand.points)[:, 1] > end)[:, None], np.nan, hand.points)
    points[:JOINTS] = hand.joints
    mask = None if hand.mask is None else np.where(beyond, np.uint8(0), hand.mask)
    return LabelledHand(np.where(beyond, np.uint8(0), hand.image), points, hand.weights, mask)


def partly_hidden(hand: LabelledHand, rng: np.random.Generator) -> LabelledHand:
    """Return a hand of which a part is cut off by a film's edge or covered: what is there has no key point.

    Else the finder would learn to guess where a fingertip must be, and be as sure of it as of one it sees.
    """
    size = hand.image.shape[0]
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float64)
    hides = _beyond_an_edge if rng.random() < 0.6 else _under_a_patch
    hidden = hides(hand.joints, rng)
    beyond, lost = hidden(grid), hidden(hand.points)
    grey = np.uint8(
        rng.integers(256) if rng.random() < 0.4 else np.percentile(hand.image, rng.uniform(0, 30))
    )
    mask = None if hand.mask is None else np.where(beyond, np.uint8(0), hand.mask)
    points = np.where(lost[:, None], np.nan, hand.points)
    return LabelledHand(np.where(beyond, grey, hand.image), points, hand.weights, mask)


def _beyond_an_edge(joints: NDArray[np.float64], rng: np.random.Generator) -> Hides:
    """Return what lies beyond a line that cuts off one to five joints, or just the flesh before them."""
    angle = rng.uniform(-np.pi, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    order = np.sort(joints @ along)
    lost = int(rng.integers(1, 6))
    end = rng.uniform(order[-lost - 1], order[-lost])
    return lambda points: points @ along > end


def _under_a_patch(joints: NDArray[np.float64], rng: np.random.Generator) -> Hides:
    """Return what lies under a rectangle around a joint, a fingertip as often as any other."""
    chosen = rng.choice(TIPS) if rng.random() < 0.5 else rng.integers(len(joints))
    unit = float(np.hypot(*(joints[KNUCKLE] - joints[WRIST])))
    half = unit * rng.uniform(0.08, 0.35, size=2)
    centre = joints[chosen] + unit * rng.uniform(-0.06, 0.06, size=2)
    return lambda points: np.all(np.abs(points - centre) < half, axis=-1)


def as_float(image: NDArray[np.uint8]) -> FloatArray:
    """Return 8-bit pixels in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def _weights(hand: LabelledHand) -> FloatArray:
    return np.append(hand.weights, float(hand.mask is not None)).astype(np.float32)


def _maps(hand: LabelledHand, pose: Affine) -> FloatArray:
    points = pose(hand.points)
    cells = (points + 0.5) / FINDER_STRIDE - 0.5
    grid = np.arange(CELLS)
    gauss_x = np.exp(-0.5 * ((grid - cells[:, :1]) / HEATMAP_SIGMA) ** 2)
    gauss_y = np.exp(-0.5 * ((grid - cells[:, 1:]) / HEATMAP_SIGMA) ** 2)
    maps = np.zeros((POINTS + 1, CELLS, CELLS), np.float32)
    maps[:POINTS] = np.nan_to_num(gauss_y[:, :, None] * gauss_x[:, None, :])
    if hand.mask is not None:
        to_cells = Affine(np.array([[1 / FINDER_STRIDE, 0, -0.375], [0, 1 / FINDER_STRIDE, -0.375]]))
        maps[POINTS] = warp(hand.mask.astype(np.float32), pose.then(to_cells), (CELLS, CELLS), "constant")
    return maps


def _shuffled(image: FloatArray, pieces: int, rng: np.random.Generator) -> FloatArray:
    step = FINDER_SIZE // pieces
    tiles = [
        image[r * step : (r + 1) * step, c * step : (c + 1) * step]
        for r in range(pieces)
        for c in range(pieces)
    ]
    order = rng.permutation(len(tiles))
    shuffled = np.zeros_like(image)
    for slot, source in enumerate(order):
        row, column = divmod(slot, pieces)
        shuffled[row * step : (row + 1) * step, column * step : (column + 1) * step] = np.rot90(
            tiles[source], int(rng.integers(4))
        )
    return shuffled


def _shapes(rng: np.random.Generator) -> FloatArray:
    """Draw blobs, bars and texture: what is no radiograph of a hand, from long bones to noise."""
    image = cv2.resize(
        rng.random((int(rng.integers(2, 40)),) * 2).astype(np.float32), (FINDER_SIZE, FINDER_SIZE)
    )
    image = (image * np.float32(rng.uniform(0, 0.6))).astype(np.float32)
    for _ in range(int(rng.integers(1, 9))):
        start, end = rng.integers(0, FINDER_SIZE, 2), rng.integers(0, FINDER_SIZE, 2)
        grey, width = float(rng.uniform(0.2, 1)), int(rng.integers(4, 50))
        if rng.random() < 0.5:
            cv2.line(image, [int(v) for v in start], [int(v) for v in end], grey, width)
        else:
            cv2.ellipse(
                image,
                [int(v) for v in start],
                (width, int(width * rng.uniform(0.5, 3))),
                float(rng.uniform(0, 180)),
                0,
                360,
                grey,
                -1,
            )
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 4))).astype(np.float32)
