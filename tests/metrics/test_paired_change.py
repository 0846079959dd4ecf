"""What a change does to ages: paired figures of the images read both times, and the share refused."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.metrics.paired_change import paired_change

TRUTH = np.array([100.0, 120.0, 140.0, 160.0])
BEFORE = TRUTH + np.array([4.0, -4.0, 2.0, -2.0])


def test_no_change_is_no_change() -> None:
    found = paired_change(TRUTH, BEFORE, BEFORE)
    assert found.mae_change is not None and found.move is not None and found.shift is not None
    for value in (found.mae_change, found.move, found.shift):
        assert (value.estimate, value.low, value.high) == (0, 0, 0)
    assert (found.refused.estimate, found.mae_before) == (0, 3.0)


def test_an_age_may_move_while_the_mae_stays() -> None:
    found = paired_change(TRUTH, BEFORE, 2 * TRUTH - BEFORE)
    assert found.mae_change is not None and found.move is not None
    assert found.mae_change.estimate == pytest.approx(0)
    assert found.move.estimate == pytest.approx(6)


def test_refused_images_count_as_refused_and_not_as_errors() -> None:
    after = np.array([np.nan, np.nan, 143.0, 157.0])
    found = paired_change(TRUTH, BEFORE, after)
    assert (found.images, found.read, found.refused.estimate) == (4, 2, 0.5)
    assert found.mae_before == 2.0
    assert found.mae_change is not None and found.mae_change.estimate == pytest.approx(1.0)


def test_where_all_are_refused_there_is_no_figure() -> None:
    found = paired_change(TRUTH, BEFORE, np.full(4, np.nan))
    assert found.refused.estimate == 1.0
    assert found.mae_change is found.move is found.shift is found.mae_before is None


@pytest.mark.parametrize(
    ("truth", "before", "after"),
    [([], [], []), ([1.0], [1.0, 2.0], [1.0]), ([1.0], [np.nan], [1.0]), ([np.nan], [1.0], [1.0])],
)
def test_what_does_not_belong_together_is_refused(
    truth: list[float], before: list[float], after: list[float]
) -> None:
    with pytest.raises(ConfigError):
        paired_change(truth, before, after)
