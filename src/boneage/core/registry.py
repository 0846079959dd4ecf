"""Names of methods and recipes to where they live, as text: listing imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from boneage.core.errors import ConfigError

METHODS: dict[str, str] = {
    "age_intervals": "boneage.recipes.age_intervals.method:AgeIntervalsMethod",
    "hand_regression": "boneage.recipes.hand_regression.method:HandRegression",
}
"""Method name -> "module:Class" that reads a bone age (no torch)."""

RECIPES: dict[str, str] = {
    "age_intervals": "boneage.recipes.age_intervals.fit:train",
    "consistency": "boneage.recipes.consistency.fit:train",
    "graded_regions": "boneage.recipes.graded_regions.fit:train",
    "hand_localisation": "boneage.recipes.hand_localisation.fit:train",
    "hand_regression": "boneage.recipes.hand_regression.fit:train",
    "radius_subgrades": "boneage.recipes.radius_subgrades.fit:train",
    "region_clusters": "boneage.recipes.region_clusters.fit:train",
    "region_detection": "boneage.recipes.region_detection.fit:train",
}
"""Recipe name -> "module:function" that trains it (needs the extra `train`)."""


def load(registry: dict[str, str], name: str) -> Any:
    """Import what a registry names.

    Raises:
        ConfigError: the registry has no such name.
    """
    if name not in registry:
        known = ", ".join(sorted(registry))
        raise ConfigError(f"unknown name {name!r}; known: {known}")
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(module), attribute)
