"""From a real run of `region_clusters` to neighbours: the trainer's own files are what a bundle takes."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.core.types import Hand, Radiograph, Sex
from boneage.data.synthetic import DrawnHand, View, draw_hand
from boneage.inference.bundle import Bundle, write_bundle
from boneage.inference.cluster_parts import cluster_files, cluster_settings
from boneage.inference.neighbours import NeighbourFinder
from boneage.recipes.region_clusters.fit import train
from boneage.training.config import TrainJob

COUNT = 56
VIEW = View(shape=(400, 300))
OVERRIDES = (
    "input.steps=[]",
    "network.kind='pca'",
    "network.components=4",
    "join.regions=['2', '19']",
    "join.agreement=1",
    "groups.count=2",
    "groups.by_sex=true",
    "groups.interval_months=96",
    "groups.starts=1",
    "schedule.folds=4",
    "schedule.processes=1",
)


def located(drawn: DrawnHand) -> Hand:
    points = np.array([drawn.keypoints_px[name] for name in NAMES])
    return hand_from_points(points, None, drawn.pixels.shape, confidence=0.9, method="fast")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with the groups of a run on drawn hands of 3 to 16 years."""
    folder = tmp_path_factory.mktemp("groups")
    hands: dict[str, Hand] = {}
    rows: list[tuple[object, ...]] = []
    for at in range(COUNT):
        sex, age = (Sex.FEMALE, Sex.MALE)[at % 2], 36 + 156 * at / COUNT
        drawn = draw_hand(age, sex, at, VIEW)
        file = f"{at}.png"
        assert cv2.imwrite(str(folder / file), (drawn.pixels * 255).astype(np.uint8))
        hands[file] = located(drawn)
        rows.append((at, file, sex, age))
    with (folder / "manifest.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([("id", "path", "sex", "bone_age_months"), *rows])

    def locate(radiograph: Radiograph) -> Hand:
        return hands[Path(radiograph.path).name]

    run = train(TrainJob(folder / "manifest.csv", folder / "run", None, OVERRIDES, locate=locate))
    about = {"name": "groups", "version": "1", "method": "m", "methods": {}, "graphs": {}}
    parts = {"region_clusters": cluster_settings(run), "files": {"region_clusters": "region_clusters.npz"}}
    return write_bundle(folder / "bundle", {**about, **parts}, cluster_files(run))


@pytest.mark.parametrize("sex", Sex)
def test_what_a_run_has_learnt_is_told_in_averages(bundle: Bundle, sex: Sex) -> None:
    drawn = draw_hand(100.0, sex, 99, VIEW)
    near = NeighbourFinder(bundle)(drawn.radiograph, located(drawn), sex).neighbours
    assert near is not None and near.group is not None and near.typical is not None
    assert (near.group.number, near.group.count, near.group.sex) == (1, 1, sex)
    assert near.group.hands == COUNT // 2 and sum(near.group.classes) == COUNT // 2
    assert near.group.edges_months == (24, 120, 216)
    assert near.group.percentiles_months == tuple(sorted(near.group.percentiles_months))
    assert near.typical.hands == COUNT // 4 and 36 < near.typical.mean_months < 192
    assert near.regions == ("2", "19") and near.masked == ()
