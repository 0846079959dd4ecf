"""What a calibration corrected and what it gives, as rows and lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

HEAD = (
    "group",
    "",
    "images",
    "MAE, months",
    "bias",
    "limits of agreement",
    "Deming slope",
    "Deming intercept",
    "in the interval",
    "its width",
)


def figure_rows(site: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the head, then a row a group before and after; intervals of 95% in brackets."""
    yield HEAD
    for name, found in site["figures_cross_validated"]["groups"].items():
        for when in ("before", "after"):
            yield (name, when, str(found["images"]), *_cells(found[when]))


def correction_lines(site: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is corrected, a line a sex, and the change of the error."""
    for sex, line in site["correction"].items():
        offset, slope = line["offset_months"], line["slope"]
        yield (
            f"{sex}: {_applied(offset):+.1f} months at {line['centre_months']:.0f} ({_share(offset, 1)}), "
            f"{_applied(slope):+.3f} a month further on ({_share(slope, 3)})"
        )
    change = site["figures_cross_validated"]["groups"]["both sexes"]["mae_change_months"]
    yield f"change of the mean absolute error, on images not seen: {_interval(change, signed=True)} months"


def summary(site: Mapping[str, Any]) -> dict[str, str]:
    """Return what `boneage info` tells of a calibrated bundle."""
    parent, images = site["parent"], site["images"]
    found = site["figures_cross_validated"]["groups"]["both sexes"]
    told = {
        "of": f"{parent['name']} {parent['version']}",
        "made": f"{site['made']} by {site['made_with']}",
        "images": f"{images['female']} of girls, {images['male']} of boys",
        "mae_months": f"{_interval(found['before']['mae_months'])} before, "
        f"{_interval(found['after']['mae_months'])} after, cross-validated",
    }
    for sex, line in site["correction"].items():
        told[sex] = f"{_applied(line['offset_months']):+.1f} months at {line['centre_months']:.0f} months"
        if _applied(line["slope"]):
            told[sex] += f", {_applied(line['slope']):+.3f} a month further on"
    return told


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    limits, line = figures["limits_months"], figures["deming"]
    return (
        _interval(figures["mae_months"]),
        _interval(figures["bias_months"], signed=True),
        f"{limits['lower']['estimate']:.1f} to {limits['upper']['estimate']:+.1f}",
        _interval(line["slope"], digits=2),
        _interval(line["intercept_months"], signed=True),
        f"{figures['coverage']['estimate']:.0%} "
        f"({figures['coverage']['low']:.0%} to {figures['coverage']['high']:.0%})",
        f"{figures['mean_width_months']:.0f}",
    )


def _interval(found: Mapping[str, float], digits: int = 1, signed: bool = False) -> str:
    form = f"{'+' if signed else ''}.{digits}f"
    return f"{found['estimate']:{form}} ({found['low']:{form}} to {found['high']:{form}})"


def _applied(shrunk: Mapping[str, float]) -> float:
    return shrunk["estimate"] * shrunk["kept"] + 0.0  # so that no zero is negative


def _share(shrunk: Mapping[str, float], digits: int) -> str:
    return (
        f"{shrunk['estimate']:+.{digits}f}, standard error {shrunk['standard_error']:.{digits}f}, "
        f"{shrunk['kept']:.0%} kept"
    )
