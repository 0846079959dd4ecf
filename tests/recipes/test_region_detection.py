"""The detector's recipe: labels, split and samples hold together; a run repeats nothing and can be opened."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import boneage.recipes.region_detection as package
from boneage.anatomy.detections import CLASSES, Detection, RegionDetector, class_boxes
from boneage.core.errors import ConfigError, NotAHand
from boneage.core.types import Affine, Hand, Radiograph, Sex
from boneage.data.augment import AugmentConfig
from boneage.data.manifest import Row, read_manifest
from boneage.data.synthetic import DrawnHand, View, draw_hand, save_drawings
from boneage.recipes.region_detection.config import LabelConfig, Recipe
from boneage.recipes.region_detection.labels import (
    read_boxes,
    split_ids,
    training_boxes,
    write_boxes,
)
from boneage.recipes.region_detection.samples import LabelledImage, RegionSamples, map_boxes, prepare
from boneage.training.config import TrainJob, as_tree, build, read_config

FOLDER = Path(package.__file__).parent
LABELS = LabelConfig(boxes="", held_out=0.5, swap=False, derived=3, min_confidence=0.5, repeat=1)
ROWS = [Row(str(number), Path(f"{number}.png")) for number in range(10)]
BOX = [Detection("Wrist", (1.0, 2.0, 3.5, 4.0), 1.0)]


def as_hand(drawn: DrawnHand) -> Hand:
    """A drawn hand as a localiser would find it."""
    return Hand(
        drawn.box_px,
        drawn.to_upright,
        (-1.0, -2.0, 1.0, 0.4),
        drawn.side,
        np.empty((0, 2), np.float32),
        drawn.keypoints_px,
        0.9,
        "fast",
    )


@pytest.mark.parametrize("name", ["recipe", "light"])
def test_the_recipes_are_read_and_written_back(name: str) -> None:
    recipe = read_config(FOLDER / f"{name}.toml", Recipe)
    assert build(Recipe, json.loads(json.dumps(as_tree(recipe))), "again") == recipe
    assert "paper 1" in recipe.citation["detector"] and recipe.citation["departs"]


def test_the_printed_network_is_the_default_and_the_light_one_differs_in_no_label() -> None:
    printed, light = (read_config(FOLDER / f"{name}.toml", Recipe) for name in ("recipe", "light"))
    assert printed.network.backbone == "vgg16"
    assert light.labels == printed.labels and light.augment == printed.augment


def test_boxes_survive_writing_and_reading(tmp_path: Path) -> None:
    boxes = {"a": [*BOX, Detection("CMC", (0.5, 0.5, 9.0, 9.0), 0.25)], "b": BOX}
    write_boxes(tmp_path / "boxes.csv", boxes)
    assert read_boxes(tmp_path / "boxes.csv") == boxes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,region,x0,y0,x1\na,DIP,1,2,3\n", "add 'y1'"),
        ("id,region,x0,y0,x1,y1\na,Elbow,1,2,3,4\n", r":2: unknown region 'Elbow'; known: DIP, PIP"),
        ("id,region,x0,y0,x1,y1\na,DIP,1,2,wide,4\n", r":2: a box is four numbers"),
        ("id,region,x0,y0,x1,y1\na,DIP,1,2,1,4\n", r":2: a box needs x0 < x1"),
        ("id,region,x0,y0,x1,y1\na,DIP,nan,2,1,4\n", r":2: a box needs x0 < x1"),
    ],
)
def test_a_wrong_table_of_boxes_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_boxes(tmp_path / "boxes.csv")


def test_the_mirror_split_exchanges_the_halves_and_shares_nothing() -> None:
    drawn = {str(number): BOX for number in range(4)}
    split = split_ids(ROWS, drawn, LABELS, 0)
    mirror = split_ids(ROWS[::-1], drawn, replace(LABELS, swap=True), 0)
    assert set(split.held_out) == set(mirror.training) and set(split.training) == set(mirror.held_out)
    assert len(split.held_out) == 2 and set(split.held_out) | set(split.training) == set(drawn)
    assert split.derived == mirror.derived and len(split.derived) == 3
    assert set(split.derived).isdisjoint(drawn)
    assert split_ids(ROWS, drawn, LABELS, 1) != split


def test_boxes_of_an_image_that_is_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1 ids of labels\.boxes, such as 77"):
        split_ids(ROWS, {"77": BOX}, LABELS, 0)


def test_drawn_boxes_stand_and_key_points_give_what_nobody_drew(tmp_path: Path) -> None:
    hands = [draw_hand(100.0 + 20 * index, Sex.MALE, index, View(shape=(256, 192))) for index in range(3)]
    rows = {row.id: row for row in read_manifest(save_drawings(tmp_path, hands))}
    names = list(rows)
    drawn = {names[0]: BOX, names[1]: BOX}
    split = split_ids(list(rows.values()), drawn, LABELS, 0)

    def locate(radiograph: Radiograph) -> Hand:
        if Path(radiograph.path).stem == names[2]:
            raise NotAHand("no hand")
        return as_hand(hands[names.index(Path(radiograph.path).stem)])

    boxes = training_boxes(rows, split, drawn, locate, 0.5)
    assert set(boxes) == set(split.training)  # neither what is held out nor what shows no hand
    found = boxes[split.training[0]]
    assert [each for each in found if each.label == "Wrist"] == BOX
    assert sum(each.label == "CMC" for each in found) == 1
    unsure = training_boxes(rows, split, drawn, locate, 0.95)
    assert unsure == {split.training[0]: BOX}


def test_a_radiograph_is_scaled_to_its_longer_side_and_boxes_return() -> None:
    image, to_image = prepare(Radiograph(np.random.default_rng(0).random((300, 200), dtype=np.float32)), 150)
    assert image.shape == (150, 100) and image.min() >= 0 and image.max() <= 1 and np.ptp(image) > 0.5
    boxes = np.array([[10.0, 20.0, 50.0, 90.0]])
    there = map_boxes(boxes, to_image)
    np.testing.assert_allclose(there[0, 2:] - there[0, :2], [20, 35])
    np.testing.assert_allclose(map_boxes(there, to_image.inverse()), boxes)


def test_a_quarter_turn_exchanges_width_and_height_and_a_small_one_hardly_grows_a_box() -> None:
    box = np.array([[0.0, 0.0, 20.0, 30.0]])
    quarter = Affine(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(map_boxes(box, quarter), [[-30, 0, 0, 20]])
    cos, sin = np.cos(0.1), np.sin(0.1)
    little = map_boxes(box, Affine(np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])))
    np.testing.assert_allclose(little[0, 2:] - little[0, :2], [20, 30], rtol=0.02)


@pytest.mark.parametrize("epoch", range(6))
def test_boxes_move_with_the_pixels(epoch: int) -> None:
    image = np.zeros((160, 120), np.uint8)
    image[60:80, 50:62] = 255
    labelled = LabelledImage(image, np.array([[50.0, 60.0, 62.0, 80.0]]), np.array([2]))
    samples = RegionSamples([labelled], AugmentConfig(rotation_degrees=15, scale=0.2, shift=0.1), 0)
    sample = samples(0, epoch)
    x0, y0, x1, y1 = sample.boxes[0]
    y, x = np.nonzero(sample.image > 0.5)
    assert (x.mean() - (x0 + x1 - 1) / 2) ** 2 + (y.mean() - (y0 + y1 - 1) / 2) ** 2 < 2
    assert len(x) == pytest.approx((x1 - x0) * (y1 - y0), rel=0.25)
    assert sample.labels.tolist() == [2]
    again = samples(0, epoch)
    assert np.array_equal(again.image, sample.image) and np.array_equal(again.boxes, sample.boxes)


def test_a_box_that_leaves_the_image_leaves_the_sample() -> None:
    boxes = np.array([[-30.0, 0.0, 5.0, 20.0], [-5.0, 10.0, 15.0, 30.0]])
    labelled = LabelledImage(np.zeros((40, 40), np.uint8), boxes, np.array([0, 1]))
    sample = RegionSamples([labelled], AugmentConfig(), 0)(0, 0)
    assert sample.labels.tolist() == [1]
    assert sample.boxes.min() >= 0 and sample.boxes.max() <= 40


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    """Six drawn hands; four of them with 'drawn' boxes, which stand in for people's."""
    hands = [draw_hand(60.0 + 25 * index, Sex.MALE, index, View(shape=(128, 96))) for index in range(6)]
    manifest = save_drawings(tmp_path / "drawn", hands)
    located = {row.id: as_hand(hand) for row, hand in zip(read_manifest(manifest), hands, strict=True)}
    boxes = {name: class_boxes(hand, (128, 96)) for name, hand in list(located.items())[:4]}
    write_boxes(tmp_path / "boxes.csv", boxes)
    overrides = (
        f"labels.boxes={tmp_path / 'boxes.csv'}",
        "labels.repeat=1",
        "network.pretrained=none",
        "network.long_side=96",
        "network.head_width=16",
        "network.proposals=10",
        "network.regions_per_image=8",
        "training.epochs=1",
        "training.batch=2",
    )
    return TrainJob(
        manifest,
        tmp_path / "run",
        config=Path("light"),
        overrides=overrides,
        locate=lambda radiograph: located[Path(radiograph.path).stem],
    )


def test_a_run_trains_keeps_its_labels_and_opens_as_a_detector(job: TrainJob) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.region_detection.fit import BoxDetector, train

    assert train(job) == job.out
    with (job.out / "split.csv").open(newline="") as file:
        parts = {line["id"]: line["part"] for line in csv.DictReader(file)}
    held_out = {name for name, part in parts.items() if part == "held_out"}
    assert len(held_out) == 2 and len(parts) == 6
    labels = read_boxes(job.out / "labels.csv")
    assert set(labels) == set(parts) - held_out
    before = (job.out / "detections.csv").read_text()
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        train(job)
    again = replace(job, locate=None, resume=True)
    assert train(again) == job.out  # labels and checkpoint are there
    assert (job.out / "detections.csv").read_text() == before
    detector: RegionDetector = BoxDetector.load(job.out)
    assert isinstance(detector(Radiograph(np.zeros((128, 96), np.float32))), tuple)
    with (job.out / "detections.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {line["id"] for line in found} <= held_out and {line["region"] for line in found} <= set(CLASSES)


def test_without_a_finder_or_images_the_reason_is_said(job: TrainJob) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.region_detection.fit import BoxDetector, train

    with pytest.raises(ConfigError, match="needs a hand finder"):
        train(replace(job, locate=None))
    with pytest.raises(ConfigError, match=r"4 images with boxes make no batch of 9"):
        train(replace(job, resume=True, overrides=(*job.overrides, "training.batch=9")))
    with pytest.raises(ConfigError, match=r"no detector\.safetensors"):
        BoxDetector.load(job.out)
