"""Train the hand finder from feature-clustering masks, pseudo-labelled key points and people's labels.

A run's folder holds `config.json`, `keypoints.csv` (pseudo-labels with presence), `masks/` (accepted
clustering masks), `masks.csv` (what became of each try), checkpoints by stage (`base/`, `tuned/`) and
`graph.onnx`; after a cross-validation also `keypoint_folds.csv` and `foldN/graph.onnx`.
"""

from __future__ import annotations

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import copy
import csv
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from boneage.anatomy.keypoints import in_anatomical_order
from boneage.anatomy.localise import FINDER_SIZE, find_hand, upright_frame
from boneage.core.errors import ConfigError
from boneage.core.protocols import Arrays
from boneage.core.types import FloatArray
from boneage.data.manifest import read_manifest
from boneage.data.splits import stratified_folds, write_folds
from boneage.imaging.geometry import letterbox
from boneage.models.backbones import MobileNetV2Features, create_backbone
from boneage.models.finder import HandFinder
from boneage.recipes.hand_localisation import normality
from boneage.recipes.hand_localisation.config import Recipe, TrainingConfig
from boneage.recipes.hand_localisation.films import label_keypoints, read_film
from boneage.recipes.hand_localisation.labels import (
    Film,
    People,
    Points,
    guess_by_landmarks,
    guess_by_net,
    mean_epiphyses,
    read_people,
    with_people,
)
from boneage.recipes.hand_localisation.masks import cluster_masks
from boneage.recipes.hand_localisation.samples import FinderSamples, LabelledHand, as_float
from boneage.training.config import TrainJob, named_config, read_config
from boneage.training.export import export_graph
from boneage.training.fit import channels_last, run, shuffled
from boneage.training.run import open_run

logger = logging.getLogger(__name__)


def train(job: TrainJob) -> Path:
    """Label, train and export the hand finder; every step resumes from what `job.out` holds.

    A base net learns from pseudo-labels of images that people have not marked. Where there are
    `labels.keypoints` and `labels.regions` it is then tuned to them, as a teacher whose own labels a
    student learns from; with `tuning.folds` also without each fold of the marked hands.

    Raises:
        ConfigError: configuration or manifest is wrong, or too few hands could be labelled.
    """
    recipe = read_config(named_config(Path(__file__).parent, job.config), Recipe, job.overrides)
    open_run(job, "hand_localisation", recipe, may_change=("tuning",))
    torch.set_num_threads(recipe.training.threads)
    people = read_people(recipe.labels)
    if bool(people.keypoints) != bool(people.epiphyses):
        raise ConfigError("labels.keypoints and labels.regions go together: give both, or neither")
    lesson = _lesson(job, recipe)
    base = lesson.base(people, job.out / "base")
    net = lesson.tuned(base, people, set(), job.out / "tuned") if people.ids else base
    _export(net, job.out)
    _learn_hands(net, job)
    if people.ids:
        _cross_validate(lesson, base, people, job)
    return job.out


def _export(net: HandFinder, folder: Path) -> None:
    example = {"image": torch.rand(1, 1, FINDER_SIZE, FINDER_SIZE)}
    export_graph(net, example, ("maps",), folder / "graph.onnx", half_weights=False)


def _learn_hands(net: HandFinder, job: TrainJob) -> None:
    """Learn what a complete hand looks like to the finder, from the hands that it finds."""

    @torch.no_grad()
    def see(inputs: Arrays) -> dict[str, FloatArray]:
        return {"maps": net(torch.from_numpy(inputs["image"])).numpy()}

    seen = normality.gather(read_manifest(job.data), lambda radiograph: find_hand(radiograph, see), see)
    if len(seen) < normality.FEWEST:
        logger.warning("no hand model: %d hands found, %d are needed", len(seen), normality.FEWEST)
        return
    normality.fit([*seen.values()]).save(job.out / "hand_model.npz")


def _cross_validate(lesson: Lesson, net: HandFinder, people: People, job: TrainJob) -> None:
    """Tune a net without each fold of the marked hands; `keypoint_folds.csv` says which are whose."""
    folds = lesson.recipe.tuning.folds
    if not folds:
        return
    listed = {row.id: row for row in read_manifest(job.data)}
    rows, numbers = [], []
    for marked in (people.keypoints, people.epiphyses):
        part = [listed[name] for name in sorted(marked) if name in listed and listed[name] not in rows]
        rows += part
        numbers += list(stratified_folds(part, folds, lesson.recipe.training.seed))
    write_folds(job.out / "keypoint_folds.csv", rows, np.array(numbers))
    for fold in range(folds):
        held_out = {row.id for row, number in zip(rows, numbers, strict=True) if number == fold}
        folder = job.out / f"fold{fold}"
        _export(lesson.tuned(net, people.without(held_out), held_out, folder), folder)


def _ids(path: Path) -> set[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {line["id"] for line in csv.DictReader(file)}


def _lesson(job: TrainJob, recipe: Recipe) -> Lesson:
    excluded = _ids(Path(recipe.labels.exclude)) if recipe.labels.exclude else set()
    rows = [row for row in read_manifest(job.data) if row.id not in excluded]
    guesses = label_keypoints(rows, Path(recipe.labels.landmarks), job.out / "keypoints.csv")
    masks = cluster_masks(rows, guesses, recipe.labels.masks, recipe.training.seed, job.out)
    landmarks = {
        name: points
        for name, (points, presence) in guesses.items()
        if presence >= recipe.labels.min_presence
        and in_anatomical_order(upright_frame(points)[0](points))
        and name not in excluded
    }
    more = read_manifest(recipe.labels.unlabelled) if recipe.labels.unlabelled else ()
    films = [film for row in (*rows, *more) if (film := read_film(row, masks.get(row.id))) is not None]
    return Lesson(recipe, films, landmarks)


class _Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    def __init__(self, samples: FinderSamples, epoch: int) -> None:
        self.samples, self.epoch = samples, epoch

    def __len__(self) -> int:
        return len(self.samples.hands)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        sample = self.samples(index, self.epoch)
        return (
            torch.from_numpy(sample.image)[None],
            torch.from_numpy(sample.maps),
            torch.from_numpy(sample.weights),
        )


class FinderTask(lightning.LightningModule):
    """Trains the finder with a cross-entropy that weighs cells near a joint more."""

    def __init__(self, net: HandFinder, samples: FinderSamples) -> None:
        super().__init__()
        self.net, self.samples, self.training_config = net, samples, samples.recipe.training

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
        """Return the loader of the current epoch."""
        training, epoch = self.training_config, self.current_epoch
        samples = _Samples(self.samples, epoch)
        return shuffled(samples, len(samples), training.batch, (training.seed, epoch))

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of one batch."""
        image, maps, weights = batch
        logits = self.net.logits(image.contiguous(memory_format=torch.channels_last)).float()
        raw = nn.functional.binary_cross_entropy_with_logits(logits, maps, reduction="none")
        raw = raw * torch.cat([1 + 30 * maps[:, :-1], torch.ones_like(maps[:, -1:])], dim=1)
        weighed, total = (raw.mean(dim=(2, 3)) * weights).sum(dim=0), weights.sum(dim=0)
        joints = weighed[:-1].sum() / total[:-1].sum().clamp_min(1)
        mask = weighed[-1] / total[-1].clamp_min(1)
        self.log("loss", joints.detach(), on_epoch=True, on_step=False)
        return 20 * joints + self.training_config.mask_weight * mask

    def on_train_epoch_end(self) -> None:
        """Report the epoch."""
        logger.info(
            "epoch %d: joint loss %.5f", self.current_epoch + 1, self.trainer.callback_metrics["loss"]
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a one-cycle schedule."""
        training = self.training_config
        learnt = [weight for weight in self.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(learnt, lr=training.learning_rate, weight_decay=training.weight_decay)
        steps = len(self.samples.hands) // training.batch * training.epochs
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


@dataclass(frozen=True, eq=False)
class Lesson:
    """What nets are taught with: films, the landmark model's key points, and whose labels are people's.

    Args:
        recipe: how.
        films: all images.
        landmarks: id -> pseudo-labelled key points (21, 2), source pixels.
    """

    recipe: Recipe
    films: Sequence[Film]
    landmarks: Mapping[str, Points]

    def base(self, people: People, folder: Path) -> HandFinder:
        """Return the net that pseudo-labels alone have taught; of people it knows the mean epiphyses."""
        features = create_backbone("mobilenet_v2_zoo", self.recipe.labels.backbone).body
        if not isinstance(features, MobileNetV2Features):
            raise ConfigError("the finder needs the MobileNetV2 features of labels.backbone")
        films = [film for film in self.films if film.id in self.landmarks and film.id not in people.ids]
        net = self._fit(
            HandFinder(features).train(), self._guessed(films, None), self.recipe.training, folder
        )
        if not people.ids:
            return net
        usual = mean_epiphyses(people, self.landmarks)
        course = self._course(self.recipe.tuning.forearm_epochs)
        return self._fit(_encoder_frozen(net), self._guessed(films, usual), course, folder / "forearm")

    def _guessed(self, films: Sequence[Film], epiphyses: Points | None) -> list[LabelledHand]:
        weight = self.recipe.labels.pseudo_weight
        return [guess_by_landmarks(film, self.landmarks[film.id], epiphyses, weight) for film in films]

    def tuned(self, net: HandFinder, people: People, held_out: Set[str], folder: Path) -> HandFinder:
        """Return a copy of a net tuned to people's labels; images of `held_out` are not looked at.

        A teacher learns from people and the landmark model, its student from people and the teacher.
        The encoder stays the base net's, which spares most of the time.
        """
        tuning, weight = self.recipe.tuning, self.recipe.labels.pseudo_weight
        films = [film for film in self.films if film.id not in held_out]
        some = self._some(films, people)
        usual = mean_epiphyses(people, self.landmarks)
        keypoints = {**self.landmarks, **people.keypoints}
        guessed = [
            (film, guess_by_landmarks(film, keypoints[film.id], None, weight))
            for film in some
            if film.id in keypoints
        ]
        hands, course = self._repeated(guessed, people), self._course(tuning.teacher_epochs)
        teacher = self._fit(_encoder_frozen(copy.deepcopy(net)), hands, course, folder / "teacher")
        films = some if held_out else films
        seen = ((film, guess_by_net(film, maps, usual, weight)) for film, maps in _look(teacher, films))
        accepted = {film.id: (film, hand) for film, hand in seen if hand is not None}
        logger.info("%s: the teacher labelled %d of %d images", folder.name, len(accepted), len(films))
        marked = {film.id: (film, hand) for film, hand in guessed if film.id in people.ids}
        hands = self._repeated([*{**marked, **accepted}.values()], people)
        return self._fit(
            _encoder_frozen(teacher), hands, self._course(tuning.student_epochs), folder / "student"
        )

    def _course(self, epochs: int) -> TrainingConfig:
        tuning = self.recipe.tuning
        return replace(
            self.recipe.training,
            epochs=epochs,
            learning_rate=tuning.learning_rate,
            ema_decay=tuning.ema_decay,
            any_rotation=tuning.any_rotation,
        )

    def _some(self, films: Sequence[Film], people: People) -> list[Film]:
        """Return what people marked, and as many other films as are wanted."""
        others = [film for film in films if film.id not in people.ids]
        order = np.random.default_rng(self.recipe.training.seed).permutation(len(others))
        chosen = [others[index] for index in order[: self.recipe.tuning.images]]
        return [*(film for film in films if film.id in people.ids), *chosen]

    def _repeated(self, guessed: Sequence[tuple[Film, LabelledHand]], people: People) -> list[LabelledHand]:
        """Return hands with people's labels in place of guesses, and those hands as often as is wanted."""
        labels, hands = self.recipe.labels, []
        for film, hand in guessed:
            times = labels.repeat if film.id in people.keypoints else 1
            times = labels.repeat_regions if film.id in people.epiphyses else times
            hands += [with_people(hand, film, people)] * times
        return hands

    def _fit(
        self, net: HandFinder, hands: Sequence[LabelledHand], training: TrainingConfig, folder: Path
    ) -> HandFinder:
        if len(hands) < training.batch:
            raise ConfigError(
                f"only {len(hands)} hands could be labelled; at least {training.batch} are needed"
            )
        masks = sum(hand.mask is not None for hand in hands)
        logger.info("%s: training on %d hands, %d with a mask", folder, len(hands), masks)
        lightning.seed_everything(training.seed, verbose=False)
        samples = FinderSamples(hands, replace(self.recipe, training=training))
        run(
            FinderTask(channels_last(net), samples),
            training.epochs,
            folder,
            ema_decay=training.ema_decay,
            precision=training.precision,
            clip_norm=1.0,
        )
        return net.to("cpu").eval()


def _encoder_frozen(net: HandFinder) -> HandFinder:
    net.train()
    for stage in (net.to4, net.to8, net.to16):
        stage.requires_grad_(False).eval()  # batch statistics stay as they are too
    return net


@torch.no_grad()
def _look(net: HandFinder, films: Sequence[Film]) -> Iterator[tuple[Film, FloatArray]]:
    """Yield every film with the net's maps (24, h, w)."""
    for film in films:
        image, _ = letterbox(as_float(film.hand.image), FINDER_SIZE)
        with torch.autocast("cpu", torch.bfloat16):
            yield film, net(torch.from_numpy(image)[None, None])[0].numpy()
