"""The bundle: what was written is read again; what was touched, lost or of another version is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boneage.core.errors import BundleError, ChecksumMismatch, DeliveryError, Incompatible
from boneage.inference.bundle import MANIFEST, SCHEMA, Bundle, checksum, read_manifest, write_bundle

CONTENT: dict[str, Any] = {
    "name": "trial",
    "version": "1.2",
    "method": "hand_regression",
    "methods": {"hand_regression": {"correction": {}}},
    "graphs": {"hand_finder": "finder.onnx"},
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    graph, folds = tmp_path / "a.bin", tmp_path / "b.csv"
    graph.write_bytes(bytes(range(256)) * 10)
    folds.write_text("id,fold\n1,0\n")
    return {"finder.onnx": graph, "folds.csv": folds}


@pytest.fixture
def bundle(tmp_path: Path, files: dict[str, Path]) -> Bundle:
    return write_bundle(tmp_path / "trial", CONTENT, files)


def edit(bundle: Bundle, **changes: Any) -> None:
    """Write a manifest with some keys changed, or left out where the value is None."""
    manifest = {**bundle.manifest, **changes}
    kept = {key: value for key, value in manifest.items() if value is not None}
    (bundle.path / MANIFEST).write_text(json.dumps(kept))


def test_what_is_written_is_read_again(bundle: Bundle, files: dict[str, Path]) -> None:
    again = Bundle.load(bundle.path)
    assert again.manifest == {"schema": SCHEMA, **CONTENT, "checksums": again.manifest["checksums"]}
    assert again.name == "trial 1.2"
    assert again.graph("hand_finder").read_bytes() == files["finder.onnx"].read_bytes()
    assert sorted(path.name for path in again.path.iterdir()) == ["finder.onnx", "folds.csv", MANIFEST]


def test_the_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert checksum(tmp_path / "abc") == expected


@pytest.mark.parametrize("at", [0, 1000, -1])
def test_one_flipped_bit_is_refused(bundle: Bundle, at: int) -> None:
    content = bytearray((bundle.path / "finder.onnx").read_bytes())
    content[at] ^= 1
    (bundle.path / "finder.onnx").write_bytes(content)
    with pytest.raises(ChecksumMismatch, match=r"trial/finder\.onnx.*install the bundle again"):
        Bundle.load(bundle.path)


def test_a_missing_file_is_refused(bundle: Bundle) -> None:
    (bundle.path / "folds.csv").unlink()
    with pytest.raises(ChecksumMismatch, match=r"trial/folds\.csv is missing"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, "1", None])
def test_another_schema_is_refused(bundle: Bundle, schema: object) -> None:
    edit(bundle, schema=schema)
    with pytest.raises(Incompatible, match=f"schema is {schema!r}, this version reads {SCHEMA}"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b'"text"', b"\xff\xfe\x00"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Bundle, content: bytes) -> None:
    (bundle.path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="install the bundle") as caught:
        Bundle.load(bundle.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "version", "method", "methods", "graphs", "checksums"])
def test_a_manifest_without_a_key_that_is_needed_is_refused(bundle: Bundle, key: str) -> None:
    edit(bundle, **{key: None})
    with pytest.raises(BundleError, match=repr(key)):
        Bundle.load(bundle.path)


def test_a_graph_that_no_checksum_vouches_for_is_refused(bundle: Bundle) -> None:
    edit(bundle, graphs={"hand_finder": "folds.csv", "hand_regression": "other.onnx"})
    (bundle.path / "other.onnx").write_bytes(b"who knows")
    with pytest.raises(ChecksumMismatch, match=r"other\.onnx"):
        Bundle.load(bundle.path)


def test_no_bundle_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        Bundle.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BundleError, match="no bundle at"):
        read_manifest(tmp_path / "file")


def test_an_unknown_graph_is_named_with_those_there_are(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no graph 'radius'; it has hand_finder"):
        bundle.graph("radius")


def test_an_existing_bundle_is_replaced_whole(bundle: Bundle, files: dict[str, Path]) -> None:
    again = write_bundle(bundle.path, {**CONTENT, "version": "2"}, {"finder.onnx": files["finder.onnx"]})
    assert again.name == "trial 2"
    assert sorted(path.name for path in bundle.path.iterdir()) == ["finder.onnx", MANIFEST]


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(bundle: Bundle, files: dict[str, Path]) -> None:
    lost = {**files, "oof.csv": bundle.path.parent / "absent.csv"}
    with pytest.raises(DeliveryError, match="cannot write the bundle"):
        write_bundle(bundle.path, {**CONTENT, "version": "2"}, lost)
    assert Bundle.load(bundle.path).name == "trial 1.2"


def test_a_new_bundle_that_cannot_take_the_old_ones_place_leaves_it_there(
    bundle: Bundle, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(DeliveryError, match="No space left"):
        write_bundle(bundle.path, {**CONTENT, "version": "2"}, files)
    assert Bundle.load(bundle.path).name == "trial 1.2"


def test_the_old_bundle_is_there_until_the_new_one_is(
    bundle: Bundle, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, names = Path.rename, []

    def watch(self: Path, target: Path) -> Path:
        names.append([Bundle.load(path).name for path in bundle.path.parent.glob("*trial*")])
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    write_bundle(bundle.path, {**CONTENT, "version": "2"}, files)
    assert [sorted(each) for each in names] == [["trial 1.2", "trial 2"]] * 2
    assert [path.name for path in bundle.path.parent.glob("*trial*")] == ["trial"]


def test_a_file_in_the_bundles_place_is_left_alone(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "trial").write_text("something else")
    with pytest.raises(DeliveryError, match="cannot write the bundle"):
        write_bundle(tmp_path / "trial", CONTENT, files)
    assert (tmp_path / "trial").read_text() == "something else"


def test_what_an_interrupted_writing_left_is_cleared_away(tmp_path: Path, files: dict[str, Path]) -> None:
    left = tmp_path / ".trial.partial"
    left.mkdir()
    (left / "stray.bin").write_bytes(b"old")
    bundle = write_bundle(tmp_path / "trial", CONTENT, files)
    assert not left.exists() and not (bundle.path / "stray.bin").exists()


def test_the_shipped_bundle_is_whole_and_small() -> None:
    bundle = Bundle.load()
    assert {"hand_finder", "hand_regression"} <= bundle.manifest["graphs"].keys()
    sizes = [bundle.graph(role).stat().st_size for role in bundle.manifest["graphs"]]
    assert max(sizes) < 20e6 and sum(sizes) < 45e6
    assert "not a medical device" in bundle.manifest["intended_use"]
