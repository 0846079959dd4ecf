"""The main job on the shipped bundle: sensible, the same each time, and plain refusals of what is no hand."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from boneage_fakes import DISTRIBUTION

from boneage import __version__
from boneage.core.errors import (
    BundleError,
    ConfigError,
    InputError,
    NotAHand,
    RuntimeUnavailable,
    SexRequired,
    UnsupportedImage,
)
from boneage.core.registry import METHODS
from boneage.core.types import Affine, Radiograph, Sex, Side
from boneage.data.synthetic import View, draw_cut_off_hand, draw_foot, draw_hand, draw_two_hands
from boneage.imaging.geometry import flip, pad, rotate
from boneage.imaging.read import read
from boneage.inference.assess import Assessor, Finder
from boneage.inference.bundle import Bundle

IDS = ("1377", "1380", "5127", "12895")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def assessor(bundle: Bundle) -> Assessor:
    return Assessor(bundle, threads=1)


@pytest.fixture(scope="module")
def drawn() -> Radiograph:
    return draw_hand(120.0, Sex.FEMALE).radiograph


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, tuple[Radiograph, Sex, float]]:
    """Some real radiographs by id, each with its sex and the reader's bone age."""
    folder = shared_data / "rsna"
    with (folder / "labels.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    return {
        name: (
            read(folder / rows[name]["path"]),
            Sex.parse(rows[name]["sex"]),
            float(rows[name]["bone_age_months"]),
        )
        for name in IDS
    }


def iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    x0, y0, x1, y1 = *np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:])
    common = max(x1 - x0, 0) * max(y1 - y0, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(common / (sum(areas) - common))


@pytest.mark.parametrize("name", IDS)
def test_a_real_radiograph_gets_a_sensible_answer(
    assessor: Assessor, real: dict[str, tuple[Radiograph, Sex, float]], name: str
) -> None:
    radiograph, sex, read_age = real[name]
    result = assessor.assess(radiograph, sex=sex)
    low, high = result.interval_months
    assert 0 <= low < result.bone_age_months < high <= 240
    assert abs(result.bone_age_months - read_age) < 48
    assert result.coverage == pytest.approx(0.9)
    assert result.ages.keys() >= {"hand_regression"}
    if assessor.bundle.manifest["methods"].keys() == {"hand_regression"}:
        assert result.ages == {"hand_regression": result.bone_age_months}
    height, width = radiograph.shape
    x0, y0, x1, y1 = result.hand.box_px
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert (x1 - x0) * (y1 - y0) > 0.2 * height * width
    assert np.all(result.hand.outline_px >= 0) and np.all(result.hand.outline_px < [width, height])
    tips = np.array([result.hand.keypoints_px[f"{finger}4"] for finger in ("thumb", "middle_finger")])
    assert np.all(tips >= [x0, y0]) and np.all(tips <= [x1, y1])


def test_the_hand_of_a_real_radiograph_lies_where_people_drew_its_box(
    assessor: Assessor, shared_data: Path, radiograph_paths: tuple[Path, ...]
) -> None:
    with (shared_data / "keypoints" / "hand_keypoints.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::5]
    paths = {path.stem: path for path in radiograph_paths}
    overlaps = []
    for row in rows:
        hand = assessor.locate(read(paths[row["id"]]))
        corners = [float(row[key]) for key in ("box_x0", "box_y0", "box_x1", "box_y1")]
        overlaps.append(iou(hand.box_px, tuple(corners)))
    assert np.mean(overlaps) > 0.8


def test_it_is_deterministic_and_two_assessors_agree(
    bundle: Bundle, assessor: Assessor, drawn: Radiograph
) -> None:
    first, again = (assessor.assess(drawn, sex=Sex.MALE) for _ in range(2))
    other = Assessor(bundle, threads=2).assess(drawn, sex=Sex.MALE)
    assert first.bone_age_months == again.bone_age_months
    assert first.interval_months == again.interval_months
    assert first.hand.keypoints_px == again.hand.keypoints_px
    assert np.array_equal(first.hand.outline_px, again.hand.outline_px)
    assert other.bone_age_months == pytest.approx(first.bone_age_months, abs=0.05)


def test_both_runtimes_give_the_same_age(bundle: Bundle, assessor: Assessor, drawn: Radiograph) -> None:
    other = Assessor(bundle, runtime="onnxruntime", threads=1).assess(drawn, sex=Sex.FEMALE)
    mine = assessor.assess(drawn, sex=Sex.FEMALE)
    assert other.bone_age_months == pytest.approx(mine.bone_age_months, abs=0.2)
    assert other.provenance["runtime"] == "onnxruntime" and mine.provenance["runtime"] == "openvino"


def test_a_path_is_read_as_the_radiograph_in_it(
    assessor: Assessor, tmp_path: Path, drawn: Radiograph
) -> None:
    path = tmp_path / "hand.png"
    assert cv2.imwrite(str(path), np.round(drawn.pixels * 255).astype(np.uint8))
    by_path = assessor.assess(str(path), sex=Sex.FEMALE)
    by_value = assessor.assess(read(path), sex=Sex.FEMALE)
    assert by_path.bone_age_months == by_value.bone_age_months
    assert by_path.path == str(path)


def test_an_answer_says_what_made_it(bundle: Bundle, assessor: Assessor, drawn: Radiograph) -> None:
    result = assessor.assess(drawn, chronological_age_months=130.0)
    assert result.provenance["software"] == f"boneage {__version__}"
    assert result.provenance["bundle"] == bundle.name
    assert result.provenance["checksums"] == bundle.manifest["checksums"]
    assert result.provenance["localiser"] == result.hand.method == "fast"
    assert result.provenance["input"]["pixels"].startswith("drawn")
    assert "drawn_hand" in [notice.code for notice in result.warnings]
    assert result.chronological_age_months == 130.0


def test_the_files_own_sex_and_age_are_used_where_none_is_given(
    assessor: Assessor, drawn: Radiograph
) -> None:
    result = assessor.assess(replace(drawn, sex=Sex.MALE, chronological_age_months=99.0))
    assert result.sex is Sex.MALE and result.chronological_age_months == 99.0


def test_a_missing_sex_is_asked_for(assessor: Assessor, drawn: Radiograph) -> None:
    with pytest.raises(SexRequired, match="--sex"):
        assessor.assess(replace(drawn, sex=None))


def test_a_sex_that_differs_from_the_files_is_used_and_said(assessor: Assessor, drawn: Radiograph) -> None:
    as_given = assessor.assess(drawn, sex=Sex.MALE)
    notice = next(notice for notice in as_given.warnings if notice.code == "sex_differs")
    assert "female" in notice.text and "male was given" in notice.text
    assert as_given.sex is Sex.MALE
    as_filed = assessor.assess(drawn, sex=Sex.FEMALE)
    assert "sex_differs" not in [notice.code for notice in as_filed.warnings]
    assert as_given.bone_age_months != as_filed.bone_age_months


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: draw_foot(seed=seed),
        lambda seed: draw_two_hands(120.0, Sex.FEMALE, seed),
        lambda seed: draw_cut_off_hand(120.0, Sex.FEMALE, seed),
    ],
    ids=["foot", "two hands", "cut-off hand"],
)
def test_what_is_not_one_whole_hand_is_refused(assessor: Assessor, draw: Callable, seed: int) -> None:
    with pytest.raises(NotAHand) as caught:
        assessor.assess(draw(seed).radiograph)
    assert "\n" not in str(caught.value) and "; give" in str(caught.value)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_blank_image_is_refused(assessor: Assessor, level: float) -> None:
    with pytest.raises(UnsupportedImage, match="blank"):
        assessor.assess(Radiograph(np.full((600, 400), level, np.float32)), sex=Sex.MALE)


def test_a_tiny_image_is_refused(assessor: Assessor) -> None:
    with pytest.raises(UnsupportedImage, match="too small"):
        assessor.assess(Radiograph(np.eye(32, dtype=np.float32)), sex=Sex.MALE)


def test_a_photograph_is_refused(assessor: Assessor, tmp_path: Path) -> None:
    y, x = np.mgrid[:480, :640]
    colours = np.stack([255 * x / 640, 255 * y / 480, 127 + 127 * np.sin(x / 40)], axis=-1)
    path = tmp_path / "photo.png"
    assert cv2.imwrite(str(path), colours.astype(np.uint8))
    with pytest.raises(InputError, match=r"photo\.png"):
        assessor.assess(path, sex=Sex.MALE)


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_shapes_are_refused(assessor: Assessor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.random((500, 400)).astype(np.float32), (0, 0), 2 + 6 * seed)
    image = (image - image.min()) / np.ptp(image)
    if seed % 2:
        cv2.rectangle(image, (120, 80), (260, 420), 1.0, -1)
    with pytest.raises(NotAHand):
        assessor.assess(Radiograph(image.astype(np.float32)), sex=Sex.MALE)


def turned(radiograph: Radiograph, turn: str) -> tuple[Radiograph, Affine]:
    """The radiograph mirrored or turned, and source pixels -> its pixels."""
    pixels, transform = (
        flip(radiograph.pixels) if turn == "mirror" else rotate(radiograph.pixels, float(turn))
    )
    return replace(radiograph, pixels=pixels), transform


@pytest.mark.parametrize("turn", ["mirror", "90", "180", "270"])
@pytest.mark.parametrize("name", IDS)
def test_the_same_hand_is_found_however_the_film_lies(
    bundle: Bundle, assessor: Assessor, real: dict[str, tuple[Radiograph, Sex, float]], name: str, turn: str
) -> None:
    radiograph, sex, _ = real[name]
    other, transform = turned(radiograph, turn)
    plain, posed = assessor.assess(radiograph, sex=sex), assessor.assess(other, sex=sex)
    assert (posed.hand.side is plain.hand.side) == (turn != "mirror")
    back = transform.inverse()
    points = np.array([*plain.hand.keypoints_px.values()])
    found = back(np.array([*posed.hand.keypoints_px.values()]))
    length = 1 / np.sqrt(abs(np.linalg.det(plain.hand.to_upright.matrix[:, :2])))  # wrist to knuckle
    # Measured over 24 real hands: the median joint moves by at most 0.052 of that length; IoU 0.75 and more.
    assert np.median(np.linalg.norm(found - points, axis=1)) < 0.12 * length
    corners = back(np.array(posed.hand.box_px).reshape(2, 2))
    assert iou(tuple(np.r_[corners.min(axis=0), corners.max(axis=0)]), plain.hand.box_px) > 0.7
    if bundle.manifest["methods"]["hand_regression"]["input"]["crop"] == "hand":
        low, high = plain.interval_months
        assert low < posed.bone_age_months < high


def test_a_right_hand_is_a_left_hand_mirrored(assessor: Assessor) -> None:
    for side in Side:
        hand = assessor.locate(draw_hand(120.0, Sex.MALE, 3, View(side=side)).radiograph)
        assert hand.side is side


def test_saliency_lies_over_the_hand_and_is_a_share(assessor: Assessor, drawn: Radiograph) -> None:
    result = assessor.assess(drawn)
    before = drawn.pixels.copy()
    saliency = assessor.saliency(drawn, result, grid=4)
    assert saliency.shape == drawn.shape and saliency.dtype == np.float32
    assert saliency.min() >= 0 and saliency.max() == pytest.approx(1, abs=0.05)
    x0, y0, x1, y1 = (round(value) for value in result.hand.box_px)
    outside = saliency.copy()
    outside[y0:y1, x0:x1] = 0
    assert not outside.any()
    assert np.array_equal(drawn.pixels, before)
    assert np.array_equal(saliency, assessor.saliency(drawn, result, grid=4))


def test_every_stage_is_watched_in_order(bundle: Bundle, drawn: Radiograph) -> None:
    stages: list[str] = []

    def watch(stage: str) -> AbstractContextManager[object]:
        stages.append(stage)
        return nullcontext()

    Assessor(bundle, threads=1, watch=watch).assess(drawn)
    graded = ["crop", "grade", "score"] if "graded_regions" in bundle.manifest["methods"] else []
    found = ["read", "inspect", "localise", "find", "complete"]
    methods = sum(name in METHODS for name in bundle.manifest["methods"])
    assert stages == [*found, *["prepare", "run", "decode"] * methods, *graded]


def test_a_small_hand_is_looked_at_twice_and_found(bundle: Bundle) -> None:
    drawn = draw_hand(120.0, Sex.FEMALE, 0, View(shape=(500, 380), collimator=False))
    pixels, to_film = pad(drawn.pixels, 450, 60, 100, 500, fill=float(np.median(drawn.pixels)))
    stages: list[str] = []

    def watch(stage: str) -> AbstractContextManager[object]:
        stages.append(stage)
        return nullcontext()

    hand = Finder(bundle.graph("hand_finder"), watch=watch)(replace(drawn.radiograph, pixels=pixels))
    assert stages == ["find", "find"]
    truth = to_film(np.array([*drawn.keypoints_px.values()]))
    found = np.array([hand.keypoints_px[name] for name in drawn.keypoints_px])
    length = 1 / np.sqrt(abs(np.linalg.det(drawn.to_upright.matrix[:, :2])))
    assert np.median(np.linalg.norm(found - truth, axis=1)) < 0.2 * length


def test_a_finder_alone_finds_what_the_assessor_finds(
    bundle: Bundle, assessor: Assessor, drawn: Radiograph
) -> None:
    alone = Finder(bundle.graph("hand_finder"))(drawn)
    assert alone.keypoints_px == assessor.locate(drawn).keypoints_px


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"localise": "guess"}, "fast or dfc, not 'guess'"),
        ({"threads": 0}, "threads must be 1 or more"),
        ({"runtime": "tensorrt"}, "not 'tensorrt'"),
    ],
)
def test_bad_options_are_named(bundle: Bundle, options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Assessor(bundle, **options)


def test_a_bundle_without_a_graph_is_refused(bundle: Bundle) -> None:
    graphs = {"hand_regression": bundle.manifest["graphs"]["hand_regression"]}
    with pytest.raises(BundleError, match="no graph 'hand_finder'"):
        Assessor(replace(bundle, manifest={**bundle.manifest, "graphs": graphs}))


def test_clustering_without_torch_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, drawn: Radiograph
) -> None:
    monkeypatch.delitem(sys.modules, "boneage.models.segmentation", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeUnavailable, match="pip install"):
        Assessor(bundle, localise="dfc", threads=1).locate(drawn)


@pytest.fixture
def classified(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The shipped bundle with a classifier of age intervals that is not weighed: 110 months, 112 for boys."""
    onnx = pytest.importorskip("onnx", reason="the extra `train` is not installed: it makes the test's graph")
    node, value, kind = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    logs = np.log(DISTRIBUTION.probabilities).astype(np.float32)
    constants = {"two": [2.0], "none": [0.0], "girls": [110.0], "logs": logs}
    nodes = [
        node("Mul", ["sex", "two"], ["more"]),
        node("Add", ["more", "girls"], ["age_months"]),
        node("Mul", ["sex", "none"], ["nothing"]),
        node("Add", ["nothing", "logs"], ["log_probabilities"]),
    ]
    made = onnx.helper.make_graph(
        nodes,
        "intervals",
        [value("sex", kind, ["n", 1])],
        [value("log_probabilities", kind, ["n", len(logs)]), value("age_months", kind, ["n", 1])],
        [
            onnx.numpy_helper.from_array(np.array(values, np.float32), name)
            for name, values in constants.items()
        ],
    )
    path = tmp_path / "age_intervals.onnx"
    onnx.save(
        onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )
    monkeypatch.setitem(METHODS, "age_intervals", "boneage_fakes:FakeIntervals")
    manifest = bundle.manifest
    settings = {
        "intervals": {"edges_months": list(DISTRIBUTION.edges_months)},
        "calibration": manifest["methods"]["hand_regression"]["calibration"],
    }
    direct = {"weights": {"hand_regression": 1.0}, "calibration": settings["calibration"]}
    changed = {
        "methods": {**manifest["methods"], "age_intervals": settings},
        "graphs": {**manifest["graphs"], "age_intervals": str(path)},
        "combination": direct,
    }
    return replace(bundle, manifest={**manifest, **changed})


def with_weights(bundle: Bundle, weights: dict[str, float]) -> Bundle:
    combination = {**bundle.manifest["combination"], "weights": weights}
    return replace(bundle, manifest={**bundle.manifest, "combination": combination})


def test_a_bundle_with_a_classifier_gives_its_age_and_its_probabilities(
    classified: Bundle, drawn: Radiograph
) -> None:
    for sex, age in ((Sex.FEMALE, 110.0), (Sex.MALE, 112.0)):
        result = Assessor(classified, threads=1).assess(drawn, sex=sex)
        assert list(result.ages)[:2] == ["hand_regression", "age_intervals"]
        assert result.ages["age_intervals"] == pytest.approx(age)
        assert result.bone_age_months == result.ages["hand_regression"]
        assert result.distribution is not None
        assert result.distribution.edges_months == DISTRIBUTION.edges_months
        assert result.distribution.probabilities == pytest.approx(DISTRIBUTION.probabilities, abs=1e-5)


def test_a_classifier_that_is_weighed_moves_the_answer(classified: Bundle, drawn: Radiograph) -> None:
    weighed = with_weights(classified, {"hand_regression": 0.25, "age_intervals": 0.75})
    result = Assessor(weighed, threads=1).assess(drawn, sex=Sex.FEMALE)
    expected = 0.25 * result.ages["hand_regression"] + 0.75 * 110.0
    assert result.bone_age_months == pytest.approx(expected)
    assert result.provenance["method"] == "hand_regression + age_intervals"


def test_saliency_is_the_main_methods(classified: Bundle, drawn: Radiograph) -> None:
    weighed = with_weights(classified, {"age_intervals": 1.0})
    assessor, plain = (Assessor(made, threads=1) for made in (weighed, classified))
    result = assessor.assess(drawn)
    assert result.bone_age_months == pytest.approx(110.0)
    maps = [made.saliency(drawn, result, grid=2) for made in (assessor, plain)]
    assert maps[0].any() and np.array_equal(*maps)


def test_a_bundle_without_a_classifier_gives_no_distribution(bundle: Bundle, drawn: Radiograph) -> None:
    methods: dict[str, Any] = dict(bundle.manifest["methods"])
    methods.pop("age_intervals", None)
    result = Assessor(replace(bundle, manifest={**bundle.manifest, "methods": methods}), threads=1).assess(
        drawn
    )
    assert result.distribution is None and "age_intervals" not in result.ages
