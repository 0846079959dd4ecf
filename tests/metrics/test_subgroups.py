"""Subgroups and coverage on data small enough to count."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.metrics.subgroups import AGE_EDGES_MONTHS, coverage_table, subgroup_table, wilson

F, M = Sex.FEMALE, Sex.MALE
REFERENCE = np.array([20.0, 48.0, 60.0, 100.0])
PREDICTED = REFERENCE + np.array([2.0, -4.0, 8.0, -14.0])
EDGES = (0.0, 48.0, 100.0)


def test_every_subgroup_that_holds_somebody_is_listed() -> None:
    table = subgroup_table(PREDICTED, REFERENCE, [F, F, M, M], EDGES, n=200)
    assert [(one.name, one.count, one.mae.estimate) for one in table] == [
        ("both sexes, all ages", 4, 7.0),
        ("female, all ages", 2, 3.0),
        ("male, all ages", 2, 11.0),
        ("both sexes, 0-4 years", 1, 2.0),
        ("both sexes, 4-8.33333 years", 3, pytest.approx(26 / 3)),
        ("female, 0-4 years", 1, 2.0),
        ("female, 4-8.33333 years", 1, 4.0),
        ("male, 4-8.33333 years", 2, 11.0),
    ]
    everyone = table[0]
    assert (everyone.bias.estimate, everyone.within_6, everyone.within_12) == (-2.0, 0.5, 0.75)
    assert everyone.rmse == pytest.approx(np.sqrt(70.0))
    assert everyone.mae.low <= 7.0 <= everyone.mae.high


def test_bands_share_out_everyone_once() -> None:
    ages = np.linspace(0, 300, 301)
    table = subgroup_table(ages, ages, [F] * 301, n=10)
    bands = [one for one in table if one.sex is None and one.band_months]
    assert sum(one.count for one in bands) == 301
    assert len(bands) == len(AGE_EDGES_MONTHS) - 1


def test_coverage_is_counted_by_band() -> None:
    lower, upper = REFERENCE - np.array([5.0, 0.0, -1.0, 5.0]), REFERENCE + np.array([5.0, 10.0, 10.0, 0.0])
    everyone, young, older = coverage_table(lower, upper, REFERENCE, EDGES)
    assert (everyone.count, everyone.coverage.estimate, everyone.mean_width_months) == (4, 0.75, 8.5)
    assert (young.name, young.coverage.estimate, young.mean_width_months) == ("0-4 years", 1.0, 10.0)
    assert older.coverage.estimate == pytest.approx(2 / 3), "bounds belong to the interval"


def test_wilson_s_interval_worked_out_by_hand() -> None:
    found = wilson(np.array([True] * 9 + [False]))
    assert (found.estimate, found.low, found.high) == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-4)
    assert wilson(np.array([True, True])).high == 1.0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="a sex for each of 4 ages"):
        subgroup_table(PREDICTED, REFERENCE, [F], EDGES)
    with pytest.raises(ConfigError, match="rising band edges"):
        subgroup_table(PREDICTED, REFERENCE, [F] * 4, (48.0, 0.0))
    with pytest.raises(ConfigError, match="widen the edges"):
        subgroup_table(PREDICTED, REFERENCE, [F] * 4, (0.0, 48.0))
    with pytest.raises(ConfigError, match="1 are not"):
        coverage_table([1.0, 9.0], [2.0, 8.0], [1.0, 8.0])
