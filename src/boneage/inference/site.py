"""A site's correction of the answer, as a calibrated bundle records it, and how it is applied.

    corrected = age + offset + slope x (held(age) - centre)

One line a sex; `held` keeps the age within those of the site's own images, so that nothing is extrapolated:
beyond its youngest and oldest image the correction stays what it is there. Offset and slope are zero where
the site does not differ from the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import BundleError, ConfigError
from boneage.core.types import Sex

Vector = NDArray[np.float64]

SITE = "site_calibration"
"""Of the manifest's part on it."""

JOINED = "combination"
"""Of the answer that joins methods: its part of the manifest, and its intervals' name in the site's part."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """An estimate with its standard error, and the share of it that is applied, 0 to 1."""

    estimate: float
    standard_error: float
    kept: float

    @property
    def applied(self) -> float:
        """The estimate, shrunk towards none."""
        return self.estimate * self.kept


@dataclass(frozen=True, slots=True)
class SexCorrection:
    """The correction of one sex's answers.

    Args:
        images: how many it was fitted to.
        offset_months: label minus answer, at the centre.
        slope: how much label minus answer grows a month of the answer.
        centre_months: mean answer.
        youngest_months: least answer; below it the correction stays.
        oldest_months: greatest answer; above it the correction stays.
    """

    images: int
    offset_months: Shrunk
    slope: Shrunk
    centre_months: float
    youngest_months: float
    oldest_months: float

    def corrected(self, ages: Vector) -> Vector:
        """Return corrected ages (N,) of ages (N,) in months."""
        held = np.clip(ages, self.youngest_months, self.oldest_months)
        return ages + self.offset_months.applied + self.slope.applied * (held - self.centre_months)


def site_of(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a bundle's part on its site; None where it is not calibrated."""
    site: Mapping[str, Any] | None = manifest.get(SITE)
    return site


def correction_of(site: Mapping[str, Any], sex: Sex) -> SexCorrection:
    """Return a sex's correction as the manifest's part on the site records it."""
    recorded = {**site["correction"][str(sex)]}
    offset, slope = Shrunk(**recorded.pop("offset_months")), Shrunk(**recorded.pop("slope"))
    return SexCorrection(offset_months=offset, slope=slope, **recorded)


def correct_at_site(age_months: float, sex: Sex | None, site: Mapping[str, Any]) -> float:
    """Return an answer corrected for a site, in months.

    Raises:
        ConfigError: the sex is not known; it decides the correction.
    """
    if sex is None:
        raise ConfigError("a bundle that is calibrated for a site corrects by sex: give the patient's sex")
    return float(correction_of(site, sex).corrected(np.array([age_months]))[0])


def check_site(manifest: Mapping[str, Any], where: object) -> None:
    """Refuse a bundle whose site's part is not whole before it corrects anything.

    Args:
        manifest: of the bundle.
        where: the bundle, as a message names it.

    Raises:
        BundleError: a correction or an interval is missing, or is no finite number.
    """
    site = site_of(manifest)
    if site is None:
        return
    try:
        site_provenance(site, None)
        ages = [correct_at_site(120.0, sex, site) for sex in Sex]
        answers = [str(manifest["method"]), *([JOINED] if JOINED in manifest else [])]
        found = [site["calibrations"][name] for name in answers]
        bands = [band for settings in found for band in settings["bands"]]
        numbers = [*ages, *(float(band[key]) for band in bands for key in ("to_months", "quantile"))]
        numbers += [float(settings["coverage"]) for settings in found]
        widths = [np.interp(120.0, settings["ages_months"], settings["widths_months"]) for settings in found]
        whole = bool(np.isfinite([*numbers, *widths]).all()) and all(settings["bands"] for settings in found)
    except (KeyError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise BundleError(
            f"{where}: its part {SITE!r} is not whole; calibrate again, or go back with "
            "`boneage calibrate --rollback`"
        )


def site_provenance(site: Mapping[str, Any], before_months: float | None) -> dict[str, Any]:
    """Return what an assessment's provenance says of the site's correction.

    Args:
        site: the manifest's part.
        before_months: the answer before the correction.
    """
    parent = site["parent"]
    return {
        "parent": f"{parent['name']} {parent['version']}",
        "made": site["made"],
        "made_with": site["made_with"],
        "images": dict(site["images"]),
        "table_sha256": site["table_sha256"],
        "before_months": before_months,
    }
