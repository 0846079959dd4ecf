"""One TOML file to one frozen dataclass; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from boneage.core.errors import ConfigError
from boneage.core.types import Hand, Radiograph

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """Some epochs at one size of the input; several stages grow the size as training goes on."""

    epochs: int
    height: int
    width: int


@dataclass(frozen=True)
class TrainJob:
    """What a recipe is asked to train.

    Args:
        data: manifest of the training images.
        out: the run's folder; everything that a run makes lies there.
        config: a TOML file, or the name of one in the recipe's folder; None takes `recipe.toml`.
        overrides: `section.key=value` texts that replace values of the file.
        resume: go on from what `out` already holds.
        locate: finds the hand in a radiograph, as the shipped bundle does; None where a recipe needs none.
        bundle: folder of the bundle whose graphs are trained on; None where a recipe trains its own.
    """

    data: Path
    out: Path
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    resume: bool = False
    locate: Callable[[Radiograph], Hand] | None = None
    bundle: Path | None = None


def choose(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse a value that is none of the choices, so that it never silently means one of them.

    Raises:
        ConfigError: it names the setting and the choices.
    """
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")


def named_config(folder: Path, config: Path | None) -> Path:
    """Return the configuration file of a recipe: `recipe.toml`, one beside it by its name, or a path."""
    if config is None:
        return folder / "recipe.toml"
    beside = folder / f"{config}.toml"
    return beside if beside.is_file() else config


def read_config(path: Path, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a TOML file into a frozen dataclass.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown, a value has the wrong type.
    """
    return build(kind, read_tree(path, overrides), str(path.name))


def read_tree(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file with some values replaced, its keys not checked.

    Raises:
        ConfigError: the file is missing or no TOML, or an override is not written as one.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _override(tree, override)
    return tree


def _override(tree: dict[str, Any], text: str) -> None:
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"an override is written section.key=value, not {text!r}")
    *sections, key = name.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{section!r} in the override {text!r} is a value, not a section")
    try:
        tree[key] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tree[key] = value


def build(kind: type[T], tree: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from a mapping, nested dataclasses and tuples of them included.

    Raises:
        ConfigError: unknown or missing key, or a value of the wrong type; `where` is named in the message.
    """
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(tree) - names)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(names))}")
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in tree.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table")
        return build(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise ConfigError(f"{where} must have {len(kinds)} values, not {len(value)}")
        return tuple(_value(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table")
        return {str(key): _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        hint = next(kind for kind in arguments if kind is not type(None))
        return None if value is None else _value(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {hint.__name__}, not {value!r}")
    return value


def as_tree(value: Any) -> Any:
    """Return a dataclass as plain dicts, lists and scalars, as written beside every result."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_tree(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [as_tree(item) for item in value]
    if isinstance(value, Mapping):
        return {key: as_tree(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
