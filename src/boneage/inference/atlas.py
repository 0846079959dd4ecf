"""The atlas of mean hands: plates that are each the mean of many children, written and read with checksums.

The folder holds `atlas.json` and a lossless image a plate. The shipped one lies inside the package.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.anatomy.mean_hands import MAX_WEIGHT, MIN_EFFECTIVE, MeanHand
from boneage.core.errors import BundleError, ChecksumMismatch, ConfigError, DeliveryError, Incompatible
from boneage.core.types import Sex

SCHEMA = 1
ATLAS = "atlas.json"
SHIPPED = Path(__file__).parents[1] / "bundles" / "atlas"

WEIGHTS_RULE = (
    "Gaussian in bone age about the plate's age, the narrowest sigma of the list at which the children's "
    "effective number (sum w)^2 / sum w^2 and the largest share of one child keep their limits and the mean "
    "bone age lies near the plate's; a plate that no sigma allows is left out"
)


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """The mean hand of one sex and age.

    Args:
        sex: of the children.
        age_months: bone age that it stands for.
        image: (H, W) uint8, bone bright, upright, thumb on the right.
        hands: radiographs with any weight in it.
        children_effective: (sum w)^2 / sum w^2.
        largest_weight: the largest share of one child, from 0 to 1.
        mean_age_months: weighted mean of its hands' bone ages.
        sigma_months: width of the kernel.
    """

    sex: Sex
    age_months: float
    image: NDArray[np.uint8]
    hands: int
    children_effective: float
    largest_weight: float
    mean_age_months: float
    sigma_months: float


@dataclass(frozen=True, slots=True)
class Atlas:
    """Checked plates.

    Args:
        plates: by sex and ascending age.
        record: what `atlas.json` says of the data and the rule.
    """

    plates: tuple[Plate, ...]
    record: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path | None = None) -> Atlas:
        """Read an atlas and check every file against its checksum.

        Args:
            path: the atlas' folder; None is the one shipped with the product.

        Raises:
            BundleError: no atlas there, or it cannot be read.
            Incompatible: made for another version of the product.
            ChecksumMismatch: an image is missing or is not the one that `atlas.json` names.
        """
        folder = Path(path) if path is not None else SHIPPED
        record = _read_record(folder)
        try:
            plates = [_read_plate(folder, entry) for entry in record["plates"]]
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise BundleError(
                f"{folder.name}/{ATLAS} does not describe its plates ({error!r}); install the atlas again"
            ) from error
        return cls(tuple(sorted(plates, key=lambda plate: (plate.sex, plate.age_months))), record)

    def near(self, sex: Sex, age_months: float) -> Plate:
        """Return the plate of a sex that is nearest in age, the younger of two that are equally near.

        Raises:
            ConfigError: the atlas has no plate of that sex, or the age is no number.
        """
        own = [plate for plate in self.plates if plate.sex is sex]
        if not own:
            raise ConfigError(f"the atlas has no plate for {sex}: use the shipped one, or make one with more")
        if not np.isfinite(age_months):
            raise ConfigError(f"a plate is found by an age in months, not by {age_months}: give a number")
        return min(own, key=lambda plate: (abs(plate.age_months - age_months), plate.age_months))


def check_atlas_folder(out: Path) -> None:
    """Refuse a folder in which an atlas, or anything else, already lies.

    Raises:
        ConfigError: it holds something, or is a file.
    """
    if (out / ATLAS).exists():
        raise ConfigError(f"{out} holds another atlas: remove it, or name a new folder with --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder: name a new folder with --out")


def write_atlas(out: Path, plates: Sequence[MeanHand], data: Mapping[str, Any]) -> Atlas:
    """Write an atlas whole or not at all; the same plates give the same bytes.

    Args:
        out: its folder, new or empty.
        plates: to write.
        data: what they were made from, for `atlas.json`: counts and checksums, nothing of a child.

    Raises:
        ConfigError: the folder holds something; a plate does not keep the limits that hide a child.
        DeliveryError: the folder cannot be written.
    """
    check_atlas_folder(out)
    for plate in plates:
        _check_limits(plate.children_effective, plate.largest_weight, f"{plate.sex} {plate.age_months}")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        entries = [_write_plate(part, plate) for plate in plates]
        text = json.dumps({"schema": SCHEMA, **_rule(), "data": dict(data), "plates": entries}, indent=1)
        (part / ATLAS).write_text(text + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise DeliveryError(
            f"cannot write the atlas {out} ({error.strerror}): free space or choose another folder"
        ) from error
    return Atlas.load(out)


def _rule() -> dict[str, Any]:
    return {
        "shows": "mean hands of many children each; no plate is a radiograph of a child",
        "weights": WEIGHTS_RULE,
        "least_children_effective": MIN_EFFECTIVE,
        "largest_weight_allowed": MAX_WEIGHT,
    }


def _check_limits(effective: float, largest: float, name: str) -> None:
    if not (effective >= MIN_EFFECTIVE and largest <= MAX_WEIGHT):
        raise ConfigError(
            f"the plate {name} is the mean of {effective:.1f} children in effect with a largest share of "
            f"{largest:.2f}, and needs {MIN_EFFECTIVE:g} and at most {MAX_WEIGHT:g}: leave it out"
        )


def _write_plate(folder: Path, plate: MeanHand) -> dict[str, Any]:
    name = f"{plate.sex}_{plate.age_months:03d}.webp"
    # A quality above 100 is OpenCV's lossless WebP.
    _, encoded = cv2.imencode(".webp", plate.image, [cv2.IMWRITE_WEBP_QUALITY, 101])
    content = encoded.tobytes()
    (folder / name).write_bytes(content)
    return {
        "file": name,
        "sex": str(plate.sex),
        "age_months": plate.age_months,
        "hands": plate.hands,
        "children_effective": round(plate.children_effective, 2),
        "largest_weight": round(plate.largest_weight, 4),
        "mean_age_months": round(plate.mean_age_months, 2),
        "sigma_months": plate.sigma_months,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / ATLAS
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"no atlas at {folder}: {ATLAS} cannot be read; give a folder that `boneage data atlas` made"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON ({error}); install the atlas again") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise Incompatible(
            f"the atlas' schema is {found!r}, this version reads {SCHEMA}; make it again with this version"
        )
    return record


def _read_plate(folder: Path, entry: Mapping[str, Any]) -> Plate:
    path = folder / Path(entry["file"]).name
    shown = f"{folder.name}/{path.name}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ChecksumMismatch(f"{shown} is missing; install the atlas again") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ChecksumMismatch(f"{shown} is not what {ATLAS} names (sha256 differs); install the atlas again")
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise BundleError(f"{shown} is no image; install the atlas again")
    effective, largest = float(entry["children_effective"]), float(entry["largest_weight"])
    _check_limits(effective, largest, path.stem)
    return Plate(
        sex=Sex(entry["sex"]),
        age_months=float(entry["age_months"]),
        image=np.asarray(image, np.uint8),
        hands=int(entry["hands"]),
        children_effective=effective,
        largest_weight=largest,
        mean_age_months=float(entry["mean_age_months"]),
        sigma_months=float(entry["sigma_months"]),
    )
