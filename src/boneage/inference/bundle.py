"""The bundle: all learned state in one folder, checked before it is used.

A bundle holds `manifest.json`, the graphs it names, and `folds.csv` (the split that its figures rest
on). The manifest has a schema version, name and version, the graphs with their checksums, every
method's configuration and calibration, the localiser, the data and seed it was made from, and the
figures measured.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boneage.core.errors import BundleError, ChecksumMismatch, DeliveryError, Incompatible
from boneage.inference.site import check_site

SCHEMA = 1
MANIFEST = "manifest.json"
NEEDED = ("name", "version", "method", "methods", "graphs", "checksums")
"""Keys without which a manifest describes no bundle."""

SHIPPED = Path(__file__).parents[1] / "bundles" / "standard"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Args:
        path: its folder.
        manifest: its manifest.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path | None = None) -> Bundle:
        """Read a bundle and check every file against its checksum.

        Args:
            path: the bundle's folder; None is the one shipped with the product.

        Raises:
            BundleError: no bundle there, its manifest cannot be read, or its site's correction is not whole.
            Incompatible: made for another version of the product.
            ChecksumMismatch: a file is missing or is not the one that the manifest names, or a graph has
                no checksum.
        """
        folder = Path(path) if path is not None else SHIPPED
        manifest = read_manifest(folder)
        for name, expected in manifest["checksums"].items():
            file = folder / name
            if not file.is_file():
                raise ChecksumMismatch(f"{folder.name}/{name} is missing; install the bundle again")
            if checksum(file) != expected:
                raise ChecksumMismatch(
                    f"{folder.name}/{name} is not what its manifest names (sha256 differs); "
                    "install the bundle again"
                )
        for name in (*manifest["graphs"].values(), *manifest.get("files", {}).values()):
            if name not in manifest["checksums"]:
                raise ChecksumMismatch(
                    f"{folder.name}/{name} has no checksum in its manifest; install the bundle again"
                )
        check_site(manifest, folder)
        return cls(folder, manifest)

    @property
    def name(self) -> str:
        """Name and version, as shown in every result."""
        return f"{self.manifest['name']} {self.manifest['version']}"

    def graph(self, role: str) -> Path:
        """Return the file of a graph.

        Raises:
            BundleError: the bundle has no such graph.
        """
        graphs = self.manifest["graphs"]
        if role not in graphs:
            raise BundleError(f"the bundle {self.name} has no graph {role!r}; it has {', '.join(graphs)}")
        return self.path / str(graphs[role])

    def has(self, role: str) -> bool:
        """Return whether the bundle has a file that is no graph, as `hand_model`."""
        return role in self.manifest.get("files", {})

    def file(self, role: str) -> Path:
        """Return a file that is no graph.

        Raises:
            BundleError: the bundle has no such file.
        """
        if not self.has(role):
            raise BundleError(f"the bundle {self.name} has no file {role!r}; install a newer one")
        return self.path / str(self.manifest["files"][role])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest without checking its files.

    Raises:
        BundleError: there is none, or it is no JSON object with the keys that are needed.
        Incompatible: its schema is another one.
    """
    path = folder / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"no bundle at {folder}: {path.name} cannot be read; give a bundle's folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON ({error}); install the bundle again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} holds no JSON object; install the bundle again")
    if manifest.get("schema") != SCHEMA:
        raise Incompatible(
            f"the bundle's schema is {manifest.get('schema')!r}, this version reads {SCHEMA}; "
            "install the bundle that belongs to this version"
        )
    absent = [key for key in NEEDED if key not in manifest]
    if absent:
        raise BundleError(f"{path} has no {absent[0]!r}; install the bundle again")
    if not isinstance(manifest["methods"], dict):
        raise BundleError(f"{path}: 'methods' is no JSON object; install the bundle again")
    _check_names(manifest, path)
    return manifest


def _check_names(manifest: Mapping[str, Any], path: Path) -> None:
    """Refuse files that are no texts, or that lie beyond the bundle's folder."""
    for part in ("graphs", "files", "checksums"):
        named: Any = manifest.get(part, {})
        if not isinstance(named, dict) or not all(isinstance(value, str) for value in named.values()):
            raise BundleError(f"{path}: {part!r} does not name files by texts; install the bundle again")
        for name in named if part == "checksums" else named.values():
            if "\0" in name or name in ("", ".", "..") or Path(name).name != name:
                raise BundleError(
                    f"{path}: {name!r} is no file of the bundle's own folder; install the bundle again"
                )


def checksum(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(out: Path, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> Bundle:
    """Write a bundle whole or not at all.

    Args:
        out: its folder; an existing one is replaced.
        manifest: without schema and checksums, which are added.
        files: name in the bundle -> file to copy.

    Raises:
        DeliveryError: the folder cannot be written.
    """
    return _write(out, files, lambda sums: _json({"schema": SCHEMA, **manifest, "checksums": sums}))


def restore_bundle(out: Path, manifest: Path, files: Mapping[str, Path]) -> Bundle:
    """Write a bundle whose manifest is there already, byte by byte, whole or not at all.

    Args:
        out: its folder; an existing one is replaced.
        manifest: the manifest's file.
        files: name in the bundle -> file to copy.

    Raises:
        ChecksumMismatch: a file is not the one that the manifest names; nothing is written then.
        DeliveryError: the folder cannot be written.
    """
    content = manifest.read_bytes()
    named = json.loads(content)["checksums"]
    other = sorted(name for name in named if name not in files or checksum(files[name]) != named[name])
    if other:
        raise ChecksumMismatch(
            f"{other[0]} is not what the manifest to restore names; install the bundle again"
        )
    return _write(out, files, lambda _: content)


def _json(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode("utf-8")


def _write(out: Path, files: Mapping[str, Path], manifest: Callable[[dict[str, str]], bytes]) -> Bundle:
    """Write files, and the manifest that follows from their checksums; whole or not at all."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, source in files.items():
            shutil.copyfile(source, partial / name)
        sums = {name: checksum(partial / name) for name in sorted(files)}
        (partial / MANIFEST).write_bytes(manifest(sums))
        _replace(out, partial)
    except OSError as error:
        raise DeliveryError(
            f"cannot write the bundle {out}: {error.strerror}; free space or choose another folder"
        ) from error
    return Bundle.load(out)


def _replace(old: Path, new: Path) -> None:
    """Put a new folder in an old one's place; where that fails, the old one is there again.

    A process killed between the two renames leaves the old folder as `.NAME.old`, until the next writing.
    """
    aside = old.with_name(f".{old.name}.old")
    if old.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
        old.rename(aside)
    try:
        new.rename(old)
    finally:
        if aside.exists() and not old.exists():
            aside.rename(old)
    shutil.rmtree(aside, ignore_errors=True)
