"""Images beside each other: the steps of their preparation, and pairs of hands.

Source: paper 2, figures 3 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.reporting.plots import (
    CHARACTERS_AN_INCH,
    FRAME,
    bare,
    expect_image,
    expect_some,
    lines_height,
    panels_figure,
    png,
    titled_figure,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 0.03
"""Between the images of a pair, as a share of their height."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two hands or regions, each (H, W) in [0, 1], and what is told of them."""

    left: FloatArray
    right: FloatArray
    caption: str


def steps_png(images: Mapping[str, Mapping[str, FloatArray]], title: str = "") -> bytes:
    """Return a row a key region and a column a step of its preparation, the steps named above the first row.

    Args:
        images: region, such as `19 carpal bones` -> step, such as `equalised` -> image, (H, W) in [0, 1].
        title: shown above the figure.

    Source: paper 2, figure 3.

    Raises:
        ConfigError: no region or step, a region with other steps than the first, or an image that is not a
            finite (H, W) in [0, 1].
    """
    steps = _checked_steps(images)
    side, names = 1.5, [wrapped(region, 16) for region in images]
    tallest = [max(i.shape[0] / i.shape[1] for i in found.values()) for found in images.values()]
    heights = np.clip(side * np.array(tallest), 0.5, 2 * side)
    margin = 0.3 + max(len(line) for name in names for line in name.split("\n")) / CHARACTERS_AN_INCH
    headers = [wrapped(step, 1.1 * CHARACTERS_AN_INCH * side) for step in steps]
    figure = titled_figure(
        side * len(steps) + margin, float((heights + 0.1).sum()) + lines_height(headers), title
    )
    figure.set_layout_engine("constrained", hspace=0.01, wspace=0.01)
    rows = figure.subplots(len(images), len(steps), squeeze=False, height_ratios=heights.tolist())
    for axes, (found, step) in zip(rows.ravel(), product(images.values(), steps), strict=True):
        axes.imshow(found[step], cmap="gray", vmin=0.0, vmax=1.0)
        bare(axes)
    for axes, header in zip(rows[0], headers, strict=True):
        axes.set_title(header, fontsize=9)
    for axes, name in zip(rows[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    return png(figure)


def pairs_png(pairs: Sequence[Pair], title: str = "") -> bytes:
    """Return the pairs in rows, numbered, the images of each side by side and as high, its caption beneath.

    Args:
        pairs: what is shown.
        title: shown above the figure.

    Source: paper 2, figure 10.

    Raises:
        ConfigError: no pair, or an image that is not a finite (H, W) in [0, 1].
    """
    expect_some("pairs", pairs)
    for number, pair in enumerate(pairs, start=1):
        expect_image(f"the left of pair {number}", pair.left)
        expect_image(f"the right of pair {number}", pair.right)
    width = 3.8
    captions = [
        "\n".join(wrapped(line, 1.15 * CHARACTERS_AN_INCH * width) for line in pair.caption.split("\n"))
        for pair in pairs
    ]
    spans = [sum(image.shape[1] / image.shape[0] for image in (pair.left, pair.right)) for pair in pairs]
    height = float(np.clip(width / min(spans), 0.8, 3.4)) + 0.4 + lines_height(captions)
    numbers = [str(number + 1) for number in range(len(pairs))]
    figure, axes_of = panels_figure(numbers, width, height, title)
    # Wider than the gap within a pair.
    figure.set_layout_engine("constrained", wspace=0.08)
    for axes, pair, caption in zip(axes_of.values(), pairs, captions, strict=True):
        _draw_pair(axes, pair)
        axes.set_xlabel(caption, fontsize=9, loc="left")
    return png(figure)


def _checked_steps(images: Mapping[str, Mapping[str, FloatArray]]) -> list[str]:
    """Return the names of the steps, which all regions have."""
    expect_some("regions", images)
    steps = list(next(iter(images.values())))
    expect_some("steps", steps, 12)
    for region, found in images.items():
        if list(found) != steps:
            told = f"expected steps {steps} of {region!r}, got {list(found)}"
            raise ConfigError(f"{told}; show the same steps of every region")
        for step, image in found.items():
            expect_image(f"{region!r}, {step!r}", image)
    return steps


def _draw_pair(axes: Axes, pair: Pair) -> None:
    """Draw both images one unit high, in thin frames, with a gap between them."""
    from matplotlib.patches import Rectangle

    left, right = (image.shape[1] / image.shape[0] for image in (pair.left, pair.right))
    for image, start, wide in ((pair.left, 0.0, left), (pair.right, left + _GAP, right)):
        axes.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, extent=(start, start + wide, 0.0, 1.0))
        axes.add_patch(Rectangle((start, 0.0), wide, 1.0, fill=False, clip_on=False, **FRAME))
    axes.set(xlim=(0.0, left + _GAP + right), ylim=(0.0, 1.0))
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
