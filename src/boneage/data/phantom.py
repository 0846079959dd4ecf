"""The anatomy of a drawn hand: where its joints lie, and which bones are ossified at an age.

Everything is in the upright frame of `boneage.core.types.Hand`: x grows towards the thumb, y
downwards, the wrist is (0, 0) and the middle finger's knuckle (0, -1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Sex
from boneage.data.skeleton import (
    Bone,
    Outline,
    growing_bone,
    growth_at,
    long_bone,
    moved,
    round_bone,
    rounded,
)

JOINTS: Mapping[str, tuple[float, float]] = {
    "wrist": (0.0, 0.0),
    "thumb1": (0.34, -0.31),
    "thumb2": (0.57, -0.67),
    "thumb3": (0.70, -0.94),
    "thumb4": (0.79, -1.12),
    "forefinger1": (0.25, -1.02),
    "forefinger2": (0.31, -1.40),
    "forefinger3": (0.34, -1.62),
    "forefinger4": (0.36, -1.79),
    "middle_finger1": (0.00, -1.00),
    "middle_finger2": (-0.01, -1.43),
    "middle_finger3": (-0.02, -1.70),
    "middle_finger4": (-0.02, -1.88),
    "ring_finger1": (-0.21, -0.90),
    "ring_finger2": (-0.28, -1.30),
    "ring_finger3": (-0.32, -1.55),
    "ring_finger4": (-0.34, -1.73),
    "pinky_finger1": (-0.39, -0.78),
    "pinky_finger2": (-0.51, -1.05),
    "pinky_finger3": (-0.58, -1.22),
    "pinky_finger4": (-0.63, -1.38),
}
"""Key point -> place in a typical left hand (medians over real radiographs, fingers a little apart)."""

FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
PHALANGES = {1: "pp", 2: "mp", 3: "dp"}

# Carpal -> centre, half width, half height, tilt in degrees, boy's years at which it appears.
_CARPALS = {
    "capitate": ((0.030, -0.250), 0.068, 0.112, 4.0, 0.2),
    "hamate": ((-0.085, -0.245), 0.074, 0.080, -24.0, 0.3),
    "triquetrum": ((-0.112, -0.140), 0.060, 0.058, 20.0, 2.6),
    "lunate": ((0.005, -0.100), 0.066, 0.052, -8.0, 4.0),
    "scaphoid": ((0.145, -0.165), 0.080, 0.052, -38.0, 5.8),
    "trapezium": ((0.237, -0.262), 0.062, 0.056, 35.0, 5.9),
    "trapezoid": ((0.135, -0.302), 0.045, 0.048, 10.0, 6.2),
    "pisiform": ((-0.100, -0.190), 0.038, 0.040, 0.0, 10.2),
}
_MC_BASES = {2: (0.155, -0.355), 3: (0.020, -0.365), 4: (-0.088, -0.345), 5: (-0.158, -0.285)}
_PALM = (
    (-0.50, -0.80), (-0.455, -0.56), (-0.38, -0.36), (-0.275, -0.12), (-0.262, 0.02), (-0.25, 0.19),
    (-0.24, 3.2), (0.22, 3.2), (0.225, 0.16), (0.245, -0.02), (0.325, -0.15), (0.49, -0.35),
    (0.64, -0.61), (0.585, -0.70), (0.44, -0.73), (0.37, -0.90), (0.355, -1.03), (0.13, -1.09),
    (-0.10, -1.04), (-0.30, -0.92),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """What a drawing shows: joints, bones, and soft tissue as polygons and discs (x, y, radius)."""

    joints: Mapping[str, NDArray[np.float64]]
    bones: tuple[Bone, ...]
    flesh: tuple[Outline, ...]
    discs: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _ArmBone:
    """Radius or ulna about its growth plate: metaphysis rim, epiphysis, half width and drift of the shaft."""

    place: tuple[float, float]
    rim: tuple[tuple[float, float], ...]
    cap: tuple[tuple[float, float], ...]
    shaft: float
    drift: float


_ARM_BONES = {
    "radius": _ArmBone(
        place=(0.075, 0.029),
        rim=((-0.115, 0.036), (-0.075, 0.029), (0.0, 0.031), (0.075, 0.023), (0.112, 0.019)),
        cap=((-0.108, 0.018), (-0.112, -0.012), (-0.05, -0.026), (0.02, -0.036), (0.085, -0.078),
             (0.115, -0.07), (0.118, -0.005), (0.06, 0.008), (0.0, 0.014), (-0.06, 0.014)),
        shaft=0.054,
        drift=0.055,
    ),
    "ulna": _ArmBone(
        place=(-0.164, 0.016),
        rim=((-0.062, 0.030), (-0.02, 0.024), (0.02, 0.024), (0.058, 0.028)),
        cap=((-0.06, 0.016), (-0.07, -0.03), (-0.055, -0.085), (-0.035, -0.035), (0.02, -0.03),
             (0.058, -0.018), (0.058, 0.016)),
        shaft=0.040,
        drift=0.12,
    ),
}  # fmt: skip


def boy_years(age_months: float, sex: Sex) -> float:
    """Return the age in years at which a boy's skeleton is as mature as this one."""
    return age_months / 12.0 * (1.17 if sex is Sex.FEMALE else 1.0)


def hand_anatomy(age_months: float, sex: Sex, rng: np.random.Generator) -> Anatomy:
    """Return a left hand of this bone age; `rng` varies the pose of the fingers and the proportions."""
    years = boy_years(age_months, sex)
    joints = _pose_fingers(rng)
    stoutness = float(rng.normal(1.0, 0.04))
    bones = [*_forearm(years), *_carpals(years), *_metacarpals(joints, years, stoutness)]
    for finger in FINGERS:
        bones += _phalanges(joints, finger, years, stoutness)
    if years > 12.5:
        bones.append(round_bone("sesamoid", joints["thumb2"] + np.array([-0.075, -0.01]), 0.022, 0.02, 0.0))
    plumpness = float(np.interp(years, [1.0, 8.0, 17.0], [1.22, 1.08, 1.0])) * float(rng.normal(1.0, 0.03))
    return Anatomy(joints, tuple(bones), (np.array(_PALM),), _finger_flesh(joints, plumpness))


def foot_anatomy(age_months: float, rng: np.random.Generator) -> Anatomy:
    """Return a foot seen from above in the same frame: no spread digits, long metatarsals, tarsals."""
    years = age_months / 12.0
    bones: list[Bone] = []
    discs: list[tuple[float, float, float]] = []
    for toe in range(5):
        x = 0.24 - 0.13 * toe
        base = np.array([0.8 * x, -0.45 + 0.05 * toe])
        knuckle = np.array([x * 1.15 + 0.02, -1.10 + 0.09 * toe + rng.normal(0, 0.01)])
        tip = knuckle + np.array([0.02 * x, -0.42 + 0.03 * toe])
        wide = 0.085 if toe == 0 else 0.05
        bones.append(long_bone("metatarsal", base, knuckle, (wide, wide * 0.6, wide * 0.9), 0.1))
        marks = np.linspace(knuckle, tip, 3 if toe == 0 else 4)
        for start, end in pairwise(marks):
            gap = 0.12 * (end - start)
            bones.append(long_bone("phalanx", start + gap, end, (wide * 0.8, wide * 0.5, wide * 0.6), 0.2))
        discs += [(*point, wide * 1.5) for point in np.linspace(base, tip, 16)]
    size = float(np.interp(years, [0.5, 9.0], [0.55, 1.0]))
    for name, centre, width, height in (
        ("cuneiform", (0.17, -0.35), 0.08, 0.1),
        ("cuneiform", (0.05, -0.37), 0.06, 0.09),
        ("cuboid", (-0.15, -0.25), 0.1, 0.13),
        ("navicular", (0.1, -0.18), 0.14, 0.07),
        ("talus", (0.06, 0.06), 0.15, 0.2),
        ("calcaneus", (-0.04, 0.32), 0.16, 0.36),
    ):
        bones.append(round_bone(name, np.array(centre), width * size, height * size, 0.0))
    sole = np.array([(-0.42, -0.85), (-0.36, -0.2), (-0.27, 0.4), (-0.2, 0.72), (0.0, 0.82), (0.18, 0.72),
                     (0.26, 0.3), (0.33, -0.3), (0.42, -1.15), (0.1, -1.2)])  # fmt: skip
    joints = {"heel": np.array([0.0, 0.8]), "toe": np.array([0.3, -1.55])}
    return Anatomy(joints, tuple(bones), (sole,), np.array(discs))


def _pose_fingers(rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    joints = {name: np.array(place) for name, place in JOINTS.items()}
    for finger in FINGERS:
        turn = np.radians(rng.normal(0.0, 4.0 if finger == "thumb" else 2.0))
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        length = rng.normal(1.0, 0.025)
        for mark in range(2, 5):
            arm = joints[f"{finger}{mark}"] - joints[f"{finger}1"]
            joints[f"{finger}{mark}"] = joints[f"{finger}1"] + length * (rotation @ arm)
    return joints


def _phalanges(
    joints: Mapping[str, NDArray[np.float64]], finger: str, years: float, stoutness: float
) -> list[Bone]:
    digit = FINGERS.index(finger) + 1
    thickness = (1.12, 1.0, 1.04, 0.96, 0.82)[digit - 1] * stoutness
    parts = {2: "pp", 3: "dp"} if digit == 1 else PHALANGES
    bones = []
    for mark, part in parts.items():
        widths = {"pp": (0.073, 0.043, 0.05), "mp": (0.06, 0.037, 0.046), "dp": (0.05, 0.022, 0.03)}[part]
        depth = {"pp": 0.042, "mp": 0.036, "dp": 0.03}[part] * thickness
        start, end = joints[f"{finger}{mark}"], joints[f"{finger}{mark + 1}"]
        scaled = tuple(width * thickness for width in widths)
        bones += growing_bone(f"{part}{digit}", part, start, end, scaled, depth, years)
    return bones


def _metacarpals(joints: Mapping[str, NDArray[np.float64]], years: float, stoutness: float) -> list[Bone]:
    bones = []
    for digit, base in _MC_BASES.items():
        head = joints[f"{FINGERS[digit - 1]}1"]
        wide = (0.074, 0.072, 0.064, 0.062)[digit - 2] * stoutness
        # The growth plate of these four is at the knuckle, so the bone is drawn from there.
        bones += growing_bone(
            f"mc{digit}", "mc", head, np.array(base), (wide, 0.035, wide * 0.92), 0.085, years
        )
    widths = (0.072 * stoutness, 0.048, 0.066 * stoutness)
    return bones + growing_bone("mc1", "mc1", joints["thumb1"], joints["thumb2"], widths, 0.044, years)


def _forearm(years: float) -> list[Bone]:
    bones = []
    for part, arm in _ARM_BONES.items():
        growth = growth_at(part, years)
        narrow = np.array([0.62 + 0.38 * growth.size, 1.0])
        bones.append(_arm_bone(part, arm, np.array(arm.rim) * narrow))
        if growth.size > 0.0:
            size = 0.38 + 0.62 * growth.size
            cap = rounded(np.array(arm.cap) * (size, 0.3 + 0.7 * size))
            bones.append(Bone(f"{part}_epiphysis", moved(cap, arm.place), 1.0, 0.01))
        if growth.fusion > 0.0:
            left, right = arm.rim[0][0], arm.rim[-1][0]
            bridge = np.array([(left, -0.012), (right, -0.012), (right, 0.045), (left, 0.045)]) * (0.94, 1.0)
            bones.append(Bone(part, moved(bridge, arm.place), 0.4 * growth.fusion, 0.002))
    return bones


def _arm_bone(name: str, arm: _ArmBone, rim: Outline) -> Bone:
    """Return a forearm bone that starts with `rim` at the growth plate and narrows to its shaft."""
    down = np.linspace(0.0, 1.0, 14)[1:] ** 2 * 3.2 + 0.03
    flare = np.exp(-((down / 0.2) ** 1.3))
    centre = np.column_stack([arm.drift * np.tanh(down / 1.6), down])
    right = centre + np.column_stack([arm.shaft + (rim[-1, 0] - arm.shaft) * flare, np.zeros_like(down)])
    left = centre - np.column_stack([arm.shaft + (-rim[0, 0] - arm.shaft) * flare, np.zeros_like(down)])
    return Bone(name, moved(np.concatenate([rim, right, left[::-1]]), arm.place), 1.0, 0.02)


def _carpals(years: float) -> list[Bone]:
    bones = []
    for name, (centre, width, height, tilt, appears) in _CARPALS.items():
        grown = float(np.clip((years - appears) / (13.5 - appears), 0.0, 1.0))
        if years > appears:
            size = 0.34 + 0.66 * grown**0.65
            bones.append(round_bone(name, np.array(centre), width * size, height * size, tilt))
    return bones


def _finger_flesh(joints: Mapping[str, NDArray[np.float64]], plumpness: float) -> NDArray[np.float64]:
    radii = {
        "thumb": (0.15, 0.125, 0.112, 0.075),
        "forefinger": (0.125, 0.104, 0.09, 0.066),
        "middle_finger": (0.125, 0.106, 0.092, 0.068),
        "ring_finger": (0.12, 0.102, 0.088, 0.064),
        "pinky_finger": (0.115, 0.088, 0.076, 0.056),
    }
    discs = []
    for finger, radius in radii.items():
        marks = np.array([joints[f"{finger}{mark}"] for mark in range(1, 5)])
        at = np.linspace(0.0, 3.0, 40)
        x, y = (np.interp(at, range(4), marks[:, axis]) for axis in (0, 1))
        discs.append(np.column_stack([x, y, np.interp(at, range(4), radius) * plumpness]))
    return np.concatenate(discs)
