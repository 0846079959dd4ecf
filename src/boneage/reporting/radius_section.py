"""The report's part on the radius' sub-grade: the child's radius beside mean ones, and the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.core.types import Assessment, RadiusSubgrade, Sex
from boneage.reporting import overlay
from boneage.reporting.markup import embedded, table
from boneage.reporting.tabular import years_and_months
from boneage.standards.names import Bone
from boneage.standards.scoring import standard
from boneage.standards.subgraded import subgrade_name

WHOLE, SUBGRADED = "chn", "chn_radius_subgraded"
"""The standards whose totals differ by the radius' sub-grade alone."""

SIDE_PX = 256
WHOSE = {Sex.FEMALE: "girls", Sex.MALE: "boys"}
OWN = "\N{LEFTWARDS ARROW} this radius"


def radius_words(radius: RadiusSubgrade) -> str:
    """Return a radius' sub-grade and score as people write them: `CHN 5_5 (between 5 and 6), score 65`."""
    between = "" if radius.between is None else f" (between {radius.between[0]} and {radius.between[1]})"
    return f"CHN {radius.name}{between}, score {radius.score:g}"


def totals_words(radius: RadiusSubgrade, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return CHN's totals with a radius' sub-grade and with its whole grade; empty where they are one."""
    if radius.between is None or SUBGRADED not in scores or WHOLE not in scores:
        return ""
    own, whole = (
        f"{scores[name]['total']:.0f} ({years_and_months(scores[name]['age_months'])})"
        for name in (SUBGRADED, WHOLE)
    )
    return f"CHN total {own}, with the radius' whole grade {whole}"


def radius_section(assessment: Assessment) -> Iterator[str]:
    """Return the section; nothing where no sub-grade was asked for or the radius has no grade."""
    radius = assessment.radius_subgrade
    if radius is None:
        return
    yield f'<section class="radius"><h3>Radius</h3><p><strong>{escape(radius_words(radius))}</strong></p>'
    if radius.means:
        yield f'<div class="radii">{"".join(_figures(radius))}</div>'
        yield _score_table(radius, assessment.sex)
    else:
        yield f"<p>CHN's grade {radius.grade} has no sub-grade beside it.</p>"
    totals = totals_words(radius, assessment.scores)
    lines = [*_positions(radius), *([f"{totals}."] if totals else [])]
    yield "".join(f"<p>{escape(line)}</p>" for line in lines)
    yield (
        '<p class="soft">The whole grade is the one under Grades and scores. The sub-grades between whole '
        "grades are groups of radii that clustering found, which no reader has graded; radii of one grade "
        "spread widely around their mean. The bone age does not rest on them.</p></section>"
    )


def _figures(radius: RadiusSubgrade) -> Iterator[str]:
    if radius.view is not None:
        yield _figure(radius.view * 255, "This child's radius", ["This child"], "child")
    for mean in radius.means:
        own = mean.grade == radius.subgrade
        caption = [f"{mean.name}, mean of {mean.count}", *([OWN] if own else [])]
        yield _figure(mean.image, f"Mean radius of grade {mean.name}", caption, "own" if own else "")


def _figure(
    pixels: NDArray[np.uint8] | NDArray[np.float32], alternative: str, caption: Sequence[str], kind: str
) -> str:
    bytes_ = np.clip(np.asarray(pixels, dtype=np.float32) + 0.5, 0, 255).astype(np.uint8)
    large = cv2.resize(bytes_, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    picture: overlay.Picture = np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    opened = f'<figure class="{kind}">' if kind else "<figure>"
    return (
        f'{opened}<img alt="{escape(alternative)}" src="{embedded(picture)}">'
        f"<figcaption>{'<br>'.join(map(escape, caption))}</figcaption></figure>"
    )


def _score_table(radius: RadiusSubgrade, sex: Sex) -> str:
    """Return the scores of all grades that have a sub-grade beside them, and of the radius' own."""
    chosen = standard(SUBGRADED)
    grades = chosen.grades(Bone.RADIUS)
    split = [grade for grade in grades if grade % 1]
    shown = sorted({grade for grade in grades if min(split) - 1 < grade < max(split) + 1} | {radius.subgrade})
    rows = [
        (
            subgrade_name(grade),
            f"{chosen.grade_score(sex, Bone.RADIUS, grade):g}",
            OWN if grade == radius.subgrade else "",
        )
        for grade in shown
    ]
    return table(("CHN grade", f"Score, {WHOSE[sex]}", ""), rows, marked=shown.index(radius.subgrade))


def _positions(radius: RadiusSubgrade) -> Iterator[str]:
    for pair, way in radius.position.items():
        low, high = pair.split("-")
        yield f"On the way from the mean of grade {low} (0) to that of grade {high} (1) it lies at {way:.2f}."
