"""Whole files to damage: drawn hands, plates of the shipped atlas, and what the product itself writes."""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from datetime import date
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from boneage.core.types import Sex
from boneage.data.film import View
from boneage.data.synthetic import draw_hand
from boneage.inference import atlas

ROOT = Path(__file__).resolve().parents[1]
FAKES = ROOT / "tests" / "fakes"
if str(FAKES) not in sys.path:
    sys.path.insert(0, str(FAKES))

Pixels = NDArray[Any]
SMALL = (160, 120)
"""Sides of the hands that readers are tried with; what is slow is not the damage but the size."""


@cache
def small_hand() -> Pixels:
    """Return a small drawn hand, (H, W) uint8."""
    return _levels(draw_hand(120, Sex.FEMALE, 1, View(shape=SMALL)).pixels)


@cache
def whole_hands() -> tuple[tuple[Pixels, Sex], ...]:
    """Return drawn hands that are assessed, (H, W) uint8, with their sex."""
    chosen = ((72.0, Sex.MALE), (108.0, Sex.FEMALE), (156.0, Sex.MALE))
    return tuple((_levels(draw_hand(age, sex, seed).pixels), sex) for seed, (age, sex) in enumerate(chosen))


@cache
def plates() -> tuple[Pixels, ...]:
    """Return three plates of the shipped atlas, (H, W) uint8."""
    found = atlas.Atlas.load().plates
    return tuple(np.asarray(found[at].image) for at in (0, len(found) // 2, len(found) - 1))


def _levels(pixels: Any) -> Pixels:
    return np.round(np.asarray(pixels) * 255).astype(np.uint8) if pixels.dtype != np.uint8 else pixels


def encoded(ending: str, pixels: Pixels, *options: int) -> bytes:
    """Return pixels as a file of OpenCV's."""
    _, data = cv2.imencode(ending, pixels, options)
    return data.tobytes()


def _with_pillow(pixels: Pixels, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def _tints(hand: Pixels) -> Pixels:
    return np.dstack([hand, hand, np.clip(hand.astype(int) + 12, 0, 255).astype(np.uint8)])


@cache
def png() -> tuple[bytes, ...]:
    """Return PNG files: 8 and 16 bit, colour, alpha, palette, interlaced."""
    hand = small_hand()
    palette = io.BytesIO()
    Image.fromarray(hand).convert("P").save(palette, "PNG")
    alpha = np.dstack([hand, hand, hand, np.full_like(hand, 200)])
    deep = hand.astype(np.uint16) * 257
    grey = [encoded(".png", one) for one in (hand, deep, _tints(hand), alpha)]
    return (*grey, palette.getvalue(), *(encoded(".png", plate) for plate in plates()[:1]))


@cache
def jpeg() -> tuple[bytes, ...]:
    """Return JPEG files: grey, colour, progressive, with restart marks."""
    hand = small_hand()
    marks = encoded(".jpg", hand, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
    rolling = encoded(".jpg", hand, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    return encoded(".jpg", hand), encoded(".jpg", _tints(hand)), rolling, marks


@cache
def tiff() -> tuple[bytes, ...]:
    """Return TIFF files: plain, LZW, deflate, PackBits, big-endian, 16 bit, colour."""
    hand = small_hand()
    kinds = [
        _with_pillow(hand, "TIFF", compression=kind)
        for kind in ("raw", "tiff_lzw", "tiff_deflate", "packbits")
    ]
    return (*kinds, _with_pillow(_tints(hand), "TIFF"), encoded(".tiff", hand.astype(np.uint16) * 257))


@cache
def webp() -> tuple[bytes, ...]:
    """Return WebP files: with and without loss, and a plate of the atlas as it lies there."""
    hand = small_hand()
    return (
        _with_pillow(hand, "WEBP", lossless=True),
        _with_pillow(hand, "WEBP", quality=60),
        next(atlas.SHIPPED.glob("*.webp")).read_bytes(),
    )


_STUDY = {
    "SpecificCharacterSet": "ISO_IR 192",
    "SOPClassUID": DigitalXRayImageStorageForPresentation,
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.1",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.3",
    "PatientName": "Drawn^Hand",
    "PatientID": "drawn-7",
    "PatientBirthDate": "20160301",
    "PatientSex": "F",
    "PatientAge": "010Y",
    "StudyDate": "20260310",
    "Modality": "DX",
    "BodyPartExamined": "HAND",
    "ImageLaterality": "L",
    "ImagerPixelSpacing": [0.2, 0.2],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelRepresentation": 0,
}


def dicom_file(pixels: Pixels, syntax: UID = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """Return (H, W) uint8 or uint16 pixels as a DICOM file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = 8 * pixels.dtype.itemsize
    sizes = {"Rows": pixels.shape[0], "Columns": pixels.shape[1], "BitsAllocated": bits, "BitsStored": bits}
    for name, value in {**_STUDY, **sizes, "HighBit": bits - 1, **tags}.items():
        setattr(dataset, name, value)
    if syntax == JPEGBaseline8Bit:
        from pydicom.encaps import encapsulate

        dataset.add_new("PixelData", "OB", encapsulate([encoded(".jpg", pixels)]))
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax == ExplicitVRBigEndian:
        dataset.add_new("PixelData", "OW", pixels.astype(pixels.dtype.newbyteorder(">")).tobytes())
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.add_new("PixelData", "OB" if bits == 8 else "OW", pixels.tobytes())
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@cache
def dicom() -> tuple[bytes, ...]:
    """Return DICOM files in the encodings that are read, with windows and look-up tables."""
    hand = small_hand()
    deep = hand.astype(np.uint16) * 16
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = np.arange(0, 65536, 256, dtype=np.uint16).tobytes()
    window = {
        "WindowCenter": [120, 90],
        "WindowWidth": [240, 100],
        "RescaleSlope": "1.5",
        "RescaleIntercept": "-10",
    }
    plain = [
        dicom_file(hand, VOILUTSequence=[table]),
        dicom_file(deep, BitsStored=12, HighBit=11, PixelPaddingValue=0, **window),
        dicom_file(hand, PhotometricInterpretation="MONOCHROME1", ModalityLUTSequence=[table]),
    ]
    others = (
        ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless,
        JPEGBaseline8Bit,
    )  # fmt: skip
    return (
        *plain,
        *plain,
        *(dicom_file(hand, syntax) for syntax in others),
        dicom_file(deep, ExplicitVRBigEndian),
    )


def manifest() -> tuple[bytes, ...]:
    """Return manifests as people and this product write them."""
    rows = [
        "id,path,sex,bone_age_months,chronological_age_months,patient_id,split",
        "a1,images/a1.png,female,120,118.5,p1,train",
        'a2,"images/a,2.png",M,96,,p2,test',
        "a3,../other/a3.dcm,,,,,",
    ]
    text = "\n".join(rows).encode() + b"\n"
    return text, text.replace(b"\n", b"\r\n"), b"\xef\xbb\xbfid,boneage,male,path\n1377,180,False,1377.png\n"


@cache
def parquet() -> tuple[bytes, ...]:
    """Return manifests as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet as files

    table = pa.table({"path": ["a.png", "b.png"], "sex": ["F", None], "bone_age_months": [120.0, None]})
    out = io.BytesIO()
    files.write_table(table, out)
    return (out.getvalue(),)


@cache
def bundle() -> tuple[bytes, ...]:
    """Return manifests of bundles: a small one, one that is corrected for a site, and the shipped one.

    Every file that they name is empty, and has the checksum of nothing.
    """
    from boneage.inference.bundle import SHIPPED
    from boneage.inference.site import SITE

    record = json.loads((SHIPPED / "manifest.json").read_text())
    small = {
        **{name: record[name] for name in ("schema", "name", "version", "method")},
        "methods": {record["method"]: {"calibration": {"coverage": 0.9}}},
        "graphs": {"net": "net.onnx"},
        "files": {"table": "table.npz"},
    }
    made = [small, {**small, SITE: _site(record["method"])}, record]
    nothing = sha256().hexdigest()
    for one in made:
        files = (*one["graphs"].values(), *one["files"].values())
        one["checksums"] = dict.fromkeys((*one.get("checksums", ()), *files), nothing)
    return tuple(json.dumps(one).encode() for one in made)


def _site(method: str) -> dict[str, Any]:
    """Return the part of a manifest that corrects answers for a site."""
    estimate = {"estimate": 4.0, "standard_error": 1.0, "kept": 0.9}
    line = {
        "images": 80,
        "offset_months": estimate,
        "slope": {**estimate, "estimate": 0.1},
        "centre_months": 120.0,
        "youngest_months": 40.0,
        "oldest_months": 200.0,
    }
    widths = {"ages_months": [24.0, 120.0, 192.0], "widths_months": [6.0, 8.0, 7.0]}
    bands = [{"to_months": 120.0, "quantile": 2.0}, {"to_months": 240.0, "quantile": 1.8}]
    return {
        "made": "2026-03-10",
        "made_with": "boneage 0.1.0",
        "images": {"female": 80, "male": 80},
        "table_sha256": "0" * 64,
        "parent": {"name": "standard", "version": "1.4.0"},
        "correction": {"female": line, "male": line},
        "calibrations": {method: {"coverage": 0.9, "bands": bands, **widths}},
    }


@cache
def npz() -> tuple[bytes, ...]:
    """Return archives of arrays: mean radii, sub-grades, groups of hands, and a small hand model."""
    import cluster_fakes
    import radius_fakes

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        radius_fakes.write_means(folder / "means.npz")
        radius_fakes.subgrader(radius_fakes.pair_model((6, 7), 0.5)).save(folder / "subgrades.npz")
        cluster_fakes.clusters().save(folder / "clusters.npz")
        sizes = {
            "mean": 38,
            "precision": (38, 38),
            "logits": 21,
            "picture_mean": 64,
            "picture_components": (2, 64),
        }
        from boneage.anatomy.completeness import LIMITS

        np.savez_compressed(
            folder / "hand.npz",
            limits=np.ones(len(LIMITS)),
            **{key: np.zeros(size) for key, size in sizes.items()},
        )
        return tuple(undated(path) for path in sorted(folder.glob("*.npz")))


def undated(path: Path) -> bytes:
    """Return an archive without the time of its making, so that a run's seed gives the same inputs again."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as found, zipfile.ZipFile(out, "w") as made:
        for name in found.namelist():
            made.writestr(zipfile.ZipInfo(name), found.read(name), zipfile.ZIP_DEFLATED)
    return out.getvalue()


@cache
def kept() -> tuple[bytes, ...]:
    """Return assessments as the service keeps them."""
    import boneage_fakes

    from boneage.reporting import stored

    return stored.dumps(boneage_fakes.graded_assessment("", Sex.FEMALE, (), 118.0)).encode(), stored.dumps(
        boneage_fakes.assessment(distribution=boneage_fakes.DISTRIBUTION)
    ).encode()


def journal() -> tuple[bytes, ...]:
    """Return a batch's journal."""
    rows = [
        {"key": f"{at:016x}", "row": {"id": str(at), "status": "ok", "ages": {"x": 1.5}}} for at in range(3)
    ]
    return (b"".join(json.dumps(row).encode() + b"\n" for row in rows),)


def grades() -> tuple[bytes, ...]:
    """Return score sheets as the command line takes them: standard, sex, then BONE=GRADE, a line each."""
    from boneage.standards.scoring import standard

    found = []
    for name, grade in (("rus-chn", "7"), ("tw3", "F"), ("chn", "3"), ("tw3-c-rus", "5.5")):
        bones = standard(name).bones
        found.append("\n".join([name, "female", *(f"{bone}={grade}" for bone in bones)]).encode())
    return tuple(found)


@cache
def node() -> tuple[bytes, ...]:
    """Return configurations of a PACS node."""
    whole = b"""ae_title = "BONEAGE"
spool = "spool"
retention_hours = 96.0
[receive]
port = 11112
accept_from = ["PACS"]
[assess]
workers = 1
[[send]]
name = "archive"
what = ["sr", "capture"]
ae_title = "PACS"
host = "127.0.0.1"
port = 104
[retry]
max_attempts = 3
[[query]]
name = "web"
filter = {Modality = "DX"}
web = {url = "https://archive.example/dicom-web"}
"""
    return whole, (ROOT / "deploy" / "node.toml").read_bytes()


def service() -> tuple[bytes, ...]:
    """Return configurations of the service."""
    return (
        b'host = "127.0.0.1"\nport = 8077\ndata = "data"\nworkers = 2\nqueue = 50\nupload_mib = 64\n'
        b'retention_days = 30.0\nneighbours = true\ntls_certificate = "a.pem"\ntls_key = "b.pem"\n',
    )


BOUNDARY = "boneage-boundary"


def request(method: str, path: str, body: bytes = b"", kind: str = "", **headers: str) -> bytes:
    """Return a request as JSON; bytes are written as Latin-1."""
    said = {
        **({"content-type": kind} if kind else {}),
        **{key.replace("_", "-"): text for key, text in headers.items()},
    }
    record = {"method": method, "path": path, "headers": said, "body": body.decode("latin-1")}
    return json.dumps(record).encode()


def form(fields: dict[str, str], file: bytes) -> bytes:
    """Return a multipart body with an image."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return b"".join(parts) + head.encode() + file + f"\r\n--{BOUNDARY}--\r\n".encode()


@cache
def requests() -> tuple[bytes, ...]:
    """Return requests of every route; `JOB` in a path stands for a job that is done."""
    import service_fakes

    multipart, plain = f"multipart/form-data; boundary={BOUNDARY}", "application/json"
    said = {"sex": "female", "age_months": "118", "label": "a child", "height_cm": "140", "menarche": "false"}
    dates = {"sex": "M", "birth_date": "2016-03-01", "exam_date": date(2026, 3, 10).isoformat()}
    sheet = {
        "standard": "chn",
        "sex": "male",
        "grades": {"capitate": 4, "hamate": 4},
        "chronological_age_months": 100,
    }
    reading = {"grades": {"rus_chn": {"radius": 9}, "tw3": {"ulna": "F"}}}
    picture = service_fakes.picture()
    reads = (
        "info",
        "standards",
        "growth/female",
        "atlas",
        "atlas/male/120.png",
        "jobs?limit=5",
        "jobs/JOB",
        "jobs/JOB?wait=0.01",
        "jobs/JOB/pixels",
        "jobs/JOB/results/json",
        "jobs/JOB/results/fhir?release=R5",
    )
    with_body = (
        request("POST", "/api/v1/jobs", form(said, picture), multipart, Idempotency_Key="k1"),
        request("POST", "/api/v1/jobs?wait=1", form(dates, picture), multipart),
        request("POST", "/api/v1/score", json.dumps(sheet).encode(), plain),
        request("PUT", "/api/v1/jobs/JOB/reading", json.dumps(reading).encode(), plain),
    )
    return (
        *with_body * 5,
        request("DELETE", "/api/v1/jobs/JOB"),
        request("GET", "/metrics"),
        request("GET", "/openapi.json"),
        *(request("GET", f"/api/v1/{path}") for path in reads),
    )
