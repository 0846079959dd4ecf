"""Every raster format, depth and channel layout; and every bad file that can be named as one."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from boneage.core.errors import InputError, NotAHand, UnreadableImage, UnsupportedImage
from boneage.core.types import FloatArray
from boneage.imaging import quality, raster
from boneage.imaging.read import read, read_bytes


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def encode_by_opencv(extension: str, pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(extension, pixels)
    assert done
    return data.tobytes()


@pytest.fixture(scope="module")
def grey8(drawn_hand: FloatArray) -> np.ndarray:
    return np.rint(drawn_hand * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def grey16(drawn_hand: FloatArray) -> np.ndarray:
    return np.rint(drawn_hand * 65535).astype(np.uint16)


LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_eight_bit_layouts_give_the_grey_levels(kind: str, mode: str, grey8: np.ndarray) -> None:
    image = Image.fromarray(grey8).convert(mode)
    if kind == "WEBP" and mode in ("P", "LA"):
        image = image.convert("RGBA")
    read_back = read_bytes(encode(image, kind.split(maxsplit=1)[0], **LOSSLESS[kind]))
    assert read_back.pixels.dtype == np.float32
    # WebP stores lossless RGB, but a weighted sum of equal channels may round by one level.
    np.testing.assert_allclose(read_back.pixels, grey8 / 255, atol=1.01 / 255)
    assert read_back.warnings == ()


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept(extension: str, channels: int, grey16: np.ndarray) -> None:
    pixels = (
        grey16 if channels == 1 else np.dstack([grey16] * 3 + [np.full_like(grey16, 65535)] * (channels == 4))
    )
    read_back = read_bytes(encode_by_opencv(extension, pixels))
    np.testing.assert_allclose(read_back.pixels, grey16 / 65535, atol=1.5 / 65535)


def test_scale_is_that_of_the_type_and_not_of_the_brightest_pixel(grey16: np.ndarray) -> None:
    read_back = read_bytes(encode_by_opencv(".png", grey16 // 4))
    assert read_back.pixels.max() == pytest.approx((grey16 // 4).max() / 65535, abs=1e-6)


@pytest.mark.parametrize("quality_", [70, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(quality_: int, progressive: bool, grey8: np.ndarray) -> None:
    data = encode(Image.fromarray(grey8), "JPEG", quality=quality_, progressive=progressive)
    assert np.abs(read_bytes(data).pixels - grey8 / 255).mean() < 0.01


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_is_black_and_white(kind: str, grey8: np.ndarray) -> None:
    image = Image.fromarray(grey8).convert("1", dither=Image.Dither.NONE)
    np.testing.assert_array_equal(
        read_bytes(encode(image, kind)).pixels, np.asarray(image).astype(np.float32)
    )


def test_a_palette_is_looked_up(grey8: np.ndarray) -> None:
    """Indices that run against the brightness they stand for."""
    image = Image.fromarray(255 - grey8, "P")
    image.putpalette([level for index in range(256) for level in [255 - index] * 3])
    for kind in ("PNG", "TIFF"):
        np.testing.assert_allclose(read_bytes(encode(image, kind)).pixels, grey8 / 255, atol=1.01 / 255)


def test_alpha_is_blended_on_black(grey8: np.ndarray) -> None:
    alpha = np.full_like(grey8, 255)
    alpha[:, :50] = 0
    alpha[:, 50:100] = 128
    image = Image.fromarray(np.dstack([grey8] * 3 + [alpha]), "RGBA")
    levels, _ = raster.decode(encode(image, "PNG"))
    np.testing.assert_allclose(levels, grey8 * (alpha / 255), atol=1)


def tiff_with_white_zero(levels: np.ndarray) -> bytes:
    """An uncompressed one-strip TIFF with photometric interpretation 0 and `levels` as stored."""
    height, width = levels.shape
    tags = [
        (256, width),
        (257, height),
        (258, 8 * levels.itemsize),
        (259, 1),
        (262, 0),
        (273, 8 + 2 + 9 * 12 + 4),
    ]
    tags += [(277, 1), (278, height), (279, levels.nbytes)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0) + levels.tobytes()


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_turned(depth: type, drawn_hand: FloatArray) -> None:
    full = np.iinfo(depth).max
    stored = np.rint((1 - drawn_hand) * full).astype(depth)
    np.testing.assert_array_equal(raster.decode(tiff_with_white_zero(stored))[0], full - stored)


WHOLE = [
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("TIFF", {}),
    ("WEBP", {"lossless": True}),
]


@pytest.mark.parametrize(("kind", "options"), WHOLE)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95, 0.999])
def test_a_truncated_file_is_refused(
    kind: str, options: dict[str, Any], share: float, grey8: np.ndarray
) -> None:
    data = encode(Image.fromarray(grey8), kind, **options)
    with pytest.raises(UnreadableImage, match=r"damaged|ends early"):
        raster.decode(data[: int(len(data) * share)])


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_refused(grey8: np.ndarray) -> None:
    thumbnail = encode(Image.fromarray(grey8[::4, ::4]), "JPEG")
    whole = encode(Image.fromarray(grey8), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = whole[:2] + segment + whole[2:]
    assert raster.decode(data)[0].shape == grey8.shape
    with pytest.raises(UnreadableImage):
        raster.decode(data[:-400])


def test_a_flipped_bit_in_a_png_is_found(grey8: np.ndarray) -> None:
    data = bytearray(encode(Image.fromarray(grey8), "PNG"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(UnreadableImage):
        raster.decode(bytes(data))


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (30_001, 64), (64, 30_001), (10_001, 10_000)]
)
def test_a_huge_image_is_refused_before_decoding(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    with pytest.raises(UnsupportedImage, match="too large"):
        raster.decode(png_header(width, height))


@pytest.mark.parametrize("size", [(1, 1), (63, 200), (200, 63)])
def test_a_tiny_image_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedImage, match="too small"):
        raster.decode(encode(Image.new("L", size, 90), "PNG"))


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_several_pages_are_refused(kind: str, grey8: np.ndarray) -> None:
    first, second = (Image.fromarray(np.dstack([levels] * 3)) for levels in (grey8, 255 - grey8))
    with pytest.raises(UnsupportedImage, match="2 pages or frames"):
        raster.decode(encode(first, kind, save_all=True, append_images=[second]))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_levels_of_another_type_are_refused(kind: type, grey8: np.ndarray) -> None:
    with pytest.raises(UnsupportedImage, match="8 or 16 bit"):
        raster.decode(encode(Image.fromarray(grey8.astype(kind)), "TIFF"))


def scene(seed: int) -> np.ndarray:
    """A drawn colour scene: sky, grass and coloured things."""
    rng = np.random.default_rng(seed)
    image = np.zeros((200, 240, 3), np.uint8)
    image[:90], image[90:] = (200, 160, 90), (60, 150, 70)
    for _ in range(12):
        centre = tuple(int(value) for value in rng.integers(20, 200, 2))
        cv2.circle(image, centre, int(rng.integers(8, 30)), rng.integers(0, 255, 3).tolist(), -1)
    return image


@pytest.mark.parametrize("seed", range(3))
def test_a_colour_photograph_is_refused(seed: int) -> None:
    with pytest.raises(NotAHand, match="a colour photograph, not a radiograph"):
        raster.decode(encode_by_opencv(".jpg", scene(seed)))


def test_a_photographed_skin_is_refused(drawn_hand: FloatArray) -> None:
    skin = drawn_hand[..., None] * np.array([105, 150, 220], np.float32) / 0.85
    with pytest.raises(NotAHand):
        raster.decode(encode_by_opencv(".png", np.clip(skin, 0, 255).astype(np.uint8)))


@pytest.mark.parametrize("tint", [(1.0, 0.88, 0.78), (0.75, 0.9, 1.0), (0.95, 1.0, 0.93)])
def test_a_tinted_scan_passes(tint: tuple[float, ...], drawn_hand: FloatArray) -> None:
    tinted = np.rint(drawn_hand[..., None] * np.array(tint) * 255).astype(np.uint8)
    levels, notices = raster.decode(encode_by_opencv(".jpg", tinted))
    assert levels.shape == drawn_hand.shape
    assert {notice.code for notice in notices} == {"tinted"}


def test_a_coloured_arrow_on_a_radiograph_passes(grey8: np.ndarray) -> None:
    image = np.dstack([grey8] * 3)
    cv2.arrowedLine(image, (20, 20), (60, 60), (0, 255, 255), 2)
    assert raster.decode(encode_by_opencv(".png", image))[0].shape == grey8.shape


def _zip() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("hand.txt", "no image")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"these are words, not pixels" * 20, "no image"),
        (_zip(), "no image"),
        (b"\x89PNG\r\n\x1a\n", "damaged or ends early"),
        (b"\xff\xd8\xff", "damaged or ends early"),
        (b"II*\x00\xff\xff\xff\xff", "damaged or ends early"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "damaged or ends early"),
        (b"GIF89a" + b"\0" * 100, "no image"),
        (b"%PDF-1.7 " + b"\0" * 200, "no image"),
    ],
)
def test_what_is_named_png_but_is_not_is_refused_in_one_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "hand.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="no such file"):
        read(tmp_path / "none.png")
    with pytest.raises(UnreadableImage, match="a folder"):
        read(tmp_path)
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read("a\0b.png")


def test_a_file_that_is_too_large_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(quality.MAX_FILE_BYTES + 1)
    with pytest.raises(UnsupportedImage, match="larger than"):
        read(path)


def test_the_extension_plays_no_part(tmp_path: Path, grey8: np.ndarray) -> None:
    path = tmp_path / "hand.txt"
    path.write_bytes(encode(Image.fromarray(grey8), "PNG"))
    radiograph = read(path)
    assert radiograph.path == str(path)
    np.testing.assert_allclose(radiograph.pixels, grey8 / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damage_anywhere_ends_in_an_input_error_or_a_picture(kind: str, data: st.DataObject) -> None:
    ramp = np.add.outer(np.arange(80), np.arange(80)).astype(np.uint8)
    damaged = bytearray(encode(Image.fromarray(ramp), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        radiograph = read_bytes(bytes(damaged))
    except InputError:
        return
    assert 0 <= radiograph.pixels.min() <= radiograph.pixels.max() <= 1
