"""Training label-free groups on drawn hands: its files, what it holds out, how it goes on, its refusals."""

from __future__ import annotations

import csv
import json
import logging
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import drawn_regions
import numpy as np
import pytest
from drawn_regions import Child

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import boneage.recipes.region_clusters as package  # noqa: E402
from boneage.core.errors import ConfigError  # noqa: E402
from boneage.core.types import Sex  # noqa: E402
from boneage.data.manifest import read_manifest  # noqa: E402
from boneage.data.splits import stratified_folds  # noqa: E402
from boneage.recipes.region_clusters import encode as encode_module  # noqa: E402
from boneage.recipes.region_clusters.config import Recipe  # noqa: E402
from boneage.recipes.region_clusters.crops import INDEX, REGIONS, read_regions  # noqa: E402
from boneage.recipes.region_clusters.encode import encode  # noqa: E402
from boneage.recipes.region_clusters.fit import Fitted, fit_hands, train  # noqa: E402
from boneage.recipes.region_clusters.model import RegionClusters  # noqa: E402
from boneage.training.config import TrainJob, read_config  # noqa: E402

FOLDER = Path(package.__file__).parent
COUNT = 96
CUT_OFF = (5, 20)
"""Places of films that end above the wrist."""

NAMES = ("2", "17", "19")
CHILDREN = drawn_regions.children(COUNT)
OVERRIDES = (
    "input.side=16",
    "input.wide_side=24",
    "network.layers=[[8, 4, 2], [3, 2, 2]]",
    "network.weight=0.1",
    'join.regions=["2", "17", "19"]',
    "groups.count=4",
    "groups.starts=2",
    "schedule.epochs=2",
    "schedule.batch=16",
    "schedule.learning_rate=3e-3",
    "schedule.folds=2",
    "schedule.processes=1",
)
AGREED = (*OVERRIDES, "join.agreement=1", "groups.by_sex=true", 'input.steps=["equalise"]')
CLASSES = {"24-72", "72-120", "120-168", "168-216"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A finished run, from films."""
    data = drawn_regions.write_films(tmp_path_factory.mktemp("films"), CHILDREN, CUT_OFF)
    out = tmp_path_factory.mktemp("out") / "run"
    done = TrainJob(data, out, overrides=OVERRIDES, locate=drawn_regions.locator())
    assert train(done) == done.out
    return done


@pytest.fixture(scope="module")
def cut(job: TrainJob) -> Path:
    """The regions that the run has cut."""
    return job.out / "regions"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def summary(run: Path) -> dict[str, Any]:
    """What a run says, in strict JSON: not a number is no number there."""

    def refuse(text: str) -> None:
        raise AssertionError(text)

    parsed: dict[str, Any] = json.loads((run / "clusters.json").read_text(), parse_constant=refuse)
    return parsed


def recipe_of(job: TrainJob) -> Recipe:
    return read_config(FOLDER / "recipe.toml", Recipe, job.overrides)


def fitted_of(job: TrainJob) -> Fitted:
    """What the run's model says of all hands; nothing is learnt again."""
    hands = read_regions(read_manifest(job.data), job.out / "regions", None)
    return fit_hands(hands, np.ones(len(hands), np.bool_), recipe_of(job), job.out / "all")


def started(folder: Path, children: list[Child], cut: Path | None = None, **changes: Any) -> TrainJob:
    """A run of a manifest whose regions are cut already."""
    data = drawn_regions.write_manifest(folder / "data", children)
    out = folder / "run"
    if cut is None:
        drawn_regions.write_regions(out / "regions", children)
    else:
        shutil.copytree(cut, out / "regions")
    return replace(TrainJob(data, out, overrides=OVERRIDES), **changes)


# A run


def test_a_run_leaves_every_file_whole(job: TrainJob) -> None:
    files = {path.relative_to(job.out).as_posix() for path in job.out.rglob("*") if path.is_file()}
    assert files == {
        "config.json",
        "folds.csv",
        "clusters.npz",
        "clusters.json",
        "oof.csv",
        f"regions/{INDEX}",
        *(f"regions/{name}.npy" for name in REGIONS),
        *(f"{folder}/{name}.npz" for folder in ("all", "fold0", "fold1") for name in NAMES),
    }
    config = json.loads((job.out / "config.json").read_text())
    assert config["recipe"] == "region_clusters" and config["groups"]["count"] == 4


def test_every_hand_is_held_out_once_with_what_is_known_of_it(job: TrainJob) -> None:
    lines = table(job.out / "oof.csv")
    by_id = {child.name: child for child in CHILDREN}
    assert sorted(line["id"] for line in lines) == sorted(by_id)
    rows = read_manifest(job.data)
    fold_of = dict(zip([row.id for row in rows], stratified_folds(rows, 2, 0).tolist(), strict=True))
    for line in lines:
        child = by_id[line["id"]]
        assert line["sex"] == child.sex and float(line["bone_age_months"]) == child.age_months
        assert int(line["fold"]) == fold_of[line["id"]]
        assert line["masked"] == ("17" if CHILDREN.index(child) in CUT_OFF else "")
        low, high = map(float, line["class"].split("-"))
        assert line["class"] in CLASSES and low <= float(line["bone_age_months"]) <= high
        assert line["predicted_class"] in CLASSES and int(line["group"]) in range(4)
        assert np.isfinite(float(line["position"]))
        assert 24 <= float(line["group_median_months"]) <= 216
        assert 24 <= float(line["typical_months"]) <= 216


def test_what_a_fold_tells_comes_from_the_other_folds_hands(job: TrainJob) -> None:
    """A group's median age is that of its hands in the other folds, which `fit_hands` puts there."""
    hands = read_regions(read_manifest(job.data), job.out / "regions", None)
    lines = {line["id"]: line for line in table(job.out / "oof.csv")}
    folds = np.array([int(lines[row.id]["fold"]) for row in hands.rows])
    for fold in (0, 1):
        fitted = fit_hands(hands, folds != fold, recipe_of(job), job.out / f"fold{fold}")
        for at in np.flatnonzero(folds == fold):
            line = lines[hands.rows[at].id]
            assert int(line["group"]) == fitted.labels[at]
            others = (fitted.labels == fitted.labels[at]) & (folds != fold)
            names = [lines[row.id]["class"] for row, own in zip(hands.rows, others, strict=True) if own]
            commonest = [
                name for name, number in Counter(names).items() if number == max(Counter(names).values())
            ]
            assert line["predicted_class"] == min(commonest, key=lambda name: int(name.split("-")[0]))
            assert float(line["group_median_months"]) == pytest.approx(
                np.median(hands.ages[others]), abs=0.051
            )
            assert float(line["position"]) == pytest.approx(fitted.positions[at], abs=1e-4)
        assert sum(known.hands for known in fitted.model.group_ages) == (folds != fold).sum()


def test_the_summary_says_what_the_table_holds(job: TrainJob) -> None:
    told, lines = summary(job.out), table(job.out / "oof.csv")
    held_out = told["out_of_fold"]
    right = [line["class"] == line["predicted_class"] for line in lines]
    assert held_out["hands_in_a_class"] == held_out["hands_of_known_age"] == len(lines) == COUNT
    assert held_out["accuracy"] == pytest.approx(np.mean(right))
    for name, column in (("group_median_mae", "group_median_months"), ("typical_mae", "typical_months")):
        errors = [abs(float(line[column]) - float(line["bone_age_months"])) for line in lines]
        assert held_out[f"{name}_months"] == pytest.approx(np.mean(errors), abs=0.06)
    assert set(held_out["spearman"]) == {"girls", "boys", "every"}
    assert -1 <= held_out["agreement"] <= told["agreement_same_hands"] + 0.1
    assert told["hands"] == COUNT and told["regions"] == list(NAMES) and not told["averaged"]
    assert told["masked"] == {"2": 0, "17": 2, "19": 0}
    assert set(told["losses"]) == set(NAMES)
    assert all(len(pair) == 2 and all(loss > 0 for loss in pair) for pair in told["losses"].values())
    assert len(told["groups"]) == 4 and sum(group["hands"] for group in told["groups"]) == COUNT
    assert set(told["maturity"]) == {"female", "male"}


def test_groups_are_numbered_as_they_mature(job: TrainJob) -> None:
    fitted = fitted_of(job)
    means = [fitted.positions[fitted.labels == group].mean() for group in range(4)]
    # Of hands that show all regions: two do not.
    assert (np.diff(means) > -0.1).all()


def test_the_kept_model_says_of_films_what_the_run_said(job: TrainJob) -> None:
    fitted = fitted_of(job)
    model = RegionClusters.load(job.out / "clusters.npz", summary(job.out))
    hands = read_regions(read_manifest(job.data), job.out / "regions", None)
    patches = np.stack([hands.patches(name) for name in REGIONS], axis=1)
    for at in (0, 1, *CUT_OFF, 50):
        reading = model.read(patches[at], hands.seen[at], hands.rows[at].sex)
        assert reading.group == fitted.labels[at]
        assert reading.position == pytest.approx(fitted.positions[at], abs=1e-3)
        assert reading.masked == (("17",) if at in CUT_OFF else ())
    assert [known.hands for known in model.group_ages] == np.bincount(fitted.labels, minlength=4).tolist()


# Going on


def refuse(*_: object) -> None:
    raise AssertionError("learnt again")


def test_a_finished_run_learns_nothing_again(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds a run already; give --resume"):
        train(job)
    kept = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in job.out.rglob("*/*") if path.is_file()}
    assert len(times) == 20 + 9
    monkeypatch.setattr(encode_module, "_learn", refuse)
    train(replace(job, resume=True, locate=None))
    again = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    assert again.keys() == kept.keys()
    for path, content in kept.items():
        # A zip file notes when it was written.
        assert path.suffix == ".npz" or again[path] == content, path.name
    assert {path: path.stat().st_mtime_ns for path in job.out.rglob("*/*") if path.is_file()} == times


def test_a_run_that_was_cut_off_goes_on_with_the_regions_that_are_missing(
    job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(job.out, tmp_path / "run")
    for name in ("fold1/17.npz", "oof.csv", "clusters.json", "clusters.npz"):
        (out / name).unlink()
    learnt: list[str] = []
    learn = encode_module._learn
    monkeypatch.setattr(
        encode_module,
        "_learn",
        lambda region: learnt.append(f"{region.folder.name}/{region.name}") or learn(region),
    )
    train(replace(job, out=out, resume=True))
    assert learnt == ["fold1/17"]
    for name in ("oof.csv", "clusters.json"):
        assert (out / name).read_bytes() == (job.out / name).read_bytes(), name
    with np.load(out / "clusters.npz") as again, np.load(job.out / "clusters.npz") as first:
        for array in first.files:
            np.testing.assert_array_equal(again[array], first[array])


@pytest.mark.parametrize("change", ["groups.count=8", "schedule.epochs=3", "input.align=true"])
def test_a_run_goes_on_only_with_what_it_began_with(job: TrainJob, change: str) -> None:
    with pytest.raises(ConfigError, match="differs from the configuration given; resume with the same one"):
        train(replace(job, resume=True, overrides=(*OVERRIDES, change)))


def test_ages_that_would_deal_hands_to_other_folds_are_refused(job: TrainJob, tmp_path: Path) -> None:
    """Encoders of a fold, which are kept, must not have seen its hands."""
    out = shutil.copytree(job.out, tmp_path / "run")
    text = (out / "folds.csv").read_text().splitlines()
    name, fold = text[1].split(",")
    (out / "folds.csv").write_text("\n".join([text[0], f"{name},{1 - int(fold)}", *text[2:]]) + "\n")
    with pytest.raises(ConfigError, match=r"folds\.csv has other folds than the manifest's"):
        train(replace(job, out=out, resume=True))


def test_a_file_of_other_hands_is_refused(job: TrainJob, tmp_path: Path) -> None:
    out = shutil.copytree(job.out, tmp_path / "run")
    with np.load(out / "all" / "2.npz") as saved:
        arrays = dict(saved)
    np.savez(out / "all" / "2.npz", **{**arrays, "latents": arrays["latents"][:-1]})
    with pytest.raises(ConfigError, match=r"2\.npz is of other hands: begin with another --out"):
        train(replace(job, out=out, resume=True))
    other = drawn_regions.write_manifest(tmp_path, CHILDREN[10:])
    with pytest.raises(ConfigError, match=r"regions is of another manifest \(it has 'h000'\)"):
        train(replace(job, data=other, out=out, resume=True))


def test_an_interrupted_region_leaves_no_file_that_is_taken_for_done(
    tmp_path: Path, cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = started(tmp_path, CHILDREN, cut)

    def stop(path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", stop)
        with pytest.raises(KeyboardInterrupt):
            train(begun)
    assert not (begun.out / "all" / "2.npz").exists()


# Several processes


class Pool:
    """Stands for a pool of processes: what goes over is pickled, and done here."""

    started: list[int]

    def __init__(self, processes: int, mp_context: Any) -> None:
        assert mp_context.get_start_method() == "spawn"  # a fork of threads may stop for ever
        self.started.append(processes)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], str], many: Iterable[Any]) -> Iterator[str]:
        for one in many:
            sent = pickle.loads(pickle.dumps((function, one)))
            yield sent[0](sent[1])


def test_regions_shared_among_processes_are_learnt_as_by_one(
    job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pool.started = []
    monkeypatch.setattr(encode_module, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    recipe = recipe_of(replace(job, overrides=(*OVERRIDES, "schedule.processes=3")))
    hands = read_regions(read_manifest(job.data), job.out / "regions", None)
    level = logging.getLogger("lightning.pytorch").level
    found = encode(hands, np.ones(COUNT, np.bool_), recipe, NAMES, tmp_path)
    logging.getLogger("lightning.pytorch").setLevel(level)
    assert Pool.started == [3]
    for name in NAMES:
        with np.load(job.out / "all" / f"{name}.npz") as alone:
            np.testing.assert_allclose(found.latents[name], alone["latents"], atol=1e-5)
    again = encode(hands, np.ones(COUNT, np.bool_), recipe, NAMES, tmp_path)
    assert Pool.started == [3]  # nothing is left to do
    np.testing.assert_array_equal(again.latents["17"], found.latents["17"])


# What is learnt from whom


def test_a_fold_learns_nothing_from_its_own_hands(job: TrainJob, tmp_path: Path, cut: Path) -> None:
    """Other pixels of a fold's hands change the other folds' encoders, and not the one made without them."""
    changed = started(tmp_path, CHILDREN, cut, data=job.data)
    folds = {line["id"]: int(line["fold"]) for line in table(job.out / "oof.csv")}
    mine = np.array([folds[child.name] == 1 for child in CHILDREN])
    for name in NAMES:
        patches = np.load(changed.out / "regions" / f"{name}.npy")
        patches[mine] = patches[mine][:, ::-1]
        np.save(changed.out / "regions" / f"{name}.npy", patches)
    train(changed)
    for name in NAMES:
        for fold, same in ((1, True), (0, False)):
            with (
                np.load(job.out / f"fold{fold}" / f"{name}.npz") as first,
                np.load(changed.out / f"fold{fold}" / f"{name}.npz") as second,
            ):
                assert np.array_equal(first["weight0"], second["weight0"]) == same, (name, fold)
                known = ~mine & np.isfinite(first["latents"][:, 0])
                assert np.array_equal(first["latents"][known], second["latents"][known]) == same


def test_a_fold_s_mean_regions_are_of_the_other_folds_hands(job: TrainJob, tmp_path: Path, cut: Path) -> None:
    overrides = (*OVERRIDES, "input.align=true", "network.kind=pca", "network.components=3")
    recipe = recipe_of(replace(job, overrides=overrides))
    mine = np.arange(COUNT) % 2 == 0
    copied = Path(shutil.copytree(cut, tmp_path / "regions"))
    patches = np.load(copied / "2.npy")
    patches[mine] = patches[mine][:, :, ::-1] // 2
    np.save(copied / "2.npy", patches)
    templates = []
    for learn, folder in ((~mine, "without"), (mine, "with")):
        for own in (cut, copied):
            hands = read_regions(read_manifest(job.data), own, None)
            found = encode(hands, learn, recipe, ("2",), tmp_path / f"{folder} {own.parent.name}")
            templates.append(found.readers["2"].template)
    np.testing.assert_array_equal(templates[0], templates[1])
    assert templates[2] is not None and not np.array_equal(templates[2], templates[3])


def test_agreement_by_sex_orders_hands_and_never_mixes_sexes(tmp_path: Path, cut: Path) -> None:
    run = started(tmp_path, CHILDREN, cut, overrides=(*AGREED, "schedule.epochs=4"))
    train(run)
    told = summary(run.out)
    assert told["averaged"] and [group["sex"] for group in told["groups"]] == ["female"] * 2 + ["male"] * 2
    for line in table(run.out / "oof.csv"):
        assert int(line["group"]) in {"female": (0, 1), "male": (2, 3)}[line["sex"]]
    model = RegionClusters.load(run.out / "clusters.npz", told)
    assert model.groups.sexes == (Sex.FEMALE, Sex.FEMALE, Sex.MALE, Sex.MALE)
    order = told["out_of_fold"]["spearman"]
    assert all(abs(order[name]["estimate"]) > 0.6 for name in ("girls", "boys"))
    assert told["agreement_same_hands"] > 0.5


@pytest.mark.parametrize("kind", ["vae", "pca"])
def test_other_encoders_are_trained_the_same_way(kind: str, tmp_path: Path, cut: Path) -> None:
    run = started(
        tmp_path, CHILDREN, cut, overrides=(*OVERRIDES, f"network.kind={kind}", "network.components=6")
    )
    train(run)
    told = summary(run.out)
    assert set(told["losses"]) == (set() if kind == "pca" else set(NAMES))
    model = RegionClusters.load(run.out / "clusters.npz", told)
    assert model.groups.centroids.shape == (4, 18 if kind == "pca" else 32 + 32 + 72)


# What is not known


def test_hands_without_ages_are_grouped_all_the_same(
    tmp_path: Path, cut: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = [replace(child, age_months=None) for child in CHILDREN]
    run = started(tmp_path, unknown, cut)
    with caplog.at_level(logging.WARNING):
        train(run)
    assert "too few bone ages are known: nothing is held out" in caplog.text
    assert not (run.out / "oof.csv").exists() and not (run.out / "fold0").exists()
    told = summary(run.out)
    assert "out_of_fold" not in told and told["maturity"] == {}
    assert [group["hands"] for group in told["groups"]] == [0] * 4
    assert all(group["mean_months"] is None for group in told["groups"])
    model = RegionClusters.load(run.out / "clusters.npz", told)
    assert len(model.groups) == 4 and model.maturity_ages == {}


@pytest.mark.parametrize("sex", [Sex.FEMALE, None])
def test_hands_of_one_sex_or_of_unknown_ones_are_held_out_all_the_same(
    sex: Sex | None, tmp_path: Path, cut: Path
) -> None:
    run = started(tmp_path, [replace(child, sex=sex) for child in CHILDREN], cut)
    train(run)
    held_out = summary(run.out)["out_of_fold"]
    assert held_out["hands_in_a_class"] == COUNT and 0 < held_out["accuracy"] <= 1
    assert held_out["spearman"]["boys"] is None and held_out["spearman"]["every"] is not None
    assert (held_out["spearman"]["girls"] is None) == (sex is None)
    assert (held_out["typical_mae_months"] is None) == (sex is None)
    assert {line["typical_months"] == "" for line in table(run.out / "oof.csv")} == {sex is None}


def test_ages_of_some_hands_are_enough(tmp_path: Path, cut: Path) -> None:
    some = [
        replace(child, age_months=child.age_months if at < 30 else None) for at, child in enumerate(CHILDREN)
    ]
    run = started(tmp_path, some, cut)
    train(run)
    told, lines = summary(run.out), table(run.out / "oof.csv")
    assert told["out_of_fold"]["hands_in_a_class"] == 30 and len(lines) == COUNT
    assert sum(line["bone_age_months"] != "" for line in lines) == 30
    assert sum(group["hands"] for group in told["groups"]) == 30
    assert all(group["mean_months"] is None for group in told["groups"] if group["hands"] < 10)
    assert all(line["predicted_class"] in {*CLASSES, ""} for line in lines)


def test_ages_beyond_the_classes_are_in_none(tmp_path: Path, cut: Path) -> None:
    old = [replace(child, age_months=230.0) for child in CHILDREN]
    run = started(tmp_path, old, cut)
    train(run)
    held_out = summary(run.out)["out_of_fold"]
    assert held_out["hands_in_a_class"] == 0 and held_out["accuracy"] is None
    assert held_out["spearman"]["every"] is None  # of ages that are all alike
    assert {line["class"] + line["predicted_class"] for line in table(run.out / "oof.csv")} == {""}


# Refusals


def test_constant_crops_are_refused_by_their_region(tmp_path: Path, cut: Path) -> None:
    run = started(tmp_path, CHILDREN, cut)
    blank = np.full_like(np.load(run.out / "regions" / "17.npy"), 90)
    np.save(run.out / "regions" / "17.npy", blank)
    with pytest.raises(
        ConfigError, match=r"region 17: all 94 views are the same image; give crops that differ"
    ):
        train(run)
    # Such a patch cannot be laid over anything.
    with pytest.raises(ConfigError, match=r"region 17: 0 views are too few to learn from; give 20 or more"):
        train(replace(run, out=moved(run, tmp_path), overrides=(*OVERRIDES, "input.align=true")))


def moved(run: TrainJob, folder: Path) -> Path:
    """Another run's folder with the same regions."""
    shutil.copytree(run.out / "regions", folder / "other" / "regions")
    return folder / "other"


def test_a_region_that_no_hand_shows_is_refused(tmp_path: Path) -> None:
    run = started(tmp_path, CHILDREN[:24])
    drawn_regions.write_regions(run.out / "regions", CHILDREN[:24], {"19": range(24)})
    with pytest.raises(ConfigError, match="no hand shows region 19: give other images, or a combination"):
        train(run)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (15, "region 2: 15 views are too few to learn from; give 20 or more hands"),
        (30, "region 2: 15 views are too few to learn from"),  # a fold's others
    ],
)
def test_too_few_hands_are_refused(count: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        train(started(tmp_path, CHILDREN[:count]))


def test_too_few_hands_that_show_all_regions_are_refused(tmp_path: Path) -> None:
    children = CHILDREN[:40]
    run = started(tmp_path, children)
    drawn_regions.write_regions(run.out / "regions", children, {"2": range(0, 15), "17": range(10, 25)})
    with pytest.raises(
        ConfigError, match=r"15 of \d+ hands show all of the regions 2, 17, 19; 20 or more are needed"
    ):
        train(run)


def test_fewer_patients_than_folds_are_refused_before_anything_is_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "_learn", refuse)
    run = started(tmp_path, CHILDREN[:24], overrides=(*OVERRIDES, "schedule.folds=24"))
    lines = run.data.read_text().splitlines()
    one = [lines[0] + ",patient_id", *(f"{line},p{at % 7}" for at, line in enumerate(lines[1:]))]
    run.data.write_text("\n".join(one) + "\n")
    with pytest.raises(ConfigError, match="expected at least 24 patients, got 7"):
        train(run)


def test_a_manifest_needs_a_localiser(tmp_path: Path) -> None:
    data = drawn_regions.write_manifest(tmp_path, CHILDREN)
    with pytest.raises(ConfigError, match="key regions need a hand localiser"):
        train(TrainJob(data, tmp_path / "run", overrides=OVERRIDES))
