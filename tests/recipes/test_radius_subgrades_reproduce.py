"""`boneage reproduce 1` on a few drawn radii: tables, figures, and the recognition before and after."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_radii import draw, grade_of, level_of
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
for needed in ("sklearn", "scipy"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

from torch import Tensor  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.core.types import Sex  # noqa: E402
from boneage.data.graded_crops import read_graded_crops  # noqa: E402
from boneage.recipes.radius_subgrades import fit, fitting, recognition  # noqa: E402
from boneage.recipes.radius_subgrades import reproduce as module  # noqa: E402
from boneage.recipes.radius_subgrades.config import RecognitionConfig  # noqa: E402
from boneage.recipes.radius_subgrades.crops import RADIUS, STANDARD, RadiusCrops  # noqa: E402
from boneage.recipes.radius_subgrades.errors import accuracy, table_4  # noqa: E402
from boneage.recipes.radius_subgrades.frames import PATCH_SIDE  # noqa: E402
from boneage.recipes.radius_subgrades.recognition import recognise  # noqa: E402
from boneage.recipes.radius_subgrades.reproduce import FEATURES, RUNS, WHOLE, reproduce  # noqa: E402
from boneage.recipes.radius_subgrades.results import read_held_out  # noqa: E402
from boneage.standards.names import CHN  # noqa: E402
from boneage.standards.scoring import age_curve, score_table  # noqa: E402
from boneage.training.config import TrainJob  # noqa: E402

Floats = NDArray[np.float64]

COUNT = 96
OVERRIDES = (
    "input.side=16",
    "input.align=false",
    "input.contrast=none",
    "grades.pairs=[[5, 6]]",
    "network.components=6",
    "network.hidden=[24, 24, 24]",
    "network.features=4",
    "clustering.starts=4",
    "schedule.pretrain_epochs=6",
    "schedule.epochs=3",
    "schedule.batch=8",
    "schedule.learning_rate=3e-3",
    "schedule.folds=2",
    "schedule.seeds=2",
    "schedule.threads=1",
)


def sex_of(index: int) -> Sex:
    return list(Sex)[index // 6 % 2]


def age_of(index: int) -> float:
    """The bone age at which CHN's total is as far as the radius is."""
    totals, ages = age_curve(STANDARD, sex_of(index))
    bones, scores = score_table(STANDARD, sex_of(index))
    own = scores[bones.index(RADIUS)]
    own = own[~np.isnan(own)]
    share = np.interp(5 + level_of(index), np.arange(len(own)), own) / own[-1]
    return float(np.interp(share * totals[-1], totals, ages))


def write_table(path: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)
    return path


def write_crops(folder: Path) -> Path:
    lines = []
    (folder / "images").mkdir(parents=True)
    for index in range(COUNT):
        name = f"r{index:02d}.png"
        assert cv2.imwrite(str(folder / "images" / name), draw(level_of(index), index))
        lines.append([name, "radius", grade_of(index), str(sex_of(index)), f"{age_of(index):.1f}"])
    return write_table(folder / "crops.csv", ["file", "bone", "grade", "sex", "bone_age_months"], lines)


class DrawnOutputs:
    """Stands for MobileNetV2: 1000 outputs that are sums of an image's pixels, drawn once."""

    def __init__(self, pretrained: str) -> None:
        self.weights = torch.randn(24 * 24, 1000, generator=torch.Generator().manual_seed(0)) / 24

    def __call__(self, images: Tensor) -> Tensor:
        small = torch.nn.functional.interpolate(images, (24, 24), mode="area")
        outputs: Tensor = small.flatten(1) @ self.weights
        return outputs


@dataclass
class Recognised:
    """Stands for the recognition: every ninth crop is taken for another level, the last is not recognised."""

    folders: list[str]

    def __call__(self, crops: RadiusCrops, grades: Floats, config: RecognitionConfig, folder: Path) -> Floats:
        self.folders.append(f"{folder.parent.name}/{folder.name}")
        levels = np.unique(grades)
        places = np.searchsorted(levels, grades)
        places[::9] = (places[::9] + 1) % len(levels)
        found = levels[places]
        found[-1] = np.nan
        return np.asarray(found, dtype=np.float64)


@pytest.fixture(scope="module", autouse=True)
def stand_ins() -> Iterator[Recognised]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "MobileNetOutputs", DrawnOutputs)
        told = Recognised([])
        patch.setattr(module, "recognise", told)
        yield told


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """Graded crops, reproduced."""
    data = write_crops(tmp_path_factory.mktemp("radii"))
    done = TrainJob(data, tmp_path_factory.mktemp("out") / "run", overrides=OVERRIDES)
    assert reproduce(done) == done.out
    return done


@pytest.fixture(scope="module")
def tree(job: TrainJob) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((job.out / "tables.json").read_text())
    return parsed


SECTIONS = (
    "# Paper 1 on the data given",
    "`by chance`",
    "## Grades as given",
    f"{COUNT} radii: 48 of grade 5, 48 of grade 6.",
    "### features_num and seeds",
    "The paper's clusters of all crops, by seed (Figures 4 to 7).",
    "### The paper's clusters",
    "### Clusters along the grade axis",
    "What speaks for the clusters, of all crops.",
    "Scores (equations 9 and 10)",
    "Grade recognition, held-out crops.",
    "Table 4, held-out cases",
    "Held-out bone ages by sub-grade.",
    "Held-out bone ages within one whole grade.",
    "Mean absolute error in months against the reference reading, held-out hands.",
    "5632 / 5.632 / 1.69",
    "1233 / 1.233 / 0.37",
)


def test_the_report_has_every_section(job: TrainJob) -> None:
    text = (job.out / "tables.md").read_text()
    for section in SECTIONS:
        assert section in text, section
    for line in text.splitlines():  # every line of a table has its head's columns
        if line.startswith("|"):
            assert line.endswith("|")
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert not re.search(r"\b(nan|inf)\b", text)


def test_the_tree_says_what_the_tables_say(job: TrainJob, tree: dict[str, Any]) -> None:
    assert tree["recipe"]["network"]["features"] == 4 and tree["recipe"]["clustering"]["clusters"] == 3
    assert set(tree["sources"]) == {"given"}
    source = tree["sources"]["given"]
    assert source["crops"] == {"grade 5": 48, "grade 6": 48}
    assert [record["features"] for record in source["features"]] == list(FEATURES)
    for record in source["features"]:
        assert record["grades"] == [5, 6] and len(record["seeds"]) == 2
        assert -1 <= record["stability"] <= 1
    assert set(source["runs"]) == set(RUNS) == {"clusters", "axis"}
    for name, run in source["runs"].items():
        assert len(run["folds"]) == 2 and run["all"]["crops"] == COUNT
        written = json.loads((job.out / "given" / name / "subgrades.json").read_text())
        assert run["all"] == written
        assert set(run["all"]["ways"]) == {"5_5"}, "the drawn sub-grade is named"
        assert [row["what"] for row in run["table_4"]][:2] == ["before subdivision", "after subdivision"]
        assert {row["sex"] for row in run["order"]} == {"female", "male"}
        assert {row["subgrade"] for row in run["order"]} == {5.0, 5.5, 6.0}
        assert run["within"] and run["months"][0]["what"] == "the radius alone"


def test_the_figures_of_the_tables_are_those_of_the_held_out_tables(
    job: TrainJob, tree: dict[str, Any], stand_ins: Recognised
) -> None:
    text = (job.out / "tables.md").read_text()
    for name in RUNS:
        crops = fit.read_crops(job.data, recipe_of(job), job.out, None, lambda _: None)
        held = read_held_out(job.out / "given" / name / "oof.csv").in_order(crops.ids)
        before = stand_ins(crops, crops.grades.astype(float), RecognitionConfig(), job.out)
        after = stand_ins(crops, held.subgrades, RecognitionConfig(), job.out)
        rows, gain = table_4(held, before, after)
        run = tree["sources"]["given"]["runs"][name]
        assert gain is not None and run["table_4_difference"]["estimate"] == pytest.approx(gain.estimate)
        for row, told in zip(rows, run["table_4"], strict=True):
            assert (told["hands"], told["total"]) == (row.hands, pytest.approx(row.total))
            assert row.hands == COUNT - 1
            assert f"| {row.what} | {row.hands} | {row.total:.0f} | {row.points.estimate:.2f} (" in text
        right = accuracy(before, crops.grades.astype(float))
        assert right is not None and right.estimate == pytest.approx(1 - 11 / 95)
        assert run["recognition"]["whole"]["estimate"] == pytest.approx(right.estimate)


def recipe_of(job: TrainJob) -> Any:
    folder = Path(module.__file__).parent
    return module.read_config(folder / "comparison.toml", module.Recipe, job.overrides)


FIGURES = {
    *(f"given-features-{number}-5-6.png" for number in FEATURES),
    *(f"given-{kind}-{run}.png" for kind in ("grades", "ages", "means") for run in RUNS),
}


def test_every_figure_is_there_and_shows_something(job: TrainJob) -> None:
    assert {path.name for path in job.out.glob("*.png")} == FIGURES
    for name in FIGURES:
        image = cv2.imdecode(np.frombuffer((job.out / name).read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image is not None and min(image.shape) > 100, name
        assert 0.001 < (image < 200).mean() < 0.9, name


def test_both_runs_are_of_the_same_crops_and_differ_in_their_clusters(
    job: TrainJob, stand_ins: Recognised
) -> None:
    for name, along in RUNS.items():
        config = json.loads((job.out / "given" / name / "config.json").read_text())
        assert config["clustering"]["along"] == along
    with np.load(job.out / "given" / "clusters" / "subgrades.npz") as saved:
        assert saved["pair0.centroids"].shape == (3, 4)
    with np.load(job.out / "given" / "axis" / "subgrades.npz") as saved:
        assert saved["pair0.centroids"].shape == (3, 1)
    first = stand_ins.folders[:3]
    assert first == [f"given/{name}" for name in (WHOLE, "clusters-recognition", "axis-recognition")]
    for number in FEATURES:
        with np.load(job.out / "given" / f"features-{number}-5-6.npz") as saved:
            assert saved["before"].shape == saved["after"].shape == (COUNT, 2)
            assert set(saved["labels"].tolist()) == {0, 1, 2} and len(saved["first"]) == COUNT
            assert set(saved["grades"].tolist()) == {5, 6}


def refuse(*_: object) -> None:
    raise AssertionError("learnt again")


def test_what_is_done_is_not_done_again(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        reproduce(job)
    kept = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    monkeypatch.setattr(fit, "fit_subgrader", refuse)
    monkeypatch.setattr(fitting, "fit_pair", refuse)
    reproduce(replace(job, resume=True))
    again = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    assert again.keys() == kept.keys()
    for path, content in kept.items():
        assert again[path] == content, path.name
    other = replace(job, resume=True, overrides=(*OVERRIDES, "network.features=5"))
    with pytest.raises(ConfigError, match="differs from the configuration given"):
        reproduce(other)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """One number of features and one seed."""
    monkeypatch.setattr(module, "FEATURES", (3,))
    return (*OVERRIDES, "schedule.seeds=1")


def write_manifest(folder: Path, out: Path) -> tuple[Path, Path]:
    """A manifest whose patches are cut already, and a grader's table of all bones."""
    rows = [[f"h{n}", f"h{n}.png", str(sex_of(n)), f"{age_of(n):.2f}"] for n in range(COUNT)]
    data = write_table(folder / "manifest.csv", ["id", "path", "sex", "bone_age_months"], rows)
    bones = [
        [f"h{n}", bone, grade_of(n) if bone is RADIUS else 4 + n % 3] for n in range(COUNT) for bone in CHN
    ]
    patches = np.array([draw(level_of(index), index, PATCH_SIDE) for index in range(COUNT)])
    out.mkdir(parents=True)
    np.savez(out / "patches.npz", ids=[row[0] for row in rows], patches=patches)
    return data, write_table(folder / "grades.csv", ["id", "bone", "grade"], bones)


def test_a_manifest_is_run_with_a_graders_grades_and_with_windows_of_age(
    tmp_path: Path, short: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    data, table = write_manifest(tmp_path / "data", out)
    reproduce(TrainJob(data, out, overrides=(*short, f"grades.table={table}")))
    tree = json.loads((out / "tables.json").read_text())
    assert list(tree["sources"]) == ["grader", "windows"]
    grader, windows = tree["sources"].values()
    for source, folder in ((grader, "grader"), (windows, "windows")):
        assert sum(source["crops"].values()) == COUNT
        assert len(source["features"]) == 1
        for run in RUNS:
            np.testing.assert_array_equal(
                np.load(out / folder / run / "patches.npz")["patches"],
                np.load(out / "patches.npz")["patches"],
            )
    told = [row["what"] for row in grader["runs"]["axis"]["months"]]
    assert told[0] == "the radius alone"
    assert "CHN of all bones, Table III" in told and "CHN of all bones, our scores (geometric)" in told
    assert windows["runs"]["axis"]["months"] == []  # its grades are the ages themselves
    text = (out / "tables.md").read_text()
    first, second = text.split("## Grades from bone-age windows")
    assert "## Grades of a table" in first and "CHN of all bones, Table III" in first
    assert "errors in months would favour them" in second and "Mean absolute error in months" not in second
    names = {path.name for path in out.glob("*.png")}
    assert {name.partition("-")[0] for name in names} == {"grader", "windows"} and len(names) == 14


def test_without_a_sub_grade_or_sexes_there_is_a_report_all_the_same(
    tmp_path: Path, short: tuple[str, ...], stand_ins: Recognised
) -> None:
    for index in range(44):
        path = tmp_path / "crops" / "radius" / str(grade_of(index)) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), draw(level_of(index), index))
    stand_ins.folders.clear()
    overrides = (*short, "clustering.largest_share=0.1")
    out = reproduce(TrainJob(tmp_path / "crops", tmp_path / "run", overrides=overrides))
    assert stand_ins.folders == [f"given/{WHOLE}"]  # nothing is divided that could be recognised
    text = (out / "tables.md").read_text()
    assert "one cluster holds" in text and "0 of 2" in text
    for absent in ("Table 4", "Grade recognition", "Held-out bone ages", "Scores (equations"):
        assert absent not in text
    assert {path.name for path in out.glob("*.png")} == {
        "given-features-3-5-6.png",
        "given-means-clusters.png",
        "given-means-axis.png",
    }
    run = json.loads((out / "tables.json").read_text())["sources"]["given"]["runs"]["axis"]
    assert run["table_4"] == run["order"] == run["within"] == run["months"] == []
    assert run["recognition"]["divided"] is None and run["table_4_difference"] is None


# Recognition


def crops_of(count: int) -> RadiusCrops:
    return RadiusCrops(
        tuple(f"h{index}" for index in range(count)),
        np.array([draw(level_of(index), index, PATCH_SIDE) for index in range(count)]),
        np.array([grade_of(index) for index in range(count)]),
        np.zeros(count, np.int64),
        np.full(count, np.nan),
        np.arange(count) % 2,
    )


def graded_run(told: list[TrainJob], predict: Callable[[int, int], int | None]) -> Callable[..., Any]:
    """Stands for the registry: a recipe that predicts from a crop's number and grade."""

    def train(job: TrainJob) -> Path:
        told.append(job)
        lines = []
        for crop in read_graded_crops(job.data):
            predicted = predict(int(crop.path.stem), crop.grade)
            if predicted is not None:
                lines.append([crop.path.relative_to(job.data.parent).as_posix(), predicted])
        write_table(job.out / "validation.csv", ["file", "predicted"], lines)
        return job.out

    return lambda _, name: {"graded_regions": train}[name]


LEVELS = np.array([5.0, 5.5, 6.0, 6.5, 7.0])
CONFIG = RecognitionConfig("recipe", "weights.safetensors", ("schedule.epochs=1",))


def test_levels_go_over_in_their_order_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[TrainJob] = []
    monkeypatch.setattr(recognition, "load", graded_run(told, lambda _, grade: grade))
    crops, grades = crops_of(10), np.tile(LEVELS[[2, 0, 4, 1, 3]], 2)
    found = recognise(crops, grades, CONFIG, tmp_path / "run")
    np.testing.assert_array_equal(found, grades)
    (job,) = told
    assert job.resume and job.config == Path("recipe")
    assert job.overrides == ("schedule.epochs=1", 'network.pretrained="weights.safetensors"')
    written = {crop.path.stem: crop for crop in read_graded_crops(job.data)}
    assert len(written) == 10 and {crop.bone for crop in written.values()} == {RADIUS}
    ranks = np.array([written[f"{index:05d}"].grade for index in range(10)])
    np.testing.assert_array_equal(ranks - ranks.min(), np.searchsorted(LEVELS, grades))
    assert ranks.min() > 0 and ranks.max() <= 14  # grades that the network knows
    pixels = cv2.imread(str(written["00003"].path), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(pixels, crops.patches[3])


def test_crops_of_one_hand_stay_one_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[TrainJob] = []
    monkeypatch.setattr(recognition, "load", graded_run(told, lambda _, grade: grade))
    crops = replace(crops_of(6), ids=("a", "b", "a", "c", "b", "a"))
    found = recognise(crops, LEVELS[[0, 1, 2, 3, 4, 0]], CONFIG, tmp_path / "run")
    np.testing.assert_array_equal(found, LEVELS[[0, 1, 2, 3, 4, 0]])
    hands = {int(crop.path.stem): crop.hand for crop in read_graded_crops(told[0].data)}
    assert hands[0] == hands[2] == hands[5] and hands[1] == hands[4]
    assert len({hands[0], hands[1], hands[3]}) == 3


def test_predictions_beyond_the_levels_are_the_outer_ones_and_folds_left_out_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[int, int | None] = {0: 0, 1: 14, 2: None}

    def predict(number: int, grade: int) -> int | None:
        return answers.get(number, grade)

    monkeypatch.setattr(recognition, "load", graded_run([], predict))
    found = recognise(crops_of(5), LEVELS, CONFIG, tmp_path / "run")
    np.testing.assert_array_equal(found, [5.0, 7.0, np.nan, 6.5, 7.0])


def test_crops_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "load", graded_run([], lambda _, grade: grade))
    first = recognise(crops_of(5), LEVELS, CONFIG, tmp_path / "run")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "crops").rglob("*.png")}
    np.testing.assert_array_equal(recognise(crops_of(5), LEVELS, CONFIG, tmp_path / "run"), first)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "crops").rglob("*.png")} == kept
    assert not list((tmp_path / "run").glob(".*"))


def test_the_network_of_graded_regions_recognises_every_crop_that_was_left_out(tmp_path: Path) -> None:
    tiny = RecognitionConfig(
        "recipe",
        "none",
        (
            "input.side=32",
            "network.backbone=test_resnet",
            "network.width=16",
            "schedule.epochs=1",
            "schedule.folds=2",
            "schedule.run_folds=[]",
            "schedule.batch=4",
            "schedule.threads=1",
        ),
    )
    crops = crops_of(24)
    grades = np.array([5.0, 5.5, 6.0])[np.arange(24) % 3]
    found = recognise(crops, grades, tiny, tmp_path / "run")
    assert len(found) == 24 and set(found.tolist()) <= {5.0, 5.5, 6.0}
    with (tmp_path / "run" / "run" / "validation.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len({line["file"] for line in lines}) == 24 and {line["fold"] for line in lines} == {"0", "1"}
    only = replace(tiny, overrides=(*tiny.overrides, "schedule.run_folds=[1]"))
    one = recognise(crops, grades, only, tmp_path / "one")
    assert np.isfinite(one).sum() == 12
