"""Figures of interval classification: pictures of the size expected that change with what they show."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.metrics.bootstrap import Interval
from boneage.metrics.classification import BorderRow, Reliability, reliability
from boneage.reporting import interval_plots as plots

BLUE, WINE = (138, 95, 11), (108, 68, 179)  # of the first and the second series, as OpenCV orders them


def picture(file: bytes) -> np.ndarray:
    """A PNG's pixels, (H, W, 3) BGR."""
    found = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found


def has(file: bytes, colour: tuple[int, int, int]) -> bool:
    """Whether a colour occurs in a picture."""
    return bool((picture(file) == colour).all(axis=2).any())


def history(epochs: int = 6, gain: float = 0.1) -> dict[str, list[float]]:
    """Curves that rise and fall in straight lines."""
    steps = np.arange(epochs)
    return {
        "epoch": (steps + 1).tolist(),
        "training_accuracy": (0.3 + gain * steps).tolist(),
        "validation_accuracy": (0.25 + 0.8 * gain * steps).tolist(),
        "training_loss": (1.5 - gain * steps).tolist(),
        "validation_loss": (1.6 - 0.8 * gain * steps).tolist(),
    }


def bins(seed: int = 0) -> Reliability:
    """The reliability of made-up cases, some bins of it empty."""
    rng = np.random.default_rng(seed)
    return reliability(rng.dirichlet([0.5, 1.0, 4.0], 60), rng.integers(0, 3, 60))


def border(*shares: float, cases: int = 40) -> list[BorderRow]:
    """A row a share, in steps of three months, the last without an end."""
    ends = [*(3.0 * (number + 1) for number in range(len(shares) - 1)), float("inf")]
    return [
        BorderRow(3.0 * number, end, cases, Interval(share, 0.8 * share, 1.2 * share))
        for number, (share, end) in enumerate(zip(shares, ends, strict=True))
    ]


@pytest.mark.parametrize("epochs", [1, 60])
def test_training_and_validation_are_drawn(epochs: int) -> None:
    first = plots.curves_png(history(epochs, 0.01), "t")
    assert has(first, BLUE) and has(first, WINE)
    assert first == plots.curves_png(history(epochs, 0.01), "t")
    assert first != plots.curves_png(history(epochs, 0.01), "t", best_epoch=1)
    assert first != plots.curves_png(history(epochs, 0.01), "another")


def test_every_model_has_a_row() -> None:
    one = picture(plots.all_curves_png({"a": history()}))
    three = picture(plots.all_curves_png({"a": history(), "b": history(9), "c": history(3)}))
    assert three.shape[1] == one.shape[1] and three.shape[0] == pytest.approx(7.8 / 3.0 * one.shape[0], abs=2)


def test_the_best_epoch_is_the_named_models() -> None:
    models = {"a": history(), "b": history()}
    plain, marked = (picture(plots.all_curves_png(models, "", best)) for best in (None, {"b": 3}))
    changed = np.flatnonzero((plain != marked).any(axis=(1, 2)))
    assert changed.min() > 0.45 * len(plain)


def test_shares_of_a_true_interval_are_shades_and_an_empty_one_is_white() -> None:
    # With the intervals many enough, no count hides the shade in a cell's middle.
    count = 11
    names = [str(number) for number in range(count)]
    diagonal, nothing = np.diag([7] * count), np.zeros((count, count), int)
    full, empty = (picture(plots.confusion_png({"a": m}, names)) for m in (diagonal, nothing))
    darkest, lightest = (107, 48, 8), (255, 251, 247)

    def area(shown: np.ndarray, colour: tuple[int, int, int]) -> float:
        return float((shown == colour).all(axis=2).sum())

    cells = area(empty, lightest)
    assert area(full, darkest) == pytest.approx(cells / count, rel=0.1)
    assert area(full, lightest) == pytest.approx(cells * (1 - 1 / count), rel=0.05)


@pytest.mark.parametrize(("count", "printed"), [(10, True), (11, False)])
def test_counts_are_printed_where_there_are_few_intervals(count: int, printed: bool) -> None:
    names = [str(number) for number in range(count)]
    same_shares = (plots.confusion_png({"a": np.eye(count, dtype=int) * times}, names) for times in (1, 5))
    assert (next(same_shares) != next(same_shares)) == printed


@pytest.mark.parametrize(("matrices", "across"), [(1, 1), (3, 3), (4, 2), (5, 3)])
def test_matrices_are_laid_out_in_rows(matrices: int, across: int) -> None:
    given = {str(number): np.eye(3, dtype=int) for number in range(matrices)}
    height, width, _ = picture(plots.confusion_png(given, ["a", "b", "c"], "t")).shape
    down = -(-matrices // across)
    assert (width / 130, height / 130) == pytest.approx((3.2 * across + 0.8, 3.2 * down + 0.3), abs=0.02)


def test_reliability_is_drawn_with_empty_bins_and_errors_in_the_legend() -> None:
    curves = {"with": bins(0), "without": bins(1)}
    assert (curves["with"].counts == 0).any()
    plain = plots.reliability_png(curves, "t")
    assert has(plain, BLUE) and has(plain, WINE)
    assert plain != plots.reliability_png(curves, "t", {"with": 0.05})
    assert plain == plots.reliability_png(curves, "t", {"somebody else": 0.05})


def test_a_bin_with_more_cases_has_a_larger_marker() -> None:
    def ink(few: int) -> int:
        curve = Reliability(
            np.array([0.0, 0.5]),
            np.array([0.5, 1.0]),
            np.array([few, 100]),
            np.array([0.4, 0.8]),
            np.array([0.4, 0.8]),
        )
        return int((picture(plots.reliability_png({"a": curve})) < 240).any(axis=2).sum())

    assert ink(100) > ink(50) > ink(5)


def test_errors_near_a_border_are_drawn_where_a_series_lacks_a_row() -> None:
    rows = {"image only": border(0.5, 0.3, 0.1), "image and sex": border(0.4, 0.25, 0.1)}
    whole = plots.border_png(rows, "t")
    assert has(whole, BLUE) and has(whole, WINE)
    lacking = {**rows, "image and sex": rows["image and sex"][:2]}
    assert plots.border_png(lacking, "t") != whole
    other_count = {**rows, "image and sex": border(0.4, 0.25, 0.1, cases=41)}
    assert plots.border_png(other_count, "t") != whole, "cases are told only where they are the same"


NINE = [str(number) for number in range(9)]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.curves_png({"epoch": [1]}), "training_accuracy 0"),
        (lambda: plots.curves_png({**history(), "epoch": [1]}), "epoch 1, training_accuracy 6"),
        (lambda: plots.curves_png({key: [] for key in history()}), "as many values as epochs"),
        (lambda: plots.all_curves_png({}), "1 to 100 series to draw, got 0"),
        (lambda: plots.confusion_png({}, ["a"]), "series to draw, got 0"),
        (
            lambda: plots.confusion_png({"m": np.eye(3)}, ["a", "b"]),
            r"2 x 2 counts for 'm', got shape \(3, 3\)",
        ),
        (lambda: plots.reliability_png(dict.fromkeys(NINE, bins())), "1 to 8 series to draw, got 9"),
        (lambda: plots.border_png(dict.fromkeys(NINE, border(0.1))), "1 to 8 series to draw, got 9"),
        (lambda: plots.border_png({"a": []}), "series to draw, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], bytes], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw()
