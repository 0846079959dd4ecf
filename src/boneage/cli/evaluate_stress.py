"""`boneage evaluate --stress`: how far the ages of changed images move, and which of them are refused."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from zlib import crc32

from boneage.cli.console import Interrupted, make_folder, note, rich_console, warn, write_file
from boneage.core.errors import ConfigError
from boneage.core.processes import Died, Raised, SteadyWorker, TimedOut
from boneage.core.types import Sex

if TYPE_CHECKING:
    from boneage.batch.work import Reader
    from boneage.data.manifest import Row
    from boneage.inference.stress import Answer
    from boneage.reporting.stress_card import StressCard

TIMEOUT_S = 900.0
"""What one image may take in all its cells."""

_JOURNAL = "stress.journal"
_SETTINGS = "settings"

Record = dict[str, list[object]]


@dataclass(frozen=True, slots=True)
class Draw:
    """Which images are changed, and how: a larger limit adds images to those of a smaller one.

    Args:
        limit: most images; None takes all.
        seed: of the choice and of the changes.
        workers: processes; None takes one a processor.
    """

    limit: int | None = None
    seed: int = 0
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One image to read in every cell."""

    path: Path
    sex: Sex
    seed: int


@dataclass(frozen=True, slots=True)
class Start:
    """Makes a worker's function: an assessor, and one thread for every library it uses."""

    reader: Reader

    def __call__(self) -> Callable[[Task], Record]:
        """Load what a worker needs, once."""
        import cv2

        from boneage.inference.stress import answers, record

        cv2.setNumThreads(1)
        assessor = self.reader.load()

        def work(task: Task) -> Record:
            return record(answers(assessor, task.path, task.sex, task.seed))

        return work


def evaluate_stress(
    bundle: Path, rows: Sequence[Row], out: Path, draw: Draw, runtime: str, trained: set[str]
) -> None:
    """Read the images in every cell, write the card and print it.

    Args:
        bundle: the bundle's folder.
        rows: the images, as `drawn`.
        out: the card's folder.
        draw: how they were drawn, and the processes.
        runtime: what runs the graphs.
        trained: ids of the images that the bundle was trained on.
    """
    from boneage.batch.work import BundleReader
    from boneage.inference.bundle import Bundle

    make_folder(out)
    name = Bundle.load(bundle).name
    found = read_all(rows, BundleReader(bundle.absolute(), runtime=runtime), out, draw)
    card = make_card(found, rows, f"Stress card of {name}", training_remarks(set(found), trained))
    write_card(card, out)
    write_images(found, out)
    print_card(card)
    for remark in card.remarks:
        warn(remark)


def training_remarks(images: set[str], trained: set[str]) -> tuple[str, ...]:
    """Return what must be said where the bundle was trained on some of the images."""
    known = len(images & trained)
    if not known:
        return ()
    return (
        f"The bundle was trained on {known} of these {len(images)} images (by id), so that their MAE itself "
        "flatters it. What counts is the change of the MAE and the move of the age; as an image learnt by "
        "heart has more to lose, they are rather too large than too small.",
    )


def drawn(rows: Sequence[Row], draw: Draw) -> list[Row]:
    """Return the images to change, in the order in which the seed draws them.

    Raises:
        ConfigError: no image has both a sex and a reference age.
    """
    import numpy as np

    known = sorted(
        (row for row in rows if row.sex is not None and row.bone_age_months is not None), key=lambda r: r.id
    )
    if not known:
        raise ConfigError(
            "the manifest has no image with sex and bone_age_months: --stress compares ages with these"
        )
    order = np.random.default_rng(draw.seed).permutation(len(known))
    return [known[place] for place in order[: draw.limit]]


def read_all(rows: Sequence[Row], reader: Reader, out: Path, draw: Draw) -> dict[str, dict[str, Answer]]:
    """Return image -> cell -> answer, and keep each image's answers as they come: a later call goes on.

    Images whose worker died or hung are left out, and said so.

    Raises:
        ConfigError: `out` holds answers of another bundle, seed or list of changes.
        Interrupted: Ctrl-C; what is done is kept.
    """
    from boneage.batch.journal import Journal
    from boneage.inference.stress import from_record

    with Journal(out / _JOURNAL) as journal:
        _same_settings(journal, reader, draw)
        waiting = [row for row in rows if _key(row) not in journal.offsets]
        try:
            for row, kept in _progress(_read(waiting, reader, draw), len(rows), len(rows) - len(waiting)):
                journal.append(_key(row), kept)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: what is done of {out} is kept; the same command goes on"
            ) from None
        done = [row for row in rows if _key(row) in journal.offsets]
        return {row.id: from_record(journal.row(_key(row))) for row in done}


def own_seed(name: str, seed: int) -> int:
    """Return an image's own seed, so that corners and sides of the changes differ from image to image."""
    return crc32(f"{seed}:{name}".encode())


def _key(row: Row) -> str:
    return f"image:{row.id}"


def _same_settings(journal: Any, reader: Reader, draw: Draw) -> None:
    from boneage.inference.stress import cells

    settings = {"reader": reader.fingerprint(), "seed": draw.seed, "cells": list(cells())}
    if _SETTINGS not in journal.offsets:
        journal.append(_SETTINGS, settings)
    elif journal.row(_SETTINGS) != settings:
        raise ConfigError(
            f"{journal.path} holds answers of another bundle, seed or list of changes: name another --out"
        )


def _read(rows: Sequence[Row], reader: Reader, draw: Draw) -> Iterator[tuple[Row, Record]]:
    """Yield each image with its answers, as they come from the worker processes."""
    from boneage.batch.pool import one_thread_each

    idle: SimpleQueue[SteadyWorker[Task, Record]] = SimpleQueue()
    with ExitStack() as stack:
        count = max(1, min(draw.workers or os.cpu_count() or 1, len(rows)))
        for _ in range(count if rows else 0):
            worker: SteadyWorker[Task, Record] = SteadyWorker(Start(reader), TIMEOUT_S)
            stack.callback(worker.stop)
            with one_thread_each():
                worker.prepare()
            idle.put(worker)

        def ask(row: Row) -> Record | Died | Raised | TimedOut:
            worker = idle.get()
            try:
                return worker(Task(row.path, row.sex or Sex.FEMALE, own_seed(row.id, draw.seed)))
            finally:
                idle.put(worker)

        threads = stack.enter_context(ThreadPoolExecutor(count))
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        futures = {threads.submit(ask, row): row for row in rows}
        for future in as_completed(futures):
            row, answer = futures[future], future.result()
            if isinstance(answer, Died | Raised | TimedOut):
                note(f"{row.id}: left out, its worker ended without an answer ({answer})")
            else:
                yield row, answer


def _progress(found: Iterator[tuple[Row, Record]], total: int, done: int) -> Iterator[tuple[Row, Record]]:
    from boneage.cli.batch import lines

    advance = lines(note)
    advance(done, total)
    for done_now, item in enumerate(found, start=done + 1):
        yield item
        advance(done_now, total)


def write_images(found: Mapping[str, Mapping[str, Answer]], out: Path) -> None:
    """Write every answer, a line an image and cell, for questions that the card does not ask."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "cell", "status", "code", "bone_age_months", "warnings"))
    for name, each in found.items():
        for cell, answer in each.items():
            age = "" if answer.age_months is None else f"{answer.age_months:.4f}"
            writer.writerow((name, cell, answer.status, answer.code, age, " ".join(answer.warnings)))
    write_file(out / "stress_images.csv", text.getvalue())


def write_card(card: StressCard, out: Path) -> None:
    """Write a card as table, JSON and plot."""
    from boneage.reporting import stress_card

    write_file(out / "stress.json", json.dumps(stress_card.record(card), indent=2, allow_nan=False) + "\n")
    write_file(out / "stress.csv", stress_card.csv_text(card))
    write_file(out / "stress.md", stress_card.markdown(card))
    write_file(out / "stress.png", stress_card.stress_png(card))


def print_card(card: StressCard) -> None:
    """Print the table."""
    from rich.table import Table

    from boneage.reporting.stress_card import HEAD, table_rows

    table = Table(title=card.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="left" if number < 2 else "right")
    for row in table_rows(card):
        table.add_row(*row)
    rich_console().print(table, markup=False)


def make_card(
    found: Mapping[str, Mapping[str, Answer]], rows: Sequence[Row], title: str, remarks: Sequence[str]
) -> StressCard:
    """Return the card of some answers."""
    from boneage.inference.stress import UNCHANGED, effects, new_warnings
    from boneage.reporting.stress_card import StressCard

    truth = {row.id: float(row.bone_age_months or 0.0) for row in rows}
    refused = sum(each[UNCHANGED].status != "ok" for each in found.values())
    return StressCard(title, len(found), refused, effects(found, truth), new_warnings(found), tuple(remarks))
