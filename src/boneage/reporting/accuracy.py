"""The figures of an evaluation, from reference and predicted ages: as JSON, Markdown and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.metrics.agreement import bland_altman, deming
from boneage.metrics.bootstrap import Interval, bootstrap_interval, mean_absolute
from boneage.metrics.regression import errors, summary
from boneage.metrics.subgroups import Coverage, Subgroup, coverage_table, subgroup_table
from boneage.reporting.tabular import markdown_table, plain

Ages = NDArray[np.float64]
_LEAST = 3


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Reference and predicted ages of N images.

    Args:
        ids: (N,) the images.
        sexes: (N,) the patients' sexes.
        reference: (N,) reference ages in months.
        predicted: (N,) predicted ages in months.
        lower: (N,) lower ends of the prediction intervals, or None where there are none.
        upper: (N,) their upper ends.
    """

    ids: tuple[str, ...]
    sexes: tuple[Sex, ...]
    reference: Ages
    predicted: Ages
    lower: Ages | None = None
    upper: Ages | None = None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What was measured: overall figures, subgroups, coverage of the intervals, and remarks to read first."""

    overall: dict[str, float]
    mae: Interval
    agreement: dict[str, Any]
    line: dict[str, Any]
    subgroups: tuple[Subgroup, ...]
    coverage: tuple[Coverage, ...]
    remarks: tuple[str, ...] = ()


def measure(predictions: Predictions, remarks: Sequence[str] = ()) -> Accuracy:
    """Return the figures of some predictions; intervals are 95% and, for errors, bootstrapped.

    Raises:
        ConfigError: fewer than three images, or ages that are not finite.
    """
    count = len(predictions.ids)
    if count < _LEAST:
        raise ConfigError(
            f"an evaluation needs at least {_LEAST} images with a reference age, got {count}: add some"
        )
    predicted, reference = predictions.predicted, predictions.reference
    held: tuple[Coverage, ...] = ()
    if predictions.lower is not None and predictions.upper is not None:
        held = coverage_table(predictions.lower, predictions.upper, reference)
    return Accuracy(
        overall=summary(predicted, reference),
        mae=bootstrap_interval(errors(predicted, reference), mean_absolute),
        agreement=asdict(bland_altman(predicted, reference)),
        line=asdict(deming(reference, predicted)) if np.ptp(reference) > 0 and np.ptp(predicted) > 0 else {},
        subgroups=subgroup_table(predicted, reference, predictions.sexes),
        coverage=held,
        remarks=tuple(remarks),
    )


def record(accuracy: Accuracy) -> dict[str, Any]:
    """Return the figures in JSON's types; every subgroup carries its name."""
    whole: dict[str, Any] = plain(asdict(accuracy))
    names = {
        "subgroups": [group.name for group in accuracy.subgroups],
        "coverage": [held.name for held in accuracy.coverage],
    }
    for key, texts in names.items():
        whole[key] = [{"name": name, **entry} for name, entry in zip(texts, whole[key], strict=True)]
    return whole


def markdown(accuracy: Accuracy, title: str) -> str:
    """Return the figures as a Markdown page of tables, remarks first."""
    parts = [f"# {title}", *(f"> **{remark}**" for remark in accuracy.remarks)]
    parts.append(markdown_table(("figure", "value"), overall_rows(accuracy)))
    parts.append("## By sex and age\n\n" + markdown_table(SUBGROUP_HEAD, subgroup_rows(accuracy)))
    if accuracy.coverage:
        head = ("age", "images", "coverage (95% interval)", "mean width, months")
        parts.append("## Prediction intervals\n\n" + markdown_table(head, coverage_rows(accuracy)))
    return "\n\n".join(parts) + "\n"


SUBGROUP_HEAD = ("group", "images", "MAE, months (95% interval)", "bias", "RMSE", "within 6", "within 12")


def overall_rows(accuracy: Accuracy) -> list[tuple[str, ...]]:
    """Return (figure, value) for everyone."""
    overall, agreement = accuracy.overall, accuracy.agreement
    limits = f"{agreement['lower']['estimate']:.1f} to {agreement['upper']['estimate']:.1f} months"
    return [
        ("images", f"{overall['count']:.0f}"),
        ("MAE (95% interval)", f"{accuracy.mae} months"),
        ("RMSE", f"{overall['rmse']:.2f} months"),
        ("median absolute error", f"{overall['median']:.2f} months"),
        ("bias", f"{overall['bias']:+.2f} months"),
        ("95% limits of agreement", limits),
        (
            "within 6, 12, 24 months",
            ", ".join(f"{overall[f'within_{months}']:.1%}" for months in (6, 12, 24)),
        ),
    ]


def subgroup_rows(accuracy: Accuracy) -> list[tuple[str, ...]]:
    """Return a row a subgroup, under `SUBGROUP_HEAD`."""
    return [
        (
            group.name,
            str(group.count),
            str(group.mae),
            f"{group.bias.estimate:+.2f}",
            f"{group.rmse:.2f}",
            f"{group.within_6:.0%}",
            f"{group.within_12:.0%}",
        )
        for group in accuracy.subgroups
    ]


def coverage_rows(accuracy: Accuracy) -> list[tuple[str, ...]]:
    """Return (age band, images, coverage, mean width) a row."""
    return [
        (
            held.name,
            str(held.count),
            f"{held.coverage.estimate:.1%} ({held.coverage.low:.1%} to {held.coverage.high:.1%})",
            f"{held.mean_width_months:.1f}",
        )
        for held in accuracy.coverage
    ]
