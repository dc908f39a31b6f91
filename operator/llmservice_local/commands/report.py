"""`llmservice report`: why requests were slow, from their traces, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmservice_local.console import JsonOption, note, write_json
from llmservice_local.errors import CommandError
from llmservice_local.trace_sources import (
    MOST_REQUESTS,
    HeaderOption,
    LimitOption,
    ServiceOption,
    SinceOption,
    UntilOption,
    read_traces,
)

if TYPE_CHECKING:
    from llmservice_lab.analysis.document import Report

_HELP = """Say why requests were slow: read their traces, write one page that needs no network.

Sources: files of OTLP/JSON (one document, or one a line as tracing.exporter otlp-file writes), or
one trace store: jaeger+http://HOST:PORT, tempo+http://HOST:PORT (also https). A store is asked for
the last hour unless --since and --until say otherwise.

\b
Examples:
  llmservice report spans.jsonl                            writes report.html
  llmservice report jaeger+http://localhost:16686 --service chat --since 30m
  llmservice report tempo+http://localhost:3200 --service chat --since 2026-07-01T09:00Z
  llmservice report spans.jsonl --slow 2 --json -          what took over two seconds, as JSON
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", help=_HELP)(report)


def report(  # noqa: PLR0913 - every option is a parameter
    *,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Files, or one trace store.")
    ],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    service: ServiceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = MOST_REQUESTS,
    slow: Annotated[
        float | None,
        typer.Option(
            min=0, help="Slow is what took more seconds.  [default: the slowest twentieth]"
        ),
    ] = None,
    listed: Annotated[
        int, typer.Option(min=0, help="Slow requests that are told one by one.")
    ] = 1000,
    header: HeaderOption = None,
    json: JsonOption = None,
) -> None:
    """Read, analyse, write."""
    import msgspec  # noqa: PLC0415 - with what follows, keeps --help fast
    from llmservice_lab.analysis.document import analyse  # noqa: PLC0415

    try:
        reading = read_traces(
            sources, service=service, since=since, until=until, limit=limit, header=header
        )
    except (OSError, ValueError) as error:
        raise CommandError(
            str(error), next_step="`llmservice report --help` shows what can be read"
        ) from error
    document = analyse(reading, threshold_s=slow, listed=listed)
    _write_page(document, out)
    write_json(json, msgspec.to_builtins(document))
    _tell(document, out)


def _write_page(document: Report, out: Path) -> None:
    from llmservice_lab.analysis.page import render  # noqa: PLC0415 - keeps --help fast

    try:
        out.write_text(render(document), encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"cannot write {out}: {error.strerror}",
            next_step="name a file in a directory that exists, with --out",
        ) from error


def _tell(document: Report, out: Path) -> None:
    # Here: --help stays fast.
    from llmservice_lab.analysis.page import verdict  # noqa: PLC0415
    from llmservice_lab.analysis.page_sampling import NOT_TOLD  # noqa: PLC0415

    note(verdict(document))
    for one in document.recommendations:
        note(f"- {one.text}")
    if not document.recommendations:
        note(NOT_TOLD)
    if document.read.broken_spans:
        note(f"{document.read.broken_spans} spans could not be read; the page names the first")
    note(f"page: {out}")
