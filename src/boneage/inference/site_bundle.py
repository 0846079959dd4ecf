"""Write a bundle that is calibrated for a site, and give back the one that it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from boneage import __version__
from boneage.core.errors import BundleError, ConfigError
from boneage.inference.bundle import MANIFEST, Bundle, checksum, restore_bundle, write_bundle
from boneage.inference.site import SITE, site_of
from boneage.inference.site_fit import SiteFit
from boneage.inference.site_table import FOLDS

PARENT_MANIFEST = "parent_manifest.json"
"""The manifest of the bundle that was calibrated, byte by byte, so that it can be given back."""


def site_record(bundle: Bundle, fit: SiteFit, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest's part on its site: what was corrected, from what, and what it gives.

    Args:
        bundle: the one that is calibrated.
        fit: the correction.
        said: what else is recorded: `table_sha256`, `images`, `not_read`, `runtime`, ...; neither paths nor
            identifiers.
    """
    return {
        **_made(),
        **said,
        "parent": {
            "name": bundle.manifest["name"],
            "version": bundle.manifest["version"],
            "manifest_sha256": checksum(bundle.path / MANIFEST),
            "file": PARENT_MANIFEST,
        },
        "correction": {str(sex): asdict(line) for sex, line in fit.correction.items()},
        "calibrations": fit.calibrations,
        "folds": FOLDS,
        "figures_cross_validated": {"groups": fit.figures, "coverage_by_age": fit.coverage},
        "far_labels": fit.far_labels,
    }


def write_calibrated(
    bundle: Bundle, site: Mapping[str, Any], out: Path, version: str | None = None
) -> Bundle:
    """Write a bundle that corrects its answers for a site, whole or not at all.

    Args:
        bundle: the one that is calibrated; not itself calibrated.
        site: `site_record`'s.
        out: the new bundle's folder.
        version: of the new bundle; without it, the parent's with the date and the table's checksum behind it.

    Raises:
        ConfigError: the bundle is calibrated already.
        DeliveryError: the folder cannot be written.
    """
    expect_uncalibrated(bundle)
    files = {name: bundle.path / name for name in bundle.manifest["checksums"]}
    kept = {key: value for key, value in bundle.manifest.items() if key not in ("schema", "checksums")}
    made = str(site["made"]).replace("-", "")
    named = version or f"{bundle.manifest['version']}+site.{made}.{site['table_sha256'][:8]}"
    manifest = {**kept, "version": named, **_made(), SITE: site}
    return write_bundle(out, manifest, {**files, PARENT_MANIFEST: bundle.path / MANIFEST})


def roll_back(bundle: Bundle, out: Path) -> Bundle:
    """Write the bundle that a calibrated one was made from, with the same manifest byte by byte.

    Raises:
        ConfigError: the bundle is not calibrated.
        BundleError: what it keeps of its parent is not what its record names.
        DeliveryError: the folder cannot be written.
    """
    site = site_of(bundle.manifest)
    if site is None:
        raise ConfigError(f"the bundle {bundle.name} is not calibrated: there is nothing to roll back")
    parent = bundle.path / PARENT_MANIFEST
    if not parent.is_file() or checksum(parent) != site["parent"].get("manifest_sha256"):
        raise BundleError(
            f"{parent.name} of the bundle {bundle.name} is not the one that its record names; install "
            f"{site['parent']['name']} {site['parent']['version']} again"
        )
    named = json.loads(parent.read_text(encoding="utf-8"))["checksums"]
    return restore_bundle(out, parent, {name: bundle.path / name for name in named})


def expect_uncalibrated(bundle: Bundle) -> None:
    """Refuse a bundle that is calibrated for a site where its parent must be meant.

    Raises:
        ConfigError: it is calibrated.
    """
    if site_of(bundle.manifest) is not None:
        raise ConfigError(
            f"the bundle {bundle.name} is calibrated for a site: go back to the one it was made from first, "
            "with `boneage calibrate --rollback BUNDLE --out DIR`"
        )


def _made() -> dict[str, str]:
    return {"made": date.today().isoformat(), "made_with": f"boneage {__version__}"}
