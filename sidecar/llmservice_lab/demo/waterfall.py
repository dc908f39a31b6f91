"""The slowest requests as bars: waiting in our queue, waiting for the first token, streaming."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

from llmservice_lab.demo.records import Record

SHOWN: Final = 8
_NAMED: Final = 6
_PROMPT_CHARACTERS: Final = 70

_SEGMENTS: Final = (
    ("queue", "in the queue"),
    ("first", "engine, to the first token"),
    ("stream", "streaming"),
)


def waterfalls(records: Sequence[Record]) -> str:
    """The slowest requests, each as seen in its slowest pass."""
    slowest = _slowest(records)
    longest_s = max(record.e2e_s for record in slowest)
    rows = "".join(_row(record, longest_s=longest_s) for record in slowest)
    return f'<table class="falls"><tbody>{rows}</tbody></table>'


def legend() -> str:
    """What the colours of the bars mean."""
    items = "".join(f'<span><i class="seg {css}"></i>{text}</span>' for css, text in _SEGMENTS)
    return f'<p class="legend">{items}</p>'


def overtaken_table(records: Sequence[Record]) -> str:
    """The requests that most others overtook, and who these were."""
    most = sorted(records, key=lambda record: (-len(record.overtaken_by), record.row))[:SHOWN]
    by_row = {record.row: record for record in records}
    rows = "".join(_overtaken_row(record, by_row) for record in most if record.overtaken_by)
    head = (
        "<tr><th>request</th><th>predicted</th><th>true</th><th>waited</th>"
        "<th>overtaken by</th><th>who (tokens)</th></tr>"
    )
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _slowest(records: Sequence[Record]) -> list[Record]:
    seen: dict[int, Record] = {}
    for record in sorted(records, key=lambda record: -record.e2e_s):
        seen.setdefault(record.row, record)
    return list(seen.values())[:SHOWN]


def _row(record: Record, *, longest_s: float) -> str:
    wait_s = min(record.queue_wait_s, record.ttft_s)
    parts = (wait_s, record.ttft_s - wait_s, record.e2e_s - record.ttft_s)
    bars = "".join(
        f'<i class="seg {css}" style="width:{100 * part / longest_s:.2f}%" '
        f'title="{text}: {part:.3f} s"></i>'
        for (css, text), part in zip(_SEGMENTS, parts, strict=True)
    )
    return (
        f'<tr><th title="{html.escape(record.prompt[:300])}">#{record.row} '
        f"<small>{html.escape(_short(record.prompt))}</small></th>"
        f'<td class="bars">{bars}</td>'
        f"<td>{record.e2e_s:.2f} s</td><td>{record.output_tokens} tok</td>"
        f"<td><code>{record.trace_id}</code></td></tr>"
    )


def _overtaken_row(record: Record, by_row: dict[int, Record]) -> str:
    named = ", ".join(
        f"#{row} ({by_row[row].output_tokens})" for row in record.overtaken_by[:_NAMED]
    )
    more = len(record.overtaken_by) - _NAMED
    return (
        f"<tr><th>#{record.row} <small>{html.escape(_short(record.prompt))}</small></th>"
        f"<td>{record.predicted_tokens:.0f}</td><td>{record.output_tokens}</td>"
        f"<td>{record.queue_wait_s:.2f}&nbsp;s</td><td>{len(record.overtaken_by)}</td>"
        f"<td>{named}{f' and {more} more' if more > 0 else ''}</td></tr>"
    )


def _short(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _PROMPT_CHARACTERS else f"{line[:_PROMPT_CHARACTERS]}…"
