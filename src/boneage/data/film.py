"""The film of a drawing: how an anatomy is posed on it, what the rays meet, and how it is exposed."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Affine, FloatArray, Side
from boneage.data.phantom import Anatomy
from boneage.data.skeleton import Outline

LABEL = "DRAWN"
_SUBPIXEL_BITS = 4
_BORDER = 0.045  # width of the collimator border, as a share of the shorter side


@dataclass(frozen=True, slots=True)
class View:
    """How a drawing is posed and exposed.

    Args:
        shape: (height, width) in pixels.
        rotation_degrees: turn of the hand, clockwise.
        side: which hand; palm down, so a left hand's thumb is on the right.
        exposure: 1 is a good film, below 0.3 a dark one.
        forearm: how much forearm is shown below the wrist, in wrist-to-knuckle lengths.
        collimator: whether bright borders frame the film.
        marker: whether a letter L or R is on the film ('DRAWN' always is).
        noise: standard deviation of the noise, in [0, 1].
        cut_off: share of the hand's length that lies beyond the film's edge, fingers first.
    """

    shape: tuple[int, int] = (800, 600)
    rotation_degrees: float = 0.0
    side: Side = Side.LEFT
    exposure: float = 1.0
    forearm: float = 0.55
    collimator: bool = True
    marker: bool = True
    noise: float = 0.008
    cut_off: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """What the rays met so far: (H, W) float32 attenuation by bone and by flesh, and the flesh's mask."""

    bone: FloatArray
    flesh: FloatArray
    mask: NDArray[np.uint8]
    edge: int
    rng: np.random.Generator = field(repr=False)

    @classmethod
    def blank(cls, view: View, rng: np.random.Generator) -> Film:
        """Return a film that no ray has met anything on."""
        height, width = view.shape
        edge = round(_BORDER * min(view.shape)) if view.collimator else 0
        empty = np.zeros((height, width), np.float32)
        return cls(empty, empty.copy(), np.zeros((height, width), np.uint8), edge, rng)

    def seen(self) -> NDArray[np.bool_]:
        """Return the flesh that no border covers, (H, W)."""
        height, width = self.mask.shape
        seen = np.zeros((height, width), np.bool_)
        inside = np.s_[self.edge : height - self.edge, self.edge : width - self.edge]
        seen[inside] = self.mask[inside] > 0
        return seen


def pose(places: NDArray[np.float64], view: View, edge: int, zoom: float) -> Affine:
    """Return the map upright frame -> pixels that fits the hand, its forearm leaving over the film's edge."""
    turn = np.radians(view.rotation_degrees)
    mirror = np.array([1.0 if view.side is Side.LEFT else -1.0, 1.0])
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * mirror
    arm = np.array([(-0.25, view.forearm), (0.25, view.forearm)])
    margin = 0.14
    spread = np.concatenate([places @ linear.T, arm @ linear.T])
    low, high = spread.min(axis=0) - margin, spread.max(axis=0) + margin
    field_px = np.array([view.shape[1], view.shape[0]]) - 2.0 * edge
    scale = zoom * float((field_px / (high - low)).min())
    slack = field_px - scale * (high - low)
    towards_arm = linear @ np.array([0.0, 1.0])
    lean = 0.5 + 0.5 * np.clip(1.6 * towards_arm, -1.0, 1.0)
    beyond = margin * np.clip(1.6 * towards_arm, -1.0, 1.0)
    shift = edge + lean * slack + scale * (beyond - low)
    if view.cut_off > 0.0:
        shift = shift - towards_arm * _way_out(places, scale * linear, shift, view)
    return Affine(np.column_stack([scale * linear, shift]))


def _way_out(
    places: NDArray[np.float64], linear: NDArray[np.float64], shift: NDArray[np.float64], view: View
) -> float:
    """Return how many pixels the hand must go towards its fingers until its share is off the film."""
    tip = places[np.argmin(places[:, 1])]
    ahead = -linear[:, 1] / np.linalg.norm(linear[:, 1])
    limit = np.where(ahead > 0, (view.shape[1], view.shape[0]), (0.0, 0.0))
    room = (limit - (linear @ tip + shift)) / np.where(np.abs(ahead) < 1e-6, np.inf, ahead)
    reachable = room[np.abs(ahead) > 1e-6]
    return float(reachable.min() + view.cut_off * np.linalg.norm(linear @ tip))


def _blur(image: FloatArray, sigma_px: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.float32)


def _fixed(points: Outline) -> NDArray[np.int32]:
    return np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def paint(film: Film, anatomy: Anatomy, to_film: Affine) -> None:
    """Add one anatomy to the film: its flesh, then each ossified piece."""
    scale = float(np.sqrt(abs(np.linalg.det(to_film.matrix[:, :2]))))
    mask = np.zeros_like(film.mask)
    for polygon in anatomy.flesh:
        cv2.fillPoly(mask, [_fixed(to_film(polygon))], 255, cv2.LINE_8, _SUBPIXEL_BITS)
    for centre, radius in zip(_fixed(to_film(anatomy.discs[:, :2])), anatomy.discs[:, 2], strict=True):
        size = round(radius * scale * (1 << _SUBPIXEL_BITS))
        cv2.circle(mask, (int(centre[0]), int(centre[1])), size, 255, -1, cv2.LINE_8, _SUBPIXEL_BITS)
    flesh = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.022 * scale) > 127, np.bool_)
    film.mask[flesh] = 255
    film.flesh[:] += _thickness(flesh, scale)
    for bone in anatomy.bones:
        _stamp(film.bone, to_film(bone.outline), bone.density, bone.cortex * scale, scale)


def _thickness(flesh: NDArray[np.bool_], scale: float) -> FloatArray:
    """Return how much flesh the rays cross, (H, W): thin at the skin, thickest in the palm."""
    depth = cv2.distanceTransform(flesh.astype(np.uint8), cv2.DIST_L2, 3) / np.float32(scale)
    near = 1.0 - np.minimum(depth / 0.075, 1.0)
    deep = 1.0 - np.minimum(depth / 0.34, 1.0)
    thickness = 0.75 * np.sqrt(1.0 - near * near) + 0.6 * np.sqrt(1.0 - deep * deep)
    return _blur(thickness.astype(np.float32), 0.005 * scale)


def _stamp(bone: FloatArray, outline_px: Outline, density: float, cortex_px: float, scale: float) -> None:
    """Add one ossified piece: a dense rim over a spongy body, where it lies on the film."""
    height, width = bone.shape
    low = np.maximum(np.floor(outline_px.min(axis=0)) - 3, 0).astype(int)
    high = np.minimum(np.ceil(outline_px.max(axis=0)) + 4, (width, height)).astype(int)
    if (high <= low).any():
        return
    cover = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(cover, [_fixed(outline_px - low)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    depth = cv2.distanceTransform((cover > 127).astype(np.uint8), cv2.DIST_L2, 3)
    body = 1.0 - np.exp(-depth / (0.03 * scale))
    rim = np.exp(-depth / max(cortex_px, 0.6))
    bone[low[1] : high[1], low[0] : high[0]] += density * (cover / np.float32(255)) * (0.5 * body + 0.8 * rim)


def expose(film: Film, view: View, side: Side | None) -> FloatArray:
    """Turn what the rays met into a film: scatter, sponge, noise, border and marker; (H, W) in [0, 1]."""
    rng = film.rng
    blurred = _blur(film.bone, 0.7)
    sponge = _blur(rng.standard_normal(view.shape, dtype=np.float32), 1.3)
    attenuation = 0.18 * film.flesh + 0.46 * blurred * (1.0 + 0.22 * sponge)
    # The beam is a little stronger on one side of the film (heel effect).
    heel = np.linspace(0.06, 0.04, view.shape[0], dtype=np.float32)[:, None]
    image = heel + (1.0 - heel) * (1.0 - np.exp(-view.exposure * attenuation))
    image += view.noise * rng.standard_normal(view.shape, dtype=np.float32)
    if film.edge:
        image = _collimate(image, film.edge)
    _mark(image, film, view, side)
    return np.asarray(np.clip(image, 0.0, 1.0), np.float32)


def _collimate(image: FloatArray, edge: int) -> FloatArray:
    """Return the film with bright, softly cut borders."""
    open_field = np.zeros_like(image)
    open_field[edge:-edge, edge:-edge] = 1.0
    open_field = _blur(open_field, 1.0 + edge / 12.0)
    return np.asarray(image * open_field + 0.42 * (1.0 - open_field), np.float32)


def _mark(image: FloatArray, film: Film, view: View, side: Side | None) -> None:
    """Burn in 'DRAWN', and the side's letter above it, in the upper corner that shows least flesh."""
    width = image.shape[1]
    size = min(view.shape) / 700.0
    weight = max(1, round(2.5 * size))
    (wide, high), _ = cv2.getTextSize(LABEL, cv2.FONT_HERSHEY_SIMPLEX, size, weight)
    inset = film.edge + round(14 * size)
    rows = slice(inset, inset + 4 * high)
    spans = (slice(inset, inset + wide), slice(width - inset - wide, width - inset))
    span = min(spans, key=lambda columns: int(film.mask[rows, columns].sum()))
    ink = np.zeros(image.shape, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    if view.marker and side is not None:
        letter = "L" if side is Side.LEFT else "R"
        corner = (span.start, inset + 2 * high)
        cv2.putText(ink, letter, corner, font, 1.9 * size, 255, 2 * weight, cv2.LINE_AA)
    cv2.putText(ink, LABEL, (span.start, inset + 4 * high), font, size, 240, weight, cv2.LINE_AA)
    np.maximum(image, ink * np.float32(0.95 / 255), out=image)
