"""Pictures made from a real radiograph of one hand: some are no complete hand any more, some still are.

An alteration takes a radiograph's pixels (H, W) and the hand found in it, and returns the new pixels, or
None where this radiograph does not lend itself to it (no forearm to show, say). Cuts are straight, along
the rows and columns of the image: they are what a wrong placing or cropping of a film does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import FINGERS, NAMES
from boneage.core.types import FloatArray, Hand
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.geometry import flip, pad, resize, rotate

SMALLEST = 96
"""Shortest side of a case, in pixels: below it an image is refused for its size alone."""


@dataclass(frozen=True, eq=False)
class Source:
    """One real hand: its pixels, the hand found in it, another one, and its own chance."""

    pixels: FloatArray
    hand: Hand
    other: FloatArray
    rng: np.random.Generator

    def at(self, name: str) -> NDArray[np.float64]:
        """Return a key point, in pixels."""
        return np.array(self.hand.keypoints_px[name])

    @property
    def unit(self) -> float:
        """Return the length from wrist to knuckle, in pixels."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.hand.to_upright.matrix[:, :2]))))

    def place(self, x: float, y: float) -> NDArray[np.float64]:
        """Return a point of the upright frame, in pixels."""
        return self.hand.to_upright.inverse()(np.array([x, y]))


Alteration = Callable[[Source], FloatArray | None]


def cut(pixels: FloatArray, at: NDArray[np.float64], away: NDArray[np.float64]) -> FloatArray | None:
    """Return what is left when all beyond `at`, in the image direction nearest to `away`, is cut off."""
    axis = int(abs(away[1]) > abs(away[0]))
    edge = round(float(at[axis]))
    keep = slice(0, max(edge, 0)) if away[axis] > 0 else slice(max(edge, 0), None)
    left = pixels[keep] if axis else pixels[:, keep]
    return np.ascontiguousarray(left) if min(left.shape) >= SMALLEST else None


def _through(source: Source, inner: str, outer: str, share: float) -> NDArray[np.float64]:
    return source.at(inner) + share * (source.at(outer) - source.at(inner))


def _axis(away: NDArray[np.float64]) -> tuple[int, float]:
    axis = int(abs(away[1]) > abs(away[0]))
    return axis, float(np.sign(away[axis]))


def cut_finger(finger: str, share: float) -> Alteration:
    """Cut the film across a finger's end: `share` of the way from its last joint to its tip is left."""

    def alter(source: Source) -> FloatArray | None:
        away = source.at(f"{finger}4") - source.at(f"{finger}2")
        return cut(source.pixels, _through(source, f"{finger}3", f"{finger}4", share), away)

    return alter


def cut_outermost(source: Source) -> FloatArray | None:
    """Cut the one fingertip that reaches farthest, halfway through its last phalanx."""
    axis, sign = _axis(source.at("middle_finger1") - source.at("wrist"))
    finger = max(FINGERS, key=lambda name: sign * source.at(f"{name}4")[axis])
    return cut_finger(finger, 0.5)(source)


def cut_three(source: Source) -> FloatArray | None:
    """Cut three fingertips: all that reach beyond the middle of the third-longest finger's end."""
    away = source.at("middle_finger1") - source.at("wrist")
    axis, sign = _axis(away)
    third = sorted(FINGERS, key=lambda name: -sign * source.at(f"{name}4")[axis])[2]
    return cut(source.pixels, _through(source, f"{third}3", f"{third}4", 0.5), away)


def cut_middle_phalanges(source: Source) -> FloatArray | None:
    """Cut through the middle finger's middle phalanx."""
    away = source.at("middle_finger1") - source.at("wrist")
    return cut(source.pixels, _through(source, "middle_finger2", "middle_finger3", 0.5), away)


def cover_tips(source: Source) -> FloatArray | None:
    """Lay the collimator's shutter over the longest finger's end; the film goes on behind it."""
    away = source.at("middle_finger1") - source.at("wrist")
    axis, sign = _axis(away)
    at = round(float(_through(source, "middle_finger3", "middle_finger4", 0.4)[axis]))
    covered = source.pixels.copy()
    beyond = slice(max(at, 0), None) if sign > 0 else slice(0, max(at, 0))
    covered[(beyond, slice(None)) if axis else (slice(None), beyond)] = source.rng.choice([0.0, 0.35])
    return covered


def cut_wrist(below: float) -> Alteration:
    """Cut the film `below` the wrist point (above it where negative), in wrist-to-knuckle lengths."""

    def alter(source: Source) -> FloatArray | None:
        return cut(source.pixels, source.place(0.0, below), source.at("wrist") - source.at("middle_finger1"))

    return alter


def half_hand(sign: float) -> Alteration:
    """Cut the hand in two along the middle finger and keep one half."""

    def alter(source: Source) -> FloatArray | None:
        across = source.place(sign, 0.0) - source.place(0.0, 0.0)
        return cut(source.pixels, source.at("middle_finger1"), across)

    return alter


def erase_finger(source: Source) -> FloatArray | None:
    """Paint one finger's outer two phalanges over with what surrounds them."""
    finger = str(source.rng.choice(FINGERS))
    start, end = source.at(f"{finger}2" if finger != "thumb" else "thumb3"), source.at(f"{finger}4")
    end = end + 0.25 * source.unit * (end - start) / np.linalg.norm(end - start)
    stamp = np.zeros(source.pixels.shape, np.uint8)
    width = max(3, round(0.24 * source.unit))
    cv2.line(stamp, [round(v) for v in start], [round(v) for v in end], 1, width)
    ring = cv2.dilate(stamp, np.ones((7, 7), np.uint8)) - stamp
    level = float(np.percentile(source.pixels[ring > 0], 15))
    painted = np.where(stamp > 0, np.float32(level), source.pixels)
    soft = cv2.GaussianBlur(stamp.astype(np.float32), (0, 0), 2.0)
    return (source.pixels * (1 - soft) + painted * soft).astype(np.float32)


def occlude(source: Source) -> FloatArray | None:
    """Lay a plate over about a third of the hand."""
    covered = source.pixels.copy()
    x, y = source.place(float(source.rng.uniform(-0.3, 0.3)), float(source.rng.uniform(-1.3, -0.6)))
    half = 0.45 * source.unit
    top, left = max(0, round(y - half)), max(0, round(x - half))
    covered[top : round(y + half), left : round(x + half)] = source.rng.choice([0.02, 0.9])
    return covered


def _matched(pixels: FloatArray, to: FloatArray) -> FloatArray:
    """Return pixels with the contrast of another film: both hands are exposed at once."""
    low, high = np.percentile(to, [1, 99.5])
    return np.asarray(low + stretch_contrast(pixels) * (high - low), np.float32)


def _background(pixels: FloatArray) -> float:
    """Return the level of the film's rim."""
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return float(np.percentile(rim, 25))


def beside(overlap: float) -> Alteration:
    """Put another hand, mirrored, beside this one; `overlap` of its width lies over it."""

    def alter(source: Source) -> FloatArray | None:
        height, width = source.pixels.shape
        other, _ = resize(
            source.other, (height, max(1, round(source.other.shape[1] * height / source.other.shape[0])))
        )
        other = _matched(flip(other)[0], source.pixels)
        start = round(width - overlap * min(width, other.shape[1]))
        both = np.full((height, max(width, start + other.shape[1])), _background(source.pixels), np.float32)
        both[:, :width] = source.pixels
        part = both[:, start : start + other.shape[1]]
        np.maximum(part, other, out=part)
        return both

    return alter


def forearm(source: Source) -> FloatArray | None:
    """Show only what lies below the growth plates of the forearm."""
    return cut(source.pixels, source.place(0.0, 0.4), source.at("middle_finger1") - source.at("wrist"))


def close_up(names: tuple[str, ...], margin: float) -> Alteration:
    """Show only the surroundings of some key points."""

    def alter(source: Source) -> FloatArray | None:
        points = np.array([source.at(name) for name in names])
        low, high = points.min(axis=0) - margin * source.unit, points.max(axis=0) + margin * source.unit
        height, width = source.pixels.shape
        x0, y0 = (int(v) for v in np.clip(low, 0, [width - 1, height - 1]))
        x1, y1 = (int(v) for v in np.clip(high, 1, [width, height]))
        part = source.pixels[y0:y1, x0:x1]
        return resize(part, (y1 - y0, x1 - x0))[0] if min(part.shape) >= SMALLEST else None

    return alter


def blur(source: Source) -> FloatArray | None:
    """Blur until no joint can be told: half a carpal bone's width."""
    return np.asarray(cv2.GaussianBlur(source.pixels, (0, 0), 0.09 * source.unit), np.float32)


def shuffle(source: Source) -> FloatArray | None:
    """Cut the film into 4 x 4 tiles and shuffle them."""
    height, width = (side // 4 for side in source.pixels.shape)
    tiles = [
        source.pixels[r * height : (r + 1) * height, c * width : (c + 1) * width]
        for r in range(4)
        for c in range(4)
    ]
    order = source.rng.permutation(16)
    return np.vstack([np.hstack([tiles[i] for i in order[r * 4 : r * 4 + 4]]) for r in range(4)])


def turned(degrees: float) -> Alteration:
    """Turn the film."""
    return lambda source: rotate(source.pixels, degrees)[0]


def far_away(source: Source) -> FloatArray | None:
    """Put the film in a corner of one two and a half times its size."""
    height, width = source.pixels.shape
    left, top = int(source.rng.integers(0, int(1.5 * width))), int(source.rng.integers(0, int(1.5 * height)))
    return pad(
        source.pixels, left, top, int(1.5 * width) - left, int(1.5 * height) - top, _background(source.pixels)
    )[0]


def tight(source: Source) -> FloatArray | None:
    """Crop as tightly as the hand's own box allows: no finger is cut, and the growth plates stay."""
    x0, y0, x1, y1 = (round(v) for v in source.hand.box_px)
    return source.pixels[y0:y1, x0:x1].copy() if min(y1 - y0, x1 - x0) >= SMALLEST else None


def framed(source: Source) -> FloatArray | None:
    """Lay bright collimator borders around the film."""
    border = max(4, round(0.04 * min(source.pixels.shape)))
    return pad(source.pixels, border, border, border, border, 0.7)[0]


def grainy(source: Source) -> FloatArray | None:
    """Add the noise of a low dose: a thirtieth of the film's contrast."""
    low, high = np.percentile(source.pixels, [1, 99])
    noise = source.rng.normal(0, (high - low) / 30, source.pixels.shape)
    return np.clip(source.pixels + noise, 0, 1).astype(np.float32)


INCOMPLETE: Mapping[str, Alteration] = {
    "longest fingertip cut": cut_outermost,
    "thumb tip cut": cut_finger("thumb", 0.5),
    "little fingertip cut": cut_finger("pinky_finger", 0.5),
    "three fingertips cut": cut_three,
    "cut through middle phalanges": cut_middle_phalanges,
    "fingertip under the shutter": cover_tips,
    "wrist cut at the carpals": cut_wrist(-0.25),
    "wrist cut above the carpals": cut_wrist(-0.5),
    "half a hand, thumb's": half_hand(-1.0),
    "half a hand, little finger's": half_hand(1.0),
    "finger painted over": erase_finger,
    "third of the hand covered": occlude,
    "two hands": beside(0.0),
    "two hands, overlapping": beside(0.3),
    "forearm alone": forearm,
    "one finger alone": close_up(tuple(n for n in NAMES if n.startswith("middle_finger")), 0.12),
    "carpals alone": close_up(("wrist", "thumb1"), 0.25),
    "knuckles alone": close_up(("forefinger1", "pinky_finger1", "middle_finger2"), 0.1),
    "blurred beyond recognition": blur,
    "shuffled tiles": shuffle,
}
"""Kinds that must be refused."""

COMPLETE: Mapping[str, Alteration] = {
    "unchanged": lambda source: source.pixels,
    "turned by 90 degrees": turned(90),
    "upside down": turned(180),
    "turned by 270 degrees": turned(270),
    "turned by 37 degrees": turned(37),
    "mirrored": lambda source: flip(source.pixels)[0],
    "dim, a quarter of the grey scale": lambda source: source.pixels * np.float32(0.25),
    "inverted": lambda source: np.float32(1) - source.pixels,
    "small on a big film": far_away,
    "cropped to the hand's box": tight,
    "framed by bright borders": framed,
    "half the resolution": lambda source: resize(
        source.pixels, (source.pixels.shape[0] // 2, source.pixels.shape[1] // 2)
    )[0],
    "grainy": grainy,
}
"""Kinds that must be accepted: one complete hand."""

NO_RADIUS: Mapping[str, Alteration] = {"forearm cut above the radius": cut_wrist(0.08)}
"""Accepted with a warning that names the bones that cannot be graded."""
