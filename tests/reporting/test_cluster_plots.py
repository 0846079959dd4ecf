"""Figures of unsupervised age groups: what is drawn and printed, and that all can be read, in grey too."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from drawn_figures import Drawn, assert_readable, figures_of, panels, picture
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import Interval
from boneage.reporting import cluster_plots as plots
from boneage.reporting import image_plots as images
from boneage.reporting.cluster_plots import CoordinatePanel, MapPanel
from boneage.reporting.image_plots import Pair


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return figures_of((plots, images), monkeypatch)


def image(seed: int = 0, shape: tuple[int, ...] = (24, 20)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def steps(
    regions: int, count: int = 3, shape: tuple[int, int] = (24, 20)
) -> dict[str, dict[str, np.ndarray]]:
    return {
        f"{region} a carpal bone's region": {
            f"step {step}, adaptive threshold": image(10 * region + step, shape) for step in range(count)
        }
        for region in range(regions)
    }


def by_region(series: int, places: int, seed: int = 0) -> dict[str, dict[str, float | Interval]]:
    """Shares with an interval, a series above the other."""
    shares = (
        0.1 + 0.1 * np.arange(series)[:, None] + np.random.default_rng(seed).random((series, places)) / 20
    )
    return {
        f"{12 * (number + 1)} months": {
            str(place + 1): Interval(share, share - 0.04, share + 0.03) for place, share in enumerate(row)
        }
        for number, row in enumerate(shares.tolist())
    }


def tsne(count: int, seed: int = 0) -> MapPanel:
    rng = np.random.default_rng(seed)
    ages = rng.uniform(30, 210, count)
    return MapPanel(np.column_stack([ages, ages**1.5 / 10]) + rng.normal(0, 9, (count, 2)), ages)


def coordinate(
    count: int, rising: bool = True, seed: int = 0, note: str = "Spearman 0.93"
) -> CoordinatePanel:
    rng = np.random.default_rng(seed)
    ages = rng.uniform(30, 210, count)
    place = ages / 100 + rng.normal(0, 0.05, count)
    return CoordinatePanel(place if rising else -place, ages, note)


CLASSES = ["24 to 71 months", "72 to 119", "120 to 167", "168 to 216"]
PAPER = np.array(
    [
        [0, 2, 8, 25], [0, 4, 50, 13], [9, 63, 9, 0], [0, 3, 10, 48], [2, 35, 32, 0], [38, 5, 1, 0],
        [0, 0, 28, 38], [0, 10, 62, 7], [0, 0, 10, 52], [4, 2, 1, 0], [59, 6, 0, 0], [0, 0, 7, 90],
        [55, 15, 0, 0], [1, 10, 35, 3], [21, 2, 0, 0], [22, 56, 7, 0],
    ]
)  # fmt: skip
"""Paper 2, table 1."""
REFERENCE = {"paper, 16 groups": 0.7615, "paper, 64 groups": 0.7688, "all of one class, guessed": 0.41}

DRAWN = {
    "steps": lambda title="t", seed=0: images.steps_png(
        {**steps(3, 2), "5": {step: image(seed) for step in steps(1, 2)["0 a carpal bone's region"]}}, title
    ),
    "steps of one image": lambda title="t", seed=0: images.steps_png({"5": {"as cut": image(seed)}}, title),
    "lines": lambda title="t", seed=0: plots.lines_png(
        by_region(4, 19, seed),
        "share of the hands that are in their group's dominating class",
        "key region",
        title,
        {"paper, best region": 0.6542},
    ),
    "eight lines of long names": lambda title="t", seed=0: plots.lines_png(
        {f"variant, its name {'too ' * 15}long, {name}": row for name, row in by_region(8, 3, seed).items()},
        "accuracy",
        "groups",
        title,
        REFERENCE,
    ),
    "lines of long places": lambda title="t", seed=0: plots.lines_png(
        {"a": {f"{', '.join('123456789')}, {n}": 0.5 + 0.05 * n + 0.01 * seed for n in range(9)}},
        "accuracy",
        "combination of key regions",
        title,
    ),
    "map": lambda title="t", seed=0: plots.map_png({"960": tsne(96, seed), "1,440": tsne(144)}, title),
    "five maps": lambda title="t", seed=0: plots.map_png({str(n): tsne(9, seed) for n in range(5)}, title),
    "groups": lambda title="t", seed=0: plots.groups_png(
        {"seven": PAPER[:7] + seed, "four": PAPER[:4]}, CLASSES, title
    ),
    "many groups of many classes": lambda title="t", seed=0: plots.groups_png(
        {"12": np.random.default_rng(seed).integers(0, 99, (12, 16))},
        [f"{12 * n} to {12 * n + 11}" for n in range(16)],
        title,
    ),
    "pairs": lambda title="t", seed=0: images.pairs_png(
        [Pair(image(seed), image(n), f"boy, 120 months, and girl, 168 months: {n} apart") for n in range(5)],
        title,
    ),
    "a pair of unlike shapes": lambda title="t", seed=0: images.pairs_png(
        [Pair(image(seed, (40, 16)), image(1, (10, 30)), "first line\nsecond line")], title
    ),
    "coordinate": lambda title="t", seed=0: plots.coordinate_png(
        {"girls": coordinate(300, True, seed), "boys": coordinate(80, False)}, title
    ),
    "coordinate of one hand": lambda title="t", seed=0: plots.coordinate_png(
        {"a": CoordinatePanel([0.5], [120.0 + seed], "")}, title
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["steps", "lines", "map", "groups", "pairs", "coordinate"])
def test_pictures_are_of_sensible_size_and_differ_with_what_is_given(name: str) -> None:
    first = DRAWN[name]()
    height, width, _ = picture(first).shape
    assert 500 < width < 2200 and 300 < height < 1500
    assert picture(first).std() > 0
    assert first != DRAWN[name](seed=1)


@pytest.mark.parametrize("name", ["map", "coordinate of one hand"])
def test_the_same_gives_the_same_picture(name: str) -> None:
    assert DRAWN[name]() == DRAWN[name]()


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_covers_another_or_is_cut_off(name: str, drawn: Drawn) -> None:
    title = "Age groups without ages: a title of some length, which a narrow figure has to break into lines"
    assert_readable(drawn(lambda: DRAWN[name](title)), title)


def shown(axes: Axes) -> list[np.ndarray]:
    return [np.asarray(part.get_array()) for part in axes.images]


def inches(figure: Figure) -> tuple[float, float]:
    width, height = figure.get_size_inches()
    return float(width), float(height)


def luminance(colour: object) -> float:
    return float(np.dot(to_rgb(colour), [0.299, 0.587, 0.114]))


def test_steps_stand_in_columns_and_regions_in_rows(drawn: Drawn) -> None:
    given = {"1": {"cut": image(0), "equal": image(1)}, "19": {"cut": image(2), "equal": image(3)}}
    found = panels(drawn(lambda: images.steps_png(given)))
    assert [axes.get_title() for axes in found] == ["cut", "equal", "", ""]
    assert [axes.get_ylabel() for axes in found] == ["1", "", "19", ""]
    for axes, expected in zip(found, (part for row in given.values() for part in row.values()), strict=True):
        np.testing.assert_array_equal(shown(axes)[0], expected)
        assert axes.images[0].get_clim() == (0.0, 1.0), "a dark step stays dark"


def test_a_figure_of_steps_grows_with_rows_columns_and_tall_images(drawn: Drawn) -> None:
    def size(*given: object) -> tuple[float, float]:
        return inches(drawn(lambda: images.steps_png(steps(*given))))

    (width, height), (same, tall), (wide, flat) = size(2, 2), size(19, 2), size(2, 5)
    assert same == width and wide == pytest.approx(width + 3 * 1.5)
    assert tall == pytest.approx(height + 17 * (1.5 * 24 / 20 + 0.1)) and flat == height
    assert size(2, 2, (10, 20))[1] < height < size(2, 2, (30, 20))[1]


def lines(axes: Axes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A line's x and y by the name in the legend."""
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def test_shares_are_drawn_in_percent_in_the_order_of_the_first_mention(drawn: Drawn) -> None:
    given = {"960": {"16": 0.7, "4": 0.5}, "1,440": {"64": 0.8, "16": 0.6}}
    (axes,) = panels(drawn(lambda: plots.lines_png(given, "accuracy", "groups")))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "4", "64"]
    found = lines(axes)
    np.testing.assert_allclose(found["960"][1], [70, 50, np.nan])
    np.testing.assert_allclose(found["1,440"][1], [60, np.nan, 80])
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("accuracy (%)", "groups")
    for x, _ in found.values():
        np.testing.assert_array_equal(x, [0, 1, 2])


def test_an_interval_is_a_bar_and_a_number_has_none(drawn: Drawn) -> None:
    given = {"a": {"1": Interval(0.5, 0.4, 0.7), "2": 0.3}, "b": {"1": 0.2}}
    (axes,) = panels(drawn(lambda: plots.lines_png(given, "accuracy", "region")))
    found = [segment for part in axes.containers for segment in part[2][0].get_segments()]
    drawn_bars = np.array([bar for bar in found if bar.shape == (2, 2) and np.isfinite(bar).all()])
    np.testing.assert_allclose(drawn_bars[:, :, 1], [[40, 70]])
    (a, _), (b, _) = lines(axes).values()
    assert drawn_bars[0, :, 0] == pytest.approx([a[0], a[0]])
    assert a[0] < 0 < b[0], "beside each other, so that bars do not cover each other"


def test_an_estimate_outside_its_interval_is_drawn(drawn: Drawn) -> None:
    given = {"a": {"1": Interval(0.5, 0.6, 0.7)}}
    (axes,) = panels(drawn(lambda: plots.lines_png(given, "accuracy", "region")))
    (bar,) = axes.containers[0][2][0].get_segments()
    assert bar[:, 1] == pytest.approx([60, 70]) and lines(axes)["a"][1] == pytest.approx([50])


def test_eight_lines_differ_without_their_colours(drawn: Drawn) -> None:
    figure = drawn(lambda: plots.lines_png(by_region(8, 6), "accuracy", "groups"))
    handles = figure.legends[0].legend_handles
    dashes = {str(line._unscaled_dash_pattern) for line in handles}
    markers = {line.get_marker() for line in handles}
    assert len(dashes) == len(markers) == 8
    hollow = [line.get_markerfacecolor() == "white" for line in handles]
    assert hollow == [False, True] * 4
    assert all(luminance(line.get_color()) < 0.65 for line in handles), "dark enough on white"


def test_references_are_dotted_lines_named_where_they_are(drawn: Drawn) -> None:
    figure = drawn(lambda: plots.lines_png({"a": {"4": 0.5}}, "accuracy", "groups", reference=REFERENCE))
    (axes,) = panels(figure)
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in dotted] == pytest.approx([41, 76.15, 76.88])
    told = [text.get_text().replace("\n", " ") for text in axes.texts]
    assert told == ["all of one class, guessed: 41%", "paper, 16 groups: 76.15%", "paper, 64 groups: 76.88%"]
    heights = [text.get_position()[1] for text in axes.texts]
    assert heights == sorted(heights) and heights[2] - heights[1] > 0.7688 - 0.7615
    assert heights[0] == pytest.approx(41, abs=1.5), "one by itself stands at its line"
    low, high = axes.get_ylim()
    assert low < 41 and 76.88 < high <= 100


def test_levels_in_percent_end_at_0_and_100(drawn: Drawn) -> None:
    (axes,) = panels(drawn(lambda: plots.lines_png({"a": {"1": 0.0, "2": 1.0}}, "accuracy", "region")))
    assert axes.get_ylim() == (0.0, 100.0)


def test_a_figure_of_lines_grows_with_places_their_names_and_the_legend(drawn: Drawn) -> None:
    def size(given: dict[str, dict[str, float | Interval]]) -> tuple[float, float]:
        return inches(drawn(lambda: plots.lines_png(given, "accuracy", "region")))

    (width, height), (wide, same) = size(by_region(2, 12)), size(by_region(2, 24))
    assert wide > 1.6 * width and same == height
    long = {name: {f"region {place}": row[place] for place in row} for name, row in by_region(2, 12).items()}
    assert size(long)[0] > 1.3 * width
    names = {f"{name} {'x' * 60}": row for name, row in by_region(4, 12).items()}
    assert size(names)[1] > size(by_region(4, 12))[1] + 0.3


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([1.0, 5.0], [1.0, 5.0]),
        ([1.0, 1.5], [1.0, 3.0]),
        ([9.0, 9.5], [8.0, 10.0]),
        ([7.0, 8.0, 12.0], [6.0, 8.0, 10.0]),
        ([], []),
    ],
)
def test_labels_are_moved_no_further_than_needed(wanted: list[float], expected: list[float]) -> None:
    assert plots._apart(wanted, [2.0] * len(wanted), top=10.0) == pytest.approx(expected)


def test_a_map_shows_every_hand_with_its_age_in_years_on_one_scale(drawn: Drawn) -> None:
    given = {"a": tsne(40), "b": MapPanel([[0.0, 1.0], [5.0, 2.0]], [12.0, 227.0])}
    *found, bar = panels(drawn(lambda: plots.map_png(given)))
    for axes, panel in zip(found, given.values(), strict=True):
        (points,) = axes.collections
        rows = np.column_stack([points.get_offsets(), np.asarray(points.get_array())])
        expected = np.column_stack([panel.points, np.asarray(panel.ages) / 12])
        np.testing.assert_allclose(rows[np.argsort(rows[:, 2])], expected[np.argsort(expected[:, 2])])
        assert points.get_clim() == (1.0, 19.0)
        assert not len(axes.get_xticks()) and not len(axes.get_yticks())
    assert [axes.get_xlabel() for axes in found] == ["n = 40", "n = 2"]
    assert bar.get_ylabel() == "bone age (years)"


def test_the_older_is_the_lighter_in_grey(drawn: Drawn) -> None:
    figure = drawn(lambda: plots.map_png({"a": MapPanel(np.eye(18)[:, :2], np.arange(12, 228, 12))}))
    figure.draw_without_rendering()
    (points,) = panels(figure)[0].collections
    order = np.argsort(np.asarray(points.get_array()))
    shades = [luminance(colour) for colour in np.asarray(points.get_facecolor())[order]]
    assert (np.diff(shades) > 0).all() and shades[0] < 0.25 and shades[-1] > 0.75


def test_a_map_of_one_age_has_a_scale(drawn: Drawn) -> None:
    figure = drawn(lambda: plots.map_png({"a": MapPanel([[0.0, 0.0]], [120.0])}))
    assert panels(figure)[0].collections[0].get_clim() == (10.0, 11.0)


def bars(axes: Axes, classes: int) -> np.ndarray:
    """Lengths of the bars, (K, C), from the top."""
    return np.array([[bar.get_width() for bar in part] for part in axes.containers[:classes]]).T


def test_groups_stand_by_their_mean_class_and_keep_their_numbers(drawn: Drawn) -> None:
    (axes,) = panels(drawn(lambda: plots.groups_png({"paper": PAPER}, CLASSES)))
    order = [int(label.get_text()) for label in axes.get_yticklabels()]
    assert sorted(order) == list(range(16))
    np.testing.assert_array_equal(bars(axes, 4), PAPER[order])
    means = PAPER[order] @ np.arange(4) / PAPER[order].sum(axis=1)
    assert (np.diff(means) >= 0).all()
    bottom, top = axes.get_ylim()
    assert bottom > top, "the youngest is on top"


def test_parts_of_a_bar_follow_each_other(drawn: Drawn) -> None:
    (axes,) = panels(drawn(lambda: plots.groups_png({"a": np.array([[3, 2, 5, 1]])}, CLASSES)))
    assert [bar.get_x() for bar in axes.patches] == [0, 3, 5, 10]


def test_the_share_of_the_dominating_class_is_printed(drawn: Drawn) -> None:
    (axes,) = panels(drawn(lambda: plots.groups_png({"paper": PAPER}, CLASSES)))
    told = {
        int(label.get_text()): text for label, text in zip(axes.get_yticklabels(), axes.texts, strict=True)
    }
    printed = {0: "71%", 2: "78%", 4: "51%", 9: "57%", 10: "91%", 11: "93%"}  # by table 1
    assert {group: told[group].get_text() for group in printed} == printed
    assert told[11].xy == (97, 15), "at its bar's end"
    assert "76.1% of 960 in their group's dominating class" in axes.get_xlabel()


def test_a_group_without_hands_comes_last(drawn: Drawn) -> None:
    (axes,) = panels(drawn(lambda: plots.groups_png({"a": np.array([[0, 0], [0, 5], [5, 0]])}, ["a", "b"])))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "1", "0"]
    assert [text.get_text() for text in axes.texts] == ["100%", "100%", "nobody"]


@pytest.mark.parametrize("count", [4, 8, 16])
def test_a_class_has_its_hatch_and_the_older_is_the_lighter(count: int, drawn: Drawn) -> None:
    names = [str(number) for number in range(count)]
    figure = drawn(lambda: plots.groups_png({"a": np.ones((2, count), int)}, names))
    keys = figure.legends[0].get_patches()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    shades = [luminance(key.get_facecolor()[:3]) for key in keys]
    assert (np.diff(shades) > 0).all()
    hatches = [key.get_hatch() or "" for key in keys]
    assert len(set(hatches[:8])) == min(count, 8)
    assert all(one != other for one, other in pairwise(hatches))
    for key, shade in zip(keys, shades, strict=True):
        assert abs(luminance(key.get_edgecolor()[:3]) - shade) > 0.15, "a hatch is seen on its face"
    (axes,) = panels(figure)
    assert [bar.get_hatch() for bar in axes.patches[::2]] == [key.get_hatch() for key in keys]


def test_a_figure_of_groups_grows_with_the_groups(drawn: Drawn) -> None:
    few, many = (
        inches(drawn(lambda n=n: plots.groups_png({"a": np.ones((n, 4), int)}, CLASSES))) for n in (16, 64)
    )
    assert many[0] == few[0] and many[1] - few[1] == pytest.approx(48 * 0.23)


def test_pairs_are_numbered_and_shown_unchanged_side_by_side(drawn: Drawn) -> None:
    pairs = [
        Pair(image(0), image(1), "boy and girl"),
        Pair(image(2, (40, 20)), image(3, (20, 20)), "two\nlines"),
    ]
    found = panels(drawn(lambda: images.pairs_png(pairs)))
    assert [axes.get_title("left") for axes in found] == ["1", "2"]
    assert [axes.get_xlabel() for axes in found] == ["boy and girl", "two\nlines"]
    for axes, pair in zip(found, pairs, strict=True):
        for expected, actual in zip((pair.left, pair.right), shown(axes), strict=True):
            np.testing.assert_array_equal(actual, expected)
        assert all(part.get_clim() == (0.0, 1.0) for part in axes.images)
    (left, right) = (part.get_extent() for part in found[1].images)
    assert list(left) == [0.0, 0.5, 0.0, 1.0], "as high as the other, and as wide as its pixels say"
    assert right[0] > left[1] and right[1] - right[0] == pytest.approx(1.0)
    assert found[1].get_aspect() == 1.0


def test_a_figure_of_pairs_grows_with_the_captions_lines(drawn: Drawn) -> None:
    one, three = (
        inches(drawn(lambda c=caption: images.pairs_png([Pair(image(), image(), c)])))
        for caption in ("a", "a\nb\nc")
    )
    assert three[1] > one[1] + 0.3


def test_ages_are_drawn_in_years_against_the_coordinate_with_note_and_count(drawn: Drawn) -> None:
    given = {"girls": coordinate(50), "boys": coordinate(40, rising=False)}
    found = panels(drawn(lambda: plots.coordinate_png(given)))
    for axes, panel in zip(found, given.values(), strict=True):
        (points,) = axes.collections
        expected = np.column_stack([panel.position, np.asarray(panel.ages) / 12])
        np.testing.assert_allclose(np.asarray(points.get_offsets()), expected)
    girls, boys = ((text.get_text(), text.get_ha(), text.get_va()) for axes in found for text in axes.texts)
    assert girls == ("Spearman 0.93\nn = 50".replace(" = ", "\u00a0=\u00a0"), "left", "top")
    assert boys[1:] == ("right", "top"), "where no hands are"
    assert found[0].get_ylim() == found[1].get_ylim()


@pytest.mark.parametrize(("count", "window"), [(1, 1), (5, 5), (30, 9), (100, 10)])
def test_the_running_median_is_that_of_neighbours(count: int, window: int) -> None:
    rng = np.random.default_rng(1)
    position, years = rng.normal(size=count), rng.uniform(2, 18, count)
    order = np.argsort(position)
    expected = [
        (np.median(position[order[start:][:window]]), np.median(years[order[start:][:window]]))
        for start in range(count - window + 1)
    ]
    np.testing.assert_allclose(np.column_stack(plots._running_median(position, years)), expected)


def test_the_running_median_of_many_is_short_and_ignores_outliers(drawn: Drawn) -> None:
    panel = coordinate(12000)
    ages = np.asarray(panel.ages).copy()
    ages[::10] = 1200.0
    (axes,) = panels(drawn(lambda: plots.coordinate_png({"a": CoordinatePanel(panel.position, ages, "n")})))
    x, y = lines(axes)["running median of the ages"]
    assert len(x) <= 120
    np.testing.assert_allclose(y, 100 * x / 12, atol=1.2)


NINE = [str(number) for number in range(9)]
POINTS = [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: images.steps_png({}), "1 to 100 regions to draw, got 0"),
        (lambda: images.steps_png({"1": {}}), "1 to 12 steps to draw, got 0"),
        (
            lambda: images.steps_png({"1": {"cut": image()}, "2": {"blurred": image()}}),
            r"steps \['cut'\] of '2', got \['blurred'\]",
        ),
        (lambda: images.steps_png({"1": {"cut": image(shape=(3, 4, 4))}}), r"'cut', got shape \(3, 4, 4"),
        (lambda: images.steps_png({"1": {"cut": image() * np.float32(2)}}), r"in \[0, 1\] for '1', 'cut'"),
        (lambda: plots.lines_png({}, "a", "b"), "1 to 8 series to draw, got 0"),
        (lambda: plots.lines_png(by_region(9, 1), "a", "b"), "series to draw, got 9"),
        (lambda: plots.lines_png({"x": {"1": 0.5}, "y": {}}, "a", "b"), "values of 'y' to draw, got 0"),
        (lambda: plots.lines_png({"x": {"1": 76.15}}, "a", "b"), "for 'x' at '1', got 76.15; divide percent"),
        (lambda: plots.lines_png({"x": {"1": float("nan")}}, "a", "b"), "for 'x' at '1', got nan"),
        (lambda: plots.lines_png({"x": {"1": Interval(0.9, 0.8, 1.1)}}, "a", "b"), "at '1', got 1.1"),
        (
            lambda: plots.lines_png({"x": {"1": 0.5}}, "a", "b", reference={"paper": 76.0}),
            "the reference 'paper', got 76",
        ),
        (
            lambda: plots.lines_png({"x": {"1": 0.5}}, "a", "b", reference=dict.fromkeys(NINE, 0.5)),
            "1 to 8 references to draw, got 9",
        ),
        (lambda: plots.map_png({}), "panels to draw, got 0"),
        (lambda: plots.map_png({"a": MapPanel(POINTS, [120.0])}), r"'a' for N = 1 ages, got shape \(2, 2\)"),
        (lambda: plots.map_png({"a": MapPanel(np.empty((0, 2)), [])}), "finite points"),
        (lambda: plots.map_png({"a": MapPanel(POINTS, [120.0, np.nan])}), r"finite ages \(N,\) of 'a'"),
        (lambda: plots.map_png({"a": MapPanel([[0.0, np.inf]], [120.0])}), "finite points"),
        (lambda: plots.groups_png({}, CLASSES), "panels to draw, got 0"),
        (lambda: plots.groups_png({"a": PAPER}, []), "1 to 16 classes to draw, got 0"),
        (lambda: plots.groups_png({"a": PAPER}, NINE * 2), "classes to draw, got 18"),
        (lambda: plots.groups_png({"a": PAPER[:, :3]}, CLASSES), r"C = 4 classes, got shape \(16, 3\)"),
        (lambda: plots.groups_png({"a": PAPER[0]}, CLASSES), r"'a' for C = 4 classes, got shape \(4,\)"),
        (lambda: plots.groups_png({"a": PAPER - 1}, CLASSES), "counts .* from 0 of 'a'"),
        (lambda: plots.groups_png({"a": PAPER / 2}, CLASSES), "counts .* from 0 of 'a'"),
        (lambda: plots.groups_png({"a": PAPER * np.nan}, CLASSES), "counts .* from 0 of 'a'"),
        (lambda: plots.groups_png({"a": PAPER * 0}, CLASSES), "a hand at least in 'a', got none"),
        (lambda: plots.groups_png({"a": PAPER[:0]}, CLASSES), "a hand at least in 'a', got none"),
        (lambda: images.pairs_png([]), "1 to 100 pairs to draw, got 0"),
        (lambda: images.pairs_png([Pair(image(), image() + 1, "")]), "for the right of pair 1"),
        (
            lambda: images.pairs_png([Pair(image(), image(), ""), Pair(image(shape=(0, 4)), image(), "")]),
            r"for the left of pair 2, got shape \(0, 4\)",
        ),
        (lambda: plots.coordinate_png({}), "panels to draw, got 0"),
        (lambda: plots.coordinate_png({"a": CoordinatePanel([0.1], [1.0, 2.0], "")}), "'a' for N = 2 ages"),
        (lambda: plots.coordinate_png({"a": CoordinatePanel([np.nan], [1.0], "")}), "finite position"),
        (lambda: plots.coordinate_png({"a": CoordinatePanel([0.1], [np.nan], "")}), "finite ages"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], bytes], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw()
