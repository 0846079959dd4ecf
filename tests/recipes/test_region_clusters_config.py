"""Paper 2's configuration: what the recipe prints, what is read back, and what is refused."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import boneage.recipes.region_clusters as package
from boneage.anatomy.regions import KEY_REGIONS
from boneage.core.errors import ConfigError
from boneage.recipes.region_clusters.config import (
    PAPER_BEST,
    GroupsConfig,
    InputConfig,
    JoinConfig,
    NetworkConfig,
    Recipe,
    ScheduleConfig,
    check_regions,
)
from boneage.training.config import as_tree, build, read_config

FOLDER = Path(package.__file__).parent
TOMLS = sorted(path.stem for path in FOLDER.glob("*.toml"))
SCHEDULE = ScheduleConfig(epochs=1, batch=8, learning_rate=1e-3)


@pytest.mark.parametrize("name", TOMLS)
def test_every_configuration_is_read_and_written_back(name: str) -> None:
    recipe = read_config(FOLDER / f"{name}.toml", Recipe)
    assert build(Recipe, json.loads(json.dumps(as_tree(recipe))), "again") == recipe
    tree = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    assert "unsupervised deep-learning method for bone age" in tree["citation"]["paper"]
    assert tree["departures"] and all(text.strip() for text in tree["departures"].values())


def test_the_recipe_has_the_papers_printed_settings() -> None:
    recipe = read_config(FOLDER / "recipe.toml", Recipe)
    assert recipe.join.regions == PAPER_BEST == ("2", "5", "8", "11", "16", "17", "19")
    assert recipe.join.agreement == 0 and recipe.join.scale == "none"  # side by side, as they are
    assert recipe.groups.count == 16 and not recipe.groups.by_sex
    assert recipe.groups.interval_months == 48 and recipe.groups.ages_months == (24, 216)
    assert recipe.input.steps == ("equalise", "blur", "threshold") and not recipe.input.align
    assert recipe.network.kind == "ccae" and 30 in {kernel for kernel, _, _ in recipe.network.layers}


@pytest.mark.parametrize("name", TOMLS)
def test_strides_divide_the_sides_of_the_views(name: str) -> None:
    recipe = read_config(FOLDER / f"{name}.toml", Recipe)
    shrunk = math.prod(stride for _, _, stride in recipe.network.layers)
    assert recipe.input.side % shrunk == recipe.input.wide_side % shrunk == 0


def test_the_regions_of_many_bones_have_wide_views() -> None:
    config = InputConfig(side=64, wide_side=96, wide=("16", "19"))
    assert {config.side_of(name) for name in ("16", "19")} == {96}
    assert {config.side_of(name) for name in KEY_REGIONS if name not in ("16", "19")} == {64}
    assert InputConfig(wide=()).side_of("16") == 64


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"side": 15}, "sides from 16"),
        ({"wide_side": 8}, "sides from 16"),
        ({"blur": -0.1}, "a blur from 0"),
        ({"block": 0.0}, r"a block in \(0, 1\]"),
        ({"block": 1.5}, r"a block in \(0, 1\]"),
        ({"steps": ("equalise", "sharpen")}, "input.steps must be one of equalise, blur, threshold, not 'sh"),
        ({"wide": ("16", "20")}, "input.wide has no region '20': the key regions are '1' to '19'"),
        ({"wide": ("16", "16")}, "input.wide must name 0 or more regions, each once"),
    ],
)
def test_inputs_that_cannot_be_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        InputConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "gan"}, "network.kind must be one of ccae, vae, pca, not 'gan'"),
        ({"layers": ()}, "network.layers must be"),
        ({"layers": ((30, 16, 0),)}, "network.layers must be"),
        ({"layers": ((30, 0, 4),)}, "network.layers must be"),
        ({"weight": -1.0}, "a weight from 0"),
        ({"components": 0}, "a component or more"),
    ],
)
def test_networks_that_cannot_be_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        NetworkConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"regions": ()}, "join.regions must name 1 or more regions"),
        ({"regions": ("2", "2")}, r"each once, not \['2', '2'\]"),
        ({"regions": ("2", "0")}, "join.regions has no region '0': the key regions are '1' to '19'"),
        ({"regions": ("2", "radius")}, "join.regions has no region 'radius'"),
        ({"scale": "pixel"}, "join.scale must be one of none, region, not 'pixel'"),
        ({"agreement": -1}, "an agreement from 0"),
        ({"ridge": 0.0}, "a ridge above 0"),
    ],
)
def test_joins_that_cannot_be_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        JoinConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 1}, "groups: two or more"),
        ({"count": 5, "by_sex": True}, "an even number by sex"),
        ({"starts": 0}, "a start or more"),
        ({"ages_months": (216.0, 24.0)}, "ages that ascend"),
        ({"ages_months": (-1.0, 24.0)}, "ages that ascend"),
        ({"interval_months": 0}, "an interval within them"),
        ({"interval_months": 193}, "an interval within them"),
    ],
)
def test_groups_that_cannot_be_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GroupsConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 0}, "schedule.epochs must be 1 or more, not 0"),
        ({"batch": 0}, "schedule.batch must be 1 or more, not 0"),
        ({"processes": 0}, "schedule.processes must be 1 or more, not 0"),
        ({"folds": 1}, "schedule.folds must be 2 or more, not 1"),
        ({"learning_rate": 0.0}, "schedule.learning_rate must be above 0, not 0"),
        ({"learning_rate": -1e-3}, "schedule.learning_rate must be above 0, not -0.001"),
        ({"learning_rate": float("nan")}, "schedule.learning_rate must be above 0, not nan"),
    ],
)
def test_schedules_that_cannot_be_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(SCHEDULE, **values)  # type: ignore[arg-type]


def test_a_combination_may_be_any_regions_once_each() -> None:
    check_regions("here", tuple(KEY_REGIONS))
    check_regions("here", (), least=0)
    with pytest.raises(ConfigError, match="here must name 1 or more"):
        check_regions("here", ())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("input.sides=64", "unknown key 'sides'"),
        ("network.layers=[[30, 16]]", "must have 3 values, not 2"),
        ('join.regions=["2", "22"]', "no region '22'"),
        ("groups.by_sex=1", "by_sex must be bool"),
    ],
)
def test_overrides_are_checked_as_the_file_is(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(FOLDER / "recipe.toml", Recipe, (override,))
