"""The main job: one radiograph to one assessment.

path -> read -> quality -> locate -> every method's age, and the graded bones -> conclude. Nothing flows back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from boneage import __version__
from boneage.anatomy.completeness import HandModel
from boneage.anatomy.hand_mask import hand_from_labels
from boneage.anatomy.localise import find_hand
from boneage.core.errors import ConfigError, RuntimeUnavailable, SexRequired
from boneage.core.protocols import Arrays, Method, Runner
from boneage.core.registry import METHODS, load
from boneage.core.runtime import DEFAULT_RUNTIME
from boneage.core.types import (
    AgeDistribution,
    Assessment,
    Findings,
    FloatArray,
    Hand,
    Notice,
    Radiograph,
    Sex,
)
from boneage.imaging.enhance import stretch_contrast
from boneage.imaging.quality import inspect
from boneage.imaging.read import read
from boneage.inference.bundle import Bundle
from boneage.inference.conclude import Conclusion, conclude
from boneage.inference.growth import Measurements, growth
from boneage.inference.hand_grading import HandGrader
from boneage.inference.neighbours import NOT_ASKED_FOR, NeighbourFinder
from boneage.inference.precision import precision_of
from boneage.inference.radius_subgrading import NOTHING, RadiusSubgrading
from boneage.inference.runners import open_graph
from boneage.inference.site import SITE, site_of, site_provenance
from boneage.inference.watch import Watch
from boneage.recipes.graded_regions.grades import GradedHand
from boneage.recipes.graded_regions.method import GradedRegions

LOCALISERS = ("fast", "dfc")
NOTHING_MEASURED = Measurements()
NOT_GRADED = GradedHand((), {}, None)


class Finder:
    """Finds the hand with a finder graph alone; training uses it before there is a bundle."""

    def __init__(
        self, graph: Path, runtime: str = DEFAULT_RUNTIME, threads: int = 1, watch: Watch = nullcontext
    ) -> None:
        self.run = open_graph(graph, runtime, threads)
        self._watch = watch

    def __call__(self, radiograph: Radiograph) -> Hand:
        """Return the hand.

        Raises:
            NotAHand: none, or more than one.
        """
        return find_hand(radiograph, self._watched)

    def _watched(self, inputs: Arrays) -> dict[str, FloatArray]:
        with self._watch("find"):
            return self.run(inputs)


class Assessor:
    """Assesses radiographs with one bundle; graphs are loaded once.

    Args:
        bundle: the learned state.
        localise: `fast` (the bundle's network) or `dfc` (paper 4's clustering: slow, needs torch).
        runtime: `onnxruntime` or `openvino`.
        threads: of the runtime; None takes the processors there are, at most 8.
        watch: what every stage runs in, by name: `read`, `inspect`, `localise` (and in it `find`, the
            finder's graph), `complete`; of every method `prepare`, `run`, `decode`; of the bones `crop`,
            `grade`, `score`; of the radius `subgrade`; of the training hands alike `neighbours`.
        radius_subgrades: tell the radius' sub-grade too; it is shown and scored, and changes no age.
        neighbours: tell which training hands the hand is like; they are shown, and change no age.

    Raises:
        ConfigError: unknown localiser or runtime.
        RuntimeUnavailable: a package is missing.
        BundleError: a graph is missing or does not load; what is asked for is not in the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        localise: str = "fast",
        runtime: str = DEFAULT_RUNTIME,
        threads: int | None = None,
        watch: Watch = nullcontext,
        radius_subgrades: bool = False,
        neighbours: bool = False,
    ) -> None:
        if localise not in LOCALISERS:
            raise ConfigError(f"localise must be fast or dfc, not {localise!r}")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be 1 or more, not {threads}")
        self.bundle = bundle
        self.localise = localise
        self.runtime = runtime
        self.threads = threads or min(
            8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        )
        self._watch = watch
        self._name = str(bundle.manifest["method"])
        others = [name for name in bundle.manifest["methods"] if name in METHODS]
        graded = GradedRegions.name in bundle.manifest["methods"]
        with ThreadPoolExecutor() as pool:  # compiling a graph is most of a cold start, and can be shared out
            methods = {name: pool.submit(self._open, name) for name in dict.fromkeys((self._name, *others))}
            find = pool.submit(Finder, bundle.graph("hand_finder"), runtime, self.threads, watch)
            grade = pool.submit(HandGrader, bundle, runtime, self.threads, watch) if graded else None
        self._find = find.result()
        self._methods = {name: opened.result() for name, opened in methods.items()}
        self._grade = grade.result() if grade is not None else None
        self._subgrade = RadiusSubgrading(bundle, watch) if radius_subgrades else None
        self._neighbours = NeighbourFinder(bundle, watch) if neighbours else None
        self._hand_model = HandModel.load(bundle.file("hand_model")) if bundle.has("hand_model") else None

    def _open(self, name: str) -> tuple[Method, Runner]:
        """Return a method with the bundle's settings, and its graph."""
        method: Method = load(METHODS, name).from_settings(self.bundle.manifest["methods"][name])
        precision = precision_of(self.bundle.manifest, self.runtime, method.graph)
        return method, open_graph(self.bundle.graph(method.graph), self.runtime, self.threads, precision)

    def locate(self, radiograph: Radiograph) -> Hand:
        """Find the hand.

        Raises:
            NotAHand: none, or more than one.
            RuntimeUnavailable: `dfc` without the extra `train`.
        """
        with self._watch("localise"):
            if self.localise == "dfc":
                return self._locate_by_clustering(radiograph)
            return self._find(radiograph)

    def _locate_by_clustering(self, radiograph: Radiograph) -> Hand:
        try:
            from boneage.models.segmentation import ClusterConfig, cluster_features, shrink
        except ModuleNotFoundError as error:
            raise RuntimeUnavailable("--localise dfc needs torch; pip install 'boneage[train]'") from error
        config = ClusterConfig()
        image = stretch_contrast(shrink(radiograph.pixels, config.long_side))
        return hand_from_labels(cluster_features(image, config), image, radiograph.shape)

    def assess(
        self,
        source: str | Path | Radiograph,
        *,
        sex: Sex | None = None,
        chronological_age_months: float | None = None,
        measured: Measurements = NOTHING_MEASURED,
    ) -> Assessment:
        """Assess one radiograph.

        Args:
            source: a file, or a radiograph already read.
            sex: the patient's; None takes the file's.
            chronological_age_months: the patient's; None takes the file's, where it has one.
            measured: height and so on, from which an adult height is predicted.

        Raises:
            ConfigError: a measurement is no child's.
            InputError: the image, or what is known of the patient, does not allow an assessment.
        """
        with self._watch("read"):
            radiograph = source if isinstance(source, Radiograph) else read(source)
        known_sex = sex or radiograph.sex
        if known_sex is None:
            raise SexRequired(
                "the patient's sex is needed and the file does not give it: give it, female or male (--sex)"
            )
        with self._watch("inspect"):
            warnings = [*radiograph.warnings, *inspect(radiograph)]
        if sex is not None and radiograph.sex is not None and sex is not radiograph.sex:
            warnings.append(
                Notice("sex_differs", f"the file says {radiograph.sex}; {sex} was given and used")
            )
        hand = self.locate(radiograph)
        with self._watch("complete"):
            absent = self._absent(radiograph, hand)
        found = {name: self._findings(name, radiograph, hand, known_sex) for name in self._methods}
        by_method = {name: findings.age_months for name, findings in found.items()}
        graded = self._grade(radiograph, hand, known_sex, absent) if self._grade else NOT_GRADED
        radius = self._subgrade(radiograph, hand, known_sex, graded) if self._subgrade else NOTHING
        near = self._neighbours(radiograph, hand, known_sex, absent) if self._neighbours else NOT_ASKED_FOR
        own = dict(by_method)
        if graded.age_months is not None:
            own[GradedRegions.name] = graded.age_months
        concluded = conclude(own, self.bundle.manifest, known_sex)
        by_standard = {name: float(score["expected_age_months"]) for name, score in graded.scores.items()}
        ages = {**by_method, **by_standard}
        age = chronological_age_months
        age = age if age is not None else radiograph.chronological_age_months
        return Assessment(
            path=radiograph.path,
            sex=known_sex,
            bone_age_months=concluded.age_months,
            interval_months=concluded.interval_months,
            coverage=concluded.coverage,
            ages=ages,
            hand=hand,
            regions=graded.regions,
            scores={**graded.scores, **radius.scores},
            growth=growth(known_sex, concluded.age_months, ages.get("tw3"), age, measured),
            chronological_age_months=age,
            warnings=(
                *(*warnings, *hand.warnings, *graded.warnings),
                *(*radius.warnings, *near.warnings, *concluded.warnings),
            ),
            provenance=self._provenance(radiograph, concluded),
            distribution=_distribution(found.values()),
            radius_subgrade=radius.subgrade,
            neighbours=near.neighbours,
        )

    def _absent(self, radiograph: Radiograph, hand: Hand) -> tuple[str, ...]:
        """Refuse what is not one complete hand; return which forearm bones are not on the film.

        The model of complete hands knows them as the finder sees them, so it judges no other localiser's.
        """
        if self._hand_model is None or self.localise != "fast":
            return ()
        return self._hand_model.check(radiograph, hand, self._find.run)

    def _findings(self, name: str, radiograph: Radiograph, hand: Hand, sex: Sex) -> Findings:
        method, run = self._methods[name]
        with self._watch("prepare"):
            inputs = method.prepare(radiograph, hand, sex)
        with self._watch("run"):
            outputs = run(inputs)
        with self._watch("decode"):
            return method.decode(outputs, sex)

    def _provenance(self, radiograph: Radiograph, concluded: Conclusion) -> dict[str, Any]:
        site = site_of(self.bundle.manifest)
        return {
            "software": f"boneage {__version__}",
            "bundle": self.bundle.name,
            "checksums": dict(self.bundle.manifest["checksums"]),
            "method": " + ".join(concluded.methods),
            **({} if site is None else {SITE: site_provenance(site, concluded.before_site_months)}),
            "localiser": self.localise,
            "runtime": self.runtime,
            "input": dict(radiograph.provenance),
        }

    def saliency(self, radiograph: Radiograph, assessment: Assessment, *, grid: int = 8) -> FloatArray:
        """Return where the main method's age comes from: how far it moves when a patch is painted over.

        Args:
            radiograph: the image that was assessed.
            assessment: its assessment.
            grid: patches across the hand box's longer side.

        Returns:
            (H, W) float32 in [0, 1]; 1 where painting over moves the age most.
        """
        x0, y0, x1, y1 = assessment.hand.box_px
        step = max(x1 - x0, y1 - y0) / grid
        columns, rows = max(1, round((x1 - x0) / step)), max(1, round((y1 - y0) / step))
        fill = float(np.median(radiograph.pixels))
        moved = np.zeros((rows, columns), np.float32)
        for row in range(rows):
            for column in range(columns):
                pixels = radiograph.pixels.copy()
                top, left = int(y0 + row * (y1 - y0) / rows), int(x0 + column * (x1 - x0) / columns)
                pixels[top : top + int(step) + 1, left : left + int(step) + 1] = fill
                hidden = replace(radiograph, pixels=pixels)
                occluded = self._findings(self._name, hidden, assessment.hand, assessment.sex)
                moved[row, column] = abs(occluded.age_months - assessment.ages[self._name])
        return _spread_over(moved, assessment.hand.box_px, radiograph.shape)


def _distribution(found: Iterable[Findings]) -> AgeDistribution | None:
    """Return the distribution over age intervals that a method's findings hold, where one's do."""
    for findings in found:
        if "probabilities" in findings.details:
            edges, probabilities = findings.details["edges_months"], findings.details["probabilities"]
            return AgeDistribution(tuple(map(float, edges)), tuple(map(float, probabilities)))
    return None


def _spread_over(
    moved: FloatArray, box: tuple[float, float, float, float], shape: tuple[int, int]
) -> FloatArray:
    import cv2

    x0, y0, x1, y1 = (round(value) for value in box)
    size = (max(1, x1 - x0), max(1, y1 - y0))
    filled = np.zeros(shape, np.float32)
    filled[y0 : y0 + size[1], x0 : x0 + size[0]] = cv2.resize(
        moved / max(float(moved.max()), 1e-6), size, interpolation=cv2.INTER_CUBIC
    )[: shape[0] - y0, : shape[1] - x0]
    return np.clip(filled, 0.0, 1.0)
