"""Neighbours at inference: what training would group, told in averages, and no age is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_fakes import EDGES, REGIONS, TOLD, clusters, found_group, settings_of, with_clusters

from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.core.errors import BundleError
from boneage.core.types import Hand, HandGroup, Radiograph, Sex
from boneage.data.synthetic import draw_hand
from boneage.inference.assess import Assessor
from boneage.inference.bundle import Bundle
from boneage.inference.neighbours import REGION_WORDS, FoundNeighbours, NeighbourFinder
from boneage.recipes.region_clusters.crops import REGIONS as KEY_REGIONS
from boneage.recipes.region_clusters.crops import patches_of

PLAIN = Bundle(Path("fake"), {"name": "fake", "version": "0"})
NOT_THERE, UNLIKE = "(not in the image, or blank)", "(not to be laid over the mean region)"


@pytest.fixture(scope="module")
def film() -> tuple[Radiograph, Hand]:
    """A drawn hand, and where it lies."""
    drawn = draw_hand(120.0, Sex.FEMALE, 0)
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    hand = hand_from_points(points, None, drawn.pixels.shape, confidence=0.9, method="fast")
    return drawn.radiograph, hand


@pytest.fixture
def tell(tmp_path: Path, film: tuple[Radiograph, Hand]):  # type: ignore[no-untyped-def]
    """Tell the drawn hand's neighbours with a model made by hand."""

    def ask(
        sex: Sex = Sex.FEMALE,
        *,
        radiograph: Radiograph | None = None,
        absent: tuple[str, ...] = (),
        **made: Any,
    ) -> FoundNeighbours:
        bundle = with_clusters(PLAIN, tmp_path, clusters(**made))
        return NeighbourFinder(bundle)(radiograph or film[0], film[1], sex, absent)

    return ask


@pytest.mark.parametrize(
    ("position", "sex", "number"),
    [
        *((0.1, sex, 1) for sex in Sex),
        *((0.4, sex, 2) for sex in Sex),
        *((0.9, sex, 3) for sex in Sex),
    ],
)
def test_groups_are_numbered_from_one_within_the_sex(tell, position: float, sex: Sex, number: int) -> None:
    group = tell(sex, position=position).neighbours.group
    assert (group.number, group.count, group.sex) == (number, 3, sex)


@pytest.mark.parametrize("sex", Sex)
def test_shared_groups_are_numbered_over_both_sexes(tell, sex: Sex) -> None:
    group = tell(sex, position=0.8, shared=True).neighbours.group
    assert (group.number, group.count, group.sex) == (3, 3, None)


def test_a_groups_bone_ages_are_those_of_its_training_hands(tell) -> None:
    found = tell(position=0.5)
    assert found.neighbours.group == found_group()
    assert found.neighbours.group.edges_months == EDGES and len(TOLD.classes) == len(EDGES) - 1
    assert (found.neighbours.regions, found.neighbours.masked, found.warnings) == (REGIONS, (), ())


@pytest.mark.parametrize(
    ("position", "mean", "spread"), [(0.5, 120, 12), (0.3, 90, 9), (0.8, 165, 9), (0.9, 180, 8)]
)
def test_the_typical_age_lies_where_the_hand_does(tell, position: float, mean: float, spread: float) -> None:
    found = tell(position=position)
    typical = found.neighbours.typical
    assert (typical.mean_months, typical.sd_months) == pytest.approx((mean, spread), abs=1e-4)
    assert typical.hands == 15


@pytest.mark.parametrize(
    ("position", "mean", "words"),
    [(0.05, 60, "less mature than the 15 least mature training hands"), (0.97, 180, "15 most mature")],
)
def test_a_hand_beyond_all_training_hands_is_said_to_be(
    tell, position: float, mean: float, words: str
) -> None:
    found = tell(position=position)
    (notice,) = found.warnings
    assert notice.code == "beyond_neighbours" and words in notice.text
    assert found.neighbours.typical.mean_months == mean


def test_where_too_few_hands_are_known_no_average_is_told(tell) -> None:
    boy = tell(Sex.MALE).neighbours
    assert boy.group == HandGroup(number=2, count=3, sex=Sex.MALE, hands=7)
    assert boy.group.mean_months is None and boy.group.classes == boy.group.edges_months == ()
    assert boy.typical is None
    assert tell(known=False).neighbours.typical is None


def test_the_views_are_those_that_training_cuts(tell, film: tuple[Radiograph, Hand]) -> None:
    model = clusters(0.0, looks=True)
    patches, seen = patches_of(*film)
    views = [
        reader.views(patches[at : at + 1])[0]
        for reader in model.readers
        for at in [KEY_REGIONS.index(reader.name)]
    ]
    assert seen.all() and all(view is not None and np.ptp(view) > 0.2 for view in views)
    position = float(np.mean([view.mean() for view in views if view is not None]))
    assert 0.1 < position < 0.9
    found = tell(position=0.0, looks=True).neighbours.typical
    expected = clusters().maturity_ages[Sex.FEMALE].at(position)
    assert (found.mean_months, found.sd_months) == pytest.approx(expected, abs=0.1)


def row_above_the_wrist(hand: Hand, by: float) -> int:
    """The row that lies `by` above the wrist, of the distance from there to the knuckle."""
    return round(hand.to_upright.inverse()(np.array([0.0, -by]))[1])


def cut_off(radiograph: Radiograph, hand: Hand) -> Radiograph:
    """The film without what lies below the wrist."""
    return replace(radiograph, pixels=radiograph.pixels[: row_above_the_wrist(hand, 0.0)])


def covered(radiograph: Radiograph, hand: Hand) -> Radiograph:
    """The film with one grey where the view of the radius lies, and below it."""
    pixels = radiograph.pixels.copy()
    pixels[row_above_the_wrist(hand, 0.25) :] = 0.5
    return replace(radiograph, pixels=pixels)


@pytest.mark.parametrize("spoil", [cut_off, covered])
def test_a_region_that_is_not_there_is_named_and_takes_no_part(tell, film, spoil) -> None:
    found = tell(position=0.5, radiograph=spoil(*film))
    (notice,) = found.warnings
    assert notice.code == "regions_masked" and f"17 distal radius {NOT_THERE}" in notice.text
    assert found.neighbours.masked == ("17",) and found.neighbours.regions == ("2", "19")
    assert found.neighbours.group == found_group() and found.neighbours.typical.mean_months == 120


def test_a_region_unlike_the_mean_one_is_named_with_another_reason(tell) -> None:
    found = tell(unlike=["2"], absent=("radius",))
    (notice,) = found.warnings
    assert notice.text.endswith(f"2 thumb's MCP joint {UNLIKE}; 17 distal radius {NOT_THERE}")
    assert (found.neighbours.masked, found.neighbours.regions) == (("2", "17"), ("19",))


@pytest.mark.parametrize(
    ("absent", "masked"), [((), ()), (("radius",), ("17",)), (("radius", "ulna"), ("17", "18"))]
)
def test_bones_known_not_to_be_on_the_film_are_not_read(
    tell, absent: tuple[str, ...], masked: tuple[str, ...]
) -> None:
    found = tell(regions=("16", "17", "18"), absent=absent)
    assert found.neighbours.masked == masked and len(found.warnings) == bool(masked)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "3 not in the image, or blank"),
        ({"unlike": REGIONS}, "3 not to be laid over the mean region"),
        (
            {"unlike": ["2", "19"], "absent": ("radius",)},
            "2 not to be laid over the mean region, 1 not in the image, or blank",
        ),
    ],
)
def test_if_nothing_can_be_read_there_are_no_neighbours_and_that_is_said(
    tell, film: tuple[Radiograph, Hand], given: dict[str, Any], why: str
) -> None:
    blank = replace(film[0], pixels=np.full_like(film[0].pixels, 0.4))
    found = tell(**(given or {"radiograph": blank}))
    (notice,) = found.warnings
    assert found.neighbours is None and notice.code == "no_neighbours"
    assert f"none of the 3 key regions can be read ({why})" in notice.text


def test_every_key_region_has_a_name_of_its_own() -> None:
    assert tuple(REGION_WORDS) == KEY_REGIONS and len(set(REGION_WORDS.values())) == 19
    assert [REGION_WORDS[name] for name in ("1", "3", "8", "12", "15", "18")] == [
        "thumb's IP joint", "forefinger's DIP joint", "middle finger's MCP joint",
        "little finger's DIP joint", "base of the thumb", "distal ulna",
    ]  # fmt: skip


def test_the_radiograph_is_left_as_it_was_and_the_stage_is_watched(
    tmp_path: Path, film: tuple[Radiograph, Hand]
) -> None:
    stages: list[str] = []

    @contextmanager
    def watch(stage: str) -> Iterator[None]:
        stages.append(stage)
        yield

    before = film[0].pixels.copy()
    NeighbourFinder(with_clusters(PLAIN, tmp_path, clusters()), watch)(*film, Sex.MALE)
    assert stages == ["neighbours"] and np.array_equal(before, film[0].pixels)


def test_a_bundle_without_groups_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"fake 0 has no groups.*--extend BUNDLE --region-clusters RUN"):
        NeighbourFinder(PLAIN)
    bundle = with_clusters(PLAIN, tmp_path, clusters())
    for key in ("files", "region_clusters"):
        manifest = {name: value for name, value in bundle.manifest.items() if name != key}
        with pytest.raises(BundleError, match="has no groups"):
            NeighbourFinder(Bundle(bundle.path, manifest))


def without(settings: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != key}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda settings: settings_of(clusters(shared=True)), "6 centroids for 3 groups"),
        (lambda settings: without(settings, "maturity"), "'maturity'"),
        (lambda settings: without(settings, "edges_months"), "0 edges_months for 4 age classes"),
        (lambda settings: {**settings, "edges_months": EDGES[:-1]}, "4 edges_months for 4 age classes"),
        (
            lambda settings: {
                **settings,
                "groups": [{**group, "percentiles_months": [1.0, 2.0]} for group in settings["groups"]],
            },
            "2 percentiles of a group for 5",
        ),
    ],
    ids=["other groups", "no maturity", "no edges", "other edges", "other percentiles"],
)
def test_settings_that_do_not_belong_to_the_file_are_refused(tmp_path: Path, spoil, said: str) -> None:
    bundle = with_clusters(PLAIN, tmp_path, clusters())
    manifest = {**bundle.manifest, "region_clusters": spoil(bundle.manifest["region_clusters"])}
    with pytest.raises(BundleError, match=said):
        NeighbourFinder(Bundle(bundle.path, manifest))


def test_a_file_that_holds_no_groups_is_refused(tmp_path: Path) -> None:
    bundle = with_clusters(PLAIN, tmp_path, clusters())
    (tmp_path / "region_clusters.npz").write_bytes(b"no arrays")
    with pytest.raises(BundleError, match=r"region_clusters\.npz holds no clusters"):
        NeighbourFinder(bundle)


STAGES: list[str] = []


@pytest.fixture(scope="module")
def assessor(tmp_path_factory: pytest.TempPathFactory) -> Assessor:
    """An assessor with the shipped bundle and neighbours; it keeps the names of its stages."""

    @contextmanager
    def watch(stage: str) -> Iterator[None]:
        STAGES.append(stage)
        yield

    bundle = with_clusters(Bundle.load(), tmp_path_factory.mktemp("bundle"), clusters(0.4))
    return Assessor(bundle, threads=1, neighbours=True, watch=watch)


def test_the_answer_is_the_same_with_and_without(assessor: Assessor, film: tuple[Radiograph, Hand]) -> None:
    plain = Assessor(assessor.bundle, threads=1).assess(film[0])
    STAGES.clear()
    found = assessor.assess(film[0])
    assert plain.neighbours is None
    assert found.neighbours is not None and found.neighbours.group == found_group()
    assert found.neighbours.typical is not None
    assert found.neighbours.typical.mean_months == pytest.approx(105.0, abs=1e-4)
    for key in ("bone_age_months", "interval_months", "ages", "regions", "scores", "growth", "warnings"):
        assert getattr(found, key) == getattr(plain, key), key
    assert found.provenance["method"] == plain.provenance["method"]
    assert STAGES.count("neighbours") == 1 and STAGES[-1] == "neighbours"


def test_what_is_not_on_the_film_is_told_to_the_finder_of_neighbours(
    assessor: Assessor, film: tuple[Radiograph, Hand], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Assessor, "_absent", lambda *_: ("radius",))
    found = assessor.assess(film[0])
    assert found.neighbours is not None and found.neighbours.masked == ("17",)
    assert "regions_masked" in [notice.code for notice in found.warnings]
