"""Key regions cut out of drawn films: what is kept, what is masked, and when nothing is cut again."""

from __future__ import annotations

import csv
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import drawn_regions
import numpy as np
import pytest

from boneage.anatomy.regions import MIN_VISIBLE, RegionViews, key_regions
from boneage.core.errors import ConfigError, NotAHand
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.manifest import read_manifest
from boneage.recipes.region_clusters import crops as module
from boneage.recipes.region_clusters.crops import (
    INDEX,
    PATCH_MARGIN,
    PATCH_SIDE,
    REGIONS,
    HandRegions,
    patches_of,
    read_regions,
)

CHILDREN = drawn_regions.children(6)


def read_now(data: Path, folder: Path, calls: list[str] | None = None) -> HandRegions:
    return read_regions(read_manifest(data), folder, drawn_regions.locator(calls))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films; the third ends above the wrist."""
    return drawn_regions.write_films(tmp_path_factory.mktemp("films"), CHILDREN, cut_off=[2])


@pytest.fixture(scope="module")
def hands(data: Path, tmp_path_factory: pytest.TempPathFactory) -> HandRegions:
    return read_now(data, tmp_path_factory.mktemp("out") / "regions")


def film(level: float = 0.5) -> Radiograph:
    return Radiograph(drawn_regions.draw_film(level, 1).astype(np.float32) / 255)


def as_read(path: Path) -> Radiograph:
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    return Radiograph(pixels.astype(np.float32) / 255)


# One hand


def test_a_patch_shows_its_region_and_some_more_around_it() -> None:
    radiograph, hand = film(), drawn_regions.hand()
    patches, seen = patches_of(radiograph, hand)
    assert patches.shape == (19, PATCH_SIDE, PATCH_SIDE) and patches.dtype == np.uint8
    assert seen.all() and seen.dtype == np.bool_
    views = RegionViews(radiograph)
    for patch, region in zip(patches, key_regions(hand, radiograph.shape), strict=True):
        np.testing.assert_array_equal(patch, views.patch(region.to_view, PATCH_SIDE, PATCH_MARGIN))
    inner = slice(round(PATCH_SIDE * 0.5 * (1 - 1 / PATCH_MARGIN)), None)
    for name in ("2", "8", "17"):
        patch = patches[REGIONS.index(name)].astype(np.float32)[inner, inner]
        side = round(PATCH_SIDE / PATCH_MARGIN)
        drawn_regions.assert_is(patch[:side, :side], drawn_regions.draw(name, 0.5, 1, side), 0.9)


def test_regions_beyond_the_films_edge_are_blank_and_not_seen() -> None:
    radiograph = film()
    cut = replace(radiograph, pixels=radiograph.pixels[:250])
    patches, seen = patches_of(cut, drawn_regions.hand())
    shares = [region.visible for region in key_regions(drawn_regions.hand(), cut.shape)]
    assert seen.tolist() == [share >= MIN_VISIBLE for share in shares]
    assert [name for name, there in zip(REGIONS, seen, strict=True) if not there] == ["17", "18"]
    assert (patches[~seen] == 0).all()
    assert all(np.ptp(patch) > 100 for patch in patches[seen])


def test_a_region_that_shows_nothing_is_not_seen() -> None:
    radiograph = film()
    pixels = radiograph.pixels.copy()
    region = key_regions(drawn_regions.hand(), radiograph.shape)[REGIONS.index("1")]
    x, y = region.to_view.inverse()(np.array([0.5, 0.5]))
    pixels[int(y) - 30 : int(y) + 30, int(x) - 30 : int(x) + 30] = 0.4
    _, seen = patches_of(replace(radiograph, pixels=pixels), drawn_regions.hand())
    assert not seen[REGIONS.index("1")] and seen.sum() >= 17


def test_a_hand_that_is_elsewhere_altogether_has_no_region() -> None:
    patches, seen = patches_of(film(), drawn_regions.hand((2000.0, 0.0)))
    assert not seen.any() and not patches.any()


# Many hands


def test_every_hand_is_cut_and_knows_its_row(hands: HandRegions) -> None:
    assert len(hands) == 6 and [row.id for row in hands.rows] == [child.name for child in CHILDREN]
    assert hands.ages.tolist() == [child.age_months for child in CHILDREN]
    assert [row.sex for row in hands.rows] == [child.sex for child in CHILDREN]
    assert hands.seen.shape == (6, 19)
    masked = [(at, REGIONS[place]) for at, place in zip(*np.nonzero(~hands.seen), strict=True)]
    assert masked == [(2, "17"), (2, "18")]
    for region in ("2", "16"):
        patches = hands.patches(region)
        assert patches.shape == (6, PATCH_SIDE, PATCH_SIDE) and patches.dtype == np.uint8
        for at, child in enumerate(CHILDREN):
            expected, _ = patches_of(as_read(hands.rows[at].path), drawn_regions.hand())
            difference = np.abs(patches[at].astype(int) - expected[REGIONS.index(region)])
            assert difference.max() <= 1, child.name


def test_ages_and_sexes_may_be_unknown(tmp_path: Path) -> None:
    unknown = [drawn_regions.Child("a", 0.5, None, None), drawn_regions.Child("b", 0.5, 90.0, Sex.MALE)]
    data = drawn_regions.write_manifest(tmp_path, unknown)
    hands = read_now(data, drawn_regions.write_regions(tmp_path / "regions", unknown))
    assert np.isnan(hands.ages[0]) and hands.ages[1] == 90
    assert [row.sex for row in hands.rows] == [None, Sex.MALE]


# Warnings and errors


def test_masked_regions_and_hands_left_out_are_said(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(data.parent, tmp_path / "films")
    (folder / "h001.png").write_bytes(b"no image")
    (folder / "h004.png").unlink()

    def locate(radiograph: Radiograph) -> Hand:
        if Path(radiograph.path).stem == "h000":
            raise NotAHand("no hand here")
        return drawn_regions.hand()

    with caplog.at_level(logging.WARNING):
        hands = read_regions(read_manifest(folder / data.name), tmp_path / "regions", locate)
    assert [row.id for row in hands.rows] == ["h002", "h003", "h005"]
    told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    for name in ("h000.png (no hand here)", "h001.png", "h004.png"):
        assert any(text.startswith("left out:") and name in text for text in told), name
    assert "h002: masked, not in the image or blank: regions 17, 18" in told
    expected, _ = patches_of(as_read(folder / "h005.png"), drawn_regions.hand())
    difference = hands.patches("2")[2].astype(int) - expected[REGIONS.index("2")]
    assert np.abs(difference).max() <= 1  # files of those left out leave no gap


def test_nothing_that_locates_hands_and_no_hand_at_all_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key regions need a hand localiser; the bundle has none"):
        read_regions(read_manifest(data), tmp_path / "regions", None)

    def locate(radiograph: Radiograph) -> Hand:
        raise NotAHand("no hand here")

    for _ in range(2):  # a second call tries again
        with pytest.raises(ConfigError, match="no hand was found in any image: see the reasons above"):
            read_regions(read_manifest(data), tmp_path / "regions", locate)
        assert not (tmp_path / "regions" / INDEX).exists()


# Once


def test_files_that_are_there_are_read_and_nothing_is_located(
    data: Path, hands: HandRegions, caplog: pytest.LogCaptureFixture
) -> None:
    files = sorted(path.name for path in hands.folder.iterdir())
    assert files == sorted([INDEX, *(f"{name}.npy" for name in REGIONS)])
    times = {path: path.stat().st_mtime_ns for path in hands.folder.iterdir()}
    calls: list[str] = []
    with caplog.at_level(logging.WARNING):
        again = read_now(data, hands.folder, calls)
    without = read_regions(read_manifest(data), hands.folder, None)
    assert not calls and not caplog.records
    for other in (again, without):
        assert other.rows == hands.rows
        np.testing.assert_array_equal(other.seen, hands.seen)
        np.testing.assert_array_equal(other.patches("11"), hands.patches("11"))
    assert {path: path.stat().st_mtime_ns for path in hands.folder.iterdir()} == times


def test_an_interrupted_cutting_leaves_no_index_and_is_begun_again(data: Path, tmp_path: Path) -> None:
    calls: list[str] = []

    def locate(radiograph: Radiograph) -> Hand:
        calls.append(radiograph.path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return drawn_regions.hand()

    with pytest.raises(KeyboardInterrupt):
        read_regions(read_manifest(data), tmp_path / "regions", locate)
    assert not (tmp_path / "regions" / INDEX).exists()
    assert len(read_now(data, tmp_path / "regions")) == 6


def test_a_folder_of_another_manifest_is_refused(hands: HandRegions, tmp_path: Path) -> None:
    others = [replace(child, name=f"x{at}") for at, child in enumerate(CHILDREN)]
    data = drawn_regions.write_manifest(tmp_path, others)
    with pytest.raises(ConfigError, match=r"of another manifest \(it has 'h000'\): begin with another --out"):
        read_now(data, hands.folder)
    fewer = drawn_regions.write_manifest(tmp_path, CHILDREN[:-1])
    with pytest.raises(ConfigError, match=r"of another manifest \(it has 'h005'\)"):
        read_now(fewer, hands.folder)


def test_hands_that_were_not_there_when_the_others_were_cut_are_said(
    hands: HandRegions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = [*CHILDREN, drawn_regions.Child("new0", 0.5, 90.0, Sex.MALE)]
    data = drawn_regions.write_manifest(tmp_path, more)
    with caplog.at_level(logging.WARNING):
        found = read_now(data, hands.folder)
    assert len(found) == 6
    (record,) = caplog.records
    assert "1 of 7 images" in record.getMessage() and "another --out" in record.getMessage()


def test_the_manifests_order_and_labels_may_change_but_not_whose_patches_are_whose(
    hands: HandRegions, tmp_path: Path
) -> None:
    turned = [replace(child, age_months=100.0) for child in CHILDREN[::-1]]
    found = read_now(drawn_regions.write_manifest(tmp_path, turned), hands.folder)
    assert [row.id for row in found.rows] == [row.id for row in hands.rows]
    assert set(found.ages.tolist()) == {100.0}
    np.testing.assert_array_equal(found.patches("2"), hands.patches("2"))


def test_patches_are_read_anew_where_a_folder_is_cut_again(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "regions"
    first = read_now(data, folder).patches("2")
    shutil.rmtree(folder)
    turned = drawn_regions.write_manifest(tmp_path, CHILDREN)
    with turned.open(newline="") as file:
        lines = list(csv.reader(file))
    paths = [str(data.parent / line[1]) for line in lines[1:]]
    for line, path in zip(lines[1:], paths[::-1], strict=True):
        line[1] = path  # the same ids have one another's images
    with turned.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    second = read_now(turned, folder).patches("2")
    np.testing.assert_array_equal(second, first[::-1])
