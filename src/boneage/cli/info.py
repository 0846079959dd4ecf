"""`boneage info`: what is installed, which bundle it would use, and how accurate that is."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from boneage.cli.calibration_table import summary
from boneage.cli.console import print_json, rich_console
from boneage.core.errors import BoneAgeError

EXTRAS = {"train": "torch", "serve": "fastapi", "dicom": "pynetdicom", "cluster": "ray"}
"""Extra -> the package that shows whether it is installed."""

SUMMARY = ("path", "name", "version", "made", "data", "images", "intended_use")
"""What is told of a bundle's manifest without --json."""


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Tell of this bundle, not the shipped one.")] = None,
) -> None:
    """Tell the version, the bundle with its accuracy, the methods and the runtimes; --json tells all."""
    facts = gather(bundle)
    if as_json:
        print_json(facts)
    else:
        _print_table(facts)


def gather(bundle: Path | None) -> dict[str, Any]:
    """Return everything that `info` tells, in JSON's types; nothing heavy is imported for it."""
    from boneage import __version__
    from boneage.core.registry import METHODS, RECIPES
    from boneage.inference.runners import RUNTIMES

    return {
        "version": __version__,
        "python": platform.python_version(),
        "bundle": _bundle(bundle),
        "methods": sorted(METHODS),
        "recipes": sorted(RECIPES),
        "runtimes": {name: _package(package, package) for name, (package, _) in RUNTIMES.items()},
        "extras": {extra: _package(package, f"boneage[{extra}]") for extra, package in EXTRAS.items()},
    }


def _bundle(path: Path | None) -> dict[str, Any]:
    """Return the bundle's manifest, or why it cannot be used: that is information too."""
    from boneage.inference.bundle import Bundle
    from boneage.reporting.tabular import one_line, plain

    try:
        bundle = Bundle.load(path)
    except BoneAgeError as error:
        return {"usable": False, "code": error.code, "message": one_line(error)}
    return {"usable": True, "path": str(bundle.path), **plain(bundle.manifest)}


def _package(name: str, install: str) -> dict[str, Any]:
    from importlib import metadata

    try:
        return {"available": True, "version": metadata.version(name)}
    except metadata.PackageNotFoundError:
        return {"available": False, "reason": f"{name} is not installed: pip install '{install}'"}


def _print_table(facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _lines({**facts, "bundle": _summary(facts["bundle"])}):
        table.add_row(name, value)
    rich_console().print(table, markup=False)


def _summary(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return of a bundle what a person asks first: what it is, what made it, how exact it is."""
    if not bundle["usable"]:
        return bundle
    told = {key: bundle[key] for key in SUMMARY if key in bundle}
    answer = {"answer": bundle["combination"]} if "combination" in bundle else {}
    for method, settings in {**answer, **bundle.get("methods", {})}.items():
        for group in list(settings.get("figures_out_of_fold", {}).get("errors", {}).values())[:1]:
            mae = group["mae"]
            told[f"{method}.mae_months"] = (
                f"{mae['estimate']:.1f} ({mae['low']:.1f} to {mae['high']:.1f}), "
                f"out of fold, {group['count']} images, {mae['level']:.0%} interval"
            )
        found = settings.get("figures_out_of_fold", {}).get("classification")
        if found is not None:
            told[f"{method}.right_interval"] = (
                f"{found['accuracy']:.0%} (within one interval {found['within_one_interval']:.0%}), "
                f"out of fold, {found['count']} images"
            )
    if "site_calibration" in bundle:
        told["site_calibration"] = summary(bundle["site_calibration"])
    if "radius_subgrades" in bundle:
        told["radius_subgrades"] = _subgrades(bundle["radius_subgrades"])
    if "region_clusters" in bundle:
        told["region_clusters"] = _clusters(bundle["region_clusters"])
    return told


def _subgrades(settings: dict[str, Any]) -> str:
    """Return between which grades of CHN the radius has sub-grades, and from how many radii that is known."""
    found = {" and ".join(map(str, pair["grades"])): pair["refusal"] for pair in settings["pairs"]}
    words = [
        f"none between {pair} ({refusal})" if refusal else f"between {pair}"
        for pair, refusal in found.items()
    ]
    return f"{', '.join(words)}; learnt from {settings['crops']} radii"


def _clusters(settings: dict[str, Any]) -> str:
    """Return how many label-free groups a bundle has, and how well they tell the age of held-out hands."""
    groups = len(settings["groups"])
    words = f"{groups} label-free groups from {len(settings['regions'])} regions of {settings['hands']} hands"
    accuracy = settings["out_of_fold"]["accuracy"]
    if accuracy is None:
        return words
    return f"{words}; {accuracy:.0%} of held-out hands in a group of their age class"


def _lines(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (name, text) for every value of a nested mapping."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and "available" in value:
            lines.append((name, value["version"] if value["available"] else value["reason"]))
        elif isinstance(value, dict):
            lines.extend(_lines(value, f"{name}."))
        else:
            lines.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return lines
