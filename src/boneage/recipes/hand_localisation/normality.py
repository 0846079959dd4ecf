"""Learn what a complete hand looks like from the training hands, as the finder sees them.

It is run after the finder: the model holds that finder's own confidences, and belongs to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.closeup import CloseUp, look
from boneage.anatomy.completeness import (
    FINGERTIPS,
    FREE,
    JOINTS,
    THUMB_TIP,
    HandModel,
    Strangeness,
    logit,
    normalised,
)
from boneage.core.errors import ConfigError, InputError
from boneage.core.protocols import Runner
from boneage.core.types import Hand, Radiograph
from boneage.data.manifest import Row
from boneage.imaging.read import read

logger = logging.getLogger(__name__)

COMPONENTS = 32
FEWEST = 4 * len(FREE)
"""Fewest hands from which a covariance of the key points can be learnt."""

TRIMMED = 0.03
"""Share of the strangest hands that a refit of the covariance leaves out: the finder errs on some."""

RIDGE = 1e-4
"""Added to every variance, in squared wrist-to-knuckle lengths: one hundredth of a length."""

REFUSED = {
    "fingertip": 0.004,
    "thumb_tip": 0.002,
    "joint": 0.004,
    "shape": 0.005,
    "rivals": 0.001,
    "picture": 0.001,
}
"""Share of training hands beyond each limit; many of them are beyond several."""

PICTURE_SLACK = 3.5
"""The picture's limit, in its own quantile: new hands, and framed films, are explained less well."""

RIVALS_SLACK = 1.15
"""The same of second sights, whose quantile rests on a hand or two."""

WRIST_SHARE = 0.4
WRIST_RARE = 0.005
"""The wrist's limit is this share of the confidence that so rare a training hand has."""


def gather(rows: Sequence[Row], find: Callable[[Radiograph], Hand], finder: Runner) -> dict[str, CloseUp]:
    """Look closely at every hand that is found; return id -> what was seen.

    Args:
        rows: images of one complete hand each.
        find: finds the hand in a radiograph.
        finder: runs the finder's graph.
    """
    seen = {}
    for row in rows:
        try:
            radiograph = read(row.path)
            seen[row.id] = look(radiograph, find(radiograph), finder)
        except InputError as error:
            logger.warning("not learnt from: %s (%s)", row.id, error.code)
    return seen


def fit(hands: Sequence[CloseUp]) -> HandModel:
    """Learn a hand model.

    Raises:
        ConfigError: too few hands.
    """
    if len(hands) < FEWEST:
        raise ConfigError(
            f"expected {FEWEST} hands or more to learn from, got {len(hands)}; give more images"
        )
    mean, precision = _gaussian(np.stack([hand.upright[list(FREE)].ravel() for hand in hands]))
    pictures = np.stack([normalised(hand.picture) for hand in hands])
    picture_mean = pictures.mean(axis=0)
    _, _, components = np.linalg.svd(pictures - picture_mean, full_matrices=False)
    model = HandModel(
        mean=mean,
        precision=precision,
        logits=np.median(logit(np.stack([hand.confidences for hand in hands])), axis=0),
        picture_mean=picture_mean,
        picture_components=components[:COMPONENTS],
        limits={},
    )
    return replace(model, limits=_limits([model.measure(hand) for hand in hands]))


def _gaussian(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and inverse covariance of points (N, 38), learnt twice again without the strangest."""
    mean, precision = _moments(points)
    for _ in range(2):
        away = points - mean
        distance = np.einsum("ni,ij,nj->n", away, precision, away)
        mean, precision = _moments(points[distance <= np.quantile(distance, 1 - TRIMMED)])
    return mean, precision


def _moments(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    covariance = np.cov(points.T) + RIDGE * np.eye(points.shape[1])
    return points.mean(axis=0), np.asarray(np.linalg.inv(covariance), np.float64)


def _limits(found: Sequence[Strangeness]) -> dict[str, float]:
    points = np.stack([one.points for one in found])
    values = {
        "fingertip": points[:, list(FINGERTIPS)].max(axis=1),
        "thumb_tip": points[:, THUMB_TIP],
        "joint": points[:, list(JOINTS)].max(axis=1),
        "shape": np.array([one.shape for one in found]),
        "rivals": np.array([one.rivals for one in found]),
        "picture": np.array([one.picture for one in found]),
    }
    limits = {name: float(np.quantile(values[name], 1 - share)) for name, share in REFUSED.items()}
    limits["picture"] *= PICTURE_SLACK
    limits["rivals"] *= RIVALS_SLACK
    wrists = np.array([one.wrist for one in found])
    return limits | {"wrist": WRIST_SHARE * float(np.quantile(wrists, WRIST_RARE))}
