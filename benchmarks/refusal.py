"""Measure what is refused: whole real hands wrongly, altered and foreign pictures rightly.

    python benchmarks/refusal.py MANIFEST.csv --unlabelled DIR --foreign DIR --rows refused.csv

The hand model is fitted five times, each time without a fifth of the manifest's hands, and judges only
those; pictures without a fold (unlabelled, foreign, drawn) are judged by the model of all hands. Alterations
are made of hands that no limit was chosen on: the manifest's ids are shuffled, the first `DEVELOPMENT` of
them are left out. `--foreign` takes a folder with a folder a kind. `--finder` takes another finder's graph.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from boneage.anatomy.closeup import CloseUp, look
from boneage.anatomy.completeness import HandModel, off_film
from boneage.core.errors import InputError
from boneage.core.types import FloatArray, Radiograph, Sex
from boneage.data.manifest import Row, read_manifest
from boneage.data.splits import stratified_folds
from boneage.data.synthetic import draw_cut_off_hand, draw_foot, draw_hand, draw_two_hands
from boneage.imaging.geometry import resize
from boneage.imaging.quality import inspect
from boneage.imaging.read import read, read_bytes
from boneage.inference.assess import Finder
from boneage.inference.bundle import Bundle
from boneage.inference.runners import open_graph
from boneage.metrics.subgroups import AGE_EDGES_MONTHS, band_name
from boneage.recipes.hand_localisation import normality
from refusal_cases import COMPLETE, INCOMPLETE, NO_RADIUS, Alteration, Source

DEVELOPMENT = 60
SEED = 7
SIDE = 640
DRAWINGS = 30


@dataclass(frozen=True)
class Verdict:
    """What became of one picture: `reason` is empty where it was accepted."""

    group: str
    kind: str
    id: str
    code: str = ""
    reason: str = ""


class Judge:
    """Sees pictures with one finder."""

    def __init__(self, graph: Path) -> None:
        self.find = Finder(graph)
        self.run = open_graph(graph, "onnxruntime", 1)

    def see(self, radiograph: Radiograph) -> tuple[CloseUp, tuple[str, ...]]:
        """Return the close-up of a hand, and which forearm bones are not on the film."""
        inspect(radiograph)
        hand = self.find(radiograph)
        closeup = look(radiograph, hand, self.run)
        return closeup, off_film(radiograph, hand, closeup)

    def judge(self, radiograph: Radiograph, model: HandModel, *named: str) -> Verdict:
        """Return what becomes of a picture; an accepted one has the bones that are not on it."""
        try:
            closeup, absent = self.see(radiograph)
            model.refuse(closeup)
        except InputError as refusal:
            return Verdict(*named, code=refusal.code, reason=str(refusal))
        return Verdict(*named, code=" ".join(absent))


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95% Wilson interval of a share."""
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def real(judge: Judge, rows: Sequence[Row]) -> tuple[list[Verdict], dict[str, HandModel], HandModel]:
    """Judge every real hand by the model that was fitted without its fold."""
    seen, verdicts = {}, []
    for row in rows:
        try:
            seen[row.id] = judge.see(read(row.path))[0]
        except InputError as refusal:
            verdicts.append(Verdict("real", "whole hands", row.id, refusal.code, str(refusal)))
    folds = stratified_folds(rows)
    models = {}
    for fold in np.unique(folds):
        others = [
            seen[row.id] for row, its in zip(rows, folds, strict=True) if its != fold and row.id in seen
        ]
        model = normality.fit(others)
        for row in (row for row, its in zip(rows, folds, strict=True) if its == fold):
            models[row.id] = model
            if row.id in seen:
                verdicts.append(_refused(model, seen[row.id], row.id))
    return verdicts, models, normality.fit([*seen.values()])


def _refused(model: HandModel, closeup: CloseUp, name: str) -> Verdict:
    try:
        model.refuse(closeup)
    except InputError as refusal:
        return Verdict("real", "whole hands", name, refusal.code, str(refusal))
    return Verdict("real", "whole hands", name)


def altered(
    judge: Judge, rows: Sequence[Row], models: Mapping[str, HandModel], hands: int
) -> Iterator[Verdict]:
    """Judge alterations of hands, each by the model fitted without that hand."""
    ordered = sorted(rows, key=lambda row: row.id)
    order = np.random.default_rng(SEED).permutation(len(ordered))[DEVELOPMENT : DEVELOPMENT + hands]
    chosen = [ordered[index] for index in order]
    groups: dict[str, Mapping[str, Alteration]] = {
        "incomplete": INCOMPLETE,
        "complete": COMPLETE,
        "no radius": NO_RADIUS,
    }
    for row, other in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        pixels = _small(read(row.path).pixels)
        try:
            hand = judge.find(Radiograph(pixels))
        except InputError as refusal:
            print(f"{row.id}: not altered, the hand is not found ({refusal.code})", file=sys.stderr)
            continue
        beside = _small(read(other.path).pixels)
        for group, kinds in groups.items():
            for kind, alter in kinds.items():
                rng = np.random.default_rng(zlib.crc32(f"{kind} {row.id}".encode()))
                picture = alter(Source(pixels, hand, beside, rng))
                if picture is not None:
                    yield judge.judge(_as_file(picture), models[row.id], group, kind, row.id)


def drawn(judge: Judge, model: HandModel) -> Iterator[Verdict]:
    """Judge drawings: whole hands, and what is none."""
    for number in range(DRAWINGS):
        age, sex = 40.0 + 5 * number, list(Sex)[number % 2]
        pictures = {
            ("complete", "drawn hand"): draw_hand(age, sex, number),
            ("incomplete", "drawn foot"): draw_foot(age, sex, number),
            ("incomplete", "drawn two hands"): draw_two_hands(age, sex, number),
            ("incomplete", "drawn hand, cut off"): draw_cut_off_hand(age, sex, number, 0.1 + 0.01 * number),
        }
        for (group, kind), picture in pictures.items():
            yield judge.judge(_as_file(picture.pixels), model, group, kind, str(number))


def files(judge: Judge, model: HandModel, folder: Path, group: str) -> Iterator[Verdict]:
    """Judge the files of a folder and its folders."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        kind = path.parent.name if path.parent != folder else group
        try:
            radiograph = read(path)
        except InputError as refusal:
            yield Verdict(group, kind, path.stem, refusal.code, str(refusal))
            continue
        yield judge.judge(radiograph, model, group, kind, path.stem)


def _small(pixels: FloatArray) -> FloatArray:
    height, width = pixels.shape
    scale = min(1.0, SIDE / max(height, width))
    return resize(pixels, (round(height * scale), round(width * scale)))[0]


def _as_file(pixels: FloatArray) -> Radiograph:
    """Return pixels as the product would read them from an 8-bit PNG."""
    levels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return read_bytes(cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(), "case.png")


def table(verdicts: Sequence[Verdict], rows: Sequence[Row]) -> str:
    """Return the figures: a line a kind, sums of the groups, real hands by sex and age, then the refusals."""
    kinds: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        kinds[verdict.group, verdict.kind].append(verdict)
        kinds[verdict.group, "ALL"].append(verdict)
    known = {row.id: row for row in rows}
    for verdict in kinds["real", "ALL"]:
        row = known[verdict.id]
        kinds["real", str(row.sex)].append(verdict)
        for low, high in pairwise(AGE_EDGES_MONTHS):
            if row.bone_age_months is not None and low <= row.bone_age_months < high:
                kinds["real", band_name((low, high))].append(verdict)
    lines = ["| group | kind | n | refused | share | 95% interval | codes |", "|---|---|---|---|---|---|---|"]
    for (group, kind), found in sorted(kinds.items()):
        count = sum(bool(verdict.reason) for verdict in found)
        low_share, high_share = wilson(count, len(found))
        codes = Counter(verdict.code for verdict in found if verdict.code).most_common(3)
        lines.append(
            f"| {group} | {kind} | {len(found)} | {count} | {count / len(found):.1%} | "
            f"{low_share:.1%} to {high_share:.1%} | {', '.join(f'{n} {code}' for code, n in codes)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="manifest of whole hands")
    parser.add_argument("--unlabelled", type=Path, help="folder of further real hands")
    parser.add_argument("--foreign", type=Path, help="folder of pictures that show no hand, a folder a kind")
    parser.add_argument(
        "--finder", type=Path, help="the finder's graph; the shipped bundle's where not given"
    )
    parser.add_argument("--hands", type=int, default=80, help="hands to alter")
    parser.add_argument("--rows", type=Path, help="write a CSV row a picture")
    parser.add_argument("--model", type=Path, help="write the model of all hands")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    judge = Judge(options.finder or Bundle.load().graph("hand_finder"))
    rows = read_manifest(options.manifest)
    verdicts, models, model = real(judge, rows)
    if options.model:
        model.save(options.model)
    print(f"limits {model.limits}", file=sys.stderr, flush=True)
    verdicts += drawn(judge, model)
    for folder, group in ((options.unlabelled, "unlabelled"), (options.foreign, "foreign")):
        if folder:
            verdicts += files(judge, model, folder, group)
    verdicts += altered(judge, rows, models, options.hands)
    print(table(verdicts, rows))
    if options.rows:
        with options.rows.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["group", "kind", "id", "code", "reason"])
            writer.writerows([v.group, v.kind, v.id, v.code, v.reason] for v in verdicts)


if __name__ == "__main__":
    main()
