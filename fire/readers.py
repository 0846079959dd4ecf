"""Every reader of the product that strangers' bytes reach, as one function of bytes each.

A reader answers with a word: `answered`, or the code of the deliberate error that it raised. A wrong answer
raises `Wrong`; anything else that comes out of it is a finding.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import numpy as np

import formats
import garbage
import mutate
import seeds
from boneage.core.errors import BoneAgeError
from boneage.core.types import Radiograph, Sex

ANSWERED = "answered"
MAX_MIB = 64
"""Of a DICOM object, as the node is told here."""

FAR_MONTHS = 24.0
"""A damaged file of a hand may get an age so far from that of the whole file; beyond it, it is wrong."""

Read = Callable[[bytes], str]


class Wrong(Exception):
    """A reader answered with what cannot be right."""


@dataclass(frozen=True)
class FuzzedReader:
    """A reader with what it is tried with.

    Args:
        name: of the table's row.
        share: inputs of every 10,000.
        seeds: whole files.
        read: the reader; it returns `ANSWERED`, or raises.
        kinds: damage to the format's own fields, beside that to any bytes.
        make: makes an input from chance alone, in place of damage to seeds.
    """

    name: str
    share: int
    seeds: Callable[[], Sequence[bytes]]
    read: Read
    kinds: tuple[mutate.Mutation, ...] = ()
    make: Callable[[Random], bytes] | None = field(default=None, repr=False)

    def input(self, chance: Random) -> bytes:
        """Return a damaged file."""
        return self.make(chance) if self.make else mutate.damaged(chance, self.seeds(), self.kinds)

    def outcome(self, data: bytes) -> str:
        """Return `ANSWERED`, or the code of the deliberate error.

        Raises:
            MemoryError: the deliberate error hides that memory ran out.
            Exception: whatever else the reader lets out.
        """
        try:
            return self.read(data)
        except BoneAgeError as error:
            _uncover(error)
            if not str(error).strip():
                raise Wrong(f"{type(error).__name__} without a message") from error
            return error.code


_NO_MEMORY = ("Insufficient memory", "bad_alloc")
"""What OpenCV and the networks' runtimes say."""


def _uncover(error: BaseException | None) -> None:
    """Raise what a deliberate error hides where memory ran out beneath it."""
    while error is not None:
        if isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY):
            raise MemoryError(str(error))
        error = error.__cause__


def expect(condition: bool, text: str) -> None:
    """Refuse an answer.

    Raises:
        Wrong: the condition does not hold.
    """
    if not condition:
        raise Wrong(text)


@cache
def _folder() -> Path:
    """Return a folder of this process' own; it goes with the process."""
    holder = tempfile.TemporaryDirectory(prefix="boneage-fuzz-")
    _KEPT.callback(holder.cleanup)
    return Path(holder.name)


_KEPT = ExitStack()
"""What lives as long as the process: folders, and the service."""


def close() -> None:
    """Let go of folders and of the service."""
    _KEPT.close()
    _folder.cache_clear()
    _service.cache_clear()


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


# --- images -------------------------------------------------------------------------------------------------


def image(data: bytes) -> str:
    """Read an image file of any kind; check that its pixels are what a radiograph's must be."""
    from boneage.imaging.quality import inspect
    from boneage.imaging.read import read_bytes

    radiograph = read_bytes(data, "input")
    _check_pixels(radiograph)
    inspect(radiograph)
    return ANSWERED


def _check_pixels(radiograph: Radiograph) -> None:
    pixels = radiograph.pixels
    expect(pixels.ndim == 2 and pixels.dtype == np.float32, f"pixels {pixels.shape} {pixels.dtype}")
    if np.isfinite(pixels).all():  # `inspect` refuses what is not
        expect(bool(pixels.min() >= 0 and pixels.max() <= 1), "pixels beyond [0, 1]")
    spacing, age = radiograph.spacing_mm, radiograph.chronological_age_months
    expect(spacing is None or all(0 < one < math.inf for one in spacing), f"spacing {spacing}")
    expect(age is None or 0 <= age <= 1440, f"age {age}")


def dicom_node(data: bytes) -> str:
    """Judge a DICOM file as the node does before it takes it in."""
    from boneage.dicomnode.objects import inspect_file

    inspect_file(data, MAX_MIB << 20)
    return ANSWERED


def dicom_results(data: bytes) -> str:
    """Read a DICOM file and make its structured report and its secondary capture."""
    import boneage_fakes

    from boneage.imaging.read import read_bytes
    from boneage.reporting.forms import Form, Source, read_header, render

    radiograph = read_bytes(data)
    source = Source(radiograph, read_header(data))
    made = render(Form.REPORT, boneage_fakes.graded_assessment(), source)
    expect(made[128:132] == b"DICM", "no DICOM file")
    render(Form.FHIR, boneage_fakes.graded_assessment(), source)
    return ANSWERED


# --- tables, bundles, what is kept --------------------------------------------------------------------------


def manifest(data: bytes) -> str:
    """Read a manifest in CSV."""
    return _rows("manifest.csv", data)


def parquet(data: bytes) -> str:
    """Read a manifest in Parquet."""
    return _rows("manifest.parquet", data)


def _rows(name: str, data: bytes) -> str:
    from boneage.data.manifest import read_manifest

    rows = read_manifest(_file(name, data))
    expect(len({row.id for row in rows}) == len(rows) > 0, "ids are there twice")
    for row in rows:
        for months in (row.bone_age_months, row.chronological_age_months):
            expect(months is None or 0 <= months <= 300, f"{months} months")
    return ANSWERED


def bundle(data: bytes) -> str:
    """Load a bundle with this manifest, and ask it for all that it names."""
    from boneage.inference.bundle import Bundle
    from boneage.inference.site import correct_at_site, site_of

    folder = _folder() / "bundle"
    if not folder.exists():
        folder.mkdir()
        for whole in seeds.bundle():
            for name in json.loads(whole)["checksums"]:
                (folder / name).touch()
    (folder / "manifest.json").write_bytes(data)
    loaded = Bundle.load(folder)
    expect(bool(loaded.name), "a bundle without a name")
    site = site_of(loaded.manifest)
    ages = [] if site is None else [correct_at_site(120.0, sex, site) for sex in Sex]
    expect(all(map(math.isfinite, ages)), f"corrected to {ages} months")
    paths = [loaded.graph(role) for role in loaded.manifest["graphs"]]
    paths += [loaded.file(role) for role in loaded.manifest.get("files", {})]
    for path in paths:
        expect(path.resolve().is_relative_to(folder.resolve()), "a file beyond the bundle's folder")
    return ANSWERED


def arrays(data: bytes) -> str:
    """Read an archive of arrays as each part of a bundle that is one; every part must refuse or take it."""
    import cluster_fakes
    import radius_fakes

    from boneage.anatomy.completeness import HandModel
    from boneage.inference.radius_subgrading import read_means
    from boneage.recipes.radius_subgrades.subgrades import Subgrader
    from boneage.recipes.region_clusters.model import RegionClusters

    path = _file("arrays.npz", data)
    subgrades = radius_fakes.subgrader(radius_fakes.pair_model((6, 7), 0.5)).settings()
    clusters = cluster_fakes.settings_of(cluster_fakes.clusters())
    parts: tuple[Callable[[], object], ...] = (
        lambda: HandModel.load(path),
        lambda: read_means(path),
        lambda: Subgrader.load(path, subgrades),
        lambda: RegionClusters.load(path, clusters),
    )
    found = set()
    for part in parts:
        try:
            part()
            found.add(ANSWERED)
        except BoneAgeError as error:
            _uncover(error)
            found.add(error.code)
    return ANSWERED if ANSWERED in found else min(found)


def plates(data: bytes) -> str:
    """Load an atlas with this record."""
    from boneage.inference.atlas import SHIPPED, Atlas

    folder = _folder() / "atlas"
    if not folder.exists():
        shutil.copytree(SHIPPED, folder)
    (folder / "atlas.json").write_bytes(data)
    loaded = Atlas.load(folder)
    for plate in loaded.plates:
        expect(math.isfinite(plate.age_months) and plate.image.ndim == 2, "a plate without an age")
    return ANSWERED


def kept(data: bytes) -> str:
    """Read an assessment back as the service does, and show it."""
    from boneage.core.types import Assessment
    from boneage.reporting import stored

    expect(isinstance(stored.loads(data.decode("utf-8", "replace")), Assessment), "no assessment")
    return ANSWERED


def journal(data: bytes) -> str:
    """Open a batch's journal to go on with it, and read every row."""
    from boneage.batch.journal import Journal

    with Journal(_file("out.csv.journal", data)) as opened:
        for key in [*opened.offsets]:
            opened.row(key)
    return ANSWERED


# --- score sheets and settings ------------------------------------------------------------------------------


def score_sheet(data: bytes) -> str:
    """Score grades as `boneage score` takes them: standard, sex, BONE=GRADE ..., a line each."""
    from boneage.cli.score import parse_grades
    from boneage.standards import scoring

    name, sex, *grades = [*data.decode("utf-8", "replace").split("\n"), ""][:40]
    chosen = scoring.standard(name)
    sheet = scoring.score(chosen, Sex.parse(sex), parse_grades(chosen, [text for text in grades if text]))
    most = math.fsum(bone.maximum for bone in sheet.bones)
    expect(0 <= sheet.total <= most + 1e-6, f"total {sheet.total} of {most}")
    expect(0 <= sheet.age_months <= 300, f"{sheet.age_months} months")
    return ANSWERED


def node_settings(data: bytes) -> str:
    """Read and judge a PACS node's configuration."""
    from boneage.dicomnode.checks import check
    from boneage.dicomnode.settings import read_settings

    check(read_settings(_file("node.toml", data)))
    return ANSWERED


def service_settings(data: bytes) -> str:
    """Read the service's configuration, and all that follows from it."""
    from boneage.service.settings import ServiceSettings
    from boneage.training.config import read_config

    settings = read_config(_file("service.toml", data), ServiceSettings)
    expect(
        settings.threads_each >= 1 and bool(settings.name) and settings.loopback in (True, False), "settings"
    )
    return ANSWERED


# --- HTTP ---------------------------------------------------------------------------------------------------


def http(data: bytes) -> str:
    """Send a request to the service; every answer is the contract's, and none is a fault of the server."""
    record = json.loads(data)
    client, job = _service()
    method = str(record["method"])
    if method == "DELETE":  # the job that other requests ask for stays
        job = _ended_job(client)
    path = quote(str(record["path"]).replace("JOB", job), safe="/?&=%:+,;@!$'()*~-._")
    body = str(record["body"]).encode("latin-1", "replace")
    headers = {
        quote(str(name), safe="-_")[:200] or "x": str(value)
        .encode("latin-1", "replace")
        .translate(None, b"\r\n\0")
        for name, value in record["headers"].items()
    }
    answer = client.request(
        method if method.isascii() and method.isalpha() else "GET",
        "/" + path.lstrip("/"),
        content=body,
        headers=headers,
    )
    return _judged(answer)


def _judged(answer: Any) -> str:
    status = answer.status_code
    expect(status < 500 or status == 503, f"status {status}: {answer.text[:200]}")
    if status >= 400 and answer.request.method != "HEAD":
        said = answer.json()
        expect(bool(said["code"]) and bool(said["message"]), f"status {status} without its code and message")
    expect("Traceback" not in answer.text[:10_000], "a traceback in an answer")
    return ANSWERED if status < 400 else f"http {status}"


@cache
def _service() -> tuple[Any, str]:
    """Return a client of a service whose workers are stand-ins, and the id of a job that is done."""
    import service_fakes

    client = _KEPT.enter_context(service_fakes.client_of(_folder() / "service", queue=100_000))
    service_fakes.until_ready(client)
    return client, _ended_job(client)


def _ended_job(client: Any) -> str:
    import service_fakes

    return str(service_fakes.ended(client)["id"])


def damaged_request(chance: Random) -> bytes:
    """Return a request with damage to its body, path, headers or method."""
    record = json.loads(chance.choice(seeds.requests()))
    body = record["body"].encode("latin-1")
    kinds = (
        mutate.ANY_BYTES if b"--" in body[:2] else (mutate.json_tree, mutate.text_words, *mutate.ANY_BYTES)
    )
    what = chance.randrange(8)
    if what < 4 and body:
        body = mutate.damaged(chance, [body], kinds)
    elif what < 6:
        path = mutate.damaged(chance, [record["path"].encode()], mutate.TEXT)
        record["path"] = path.decode("utf-8", "replace")
    elif what == 6 and record["headers"]:
        name = chance.choice(sorted(record["headers"]))
        record["headers"][name] = chance.choice(mutate.NASTY_WORDS)
    else:
        record["method"] = chance.choice(
            ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE")
        )
    return json.dumps({**record, "body": body.decode("latin-1")}).encode()


# --- the whole assessment -----------------------------------------------------------------------------------


@cache
def assessor() -> Any:
    """Return the assessor of the shipped bundle, on one thread."""
    from boneage.inference.assess import Assessor
    from boneage.inference.bundle import Bundle

    return Assessor(Bundle.load(), threads=1)


@cache
def _whole() -> dict[int, tuple[bytes, Sex, float]]:
    """Return the files of hands whose damage is assessed, with the age that each has when it is whole."""
    found = {}
    kinds = (lambda one: seeds.encoded(".png", one), lambda one: seeds.encoded(".jpg", one), seeds.dicom_file)
    for (pixels, sex), kind in zip(seeds.whole_hands(), kinds, strict=True):
        data = kind(pixels)
        age = _age(data, sex)
        if age is not None:
            found[len(found)] = data, sex, age
    return found


def _age(data: bytes, sex: Sex) -> float | None:
    from boneage.imaging.read import read_bytes

    try:
        return float(assessor().assess(read_bytes(data), sex=sex).bone_age_months)
    except BoneAgeError as error:
        _uncover(error)
        return None


def damaged_hand(chance: Random) -> bytes:
    """Return a damaged file of a whole hand; its first byte names the hand, so that it can be judged."""
    hands = _whole()
    number = chance.choice(sorted(hands))
    data = hands[number][0]
    kind = {b"\x89PNG": formats.png_chunks, b"\xff\xd8\xff\xe0": mutate.flip_bits}.get(
        data[:4], formats.dicom_elements
    )
    return bytes([number]) + mutate.damaged(chance, [data], (kind,))


def assessed_damage(data: bytes) -> str:
    """Assess a damaged file of a hand: it is refused, or gets about the age of the whole file."""
    from boneage.imaging.read import read_bytes

    _, sex, whole = _whole()[data[0]]
    age = float(assessor().assess(read_bytes(data[1:]), sex=sex).bone_age_months)
    expect(abs(age - whole) <= FAR_MONTHS, f"{age:.1f} months, {whole:.1f} when it was whole")
    return ANSWERED


def foreign_picture(chance: Random) -> bytes:
    """Return a picture of no hand, its kind in front."""
    kind, data = garbage.picture(chance)
    return kind.encode() + b"\0" + data


def assessed_garbage(data: bytes) -> str:
    """Assess a picture of no hand, which must be refused."""
    from boneage.imaging.read import read_bytes

    kind, picture = data.split(b"\0", 1)
    age = assessor().assess(read_bytes(picture), sex=Sex.FEMALE).bone_age_months
    raise Wrong(f"{kind.decode()}: {age:.1f} months")


def _atlas_record() -> tuple[bytes, ...]:
    from boneage.inference.atlas import SHIPPED

    return ((SHIPPED / "atlas.json").read_bytes(),)


def _nothing() -> tuple[bytes, ...]:
    return ()


READERS: tuple[FuzzedReader, ...] = (
    FuzzedReader("PNG", 1000, seeds.png, image, (formats.png_chunks,)),
    FuzzedReader("JPEG", 900, seeds.jpeg, image, (formats.jpeg_segments,)),
    FuzzedReader("TIFF", 900, seeds.tiff, image, (formats.tiff_entries,)),
    FuzzedReader("WebP", 600, seeds.webp, image, (formats.riff_chunks,)),
    FuzzedReader("DICOM", 1700, seeds.dicom, image, formats.DICOM),
    FuzzedReader("DICOM node", 700, seeds.dicom, dicom_node, formats.DICOM),
    FuzzedReader("DICOM results", 300, seeds.dicom, dicom_results, formats.DICOM),
    FuzzedReader("manifest CSV", 600, seeds.manifest, manifest, mutate.TEXT),
    FuzzedReader("manifest Parquet", 300, seeds.parquet, parquet),
    FuzzedReader("bundle manifest", 500, seeds.bundle, bundle, (mutate.json_tree,)),
    FuzzedReader("bundle arrays", 300, seeds.npz, arrays, (formats.npz_arrays,)),
    FuzzedReader("atlas", 150, _atlas_record, plates, (mutate.json_tree,)),
    FuzzedReader("kept assessment", 400, seeds.kept, kept, (mutate.json_tree,)),
    FuzzedReader("batch journal", 200, seeds.journal, journal, mutate.TEXT),
    FuzzedReader("score sheet", 300, seeds.grades, score_sheet, mutate.TEXT),
    FuzzedReader("node.toml", 250, seeds.node, node_settings, mutate.TEXT),
    FuzzedReader("service.toml", 150, seeds.service, service_settings, mutate.TEXT),
    FuzzedReader("HTTP", 400, _nothing, http, (), damaged_request),
    FuzzedReader("damaged hand, assessed", 150, _nothing, assessed_damage, (), damaged_hand),
    FuzzedReader("no hand, assessed", 200, _nothing, assessed_garbage, (), foreign_picture),
)
"""All of them; their shares add up to 10,000."""

BY_NAME = {reader.name: reader for reader in READERS}
