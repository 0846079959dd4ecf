"""Paper 3's recipe: the printed numbers, tables as layers, a prior that rises, crops that are learnt."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boneage.recipes.graded_regions as package
from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.core.errors import ConfigError, UnreadableImage
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.graded_crops import GradedCrop, read_graded_crops
from boneage.data.synthetic import View, draw_hand, save_drawings
from boneage.inference.runners import open_graph
from boneage.recipes.graded_regions.config import InputConfig, NetworkConfig, Recipe, ScheduleConfig
from boneage.recipes.graded_regions.method import GradedRegions, one_hot, square_of
from boneage.recipes.graded_regions.prior import BONES, MaturityPrior, highest_grades, scores_of
from boneage.standards.mapping import grade_map
from boneage.standards.names import CARPALS, RUS, Bone
from boneage.standards.scoring import score, standard
from boneage.training.config import TrainJob, as_tree, build, read_config

FOLDER = Path(package.__file__).parent
TOMLS = sorted(path.stem for path in FOLDER.glob("*.toml"))
HIGHEST = highest_grades()


def test_the_configurations_are_these() -> None:
    assert set(TOMLS) >= {"comparison", "recipe", "shipped"}


@pytest.mark.parametrize("name", TOMLS)
def test_every_configuration_is_read_and_written_back(name: str) -> None:
    recipe = read_config(FOLDER / f"{name}.toml", Recipe)
    assert build(Recipe, json.loads(json.dumps(as_tree(recipe))), "again") == recipe


def test_the_recipe_has_the_papers_printed_numbers() -> None:
    recipe = read_config(FOLDER / "recipe.toml", Recipe)
    assert (recipe.schedule.batch, recipe.schedule.learning_rate) == (16, 1e-4)
    assert len(recipe.schedule.run_folds) / recipe.schedule.folds == pytest.approx(0.2)  # 8:2
    assert recipe.network.backbone.startswith("resnet")
    assert recipe.network.attention and recipe.network.double_pool
    assert recipe.input.contrast == "clahe" and recipe.augment.rotation_degrees > 0
    tree = tomllib.loads((FOLDER / "recipe.toml").read_text())
    assert "Improved ResNet" in tree["citation"]["paper"]
    assert tree["departures"] and all(text.strip() for text in tree["departures"].values())


# The tables, as the network sees them.


def grades_of(seed: int) -> dict[Bone, int]:
    """A whole grade for every bone, at random."""
    drawn = np.random.default_rng(seed).integers(0, HIGHEST + 1)
    return {bone: int(grade) for bone, grade in zip(BONES, drawn, strict=True)}


def by_standard(name: str, grades: dict[Bone, int]) -> dict[Bone, float]:
    """The grades that a standard itself would be given."""
    rus = {bone: float(grade) for bone, grade in grades.items() if bone in RUS}
    found = rus if name == "rus_chn" else grade_map(name)(rus)
    carpals = {bone: float(grades[bone]) for bone in CARPALS}
    return {bone: {**found, **carpals}[bone] for bone in standard(name).bones}


@pytest.mark.parametrize("name", ["rus_chn", "tw3", "tw3_c_rus", "chn"])
@pytest.mark.parametrize("sex", list(Sex))
def test_scores_of_whole_grades_are_the_standards(name: str, sex: Sex) -> None:
    scores = scores_of(name)
    for seed in range(20):
        grades = grades_of(seed)
        sheet = score(name, sex, by_standard(name, grades))
        own = [scores.table[sex][index, grades[bone]] for index, bone in enumerate(BONES)]
        assert sum(own) == pytest.approx(sheet.total, abs=1e-6)
        assert np.interp(sum(own), *scores.curve[sex]) == pytest.approx(sheet.age_months, abs=1e-6)


def test_the_last_grades_are_those_of_the_standards() -> None:
    for bone, highest in zip(BONES, HIGHEST, strict=True):
        name = "chn" if bone in CARPALS else "rus_chn"
        assert [g for g in standard(name).grades(bone) if g % 1 == 0] == list(range(highest + 1))


def uneven_hand() -> tuple[GradedCrop, ...]:
    """A graded hand whose radius is ahead of its other bones."""
    return tuple(GradedCrop(Path("x.png"), bone, 11 if bone == "radius" else 6, "hand") for bone in RUS)


@pytest.mark.parametrize("graded", [(), uneven_hand()], ids=["no hand", "one hand"])
@pytest.mark.parametrize("sex", list(Sex))
def test_the_prior_rises_with_age_from_the_first_to_the_last_grade(
    sex: Sex, graded: tuple[GradedCrop, ...]
) -> None:
    prior = MaturityPrior(graded)
    found = np.array([prior.grades(sex, age) for age in np.arange(0.0, 240.0, 3.0)])
    assert np.all(np.diff(found, axis=0) >= -1e-9)
    assert np.all(found >= 0) and np.all(found <= HIGHEST + 1e-9)
    assert np.all(found[-1] > HIGHEST - 0.2)
    assert np.all(found[0] < 0.5 * HIGHEST)


@pytest.mark.parametrize("sex", list(Sex))
def test_the_priors_grades_score_the_age_they_were_asked_for(sex: Sex) -> None:
    """Each share of its bone's greatest score is the total's: the scores add up to the age again."""
    prior, scores = MaturityPrior(), scores_of("rus_chn")
    for age in (72.0, 120.0, 156.0, 180.0):
        grades = prior.grades(sex, age)
        columns = np.arange(scores.table[sex].shape[1])
        total = sum(np.interp(grades[index], columns, scores.table[sex][index]) for index in range(len(RUS)))
        assert np.interp(total, *scores.curve[sex]) == pytest.approx(age, abs=1.0)


def test_a_graded_hand_lends_its_leads_the_less_the_more_they_are_shrunk() -> None:
    radius, ulna = BONES.index(Bone.RADIUS), BONES.index(Bone.ULNA)
    ages = [MaturityPrior(uneven_hand(), shrinkage).grades(Sex.MALE, 132.0) for shrinkage in (0.5, 4.0, 1e6)]
    plain = MaturityPrior().grades(Sex.MALE, 132.0)
    assert ages[0][radius] > ages[1][radius] > plain[radius] > ages[0][radius] - 8
    assert ages[0][ulna] < plain[ulna]
    np.testing.assert_allclose(ages[2], plain, atol=1e-3)
    incomplete = MaturityPrior(uneven_hand()[1:])
    assert not incomplete.lead_.any()


# Crops.


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=14))
@settings(max_examples=30)
def test_decoding_gives_back_the_distribution(steps: list[float]) -> None:
    at_least = np.sort(np.array(steps, dtype=np.float32))[::-1][None]
    found = GradedRegions(InputConfig(32)).decode({"at_least": at_least})
    assert found.shape == (1, len(steps) + 1)
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    np.testing.assert_allclose(1 - np.cumsum(found[0])[:-1], at_least[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (64, 64)])
def test_a_crop_is_seen_whole_and_centred(shape: tuple[int, int]) -> None:
    height, width = shape
    corners = square_of(Radiograph(np.zeros(shape, np.float32)))(
        np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    )
    np.testing.assert_allclose(corners.mean(axis=0), 0.5)
    assert np.ptp(corners, axis=0).max() == pytest.approx(1)


def test_a_crop_is_prepared_for_its_bone() -> None:
    crop = Radiograph(np.random.default_rng(0).random((90, 60)).astype(np.float32))
    inputs = GradedRegions(InputConfig(32)).prepare_crop(crop, Bone.MC3)
    assert inputs["crop"].shape == (1, 1, 32, 32) and inputs["crop"].dtype == np.float32
    assert inputs["bone"].tolist() == one_hot([Bone.MC3]).tolist()
    assert inputs["bone"][0].argmax() == BONES.index(Bone.MC3) and inputs["bone"].sum() == 1


# From here on networks are trained, which needs torch.


@pytest.fixture
def torch_installed() -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")


def loose(count: int, **grades: int) -> list[GradedCrop]:
    """Crops of one bone a name, each of a hand of its own."""
    return [
        GradedCrop(Path(f"{bone}{n}.png"), Bone(bone), (n * 3) % (last + 1), f"{bone}{n}")
        for bone, last in grades.items()
        for n in range(count)
    ]


@pytest.mark.usefixtures("torch_installed")
def test_a_split_keeps_hands_together_and_grades_apart() -> None:
    from boneage.recipes.graded_regions.graded import split_by_hand

    crops = loose(50, radius=9, mc1=4)
    folds = split_by_hand(crops, 5, seed=0)
    assert Counter(folds.tolist()) == dict.fromkeys(range(5), 20)
    for bone in ("radius", "mc1"):
        for fold in range(5):
            own = [c.grade for c, f in zip(crops, folds, strict=True) if f == fold and c.bone == bone]
            assert len(own) == 10
            assert np.ptp([own.count(grade) for grade in range(10 if bone == "radius" else 5)]) <= 1
    assert np.array_equal(folds, split_by_hand(crops, 5, seed=0))
    assert not np.array_equal(folds, split_by_hand(crops, 5, seed=1))
    hands = [replace(crop, hand=str(n % 7)) for n, crop in enumerate(crops)]
    shared = split_by_hand(hands, 5, seed=0)
    assert all(
        len({int(f) for h, f in zip(hands, shared, strict=True) if h.hand == str(n)}) == 1 for n in range(7)
    )
    with pytest.raises(ConfigError, match=r"5 folds need .* the crops are of 4: set schedule\.folds"):
        split_by_hand([replace(crop, hand=str(n % 4)) for n, crop in enumerate(crops)], 5, seed=0)


@pytest.mark.usefixtures("torch_installed")
@pytest.mark.parametrize("name", ["rus_chn", "chn"])
def test_a_standard_as_a_layer_is_the_standard(name: str) -> None:
    import torch

    from boneage.recipes.graded_regions.learn import SEXES, AgeFromScores

    layer = AgeFromScores(name)
    hands = [grades_of(seed) for seed in range(12)]
    whole = np.array([[hand[bone] for bone in BONES] for hand in hands])
    probability = torch.nn.functional.one_hot(torch.tensor(whole), int(HIGHEST.max()) + 1).float()
    for place, sex in enumerate(SEXES):
        found = layer(probability, torch.full((12,), place))
        expected = [score(name, sex, by_standard(name, hand)).age_months for hand in hands]
        np.testing.assert_allclose(found.numpy(), expected, atol=0.02)
        youngest, oldest = scores_of(name).curve[sex][1][[0, -1]]
        ends = layer.clamp(torch.tensor([-5.0, 999.0]), torch.full((2,), place))
        np.testing.assert_allclose(ends.numpy(), [youngest, oldest], rtol=1e-6)
    probability = (0.9 * probability + 0.1 / probability.shape[2]).requires_grad_()
    layer(probability, torch.zeros(12, dtype=torch.long)).sum().backward()
    assert probability.grad is not None and probability.grad.abs().sum() > 0


TINY = Recipe(
    InputConfig(48),
    NetworkConfig("test_resnet", "none", width=128),
    ScheduleConfig(epochs=24, batch=26, learning_rate=5e-3, schedule="one_cycle", threads=1),
)


@pytest.mark.slow
@pytest.mark.usefixtures("torch_installed")
def test_real_crops_are_overfitted(shared_data: Path, tmp_path: Path) -> None:
    """What is learnt here says nothing of accuracy: the crops graded are those learnt from."""
    import torch

    from boneage.recipes.graded_regions.fit import build_net, load_net
    from boneage.recipes.graded_regions.graded import fit_crops, grade_crops

    crops = read_graded_crops(shared_data / "joints" / "labels.csv")
    torch.manual_seed(0)
    fit_crops(build_net(TINY), TINY, crops * 3, tmp_path)
    found = grade_crops(load_net(TINY, tmp_path), TINY, crops).argmax(axis=1)
    exact = np.mean([int(grade) == crop.grade for grade, crop in zip(found, crops, strict=True)])
    assert exact > 0.95


@pytest.mark.parametrize("side", [32, 64, 150])
def test_crops_are_seen_in_training_as_the_product_sees_them(shared_data: Path, side: int) -> None:
    from boneage.data.graded_crops import read_crop
    from boneage.recipes.graded_regions.samples import LooseCrops

    crops = read_graded_crops(shared_data / "joints" / "labels.csv")[:6]
    recipe = replace(TINY, input=InputConfig(side))
    views = LooseCrops(crops, recipe)
    for index, crop in enumerate(crops):
        prepared = GradedRegions(recipe.input).prepare_crop(read_crop(crop.path), crop.bone)["crop"][0]
        for epoch in (None, 3):  # this recipe does not augment
            view, bone, grade = views(index, epoch)
            assert (BONES[bone], grade) == (crop.bone, crop.grade)
            assert np.abs(view - prepared).mean() < 1e-3


@pytest.mark.usefixtures("torch_installed")
def test_rare_grades_are_repeated_and_turned(crop_folder: Path) -> None:
    from boneage.data.augment import AugmentConfig
    from boneage.recipes.graded_regions.learn import crop_batches
    from boneage.recipes.graded_regions.samples import LooseCrops

    crops = [c for c in read_graded_crops(crop_folder) if c.bone == "radius"]
    uneven = [c for c in crops if c.grade == 2] + [c for c in crops if c.grade == 9][:1]
    recipe = replace(TINY, augment=AugmentConfig(rotation_degrees=20.0))
    batches = crop_batches(LooseCrops(uneven, recipe), recipe, 12)
    ((views, bones, grades),) = list(batches(0))
    assert Counter(grades.tolist()) == {2: 6, 9: 6}
    assert bones.argmax(dim=1).tolist() == [BONES.index(Bone.RADIUS)] * 12
    rare = views[grades == 9]
    assert all((rare[0] - other).abs().mean() > 0.01 for other in rare[1:])
    again, later = next(iter(batches(0))), next(iter(batches(1)))
    assert again[0].equal(views) and not later[0].equal(views)


OVERRIDES = (
    "input.side=32",
    "network.backbone=test_resnet",
    "network.pretrained=none",
    "network.width=16",
    "schedule.epochs=1",
    "schedule.folds=3",
    "schedule.run_folds=[0]",
    "schedule.batch=4",
    "schedule.threads=1",
    "schedule.precision=32-true",
)


@pytest.fixture(scope="module")
def crop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn crops of two bones in two grades: a gap between two bars, open or closed."""
    folder = tmp_path_factory.mktemp("crops")
    for bone, grades in (("Radius", (2, 9)), ("MCPThird", (3, 8))):
        for number in range(12):
            grade = grades[number % 2]
            pixels = np.random.default_rng(number).integers(20, 50, (80, 70)).astype(np.uint8)
            pixels[5 : 30 + grade, 20:50] += 150
            pixels[45:75, 20:50] += 150
            path = folder / bone / str(grade) / f"{bone}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), pixels)
    return folder


@pytest.fixture(scope="module")
def graded_run(crop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.graded_regions.fit import train

    job = TrainJob(crop_folder, tmp_path_factory.mktemp("graded"), overrides=OVERRIDES)
    assert train(job) == job.out
    return job


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_on_crops_validates_on_hands_left_out(graded_run: TrainJob) -> None:
    from boneage.data.graded_crops import read_crop
    from boneage.recipes.graded_regions.graded import trained_bones

    split = {row["file"]: int(row["fold"]) for row in rows_of(graded_run.out / "split.csv")}
    assert len(split) == 24 and set(split.values()) == {0, 1, 2}
    rows = rows_of(graded_run.out / "validation.csv")
    assert {row["file"] for row in rows} == {file for file, fold in split.items() if fold == 0}
    summary = json.loads((graded_run.out / "summary.json").read_text())
    assert (summary["crops"], summary["hands"], summary["bones"]) == (24, 24, {"radius": 12, "mc3": 12})
    exact = np.mean([row["grade"] == row["predicted"] for row in rows])
    assert summary["validation"]["exact"]["share"] == pytest.approx(exact)
    assert summary["validation"]["exact"]["low"] <= exact <= summary["validation"]["exact"]["high"]
    assert set(summary["validation_by_bone"]) == {"radius", "mc3"}
    assert trained_bones(graded_run.out) == (Bone.RADIUS, Bone.MC3)
    # The exported graph grades as the network that was validated.
    run = open_graph(graded_run.out / "graph.onnx", "onnxruntime", 1)
    method = GradedRegions(InputConfig(32))
    for row in rows:
        crop = read_crop(graded_run.data / row["file"])
        found = method.decode(run(method.prepare_crop(crop, Bone(row["bone"]))))[0]
        assert found @ np.arange(len(found)) == pytest.approx(float(row["expected"]), abs=0.05)


@pytest.mark.slow
def test_a_finished_run_on_crops_is_not_trained_again(graded_run: TrainJob, tmp_path: Path) -> None:
    from boneage.recipes.graded_regions.fit import train

    kept = {path: path.stat().st_mtime_ns for path in graded_run.out.glob("fold*/*")}
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        train(graded_run)
    train(replace(graded_run, resume=True))
    assert {path: path.stat().st_mtime_ns for path in graded_run.out.glob("fold*/*")} == kept
    fewer = shutil.copytree(graded_run.data, tmp_path / "fewer")
    next(iter(fewer.glob("Radius/2/*.png"))).unlink()
    with pytest.raises(ConfigError, match="is of other crops than those given"):
        train(replace(graded_run, data=fewer, resume=True))


def without_grades(folder: Path) -> None:
    shutil.rmtree(folder / "Radius" / "9")


def with_text(folder: Path) -> None:
    (folder / "Radius" / "9" / "new.png").write_text("no image")


@pytest.mark.slow
@pytest.mark.usefixtures("torch_installed")
@pytest.mark.parametrize(
    ("change", "overrides", "kind", "said"),
    [
        (without_grades, (), ConfigError, "all crops of the radius have grade 2: give crops of two grades"),
        (with_text, (), UnreadableImage, r"new\.png: no image by its content"),
        (None, ("schedule.batch=17",), ConfigError, r"16 training crops make no batch of 17: set a schedule"),
        (None, ("schedule.folds=30",), ConfigError, "the crops are of 24"),
        (None, ("schedule.run_folds=[3]",), ConfigError, "run_folds are from 0 to 2, not 3"),
    ],
)
def test_crops_that_cannot_be_learnt_from_are_said(
    crop_folder: Path,
    tmp_path: Path,
    change: Callable[[Path], None] | None,
    overrides: tuple[str, ...],
    kind: type[Exception],
    said: str,
) -> None:
    from boneage.recipes.graded_regions.fit import train

    data = shutil.copytree(crop_folder, tmp_path / "crops")
    if change is not None:
        change(data)
    with pytest.raises(kind, match=said):
        train(TrainJob(data, tmp_path / "run", overrides=(*OVERRIDES, *overrides)))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[Radiograph], Hand]]:
    """A manifest of nine drawn hands, and what finds them: the drawing's own truth."""
    hands = [
        draw_hand(30.0 + 18 * index, list(Sex)[index % 2], index, View(shape=(256, 192)))
        for index in range(9)
    ]
    manifest = save_drawings(tmp_path_factory.mktemp("drawn"), hands)
    found = {}
    for row, hand in zip(rows_of(manifest), hands, strict=True):
        points = np.array([hand.keypoints_px[name] for name in NAMES])
        found[Path(row["path"]).name] = hand_from_points(
            points, None, hand.pixels.shape, confidence=1.0, method="fast", warnings=()
        )
    return manifest, lambda radiograph: found[Path(radiograph.path).name]


@pytest.mark.slow
@pytest.mark.usefixtures("torch_installed")
def test_table_1_is_written_from_ages_and_goes_on_from_what_is_done(
    drawn: tuple[Path, Callable[[Radiograph], Hand]], tmp_path: Path
) -> None:
    from boneage.recipes.graded_regions.reproduce import METHODS, reproduce

    manifest, locate = drawn
    job = TrainJob(manifest, tmp_path, overrides=(*OVERRIDES, "schedule.batch=3"), locate=locate)
    reproduce(job)
    text, tree = (tmp_path / "table1.md").read_text(), json.loads((tmp_path / "table1.json").read_text())
    assert "| ResNet |" in text and "| Improved ResNet |" in text
    assert "| paper: Improved ResNet | 94.25 | 0.40 | 94.16 | 0.42 |" in text
    assert "93.82% / 0.4228" in text and "0.4341" in text and "Nobody here has the paper's" in text
    for name, folder in METHODS.items():
        config = json.loads((tmp_path / folder / "config.json").read_text())
        improved = name == "Improved ResNet"
        assert (config["network"]["attention"], config["network"]["double_pool"]) == (improved, improved)
        errors = [
            abs(float(row["rus_chn"]) - float(row["bone_age_months"])) / 12
            for row in rows_of(tmp_path / folder / "oof.csv")
            if row["sex"] == "male"
        ]
        (row,) = (
            row
            for row in tree["rows"]
            if (row["standard"], row["ages"], row["sex"]) == ("rus_chn", "all ages", "male")
            and row["measure"] == "MAE (years)"
        )
        assert row["hands"] == len(errors)
        assert row[name]["estimate"] == pytest.approx(np.mean(errors), abs=1e-3)
    splits = [(tmp_path / folder / "folds.csv").read_text() for folder in METHODS.values()]
    assert splits[0] == splits[1]
    for figure in ("table1.png", "error_by_age.png", "grades_by_age.png"):
        assert cv2.imread(str(tmp_path / figure)).size > 100_000
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/fold0/*")}
    reproduce(replace(job, resume=True))
    assert kept and {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/fold0/*")} == kept


@pytest.mark.slow
@pytest.mark.usefixtures("torch_installed")
def test_the_networks_are_compared_by_grades_where_there_are_graded_crops(
    crop_folder: Path, tmp_path: Path
) -> None:
    from boneage.recipes.graded_regions.reproduce import reproduce

    reproduce(TrainJob(crop_folder, tmp_path, overrides=OVERRIDES))
    rows = json.loads((tmp_path / "table1.json").read_text())["rows"]
    assert [row["bone"] for row in rows] == ["all", "radius", "mc3"]
    validated = rows_of(tmp_path / "improved" / "validation.csv")
    assert rows[0]["crops"] == len(validated) == rows[1]["crops"] + rows[2]["crops"]
    exact = 100 * np.mean([row["grade"] == row["predicted"] for row in validated])
    assert rows[0]["exact"]["Improved ResNet"]["estimate"] == pytest.approx(exact)
    assert "| radius |" in (tmp_path / "table1.md").read_text()
