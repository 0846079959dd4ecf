"""Paper 2's experiments on the data given: every table and figure from one command.

Every way of encoding has a folder with a file a region; what is done already is not done again, so that an
interrupted run goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.data.manifest import read_manifest
from boneage.recipes.region_clusters.config import PAPER_BEST, GroupsConfig, JoinConfig, Recipe
from boneage.recipes.region_clusters.crops import REGIONS, HandRegions, folds_of, read_regions
from boneage.recipes.region_clusters.encode import encode
from boneage.recipes.region_clusters.groups import age_classes, class_edges
from boneage.recipes.region_clusters.joining import LEAST_HANDS
from boneage.recipes.region_clusters.results import PAPER_CLASSES, Sample, balanced
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.run import open_run

logger = logging.getLogger(__name__)

CCAE, VAE, PIXELS, ALIGNED = "ccae", "vae", "pixels", "aligned"
TITLES = {
    CCAE: "CCAE",
    VAE: "VAE",
    PIXELS: "raw pixels, PCA",
    ALIGNED: "CCAE, laid over the mean",
}
"""Way of encoding, which is its folder's name -> what it is called."""

COMBINATIONS = (
    ("2", "5", "8", "11", "17", "19"),
    ("2", "5", "8", "11", "16", "19"),
    PAPER_BEST,
    ("2", "5", "6", "7", "8", "11", "14", "17", "18", "19"),
    ("3", "4"),
)
"""Rows of the paper's Table 2."""

GROUP_COUNTS = (4, 8, 16, 24, 32, 64)
"""Columns of its Table 3."""

SIZES = (0.4, 0.6, 0.8, 1.0)
"""Shares of the hands of the paper's balance that Figures 8 and 9 are made for."""

LEAST_A_GROUP = 3
"""Hands for every group without which a number of groups is left out of tables and figures."""

INTERVALS = (12, 24, 36, 48)
"""Lines of its Figure 7, in months."""

PAPER, EQUAL, EVERY = "the paper's balance", "equal classes", "all hands"


@dataclass(frozen=True, eq=False)
class Way:
    """A way from latent vectors to groups.

    Args:
        title: in words.
        encoding: whose latent vectors, a key of `TITLES`.
        join: of the regions.
        groups: how they are grouped.
    """

    title: str
    encoding: str
    join: JoinConfig
    groups: GroupsConfig


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that the tables and figures are made of.

    Args:
        recipe: the configuration.
        hands: all of them.
        samples: encoding -> latent vectors of all hands.
        subsets: name -> hands (N,) that groups are measured on.
        sizes: such as `222 hands` -> growing numbers of hands (N,) of one balance, and all of them.
        ways: name -> a way that is followed through all tables.
    """

    recipe: Recipe
    hands: HandRegions
    samples: Mapping[str, Sample]
    subsets: Mapping[str, NDArray[np.bool_]]
    sizes: Mapping[str, NDArray[np.bool_]]
    ways: Mapping[str, Way]

    def sample(self, encoding: str, subset: str) -> Sample:
        """Return the hands of a subset, as one encoding has them."""
        return self.samples[encoding].take({**self.sizes, **self.subsets}[subset])


def reproduce(job: TrainJob) -> Path:
    """Run the experiments; write `tables.md`, `tables.json` and the figures.

    Raises:
        ConfigError: the configuration or the images are wrong; sexes or bone ages are not known.
    """
    from boneage.recipes.region_clusters.figures import write_figures
    from boneage.recipes.region_clusters.tables import Measurements, write_tables

    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    open_run(job, "region_clusters", recipe, may_change=())
    measured = Measurements(make_study(job, recipe))
    write_tables(job.out, measured)
    write_figures(job.out, measured)
    return job.out


def encodings(recipe: Recipe) -> dict[str, Recipe]:
    """Return the recipe of every way of encoding, whatever kind and alignment `recipe` itself has."""
    recipe = replace(
        recipe,
        input=replace(recipe.input, align=False),
        network=replace(recipe.network, kind="ccae"),
    )
    return {
        CCAE: recipe,
        VAE: replace(recipe, network=replace(recipe.network, kind="vae", weight=1.0)),
        PIXELS: replace(
            recipe,
            input=replace(recipe.input, steps=()),
            network=replace(recipe.network, kind="pca"),
        ),
        ALIGNED: replace(recipe, input=replace(recipe.input, align=True)),
    }


def ways(recipe: Recipe) -> dict[str, Way]:
    """Return the ways from latent vectors to groups that all tables have."""
    apart = replace(recipe.join, agreement=0)
    agreed = replace(recipe.join, regions=REGIONS, agreement=1)
    together, by_sex = (replace(recipe.groups, by_sex=own) for own in (False, True))
    beside = {name: Way(TITLES[name], name, apart, together) for name in TITLES}
    return {
        **beside,
        "agreed": Way("agreement of all regions", ALIGNED, agreed, together),
        "agreed_by_sex": Way("agreement of all regions, groups by sex", ALIGNED, agreed, by_sex),
    }


def make_study(job: TrainJob, recipe: Recipe) -> Study:
    """Cut the regions, learn all encoders, and draw the subsets.

    Raises:
        ConfigError: as `reproduce`.
    """
    every = read_manifest(job.data)
    rows = [row for row in every if row.sex is not None and row.bone_age_months is not None]
    if not rows:
        raise ConfigError(f"{job.data.name} has no image with sex and bone age; give a labelled manifest")
    if len(rows) < len(every):
        logger.warning("left out: %d images without sex or bone age", len(every) - len(rows))
    hands = read_regions(rows, job.out / "regions", job.locate)
    folds = folds_of(hands, rows, recipe)
    edges = class_edges(recipe.groups)
    shares = paper_shares(recipe)
    subsets = {
        PAPER: balanced(hands.ages, edges, shares, recipe.schedule.seed),
        EQUAL: balanced(hands.ages, edges, (1,) * len(shares), recipe.schedule.seed),
        EVERY: np.asarray(age_classes(hands.ages, edges) >= 0),
    }
    few = min(int(own.sum()) for own in subsets.values())
    if few < 2 * LEAST_HANDS:
        raise ConfigError(
            f"{few} hands are left where the age classes are balanced, and {2 * LEAST_HANDS} or more are "
            "needed: give more hands of the class that has fewest"
        )
    learn = np.ones(len(hands), dtype=np.bool_)
    samples = {}
    for name, own in encodings(recipe).items():
        encoded = encode(hands, learn, own, REGIONS, job.out / name)
        sexes = tuple(row.sex for row in hands.rows)
        samples[name] = Sample(encoded.latents, encoded.contours, sexes, hands.ages, folds)
    growing = [balanced_share(subsets[PAPER], hands.ages, share, recipe) for share in SIZES]
    enough = [own for own in (*growing, subsets[EVERY]) if own.sum() >= 2 * LEAST_HANDS]
    sizes = {f"{int(own.sum())} hands": own for own in enough}
    return Study(recipe, hands, samples, subsets, sizes, ways(recipe))


def group_counts(hands: int) -> tuple[int, ...]:
    """Return the numbers of groups that so many hands can be sorted into."""
    return tuple(count for count in GROUP_COUNTS if LEAST_A_GROUP * count <= hands)


def paper_shares(recipe: Recipe) -> tuple[int, ...]:
    """Return the shares of the age classes in the paper; equal ones where its classes are not used."""
    classes = len(class_edges(recipe.groups)) - 1
    return PAPER_CLASSES if classes == len(PAPER_CLASSES) else (1,) * classes


def balanced_share(
    whole: NDArray[np.bool_], ages: NDArray[np.float64], share: float, recipe: Recipe
) -> NDArray[np.bool_]:
    """Return a share of the hands `whole` (N,) with ages (N,) in months, in the same balance of classes."""
    edges = class_edges(recipe.groups)
    classes = age_classes(ages, edges)
    rng = np.random.default_rng(recipe.schedule.seed)
    found = np.zeros_like(whole)
    for own in range(len(edges) - 1):
        places = np.flatnonzero(whole & (classes == own))
        found[rng.permutation(places)[: max(1, round(share * len(places)))]] = True
    return found
