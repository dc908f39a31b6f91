"""The report's figures, from records of both policies. Pure: records in, SVG text out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from llmservice_lab.charts import Plot, Scale
from llmservice_lab.demo.records import Record

Pooled = Mapping[str, Sequence[Record]]  # policy -> the records of all its passes
_DECILES = 10


def latency_distribution(pooled: Pooled) -> str:
    """Share of requests that were answered within a time."""
    every = [record.e2e_s for records in pooled.values() for record in records]
    plot = Plot(
        x=Scale(low=min(every), high=max(every), label="end to end, seconds (log)", log=True),
        y=Scale(low=0, high=100, label="answered, %"),
    )
    marks: list[str] = []
    for policy, records in pooled.items():
        times = sorted(record.e2e_s for record in records)
        points = [(value, 100 * (at + 1) / len(times)) for at, value in enumerate(times)]
        marks.append(plot.line(_thinned(points), css=policy))
    return plot.svg(marks, name="share of requests answered within a time, by policy")


def by_length(pooled: Pooled) -> str:
    """Mean end-to-end time by decile of the true answer length."""
    means = {policy: _decile_means(records) for policy, records in pooled.items()}
    highest = max(mean for rows in means.values() for _, mean in rows)
    plot = Plot(
        x=Scale(low=0, high=_DECILES, label="tenths of the requests, by answer length in tokens"),
        y=Scale(low=0, high=highest * 1.05, label="mean end to end, s"),
    )
    width = 0.8 / len(means)
    marks: list[str] = []
    for at, (policy, rows) in enumerate(means.items()):
        for decile, (longest, mean) in enumerate(rows):
            left = decile + 0.1 + at * width
            text = f"{policy}: {mean:.2f} s, answers up to {longest} tokens"
            marks.append(plot.bar((left, left + width), mean, css=policy, text=text))
    labels = [f"≤{longest}" for longest, _ in next(iter(means.values()))]
    return plot.svg(marks, name="mean end-to-end time by answer length", x_labels=labels)


def queue_depth(passes: Mapping[int, Sequence[Record]]) -> str:
    """How many requests waited, over the time of each pass."""
    curves = {index: _depth(records) for index, records in passes.items()}
    end_s = max(curve[-1][0] for curve in curves.values())
    deepest = max(depth for curve in curves.values() for _, depth in curve)
    plot = Plot(
        x=Scale(low=0, high=end_s, label="seconds since the pass began"),
        y=Scale(low=0, high=max(deepest, 1), label="requests waiting"),
    )
    marks = [
        plot.steps(_thinned(curve), css=passes[index][0].policy) for index, curve in curves.items()
    ]
    return plot.svg(marks, name="requests waiting over time, one line per pass")


def faster_and_slower(pooled: Pooled, *, baseline: str, other: str) -> str:
    """Every request's time under one policy against its time under the other."""
    before, after = mean_by_row(pooled[baseline]), mean_by_row(pooled[other])
    tokens = {record.row: record.output_tokens for record in pooled[baseline]}
    every = [*before.values(), *after.values()]
    low, high = min(every), max(every)
    plot = Plot(
        x=Scale(low=low, high=high, label=f"{baseline}, seconds (log)", log=True),
        y=Scale(low=low, high=high, label=f"{other}, seconds (log)", log=True),
    )
    dots = [
        (
            before[row],
            after[row],
            f"#{row}, {tokens[row]} tokens: {before[row]:.2f} s → {after[row]:.2f} s",
        )
        for row in sorted(before)
    ]
    faster = [dot for dot in dots if dot[1] <= dot[0]]
    slower = [dot for dot in dots if dot[1] > dot[0]]
    marks = [
        plot.line([(low, low), (high, high)], css="even"),
        plot.dots(slower, css=baseline),
        plot.dots(faster, css=other),
    ]
    return plot.svg(marks, name="time of each request under both policies")


def prediction(records: Sequence[Record]) -> str:
    """Predicted against true output tokens."""
    longest = max(max(record.output_tokens, record.predicted_tokens) for record in records)
    plot = Plot(
        x=Scale(low=4, high=longest, label="true output tokens (log)", log=True),
        y=Scale(low=4, high=longest, label="predicted output tokens (log)", log=True),
    )
    dots = [
        (
            float(record.output_tokens),
            record.predicted_tokens,
            f"#{record.row}: predicted {record.predicted_tokens:.0f}, was {record.output_tokens}",
        )
        for record in records
    ]
    marks = [plot.line([(4, 4), (longest, longest)], css="even"), plot.dots(dots, css="SSJF")]
    return plot.svg(marks, name="predicted against true output tokens")


def overtaking(records: Sequence[Record]) -> str:
    """Place in arrival order against place in admission order: below the diagonal is forward."""
    by_arrival = sorted(records, key=lambda record: record.queued_s)
    by_admission = sorted(records, key=lambda record: (record.admitted_s, record.queued_s))
    admitted_as = {record.row: place for place, record in enumerate(by_admission)}
    count = len(records)
    plot = Plot(
        x=Scale(low=0, high=count, label="place by arrival"),
        y=Scale(low=0, high=count, label="place by admission"),
    )
    ahead: list[tuple[float, float, str]] = []
    behind: list[tuple[float, float, str]] = []
    for place, record in enumerate(by_arrival):
        text = (
            f"#{record.row}: {record.output_tokens} tokens, overtook {len(record.overtook)}, "
            f"overtaken by {len(record.overtaken_by)}"
        )
        chosen = ahead if admitted_as[record.row] <= place else behind
        chosen.append((place, admitted_as[record.row], text))
    marks = [
        plot.line([(0, 0), (count, count)], css="even"),
        plot.dots(behind, css="FCFS"),
        plot.dots(ahead, css="SSJF"),
    ]
    return plot.svg(marks, name="arrival order against admission order")


def mean_by_row(records: Sequence[Record]) -> dict[int, float]:
    """Mean end-to-end seconds of each workload row over the passes it is in."""
    times: defaultdict[int, list[float]] = defaultdict(list)
    for record in records:
        times[record.row].append(record.e2e_s)
    return {row: math.fsum(values) / len(values) for row, values in times.items()}


def _decile_means(records: Sequence[Record]) -> list[tuple[int, float]]:
    """(longest answer, mean end-to-end seconds) of each tenth of the requests by answer length."""
    ordered = sorted(records, key=lambda record: record.output_tokens)
    bounds = [len(ordered) * at // _DECILES for at in range(_DECILES + 1)]
    parts = [ordered[a:b] for a, b in pairwise(bounds) if b > a]
    return [
        (part[-1].output_tokens, math.fsum(record.e2e_s for record in part) / len(part))
        for part in parts
    ]


def _depth(records: Sequence[Record]) -> list[tuple[float, float]]:
    # At equal times leaving counts before joining: a request that did not wait never shows.
    changes = [(record.queued_s, 1) for record in records]
    changes += [(record.admitted_s, -1) for record in records]
    curve: list[tuple[float, float]] = [(0.0, 0.0)]
    for at_s, change in sorted(changes, key=lambda pair: (pair[0], pair[1])):
        curve.append((max(at_s, 0.0), max(curve[-1][1] + change, 0.0)))
    return curve


def _thinned(
    points: Sequence[tuple[float, float]], *, most: int = 400
) -> list[tuple[float, float]]:
    step = max(len(points) // most, 1)
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
