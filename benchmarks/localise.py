"""Measure a localiser against labelled hand boxes and key points.

    python benchmarks/localise.py KEYPOINTS.csv --images MANIFEST.csv --localise dfc

KEYPOINTS.csv has a row a hand: `id`, `box_x0..box_y1` and `NAME_x, NAME_y` of the 21 key points, in
pixels of the image that MANIFEST.csv names for that id. A hand that the localiser refuses counts as
an overlap of 0 with no key point inside. Seconds are of locating alone, the image already read; CPU
seconds hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import NAMES
from boneage.core.errors import ConfigError, NotAHand
from boneage.core.types import Box, Hand, Radiograph
from boneage.data.manifest import read_manifest
from boneage.data.splits import read_folds
from boneage.imaging.read import read

GOOD = 0.8
EDGES = ("left", "top", "right", "bottom")
TILE = 240

Locate = Callable[[Radiograph], Hand]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One labelled hand: its image, box and key points (21, 2), in the image's pixels."""

    id: str
    path: Path
    box_px: Box
    points: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a localiser made of one labelled hand; `failure` is None where the overlap is good."""

    hand: Labelled
    found: Hand | None
    overlap: float
    inside: float
    seconds: float
    cpu_seconds: float
    failure: str | None


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common)


def share_inside(points: NDArray[np.float64], box: Box) -> float:
    """Return the share of points (N, 2) inside a box."""
    return float(np.all((points >= box[:2]) & (points < box[2:]), axis=1).mean())


def read_labelled(keypoints: Path, images: Path) -> list[Labelled]:
    """Return the hands of a key point table whose images a manifest names.

    Raises:
        ConfigError: an id of the table is not in the manifest.
    """
    paths = {row.id: row.path for row in read_manifest(images)}
    with keypoints.open(newline="") as file:
        rows = list(csv.DictReader(file))
    unknown = [row["id"] for row in rows if row["id"] not in paths]
    if unknown:
        raise ConfigError(
            f"{keypoints}: {len(unknown)} ids, such as {unknown[0]}, are not in {images}; give its manifest"
        )
    return [
        Labelled(
            id=row["id"],
            path=paths[row["id"]],
            box_px=(float(row["box_x0"]), float(row["box_y0"]), float(row["box_x1"]), float(row["box_y1"])),
            points=np.array([[float(row[f"{name}_x"]), float(row[f"{name}_y"])] for name in NAMES]),
        )
        for row in rows
    ]


def clustering(long_side: int, bfloat16: bool) -> Locate:
    """Return paper 4's localiser: feature clustering, a hand mask, the cut at the wrist."""
    from boneage.anatomy.hand_mask import hand_from_labels
    from boneage.imaging.enhance import stretch_contrast
    from boneage.models.segmentation import ClusterConfig, cluster_features, shrink

    config = ClusterConfig(long_side=long_side, bfloat16=bfloat16)

    def locate(radiograph: Radiograph) -> Hand:
        image = stretch_contrast(shrink(radiograph.pixels, long_side))
        return hand_from_labels(cluster_features(image, config), image, radiograph.shape)

    return locate


def network(bundle: Path | None, graph: Path | None, threads: int) -> Locate:
    """Return the localiser of a finder graph, or of a bundle."""
    from boneage.inference.assess import Finder
    from boneage.inference.bundle import Bundle

    return Finder(graph or Bundle.load(bundle).graph("hand_finder"), threads=threads)


class Nets:
    """Chooses what shows a hand: one localiser, or of a cross-validated run the net not tuned to it."""

    def __init__(self, one: Locate | None, by_id: Mapping[str, Locate]) -> None:
        self._one, self._by_id = one, by_id

    @classmethod
    def of_run(cls, run: Path, threads: int) -> Nets:
        """Return those of a run of hand_localisation with `tuning.folds`."""
        folds = read_folds(run / "keypoint_folds.csv")
        nets = {
            fold: network(None, run / f"fold{fold}" / "graph.onnx", threads) for fold in set(folds.values())
        }
        return cls(None, {name: nets[fold] for name, fold in folds.items()})

    def __call__(self, name: str) -> Locate:
        """Return the localiser of an image.

        Raises:
            ConfigError: no fold holds the image out.
        """
        locate = self._by_id.get(name, self._one)
        if locate is None:
            raise ConfigError(f"{name} is in no fold of the run; measure with --graph, or leave it out")
        return locate


def measure(hand: Labelled, locate: Locate) -> Outcome:
    """Locate one labelled hand and compare."""
    radiograph = read(hand.path)
    started, cpu_started = time.perf_counter(), time.process_time()
    found, refusal = try_locate(locate, radiograph)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    if found is None:
        return Outcome(hand, None, 0.0, 0.0, seconds, cpu_seconds, f"refused: {refusal}")
    shared = overlap(found.box_px, hand.box_px)
    failure = None if shared > GOOD else worst_edge(found.box_px, hand.box_px)
    inside = share_inside(hand.points, found.box_px)
    return Outcome(hand, found, shared, inside, seconds, cpu_seconds, failure)


def try_locate(locate: Locate, radiograph: Radiograph) -> tuple[Hand | None, str]:
    """Return the hand, or None and why it was refused."""
    try:
        return locate(radiograph), ""
    except NotAHand as refusal:
        return None, str(refusal)


def worst_edge(found: Box, labelled: Box) -> str:
    """Say which edge of a box is farthest off, and whether it takes in too much or cuts the hand."""
    outward = (np.array(found) - np.array(labelled)) * [-1, -1, 1, 1]
    edge = int(np.abs(outward).argmax())
    return f"{EDGES[edge]} edge {'too far out' if outward[edge] > 0 else 'cuts the hand'}"


def report(outcomes: Sequence[Outcome]) -> str:
    """Return the table of figures, and the failures by reason."""
    overlaps = np.array([outcome.overlap for outcome in outcomes])
    inside = np.array([outcome.inside for outcome in outcomes])
    seconds = np.array([outcome.seconds for outcome in outcomes])
    failures = Counter(outcome.failure for outcome in outcomes if outcome.failure is not None)
    lines = [
        f"hands                        {len(outcomes)}",
        f"refused                      {sum(outcome.found is None for outcome in outcomes)}",
        f"box IoU, mean                {overlaps.mean():.3f}",
        f"box IoU, median              {np.median(overlaps):.3f}",
        f"share with IoU > {GOOD}         {(overlaps > GOOD).mean():.2f}",
        f"share of key points inside   {inside.mean():.3f}",
        f"share with all 21 inside     {(inside == 1).mean():.2f}",
        f"seconds an image, median     {np.median(seconds):.3f}",
        f"CPU seconds an image, median {np.median([outcome.cpu_seconds for outcome in outcomes]):.3f}",
        *(f"  {count} x {reason}" for reason, count in failures.most_common()),
    ]
    return "\n".join(lines)


def montage(outcomes: Sequence[Outcome], columns: int = 10) -> NDArray[np.uint8]:
    """Return a contact sheet (H, W, 3), BGR, worst first: found in green, labelled in orange."""
    tiles = [_tile(outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.overlap)]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def _tile(outcome: Outcome) -> NDArray[np.uint8]:
    pixels = read(outcome.hand.path).pixels
    scale = TILE / max(pixels.shape)
    grey = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = np.clip(grey / max(float(np.percentile(grey, 99.5)), 1e-6), 0, 1)
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    tile[: grey.shape[0], : grey.shape[1]] = (grey * 255).astype(np.uint8)[..., None]
    _rectangle(tile, outcome.hand.box_px, scale, (0, 140, 255))
    if outcome.found is not None:
        _rectangle(tile, outcome.found.box_px, scale, (0, 255, 0))
        cv2.polylines(
            tile, [np.round(outcome.found.outline_px * scale).astype(np.int32)], True, (0, 255, 0), 1
        )
    text = f"{outcome.hand.id} {outcome.overlap:.2f}"
    cv2.putText(tile, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 255), 1)
    return tile


def _rectangle(tile: NDArray[np.uint8], box: Box, scale: float, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = (round(edge * scale) for edge in box)
    cv2.rectangle(tile, (x0, y0), (x1 - 1, y1 - 1), colour, 1)


def write_rows(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a row a hand."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "iou", "keypoints_inside", "seconds", "cpu_seconds", "failure"])
        for outcome in outcomes:
            figures = [
                f"{outcome.overlap:.4f}",
                f"{outcome.inside:.4f}",
                f"{outcome.seconds:.3f}",
                f"{outcome.cpu_seconds:.3f}",
            ]
            writer.writerow([outcome.hand.id, *figures, outcome.failure or ""])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("keypoints", type=Path, help="CSV of labelled hands")
    parser.add_argument("--images", type=Path, required=True, help="manifest that names the images")
    parser.add_argument("--localise", choices=("fast", "dfc"), default="fast")
    parser.add_argument("--bundle", type=Path, help="for fast: a bundle other than the shipped one")
    parser.add_argument("--graph", type=Path, help="for fast: a finder graph, such as RUN/graph.onnx")
    parser.add_argument(
        "--folds", type=Path, help="for fast: a cross-validated run of hand_localisation, held-out hands"
    )
    parser.add_argument("--long-side", type=int, default=128, help="for dfc: working size, px")
    parser.add_argument(
        "--bfloat16", action="store_true", help="for dfc: convolve in bfloat16 (CPUs with AMX)"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="write a CSV row a hand")
    parser.add_argument("--montage", type=Path, help="write a contact sheet, worst first")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    hands = read_labelled(options.keypoints, options.images)
    if options.localise == "dfc":
        import torch

        torch.set_num_threads(options.threads)
        nets = Nets(clustering(options.long_side, options.bfloat16), {})
    elif options.folds:
        nets = Nets.of_run(options.folds, options.threads)
    else:
        nets = Nets(network(options.bundle, options.graph, options.threads), {})
    outcomes = []
    for hand in hands:
        outcomes.append(measure(hand, nets(hand.id)))
        print(
            f"{len(outcomes)}/{len(hands)} {hand.id} IoU {outcomes[-1].overlap:.2f}",
            file=sys.stderr,
            flush=True,
        )
    print(report(outcomes))
    if options.rows:
        write_rows(options.rows, outcomes)
    if options.montage:
        cv2.imwrite(str(options.montage), montage(outcomes))


if __name__ == "__main__":
    main()
