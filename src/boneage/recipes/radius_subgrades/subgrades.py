"""What tells a radius' sub-grade, without torch: the mean radius, and features and clusters of pairs of grades."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import BundleError
from boneage.core.types import FloatArray
from boneage.recipes.radius_subgrades.config import InputConfig
from boneage.recipes.radius_subgrades.encoder import Encoder, Labels, nearest
from boneage.recipes.radius_subgrades.evidence import GradeAxis
from boneage.recipes.radius_subgrades.frames import Patches, view_of

UNSEEN = -1
"""Cluster of a crop that cannot be laid over the mean radius."""


def subgrade_name(grade: float) -> str:
    """Return a grade as the paper writes it: `5`, `5_5`."""
    return f"{grade:g}".replace(".", "_")


@dataclass(frozen=True, eq=False)
class PairModel:
    """What lies between two neighbouring grades.

    Args:
        pair: the two grades.
        encoder: views to features.
        centroids: (K, F) clusters, or (K, 1) of positions on the axis, in their order along it.
        axis: from the lower grade to the higher one.
        refusal: why clusters between them are no sub-grades, empty where they are.
    """

    pair: tuple[int, int]
    encoder: Encoder
    centroids: FloatArray
    axis: GradeAxis
    refusal: str

    @property
    def subgrades(self) -> tuple[float, ...]:
        """Grades of the clusters between the outer two; none where they are refused."""
        last = len(self.centroids) - 1
        return () if self.refusal else tuple(round(self.pair[0] + k / last, 2) for k in range(1, last))

    def read(self, views: FloatArray) -> tuple[Labels, NDArray[np.float64]]:
        """Return the cluster (N,) and the position on the grade axis (N,) of views (N, S, S)."""
        features = self.encoder(views)
        way = self.axis.way(features)
        where = features if self.centroids.shape[1] > 1 else way[:, None].astype(np.float32)
        return nearest(where, self.centroids)[0], way


@dataclass(frozen=True, eq=False)
class Subgrader:
    """Names sub-grades of radii whose whole grades are known.

    Args:
        config: which view is clustered.
        template: (P, P) the mean radius that all are laid over; None where they are not.
        pairs: one model a pair of grades.
    """

    config: InputConfig
    template: FloatArray | None
    pairs: tuple[PairModel, ...]

    def views(self, patches: Iterable[Patches]) -> list[FloatArray | None]:
        """Return the view (S, S) of every patch (P, P), None where there is none."""
        return [view_of(patch, self.config, self.template) for patch in patches]

    def subgrade(self, views: Sequence[FloatArray | None], grades: Sequence[int]) -> NDArray[np.float64]:
        """Return the grades (N,), those with a sub-grade as `5.5`.

        A crop in a cluster between two grades has the sub-grade, whichever of the two it had. A grade that
        lies between both its lower and its higher neighbour keeps its name, as does a view that is None.
        """
        found = np.array(grades, dtype=np.float64)
        between: list[list[float]] = [[] for _ in grades]
        for pair in self.pairs:
            if not pair.subgrades:
                continue
            clusters = self.clusters(pair, views, grades)
            for index, cluster in enumerate(clusters):
                if 0 < cluster < len(pair.centroids) - 1:
                    between[index].append(pair.subgrades[cluster - 1])
        for index, names in enumerate(between):
            if len(names) == 1:
                found[index] = names[0]
        return found

    def clusters(
        self, pair: PairModel, views: Sequence[FloatArray | None], grades: Sequence[int]
    ) -> NDArray[np.int64]:
        """Return the cluster (N,) of views that have one of a pair's grades, `UNSEEN` for all others."""
        mine = [at for at, grade in enumerate(grades) if grade in pair.pair and views[at] is not None]
        found = np.full(len(grades), UNSEEN, dtype=np.int64)
        if mine:
            found[mine] = pair.read(np.stack([views[at] for at in mine]))[0]  # type: ignore[arg-type]
        return found

    def save(self, path: Path) -> None:
        """Write the learned state as arrays, whole or not at all; `settings` holds the rest."""
        arrays: dict[str, NDArray[np.generic]] = {}
        if self.template is not None:
            arrays["template"] = self.template.astype(np.float16)
        for index, pair in enumerate(self.pairs):
            own = {**pair.encoder.arrays(), "centroids": pair.centroids}
            own |= {"low": pair.axis.low, "high": pair.axis.high}
            arrays |= {f"pair{index}.{name}": values for name, values in own.items()}
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(path)

    def settings(self) -> dict[str, Any]:
        """Return what `load` needs beside the arrays."""
        pairs = [{"grades": list(pair.pair), "refusal": pair.refusal} for pair in self.pairs]
        return {"input": asdict(self.config), "pairs": pairs}

    @classmethod
    def load(cls, path: Path, settings: Mapping[str, Any]) -> Subgrader:
        """Read what `save` and `settings` have kept.

        Raises:
            BundleError: the file cannot be read, or lacks an array.
        """
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
            given = {**settings["input"], "window": tuple(settings["input"]["window"])}
            pairs = tuple(
                _pair(arrays, index, described) for index, described in enumerate(settings["pairs"])
            )
            template = arrays["template"].astype(np.float32) if given["align"] else None
            return cls(InputConfig(**given), template, pairs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{path.name} is not what its settings say ({error}); install it again"
            ) from error


def _pair(arrays: Mapping[str, Any], index: int, settings: Mapping[str, Any]) -> PairModel:
    prefix = f"pair{index}."
    own = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    centroids, low, high = (own.pop(name).astype(np.float32) for name in ("centroids", "low", "high"))
    lower, higher = settings["grades"]
    return PairModel(
        (lower, higher), Encoder.of(own), centroids, GradeAxis(low, high), str(settings["refusal"])
    )
