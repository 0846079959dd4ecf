"""Paper 1's training on a few drawn radii: its files, what it holds out, its scores, and its refusals."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_radii import draw, grade_of, level_of
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.metrics import adjusted_rand_score  # noqa: E402
from torch import Tensor  # noqa: E402

import boneage.recipes.radius_subgrades as package  # noqa: E402
from boneage.core.errors import ConfigError, UnsupportedImage  # noqa: E402
from boneage.core.types import FloatArray, Sex  # noqa: E402
from boneage.recipes.radius_subgrades import fit, fitting  # noqa: E402
from boneage.recipes.radius_subgrades.config import Recipe, ScheduleConfig  # noqa: E402
from boneage.recipes.radius_subgrades.crops import RADIUS, RadiusCrops, read_crops  # noqa: E402
from boneage.recipes.radius_subgrades.encoder import Encoder, PixelFeatures  # noqa: E402
from boneage.recipes.radius_subgrades.evidence import GradeAxis  # noqa: E402
from boneage.recipes.radius_subgrades.fit import train  # noqa: E402
from boneage.recipes.radius_subgrades.fitting import (  # noqa: E402
    LEAST_CROPS,
    fit_pair,
    fit_subgrader,
    stability_of_seeds,
)
from boneage.recipes.radius_subgrades.learn import Clustering, kmeans  # noqa: E402
from boneage.recipes.radius_subgrades.subgrades import Subgrader  # noqa: E402
from boneage.standards.scoring import standard  # noqa: E402
from boneage.training.config import TrainJob, as_tree, build, read_config  # noqa: E402

FOLDER = Path(package.__file__).parent
TOMLS = sorted(path.stem for path in FOLDER.glob("*.toml"))
COUNT = 66
OVERRIDES = (
    "input.side=16",
    "input.window=[0.15, -0.1, 0.7]",
    "grades.pairs=[[5, 6]]",
    "network.components=6",
    "network.hidden=[24, 24, 24]",
    "network.features=4",
    "clustering.starts=4",
    "schedule.pretrain_epochs=8",
    "schedule.epochs=4",
    "schedule.batch=8",
    "schedule.learning_rate=3e-3",
    "schedule.folds=2",
    "schedule.seeds=1",
    "schedule.threads=1",
)


# Configurations


def test_every_configuration_is_read_and_written_back() -> None:
    assert set(TOMLS) >= {"recipe", "shipped", "comparison"}
    for name in TOMLS:
        recipe = read_config(FOLDER / f"{name}.toml", Recipe)
        assert build(Recipe, json.loads(json.dumps(as_tree(recipe))), "again") == recipe


def test_the_recipe_has_the_papers_printed_numbers() -> None:
    recipe = read_config(FOLDER / "recipe.toml", Recipe)
    assert recipe.network.components == 4096
    assert (recipe.network.hidden, recipe.network.features) == ((500, 500, 2000), 24)
    assert recipe.clustering.weight == 1 and recipe.clustering.along == "features"
    assert recipe.scores.images == 1000
    assert recipe.grades.pairs == ((5, 6), (6, 7)) and recipe.grades.given == "chn"
    tree = tomllib.loads((FOLDER / "recipe.toml").read_text())
    assert "Radius Grade Optimization" in tree["citation"]["paper"]
    assert tree["departures"] and all(text.strip() for text in tree["departures"].values())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pretrain_epochs": 0}, "schedule.pretrain_epochs must be 1 or more, not 0"),
        ({"epochs": 0}, "schedule.epochs must be 1 or more, not 0"),
        ({"seeds": 0}, "schedule.seeds must be 1 or more, not 0"),
        ({"folds": 1}, "schedule.folds must be 2 or more, not 1"),
    ],
)
def test_schedules_that_cannot_be_are_refused(values: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ScheduleConfig(**{"pretrain_epochs": 1, "epochs": 1, "batch": 8, "learning_rate": 1e-3, **values})


def write_crops(folder: Path, count: int = COUNT) -> Path:
    """Write drawn radii with sexes and ages, and return their table."""
    lines = []
    (folder / "images").mkdir(parents=True)
    for index in range(count):
        name = f"r{index:02d}.png"
        assert cv2.imwrite(str(folder / "images" / name), draw(level_of(index), index))
        sex = list(Sex)[index // 6 % 2]
        age = 130 + 18 * level_of(index) + (12 if sex is Sex.MALE else 0) + 2 * np.cos(5 * index)
        lines.append([name, "radius", grade_of(index), f"hand{index:02d}", str(sex), f"{age:.1f}"])
    with (folder / "crops.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "bone", "grade", "hand", "sex", "bone_age_months"])
        writer.writerows(lines)
    return folder / "crops.csv"


class DrawnOutputs:
    """Stands for MobileNetV2: 1000 outputs that are sums of an image's pixels, drawn once."""

    made = 0
    shapes: set[tuple[int, ...]]

    def __init__(self, pretrained: str) -> None:
        type(self).made += 1
        self.weights = torch.randn(24 * 24, 1000, generator=torch.Generator().manual_seed(0)) / 24

    def __call__(self, images: Tensor) -> Tensor:
        assert images.ndim == 4 and images.shape[1] == 1
        assert images.dtype == torch.float32 and 0 <= images.min() <= images.max() <= 1
        small = torch.nn.functional.interpolate(images, (24, 24), mode="area")
        outputs: Tensor = small.flatten(1) @ self.weights
        return outputs


@pytest.fixture(scope="module", autouse=True)
def outputs() -> Iterator[type[DrawnOutputs]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "MobileNetOutputs", DrawnOutputs)
        yield DrawnOutputs


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A finished run."""
    data = write_crops(tmp_path_factory.mktemp("radii"))
    done = TrainJob(data, tmp_path_factory.mktemp("out") / "run", overrides=OVERRIDES)
    assert train(done) == done.out
    return done


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_config(FOLDER / "recipe.toml", Recipe, OVERRIDES)


def crops_of(job: TrainJob, recipe: Recipe) -> RadiusCrops:
    return read_crops(job.data, recipe, job.out, None, lambda _: None)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def summary(run: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((run / "subgrades.json").read_text())
    return read


def test_a_run_leaves_every_file_whole(job: TrainJob) -> None:
    files = {path.relative_to(job.out).as_posix() for path in job.out.rglob("*") if path.is_file()}
    tables = {f"standard/{path.name}" for path in (job.out / "standard").iterdir()}
    assert tables > {"standard/SOURCES.toml", "standard/chn_radius_subgrades.csv"}
    assert files == tables | {
        "config.json",
        "crops.csv",
        "outputs.npy",
        *(f"fold{fold}/{name}" for fold in (0, 1) for name in ("oof.csv", "subgrades.json")),
        "oof.csv",
        "subgrades.npz",
        "subgrades.json",
        "means.npz",
    }
    config = json.loads((job.out / "config.json").read_text())
    assert config["recipe"] == "radius_subgrades" and config["network"]["hidden"] == [24, 24, 24]
    assert np.load(job.out / "outputs.npy").shape == (COUNT, 1000)


def test_every_crop_is_held_out_once_with_what_is_known_of_it(job: TrainJob, recipe: Recipe) -> None:
    lines, crops = table(job.out / "oof.csv"), crops_of(job, recipe)
    assert sorted(line["id"] for line in lines) == sorted(crops.ids)
    fold_of = dict(zip(crops.ids, crops.folds.tolist(), strict=True))
    for line in lines:
        index = int(line["id"].removeprefix("hand"))
        assert int(line["grade"]) == grade_of(index)
        assert int(line["fold"]) == fold_of[line["id"]]
        assert line["sex"] == str(list(Sex)[index // 6 % 2]) and 120 < float(line["bone_age_months"]) < 170
        assert line["subgrade"] in ("5", "5.5", "6")
        own = {"5": "0", "6": "2"}[line["grade"]]
        assert (line["cluster_5_6"] == own) == (line["subgrade"] == line["grade"])
        assert -1 < float(line["way_5_6"]) < 2
    for fold in (0, 1):
        learnt = summary(job.out / f"fold{fold}")
        held_out = sum(int(line["fold"]) == fold for line in lines)
        assert learnt["crops"] == COUNT - held_out and held_out > COUNT / 3


def test_held_out_crops_that_lie_between_have_the_sub_grade(job: TrainJob) -> None:
    lines = table(job.out / "oof.csv")
    found = [float(line["subgrade"]) for line in lines]
    drawn = [5 + (int(line["id"].removeprefix("hand")) % 3) / 2 for line in lines]
    assert np.mean(np.array(found) == np.array(drawn)) > 0.9


def test_held_out_scores_lie_between_the_grades_and_are_the_other_folds(job: TrainJob) -> None:
    for fold in (0, 1):
        scores = summary(job.out / f"fold{fold}")["scores"]
        assert isinstance(scores, dict)
        for line in table(job.out / f"fold{fold}" / "oof.csv"):
            low, high = (standard("chn").grade_score(line["sex"], RADIUS, g) for g in (5, 6))
            for reading in ("paper", "geometric"):
                score = float(line[f"score_{reading}"])
                if line["subgrade"] == "5.5":
                    assert low <= score <= high
                    assert score == pytest.approx(scores[reading][line["sex"]]["5_5"], abs=1e-3)
                else:
                    assert score == (low if line["subgrade"] == "5" else high)


def test_what_speaks_for_the_sub_grade_is_written(job: TrainJob) -> None:
    told = summary(job.out)
    assert told["crops"] == COUNT and told["not_aligned"] == 0
    evidence = told["evidence"]
    assert isinstance(evidence, list) and len(evidence) == 1
    (pair,) = evidence
    assert pair["grades"] == [5, 6] and pair["refusal"] == pair["failure"] == ""
    assert pair["crops"] == sum(pair["sizes"]) == COUNT and pair["components"] == 6
    assert pair["ways"] == sorted(pair["ways"]) and pair["ages"] == sorted(pair["ages"])
    assert pair["shares"] == pytest.approx([0, 0.5, 1], abs=0.15)
    assert all(step["low"] > 0 for step in pair["grade_steps"] + pair["age_steps"])
    assert pair["silhouette"] > 0.05 and 0.3 < pair["largest_share"] < 0.5
    ways = told["ways"]
    assert isinstance(ways, dict) and set(ways) == {"5_5"}
    assert 0.2 < ways["5_5"]["geometric"]["estimate"] < 0.8  # drawn halfway
    assert 18 <= ways["5_5"]["images"] <= 24
    assert told["stability_of_seeds"] == [1.0]  # of one seed


def test_the_score_table_is_a_standard(job: TrainJob) -> None:
    loaded = standard("chn_radius_subgraded", job.out / "standard")
    assert 5.5 in loaded.grades(RADIUS) and 6.5 not in loaded.grades(RADIUS)
    scores = summary(job.out)["scores"]
    assert isinstance(scores, dict) and set(scores) == {"paper", "geometric", "shuffled"}
    for sex in Sex:
        low, own, high = (loaded.grade_score(sex, RADIUS, grade) for grade in (5, 5.5, 6))
        assert low < own < high
        assert own == pytest.approx(scores["geometric"][str(sex)]["5_5"])
        assert standard("chn").grade_score(sex, RADIUS, 5) == low


def test_the_models_file_names_sub_grades_as_the_run_did(job: TrainJob, recipe: Recipe) -> None:
    subgrader = Subgrader.load(job.out / "subgrades.npz", summary(job.out))
    crops = crops_of(job, recipe)
    found = subgrader.subgrade(subgrader.views(crops.patches), crops.grades.tolist())
    with np.load(job.out / "means.npz") as saved:
        assert set(saved.files) == {"5", "5_5", "6", "count_5", "count_5_5", "count_6"}
        for name in ("5", "5_5", "6"):
            assert saved[name].shape == (16, 16) and saved[name].dtype == np.uint8
            assert saved[f"count_{name}"] == (found == float(name.replace("_", "."))).sum()


def test_a_finished_run_does_nothing_again(
    job: TrainJob, outputs: type[DrawnOutputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("learnt again")

    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        train(job)
    kept = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in job.out.glob("fold*/*")}
    made = outputs.made
    monkeypatch.setattr(fit, "fit_subgrader", refuse)
    monkeypatch.setattr(fitting, "fit_pair", refuse)
    train(replace(job, resume=True))
    assert outputs.made == made
    assert {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()} == kept
    assert {path: path.stat().st_mtime_ns for path in job.out.glob("fold*/*")} == times


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(job: TrainJob, tmp_path: Path) -> None:
    out = shutil.copytree(job.out, tmp_path / "run")
    for name in ("fold1/oof.csv", "oof.csv", "subgrades.json", "subgrades.npz"):
        (out / name).unlink()
    shutil.rmtree(out / "standard")
    before = (out / "fold0" / "oof.csv").stat().st_mtime_ns
    train(replace(job, out=out, resume=True))
    assert (out / "fold0" / "oof.csv").stat().st_mtime_ns == before
    for name in ("fold1/oof.csv", "oof.csv", "subgrades.json", "standard/chn_radius_subgrades.csv"):
        assert (out / name).read_bytes() == (job.out / name).read_bytes(), name


def test_a_run_goes_on_only_with_what_it_began_with(job: TrainJob, tmp_path: Path) -> None:
    other = (*OVERRIDES, "network.features=5")
    with pytest.raises(ConfigError, match="differs from the configuration given"):
        train(replace(job, resume=True, overrides=other))
    out = shutil.copytree(job.out, tmp_path / "run")
    fewer = write_crops(tmp_path / "fewer", 54)
    with pytest.raises(ConfigError, match=r"crops\.csv is of other crops or grades than those given"):
        train(replace(job, data=fewer, out=out, resume=True))
    np.save(out / "outputs.npy", np.zeros((9, 1000), np.float32))
    with pytest.raises(ConfigError, match=r"outputs\.npy is of other crops than those given"):
        train(replace(job, out=out, resume=True))
    # Recognition has no part in what is learnt here.
    train(replace(job, resume=True, overrides=(*OVERRIDES, 'recognition.config="other"')))
    train(replace(job, resume=True))


# Clusters along the axis, alignment, noise


@pytest.mark.parametrize("align", [False, True])
def test_clusters_along_the_axis_are_named_too(job: TrainJob, recipe: Recipe, align: bool) -> None:
    along = replace(
        recipe,
        clustering=replace(recipe.clustering, along="axis"),
        input=replace(recipe.input, align=align),
    )
    crops = crops_of(job, along)
    fitted = fit_subgrader(crops, along)
    (pair,) = fitted.pairs
    assert pair.model.centroids.shape == (3, 1)
    assert (np.diff(pair.model.centroids[:, 0]) > 0).all()
    assert pair.model.refusal == "" and pair.mine.all()
    assert (fitted.subgrader.template is not None) == align
    drawn = np.array([5 + (int(name.removeprefix("hand")) % 3) / 2 for name in crops.ids])
    assert np.mean(fitted.subgrades(crops) == drawn) > 0.8


def noise_crops(seed: int, count: int = 120) -> tuple[list[FloatArray], RadiusCrops]:
    """Views that know nothing, and crops whose ages rise from grade 5 to 6."""
    rng = np.random.default_rng(seed)
    views = list(rng.random((count, 16, 16)).astype(np.float32))
    is_high = np.arange(count) % 2
    return views, RadiusCrops(
        tuple(map(str, range(count))),
        np.zeros((count, 1, 1), np.uint8),
        5 + is_high,
        np.zeros(count, np.int64),
        rng.normal(120, 10, count) + 6 * is_high,
        np.zeros(count, np.int64),
    )


@pytest.mark.parametrize("along", ["features", "axis"])
def test_noise_has_no_sub_grade(recipe: Recipe, along: str) -> None:
    """Not even where clusters of noise would be let pass as clusters."""
    lenient = replace(
        recipe,
        clustering=replace(recipe.clustering, along=along, largest_share=1.0, least_silhouette=-1.0),
        network=replace(recipe.network, features=24),
    )
    for seed in range(4):
        views, crops = noise_crops(seed)
        fitted = fit_pair(views, crops, (5, 6), lenient)
        assert fitted.quality.failure == "" and fitted.model.subgrades == ()
        assert "beyond chance" in fitted.model.refusal or "falls" in fitted.model.refusal


def noise_features(views: FloatArray, recipe: Recipe) -> Clustering:
    """Stands for `fit_clusters`: features that know nothing, 24 that no training has joined."""
    seed = int(1e6 * views[0, 0, 0])
    features = np.random.default_rng(seed).normal(size=(len(views), 24)).astype(np.float32)
    labels, centroids = kmeans(features, recipe.clustering, 0)
    pixels = views[0].size
    plain = PixelFeatures(*(np.ones(pixels, np.float32) for _ in range(2)), np.eye(pixels, dtype=np.float32))
    return Clustering(Encoder(plain, ()), features, features, labels, labels, centroids)


@pytest.mark.parametrize("along", ["features", "axis"])
def test_noise_is_named_only_where_crops_lay_the_axis_that_they_are_on(
    recipe: Recipe, along: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `unseen_ways` is for: without it, many seeds have a sub-grade of noise along the axis."""
    clustering = replace(recipe.clustering, along=along, largest_share=1.0, least_silhouette=-1.0)
    lenient = replace(recipe, clustering=clustering)
    monkeypatch.setattr(fitting, "fit_clusters", noise_features)

    def named() -> int:
        found = [fit_pair(*noise_crops(seed, 200), (5, 6), lenient).model.subgrades for seed in range(10)]
        return found.count((5.5,))

    assert named() == 0

    def own_ways(features: FloatArray, is_high: NDArray[np.bool_], *_: object) -> NDArray[np.float64]:
        return GradeAxis.between(features, is_high).way(features)

    monkeypatch.setattr(fitting, "unseen_ways", own_ways)
    assert named() >= 2 if along == "axis" else named() == 0


def test_seeds_that_agree_are_stable(job: TrainJob, recipe: Recipe) -> None:
    crops = crops_of(job, recipe)
    views = fit_subgrader(crops, recipe).views
    two = replace(recipe, schedule=replace(recipe.schedule, seeds=2))
    alike, fitted = stability_of_seeds(views, crops, (5, 6), two)
    assert len(fitted) == 2 and alike == pytest.approx(
        adjusted_rand_score(fitted[0].labels, fitted[1].labels)
    )
    assert not np.array_equal(fitted[0].clustering.features, fitted[1].clustering.features)
    assert alike > 0.5
    noise = stability_of_seeds(*noise_crops(0), (5, 6), two)[0]
    assert noise < alike


def test_crops_of_one_hand_speak_once(job: TrainJob, recipe: Recipe) -> None:
    crops = crops_of(job, recipe)
    views = fit_subgrader(crops, recipe).views
    hands = replace(crops, ids=tuple(f"hand{index // 2}" for index in range(COUNT)))
    found = fit_pair(views, hands, (5, 6), recipe)
    assert sum(found.evidence.sizes) == COUNT / 2 and len(found.labels) == found.mine.sum() == COUNT


def test_without_a_sub_grade_there_is_no_score_table(job: TrainJob, tmp_path: Path) -> None:
    overrides = (*OVERRIDES, "clustering.largest_share=0.1")
    out = train(TrainJob(job.data, tmp_path / "run", overrides=overrides))
    assert not (out / "standard").exists()
    told = summary(out)
    (pair,) = told["evidence"]  # type: ignore[misc]
    assert pair["refusal"].startswith("one cluster holds") and told["ways"] == {}
    lines = table(out / "oof.csv")
    assert len(lines) == COUNT
    for line in lines:
        assert line["subgrade"] == line["grade"]
        whole = standard("chn").grade_score(line["sex"], RADIUS, int(line["grade"]))
        assert float(line["score_paper"]) == float(line["score_geometric"]) == whole
    with np.load(out / "means.npz") as saved:
        assert set(saved.files) == {"5", "6", "count_5", "count_6"}


# Crops that cannot be learnt from


def chosen(crops: RadiusCrops, wanted: Sequence[bool] | NDArray[np.bool_]) -> RadiusCrops:
    return crops.take(np.asarray(wanted, dtype=bool))


def test_too_few_crops_of_a_grade_are_refused(job: TrainJob, recipe: Recipe) -> None:
    crops = crops_of(job, recipe)
    high = np.flatnonzero(crops.grades == 6)[LEAST_CROPS - 1 :]
    wanted = np.ones(len(crops), dtype=bool)
    wanted[high] = False
    with pytest.raises(ConfigError, match=r"5 and 6 have 33 and 9 crops to learn from, and need 10 of each"):
        fit_subgrader(chosen(crops, wanted), recipe)
    many = replace(recipe, clustering=replace(recipe.clustering, clusters=40))
    with pytest.raises(ConfigError, match="have 33 and 33 crops to learn from, and need 40 of each"):
        fit_subgrader(crops, many)


def test_crops_that_cannot_be_laid_over_the_mean_are_not_learnt_from(job: TrainJob, recipe: Recipe) -> None:
    aligned = replace(recipe, input=replace(recipe.input, align=True))
    crops = crops_of(job, aligned)
    blank = crops.patches.copy()
    blank[:8] = 60
    fitted = fit_subgrader(replace(crops, patches=blank), aligned)
    assert [view is None for view in fitted.views] == [True] * 8 + [False] * (COUNT - 8)
    assert fitted.pairs[0].mine.sum() == COUNT - 8 == len(fitted.pairs[0].labels)
    np.testing.assert_array_equal(fitted.subgrades(crops)[:8], crops.grades[:8])
    with pytest.raises(ConfigError, match="have 0 and 0 crops to learn from"):
        fit_subgrader(replace(crops, patches=np.full_like(crops.patches, 60)), aligned)


def test_one_image_many_times_is_refused(job: TrainJob, recipe: Recipe) -> None:
    crops = crops_of(job, recipe)
    same = np.repeat(crops.patches[:1], len(crops), axis=0)
    with pytest.raises(ConfigError, match=f"all {COUNT} crops are the same image"):
        fit_subgrader(replace(crops, patches=same), recipe)


def folder_of(path: Path, grades: Mapping[int, int]) -> Path:
    """Write radius/GRADE/*.png, so many of each grade."""
    for grade, count in grades.items():
        (path / "radius" / str(grade)).mkdir(parents=True)
        for number in range(count):
            pixels = draw(grade - 5, 100 * grade + number, 80 + 10 * (number % 3))  # of several sizes
            assert cv2.imwrite(str(path / "radius" / str(grade) / f"{grade}-{number}.png"), pixels)
    return path


def test_a_folder_without_sexes_and_ages_is_learnt_from(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "crops", {5: 22, 6: 22})
    out = train(TrainJob(data, tmp_path / "run", overrides=OVERRIDES))
    lines = table(out / "oof.csv")
    assert len(lines) == 44
    for line in lines:
        assert line["sex"] == line["bone_age_months"] == line["score_paper"] == line["score_geometric"] == ""
    (pair,) = summary(out)["evidence"]  # type: ignore[misc]
    assert pair["ages"] == pair["age_steps"] == []


@pytest.mark.parametrize(
    ("grades", "said"),
    [
        ({5: 30}, r"no radius of CHN grade 6 \(it has 5\): give crops of both grades of every pair"),
        ({5: 30, 6: 12}, r"5 and 6 have 15 and 6 crops to learn from, and need 10 of each: give more crops"),
        ({5: 1}, "expected at least 2 patients, got 1"),
    ],
)
def test_folders_of_too_few_crops_are_refused(tmp_path: Path, grades: dict[int, int], said: str) -> None:
    data = folder_of(tmp_path / "crops", grades)
    with pytest.raises(ConfigError, match=said):
        train(TrainJob(data, tmp_path / "run", overrides=OVERRIDES))


def test_a_blank_crop_is_named(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "crops", {5: 3, 6: 3})
    assert cv2.imwrite(str(data / "radius" / "6" / "blank.png"), np.full((80, 80), 90, np.uint8))
    with pytest.raises(UnsupportedImage, match=r"blank\.png: the crop is blank"):
        train(TrainJob(data, tmp_path / "run", overrides=OVERRIDES))
