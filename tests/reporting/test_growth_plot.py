"""The growth plot: marks and bands lie where ages and deviations are, and are told apart without colour."""

from __future__ import annotations

import io
import math
import re
from base64 import b64decode
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from boneage_fakes import assessment, graded_assessment
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from boneage.core.types import Assessment, Sex
from boneage.inference.reading import read_over
from boneage.reporting.growth_plot import (
    GrowthChart,
    caption,
    draw_growth,
    growth_chart,
    growth_figure,
    said,
    short_caption,
)
from boneage.standards.growth import bone_age_sd_score, reference_sd

PAGE, SMALL = (6.0, 3.4, 8.0), (3.3, 2.4, 6.8)
"""Inches and letters of the plot on the HTML page and on the PDF's."""

CHANGES = {"rus_chn": {"radius": 9}, "tw3": {"ulna": "H", "radius": "I"}, "chn": {"capitate": 3}}


def read(age_months: float = 120.0, **changes: Any) -> Assessment:
    """A graded girl whose reader changed grades of three standards."""
    return read_over(graded_assessment(age_months=age_months, **changes), CHANGES)


def chart_of(made: Assessment) -> GrowthChart:
    found = growth_chart(made)
    assert found is not None
    return found


def drawn(chart: GrowthChart, size: tuple[float, float, float] = PAGE) -> Axes:
    figure = Figure(figsize=size[:2], dpi=100)
    axes = figure.add_axes((0.1, 0.15, 0.77, 0.83))
    draw_growth(axes, chart, size[2])
    FigureCanvasAgg(figure).draw()
    return axes


def marks(axes: Axes) -> dict[str, Line2D]:
    """What the legend names, by the words before the colon."""
    return {
        str(line.get_label()).split(":")[0]: line
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


@pytest.mark.parametrize(
    ("sex", "age", "known"),
    [
        (Sex.MALE, None, False), (Sex.MALE, 2.9, False), (Sex.MALE, 3.0, True), (Sex.MALE, 204.0, True),
        (Sex.MALE, 204.1, False), (Sex.FEMALE, 192.0, True), (Sex.FEMALE, 192.1, False),
        (Sex.FEMALE, 600.0, False), (Sex.FEMALE, -3.0, False), (Sex.FEMALE, math.nan, False),
    ],
)  # fmt: skip
def test_there_is_a_plot_where_the_reference_reaches_the_age(
    sex: Sex, age: float | None, known: bool
) -> None:
    made = assessment(sex=sex, chronological_age_months=age)
    assert (growth_chart(made) is not None) is known
    assert bool(list(growth_figure(made))) is known


@pytest.mark.parametrize(
    "changes", [{"bone_age_months": math.nan}, {"interval_months": (1.0, math.inf)}], ids=["age", "interval"]
)
def test_what_is_no_number_is_not_drawn(changes: dict[str, Any]) -> None:
    assert growth_chart(assessment(chronological_age_months=120.0, **changes)) is None


@settings(deadline=None, max_examples=60)
@given(age=st.floats(3, 192), bone_age=st.floats(0, 240), sex=st.sampled_from(Sex))
def test_the_plot_uses_the_score_s_own_reference_and_deviation(age: float, bone_age: float, sex: Sex) -> None:
    made = assessment(
        sex=sex, chronological_age_months=age, bone_age_months=bone_age, interval_months=(bone_age, bone_age)
    )
    score, chart = bone_age_sd_score(bone_age, age, sex), chart_of(made)
    assert chart.reference == score.reference
    assert chart.sd_score == pytest.approx(score.value, abs=1e-9)


def test_marks_lie_at_the_ages() -> None:
    made = read()
    axes = drawn(chart_of(made))
    found = marks(axes)
    machine = found.pop("machine")
    assert (machine.get_xdata(), machine.get_ydata()) == ([10.0], [pytest.approx(124.25 / 12)])
    bars = [line for line in axes.lines if line.get_marker() == "_"]
    assert [list(map(float, line.get_ydata())) for line in bars] == [pytest.approx([110.5 / 12, 138 / 12])]
    ages = {sheet.standard: sheet.age_months for sheet in made.reading}
    assert list(found) == ["reader, RUS-CHN", "reader, TW3-RUS", "reader, CHN"]
    for name, line in zip(ages, found.values(), strict=True):
        assert float(line.get_ydata()[0]) == pytest.approx(ages[name] / 12)


def test_readers_marks_stand_beside_the_line_of_the_age_each_in_its_own_shape() -> None:
    axes = drawn(chart_of(read()))
    machine, *readers = marks(axes).values()
    assert machine.get_marker() == "o" and machine.get_markerfacecolor() != "white"
    assert {line.get_markerfacecolor() for line in readers} == {"white"}
    assert len({line.get_marker() for line in (machine, *readers)}) == 4
    at = [line.get_transform().transform((10.0, 5.0))[0] for line in (machine, *readers)]
    assert all(abs(one - other) > 8 for one, other in combinations(at, 2))


def test_a_sheet_without_a_total_has_no_mark() -> None:
    made = read_over(graded_assessment(missing=("radius",), age_months=120.0), {"tw3": {"ulna": "H"}})
    assert made.reading and chart_of(made).read == {}
    assert "Open shapes" not in caption(chart_of(made))


@pytest.mark.parametrize("sex", Sex)
def test_bands_are_one_and_two_deviations_of_the_reference(sex: Sex) -> None:
    axes = drawn(chart_of(assessment(sex=sex, chronological_age_months=120.0)))
    ages, deviations, _ = (
        np.array(values) if index < 2 else values for index, values in enumerate(reference_sd(sex))
    )
    bands = [one for one in axes.collections if isinstance(one, PolyCollection)]
    for count, band in zip((2, 1), bands, strict=True):
        corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
        for age, deviation in zip(ages / 12, deviations / 12, strict=True):
            for sign in (-1, 1):
                assert (round(age, 6), round(age + sign * count * deviation, 6)) in corners
    equal = [line for line in axes.lines if line.get_linestyle() == "-" and line.get_marker() == "None"]
    assert any(np.array_equal(line.get_xdata(), line.get_ydata()) for line in equal)
    edges = {line.get_linestyle() for line in axes.lines if line.get_marker() == "None"}
    assert {"-", "--", "-."} <= edges


def test_bands_differ_in_grey() -> None:
    axes = drawn(chart_of(assessment(chronological_age_months=60.0)))
    figure = axes.figure
    assert isinstance(figure, Figure) and isinstance(figure.canvas, FigureCanvasAgg)
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] @ np.array([0.299, 0.587, 0.114])
    deviation = 11.73 / 12
    levels = []
    for count in (0.5, 1.5, 3.0):
        x, y = axes.transData.transform((10.0, 10.0 - count * deviation))
        levels.append(float(pixels[len(pixels) - round(y), round(x)]))
    assert levels[2] == pytest.approx(255) and all(high - low > 15 for low, high in pairwise(levels))


@pytest.mark.parametrize("size", [PAGE, SMALL])
@pytest.mark.parametrize(("sex", "age"), [(Sex.FEMALE, 120.0), (Sex.MALE, 120.0), (Sex.MALE, 30.0)])
def test_bands_are_named_at_the_right_edge(sex: Sex, age: float, size: tuple[float, float, float]) -> None:
    made = assessment(
        sex=sex, chronological_age_months=age, bone_age_months=age, interval_months=(age - 9, age + 9)
    )
    axes = drawn(chart_of(made), size)
    names = sorted((one for one in axes.texts if isinstance(one, Annotation)), key=lambda one: one.xyann[1])
    assert [name.get_text() for name in names] == ["-2 SD", "-1 SD", "equal", "+1 SD", "+2 SD"]
    boxes = [super(Annotation, name).get_window_extent() for name in names]
    for lower, upper in pairwise(boxes):
        assert lower.y1 <= upper.y0 + 1
    assert all(box.x0 >= axes.bbox.x1 and box.x1 <= axes.figure.bbox.x1 for box in boxes)
    points = [name.xy[1] for name in names]
    assert points == sorted(points) and points[2] == pytest.approx(axes.get_xlim()[1])


@pytest.mark.parametrize(
    ("age", "bone_age", "frame"),
    [
        (24.0, 30.0, (6.0, 8.0)),
        (60.0, 71.0, (16.0, 20.0)),
        (66.0, 50.0, (6.0, 8.0)),
        (30.0, 90.0, (16.0, 20.0)),
        (150.0, 229.0, (16.0, 20.0)),
        (150.0, 236.0, (16.0, 21.0)),
    ],
)
def test_a_small_child_has_a_narrower_frame(age: float, bone_age: float, frame: tuple[float, float]) -> None:
    made = assessment(
        chronological_age_months=age, bone_age_months=bone_age, interval_months=(bone_age - 6, bone_age + 6)
    )
    assert chart_of(made).frame == frame


@pytest.mark.parametrize("size", [PAGE, SMALL])
@pytest.mark.parametrize(
    ("age", "bone_age"),
    [
        (age, bone_age)
        for age in (4.0, 40.0, 70.0, 100.0, 130.0, 160.0, 192.0)
        for bone_age in (5.0, 70.0, 120.0, 170.0, 228.0)
        if -100 < bone_age - age < 150  # a child's ages lie no further apart
    ],
)
def test_the_legend_hides_no_mark(age: float, bone_age: float, size: tuple[float, float, float]) -> None:
    chart = replace(
        chart_of(read(age)),
        bone_age=bone_age / 12,
        interval=(bone_age / 12 - 1, bone_age / 12 + 1),
    )
    axes = drawn(chart, size)
    box = axes.get_legend().get_window_extent()
    ends = [axes.transData.transform((chart.chronological, y)) for y in (*chart.interval, chart.bone_age)]
    readers = [line for name, line in marks(axes).items() if name != "machine"]
    at = [line.get_transform().transform((chart.chronological, line.get_ydata()[0])) for line in readers]
    assert not [point for point in (*ends, *at) if box.contains(*point)]


def test_the_figure_needs_no_other_file_and_says_what_it_shows() -> None:
    made = read()
    (figure,) = growth_figure(made)
    alternative, data = re.findall(r'alt="([^"]+)" src="data:image/svg\+xml;base64,([^"]+)"', figure)[0]
    assert alternative.startswith(
        "Growth plot: bone age 10 y 4 m (9 y 2 m to 11 y 6 m) at the age of 10 y 0 m"
    )
    assert "+0.4 SD of Brush Foundation" in alternative and "reader&#x27;s grades RUS-CHN " in alternative
    root = ElementTree.fromstring(b64decode(data))
    assert root.tag.endswith("svg")
    links = [value for part in root.iter() for name, value in part.attrib.items() if name.endswith("href")]
    assert links and all(link.startswith("#") for link in links)
    assert figure.count("Brush Foundation, in Greulich and Pyle 1959 (girls)") == 2
    assert figure == "".join(growth_figure(made)), "the same each time"


def test_every_caption_names_the_reference_and_whose_it_is() -> None:
    for sex, whose in ((Sex.FEMALE, "(girls)"), (Sex.MALE, "(boys)")):
        chart = chart_of(assessment(sex=sex, chronological_age_months=120.0))
        for text in (caption(chart), short_caption(chart), said(chart)):
            assert "Brush Foundation, in Greulich and Pyle 1959" in text and whose in text


def test_an_interval_that_does_not_hold_the_age_is_drawn_as_it_is() -> None:
    made = assessment(chronological_age_months=120.0, interval_months=(130.0, 140.0))
    file = io.BytesIO()
    drawn(chart_of(made)).figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
