"""DICOM files written here in every combination, against the grey values that PS3.3 prescribes."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from boneage.core.errors import InputError, NotAHand, RuntimeUnavailable, UnreadableImage, UnsupportedImage
from boneage.core.types import FloatArray, Radiograph, Sex, Side
from boneage.imaging import dicom
from boneage.imaging.read import read_bytes

DicomWriter = Callable[..., bytes]

SHAPE = (72, 80)


def stored_values(bits: int, signed: bool, allocated: int) -> NDArray[Any]:
    """A ramp over the whole range of `bits`, shuffled so that no row is like another."""
    low = -(1 << (bits - 1)) if signed else 0
    ramp = np.linspace(low, low + (1 << bits) - 1, SHAPE[0] * SHAPE[1])
    np.random.default_rng(bits).shuffle(ramp)
    return np.rint(ramp).reshape(SHAPE).astype(f"{'i' if signed else 'u'}{allocated // 8}")


def window(values: NDArray[np.float64], kind: str, centre: float, width: float) -> NDArray[np.float64]:
    """The three functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, as printed, with ymin 0 and ymax 1."""
    if kind == "LINEAR":
        inside = (values - (centre - 0.5)) / (width - 1) + 0.5
        return np.where(
            values <= centre - 0.5 - (width - 1) / 2,
            0.0,
            np.where(values > centre - 0.5 + (width - 1) / 2, 1.0, inside),
        )
    if kind == "LINEAR_EXACT":
        inside = (values - centre) / width + 0.5
        return np.where(values <= centre - width / 2, 0.0, np.where(values > centre + width / 2, 1.0, inside))
    return 1 / (1 + np.exp(-4 * (values - centre) / width))


def voi(
    kind: str, values: NDArray[np.float64], signed: bool
) -> tuple[dict[str, Any], NDArray[np.float64], float]:
    """The tags of one kind of VOI, the grey it makes of the values, and the tolerance."""
    low, high = values.min(), values.max()
    centre, width = float(round((low + high) / 2 + 3)), float(round((high - low) * 0.6))
    if kind == "none":
        bounds = np.percentile(values, [0.1, 99.9])
        return {}, np.clip((values - bounds[0]) / np.ptp(bounds), 0, 1), 1e-4
    if kind == "LUT":
        item = Dataset()
        entries = int(min(2048, (high - low) // 2))
        first = int(centre) - entries // 2
        table = (np.linspace(0, 1, entries) ** 2 * 1023).astype(int)
        item.add_new(0x00283002, "SS" if signed or first < 0 else "US", [entries, first, 10])
        item.add_new(0x00283006, "US", table.tolist())
        index = np.clip(np.rint(values) - first, 0, entries - 1).astype(int)
        return {"VOILUTSequence": [item]}, table[index] / 1023, 1e-6
    tags = {"WindowCenter": centre, "WindowWidth": width}
    # LINEAR is what an absent function means.
    tags |= {} if kind == "LINEAR" else {"VOILUTFunction": kind}
    return tags, window(values, kind, centre, width), 1e-4


PRESENTATIONS = [
    ("MONOCHROME2", None, False),
    ("MONOCHROME2", "IDENTITY", False),
    ("MONOCHROME2", "INVERSE", True),
    ("MONOCHROME1", None, True),
    ("MONOCHROME1", "INVERSE", True),
]


@pytest.mark.parametrize(("photometric", "shape", "inverted"), PRESENTATIONS)
@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (8, 16), (10, 16), (12, 16), (14, 16), (16, 16)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", ["none", "LINEAR", "LINEAR_EXACT", "SIGMOID", "LUT"])
@pytest.mark.parametrize("rescale", [None, (1, 0), (2, -1000), (0.5, 10)])
def test_every_grey_scale_pipeline(
    photometric: str,
    shape: str | None,
    inverted: bool,
    bits: int,
    allocated: int,
    signed: bool,
    kind: str,
    rescale: tuple[float, float] | None,
    dicom_file: DicomWriter,
) -> None:
    stored = stored_values(bits, signed, allocated)
    slope, intercept = rescale or (1, 0)
    values = stored.astype(np.float64) * slope + intercept
    tags, expected, tolerance = voi(kind, values, signed)
    if rescale is not None:
        tags |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    data = dicom_file(
        stored, PhotometricInterpretation=photometric, PresentationLUTShape=shape, BitsStored=bits, **tags
    )
    pixels = dicom.decode(data).pixels
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, 1 - expected if inverted else expected, atol=tolerance)


@pytest.mark.parametrize("packed", [False, True])
def test_a_modality_lut_comes_before_the_window(packed: bool, dicom_file: DicomWriter) -> None:
    stored = stored_values(8, False, 8)
    table = (255 - np.arange(256)).astype(np.uint8)
    item = Dataset()
    item.ModalityLUTType = "US"
    item.add_new(0x00283002, "US", [256, 0, 8])
    item.add_new(0x00283006, "OW", table.tobytes() if packed else table.astype("<u2").tobytes())
    data = dicom_file(stored, ModalityLUTSequence=[item], WindowCenter=128, WindowWidth=256)
    expected = window(255.0 - stored, "LINEAR", 128, 256)
    np.testing.assert_allclose(dicom.decode(data).pixels, expected, atol=1e-5)


def test_the_voi_lut_comes_before_a_window(dicom_file: DicomWriter) -> None:
    stored = stored_values(8, False, 8)
    tags, expected, _ = voi("LUT", stored.astype(float), False)
    data = dicom_file(stored, WindowCenter=10, WindowWidth=4, **tags)
    np.testing.assert_allclose(dicom.decode(data).pixels, expected, atol=1e-6)


def test_the_first_of_several_windows_is_used(dicom_file: DicomWriter) -> None:
    stored = stored_values(12, False, 16)
    data = dicom_file(stored, BitsStored=12, WindowCenter=[2000, 1], WindowWidth=[1500, 2])
    np.testing.assert_allclose(
        dicom.decode(data).pixels, window(stored * 1.0, "LINEAR", 2000, 1500), atol=1e-5
    )


def test_a_window_that_hides_everything_is_not_followed(dicom_file: DicomWriter) -> None:
    stored = stored_values(12, False, 16)
    radiograph = dicom.decode(dicom_file(stored, BitsStored=12, WindowCenter=60_000, WindowWidth=100))
    assert [notice.code for notice in radiograph.warnings] == ["window_ignored"]
    assert "ignored" in radiograph.provenance["intensity"]
    assert np.ptp(radiograph.pixels) == 1


@pytest.mark.parametrize(("photometric", "inverted"), [("MONOCHROME1", True), ("MONOCHROME2", False)])
@pytest.mark.parametrize("limit", [None, 4095])
def test_padding_is_black_and_counts_for_nothing(
    photometric: str, inverted: bool, limit: int | None, dicom_file: DicomWriter
) -> None:
    stored = 500 + stored_values(8, False, 16)
    stored[:20] = 4000
    if limit is not None:
        stored[:10] = 4095
    data = dicom_file(
        stored,
        BitsStored=12,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=4000,
        PixelPaddingRangeLimit=limit,
    )
    pixels = dicom.decode(data).pixels
    values = stored[20:].astype(float)
    low, high = np.percentile(values, [0.1, 99.9])
    expected = np.clip((values - low) / (high - low), 0, 1)
    assert not pixels[:20].any()
    np.testing.assert_allclose(pixels[20:], 1 - expected if inverted else expected, atol=1e-4)


def test_one_dead_pixel_does_not_set_the_scale(dicom_file: DicomWriter) -> None:
    stored = stored_values(8, False, 16)
    stored[0, 0] = 65_535
    assert dicom.decode(dicom_file(stored)).pixels.mean() == pytest.approx(0.5, abs=0.01)


NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
def test_native_transfer_syntaxes(syntax: str, dicom_file: DicomWriter) -> None:
    stored = stored_values(12, False, 16)
    data = dicom_file(stored, BitsStored=12, WindowCenter=2048, WindowWidth=4096, encoding={"syntax": syntax})
    np.testing.assert_allclose(dicom.decode(data).pixels, stored / 4095, atol=1e-5)


def test_big_endian(dicom_file: DicomWriter) -> None:
    stored = stored_values(12, False, 16)
    data = dicom_file(
        stored,
        BitsStored=12,
        WindowCenter=2048,
        WindowWidth=4096,
        PixelData=stored.astype(">u2").tobytes(),
        encoding={"syntax": ExplicitVRBigEndian},
    )
    np.testing.assert_allclose(dicom.decode(data).pixels, stored / 4095, atol=1e-5)


LOSSLESS = [RLELossless, JPEGLSLossless, JPEG2000Lossless]


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (12, 16), (16, 16)])
def test_lossless_compression(syntax: str, bits: int, allocated: int, dicom_file: DicomWriter) -> None:
    stored = stored_values(bits, False, allocated)
    tags = {"BitsStored": bits, "WindowCenter": 1 << (bits - 1), "WindowWidth": 1 << bits}
    try:
        data = dicom_file(stored, compress=syntax, **tags)
    except RuntimeError:
        pytest.skip("no JPEG-LS encoder is installed: pip install pyjpegls")
    assert dcmread(BytesIO(data)).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_allclose(dicom.decode(data).pixels, stored / ((1 << bits) - 1), atol=1e-5)


def smooth_levels() -> NDArray[np.uint8]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.rint(127 + 100 * np.sin(x / 15) * np.cos(y / 20)).astype(np.uint8)


def jpeg_dicom(levels: NDArray[np.uint8], dicom_file: DicomWriter, **tags: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=98)
    pixel_data = encapsulate([file.getvalue()])
    return dicom_file(levels, PixelData=pixel_data, encoding={"syntax": JPEGBaseline8Bit}, **tags)


def test_jpeg_baseline(dicom_file: DicomWriter) -> None:
    levels = smooth_levels()
    data = jpeg_dicom(levels, dicom_file, WindowCenter=128, WindowWidth=256)
    np.testing.assert_allclose(dicom.decode(data).pixels, levels / 255, atol=0.03)


def test_lossy_jpeg_2000(dicom_file: DicomWriter) -> None:
    levels = smooth_levels()
    file = BytesIO()
    Image.fromarray(levels).save(
        file, "JPEG2000", irreversible=True, quality_mode="dB", quality_layers=[45], no_jp2=True
    )
    data = dicom_file(
        levels,
        PixelData=encapsulate([file.getvalue()]),
        WindowCenter=128,
        WindowWidth=256,
        encoding={"syntax": JPEG2000},
    )
    assert np.abs(dicom.decode(data).pixels - levels / 255).mean() < 0.01


def lossless_jpeg(levels: NDArray[np.uint8]) -> bytes:
    """A lossless JPEG (process 14, selection value 1) in which every difference has eight Huffman-coded bits.

    Source: ITU-T T.81 annex H; the table gives the nine categories 0 to 8 codes of four bits.
    """
    rows, columns = levels.shape
    head = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB3B", 11, 8, rows, columns, 1, 1, 0x11, 0)
    counts = bytes([0, 0, 0, 9] + [0] * 12)
    head += b"\xff\xc4" + struct.pack(">HB", 2 + 17 + 9, 0) + counts + bytes(range(9))
    head += b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 0, 0)
    signed = levels.astype(int)
    predicted = np.empty_like(signed)
    predicted[:, 1:] = signed[:, :-1]
    predicted[1:, 0] = signed[:-1, 0]
    predicted[0, 0] = 128
    bits = []
    for difference in (signed - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:04b}")
        if size:
            bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    body = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    return head + body + b"\xff\xd9"


def test_lossless_jpeg(dicom_file: DicomWriter) -> None:
    levels = smooth_levels()
    data = dicom_file(
        levels,
        PixelData=encapsulate([lossless_jpeg(levels)]),
        WindowCenter=128,
        WindowWidth=256,
        encoding={"syntax": "1.2.840.10008.1.2.4.70"},
    )
    np.testing.assert_allclose(dicom.decode(data).pixels, levels / 255, atol=1e-5)


def rgb_of(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.dstack([levels] * 3))


def test_rgb_secondary_capture(dicom_file: DicomWriter) -> None:
    levels = smooth_levels()
    data = dicom_file(rgb_of(levels), Modality="OT")
    np.testing.assert_allclose(dicom.decode(data).pixels, levels / 255, atol=1e-6)


def test_planar_rgb(dicom_file: DicomWriter) -> None:
    levels = smooth_levels()
    planes = np.stack([levels] * 3).tobytes()
    data = dicom_file(rgb_of(levels), PlanarConfiguration=1, PixelData=planes)
    np.testing.assert_allclose(dicom.decode(data).pixels, levels / 255, atol=1e-6)


def test_ybr_is_converted(dicom_file: DicomWriter) -> None:
    levels = smooth_levels()
    ybr = np.dstack([levels, np.full_like(levels, 128), np.full_like(levels, 128)])
    data = dicom_file(ybr, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(dicom.decode(data).pixels, levels / 255, atol=1.01 / 255)


def test_ybr_jpeg_is_converted(dicom_file: DicomWriter) -> None:
    levels = rgb_of(smooth_levels())
    data = jpeg_dicom(levels, dicom_file, PhotometricInterpretation="YBR_FULL_422")
    np.testing.assert_allclose(dicom.decode(data).pixels, levels[..., 0] / 255, atol=0.03)


def test_a_colour_photograph_in_dicom_is_refused(dicom_file: DicomWriter) -> None:
    photograph = (
        np.random.default_rng(0).integers(0, 255, (9, 10, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    )
    with pytest.raises(NotAHand, match="a colour photograph"):
        dicom.decode(dicom_file(photograph))


def test_bits_above_those_stored_are_ignored(dicom_file: DicomWriter) -> None:
    """Old files keep an overlay in the unused high bits."""
    stored = stored_values(12, False, 16)
    overlaid = stored.copy()
    overlaid[::3] |= 0xF000
    data = dicom_file(overlaid, BitsStored=12, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_allclose(dicom.decode(data).pixels, stored / 4095, atol=1e-5)


@pytest.mark.parametrize("keep_meta", [False, True])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda s: s.keyword)
def test_a_file_without_preamble(keep_meta: bool, syntax: str, dicom_file: DicomWriter) -> None:
    stored = stored_values(8, False, 8)
    data = dicom_file(stored, WindowCenter=128, WindowWidth=256, encoding={"syntax": syntax})
    start = 132 if keep_meta else 132 + 12 + int.from_bytes(data[140:144], "little")
    np.testing.assert_allclose(read_bytes(data[start:]).pixels, stored / 255, atol=1e-5)


# What the tags say of patient and picture ---------------------------------------------------------


def tagged(dicom_file: DicomWriter, **tags: Any) -> Radiograph:
    return dicom.decode(dicom_file(stored_values(8, False, 8), **tags))


@pytest.mark.parametrize(
    ("tags", "expected", "source"),
    [
        ({"PixelSpacing": [0.1, 0.2]}, (0.1, 0.2), "(0028,0030)"),
        ({"PixelSpacing": [0.1, 0.2], "ImagerPixelSpacing": [0.3, 0.3]}, (0.1, 0.2), "(0028,0030)"),
        ({"ImagerPixelSpacing": [0.15, 0.15]}, (0.15, 0.15), "magnification is not given"),
        (
            {"ImagerPixelSpacing": [0.15, 0.3], "EstimatedRadiographicMagnificationFactor": 1.5},
            (0.1, 0.2),
            "Magnification Factor 1.5",
        ),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, (0.1, 0.1), "(0018,2010)"),
        ({"PixelSpacing": [0, 0]}, None, None),
        ({}, None, None),
    ],
)
def test_spacing(
    tags: dict[str, Any], expected: tuple[float, float] | None, source: str | None, dicom_file: DicomWriter
) -> None:
    radiograph = tagged(dicom_file, **tags)
    assert radiograph.spacing_mm == (None if expected is None else pytest.approx(expected))
    assert (source is None) == ("spacing_mm" not in radiograph.provenance)
    assert source is None or source in radiograph.provenance["spacing_mm"]


@pytest.mark.parametrize(
    ("tags", "side", "source"),
    [
        ({"ImageLaterality": "L"}, Side.LEFT, "(0020,0062)"),
        ({"ImageLaterality": "R", "Laterality": "L"}, Side.RIGHT, "(0020,0062)"),
        ({"Laterality": "R"}, Side.RIGHT, "(0020,0060)"),
        ({"ImageLaterality": "B", "Laterality": ""}, None, None),
    ],
)
def test_laterality(
    tags: dict[str, str], side: Side | None, source: str | None, dicom_file: DicomWriter
) -> None:
    radiograph = tagged(dicom_file, **tags)
    assert radiograph.side is side
    assert radiograph.provenance.get("side", "").startswith(source or "")


@pytest.mark.parametrize(
    ("text", "sex", "codes"),
    [
        ("F", Sex.FEMALE, []),
        ("M ", Sex.MALE, []),
        ("O", None, ["sex_unknown"]),
        ("X", None, ["sex_unknown"]),
        ("", None, []),
        (None, None, []),
    ],
)
def test_sex(text: str | None, sex: Sex | None, codes: list[str], dicom_file: DicomWriter) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data = dicom_file(stored_values(8, False, 8), PatientSex=text)
    radiograph = dicom.decode(data)
    assert radiograph.sex is sex
    assert [notice.code for notice in radiograph.warnings] == codes
    assert ("sex" in radiograph.provenance) == (sex is not None)


@pytest.mark.parametrize(
    ("tags", "months", "source", "codes"),
    [
        ({"PatientAge": "123M"}, 123, "(0010,1010)", []),
        ({"PatientAge": "010Y"}, 120, "(0010,1010)", []),
        ({"PatientAge": "052W"}, 52 * 7 / 30.4375, "(0010,1010)", []),
        ({"PatientAge": "061D"}, 61 / 30.4375, "(0010,1010)", []),
        ({"PatientAge": "ten"}, None, None, []),
        ({"PatientBirthDate": "20100101", "StudyDate": "20200101"}, 120.0, "(0010,0030)", []),
        (
            {"PatientBirthDate": "20100101", "StudyDate": "20200701", "PatientAge": "010Y"},
            125.98,
            "(0010,0030)",
            [],
        ),
        (
            {"PatientBirthDate": "19000101", "StudyDate": "20200701", "PatientAge": "010Y"},
            120,
            "(0010,1010)",
            ["age_implausible"],
        ),
        (
            {"PatientBirthDate": "20100101", "StudyDate": "20200101", "PatientAge": "006Y"},
            120.0,
            "(0010,0030)",
            ["age_disagrees"],
        ),
        ({"PatientBirthDate": "20200101", "StudyDate": "20100101"}, None, None, ["age_implausible"]),
        ({"PatientBirthDate": "20100101", "ContentDate": "20110101"}, 12.0, "(0008,0023)", []),
        ({"PatientBirthDate": "20100101"}, None, None, []),
        ({"PatientAge": "999Y"}, None, None, ["age_implausible"]),
    ],
)
def test_age(
    tags: dict[str, str], months: float | None, source: str | None, codes: list[str], dicom_file: DicomWriter
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data = dicom_file(stored_values(8, False, 8), **tags)
    radiograph = dicom.decode(data)
    found = radiograph.chronological_age_months
    assert found == (None if months is None else pytest.approx(months, abs=0.06))
    assert [notice.code for notice in radiograph.warnings] == codes
    assert source is None or source in radiograph.provenance["chronological_age_months"]


SECRET = "ZZPRIVATEZZ"


def test_identifiers_travel_and_are_never_shown(
    dicom_file: DicomWriter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    tags = {
        "PatientName": f"{SECRET}^A",
        "PatientID": SECRET,
        "AccessionNumber": SECRET,
        "StudyDate": "20200101",
    }
    radiograph = tagged(dicom_file, PatientBirthDate="20100101", PatientSex="O", **tags)
    assert radiograph.identifiers["PatientID"] == SECRET
    for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert radiograph.identifiers[name].startswith("1.")
    shown = f"{radiograph!r} {radiograph.warnings} {dict(radiograph.provenance)} {caplog.text}"
    assert SECRET not in shown
    assert "20100101" not in shown


def test_malformed_values_are_not_quoted_by_a_warning(dicom_file: DicomWriter) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data = dicom_file(stored_values(8, False, 8), PatientBirthDate=SECRET, PatientAge=SECRET)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert dicom.decode(data).chronological_age_months is None
    assert not [warning for warning in caught if SECRET in str(warning.message)]


@pytest.mark.parametrize(
    ("tags", "codes"),
    [
        ({"BodyPartExamined": "HAND"}, []),
        ({"BodyPartExamined": "LT WRIST"}, []),
        ({"BodyPartExamined": "FOOT"}, ["body_part"]),
        ({"PresentationIntentType": "FOR PROCESSING"}, ["for_processing"]),
        ({"PresentationIntentType": "FOR PRESENTATION"}, []),
    ],
)
def test_doubts(tags: dict[str, str], codes: list[str], dicom_file: DicomWriter) -> None:
    assert [notice.code for notice in tagged(dicom_file, **tags).warnings] == codes


# Polarity of the pixels against the tags ----------------------------------------------------------


@pytest.mark.parametrize(
    ("bone_stored_high", "photometric", "codes"),
    [
        (True, "MONOCHROME2", []),
        (False, "MONOCHROME1", []),
        (False, "MONOCHROME2", ["polarity_corrected", "polarity_tags_disagree"]),
        (True, "MONOCHROME1", ["polarity_corrected", "polarity_tags_disagree"]),
    ],
)
def test_bone_ends_bright_whatever_the_tags_say(
    bone_stored_high: bool,
    photometric: str,
    codes: list[str],
    drawn_hand: FloatArray,
    dicom_file: DicomWriter,
) -> None:
    hand = drawn_hand if bone_stored_high else 1 - drawn_hand
    stored = np.rint(hand * 4095).astype(np.uint16)
    data = dicom_file(
        stored, BitsStored=12, PhotometricInterpretation=photometric, WindowCenter=2048, WindowWidth=4096
    )
    radiograph = read_bytes(data)
    np.testing.assert_allclose(radiograph.pixels, drawn_hand, atol=2e-4)
    assert [notice.code for notice in radiograph.warnings] == codes


# Bad files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "error", "reason"),
    [
        ({"NumberOfFrames": 3}, UnsupportedImage, r"multi-frame \(3 frames\)"),
        ({"Rows": 30_000, "Columns": 30_000}, UnsupportedImage, "too large"),
        ({"Rows": 40_000}, UnsupportedImage, "too large"),
        ({"Rows": 10, "Columns": 10}, UnsupportedImage, "too small"),
        ({"Rows": None}, UnreadableImage, "lacks Rows"),
        ({"PhotometricInterpretation": None}, UnreadableImage, "lacks PhotometricInterpretation"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, UnsupportedImage, "PALETTE COLOR"),
        ({"Modality": "CT"}, UnsupportedImage, "modality CT"),
        ({"BitsAllocated": 32, "BitsStored": 32}, UnsupportedImage, "32 of 32 bits"),
        ({"BitsStored": 4}, UnsupportedImage, "4 of 8 bits"),
        ({"Rows": SHAPE[0] * 2}, UnreadableImage, "damaged or end early"),
        ({"PixelData": b"\0" * 100}, UnreadableImage, "damaged or end early"),
    ],
)
def test_unfit_files_are_refused(
    tags: dict[str, Any], error: type[InputError], reason: str, dicom_file: DicomWriter
) -> None:
    data = dicom_file(stored_values(8, False, 8), **tags)
    with pytest.raises(error, match=reason) as caught:
        dicom.decode(data)
    assert "\n" not in str(caught.value)


def test_no_pixel_data(dicom_file: DicomWriter) -> None:
    data = dicom_file(stored_values(8, False, 8), PixelData=None)
    with pytest.raises(UnreadableImage, match="no pixel data"):
        dicom.decode(data)


def test_an_unknown_compression_is_named(dicom_file: DicomWriter) -> None:
    data = dicom_file(smooth_levels(), PixelData=encapsulate([b"\0" * 64]), encoding={"syntax": MPEG4HP41})
    with pytest.raises(UnsupportedImage, match="MPEG-4"):
        dicom.decode(data)


def test_a_missing_decoder_is_named(dicom_file: DicomWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom_file(smooth_levels(), compress=JPEG2000Lossless)
    monkeypatch.setattr(get_decoder(JPEG2000Lossless), "_available", {})
    with pytest.raises(RuntimeUnavailable, match=r"JPEG 2000.*pip install"):
        dicom.decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_a_stream_of_another_size_is_not_decoded(kind: str, dicom_file: DicomWriter) -> None:
    large = BytesIO()
    Image.new("L", (3000, 2000)).save(large, kind)
    stream = large.getvalue()
    if kind == "JPEG2000":
        stream = stream[stream.index(b"\xff\x4f\xff\x51") :]
    assert dicom.stream_size(stream) == (2000, 3000)
    syntax = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    data = dicom_file(smooth_levels(), PixelData=encapsulate([stream]), encoding={"syntax": syntax})
    with pytest.raises(UnreadableImage, match="stated size"):
        dicom.decode(data)


def test_a_deflated_bomb_is_refused_before_it_is_unpacked(
    dicom_file: DicomWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dicom_file(np.zeros((4096, 4096), np.uint8), encoding={"syntax": DeflatedExplicitVRLittleEndian})
    assert len(data) < 40_000
    monkeypatch.setattr(dicom, "MAX_FILE_BYTES", 10 << 20)
    with pytest.raises(UnsupportedImage, match="unpacks to more than"):
        dicom.decode(data)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
def test_a_truncated_file_is_refused(share: float, syntax: str | None, dicom_file: DicomWriter) -> None:
    stored = stored_values(12, False, 16)
    if syntax == DeflatedExplicitVRLittleEndian:
        data = dicom_file(stored, BitsStored=12, encoding={"syntax": syntax})
    else:
        data = dicom_file(stored, BitsStored=12, compress=syntax)
    with pytest.raises(InputError):
        read_bytes(data[: int(len(data) * share)])


def test_a_group_length_of_one_byte_is_refused(dicom_file: DicomWriter) -> None:
    file = bytearray(dicom_file(stored_values(8, False, 8)))
    file[138] = 1  # pydicom's own exception for it is none of Python's
    with pytest.raises(InputError):
        read_bytes(bytes(file))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damage_anywhere_ends_in_an_input_error_or_a_picture(
    data: st.DataObject, dicom_file: DicomWriter
) -> None:
    file = bytearray(
        dicom_file(
            stored_values(8, False, 8),
            WindowCenter=128,
            WindowWidth=256,
            PatientAge="010Y",
            PixelSpacing=[1, 1],
        )
    )
    header = file.index(b"\xe0\x7f\x10\x00") + 12
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(128, header))] = data.draw(st.integers(0, 255))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            radiograph = read_bytes(bytes(file))
    except InputError:
        return
    assert 0 <= radiograph.pixels.min() <= radiograph.pixels.max() <= 1
