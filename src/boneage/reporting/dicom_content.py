"""The content tree of a structured report of an assessment: TID 1500, Measurement Report.

Source: DICOM PS3.16, TID 1500, 1501 (groups), 1410 (regions), 300 and 311 (measurements), 4019 (algorithm).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from pydicom.dataset import Dataset

from boneage import __version__
from boneage.core.errors import RuntimeUnavailable
from boneage.core.types import Assessment, Region
from boneage.reporting import coding
from boneage.reporting.coding import Code
from boneage.standards.names import Bone

if TYPE_CHECKING:
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        FindingSite,
        ImageRegion,
        Measurement,
        MeasurementProperties,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        TrackingIdentifier,
    )

NAME = "boneage"


def content_tree(assessment: Assessment, header: Dataset, sop_uid: str) -> MeasurementReport:
    """Return the tree; the same arguments give the same one.

    Args:
        assessment: the answer for an image.
        header: the image's SOP class, SOP instance, rows and columns.
        sop_uid: of the report, from which those of its groups are derived.
    """
    return _Content(assessment, header, sop_uid).report()


def highdicom() -> Any:
    """Return the package.

    Raises:
        RuntimeUnavailable: it is not installed.
    """
    try:
        import highdicom
        import highdicom.sc
        import highdicom.sr
    except ModuleNotFoundError as error:
        raise RuntimeUnavailable(
            f"DICOM results need {error.name}, which is not installed: pip install 'boneage[dicom]'"
        ) from error
    return highdicom


class _Content:
    """The content tree of one report."""

    def __init__(self, assessment: Assessment, header: Dataset, sop_uid: str) -> None:
        self._hd = highdicom()
        self._assessment = assessment
        self._header = header
        self._sop_uid = sop_uid

    def report(self) -> MeasurementReport:
        """Return the tree: observer, procedure, measurements, and the text items after them."""
        sr = self._hd.sr
        groups = [self._answer(), self._by_method(), *self._totals(), *self._bones()]
        report: MeasurementReport = sr.MeasurementReport(
            observation_context=self._observer(),
            procedure_reported=_concept(coding.PROCEDURE),
            imaging_measurements=groups,
        )
        for name, text in self._texts():
            item = sr.TextContentItem(name=_concept(name), value=text, relationship_type="CONTAINS")
            report[0].ContentSequence.append(item)
        return report

    def _observer(self) -> ObservationContext:
        sr = self._hd.sr
        device = sr.DeviceObserverIdentifyingAttributes(
            uid=derived_uid(NAME, __version__), name=NAME, manufacturer_name=NAME, model_name=NAME
        )
        observer = sr.ObserverContext(
            observer_type=_concept(Code("121007", coding.DICOM, "Device")),
            observer_identifying_attributes=device,
        )
        context: ObservationContext = sr.ObservationContext(observer_device_context=observer)
        return context

    def _answer(self) -> MeasurementsAndQualitativeEvaluations:
        """Return the group of the bone age: the answer, its interval, and what it is compared with."""
        found = self._assessment
        low, high = found.interval_months
        measurements = [
            self._measurement(coding.BONE_AGE, found.bone_age_months, coding.MONTHS),
            self._measurement(coding.INTERVAL_LOW, low, coding.MONTHS),
            self._measurement(coding.INTERVAL_HIGH, high, coding.MONTHS),
            self._measurement(coding.COVERAGE, 100 * found.coverage, coding.PER_CENT),
        ]
        if found.chronological_age_months is not None:
            age = found.chronological_age_months
            measurements.append(self._measurement(coding.CHRONOLOGICAL_AGE, age, coding.MONTHS))
        if score := coding.sd_score(found):
            measurements.append(
                self._measurement(
                    coding.Z_SCORE, score["value"], coding.NO_UNITS, properties=self._population(score)
                )
            )
        said = [
            self._evaluation(coding.SUBJECT_SEX, coding.SEXES[found.sex]),
            *(self._evaluation(coding.BONE_AGE_METHOD, name) for name in coding.joined_methods(found)),
        ]
        return self._group("Bone age", measurements, said)

    def _population(self, score: Mapping[str, Any]) -> MeasurementProperties:
        """Return what a SD score rests on: the standard deviation, and whose it is."""
        sr = self._hd.sr
        deviation = sr.NumContentItem(
            name=_concept(coding.STANDARD_DEVIATION),
            value=round(float(score["sd_months"]), 2),
            unit=_concept(coding.MONTHS),
            relationship_type="HAS PROPERTIES",
        )
        properties: MeasurementProperties = sr.MeasurementProperties(
            measurement_statistical_properties=sr.MeasurementStatisticalProperties(
                [deviation], description=str(score["reference"])
            )
        )
        return properties

    def _by_method(self) -> MeasurementsAndQualitativeEvaluations:
        ages = [
            self._measurement(coding.BONE_AGE, age, coding.MONTHS, method=coding.method(name))
            for name, age in self._assessment.ages.items()
        ]
        return self._group("Bone age by method", ages)

    def _totals(self) -> Iterator[MeasurementsAndQualitativeEvaluations]:
        totals = [
            self._measurement(code, score[key], coding.NO_UNITS, method=coding.scores_of(name))
            for name, score in self._assessment.scores.items()
            for code, key in ((coding.TOTAL, "total"), (coding.EXPECTED_TOTAL, "expected_total"))
        ]
        if totals:
            yield self._group("Totals by standard", totals)

    def _bones(self) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
        for region in self._assessment.regions:
            if region.grades:
                yield self._bone(region)

    def _bone(self, region: Region) -> PlanarROIMeasurementsAndQualitativeEvaluations:
        """Return a bone's group: its region, its site, its grade by every standard, how sure it is."""
        grades = [
            self._evaluation(coding.grade_of(name), coding.grade(name, grade))
            for name, grade in region.grades.items()
        ]
        radius = self._assessment.radius_subgrade
        if radius is not None and region.bone == Bone.RADIUS:
            grades.append(self._evaluation(coding.SUBGRADE, coding.subgrade(radius)))
        sure = region.confidence
        measurements = (
            []
            if sure is None
            else [self._measurement(coding.CONFIDENCE, 100 * sure, coding.PER_CENT, places=1)]
        )
        group: PlanarROIMeasurementsAndQualitativeEvaluations = (
            self._hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=self._tracking(region.bone),
                referenced_region=self._region(region),
                finding_sites=[self._site(coding.site(region.bone))],
                algorithm_id=self._algorithm(),
                measurements=measurements,
                qualitative_evaluations=grades,
            )
        )
        return group

    def _region(self, region: Region) -> ImageRegion:
        """Return a closed box in the source's pixels, inside the image, its first corner repeated."""
        sr, header = self._hd.sr, self._header
        x0, x1 = np.clip(region.box_px[0::2], 0, int(header.Columns))
        y0, y1 = np.clip(region.box_px[1::2], 0, int(header.Rows))
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], dtype=np.float32)
        image = sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID)
        made: ImageRegion = sr.ImageRegion("POLYLINE", corners, image)
        return made

    def _group(
        self,
        name: str,
        measurements: Iterable[Measurement],
        evaluations: Iterable[QualitativeEvaluation] = (),
    ) -> MeasurementsAndQualitativeEvaluations:
        """Return a group of measurements of the whole hand."""
        sr, header = self._hd.sr, self._header
        group: MeasurementsAndQualitativeEvaluations = sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(name),
            algorithm_id=self._algorithm(),
            finding_sites=[self._site(coding.HAND)],
            measurements=list(measurements),
            qualitative_evaluations=list(evaluations),
            source_images=[sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)],
        )
        return group

    def _measurement(
        self,
        name: Code,
        value: float,
        unit: Code,
        *,
        method: Code | None = None,
        properties: MeasurementProperties | None = None,
        places: int = 2,
    ) -> Measurement:
        made: Measurement = self._hd.sr.Measurement(
            name=_concept(name),
            value=round(float(value), places),
            unit=_concept(unit),
            method=None if method is None else _concept(method),
            properties=properties,
        )
        return made

    def _evaluation(self, name: Code, value: Code) -> QualitativeEvaluation:
        made: QualitativeEvaluation = self._hd.sr.QualitativeEvaluation(_concept(name), _concept(value))
        return made

    def _site(self, site: Code) -> FindingSite:
        side = self._assessment.hand.side
        made: FindingSite = self._hd.sr.FindingSite(
            _concept(site), laterality=None if side is None else _concept(coding.SIDES[side])
        )
        return made

    def _tracking(self, name: str) -> TrackingIdentifier:
        made: TrackingIdentifier = self._hd.sr.TrackingIdentifier(
            uid=derived_uid(self._sop_uid, name), identifier=name
        )
        return made

    def _algorithm(self) -> AlgorithmIdentification:
        bundle = self._assessment.provenance.get("bundle")
        made: AlgorithmIdentification = self._hd.sr.AlgorithmIdentification(
            name=NAME,
            version=__version__,
            parameters=[f"bundle {bundle}"] if isinstance(bundle, str) else None,
            manufacturer=NAME,
        )
        return made

    def _texts(self) -> Iterator[tuple[Code, str]]:
        yield coding.COMMENT, coding.INTENDED_USE
        if self._assessment.regions:
            yield coding.COMMENT, coding.LEARNT
        for notice in self._assessment.warnings:
            yield coding.WARNING, f"{notice.text} [{notice.code}]"


def _concept(code: Code) -> CodedConcept:
    """Return a code as the DICOM library has it."""
    made: CodedConcept = highdicom().sr.CodedConcept(*code)
    return made


def derived_uid(*parts: str) -> str:
    """Return the identifier that always belongs to some texts (DICOM PS3.5, B.2: UIDs derived from UUIDs)."""
    return f"2.25.{uuid5(NAMESPACE_OID, '/'.join(parts)).int}"
