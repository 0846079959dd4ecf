"""Ages drawn on one scale from 0 to 20 years: the answer, and the probabilities of age intervals below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from boneage.core.types import AgeDistribution, Assessment
from boneage.reporting.tabular import likely_intervals, percentage, years_and_months

_SCALE_MONTHS = 240
"""Right end of the scale: the standards end at 18 to 20 years."""

_BAR_HEIGHT = 48.0
_LABEL_WIDTH = 24.0
"""Of a bar that has room for its per cent."""

_LEAST_DRAWN = 0.005


def age_scale(assessment: Assessment) -> str:
    """Return a scale from 0 to 20 years with the interval, the bone age and the chronological age."""
    low, high = (_at(age) for age in assessment.interval_months)
    mark = _at(assessment.bone_age_months)
    said = f"bone age {years_and_months(assessment.bone_age_months)} with its interval"
    shape = (
        f'<rect x="{low:.1f}" y="14" width="{max(high - low, 1.0):.1f}" height="12" rx="2" fill="#a9d2e6"/>'
        f'<rect x="{mark - 1.5:.1f}" y="9" width="3" height="22" fill="#0b5f8a"/>'
    )
    if assessment.chronological_age_months is not None:
        x = _at(assessment.chronological_age_months)
        shape += f'<path d="M{x:.1f} 12 l-5 -9 h10 z" fill="#17212b"/>'
        said += f"; chronological age {years_and_months(assessment.chronological_age_months)} (triangle)"
    return _drawing(54, said, _axis(30) + shape, "ages") + _caption(f"Years of age: {said}.")


def interval_chart(assessment: Assessment) -> str:
    """Return a bar for the probability of every age interval, on the same scale; nothing without any."""
    distribution = assessment.distribution
    if distribution is None:
        return ""
    foot, mark = _BAR_HEIGHT + 18, _at(assessment.bone_age_months)
    shape = (
        f"{_axis(foot)}{''.join(_bars(distribution, foot))}"
        f'<line x1="{mark:.1f}" x2="{mark:.1f}" y1="2" y2="{foot:.1f}" stroke="#17212b" stroke-width="1.5" '
        f'stroke-dasharray="4 3"/>{"".join(_shares(distribution, foot))}'
    )
    named = ", ".join(f"{name} {percentage(share)}" for name, share in likely_intervals(distribution))
    said = f"probabilities of age intervals: {named}; the dashed line is the bone age"
    return _drawing(foot + 24, said, shape, "intervals") + _caption(
        "How probable it is that the bone age lies in each interval, by the network that classifies ages: "
        f"{named}. Dashed: the bone age above."
    )


@dataclass(frozen=True, slots=True)
class _Bar:
    """A bar of the chart, in the drawing's units; `height` is above its foot."""

    x: float
    width: float
    height: float
    share: float


def _visible(distribution: AgeDistribution) -> Iterator[_Bar]:
    """Return the bars of the intervals that have half a per cent or more."""
    tallest = max(distribution.probabilities)
    pairs = zip(distribution.intervals_months, distribution.probabilities, strict=True)
    for (low, high), share in pairs:
        if share >= _LEAST_DRAWN:
            yield _Bar(_at(low), _at(high) - _at(low), _BAR_HEIGHT * share / tallest, share)


def _bars(distribution: AgeDistribution, foot: float) -> Iterator[str]:
    for bar in _visible(distribution):
        yield (
            f'<rect x="{bar.x:.1f}" y="{foot - bar.height:.1f}" width="{bar.width:.1f}" '
            f'height="{bar.height:.1f}" fill="#a9d2e6" stroke="#0b5f8a"/>'
        )


def _shares(distribution: AgeDistribution, foot: float) -> Iterator[str]:
    """Return the per cent above the bars that have room for it, and above the tallest."""
    for bar in _visible(distribution):
        if bar.width >= _LABEL_WIDTH or bar.height == _BAR_HEIGHT:
            yield (
                f'<text x="{bar.x + bar.width / 2:.1f}" y="{foot - bar.height - 4:.1f}" font-size="11" '
                'fill="#17212b" text-anchor="middle" stroke="#fff" stroke-width="4" paint-order="stroke">'
                f"{escape(percentage(bar.share))}</text>"
            )


def _at(age_months: float) -> float:
    """Return where an age lies on the scale, in the drawing's units; beyond its ends, at them."""
    return 10.0 + 580.0 * min(max(age_months / _SCALE_MONTHS, 0.0), 1.0)


def _axis(y: float) -> str:
    years = [(year, _at(12 * year)) for year in range(0, _SCALE_MONTHS // 12 + 1, 2)]
    ticks = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:g}" y2="{y + 5:g}" stroke="#52606d"/>'
        f'<text x="{x:.1f}" y="{y + 18:g}" text-anchor="middle">{year}</text>'
        for year, x in years
    )
    return (
        '<g font-size="11" fill="#52606d" font-family="inherit">'
        f'<line x1="10" x2="590" y1="{y:g}" y2="{y:g}" stroke="#52606d"/>{ticks}</g>'
    )


def _drawing(height: float, said: str, shape: str, name: str) -> str:
    return (
        f'<svg class="{name}" style="grid-column:1/-1" viewBox="0 0 600 {height:g}" role="img" '
        f'aria-label="{escape(said)}">{shape}</svg>'
    )


def _caption(text: str) -> str:
    return f'<p class="soft" style="grid-column:1/-1">{escape(text)}</p>'
