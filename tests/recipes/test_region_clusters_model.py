"""What was learnt, kept in a file: the same readings after it is read again, and damaged files refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import drawn_regions
import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.core.errors import BundleError
from boneage.core.types import FloatArray, Sex
from boneage.recipes.region_clusters.config import GroupsConfig, InputConfig, JoinConfig
from boneage.recipes.region_clusters.crops import REGIONS
from boneage.recipes.region_clusters.encoder import ConvolutionLayer, Encoder
from boneage.recipes.region_clusters.groups import Groups
from boneage.recipes.region_clusters.joining import fit_join
from boneage.recipes.region_clusters.maturity import ages_along, ages_of_groups, fit_coordinate
from boneage.recipes.region_clusters.model import RegionClusters
from boneage.recipes.region_clusters.reader import RegionReader, half_precision
from boneage.recipes.region_clusters.views import mean_region

F, M = Sex.FEMALE, Sex.MALE
NAMES = ("2", "16", "17")
LEVELS = np.random.default_rng(0).permutation(np.linspace(0, 1, 48))
SEXES = tuple((F, M)[at % 2] for at in range(48))
PATCHES = {name: drawn_regions.patches(name, LEVELS) for name in NAMES}


@cache
def template(name: str) -> FloatArray:
    return half_precision(mean_region(PATCHES[name]))


def encoder(side: int, kind: str) -> Encoder:
    """Weights drawn at random: an encoder that has learnt nothing, but sees."""
    rng = np.random.default_rng(side)
    if kind == "pca":
        mean = rng.uniform(size=side * side).astype(np.float32)
        return Encoder((), mean, rng.normal(size=(side * side, 5)).astype(np.float32) / side).stored()

    def layer(channels: int, kernel: int, count: int, stride: int, relu: bool) -> ConvolutionLayer:
        weight = rng.normal(size=(count, channels, kernel, kernel)) / kernel
        return ConvolutionLayer(weight.astype(np.float32), np.zeros(count, np.float32), stride, relu)

    return Encoder((layer(1, 8, 4, 4, True), layer(4, 3, 2, 1, False))).stored()


def made(kind: str = "ccae", join: JoinConfig | None = None, *, align: bool, by_sex: bool) -> RegionClusters:
    """A model of the drawn hands; k-means is not asked, every eighth hand is a centroid."""
    config = InputConfig(side=16, wide_side=24, align=align)
    readers = tuple(
        RegionReader(
            name,
            config,
            template(name) if align else None,
            encoder(config.side_of(name), kind),
        )
        for name in NAMES
    )
    every = np.ones(48, np.bool_)
    latents: dict[str, FloatArray] = {reader.name: reader(PATCHES[reader.name], every) for reader in readers}
    own = join or JoinConfig(NAMES)
    contours = {name: LEVELS.astype(np.float32) for name in NAMES}
    coordinate = fit_coordinate(latents, contours, own)
    joined = coordinate if own.agreement == 1 else fit_join(latents, own)
    places = np.flatnonzero(np.isfinite(joined(latents)).all(axis=1))[::8]
    owners = tuple((F, F, F, M, M, M)[: len(places)]) if by_sex else (None,) * len(places)
    groups = Groups(joined(latents)[places].astype(np.float32), owners)
    ages = 24 + 190 * LEVELS
    positions, labels = coordinate(latents)[:, 0], groups.nearest(joined(latents), SEXES)
    return RegionClusters(
        config,
        readers,
        joined,
        coordinate,
        groups,
        ages_of_groups(groups, labels, ages, GroupsConfig()),
        ages_along(positions, ages, SEXES),
    )


@pytest.fixture(scope="module")
def plain() -> RegionClusters:
    return made(align=False, by_sex=True)


def hand(at: int) -> NDArray[np.uint8]:
    """All regions of a hand; a model looks at its own alone."""
    patches = np.zeros((19, 128, 128), np.uint8)
    for name in NAMES:
        patches[REGIONS.index(name)] = PATCHES[name][at]
    return patches


def all_seen(*without: str) -> NDArray[np.bool_]:
    return np.array([name not in without for name in REGIONS])


def kept(model: RegionClusters, folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """The model's file, and its settings as they come out of a JSON file."""
    model.save(folder / "clusters.npz")
    return folder / "clusters.npz", json.loads(json.dumps(model.settings(), allow_nan=False))


# Readings


def test_a_hand_is_read_as_the_hands_that_were_learnt_from(plain: RegionClusters) -> None:
    latents = {reader.name: reader(PATCHES[reader.name], np.ones(48, bool)) for reader in plain.readers}
    labels = plain.groups.nearest(plain.join(latents), SEXES)
    positions = plain.coordinate(latents)[:, 0]
    for at in (0, 7, 30):
        reading = plain.read(hand(at), all_seen(), SEXES[at])
        assert reading.group == labels[at] and reading.masked == ()
        assert reading.position == pytest.approx(positions[at], abs=1e-4)
    assert {plain.groups.sexes[int(label)] for label in labels[::2]} == {F}


def test_regions_that_are_masked_are_named_and_the_others_read(plain: RegionClusters) -> None:
    whole = plain.read(hand(3), all_seen(), M)
    part = plain.read(hand(3), all_seen("16", "5"), M)  # 5 is none of the model's
    assert part.masked == ("16",) and part.group is not None and part.position is not None
    assert part.position != whole.position
    other = hand(3)
    other[REGIONS.index("16")] = 77
    assert plain.read(other, all_seen("16"), M) == part
    nothing = plain.read(hand(3), all_seen(*NAMES), M)
    assert (nothing.group, nothing.position, nothing.masked) == (None, None, NAMES)


def test_a_hand_of_unknown_sex_has_a_position_but_no_group_of_one_sex(plain: RegionClusters) -> None:
    unknown = plain.read(hand(3), all_seen(), None)
    assert unknown.group is None and unknown.masked == ()
    assert unknown.position == plain.read(hand(3), all_seen(), M).position
    both = replace(plain, groups=replace(plain.groups, sexes=(None,) * len(plain.groups)))
    assert both.read(hand(3), all_seen(), None).group is not None


def test_a_region_that_cannot_be_laid_over_the_mean_is_masked() -> None:
    model = made(align=True, by_sex=False)
    patches = hand(3)
    patches[REGIONS.index("17")] = 128
    assert model.read(patches, all_seen(), F).masked == ("17",)


# Kept


@pytest.mark.parametrize("kind", ["ccae", "pca"])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(
    "join",
    [
        JoinConfig(NAMES),
        JoinConfig(NAMES, scale="region"),
        JoinConfig(NAMES, agreement=1),
        JoinConfig(NAMES, agreement=2),
    ],
    ids=["beside", "scaled", "agreed", "agreed twice"],
)
def test_a_model_says_the_same_after_it_was_kept(
    kind: str, align: bool, join: JoinConfig, tmp_path: Path
) -> None:
    model = made(kind, join, align=align, by_sex=align)
    file, settings = kept(model, tmp_path)
    again = RegionClusters.load(file, settings)
    assert again.input == model.input and again.group_ages == model.group_ages
    assert again.maturity_ages == model.maturity_ages and set(again.maturity_ages) == {F, M}
    assert again.groups.sexes == model.groups.sexes
    for at, seen in ((0, all_seen()), (1, all_seen("2")), (2, all_seen("16", "17")), (3, all_seen(*NAMES))):
        for sex in (F, M, None):
            assert again.read(hand(at), seen, sex) == model.read(hand(at), seen, sex)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clusters.npz"]  # nothing partial is left
    assert again.settings() == model.settings()


def test_a_file_is_replaced_whole_or_not_at_all(
    plain: RegionClusters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = kept(plain, tmp_path)
    before = file.read_bytes()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stop)
    with pytest.raises(KeyboardInterrupt):
        plain.save(file)
    assert file.read_bytes() == before


# Damage


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings.pop(key)


def changed(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings.update({key: value})


@pytest.mark.parametrize(
    "damage",
    [
        without("input"),
        without("regions"),
        without("averaged"),
        without("groups"),
        without("maturity"),
        changed("input", {"side": 3}),
        changed("input", {"sides": 32}),
        changed("regions", [*NAMES, "3"]),
        changed("groups", []),
        changed("groups", [{"sex": "other", "hands": 3}]),
        changed("maturity", {"other": {}}),
        changed("maturity", {"male": {"positions": [1.0]}}),
        changed("maturity", None),
        changed("groups", None),
    ],
)
def test_settings_that_do_not_belong_to_the_file_are_refused(
    damage: Callable[[dict[str, Any]], None], plain: RegionClusters, tmp_path: Path
) -> None:
    file, settings = kept(plain, tmp_path)
    broken = dict(settings)
    damage(broken)
    with pytest.raises(
        BundleError, match=r"clusters\.npz holds no clusters of regions \(.*; install the bun"
    ):
        RegionClusters.load(file, broken)


def test_a_file_that_lacks_an_array_is_refused(plain: RegionClusters, tmp_path: Path) -> None:
    file, settings = kept(plain, tmp_path)
    with np.load(file) as saved:
        arrays = dict(saved)
    assert len(arrays) == 1 + 3 * (6 + 4)
    for name in arrays:
        np.savez(file, **{other: values for other, values in arrays.items() if other != name})
        with pytest.raises(BundleError, match="holds no clusters of regions"):
            RegionClusters.load(file, settings)


def test_a_file_of_another_size_of_views_or_vectors_is_refused(plain: RegionClusters, tmp_path: Path) -> None:
    file, settings = kept(plain, tmp_path)
    with np.load(file) as saved:
        arrays = dict(saved)
    for changes in (
        {"centroids": arrays["centroids"][:, :-1]},
        {"16/join/mean": arrays["16/join/mean"][:-1]},
        {"2/weight1": arrays["2/weight1"][:1], "2/bias1": arrays["2/bias1"][:1]},
    ):
        np.savez(file, **{**arrays, **changes})
        with pytest.raises(BundleError, match="holds no clusters of regions"):
            RegionClusters.load(file, settings)


def test_a_file_that_is_cut_off_or_missing_or_something_else_is_refused(
    plain: RegionClusters, tmp_path: Path
) -> None:
    file, settings = kept(plain, tmp_path)
    content = file.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2], content[:-30]):
        file.write_bytes(damaged)
        with pytest.raises(BundleError, match="holds no clusters of regions"):
            RegionClusters.load(file, settings)
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))
    with pytest.raises(BundleError, match="holds no clusters of regions"):
        RegionClusters.load(file, settings)
    file.unlink()
    with pytest.raises(BundleError, match="holds no clusters of regions"):
        RegionClusters.load(file, settings)


def test_a_file_whose_bytes_were_changed_is_refused_or_the_same(
    plain: RegionClusters, tmp_path: Path
) -> None:
    file, settings = kept(plain, tmp_path)
    content = file.read_bytes()
    expected = plain.read(hand(0), all_seen(), F)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        file.write_bytes(bytes(damaged))
        try:
            found = RegionClusters.load(file, settings)
        except BundleError:
            continue
        assert found.read(hand(0), all_seen(), F) == expected
