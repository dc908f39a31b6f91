"""Where commands read traces from: the options that they share, and the reading itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

if TYPE_CHECKING:
    from llmservice_lab.analysis.record import Reading

MOST_REQUESTS: Final = 200_000

ServiceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Only requests of this service (the LLMService's name)."),
]
SinceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="From then on: 2026-07-01T09:00Z, or 90s, 30m, 2h, 1d ago."),
]
UntilOption: TypeAlias = Annotated[str | None, typer.Option(help="Before then, written alike.")]
LimitOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="The latest so many requests; bounds memory.")
]
HeaderOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Sent to the store, as 'Name: value': a tenant, a token; several times."),
]


def read_traces(
    sources: Sequence[str],
    *,
    service: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    header: Sequence[str] | None,
) -> Reading:
    """The requests that the options choose. Raises OSError, ValueError."""
    from llmservice_lab.analysis.readers import read_requests  # noqa: PLC0415 - keeps --help fast
    from llmservice_lab.analysis.readers.window import selection_of  # noqa: PLC0415

    selection = selection_of(since=since, until=until, service=service, limit=limit)
    return read_requests(sources, selection, headers=headers_of(header or ()))


def headers_of(given: Sequence[str]) -> dict[str, str]:
    """`Name: value` each. Raises ValueError."""
    headers: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise ValueError("--header is not written as 'Name: value'")  # it may hold a token
        headers[name.strip()] = value.strip()
    return headers
