"""From findings to one bone age with an interval.

The interval is split-conformal on out-of-fold residuals (Vovk, Gammerman and Shafer 2005; cross
-conformal after Barber et al. 2021): a residual is divided by the spread expected at its age, and
the quantile of those scores, times the spread at hand, is the interval's half width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from boneage.core.types import Findings

AGE_LIMITS_MONTHS = (0.0, 240.0)


def interval(findings: Findings, calibration: Mapping[str, Any]) -> tuple[float, float]:
    """Return the conformal interval (lower, upper) in months around a finding's age.

    Args:
        findings: age and spread.
        calibration: `quantile` of the scaled residuals; `ages_months` and `widths_months`, the residual's
            typical size by predicted age, between which is interpolated.
    """
    width = float(np.interp(findings.age_months, calibration["ages_months"], calibration["widths_months"]))
    half = float(calibration["quantile"]) * width
    low, high = AGE_LIMITS_MONTHS
    return max(low, findings.age_months - half), min(high, findings.age_months + half)
