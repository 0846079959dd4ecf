"""Manifests, images and results that lie elsewhere, and what is never said of them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_fakes import PoisonReader
from s3_stand_in import ACCESS_KEY, SECRET_KEY, Store, served

from boneage.batch import source, storage, table
from boneage.batch.run import Settings, run
from boneage.batch.source import Listing
from boneage.core.errors import ConfigError, RuntimeUnavailable, UnreadableImage
from boneage.core.types import Sex


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("images/a.png", "images/a.png"),
        ("s3://bucket/a.png", "s3://bucket/a.png"),
        ("https://store/a.png?X-Amz-Signature=secret&x=1", "https://store/a.png"),
        ("https://me:secret@store:8443/a/b.png#secret", "https://store:8443/a/b.png"),
    ],
)
def test_what_is_shown_of_a_place_holds_no_secret(location: str, said: str) -> None:
    assert storage.shown(location) == said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://me:secret@store/a.png", "user or password"),
        ("python://os.system", "not a kind of URL"),
        ("file:///etc/passwd", "not a kind of URL"),
        ("s3://bucket/a.zip::zip://b.png", "not a kind of URL"),
    ],
)
def test_urls_that_are_not_opened_are_refused_without_saying_their_secrets(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        storage.check_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "name", "joined"),
    [
        ("", "x.png", "x.png"),
        ("m", "a/../x.png", "m/x.png"),
        ("/m", "/elsewhere/x.png", "/elsewhere/x.png"),
        ("s3://b/m", "i/x.png", "s3://b/m/i/x.png"),
        ("s3://b/m", "../x.png", "s3://b/x.png"),
        ("/m", "s3://b/x.png", "s3://b/x.png"),
        ("s3://b/m", "/local/x.png", "/local/x.png"),
    ],
)
def test_a_name_leads_from_its_folder(folder: str, name: str, joined: str) -> None:
    assert storage.join(folder, name) == joined


@pytest.mark.parametrize(
    ("folder", "location", "inside"),
    [
        ("/m", "/m/x.png", True),
        ("/m", "/mm/x.png", False),
        ("/m", "/m/../x.png", False),
        ("/", "/m/x.png", True),
        ("", "x.png", True),
        ("", "../x.png", False),
        ("s3://b/m", "s3://b/m/x.png", True),
        ("s3://b/m/", "s3://b/mm/x.png", False),
        ("s3://b/m", "/m/x.png", False),
    ],
)
def test_what_lies_in_a_folder(folder: str, location: str, inside: bool) -> None:
    assert storage.lies_in(folder, location) is inside


@pytest.mark.parametrize("name", ["gone.png", "folder", "nul\0.png"])
def test_a_local_file_that_cannot_be_opened_is_an_unreadable_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableImage):
        storage.load_image(str(tmp_path / name))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """An S3 stand-in that the environment leads to, for this process and its workers."""
    pytest.importorskip("s3fs", reason="S3 needs the extra cluster: pip install 'boneage[cluster]'")
    import fsspec

    with served() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield found
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def archive(store: Store, radiograph: bytes) -> Store:
    """A manifest and its images in a bucket."""
    names = ["age100", "age90", "foot", "age80"]
    store.objects |= {f"archive/images/{name}.png": radiograph for name in names}
    lines = [f"{name},images/{name}.png,F" for name in (*names, "gone")]
    store.objects["archive/m.csv"] = "\n".join(["id,path,sex", *lines]).encode()
    return store


def test_a_job_reads_and_writes_s3_and_says_no_credential(
    archive: Store, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    images = source.at("s3://archive/m.csv")
    summary = run(images, "s3://results/run/", PoisonReader(log), Settings(1, shard_rows=2))
    assert (summary.total, summary.ok, summary.rejected) == (5, 3, 2)
    shards = [f"results/run/part-0000{number}.parquet" for number in range(3)]
    written = [name for name in archive.objects if name.startswith("results/")]
    assert written == ["results/run/_run.json", *shards]
    _, rows = table.read_shard(archive.objects[shards[1]], ["id", "path", "status", "message"])
    assert [row["path"] for row in rows] == ["s3://archive/images/foot.png", "s3://archive/images/age80.png"]
    assert [row["status"] for row in rows] == ["rejected", "ok"] and "s3:" not in rows[0]["message"]
    record = json.loads(archive.objects["results/run/_run.json"])
    assert record["state"] == "complete" and record["source"] == "s3://archive/m.csv"
    for text in (caplog.text, json.dumps(record)):
        assert SECRET_KEY not in text and ACCESS_KEY not in text and "Signature=" not in text
    assert not list((tmp_path / "state").rglob("*.jsonl")), "the journal is gone when the run is whole"


def test_an_interrupted_job_on_s3_goes_on_from_the_journal_on_this_machine(archive: Store, log: Path) -> None:
    images = source.at("s3://archive/m.csv")

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, "s3://results/run", PoisonReader(log), Settings(1, shard_rows=2), stop)
    assert json.loads(archive.objects["results/run/_run.json"])["state"] == "running"
    read = log.read_text().split()
    with pytest.raises(ConfigError, match="--resume"):
        run(images, "s3://results/run", PoisonReader(log), Settings(1))
    summary = run(images, "s3://results/run", PoisonReader(log), Settings(1, resume=True))
    assert (summary.total, summary.kept) == (5, 3)
    assert log.read_text().split()[len(read) :][-1:] == ["age80.png"]


def test_a_single_table_on_s3_is_written_whole_and_recognised(archive: Store, log: Path) -> None:
    images, out = source.at("s3://archive/m.csv"), "s3://results/all.csv"
    first = run(images, out, PoisonReader(log), Settings(1))
    assert archive.objects["results/all.csv"].count(b"\n") == 6
    with pytest.raises(ConfigError, match="exists"):
        run(images, out, PoisonReader(log), Settings(1))
    again = run(images, out, PoisonReader(log), Settings(1, resume=True))
    assert (again.ok, again.kept) == (first.ok, 5)


def test_a_folder_on_s3_is_a_list_of_its_images(archive: Store) -> None:
    listing = Listing(source.at("s3://archive/"), "", Sex.MALE)
    names = [task.id for task in listing.tasks()]
    assert names == ["images/age100", "images/age80", "images/age90", "images/foot"]
    assert next(listing.tasks()).path == "s3://archive/images/age100.png"


def test_a_storage_that_lets_nobody_in_is_told_before_work_starts(
    archive: Store, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "m.csv"
    local.write_text("path,sex\ns3://archive/images/age100.png,F\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RuntimeUnavailable, match=r"s3://archive/images/age100\.png: the storage did not"):
        run(source.at(str(local)), tmp_path / "out.csv", PoisonReader(log), Settings(1))
    assert not log.exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL", archive.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY0000000000")
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(ConfigError, match=r"s3://archive/m\.csv: .*access denied") as caught:
        run(source.at("s3://archive/m.csv"), tmp_path / "out.csv", PoisonReader(log), Settings(1))
    assert "AKIA" not in str(caught.value)


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'boneage\[cluster\]'"):
        storage.load_image("s3://archive/a.png")


def test_a_folder_in_fsspecs_memory_takes_writes_and_removals() -> None:
    pytest.importorskip("fsspec")
    folder = storage.folder_at("memory://batch/results")
    assert folder.names() == []
    folder.write("run.json", b"{}")
    folder.write("run.json", b"{1}")
    assert (folder.names(), folder.read("run.json")) == (["run.json"], b"{1}")
    folder.remove("run.json")
    folder.remove("run.json")
    assert folder.names() == []


def test_relative_paths_begin_where_the_run_was_started(
    tmp_path: Path, log: Path, rows: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows("age70")
    (tmp_path / "m.csv").write_text("path,sex\nimages/age70.png,F\n")
    monkeypatch.chdir(tmp_path)
    run(source.at("m.csv"), "out.csv", PoisonReader(log), Settings(1))
    (row,) = table.read(Path("out.csv"))
    assert (row["path"], row["bone_age_months"]) == (os.path.join("images", "age70.png"), 70.0)  # noqa: PTH118
