"""The figures of `reproduce`: paper 2's Figures 3 and 6 to 10, and the coordinate of maturity."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boneage.core.types import FloatArray, Sex
from boneage.recipes.region_clusters.crops import REGIONS
from boneage.recipes.region_clusters.groups import class_edges, class_names
from boneage.recipes.region_clusters.joining import complete, fit_join
from boneage.recipes.region_clusters.reproduce import (
    ALIGNED,
    CCAE,
    EVERY,
    INTERVALS,
    PAPER,
    TITLES,
    VAE,
)
from boneage.recipes.region_clusters.results import held_out_positions, order_of
from boneage.recipes.region_clusters.tables import (
    PRINTED_BEST,
    Measurements,
    by_size,
)
from boneage.recipes.region_clusters.views import STEPS, cut_view
from boneage.reporting.cluster_plots import (
    CoordinatePanel,
    MapPanel,
    coordinate_png,
    groups_png,
    lines_png,
    map_png,
)
from boneage.reporting.image_plots import Pair, pairs_png, steps_png

if TYPE_CHECKING:
    from boneage.recipes.region_clusters.results import Sample

logger = logging.getLogger(__name__)

SHOWN_REGIONS = ("2", "8", "17", "19", "16")
"""Of Figure 3."""

PAIRS = 6
"""Most-confused pairs of Figure 10."""


def write_figures(out: Path, measured: Measurements) -> None:
    """Write every figure to a folder, whole or not at all; one that has nothing to show is left out."""
    figures: dict[str, Callable[[Measurements], bytes | None]] = {
        "figure_3_steps": _steps,
        "figure_6_map": _map,
        "figure_7_regions_same_hands": lambda own: _regions(own, held_out=False),
        "figure_7_regions_held_out": lambda own: _regions(own, held_out=True),
        "figure_8_sizes": _sizes,
        "figure_9_maps": _maps,
        "figure_10_confused": _confused,
        "table_1_groups": _groups,
        "coordinate": _coordinate,
    }
    for name, draw in figures.items():
        drawn = draw(measured)
        if drawn is None:
            logger.warning("%s is left out: there is nothing to show", name)
            continue
        partial = out / f"{name}.partial"
        partial.write_bytes(drawn)
        partial.replace(out / f"{name}.png")


def _steps(measured: Measurements) -> bytes:
    """Figure 3: some regions of one hand, from the cut to what the encoder sees."""
    config = measured.study.recipe.input
    hand = _typical_hand(measured)
    panels: dict[str, dict[str, FloatArray]] = {}
    for region in SHOWN_REGIONS:
        patch = measured.study.hands.patches(region)[hand]
        view = cut_view(patch, config.side_of(region), None)
        assert view is not None  # nothing is aligned
        panels[f"region {region}"] = {"as cut": view}
        for step in config.steps:
            view = STEPS[step](view, config)
            # A blur of white is a rounding error brighter than white.
            panels[f"region {region}"][step] = np.clip(view, 0, 1)
    return steps_png(panels, "Preprocessing of key regions, step by step")


def _typical_hand(measured: Measurements) -> int:
    """Return the hand of median age among those that show all regions."""
    hands = measured.study.hands
    whole = np.flatnonzero(hands.seen.all(axis=1))
    return int(whole[np.argsort(hands.ages[whole])[len(whole) // 2]])


def _regions(measured: Measurements, held_out: bool) -> bytes:
    """Figure 7: accuracy of single regions, a line an interval."""
    series = {}
    for interval in INTERVALS:
        outcomes = {region: measured.single(CCAE, region, interval) for region in REGIONS}
        series[f"{interval} months"] = {
            region: (one.held_out if held_out else one.same).accuracy for region, one in outcomes.items()
        }
    how = "of held-out hands" if held_out else "read off the same hands"
    return lines_png(
        series,
        f"accuracy {how}",
        "key region",
        f"Single key regions, {TITLES[CCAE]}, {measured.study.recipe.groups.count} groups",
    )


def _sizes(measured: Measurements) -> bytes | None:
    """Figure 8: accuracy by number of groups, a line a number of hands."""
    series = {
        name: {f"{count}": outcome.same.accuracy for count, outcome in by_count.items()}
        for name, by_count in by_size(measured).items()
    }
    if not series:
        return None
    told = f"Numbers of hands, {TITLES[CCAE]}, best combination of the paper"
    what, reference = "accuracy read off the same hands", {"the paper, 960 hands": PRINTED_BEST / 100}
    return lines_png(series, what, "groups", told, reference)


def _map(measured: Measurements) -> bytes:
    """Figure 6: t-SNE of the joined latent vectors, coloured by age."""
    panels = {
        TITLES[encoding]: _panel(measured.study.sample(encoding, PAPER), measured)
        for encoding in (CCAE, VAE, ALIGNED)
    }
    return map_png(panels, "t-SNE of the paper's best combination")


def _maps(measured: Measurements) -> bytes:
    """Figure 9: the same of growing numbers of hands."""
    study = measured.study
    panels = {name: _panel(study.sample(CCAE, name), measured) for name in list(study.sizes)[-3:]}
    return map_png(panels, f"t-SNE of growing numbers of hands, {TITLES[CCAE]}")


def _panel(sample: Sample, measured: Measurements) -> MapPanel:
    from sklearn.manifold import TSNE

    recipe = measured.study.recipe
    whole = sample.take(complete(sample.latents, recipe.join.regions))
    values = fit_join(whole.latents, recipe.join)(whole.latents)
    perplexity = min(30.0, (len(whole) - 1) / 3)
    mapped = TSNE(perplexity=perplexity, init="pca", random_state=recipe.schedule.seed).fit_transform(values)
    return MapPanel(np.asarray(mapped, dtype=np.float64), whole.ages)


def _confused(measured: Measurements) -> bytes | None:
    """Figure 10: pairs of hands of one group, nearest in latent space and of different classes."""
    study = measured.study
    sample = study.sample(CCAE, PAPER)
    places = np.flatnonzero(study.subsets[PAPER])
    outcome = measured.of(study.ways[CCAE])
    values = fit_join(sample.latents, study.recipe.join)(sample.latents)
    patches = study.hands.patches("16")
    pairs = []
    for first, second in _nearest_unlike(values, outcome.groups, outcome.same.classes, sample.ages):
        left, right = (patches[places[at]].astype(np.float32) / np.float32(255) for at in (first, second))
        told = " and ".join(f"{sample.sexes[at]}, {sample.ages[at]:.0f}" for at in (first, second))
        pairs.append(Pair(left, right, f"{told} months"))
    if not pairs:
        return None
    return pairs_png(
        pairs, f"Most confused pairs, {TITLES[CCAE]}: one group, nearest in latent space, region 16"
    )


def _nearest_unlike(
    values: FloatArray, groups: NDArray[np.int64], classes: NDArray[np.int64], ages: NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Return pairs of one group and different classes, nearest first, no hand twice.

    Ages must differ by half a class at least, so that a pair is not just on both sides of a border.
    """
    own = values.astype(np.float64)
    sizes = np.square(own).sum(axis=1)
    gaps = sizes[:, None] + sizes - 2 * own @ own.T  # NaN of a hand with a masked region
    unlike = (groups[:, None] == groups) & (classes[:, None] != classes)
    unlike &= np.abs(ages[:, None] - ages) >= INTERVALS[-1] / 2
    gaps = np.where(unlike & np.isfinite(gaps) & np.triu(np.ones_like(unlike), 1), gaps, np.inf)
    found: list[tuple[int, int]] = []
    for flat in np.argsort(gaps, axis=None):
        first, second = (int(at) for at in np.unravel_index(flat, gaps.shape))
        if len(found) == PAIRS or np.isinf(gaps[first, second]):
            break
        if not {first, second} & {at for pair in found for at in pair}:
            found.append((first, second))
    return found


def _groups(measured: Measurements) -> bytes:
    """Table 1 as a picture."""
    ways = {name: measured.study.ways[name] for name in (CCAE, "agreed_by_sex")}
    counts = {way.title: measured.of(way).table for way in ways.values()}
    names = class_names(class_edges(measured.study.recipe.groups))
    return groups_png(counts, names, "Groups and the age classes in them, months; labels off the same hands")


def _coordinate(measured: Measurements) -> bytes:
    """The label-free coordinate of held-out hands against their bone age."""
    study = measured.study
    sample = study.sample(ALIGNED, EVERY)
    positions, _ = held_out_positions(sample, replace(study.recipe.join, regions=REGIONS))
    order = order_of(positions, sample.ages, sample.sexes)
    panels = {}
    for name, sex, told in (("girls", Sex.FEMALE, order.girls), ("boys", Sex.MALE, order.boys)):
        mine = np.array([own is sex for own in sample.sexes]) & np.isfinite(positions)
        if told is not None:
            panels[name] = CoordinatePanel(
                positions[mine].astype(np.float64), sample.ages[mine], f"Spearman {told}"
            )
    return coordinate_png(panels, f"What the regions of a hand agree on, no label used; {TITLES[ALIGNED]}")
