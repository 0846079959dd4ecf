"""Measure where regions are placed, by key points and by detectors, against boxes that people drew.

    python benchmarks/regions.py BOXES.csv --images MANIFEST.csv --detector light=RUN --detector vgg16=RUN

BOXES.csv has `id, region, x0, y0, x1, y1` in pixels of the image that MANIFEST.csv names for that id, regions
DIP, PIP, MCP, Wrist, Radius, Ulna. The key-point route is measured on all hands twice: with the offsets of
`anatomy/regions.py`, which are means over those very hands, and with offsets fitted anew on all hands but the
one measured. Each detector is measured on the hands that its run held out, beside the key-point route (of the
second kind) on the same hands. Every drawn box is compared with the nearest found one of its class; `named`
counts the graded bones that `assess` could use. A hand not found counts as one without boxes. With `--finder`
a cross-validated run of hand_localisation shows every hand to the net that was not tuned to it.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.detections import (
    CLASS_OF_KEY_REGION,
    CLASSES,
    Detection,
    KeypointRegions,
    RegionDetector,
    class_boxes,
)
from boneage.anatomy.regions import BONES, KEY_REGIONS, RegionSpec, place
from boneage.core.errors import ConfigError, NotAHand
from boneage.core.types import Hand, Radiograph
from boneage.data.manifest import read_manifest
from boneage.data.splits import read_folds
from boneage.imaging.read import read
from boneage.inference.assess import Finder
from boneage.inference.bundle import Bundle
from boneage.metrics.detection import average_precision, mean_average_precision, overlaps
from boneage.recipes.region_detection.labels import Boxes, read_boxes

DRAWN = tuple(label for label in CLASSES if label != "CMC")

Boxed = Mapping[str, Sequence[Detection]]


@dataclass(frozen=True, slots=True)
class Figures:
    """One class' figures on some hands.

    Args:
        count: drawn boxes.
        ap50: average precision at an overlap of 0.5.
        ap: the same over 0.50, 0.55, ... 0.95.
        iou: mean overlap of a drawn box with the nearest found one (0 where none).
        found: share of drawn boxes overlapped by at least 0.5.
        centre: mean distance of those centres, as a share of the drawn box's diagonal.
    """

    count: int
    ap50: float
    ap: float
    iou: float
    found: float
    centre: float


def rows_of(boxes: Sequence[Detection], label: str) -> NDArray[np.float64]:
    """Return the boxes of a class as (N, 5): x0, y0, x1, y1, confidence."""
    rows = [(*each.box_px, each.confidence) for each in boxes if each.label == label]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def class_figures(found: Boxed, drawn: Boxed, label: str) -> Figures:
    """Compare the boxes of a class on the hands of `drawn`."""
    pairs = [(rows_of(found.get(name, ()), label), rows_of(boxes, label)) for name, boxes in drawn.items()]
    got, wanted = [pair[0] for pair in pairs], [pair[1][:, :4] for pair in pairs]
    shared, distances = [], []
    for each, boxes in zip(got, wanted, strict=True):
        for box in boxes:
            if not len(each):
                shared.append(0.0)
                continue
            gaps = np.hypot(*((each[:, :2] + each[:, 2:4] - box[:2] - box[2:]) / 2).T)
            nearest = int(gaps.argmin())
            distances.append(gaps[nearest] / np.hypot(*(box[2:] - box[:2])))
            shared.append(overlaps(each[nearest : nearest + 1, :4], box[None])[0, 0])
    return Figures(
        len(shared),
        average_precision(got, wanted),
        mean_average_precision(got, wanted),
        float(np.mean(shared)),
        float(np.mean(np.array(shared) >= 0.5)),
        float(np.mean(distances)) if distances else float("nan"),
    )


def table(title: str, found: Boxed, drawn: Boxed) -> str:
    """Return a Markdown table of the classes' figures, and their mean."""
    figures = {label: class_figures(found, drawn, label) for label in DRAWN}
    lines = [
        f"\n{title} ({len(drawn)} hands)\n",
        "| class | boxes | AP@0.5 | AP@0.5:0.95 | mean IoU | IoU >= 0.5 | centre error / diagonal |",
        "|---|---|---|---|---|---|---|",
        *(_line(label, each.count, each) for label, each in figures.items()),
    ]
    every = list(figures.values())
    mean = Figures(
        sum(each.count for each in every),
        *(
            float(np.nanmean([getattr(each, name) for each in every]))
            for name in ("ap50", "ap", "iou", "found", "centre")
        ),
    )
    return "\n".join([*lines, _line("mean of classes", mean.count, mean)])


def _line(name: str, count: int, each: Figures) -> str:
    values = (each.ap50, each.ap, each.iou, each.found, each.centre)
    return f"| {name} | {count} | " + " | ".join(f"{value:.3f}" for value in values) + " |"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A drawn box in its key region's own terms: along and across the axis, and its size (hand units)."""

    along: float
    across: float
    width: float
    height: float


def in_own_terms(hand: Hand, spec: RegionSpec, box: tuple[float, ...], shape: tuple[int, int]) -> Fitted:
    """Express a drawn box as `RegionSpec` would place it."""
    there = replace(spec, view_along=0.0, view_side=1.0, rest_degrees=0.0)
    placed = place(hand, there, "", shape)
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    # The view of side 1, unturned by rest_degrees 0, has the axis pointing up.
    x, y = placed.to_view(centre) - 0.5
    along, across = spec.offsets[_anchor(hand, spec)]
    unit = float(np.sqrt(abs(np.linalg.det(hand.to_upright.matrix[:, :2]))))
    return Fitted(along - y, across + x, (box[2] - box[0]) * unit, (box[3] - box[1]) * unit)


def _anchor(hand: Hand, spec: RegionSpec) -> int:
    points = {*hand.keypoints_px, *hand.epiphyses_px}
    return next(index for index, name in enumerate(spec.anchors) if name in points)


def matched(hand: Hand, boxes: Sequence[Detection], shape: tuple[int, int]) -> dict[str, Fitted]:
    """Return key region -> the nearest drawn box of its class, in its own terms."""
    found = {}
    for name, label in CLASS_OF_KEY_REGION.items():
        rows = rows_of(boxes, label)
        if not len(rows):
            continue
        x0, y0, x1, y1 = place(hand, KEY_REGIONS[name], name, shape).box_px
        gaps = np.hypot(rows[:, 0] + rows[:, 2] - x0 - x1, rows[:, 1] + rows[:, 3] - y0 - y1)
        found[name] = in_own_terms(hand, KEY_REGIONS[name], tuple(rows[gaps.argmin(), :4]), shape)
    return found


def refitted(name: str, anchor: int, others: Sequence[Fitted]) -> RegionSpec:
    """Return a key region with offset and size as means over other hands; joints stay on their axis."""
    spec = KEY_REGIONS[name]
    along, across, width, height = np.mean(
        [(each.along, each.across, each.width, each.height) for each in others], axis=0
    )
    offsets = list(spec.offsets)
    offsets[anchor] = (float(along), 0.0 if spec.towards else float(across))
    return replace(spec, offsets=tuple(offsets), size=(float(width), float(height)))


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """A radiograph with its hand, None where none was found."""

    radiograph: Radiograph
    hand: Hand | None


def leave_one_out(located: Mapping[str, Located], drawn: Boxes) -> Boxes:
    """Return every hand's boxes by key points, with offsets fitted on all the others."""
    terms = {
        name: matched(each.hand, drawn[name], each.radiograph.shape)
        for name, each in located.items()
        if each.hand is not None
    }
    boxes: Boxes = {}
    for name, mine in terms.items():
        hand, shape = located[name].hand, located[name].radiograph.shape
        if hand is None:
            continue
        boxes[name] = []
        for region in mine:
            others = [terms[other][region] for other in terms if other != name and region in terms[other]]
            spec = refitted(region, _anchor(hand, KEY_REGIONS[region]), others)
            box = place(hand, spec, region, shape).box_px
            boxes[name].append(Detection(CLASS_OF_KEY_REGION[region], box, hand.confidence))
    return boxes


def spread(located: Mapping[str, Located], drawn: Boxes) -> str:
    """Return a Markdown table: where drawn boxes lie from their key point, mean and SD over hands."""
    hands = [
        matched(each.hand, drawn[name], each.radiograph.shape)
        for name, each in located.items()
        if each.hand is not None
    ]
    lines = [
        "\nDrawn boxes from their key points, hand units: mean (SD)\n",
        "| key region | class | hands | along | across | width | height |",
        "|---|---|---|---|---|---|---|",
    ]
    for region in CLASS_OF_KEY_REGION:
        terms = [each[region] for each in hands if region in each]
        if not terms:
            continue
        values = np.array([(each.along, each.across, each.width, each.height) for each in terms])
        cells = [f"{mean:.3f} ({sd:.3f})" for mean, sd in zip(values.mean(0), values.std(0), strict=True)]
        lines.append(f"| {region} | {CLASS_OF_KEY_REGION[region]} | {len(terms)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def timed(detector: RegionDetector, radiographs: Sequence[Radiograph]) -> tuple[float, float, int, int]:
    """Return an image's median wall and CPU seconds, and of how many bones how many were named."""
    wall, processor, named = [], [], 0
    for radiograph in radiographs:
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            found = detector(radiograph)
        except NotAHand:
            found = ()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - cpu_started)
        named += len(found)
    return float(np.median(wall)), float(np.median(processor)), named, len(BONES) * len(radiographs)


def held_out(run: Path) -> tuple[str, ...]:
    """Return the ids that a detector's run held out.

    Raises:
        ConfigError: the run has no `split.csv`.
    """
    path = run / "split.csv"
    if not path.is_file():
        raise ConfigError(f"{path} is missing: give a finished run of region_detection")
    with path.open(newline="") as file:
        return tuple(line["id"] for line in csv.DictReader(file) if line["part"] == "held_out")


def finders(run: Path | None, threads: int) -> tuple[Finder, Mapping[str, Finder]]:
    """Return a finder, and for ids that a cross-validated run held out of a fold the net of that fold."""
    if run is None:
        return Finder(Bundle.load().graph("hand_finder"), threads=threads), {}
    folds = read_folds(path) if (path := run / "keypoint_folds.csv").is_file() else {}
    nets = {fold: Finder(run / f"fold{fold}" / "graph.onnx", threads=threads) for fold in set(folds.values())}
    return Finder(run / "graph.onnx", threads=threads), {name: nets[fold] for name, fold in folds.items()}


def locate_all(drawn: Boxes, images: Path, find: Finder, of_fold: Mapping[str, Finder]) -> dict[str, Located]:
    """Read and locate every hand with drawn boxes."""
    paths = {row.id: row.path for row in read_manifest(images)}
    unknown = sorted(set(drawn) - set(paths))
    if unknown:
        raise ConfigError(f"{len(unknown)} ids, such as {unknown[0]}, are not in {images}; give its manifest")
    located = {}
    for name in drawn:
        radiograph = read(paths[name])
        try:
            located[name] = Located(radiograph, of_fold.get(name, find)(radiograph))
        except NotAHand:
            located[name] = Located(radiograph, None)
    return located


def unseen(runs: Sequence[Path], images: Path, count: int, seed: int = 0) -> list[Radiograph]:
    """Read some radiographs of which no run has seen a box."""
    seen: set[str] = set()
    for run in runs:
        with (run / "split.csv").open(newline="") as file:
            seen |= {line["id"] for line in csv.DictReader(file)}
    rows = [row for row in read_manifest(images) if row.id not in seen]
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [read(rows[index].path) for index in order]


def naming(routes: Mapping[str, RegionDetector], radiographs: Sequence[Radiograph]) -> str:
    """Return a Markdown table: how many bones each route names on radiographs as they come and turned."""
    lines = [
        f"\nBones named on {len(radiographs)} radiographs that no detector learnt from\n",
        "| route | turned by | bones named | hands with all |",
        "|---|---|---|---|",
    ]
    for quarters in (0, 1, 2):
        turned = [
            replace(each, pixels=np.ascontiguousarray(np.rot90(each.pixels, quarters)))
            for each in radiographs
        ]
        for name, detector in routes.items():
            counts = [_count(detector, each) for each in turned]
            whole = sum(count == len(BONES) for count in counts)
            lines.append(
                f"| {name} | {90 * quarters}° | {sum(counts)} of {len(BONES) * len(counts)} | "
                f"{whole} of {len(counts)} |"
            )
    return "\n".join(lines)


def _count(detector: RegionDetector, radiograph: Radiograph) -> int:
    try:
        return len(detector(radiograph))
    except NotAHand:
        return 0


def report_detector(
    name: str, run: Path, drawn: Boxes, located: Mapping[str, Located], by_points: Boxes
) -> RegionDetector:
    """Print a detector's table beside the key points' on its held-out hands; return it for timing."""
    from boneage.recipes.region_detection.fit import BoxDetector

    detector = BoxDetector.load(run)
    part = {identity: drawn[identity] for identity in held_out(run)}
    found = {identity: detector.look(located[identity].radiograph) for identity in part}
    print(table(f"Detector {name}, hands held out", found, part))
    print(table("Key points, offsets fitted on all other hands, the same hands", by_points, part))
    return detector


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("boxes", type=Path, help="CSV of drawn boxes")
    parser.add_argument("--images", type=Path, required=True, help="manifest that names the images")
    parser.add_argument("--finder", type=Path, help="a run of hand_localisation; else the shipped one")
    parser.add_argument(
        "--detector", action="append", default=[], metavar="NAME=RUN", help="a run of region_detection"
    )
    parser.add_argument(
        "--others", type=int, default=0, help="count the bones named on so many other images of the manifest"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    find, of_fold = finders(options.finder, options.threads)
    drawn = read_boxes(options.boxes)
    located = locate_all(drawn, options.images, find, of_fold)
    print(spread(located, drawn))
    as_shipped = {
        name: list(class_boxes(each.hand, each.radiograph.shape))
        for name, each in located.items()
        if each.hand is not None
    }
    by_points = leave_one_out(located, drawn)
    print(table("Key points, offsets of anatomy/regions.py", as_shipped, drawn))
    print(table("Key points, offsets fitted on all other hands", by_points, drawn))
    routes: dict[str, tuple[RegionDetector, Sequence[str]]] = {
        "key points": (KeypointRegions(find), tuple(drawn))
    }
    if options.detector:
        import torch

        torch.set_num_threads(options.threads)
    for text in options.detector:
        name, _, run = text.partition("=")
        if not run:
            raise ConfigError(f"--detector takes NAME=RUN, not {text!r}")
        detector = report_detector(name, Path(run), drawn, located, by_points)
        routes[name] = detector, held_out(Path(run))
    print("\n| route | hands | seconds an image | CPU seconds | bones named |\n|---|---|---|---|---|")
    for name, (detector, ids) in routes.items():
        wall, processor, named, bones = timed(detector, [located[each].radiograph for each in ids])
        print(f"| {name} | {len(ids)} | {wall:.3f} | {processor:.3f} | {named} of {bones} |")
    if options.others:
        runs = [Path(text.partition("=")[2]) for text in options.detector]
        others = unseen(runs, options.images, options.others)
        print(naming({name: route for name, (route, _) in routes.items()}, others))


if __name__ == "__main__":
    main()
