"""Tell which training hands a hand is like, by a bundle's label-free groups; it changes no bone age."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import BundleError
from boneage.core.types import (
    PERCENTILES,
    Hand,
    HandGroup,
    Neighbours,
    Notice,
    Radiograph,
    Sex,
    TypicalAge,
)
from boneage.inference.bundle import Bundle
from boneage.inference.watch import Watch
from boneage.recipes.region_clusters.crops import REGIONS, patches_of
from boneage.recipes.region_clusters.maturity import GroupAges, MaturityAges
from boneage.recipes.region_clusters.model import HandReading, RegionClusters

CLUSTERS = "region_clusters"
"""Role of the bundle's file, and key of its settings in the manifest."""

EDGES = "edges_months"
"""Key of those settings: borders of the age classes in which every group's hands are counted."""

MASKED, NOTHING_READ, BEYOND = "regions_masked", "no_neighbours", "beyond_neighbours"
"""Codes of the notices: regions that take no part; no region at all; a maturity beyond all typical ages."""

_FOREARM = {"radius": "17", "ulna": "18"}
_OF_A_FINGER = ("DIP joint", "PIP joint", "MCP joint")
_FINGERS = ("forefinger", "middle finger", "ring finger", "little finger")
_WORDS = (
    *("thumb's IP joint", "thumb's MCP joint"),
    *(f"{finger}'s {joint}" for finger in _FINGERS for joint in _OF_A_FINGER),
    *("base of the thumb", "carpals with their surroundings", "distal radius", "distal ulna", "carpals"),
)
REGION_WORDS: Mapping[str, str] = dict(zip(REGIONS, _WORDS, strict=True))
"""Key region -> what people call it."""


@dataclass(frozen=True)
class FoundNeighbours:
    """What a hand's neighbours add to an assessment.

    Args:
        neighbours: None where no region could be read.
        warnings: what could not be read, or compared.
    """

    neighbours: Neighbours | None = None
    warnings: tuple[Notice, ...] = ()


NOT_ASKED_FOR = FoundNeighbours()


class NeighbourFinder:
    """Names a hand's label-free group and the bone ages of the training hands that it is like.

    Args:
        bundle: one that has groups of hands.
        watch: what the stage `neighbours` runs in.

    Raises:
        BundleError: the bundle has no groups, or a file is not what the manifest says.

    Source: paper 2.
    """

    def __init__(self, bundle: Bundle, watch: Watch = nullcontext) -> None:
        if not bundle.has(CLUSTERS) or CLUSTERS not in bundle.manifest:
            raise BundleError(
                f"the bundle {bundle.name} has no groups of training hands: ask for no neighbours, use "
                "another bundle, or add them with boneage bundle --extend BUNDLE --region-clusters RUN"
            )
        settings = bundle.manifest[CLUSTERS]
        self._model = RegionClusters.load(bundle.file(CLUSTERS), settings)
        self._edges = tuple(map(float, settings.get(EDGES, ())))
        _check(self._edges, self._model.group_ages)
        self._watch = watch

    def __call__(
        self, radiograph: Radiograph, hand: Hand, sex: Sex, absent: Collection[str] = ()
    ) -> FoundNeighbours:
        """Return the hand's neighbours, and what is to be said of them.

        Args:
            radiograph: the image.
            hand: the hand in it.
            sex: whose training hands to compare with.
            absent: bones of the forearm that are known not to be in the image.
        """
        with self._watch("neighbours"):
            patches, seen = patches_of(radiograph, hand)
            for bone in absent:
                seen[REGIONS.index(_FOREARM[bone])] = False
            return self._found(self._model.read(patches, seen, sex), seen, sex)

    def _found(self, reading: HandReading, seen: NDArray[np.bool_], sex: Sex) -> FoundNeighbours:
        names = [reader.name for reader in self._model.readers]
        read = tuple(name for name in names if name not in reading.masked)
        if not read:
            why = ", ".join(f"{len(own)} {why}" for why, own in _by_reason(reading.masked, seen).items())
            text = f"no neighbours are told: none of the {len(names)} key regions can be read ({why})"
            return FoundNeighbours(None, (Notice(NOTHING_READ, text),))
        neighbours = Neighbours(
            None if reading.group is None else self._group(reading.group),
            self._typical(reading.position, sex),
            read,
            reading.masked,
        )
        return FoundNeighbours(neighbours, tuple(self._warnings(reading, seen, sex)))

    def _group(self, place: int) -> HandGroup:
        known = self._model.group_ages[place]
        alike = [at for at, sex in enumerate(self._model.groups.sexes) if sex is known.sex]
        return HandGroup(
            number=alike.index(place) + 1,
            count=len(alike),
            sex=known.sex,
            hands=known.hands,
            mean_months=known.mean_months,
            sd_months=known.sd_months,
            percentiles_months=known.percentiles_months,
            edges_months=self._edges if known.classes else (),
            classes=known.classes,
        )

    def _typical(self, position: float | None, sex: Sex) -> TypicalAge | None:
        along = self._model.maturity_ages.get(sex)
        if along is None or position is None:
            return None
        return TypicalAge(*along.at(position), along.hands)

    def _warnings(self, reading: HandReading, seen: NDArray[np.bool_], sex: Sex) -> list[Notice]:
        found = []
        if reading.masked:
            parts = [
                f"{', '.join(f'{name} {REGION_WORDS[name]}' for name in own)} ({why})"
                for why, own in _by_reason(reading.masked, seen).items()
            ]
            text = f"key regions that take no part in finding neighbours: {'; '.join(parts)}"
            found.append(Notice(MASKED, text))
        along = self._model.maturity_ages.get(sex)
        if along is not None and reading.position is not None:
            found += _beyond(reading.position, along)
        return found


def _check(edges: Sequence[float], groups: Sequence[GroupAges]) -> None:
    """Refuse borders that are not those of the groups' age classes, and percentiles that are not five."""
    for known in groups:
        if known.classes and len(known.classes) != len(edges) - 1:
            raise BundleError(
                f"the manifest's {CLUSTERS} has {len(edges)} {EDGES} for {len(known.classes)} age classes; "
                "install the bundle again"
            )
        if len(known.percentiles_months) not in (0, len(PERCENTILES)):
            raise BundleError(
                f"the manifest's {CLUSTERS} has {len(known.percentiles_months)} percentiles of a group for "
                f"{len(PERCENTILES)}; install the bundle again"
            )


def _beyond(position: float, along: MaturityAges) -> list[Notice]:
    """Return a notice for a hand beyond the outermost of its sex' typical ages on the coordinate."""
    if along.positions[0] <= position <= along.positions[-1]:
        return []
    more, most = ("less", "least") if position < along.positions[0] else ("more", "most")
    text = (
        f"the hand looks {more} mature than the {along.hands} {most} mature training hands of its sex do on "
        "average: the typical age told is theirs"
    )
    return [Notice(BEYOND, text)]


def _by_reason(masked: Sequence[str], seen: NDArray[np.bool_]) -> dict[str, list[str]]:
    """Return why regions were not read -> which; `seen` (19,) says of each region whether something shows."""
    found: dict[str, list[str]] = {}
    for name in masked:
        shows = seen[REGIONS.index(name)]
        why = "not to be laid over the mean region" if shows else "not in the image, or blank"
        found.setdefault(why, []).append(name)
    return found
