"""What a value says beyond the defaults of its type.

What is written for another version to read, or hashed to tell whether pods have to be replaced,
must not change because a newer version knows one more field: a field at its default is left out.
A version that changes a default changes what is meant, and has to say so (`RENDERING_VERSION`).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import NODEFAULT, structs


def stated(value: msgspec.Struct) -> dict[str, Any]:
    """The fields that differ from their defaults, by encoded name; of structs within likewise."""
    return {
        field.encode_name: _stated(item)
        for field in structs.fields(value)
        if (item := getattr(value, field.name)) != _default(field)
    }


def _stated(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return stated(value)
    if isinstance(value, tuple | list):
        return [_stated(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _stated(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def _default(field: structs.FieldInfo) -> Any:
    """NODEFAULT, which nothing equals, where the field has to be given."""
    return field.default if field.default_factory is NODEFAULT else field.default_factory()
