"""Bootstrap intervals against theory, a plain loop, and their own promises."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.metrics import bootstrap
from boneage.metrics.bootstrap import (
    bootstrap_interval,
    mean,
    mean_absolute,
    median_absolute,
    paired_difference,
    root_mean_square,
    share_within,
)


def test_the_mean_has_the_interval_that_theory_gives() -> None:
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    found = bootstrap_interval(values, n=4000)
    half = 1.96 * values.std() / 20.0
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(200):
        found = bootstrap_interval(rng.exponential(5.0, 80), n=400, seed=trial, level=0.9)
        held += found.low <= 5.0 <= found.high
    assert 0.82 <= held / 200 <= 0.96


def test_batches_equal_one_resample_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=(30, 2))
    whole = bootstrap_interval(values, lambda pairs: pairs[..., 0].mean(axis=1), n=101)
    monkeypatch.setattr(bootstrap, "_BATCH_VALUES", 7 * values.size)
    assert bootstrap_interval(values, lambda pairs: pairs[..., 0].mean(axis=1), n=101) == whole
    rng = np.random.default_rng(0)
    loop = [values[rng.integers(0, 30, 30), 0].mean() for _ in range(101)]
    assert (whole.low, whole.high) == pytest.approx(tuple(np.quantile(loop, [0.025, 0.975])))


def test_statistics_are_those_of_their_names() -> None:
    sample = np.array([[-6.0, 6.0, 0.0, 12.0]])
    assert mean(sample)[0] == 3.0
    assert mean_absolute(sample)[0] == 6.0
    assert root_mean_square(sample)[0] == pytest.approx(np.sqrt(54.0))
    assert median_absolute(sample)[0] == 6.0
    assert share_within(6.0)(sample)[0] == 0.75


def test_pairing_finds_a_small_difference_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 8, 300)
    first, second = hard, hard + np.sign(hard) * rng.uniform(0.2, 0.6, 300)
    found = paired_difference(first, second)
    assert found.high < 0.0, "the first is better, beyond doubt"
    assert found.estimate == pytest.approx(np.abs(first).mean() - np.abs(second).mean())
    assert bootstrap_interval(first, mean_absolute).high > bootstrap_interval(second, mean_absolute).low
    mirrored = paired_difference(second, first)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_the_seed_decides() -> None:
    values = np.arange(20.0)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_an_interval_prints_for_a_table() -> None:
    assert str(bootstrap.Interval(6.234, 5.9, 6.555)) == "6.23 (5.90 to 6.55)"


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="finite values"):
        bootstrap_interval([1.0, np.inf])
    with pytest.raises(ConfigError, match="finite values"):
        bootstrap_interval([])
    with pytest.raises(ConfigError, match="level between 0 and 1"):
        bootstrap_interval([1.0], level=1.0)
    with pytest.raises(ConfigError, match="two errors an image"):
        paired_difference([1.0, 2.0], [1.0])
