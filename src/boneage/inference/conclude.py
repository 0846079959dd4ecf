"""From the methods' ages to one bone age with an interval.

The interval is split-conformal on out-of-fold residuals (Vovk, Gammerman and Shafer 2005; cross
-conformal after Barber et al. 2021): a residual is divided by the spread expected at its age, and
the quantile of those scores, times the spread at hand, is the interval's half width. A bundle that is
calibrated for a site corrects the answer by `site`, and takes its intervals from the site's images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from boneage.core.errors import UnsupportedImage
from boneage.core.types import Notice, Sex
from boneage.inference.site import JOINED, correct_at_site, site_of

AGE_LIMITS_MONTHS = (0.0, 240.0)

CONTRADICTION = 1.7
"""Distance of two methods' ages, in their joint intervals, from which there is no answer.

It is 1.66 at most over the 1,226 hands of the out-of-fold table, and above 1 for 1 in 100 of them.
"""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The answer: a bone age and the interval around it, in months, and what is doubtful about them.

    `methods` are those whose ages it was made from; `before_site_months` is the age before a site's
    correction, where the bundle has one.
    """

    age_months: float
    interval_months: tuple[float, float]
    coverage: float
    methods: tuple[str, ...]
    warnings: tuple[Notice, ...] = ()
    before_site_months: float | None = None


def half_width(age_months: float, calibration: Mapping[str, Any]) -> float:
    """Return the half width in months of a method's interval around an age of its own.

    Args:
        age_months: the method's age.
        calibration: `quantile` of the scaled residuals; `ages_months` and `widths_months`, the residual's
            typical size by predicted age, between which is interpolated; perhaps `bands` of ages, youngest
            first, each with a `quantile` of its own below its `to_months`; the last has no end.
    """
    width = np.interp(age_months, calibration["ages_months"], calibration["widths_months"])
    quantile = calibration["quantile"]
    if "bands" in calibration:
        bands = calibration["bands"]
        quantile = next((b["quantile"] for b in bands if age_months < b["to_months"]), bands[-1]["quantile"])
    return float(quantile) * float(width)


def conclude(ages: Mapping[str, float], manifest: Mapping[str, Any], sex: Sex | None = None) -> Conclusion:
    """Join the methods' ages.

    Where all methods that the bundle's combination weighs gave an age, they are weighed as it says; else
    the main method's age stands alone, with its own interval. Methods without a weight are only shown. Where
    the bundle is calibrated for a site, either answer is corrected last.

    Args:
        ages: method -> bone age in months.
        manifest: of the bundle: `method`, `methods` with their `calibration`, perhaps `combination` with
            `weights` (method -> weight) and `calibration`, perhaps `site_calibration`.
        sex: the patient's; a site's correction needs it.

    Raises:
        ConfigError: the bundle is calibrated for a site and the sex is not known.
        UnsupportedImage: the methods contradict each other.
    """
    combination, site = manifest.get(JOINED), site_of(manifest)
    main = str(manifest["method"])
    age, calibration, answer = ages[main], manifest["methods"][main]["calibration"], main
    methods: tuple[str, ...] = (main,)
    if combination is not None and set(combination["weights"]) <= set(ages):
        weights = combination["weights"]
        age = sum(weight * ages[name] for name, weight in weights.items())
        calibration, methods, answer = combination["calibration"], tuple(weights), JOINED
    low, high = AGE_LIMITS_MONTHS
    age, before = float(np.clip(age, low, high)), None
    if site is not None:
        before, calibration = age, site["calibrations"][answer]
        age = float(np.clip(correct_at_site(age, sex, site), low, high))
    half = half_width(age, calibration)
    return Conclusion(
        age,
        (max(low, age - half), min(high, age + half)),
        float(calibration["coverage"]),
        methods,
        _disagreement(ages, manifest),
        before,
    )


def _disagreement(ages: Mapping[str, float], manifest: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Warn where two methods lie further apart than their joint interval, the root of the summed squares.

    A method that the combination does not weigh is not asked, unless it is the main one.

    Raises:
        UnsupportedImage: they lie so far apart as on no hand that was measured.
    """
    asked = {manifest["method"], *(manifest.get("combination") or {}).get("weights", ())}
    known = [
        (name, ages[name], manifest["methods"][name]["calibration"])
        for name in manifest["methods"]
        if name in ages and name in asked
    ]
    apart = []
    for index, (name, age, calibration) in enumerate(known):
        for other, other_age, other_calibration in known[index + 1 :]:
            joint = float(np.hypot(half_width(age, calibration), half_width(other_age, other_calibration)))
            if abs(age - other_age) > CONTRADICTION * joint:
                raise UnsupportedImage(
                    f"{name} ({age:.0f} months) and {other} ({other_age:.0f} months) contradict each other: "
                    "give a better image (less noise, less compression), or grade the bones by eye"
                )
            if abs(age - other_age) > joint:
                apart.append(
                    f"{name} ({age:.0f} months) and {other} ({other_age:.0f} months) lie further apart than "
                    f"their joint interval of {joint:.0f} months"
                )
    if not apart:
        return ()
    return (Notice("methods_disagree", f"{'; '.join(apart)}; look at the grades and the regions"),)
