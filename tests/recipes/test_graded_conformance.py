"""What `test_conformance.py` asks of methods that see a hand, asked of the one that sees its bones.

`graded_regions` is not in METHODS: it is prepared for regions, not for a hand, and says grades before ages.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.anatomy.regions import PlacedRegion
from boneage.core.registry import METHODS
from boneage.core.types import Radiograph, Sex
from boneage.data.synthetic import draw_hand
from boneage.inference.assess import Assessor
from boneage.inference.bundle import Bundle
from boneage.inference.runners import open_graph
from boneage.recipes.graded_regions.method import GradedRegions
from boneage.recipes.graded_regions.prior import BONES, highest_grades

SETTINGS = {"input": {"side": 48, "contrast": "clahe"}}


def film(seed: int) -> tuple[Radiograph, tuple[PlacedRegion, ...]]:
    """A drawn hand and its bones' regions."""
    drawn = draw_hand(60.0 + 60 * seed, Sex.MALE, seed)
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    hand = hand_from_points(points, None, drawn.radiograph.shape, confidence=0.9, method="fast")
    return drawn.radiograph, GradedRegions.from_settings(SETTINGS).regions(drawn.radiograph, hand)


def test_it_is_no_method_of_a_whole_hand() -> None:
    assert GradedRegions.name not in METHODS


def test_preparing_is_deterministic_in_range_and_leaves_the_radiograph_alone() -> None:
    radiograph, regions = film(1)
    before = radiograph.pixels.copy()
    method = GradedRegions.from_settings(SETTINGS)
    first, again = (method.prepare(radiograph, regions) for _ in range(2))
    assert first["crop"].shape == (15, 1, 48, 48) and first["bone"].shape == (15, 15)
    for name, values in first.items():
        assert values.dtype == np.float32 and 0 <= values.min() <= values.max() <= 1
        assert np.array_equal(values, again[name])
    assert np.array_equal(radiograph.pixels, before)


def test_a_bones_crop_does_not_depend_on_which_others_are_prepared() -> None:
    radiograph, regions = film(0)
    method = GradedRegions.from_settings(json.loads(json.dumps(SETTINGS)))
    together = method.prepare(radiograph, regions)
    for at, region in enumerate(regions):
        alone = method.prepare(radiograph, [region])
        for name, values in alone.items():
            assert np.array_equal(values[0], together[name][at])


def test_decoding_gives_a_distribution_over_grades() -> None:
    at_least = np.sort(np.random.default_rng(0).random((15, 13)), axis=1)[:, ::-1]
    rows = GradedRegions.from_settings(SETTINGS).decode({"at_least": at_least.astype(np.float32)})
    assert rows.shape == (15, 14) and rows.min() >= 0
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    np.testing.assert_allclose(rows[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:], at_least, atol=1e-6)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def test_the_shipped_bundles_grades_are_those_of_each_hand_alone(bundle: Bundle) -> None:
    if GradedRegions.name not in bundle.manifest["methods"]:
        plain = Assessor(bundle, threads=1).assess(draw_hand(120.0, Sex.MALE).radiograph)
        assert (plain.regions, plain.scores) == ((), {})
        return
    method = GradedRegions.from_settings(bundle.manifest["methods"][GradedRegions.name])
    run = open_graph(bundle.graph(method.graph), "onnxruntime", 1)
    inputs = [method.prepare(*film(seed)) for seed in range(3)]
    batch = run({name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]})
    together = method.decode(batch).reshape(3, 15, -1)
    for each, rows in zip(inputs, together, strict=True):
        first, again = method.decode(run(each)), method.decode(run(each))
        assert np.array_equal(first, again)
        np.testing.assert_allclose(first, rows, atol=1e-4)
        assert rows.min() > -1e-6
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)
        for row, last in zip(rows, highest_grades(), strict=True):
            assert row[last + 1 :].max(initial=0.0) < 1e-6, "a grade that the bone does not have"


def test_the_shipped_bundle_grades_a_drawn_hand_wholly_or_says_what_is_missing(bundle: Bundle) -> None:
    assessed = Assessor(bundle, threads=1).assess(draw_hand(120.0, Sex.MALE).radiograph)
    if GradedRegions.name not in bundle.manifest["methods"]:
        assert assessed.ages.keys() == {bundle.manifest["method"]}
        return
    assert [region.bone for region in assessed.regions] == list(map(str, BONES))
    ungraded = [region.bone for region in assessed.regions if not region.grades]
    codes = [notice.code for notice in assessed.warnings]
    assert ("bone_not_graded" in codes) == bool(ungraded)
    assert assessed.ages.keys() >= assessed.scores.keys()
