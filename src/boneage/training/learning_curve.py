"""What more images would bring: one recipe trained on nested subsets, measured on the same held-out images.

A curve's folder holds `curve.json` (what may not change as it goes on), `folds.csv` and `predictions/`, a
table a finished training. What a training needs meanwhile lies in `trainings/` and is removed with its end. A
training that was cut off goes on from its last epoch; sizes, seeds and held-out folds may be added later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boneage.core.errors import ConfigError, InputError
from boneage.core.registry import RECIPES, load
from boneage.core.types import Hand, Radiograph
from boneage.data.manifest import Row, read_manifest, read_table, write_manifest, write_text_atomically
from boneage.data.splits import read_folds, stratified_folds, write_folds
from boneage.imaging.read import read
from boneage.training.config import TrainJob, as_tree
from boneage.training.curve_config import CurveConfig, recipe_tree

logger = logging.getLogger(__name__)

Locate = Callable[[Radiograph], Hand]


@dataclass(frozen=True)
class Cell:
    """One training of a curve: its size, its seed, and the fold that it does not see."""

    size: int
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """Name of its folder and its table."""
        return f"size{self.size}-seed{self.seed}-fold{self.fold}"


class LearningCurve:
    """The trainings of one curve in one folder.

    Args:
        config: what is trained.
        data: manifest.
        out: the curve's folder.
        locate: finds the hand in a radiograph, where the recipe wants it cut out.

    Raises:
        ConfigError: a wrong configuration or manifest, too few images, or a folder of another curve.
    """

    def __init__(self, config: CurveConfig, data: Path, out: Path, locate: Locate | None = None) -> None:
        self.config = config
        self.out = out
        self._tree = recipe_tree(config)
        labelled = [
            row for row in read_manifest(data) if row.bone_age_months is not None and row.sex is not None
        ]
        if not labelled:
            raise ConfigError(
                f"{data} has no image with sex and bone_age_months: a curve is learnt from labels"
            )
        self._locate = None if locate is None else _Remembered(locate)
        self._open(labelled)
        self.folds = self._split(labelled)
        self.rows = tuple(row for row in labelled if row.id in self.folds)

    def cells(self) -> list[Cell]:
        """Return every training, the sizes of a seed one after another, so that a curve appears early."""
        wanted = self.config
        found = [
            Cell(size, seed, fold)
            for seed in wanted.seeds
            for fold in wanted.held_out
            for size in self.sizes(fold)
        ]
        if not found:
            raise ConfigError(
                f"the training folds have fewer images than {min(wanted.sizes)}: give smaller sizes"
            )
        return found

    def sizes(self, fold: int) -> list[int]:
        """Return the training sizes where a fold is held out."""
        most = sum(self.folds[row.id] != fold for row in self.rows)
        smaller = sorted({size for size in self.config.sizes if size <= most})
        # Folds differ by a few images: what is trained on all of them is one size.
        return [*(size for size in smaller if size < most), *([most] if self.config.whole else [])]

    def done(self, cell: Cell) -> bool:
        """Return whether a training has ended."""
        return self._table(cell).is_file()

    def train(self) -> Iterator[Cell]:
        """Train what is not trained yet, and yield each training as it ends."""
        for cell in self.cells():
            if not self.done(cell):
                self._train(cell)
                yield cell

    def errors(self) -> dict[int, list[list[float]]]:
        """Return training size -> for each seed that predicted all held-out folds, each image's error.

        Where several folds are held out, all images of the training folds count as the smallest number that
        any of these have. Images are in the same order everywhere.
        """
        held_out = self.config.held_out
        found: dict[int, list[list[float]]] = {}
        whole = min(self.sizes(fold)[-1] for fold in held_out)
        for size in sorted({min(size, whole) for fold in held_out for size in self.sizes(fold)}):
            for seed in self.config.seeds:
                cells = [
                    Cell(self.sizes(fold)[-1] if size == whole and self.config.whole else size, seed, fold)
                    for fold in held_out
                ]
                if all(self.done(cell) for cell in cells):
                    found.setdefault(size, []).append(
                        [error for cell in cells for error in self._errors(cell)]
                    )
        return found

    def _errors(self, cell: Cell) -> list[float]:
        records = {record["id"]: record for _, record in read_table(self._table(cell))}
        return [
            float(records[row.id]["prediction"]) - float(records[row.id]["bone_age_months"])
            for row in self.rows
            if self.folds[row.id] == cell.fold
        ]

    def chosen(self, cell: Cell) -> list[Row]:
        """Return the images that a training learns from: the first in the seed's order, so nested."""
        learnt = sorted((row for row in self.rows if self.folds[row.id] != cell.fold), key=lambda row: row.id)
        order = np.random.default_rng((cell.seed, cell.fold)).permutation(len(learnt))
        return [learnt[place] for place in order[: cell.size]]

    def _table(self, cell: Cell) -> Path:
        return self.out / "predictions" / f"{cell.name}.csv"

    def _train(self, cell: Cell) -> None:
        folder = self.out / "trainings" / cell.name
        run, manifest = folder / "run", folder / "manifest.csv"
        run.mkdir(parents=True, exist_ok=True)
        held_out = [row for row in self.rows if self.folds[row.id] == cell.fold]
        rows = [*self.chosen(cell), *held_out]
        write_manifest(manifest, rows)
        write_folds(run / "folds.csv", rows, np.array([self.folds[row.id] for row in rows]))
        job = TrainJob(
            manifest, run, self._config_path(), self._overrides(cell), resume=True, locate=self._locate
        )
        load(RECIPES, self.config.recipe)(job)
        predicted = {record["id"] for _, record in read_table(run / "oof.csv")}
        missing = [row.id for row in held_out if row.id not in predicted]
        if missing:
            raise ConfigError(f"{run / 'oof.csv'} has no prediction of {len(missing)} held-out images")
        write_text_atomically(self._table(cell), (run / "oof.csv").read_text(encoding="utf-8"))
        shutil.rmtree(folder)

    def _config_path(self) -> Path | None:
        return Path(self.config.config) if self.config.config else None

    def _overrides(self, cell: Cell) -> tuple[str, ...]:
        """Return the changes of the recipe that make it this training."""
        changes = [
            *self.config.changes,
            f"schedule.folds={self.config.folds}",
            f"schedule.run_folds=[{cell.fold}]",
            f"schedule.seed={cell.seed}",
            "schedule.final_epochs=0",
        ]
        if self.config.effort == "steps":
            changes.append(f"schedule.stages={self._stages(cell)}")
        return tuple(changes)

    def _stages(self, cell: Cell) -> str:
        """Return the recipe's stages with so many epochs that a size takes the steps of all images."""
        schedule = self._tree["schedule"]
        most = sum(self.folds[row.id] != cell.fold for row in self.rows)
        batch = int(schedule.get("batch", 1))
        factor = max(1, most // batch) / max(1, cell.size // batch)
        stages = [
            {**stage, "epochs": max(1, round(stage["epochs"] * factor))} for stage in schedule["stages"]
        ]
        return f"[{', '.join(_inline(stage) for stage in stages)}]"

    def _open(self, rows: Sequence[Row]) -> None:
        """Begin the folder, or refuse to go on with another curve's."""
        path, config = self.out / "curve.json", self.config
        known = "\n".join(
            f"{row.id},{row.sex},{row.bone_age_months}" for row in sorted(rows, key=lambda r: r.id)
        )
        fixed = {
            "recipe": config.recipe,
            "settings": self._tree,
            "folds": config.folds,
            "split_seed": config.split_seed,
            "effort": config.effort,
            "images": len(rows),
            "labels_sha256": hashlib.sha256(known.encode()).hexdigest(),
        }
        text = json.dumps(as_tree(fixed), indent=2)
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            other = [key for key, value in json.loads(text).items() if before.get(key) != value]
            if other:
                raise ConfigError(
                    f"{self.out} holds a curve with other {', '.join(other)}: go on as it was begun, "
                    "or give another --out"
                )
            return
        write_text_atomically(path, text + "\n")

    def _split(self, rows: Sequence[Row]) -> dict[str, int]:
        """Return id -> fold of every image that can be used; it is settled once."""
        path = self.out / "folds.csv"
        if not path.is_file():
            usable = [row for row in rows if self._usable(row)]
            if len(usable) < self.config.folds:
                raise ConfigError(
                    f"{len(usable)} of {len(rows)} images can be used: too few for {self.config.folds} folds"
                )
            write_folds(path, usable, stratified_folds(usable, self.config.folds, self.config.split_seed))
        return read_folds(path)

    def _usable(self, row: Row) -> bool:
        """Return whether an image can be read and, where the recipe cuts it out, its hand be found."""
        try:
            radiograph = read(row.path)
            if self._tree.get("input", {}).get("crop", "none") != "none" and self._locate is not None:
                self._locate(radiograph)
        except InputError as error:
            logger.warning("left out of the curve: %s (%s)", row.path.name, error)
            return False
        return True


class _Remembered:
    """Finds each file's hand once, for all trainings of a process."""

    def __init__(self, locate: Locate) -> None:
        self._find = locate
        self._hands: dict[str, Hand] = {}

    def __call__(self, radiograph: Radiograph) -> Hand:
        if radiograph.path not in self._hands:
            self._hands[radiograph.path] = self._find(radiograph)
        return self._hands[radiograph.path]


def _inline(stage: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key} = {value}" for key, value in stage.items()) + "}"
