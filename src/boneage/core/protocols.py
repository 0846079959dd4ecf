"""What a runner and a method promise; nothing else couples the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Findings, FloatArray, Hand, Radiograph, Sex

Arrays = Mapping[str, NDArray[np.float32]]


def sex_input(sex: Sex, count: int = 1) -> FloatArray:
    """Return a graph's sex input (count, 1): male 1, female 0."""
    return np.full((count, 1), 1.0 if sex is Sex.MALE else 0.0, dtype=np.float32)


class Runner(Protocol):
    """Runs one exported graph."""

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Map named batches (N, ...) to named batches (N, ...)."""
        ...


class Method(Protocol):
    """One way of reading a bone age: `prepare -> run -> decode`.

    `prepare` is the same function in training and at inference, so that they cannot drift apart.
    """

    name: str
    graph: str
    needs_sex: bool

    def prepare(self, radiograph: Radiograph, hand: Hand | None, sex: Sex) -> dict[str, NDArray[np.float32]]:
        """Return the graph's inputs for one hand, each with a leading batch axis of its own views."""
        ...

    def decode(self, outputs: Arrays, sex: Sex) -> Findings:
        """Turn the graph's outputs for one hand's views into findings."""
        ...
