"""Fit a site's correction and intervals to locally read images, and measure them by cross-validation.

Every figure of what calibration gives is of images that neither the correction nor the interval had seen: of
every fold, both were fitted to the other folds.

Source: the shrinkage is the positive-part empirical Bayes estimate of one mean (James and Stein 1961; Efron
and Morris 1973), with a prior of no correction: an estimate e with standard error s is multiplied by
max(0, 1 - s^2 / e^2). The intervals are conformal within bands of age (Mondrian: Vovk, Gammerman and Shafer
2005, section 4.5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.inference.conclude import AGE_LIMITS_MONTHS, half_width
from boneage.inference.site import JOINED, SexCorrection, Shrunk, Vector
from boneage.inference.site_table import LocalReadings
from boneage.metrics.agreement import bland_altman, deming
from boneage.metrics.bootstrap import bootstrap_interval, mean_absolute, paired_difference
from boneage.metrics.subgroups import AGE_EDGES_MONTHS, coverage_table

LEAST_IN_BAND = 30
"""Images that a band of ages needs for a quantile of its own."""

LEAST_HARM_MONTHS = 0.25
"""A week: growth of the mean absolute error that is worth refusing. Where a site does not differ from the
bundle, a smaller one is what any fit costs."""

Lines = Mapping[Sex, SexCorrection]


@dataclass(frozen=True)
class SiteFit:
    """A site's correction, its intervals, and what they give.

    Args:
        correction: of either sex.
        calibrations: answer (`combination`, or a method that stands alone) -> its intervals' settings.
        figures: group -> errors, agreement and coverage before and after, by cross-validation.
        coverage: age band -> coverage and width before and after, likewise.
        far_labels: how many labels lie further from the corrected answer than chance explains.
    """

    correction: Lines
    calibrations: Mapping[str, Mapping[str, Any]]
    figures: Mapping[str, Mapping[str, Any]]
    coverage: Mapping[str, Mapping[str, Any]]
    far_labels: int


def shrink(estimate: float, standard_error: float) -> Shrunk:
    """Return an estimate with the share of it that is applied: max(0, 1 - s^2 / e^2)."""
    kept = 1.0 - (standard_error / estimate) ** 2 if abs(estimate) > standard_error else 0.0
    return Shrunk(float(estimate), float(standard_error), float(kept))


def fit_sex(answered: Vector, truth: Vector) -> SexCorrection:
    """Fit the correction of one sex: least squares of label minus answer on the answer, shrunk.

    Args:
        answered: (N,) answers in months, three or more.
        truth: (N,) labels in months.
    """
    count, centre = len(answered), float(answered.mean())
    away, residual = answered - centre, truth - answered
    spread = float(away @ away)
    offset = float(residual.mean())
    slope = float(away @ residual) / spread if spread else 0.0
    variance = float(np.square(residual - offset - slope * away).sum()) / (count - 2)
    error_of_slope = math.sqrt(variance / spread) if spread else math.inf
    return SexCorrection(
        images=count,
        offset_months=shrink(offset, math.sqrt(variance / count)),
        slope=shrink(slope, error_of_slope) if spread else Shrunk(0.0, 0.0, 0.0),
        centre_months=centre,
        youngest_months=float(answered.min()),
        oldest_months=float(answered.max()),
    )


def fit_lines(readings: LocalReadings) -> Lines:
    """Return the correction of either sex."""
    return {
        sex: fit_sex(readings.answered[readings.sex == sex], readings.truth[readings.sex == sex])
        for sex in Sex
    }


def apply_lines(lines: Lines, sex: NDArray[np.str_], ages: Vector) -> Vector:
    """Return ages (N,), corrected by sex (N,), within the limits of an answer."""
    corrected = ages.copy()
    for one, line in lines.items():
        corrected[sex == one] = line.corrected(ages[sex == one])
    return np.clip(corrected, *AGE_LIMITS_MONTHS)


def cross_correct(readings: LocalReadings, ages: Vector) -> Vector:
    """Return ages (N,), those of every fold corrected by lines fitted to the other folds' answers."""
    corrected = np.zeros(len(ages))
    for fold in np.unique(readings.fold):
        here = readings.fold == fold
        lines = fit_lines(readings.take(~here))
        corrected[here] = apply_lines(lines, readings.sex[here], ages[here])
    return corrected


def fit_bands(ages: Vector, truth: Vector, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer's intervals with quantiles refreshed by age band; its typical widths are kept.

    A band with fewer than `LEAST_IN_BAND` images is joined to the next older one; what is left over at the
    end, to the band before it.

    Args:
        ages: (N,) corrected answers in months, of images that their correction had not seen.
        truth: (N,) labels in months.
        calibration: of the bundle that is calibrated: `coverage`, `ages_months`, `widths_months`.
    """
    coverage = float(calibration["coverage"])
    scores = np.abs(truth - ages) / np.interp(ages, calibration["ages_months"], calibration["widths_months"])
    edges = _joined_edges(ages)
    bands = []
    for low, high in pairwise(edges):
        inside = (ages >= low) & ((ages < high) | (high == edges[-1]))
        quantile = conformal_quantile(scores[inside], coverage)
        bands.append(
            {"from_months": low, "to_months": high, "images": int(inside.sum()), "quantile": quantile}
        )
    return {
        "coverage": coverage,
        "quantile": conformal_quantile(scores, coverage),
        "bands": bands,
        "ages_months": [float(age) for age in calibration["ages_months"]],
        "widths_months": [float(width) for width in calibration["widths_months"]],
    }


def conformal_quantile(scores: Vector, coverage: float) -> float:
    """Return the score below which the share `coverage` of further cases lies; the greatest, of few."""
    rank = min(len(scores), math.ceil((len(scores) + 1) * coverage))
    return float(np.sort(scores)[rank - 1])


def _joined_edges(ages: Vector) -> list[float]:
    """Return the edges of the age bands, those with few of the ages (N,) joined to neighbours."""
    edges, inside = [AGE_EDGES_MONTHS[0]], 0
    for low, high in pairwise(AGE_EDGES_MONTHS):
        inside += int(((ages >= low) & (ages < high)).sum())
        if inside >= LEAST_IN_BAND:
            edges.append(high)
            inside = 0
    edges = edges if len(edges) > 1 else [*edges, AGE_EDGES_MONTHS[-1]]
    return [*edges[:-1], AGE_EDGES_MONTHS[-1]]


def half_widths(ages: Vector, calibration: Mapping[str, Any]) -> Vector:
    """Return the half widths (N,) of intervals around ages (N,), in months."""
    return np.array([half_width(age, calibration) for age in ages])


def cross_interval(readings: LocalReadings, corrected: Vector, calibration: Mapping[str, Any]) -> Vector:
    """Return half widths (N,); those of every fold are fitted to the other folds alone.

    Args:
        readings: of the site.
        corrected: (N,) answers, every fold's corrected by the other folds.
        calibration: of the bundle that is calibrated.
    """
    half = np.zeros(len(corrected))
    for fold in np.unique(readings.fold):
        here = readings.fold == fold
        others = readings.take(~here)
        settings = fit_bands(cross_correct(others, others.answered), others.truth, calibration)
        half[here] = half_widths(corrected[here], settings)
    return half


def fit_site(readings: LocalReadings, manifest: Mapping[str, Any]) -> SiteFit:
    """Fit a site's correction and intervals, and measure by cross-validation what they give.

    Args:
        readings: of the site, checked (`site_table.check_readings`).
        manifest: of the bundle that is calibrated.

    Raises:
        ConfigError: on images that it had not seen the correction errs more than none does.
    """
    main = str(manifest["method"])
    answer = JOINED if JOINED in manifest else main
    base = {main: manifest["methods"][main]["calibration"]}
    base |= {JOINED: manifest[JOINED]["calibration"]} if JOINED in manifest else {}
    corrected = cross_correct(readings, readings.answered)
    refuse_harm(readings, corrected)
    half = cross_interval(readings, corrected, base[answer])
    low, high = AGE_LIMITS_MONTHS
    after = readings.with_answers(
        corrected, np.maximum(low, corrected - half), np.minimum(high, corrected + half)
    )
    ages = {main: cross_correct(readings, readings.alone), answer: corrected}
    return SiteFit(
        correction=fit_lines(readings),
        calibrations={name: fit_bands(ages[name], readings.truth, base[name]) for name in base},
        figures=compare(readings, after),
        coverage=_compare_coverage(readings, after),
        far_labels=_far(corrected - readings.truth),
    )


def refuse_harm(readings: LocalReadings, corrected: Vector) -> None:
    """Refuse a correction that makes the error of everyone, of the girls or of the boys larger beyond chance.

    Args:
        readings: of the site.
        corrected: (N,) answers, corrected by lines that had not seen them.

    Raises:
        ConfigError: the mean absolute error grows by more than `LEAST_HARM_MONTHS`, and the 95% interval of
            that change lies above 0.
    """
    for name, inside in groups(readings.sex).items():
        truth = readings.truth[inside]
        change = paired_difference(
            corrected[inside] - truth, readings.answered[inside] - truth, mean_absolute
        )
        if change.low > 0 and change.estimate > LEAST_HARM_MONTHS:
            raise ConfigError(
                f"calibrating would do harm: the mean absolute error ({name}) would grow by {change} months "
                "on images that the correction had not seen; nothing is written. Look for wrong labels "
                "(`boneage evaluate --data LOCAL.csv --out DIR` shows the errors), give more images, or keep "
                "the bundle as it is"
            )


def groups(sex: NDArray[np.str_]) -> dict[str, NDArray[np.bool_]]:
    """Return group -> which of the images (N,) are in it: both sexes, and either."""
    return {"both sexes": np.ones(len(sex), np.bool_), **{str(one): sex == one for one in Sex}}


def compare(before: LocalReadings, after: LocalReadings) -> dict[str, dict[str, Any]]:
    """Return group -> `images`, `before`, `after` and `mae_change_months`, of the same images."""
    compared = {}
    for name, inside in groups(before.sex).items():
        one, other = before.take(inside), after.take(inside)
        change = paired_difference(other.answered - one.truth, one.answered - one.truth, mean_absolute)
        compared[name] = {
            "images": int(inside.sum()),
            "before": measure(one),
            "after": measure(other),
            "mae_change_months": asdict(change),
        }
    return compared


def measure(readings: LocalReadings) -> dict[str, Any]:
    """Return error, agreement and coverage of some answers; every figure with its 95% interval.

    `bias_months` and `limits_months` are Bland and Altman's of answer minus label; `deming` is the line
    answer = intercept + slope x label.
    """
    truth, answered = readings.truth, readings.answered
    agreement, line = bland_altman(answered, truth), deming(truth, answered)
    held = coverage_table(readings.lower, readings.upper, truth)[0]
    return {
        "mae_months": asdict(bootstrap_interval(answered - truth, mean_absolute)),
        "bias_months": asdict(agreement.bias),
        "limits_months": {"lower": asdict(agreement.lower), "upper": asdict(agreement.upper)},
        "deming": {"slope": asdict(line.slope), "intercept_months": asdict(line.intercept)},
        "coverage": asdict(held.coverage),
        "mean_width_months": held.mean_width_months,
    }


def _compare_coverage(before: LocalReadings, after: LocalReadings) -> dict[str, dict[str, Any]]:
    """Return age band -> `images`, and coverage and width before and after."""
    tables: Sequence[Any] = [coverage_table(one.lower, one.upper, one.truth) for one in (before, after)]
    return {
        old.name: {
            "images": old.count,
            "before": {"coverage": asdict(old.coverage), "mean_width_months": old.mean_width_months},
            "after": {"coverage": asdict(new.coverage), "mean_width_months": new.mean_width_months},
        }
        for old, new in zip(*tables, strict=True)
    }


def _far(error: Vector) -> int:
    """Return how many errors (N,) lie over five robust standard deviations from the median one."""
    away = np.abs(error - np.median(error))
    return int((away > 5 * 1.4826 * np.median(away)).sum())
