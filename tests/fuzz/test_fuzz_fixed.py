"""What damage once got past: each of these let an unforeseen error out, before it was fixed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boneage_fakes
import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation

import seeds
from boneage.batch.journal import Journal
from boneage.cli.console import write_file
from boneage.core.errors import BundleError, ConfigError, DeliveryError, InputError
from boneage.data.manifest import read_manifest
from boneage.imaging.read import read_bytes
from boneage.inference.atlas import Atlas
from boneage.inference.bundle import Bundle
from boneage.reporting.dicom_results import structured_report
from boneage.reporting.forms import read_header


def load_bundle(folder: Path, **changes: Any) -> Bundle:
    record = {**json.loads(seeds.bundle()[0]), "files": {}, **changes}
    (folder / "manifest.json").write_text(json.dumps(record))
    return Bundle.load(folder)


@pytest.mark.parametrize("part", ["graphs", "files", "checksums"])
@pytest.mark.parametrize(
    "value", [1.5, None, [], "net.onnx", {"net": 3}, {"net": None}, {"net": ["net.onnx"]}]
)
def test_a_bundle_whose_files_are_named_by_no_texts_is_refused(
    tmp_path: Path, part: str, value: object
) -> None:
    with pytest.raises(BundleError, match=f"'{part}' does not name files"):
        load_bundle(tmp_path, **{part: value})


@pytest.mark.parametrize("name", ["../net.onnx", "/etc/passwd", "a/b", "", ".", "..", "a\0b"])
@pytest.mark.parametrize("part", ["graphs", "files"])
def test_a_bundle_names_no_file_beyond_its_folder(tmp_path: Path, part: str, name: str) -> None:
    with pytest.raises(BundleError, match="no file of the bundle's own folder"):
        load_bundle(tmp_path, **{part: {"net": name}})


def test_methods_that_are_no_object_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="'methods' is no JSON object"):
        load_bundle(tmp_path, methods=["hand_regression"])


@pytest.mark.parametrize(("kind", "name"), [(Bundle, "manifest.json"), (Atlas, "atlas.json")])
def test_json_that_is_nested_beyond_all_measure_is_refused(tmp_path: Path, kind: Any, name: str) -> None:
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(BundleError, match="is not JSON"):
        kind.load(tmp_path)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Rows"])
def test_a_header_with_two_identifiers_gets_no_report(keyword: str) -> None:
    header = dcmread(io.BytesIO(seeds.dicom()[0]), stop_before_pixels=True)
    with disable_value_validation():
        setattr(header, keyword, [1, 2] if keyword == "Rows" else ["1.2.3", "1.2.4"])
        with pytest.raises(DeliveryError, match=keyword):
            structured_report(boneage_fakes.graded_assessment(), header)


def test_a_webp_header_of_a_quarter_of_a_billion_pixels_is_refused() -> None:
    data = bytearray(seeds.webp()[0])
    width, height = 16383, 16383
    data[21:25] = ((width - 1) | (height - 1) << 14).to_bytes(
        4, "little"
    )  # after the signature of lossless WebP
    with pytest.raises(InputError):
        read_bytes(bytes(data))


@pytest.mark.parametrize(("keyword", "value"), [("StudyDate", []), ("StudyDate", ["20260101", "20260102"])])
def test_a_header_whose_values_cannot_be_repeated_gets_no_report(keyword: str, value: object) -> None:
    header = dcmread(io.BytesIO(seeds.dicom()[0]), stop_before_pixels=True)
    with disable_value_validation():
        setattr(header, keyword, value)
        try:
            assert structured_report(boneage_fakes.graded_assessment(), header).SOPInstanceUID
        except DeliveryError as error:
            assert "no result can repeat" in str(error)


def test_a_tag_of_an_unknown_kind_gets_no_report() -> None:
    data = seeds.dicom()[0].replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00UH")
    header = read_header(data)
    with pytest.raises(DeliveryError, match="no result can repeat"):
        structured_report(boneage_fakes.graded_assessment(), header)


def test_a_report_that_cannot_be_written_is_told_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeliveryError, match="cannot be written"):
        write_file(tmp_path / "file" / "report.html", "page")


def test_a_journal_on_a_full_disk_says_so_and_nothing_else(tmp_path: Path) -> None:
    """The limit of a file's size stands for the disk's; closing tried the line that did not fit once more."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from boneage.batch.journal import Journal\n"
        "from boneage.core.errors import DeliveryError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    with Journal(Path(sys.argv[1])) as journal:\n"
        "        journal.append('0' * 16, {'id': 'a' * 300})\n"
        "except DeliveryError as error:\n"
        "    sys.exit('told: ' + str(error))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "out.csv.journal"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1 and run.stderr.startswith("told: "), run.stderr
    assert "free some space and --resume" in run.stderr


def test_column_names_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    content = seeds.parquet()[0]
    assert content.count(b"bone_age_months") >= 2
    path.write_bytes(content.replace(b"bone_age_months", b"bone_\xacge_months"))
    with pytest.raises(ConfigError, match="not readable as Parquet"):
        read_manifest(path)


@pytest.mark.parametrize("line", [b'{"key": "0000000000000000"}', b'{"key": "0", "row": 3}', b"[" * 100_000])
def test_a_journal_whose_lines_hold_no_rows_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "out.csv.journal").write_bytes(line + b"\n")
    with pytest.raises(DeliveryError, match="no journal of boneage"):
        Journal(tmp_path / "out.csv.journal")
