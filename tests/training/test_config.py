"""One TOML file, one frozen dataclass: everything that does not fit is a ConfigError that names it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from boneage.core.errors import ConfigError
from boneage.training.config import as_tree, build, read_config


@dataclass(frozen=True)
class Part:
    size: int
    rate: float = 0.5


@dataclass(frozen=True)
class Whole:
    part: Part
    name: str = "plain"
    parts: tuple[Part, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    notes: dict[str, str] = field(default_factory=dict)
    fast: bool = False
    limit: int | None = None


GOOD = """
name = "all"
fast = true
limit = 3
pair = [4, 5]
parts = [{ size = 1 }, { size = 2, rate = 1 }]
[part]
size = 7
rate = 2
[notes]
paper = "four"
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return path


def test_a_file_becomes_a_frozen_dataclass(good: Path) -> None:
    whole = read_config(good, Whole)
    assert whole == Whole(Part(7, 2.0), "all", (Part(1), Part(2, 1.0)), (4, 5.0), {"paper": "four"}, True, 3)
    assert isinstance(whole.part.rate, float) and isinstance(whole.pair[1], float)
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.name = "other"  # type: ignore[misc]


def test_the_tree_written_beside_a_result_is_read_as_the_same(good: Path) -> None:
    whole = read_config(good, Whole)
    assert build(Whole, as_tree(whole), "again") == whole
    assert as_tree(whole)["parts"] == [{"size": 1, "rate": 0.5}, {"size": 2, "rate": 1.0}]
    assert as_tree({"path": Path("a/b")}) == {"path": "a/b"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1\n[part]\nsize = 1", "bad.toml: unknown key 'colour'; known: .*part"),
        ("[part]\nsize = 1\nsizes = 2", "bad.toml: part: unknown key 'sizes'; known: rate, size"),
        ("[part]\nrate = 1", "bad.toml: part: .*'size'"),
        ("name = 'x'", "bad.toml: .*'part'"),
        ("[part]\nsize = 'big'", "bad.toml: part: size must be int, not 'big'"),
        ("[part]\nsize = 1.5", "size must be int, not 1.5"),
        ("[part]\nsize = true", "size must be int, not True"),
        ("[part]\nsize = 1\nrate = false", "rate must be float, not False"),
        ("part = 3", "part must be a table"),
        ("name = 3\n[part]\nsize = 1", "name must be str, not 3"),
        ("fast = 1\n[part]\nsize = 1", "fast must be bool, not 1"),
        ("limit = 'x'\n[part]\nsize = 1", "limit must be int"),
        ("parts = 3\n[part]\nsize = 1", "parts must be a list"),
        ("parts = [3]\n[part]\nsize = 1", "parts must be a table"),
        ("pair = [1]\n[part]\nsize = 1", "pair must have 2 values, not 1"),
        ("notes = { a = 1 }\n[part]\nsize = 1", "notes.a must be str"),
        ("notes = 3\n[part]\nsize = 1", "notes must be a table"),
        ("= 3", "bad.toml is not TOML"),
        ("name = 'a'\nname = 'b'", "bad.toml is not TOML"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        read_config(path, Whole)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        read_config(tmp_path / "absent.toml", Whole)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"binary\.toml"):
        read_config(path, Whole)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("part.size=9", ("part", "size"), 9),
        ("part.rate = 0.25", ("part", "rate"), 0.25),
        ("name=a/path with spaces.safetensors", ("name",), "a/path with spaces.safetensors"),
        ("name='quoted'", ("name",), "quoted"),
        ("fast=false", ("fast",), False),
        ("pair=[8, 1.5]", ("pair",), (8, 1.5)),
        ("parts=[{size = 5}]", ("parts",), (Part(5),)),
        ("notes.added=text", ("notes", "added"), "text"),
        ("name=a=b", ("name",), "a=b"),
    ],
)
def test_an_override_replaces_a_value(
    good: Path, override: str, path: tuple[str, ...], value: object
) -> None:
    found: object = as_tree(read_config(good, Whole, [override]))
    for key in path:
        found = found[key]  # type: ignore[index]
    assert found == as_tree(value)


def test_the_last_override_holds(good: Path) -> None:
    assert read_config(good, Whole, ["part.size=1", "part.size=2"]).part.size == 2


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("part.size", "section.key=value, not 'part.size'"),
        ("part.colour=1", "unknown key 'colour'"),
        ("colour=1", "unknown key 'colour'"),
        ("part.size=big", "size must be int, not 'big'"),
        ("name.size=1", "name"),
        ("part.size.more=1", "size"),
    ],
)
def test_a_bad_override_is_named(good: Path, override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_config(good, Whole, [override])
