"""Tempo's API to spans: a search by TraceQL for ids, then each trace as OTLP."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
from llmservice_sidecar.runtime import telemetry_names as names

from llmservice_lab.analysis.readers.http import Store, StoreError
from llmservice_lab.analysis.readers.otlp import NoSpansHere, spans_of
from llmservice_lab.analysis.readers.slices import Paging, Window, in_slices
from llmservice_lab.analysis.readers.span import RawSpan
from llmservice_lab.analysis.record import Told

_PAGE: Final = 1000
_LEAST_S: Final = 1.0  # its API takes whole seconds
_AT_ONCE: Final = 8  # traces fetched side by side


class _Found(msgspec.Struct):
    trace_id: str = msgspec.field(name="traceID")


class _Search(msgspec.Struct):
    traces: list[_Found] | None = None


class _TagValue(msgspec.Struct):
    value: str = ""


class _TagValues(msgspec.Struct, rename="camel"):
    tag_values: list[_TagValue] | None = None


def services(store: Store) -> list[str]:
    """The services whose requests may be asked for. Raises StoreError."""
    query = f"{{ span.{names.ATTR_DOOR} != nil }}"
    path = "/api/v2/search/tag/resource.service.name/values"
    body = store.get(path, q=query)
    try:
        found = msgspec.json.decode(body, type=_TagValues).tag_values or []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{store.base} does not answer as Tempo's API: {error}") from error
    return sorted(item.value for item in found if item.value)


def read(store: Store, service: str, window: Window, told: Told) -> Iterator[RawSpan]:
    """The spans of a service's traces, latest slices first. Raises StoreError."""
    # json.dumps quotes as TraceQL does
    query = f"{{ resource.service.name = {json.dumps(service)} && span.{names.ATTR_DOOR} != nil }}"

    def ask(since_s: float, until_s: float) -> list[tuple[str, None]]:
        start, end = math.floor(since_s), math.ceil(until_s)
        body = store.get("/api/search", q=query, start=start, end=end, limit=_PAGE, spss=1)
        try:
            found = msgspec.json.decode(body, type=_Search).traces or []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{store.base} does not answer as Tempo's API: {error}") from error
        return [(one.trace_id, None) for one in found]

    paging = Paging(page=_PAGE, least_s=_LEAST_S)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tempo") as pool:
        for traces in in_slices(window, ask, paging=paging, told=told):
            ids = [trace_id for trace_id, _ in traces]
            bodies = pool.map(functools.partial(_fetch, store), ids)
            for trace_id, body in zip(ids, bodies, strict=True):
                try:
                    yield from spans_of(body, told)
                except NoSpansHere as error:
                    told.broken(f"trace {trace_id} {error}")


def _fetch(store: Store, trace_id: str) -> bytes:
    # The first version of it: all versions of Tempo have it.
    return store.get(f"/api/traces/{trace_id}")
