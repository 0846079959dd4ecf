"""Joining methods: the fit finds known weights, and no fold's truth weighs its own ages."""

from __future__ import annotations

import numpy as np
import pytest

from boneage.core.errors import ConfigError
from boneage.inference.combine import cross_fit, fit_combination


def simulated(count: int = 400) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(24, 200, count)
    predicted = {name: truth + rng.normal(0, spread, count) for name, spread in (("a", 8.0), ("b", 6.0))}
    sex = np.array(["female", "male"])[np.arange(count) % 2]
    return predicted, truth, sex, (np.arange(count) // 2) % 5


def test_known_weights_are_found() -> None:
    predicted, _, sex, _ = simulated()
    truth = 0.3 * predicted["a"] + 0.7 * predicted["b"] + np.where(sex == "male", 4.0, -2.0)
    fitted = fit_combination(predicted, truth, sex)
    assert fitted.weights == pytest.approx({"a": 0.3, "b": 0.7})
    assert fitted.offsets_months == pytest.approx({"male": 4.0, "female": -2.0})
    np.testing.assert_allclose(fitted.ages(predicted, sex), truth)


def test_the_joint_is_better_than_its_parts() -> None:
    predicted, truth, sex, fold = simulated()
    joined = np.abs(cross_fit(predicted, truth, sex, fold) - truth).mean()
    assert joined < min(np.abs(ages - truth).mean() for ages in predicted.values()) - 0.3


def test_a_folds_own_truth_never_weighs_it() -> None:
    predicted, truth, sex, fold = simulated()
    plain = cross_fit(predicted, truth, sex, fold)
    for number in range(5):
        here = fold == number
        other = cross_fit(predicted, np.where(here, 240 - truth, truth), sex, fold)
        np.testing.assert_array_equal(other[here], plain[here])
        assert np.abs(other[~here] - plain[~here]).max() > 1


def test_too_few_hands_are_said() -> None:
    predicted, truth, sex, _ = simulated(4)
    with pytest.raises(ConfigError, match="too few female hands"):
        fit_combination(predicted, truth, sex)
