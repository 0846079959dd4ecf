"""Refusing what is not one complete hand: with a finder that sees drawn hands exactly, and on real ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boneage.anatomy.closeup import CloseUp, look
from boneage.anatomy.completeness import LIMITS, HandModel, off_film
from boneage.anatomy.keypoints import KNUCKLE, NAMES, TIPS, WRIST
from boneage.anatomy.localise import FINDER_SIZE, FINDER_STRIDE, hand_from_points
from boneage.core.errors import BundleError, ConfigError, IncompleteHand, NotAHand, SeveralHands
from boneage.core.protocols import Arrays
from boneage.core.types import FloatArray, Hand, Radiograph, Sex, Side
from boneage.data.synthetic import DrawnHand, View, draw_hand
from boneage.imaging.geometry import crop, flip, rotate
from boneage.imaging.read import read
from boneage.inference.assess import Finder
from boneage.inference.bundle import Bundle
from boneage.inference.runners import open_graph
from boneage.recipes.hand_localisation.normality import fit

CELLS = FINDER_SIZE // FINDER_STRIDE
MIDDLE_TIP = NAMES.index("middle_finger4")


def some_hands(count: int, seed: int = 0) -> list[CloseUp]:
    """Close-ups around one drawn hand: joints shifted a little, as hands differ."""
    rng = np.random.default_rng(seed)
    drawn = draw_hand(120.0, Sex.MALE, 0, View(shape=(320, 240)))
    upright = drawn.to_upright(np.array([drawn.keypoints_px[name] for name in NAMES]))
    rows, columns = np.mgrid[:64, :48]
    hands = []
    for _ in range(count):
        places = upright + rng.normal(0, 0.03, (21, 2))
        places[[WRIST, KNUCKLE]] = [(0, 0), (0, -1)]
        blob = np.exp(-((rows - 30 + rng.normal()) ** 2 + (columns - 24 + rng.normal()) ** 2) / 200)
        hands.append(
            CloseUp(
                confidences=np.clip(rng.normal(0.8, 0.03, 21), 0.1, 0.95),
                rivals=np.abs(rng.normal(0.1, 0.02, 21)),
                upright=places,
                clearance=np.full(21, 0.4),
                picture=blob.astype(np.float32),
                epiphyses={},
            )
        )
    return hands


HANDS = some_hands(500)
MODEL = fit(HANDS)
ONE = some_hands(1, seed=9)[0]


def changed(hand: CloseUp, point: int, **values: float) -> CloseUp:
    """The same hand with another value at one key point."""
    arrays = {}
    for name, value in values.items():
        array = getattr(hand, name).copy()
        array[point] = value
        arrays[name] = array
    return replace(hand, **arrays)


def test_a_hand_like_the_training_hands_is_accepted() -> None:
    assert sum(refused(hand) for hand in some_hands(50, seed=5)) <= 2


def refused(hand: CloseUp) -> bool:
    try:
        MODEL.refuse(hand)
    except NotAHand:
        return True
    return False


@pytest.mark.parametrize("tip", TIPS)
def test_a_tip_at_the_films_edge_that_is_hardly_seen_is_named_as_cut(tip: int) -> None:
    word = {"pinky": "little"}.get(NAMES[tip].split("_")[0].rstrip("4"), NAMES[tip].split("_")[0].rstrip("4"))
    with pytest.raises(IncompleteHand, match=f"the film's edge cuts the {word}"):
        MODEL.refuse(changed(ONE, tip, clearance=0.0, confidences=0.2))


def test_a_tip_that_is_not_seen_far_from_the_edge_is_covered_or_missing() -> None:
    with pytest.raises(IncompleteHand, match="the middle finger cannot be followed to the tip"):
        MODEL.refuse(changed(ONE, MIDDLE_TIP, confidences=0.01))


def test_a_shortened_finger_is_refused_by_its_place_alone() -> None:
    short = ONE.upright.copy()
    short[MIDDLE_TIP] += [0.0, 0.25]
    with pytest.raises(IncompleteHand, match="the middle finger"):
        MODEL.refuse(replace(ONE, upright=short))
    away = MODEL.measure(replace(ONE, upright=short)).points
    assert int(away.argmax()) == MIDDLE_TIP


def test_an_unseen_wrist_three_rivals_and_another_picture_have_their_own_reasons() -> None:
    with pytest.raises(IncompleteHand, match="the wrist is cut off or covered"):
        MODEL.refuse(changed(ONE, WRIST, confidences=0.05))
    with pytest.raises(SeveralHands, match="more than one hand"):
        MODEL.refuse(replace(ONE, rivals=np.full(21, 0.9)))
    noise = np.random.default_rng(0).random((64, 48)).astype(np.float32)
    with pytest.raises(NotAHand, match="does not look like a hand"):
        MODEL.refuse(replace(ONE, picture=noise))


def test_joints_all_over_the_place_are_no_hand() -> None:
    anywhere = np.random.default_rng(1).uniform(-2, 2, (21, 2))
    with pytest.raises(NotAHand, match="do not lie or look as a hand's do"):
        MODEL.refuse(replace(ONE, upright=anywhere))


def test_a_model_survives_saving_in_a_small_file(tmp_path: Path) -> None:
    MODEL.save(tmp_path / "hand_model.npz")
    again = HandModel.load(tmp_path / "hand_model.npz")
    assert tuple(again.limits) == LIMITS
    np.testing.assert_allclose(again.measure(ONE).points, MODEL.measure(ONE).points, atol=1e-3)
    assert again.measure(ONE).picture == pytest.approx(MODEL.measure(ONE).picture, abs=0.01)
    assert (tmp_path / "hand_model.npz").stat().st_size < 300_000


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_or_missing_model_is_a_bundle_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hand_model.npz"
    with pytest.raises(BundleError, match="no hand model"):
        HandModel.load(path)
    path.write_bytes(content)
    with pytest.raises(BundleError, match="no hand model"):
        HandModel.load(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(BundleError, match="no hand model"):
        HandModel.load(path)


def test_too_few_hands_teach_nothing() -> None:
    with pytest.raises(ConfigError, match="more to learn from"):
        fit(HANDS[:10])


class Exact:
    """A finder without error: it puts peaks where the drawn joints are in the view that it is given."""

    def __init__(self, upright: np.ndarray, hand: Hand) -> None:
        self.upright, self.hand = upright, hand
        self.image: FloatArray | None = None

    def __call__(self, inputs: Arrays) -> dict[str, FloatArray]:
        self.image = inputs["image"]
        x0, y0, x1, y1 = self.hand.upright_box
        scale = FINDER_SIZE / (1.25 * max(x1 - x0, y1 - y0))
        view = scale * (self.upright - [(x0 + x1) / 2, (y0 + y1) / 2]) + (FINDER_SIZE - 1) / 2
        cells = (view + 0.5) / FINDER_STRIDE - 0.5
        grid = np.arange(CELLS)
        gauss_x = np.exp(-0.5 * ((grid - cells[:, :1]) / 1.3) ** 2)
        gauss_y = np.exp(-0.5 * ((grid - cells[:, 1:]) / 1.3) ** 2)
        joints = gauss_y[:, :, None] * gauss_x[:, None, :]
        return {"maps": np.concatenate([joints, joints[:1]])[None].astype(np.float32)}


def seen(drawn: DrawnHand, pixels: FloatArray, points: np.ndarray) -> tuple[CloseUp, Hand, Exact]:
    hand = hand_from_points(points, None, pixels.shape, confidence=0.9, method="fast", warnings=())
    exact = Exact(hand.to_upright(points), hand)
    return look(Radiograph(pixels), hand, exact), hand, exact


@pytest.mark.parametrize("side", list(Side))
def test_the_close_up_is_the_same_however_the_film_lies(side: Side) -> None:
    drawn = draw_hand(120.0, Sex.FEMALE, 0, View(shape=(400, 300), side=side, marker=False))
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    plain, _, _ = seen(drawn, drawn.pixels, points)
    for turned, to_turned in (rotate(drawn.pixels, 90), rotate(drawn.pixels, 180), flip(drawn.pixels)):
        other, _, exact = seen(drawn, turned, to_turned(points))
        np.testing.assert_allclose(other.upright, plain.upright, atol=0.03)
        np.testing.assert_allclose(other.clearance, plain.clearance, atol=0.03)
        assert float(np.abs(other.picture - plain.picture).mean()) < 0.02
        assert exact.image is not None and exact.image.shape == (1, 1, FINDER_SIZE, FINDER_SIZE)
        assert exact.image.min() >= 0 and exact.image.max() <= 1


def test_a_film_that_ends_at_the_wrist_names_radius_and_ulna() -> None:
    drawn = draw_hand(120.0, Sex.FEMALE, 0, View(shape=(400, 300)))
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    whole, hand, _ = seen(drawn, drawn.pixels, points)
    assert off_film(Radiograph(drawn.pixels), hand, whole) == ()
    bottom = drawn.to_upright.inverse()(np.array([0.0, 0.08]))[1]
    cut, _ = crop(drawn.pixels, (0, 0, 300, bottom))
    short, hand, _ = seen(drawn, cut, points)
    assert off_film(Radiograph(cut), hand, short) == ("radius", "ulna")


def test_an_epiphysis_that_the_finder_does_not_see_is_named() -> None:
    drawn = draw_hand(120.0, Sex.FEMALE, 0, View(shape=(400, 300)))
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    whole, hand, _ = seen(drawn, drawn.pixels, points)
    unseen = replace(whole, epiphyses={"radius": 0.9, "ulna": 0.02})
    assert off_film(Radiograph(drawn.pixels), hand, unseen) == ("ulna",)


IDS: Sequence[str] = ("1377", "1380", "5127", "12895")


def test_real_hands_pass_the_shipped_finder_and_lose_by_a_cut(shared_data: Path) -> None:
    """The limits are wide here (few hands teach them), so only the contrast of whole and cut is asked for."""
    graph = Bundle.load().graph("hand_finder")
    find, run = Finder(graph), open_graph(graph, "onnxruntime", 1)
    with (shared_data / "rsna" / "labels.csv").open(newline="") as file:
        paths = {row["id"]: shared_data / "rsna" / row["path"] for row in csv.DictReader(file)}
    tips = list(TIPS)
    for name in IDS:
        radiograph = read(paths[name])
        hand = find(radiograph)
        whole = look(radiograph, hand, run)
        height, width = radiograph.shape
        joint, tip = (hand.keypoints_px[f"middle_finger{number}"][1] for number in (3, 4))
        cut, _ = crop(radiograph.pixels, (0, (joint + tip) / 2, width, height))
        short = look(Radiograph(cut), find(Radiograph(cut)), run)
        assert whole.confidences[tips].min() > 0.6 and whole.clearance[tips].min() > 0.05
        assert short.clearance[tips].min() < whole.clearance[tips].min()
        assert short.confidences[tips].min() < whole.confidences[tips].min()
