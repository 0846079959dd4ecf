"""Stand-ins for a service's workers: what a picture says after its last pixel is what happens to it.

In a module of their own, as every worker process loads it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boneage_fakes
import cv2
import numpy as np

from boneage.core.errors import NotAHand, SexRequired
from boneage.core.types import Sex
from boneage.reporting import stored
from boneage.reporting.tabular import Failure
from boneage.service.work import Assess, Assessed, Picture, Render, View

LARGE = 16 << 20
"""Bytes of the viewer's picture where `large` is wished."""

_WISH = re.compile(rb"wish=([a-z]+)([0-9.]*);(.*?);", re.DOTALL)


def picture(wish: str = "age", number: float | None = None, mark: str = "") -> bytes:
    """Return a whole PNG file of 400 x 300 with a wish behind its end.

    Wishes: age (the bone age in months), slow (seconds it takes), kill (the worker dies), once (it dies the
    first time), hang, foot (no hand), bug (an unforeseen error). `mark` makes the file one of its own.
    """
    pixels = np.zeros((400, 300), np.uint8)
    cv2.ellipse(pixels, (150, 210), (90, 160), 0, 0, 360, 190, -1)
    said = f"wish={wish}{'' if number is None else f'{number:g}'};{mark};"
    return cv2.imencode(".png", pixels)[1].tobytes() + said.encode()


@dataclass(frozen=True)
class FakeAssess:
    """Stands in for `work.AssessImages`, with the same arguments; notes each task beside the bundle."""

    bundle: str = ""
    runtime: str = ""
    threads: int = 1
    neighbours: bool = False

    def __call__(self) -> Callable[[Assess], Assessed | Failure]:
        """Return what does a task."""
        notes = os.environ.get("BONEAGE_FAKE_NOTES", "")

        def work(task: Assess) -> Assessed | Failure:
            wish, number, mark = wish_of(task.content)
            first = note(Path(notes), f"{mark or wish}") if notes else True
            return granted(wish, number, first, task)

        return work


def wish_of(content: bytes) -> tuple[str, float, str]:
    """Return the wish, its number and the mark of a picture."""
    found = _WISH.search(content)
    if found is None:
        return "age", 124.25, ""
    wish, number, mark = (part.decode() for part in found.groups())
    return wish, float(number or 124.25), mark


def note(path: Path, text: str) -> bool:
    """Append a line to a file; return whether it is the first of its kind."""
    first = not path.exists() or text not in path.read_text().splitlines()
    with path.open("a") as file:
        file.write(f"{text}\n")
    return first


def granted(wish: str, number: float, first: bool, task: Assess) -> Assessed | Failure:
    """Do what a picture wishes."""
    if wish == "kill" or (wish == "once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "hang":
        time.sleep(600)
    if wish == "slow":
        time.sleep(number)
    if wish == "bug":
        raise ValueError("a text that names Lovelace^Ada")
    if wish == "foot":
        return Failure.of("", NotAHand("expected one hand, found none: send a radiograph of one hand"))
    said = task.patient.get("sex")
    if said is None:
        return Failure.of("", SexRequired("the sex is needed: give female or male"))
    age = number if wish == "age" else 124.25
    months = task.patient.get("age_months")
    made = boneage_fakes.graded_assessment("", Sex.parse(said), (), months, bone_age_months=age)
    summary = {
        "sex": said,
        "bone_age_months": age,
        "chronological_age_months": months,
        "sd_score": None if months is None else 0.5,
    }
    return Assessed(stored.dumps(made), summary)


@dataclass(frozen=True)
class FakeReports:
    """Stands in for `work.MakeReports`; a report says which form it is, and whose job."""

    def __call__(self) -> Callable[[Render | View], bytes | Picture | Failure]:
        """Return what does a task."""

        def work(task: Render | View) -> bytes | Picture | Failure:
            wish, number, mark = wish_of(task.content)
            if isinstance(task, View) and wish == "large":
                return Picture(bytes(LARGE), LARGE // 2, 1, 1.0, (10, 60000))
            if isinstance(task, View):
                return Picture(b"\1\2" * 6, 3, 2, 1.5, (10, 60000))
            if wish == "report" and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if wish == "report" and number == 2:
                time.sleep(600)
            while wish == "gate" and not Path(mark).exists():
                time.sleep(0.02)
            return f"{task.form} {task.release} {task.job} {dict(task.grades)}".encode()

        return work
