"""The page: pictures first, then what to do, then the worst requests. One file, no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

from llmservice_lab.analysis import figures
from llmservice_lab.analysis.calibration import Calibration
from llmservice_lab.analysis.document import Report
from llmservice_lab.analysis.figures import CAUSES
from llmservice_lab.analysis.page_parts import (
    LISTED,
    WORST,
    card,
    legend,
    parts_table,
    plain_table,
    slow_table,
    waterfalls,
)
from llmservice_lab.analysis.page_sampling import NOT_TOLD, sampled_by_chance, sampling_lines
from llmservice_lab.page_style import STYLE

_STYLE: Final = """
.part.queue { fill: var(--wait); } .part.first { fill: var(--first); }
.part.stream { fill: var(--stream); } .part.client { fill: var(--bad); }
.part.rest { fill: var(--soft); } .bar.cause { fill: var(--ssjf); }
i.client { background: var(--bad); } i.rest { background: var(--soft); }
.line.total { stroke: var(--ssjf); } .line.p99 { stroke: var(--bad); }
.line.wait { stroke: var(--wait); } .line.spread { stroke: var(--soft); stroke-width: 1; }
.dots.model { fill: var(--ssjf); fill-opacity: 1; }
i.total { background: var(--ssjf); } i.p99 { background: var(--bad); }
i.wait { background: var(--wait); }
.scroll { overflow-x: auto; } .told td { text-align: right; }
.told thead th:not(:first-child) { text-align: right; } td { white-space: nowrap; font-size: 14px; }
summary { cursor: pointer; } summary:focus-visible, button:focus-visible {
  outline: 2px solid var(--ssjf); outline-offset: 2px; }
section > details > summary { color: var(--soft); font-size: 14px; margin-top: 8px; }
.fall { border-top: 1px solid var(--rule); padding: 6px 0; }
.fall summary { display: grid;
  grid-template-columns: 12px 150px minmax(120px, 1fr) minmax(220px, auto);
  gap: 12px; align-items: center; color: var(--ink); font-size: 14px; }
.fall summary::before { content: "▸"; } .fall[open] summary::before { content: "▾"; }
.fall .bars { display: flex; height: 14px; } .fall .bars i { display: block; height: 14px; }
.fall h3 { font-size: 14px; margin: 12px 0 4px; } .fall ul { margin: 0; font-size: 14px; }
@media (max-width: 640px) { .fall summary { grid-template-columns: 12px 1fr; } }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 2px 20px;
  margin: 0; font-size: 14px; } dt { color: var(--soft); grid-column: 1; } dd { margin: 0;
  grid-column: 2 / -1; font-variant-numeric: tabular-nums; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; text-align: inherit; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
ol.todo { margin: 0; padding-left: 22px; } ol.todo li { margin-bottom: 8px; max-width: 90ch; }
"""

# Sorting is all the page does by itself; everything else is there without it.
_SCRIPT: Final = """
const body = document.querySelector("#slow tbody");
const heads = [...document.querySelectorAll("#slow thead th")];
const value = (row, at) => {
  const text = row.children[at].textContent, figure = Number(text);
  return text === "-" ? -Infinity : text === "" || Number.isNaN(figure) ? text : figure;
};
heads.forEach((head, at) => head.firstElementChild.addEventListener("click", () => {
  const up = head.getAttribute("aria-sort") === "descending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...body.rows].map((row) => [value(row, at), row]);
  rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
  body.append(...rows.map(([, row]) => row));
}));
"""


def render(report: Report) -> str:
    """The whole page. A page of many requests is no larger than one of a thousand."""
    title = f"Why were requests slow? {', '.join(report.services)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}{_STYLE}</style></head><body><main>"
        f'{_opening(report)}<div class="grid">{_cards(report)}</div>'
        f"{_todo(report)}{_worst(report)}{_slow(report)}{_method(report)}"
        f"</main><script>{_SCRIPT}</script></body></html>\n"
    )


def verdict(report: Report) -> str:
    """The one line that the reader came for."""
    total, picked = report.latency["total_s"], sampled_by_chance(report)
    if total.p99 is None:
        return f"None of {picked or report.requests} requests completed"
    if not picked:
        return (
            f"p99 is {total.p99:.2f} s among {report.requests} traces that were all kept because "
            "the request was slow or failed: of the service they say nothing"
        )
    causes = [one for one in report.slow.causes if one.requests]
    if not causes:
        return f"p99 is {total.p99:.2f} s, and nothing is slower than the threshold"
    first = causes[0]
    return (
        f"p99 is {total.p99:.2f} s; the first cause among {report.slow.requests} slow requests is "
        f"{CAUSES[first.cause]} ({first.requests})"
    )


def _opening(report: Report) -> str:
    return (
        f"<h1>{html.escape(verdict(report))}</h1>"
        f'<p class="soft">{report.requests} requests of {html.escape(", ".join(report.services))}, '
        f"{report.since} to {report.until}: {html.escape(_endings(report))}. Slow: over "
        f"{report.slow.threshold_s:.2f} s.</p>{_warnings(report)}{legend()}"
    )


def _endings(report: Report) -> str:
    return ", ".join(
        f"{one.requests} {one.outcome} ({one.reason}"
        f"{f', {one.kept_at_their_end} kept for it' if one.kept_at_their_end else ''})"
        for one in report.endings
    )


def _warnings(report: Report) -> str:
    told = report.read
    lines: list[str] = []
    if told.broken_spans:
        lines.append(f"{told.broken_spans} spans could not be read: {'; '.join(told.examples)}")
    if told.incomplete:
        lines.append(f"{told.incomplete} requests lack the span of the door and are left out")
    if told.cut_off:
        lines.append(f"at {told.cut_off} moments the store would not tell all traces")
    if told.left_out:
        lines.append(f"{told.left_out} requests are outside the time, the service or the limit")
    lines += sampling_lines(report)
    return "".join(f'<p class="failed">{html.escape(line)}</p>' for line in lines)


def _cards(report: Report) -> str:
    cards = [
        card(
            "Where the slow ones spend their time",
            "Completed requests around each percentile of the whole time.",
            figures.stacks(
                report.by_percentile, x="percentile", name="mean seconds by part, by percentile"
            ),
            numbers=parts_table(report.by_percentile, label="percentile"),
        ),
        _cause_card(report),
        card(
            "By answer length",
            "Tenths of the requests; the label is the longest answer of each, in tokens.",
            figures.stacks(
                report.by_length_decile,
                x="answer length, up to tokens",
                name="mean seconds by part, by answer length",
            ),
            numbers=parts_table(report.by_length_decile, label="up to tokens"),
        ),
        card(
            "By tenant",
            "Mean seconds of the tenants with most requests.",
            figures.stacks(report.by_tenant, x="tenant", name="mean seconds by part, by tenant"),
            numbers=parts_table(report.by_tenant, label="tenant"),
        ),
    ]
    if report.distribution:
        cards.append(
            card(
                "How long an answer took",
                "Share of the completed requests answered within a time. Dashed: slow from here.",
                figures.distribution(report.distribution, report.slow.threshold_s),
                numbers=_latency_table(report),
            )
        )
    if len(report.over_time) > 1:
        key = "".join(
            f'<span><i class="{css}"></i>{text}</span>'
            for css, text in (("p99", "p99"), ("total", "median"), ("wait", "mean wait"))
        )
        cards.append(
            card(
                "When it was slow",
                f'By arrival. <span class="legend">{key}</span>',
                figures.over_time(report.over_time),
            )
        )
    cards += [_prediction_card(report.calibration)] if report.calibration else []
    return "".join(cards)


def _cause_card(report: Report) -> str:
    rows = [
        [CAUSES[one.cause], str(one.requests), f"{one.seconds:.2f}"] for one in report.slow.causes
    ]
    return card(
        "Why they are slow",
        f"The largest part of each of the {report.slow.requests} slow requests' extra time.",
        figures.cause_bars(report.slow.causes),
        numbers=plain_table(("cause", "requests", "seconds"), rows),
    )


def _prediction_card(judged: Sequence[Calibration]) -> str:
    every = judged[0]
    head = ("model", "answers", "tau", "MAE, tokens", "within p50", "within p90")
    rows = [
        [
            one.model,
            str(one.n),
            _number(one.tau),
            _number(one.mean_absolute_error_tokens),
            _number(one.coverage_p50),
            _number(one.coverage_p90),
        ]
        for one in judged
    ]
    picture = figures.prediction(every) if every.bins else ""
    text = (
        "Dot: the median answer of like predictions; line: the middle 80 % of them. "
        f"Rank correlation {_number(every.tau)}; within p90: {_number(every.coverage_p90)}."
    )
    return card("Predicted and actual length", text, picture, numbers=plain_table(head, rows))


def _latency_table(report: Report) -> str:
    head = ("seconds", "requests", "mean", "p50", "p90", "p99", "p99.9", "max")
    rows = [
        [name, str(one.n), *map(_number, (one.mean, one.p50, one.p90, one.p99, one.p999, one.max))]
        for name, one in report.latency.items()
    ]
    return plain_table(head, rows)


def _todo(report: Report) -> str:
    items = "".join(f"<li>{html.escape(one.text)}</li>" for one in report.recommendations)
    todo = f'<ol class="todo">{items}</ol>' if items else ""
    untold = "" if report.whole else f"<p>{NOT_TOLD}</p>"
    return f'<section class="wide"><h2>What to do</h2>{todo}{untold}</section>'


def _worst(report: Report) -> str:
    shown = min(len(report.slow.listed), WORST)
    return (
        f'<section class="wide"><h2>The {shown} worst requests</h2><p class="soft">Open one for '
        f"its numbers and for who overtook it.</p>{waterfalls(report.slow.listed)}</section>"
    )


def _slow(report: Report) -> str:
    shown = min(len(report.slow.listed), LISTED)
    return (
        f'<section class="wide"><h2>Slow requests</h2><p class="soft">The slowest {shown} of '
        f"{report.slow.requests}; --json has more. A column sorts by its heading.</p>"
        f"{slow_table(report.slow.listed)}</section>"
    )


def _method(report: Report) -> str:
    told, queue = report.read, report.latency["engine_queue_s"]
    proof = (
        "No span of the engine itself was found: it makes them only for head-sampled requests."
        if not queue.n
        else f"The engine's own queue, of {queue.n} head-sampled requests: {_number(queue.p50)} s "
        f"at p50, {_number(queue.p90)} s at p90. Near zero: our queue is the real one."
    )
    lines = [
        proof,
        f"Read from {report.source}: {told.spans} spans, {told.foreign_spans} of other programs.",
        "Orders served: " + ", ".join(f"{name} {count}" for name, count in report.orders.items()),
        "Preemption is inferred: an answer paused while those beside it went on.",
    ]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<section class="wide"><h2>How it was found</h2><ul>{items}</ul></section>'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
