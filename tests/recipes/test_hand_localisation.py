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
from boneage.core.types import FloatArray, Sex
from boneage.data.augment import AugmentConfig
from boneage.data.splits import read_folds
from boneage.data.synthetic import DrawnHand, View, draw_hand, save_drawings
from boneage.imaging.geometry import letterbox
from boneage.recipes.hand_localisation.config import Recipe
from boneage.recipes.hand_localisation.labels import (
    Film,
    People,
    guess_by_landmarks,
    guess_by_net,
    mean_epiphyses,
    read_people,
    with_people,
)
from boneage.recipes.hand_localisation.samples import (
    CELLS,
    JOINTS,
    POINTS,
    FinderSamples,
    LabelledHand,
    partly_hidden,
    without_forearm,
)
from boneage.training.config import TrainJob, as_tree, build, read_config

RECIPE_TOML = Path(package.__file__).with_name("recipe.toml")
RECIPE = read_config(RECIPE_TOML, Recipe)


def points_of(hand: DrawnHand) -> NDArray[np.float64]:
    return np.array([hand.keypoints_px[name] for name in NAMES])


EPIPHYSES_UPRIGHT = np.array([[0.06, 0.14], [-0.23, 0.17]])


def epiphyses_of(hand: DrawnHand) -> NDArray[np.float64]:
    """Where radius and ulna (2, 2) would have their growth plates, source pixels."""
    return upright_frame(points_of(hand))[0].inverse()(EPIPHYSES_UPRIGHT)


def film_of(hand: DrawnHand, name: str = "drawn") -> Film:
    """A drawn hand before its points are known."""
    image, to_label = letterbox(hand.pixels, 384)
    mask = letterbox(hand.mask.astype(np.float32), 384)[0] > 0.5
    unknown = np.full((POINTS, 2), np.nan), np.zeros(POINTS)
    bare = LabelledHand((image * 255).astype(np.uint8), *unknown, mask.astype(np.uint8))
    last = np.array(hand.pixels.shape[::-1]) - 1.0
    return Film(name, bare, to_label, to_label(np.zeros(2)), to_label(last))


def labelled(hand: DrawnHand) -> LabelledHand:
    """A drawn hand as people would label it."""
    film = film_of(hand)
    people = People({film.id: points_of(hand)}, {film.id: epiphyses_of(hand)})
    return with_people(film.hand, film, people)


DRAWN = draw_hand(120.0, Sex.MALE, 0, View(shape=(320, 240)))
HAND = labelled(DRAWN)


def samples(
    hand: LabelledHand = HAND,
    no_hand: float = 0.0,
    two_hands: float = 0.0,
    no_forearm: float = 0.0,
    hidden: float = 0.0,
) -> FinderSamples:
    """Samples of one kind, augmented in pose but not in tone."""
    shares = {"no_hand": no_hand, "two_hands": two_hands, "no_forearm": no_forearm, "hidden": hidden}
    training = replace(RECIPE.training, **shares)
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
    assert sample.maps.shape == (24, CELLS, CELLS) and np.all(sample.weights == 1)
    assert sample.maps.min() >= 0 and sample.maps.max() <= 1 + 1e-6
    cells, heights = decode_heatmaps(sample.maps[:-1])
    seen = heights > 0.9
    assert seen.sum() >= 16
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
    assert flesh[sample.maps[POINTS] > 0.9].mean() > flesh[sample.maps[POINTS] < 0.1].mean() + 0.1


def test_an_unknown_mask_is_said_to_be() -> None:
    sample = samples(replace(HAND, mask=None))(0, 0)
    assert sample.weights[POINTS] == 0 and not sample.maps[POINTS].any()
    assert sample.weights[:POINTS].all() and sample.maps[:POINTS].any()


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
    assert not sample.maps.any() and np.all(sample.weights == 1)
    assert np.ptp(sample.image) > 0.1 and sample.image.min() >= 0 and sample.image.max() <= 1


@pytest.mark.parametrize("epoch", range(4))
def test_a_hand_without_its_forearm_keeps_its_joints_and_loses_what_lies_beyond(epoch: int) -> None:
    sample = samples(no_forearm=1.0)(0, epoch)
    assert sample.maps[WRIST].max() > 0.8 and np.all(sample.weights == 1)
    cut = without_forearm(HAND, 0.155)
    radius, ulna = cut.points[JOINTS:]
    np.testing.assert_array_equal(radius, HAND.points[JOINTS])
    assert np.isnan(ulna).all()
    upright, _ = upright_frame(HAND.joints)
    y, x = np.mgrid[: cut.image.shape[0], : cut.image.shape[1]]
    below = upright(np.stack([x, y], axis=-1))[..., 1] > 0.155
    assert cut.mask is not None and not cut.image[below].any() and not cut.mask[below].any()
    np.testing.assert_array_equal(cut.image[~below], HAND.image[~below])
    assert HAND.image[below].any()


def test_an_epiphysis_that_is_not_in_the_image_has_an_empty_map_that_counts() -> None:
    sample = samples(without_forearm(HAND, 0.155))(0, 0)
    assert sample.maps[JOINTS].any() and not sample.maps[JOINTS + 1].any()
    assert sample.weights[JOINTS + 1] == 1


def test_what_is_hidden_has_no_key_point() -> None:
    lost = []
    for epoch in range(30):
        sample = samples(hidden=1.0)(0, epoch)
        plain = samples()(0, epoch)
        gone = [not sample.maps[joint].any() for joint in range(JOINTS)]
        lost.append(sum(gone))
        assert sample.weights.tolist() == plain.weights.tolist()
    assert max(lost) >= 4
    assert 0 < np.mean(lost) < 8


def test_a_hidden_part_is_one_flat_grey() -> None:
    part = partly_hidden(HAND, np.random.default_rng(3))
    changed = part.image != HAND.image
    assert changed.any()
    assert len(np.unique(part.image[changed])) == 1
    gone = np.isnan(part.points[:, 0])
    assert gone.any()
    assert not gone.all()
    np.testing.assert_array_equal(part.points[~gone], HAND.points[~gone])


def test_guesses_weigh_less_and_people_take_their_place() -> None:
    film, keypoints = film_of(DRAWN), points_of(DRAWN)
    blind = guess_by_landmarks(film, keypoints, None, 0.3)
    np.testing.assert_allclose(blind.weights, [0.3] * JOINTS + [0, 0])
    guess = guess_by_landmarks(film, keypoints + 2, EPIPHYSES_UPRIGHT, 0.3)
    assert np.all(guess.weights == 0.3)
    upright = upright_frame(guess.joints)[0](guess.points[JOINTS:])
    np.testing.assert_allclose(upright, EPIPHYSES_UPRIGHT, atol=1e-9)
    marked = with_people(guess, film, People({film.id: keypoints}, {}))
    np.testing.assert_allclose(marked.joints, film.to_label(keypoints))
    assert np.all(marked.weights[:JOINTS] == 1) and np.all(marked.weights[JOINTS:] == 0.3)
    one_bone = np.array([[100.0, 300.0], [np.nan, np.nan]])
    half = with_people(guess, film, People({}, {film.id: one_bone}))
    np.testing.assert_allclose(half.points[JOINTS], film.to_label(one_bone[0]))
    np.testing.assert_allclose(half.weights, [0.3] * JOINTS + [1, 0.3])


def test_a_usual_epiphysis_outside_the_radiograph_is_said_to_be_absent() -> None:
    wide = replace(
        DRAWN, pixels=DRAWN.pixels[: int(points_of(DRAWN)[WRIST, 1]) + 5]
    )  # letterboxed with margins
    film = film_of(replace(wide, mask=DRAWN.mask[: wide.pixels.shape[0]]))
    guess = guess_by_landmarks(film, points_of(DRAWN), EPIPHYSES_UPRIGHT, 0.3)
    assert np.isnan(guess.points[JOINTS:]).all() and np.all(guess.weights[JOINTS:] == 0.3)


def exact_maps(hand: LabelledHand) -> FloatArray:
    """What a net without error says of a labelled hand, not augmented."""
    training = replace(RECIPE.training, no_hand=0.0, two_hands=0.0, no_forearm=0.0)
    recipe = replace(RECIPE, training=training, augment=AugmentConfig())
    plain = FinderSamples([hand], recipe)
    return next(maps for epoch in range(50) if _is_plain(maps := plain(0, epoch).maps, hand))


def _is_plain(maps: FloatArray, hand: LabelledHand) -> bool:
    cells, _ = decode_heatmaps(maps[:JOINTS])
    return bool(np.abs((cells + 0.5) * FINDER_STRIDE * 2 - 0.5 - hand.joints).max() < 4)


def test_the_net_labels_what_it_is_sure_of() -> None:
    film, maps = film_of(DRAWN), exact_maps(HAND)
    guess = guess_by_net(film, maps, EPIPHYSES_UPRIGHT, 0.3)
    assert guess is not None and np.all(guess.weights == 0.3)
    np.testing.assert_allclose(guess.points, HAND.points, atol=0.25 * FINDER_STRIDE * 2)
    unsure = maps.copy()
    unsure[[3, JOINTS]] *= 0.2
    guess = guess_by_net(film, unsure, EPIPHYSES_UPRIGHT, 0.3)
    assert guess is not None and np.flatnonzero(guess.weights == 0).tolist() == [3, JOINTS]


def test_the_net_labels_no_hand_that_is_doubtful_and_no_exchanged_epiphyses() -> None:
    film, maps = film_of(DRAWN), exact_maps(HAND)
    assert guess_by_net(film, maps * np.float32(0.6), EPIPHYSES_UPRIGHT, 0.3) is None
    exchanged = maps.copy()
    fingers = [NAMES.index("forefinger1"), NAMES.index("ring_finger1")]
    exchanged[fingers] = maps[fingers[::-1]]
    assert guess_by_net(film, exchanged, EPIPHYSES_UPRIGHT, 0.3) is None
    exchanged = maps.copy()
    exchanged[JOINTS:POINTS] = maps[JOINTS:POINTS][::-1]
    guess = guess_by_net(film, exchanged, EPIPHYSES_UPRIGHT, 0.3)
    assert guess is not None and np.all(guess.weights[JOINTS:] == 0) and np.all(guess.weights[:JOINTS] == 0.3)


def test_tables_of_people_are_read_and_a_bad_cell_is_named(job_tables: tuple[Path, Path]) -> None:
    keypoints, regions = job_tables
    config = replace(RECIPE.labels, keypoints=str(keypoints), regions=str(regions))
    people = read_people(config)
    assert set(people.keypoints) == {"drawn-000", "drawn-001"} and set(people.epiphyses) == {
        "drawn-002",
        "drawn-003",
    }
    assert people.without({"drawn-000", "drawn-002"}).ids == {"drawn-001", "drawn-003"}
    regions.write_text("id,region,x0,y0,x1,y1\na,Radius,1,2,x,4\n")
    with pytest.raises(ConfigError, match=r"regions\.csv:2: expected numbers in x0, y0, x1, y1"):
        read_people(config)
    with pytest.raises(ConfigError, match="no hand has boxes of both"):
        mean_epiphyses(people, {})


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
def job_tables(tmp_path: Path) -> tuple[Path, Path]:
    """What people marked of the drawn hands of `job`: key points of two, epiphyses of two others."""
    keypoints, regions = tmp_path / "people.csv", tmp_path / "regions.csv"
    columns = [f"{name}_{axis}" for name in NAMES for axis in "xy"]
    with keypoints.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *columns])
        writer.writerows([f"drawn-{index:03d}", *points_of(drawn(index)).ravel()] for index in (0, 1))
    with regions.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "region", "x0", "y0", "x1", "y1"])
        for index in (2, 3):
            for bone, (x, y) in zip(("Radius", "Ulna"), epiphyses_of(drawn(index)), strict=True):
                writer.writerow([f"drawn-{index:03d}", bone, x - 9, y - 9, x + 9, y + 9])
    return keypoints, regions


def drawn(index: int) -> DrawnHand:
    """One of the hands of `job`."""
    return draw_hand(60.0 + 25 * index, Sex.MALE, index, View(shape=(256, 192)))


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    """Six drawn hands whose key points are known, so that no landmark model is asked; two are left out."""
    hands = [drawn(index) for index in range(6)]
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
    assert maps.shape == (1, 24, CELLS, CELLS) and maps.min() >= 0 and maps.max() <= 1
    with (job.out / "masks.csv").open(newline="") as file:
        tried = list(csv.DictReader(file))
    assert len(tried) <= 1 and all(row["id"] != "drawn-005" for row in tried)
    assert len(list((job.out / "masks").glob("*.png"))) == sum(row["accepted"] == "True" for row in tried)
    before = (job.out / "masks.csv").read_text()
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        train(job)
    train(replace(job, resume=True))
    assert (job.out / "masks.csv").read_text() == before


@pytest.mark.slow
def test_a_run_with_labels_of_people_is_tuned_to_them_and_cross_validated(
    job: TrainJob, job_tables: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.inference.runners import open_graph
    from boneage.recipes.hand_localisation.fit import train

    caplog.set_level("INFO", logger="boneage")
    keypoints, regions = job_tables
    out = job.out
    presence = (out / "keypoints.csv").read_text().replace(",0.5,", ",0.99,")
    (out / "keypoints.csv").write_text(presence)
    overrides = (
        *job.overrides,
        "labels.masks=0",
        "labels.exclude=",
        f"labels.keypoints={keypoints}",
        f"labels.regions={regions}",
        "labels.repeat=2",
        "labels.repeat_regions=3",
        "tuning.teacher_epochs=1",
        "tuning.folds=2",
        "tuning.student_epochs=1",
    )
    train(replace(job, overrides=overrides))
    assert "base: training on 2 hands" in caplog.text  # nobody has marked them
    assert "tuned/teacher: training on 12 hands" in caplog.text  # two of them twice, two three times
    folds = read_folds(out / "keypoint_folds.csv")
    assert sorted(folds) == [f"drawn-{index:03d}" for index in range(4)]
    assert folds["drawn-000"] != folds["drawn-001"] and folds["drawn-002"] != folds["drawn-003"]
    assert caplog.text.count("teacher: training on 7 hands") == 2  # a fold keeps two of the four
    image = {"image": np.random.default_rng(0).random((1, 1, FINDER_SIZE, FINDER_SIZE)).astype(np.float32)}
    graphs = [out / "graph.onnx", out / "fold0" / "graph.onnx", out / "fold1" / "graph.onnx"]
    final, first, second = (open_graph(graph, "onnxruntime", 1)(image)["maps"] for graph in graphs)
    assert not np.allclose(first, second) and not np.allclose(final, first)


def test_keypoints_without_regions_are_refused(job: TrainJob, job_tables: tuple[Path, Path]) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from boneage.recipes.hand_localisation.fit import train

    with pytest.raises(ConfigError, match=r"labels\.keypoints and labels\.regions go together"):
        train(replace(job, overrides=(*job.overrides, f"labels.keypoints={job_tables[0]}")))


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
