"""The finder's recipe: samples hold what their maps say, masks agree with joints, a run repeats nothing."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import boneage.recipes.hand_localisation as package
from boneage.anatomy.keypoints import NAMES, WRIST, decode_heatmaps
from boneage.anatomy.localise import FINDER_SIZE, FINDER_STRIDE, upright_frame
from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.augment import AugmentConfig
from boneage.data.synthetic import DrawnHand, View, draw_hand, save_drawings
from boneage.imaging.geometry import letterbox
from boneage.recipes.hand_localisation.config import Recipe
from boneage.recipes.hand_localisation.samples import CELLS, FinderSamples, LabelledHand
from boneage.training.config import TrainJob, as_tree, build, read_config

RECIPE_TOML = Path(package.__file__).with_name("recipe.toml")
RECIPE = read_config(RECIPE_TOML, Recipe)


def points_of(hand: DrawnHand) -> NDArray[np.float64]:
    return np.array([hand.keypoints_px[name] for name in NAMES])


def labelled(hand: DrawnHand) -> LabelledHand:
    """A drawn hand as the recipe labels one."""
    image, to_label = letterbox(hand.pixels, 384)
    mask = letterbox(hand.mask.astype(np.float32), 384)[0] > 0.5
    return LabelledHand((image * 255).astype(np.uint8), to_label(points_of(hand)), mask.astype(np.uint8))


DRAWN = draw_hand(120.0, Sex.MALE, 0, View(shape=(320, 240)))
HAND = labelled(DRAWN)


def samples(hand: LabelledHand = HAND, no_hand: float = 0.0, two_hands: float = 0.0) -> FinderSamples:
    """Samples of one kind, augmented in pose but not in tone."""
    training = replace(RECIPE.training, no_hand=no_hand, two_hands=two_hands)
    augment = AugmentConfig(rotation_degrees=30, scale=0.2, shift=0.05)
    return FinderSamples([hand], replace(RECIPE, training=training, augment=augment))


def test_the_recipe_is_read_and_written_back() -> None:
    assert build(Recipe, json.loads(json.dumps(as_tree(RECIPE))), "again") == RECIPE
    assert "paper 4" in RECIPE.citation["masks"]
    assert 0 < RECIPE.training.two_hands + RECIPE.training.no_hand < 0.5


def test_the_same_index_and_epoch_give_the_same_sample() -> None:
    drawn = FinderSamples([HAND, HAND], RECIPE)
    first, again, later = drawn(1, 2), drawn(1, 2), drawn(1, 3)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.maps, again.maps)
    assert not np.array_equal(first.image, later.image)


@pytest.mark.parametrize("epoch", range(8))
def test_the_maps_of_one_hand_stand_where_its_joints_are(epoch: int) -> None:
    sample = samples()(0, epoch)
    assert sample.image.shape == (FINDER_SIZE, FINDER_SIZE) and sample.image.dtype == np.float32
    assert sample.maps.shape == (22, CELLS, CELLS) and sample.mask_known
    assert sample.maps.min() >= 0 and sample.maps.max() <= 1 + 1e-6
    cells, heights = decode_heatmaps(sample.maps[:-1])
    seen = heights > 0.9
    assert seen.sum() >= 15
    points = (cells + 0.5) * FINDER_STRIDE - 0.5
    # The sample is the drawn hand by one similarity, perhaps mirrored: fitted to the joints, it fits all.
    whole = np.column_stack([HAND.points[seen], np.ones(seen.sum())])
    fitted, *_ = np.linalg.lstsq(whole, points[seen], rcond=None)
    assert np.abs(whole @ fitted - points[seen]).max() < 0.3 * FINDER_STRIDE
    linear = fitted[:2]
    gram = linear @ linear.T
    np.testing.assert_allclose(gram, np.eye(2) * gram.trace() / 2, atol=0.02 * gram.trace())
    # The pixels moved by the same map: flesh is where the mask says.
    flesh = sample.image[2::4, 2::4]
    assert flesh[sample.maps[21] > 0.9].mean() > flesh[sample.maps[21] < 0.1].mean() + 0.1


def test_an_unknown_mask_is_said_to_be() -> None:
    sample = samples(replace(HAND, mask=None))(0, 0)
    assert not sample.mask_known and not sample.maps[21].any() and sample.maps[:21].any()


@pytest.mark.parametrize("epoch", range(4))
def test_two_hands_have_two_peaks_a_joint_one_in_each_half(epoch: int) -> None:
    sample = samples(two_hands=1.0)(0, epoch)
    wrist = sample.maps[WRIST]
    halves = wrist[:, : CELLS // 2], wrist[:, CELLS // 2 :]
    assert min(half.max() for half in halves) > 0.8
    rows, columns = zip(*(np.unravel_index(half.argmax(), half.shape) for half in halves), strict=True)
    thumb = sample.maps[NAMES.index("thumb4")]
    outward = [int(half.max(axis=0).argmax()) for half in (thumb[:, : CELLS // 2], thumb[:, CELLS // 2 :])]
    assert (outward[0] > columns[0]) and (outward[1] < columns[1])  # palms down, the thumbs meet
    assert abs(int(rows[0]) - int(rows[1])) < CELLS // 2


@pytest.mark.parametrize("epoch", range(9))
def test_no_hand_has_empty_maps(epoch: int) -> None:
    sample = samples(no_hand=1.0)(0, epoch)
    assert not sample.maps.any() and sample.mask_known
    assert np.ptp(sample.image) > 0.1 and sample.image.min() >= 0 and sample.image.max() <= 1


# From here on labels and networks are made, which needs torch, OpenVINO or both.


def test_a_mask_that_is_the_hand_agrees_and_others_say_why_not() -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_localisation.masks import disagreement

    points = points_of(DRAWN)
    assert disagreement(DRAWN.mask, points) is None
    assert disagreement(np.zeros_like(DRAWN.mask), points) == "points_outside"
    palm = DRAWN.mask & (upright_rows(DRAWN) > -1.0)
    assert disagreement(palm, points) == "points_outside"
    spilt = DRAWN.mask.copy()
    spilt[:120, :30] = True
    spilt[:40] = True
    assert disagreement(spilt, points) == "stray_area"
    with_forearm = DRAWN.mask.copy()
    with_forearm[280:, 60:180] = True
    assert disagreement(with_forearm, points) is None


def upright_rows(hand: DrawnHand) -> NDArray[np.float64]:
    """How far down every pixel lies in the upright frame."""
    y, x = np.mgrid[: hand.pixels.shape[0], : hand.pixels.shape[1]]
    rows: NDArray[np.float64] = upright_frame(points_of(hand))[0](np.stack([x, y], axis=-1))[..., 1]
    return rows


def test_a_landmark_model_that_is_absent_is_named(tmp_path: Path) -> None:
    from boneage.recipes.hand_localisation.landmarks import LandmarkModel

    with pytest.raises(ConfigError, match=r"landmark model not found: .*absent\.tflite"):
        LandmarkModel(tmp_path / "absent.tflite")


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    """Six drawn hands whose key points are known, so that no landmark model is asked; two are left out."""
    hands = [draw_hand(60.0 + 25 * index, Sex.MALE, index, View(shape=(256, 192))) for index in range(6)]
    manifest, out = save_drawings(tmp_path / "drawn", hands), tmp_path / "run"
    out.mkdir()
    with (out / "keypoints.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for index, hand in enumerate(hands):
            presence = 0.5 if index == 4 else 0.99
            writer.writerow([f"drawn-{index:03d}", presence, *points_of(hand).ravel()])
    (tmp_path / "held_out.csv").write_text("id\ndrawn-005\n")
    overrides = (
        "labels.landmarks=absent.tflite",
        "labels.backbone=none",
        "labels.masks=1",
        f"labels.exclude={tmp_path / 'held_out.csv'}",
        "training.epochs=1",
        "training.batch=2",
        "training.threads=1",
        "training.precision=32-true",
    )
    return TrainJob(manifest, out, overrides=overrides)


@pytest.mark.slow
def test_a_run_makes_a_graph_from_drawn_hands_and_repeats_nothing(
    job: TrainJob, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.inference.runners import open_graph
    from boneage.recipes.hand_localisation.fit import train

    caplog.set_level("INFO", logger="boneage")
    assert train(job) == job.out
    assert "training on 4 hands" in caplog.text  # one is not sure enough, one is held out
    maps = open_graph(job.out / "graph.onnx", "onnxruntime", 1)(
        {"image": np.zeros((1, 1, FINDER_SIZE, FINDER_SIZE), np.float32)}
    )["maps"]
    assert maps.shape == (1, 22, CELLS, CELLS) and maps.min() >= 0 and maps.max() <= 1
    with (job.out / "masks.csv").open(newline="") as file:
        tried = list(csv.DictReader(file))
    assert len(tried) <= 1 and all(row["id"] != "drawn-005" for row in tried)
    assert len(list((job.out / "masks").glob("*.png"))) == sum(row["accepted"] == "True" for row in tried)
    before = (job.out / "masks.csv").read_text()
    train(job)
    assert (job.out / "masks.csv").read_text() == before


def test_too_few_labelled_hands_are_said(job: TrainJob) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_localisation.fit import train

    with pytest.raises(ConfigError, match="only 4 hands could be labelled; at least 8 are needed"):
        train(replace(job, overrides=(*job.overrides, "training.batch=8", "labels.masks=0")))


def test_a_run_without_its_landmark_model_is_refused(job: TrainJob) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_localisation.fit import train

    (job.out / "keypoints.csv").unlink()
    with pytest.raises(ConfigError, match=r"absent\.tflite"):
        train(job)
    assert not (job.out / "keypoints.csv").exists()
