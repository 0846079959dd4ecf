"""Refuse what is not one complete hand, and say which part of it is missing.

Every key point of a hand seen upright has a *strangeness*: how far it lies from where the other
points of a hand put it, how weakly the finder sees it, and how near the film's edge it is. The limits
are those that hardly any training hand exceeds; they travel in the bundle with what they rest on.

A hand whose film ends above the growth plates of radius or ulna is not refused: a direct reading, and
the grades of the other bones, do not need them. The bones are named, so that nothing grades them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.closeup import CloseUp, look
from boneage.anatomy.keypoints import FINGERS, KNUCKLE, NAMES, TIPS, WRIST
from boneage.anatomy.localise import MIN_CONFIDENCE_EPIPHYSIS
from boneage.core.arrays import read_arrays
from boneage.core.errors import BundleError, IncompleteHand, NotAHand, SeveralHands
from boneage.core.protocols import Runner
from boneage.core.types import FloatArray, Hand, Radiograph

FREE = tuple(index for index in range(len(NAMES)) if index not in (WRIST, KNUCKLE))
"""Key points that the upright frame leaves free."""

JOINTS = tuple(index for index in FREE if index not in TIPS)
THUMB_TIP = TIPS[0]
FINGERTIPS = TIPS[1:]

CONFIDENCE_STEP = 1.2
"""Fall of a confidence's logit that counts as much as one standard deviation of place."""

EDGE_NEAR = 0.15
EDGE_STEP = 0.05
"""A fingertip is near the film's edge within `EDGE_NEAR`; every `EDGE_STEP` nearer counts as one more."""

RIVALS = 3
"""So many key points seen twice mean a second hand."""

EPIPHYSIS_END: Mapping[str, tuple[float, float]] = {"radius": (0.07, 0.21), "ulna": (-0.23, 0.24)}
"""Just below the growth plate, upright; centres of 20 labelled hands are 0.06 above (sd 0.04, 0.06)."""

LIMITS = ("fingertip", "thumb_tip", "joint", "shape", "wrist", "rivals", "picture")

_FINGER_WORDS = {
    "thumb": "thumb",
    "forefinger": "forefinger",
    "middle_finger": "middle finger",
    "ring_finger": "ring finger",
    "pinky_finger": "little finger",
}
_REMEDY = "give a radiograph of one whole hand, from the fingertips to the forearm"


@dataclass(frozen=True, slots=True, eq=False)
class Strangeness:
    """How far a hand is from the training hands; a larger number is stranger, but for the wrist.

    Args:
        points: (21,) of every key point; 0 at wrist and knuckle, which define the frame.
        shape: distance of all points together, 1 being usual.
        wrist: the finder's confidence in the wrist, upright.
        rivals: the third strongest second sight of a key point.
        picture: what the training hands' principal pictures leave unexplained, 1 being everything.
    """

    points: NDArray[np.float64]
    shape: float
    wrist: float
    rivals: float
    picture: float


@dataclass(frozen=True, slots=True, eq=False)
class HandModel:
    """What a complete hand looks like, learnt from training hands.

    Args:
        mean: (38,) upright key points without wrist and knuckle, x before y.
        precision: (38, 38) their inverse covariance.
        logits: (21,) usual logit of each key point's confidence.
        picture_mean: (3072,) mean of the normalised pictures.
        picture_components: (C, 3072) their principal components.
        limits: name, of `LIMITS` -> value; beyond it a hand is refused.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    logits: NDArray[np.float64]
    picture_mean: FloatArray
    picture_components: FloatArray
    limits: Mapping[str, float]

    @classmethod
    def load(cls, path: Path) -> HandModel:
        """Read a model from an `.npz` file.

        Raises:
            BundleError: the file is missing or holds no hand model.
        """
        try:
            found = read_arrays(path)
            return cls(
                mean=found["mean"].astype(np.float64),
                precision=found["precision"].astype(np.float64),
                logits=found["logits"].astype(np.float64),
                picture_mean=found["picture_mean"].astype(np.float32),
                picture_components=found["picture_components"].astype(np.float32),
                limits=dict(zip(LIMITS, found["limits"].astype(float).tolist(), strict=True)),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is no hand model ({error}); install the bundle again") from error

    def save(self, path: Path) -> None:
        """Write the model; pictures in half precision."""
        np.savez_compressed(
            path,
            mean=self.mean,
            precision=self.precision.astype(np.float32),
            logits=self.logits,
            picture_mean=self.picture_mean.astype(np.float16),
            picture_components=self.picture_components.astype(np.float16),
            limits=np.array([self.limits[name] for name in LIMITS]),
        )

    def check(self, radiograph: Radiograph, hand: Hand, finder: Runner) -> tuple[str, ...]:
        """Refuse a hand that is not one complete hand; return which forearm bones are not on the film.

        Args:
            radiograph: the image.
            hand: the hand found in it.
            finder: runs the finder's graph (see `closeup.look`).

        Raises:
            SeveralHands: key points are seen twice.
            IncompleteHand: fingers or wrist are cut off, covered or missing.
            NotAHand: what was found does not look like a hand.
        """
        closeup = look(radiograph, hand, finder)
        self.refuse(closeup)
        return off_film(radiograph, hand, closeup)

    def refuse(self, closeup: CloseUp) -> None:
        """Refuse what is not one complete hand, as `check` does."""
        found, limits = self.measure(closeup), self.limits
        if found.rivals > limits["rivals"]:
            raise SeveralHands(
                "joints of more than one hand found; give one hand an image (crop it to the left hand)"
            )
        if found.wrist < limits["wrist"]:
            raise IncompleteHand(f"the wrist is cut off or covered; {_REMEDY}")
        self._refuse_fingers(found, closeup)
        if found.shape > limits["shape"] or found.picture > limits["picture"]:
            raise NotAHand(f"what was found does not look like a hand; {_REMEDY}")

    def _refuse_fingers(self, found: Strangeness, closeup: CloseUp) -> None:
        tips = [tip for tip in FINGERTIPS if found.points[tip] > self.limits["fingertip"]]
        if found.points[THUMB_TIP] > self.limits["thumb_tip"]:
            tips.insert(0, THUMB_TIP)
        joints = [joint for joint in JOINTS if found.points[joint] > self.limits["joint"]]
        fingers = dict.fromkeys(_finger(point) for point in sorted([*tips, *joints]))
        if len(fingers) > 3 and joints:
            raise NotAHand(f"the joints found do not lie or look as a hand's do; {_REMEDY}")
        if tips and min(closeup.clearance[tips]) < EDGE_NEAR:
            raise IncompleteHand(f"the film's edge cuts {' and '.join(fingers)}; {_REMEDY}")
        if fingers:
            raise IncompleteHand(
                f"{' and '.join(fingers)} cannot be followed to the tip (covered, bent or missing); {_REMEDY}"
            )

    def measure(self, closeup: CloseUp) -> Strangeness:
        """Return how strange a hand is."""
        away = closeup.upright[list(FREE)].ravel() - self.mean
        points = np.zeros(len(NAMES))
        points[list(FREE)] = self._out_of_place(away)
        points[list(FREE)] += ((self.logits - logit(closeup.confidences)) / CONFIDENCE_STEP)[list(FREE)]
        tips = list(TIPS)
        points[tips] += np.maximum(EDGE_NEAR - closeup.clearance[tips], 0.0) / EDGE_STEP
        return Strangeness(
            points=points,
            shape=float(np.sqrt(away @ self.precision @ away / len(away))),
            wrist=float(closeup.confidences[WRIST]),
            rivals=float(np.sort(closeup.rivals)[-RIVALS]),
            picture=self._unexplained(normalised(closeup.picture)),
        )

    def _out_of_place(self, away: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each free point's distance from where all others put it, in its standard deviations."""
        # For a Gaussian, a block of the precision matrix is the inverse covariance given the rest.
        pulls = (self.precision @ away).reshape(-1, 2)
        blocks = np.stack([self.precision[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] for i in range(len(pulls))])
        solved = np.linalg.solve(blocks, pulls[:, :, None])[:, :, 0]
        return np.asarray(np.sqrt(np.maximum((pulls * solved).sum(axis=1), 0.0) / 2))

    def _unexplained(self, picture: FloatArray) -> float:
        rest = picture - self.picture_mean
        rest = rest - self.picture_components.T @ (self.picture_components @ rest)
        return float(np.mean(rest**2))


def normalised(picture: FloatArray) -> FloatArray:
    """Return a picture as a vector of mean 0 and standard deviation 1."""
    flat = picture.ravel().astype(np.float32)
    flat = flat - flat.mean()
    return np.asarray(flat / max(float(flat.std()), 0.02), np.float32)


def logit(confidences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of confidences, which are kept off 0 and 1 by a thousandth."""
    kept = np.clip(confidences, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(kept / (1 - kept)))


def off_film(radiograph: Radiograph, hand: Hand, closeup: CloseUp) -> tuple[str, ...]:
    """Return those of radius and ulna above whose growth plates the film ends."""
    height, width = radiograph.shape
    to_source = hand.to_upright.inverse()
    absent = []
    for bone, end in EPIPHYSIS_END.items():
        x, y = to_source(np.array(end))
        on_film = -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
        if not on_film or closeup.epiphyses.get(bone, 1.0) < MIN_CONFIDENCE_EPIPHYSIS:
            absent.append(bone)
    return tuple(absent)


def _finger(point: int) -> str:
    name = NAMES[point][:-1]
    return f"the {_FINGER_WORDS[name]}" if name in FINGERS else "the wrist"
