"""An assessment as text that can be kept and read back whole, so that reports can be made of it later.

`tabular.assessment_record` is what programs read: rounded, with stable keys. This is the product's own
keeping: every field in full, and nothing that runs when it is read.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, cast

import numpy as np

from boneage.core.errors import ConfigError, Incompatible
from boneage.core.types import Assessment

SCHEMA = 1

_WRITTEN_AS: dict[object, tuple[type, ...]] = {float: (float, int), int: (int,), str: (str,)}
"""Type of a field -> what JSON may hold in it; true and false are neither number."""


def dumps(assessment: Assessment) -> str:
    """Return an assessment as JSON text that `loads` reads."""
    return json.dumps({"schema": SCHEMA, "assessment": _encoded(assessment)}, ensure_ascii=False)


def loads(text: str) -> Assessment:
    """Return the assessment that `dumps` wrote.

    Raises:
        Incompatible: another version of the product wrote it, or it is something else.
    """
    try:
        kept = json.loads(text)
        if kept["schema"] != SCHEMA:
            raise ValueError(f"schema {kept['schema']}")
        return cast("Assessment", _decoded(Assessment, kept["assessment"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise Incompatible(
            f"a kept assessment cannot be read ({type(error).__name__}: {error}); it was written by another "
            "version: assess the image again"
        ) from error


def _encoded(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encoded(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        return {"dtype": value.dtype.str, "shape": list(value.shape), "data": data}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _decoded(kind: Any, value: Any) -> Any:
    """Return a value of a type, from what `_encoded` made of it."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decoded(next(one for one in inner if one is not type(None)), value)
    if origin is not None:
        return _decoded_many(origin, inner, value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: _decoded(one, value[name]) for name, one in _fields(kind).items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if type(value) not in _WRITTEN_AS.get(kind, (type(value),)):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _decoded_many(origin: Any, inner: tuple[Any, ...], value: Any) -> Any:
    """Return an array, a tuple or a mapping."""
    if origin is np.ndarray:
        kind, shape = np.dtype(value["dtype"]), value["shape"]
        if kind.kind not in "biuf" or min(shape, default=0) < 0:
            raise ValueError(f"no array of numbers: {kind.str} {shape}")
        return np.frombuffer(base64.b64decode(value["data"], validate=True), kind).reshape(shape)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {type(value).__name__}")
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_decoded(one, item) for one, item in zip(kinds, value, strict=True))
    return {key: _decoded(inner[1], item) for key, item in value.items()}


@cache
def _fields(kind: type[Any]) -> dict[str, Any]:
    """Return the fields of a dataclass with their types."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
