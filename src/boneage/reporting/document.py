"""The HTML report: one self-contained page that reads and prints well and names what made it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from boneage.core.types import Assessment, FloatArray, Region, Sex
from boneage.reporting import overlay
from boneage.reporting.age_scale import age_scale, interval_chart
from boneage.reporting.growth import GrowthLine, age_lines, height_lines
from boneage.reporting.growth_plot import growth_figure
from boneage.reporting.markup import embedded, table
from boneage.reporting.neighbours_section import neighbours_section
from boneage.reporting.radius_section import radius_section
from boneage.reporting.reading_section import read_age_words, readers_line, reading_section
from boneage.reporting.tabular import Failure, percentage, plain, years_and_months
from boneage.standards.names import TW3_STAGES, Bone
from boneage.standards.scoring import standard

FOOTER = "Research use only; not a medical device."
DRAWN = "drawn_hand"
"""Code of the notice that says that the image is a drawn hand."""


def html(
    assessments: Iterable[Assessment],
    images: Iterable[FloatArray],
    saliencies: Iterable[FloatArray | None],
    failures: Iterable[Failure] = (),
) -> str:
    """Return one HTML5 page for assessments and their images, in order, and for what failed.

    Args:
        assessments: one an image.
        images: for each, the (H, W) float32 radiograph in [0, 1].
        saliencies: for each, the (H, W) map in [0, 1] of where the method looked, or None.
        failures: images that got no bone age; they are listed with their reasons.
    """
    triples = zip(assessments, images, saliencies, strict=True)
    return page((article(*triple) for triple in triples), failures)


def page(articles: Iterable[str], failures: Iterable[Failure] = ()) -> str:
    """Return the page around articles made by `article`, so that no image need stay in memory."""
    style = files("boneage.reporting").joinpath("document.css").read_text(encoding="utf-8")
    body = "\n".join([*articles, *_failures(tuple(failures))])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Bone age report</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        '<header><h1>Bone age report</h1><p class="soft">Read by machine from a radiograph of the hand. '
        f"{FOOTER}</p></header>\n<main>\n{body}\n</main>\n"
        f"<footer><p>Made by boneage. {FOOTER}</p></footer>\n</body>\n</html>\n"
    )


def article(assessment: Assessment, image: FloatArray, saliency: FloatArray | None = None) -> str:
    """Return one assessment's part of the page; arrays as in `html`."""
    return "\n".join(
        [
            f"<article><h2>{escape(assessment.path or 'Radiograph')}</h2>",
            *_notices(assessment),
            _answer(assessment),
            *_ages(assessment),
            _pictures(assessment, image, saliency),
            *_growth(assessment),
            *_scores(assessment, image),
            *reading_section(assessment),
            *radius_section(assessment),
            *neighbours_section(assessment),
            _provenance(assessment),
            "</article>",
        ]
    )


def _notices(assessment: Assessment) -> Iterator[str]:
    if any(notice.code == DRAWN for notice in assessment.warnings):
        yield '<p class="drawn">A drawn hand, not a patient.</p>'
    others = [notice for notice in assessment.warnings if notice.code != DRAWN]
    if others:
        items = "".join(f"<li>Warning: {escape(notice.text)}</li>" for notice in others)
        yield f'<ul class="notices">{items}</ul>'


def _answer(assessment: Assessment) -> str:
    low, high = assessment.interval_months
    facts = {
        "Sex": str(assessment.sex),
        f"{assessment.coverage:.0%} interval": f"{years_and_months(low)} to {years_and_months(high)}",
        "In months": f"{assessment.bone_age_months:.1f} ({low:.1f} to {high:.1f})",
    }
    chronological = assessment.chronological_age_months
    if chronological is not None:
        facts["Chronological age"] = f"{years_and_months(chronological)} ({chronological:.1f} months)"
        facts["Difference"] = _difference(assessment.bone_age_months - chronological)
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    line = readers_line(assessment)
    read = f'<p class="read">{escape(line)}</p>' if line else ""
    return (
        f'<div class="answer"><div><p class="soft">Bone age</p>'
        f'<p class="age">{years_and_months(assessment.bone_age_months)}</p></div>'
        f"<div><dl>{items}</dl></div>{read}{age_scale(assessment)}{interval_chart(assessment)}</div>"
    )


def _difference(months: float) -> str:
    if abs(months) < 0.5:
        return "bone age equals chronological age"
    much = "1 month" if round(abs(months)) == 1 else f"{abs(months):.0f} months"
    return f"bone age is {much} {'ahead of' if months > 0 else 'behind'} chronological age"


def _pictures(assessment: Assessment, image: FloatArray, saliency: FloatArray | None) -> str:
    hand = assessment.hand
    legend = "".join(
        f'<span class="key" style="background:rgb({red},{green},{blue})"></span>{name}'
        for name, (blue, green, red) in (
            ("hand box", overlay.BOX_COLOUR),
            ("outline", overlay.OUTLINE_COLOUR),
            *((("key points", overlay.KEYPOINT_COLOUR),) if hand.keypoints_px else ()),
        )
    )
    side = "" if hand.side is None else f"{hand.side} hand, "
    found = f"{side}found by the {escape(hand.method)} localiser, confidence {hand.confidence:.2f}"
    figures = [
        '<figure><img alt="Radiograph with the hand as found" '
        f'src="{embedded(overlay.outline(image, hand))}">'
        f"<figcaption>The hand as found:{legend}<br>{found}</figcaption></figure>"
    ]
    if saliency is not None:
        figures.append(
            f'<figure><img alt="Map of the areas that the reading rests on" '
            f'src="{embedded(overlay.heat(image, saliency))}"><figcaption>Where the reading rests: '
            'how much the whole-hand age changes when an area is hidden<div class="scale"><span>little</span>'
            f'<img alt="colour scale from little to much" src="{embedded(overlay.heat_legend())}">'
            "<span>much</span></div></figcaption></figure>"
        )
    single = "" if len(figures) > 1 else " single"
    return f'<div class="pictures{single}">{"".join(figures)}</div>'


METHOD_NAMES = {
    "hand_regression": "Whole hand, direct",
    "age_intervals": "Whole hand, age intervals",
    "rus_chn": "RUS-CHN, expected score",
    "tw3": "TW3-RUS, expected score",
    "chn": "CHN, expected score",
}
"""Method or standard -> what a report calls its bone age."""

SHEET = {"rus_chn": "RUS-CHN", "tw3": "TW3-RUS", "chn": "CHN"}
"""Standard -> the title of its column."""

NOT_USED, NOT_GRADED = "\N{EN DASH}", "not graded"


def _ages(assessment: Assessment) -> Iterator[str]:
    rows = [
        (METHOD_NAMES.get(name, name), f"{years_and_months(age)} ({age:.1f} months)")
        for name, age in assessment.ages.items()
    ]
    rows += [
        (f"{standard(sheet.standard).title}, reader's grades", read_age_words(sheet))
        for sheet in assessment.reading
    ]
    if len(rows) > 1:
        yield "<h3>By method</h3>" + table(("Method", "Bone age"), rows)


def _scores(assessment: Assessment, image: FloatArray) -> Iterator[str]:
    if not assessment.regions:
        return
    picture = overlay.graded_regions(
        image, assessment.regions, assessment.hand.box_px, reading=assessment.reading
    )
    read = overlay.readers_caption(assessment.regions, assessment.reading)
    yield (
        '<section class="grades"><h3>Grades and scores</h3>'
        f'<figure class="wide"><img alt="Radiograph with the graded regions" src="{embedded(picture)}">'
        "<figcaption>The graded bones (mc metacarpal; pp, mp, dp proximal, middle and distal phalanx; 1 is "
        "the thumb's) with their RUS-CHN grades, capitate and hamate with CHN's; ? was not graded."
        f"{f' {escape(read)}' if read else ''}</figcaption></figure>"
    )
    rows = [_bone_row(region, assessment.sex) for region in assessment.regions]
    totals = [assessment.scores.get(name) for name in SHEET]
    feet = [
        ("Total", *(_total(score, "total", "age_months") for score in totals), ""),
        (
            "Expected total",
            *(_total(score, "expected_total", "expected_age_months") for score in totals),
            "",
        ),
    ]
    yield table(("Bone", *SHEET.values(), "Confidence"), rows, feet=feet)
    yield (
        '<p class="soft">A grade with its score in brackets. Confidence: the network\'s probability of the '
        "grade. Expected total: scores weighed by the probabilities of all grades; a bone between two grades "
        "counts as such. The grades were learnt from bone ages, not from graders.</p>"
    )
    remarks = {remark: None for score in assessment.scores.values() for remark in score["remarks"]}
    if remarks:
        yield '<ul class="soft">' + "".join(f"<li>{escape(remark)}</li>" for remark in remarks) + "</ul>"
    yield "</section>"


def _bone_row(region: Region, sex: Sex) -> tuple[str, ...]:
    bone = Bone(region.bone)
    cells = [_grade(name, bone, region, sex) for name in SHEET]
    return bone.readable, *cells, "" if region.confidence is None else percentage(region.confidence)


def _grade(name: str, bone: Bone, region: Region, sex: Sex) -> str:
    """Return a bone's cell under a standard: its grade and score, or that there is none."""
    if bone not in standard(name).bones:
        return NOT_USED
    grade = region.grades.get(name)
    if grade is None:
        return NOT_GRADED
    shown = TW3_STAGES[round(grade)] if name == "tw3" else f"{grade:g}"
    return f"{shown} ({standard(name).grade_score(sex, bone, grade):g})"


def _total(score: Mapping[str, Any] | None, total: str, age_months: str) -> str:
    if score is None:
        return "a bone is missing"
    return f"{score[total]:.0f}: {years_and_months(score[age_months])}"


def _growth(assessment: Assessment) -> Iterator[str]:
    plot = "".join(growth_figure(assessment))
    lines = _lines(age_lines(assessment.growth))
    if plot or lines:
        told = table(("What", "Value", "Remarks"), lines) if lines else ""
        yield f'<section class="growth"><h3>Growth</h3>{plot}{told}</section>'
    if heights := _lines(height_lines(assessment.growth)):
        head = ("Method", "Adult height (SD of its error)", "Remarks, or why there is none")
        yield f'<section class="heights"><h3>Adult height</h3>{table(head, heights)}</section>'


def _lines(lines: Iterable[GrowthLine]) -> list[tuple[str, ...]]:
    return [(line.what, line.value, line.remarks) for line in lines]


def _provenance(assessment: Assessment) -> str:
    rows = [*_flat(plain(assessment.provenance))]
    if len(assessment.ages) == 1 and "method" not in assessment.provenance:
        rows.insert(0, ("method", next(iter(assessment.ages))))
    return "<h3>How this was made</h3>" + table(("What", "Value"), rows, code=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _failures(failures: tuple[Failure, ...]) -> Iterator[str]:
    if failures:
        rows = [(failure.path, failure.status, failure.message) for failure in failures]
        listed = table(("File", "Status", "Reason"), rows)
        yield f'<section class="failures"><h2>Not read: {len(failures)}</h2>{listed}</section>'
