"""Full and read-only disks: run by `chaos.py` where small file systems may be mounted; prints a line a case.

A command that cannot write must end with one clear line, and nothing half-written may lie there. A program
that runs as its disk fills must refuse what comes, keep what it accepted, and go on when there is room
again. A line: name, what came of it, faults, parted by tabs.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
from pydicom import dcmread
from pynetdicom import AE

from boneage.dicomnode.receiver import OUT_OF_RESOURCES, Receiver
from boneage.dicomnode.settings import NodeSettings, Receive
from boneage.dicomnode.spool import Spool
from seeds import dicom_file, encoded, small_hand, whole_hands

FULL_KIB = 24
"""Room on the full disk: less than any report or table needs beside what lies there."""

ROOMY = "size=4m,nr_inodes=200"
"""A disk that has room, until it is filled."""

FILLER = "filler"


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
                if disk.stat().st_dev == folder.stat().st_dev:
                    raise RuntimeError("the small file system is not there")
                for title, words, written in cases(folder, disk, kind):
                    say(f"{kind}: {title}", *tried(words, written, disk))
        for title, part in (
            ("serve takes a job", lambda disk: served(disk, folder)),
            ("dicom takes an image", received),
        ):
            with mounted(folder / "disk", ROOMY, read_only=False) as disk:
                if disk is None:
                    return 2
                (disk / FILLER).unlink()
                say(f"disk that fills: {title}", *part(disk))
    return 0


def say(name: str, told: str, faults: list[str]) -> None:
    """Print a case's line."""
    print("\t".join([name, told, *(f"{name}: {one}" for one in faults)]), flush=True)


def cases(folder: Path, disk: Path, kind: str) -> Iterator[tuple[str, list[str], Path]]:
    """Yield a name, the command's words, and the file or folder that it writes."""
    from service_fakes import free_port

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
    if kind != "full disk":  # on a full one the node runs, and refuses what comes
        options = ["--send", "pacs=PACS@127.0.0.1:104", "--port", str(free_port())]
        yield "dicom --spool", ["dicom", "--spool", f"{disk}/spool", *options], disk / "spool"


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
            fill(folder / FILLER)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def fill(path: Path, left: int = 0) -> None:
    """Write until nothing more fits, then take some bytes back."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    except OSError:
        os.truncate(path, path.stat().st_size - left)


def use_up_files(folder: Path) -> None:
    """Make files until the disk takes no more, though it has room."""
    folder.mkdir()
    try:
        for number in itertools.count():
            (folder / str(number)).touch()
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
    elif "disk" not in errors[0]:  # the file system's name has it too
        faults.append(f"an error of something else: {errors[0]}")
    if written.is_file():
        faults.append(f"half-written: {written.name}, {written.stat().st_size} bytes")
    # A begun batch may keep its journal, from which it goes on; nothing else may stay.
    kept = ("journal", ".journal", "run.json", "lock", "data")
    left = [name for name in snapshot(disk) - before if not any(word in name for word in kept)]
    faults += [f"left over: {name}" for name in left]
    said = errors[0].removeprefix("error: ").replace(str(disk), "DISK") if errors else "no error"
    return said.replace("\t", " ").replace("|", "/")[:150], faults


def served(disk: Path, folder: Path) -> tuple[str, list[str]]:
    """Fill the disk beneath a service with a job in hand; return what it answers, and faults."""
    from service_fakes import JOBS, Served, picture, send, until_ended

    # By default it refuses long before its disk is full; here there is room for the image, and for no more.
    settings = {"workers": 1, "min_free_mib": 0, "data": str(disk / "data")}
    with Served(folder / "service", settings=settings) as server:
        names = [send(server.client, picture("slow", 3, mark="before")).json()["id"]]
        image = picture("slow", 0.1, mark="during")
        fill(disk / FILLER, left=len(image) + 4096)
        refused = send(server.client, image, key="during")
        time.sleep(5)  # the job in hand ends meanwhile, and its end cannot be kept yet
        (disk / FILLER).unlink()
        again = send(server.client, image, key="during")
        names += [again.json()["id"]] if again.is_success else []
        ended = until_ended(server.client, names, 300)
        there = sorted(job["id"] for job in server.client.get(JOBS).json()["jobs"])
    faults = [f"{name} ended as {job['state']}" for name, job in ended.items() if job["state"] != "done"]
    if refused.status_code not in (503, 507) or not again.is_success:
        faults.append(f"it answered {refused.status_code} on a full disk, {again.status_code} afterwards")
    if there != sorted(names):
        faults.append(f"{len(there)} jobs are there, {len(names)} were accepted")
    return f"{refused.status_code} ({refused.json()['message']}); with room again, both jobs are done", faults


def received(disk: Path) -> tuple[str, list[str]]:
    """Fill the disk beneath a node's spool; return what it answers to images, and faults."""
    from service_fakes import free_port

    port = free_port()
    spool = Spool(disk / "spool")
    spool.open()
    receiver = Receiver(NodeSettings(receive=Receive(port=port, min_free_mb=0)), spool, lambda: None)
    receiver.start()

    def sent(name: str) -> int:
        image = dcmread(
            io.BytesIO(dicom_file(small_hand(), SOPInstanceUID=f"1.2.826.0.1.3680043.8.498.{name}"))
        )
        entity = AE()
        entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", port, ae_title="BONEAGE")
        status = int(association.send_c_store(image).Status)
        association.release()
        return status

    answers = [sent("11")]
    use_up_files(disk / "many")  # it looks for room before it writes, and finds some
    answers.append(sent("12"))
    left = [path.name for path in spool.receiving.iterdir()]
    shutil.rmtree(disk / "many")
    answers.append(sent("12"))
    receiver.stop(0.0)
    spool.close()
    faults = [f"half-written: {name}" for name in left]
    if answers != [0, OUT_OF_RESOURCES, 0]:
        faults.append(f"it answered {[f'{status:#06x}' for status in answers]}")
    if (count := len([*spool.incoming.iterdir()])) != answers.count(0):
        faults.append(f"{count} images are there, {answers.count(0)} were taken")
    return f"{answers[1]:#06x} (out of resources); with room again, the image is taken", faults


def snapshot(disk: Path) -> set[str]:
    """Return the names of all files there."""
    return {str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
