"""Figures of sub-grades: what is drawn and printed, in which order, and that no text covers another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from drawn_figures import Drawn, assert_readable, figures_of, panels, picture
from matplotlib.axes import Axes

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import bootstrap_interval
from boneage.reporting import subgrade_plots as plots
from boneage.reporting.subgrade_plots import ClusterPanel

FIRST, THIRD = (98, 61, 10), (125, 72, 185)  # of the first and the third label, as OpenCV orders them


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return figures_of((plots,), monkeypatch)


def ink(file: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is, (N, 2) rows and columns."""
    return np.argwhere((picture(file) == colour).all(axis=2))


def cluster(*labels: str, seed: int = 0) -> ClusterPanel:
    """Fifty points around (k, k) for the k-th label."""
    rng = np.random.default_rng(seed)
    points = [rng.normal(place, 0.1, (50, 2)) for place in range(len(labels))]
    return ClusterPanel(np.concatenate(points), [label for label in labels for _ in range(50)])


def three_ages(seed: int = 0, hands: int = 60) -> dict[str, np.ndarray]:
    """Ages that rise with the sub-grade, not told in its order."""
    rng = np.random.default_rng(seed)
    return {grade: rng.normal(mean, 9.0, hands) for grade, mean in (("6", 127), ("5", 105), ("5_5", 116))}


COUNTS = {
    "boys": {"before": {"5": 200, "6": 180}, "after": {"5": 120, "5_5": 0, "6": 1119}},
    "girls": {"after": {"5": 180, "6": 210, "5_5": 220}},
}


def image(seed: int = 0, shape: tuple[int, ...] = (24, 20)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


DRAWN = {
    "clusters": lambda title="t": plots.clusters_png(
        {"before, 24 features": cluster("5", "6"), "after, 24 features": cluster("5", "5_5", "6")}, title
    ),
    "one cluster of eight": lambda title="t": plots.clusters_png({"a": cluster(*"12345678")}, title),
    "distribution": lambda title="t": plots.distribution_png(COUNTS, title),
    "ages": lambda title="t": plots.ages_png({"boys": three_ages(), "girls": three_ages(1)}, title),
    "ages of one sub-grade": lambda title="t": plots.ages_png({"boys": {"5": [99.0, 120.0]}}, title),
    "means": lambda title="t": plots.means_png({f"boys, {n}_5, n = 1234": image(n) for n in range(5)}, title),
}


@pytest.mark.parametrize("name", ["clusters", "distribution", "ages", "means"])
def test_the_same_gives_the_same_picture(name: str) -> None:
    first = DRAWN[name]()
    assert picture(first).std() > 0
    assert first == DRAWN[name]()
    assert first != DRAWN[name]("another")


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_covers_another_or_is_cut_off(name: str, drawn: Drawn) -> None:
    title = "Radius, grades 5 and 6: a title of some length, which a narrow figure has to break into lines"
    assert_readable(drawn(lambda: DRAWN[name](title)), title)


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_a_legend_counts_every_cluster_in_order_of_the_numbers(drawn: Drawn) -> None:
    given = {
        "a": cluster("10", "6", "5_5", "5"),
        "b": ClusterPanel([[0, 1], [1, 1], [2, 2]], ["6", "5", "6"]),
    }
    first, second = panels(drawn(lambda: plots.clusters_png(given)))
    assert legend(first) == ["5, n = 50", "5_5, n = 50", "6, n = 50", "10, n = 50"]
    assert legend(second) == ["5, n = 1", "6, n = 2"]


def test_every_point_is_drawn_once_in_its_labels_colour() -> None:
    apart = {"a": cluster("6", "5_5", "5")}  # 6 on the lower left, 5 on the upper right
    file = plots.clusters_png(apart)
    upper = len(picture(file)) * 0.85  # above the legend
    five, six = (found[found[:, 0] < upper] for found in (ink(file, FIRST), ink(file, THIRD)))
    assert five[:, 1].min() > six[:, 1].max() and five[:, 0].max() < six[:, 0].min()


def test_points_are_those_given(drawn: Drawn) -> None:
    given = cluster("5", "6")
    (axes,) = panels(drawn(lambda: plots.clusters_png({"a": given})))
    shown = np.concatenate([np.asarray(part.get_offsets()) for part in axes.collections])
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(np.asarray(given.features), axis=0))


def test_a_label_looks_alike_in_every_panel(drawn: Drawn) -> None:
    figure = drawn(lambda: plots.clusters_png({"a": cluster("5", "5_5", "6"), "b": cluster("6")}))
    looks = [
        {
            text.get_text().split(",")[0]: (
                tuple(part.get_facecolor()[0]),
                part.get_paths()[0].vertices.tolist(),
            )
            for text, part in zip(
                axes.get_legend().get_texts(), axes.get_legend().legend_handles, strict=True
            )
        }
        for axes in panels(figure)
    ]
    assert looks[0]["6"] == looks[1]["6"]
    assert looks[0]["6"] != looks[0]["5"] != looks[0]["5_5"]
    assert len({str(shape) for _, shape in looks[0].values()}) == 3, "a marker a label, for black and white"


def test_where_clusters_mix_none_hides_the_other() -> None:
    points = np.random.default_rng(0).normal(size=(4000, 2))
    file = plots.clusters_png({"a": ClusterPanel(points, ["5", "5_5", "6", "6"] * 1000)})
    hidden_alike = len(ink(file, FIRST)) / len(ink(file, THIRD))
    assert 0.25 < hidden_alike < 1.0, "half as many points"


def test_a_few_points_of_a_label_are_seen_among_thousands() -> None:
    points = np.random.default_rng(0).normal(size=(6000, 2)) * np.repeat([[0.3], [1.0]], [20, 5980], axis=0)
    file = plots.clusters_png({"a": ClusterPanel(points, ["5"] * 20 + ["6"] * 5980)})
    found = ink(file, FIRST)
    assert (found[:, 0] < len(picture(file)) * 0.85).sum() > 20 * 4, "a point is some pixels wide"


def test_a_bar_stands_for_its_count_and_a_grade_not_named_has_none(drawn: Drawn) -> None:
    boys, girls = panels(drawn(lambda: plots.distribution_png(COUNTS)))
    assert [label.get_text() for label in boys.get_xticklabels()] == ["5", "5_5", "6"]
    assert [bar.get_height() for bar in boys.patches] == [200, 180, 120, 0, 1119]
    assert [text.get_text() for text in boys.texts] == ["200", "180", "120", "0", "1119"]
    assert [bar.get_height() for bar in girls.patches] == [180, 220, 210]
    middles = [bar.get_x() + bar.get_width() / 2 for bar in girls.patches]
    assert middles == pytest.approx([0.21, 1.21, 2.21]), "the place of `before` is left free"


def test_a_series_has_its_hatch_in_panels_and_legend(drawn: Drawn) -> None:
    figure = drawn(lambda: plots.distribution_png(COUNTS))
    boys, girls = panels(figure)
    keys = figure.legends[0].get_patches()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["before", "after"]
    before, after = ((key.get_hatch(), key.get_facecolor()) for key in keys)
    assert [(bar.get_hatch(), bar.get_facecolor()) for bar in boys.patches] == [before] * 2 + [after] * 3
    assert {(bar.get_hatch(), bar.get_facecolor()) for bar in girls.patches} == {after}
    assert before[0] != after[0]


def test_means_of_ages_are_printed_with_their_interval(drawn: Drawn) -> None:
    ages = three_ages()
    (axes,) = panels(drawn(lambda: plots.ages_png({"boys": ages})))
    found = {grade: bootstrap_interval(ages[grade]) for grade in ("5", "5_5", "6")}
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        f"{grade}\nn = 60\n{mean.estimate:.1f}\n({mean.low:.1f} to {mean.high:.1f})"
        for grade, mean in found.items()
    ]
    (container,) = axes.containers
    assert container[0].get_ydata() == pytest.approx([mean.estimate for mean in found.values()])
    reach = container[2][0].get_segments()
    assert np.array(reach)[:, :, 1] == pytest.approx(np.array([[m.low, m.high] for m in found.values()]))


def test_a_sub_grade_that_a_sex_lacks_keeps_its_place(drawn: Drawn) -> None:
    given = {"boys": three_ages(), "girls": {"6": [130.0], "5": [100.0, 104.0]}}
    boys, girls = panels(drawn(lambda: plots.ages_png(given)))
    five, five_5, six = (label.get_text() for label in girls.get_xticklabels())
    assert five_5 == "5_5\nn = 0"
    assert five.startswith("5\nn = 2\n102.0\n(")
    assert six == "6\nn = 1\n130.0\n(one hand)"
    assert boys.get_ylim() == girls.get_ylim()
    assert girls.containers[0][0].get_xdata() == pytest.approx([0.25, 2.25])


def test_mean_images_are_shown_unchanged_under_their_labels(drawn: Drawn) -> None:
    given = {"5, n = 3": image(0), "5_5, n = 2": image(1, (30, 20)) * np.float32(0.1)}
    found = panels(drawn(lambda: plots.means_png(given)))
    assert [axes.get_title("left").replace("\u00a0", " ") for axes in found] == list(given)
    for axes, expected in zip(found, given.values(), strict=True):
        (shown,) = axes.images
        np.testing.assert_array_equal(np.asarray(shown.get_array()), expected)
        assert shown.get_clim() == (0.0, 1.0), "a dark mean stays dark"
        assert not axes.axison


@pytest.mark.parametrize(("count", "across", "down"), [(1, 1, 1), (4, 4, 1), (5, 4, 2)])
def test_panels_are_laid_out_in_rows(count: int, across: int, down: int, drawn: Drawn) -> None:
    figure = drawn(lambda: plots.means_png({str(number): image(number) for number in range(count)}))
    assert figure.axes[0].get_gridspec().get_geometry() == (down, across)
    assert len(panels(figure)) == count


NINE = [str(number) for number in range(9)]
POINTS = [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.clusters_png({}), "1 to 100 panels to draw, got 0"),
        (lambda: plots.clusters_png({"a": ClusterPanel(np.empty((0, 2)), [])}), "'a' for N = 0 labels"),
        (lambda: plots.clusters_png({"a": ClusterPanel(np.zeros((2, 24)), ["5", "6"])}), r"shape \(2, 24\)"),
        (lambda: plots.clusters_png({"a": ClusterPanel([0.0, 1.0], ["5", "6"])}), r"shape \(2,\)"),
        (lambda: plots.clusters_png({"a": ClusterPanel(POINTS, ["5"])}), r"N = 1 labels, got shape \(2, 2\)"),
        (
            lambda: plots.clusters_png({"a": ClusterPanel([[0, np.nan], [1, 0]], ["5", "6"])}),
            "finite features",
        ),
        (lambda: plots.clusters_png({"a": cluster(*NINE)}), "1 to 8 labels to draw, got 9"),
        (lambda: plots.distribution_png({}), "panels to draw, got 0"),
        (lambda: plots.distribution_png({"boys": {}}), "1 to 5 series to draw, got 0"),
        (lambda: plots.distribution_png({**COUNTS, "all": {}}), "series of 'all' to draw, got 0"),
        (lambda: plots.distribution_png({"boys": {"after": {}}}), "grades to draw, got 0"),
        (
            lambda: plots.distribution_png({"boys": {name: {"5": 1} for name in "abcdef"}}),
            "series to draw, got 6",
        ),
        (lambda: plots.distribution_png({"boys": {"after": {"5": -1}}}), "'boys', 'after', got {'5': -1}"),
        (lambda: plots.distribution_png({"boys": {"after": {"5": float("nan")}}}), "got {'5': nan}"),
        (lambda: plots.distribution_png({"boys": {"after": {"5": 1.5}}}), "got {'5': 1.5}"),
        (lambda: plots.distribution_png({"boys": {"after": {"5": 1, "6": np.inf}}}), "got {'6': inf}"),
        (lambda: plots.ages_png({}), "panels to draw, got 0"),
        (lambda: plots.ages_png({"boys": {"5": [1.0]}, "girls": {}}), "sub-grades of 'girls' to draw, got 0"),
        (lambda: plots.ages_png({"boys": {"5": []}}), r"of boys, 5, got shape \(0,\)"),
        (lambda: plots.ages_png({"boys": {"5": [[1.0]]}}), r"got shape \(1, 1\)"),
        (lambda: plots.ages_png({"boys": {"5": [1.0, np.inf]}}), r"finite ages \(N,\) of boys, 5"),
        (lambda: plots.means_png({}), "images to draw, got 0"),
        (lambda: plots.means_png({"5": image(shape=(3, 4, 4))}), r"'5', got shape \(3, 4, 4\)"),
        (lambda: plots.means_png({"5": image(shape=(0, 4))}), r"shape \(0, 4\)"),
        (lambda: plots.means_png({"5": image() + 0.5}), r"in \[0, 1\]"),
        (lambda: plots.means_png({"5": image() * np.float32(np.nan)}), r"in \[0, 1\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], bytes], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw()
