"""Ages drawn on one scale from 0 to 20 years: the answer, probabilities of age intervals, hands alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from boneage.core.types import AgeDistribution, Assessment, HandGroup, TypicalAge
from boneage.reporting.tabular import likely_intervals, percentage, years_and_months

_SCALE_MONTHS = 240
"""Right end of the scale: the standards end at 18 to 20 years."""

_BAR_HEIGHT = 48.0
_LABEL_WIDTH = 24.0
"""Of a bar that has room for its per cent."""

_LEAST_DRAWN = 0.005

_ROW = 34.0
"""Height of a row of the neighbours' chart; what is drawn in it lies about its middle line."""

_MIDDLE = _ROW / 2
_TITLE_WIDTH = 150.0
"""Of a row, at most; it stands to the left where that is free, else to the right."""


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
    foot = _BAR_HEIGHT + 18
    shape = (
        f"{_axis(foot)}{''.join(_bars(distribution, foot))}{_answer(assessment, foot)}"
        f"{''.join(_shares(distribution, foot))}"
    )
    named = ", ".join(f"{name} {percentage(share)}" for name, share in likely_intervals(distribution))
    said = f"probabilities of age intervals: {named}; the dashed line is the bone age"
    return _drawing(foot + 24, said, shape, "intervals") + _caption(
        "How probable it is that the bone age lies in each interval, by the network that classifies ages: "
        f"{named}. Dashed: the bone age above."
    )


def neighbours_chart(assessment: Assessment) -> str:
    """Return the bone ages of training hands alike, a row a kind, on the same scale; nothing without any."""
    near, rows, said, marks = assessment.neighbours, [], [], []
    if near is not None and near.group is not None and near.group.percentiles_months:
        low, _, median, _, high = (years_and_months(age) for age in near.group.percentiles_months)
        rows.append(_spread(near.group))
        said.append(f"the group's bone ages from {low} to {high} (5% to 95%), median {median}")
        marks.append("The group: thin bar from 5% to 95%, thick bar from 25% to 75%, tick at the median.")
    if near is not None and near.typical is not None:
        rows.append(_whisker(near.typical))
        said.append(f"most alike in maturity {years_and_months(near.typical.mean_months)}")
        marks.append("Most alike in maturity: ring at the mean, line one SD to either side.")
    if not rows:
        return ""
    foot = _ROW * len(rows) + 2
    said.append(f"the bone age of this hand {years_and_months(assessment.bone_age_months)} (dashed)")
    placed = (f'<g transform="translate(0 {_ROW * at:g})">{row}</g>' for at, row in enumerate(rows))
    shape = f"{_axis(foot)}{''.join(placed)}{_answer(assessment, foot)}"
    caption = ["Years of age.", *marks, "Dashed: the bone age of this hand."]
    return _drawing(foot + 24, "; ".join(said), shape, "neighbours") + _caption(" ".join(caption))


def _spread(group: HandGroup) -> str:
    """Return a row: a thin bar for nine hands in ten, a thick one for half of them, a tick at the median."""
    p5, p25, p50, p75, p95 = (_at(age) for age in group.percentiles_months)
    return (
        f"{_title('the group', p5)}"
        f"{_box(p5, p95, 8)}{_box(p25, p75, 18)}"
        f'<rect x="{p50 - 1.5:.1f}" y="{_MIDDLE - 12:g}" width="3" height="24" fill="#17212b"/>'
    )


def _whisker(typical: TypicalAge) -> str:
    """Return a row: a line from one standard deviation below the mean to one above, a ring at the mean."""
    mean, spread = typical.mean_months, typical.sd_months
    low, at, high = _at(mean - spread), _at(mean), _at(mean + spread)
    ends = "".join(f"M{x:.1f} {_MIDDLE - 6:g} v12 " for x in (low, high))
    return (
        f"{_title('most alike in maturity', low)}"
        f'<path d="{ends}M{low:.1f} {_MIDDLE:g} H{high:.1f}" stroke="#17212b" stroke-width="2" fill="none"/>'
        f'<circle cx="{at:.1f}" cy="{_MIDDLE:g}" r="5" fill="#fff" stroke="#17212b" stroke-width="2"/>'
    )


def _box(low: float, high: float, height: float) -> str:
    return (
        f'<rect x="{low:.1f}" y="{_MIDDLE - height / 2:g}" width="{max(high - low, 1.0):.1f}" '
        f'height="{height:g}" fill="#a9d2e6" stroke="#0b5f8a"/>'
    )


def _title(text: str, begin: float) -> str:
    """Return a row's title, beside what is drawn from `begin` on."""
    x, anchor = (10, "start") if begin > _TITLE_WIDTH else (590, "end")
    return (
        f'<text x="{x}" y="{_MIDDLE + 4:g}" font-size="11" fill="#17212b" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _answer(assessment: Assessment, foot: float) -> str:
    """Return a dashed line at the bone age, down to `foot`."""
    x = _at(assessment.bone_age_months)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{foot:.1f}" stroke="#17212b" stroke-width="1.5" '
        'stroke-dasharray="4 3"/>'
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
