"""Latent vectors of regions made one: side by side, scaled, and by what a hand's regions agree on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray
from boneage.recipes.region_clusters.config import JoinConfig
from boneage.recipes.region_clusters.joining import (
    LEAST_HANDS,
    Join,
    chosen,
    complete,
    correlation_of,
    fit_agreement,
    fit_join,
    mean_correlation,
    shows,
)

NAMES = ("2", "8", "16", "17")
BESIDE = JoinConfig(NAMES)
AGREED = JoinConfig(NAMES, agreement=1)
Floats = NDArray[np.float64]


def planted(
    hands: int = 300, seed: int = 0, names: tuple[str, ...] = NAMES, features: int = 12, shared: float = 1.0
) -> tuple[dict[str, FloatArray], Floats]:
    """Latent vectors with a factor that all regions share, under larger ones that each has for itself.

    The regions, their directions and their offsets are the same whatever the seed; the hands are not.
    """
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=hands)
    latents = {}
    for name in names:
        own = np.random.default_rng(int(name))
        nuisances = 3 * rng.normal(size=(hands, 3)) @ own.normal(size=(3, features))
        noise = 0.3 * rng.normal(size=(hands, features))
        told = shared * factor[:, None] * own.normal(size=features)
        latents[name] = (own.normal(size=features) + told + nuisances + noise).astype(np.float32)
    return latents, factor


def correlation(one: FloatArray, other: Floats) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def masked(latents: dict[str, FloatArray], places: dict[str, list[int]]) -> dict[str, FloatArray]:
    found = {name: vectors.copy() for name, vectors in latents.items()}
    for name, at in places.items():
        found[name][at] = np.nan
    return found


# Which hands show what


def test_which_hands_show_a_region_and_all_of_some() -> None:
    latents = masked(planted(6)[0], {"2": [0], "17": [4]})
    assert shows(latents, "2").tolist() == [False, True, True, True, True, True]
    assert complete(latents, ("2", "17")).tolist() == [False, True, True, True, False, True]
    assert complete(latents, ("8",)).all()
    some = chosen(latents, np.arange(6) % 2 == 0)
    assert set(some) == set(NAMES) and all(len(vectors) == 3 for vectors in some.values())
    np.testing.assert_array_equal(some["17"], latents["17"][::2])


# Side by side


def test_side_by_side_every_region_keeps_its_values_about_its_mean() -> None:
    latents, _ = planted()
    join = fit_join(latents, BESIDE)
    values = join(latents)
    assert values.shape == (300, 4 * 12) and values.dtype == np.float32
    for part, name in zip(np.split(values, 4, axis=1), NAMES, strict=True):
        np.testing.assert_allclose(part, latents[name] - latents[name].mean(axis=0), atol=1e-5)
    # Distances, which k-means goes by, are those of the vectors as they are.
    stacked = np.hstack([latents[name] for name in NAMES])
    np.testing.assert_allclose(
        np.linalg.norm(values[0] - values[1:], axis=1),
        np.linalg.norm(stacked[0] - stacked[1:], axis=1),
        rtol=1e-4,
    )


def test_scaled_by_region_each_has_the_same_say() -> None:
    latents, _ = planted()
    latents["8"] = latents["8"] * 100 + 1000
    plain = fit_join(latents, BESIDE)(latents)
    scaled = fit_join(latents, replace(BESIDE, scale="region"))(latents)
    assert scaled.shape == plain.shape and scaled.dtype == np.float32
    shares = [part.var(axis=0).sum() for part in np.split(scaled, 4, axis=1)]
    np.testing.assert_allclose(shares, 1, rtol=1e-3)
    others = [part.var(axis=0).sum() for part in np.split(plain, 4, axis=1)]
    assert others[1] > 1000 * others[0]
    for one, other in zip(np.split(scaled, 4, axis=1), np.split(plain, 4, axis=1), strict=True):
        np.testing.assert_allclose(one / np.linalg.norm(one), other / np.linalg.norm(other), atol=1e-4)


def test_a_region_that_never_changes_is_scaled_by_nothing() -> None:
    latents, _ = planted()
    latents["8"] = np.full_like(latents["8"], 2.0)
    values = fit_join(latents, replace(BESIDE, scale="region"))(latents)
    assert np.isfinite(values).all() and not values[:, 12:24].any()


@pytest.mark.parametrize("scale", ["none", "region"])
def test_a_masked_region_stays_nan_side_by_side(scale: str) -> None:
    latents, _ = planted()
    join = fit_join(masked(latents, {"8": [3]}), replace(BESIDE, scale=scale))
    values = join(masked(latents, {"8": [0, 5], "17": [5]}))
    assert np.isnan(values[0]).tolist() == [False] * 12 + [True] * 12 + [False] * 24
    assert np.isnan(values[5]).tolist() == [False] * 12 + [True] * 12 + [False] * 12 + [True] * 12
    assert np.isfinite(np.delete(values, [0, 5], axis=0)).all()
    np.testing.assert_array_equal(values[0, :12], join(latents)[0, :12])


def test_hands_with_a_masked_region_do_not_change_what_is_learnt() -> None:
    latents, _ = planted()
    broken = masked(latents, {"8": list(range(100)), "2": [150]})
    for name in ("2", "16", "17"):
        broken[name][:100] = 1e6  # theirs is another region's mask
    kept = np.arange(300) >= 100
    kept[150] = False
    for config in (BESIDE, replace(BESIDE, scale="region"), AGREED):
        first, second = fit_join(broken, config), fit_join(chosen(latents, kept), config)
        np.testing.assert_allclose(first(latents), second(latents), rtol=1e-5, atol=1e-5)


# Agreement


@pytest.mark.parametrize("ridge", [0.003, 0.03, 0.3])
def test_agreement_finds_the_factor_that_regions_share_among_larger_nuisances(ridge: float) -> None:
    latents, factor = planted()
    join = fit_join(latents, replace(AGREED, ridge=ridge))
    found = join(latents)
    assert found.shape == (300, 1) and found.dtype == np.float32
    assert found.std() == pytest.approx(1, abs=1e-3) and found.mean() == pytest.approx(0, abs=1e-3)
    assert abs(correlation(found[:, 0], factor)) > 0.95
    other, others_factor = planted(seed=1)  # of hands that it was not learnt from
    assert abs(correlation(join(other)[:, 0], others_factor)) > 0.95
    # Side by side, the factor is none of the things that hands differ in most.
    beside = fit_join(latents, BESIDE)(latents)
    left, _, _ = np.linalg.svd(beside - beside.mean(axis=0), full_matrices=False)
    assert max(abs(correlation(left[:, at], factor)) for at in range(4)) < 0.6


@pytest.mark.parametrize("hands", [30, 400])
def test_the_directions_are_those_of_maxvar(hands: int) -> None:
    """Positions are the leading eigenvectors of the sum of the regions' (ridge) projections.

    Of 30 hands there are fewer than latent values, of 400 more.
    """
    latents, _ = planted(hands)
    ridge = 0.1
    total = np.zeros((hands, hands))
    for vectors in latents.values():
        centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
        gram = centred.T @ centred
        penalty = ridge * np.trace(gram) / min(gram.shape[0], hands)
        total += centred @ np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T)
    _, expected = np.linalg.eigh(total)
    found = fit_agreement(latents, NAMES, 3, ridge)(latents)
    assert found.shape == (hands, 3)
    for at in range(3):
        assert abs(correlation(found[:, at], expected[:, -1 - at])) > 0.999, at


def test_later_directions_are_of_lesser_agreement_and_differ() -> None:
    latents, _ = planted(1000)
    join = fit_agreement(latents, NAMES, 4, 0.03)
    values = join(latents)
    np.testing.assert_allclose(np.corrcoef(values.T), np.eye(4), atol=0.05)
    assert (np.diff(values.std(axis=0)) < 1e-6).all()


def test_a_hands_value_is_the_mean_of_what_its_regions_say() -> None:
    latents, _ = planted()
    join = fit_join(latents, AGREED)
    parts = join.parts(latents)
    assert [part.shape for part in parts] == [(300, 1)] * 4
    np.testing.assert_allclose(join(latents), np.mean(parts, axis=0), atol=1e-5)


def test_masked_regions_leave_the_others_mean() -> None:
    latents, factor = planted()
    join = fit_join(latents, AGREED)
    holes = masked(latents, {"2": [0, 1, 7], "8": [1, 7], "16": [7], "17": [7]})
    found, parts = join(holes), join.parts(latents)
    np.testing.assert_allclose(found[0], np.mean([part[0] for part in parts[1:]], axis=0), atol=1e-5)
    np.testing.assert_allclose(found[1], np.mean([part[1] for part in parts[2:]], axis=0), atol=1e-5)
    assert np.isnan(found[7]).all()
    rest = np.delete(np.arange(300), [0, 1, 7])
    np.testing.assert_array_equal(found[rest], join(latents)[rest])
    half = masked(latents, {"2": list(range(300)), "8": list(range(300))})
    assert abs(correlation(join(half)[:, 0], factor)) > 0.9  # two regions still tell it


def test_of_a_single_region_the_direction_is_its_first_principal_component() -> None:
    latents, _ = planted()
    found = fit_agreement(latents, ("8",), 1, 0.03)(latents)[:, 0]
    centred = latents["8"] - latents["8"].mean(axis=0)
    left, _, _ = np.linalg.svd(centred, full_matrices=False)
    assert abs(correlation(found, left[:, 0])) > 0.999
    assert found.std() == pytest.approx(1, abs=1e-3)


def test_regions_of_other_sizes_and_scales_agree_too() -> None:
    latents, factor = planted()
    latents["8"] = np.hstack([latents["8"], latents["8"][:, :5]]) * 1000 - 50
    latents["16"] = latents["16"][:, :9] * 1e-3
    found = fit_join(latents, AGREED)(latents)[:, 0]
    assert abs(correlation(found, factor)) > 0.95


def test_a_turned_join_has_the_other_sign_and_keeps_nan() -> None:
    latents, _ = planted()
    for config in (BESIDE, AGREED):
        join = fit_join(latents, config)
        holes = masked(latents, {"2": [0], "8": [0], "16": [0], "17": [0]})
        np.testing.assert_array_equal(join.oriented(-1)(holes), -join(holes))
        np.testing.assert_array_equal(join.oriented(1)(holes), join(holes))
        assert join.oriented(-1)(latents).dtype == np.float32


# How far regions agree


def test_the_mean_correlation_by_hand() -> None:
    rng = np.random.default_rng(0)
    first, second, third = rng.normal(size=(3, 50)).astype(np.float32)
    latents = {"1": first[:, None], "2": second[:, None], "3": third[:, None]}
    one = np.ones((1, 1), np.float32)
    join = Join(("1", "2", "3"), (np.zeros(1, np.float32),) * 3, (one, one, -one), averaged=True)
    pairs = (correlation(first, second), -correlation(first, third), -correlation(second, third))
    assert mean_correlation(join, latents) == pytest.approx(np.mean(pairs), abs=1e-6)
    latents["2"][[3, 9]] = np.nan
    kept = np.delete(np.arange(50), [3, 9])
    pairs = (
        correlation(first[kept], second[kept]),
        -correlation(first[kept], third[kept]),
        -correlation(second[kept], third[kept]),
    )
    assert mean_correlation(join, latents) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_fewer_than_two_hands_that_show_all_regions_have_no_correlation() -> None:
    parts = np.array([[1.0, 2.0, np.nan], [1.0, np.nan, 3.0]], np.float32)
    assert np.isnan(correlation_of(parts))
    assert correlation_of(parts[:1]) == 1
    assert correlation_of(np.array([[1.0, 2.0, 4.0], [-1.0, -2.0, -4.0]], np.float32)) == pytest.approx(-1)


def test_regions_that_share_more_agree_more_and_one_alone_agrees_with_itself() -> None:
    found = [
        mean_correlation(fit_join(latents, AGREED), latents)
        for latents, _ in (planted(600, shared=share) for share in (0.0, 0.5, 2.0))
    ]
    assert 0 < found[0] < 0.3 and found[0] < found[1] < found[2] and found[2] > 0.9
    alone = fit_agreement(planted()[0], ("8",), 1, 0.03)
    assert mean_correlation(alone, planted()[0]) == 1


def test_regions_that_share_nothing_do_not_agree_of_hands_that_were_not_learnt_from() -> None:
    latents, _ = planted(200, shared=0.0)
    join = fit_join(latents, AGREED)
    held_out = mean_correlation(join, planted(2000, seed=1, shared=0.0)[0])
    assert abs(held_out) < 0.05 < mean_correlation(join, latents)


# Errors


@pytest.mark.parametrize("config", [BESIDE, AGREED], ids=["beside", "agreed"])
def test_a_region_without_latent_vectors_and_too_few_hands_are_refused(config: JoinConfig) -> None:
    latents, _ = planted()
    unknown = replace(config, regions=("2", "19"))
    with pytest.raises(
        ConfigError, match="region 19 has no latent vectors, only 2, 8, 16, 17 have: learn it"
    ):
        fit_join(latents, unknown)
    enough = masked(latents, {"8": list(range(300 - LEAST_HANDS))})
    fit_join(enough, config)
    enough["17"][-1] = np.nan
    with pytest.raises(
        ConfigError, match=r"19 of \d+ hands show all of the regions 2, 8, 16, 17; 20 or more are"
    ):
        fit_join(enough, config)
    fit_join(enough, replace(config, regions=("2", "16")))


def test_more_directions_than_there_are_are_refused() -> None:
    latents, _ = planted(features=3)
    assert fit_agreement(latents, NAMES, 12, 0.03)(latents).shape == (300, 12)
    with pytest.raises(ConfigError, match=r"join\.agreement of 13 is more than the 12 directions there are"):
        fit_agreement(latents, NAMES, 13, 0.03)


def test_a_region_that_never_changes_has_no_say_in_what_is_agreed() -> None:
    latents, factor = planted()
    latents["8"] = np.full_like(latents["8"], 2.0)
    join = fit_join(latents, AGREED)
    assert abs(correlation(join(latents)[:, 0], factor)) > 0.95
    assert np.abs(join.parts(latents)[1]).max() < 1e-6
