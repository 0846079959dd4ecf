"""The shapes that bones are drawn from, and how far the growth of each part is at an age."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]

# Boy's years at which an epiphysis starts to ossify, and at which it starts and ends to fuse.
_CALENDAR = {
    "dp": (2.0, 15.4, 16.6),
    "mp": (2.0, 15.9, 17.0),
    "pp": (1.4, 15.9, 17.0),
    "mc": (1.9, 16.0, 17.2),
    "mc1": (2.6, 15.7, 16.8),
    "radius": (1.1, 17.2, 18.8),
    "ulna": (6.8, 16.8, 18.2),
}
_FULL_WIDTH_YEARS = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Bone:
    """One ossified piece: a closed outline (N, 2), how dense it is and how thick its cortex."""

    name: str
    outline: Outline
    density: float
    cortex: float


@dataclass(frozen=True, slots=True)
class Growth:
    """How far one epiphysis is: 0 to 1 of its size, and 0 to 1 of its fusion."""

    size: float
    fusion: float


def growth_at(part: str, years: float) -> Growth:
    """Return how far a part's epiphysis is at a boy's age in years."""
    appears, fuses, fused = _CALENDAR[part]
    size = float(np.clip((years - appears) / (_FULL_WIDTH_YEARS - appears), 0.0, 1.0)) ** 0.7
    return Growth(size, float(np.clip((years - fuses) / (fused - fuses), 0.0, 1.0)))


def growing_bone(
    name: str,
    part: str,
    plate_end: NDArray[np.float64],
    other_end: NDArray[np.float64],
    widths: tuple[float, ...],
    depth: float,
    years: float,
) -> list[Bone]:
    """Return shaft and epiphysis of a bone that grows at `plate_end`; fused ones fade into a whole bone."""
    growth = growth_at(part, years)
    length = float(np.linalg.norm(other_end - plate_end))
    axis = (other_end - plate_end) / length
    cartilage = 0.035 * (1.0 - growth.size)
    space, plate = 0.011, 0.008 + 0.010 * (1.0 - growth.size)
    far = plate_end + axis * (length - space - 0.5 * cartilage)
    shaft_start = plate_end + axis * (space + depth + plate + 0.3 * cartilage)
    whole_start = plate_end + axis * space
    knuckle = part == "mc"
    tuft = 0.35 if part == "dp" else 0.12
    bones = []
    if growth.fusion > 0.0:
        roundness = 0.16 if knuckle else 0.05
        bones.append(long_bone(name, whole_start, far, widths, tuft, roundness, growth.fusion))
    if growth.fusion < 1.0:
        young = widths if not knuckle else (widths[0] * 0.9, widths[1], widths[2])
        bones.append(long_bone(name, shaft_start, far, young, tuft, 0.035, 1.0 - growth.fusion))
        if growth.size > 0.0:
            bones.append(_epiphysis(name, plate_end, axis, widths[0], space, depth, growth, knuckle))
    return bones


def _epiphysis(
    name: str,
    joint: NDArray[np.float64],
    axis: NDArray[np.float64],
    half_width: float,
    space: float,
    depth: float,
    growth: Growth,
    knuckle: bool,
) -> Bone:
    wide = half_width * (0.3 + 0.7 * growth.size)
    thick = 0.5 * depth * (0.45 + 0.55 * growth.size)
    angle = np.linspace(0.0, 2 * np.pi, 40, endpoint=False)
    power = 1.0 if growth.size < 0.5 else 0.7
    along = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power * thick
    across = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (1.0 if knuckle else power) * wide
    centre = joint + axis * (space + depth - thick)
    normal = np.array([-axis[1], axis[0]])
    if knuckle:
        along = np.where(along < 0.0, 1.25 * along, along)
    outline = centre + along[:, None] * axis + across[:, None] * normal
    return Bone(f"{name}_epiphysis", outline, 1.0 - growth.fusion, 0.009)


def moved(outline: Outline, by: tuple[float, float]) -> Outline:
    """Return the outline shifted by (x, y)."""
    return np.add(outline, by)


def round_bone(name: str, centre: NDArray[np.float64], wide: float, high: float, tilt_degrees: float) -> Bone:
    """Return a round bone, a little angular and uneven as carpals are."""
    angle = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    uneven = 1.0 + 0.06 * np.cos(3 * angle + centre[0] * 40.0) + 0.035 * np.cos(5 * angle + centre[1] * 60.0)
    shape = np.column_stack([wide * np.cos(angle) * uneven, high * np.sin(angle) * uneven])
    turn = np.radians(tilt_degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return Bone(name, centre + shape @ rotation.T, 0.9, 0.009)


def long_bone(
    name: str,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    widths: tuple[float, ...],
    far_roundness: float,
    near_roundness: float = 0.035,
    density: float = 1.0,
) -> Bone:
    """Return a waisted bone with half widths at start, waist and end, and rounded ends."""
    at = np.concatenate([np.linspace(0, 0.06, 6), np.linspace(0.08, 0.92, 22), np.linspace(0.94, 1.0, 8)])
    near, waist, far = widths
    half = waist + (near - waist) * np.clip(1 - at / 0.55, 0, 1) ** 2.7
    half = half + (far - waist) * np.clip((at - 0.5) / 0.5, 0, 1) ** 2.7
    half = half * _rounded_end(at, near_roundness) * _rounded_end(1.0 - at, far_roundness)
    axis = end - start
    normal = np.array([-axis[1], axis[0]]) / np.linalg.norm(axis)
    middle = start + at[:, None] * axis
    outline = np.concatenate([middle + half[:, None] * normal, (middle - half[:, None] * normal)[::-1]])
    return Bone(name, outline, density, 0.014)


def _rounded_end(distance: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    inside = np.clip((radius - distance) / radius, 0.0, 1.0)
    return 0.45 + 0.55 * np.sqrt(1.0 - inside**2)


def rounded(polygon: Outline) -> Outline:
    """Return the polygon with its corners cut twice (Chaikin)."""
    for _ in range(2):
        after = np.roll(polygon, -1, axis=0)
        polygon = np.stack([0.75 * polygon + 0.25 * after, 0.25 * polygon + 0.75 * after], 1).reshape(-1, 2)
    return polygon
