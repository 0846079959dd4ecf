"""The watched folder: what settles is taken, what is none is put aside, and links are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dicom_peers import study

from boneage.dicomnode.objects import digest_of
from boneage.dicomnode.settings import NodeSettings, Receive, Watch
from boneage.dicomnode.spool import Spool
from boneage.dicomnode.watch import FolderWatch


class Watching:
    """A folder, the spool it feeds, and a clock that is turned by hand."""

    def __init__(self, root: Path, min_free_bytes: int = 0) -> None:
        self.folder, self.made = root / "in", root / "made"
        self.folder.mkdir()
        self.made.mkdir()
        self.spool = Spool(root / "spool", min_free_bytes=min_free_bytes)
        self.spool.open()
        settings = NodeSettings(watch=Watch(str(self.folder), settle_s=5), receive=Receive(max_object_mb=1))
        self.arrived: list[None] = []
        self.watch = FolderWatch(settings, self.spool, lambda: self.arrived.append(None))
        self.clock = 0.0

    def look(self, *after_s: float) -> int:
        """Look after each of some pauses; return how many images wait."""
        for pause in after_s:
            self.clock += pause
            self.watch.look(self.clock)
        return len(self.spool.waiting())

    def put(self, name: str = "hand.dcm", **tags: Any) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return study(self.made, "hand", **tags).rename(path)

    def left(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    one = Watching(tmp_path)
    yield one
    one.spool.close()


def test_a_file_is_taken_when_it_has_settled(watching: Watching) -> None:
    content = watching.put().read_bytes()
    assert watching.look(0, 2, 2) == 0
    assert watching.look(2) == 1 and not watching.left() and len(watching.arrived) == 1
    (taken,) = watching.spool.incoming.iterdir()
    assert taken.read_bytes() == content


def test_a_file_that_grows_is_left_until_it_stops(watching: Watching) -> None:
    path = watching.put()
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert watching.look(0, 4) == 0
    path.write_bytes(whole[:2000])
    assert watching.look(4, 4) == 0
    path.write_bytes(whole)
    assert watching.look(4, 4) == 0 and watching.look(4) == 1


@pytest.mark.parametrize(
    "name",
    ["sub/deeper/hand.dcm", "no ending", "häñd ' ; rm -rf $(x).dcm", "-rf", "IM000001", "new\nline.dcm"],
)
def test_names_do_not_matter(watching: Watching, name: str) -> None:
    watching.put(name)
    assert watching.look(0, 6) == 1 and not watching.left()


def test_a_name_that_is_no_text_does_not_matter(watching: Watching) -> None:
    watching.put().rename(watching.folder / os.fsdecode(b"\xff\xfe.dcm"))
    assert watching.look(0, 6) == 1 and not watching.left()


@pytest.mark.parametrize("name", [".hand.dcm", "hand.dcm.part", "hand.tmp", ".hidden/hand.dcm"])
def test_what_is_not_meant_to_be_read_yet_is_left(watching: Watching, name: str) -> None:
    watching.put(name)
    assert watching.look(0, 6, 6) == 0 and watching.left() == {name}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.dcm", b"no DICOM"),
        ("empty.dcm", b""),
        ("large.dcm", b"\0" * 128 + b"DICM" + b"\0" * (1 << 20)),
    ],
)
def test_what_is_no_image_is_put_aside_and_not_looked_at_again(
    watching: Watching, name: str, content: bytes
) -> None:
    for _ in range(2):
        (watching.folder / name).write_bytes(content)
        assert watching.look(0, 6, 6) == 0
    assert watching.left() == {f"rejected/{name}", f"rejected/2-{name}"}


def test_links_are_never_followed(watching: Watching, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    kept = study(outside, "secret")
    (watching.folder / "link.dcm").symlink_to(kept)
    (watching.folder / "folder").symlink_to(outside)
    (watching.folder / "loop").symlink_to(watching.folder)
    os.mkfifo(watching.folder / "pipe")
    assert watching.look(0, 6, 6) == 0 and kept.exists()
    assert watching.left() >= {"link.dcm", "pipe"}


def test_a_file_that_becomes_a_link_in_the_meantime_is_not_followed(
    watching: Watching, tmp_path: Path
) -> None:
    kept = study(tmp_path, "secret")
    path = watching.folder / "hand.dcm"
    path.symlink_to(kept)
    assert not watching.watch._take(path) and kept.exists() and not watching.spool.waiting()


def test_a_repetition_is_removed_and_not_taken_again(watching: Watching) -> None:
    watching.put()
    watching.look(0, 6)
    key = watching.spool.waiting()[0]
    path, status = watching.spool.image(key)
    note = {"state": "assessed", "digest": digest_of(path.read_bytes())}
    watching.spool.publish(key, status, note, {})
    watching.put()
    assert watching.look(0, 6) == 0 and not watching.left() and len(watching.arrived) == 1


def test_results_that_are_put_there_are_not_assessed(watching: Watching) -> None:
    watching.put(Manufacturer="boneage", ManufacturerModelName="boneage")
    assert watching.look(0, 6) == 0 and not watching.left()


def test_files_wait_where_the_disk_is_full(tmp_path: Path) -> None:
    watching = Watching(tmp_path, min_free_bytes=1 << 60)
    watching.put()
    assert watching.look(0, 6, 6) == 0 and watching.left() == {"hand.dcm"}
    watching.spool.close()


def test_the_watch_may_begin_with_a_settled_file_at_once(watching: Watching) -> None:
    watching.watch._settings = replace(
        watching.watch._settings, watch=Watch(str(watching.folder), settle_s=0)
    )
    watching.put()
    assert watching.look(0) == 1
