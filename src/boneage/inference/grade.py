"""Grade single epiphysis crops with a bundle's grading graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boneage.core.errors import BundleError
from boneage.core.runtime import DEFAULT_RUNTIME
from boneage.core.types import Notice, Radiograph, Sex
from boneage.data.graded_crops import own_standard, read_crop
from boneage.imaging.quality import FLAT_RANGE, MIN_SIDE
from boneage.inference.bundle import Bundle
from boneage.inference.runners import open_graph
from boneage.recipes.graded_regions.method import GradedRegions
from boneage.recipes.graded_regions.prior import scores_of
from boneage.standards.mapping import grade_map
from boneage.standards.names import CARPALS, Bone
from boneage.standards.scoring import standard

UNSURE = 0.4
"""Confidence under which a grade is called uncertain."""


@dataclass(frozen=True, slots=True)
class CropGrade:
    """What the network says of one crop.

    Args:
        path: the crop's file, as the caller named it.
        bone: which bone it was said to show.
        standard: whose grades these are: `rus_chn`, or `chn` for the carpals.
        probabilities: of grade 0, 1, ... to the bone's last.
        tw3_stage: the TW3 stage of the most probable grade; None for the carpals.
        warnings: what is doubtful.
    """

    path: str
    bone: Bone
    standard: str
    probabilities: tuple[float, ...]
    tw3_stage: str | None
    warnings: tuple[Notice, ...] = ()

    @property
    def grade(self) -> int:
        """The most probable grade."""
        return int(np.argmax(self.probabilities))

    @property
    def confidence(self) -> float:
        """The probability of that grade."""
        return max(self.probabilities)

    @property
    def expected_grade(self) -> float:
        """The mean of the distribution over grades."""
        return float(np.dot(self.probabilities, np.arange(len(self.probabilities))))

    def scores(self, sex: Sex) -> dict[str, dict[str, float]]:
        """Return standard -> the score of the grade and the expected score, where it uses the bone."""
        found = {}
        for name in ("chn",) if self.bone in CARPALS else ("rus_chn", "tw3"):
            table = scores_of(name).table[sex][list(Bone).index(self.bone)][: len(self.probabilities)]
            expected = float(np.dot(self.probabilities, table))
            found[name] = {"score": float(table[self.grade]), "expected_score": round(expected, 2)}
        return found


class Grader:
    """Grades crops that were cut elsewhere; the graph is loaded once.

    Args:
        bundle: one with a grading graph.
        runtime: `onnxruntime` or `openvino`.
        threads: of the runtime.

    Raises:
        BundleError: the bundle has no grading graph, or the graph does not load.
        ConfigError: unknown runtime.
    """

    def __init__(self, bundle: Bundle, *, runtime: str = DEFAULT_RUNTIME, threads: int = 1) -> None:
        role = GradedRegions.graph
        if role not in bundle.manifest["graphs"] or GradedRegions.name not in bundle.manifest["methods"]:
            raise BundleError(
                f"the bundle {bundle.name} cannot grade bones (it has no graph {role!r}): "
                "name one that can with --bundle"
            )
        settings = bundle.manifest["methods"][GradedRegions.name]
        self._bundle = bundle
        self._method = GradedRegions.from_settings(settings)
        self._bones = frozenset(Bone(name) for name in settings.get("bones", Bone))
        self._run = open_graph(bundle.graph(role), runtime, threads)

    def grade(self, crop: str | Path | Radiograph, bone: Bone) -> CropGrade:
        """Grade one crop.

        Args:
            crop: a file, or a crop already read.
            bone: which bone it shows; the network does not tell.

        Raises:
            InputError: the crop cannot be read, is a colour photograph, too small or blank.
            BundleError: the bundle's network never learnt that bone.
        """
        if bone not in self._bones:
            known = ", ".join(name for name in Bone if name in self._bones)
            raise BundleError(
                f"the bundle {self._bundle.name} never learnt to grade the {bone}: it grades {known}"
            )
        read = crop if isinstance(crop, Radiograph) else read_crop(Path(crop))
        row = self._method.decode(self._run(self._method.prepare_crop(read, bone)))[0]
        used = own_standard(bone)
        probabilities = tuple(float(share) for share in row[: len(standard(used).grades(bone))])
        grade = int(np.argmax(probabilities))
        stage = None if bone in CARPALS else tw3_stage(bone, grade)
        warnings = (*read.warnings, *_doubts(read), *_unsure(probabilities))
        return CropGrade(read.path, bone, used, probabilities, stage, warnings)


def tw3_stage(bone: Bone, grade: int) -> str:
    """Return the TW3 stage of a bone's RUS-CHN grade."""
    return standard("tw3").scale(Sex.FEMALE, bone).label(grade_map("tw3")({bone: grade})[bone])


def _doubts(crop: Radiograph) -> tuple[Notice, ...]:
    height, width = crop.shape
    low, high = np.percentile(crop.pixels, [1, 99])
    found = []
    if min(height, width) < MIN_SIDE:
        text = f"the crop is only {width} x {height} px; the growth plate may not be resolved"
        found.append(Notice("tiny_crop", text))
    if high - low < FLAT_RANGE:
        text = f"the crop uses {high - low:.0%} of the grey scale; it may show no bone"
        found.append(Notice("flat", text))
    return tuple(found)


def _unsure(probabilities: tuple[float, ...]) -> tuple[Notice, ...]:
    first, second = np.argsort(probabilities)[::-1][:2]
    share = probabilities[first]
    if share >= UNSURE:
        return ()
    text = f"the grade is uncertain: {first} has {share:.0%}, {second} has {probabilities[second]:.0%}"
    return (Notice("uncertain_grade", text),)
