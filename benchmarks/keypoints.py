"""Measure the finder's key points, its epiphyses of radius and ulna, and the side that it names.

    python benchmarks/keypoints.py KEYPOINTS.csv --images MANIFEST.csv --regions BOXES.csv --folds RUN

KEYPOINTS.csv is that of `localise.py`, with a column `hand` (left or right). BOXES.csv has boxes of
`Radius` and `Ulna`: `id`, `region`, `x0`, `y0`, `x1`, `y1`. With `--folds RUN` every hand is shown to
the net of a cross-validated run of hand_localisation that was not tuned to it; without, to one graph.

PCK is the share of key points within 5% of the longer side of the labelled hand box; a refused hand has
none. An epiphysis' error is a share of the found hand box's longer side and of its own labelled box's.
`--turned` repeats both on turned and mirrored copies, `--cut` counts epiphyses named in images that
end above them, `--every` counts hands of the whole manifest whose points lie as a hand's do.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.keypoints import EPIPHYSES, NAMES, epiphyses_in_order, in_anatomical_order
from boneage.core.errors import InputError
from boneage.core.types import Box, Hand, Radiograph, Side
from boneage.data.manifest import read_manifest
from boneage.imaging.geometry import flip, rotate
from boneage.imaging.read import read
from localise import Labelled, Locate, Nets, network, read_labelled, try_locate

NEAR = 0.05
TURNS_DEGREES = (0.0, 30.0, 90.0, 180.0, -60.0)


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """One labelled radiograph shown to the finder: key points (21, 2), hand box size, and what was found."""

    id: str
    points: NDArray[np.float64]
    size: float
    side: Side
    found: Hand | None

    @property
    def errors(self) -> NDArray[np.float64]:
        """Error (21,) of every key point as a share of the box; infinite where the hand was refused."""
        if self.found is None:
            return np.full(len(NAMES), np.inf)
        return np.asarray(np.linalg.norm(points_of(self.found) - self.points, axis=1) / self.size)


def points_of(hand: Hand) -> NDArray[np.float64]:
    """Return a hand's key points (21, 2) in the order of their names."""
    return np.array([hand.keypoints_px[name] for name in NAMES])


def read_sides(path: Path) -> dict[str, Side]:
    """Return id -> side from the column `hand`."""
    with path.open(newline="") as file:
        return {row["id"]: Side(row["hand"]) for row in csv.DictReader(file)}


def read_boxes(path: Path) -> dict[str, dict[str, Box]]:
    """Return id -> bone -> labelled box of radius and ulna."""
    boxes: dict[str, dict[str, Box]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["region"].lower() in EPIPHYSES:
                box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
                boxes.setdefault(row["id"], {})[row["region"].lower()] = box
    return boxes


def look(hand: Labelled, side: Side, locate: Locate) -> Marked:
    """Show a labelled radiograph as it is."""
    found, _ = try_locate(locate, read(hand.path))
    return Marked(hand.id, hand.points, box_size(hand.box_px), side, found)


def look_turned(hand: Labelled, side: Side, locate: Locate, degrees: float, mirrored: bool) -> Marked:
    """Show a turned, perhaps mirrored copy; a mirrored left hand is a right one."""
    pixels, to_copy = rotate(read(hand.path).pixels, degrees)
    if mirrored:
        pixels, mirror = flip(pixels)
        to_copy = to_copy.then(mirror)
        side = Side.RIGHT if side is Side.LEFT else Side.LEFT
    found, _ = try_locate(locate, Radiograph(pixels))
    return Marked(hand.id, to_copy(hand.points), box_size(hand.box_px), side, found)


def box_size(box: Box) -> float:
    """Return a box's longer side."""
    return max(box[2] - box[0], box[3] - box[1])


def describe(marked: Sequence[Marked]) -> str:
    """Return a line of figures."""
    errors = np.array([one.errors for one in marked])
    found = [one for one in marked if one.found is not None]
    right = sum(one.found is not None and one.found.side is one.side for one in marked)
    return (
        f"{len(marked)} images, {len(marked) - len(found)} refused; PCK {(errors < NEAR).mean():.4f}; "
        f"median error {np.median(errors):.4f} of the box; side named rightly {right}/{len(found)}"
    )


def describe_joints(marked: Sequence[Marked]) -> str:
    """Return a line a joint: median error and PCK."""
    errors = np.array([one.errors for one in marked])
    return "\n".join(
        f"  {name:15s} median {np.median(errors[:, index]):.4f}  PCK {(errors[:, index] < NEAR).mean():.3f}"
        for index, name in enumerate(NAMES)
    )


def measure_epiphyses(boxes: Mapping[str, Mapping[str, Box]], found: Mapping[str, Hand | None]) -> str:
    """Return a line a bone: how often it is found, and how far off its centre is."""
    lines = []
    for bone in EPIPHYSES:
        of_hand, of_box = [], []
        marked = [name for name in boxes if bone in boxes[name]]
        for name in marked:
            hand, box = found[name], boxes[name][bone]
            if hand is None or bone not in hand.epiphyses_px:
                continue
            centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
            error = float(np.linalg.norm(np.array(hand.epiphyses_px[bone]) - centre))
            of_hand.append(error / box_size(hand.box_px))
            of_box.append(error / box_size(box))
        lines.append(
            f"{bone}: found {len(of_hand)}/{len(marked)}; centre error, share of the hand box: "
            f"{_spread(of_hand)}; of its own box: {_spread(of_box)}"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"median {np.median(values):.4f} max {max(values):.4f}" if values else "none"


def measure_cut(boxes: Mapping[str, Mapping[str, Box]], paths: Mapping[str, Path], nets: Nets) -> str:
    """Say how many epiphyses are named in images that end where the upper of the two boxes begins."""
    named, refused = 0, 0
    for name, bones in boxes.items():
        radiograph = read(paths[name])
        end = max(1, round(min(box[1] for box in bones.values())))
        hand, _ = try_locate(nets(name), replace(radiograph, pixels=radiograph.pixels[:end].copy()))
        refused += hand is None
        named += len(hand.epiphyses_px) if hand is not None else 0
    total = sum(len(bones) for bones in boxes.values())
    return f"forearm cut off: {named}/{total} epiphyses named; {refused}/{len(boxes)} hands refused"


def measure_every(images: Iterable[Path], locate: Locate) -> str:
    """Say in how many images of a manifest the points lie as a hand's do."""
    total, refused, ordered, both, right = 0, 0, 0, 0, 0
    for path in images:
        total += 1
        try:
            hand = locate(read(path))
        except InputError:
            refused += 1
            continue
        upright = hand.to_upright(points_of(hand))
        epiphyses = {bone: hand.to_upright(np.array(at)) for bone, at in hand.epiphyses_px.items()}
        ordered += in_anatomical_order(upright)
        both += len(epiphyses) == len(EPIPHYSES) and epiphyses_in_order(epiphyses)
        right += hand.side is Side.RIGHT
    return (
        f"{total} images: {refused} refused; key points in anatomical order {ordered} "
        f"({ordered / total:.2%}); both epiphyses named and in order {both} "
        f"({both / total:.2%}); {right} right hands"
    )


def write_rows(path: Path, marked: Sequence[Marked]) -> None:
    """Write a row a labelled point: where it is and where it was found."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "point", "x", "y", "found_x", "found_y", "error"])
        for one in marked:
            where = points_of(one.found) if one.found is not None else np.full((len(NAMES), 2), np.nan)
            for name, point, at, error in zip(NAMES, one.points, where, one.errors, strict=True):
                writer.writerow([one.id, name, *(f"{value:.1f}" for value in (*point, *at)), f"{error:.5f}"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("keypoints", type=Path, help="CSV of labelled hands")
    parser.add_argument("--images", type=Path, required=True, help="manifest that names the images")
    parser.add_argument("--regions", type=Path, help="CSV of boxes of Radius and Ulna")
    parser.add_argument("--folds", type=Path, help="a cross-validated run of hand_localisation")
    parser.add_argument("--graph", type=Path, help="a finder graph other than the shipped one")
    parser.add_argument("--bundle", type=Path, help="a bundle other than the shipped one")
    parser.add_argument("--turned", action="store_true", help="turned and mirrored copies too")
    parser.add_argument("--cut", action="store_true", help="with --regions: images without a forearm too")
    parser.add_argument("--every", action="store_true", help="all images of the manifest; not with --folds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="write a CSV row a labelled key point")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    if options.folds:
        nets = Nets.of_run(options.folds, options.threads)
    else:
        nets = Nets(network(options.bundle, options.graph, options.threads), {})
    paths = {row.id: row.path for row in read_manifest(options.images)}
    if options.every:
        print(measure_every(paths.values(), nets("")))
    hands, sides = read_labelled(options.keypoints, options.images), read_sides(options.keypoints)
    marked = [look(hand, sides[hand.id], nets(hand.id)) for hand in hands]
    print(describe(marked), describe_joints(marked), sep="\n")
    if options.rows:
        write_rows(options.rows, marked)
    for degrees, mirrored in [(turn, side) for turn in TURNS_DEGREES for side in (False, True)]:
        if options.turned:
            copies = [look_turned(hand, sides[hand.id], nets(hand.id), degrees, mirrored) for hand in hands]
            print(f"turned {degrees:.0f} degrees{', mirrored' if mirrored else ''}: {describe(copies)}")
    if options.regions:
        boxes = read_boxes(options.regions)
        found = {name: try_locate(nets(name), read(paths[name]))[0] for name in boxes}
        print(measure_epiphyses(boxes, found))
        if options.cut:
            print(measure_cut(boxes, paths, nets))


if __name__ == "__main__":
    main()
