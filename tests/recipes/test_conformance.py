"""What every registered method must hold; a new one is tested by being registered."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from boneage.core.errors import SexRequired
from boneage.core.protocols import Method, Runner
from boneage.core.registry import METHODS, load
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.synthetic import draw_hand
from boneage.inference.assess import Assessor
from boneage.inference.bundle import Bundle
from boneage.inference.runners import open_graph

AGES = (60.0, 120.0, 180.0)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest, bundle: Bundle) -> Method:
    """Every registered method, with the shipped state."""
    made: Method = load(METHODS, request.param).from_settings(bundle.manifest["methods"][request.param])
    return made


@pytest.fixture(scope="module")
def run(method: Method, bundle: Bundle) -> Runner:
    return open_graph(bundle.graph(method.graph), "onnxruntime", 1)


@pytest.fixture(scope="module")
def cases(bundle: Bundle) -> list[tuple[Radiograph, Hand]]:
    """Three drawn hands, located."""
    assessor = Assessor(bundle, threads=1)
    radiographs = [draw_hand(age, Sex.MALE, seed).radiograph for seed, age in enumerate(AGES)]
    return [(radiograph, assessor.locate(radiograph)) for radiograph in radiographs]


def test_it_knows_its_name_and_its_graph(method: Method, bundle: Bundle) -> None:
    assert METHODS[method.name].endswith(f":{type(method).__name__}")
    assert method.graph in bundle.manifest["graphs"]


def test_inputs_are_float32_batches_of_one_length(method: Method, cases: list) -> None:
    inputs = method.prepare(*cases[0], Sex.MALE)
    assert len({len(values) for values in inputs.values()}) == 1
    for name, values in inputs.items():
        assert values.dtype == np.float32 and np.all(np.isfinite(values)), name


def test_it_is_deterministic(method: Method, run: Runner, cases: list) -> None:
    for radiograph, hand in cases:
        first, again = (method.prepare(radiograph, hand, Sex.FEMALE) for _ in range(2))
        assert all(np.array_equal(first[name], again[name]) for name in first)
        results = [method.decode(run(inputs), Sex.FEMALE) for inputs in (first, again)]
        assert asdict(replace(results[0], details={})) == asdict(replace(results[1], details={}))


def test_a_batch_is_its_singles(method: Method, run: Runner, cases: list) -> None:
    inputs = [method.prepare(radiograph, hand, Sex.MALE) for radiograph, hand in cases]
    batch = run({name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]})
    start = 0
    for each in inputs:
        views = len(next(iter(each.values())))
        mine = {name: values[start : start + views] for name, values in batch.items()}
        start += views
        together, alone = method.decode(mine, Sex.MALE), method.decode(run(each), Sex.MALE)
        assert together.age_months == pytest.approx(alone.age_months, abs=0.01)
        if alone.spread_months is not None:
            assert together.spread_months == pytest.approx(alone.spread_months, abs=0.01)


def test_findings_are_in_range_and_bear_its_name(method: Method, run: Runner, cases: list) -> None:
    for radiograph, hand in cases:
        findings = method.decode(run(method.prepare(radiograph, hand, Sex.MALE)), Sex.MALE)
        assert findings.method == method.name
        assert 0 <= findings.age_months <= 240
        assert findings.spread_months is None or findings.spread_months > 0


def test_sex_matters_where_it_is_needed(method: Method, run: Runner, bundle: Bundle, cases: list) -> None:
    ages = {sex: method.decode(run(method.prepare(*cases[1], sex)), sex).age_months for sex in Sex}
    assert (ages[Sex.MALE] != ages[Sex.FEMALE]) == method.needs_sex
    if method.needs_sex:
        manifest = {**bundle.manifest, "method": method.name}
        with pytest.raises(SexRequired):
            Assessor(replace(bundle, manifest=manifest), threads=1).assess(replace(cases[1][0], sex=None))


def test_preparing_leaves_the_radiograph_alone(method: Method, cases: list) -> None:
    radiograph, hand = cases[0]
    before = radiograph.pixels.copy()
    method.prepare(radiograph, hand, Sex.MALE)
    assert np.array_equal(radiograph.pixels, before)


def test_its_state_survives_saving_and_loading(
    method: Method, run: Runner, cases: list, bundle: Bundle
) -> None:
    settings = json.loads(json.dumps(bundle.manifest["methods"][method.name]))
    again = type(method).from_settings(settings)  # type: ignore[attr-defined]
    for radiograph, hand in cases:
        inputs, expected = (
            again.prepare(radiograph, hand, Sex.MALE),
            method.prepare(radiograph, hand, Sex.MALE),
        )
        assert all(np.array_equal(inputs[name], expected[name]) for name in expected)
        outputs = run(inputs)
        assert again.decode(outputs, Sex.MALE).age_months == method.decode(outputs, Sex.MALE).age_months
