"""Full and read-only disks: run by `chaos.py` where small file systems may be mounted; prints a line a case.

A case names a command and where its output goes; afterwards its error must be one clear line, and nothing
half-written may lie there. A line: name, what came of it, faults, parted by tabs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from seeds import encoded, whole_hands

FULL_KIB = 24
"""Room on the full disk: less than any report or table needs beside what lies there."""


def main() -> int:
    """Try every case; return 2 where no file system may be mounted."""
    with tempfile.TemporaryDirectory(prefix="boneage-disk-") as name:
        folder = Path(name)
        image = folder / "hand.png"
        image.write_bytes(encoded(".png", whole_hands()[1][0], cv2.IMWRITE_PNG_COMPRESSION, 1))
        (folder / "manifest.csv").write_text(
            "path,sex\n" + "".join(f"../{folder.name}/hand.png,female\n" for _ in "a")
        )
        for kind, options in (
            ("full disk", f"size={FULL_KIB}k,nr_inodes=40"),
            ("read-only output", "size=1m"),
        ):
            with mounted(folder / "disk", options, read_only=kind.startswith("read")) as disk:
                if disk is None:
                    return 2
                for title, words, written in cases(folder, disk):
                    told, faults = tried(words, written, disk)
                    print(
                        "\t".join([f"{kind}: {title}", told, *(f"{kind}, {title}: {one}" for one in faults)])
                    )
    return 0


def cases(folder: Path, disk: Path) -> Iterator[tuple[str, list[str], Path]]:
    """Yield a name, the command's words, and the file or folder that it writes."""
    for form in ("html", "pdf", "fhir.json"):
        out = disk / f"report.{form}"
        yield (
            f"assess --report .{form}",
            ["assess", f"{folder}/hand.png", "--sex", "F", "--report", str(out)],
            out,
        )
    table = ["batch", f"{folder}/manifest.csv", "--within", str(folder), "--workers", "1"]
    for name in ("out.csv", "out.parquet", "shards/"):
        yield f"batch --out {name}", [*table, "--out", f"{disk}/{name}"], disk / name
    yield (
        "serve --data",
        ["serve", "--data", f"{disk}/data", "--port", "0"],
        disk / "data" / "boneage.sqlite-journal",
    )


@contextmanager
def mounted(folder: Path, options: str, *, read_only: bool) -> Iterator[Path | None]:
    """Yield a small file system, filled up or read-only; None where it may not be mounted."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, capture_output=True)
        else:
            fill(folder / "filler")
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    except OSError:
        return


def tried(words: list[str], written: Path, disk: Path) -> tuple[str, list[str]]:
    """Run a command; return what it said, and its faults."""
    before = snapshot(disk)
    run = subprocess.run(
        [sys.executable, "-c", "from boneage.cli.main import main; main()", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    faults = []
    if run.returncode == 0:
        faults.append("it ended as if it had been written")
    if "Traceback" in run.stderr or len(errors) != 1:
        faults.append(f"no clear error: {run.stderr.strip().splitlines()[-1:]}")
    if written.is_file():
        faults.append(f"half-written: {written.name}, {written.stat().st_size} bytes")
    # A begun batch may keep its journal, from which it goes on; nothing else may stay.
    kept = ("journal", ".journal", "run.json", "lock", "data")
    left = [name for name in snapshot(disk) - before if not any(word in name for word in kept)]
    faults += [f"left over: {name}" for name in left]
    said = errors[0].removeprefix("error: ").replace(str(disk), "DISK") if errors else "no error"
    return said.replace("\t", " ").replace("|", "/")[:150], faults


def snapshot(disk: Path) -> set[str]:
    """Return the names of all files there."""
    return {str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
