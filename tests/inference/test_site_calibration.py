"""A site's correction: fitted, shrunk, cross-validated, refused where it harms, recorded and given back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.core.errors import BundleError, ChecksumMismatch, ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import Row
from boneage.data.synthetic import draw_hand
from boneage.inference.assemble import extend
from boneage.inference.assess import Assessor
from boneage.inference.bundle import MANIFEST, SHIPPED, Bundle, checksum, write_bundle
from boneage.inference.conclude import conclude
from boneage.inference.site import JOINED, SITE, SexCorrection, Shrunk, correction_of
from boneage.inference.site_bundle import PARENT_MANIFEST, roll_back, site_record, write_calibrated
from boneage.inference.site_fit import (
    LEAST_IN_BAND,
    SiteFit,
    apply_lines,
    compare,
    conformal_quantile,
    cross_correct,
    cross_interval,
    fit_bands,
    fit_lines,
    fit_sex,
    fit_site,
    half_widths,
    refuse_harm,
    shrink,
)
from boneage.inference.site_table import LocalReadings, check_readings, gather, read_local_table
from boneage.metrics.regression import mae

CALIBRATION: dict[str, Any] = {
    "coverage": 0.9,
    "quantile": 2.0,
    "ages_months": [24.0, 120.0, 192.0],
    "widths_months": [6.0, 8.0, 7.0],
}
MANIFEST_OF_TWO: dict[str, Any] = {
    "name": "trial",
    "version": "1.2",
    "method": "direct",
    "methods": {"direct": {"calibration": CALIBRATION}, "graded": {"calibration": CALIBRATION}},
    "combination": {"weights": {"direct": 0.4, "graded": 0.6}, "calibration": CALIBRATION},
    "graphs": {"hand_finder": "finder.onnx"},
}
SAID: dict[str, Any] = {"images": {"female": 200, "male": 200}, "table_sha256": "c0ffee" * 10, "not_read": 0}


def simulated(count: int = 400, boys: float = 6.0, girls: float = 0.0, seed: int = 0) -> LocalReadings:
    """Answers with an error of 9 months, and labels that lie some months above the truth of either sex."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(24, 210, count)
    sex = np.array([str(Sex.FEMALE), str(Sex.MALE)])[np.arange(count) % 2]
    answered = np.clip(truth + rng.normal(0, 9, count), 0, 240)
    labels = np.clip(truth + np.where(sex == "male", boys, girls), 0, 240)
    alone = np.clip(answered + rng.normal(0, 4, count), 0, 240)
    fold = (np.arange(count) // 2) % 10
    return LocalReadings(sex, labels, answered, answered - 16, answered + 16, alone, fold)


# --- the correction ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimate", "error", "kept"),
    [
        (6.0, 1.2, 0.96),
        (2.0, 1.0, 0.75),
        (1.0, 1.0, 0.0),
        (0.5, 1.0, 0.0),
        (-2.0, 1.0, 0.75),
        (0.0, 1.0, 0.0),
    ],
)
def test_shrinkage_by_hand(estimate: float, error: float, kept: float) -> None:
    found = shrink(estimate, error)
    assert found.kept == pytest.approx(kept)
    assert found.applied == pytest.approx(estimate * kept)


@given(st.floats(-50, 50), st.floats(0.01, 50))
def test_shrinkage_never_turns_or_enlarges(estimate: float, error: float) -> None:
    applied = shrink(estimate, error).applied
    assert abs(applied) <= abs(estimate) and applied * estimate >= 0


def test_a_sexs_line_is_least_squares_with_its_standard_errors() -> None:
    rng = np.random.default_rng(3)
    answered = rng.uniform(40, 200, 60)
    truth = 10 + 0.9 * answered + rng.normal(0, 5, 60)
    found = fit_sex(answered, truth)
    design = np.column_stack([np.ones(60), answered - answered.mean()])
    solution, squares, *_ = np.linalg.lstsq(design, truth - answered, rcond=None)
    covariance = float(squares[0]) / 58 * np.linalg.inv(design.T @ design)
    assert (found.offset_months.estimate, found.slope.estimate) == pytest.approx(tuple(solution))
    assert found.offset_months.standard_error == pytest.approx(covariance[0, 0] ** 0.5)
    assert found.slope.standard_error == pytest.approx(covariance[1, 1] ** 0.5)
    assert (found.images, found.centre_months) == (60, pytest.approx(answered.mean()))


def test_beyond_the_sites_images_the_correction_stays() -> None:
    line = SexCorrection(50, Shrunk(4.0, 1.0, 0.5), Shrunk(0.1, 0.01, 1.0), 120.0, 80.0, 160.0)
    ages = np.array([20.0, 80.0, 120.0, 160.0, 230.0])
    assert line.corrected(ages) - ages == pytest.approx([-2, -2, 2, 6, 6])


def test_answers_of_one_age_have_no_slope() -> None:
    found = fit_sex(np.full(40, 100.0), np.linspace(90, 120, 40))
    assert found.slope == Shrunk(0.0, 0.0, 0.0) and found.offset_months.estimate == pytest.approx(5.0)


def test_a_shift_of_one_sex_is_taken_from_that_sex_alone() -> None:
    lines = fit_lines(simulated(boys=6.0))
    boys, girls = lines[Sex.MALE].offset_months, lines[Sex.FEMALE].offset_months
    assert boys.applied == pytest.approx(6.0, abs=1.5) and abs(girls.applied) < 1.0
    unseen = simulated(4000, boys=6.0, seed=1)
    bias = (apply_lines(lines, unseen.sex, unseen.answered) - unseen.truth)[unseen.sex == "male"].mean()
    assert (unseen.answered - unseen.truth)[unseen.sex == "male"].mean() < -5 and abs(bias) < 1.5


def test_a_corrected_age_stays_an_age() -> None:
    readings = simulated(boys=20.0)
    corrected = apply_lines(fit_lines(readings), readings.sex, readings.answered)
    assert corrected.min() >= 0 and corrected.max() <= 240


# --- cross-validation -------------------------------------------------------------------------------------


def other_labels(readings: LocalReadings, fold: int) -> LocalReadings:
    """The same images with nonsense as the labels of one fold."""
    return replace(readings, truth=np.where(readings.fold == fold, 240 - readings.truth, readings.truth))


@pytest.mark.parametrize("fold", [0, 7])
def test_a_folds_own_labels_touch_neither_its_correction_nor_its_interval(fold: int) -> None:
    readings = simulated()
    spoilt = other_labels(readings, fold)
    here = readings.fold == fold
    plain, other = (cross_correct(one, readings.answered) for one in (readings, spoilt))
    np.testing.assert_array_equal(other[here], plain[here])
    assert np.all(np.abs(other - plain)[~here] > 1e-9)
    half, other_half = (cross_interval(one, plain, CALIBRATION) for one in (readings, spoilt))
    np.testing.assert_array_equal(other_half[here], half[here])
    assert np.mean(other_half[~here] > half[~here]) > 0.9


def test_intervals_that_were_too_narrow_hold_their_coverage_again() -> None:
    readings = simulated(2000)
    narrow = replace(readings, lower=readings.answered - 5, upper=readings.answered + 5)
    fit = fit_site(narrow, MANIFEST_OF_TWO)
    found = fit.figures["both sexes"]
    assert found["before"]["coverage"]["estimate"] < 0.5
    assert found["after"]["coverage"]["estimate"] == pytest.approx(0.9, abs=0.02)
    for band in fit.coverage.values():
        assert band["after"]["coverage"]["estimate"] == pytest.approx(0.9, abs=0.06)


def test_the_figures_are_those_of_the_cross_validated_answers() -> None:
    readings = simulated()
    figures = fit_site(readings, MANIFEST_OF_TWO).figures
    corrected = cross_correct(readings, readings.answered)
    boys = readings.sex == "male"
    male = figures["male"]
    assert male["images"] == 200
    assert male["before"]["mae_months"]["estimate"] == mae(readings.answered[boys], readings.truth[boys])
    assert male["after"]["mae_months"]["estimate"] == mae(corrected[boys], readings.truth[boys])
    assert (
        male["before"]["bias_months"]["estimate"] < -5 and abs(male["after"]["bias_months"]["estimate"]) < 1
    )
    assert male["mae_change_months"]["high"] < 0
    assert male["after"]["deming"]["slope"]["estimate"] == pytest.approx(1.0, abs=0.05)
    assert set(figures) == {"both sexes", "female", "male"}


# --- intervals --------------------------------------------------------------------------------------------


def test_the_conformal_quantile_by_hand() -> None:
    scores = np.arange(1.0, 20.0)  # 19 scores: rank ceil(20 x 0.9) = 18
    assert conformal_quantile(scores, 0.9) == 18.0
    assert conformal_quantile(scores[:5], 0.9) == 5.0


def test_bands_with_few_images_are_joined_to_neighbours() -> None:
    ages = np.repeat([20.0, 60.0, 120.0, 170.0, 200.0], [5, 28, 40, 60, 7])
    truth = ages + np.where(np.arange(140) % 2, 5.0, -5.0)
    truth[ages == 120.0] += 20
    bands = fit_bands(ages, truth, CALIBRATION)["bands"]
    assert [(band["from_months"], band["to_months"], band["images"]) for band in bands] == [
        (0.0, 96.0, 33),
        (96.0, 144.0, 40),
        (144.0, 300.0, 67),
    ]
    assert bands[1]["quantile"] == 25 / 8 and bands[2]["quantile"] < 1
    few = fit_bands(ages[:20], truth[:20], CALIBRATION)["bands"]
    assert [(band["from_months"], band["to_months"]) for band in few] == [(0.0, 300.0)]


@given(st.lists(st.floats(0, 240), min_size=1, max_size=200))
def test_the_bands_share_out_every_image(ages: list[float]) -> None:
    found = np.array(ages)
    bands = fit_bands(found, found + 1, CALIBRATION)["bands"]
    assert sum(band["images"] for band in bands) == len(ages)
    assert (bands[0]["from_months"], bands[-1]["to_months"]) == (0.0, 300.0)
    assert all(low["to_months"] == high["from_months"] for low, high in pairwise(bands))
    assert len(bands) == 1 or min(band["images"] for band in bands) >= LEAST_IN_BAND


def test_a_band_decides_its_interval() -> None:
    bands = [{"to_months": 96.0, "quantile": 1.0}, {"to_months": 300.0, "quantile": 3.0}]
    settings = {**CALIBRATION, "bands": bands, "widths_months": [8.0, 8.0, 8.0]}
    assert half_widths(np.array([95.9, 96.0, 240.0]), settings) == pytest.approx([8.0, 24.0, 24.0])


# --- what is refused --------------------------------------------------------------------------------------


def test_no_shift_does_no_harm_and_is_hardly_corrected() -> None:
    changes = []
    for seed in range(20):
        fit = fit_site(simulated(120, boys=0.0, seed=seed), MANIFEST_OF_TWO)
        unseen = simulated(1000, boys=0.0, seed=100)
        corrected = apply_lines(fit.correction, unseen.sex, unseen.answered)
        changes.append(mae(corrected, unseen.truth) - mae(unseen.answered, unseen.truth))
    assert np.mean(changes) < 0.15 and max(changes) < 1.0


def test_labels_that_pull_the_correction_away_from_most_children_are_refused() -> None:
    readings = simulated(200, boys=0.0)
    wrong = (readings.sex == "male") & (np.arange(200) % 8 == 1)  # a quarter of the boys
    spoilt = replace(readings, truth=np.where(wrong, np.minimum(readings.truth + 70, 240), readings.truth))
    with pytest.raises(ConfigError, match=r"would do harm: .*\((male|both sexes)\).*nothing is written"):
        fit_site(spoilt, MANIFEST_OF_TWO)


def test_harm_to_one_sex_is_harm() -> None:
    readings = simulated(boys=0.0)
    worse = np.where(readings.sex == "female", readings.answered + 6, readings.answered)
    with pytest.raises(ConfigError, match=r"\((both sexes|female)\)"):
        refuse_harm(readings, worse)
    refuse_harm(readings, readings.answered)


def test_a_hair_is_no_harm() -> None:
    readings = simulated(boys=0.0)
    away = np.sign(readings.answered - readings.truth)
    refuse_harm(readings, readings.answered + 0.2 * away)  # certain, but no more than any fit costs
    with pytest.raises(ConfigError, match=r"grow by 0\.30 \(0\.30 to 0\.30\) months"):
        refuse_harm(readings, readings.answered + 0.3 * away)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: replace(r, truth=np.where(r.sex == "male", 100.0, r.truth)),
            "male hands lie within 0 months",
        ),
        (lambda r: replace(r, truth=r.truth[::-1].copy()), "do not go with the answers"),
        (lambda r: replace(r, truth=r.truth + 40.0), r"differ from the answers by \+40 months"),
        (lambda r: replace(r, truth=r.truth / 12.0), "differ from the answers by"),
    ],
    ids=["constant", "of other images", "far", "years"],
)
def test_implausible_labels_are_refused(change: Callable[[LocalReadings], LocalReadings], said: str) -> None:
    check_readings(simulated())
    with pytest.raises(ConfigError, match=said):
        check_readings(change(simulated()))


def table(path: Path, rows: list[tuple[object, ...]], head: str = "id,path,sex,bone_age_months") -> Path:
    """Write a site's table."""
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def plain_rows(count: int = 120) -> list[tuple[object, ...]]:
    """Rows of both sexes in turn, 30 to 200 months."""
    sexes = ("female", "male")
    return [(f"i{at}", f"{at}.png", sexes[at % 2], 30 + (at * 170) // count) for at in range(count)]


@pytest.mark.parametrize(
    ("rows", "head", "said"),
    [
        (plain_rows(), "id,path,sex,age", "needs a column 'bone_age_months'"),
        (plain_rows(), "id,path,gender,bone_age_months", "needs a column 'sex'"),
        (plain_rows(), "id,file,sex,bone_age_months", "needs a column 'path'"),
        ([*plain_rows(), ("i3", "x.png", "male", 90)], None, "id is that of line 5"),
        ([*plain_rows(), ("new", "3.png", "male", 90)], None, "'i3' and 'new' name the same image"),
        (plain_rows(88), None, r"12 more images \(88 of 100\)"),
        ([(*row[:3], "") for row in plain_rows()], None, "100 more images"),
        ([(*row[:2], "female", row[3]) for row in plain_rows()], None, r"30 more of male hands \(0 of 30\)"),
        ([(*row[:3], 100 + at % 3) for at, row in enumerate(plain_rows())], None, "from 100 to 102 months"),
        ([(*row[:3], 2 + at % 15) for at, row in enumerate(plain_rows())], None, "look like years"),
        ([*plain_rows(), ("old", "x.png", "male", 260)], None, "a label says 260 months"),
    ],
)
def test_a_table_that_cannot_serve_is_refused_before_an_image_is_read(
    tmp_path: Path, rows: list[tuple[object, ...]], head: str | None, said: str
) -> None:
    path = table(tmp_path / "local.csv", rows, *([head] if head else []))
    with pytest.raises(ConfigError, match=said):
        read_local_table(path)


def test_rows_without_a_label_are_left_out_and_an_unknown_sex_may_be_either(tmp_path: Path) -> None:
    rows = [(*row[:2], "", row[3]) for row in plain_rows(105)]
    found = read_local_table(table(tmp_path / "local.csv", [*rows, ("later", "later.png", "male", "")]))
    assert len(found) == 105 and {row.sex for row in found} == {None}


def records(count: int, lost: int = 0, sex: str | None = None) -> tuple[list[Row], list[dict[str, object]]]:
    """Rows without a sex, and what the batch read of them."""
    rows = [Row(f"i{at}", Path(f"{at}.png"), None, 30.0 + at) for at in range(count)]
    read: list[dict[str, object]] = [
        {
            "status": "rejected" if at < lost else "ok",
            "sex": sex or ("female", "male")[at % 2],
            "bone_age_months": 31.0 + at,
            "lower_months": 20.0 + at,
            "upper_months": 42.0 + at,
            "direct": 250.0,
        }
        for at in range(count)
    ]
    return rows, read


def test_what_was_read_is_gathered_by_column() -> None:
    readings = gather(*records(130, lost=20), "direct")
    assert len(readings) == 110 and readings.images() == {"female": 55, "male": 55}
    assert readings.truth[0] == 50.0 and readings.answered[0] == 51.0
    assert (readings.lower[0], readings.upper[0], readings.alone[0]) == (40.0, 62.0, 240.0)
    assert np.bincount(readings.fold).tolist() == [11] * 10


def test_images_of_one_patient_share_a_fold() -> None:
    rows, read = records(120)
    rows = [replace(row, patient_id=f"p{at // 4}") for at, row in enumerate(rows)]
    fold = gather(rows, read, "direct").fold
    assert all(len(set(fold[at : at + 4])) == 1 for at in range(0, 120, 4)) and len(set(fold)) == 10


@pytest.mark.parametrize(
    ("count", "lost", "sex", "said"),
    [
        (120, 27, None, r"that can be read to calibrate: add 7 more images \(93 of 100\)"),
        (120, 0, "male", r"30 more of female hands \(0 of 30\)"),
    ],
)
def test_too_few_that_could_be_read_are_refused(count: int, lost: int, sex: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        gather(*records(count, lost, sex), "direct")


# --- the bundle -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit() -> SiteFit:
    return fit_site(simulated(), MANIFEST_OF_TWO)


@pytest.fixture
def parent(tmp_path: Path) -> Bundle:
    graph = tmp_path / "a.bin"
    graph.write_bytes(b"graph")
    return write_bundle(tmp_path / "parent", MANIFEST_OF_TWO, {"finder.onnx": graph})


@pytest.fixture
def calibrated(tmp_path: Path, parent: Bundle, fit: SiteFit) -> Bundle:
    return write_calibrated(parent, site_record(parent, fit, SAID), tmp_path / "site")


def test_an_uncalibrated_bundle_answers_as_before_to_the_bit() -> None:
    manifest = json.loads((SHIPPED / MANIFEST).read_text())
    weights = manifest["combination"]["weights"]
    rng = np.random.default_rng(0)
    for direct, apart in rng.uniform((-20, -24), (260, 24), (200, 2)).tolist():
        ages = {"hand_regression": direct, "graded_regions": direct + apart}
        for known in (ages, {"hand_regression": direct}):
            joined = len(known) == 2
            age = sum(weights[name] * known[name] for name in weights) if joined else direct
            settings = (manifest["combination"] if joined else manifest["methods"]["hand_regression"])[
                "calibration"
            ]
            age = float(np.clip(age, 0.0, 240.0))
            width = float(np.interp(age, settings["ages_months"], settings["widths_months"]))
            half = float(settings["quantile"]) * width
            for sex in (None, *Sex):
                found = conclude(known, manifest, sex)
                assert found.age_months == age and found.before_site_months is None
                assert found.interval_months == (max(0.0, age - half), min(240.0, age + half))


@pytest.mark.parametrize("sex", list(Sex))
@pytest.mark.parametrize("ages", [{"direct": 100.0, "graded": 110.0}, {"direct": 100.0}, {"direct": 239.0}])
def test_a_calibrated_bundle_corrects_either_answer_last(
    calibrated: Bundle, fit: SiteFit, sex: Sex, ages: dict[str, float]
) -> None:
    plain, found = conclude(ages, MANIFEST_OF_TWO), conclude(ages, calibrated.manifest, sex)
    assert found.before_site_months == plain.age_months and found.methods == plain.methods
    expected = apply_lines(fit.correction, np.array([str(sex)]), np.array([plain.age_months]))
    assert found.age_months == expected[0]
    settings = fit.calibrations[JOINED if len(ages) == 2 else "direct"]
    (half,) = half_widths(expected, settings)
    assert found.interval_months == (max(0.0, expected[0] - half), min(240.0, expected[0] + half))


def test_a_calibrated_bundle_needs_the_sex(calibrated: Bundle) -> None:
    with pytest.raises(ConfigError, match="give the patient's sex"):
        conclude({"direct": 100.0}, calibrated.manifest)


def test_the_new_bundle_is_whole_and_records_its_parent(
    calibrated: Bundle, parent: Bundle, fit: SiteFit
) -> None:
    again = Bundle.load(calibrated.path)
    site = again.manifest[SITE]
    assert again.name.startswith("trial 1.2+site.") and again.name.endswith(".c0ffeec0")
    assert site["parent"] == {
        "name": "trial",
        "version": "1.2",
        "manifest_sha256": checksum(parent.path / MANIFEST),
        "file": PARENT_MANIFEST,
    }
    assert site["images"] == SAID["images"] and site["made_with"].startswith("boneage ")
    assert {sex: correction_of(site, sex) for sex in Sex} == fit.correction
    assert site["figures_cross_validated"]["groups"] == json.loads(json.dumps(fit.figures))
    assert again.manifest["checksums"].keys() == {"finder.onnx", PARENT_MANIFEST}
    kept = {key: again.manifest[key] for key in ("name", "method", "methods", "combination", "graphs")}
    assert kept == {key: parent.manifest[key] for key in kept}


def test_rolling_back_gives_the_parent_byte_by_byte(
    calibrated: Bundle, parent: Bundle, tmp_path: Path
) -> None:
    restored = roll_back(calibrated, tmp_path / "back")
    assert restored.manifest == parent.manifest
    files = sorted(path.name for path in parent.path.iterdir())
    assert sorted(path.name for path in restored.path.iterdir()) == files
    assert all((restored.path / name).read_bytes() == (parent.path / name).read_bytes() for name in files)


def test_a_parent_that_was_touched_is_not_given_back(calibrated: Bundle, tmp_path: Path) -> None:
    parent = calibrated.path / PARENT_MANIFEST
    parent.write_text(parent.read_text().replace("trial", "other"))
    with pytest.raises(BundleError, match="not the one that its record names"):
        roll_back(calibrated, tmp_path / "back")
    with pytest.raises(ChecksumMismatch):
        Bundle.load(calibrated.path)
    assert not (tmp_path / "back").exists()


def test_a_parents_file_that_was_replaced_is_not_given_back(calibrated: Bundle, tmp_path: Path) -> None:
    (calibrated.path / "finder.onnx").write_bytes(b"another graph")
    with pytest.raises(ChecksumMismatch, match=r"finder\.onnx is not what the manifest to restore names"):
        roll_back(calibrated, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_corrections_never_stack(calibrated: Bundle, parent: Bundle, fit: SiteFit, tmp_path: Path) -> None:
    site = site_record(parent, fit, SAID)
    with pytest.raises(ConfigError, match="--rollback"):
        write_calibrated(calibrated, site, tmp_path / "twice")
    with pytest.raises(ConfigError, match="--rollback"):
        extend(calibrated, tmp_path / "twice", clusters_run=tmp_path, version="2")
    with pytest.raises(ConfigError, match="nothing to roll back"):
        roll_back(parent, tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_the_record_says_nothing_of_a_single_child(calibrated: Bundle) -> None:
    text = json.dumps(calibrated.manifest[SITE])
    assert ".png" not in text and "/" not in text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda site: site.pop("correction"),
        lambda site: site["correction"].pop("male"),
        lambda site: site["correction"]["male"].update(centre_months="far"),
        lambda site: site["correction"]["male"]["offset_months"].update(kept=float("nan")),
        lambda site: site["calibrations"].pop("direct"),
        lambda site: site["calibrations"][JOINED].update(bands=[]),
        lambda site: site["calibrations"][JOINED]["bands"][0].pop("quantile"),
        lambda site: site.update(parent=None),
    ],
)
def test_a_correction_that_is_not_whole_is_refused_as_the_bundle_loads(
    calibrated: Bundle, spoil: Callable[[dict[str, Any]], object]
) -> None:
    manifest = json.loads((calibrated.path / MANIFEST).read_text())
    spoil(manifest[SITE])
    (calibrated.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="is not whole"):
        Bundle.load(calibrated.path)


def test_a_bundle_of_one_method_is_calibrated_too(parent: Bundle, tmp_path: Path) -> None:
    alone = {key: value for key, value in MANIFEST_OF_TWO.items() if key != "combination"}
    graph = parent.path / "finder.onnx"
    single = write_bundle(tmp_path / "single", alone, {"finder.onnx": graph})
    readings = simulated()
    readings = replace(readings, alone=readings.answered)
    fit = fit_site(readings, single.manifest)
    assert set(fit.calibrations) == {"direct"}
    made = write_calibrated(single, site_record(single, fit, SAID), tmp_path / "site")
    found = conclude({"direct": 100.0}, made.manifest, Sex.MALE)
    assert found.age_months == pytest.approx(106.0, abs=2.0)
    assert compare(readings, readings)["male"]["mae_change_months"]["estimate"] == 0
    assert asdict(fit.correction[Sex.MALE])["images"] == 200


def test_the_shipped_bundle_is_corrected_named_and_given_back(tmp_path: Path) -> None:
    hand = draw_hand(120.0, Sex.MALE).radiograph
    shipped = Bundle.load()
    fit = fit_site(simulated(), shipped.manifest)
    made = write_calibrated(shipped, site_record(shipped, fit, SAID), tmp_path / "site", "1.4.0-clinic")
    back = roll_back(made, tmp_path / "back")
    plain, corrected, again = (
        Assessor(bundle, threads=1).assess(hand, sex=Sex.MALE) for bundle in (shipped, made, back)
    )
    assert checksum(back.path / MANIFEST) == checksum(SHIPPED / MANIFEST)
    assert (again.bone_age_months, again.interval_months) == (plain.bone_age_months, plain.interval_months)
    assert SITE not in plain.provenance and again.provenance == plain.provenance
    told = corrected.provenance[SITE]
    assert told["before_months"] == plain.bone_age_months and told["parent"] == shipped.name
    assert corrected.provenance["bundle"] == "standard 1.4.0-clinic" == made.name
    assert corrected.bone_age_months == pytest.approx(plain.bone_age_months + 6, abs=2.5)
    assert corrected.ages == plain.ages
