"""`report.html`: table, plots, the slowest requests, who overtook whom. One file, no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmservice_lab.demo import figures, table
from llmservice_lab.demo.passes import CONTENDER, Turn
from llmservice_lab.demo.records import Record
from llmservice_lab.demo.summary import Summary, by_policy
from llmservice_lab.demo.waterfall import legend, overtaken_table, waterfalls
from llmservice_lab.gains import BASELINE
from llmservice_lab.page_style import STYLE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    """One chart with what it says."""

    title: str
    text: str
    svg: str


def render(summary: Summary, passes: Sequence[Sequence[Record]]) -> str:
    """The whole page."""
    pooled = by_policy(passes)
    cards = "".join(_card(figure) for figure in _figures(pooled, passes))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>llmservice demo: {BASELINE} against {CONTENDER}</title>"
        f"<style>{STYLE}</style></head><body><main>"
        f'{_opening(summary)}{_table(summary)}<div class="grid">{cards}</div>'
        f"{_slowest(pooled)}{_overtaken(passes)}{_method(summary)}"
        "</main></body></html>\n"
    )


def _opening(summary: Summary) -> str:
    failed = "".join(f'<p class="failed">{html.escape(text)}</p>' for text in summary["failures"])
    return (
        f"<h1>{html.escape(summary['verdict'])}</h1>"
        '<p class="soft">The same requests at the same times, on the same engine with the same '
        "slots; only the order of the queue differs. Lengths are forced inside the engine and "
        f"hidden from the predictor.</p>{failed}"
        f'<p class="legend">{_key(BASELINE, "arrival order")}'
        f"{_key(CONTENDER, 'shortest predicted first, by boosted arrival')}</p>"
    )


def _key(policy: str, meaning: str) -> str:
    return f'<span><i class="key {policy}"></i>{policy}: {meaning}</span>'


def _table(summary: Summary) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header(summary))
    body = "".join(
        f"<tr><th>{html.escape(row[0])}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows(summary)
    )
    return (
        '<section class="wide figures"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></section>"
    )


def _figures(
    pooled: Mapping[str, Sequence[Record]], passes: Sequence[Sequence[Record]]
) -> list[_Figure]:
    contender = next(records for records in passes if records[0].policy == CONTENDER)
    return [
        _Figure(
            title="How long an answer took",
            text="Share of requests answered within a time. Further left is better.",
            svg=figures.latency_distribution(pooled),
        ),
        _Figure(
            title="Who gains, who pays",
            text="Mean time by answer length: tenths of the requests, the longest on the right.",
            svg=figures.by_length(pooled),
        ),
        _Figure(
            title="Requests waiting",
            text="One line per pass. Order changes who waits, hardly how many tokens are served.",
            svg=figures.queue_depth({records[0].pass_index: records for records in passes}),
        ),
        _Figure(
            title="Each request under both orders",
            text=f"Below the line: faster with {CONTENDER}. Point at a dot for its request.",
            svg=figures.faster_and_slower(pooled, baseline=BASELINE, other=CONTENDER),
        ),
        _Figure(
            title="Predicted and true length",
            text="What the order was made from. The predictor saw other prompts of these kinds.",
            svg=figures.prediction(contender),
        ),
        _Figure(
            title="Who overtook whom",
            text=f"First {CONTENDER} pass. Below the line: moved forward; above: overtaken.",
            svg=figures.overtaking(contender),
        ),
    ]


def _card(figure: _Figure) -> str:
    return (
        f'<section><h2>{figure.title}</h2><p class="soft">{figure.text}</p>{figure.svg}</section>'
    )


def _slowest(pooled: Mapping[str, Sequence[Record]]) -> str:
    parts = "".join(
        f"<h3>{policy}</h3>{waterfalls(pooled[policy])}" for policy in (BASELINE, CONTENDER)
    )
    return (
        '<section class="wide"><h2>The slowest requests</h2>'
        '<p class="soft">The last column is the trace: find it in Jaeger after uploading '
        f"traces.json.</p>{legend()}{parts}</section>"
    )


def _overtaken(passes: Sequence[Sequence[Record]]) -> str:
    contender = next(records for records in passes if records[0].policy == CONTENDER)
    return (
        '<section class="wide"><h2>Most overtaken</h2>'
        f'<p class="soft">First {CONTENDER} pass: later arrivals that were admitted earlier, with '
        f"their true lengths.</p>{overtaken_table(contender)}</section>"
    )


def _method(summary: Summary) -> str:
    passes = "; ".join(
        f"{one['index']} {Turn(one['policy'], one['predictor']).label} {one['e2e_mean_s']:.3f} s"
        for one in summary["passes"]
    )
    lines = [
        *table.facts(summary)[:1],
        *summary["remarks"],
        f"mean end to end of each pass: {passes}",
        f"workload {summary['workload']}; seed {summary['seed']}; commit {summary['commit']}",
        summary["hardware"],
    ]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<section class="wide"><h2>How it was measured</h2><ul>{items}</ul></section>'
