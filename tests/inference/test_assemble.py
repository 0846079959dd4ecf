"""Assembling a bundle: corrections and intervals are truly cross-fitted, and half a run makes no bundle."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_fakes import clusters
from cluster_fakes import write_run as write_clusters
from radius_fakes import pair_model, subgrader, write_run

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.inference.assemble import assemble, extend
from boneage.inference.bundle import Bundle
from boneage.inference.conclude import half_width
from boneage.inference.out_of_fold import OutOfFold, correct, cross_interval, measure, read_oof
from boneage.metrics.conformal import fit_line, fit_scale
from boneage.recipes.radius_subgrades.subgrades import Subgrader
from boneage.recipes.region_clusters.model import RegionClusters


def simulated(count: int = 300, folds: int = 5, slope: float = 1.25) -> OutOfFold:
    """Out-of-fold predictions that shrink towards the mean: the truth moves `slope` months a month."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(24, 200, count)
    predicted = 110 + (truth - 110) / slope + rng.normal(0, 6, count)
    sex = np.array([str(Sex.FEMALE), str(Sex.MALE)])[np.arange(count) % 2]
    predicted[sex == str(Sex.MALE)] += 8
    ids = tuple(str(index) for index in range(count))
    return OutOfFold(ids, sex, truth, predicted, (np.arange(count) // 2) % folds)


def other_truths(oof: OutOfFold, fold: int) -> OutOfFold:
    """The same table with nonsense as the truth of one fold."""
    here = oof.fold == fold
    return replace(oof, truth=np.where(here, 240 - 0.3 * oof.truth, oof.truth))


def test_a_folds_own_truths_never_correct_it() -> None:
    oof = simulated()
    lines, plain = correct(oof)
    for fold in range(5):
        other_lines, corrected = correct(other_truths(oof, fold))
        here = oof.fold == fold
        np.testing.assert_array_equal(corrected[here], plain[here])
        assert np.all(np.abs(corrected[~here] - plain[~here]) > 1e-6)
        assert other_lines != lines


def test_a_folds_own_truths_never_widen_its_interval() -> None:
    oof = simulated()
    low, high = cross_interval(oof, oof.predicted)
    for fold in range(5):
        other_low, other_high = cross_interval(other_truths(oof, fold), oof.predicted)
        here = oof.fold == fold
        np.testing.assert_array_equal(other_low[here], low[here])
        np.testing.assert_array_equal(other_high[here], high[here])
        assert np.all((other_high - other_low)[~here] > (high - low)[~here])


def test_the_correction_is_a_line_per_sex_by_hand() -> None:
    oof = simulated(folds=2)
    lines, corrected = correct(oof)
    boys = oof.sex == str(Sex.MALE)
    assert lines["male"] == fit_line(oof.predicted[boys], oof.truth[boys])
    here, others = boys & (oof.fold == 0), boys & (oof.fold == 1)
    slope, offset = fit_line(oof.predicted[others], oof.truth[others])
    np.testing.assert_allclose(corrected[here], slope * oof.predicted[here] + offset)
    assert np.abs(corrected - oof.truth).mean() < np.abs(oof.predicted - oof.truth).mean() - 3


def test_intervals_are_centred_and_cover_as_promised() -> None:
    oof = simulated(2000)
    _, corrected = correct(oof)
    low, high = cross_interval(oof, corrected)
    np.testing.assert_allclose((low + high) / 2, corrected)
    covered = (oof.truth >= low) & (oof.truth <= high)
    assert covered.mean() == pytest.approx(0.9, abs=0.02)
    figures = measure(oof, corrected, low, high)
    assert figures["intervals"]["all ages"]["coverage"]["estimate"] == pytest.approx(covered.mean())
    expected = np.abs(corrected - oof.truth).mean()
    assert figures["errors"]["both sexes, all ages"]["mae"]["estimate"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "lacking",
    [lambda oof: replace(oof, fold=np.zeros(300, int)), lambda oof: replace(oof, sex=np.full(300, "male"))],
    ids=["one fold", "one sex"],
)
def test_too_little_to_cross_fit_is_said(lacking: Callable[[OutOfFold], OutOfFold]) -> None:
    with pytest.raises(ConfigError, match="two folds"):
        correct(lacking(simulated()))


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A finder's run and an age run, complete."""
    finder, age = tmp_path / "finder", tmp_path / "age"
    for run in (finder, age):
        run.mkdir()
        (run / "graph.onnx").write_bytes(run.name.encode())
        (run / "config.json").write_text(json.dumps({"input": {"height": 8, "width": 6}}))
    write_oof(age / "oof.csv", simulated())
    (age / "folds.csv").write_text("id,fold\n0,0\n")
    return finder, age


def write_oof(path: Path, oof: OutOfFold) -> None:
    """Write the table as a run does."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "sex", "bone_age_months", "prediction", "spread", "fold"])
        for row in zip(oof.ids, oof.sex, oof.truth, oof.predicted, oof.truth * 0, oof.fold, strict=True):
            writer.writerow(row)


def assembled(runs: tuple[Path, Path], out: Path) -> Bundle:
    return assemble(*runs, out, name="trial", version="1", data="drawn hands")


def test_a_bundle_holds_graphs_calibration_figures_and_the_split(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle = assembled(runs, tmp_path / "out")
    oof = read_oof(runs[1] / "oof.csv")
    lines, corrected = correct(oof)
    method = bundle.manifest["methods"]["hand_regression"]
    assert {sex: tuple(line) for sex, line in method["correction"].items()} == lines
    assert method["mae_months_uncorrected"] == pytest.approx(np.abs(oof.predicted - oof.truth).mean())
    assert bundle.manifest["images"] == 300
    assert bundle.graph("hand_regression").read_bytes() == b"age"
    assert bundle.graph("hand_finder").read_bytes() == b"finder"
    assert set(bundle.manifest["checksums"]) == {
        "hand_finder.onnx",
        "hand_regression.onnx",
        "folds.csv",
        "oof.csv",
    }
    half = float(fit_scale(corrected, oof.truth).half_width(np.array([120.0]))[0])
    assert half_width(120.0, method["calibration"]) == pytest.approx(half)


def test_the_shipped_table_holds_the_cross_fitted_predictions(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle = assembled(runs, tmp_path / "out")
    oof = read_oof(runs[1] / "oof.csv")
    _, corrected = correct(oof)
    low, high = cross_interval(oof, corrected)
    with (bundle.path / "oof.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column, values in (("prediction", corrected), ("lower", low), ("upper", high)):
        np.testing.assert_allclose([float(row[column]) for row in rows], values, atol=6e-4)
    assert [row["id"] for row in rows] == list(oof.ids)


def test_a_correction_that_does_not_help_is_left_out(runs: tuple[Path, Path], tmp_path: Path) -> None:
    oof = simulated()
    rng = np.random.default_rng(1)
    exact = replace(oof, predicted=oof.truth + np.where(rng.random(300) < 0.5, -5.0, 5.0))
    write_oof(runs[1] / "oof.csv", exact)
    method = assembled(runs, tmp_path / "out").manifest["methods"]["hand_regression"]
    errors = np.abs(correct(exact)[1] - exact.truth).mean()
    assert (method["correction"] == {}) == (errors >= 5.0)
    assert method["figures_out_of_fold"]["errors"]["both sexes, all ages"]["mae"]["estimate"] <= 5.0


@pytest.mark.parametrize(
    "name",
    [
        "finder/graph.onnx",
        "finder/config.json",
        "age/graph.onnx",
        "age/config.json",
        "age/oof.csv",
        "age/folds.csv",
    ],
)
def test_half_a_run_makes_no_bundle(runs: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=name):
        assembled(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def grades(runs: tuple[Path, Path]) -> Path:
    """A grading run on the folds of the age run, with errors of its own; it left two hands out."""
    run = runs[0].with_name("grades")
    run.mkdir()
    (run / "graph.onnx").write_bytes(b"grades")
    (run / "config.json").write_text(json.dumps({"input": {"side": 8}}))
    (run / "folds.csv").write_text("id,fold\n0,0\n")
    oof = simulated()
    noise = np.random.default_rng(3).normal(0, 6, 300)
    graded = replace(oof, predicted=oof.truth + noise).take(np.arange(300) >= 2)
    write_oof(run / "oof.csv", graded)
    return run


def test_a_second_method_is_joined_by_cross_fitted_weights(
    runs: tuple[Path, Path], grades: Path, tmp_path: Path
) -> None:
    bundle = assemble(*runs, tmp_path / "out", grades_run=grades, name="trial", version="1", data="drawn")
    manifest = bundle.manifest
    assert bundle.graph("graded_regions").read_bytes() == b"grades"
    assert manifest["images"] == 298
    parts = [manifest["methods"][name] for name in ("hand_regression", "graded_regions")]

    def mae(settings: dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]) -> float:
        return settings["figures_out_of_fold"]["errors"]["both sexes, all ages"]["mae"]["estimate"]

    assert mae(manifest["combination"]) < min(map(mae, parts)) - 0.3
    with (bundle.path / "oof.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    error = np.mean([abs(float(row["prediction"]) - float(row["bone_age_months"])) for row in rows])
    assert error == pytest.approx(mae(manifest["combination"]), abs=1e-3)
    assert all(float(row["hand_regression"]) and float(row["graded_regions"]) for row in rows)


def test_runs_on_other_folds_are_not_joined(runs: tuple[Path, Path], grades: Path, tmp_path: Path) -> None:
    oof = read_oof(grades / "oof.csv")
    write_oof(grades / "oof.csv", replace(oof, fold=(oof.fold + 1) % 5))
    with pytest.raises(ConfigError, match="folds"):
        assemble(*runs, tmp_path / "out", grades_run=grades, name="trial", version="1", data="drawn")
    assert not (tmp_path / "out").exists()


EDGES = (0.0, 48.0, 96.0, 120.0, 144.0, 228.0)


def interval_run(run: Path, oof: OutOfFold) -> Path:
    """A run of age intervals, complete; its probabilities are sharp and right but for every tenth hand."""
    run.mkdir()
    (run / "graph.onnx").write_bytes(b"intervals")
    (run / "config.json").write_text(json.dumps({"input": {"height": 8}, "intervals": {}}))
    (run / "folds.csv").write_text("id,fold\n0,0\n")
    (run / "intervals.json").write_text(json.dumps({"edges_months": EDGES, "temperature": 2.0}))
    write_oof(run / "oof.csv", oof)
    right = np.digitize(oof.truth, EDGES[1:-1], right=True)
    said = np.where(np.arange(len(right)) % 10, right, (right + 2) % 5)
    logs = np.full((len(right), 5), -4.0)
    logs[np.arange(len(right)), said] = 0.0
    with (run / "oof_log_probabilities.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", *"01234"], *([n, *r] for n, r in zip(oof.ids, logs, strict=True))])
    return run


@pytest.fixture
def intervals(runs: tuple[Path, Path]) -> Path:
    """A run of age intervals on the folds of the age run, with errors of its own."""
    oof = simulated()
    noise = np.random.default_rng(4).normal(0, 7, 300)
    return interval_run(runs[0].with_name("intervals"), replace(oof, predicted=5 + 0.9 * (oof.truth + noise)))


def mae(settings: Mapping[str, Any]) -> float:
    """The error that a part of a manifest records."""
    found = settings["figures_out_of_fold"]["errors"]["both sexes, all ages"]["mae"]["estimate"]
    assert isinstance(found, float)
    return found


def test_a_third_method_joins_where_it_lowers_the_error(
    runs: tuple[Path, Path], grades: Path, intervals: Path, tmp_path: Path
) -> None:
    about = {"name": "trial", "version": "1", "data": "drawn", "grades_run": grades}
    two = assemble(*runs, tmp_path / "two", **about)  # type: ignore[arg-type]
    three = assemble(*runs, tmp_path / "three", intervals_run=intervals, **about)  # type: ignore[arg-type]
    combination = three.manifest["combination"]
    assert combination["weights"].keys() == {"hand_regression", "graded_regions", "age_intervals"}
    assert sum(combination["weights"].values()) == pytest.approx(1)
    tried = combination["tried"]["age_intervals"]
    assert tried["mae_months_without"] == pytest.approx(mae(two.manifest["combination"]))
    assert tried["mae_months_with"] == pytest.approx(mae(combination))
    assert tried["mae_months_with"] < tried["mae_months_without"]
    assert three.graph("age_intervals").read_bytes() == b"intervals"


def test_the_intervals_settings_are_what_the_method_needs(
    runs: tuple[Path, Path], intervals: Path, tmp_path: Path
) -> None:
    about = {"name": "trial", "version": "1", "data": "drawn", "intervals_run": intervals}
    settings = assemble(*runs, tmp_path / "out", **about).manifest["methods"]["age_intervals"]  # type: ignore[arg-type]
    assert settings["intervals"] == {"edges_months": list(EDGES)}
    assert settings["temperature"] == 2.0 and settings["input"] == {"height": 8}
    assert settings["correction"].keys() == {"female", "male"}
    assert mae(settings) < settings["mae_months_uncorrected"]
    sure = 1 / (1 + 4 * np.exp(-2.0))  # a temperature of 2 halves the logarithms
    found = settings["figures_out_of_fold"]["classification"]
    assert found["count"] == 300 and found["accuracy"] == pytest.approx(0.9)
    assert found["expected_calibration_error"] == pytest.approx(0.9 - sure)
    expected = -0.9 * np.log(sure) - 0.1 * np.log(sure * np.exp(-2.0))
    assert found["negative_log_likelihood"] == pytest.approx(expected)


def test_a_method_that_does_not_help_is_shown_and_gets_no_weight(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    oof = simulated()
    noise = np.random.default_rng(5).normal(0, 80, 300)
    run = interval_run(tmp_path / "noise", replace(oof, predicted=np.clip(120 + noise, 0, 240)))
    bundle = assemble(*runs, tmp_path / "out", intervals_run=run, name="n", version="1", data="drawn")
    combination = bundle.manifest["combination"]
    tried = combination["tried"]["age_intervals"]
    assert tried["mae_months_with"] >= tried["mae_months_without"] == pytest.approx(mae(combination))
    assert combination["weights"] == {"hand_regression": 1.0}
    assert "age_intervals" in bundle.manifest["methods"] and "age_intervals" in bundle.manifest["graphs"]
    with (bundle.path / "oof.csv").open(newline="") as file:
        assert all(row["prediction"] == row["hand_regression"] for row in csv.DictReader(file))


def test_an_extended_bundle_is_the_one_made_of_all_runs(
    runs: tuple[Path, Path], grades: Path, intervals: Path, tmp_path: Path
) -> None:
    (runs[0] / "hand_model.npz").write_bytes(b"model")
    about = {"name": "trial", "version": "1", "data": "drawn", "grades_run": grades}
    old = assemble(*runs, tmp_path / "old", **about)  # type: ignore[arg-type]
    whole = assemble(*runs, tmp_path / "whole", intervals_run=intervals, **about)  # type: ignore[arg-type]
    made = extend(old, tmp_path / "made", intervals_run=intervals, version="2")
    assert made.name == "trial 2" and made.manifest["data"] == "drawn"
    for key in ("method", "methods", "graphs", "files", "localiser", "images"):
        assert made.manifest[key] == whole.manifest[key], key
    weights, expected = (bundle.manifest["combination"]["weights"] for bundle in (made, whole))
    assert weights == pytest.approx(expected, abs=1e-3)
    kept = set(whole.manifest["checksums"]) - {"oof.csv"}
    assert {name: made.manifest["checksums"][name] for name in kept} == {
        name: whole.manifest["checksums"][name] for name in kept
    }
    with (made.path / "oof.csv").open(newline="") as file:
        assert csv.DictReader(file).fieldnames[-3:] == ["hand_regression", "graded_regions", "age_intervals"]  # type: ignore[index]


def test_a_bundle_is_extended_in_its_own_place_and_again(
    runs: tuple[Path, Path], intervals: Path, tmp_path: Path
) -> None:
    bundle = assembled(runs, tmp_path / "out")
    once = extend(bundle, bundle.path, intervals_run=intervals, version="2", data="other hands")
    assert once.path == bundle.path and Bundle.load(bundle.path).name == "trial 2"
    (intervals / "graph.onnx").write_bytes(b"newer")
    again = extend(once, bundle.path, intervals_run=intervals, version="3")
    assert again.graph("age_intervals").read_bytes() == b"newer"
    assert again.manifest["data"] == "other hands"
    assert again.manifest["combination"]["weights"] == pytest.approx(once.manifest["combination"]["weights"])


def other_folds(run: Path) -> None:
    oof = read_oof(run / "oof.csv")
    write_oof(run / "oof.csv", replace(oof, fold=(oof.fold + 1) % 5))


def other_hands(run: Path) -> None:
    oof = read_oof(run / "oof.csv")
    write_oof(run / "oof.csv", replace(oof, ids=tuple(f"{name}b" for name in oof.ids)))
    table = run / "oof_log_probabilities.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(row.replace(",", "b,", 1) for row in rows)]))


def fewer_intervals(run: Path) -> None:
    (run / "intervals.json").write_text(json.dumps({"edges_months": EDGES[:-1], "temperature": 1.0}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_folds, "folds"),
        (other_hands, "folds"),
        (fewer_intervals, "4 intervals"),
        *(
            (lambda run, name=name: (run / name).unlink(), name)
            for name in ("graph.onnx", "oof.csv", "intervals.json", "oof_log_probabilities.csv", "folds.csv")
        ),
    ],
)
def test_what_does_not_belong_to_the_bundle_does_not_extend_it(
    runs: tuple[Path, Path], intervals: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    bundle = assembled(runs, tmp_path / "out")
    spoil(intervals)
    with pytest.raises(ConfigError, match=said):
        extend(bundle, tmp_path / "made", intervals_run=intervals, version="2")
    assert not (tmp_path / "made").exists()


def test_a_bundle_whose_table_lacks_a_method_is_not_extended(
    runs: tuple[Path, Path], intervals: Path, tmp_path: Path
) -> None:
    bundle = assembled(runs, tmp_path / "out")
    write_oof(bundle.path / "oof.csv", simulated())
    with pytest.raises(ConfigError, match="no column 'hand_regression'"):
        extend(bundle, tmp_path / "made", intervals_run=intervals, version="2")


def test_a_gain_that_chance_explains_earns_no_weight(runs: tuple[Path, Path], tmp_path: Path) -> None:
    oof = simulated()
    noise = np.random.default_rng(6).normal(0, 30, 300)
    run = interval_run(tmp_path / "weak", replace(oof, predicted=oof.truth + noise))
    bundle = assemble(*runs, tmp_path / "out", intervals_run=run, name="n", version="1", data="drawn")
    tried = bundle.manifest["combination"]["tried"]["age_intervals"]
    assert tried["mae_months_with"] < tried["mae_months_without"]
    assert tried["difference_months"]["low"] < tried["difference_months"]["estimate"] < 0
    assert tried["difference_months"]["high"] >= 0
    assert bundle.manifest["combination"]["weights"] == {"hand_regression": 1.0}


SUBGRADES = "radius_subgrades"


@pytest.fixture
def graded(runs: tuple[Path, Path], grades: Path, tmp_path: Path) -> Bundle:
    """A bundle that grades bones."""
    return assemble(*runs, tmp_path / "graded", grades_run=grades, name="trial", version="1", data="drawn")


@pytest.fixture
def subgrades(tmp_path: Path) -> Path:
    return write_run(tmp_path / "subgrades")


def test_sub_grades_alone_leave_every_figure_as_it_was(
    graded: Bundle, subgrades: Path, tmp_path: Path
) -> None:
    made = extend(graded, tmp_path / "made", subgrades_run=subgrades, version="2")
    new = {"radius_subgrades": "radius_subgrades.npz", "radius_means": "radius_means.npz"}
    assert made.manifest["files"] == {**graded.manifest["files"], **new} and made.name == "trial 2"
    for key in graded.manifest.keys() - {"version", "files", "checksums"}:
        assert made.manifest[key] == graded.manifest[key], key
    assert made.manifest.keys() - graded.manifest.keys() == {SUBGRADES}
    kept = {name: made.manifest["checksums"][name] for name in graded.manifest["checksums"]}
    assert kept == graded.manifest["checksums"], "the out-of-fold table too"
    assert made.file("radius_means").read_bytes() == (subgrades / "means.npz").read_bytes()


def test_the_manifest_says_what_the_sub_grades_are_made_of(
    graded: Bundle, subgrades: Path, tmp_path: Path
) -> None:
    made = extend(graded, tmp_path / "made", subgrades_run=subgrades, version="2")
    settings = made.manifest[SUBGRADES]
    pairs = [(pair["grades"], pair["refusal"]) for pair in settings["pairs"]]
    assert pairs == [([5, 6], ""), ([6, 7], "nothing rises")]
    assert settings["crops"] == 30 and settings["scores"]["paper"]["male"] == {"5_5": 65.5}
    assert settings["evidence"] == [{"sizes": [9, 8, 13]}]
    assert settings["out_of_fold"] == {"5": 1, "5_5": 2, "6": 1, "10": 1}
    weights = settings["configuration"]["scores"]["pretrained"]
    assert weights.keys() == {"file", "sha256"} and weights["file"] == "weights.safetensors"
    loaded = Subgrader.load(made.file(SUBGRADES), settings)
    assert [pair.subgrades for pair in loaded.pairs] == [(5.5,), ()]


def test_sub_grades_and_intervals_may_come_together_or_one_after_the_other(
    graded: Bundle, intervals: Path, subgrades: Path, runs: tuple[Path, Path], grades: Path, tmp_path: Path
) -> None:
    both = extend(graded, tmp_path / "both", intervals_run=intervals, subgrades_run=subgrades, version="2")
    first = extend(graded, tmp_path / "first", subgrades_run=subgrades, version="2")
    then = extend(first, tmp_path / "then", intervals_run=intervals, version="2")
    last = extend(graded, tmp_path / "last", intervals_run=intervals, version="2")
    after = extend(last, tmp_path / "after", subgrades_run=subgrades, version="2")
    assert both.manifest == then.manifest == after.manifest
    about = {"name": "trial", "version": "2", "data": "drawn", "grades_run": grades}
    whole = assemble(*runs, tmp_path / "whole", intervals_run=intervals, subgrades_run=subgrades, **about)  # type: ignore[arg-type]
    for key in ("methods", "graphs", "files", SUBGRADES):
        assert whole.manifest[key] == both.manifest[key], key


def test_newer_sub_grades_take_the_place_of_older_ones(
    graded: Bundle, subgrades: Path, tmp_path: Path
) -> None:
    made = extend(graded, tmp_path / "made", subgrades_run=subgrades, version="2")
    newer = write_run(tmp_path / "newer", subgrader(pair_model((5, 6), 0.5)))
    again = extend(made, made.path, subgrades_run=newer, version="3")
    assert [pair["grades"] for pair in again.manifest[SUBGRADES]["pairs"]] == [[5, 6]]
    assert again.file(SUBGRADES).read_bytes() == (newer / "subgrades.npz").read_bytes()


def test_the_tables_that_sub_grades_rest_on_come_and_go_with_them(
    graded: Bundle, subgrades: Path, intervals: Path, tmp_path: Path
) -> None:
    (subgrades / "chn_grades.csv").write_text("id,radius\na,5\n")
    made = extend(graded, tmp_path / "made", subgrades_run=subgrades, version="2")
    assert (made.path / "radius_subgrades.csv").read_bytes() == (subgrades / "oof.csv").read_bytes()
    assert (made.path / "chn_grades.csv").read_text() == "id,radius\na,5\n"
    newer = write_run(tmp_path / "newer")  # its grades came from no table
    alone = extend(made, tmp_path / "alone", subgrades_run=newer, version="3")
    both = extend(made, tmp_path / "both", subgrades_run=newer, intervals_run=intervals, version="3")
    for bundle in (alone, both):
        assert (
            not (bundle.path / "chn_grades.csv").exists() and (bundle.path / "radius_subgrades.csv").exists()
        )


@pytest.mark.parametrize("name", ["subgrades.npz", "subgrades.json", "means.npz", "config.json", "oof.csv"])
def test_half_a_run_of_sub_grades_extends_nothing(
    graded: Bundle, subgrades: Path, tmp_path: Path, name: str
) -> None:
    (subgrades / name).unlink()
    with pytest.raises(ConfigError, match=name):
        extend(graded, tmp_path / "made", subgrades_run=subgrades, version="2")
    assert not (tmp_path / "made").exists()


def other_model(run: Path) -> None:
    subgrader(pair_model((5, 6), 0.5)).save(run / "subgrades.npz")


@pytest.mark.parametrize(
    "spoil",
    [
        other_model,
        lambda run: (run / "subgrades.json").write_text("{"),
        lambda run: (run / "means.npz").write_bytes(b"no arrays"),
        lambda run: (run / "oof.csv").write_text("id\n1\n"),
    ],
    ids=["other model", "no JSON", "no means", "no column"],
)
def test_files_that_do_not_belong_together_extend_nothing(
    graded: Bundle, subgrades: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(subgrades)
    with pytest.raises(ConfigError, match="no whole run of radius_subgrades"):
        extend(graded, tmp_path / "made", subgrades_run=subgrades, version="2")
    assert not (tmp_path / "made").exists()


def test_sub_grades_need_a_method_that_grades(
    runs: tuple[Path, Path], subgrades: Path, tmp_path: Path
) -> None:
    about = {"name": "trial", "version": "1", "data": "drawn"}
    with pytest.raises(ConfigError, match="grading network"):
        assemble(*runs, tmp_path / "out", subgrades_run=subgrades, **about)
    bundle = assembled(runs, tmp_path / "out")
    with pytest.raises(ConfigError, match="grading network"):
        extend(bundle, tmp_path / "made", subgrades_run=subgrades, version="2")


def test_a_bundle_is_not_extended_by_nothing(runs: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = assembled(runs, tmp_path / "out")
    with pytest.raises(ConfigError, match="give one"):
        extend(bundle, tmp_path / "made", version="2")


CLUSTERS = "region_clusters"


@pytest.fixture
def hands_alike(tmp_path: Path) -> Path:
    return write_clusters(tmp_path / "clusters")


def test_groups_alone_leave_every_figure_as_it_was(graded: Bundle, hands_alike: Path, tmp_path: Path) -> None:
    made = extend(graded, tmp_path / "made", clusters_run=hands_alike, version="2")
    assert made.manifest["files"] == {**graded.manifest["files"], CLUSTERS: "region_clusters.npz"}
    for key in graded.manifest.keys() - {"version", "files", "checksums"}:
        assert made.manifest[key] == graded.manifest[key], key
    assert made.manifest.keys() - graded.manifest.keys() == {CLUSTERS}
    kept = {name: made.manifest["checksums"][name] for name in graded.manifest["checksums"]}
    assert kept == graded.manifest["checksums"], "the out-of-fold table too"
    assert made.file(CLUSTERS).read_bytes() == (hands_alike / "clusters.npz").read_bytes()
    assert (made.path / "region_clusters.csv").read_bytes() == (hands_alike / "oof.csv").read_bytes()


def test_groups_need_no_method_that_grades(
    runs: tuple[Path, Path], hands_alike: Path, tmp_path: Path
) -> None:
    about = {"name": "trial", "version": "1", "data": "drawn"}
    made = assemble(*runs, tmp_path / "out", clusters_run=hands_alike, **about)
    assert made.has(CLUSTERS) and CLUSTERS in made.manifest
    assert extend(
        assembled(runs, tmp_path / "old"), tmp_path / "new", clusters_run=hands_alike, version="1"
    ).has(CLUSTERS)


def test_the_manifest_says_what_the_groups_are_made_of(
    graded: Bundle, hands_alike: Path, tmp_path: Path
) -> None:
    settings = extend(graded, tmp_path / "made", clusters_run=hands_alike, version="2").manifest[CLUSTERS]
    assert settings["edges_months"] == [24, 72, 120, 168, 216]
    assert settings["hands"] == 4 and settings["out_of_fold"]["typical_mae_months"] == 9.5
    assert settings["configuration"]["groups"]["by_sex"] is True
    loaded = RegionClusters.load(tmp_path / "made" / "region_clusters.npz", settings)
    assert loaded.settings() == clusters().settings()


def test_all_that_changes_no_age_may_come_together_or_one_after_the_other(
    graded: Bundle, intervals: Path, subgrades: Path, hands_alike: Path, tmp_path: Path
) -> None:
    given = {"subgrades_run": subgrades, "clusters_run": hands_alike}
    both = extend(graded, tmp_path / "both", version="2", **given)  # type: ignore[arg-type]
    one = extend(graded, tmp_path / "one", subgrades_run=subgrades, version="2")
    other = extend(one, tmp_path / "other", clusters_run=hands_alike, version="2")
    assert both.manifest == other.manifest
    everything = extend(graded, tmp_path / "all", version="2", intervals_run=intervals, **given)  # type: ignore[arg-type]
    later = extend(both, tmp_path / "later", version="2", intervals_run=intervals)
    assert everything.manifest == later.manifest
    assert (
        later.manifest[CLUSTERS] == both.manifest[CLUSTERS] and (later.path / "region_clusters.csv").is_file()
    )


def test_newer_groups_take_the_place_of_older_ones(graded: Bundle, hands_alike: Path, tmp_path: Path) -> None:
    made = extend(graded, tmp_path / "made", clusters_run=hands_alike, version="2")
    newer = write_clusters(tmp_path / "newer", clusters(regions=("5",)))
    again = extend(made, made.path, clusters_run=newer, version="3")
    assert again.manifest[CLUSTERS]["regions"] == ["5"]
    assert again.file(CLUSTERS).read_bytes() == (newer / "clusters.npz").read_bytes()


@pytest.mark.parametrize("name", ["clusters.npz", "clusters.json", "config.json", "oof.csv"])
def test_half_a_run_of_groups_extends_nothing(
    graded: Bundle, hands_alike: Path, tmp_path: Path, name: str
) -> None:
    (hands_alike / name).unlink()
    with pytest.raises(ConfigError, match=name):
        extend(graded, tmp_path / "made", clusters_run=hands_alike, version="2")
    assert not (tmp_path / "made").exists()


def without_groups(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "groups": {"number": 16}}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: clusters(regions=("5",)).save(run / "clusters.npz"), "clusters.npz holds no clusters"),
        (lambda run: (run / "clusters.json").write_text("{"), "no whole run"),
        (lambda run: (run / "clusters.json").write_text("[]"), "no whole run"),
        (lambda run: (run / "clusters.npz").write_bytes(b"no arrays"), "clusters.npz holds no clusters"),
        (without_groups, "unknown key 'number'"),
        (lambda run: (run / "oof.csv").write_text("id\n1\n"), "'group'"),
        (lambda run: (run / "oof.csv").write_text("id,group\n1,0\n"), "has 1 hands, and the model 4"),
    ],
    ids=["other model", "no JSON", "a list", "no model", "other groups", "no column", "other hands"],
)
def test_files_of_groups_that_do_not_belong_together_extend_nothing(
    graded: Bundle, hands_alike: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(hands_alike)
    with pytest.raises(ConfigError, match=f"no whole run of region_clusters.*{said}|{said}"):
        extend(graded, tmp_path / "made", clusters_run=hands_alike, version="2")
    assert not (tmp_path / "made").exists()
