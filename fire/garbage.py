"""Pictures of no hand, all drawn: what must be refused, and never be given an age."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Sex
from boneage.data.synthetic import draw_cut_off_hand, draw_foot, draw_two_hands
from seeds import encoded, whole_hands

Levels = NDArray[np.uint8]
SHAPE = (600, 480)


def picture(chance: Random) -> tuple[str, bytes]:
    """Return a kind of garbage and a picture of it, as a PNG file."""
    kind = chance.choice(sorted(KINDS))
    return kind, encoded(".png", KINDS[kind](_chance(chance)))


def _chance(chance: Random) -> np.random.Generator:
    return np.random.default_rng(chance.randrange(1 << 32))


def _as_levels(values: NDArray[np.float64]) -> Levels:
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator) -> Levels:
    """White noise."""
    return rng.integers(0, 256, SHAPE, dtype=np.uint8)


def texture(rng: np.random.Generator) -> Levels:
    """Noise whose spectrum falls as that of natural pictures does: clouds, skin, bark."""
    rows, columns = np.meshgrid(*(np.fft.fftfreq(side) for side in SHAPE), indexing="ij")
    power = np.maximum(np.hypot(rows, columns), 1 / max(SHAPE)) ** -rng.uniform(0.8, 2.0)
    return _as_levels(np.fft.ifft2(np.fft.fft2(rng.normal(size=SHAPE)) * power).real)


def stripes(rng: np.random.Generator) -> Levels:
    """Waves in two directions, as of a cloth or a grid."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    waves = [
        np.sin((x * np.cos(turn) + y * np.sin(turn)) / rng.uniform(3, 60)) for turn in rng.uniform(0, 3.2, 2)
    ]
    return _as_levels(waves[0] + waves[1] * rng.uniform(0, 1))


def shapes(rng: np.random.Generator) -> Levels:
    """Bright discs, boxes and bars on dark ground: implants, phantoms, tools."""
    found = np.full(SHAPE, 10, np.uint8)
    for _ in range(int(rng.integers(3, 20))):
        a, b = (tuple(int(v) for v in rng.integers(0, 480, 2)) for _ in range(2))
        level = int(rng.integers(60, 255))
        match int(rng.integers(3)):
            case 0:
                cv2.circle(found, a, int(rng.integers(5, 120)), level, -1)
            case 1:
                cv2.rectangle(found, a, b, level, -1)
            case _:
                cv2.line(found, a, b, level, int(rng.integers(3, 40)))
    return np.asarray(cv2.GaussianBlur(found, (0, 0), 2), dtype=np.uint8)


def long_bone(rng: np.random.Generator) -> Levels:
    """A limb with one or two long bones: a forearm, a thigh, a shin."""
    found = np.zeros(SHAPE, np.float64)
    count, middle = int(rng.integers(1, 3)), SHAPE[1] // 2
    cv2.line(
        found, (middle, 0), (middle + int(rng.integers(-80, 80)), SHAPE[0]), 0.4, int(rng.integers(130, 260))
    )
    for at in range(count):
        x = middle + (at * 2 - count + 1) * int(rng.integers(30, 50))
        cv2.line(
            found, (x, 30), (x + int(rng.integers(-30, 30)), SHAPE[0] - 60), 0.8, int(rng.integers(25, 50))
        )
        cv2.circle(found, (x, 40), int(rng.integers(25, 45)), 0.85, -1)
    return _as_levels(cv2.GaussianBlur(found, (0, 0), 4) + rng.normal(0, 0.01, SHAPE))


def chest(rng: np.random.Generator) -> Levels:
    """A chest: a bright spine and ribs around two dark lungs."""
    found = np.full(SHAPE, 0.5)
    for x in (150, 330):
        cv2.ellipse(
            found, (x, 300), (int(rng.integers(70, 100)), int(rng.integers(180, 240))), 0, 0, 360, 0.15, -1
        )
    cv2.line(found, (240, 0), (240, SHAPE[0]), 0.9, int(rng.integers(30, 60)))
    for at in range(80, 540, int(rng.integers(38, 56))):
        for side in (-1, 1):
            cv2.ellipse(found, (240, at), (200, 60), 0, 90 - side * 90, 90 + side * 60, 0.6, 9)
    return _as_levels(cv2.GaussianBlur(found, (0, 0), 3) + rng.normal(0, 0.01, SHAPE))


def page(rng: np.random.Generator) -> Levels:
    """A page of text, bright on dark."""
    found = np.zeros(SHAPE, np.uint8)
    for y in range(30, SHAPE[0], int(rng.integers(22, 40))):
        words = "".join(chr(int(code)) for code in rng.integers(33, 126, 40))
        cv2.putText(found, words, (10, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 230, 1)
    return found


def shuffled(tiles: int) -> Callable[[np.random.Generator], Levels]:
    """A drawn hand cut into `tiles` x `tiles` patches that were shuffled."""

    def draw(rng: np.random.Generator) -> Levels:
        hand = _hand(rng)
        height, width = (side // tiles for side in hand.shape)
        cut = [
            hand[r * height : (r + 1) * height, c * width : (c + 1) * width]
            for r in range(tiles)
            for c in range(tiles)
        ]
        order = rng.permutation(tiles * tiles)
        while np.array_equal(order, np.sort(order)):
            order = rng.permutation(tiles * tiles)
        return np.vstack([np.hstack([cut[at] for at in row]) for row in order.reshape(tiles, tiles)])

    return draw


def half(rng: np.random.Generator) -> Levels:
    """The lower or upper part of a drawn hand, cut through the palm."""
    hand = _hand(rng)
    at = hand.shape[0] // 2 - int(rng.integers(0, 40))
    return np.ascontiguousarray(hand[:at] if rng.integers(2) else hand[at:])


def _hand(rng: np.random.Generator) -> Levels:
    hands = whole_hands()
    return np.asarray(hands[int(rng.integers(len(hands)))][0], dtype=np.uint8)


def _drawn(pixels: NDArray[np.float32]) -> Levels:
    return np.round(pixels * 255).astype(np.uint8)


def _age(rng: np.random.Generator) -> float:
    return float(rng.uniform(30, 190))


KINDS: Mapping[str, Callable[[np.random.Generator], Levels]] = {
    "chest": chest,
    "cut-off hand": lambda rng: _drawn(draw_cut_off_hand(_age(rng), Sex.MALE, int(rng.integers(99))).pixels),
    "foot": lambda rng: _drawn(draw_foot(_age(rng), Sex.FEMALE, int(rng.integers(99))).pixels),
    "half a hand": half,
    "long bone": long_bone,
    "noise": noise,
    "page": page,
    "shapes": shapes,
    "shuffled hand, 2 x 2": shuffled(2),
    "shuffled hand, 4 x 4": shuffled(4),
    "stripes": stripes,
    "texture": texture,
    "two hands": lambda rng: _drawn(draw_two_hands(_age(rng), Sex.MALE, int(rng.integers(99))).pixels),
}
"""Name -> what draws one."""
