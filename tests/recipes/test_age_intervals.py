"""Paper 5's recipe without torch: intervals as pandas makes them, the pipeline, the method, the settings."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boneage.recipes.age_intervals as package
from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.core.errors import ConfigError
from boneage.core.types import FloatArray, Hand, Radiograph, Sex
from boneage.data.synthetic import View, draw_hand
from boneage.imaging import enhance
from boneage.recipes.age_intervals.config import InputConfig, Recipe
from boneage.recipes.age_intervals.intervals import AgeIntervals, IntervalsConfig, make_intervals
from boneage.recipes.age_intervals.method import AgeIntervalsMethod, cut, view_of, vote
from boneage.recipes.age_intervals.pipeline import STEPS, PipelineConfig, process
from boneage.training.config import as_tree, build, read_config

FOLDER = Path(package.__file__).parent
TOMLS = ["first", "recipe", "shipped"]  # `comparison` holds more than a recipe: see test_age_intervals_fit
NO_STEPS = PipelineConfig(steps=())
AGES = [12.0, 48.0, 100.0, 156.0, 228.0]
TWICE = [*AGES, *AGES]
FEW = AgeIntervals((12.0, 60.0, 120.0, 228.0))


# Intervals


def test_cut_makes_the_edges_that_pandas_cut_makes() -> None:
    # pandas.cut([12, 48, 100, 156, 228], 3, retbins=True): 11.784, 84, 156, 228
    made = make_intervals(IntervalsConfig("cut", 3), TWICE)
    assert made.edges_months == pytest.approx((11.784, 84.0, 156.0, 228.0))
    assert made.classes(AGES).tolist() == [0, 0, 1, 1, 2]  # pandas' codes: 156 is in (84, 156]


def test_quantile_makes_the_edges_that_pandas_qcut_makes() -> None:
    # pandas.qcut([12, 24, 36, 48, 100, 156, 228], 3, retbins=True): 12, 36, 100, 228; codes 0 0 0 1 1 2 2
    made = make_intervals(IntervalsConfig("quantile", 3), [12, 24, 36, 48, 100, 156, 228])
    assert made.edges_months == pytest.approx((12.0, 36.0, 100.0, 228.0))
    assert made.classes([12, 24, 36, 48, 100, 156, 228]).tolist() == [0, 0, 0, 1, 1, 2, 2]
    # pandas.qcut([12, 48, 100, 156, 228], 3, retbins=True): linear interpolation between the ages
    assert make_intervals(IntervalsConfig("quantile", 3), TWICE).edges_months == pytest.approx(
        tuple(np.quantile(TWICE, [0, 1 / 3, 2 / 3, 1]))
    )


def test_given_edges_are_taken_and_closed_at_their_right() -> None:
    made = make_intervals(IntervalsConfig("edges", edges_months=(0.0, 50.0, 120.0, 228.0)), TWICE)
    assert made == AgeIntervals((0.0, 50.0, 120.0, 228.0)) and len(made) == 3
    assert made.classes([0, 50, 50.001, 120, 120.001, 228]).tolist() == [0, 0, 1, 1, 2, 2]
    assert made.names() == ("0 to 50", "50 to 120", "120 to 228")
    assert made.centres_months.tolist() == [25.0, 85.0, 174.0]


@given(st.lists(st.floats(1, 240), min_size=4, max_size=60), st.integers(2, 12))
@settings(max_examples=100, deadline=None)
def test_every_age_gets_the_interval_that_holds_it(ages: list[float], count: int) -> None:
    for method in ("cut", "quantile"):
        try:
            made = make_intervals(IntervalsConfig(method, count), ages)
        except ConfigError:
            continue
        edges = np.array(made.edges_months)
        found = made.classes(ages)
        assert len(made) == count and found.min() == 0 and found.max() == count - 1
        above = (edges[found] < ages) | ((found == 0) & (edges[0] == ages))
        assert np.all(above & (np.array(ages) <= edges[found + 1]))
        assert np.bincount(found).min() >= 2


def test_the_nearest_interval_holds_predictions_beyond_the_edges() -> None:
    assert FEW.nearest([-30, 12, 59, 61, 119, 300]).tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("age", [11.9, 228.1, float("nan")])
def test_an_age_outside_the_edges_is_refused(age: float) -> None:
    with pytest.raises(
        ConfigError, match=rf"1 ages lie outside .* 12 to 228 months \(first: {age:g}\).*widen"
    ):
        FEW.classes([100, age, 50])


@pytest.mark.parametrize(
    ("config", "ages", "message"),
    [
        (IntervalsConfig("cut", 3), [12, 13, 227, 228], r"84 to 156 months holds no image.*quantile"),
        (IntervalsConfig("cut", 3), [12, 13, 120, 227, 228], "84.* months holds only 1 of at least 2 images"),
        (IntervalsConfig("edges", edges_months=(0, 40, 60, 240)), [12, 14, 48, 90, 99], "40 to 60 .* only 1"),
        (IntervalsConfig("edges", edges_months=(0, 40, 80)), TWICE, "6 ages lie outside .* 0 to 80 months"),
        (IntervalsConfig("cut", 3), [], "there are none"),
        (IntervalsConfig("cut", 3), [12, float("nan"), 40], "one is no number"),
        (IntervalsConfig("quantile", 3), [60, float("inf"), 40], "one is no number"),
        (IntervalsConfig("cut", 3), [100.0] * 8, "1 different ages do not give 3 intervals.*intervals.count"),
        (IntervalsConfig("quantile", 4), [12, 100, 100, 100, 100, 200], "3 different ages do not give 4"),
        (IntervalsConfig("edges", edges_months=(0, 90, 60, 240)), TWICE, "three or more and rise"),
        (IntervalsConfig("edges", edges_months=(0, 240)), TWICE, "must be three or more and rise"),
    ],
)  # fmt: skip
def test_intervals_that_the_ages_do_not_allow_are_refused(
    config: IntervalsConfig, ages: list[float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_intervals(config, ages)


@pytest.mark.parametrize(
    "edges", [(0.0, 60.0, 60.0, 120.0), (120.0, 60.0, 0.0), (0.0, float("nan"), 9.0), (1.0, 2.0)]
)
def test_edges_that_do_not_rise_make_no_intervals(edges: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="three or more and rise"):
        AgeIntervals(edges)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "slice"}, "must be one of cut, quantile, edges, not 'slice'"),
        ({"method": "edges"}, "needs intervals.edges_months"),
        ({"method": "cut", "edges_months": (0.0, 60.0, 120.0)}, "not used by 'cut'; set method='edges'"),
        ({"method": "quantile", "edges_months": (0.0, 60.0, 120.0)}, "not used by 'quantile'"),
        ({"count": 1}, "must be 2 or more, not 1"),
        ({"method": "quantile", "count": 0}, "must be 2 or more, not 0"),
    ],
)
def test_settings_of_intervals_that_contradict_each_other_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        IntervalsConfig(**values)


def test_a_part_of_the_images_that_leaves_an_interval_empty_is_named() -> None:
    FEW.require_filled([13, 61, 121], "training part of fold 2")
    with pytest.raises(
        ConfigError, match="training part of fold 2: the interval 120 to 228 months holds no image"
    ):
        FEW.require_filled([13, 61], "training part of fold 2")


# The pipeline


def grey(seed: int = 0, shape: tuple[int, int] = (64, 48)) -> FloatArray:
    """A noisy slope, with neither black nor white in it."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0.3, 0.6, shape[0], dtype=np.float32)[:, None]
    return np.clip(slope + rng.normal(0, 0.05, shape), 0, 1).astype(np.float32)


def only(name: str, **values: Any) -> PipelineConfig:
    return PipelineConfig(steps=(name,), **values)


def test_the_papers_steps_are_all_there_in_its_order() -> None:
    paper = ("bilateral", "brightness", "contrast", "normalise", "gaussian", "equalise_tiles")
    assert PipelineConfig().steps == paper == tuple(STEPS)
    image = grey()
    expected = image
    for name in paper:
        expected = process(expected, only(name))
    np.testing.assert_array_equal(process(image, PipelineConfig()), expected)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            only("bilateral", bilateral_px=7, bilateral_grey=0.3, bilateral_sigma_px=2.0),
            lambda image: enhance.bilateral(image, 7, 0.3, 2.0),
        ),
        (only("brightness", brightness=0.5), lambda image: 0.5 * image),
        (only("brightness", brightness=3.0), lambda image: np.minimum(3 * image, 1)),
        (only("contrast", contrast=0.5), lambda image: 0.5 * image + 0.5 * image.mean()),
        (
            only("normalise", normalise_percentiles=(0.0, 100.0)),
            lambda image: (image - image.min()) / np.ptp(image),
        ),
        (only("gaussian", gaussian_px=2.0), lambda image: enhance.gaussian(image, 2.0)),
        (only("equalise_tiles", tiles=4, clip=1.0), lambda image: enhance.clahe(image, 1.0, 4)),
    ],
    ids=lambda value: value.steps[0] if isinstance(value, PipelineConfig) else "",
)
def test_a_step_does_what_it_says(config: PipelineConfig, expected: Any) -> None:
    image = grey()
    found = process(image, config)
    np.testing.assert_allclose(found, expected(image), atol=1e-5)
    assert np.abs(found - image).max() > 0.01


def test_steps_can_be_left_out_and_put_in_another_order() -> None:
    image = grey()
    np.testing.assert_array_equal(process(image, NO_STEPS), image)
    for name in set(STEPS) - {"brightness", "contrast"}:  # `normalise` undoes both where nothing is clipped
        others = tuple(step for step in STEPS if step != name)
        assert not np.array_equal(
            process(image, PipelineConfig(steps=others)), process(image, PipelineConfig())
        )
    one, other = (
        PipelineConfig(steps=steps) for steps in (("contrast", "normalise"), ("normalise", "contrast"))
    )
    assert np.abs(process(image, one) - process(image, other)).max() > 0.02


def test_every_image_stays_in_range_and_as_it_was() -> None:
    for image in (grey(), grey() * 0, grey() * 0 + 1):
        before = image.copy()
        found = process(image, PipelineConfig())
        assert found.shape == image.shape and found.dtype == np.float32
        assert found.min() >= 0 and found.max() <= 1
        np.testing.assert_array_equal(image, before)


def test_a_step_that_there_is_not_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"no step 'sharpen'; known: bilateral, brightness, .*equalise_tiles"
    ):
        PipelineConfig(steps=("bilateral", "sharpen"))
    with pytest.raises(ConfigError, match="'sharpen'"):
        read_config(FOLDER / "recipe.toml", Recipe, ["input.pipeline.steps=['sharpen']"])


# The method


DRAWN = draw_hand(120.0, Sex.FEMALE, 0, View(shape=(320, 256), collimator=False))
HAND = hand_from_points(
    np.array([DRAWN.keypoints_px[name] for name in NAMES]),
    None,
    DRAWN.radiograph.shape,
    confidence=1.0,
    method="fast",
)
PLAIN = InputConfig(48, 40, pipeline=NO_STEPS)


def outputs_of(chances: list[list[float]], ages: list[float]) -> dict[str, Any]:
    """What a graph would say of some patches."""
    return {
        "log_probabilities": np.log(np.array(chances, np.float32)),
        "age_months": np.array(ages, np.float32)[:, None],
    }


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_patches_are_cut_row_by_row_and_joined_again(
    rows: int, columns: int, height: int, width: int
) -> None:
    view = np.arange(rows * height * columns * width, dtype=np.float32).reshape(
        rows * height, columns * width
    )
    patches = cut(view, (rows, columns))
    assert patches.shape == (rows * columns, height, width)
    joined = [np.hstack(list(patches[row * columns : (row + 1) * columns])) for row in range(rows)]
    np.testing.assert_array_equal(np.vstack(joined), view)


@pytest.mark.parametrize("crop", ["none", "box", "hand"])
@pytest.mark.parametrize("patches", [(1, 1), (2, 3)])
def test_prepare_gives_every_patch_the_sex(crop: str, patches: tuple[int, int]) -> None:
    config = InputConfig(24, 16, crop=crop, patches=patches)
    method = AgeIntervalsMethod(config, FEW)
    count = patches[0] * patches[1]
    for sex, code in ((Sex.MALE, 1.0), (Sex.FEMALE, 0.0)):
        inputs = method.prepare(DRAWN.radiograph, HAND, sex)
        assert inputs["image"].shape == (count, 1, 24, 16) and inputs["image"].dtype == np.float32
        assert inputs["image"].min() >= 0 and inputs["image"].max() <= 1
        assert inputs["sex"].tolist() == [[code]] * count and inputs["sex"].dtype == np.float32
    view = view_of(DRAWN.radiograph, HAND, config)
    assert view.shape == (24 * patches[0], 16 * patches[1])
    np.testing.assert_array_equal(inputs["image"][:, 0], cut(view, patches))


def test_patches_are_parts_of_the_view_that_is_as_large() -> None:
    """So many patches see more pixels of the image, not the same ones in pieces."""
    whole = view_of(DRAWN.radiograph, HAND, InputConfig(96, 80, pipeline=NO_STEPS))
    np.testing.assert_array_equal(view_of(DRAWN.radiograph, HAND, replace(PLAIN, patches=(2, 2))), whole)


def marked(hand: Hand | None, crop: str) -> FloatArray:
    """The view of an image that is bright in the hand's box alone."""
    pixels = np.zeros(DRAWN.radiograph.shape, np.float32)
    x0, y0, x1, y1 = (round(value) for value in HAND.box_px)
    pixels[y0:y1, x0:x1] = 1
    return view_of(Radiograph(pixels), hand, replace(PLAIN, crop=crop))


def test_the_crop_is_the_whole_image_or_the_hands_box() -> None:
    x0, y0, x1, y1 = HAND.box_px
    rows, columns = DRAWN.radiograph.shape
    share = (x1 - x0) * (y1 - y0) / (rows * columns)
    assert marked(HAND, "none").mean() == pytest.approx(share, abs=0.03)  # 320 x 256 is 48 x 38.4: no border
    box = marked(HAND, "box")
    scale = min(40 / (x1 - x0), 48 / (y1 - y0))
    assert box.mean() == pytest.approx((x1 - x0) * (y1 - y0) * scale**2 / (48 * 40), abs=0.05)
    assert box[24].min() > 0.8 or box[:, 20].min() > 0.8  # it touches two opposite sides
    np.testing.assert_array_equal(marked(None, "none"), marked(HAND, "none"))


def test_the_upright_hand_fills_its_view() -> None:
    frame, (x0, y0, x1, y1) = HAND.to_upright, HAND.upright_box
    points = frame(np.array([*HAND.keypoints_px.values()]))
    spots = np.zeros(DRAWN.radiograph.shape, np.float32)
    tip_x, tip_y = HAND.keypoints_px[NAMES[0]]
    spots[round(tip_y) - 4 : round(tip_y) + 5, round(tip_x) - 4 : round(tip_x) + 5] = 1
    view = view_of(Radiograph(spots), HAND, replace(PLAIN, crop="hand"))
    scale = min(40 / (x1 - x0), 48 / (y1 - y0))
    expected = (points[0] - [(x0 + x1) / 2, (y0 + y1) / 2]) * scale + [19.5, 23.5]
    y, x = np.mgrid[:48, :40]
    found = [(view * x).sum() / view.sum(), (view * y).sum() / view.sum()]
    np.testing.assert_allclose(found, expected, atol=0.5)


@pytest.mark.parametrize(
    ("chances", "winner"),
    [
        ([[0.5, 0.3, 0.2]], 0),
        ([[0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.0, 0.0, 1.0]], 0),  # most patches, though the mean says 2
        ([[0.6, 0.4, 0.0], [0.0, 0.9, 0.1]], 1),  # one each: the likelier in the mean
        ([[0.1, 0.0, 0.9], [0.6, 0.4, 0.0]], 2),
        ([[0.2, 0.5, 0.3], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3], [0.2, 0.3, 0.5], [0.2, 0.6, 0.2]], 1),
    ],
)
def test_most_patches_decide_and_the_mean_between_equals(chances: list[list[float]], winner: int) -> None:
    assert vote(np.array(chances)) == winner
    assert vote(np.array(chances[::-1])) == winner


def test_decoding_averages_patches_and_says_what_they_vote_for() -> None:
    outputs = outputs_of([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.0001, 0.0001, 0.9998]], [80, 90, 130])
    findings = AgeIntervalsMethod(PLAIN, FEW).decode(outputs, Sex.MALE)
    assert findings.method == "age_intervals" and findings.age_months == pytest.approx(100.0)
    mean = np.array([0.4, 0.2, 0.4])
    assert findings.details["probabilities"] == pytest.approx(mean, abs=1e-3)
    assert findings.details["edges_months"] == FEW.edges_months
    assert findings.details["interval"] == 0
    centres = np.array([36.0, 90.0, 174.0])
    spread = np.sqrt(mean @ centres**2 - (mean @ centres) ** 2)
    assert findings.spread_months == pytest.approx(spread, abs=0.1)
    json.dumps(dict(findings.details))


def test_decoding_tempers_the_probabilities_and_corrects_the_age_by_sex() -> None:
    outputs = outputs_of([[0.8, 0.1, 0.1]], [100])
    method = AgeIntervalsMethod(PLAIN, FEW, 2.0, {"male": (1.2, -30.0)})
    roots = np.sqrt([0.8, 0.1, 0.1])
    male = method.decode(outputs, Sex.MALE)
    assert male.details["probabilities"] == pytest.approx(roots / roots.sum(), abs=1e-5)
    assert male.age_months == pytest.approx(90.0)
    assert method.decode(outputs, Sex.FEMALE).age_months == pytest.approx(100.0)


@pytest.mark.parametrize(("age", "expected"), [(-30.0, 0.0), (400.0, 240.0)])
def test_an_age_stays_in_the_range_of_the_atlas(age: float, expected: float) -> None:
    assert (
        AgeIntervalsMethod(PLAIN, FEW).decode(outputs_of([[1, 1, 1]], [age]), Sex.MALE).age_months == expected
    )


def test_its_settings_are_its_state() -> None:
    config = InputConfig(
        30, 20, "box", (2, 1), PipelineConfig(steps=("gaussian",), normalise_percentiles=(2.0, 98.0))
    )
    written = {
        "input": as_tree(config),
        "intervals": {"edges_months": FEW.edges_months},
        "temperature": 1.7,
        "correction": {"male": (1.1, -3.0)},
    }
    again = AgeIntervalsMethod.from_settings(json.loads(json.dumps(written)))
    assert again.config == config and hash(again.config) == hash(config)  # tuples again, not lists
    assert again.intervals == FEW and again.temperature == 1.7
    method = AgeIntervalsMethod(config, FEW, 1.7, {"male": (1.1, -3.0)})
    for sex in Sex:
        outputs = outputs_of([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], [70, 90])
        assert again.decode(outputs, sex) == method.decode(outputs, sex)


# The configuration


def test_the_configurations_are_these() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.toml")) == ["comparison", *TOMLS]


@pytest.mark.parametrize("name", TOMLS)
def test_every_configuration_is_read_and_written_back(name: str) -> None:
    recipe = read_config(FOLDER / f"{name}.toml", Recipe)
    assert build(Recipe, json.loads(json.dumps(as_tree(recipe))), "again") == recipe


@pytest.mark.parametrize("name", ["comparison", *TOMLS])
def test_what_differs_from_the_paper_is_declared(name: str) -> None:
    tree = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    assert tree["departures"] and all(text.strip() for text in tree["departures"].values())


def test_the_recipe_has_the_papers_printed_numbers() -> None:
    recipe = read_config(FOLDER / "recipe.toml", Recipe)
    assert (recipe.schedule.optimiser, recipe.schedule.learning_rate, recipe.schedule.batch) == (
        "adam",
        1e-3,
        64,
    )
    assert (recipe.schedule.loss, recipe.schedule.schedule) == ("cross_entropy", "constant")
    assert recipe.schedule.patience > 0  # early stopping on the validation loss
    assert (recipe.intervals.method, recipe.intervals.count) == ("cut", 5)
    assert recipe.input.crop == "none" and recipe.input.pipeline == PipelineConfig()
    assert recipe.network.sex_width > 0
    assert "Hamrouni" in recipe.citation["paper"]


@pytest.mark.parametrize(
    "override",
    [
        "input.crop=thumb",
        "intervals.method=slice",
        "network.activation=gelu",
        "schedule.loss=l1",
        "schedule.optimiser=sgd",
        "schedule.schedule=cosine",
    ],
)
def test_a_choice_that_there_is_not_is_refused_and_not_taken_for_another(override: str) -> None:
    name, _, value = override.partition("=")
    with pytest.raises(ConfigError, match=rf"{name} must be one of .*, not '?{value}"):
        read_config(FOLDER / "recipe.toml", Recipe, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("input.height=0", "must be positive"),
        ("input.patches=[0, 2]", "must be positive"),
        ("input.patches=[2]", "patches must have 2 values"),
        ("schedule.stages=[]", "schedule.stages is empty"),
        ("schedule.train_share=0.0", "over 0 and at most 1, not 0"),
        ("schedule.train_share=1.5", "over 0 and at most 1, not 1.5"),
        ("schedule.ema_decay=0.9", "set ema_decay to 0"),
        ("intervals.count=1", "must be 2 or more"),
        ("intervals.edges_months=[0, 60, 120]", "not used by 'cut'"),
        ("schedule.patients=3", "unknown key 'patients'"),
    ],
)
def test_a_value_that_cannot_be_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(FOLDER / "recipe.toml", Recipe, [override])
