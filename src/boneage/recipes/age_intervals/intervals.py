"""Age intervals: made from ages or given, and what a distribution over them says of the age.

Source: paper 5, section IV: "using Pandas' cut function to convert the continuous age variable into a
discrete categorical variable". Interval k is (edges[k], edges[k + 1]], as pandas makes them; the first
holds its lower edge too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boneage.core.errors import ConfigError

Vector = NDArray[np.float64]

METHODS = ("cut", "quantile", "edges")

LEAST = 2
"""Images that an interval needs: one to learn from and one to be judged on."""


@dataclass(frozen=True)
class IntervalsConfig:
    """How the intervals are made.

    Args:
        method: `cut` (equal widths over the range of the ages), `quantile` (equal numbers of images) or
            `edges` (given).
        count: of intervals, for `cut` and `quantile`.
        edges_months: for `edges`: one more than intervals, rising.
    """

    method: str = "cut"
    count: int = 5
    edges_months: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"intervals.method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.method == "edges" and not self.edges_months:
            raise ConfigError("intervals.method 'edges' needs intervals.edges_months")
        if self.method != "edges" and self.edges_months:
            raise ConfigError(f"intervals.edges_months is not used by {self.method!r}; set method='edges'")
        if self.count < 2:
            raise ConfigError(f"intervals.count must be 2 or more, not {self.count}")


@dataclass(frozen=True)
class AgeIntervals:
    """Intervals of age.

    Args:
        edges_months: one more than intervals, rising.

    Raises:
        ConfigError: fewer than two intervals, or edges that do not rise.
    """

    edges_months: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.edges_months) < 3 or not np.all(np.diff(self.edges_months) > 0):
            raise ConfigError(f"interval edges must be three or more and rise, not {self.edges_months}")

    def __len__(self) -> int:
        return len(self.edges_months) - 1

    @property
    def centres_months(self) -> Vector:
        """The middle of each interval (K,)."""
        edges = np.array(self.edges_months)
        return np.asarray((edges[:-1] + edges[1:]) / 2)

    def names(self) -> tuple[str, ...]:
        """Return each interval in words."""
        return tuple(
            f"{low:g} to {high:g}"
            for low, high in zip(self.edges_months[:-1], self.edges_months[1:], strict=True)
        )

    def classes(self, ages_months: ArrayLike) -> NDArray[np.int64]:
        """Return the interval's number (N,) of ages (N,) in months.

        Raises:
            ConfigError: an age lies outside the edges.
        """
        ages = np.asarray(ages_months, dtype=np.float64)
        low, high = self.edges_months[0], self.edges_months[-1]
        outside = ages[~((ages >= low) & (ages <= high))]
        if outside.size:
            raise ConfigError(
                f"{outside.size} ages lie outside the intervals' edges {low:g} to {high:g} months "
                f"(first: {outside[0]:g}); widen intervals.edges_months"
            )
        return np.maximum(np.searchsorted(self.edges_months, ages, side="left") - 1, 0)

    def nearest(self, ages_months: ArrayLike) -> NDArray[np.int64]:
        """Return the interval's number (N,) of predicted ages (N,), those outside by the nearest edge."""
        return self.classes(np.clip(ages_months, self.edges_months[0], self.edges_months[-1]))

    def require_filled(self, ages_months: ArrayLike, where: str, least: int = 1) -> None:
        """Refuse ages (N,) of which fewer than `least` lie in some interval.

        Raises:
            ConfigError: it names the interval; `where` says of what part of the data.
        """
        counts = np.bincount(self.classes(ages_months), minlength=len(self))
        for number in np.flatnonzero(counts < least):
            found = "no image" if counts[number] == 0 else f"only {counts[number]} of at least {least} images"
            raise ConfigError(
                f"{where}: the interval {self.names()[number]} months holds {found}; make fewer intervals, "
                "choose intervals.method='quantile', or give other intervals.edges_months"
            )


def make_intervals(config: IntervalsConfig, ages_months: Sequence[float] | Vector) -> AgeIntervals:
    """Make intervals for the ages (N,) in months of a training set.

    `cut` is pandas' `cut(ages, count)`: equal widths from the least to the greatest age, the lowest
    edge moved down by 0.1% of the range. `quantile` is pandas' `qcut`.

    Raises:
        ConfigError: the ages do not allow it, or leave an interval with fewer than two images.
    """
    ages = np.asarray(ages_months, dtype=np.float64)
    if ages.size == 0 or not np.isfinite(ages).all():
        raise ConfigError("intervals are made from ages in months; there are none, or one is no number")
    if config.method == "edges":
        edges = np.array(config.edges_months)
    elif config.method == "quantile":
        edges = np.quantile(ages, np.linspace(0, 1, config.count + 1))
    else:
        edges = np.linspace(ages.min(), ages.max(), config.count + 1)
        edges[0] -= 0.001 * (ages.max() - ages.min())
    if config.method != "edges" and not np.all(np.diff(edges) > 0):
        raise ConfigError(
            f"the {len(np.unique(ages))} different ages do not give {len(edges) - 1} intervals; "
            "set a smaller intervals.count"
        )
    intervals = AgeIntervals(tuple(float(edge) for edge in edges))
    intervals.require_filled(ages, "all labelled images", LEAST)
    return intervals
