"""Tell the radius' sub-grade with a bundle's clusters, and score CHN by it; it never changes the bone age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boneage.anatomy.regions import RegionViews, bone_regions
from boneage.core.arrays import read_arrays
from boneage.core.errors import BundleError
from boneage.core.types import FloatArray, Hand, MeanRadius, Notice, Radiograph, RadiusSubgrade, Region, Sex
from boneage.inference.bundle import Bundle
from boneage.inference.watch import Watch
from boneage.recipes.graded_regions.grades import GradedHand
from boneage.recipes.graded_regions.method import GradedRegions
from boneage.recipes.radius_subgrades.frames import patch_of
from boneage.recipes.radius_subgrades.subgrades import PairModel, Subgrader
from boneage.standards.mapping import grade_map
from boneage.standards.names import Bone
from boneage.standards.scoring import score, standard
from boneage.standards.subgraded import NAME, subgrade_name

SUBGRADES, MEANS = "radius_subgrades", "radius_means"
"""Roles of the bundle's files; the settings in its manifest have the first one's name."""

STANDARD = "chn"
"""The standard whose radius grades are subdivided."""

COUNT = "count_"
"""Before a mean image's name: the number of radii in it."""

NOT_SUBGRADED = "radius_not_subgraded"
"""Code of the notice that says why a radius keeps its whole grade."""

EXPECTED_IS_WHOLE = (
    "the expected total is CHN's own, without the radius' sub-grade: it weighs the scores of all grades, so "
    "a bone between two grades counts as such already"
)


@dataclass(frozen=True)
class SubgradedRadius:
    """What a radius' sub-grade adds to an assessment.

    Args:
        subgrade: the sub-grade; None where the radius has no grade.
        scores: `chn_radius_subgraded` -> what belongs to it, where CHN has a total.
        warnings: why a radius that might have a sub-grade keeps its whole grade.
    """

    subgrade: RadiusSubgrade | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: tuple[Notice, ...] = ()


NOTHING = SubgradedRadius()


class RadiusSubgrading:
    """Names the sub-grades of radii whose whole grades the bones' grader gave.

    Args:
        bundle: one that has sub-grades, and the method `graded_regions`.
        watch: what the stage `subgrade` runs in.

    Raises:
        BundleError: the bundle has no sub-grades or no grades, or a file is not what the manifest says.

    Source: paper 1.
    """

    def __init__(self, bundle: Bundle, watch: Watch = nullcontext) -> None:
        _check(bundle)
        self._subgrader = Subgrader.load(bundle.file(SUBGRADES), bundle.manifest[SUBGRADES])
        self._means = read_means(bundle.file(MEANS))
        self._watch = watch

    def __call__(self, radiograph: Radiograph, hand: Hand, sex: Sex, graded: GradedHand) -> SubgradedRadius:
        """Return the radius' sub-grade, and CHN's scores with it.

        A radius that is not in the image has no grade, and so no sub-grade: the grader says so. One whose
        grade is in no pair keeps it.

        Args:
            radiograph: the image.
            hand: the hand in it.
            sex: whose tables to use.
            graded: what the bones' grader says of the hand.
        """
        whole = next((region.grades for region in graded.regions if region.bone == Bone.RADIUS), {})
        if STANDARD not in whole:
            return NOTHING
        with self._watch("subgrade"):
            found, warnings = self._subgrade(radiograph, hand, sex, round(whole[STANDARD]))
            return SubgradedRadius(found, _scores(graded, sex, found), warnings)

    def _subgrade(
        self, radiograph: Radiograph, hand: Hand, sex: Sex, grade: int
    ) -> tuple[RadiusSubgrade, tuple[Notice, ...]]:
        pairs = [pair for pair in self._subgrader.pairs if grade in pair.pair]
        view = self._view(radiograph, hand) if pairs else None
        subgrade = float(self._subgrader.subgrade([view], [grade])[0])
        found = RadiusSubgrade(
            grade=grade,
            subgrade=subgrade,
            name=subgrade_name(subgrade),
            score=standard(NAME).grade_score(sex, Bone.RADIUS, subgrade),
            position={} if view is None else {_named(pair): _way(pair, view) for pair in pairs},
            view=view,
            means=_beside(self._means, pairs),
        )
        return found, tuple(Notice(NOT_SUBGRADED, text) for text in _reasons(grade, subgrade, view, pairs))

    def _view(self, radiograph: Radiograph, hand: Hand) -> FloatArray | None:
        (region,) = bone_regions(hand, radiograph.shape, [str(Bone.RADIUS)])
        return self._subgrader.views([patch_of(RegionViews(radiograph), region.to_view)])[0]


def read_means(path: Path) -> tuple[MeanRadius, ...]:
    """Return a file's mean views, ascending.

    Raises:
        BundleError: the file holds none, or cannot be read.
    """
    try:
        arrays = read_arrays(path)
        found = [
            MeanRadius(float(name.replace("_", ".")), name, mean, int(arrays[f"{COUNT}{name}"]))
            for name, mean in arrays.items()
            if not name.startswith(COUNT)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path.name} holds no mean radii ({error}); install the bundle again") from error
    return tuple(sorted(found, key=lambda mean: mean.grade))


def _check(bundle: Bundle) -> None:
    if not bundle.has(SUBGRADES) or SUBGRADES not in bundle.manifest:
        raise BundleError(
            f"the bundle {bundle.name} has no sub-grades of the radius: ask for none, use another bundle, or "
            "add them with boneage bundle --extend BUNDLE --radius-subgrades RUN"
        )
    if GradedRegions.name not in bundle.manifest["methods"]:
        raise BundleError(
            f"the bundle {bundle.name} does not grade bones, and a sub-grade needs the radius' grade: ask "
            "for no sub-grades, or assemble a bundle with --grades"
        )


def _named(pair: PairModel) -> str:
    return "-".join(map(str, pair.pair))


def _way(pair: PairModel, view: FloatArray) -> float:
    return float(pair.read(view[None])[1][0])


def _lies_between(pair: PairModel, view: FloatArray, grade: int) -> bool:
    return pair.subgrade_of(grade, int(pair.read(view[None])[0][0])) is not None


def _beside(means: Sequence[MeanRadius], pairs: Sequence[PairModel]) -> tuple[MeanRadius, ...]:
    """Return the mean views from the lowest to the highest grade of some pairs."""
    ends = [grade for pair in pairs for grade in pair.pair]
    return tuple(mean for mean in means if ends and min(ends) <= mean.grade <= max(ends))


def _reasons(
    grade: int, subgrade: float, view: FloatArray | None, pairs: Sequence[PairModel]
) -> Sequence[str]:
    """Return why a grade that is in some pairs is told no more finely; empty where it could have been."""
    if not pairs:
        return ()
    if view is None:
        return (f"the radius keeps CHN's grade {grade}: it cannot be laid over the mean radius",)
    if subgrade != grade:
        return ()
    refused = [
        f"no sub-grade of the radius is told between CHN's grades {_named(pair).replace('-', ' and ')}: "
        f"{pair.refusal}"
        for pair in pairs
        if pair.refusal
    ]
    between = [_named(pair).replace("-", " and ") for pair in pairs if _lies_between(pair, view, grade)]
    if len(between) > 1:
        told = f"it lies between {' as well as between '.join(between)}"
        return (*refused, f"the radius keeps CHN's grade {grade}: {told}")
    return refused


def _scores(graded: GradedHand, sex: Sex, found: RadiusSubgrade) -> dict[str, dict[str, Any]]:
    """Return CHN's scores with the radius' sub-grade in place of its grade, where CHN has a total."""
    if STANDARD not in graded.scores:
        return {}
    own = graded.scores[STANDARD]
    sheet = score(NAME, sex, {**_grades(graded.regions), Bone.RADIUS: found.subgrade})
    notices = [*sheet.warnings, *grade_map(STANDARD).warnings]
    return {
        NAME: {
            **own,
            "total": sheet.total,
            "age_months": sheet.age_months,
            "edition": sheet.edition,
            "remarks": [*(notice.text for notice in notices), EXPECTED_IS_WHOLE],
        }
    }


def _grades(regions: Sequence[Region]) -> dict[Bone, float]:
    bones = standard(STANDARD).bones
    return {bone: region.grades[STANDARD] for region in regions if (bone := Bone(region.bone)) in bones}
