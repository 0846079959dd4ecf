"""A reader for batches whose images do to their worker what their names say; every reading is logged."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boneage_fakes

from boneage.core.errors import ChecksumMismatch
from boneage.core.types import Assessment, Radiograph


@dataclass(frozen=True)
class PoisonReader:
    """A batch's reader.

    Args:
        log: a file to which the name of every image is appended as its reading begins.
        tag: its fingerprint; `tampered` and `stillborn` say how its loading fails; of `weak` ones the
            second and third.
    """

    log: Path
    tag: str = "fake"

    def load(self) -> PoisonAssessor:
        """Return an assessor, or fail as the tag asks for."""
        if self.tag == "tampered":
            raise ChecksumMismatch("expected another checksum of net.onnx: install the bundle again")
        if self.tag == "stillborn":
            os._exit(7)
        if self.tag == "weak":
            with self.log.with_suffix(".starts").open("a+") as file:
                file.write("start\n")
                file.seek(0)
                if 2 <= len(file.readlines()) <= 3:
                    file.flush()
                    os._exit(7)
        return PoisonAssessor(self.log)

    def fingerprint(self) -> str:
        """Return the tag."""
        return self.tag

    def ages(self) -> tuple[str, ...]:
        """Return every age that the stand-in gives."""
        return ("age_intervals", "chn", "hand_regression", "rus_chn", "tw3")

    def description(self) -> dict[str, str]:
        """Return what a run records."""
        return {"bundle": f"{self.tag} 0"}


class PoisonAssessor(boneage_fakes.Assessor):
    """Answers by the image's name, as the stand-in does; some names kill, some never end."""

    def __init__(self, log: Path) -> None:
        super().__init__(boneage_fakes.Bundle())
        self.log = log

    def assess(self, source: str | Path | Radiograph, **options: Any) -> Assessment:
        """Return an assessment, or do what the name says."""
        path = Path(source.path if isinstance(source, Radiograph) else source)
        with self.log.open("a") as file:
            file.write(f"{path.name}\n")
        if "segfault" in path.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "endless" in path.name:
            time.sleep(3600)
        if "unlucky" in path.name and self.log.read_text().count(path.name) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().assess(source, **options)
