"""Paper 2's experiments on drawn hands: every table and figure, from films to the report."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import drawn_regions
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from boneage.anatomy.regions import KEY_REGIONS  # noqa: E402
from boneage.core.errors import ConfigError  # noqa: E402
from boneage.core.types import Sex  # noqa: E402
from boneage.recipes.region_clusters import encode as encode_module  # noqa: E402
from boneage.recipes.region_clusters import figures, learn, tables, views  # noqa: E402
from boneage.recipes.region_clusters import reproduce as module  # noqa: E402
from boneage.recipes.region_clusters.config import PAPER_BEST, GroupsConfig, Recipe  # noqa: E402
from boneage.recipes.region_clusters.groups import age_classes, class_edges  # noqa: E402
from boneage.recipes.region_clusters.joining import LEAST_HANDS  # noqa: E402
from boneage.recipes.region_clusters.learn import RegionTask  # noqa: E402
from boneage.recipes.region_clusters.reproduce import (  # noqa: E402
    ALIGNED,
    CCAE,
    COMBINATIONS,
    EQUAL,
    EVERY,
    PAPER,
    PIXELS,
    TITLES,
    VAE,
    Study,
    balanced_share,
    encodings,
    make_study,
    paper_shares,
    reproduce,
    ways,
)
from boneage.recipes.region_clusters.results import PAPER_CLASSES, group, measure  # noqa: E402
from boneage.recipes.region_clusters.tables import (  # noqa: E402
    PRINTED_COMBINATIONS,
    PRINTED_GROUPS,
    PRINTED_REGIONS,
    Measurements,
)
from boneage.training.config import TrainJob, read_config  # noqa: E402

FOLDER = Path(module.__file__).parent
COUNT = 88
CHILDREN = drawn_regions.children(COUNT)
OUTSIDE = [
    drawn_regions.Child("young", 0.0, 10.0, Sex.MALE),
    drawn_regions.Child("unknown", 0.5, 100.0, None),
    drawn_regions.Child("ageless", 0.5, None, Sex.FEMALE),
]
CUT_OFF = (3,)
OVERRIDES = (
    "input.side=16",
    "input.wide_side=24",
    "network.layers=[[8, 3, 4], [3, 2, 1]]",
    "network.components=4",
    "groups.count=8",
    "groups.starts=1",
    "schedule.epochs=1",
    "schedule.folds=2",
    "schedule.processes=1",
)
COUNTS = (4, 8)


def no_training(task: RegionTask, epochs: int) -> None:
    """Networks stay as they were drawn at random: what they learn is tested elsewhere."""
    task.losses = [1.0] * epochs


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fewer groups than the paper's 64, and means of a few patches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "run_at_once", no_training)
        patch.setattr(views, "_MOST_OF_A_MEAN", 6)
        patch.setattr("boneage.recipes.region_clusters.reproduce.GROUP_COUNTS", COUNTS)
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """Drawn films, reproduced."""
    data = drawn_regions.write_films(tmp_path_factory.mktemp("films"), [*CHILDREN, *OUTSIDE], CUT_OFF)
    out = tmp_path_factory.mktemp("out") / "run"
    done = TrainJob(data, out, overrides=OVERRIDES, locate=drawn_regions.locator())
    assert reproduce(done) == done.out
    return done


@pytest.fixture(scope="module")
def tree(job: TrainJob) -> dict[str, Any]:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    parsed: dict[str, Any] = json.loads((job.out / "tables.json").read_text(), parse_constant=refuse)
    return parsed


@pytest.fixture(scope="module")
def study(job: TrainJob) -> Study:
    """The same study again; nothing is learnt for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module, "_learn", refuse)
        return make_study(replace(job, locate=None), recipe_of(job))


def refuse(*_: object) -> None:
    raise AssertionError("learnt again")


def recipe_of(job: TrainJob) -> Recipe:
    return read_config(FOLDER / "recipe.toml", Recipe, job.overrides)


# What is compared


def test_the_ways_of_encoding_differ_in_what_they_are_called(job: TrainJob) -> None:
    recipe = recipe_of(job)
    found = encodings(recipe)
    assert set(found) == set(TITLES) == {CCAE, VAE, PIXELS, ALIGNED}
    assert found[CCAE] == recipe and found[CCAE].network.kind == "ccae"
    assert found[VAE].network.kind == "vae" and found[VAE].input == recipe.input
    assert found[VAE].network.layers == recipe.network.layers
    assert found[PIXELS].network.kind == "pca" and found[PIXELS].input.steps == ()
    assert found[ALIGNED].input.align and found[ALIGNED].network == recipe.network
    assert not any(found[name].input.align for name in (CCAE, VAE, PIXELS))
    assert all(own.schedule == recipe.schedule for own in found.values())
    own = ways(recipe)
    assert set(own) == {*TITLES, "agreed", "agreed_by_sex"}
    assert all(own[name].join == recipe.join and own[name].encoding == name for name in TITLES)
    for name in ("agreed", "agreed_by_sex"):
        assert own[name].join.agreement == 1 and set(own[name].join.regions) == set(KEY_REGIONS)
        assert own[name].groups.by_sex == (name == "agreed_by_sex")


def test_the_printed_figures_are_the_papers() -> None:
    assert PAPER_BEST in COMBINATIONS and ("3", "4") in COMBINATIONS
    printed = dict(zip(COMBINATIONS, PRINTED_COMBINATIONS, strict=True))
    assert printed[PAPER_BEST] == PRINTED_GROUPS[16][0] == 76.15
    assert printed[("2", "5", "8", "11", "17", "19")] == 72.08 and printed[("3", "4")] == 49.48
    assert set(PRINTED_GROUPS) == {4, 8, 16, 24, 32, 64} and PRINTED_GROUPS[64] == (76.88, 17.38)
    assert set(PRINTED_REGIONS) == set(KEY_REGIONS) - {"15"}
    assert max(PRINTED_REGIONS.values(), key=lambda pair: pair[1]) == PRINTED_REGIONS["19"] == (60.73, 65.42)
    ahead = sum(ccae > vae for vae, ccae in PRINTED_REGIONS.values())
    assert ahead == 17  # all but region 6


def test_shares_are_the_papers_where_its_classes_are(job: TrainJob) -> None:
    recipe = recipe_of(job)
    assert paper_shares(recipe) == PAPER_CLASSES
    other = replace(recipe, groups=GroupsConfig(interval_months=24))
    assert paper_shares(other) == (1,) * 8


def test_hands_and_subsets(study: Study) -> None:
    assert len(study.hands) == COUNT + 1  # without those of unknown sex or age
    assert {row.id for row in study.hands.rows} == {child.name for child in [*CHILDREN, OUTSIDE[0]]}
    classes = age_classes(study.hands.ages, class_edges(study.recipe.groups))
    counts = {name: np.bincount(classes[hands], minlength=4) for name, hands in study.subsets.items()}
    assert counts[EVERY].sum() == COUNT and set(counts) == {PAPER, EQUAL, EVERY}
    assert len(set(counts[EQUAL].tolist())) == 1
    np.testing.assert_allclose(counts[PAPER] / counts[PAPER].max(), np.array(PAPER_CLASSES) / 276, atol=0.05)
    for share in (0.4, 1.0):
        given = (study.subsets[PAPER], study.hands.ages, share, study.recipe)
        some = balanced_share(*given)
        assert not some[~study.subsets[PAPER]].any()
        found = np.bincount(classes[some], minlength=4)
        np.testing.assert_allclose(found, share * counts[PAPER], atol=0.5 + 1e-9)
        np.testing.assert_array_equal(some, balanced_share(*given))
    for name, hands in study.sizes.items():
        assert name == f"{hands.sum()} hands" and hands.sum() >= 2 * LEAST_HANDS


def test_all_19_regions_are_encoded_in_every_way(study: Study, job: TrainJob) -> None:
    for name, sample in study.samples.items():
        assert set(sample.latents) == set(KEY_REGIONS)
        files = {path.name for path in (job.out / name).iterdir()}
        assert files == {f"{region}.npz" for region in KEY_REGIONS}
        for region in ("17", "18"):
            assert np.isnan(sample.latents[region][CUT_OFF[0]]).all()
        assert np.isfinite(sample.latents["2"]).all(axis=1).mean() > 0.95
        assert len(sample) == COUNT + 1 and sample.folds.max() == 1
    assert study.samples[PIXELS].latents["2"].shape[1] == 4
    assert study.samples[CCAE].latents["16"].shape[1] == 2 * 6 * 6
    with np.load(job.out / ALIGNED / "2.npz") as saved:
        assert "template" in saved.files
    with np.load(job.out / CCAE / "2.npz") as saved:
        assert "template" not in saved.files


# The report


SECTIONS = (
    "# Paper 2 on the data given",
    f"all {COUNT + 1} hands",
    "*held out*: groups and labels come from the other folds of 2",
    "## Best combination, 8 groups",
    "the paper, 960 hands, same hands",
    "## Table 1: the groups",
    "## Table 2: combinations of regions",
    "| 2, 5, 8, 11, 16, 17, 19 | 76.15 |",
    "## Table 3: number of groups",
    "| 8 | 67.81; 67.18 |",
    "## Table 4 and Figure 7: single regions",
    "| 15 |  |  |",
    "Held out, the CCAE is ahead of the VAE in",
    "## A coordinate of maturity without a label",
    "## Regions that were masked",
    "17: 1, 18: 1",
)


def test_the_report_has_every_section_and_whole_tables(job: TrainJob) -> None:
    text = (job.out / "tables.md").read_text()
    for section in SECTIONS:
        assert section in text, section
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) >= 8
    for block in blocks:  # every line of a table has its head's columns
        assert len({line.count("|") for line in block.splitlines()}) == 1, block.splitlines()[0]
    assert not re.search(r"\b(nan|inf|None)\b", text)


def test_the_tree_has_what_the_tables_have(job: TrainJob, tree: dict[str, Any]) -> None:
    text = (job.out / "tables.md").read_text()
    best = tree["Best combination, 8 groups"]
    assert len(best) == 6 * 3
    for record in best.values():
        for part in ("same", "held_out"):
            accuracy = record[part]["accuracy"]
            assert 0 <= accuracy["low"] <= accuracy["estimate"] <= accuracy["high"] <= 1
            assert f"{100 * accuracy['estimate']:.1f}" in text
            assert 0 < record[part]["mae_months"] < 100
        assert -0.5 <= record["adjusted_rand"] <= 1 and 0 <= record["normalised_mutual_information"] <= 1
    groups = tree["Table 1: the groups"]
    assert set(groups) == {CCAE, "agreed_by_sex"}
    assert len(tree["Table 2: combinations of regions"]) == 6 * 4
    assert len(tree["Table 3: number of groups"]) == len(COUNTS) * 4
    assert len(tree["Table 4 and Figure 7: single regions"]) == 19 * (4 + 3)
    assert len(tree["A coordinate of maturity without a label"]) == 4 * 3
    assert tree["Regions that were masked"][CCAE]["17"] == 1
    assert tree["recipe"]["groups"]["count"] == 8


def test_the_same_thing_in_two_tables_has_the_same_figure(tree: dict[str, Any]) -> None:
    best = tree["Best combination, 8 groups"][f"{CCAE}, {PAPER}"]
    assert tree["Table 2: combinations of regions"][f"{CCAE}, {' '.join(PAPER_BEST)}"] == best
    assert tree["Table 3: number of groups"][f"{CCAE}, 8"] == best
    table = np.array(tree["Table 1: the groups"][CCAE])
    assert table.max(axis=1).sum() / table.sum() == pytest.approx(best["same"]["accuracy"]["estimate"])
    by_sex = tree["Best combination, 8 groups"][f"agreed_by_sex, {PAPER}"]
    assert tree["Table 3: number of groups"]["agreed_by_sex, 8"] == by_sex


def test_what_is_measured_is_the_study_s(study: Study, tree: dict[str, Any]) -> None:
    measured = Measurements(study)
    way = measured.way(VAE, ("16", "17"))
    assert way.encoding == VAE and way.join.regions == ("16", "17")
    for subset in (PAPER, EVERY):
        outcome = measured.of(study.ways[CCAE], subset)
        record = tree["Best combination, 8 groups"][f"{CCAE}, {subset}"]
        assert record["held_out"]["accuracy"]["estimate"] == outcome.held_out.accuracy.estimate
        assert len(outcome.same.classes) == study.subsets[subset].sum()
    # One grouping is measured at several intervals.
    coarse, fine = measured.single(CCAE, "2"), measured.single(CCAE, "2", 12)
    np.testing.assert_array_equal(coarse.groups, fine.groups)
    assert fine.table.shape[1] == 16 and coarse.table.shape[1] == 4
    assert fine.same.accuracy.estimate < coarse.same.accuracy.estimate
    # What is kept for other tables changes nothing.
    sample, way = study.sample(CCAE, PAPER), study.ways[CCAE]
    grouping = group(sample, way.join, way.groups, study.recipe.schedule.seed)
    again, kept = measure(sample, grouping, way.groups), measured.of(way)
    assert again.same.accuracy == kept.same.accuracy
    assert again.held_out.accuracy == kept.held_out.accuracy


def test_drawn_hands_are_ordered_by_what_their_regions_agree_on(tree: dict[str, Any]) -> None:
    for told in ("all 19", ", ".join(PAPER_BEST)):
        record = tree["A coordinate of maturity without a label"][f"{ALIGNED}, {told}"]
        assert abs(record["spearman"]["girls"]["estimate"]) > 0.7
        assert 0 < record["agreement"] < 1
    alone = tree["A coordinate of maturity without a label"][f"{ALIGNED}, 19"]
    assert alone["agreement"] == 1


FIGURES = {
    "figure_3_steps",
    "figure_6_map",
    "figure_7_regions_same_hands",
    "figure_7_regions_held_out",
    "figure_8_sizes",
    "figure_9_maps",
    "figure_10_confused",
    "table_1_groups",
    "coordinate",
}


def test_every_figure_is_there_and_shows_something(job: TrainJob) -> None:
    assert {path.stem for path in job.out.glob("*.png")} == FIGURES
    assert not list(job.out.glob("*.partial"))
    for name in FIGURES:
        image = cv2.imread(str(job.out / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert image is not None and min(image.shape) > 100, name
        assert 0.001 < (image < 200).mean() < 0.95, name


def test_the_most_confused_are_of_one_group_and_differ_in_age(study: Study) -> None:
    sample = study.sample(CCAE, PAPER)
    outcome = Measurements(study).of(study.ways[CCAE])
    classes = outcome.same.classes
    values = np.hstack([sample.latents[name] for name in PAPER_BEST])
    pairs = figures._nearest_unlike(values, outcome.groups, classes, sample.ages)
    assert 0 < len(pairs) <= figures.PAIRS
    assert len({at for pair in pairs for at in pair}) == 2 * len(pairs)  # nobody twice
    gaps = []
    for first, second in pairs:
        assert outcome.groups[first] == outcome.groups[second]
        assert classes[first] != classes[second]
        assert abs(sample.ages[first] - sample.ages[second]) >= 24
        gaps.append(np.linalg.norm(values[first] - values[second]))
    assert np.isfinite(gaps).all() and (np.diff(gaps) >= -1e-4).all()
    # The nearest pair of all that qualify.
    unlike = (outcome.groups[:, None] == outcome.groups) & (classes[:, None] != classes)
    unlike &= np.abs(sample.ages[:, None] - sample.ages) >= 24
    first, second = np.nonzero(unlike)
    assert np.nanmin(np.linalg.norm(values[first] - values[second], axis=1)) == pytest.approx(
        gaps[0], rel=1e-4
    )


def test_where_no_group_has_two_classes_there_is_no_pair() -> None:
    values = np.arange(6, dtype=np.float32)[:, None]
    classes = np.array([0, 0, 1, 1, 2, 2])
    assert figures._nearest_unlike(values, classes, classes, np.arange(6) * 40.0) == []


# Going on, and refusals


def test_what_is_done_is_not_done_again(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        reproduce(job)
    monkeypatch.setattr(encode_module, "_learn", refuse)
    monkeypatch.setattr(figures, "write_figures", lambda *_: None)
    monkeypatch.setattr(tables, "write_tables", lambda *_: None)
    times = {path: path.stat().st_mtime_ns for path in job.out.glob("*/*")}
    assert len(times) == 20 + 4 * 19
    reproduce(replace(job, resume=True, locate=None))
    assert {path: path.stat().st_mtime_ns for path in job.out.glob("*/*")} == times
    other = replace(job, resume=True, overrides=(*OVERRIDES, "groups.by_sex=true"))
    with pytest.raises(ConfigError, match="differs from the configuration given"):
        reproduce(other)


def test_a_manifest_without_sexes_or_ages_is_refused(tmp_path: Path) -> None:
    data = drawn_regions.write_manifest(tmp_path, [replace(child, age_months=None) for child in CHILDREN])
    with pytest.raises(
        ConfigError, match=r"manifest\.csv has no image with sex and bone age; give a labelled"
    ):
        reproduce(TrainJob(data, tmp_path / "run", overrides=OVERRIDES))


def test_ages_that_lack_a_class_are_refused_before_anything_is_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "_learn", refuse)
    old = [child for child in CHILDREN if child.age_months is not None and child.age_months > 80][:30]
    data = drawn_regions.write_manifest(tmp_path, old)
    drawn_regions.write_regions(tmp_path / "run" / "regions", old)
    with pytest.raises(
        ConfigError, match="no hand has a bone age of 24 to 72 months: classes cannot be balanced"
    ):
        reproduce(TrainJob(data, tmp_path / "run", overrides=OVERRIDES))


def test_the_manifest_of_films_has_everybody(job: TrainJob) -> None:
    with (job.out / "regions" / "index.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert len(lines) == 1 + COUNT + 1 and lines[0] == ["id", *KEY_REGIONS]
    assert [line[0] for line in lines if "0" in line[1:]] == [CHILDREN[CUT_OFF[0]].name]
