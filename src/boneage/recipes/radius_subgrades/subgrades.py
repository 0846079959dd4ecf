"""What tells a radius' sub-grade, without torch: the mean radius, features and clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.arrays import read_arrays
from boneage.core.errors import BundleError
from boneage.core.types import FloatArray
from boneage.recipes.radius_subgrades.config import InputConfig
from boneage.recipes.radius_subgrades.encoder import Encoder, Labels, nearest
from boneage.recipes.radius_subgrades.evidence import GradeAxis
from boneage.recipes.radius_subgrades.frames import Patches, view_of

UNSEEN = -1
"""Cluster of a crop that cannot be laid over the mean radius."""


def stacked(views: Sequence[FloatArray | None], wanted: NDArray[np.bool_]) -> FloatArray:
    """Return the views (M, S, S) that are wanted (N,); none of them is None."""
    return np.stack([view for view, use in zip(views, wanted, strict=True) if use and view is not None])


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

    def subgrade_of(self, grade: int, cluster: int) -> float | None:
        """Return the sub-grade of a crop of one of the two grades, None where it keeps its grade."""
        names, last = self.subgrades, len(self.centroids) - 1
        own = 0 if grade == self.pair[0] else last
        if not names or cluster == own:
            return None
        if cluster == last - own:
            return names[(len(names) - 1) // 2]
        return names[cluster - 1]

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

        A crop in its own grade's outer cluster keeps its grade; in any other it has the sub-grade of that
        cluster or, where grade and picture are of opposite ends, of the one nearest to the middle. A grade
        that so lies between its lower as well as its higher neighbour keeps its name, as does a view that
        is None.

        Departs: paper 1 does not say what becomes of a grade 5 in grade 6's cluster; reader and picture
        disagree, and it is put between the two.
        """
        whole = np.array(grades, dtype=np.int64)
        found, times = whole.astype(np.float64), np.zeros(len(whole), dtype=np.int64)
        for pair in self.pairs:
            clusters = self.clusters(pair, views, grades)
            for index in np.flatnonzero(clusters != UNSEEN):
                name = pair.subgrade_of(int(whole[index]), int(clusters[index]))
                if name is not None:
                    found[index] = name
                    times[index] += 1
        return np.where(times == 1, found, whole)

    def clusters(
        self, pair: PairModel, views: Sequence[FloatArray | None], grades: Sequence[int]
    ) -> NDArray[np.int64]:
        """Return the cluster (N,) of views that have one of a pair's grades, `UNSEEN` for all others."""
        seen = np.array([view is not None for view in views], dtype=np.bool_)
        mine = np.isin(np.asarray(grades), pair.pair) & seen
        found = np.full(len(grades), UNSEEN, dtype=np.int64)
        if mine.any():
            found[mine] = pair.read(stacked(views, mine))[0]
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
            arrays = read_arrays(path)
            given = {**settings["input"], "window": tuple(settings["input"]["window"])}
            pairs = tuple(
                _pair(arrays, index, described) for index, described in enumerate(settings["pairs"])
            )
            template = arrays["template"].astype(np.float32) if given["align"] else None
            return cls(InputConfig(**given), template, pairs)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
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
