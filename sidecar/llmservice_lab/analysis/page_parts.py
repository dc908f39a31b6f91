"""Pieces of the page: tables that a picture is told by again, waterfalls, the sortable table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

from llmservice_lab.analysis.breakdown import Parts
from llmservice_lab.analysis.causes import Numbers
from llmservice_lab.analysis.figures import CAUSES, PARTS
from llmservice_lab.analysis.slow import Overtaker, SlowRequest

WORST: Final = 20
LISTED: Final = 300  # rows of the table; the rest is in --json
_ID: Final = 18  # characters of an id that are shown

_Cell = str | float | int | None


def card(title: str, text: str, svg: str, *, numbers: str = "") -> str:
    """A picture with its heading; `numbers` are the same figures as a table, folded."""
    folded = f"<details><summary>Numbers</summary>{numbers}</details>" if numbers else ""
    return f'<section><h2>{title}</h2><p class="soft">{text}</p>{svg}{folded}</section>'


def legend() -> str:
    """What the colours of stacked parts mean."""
    items = "".join(f'<span><i class="{css}"></i>{what}</span>' for css, what, _ in PARTS)
    return f'<p class="legend">{items}</p>'


def parts_table(groups: Sequence[Parts], *, label: str) -> str:
    """The figures of a stacked picture."""
    head = ["", *(what for _, what, _ in PARTS), "whole", "prediction (beside)", "requests"]
    head[0] = label
    rows = [
        [
            one.label,
            *(f"{of(one):.3f}" for _, _, of in PARTS),
            f"{one.total_s:.3f}",
            "-" if one.predict_s is None else f"{one.predict_s:.4f}",
            str(one.n),
        ]
        for one in groups
    ]
    return plain_table(head, rows)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text."""
    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="told"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def waterfalls(worst: Sequence[SlowRequest]) -> str:
    """The worst requests; each unfolds to its numbers and to who overtook it."""
    longest_s = max((one.total_s for one in worst), default=1.0) or 1.0
    return "".join(_waterfall(one, longest_s) for one in worst[:WORST])


def _waterfall(one: SlowRequest, longest_s: float) -> str:
    bars, told = _bars(one, longest_s)
    tokens = "" if one.actual_tokens is None else f", {one.actual_tokens} tokens"
    line = f"{one.total_s:.2f} s{tokens}: {CAUSES[one.cause]}"
    numbers = _numbers(one.numbers)
    return (
        f'<details class="fall"><summary><code>{html.escape(_cut(one.request_id))}</code>'
        f'<span class="bars" role="img" aria-label="{html.escape(told)}">{bars}</span>'
        f"<span>{html.escape(line)}</span></summary>"
        f"<p>Trace <code>{html.escape(one.trace_id)}</code>, arrived {one.arrived}, "
        f"{html.escape(one.outcome)} ({html.escape(one.reason)}).</p>"
        f"<h3>Seconds by cause</h3>{_seconds(one)}<h3>Numbers behind</h3>{numbers}"
        f"{_overtakers(one)}</details>"
    )


def _bars(one: SlowRequest, longest_s: float) -> tuple[str, str]:
    stall_s = min(one.client_stall_s or 0.0, one.decode_s or 0.0)
    known_s = {
        "queue": one.queue_s,
        "first": one.prefill_s or 0.0,
        "stream": (one.decode_s or 0.0) - stall_s,
        "client": stall_s,
    }
    known_s["rest"] = max(one.total_s - sum(known_s.values()), 0.0)
    words = {css: what for css, what, _ in PARTS}
    bars = "".join(
        f'<i class="{css}" style="width:{100 * value / longest_s:.2f}%" '
        f'title="{words[css]}: {value:.3f} s"></i>'
        for css, value in known_s.items()
        if value > 0
    )
    told = ", ".join(f"{words[css]} {value:.2f} s" for css, value in known_s.items() if value > 0)
    return bars, told


def _seconds(one: SlowRequest) -> str:
    items = "".join(
        f"<li>{CAUSES[cause]}: {value:.3f} s</li>" for cause, value in one.seconds.items()
    )
    return f"<ul>{items}</ul>"


def _numbers(numbers: Numbers) -> str:
    cells = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(_figure(value))}</dd>"
        for name, value in numbers.items()
    )
    return f"<dl>{cells}</dl>"


def _overtakers(one: SlowRequest) -> str:
    if not one.overtaken_by:
        return ""
    rows = [_overtaker(other) for other in one.overtakers]
    more = one.overtaken_by - len(rows)
    head = ("request", "came after it, s", "ran after, s", "predicted tokens", "actual")
    rest = f'<p class="soft">and {more} more</p>' if more > 0 else ""
    return f"<h3>Overtaken by {one.overtaken_by}</h3>{plain_table(head, rows)}{rest}"


def _overtaker(other: Overtaker) -> list[str]:
    figures = (
        other.arrived_after_s,
        other.ran_after_s,
        other.predicted_tokens,
        other.actual_tokens,
    )
    return [_cut(other.request_id), *map(_figure, figures)]


def slow_table(listed: Sequence[SlowRequest]) -> str:
    """The slow requests; every column sorts by its button."""
    head = (
        "request", "cause", "total, s", "queue, s", "first token, s", "decode, s",
        "prompt", "predicted", "actual", "overtaken by", "tenant",
    )  # fmt: skip
    top = "".join(
        f'<th scope="col"><button type="button" data-column="{place}">{name}</button></th>'
        for place, name in enumerate(head)
    )
    body = "".join(_slow_row(one) for one in listed[:LISTED])
    return (
        '<div class="scroll"><table id="slow" class="told"><thead>'
        f"<tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _slow_row(one: SlowRequest) -> str:
    cells: tuple[_Cell, ...] = (
        CAUSES[one.cause],
        one.total_s,
        one.queue_s,
        one.prefill_s,
        one.decode_s,
        one.prompt_tokens,
        one.predicted_tokens,
        one.actual_tokens,
        one.overtaken_by,
        one.tenant or "",
    )
    data = "".join(f"<td>{html.escape(_figure(cell))}</td>" for cell in cells)
    title = html.escape(f"{one.request_id}, trace {one.trace_id}")
    name = html.escape(_cut(one.request_id))
    return f'<tr><th scope="row" title="{title}"><code>{name}</code></th>{data}</tr>'


def _figure(value: _Cell) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        case _:
            return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _ID else f"{text[: _ID - 1]}…"
