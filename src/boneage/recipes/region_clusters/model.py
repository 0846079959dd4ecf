"""What was learnt: readers of regions, their join, the coordinate of maturity, and the groups."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from lzma import LZMAError
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from boneage.core.arrays import read_arrays
from boneage.core.errors import BundleError, ConfigError
from boneage.core.types import FloatArray, Sex
from boneage.recipes.region_clusters.config import InputConfig
from boneage.recipes.region_clusters.crops import PATCH_SIDE, REGIONS, Patches
from boneage.recipes.region_clusters.groups import NO_GROUP, Groups
from boneage.recipes.region_clusters.joining import Join
from boneage.recipes.region_clusters.maturity import GroupAges, MaturityAges
from boneage.recipes.region_clusters.reader import RegionReader
from boneage.training.config import as_tree, build

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    BadZipFile,
    zlib.error,
    LZMAError,
    ConfigError,
)
"""What damaged files and settings raise where they are read; zip files have other compressions too."""


@dataclass(frozen=True)
class HandReading:
    """What the model says of one hand.

    Args:
        group: its group's number from 0, None where it is in none.
        position: on the coordinate of maturity; None where no region is read.
        masked: regions of the combination that were not read.
    """

    group: int | None
    position: float | None
    masked: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class RegionClusters:
    """Tells the group and the maturity of hands.

    Args:
        input: how views are made.
        readers: of the combination's regions.
        join: of their latent vectors.
        coordinate: of maturity, one-dimensional.
        groups: by k-means.
        group_ages: of every group's training hands.
        maturity_ages: sex -> typical ages along the coordinate.
    """

    input: InputConfig
    readers: tuple[RegionReader, ...]
    join: Join
    coordinate: Join
    groups: Groups
    group_ages: tuple[GroupAges, ...]
    maturity_ages: Mapping[Sex, MaturityAges]

    def read(self, patches: Patches, seen: NDArray[np.bool_], sex: Sex | None) -> HandReading:
        """Return what the model says of a hand.

        Args:
            patches: (19, P, P), as `crops.patches_of` returns them.
            seen: (19,) which of them show something.
            sex: of the patient.
        """
        latents: dict[str, FloatArray] = {}
        for reader in self.readers:
            at = REGIONS.index(reader.name)
            latents[reader.name] = reader(patches[at : at + 1], seen[at : at + 1])
        masked = tuple(name for name, vectors in latents.items() if not np.isfinite(vectors[0, 0]))
        position = float(self.coordinate(latents)[0, 0])
        group = int(self.groups.nearest(self.join(latents), [sex])[0])
        return HandReading(
            None if group == NO_GROUP else group, None if np.isnan(position) else position, masked
        )

    def save(self, file: Path) -> None:
        """Write the arrays to an npz file, whole or not at all; `settings` has the rest."""
        arrays: dict[str, NDArray[np.generic]] = {"centroids": self.groups.centroids}
        for reader in self.readers:
            arrays |= {f"{reader.name}/{name}": values for name, values in reader.arrays().items()}
        for title, join in (("join", self.join), ("coordinate", self.coordinate)):
            for name, mean, by in zip(join.regions, join.means, join.maps, strict=True):
                arrays |= {f"{name}/{title}/mean": mean, f"{name}/{title}/by": by}
        partial = file.with_suffix(".partial.npz")
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(file)

    def settings(self) -> dict[str, Any]:
        """Return what `load` needs besides the arrays, as JSON has it."""
        return {
            "input": as_tree(self.input),
            "regions": [reader.name for reader in self.readers],
            "averaged": self.join.averaged,
            "groups": [_plain(known) for known in self.group_ages],
            "maturity": {str(sex): _plain(known) for sex, known in self.maturity_ages.items()},
        }

    @classmethod
    def load(cls, file: Path, settings: Mapping[str, Any]) -> RegionClusters:
        """Return the model that `save` and `settings` have kept.

        Raises:
            BundleError: the file cannot be read, or does not belong to the settings.
        """
        try:
            arrays = read_arrays(file)
            config = build(InputConfig, settings["input"], "input")
            names = tuple(settings["regions"])
            known = tuple(_group_ages(tree) for tree in settings["groups"])
            centroids = np.asarray(arrays["centroids"], dtype=np.float32)
            if len(centroids) != len(known):
                raise ValueError(f"{len(centroids)} centroids for {len(known)} groups")
            found = cls(
                config,
                tuple(RegionReader.of(name, config, _below(arrays, name)) for name in names),
                _join(arrays, names, "join", bool(settings["averaged"])),
                _join(arrays, names, "coordinate", True),
                Groups(centroids, tuple(own.sex for own in known)),
                known,
                {
                    Sex(sex): build(MaturityAges, tree, "maturity")
                    for sex, tree in settings["maturity"].items()
                },
            )
            # Arrays whose sizes do not go together fail at the first hand, so one that shows nothing is read.
            blank = np.zeros((len(REGIONS), PATCH_SIDE, PATCH_SIDE), np.uint8)
            found.read(blank, np.zeros(len(REGIONS), np.bool_), None)
            return found
        except _UNREADABLE as error:
            raise BundleError(
                f"{file.name} holds no clusters of regions ({error}); install the bundle again"
            ) from error


def _plain(value: GroupAges | MaturityAges) -> Any:
    return json.loads(json.dumps(asdict(value), default=str))


def _group_ages(tree: Mapping[str, Any]) -> GroupAges:
    sex = tree["sex"]
    known = build(GroupAges, {**tree, "sex": None}, "groups")
    return dataclasses.replace(known, sex=None if sex is None else Sex(sex))


def _below(arrays: Mapping[str, NDArray[np.generic]], name: str) -> dict[str, NDArray[np.generic]]:
    start = f"{name}/"
    return {key[len(start) :]: values for key, values in arrays.items() if key.startswith(start)}


def _join(
    arrays: Mapping[str, NDArray[np.generic]], names: Sequence[str], title: str, averaged: bool
) -> Join:
    means = tuple(np.asarray(arrays[f"{name}/{title}/mean"], dtype=np.float32) for name in names)
    maps = tuple(np.asarray(arrays[f"{name}/{title}/by"], dtype=np.float32) for name in names)
    return Join(tuple(names), means, maps, averaged)
