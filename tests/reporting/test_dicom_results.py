"""DICOM results: read back, judged by validators, and true to the study that they go into."""

from __future__ import annotations

import io
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from boneage_fakes import assessment, graded_assessment
from dicom_studies import WHOSE, errors_of, report_text, study_image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    EncapsulatedPDFStorage,
    SecondaryCaptureImageStorage,
)
from radius_fakes import found_subgrade

from boneage.core.errors import ConfigError, DeliveryError, RuntimeUnavailable
from boneage.core.types import Assessment, Notice, Region
from boneage.reporting.dicom_results import (
    Instance,
    file_bytes,
    secondary_capture,
    structured_report,
)
from boneage.standards.names import Bone

WHEN = Instance("2.25.11", "2.25.12", datetime(2026, 3, 11, 8, 30, 5, tzinfo=UTC))
PAGE = np.random.default_rng(0).integers(0, 256, (31, 21, 3)).astype(np.uint8)
DARK = Notice("dark", "the image is dark – look again")


def found(**changes: Any) -> Assessment:
    """A graded girl of ten, with all that a report can hold."""
    return graded_assessment(
        age_months=120.0,
        **{"warnings": (DARK,), "radius_subgrade": found_subgrade(), **changes},
    )


def read_back(dataset: Dataset) -> Dataset:
    return dcmread(io.BytesIO(file_bytes(dataset)))


def report(made: Assessment, source: Dataset | None = None) -> hd.sr.MeasurementReport:
    """Return a report's content as highdicom reads it from a file."""
    data = file_bytes(structured_report(made, source or study_image(), WHEN))
    content = hd.sr.srread(io.BytesIO(data)).content
    assert isinstance(content, hd.sr.MeasurementReport)
    return content


@pytest.fixture(scope="module")
def full() -> hd.sr.MeasurementReport:
    """The report of `found()`."""
    return report(found())


def numbers(group: Any) -> list[tuple[str, float, str]]:
    """Return a group's measurements: the code of what was measured, the value, the unit."""
    return [(item.name.value, item.value, item.unit.value) for item in group.get_measurements()]


def answers(group: Any) -> list[tuple[str, str]]:
    return [(item.name.value, item.value.value) for item in group.get_qualitative_evaluations()]


def texts(made: hd.sr.MeasurementReport) -> list[tuple[str, str]]:
    return [
        (item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue)
        for item in made[0].ContentSequence
        if item.ValueType == "TEXT" and item.RelationshipType == "CONTAINS"
    ]


def hand_groups(made: hd.sr.MeasurementReport) -> dict[str, Any]:
    return {group.tracking_identifier: group for group in made.get_image_measurement_groups()}


def bone_groups(made: hd.sr.MeasurementReport) -> dict[str, Any]:
    groups = made.get_planar_roi_measurement_groups()
    return {group.tracking_identifier: group for group in groups}


@pytest.mark.parametrize("make", ["report", "capture"])
def test_a_result_belongs_to_the_images_study(make: str) -> None:
    source = study_image()
    made = read_back(
        structured_report(found(), source, WHEN)
        if make == "report"
        else secondary_capture(found(), source, PAGE, WHEN)
    )
    assert {name: str(made[name].value) for name in WHOSE} == WHOSE
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert (made.SeriesInstanceUID, made.SOPInstanceUID) == ("2.25.11", "2.25.12")
    assert made.file_meta.MediaStorageSOPInstanceUID == "2.25.12"
    assert (made.InstanceCreationDate, made.InstanceCreationTime) == ("20260311", "083005")
    assert (made.Modality, made.Manufacturer) == ("SR" if make == "report" else "OT", "boneage")


def test_new_results_have_identifiers_of_their_own_and_the_same_ones_are_the_same_file() -> None:
    source, answer = study_image(), found()
    one, other = (structured_report(answer, source) for _ in range(2))
    uids = [uid for made in (one, other) for uid in (made.SeriesInstanceUID, made.SOPInstanceUID)]
    assert len({*uids, source.SeriesInstanceUID, source.SOPInstanceUID}) == 6
    for make in (structured_report, lambda *given: secondary_capture(*given[:2], PAGE, given[2])):
        assert file_bytes(make(answer, source, WHEN)) == file_bytes(make(answer, source, WHEN))


def test_the_report_holds_the_answer_in_months(full: hd.sr.MeasurementReport) -> None:
    made = structured_report(found(), study_image(), WHEN)
    assert made.SOPClassUID == ComprehensiveSRStorage
    assert (made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert [item.CodingSchemeDesignator for item in made.CodingSchemeIdentificationSequence] == ["99BONEAGE"]
    answer = hand_groups(full)["Bone age"]
    measured = numbers(answer)
    assert measured[:5] == [
        ("85151-9", 124.25, "mo"),
        ("interval_low", 110.5, "mo"),
        ("interval_high", 138.0, "mo"),
        ("coverage", 90.0, "%"),
        ("30525-0", 120.0, "mo"),
    ]
    score = found().growth["sd_score"]
    assert measured[5:] == [("121416", pytest.approx(score["value"], abs=0.006), "1")]
    assert ("121032", "F") in answers(answer) and ("85150-1", "hand_regression") in answers(answer)
    (image,) = answer.source_images
    assert image.referenced_sop_instance_uid == study_image().SOPInstanceUID


def test_what_the_sd_score_rests_on_is_beside_it(full: hd.sr.MeasurementReport) -> None:
    score = found().growth["sd_score"]
    (z_score,) = hand_groups(full)["Bone age"].get_measurements(
        hd.sr.CodedConcept("121416", "DCM", "Z-Score of measurement")
    )
    beneath = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in z_score[0].ContentSequence}
    assert beneath["Population Description"].TextValue == score["reference"]
    deviation = beneath["Standard deviation"].MeasuredValueSequence[0].NumericValue
    assert float(deviation) == pytest.approx(score["sd_months"], abs=0.006)


def test_without_an_age_there_is_no_score() -> None:
    answer = hand_groups(report(graded_assessment()))["Bone age"]
    assert [name for name, _, _ in numbers(answer)] == [
        "85151-9",
        "interval_low",
        "interval_high",
        "coverage",
    ]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("hand_regression + graded_regions", ["hand_regression", "graded_regions"]),
        ("hand_regression", ["hand_regression"]),
        (None, ["hand_regression", "rus_chn", "tw3", "chn"]),
    ],
)
def test_every_method_of_the_answer_is_named(said: str | None, names: list[str]) -> None:
    made = report(found(provenance={} if said is None else {"method": said}))
    methods = [value for name, value in answers(hand_groups(made)["Bone age"]) if name == "85150-1"]
    assert methods == names


def test_ages_and_totals_name_their_standard(full: hd.sr.MeasurementReport) -> None:
    answer = found()
    groups = hand_groups(full)
    ages = {
        item.method.value: (item.name.value, item.value)
        for item in groups["Bone age by method"].get_measurements()
    }
    assert ages == {name: ("85151-9", pytest.approx(age, abs=0.006)) for name, age in answer.ages.items()}
    totals = [
        (item.method.value, item.name.value, item.value)
        for item in groups["Totals by standard"].get_measurements()
    ]
    assert totals == [
        (name, key, pytest.approx(score[key], abs=0.006))
        for name, score in answer.scores.items()
        for key in ("total", "expected_total")
    ]


def test_every_graded_bone_has_its_box_site_and_grades(full: hd.sr.MeasurementReport) -> None:
    answer = found()
    groups = bone_groups(full)
    assert list(groups) == [region.bone for region in answer.regions] == [str(bone) for bone in Bone]
    for region in answer.regions:
        group = groups[region.bone]
        x0, y0, x1, y1 = region.box_px
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        assert group.roi.graphic_type == hd.sr.GraphicTypeValues.POLYLINE
        assert np.allclose(group.roi.value, corners)
        said = dict(answers(group))
        assert set(said) - {"radius_subgrade"} == {f"{name}_grade" for name in region.grades}
        for name, grade in region.grades.items():
            written = "ABCDEFGHI"[round(grade)] if name == "tw3" else f"{grade:g}"
            assert said[f"{name}_grade"] == f"{name}:{written}"
        assert numbers(group) == [("confidence", 80.0, "%")]
        (site,) = group.finding_sites
        assert site.laterality.value == "7771000"
    assert dict(answers(groups["radius"]))["radius_subgrade"] == "chn:5_5"
    assert "radius_subgrade" not in dict(answers(groups["ulna"]))


@pytest.mark.parametrize(
    ("bone", "scheme", "value"),
    [("radius", "SCT", "62413002"), ("ulna", "SCT", "23416004"), ("pp3", "99BONEAGE", "pp3")],
)
def test_a_bone_is_coded_in_snomed_only_where_that_is_sure(
    bone: str, scheme: str, value: str, full: hd.sr.MeasurementReport
) -> None:
    (site,) = bone_groups(full)[bone].finding_sites
    assert (site.value.scheme_designator, site.value.value) == (scheme, value)


def test_a_box_ends_with_the_image() -> None:
    beyond = Region("radius", (-3.0, 50.0, 45.5, 71.0), {"rus_chn": 6.0}, 0.8)
    region = bone_groups(report(found(regions=(beyond,))))["radius"].roi
    assert np.allclose(region.value, [(0, 50), (40, 50), (40, 60), (0, 60), (0, 50)])


def test_a_bone_that_was_not_graded_is_named_in_words_alone() -> None:
    part = graded_assessment(missing=("radius",))
    made = report(part)
    assert "radius" not in bone_groups(made) and len(bone_groups(made)) == 14
    (warning,) = (text for name, text in texts(made) if name == "Warning")
    assert "radius" in warning and warning.endswith("[bone_not_graded]")
    assert "Totals by standard" not in hand_groups(made)


def test_the_report_says_what_it_is_for_and_every_warning(full: hd.sr.MeasurementReport) -> None:
    assert texts(full) == [
        ("Comment", "Research use only; not a medical device."),
        ("Comment", "Grades were learnt from bone ages, not from graders."),
        ("Warning", "the image is dark – look again [dark]"),
    ]
    assert len(texts(report(assessment()))) == 1


def test_the_algorithm_is_named_with_its_version() -> None:
    from boneage import __version__

    made = report(found(provenance={"bundle": "standard 9.9.9"}))
    for group in (*hand_groups(made).values(), *bone_groups(made).values()):
        items = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in group[0].ContentSequence}
        assert items["Algorithm Name"].TextValue == "boneage"
        assert items["Algorithm Version"].TextValue == __version__
        assert items["Algorithm Parameters"].TextValue == "bundle standard 9.9.9"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Änne"), ("GB18030", "王^小明"), (None, "Plain^Name"), ("ISO_IR 100", "Single")],
)
def test_names_keep_their_letters_and_stay_out_of_the_log(
    character_set: str | None, name: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    tags = {"SpecificCharacterSet": character_set, "PatientName": name, "PatientID": "secret-number" * 9}
    source = dcmread(io.BytesIO(file_bytes(study_image(**tags))))
    with caplog.at_level(logging.DEBUG):
        made = (
            read_back(structured_report(found(), source)),
            read_back(secondary_capture(found(), source, PAGE)),
        )
    assert [str(result.PatientName) for result in made] == [name] * 2
    said = caplog.text + " ".join(str(warning.message) for warning in recwarn)
    assert name not in said and "secret-number" not in said


@pytest.mark.parametrize(
    "tags",
    [
        dict.fromkeys(WHOSE),
        {"PatientSex": "unknown", "PatientBirthDate": "2016.3.1x", "StudyTime": "late"},
        {"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR"},
        {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"},
    ],
    ids=["nobody", "odd values", "CR", "SC"],
)
def test_a_poor_header_is_enough(tags: dict[str, Any], tmp_path: Path) -> None:
    source = study_image()
    for name, value in tags.items():
        if value is None:
            delattr(source, name)
        elif name in {"PatientSex", "PatientBirthDate", "StudyTime"}:
            source[name]._value = value
        else:
            setattr(source, name, value)
    made = structured_report(found(), source), secondary_capture(found(), source, PAGE)
    for result in made:
        again = read_back(result)
        assert again.StudyInstanceUID == source.StudyInstanceUID
        assert again.PatientSex in ("", None, "F") and again.StudyTime in ("", None, "101500")


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"StudyInstanceUID": None}, "lacks StudyInstanceUID"),
        ({"SOPInstanceUID": None, "Rows": None}, "lacks SOPInstanceUID, Rows"),
        ({"SOPClassUID": EncapsulatedPDFStorage}, "Encapsulated PDF Storage"),
    ],
)
def test_a_header_that_nothing_can_refer_to_is_refused(tags: dict[str, Any], said: str) -> None:
    source = study_image(**tags)
    for make in (structured_report, lambda *given: secondary_capture(*given, PAGE)):
        with pytest.raises(DeliveryError, match=said) as caught:
            make(found(), source)
        assert "HTML" in str(caught.value) and "drawn-7" not in str(caught.value)


@pytest.mark.parametrize("page", [PAGE[..., 0], PAGE.astype(np.float32), PAGE[..., :2]])
def test_a_page_must_be_a_colour_picture(page: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="page_pixels"):
        secondary_capture(found(), study_image(), page)


def test_the_capture_holds_the_page_and_names_its_source() -> None:
    made = read_back(secondary_capture(found(), study_image(), PAGE, WHEN))
    assert made.SOPClassUID == SecondaryCaptureImageStorage
    assert (made.PhotometricInterpretation, made.BitsAllocated) == ("RGB", 8)
    assert np.array_equal(made.pixel_array, PAGE)
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == study_image().SOPInstanceUID
    assert made.Laterality == "L" and "Research use only" in made.DerivationDescription


@pytest.mark.parametrize("said", ["YES", "NO", None])
def test_what_is_burnt_into_the_film_is_on_the_page(said: str | None) -> None:
    made = secondary_capture(found(), study_image(BurnedInAnnotation=said), PAGE)
    assert made.get("BurnedInAnnotation") == said


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'boneage\[dicom\]'"):
        structured_report(found(), study_image())


CASES = {
    "all": found,
    "no grades": assessment,
    "a part": lambda: graded_assessment(missing=("radius",)),
}


@pytest.mark.dicom
@pytest.mark.parametrize("case", CASES)
def test_dicom3tools_finds_no_error(case: str, tmp_path: Path) -> None:
    source, answer = study_image(), CASES[case]()
    for kind, made in (
        ("ComprehensiveSR", structured_report(answer, source)),
        ("SCImage", secondary_capture(answer, source, PAGE)),
    ):
        path = tmp_path / kind
        path.write_bytes(file_bytes(made))
        assert errors_of(path) == [kind]


@pytest.mark.dicom
def test_dicom3tools_would_find_an_error(tmp_path: Path) -> None:
    report_, capture = (
        structured_report(found(), study_image()),
        secondary_capture(found(), study_image(), PAGE),
    )
    del report_.VerificationFlag, capture.ConversionType
    for number, made in enumerate((report_, capture)):
        path = tmp_path / f"{number}"
        path.write_bytes(file_bytes(made))
        assert any("Missing attribute" in line for line in errors_of(path))


@pytest.mark.dicom
def test_dcmtk_reads_the_report(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(file_bytes(structured_report(found(), study_image(), WHEN)))
    text = report_text(path)
    for line in (
        'NUM:(,,"Bone age")="124.25" (mo,UCUM,"month")',
        'CODE:(,,"Grade by TW3-RUS")=(tw3:',
        'CODE:(,,"Finding Site")=(62413002,SCT,"Radius")',
        'TEXT:(,,"Comment")="Research use only; not a medical device."',
        'TEXT:(,,"Warning")="the image is dark',
    ):
        assert line in text
    assert text.count('SCOORD:(,,"Image Region")=(POLYLINE') == 15
