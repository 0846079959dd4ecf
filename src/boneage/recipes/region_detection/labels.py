"""Labels of the detector: boxes that people drew, boxes that key points give, and who sees which."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boneage.anatomy.detections import CLASSES, Detection, class_boxes
from boneage.core.errors import ConfigError, InputError
from boneage.core.types import Hand, Radiograph
from boneage.data.manifest import Row, read_table, write_text_atomically
from boneage.imaging.read import read
from boneage.recipes.region_detection.config import LabelConfig

logger = logging.getLogger(__name__)

LABEL_COLUMNS = ("id", "region", "x0", "y0", "x1", "y1")
DETECTION_COLUMNS = (*LABEL_COLUMNS, "confidence")

Boxes = dict[str, list[Detection]]
"""Image id -> its boxes."""


@dataclass(frozen=True)
class Split:
    """Ids of the hands with drawn boxes that training sees or not, and of those with derived boxes."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]
    derived: tuple[str, ...]


def read_boxes(path: Path) -> Boxes:
    """Read a CSV of boxes: id, region, x0, y0, x1, y1 and, of detections, confidence (else 1).

    Raises:
        ConfigError: the file is missing or lacks a column, or a line has an unknown region or no box.
    """
    boxes: Boxes = {}
    for line, record in read_table(path):
        missing = [name for name in LABEL_COLUMNS if name not in record]
        if missing:
            raise ConfigError(
                f"{path}:1: expected the columns {', '.join(LABEL_COLUMNS)}; add {missing[0]!r}"
            )
        if record["region"] not in CLASSES:
            known = ", ".join(CLASSES)
            raise ConfigError(f"{path}:{line}: unknown region {record['region']!r}; known: {known}")
        try:
            x0, y0, x1, y1 = (float(record[name]) for name in ("x0", "y0", "x1", "y1"))
            confidence = float(record.get("confidence") or 1.0)
        except ValueError:
            raise ConfigError(f"{path}:{line}: a box is four numbers x0, y0, x1, y1; correct it") from None
        if not (x0 < x1 and y0 < y1):
            raise ConfigError(
                f"{path}:{line}: a box needs x0 < x1 and y0 < y1, not {(x0, y0, x1, y1)}; correct the line"
            )
        boxes.setdefault(record["id"], []).append(Detection(record["region"], (x0, y0, x1, y1), confidence))
    return boxes


def write_boxes(path: Path, boxes: Mapping[str, Sequence[Detection]]) -> None:
    """Write boxes, or detections, as `read_boxes` reads them.

    Raises:
        DeliveryError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(DETECTION_COLUMNS)
    for identity, found in boxes.items():
        for each in found:
            edges = (f"{edge:.1f}" for edge in each.box_px)
            writer.writerow([identity, each.label, *edges, f"{each.confidence:.4f}"])
    write_text_atomically(path, text.getvalue())


def split_ids(rows: Sequence[Row], drawn: Boxes, config: LabelConfig, seed: int) -> Split:
    """Split the images of a manifest by who learns from which.

    Raises:
        ConfigError: a hand with drawn boxes is not in the manifest.
    """
    rng = np.random.default_rng(seed)
    unknown = sorted(set(drawn) - {row.id for row in rows})
    if unknown:
        raise ConfigError(
            f"{len(unknown)} ids of labels.boxes, such as {unknown[0]}, are not in the manifest; "
            "give its manifest"
        )
    hands = [str(identity) for identity in rng.permutation(sorted(drawn))]
    count = round(config.held_out * len(hands))
    parts = hands[:count], hands[count:]
    held_out, training = parts[::-1] if config.swap else parts
    others = sorted(row.id for row in rows if row.id not in drawn)
    chosen = rng.permutation(others)[: config.derived]
    return Split(tuple(training), tuple(held_out), tuple(str(identity) for identity in chosen))


def write_split(path: Path, split: Split) -> None:
    """Write a split as a CSV with the columns id and part.

    Raises:
        DeliveryError: the file cannot be written.
    """
    parts = {"training": split.training, "held_out": split.held_out, "derived": split.derived}
    lines = [f"{identity},{part}\n" for part, ids in parts.items() for identity in ids]
    write_text_atomically(path, "id,part\n" + "".join(lines))


def training_boxes(
    rows: Mapping[str, Row],
    split: Split,
    drawn: Boxes,
    locate: Callable[[Radiograph], Hand],
    min_confidence: float,
) -> Boxes:
    """Return the boxes that training sees: derived ones, and drawn ones with a derived base of the thumb."""
    boxes: Boxes = {}
    for identity in (*split.training, *split.derived):
        derived = _derived(rows[identity], locate, min_confidence)
        if identity in drawn:
            kinds = {each.label for each in drawn[identity]}
            boxes[identity] = drawn[identity] + [each for each in derived if each.label not in kinds]
        elif derived:
            boxes[identity] = derived
    return boxes


def _derived(row: Row, locate: Callable[[Radiograph], Hand], min_confidence: float) -> list[Detection]:
    try:
        radiograph = read(row.path)
        hand = locate(radiograph)
    except InputError as error:
        logger.warning("no boxes for %s: %s", row.path.name, error)
        return []
    return list(class_boxes(hand, radiograph.shape)) if hand.confidence >= min_confidence else []
