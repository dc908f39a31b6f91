"""One span as every reader hands it over, whatever store it comes from. Knows no store."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Scalar = str | int | float | bool
AttributeValue = Scalar | tuple[Scalar, ...]

_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSpan:
    """A finished span. Times are Unix seconds, ids lower-case hex, `parent_id` may be empty."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    pod: str
    start_s: float
    end_s: float
    attributes: Mapping[str, AttributeValue]
    events: Mapping[str, float]  # name -> when, Unix seconds; the first of a name
    queued: Mapping[str, AttributeValue]  # attributes of the event `llmservice.offer`


def hex_id(text: str, *, size: int) -> str:
    """An id in lower-case hex, from hex or (as Tempo writes) base64. Raises ValueError."""
    if len(text) == 2 * size:
        bytes.fromhex(text)  # refuses what is no hex
        return text.lower()
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"id {text!r} is neither hex nor base64") from error
    if len(raw) != size:
        raise ValueError(f"id {text!r} has {len(raw)} bytes, {size} are right")
    return raw.hex()


def trace_id_of(text: str) -> str:
    """A trace's id. Jaeger leaves out leading zeros. Raises ValueError."""
    return hex_id(_padded(text, 2 * _TRACE_BYTES), size=_TRACE_BYTES)


def span_id_of(text: str) -> str:
    """A span's id; an empty one (no parent) stays empty. Raises ValueError."""
    return hex_id(_padded(text, 2 * _SPAN_BYTES), size=_SPAN_BYTES) if text else ""


def _padded(text: str, width: int) -> str:
    # base64 of an id ends with "=", and is shorter than its hex
    return text if text.endswith("=") else text.rjust(width, "0")
