"""Where requests come from: OTLP JSON files, Jaeger's query API, Tempo's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from llmservice_lab.analysis.readers import jaeger, otlp, tempo
from llmservice_lab.analysis.readers.assembly import DEFAULT_LIMIT, Assembly, Selection
from llmservice_lab.analysis.readers.http import Store, StoreError
from llmservice_lab.analysis.readers.slices import Window
from llmservice_lab.analysis.readers.span import RawSpan
from llmservice_lab.analysis.record import Reading, Told

__all__ = ["DEFAULT_LIMIT", "Selection", "StoreError", "read_requests"]

_Services = Callable[[Store], list[str]]
_Read = Callable[[Store, str, Window, Told], Iterator[RawSpan]]
_APIS: Final[Mapping[str, tuple[_Services, _Read]]] = {
    "jaeger": (jaeger.services, jaeger.read),
    "tempo": (tempo.services, tempo.read),
}
_SCHEMES: Final = ("http", "https")


def read_requests(
    sources: Sequence[str], selection: Selection, *, headers: Mapping[str, str] | None = None
) -> Reading:
    """The requests in files, or of one API: `jaeger+http://HOST:PORT`, `tempo+http://HOST:PORT`.

    An API is asked for the last hour unless the selection says otherwise. Broken spans, and those
    of other programs, are counted. Raises OSError for a file, ValueError for what is no source or
    does not answer, and when nothing at all was found.
    """
    told = Told()
    assembly = Assembly(selection, told)
    apis = [source for source in sources if "://" in source]
    if apis and len(sources) > 1:
        raise ValueError(f"{apis[0]} must stand alone: several sources are possible for files only")
    if apis:
        assembly.add_all(_from_api(apis[0], selection, headers or {}, told))
    else:
        assembly.add_all(otlp.read_files([Path(source) for source in sources], told))
    reading = assembly.reading(", ".join(sources))
    if not reading.requests:
        raise ValueError(_nothing(reading, selection))
    return reading


def _from_api(
    source: str, selection: Selection, headers: Mapping[str, str], told: Told
) -> Iterator[RawSpan]:
    kind, _, url = source.partition("+")
    if kind not in _APIS or urlsplit(url).scheme not in _SCHEMES:
        allowed = ", ".join(f"{name}+http://HOST:PORT" for name in _APIS)
        raise ValueError(f"{source!r} is no source: {allowed}, or files of OTLP/JSON")
    list_services, read = _APIS[kind]
    store = Store(url, headers)
    service = selection.service
    if service is None:
        found = list_services(store)
        if len(found) != 1:
            names = ", ".join(found) or "none"
            raise ValueError(f"--service is needed: {source} has traces of {names}")
        service = found[0]
    window = Window.of(selection.since_s, selection.until_s, selection.limit)
    return read(store, service, window, told)


def _nothing(reading: Reading, selection: Selection) -> str:
    told = reading.told
    why = f"; the first that cannot be read: {told.examples[0]}" if told.examples else ""
    of = "" if selection.service is None else f" of service {selection.service!r}"
    return (
        f"{reading.source}: no request{of} in {told.spans} spans ({told.foreign_spans} of other "
        f"programs, {told.broken_spans} broken, {told.left_out} requests outside the time or of "
        f"other services){why}"
    )
