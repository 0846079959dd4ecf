"""DICOM results of an assessment: a structured report and a secondary capture in the image's own study.

The report is a Comprehensive SR: its regions are two-dimensional coordinates on one projection image, which
is what that class is for and what most viewers show.

Source: DICOM PS3.3, A.35.3 (Comprehensive SR) and A.8.1 (Secondary Capture).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import DA, TM

from boneage import __version__
from boneage.core.errors import ConfigError, DeliveryError
from boneage.core.types import Assessment, Side
from boneage.reporting import coding
from boneage.reporting.dicom_content import NAME, content_tree, derived_uid, highdicom

if TYPE_CHECKING:
    from highdicom import SOPClass

REPORT_SERIES, CAPTURE_SERIES = 9901, 9902
"""Series numbers, well beyond those that a modality gives."""

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
"""Without these nothing can be put into the study and point at the image."""

_MALFORMED = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    OSError,
)

_IMAGES = ("ImageStorage", "ImageStorageForPresentation", "ImageStorageForProcessing")
"""How the keywords of classes of images end."""

_KEPT_GROUPS = (0x0008, 0x0010, 0x0012, 0x0020, 0x0028)
"""Groups of the header that say whose image it is, of which study, and how large."""

_EMPTY_IF_ABSENT = (
    "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
_NAMES = ("PatientName", "ReferringPhysicianName")
"""Kept from the library that builds the objects, which writes odd ones into its log."""

_LATERALITY = {Side.LEFT: "L", Side.RIGHT: "R"}


def _now() -> datetime:
    return datetime.now().astimezone()


def new_uid() -> str:
    """Return a unique identifier that nothing else has."""
    return str(generate_uid(prefix=None))


@dataclass(frozen=True, slots=True)
class Instance:
    """What makes one DICOM object differ from the next: all else follows from the assessment.

    Args:
        series_uid: of the new series that the object begins.
        sop_uid: of the object.
        made_at: when; its wall clock is what DICOM's dates and times say.
    """

    series_uid: str = field(default_factory=new_uid)
    sop_uid: str = field(default_factory=new_uid)
    made_at: datetime = field(default_factory=_now)

    @classmethod
    def of(cls, made_at: datetime, *origin: str) -> Instance:
        """Return identifiers that follow from what an object is made of: made twice, it is one object."""
        return cls(derived_uid(*origin, "series"), derived_uid(*origin, "instance"), made_at)


def structured_report(assessment: Assessment, source: Dataset, instance: Instance | None = None) -> Dataset:
    """Return the assessment as a structured report in the source image's study.

    Args:
        assessment: the answer for the source image.
        source: the image's header; its pixels are not used. Patient and study are kept as they stand.
        instance: identifiers and date of the report; new ones by default.

    Raises:
        DeliveryError: the header lacks what a report must refer to.
        RuntimeUnavailable: the extra `dicom` is not installed.
    """
    hd = highdicom()
    made = instance or Instance()
    # Validation warns with the offending value in full, which may be a name; old headers hold odd ones.
    with disable_value_validation(), _damage_told():
        header = _header(source)
        report: SOPClass = hd.sr.ComprehensiveSR(
            evidence=[header],
            content=content_tree(assessment, header, made.sop_uid)[0],
            series_instance_uid=made.series_uid,
            series_number=REPORT_SERIES,
            sop_instance_uid=made.sop_uid,
            instance_number=1,
            is_complete=True,
            series_description="Bone age, structured report",
            **_equipment(made),
        )
        report.CodingSchemeIdentificationSequence = [_own_scheme()]
        return _finished(report, source, made)


def secondary_capture(
    assessment: Assessment, source: Dataset, page: NDArray[np.uint8], instance: Instance | None = None
) -> Dataset:
    """Return a page about the assessment as an image in the source image's study.

    Args:
        assessment: the answer for the source image.
        source: the image's header.
        page: (H, W, 3) red, green, blue, as `summary_page.page_pixels` draws it.
        instance: identifiers and date of the capture; new ones by default.

    Raises:
        ConfigError: the page is no 8-bit colour picture.
        DeliveryError, RuntimeUnavailable: as `structured_report`.
    """
    if page.dtype != np.uint8 or page.ndim != 3 or page.shape[2] != 3:
        raise ConfigError(f"a page must be (H, W, 3) uint8, not {page.shape} {page.dtype}: give page_pixels")
    hd = highdicom()
    made = instance or Instance()
    with disable_value_validation(), _damage_told():
        header = _header(source)
        capture: SOPClass = hd.sc.SCImage(
            pixel_array=page,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            study_instance_uid=header.StudyInstanceUID,
            series_instance_uid=made.series_uid,
            series_number=CAPTURE_SERIES,
            sop_instance_uid=made.sop_uid,
            instance_number=1,
            series_description="Bone age, page for viewers without SR",
            **_equipment(made),
        )
        capture.copy_patient_and_study_information(header)
        capture.PatientOrientation = None  # a page has none; the library wants one
        capture.Laterality = "" if assessment.hand.side is None else _LATERALITY[assessment.hand.side]
        capture.DateOfSecondaryCapture = made.made_at.strftime("%Y%m%d")
        capture.TimeOfSecondaryCapture = made.made_at.strftime("%H%M%S")
        # The page adds no name, but it shows the film, on which one may be burnt in.
        if header.get("BurnedInAnnotation") in ("YES", "NO"):
            capture.BurnedInAnnotation = header.BurnedInAnnotation
        capture.DerivationDescription = (
            f"Bone age {assessment.bone_age_months:.1f} months; {coding.INTENDED_USE}"
        )
        capture.SourceImageSequence = [_reference(header)]
        return _finished(capture, source, made)


def file_bytes(dataset: Dataset) -> bytes:
    """Return a data set as a DICOM file."""
    file = io.BytesIO()
    with disable_value_validation():
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _equipment(made: Instance) -> dict[str, Any]:
    """Return what both objects say of the device that made them, and when."""
    return {
        "manufacturer": NAME,
        "manufacturer_model_name": NAME,
        "software_versions": __version__,
        "content_date": made.made_at.date(),
        "content_time": made.made_at.time().replace(microsecond=0),
    }


@contextmanager
def _damage_told() -> Iterator[None]:
    """Tell as a `DeliveryError` what pydicom and highdicom raise on values that they read late."""
    try:
        yield
    except _MALFORMED as error:
        raise DeliveryError(
            f"the DICOM file's header holds a value that no result can repeat ({type(error).__name__}): "
            "export it again, or write an HTML report"
        ) from error


def _header(source: Dataset) -> Dataset:
    """Return what the results need of the source's header, as UTF-8 text, without names and pixels."""
    lacking = [keyword for keyword in _NEEDED if source.get(keyword) in (None, "")]
    if lacking:
        raise DeliveryError(
            f"the DICOM file lacks {', '.join(lacking)}, by which a result finds its image and study: "
            "export it again, or write an HTML report"
        )
    several = [keyword for keyword in _NEEDED if not isinstance(source.get(keyword), str | int | float)]
    if several:
        raise DeliveryError(
            f"the DICOM file says {', '.join(several)} in a way that no result can refer to: "
            "export it again, or write an HTML report"
        )
    if not UID(source.SOPClassUID).keyword.endswith(_IMAGES):
        raise DeliveryError(
            f"the DICOM file is of class {UID(source.SOPClassUID).name}, which is no image that a result can "
            "refer to: give the radiograph itself, or write an HTML report"
        )
    header = Dataset()
    for element in source:
        if element.tag.group in _KEPT_GROUPS and element.VR != "PN":
            header.add(element)
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _EMPTY_IF_ABSENT:
        if not _is_valid(keyword, header.get(keyword)):
            setattr(header, keyword, "")
    for keyword in _NAMES:
        setattr(header, keyword, "")
    return header


def _is_valid(keyword: str, value: object) -> bool:
    """Return whether a new object may hold a value; old files write dates and sexes in ways of their own."""
    if value is None:
        return False
    text = str(value)
    try:
        if keyword.endswith("Date"):
            return text == "" or DA(text) is not None
        if keyword.endswith("Time"):
            return text == "" or TM(text) is not None
    except ValueError:
        return False
    return keyword != "PatientSex" or text in ("", "F", "M", "O")


def _finished(made: SOPClass, source: Dataset, instance: Instance) -> Dataset:
    """Return an object with the names of the source and the dates of its instance."""
    for keyword in _NAMES:
        setattr(made, keyword, str(source.get(keyword) or ""))
    made.SpecificCharacterSet = "ISO_IR 192"
    made.InstanceCreationDate = DA(instance.made_at.date())
    made.InstanceCreationTime = TM(instance.made_at.time().replace(microsecond=0))
    for equipment in made.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = instance.made_at.strftime("%Y%m%d%H%M%S")
    return made


def _reference(header: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


def _own_scheme() -> Dataset:
    """Say what 99BONEAGE is, as private coding schemes must be declared."""
    scheme = Dataset()
    scheme.CodingSchemeDesignator = coding.OWN
    scheme.CodingSchemeName = "Codes of the project boneage"
    scheme.CodingSchemeVersion = __version__
    scheme.CodingSchemeResponsibleOrganization = NAME
    return scheme
