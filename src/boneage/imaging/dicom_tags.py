"""What DICOM tags say of the patient and the picture, each with the tag that it came from.

No value of an identifying tag enters a notice or a provenance entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from pydicom.dataset import Dataset

from boneage.core.types import Notice, Sex, Side

_DAYS_A_MONTH = 30.4375
_MONTHS = {"D": 1 / _DAYS_A_MONTH, "W": 7 / _DAYS_A_MONTH, "M": 1.0, "Y": 12.0}
_OLDEST_MONTHS = 120 * 12
_AGE_TOLERANCE_MONTHS = 13.0
"""A stated age in whole years may lag the dates by a year."""

IDENTIFIERS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
"""Keywords that a structured report of the same study must repeat."""

_SEEN_AS_HAND = ("", "HAND", "WRIST", "FINGER", "ARM", "FOREARM", "UPPERLIMB", "UPPEREXTREMITY", "EXTREMITY")

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Tags:
    """What the tags give of a `Radiograph`'s fields."""

    spacing_mm: tuple[float, float] | None = None
    side: Side | None = None
    sex: Sex | None = None
    chronological_age_months: float | None = None
    provenance: dict[str, str] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict, repr=False)
    notices: tuple[Notice, ...] = ()


def read_tags(dataset: Dataset) -> Tags:
    """Return the patient and picture fields of a data set; an absent or odd one is None."""
    provenance: dict[str, str] = {}
    notices: list[Notice] = []

    def take(name: str, found: tuple[_Value | None, str, Notice | None]) -> _Value | None:
        value, source, notice = found
        if value is not None:
            provenance[name] = source
        if notice is not None:
            notices.append(notice)
        return value

    spacing_mm = take("spacing_mm", _spacing(dataset))
    side = take("side", _side(dataset))
    sex = take("sex", _sex(dataset))
    age_months = take("chronological_age_months", _age(dataset))
    identifiers = {name: text for name in IDENTIFIERS if (text := _text(dataset, name))}
    return Tags(spacing_mm, side, sex, age_months, provenance, identifiers, (*notices, *_doubts(dataset)))


def _text(dataset: Dataset, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip().strip("\0")


def _spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, str, Notice | None]:
    """Prefer the calibrated spacing; the detector's is reduced by the magnification, where given."""
    calibrated = _pair(dataset, "PixelSpacing")
    if calibrated is not None:
        return calibrated, "(0028,0030) Pixel Spacing", None
    detector = _pair(dataset, "ImagerPixelSpacing")
    if detector is not None:
        magnification = _positive(dataset.get("EstimatedRadiographicMagnificationFactor"))
        source = "(0018,1164) Imager Pixel Spacing"
        if magnification is None:
            return detector, f"{source}, at the detector: magnification is not given", None
        row, column = detector
        source += f" divided by (0018,1114) Estimated Radiographic Magnification Factor {magnification:g}"
        return (row / magnification, column / magnification), source, None
    return _pair(dataset, "NominalScannedPixelSpacing"), "(0018,2010) Nominal Scanned Pixel Spacing", None


def _pair(dataset: Dataset, name: str) -> tuple[float, float] | None:
    value = dataset.get(name)
    if value is None or isinstance(value, (str, int, float)) or len(value) != 2:
        return None
    row, column = (_positive(number) for number in value)
    return None if row is None or column is None else (row, column)


def _positive(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if 0 < number < 1e4 else None


def _side(dataset: Dataset) -> tuple[Side | None, str, Notice | None]:
    sides = {"L": Side.LEFT, "R": Side.RIGHT}
    for name, source in (
        ("ImageLaterality", "(0020,0062) Image Laterality"),
        ("Laterality", "(0020,0060) Laterality"),
    ):
        side = sides.get(_text(dataset, name).upper())
        if side is not None:
            return side, source, None
    return None, "", None


def _sex(dataset: Dataset) -> tuple[Sex | None, str, Notice | None]:
    text = _text(dataset, "PatientSex").upper()
    known = {"F": Sex.FEMALE, "M": Sex.MALE}
    if text in known:
        return known[text], "(0010,0040) Patient's Sex", None
    if not text:
        return None, "", None
    kind = "O (other)" if text == "O" else "a value that DICOM does not define"
    notice = Notice("sex_unknown", f"the DICOM tag Patient's Sex holds {kind}; give the sex to read against")
    return None, "", notice


def _age(dataset: Dataset) -> tuple[float | None, str, Notice | None]:
    """Take the dates first: they are exact to a day, the stated age often only to a year."""
    by_dates, date_source = _age_by_dates(dataset)
    stated = _stated_age(_text(dataset, "PatientAge"))
    implausible = Notice(
        "age_implausible", "the age in the DICOM tags is impossible and was ignored; give it yourself"
    )
    notice = None
    if by_dates is not None and not 0 <= by_dates <= _OLDEST_MONTHS:
        by_dates, notice = None, implausible
    if stated is not None and stated > _OLDEST_MONTHS:
        stated, notice = None, implausible
    if by_dates is None:
        return stated, "(0010,1010) Patient's Age", notice
    if stated is not None and abs(stated - by_dates) > _AGE_TOLERANCE_MONTHS:
        text = (
            "Patient's Age and the dates of birth and study disagree by more than a year; the dates were used"
        )
        notice = Notice("age_disagrees", text)
    return by_dates, date_source, notice


def _age_by_dates(dataset: Dataset) -> tuple[float | None, str]:
    born = _date(_text(dataset, "PatientBirthDate"))
    if born is None:
        return None, ""
    for name, tag in (
        ("StudyDate", "(0008,0020)"),
        ("AcquisitionDate", "(0008,0022)"),
        ("ContentDate", "(0008,0023)"),
    ):
        seen = _date(_text(dataset, name))
        if seen is not None:
            return (seen - born).days / _DAYS_A_MONTH, f"(0010,0030) Patient's Birth Date to {tag} {name}"
    return None, ""


def _date(text: str) -> date | None:
    """Read YYYYMMDD, and the YYYY.MM.DD of old files."""
    digits = text.replace(".", "")
    if len(digits) != 8 or not digits.isascii() or not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _stated_age(text: str) -> float | None:
    """Read an age string nnnD, nnnW, nnnM or nnnY in months."""
    number, unit = text[:-1], text[-1:].upper()
    if not number.isascii() or not number.isdigit() or unit not in _MONTHS:
        return None
    return int(number) * _MONTHS[unit]


def _doubts(dataset: Dataset) -> tuple[Notice, ...]:
    """Return what makes the picture an odd one to read a bone age from."""
    notices = []
    part = _text(dataset, "BodyPartExamined").upper().replace(" ", "").replace("_", "")
    if not any(part == known or (known and known in part) for known in _SEEN_AS_HAND):
        notices.append(Notice("body_part", "the DICOM tag Body Part Examined names another part than a hand"))
    if _text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING":
        text = "the DICOM file holds raw detector values; give the image for presentation if there is one"
        notices.append(Notice("for_processing", text))
    return tuple(notices)
