"""The coordinate of maturity: which end is the mature one, and the ages told along it and of groups."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.core.types import FloatArray, Sex
from boneage.recipes.region_clusters.config import GroupsConfig, JoinConfig
from boneage.recipes.region_clusters.groups import Groups
from boneage.recipes.region_clusters.maturity import (
    KNOTS,
    LEAST_SHOWN,
    NEAREST,
    MaturityAges,
    ages_along,
    ages_of_groups,
    fit_coordinate,
    mature_end,
)

F, M = Sex.FEMALE, Sex.MALE
NAMES = ("2", "8", "17")
CONFIG = JoinConfig(NAMES, ridge=0.05)
Floats = NDArray[np.float64]


def hands(count: int = 200, seed: int = 0) -> tuple[dict[str, FloatArray], dict[str, FloatArray], Floats]:
    """Latent vectors, contours that rise with maturity, and the maturity."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(-1, 1, count)
    latents, contours = {}, {}
    for name in NAMES:
        way = np.random.default_rng(int(name)).normal(size=8)
        latents[name] = (level[:, None] * way + 0.3 * rng.normal(size=(count, 8))).astype(np.float32)
        contours[name] = (0.2 + 0.03 * level + 0.03 * rng.normal(size=count)).astype(np.float32)
    return latents, contours, level


# Which end is mature


def test_the_mature_end_is_where_contours_are_more() -> None:
    latents, contours, level = hands()
    positions = fit_coordinate(latents, contours, CONFIG)(latents)[:, 0]
    assert np.corrcoef(positions, level)[0, 1] > 0.95
    fewer = {name: 1 - values for name, values in contours.items()}
    turned = fit_coordinate(latents, fewer, CONFIG)(latents)[:, 0]
    np.testing.assert_array_equal(turned, -positions)


@pytest.mark.parametrize("seed", range(5))
def test_the_mature_end_does_not_depend_on_how_latent_space_lies(seed: int) -> None:
    latents, contours, level = hands(seed=seed)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8)))
    turned = {name: (vectors @ turn).astype(np.float32) for name, vectors in latents.items()}
    for own in (latents, turned, {name: -vectors for name, vectors in latents.items()}):
        positions = fit_coordinate(own, contours, CONFIG)(own)[:, 0]
        assert np.corrcoef(positions, level)[0, 1] > 0.95


def test_one_region_of_many_contours_does_not_outvote_the_others() -> None:
    positions = np.linspace(-1, 1, 50).astype(np.float32)
    contours = {
        "2": 0.1 + 0.001 * positions,
        "8": 0.1 + 0.001 * positions,
        "17": (10 - positions).astype(np.float32),
    }
    assert mature_end(positions, contours, NAMES) == 1
    assert mature_end(positions, contours, ("2", "17")) in (-1, 1)
    assert mature_end(positions, contours, ("17",)) == -1
    assert mature_end(-positions, contours, NAMES) == -1


def test_masked_regions_and_hands_without_a_position_do_not_count() -> None:
    positions = np.linspace(-1, 1, 50).astype(np.float32)
    contours = dict(zip(NAMES, np.tile(0.1 + 0.01 * positions, (3, 1)), strict=True))
    contours["2"][:10] = np.nan
    contours["8"][5:30] = np.nan
    lost = positions.copy()
    lost[:4] = np.nan
    assert mature_end(lost, contours, NAMES) == 1
    assert mature_end(-lost, contours, NAMES) == -1


def test_contours_that_say_nothing_leave_the_direction_as_it_is() -> None:
    positions = np.linspace(-1, 1, 50).astype(np.float32)
    assert mature_end(positions, {"2": np.full(50, 0.2, np.float32)}, ("2",)) == 1
    assert mature_end(np.full(50, np.nan, np.float32), {"2": positions}, ("2",)) == 1


# Ages along the coordinate


def told(count: int = 300, seed: int = 0) -> tuple[FloatArray, Floats, list[Sex | None]]:
    """Positions and ages that rise together with noise; boys are a year older at a position."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(size=count)
    sexes: list[Sex | None] = [(F, M)[at % 2] for at in range(count)]
    ages = 110 + 40 * positions + 10 * rng.normal(size=count) + np.array([12.0 * (sex is M) for sex in sexes])
    return positions.astype(np.float32), ages, sexes


def test_ages_rise_along_the_coordinate_and_are_those_of_the_hands_near_it() -> None:
    positions, ages, sexes = told()
    found = ages_along(positions, ages, sexes)
    assert set(found) == {F, M}
    for sex, along in found.items():
        assert len(along.positions) == len(along.mean_months) == len(along.sd_months) == KNOTS
        assert (np.diff(along.positions) >= 0).all() and (np.diff(along.mean_months) >= 0).all()
        assert LEAST_SHOWN <= along.hands <= NEAREST
        mean, spread = along.at(0.0)
        assert mean == pytest.approx(110 + 12 * (sex is M), abs=6) and 5 < spread < 30
        mine = np.array([own is sex for own in sexes])
        least, most = np.argsort(positions[mine])[: along.hands], np.argsort(positions[mine])[-along.hands :]
        for end, hands in ((0, least), (-1, most)):
            assert along.positions[end] == pytest.approx(positions[mine][hands].mean(), abs=1e-3)
            assert along.mean_months[end] == pytest.approx(ages[mine][hands].mean(), abs=1e-3)
            # Where the mean stands, so do the ages: the ends are not drawn inwards.
            expected = 110 + 40 * along.positions[end] + 12 * (sex is M)
            assert along.mean_months[end] == pytest.approx(expected, abs=6)
    assert found[M].at(0.0)[0] > found[F].at(0.0)[0]


@pytest.mark.parametrize("seed", range(5))
def test_ages_rise_even_where_they_are_all_noise(seed: int) -> None:
    positions, _, sexes = told(120, seed)
    ages = np.random.default_rng(seed).uniform(24, 216, 120)
    for along in ages_along(positions, ages, sexes).values():
        assert (np.diff(along.mean_months) >= 0).all()
        assert ages.min() < along.mean_months[0] and along.mean_months[-1] < ages.max()


def test_beyond_the_ends_the_ends_go_on() -> None:
    along = MaturityAges((0.0, 1.0), (60.0, 80.0), (5.0, 9.0), 10)
    assert along.at(-7) == (60, 5) and along.at(7) == (80, 9)
    assert along.at(0.25) == pytest.approx((65, 6))


@pytest.mark.parametrize(("count", "shown"), [(19, False), (20, True), (30, True), (200, True)])
def test_no_average_is_of_fewer_than_ten_hands(count: int, shown: bool) -> None:
    positions, ages, _ = told(count)
    found = ages_along(positions, ages, [F] * count)
    assert (F in found) == shown and M not in found
    if shown:
        assert found[F].hands == min(NEAREST, count // 2) >= LEAST_SHOWN == 10
        # A single hand of an age of its own moves no mean by more than a tenth of it.
        odd = ages.copy()
        odd[3] += 1000
        moved = np.array(ages_along(positions, odd, [F] * count)[F].mean_months)
        assert (np.abs(moved - found[F].mean_months) <= 1000 / LEAST_SHOWN + 1e-3).all()


def test_unknown_ages_positions_and_sexes_are_left_out() -> None:
    positions, ages, sexes = told(100)
    some = np.arange(100) < 60
    holes = [positions.copy(), ages.copy(), list(sexes)]
    holes[0][60:75] = np.nan
    holes[1][75:90] = np.nan
    holes[2][90:] = [None] * 10
    found = ages_along(*holes)
    expected = ages_along(positions[some], ages[some], sexes[:60])
    assert found == expected and set(found) == {F, M}
    assert ages_along(positions, np.full(100, np.nan), sexes) == {}


# Ages of groups


def test_a_groups_ages_are_told_from_ten_hands_on() -> None:
    groups = Groups(np.zeros((4, 1), np.float32), (F, F, M, M))
    ages = np.array([*np.linspace(30, 130, 11), *np.linspace(100, 190, 10), *[100.0] * 9, 300.0, np.nan])
    labels = np.array([0] * 11 + [1] * 10 + [2] * 9 + [1, 2])
    found = ages_of_groups(groups, labels, ages, GroupsConfig())
    assert [one.sex for one in found] == [F, F, M, M]
    assert [one.hands for one in found] == [11, 11, 9, 0]
    first, second, hidden, empty = found
    assert first.classes == (5, 4, 2, 0)
    assert first.mean_months == pytest.approx(80) and first.sd_months == pytest.approx(np.std(ages[:11]))
    assert first.percentiles_months == pytest.approx((35, 55, 80, 105, 125))
    assert second.classes == (0, 2, 5, 3)  # 300 months are in no class
    for one in (hidden, empty):
        assert one.mean_months is None and one.sd_months is None
        assert one.classes == () and one.percentiles_months == ()
    json.dumps([asdict(one) for one in found], allow_nan=False)


def test_hands_without_a_group_tell_no_groups_age() -> None:
    groups = Groups(np.zeros((1, 1), np.float32), (None,))
    (found,) = ages_of_groups(groups, np.array([-1] * 20 + [0] * 10), np.full(30, 100.0), GroupsConfig())
    assert found.hands == 10 and found.mean_months == 100 and found.sex is None
