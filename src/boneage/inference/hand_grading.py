"""Grade the bones of a hand with a bundle's grading graph, all crops in one batch."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext

import numpy as np

from boneage.core.runtime import DEFAULT_RUNTIME
from boneage.core.types import Hand, Radiograph, Sex
from boneage.inference.bundle import Bundle
from boneage.inference.precision import precision_of
from boneage.inference.runners import open_graph
from boneage.inference.watch import Watch
from boneage.recipes.graded_regions.grades import GradedHand, grade_hand
from boneage.recipes.graded_regions.method import GradedRegions, readable


class HandGrader:
    """Grades hands; the graph is loaded once.

    Args:
        bundle: one that has the method `graded_regions`.
        runtime: `onnxruntime` or `openvino`.
        threads: of the runtime.
        watch: what every stage runs in, by name: `crop`, `grade`, `score`.

    Raises:
        BundleError: the graph is missing or does not load.
    """

    def __init__(
        self, bundle: Bundle, runtime: str = DEFAULT_RUNTIME, threads: int = 1, watch: Watch = nullcontext
    ) -> None:
        self._method = GradedRegions.from_settings(bundle.manifest["methods"][GradedRegions.name])
        precision = precision_of(bundle.manifest, runtime, GradedRegions.graph)
        self._run = open_graph(bundle.graph(GradedRegions.graph), runtime, threads, precision)
        self._watch = watch

    def __call__(
        self, radiograph: Radiograph, hand: Hand, sex: Sex, absent: Collection[str] = ()
    ) -> GradedHand:
        """Return the hand's grades, scores and ages; bones outside the image are named, not guessed.

        Args:
            radiograph: the image.
            hand: the hand in it.
            sex: whose tables to use.
            absent: bones that are known not to be in the image, beside those whose regions leave it.
        """
        with self._watch("crop"):
            regions = self._method.regions(radiograph, hand)
            seen = [region for region in readable(regions) if region.name not in absent]
            if not seen:
                return grade_hand(regions, (), np.empty((0, 1)), sex)
            inputs = self._method.prepare(radiograph, seen)
        with self._watch("grade"):
            outputs = self._run(inputs)
        with self._watch("score"):
            return grade_hand(regions, seen, self._method.decode(outputs), sex)
