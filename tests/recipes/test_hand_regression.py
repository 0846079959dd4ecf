"""Paper 4's recipe: the printed numbers, views that pose does not change, a run from drawings to a graph."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boneage.recipes.hand_regression as package
from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.core.errors import ConfigError, NotAHand
from boneage.core.types import Affine, Hand, Radiograph, Sex
from boneage.data.synthetic import DrawnHand, View, draw_hand, save_drawings
from boneage.imaging.geometry import flip, rotate
from boneage.inference.runners import open_graph
from boneage.recipes.hand_regression.config import InputConfig, Recipe
from boneage.recipes.hand_regression.method import HandRegression, frame_of, turn_view, view_of
from boneage.training.config import TrainJob, as_tree, build, read_config

FOLDER = Path(package.__file__).parent
TOMLS = sorted(path.stem for path in FOLDER.glob("*.toml"))
PLAIN = InputConfig(height=64, width=48, crop="hand", contrast="none")


def drawing(**view: Any) -> DrawnHand:
    return draw_hand(120.0, Sex.FEMALE, 0, View(shape=(320, 256), collimator=False, **view))


def hand_at(drawn: DrawnHand, to_posed: Affine, shape: tuple[int, int]) -> Hand:
    """The drawn hand's truth in an image that a map carried it to."""
    points = to_posed(np.array([drawn.keypoints_px[name] for name in NAMES]))
    return hand_from_points(points, None, shape, confidence=1.0, method="fast", warnings=())


def test_the_configurations_are_these() -> None:
    assert TOMLS == ["ablation", "baseline", "recipe", "shipped"]


@pytest.mark.parametrize("name", TOMLS)
def test_every_configuration_is_read_and_written_back(name: str) -> None:
    recipe = read_config(FOLDER / f"{name}.toml", Recipe)
    assert build(Recipe, json.loads(json.dumps(as_tree(recipe))), "again") == recipe


def test_the_recipe_has_the_papers_printed_numbers() -> None:
    recipe = read_config(FOLDER / "recipe.toml", Recipe)
    assert sum(stage.epochs for stage in recipe.schedule.stages) == 160
    assert recipe.schedule.batch == 10
    assert (recipe.optimiser.name, recipe.optimiser.momentum) == ("sgd", 0.9)
    assert (recipe.optimiser.schedule, recipe.optimiser.step_epochs) == ("step", 30)
    assert (recipe.network.sex_width, recipe.network.hidden) == (24, 1304)
    assert recipe.network.backbone == "mobilenetv3_large_100"  # Table 1
    assert (recipe.network.head, recipe.schedule.loss) == ("regression", "mse")  # eq. 6 and 7
    assert (recipe.input.crop, recipe.input.contrast) == ("box", "equalise")
    assert {stage.height for stage in recipe.schedule.stages} <= {224, 500, 700}  # Table 2
    used = asdict(recipe.augment)
    assert all(used[kind] > 0 for kind in ("shift", "scale", "rotation_degrees", "contrast", "brightness"))
    assert used["gamma"] == used["erase"] == 0  # not among the paper's


@pytest.mark.parametrize("name", TOMLS)
def test_what_differs_from_the_paper_is_declared(name: str) -> None:
    tree = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    if name != "baseline":
        assert tree["departures"] and all(text.strip() for text in tree["departures"].values())
    if name == "recipe":
        assert "Complex Intell Syst" in tree["citation"]["paper"]


@pytest.mark.parametrize(
    "override",
    [
        "input.crop=thumb",
        "input.contrast=loud",
        "input.views=2",
        "network.head=tail",
        "optimiser.name=adam",
        "optimiser.schedule=cosine",
        "schedule.loss=l1",
    ],
)
def test_a_choice_that_there_is_not_is_refused_and_not_taken_for_another(override: str) -> None:
    name, _, value = override.partition("=")
    with pytest.raises(ConfigError, match=rf"{name} must be one of .*, not '?{value}"):
        read_config(FOLDER / "recipe.toml", Recipe, [override])


@pytest.mark.parametrize("override", ["network.head=distribution", "schedule.loss=distribution"])
def test_a_loss_that_does_not_fit_the_head_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"does not fit network\.head"):
        read_config(FOLDER / "recipe.toml", Recipe, [override])


@pytest.mark.parametrize("turn", ["mirror", "90", "180", "37"])
def test_the_upright_view_is_the_same_however_the_film_lies(turn: str) -> None:
    drawn = drawing(noise=0.0)
    pixels, to_posed = flip(drawn.pixels) if turn == "mirror" else rotate(drawn.pixels, float(turn))
    plain = view_of(drawn.radiograph, hand_at(drawn, Affine.identity(), drawn.pixels.shape), PLAIN)
    posed = view_of(Radiograph(pixels), hand_at(drawn, to_posed, pixels.shape), PLAIN)
    # Turning by 37 degrees interpolates once more; marks outside the hand (DRAWN, L) are mirrored with it.
    inner = (slice(8, 56), slice(8, 40))
    assert np.abs(plain - posed)[inner].mean() < 0.02
    assert np.corrcoef(plain[inner].ravel(), posed[inner].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("crop", ["hand", "box", "none"])
@pytest.mark.parametrize("contrast", ["equalise", "clahe", "none"])
def test_a_view_has_its_size_and_range(crop: str, contrast: str) -> None:
    drawn = drawing()
    config = InputConfig(height=70, width=50, crop=crop, contrast=contrast)
    view = view_of(drawn.radiograph, hand_at(drawn, Affine.identity(), drawn.pixels.shape), config)
    assert view.shape == (70, 50) and view.dtype == np.float32
    assert view.min() >= 0 and view.max() <= 1 and np.ptp(view) > 0.5


@given(st.sampled_from(["hand", "box", "none"]), st.integers(32, 300), st.integers(32, 300))
@settings(deadline=None, max_examples=30)
def test_the_frame_is_fitted_whole_and_centred(crop: str, height: int, width: int) -> None:
    drawn = DRAWN
    hand = hand_at(drawn, Affine.identity(), drawn.pixels.shape)
    frame = frame_of(drawn.radiograph, hand, InputConfig(height=height, width=width, crop=crop))
    rows, columns = drawn.pixels.shape
    boxes = {
        "hand": (hand.to_upright.inverse(), hand.upright_box),
        "box": (Affine.identity(), hand.box_px),
        "none": (Affine.identity(), (-0.5, -0.5, columns - 0.5, rows - 0.5)),
    }
    to_source, (x0, y0, x1, y1) = boxes[crop]
    corners = frame(to_source(np.array([[x0, y0], [x1, y1]])))
    np.testing.assert_allclose(corners.mean(axis=0), [(width - 1) / 2, (height - 1) / 2], atol=1e-6)
    share = np.ptp(corners, axis=0) / [width, height]
    assert share.max() == pytest.approx(1)
    assert share.min() <= 1 + 1e-9


DRAWN = drawing()


def test_every_joint_lies_in_the_upright_view() -> None:
    hand = hand_at(DRAWN, Affine.identity(), DRAWN.pixels.shape)
    points = frame_of(DRAWN.radiograph, hand, PLAIN)(np.array([*hand.keypoints_px.values()]))
    assert np.all(points > 0) and np.all(points < [PLAIN.width, PLAIN.height])


@pytest.mark.parametrize("views", [1, 3])
def test_prepare_gives_every_view_the_sex(views: int) -> None:
    hand = hand_at(DRAWN, Affine.identity(), DRAWN.pixels.shape)
    method = HandRegression(replace(PLAIN, views=views))
    for sex, code in ((Sex.MALE, 1.0), (Sex.FEMALE, 0.0)):
        inputs = method.prepare(DRAWN.radiograph, hand, sex)
        assert inputs["image"].shape == (views, 1, 64, 48)
        assert inputs["sex"].tolist() == [[code]] * views
    if views == 3:
        assert not np.array_equal(inputs["image"][0], inputs["image"][1])


def test_a_turned_view_is_turned_about_its_centre() -> None:
    pose = turn_view(PLAIN, 7.0)
    centre = np.array([23.5, 31.5])
    np.testing.assert_allclose(pose(centre), centre)
    assert np.degrees(np.arctan2(pose.matrix[1, 0], pose.matrix[0, 0])) == pytest.approx(7.0)


def test_decoding_averages_views_and_members_and_mixes_their_spreads() -> None:
    outputs = {
        "age_months": np.array([[100.0, 104.0], [96.0, 100.0]], np.float32),
        "spread_months": np.array([[6.0, 8.0], [6.0, 8.0]], np.float32),
    }
    plain = HandRegression(PLAIN).decode(outputs, Sex.MALE)
    assert plain.method == "hand_regression" and plain.age_months == pytest.approx(100.0)
    assert plain.spread_months == pytest.approx((50 + 8) ** 0.5)
    corrected = HandRegression(PLAIN, {"male": (1.5, -20.0)})
    assert corrected.decode(outputs, Sex.MALE).age_months == pytest.approx(130.0)
    assert corrected.decode(outputs, Sex.MALE).spread_months == pytest.approx(1.5 * 58**0.5)
    assert corrected.decode(outputs, Sex.FEMALE).age_months == pytest.approx(100.0)


@pytest.mark.parametrize(("age", "expected"), [(-30.0, 0.0), (400.0, 240.0)])
def test_an_age_stays_in_the_range_of_the_atlas(age: float, expected: float) -> None:
    outputs = {"age_months": np.full((1, 1), age, np.float32), "spread_months": np.zeros((1, 1), np.float32)}
    findings = HandRegression(PLAIN).decode(outputs, Sex.MALE)
    assert findings.age_months == expected and findings.spread_months is None


def test_its_settings_are_its_state() -> None:
    method = HandRegression(PLAIN, {"male": (1.1, -3.0), "female": (0.9, 4.0)})
    settings_ = json.loads(json.dumps({"input": asdict(method.config), "correction": method.correction}))
    again = HandRegression.from_settings(settings_)
    assert again.config == method.config
    assert {sex: tuple(line) for sex, line in again.correction.items()} == method.correction


# From here on networks are trained, which needs torch.

OVERRIDES = (
    "input.height=64",
    "input.width=48",
    "input.crop=none",
    "network.backbone=test_resnet",
    "network.pretrained=none",
    "network.hidden=16",
    "schedule.stages=[{epochs=1, height=48, width=32}, {epochs=1, height=64, width=48}]",
    "schedule.batch=4",
    "schedule.folds=2",
    "schedule.threads=1",
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn hands of both sexes."""
    hands = [
        draw_hand(24.0 + 16 * index, [Sex.MALE, Sex.FEMALE][index % 2], index, View(shape=(256, 192)))
        for index in range(12)
    ]
    return save_drawings(tmp_path_factory.mktemp("drawn"), hands)


@pytest.fixture(scope="module")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A run of two epochs on the drawn hands."""
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_regression.fit import train

    job = TrainJob(manifest, tmp_path_factory.mktemp("run"), overrides=OVERRIDES)
    assert train(job) == job.out
    return job


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_predicts_every_image_by_the_network_that_did_not_see_it(finished: TrainJob) -> None:
    from boneage.imaging.read import read

    recipe = build(
        Recipe,
        {k: v for k, v in json.loads((finished.out / "config.json").read_text()).items() if k != "recipe"},
        "run",
    )
    assert recipe.network.backbone == "test_resnet"
    rows = rows_of(finished.out / "oof.csv")
    assert len(rows) == 12 and {row["fold"] for row in rows} == {"0", "1"}
    run = open_graph(finished.out / "graph.onnx", "onnxruntime", 1)
    method = HandRegression(recipe.input)
    for row in rows[:4]:
        sex = Sex.parse(row["sex"])
        inputs = method.prepare(read(finished.data.parent / f"{row['id']}.png"), None, sex)
        ages = run(inputs)["age_months"]
        assert ages.shape == (1, 2)
        # The graph's members stand in the order of the folds; training and inference prepare alike.
        assert ages[0, int(row["fold"])] == pytest.approx(float(row["prediction"]), abs=0.5)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(finished: TrainJob) -> None:
    from boneage.recipes.hand_regression.fit import train

    kept = {path: path.stat().st_mtime_ns for path in finished.out.glob("fold*/*")}
    before = (finished.out / "oof.csv").read_text()
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        train(finished)
    train(replace(finished, resume=True))
    assert {path: path.stat().st_mtime_ns for path in finished.out.glob("fold*/*")} == kept
    assert (finished.out / "oof.csv").read_text() == before
    with pytest.raises(ConfigError, match="differs from the configuration given"):
        train(replace(finished, resume=True, overrides=(*OVERRIDES, "network.hidden=17")))


@pytest.mark.slow
def test_one_network_can_be_trained_on_with_all_images_and_exported_alone(
    finished: TrainJob, tmp_path: Path
) -> None:
    import torch

    from boneage.recipes.hand_regression.fit import train

    run = Path(shutil.copytree(finished.out, tmp_path / "run"))
    final = ("schedule.final_epochs=1", "schedule.final_learning_rate=1e-3")
    train(replace(finished, out=run, resume=True, overrides=(*OVERRIDES, *final)))
    inputs = {"image": np.zeros((3, 1, 64, 48), np.float32), "sex": np.zeros((3, 1), np.float32)}
    assert open_graph(run / "graph.onnx", "onnxruntime", 1)(inputs)["age_months"].shape == (3, 1)
    first, last = (torch.load(run / name / "weights.pt")["state"] for name in ("fold0", "final"))
    norms = [name for name in first if name.endswith("num_batches_tracked")]
    # Twelve images are three batches of four, seen in training mode.
    assert norms and all(last[name] == first[name] + 3 for name in norms)
    assert (run / "oof.csv").read_text() == (finished.out / "oof.csv").read_text()


@pytest.mark.slow
def test_the_views_of_training_grow_with_the_stages_and_repeat(manifest: Path) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.data.manifest import read_manifest
    from boneage.imaging.read import read
    from boneage.recipes.hand_regression.fit import Example, TrainingViews

    row = read_manifest(manifest)[0]
    assert row.sex is not None and row.bone_age_months is not None
    pixels = (read(row.path).pixels * 255).round().astype(np.uint8)
    example = Example(row, row.sex, row.bone_age_months, pixels, None)
    recipe = read_config(FOLDER / "recipe.toml", Recipe, OVERRIDES)
    views = TrainingViews([example], recipe)
    first, sex, age = views(0, 0)
    assert first.shape == (48, 32) and views(0, 1)[0].shape == views(0, 9)[0].shape == (64, 48)
    assert (sex, age) == (1.0, 24.0)
    assert np.array_equal(first, views(0, 0)[0])
    still = replace(recipe, augment=replace(recipe.augment, **dict.fromkeys(asdict(recipe.augment), 0.0)))
    plain = TrainingViews([example], still)(0, 1)[0]
    prepared = HandRegression(recipe.input).prepare(example.radiograph(), None, row.sex)["image"][0, 0]
    np.testing.assert_allclose(plain, prepared, atol=1e-6)
    assert not np.allclose(views(0, 1)[0], plain, atol=0.05)


@pytest.mark.slow
def test_what_cannot_be_trained_on_is_said(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_regression.fit import train

    def refuse(_: Radiograph) -> Hand:
        raise NotAHand("no hand found")

    def job(name: str, *overrides: str) -> TrainJob:
        return TrainJob(manifest, tmp_path / name, overrides=(*OVERRIDES, *overrides))

    with pytest.raises(ConfigError, match=r"12 images.*too few"):
        train(job("few", "schedule.folds=13"))
    with pytest.raises(ConfigError, match=r"input\.crop needs a hand localiser"):
        train(job("blind", "input.crop=hand"))
    with pytest.raises(ConfigError, match="0 training images"):
        train(replace(job("none", "input.crop=hand"), locate=refuse))
    with pytest.raises(ConfigError, match="unknown backbone 'resnot'"):
        train(job("name", "network.backbone=resnot"))


def test_the_networks_settings_reach_the_network() -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_regression.fit import build_net, loop_of

    overrides = (*OVERRIDES, "network.sex_width=5", "network.dropout=0.3")
    recipe = read_config(FOLDER / "recipe.toml", Recipe, overrides)
    net = build_net(recipe, np.array([60.0, 100.0, 140.0]))
    assert net.embed_sex is not None and net.embed_sex.out_features == 5
    assert net.output.in_features == 16 and net.hidden[2].p == 0.3
    assert net.age_mean.item() == pytest.approx(100.0)
    assert net.age_std.item() == pytest.approx(np.std([60, 100, 140]))
    loop = loop_of(recipe)
    assert (loop.epochs, loop.batch, loop.optimiser, loop.momentum) == (2, 4, "sgd", 0.9)


def test_table_2_is_the_papers_and_a_row_changes_what_it_names_alone() -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_regression.reproduce import conditions, under

    recipe = read_config(FOLDER / "ablation.toml", Recipe)
    sizes = (32, 64, recipe.schedule.stages[-1].height)
    rows = conditions(sizes)
    assert [row.paper_mae_months for row in rows] == [6.8, 6.5, 6.2, 8.5, 7.5, 7.4]
    whole = {row.name: as_tree(under(recipe, row)) for row in rows}
    assert whole["large"] == as_tree(recipe)
    for name, size in zip(("small", "middle", "large"), sizes, strict=True):
        assert {stage["height"] for stage in whole[name]["schedule"]["stages"]} == {size}
        assert whole[name]["input"]["height"] == whole[name]["input"]["width"] == size

    def changed(name: str) -> dict[str, object]:
        return {
            f"{section}.{key}": value
            for section, values in whole[name].items()
            for key, value in values.items()
            if value != whole["large"][section][key]
        }

    assert changed("no_sex") == {"network.sex_width": 0}
    assert changed("no_localisation") == {"input.crop": "none", "input.contrast": "none"}
    assert changed("no_pretraining") == {"network.pretrained": "none"}
