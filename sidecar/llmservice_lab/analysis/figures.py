"""The page's pictures. Pure: the document in, SVG text out; their number of marks is bounded."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Final

from llmservice_lab.analysis.breakdown import Moment, Parts
from llmservice_lab.analysis.calibration import Bin, Calibration
from llmservice_lab.analysis.causes import Cause
from llmservice_lab.analysis.slow import CauseCount
from llmservice_lab.charts import Plot, Scale, number

_Seconds = Callable[[Parts], float]
PARTS: Final[Sequence[tuple[str, str, _Seconds]]] = (
    ("queue", "in our queue", lambda one: one.queue_s),
    ("first", "engine, to the first token", lambda one: one.prefill_s),
    ("stream", "engine, further tokens", lambda one: one.decode_s + one.engine_s),
    ("client", "client not reading", lambda one: one.client_s),
    ("rest", "anything else", lambda one: one.other_s),
)
CAUSES: Final = {
    Cause.DEEP_QUEUE: "deep queue",
    Cause.OVERTAKEN: "overtaken",
    Cause.LONG_PREFILL: "long prompt",
    Cause.ENGINE_QUEUE: "queue inside the engine",
    Cause.ENGINE_PREEMPTED: "preempted (inferred)",
    Cause.ENGINE_SLOW: "engine slow",
    Cause.SLOW_CLIENT: "slow client",
    Cause.LONG_ANSWER: "long answer",
    Cause.REJECTED: "rejected",
    Cause.FAILED: "failed",
}
_LABEL_WIDTH: Final = 14
_FEWEST_BARS: Final = 4  # room for so many: one bar alone is no wall


def stacks(groups: Sequence[Parts], *, x: str, name: str) -> str:
    """One bar a group, stacked of its parts."""
    highest = max((one.total_s for one in groups), default=0.0) or 1.0
    plot = Plot(
        x=Scale(low=0, high=max(len(groups), _FEWEST_BARS), label=html.escape(x)),
        y=Scale(low=0, high=highest * 1.05, label="mean seconds"),
    )
    marks: list[str] = []
    for place, one in enumerate(groups):
        bottom = 0.0
        for css, what, of in PARTS:
            value = of(one)
            if value <= 0:
                continue
            text = f"{one.label}: {what} {value:.3f} s of {one.total_s:.3f} s ({one.n} requests)"
            edges = (place + 0.12, place + 0.88)
            marks.append(plot.block(edges, (bottom, bottom + value), css=f"part {css}", text=text))
            bottom += value
    return plot.svg(marks, name=name, x_labels=[_short(one.label) for one in groups])


def cause_bars(causes: Sequence[CauseCount]) -> str:
    """How many slow requests each cause has, as lying bars."""
    most = max((one.requests for one in causes), default=1)
    height, left, width = 30, 210, 560
    rows: list[str] = []
    for place, one in enumerate(causes):
        top = 8 + place * height
        long = max((width - left - 60) * one.requests / most, 1.0)
        rows.append(
            f'<text x="{left - 8}" y="{top + 15}" class="end name">{CAUSES[one.cause]}</text>'
            f'<rect class="bar cause" x="{left}" y="{top}" width="{long:.1f}" height="20">'
            f"<title>{CAUSES[one.cause]}: {one.requests} requests, {one.seconds:.1f} s</title>"
            f'</rect><text x="{left + long + 6:.1f}" y="{top + 15}">{one.requests}</text>'
        )
    name = "slow requests by cause: " + ", ".join(
        f"{CAUSES[one.cause]} {one.requests}" for one in causes
    )
    return (
        f'<svg viewBox="0 0 {width} {len(causes) * height + 12}" role="img" '
        f'aria-label="{html.escape(name)}">{"".join(rows)}</svg>'
    )


def distribution(points: Sequence[tuple[float, float]], threshold_s: float) -> str:
    """Share of the requests that were answered within a time."""
    low = max(points[0][0], 1e-4)
    high = max(points[-1][0], low * 1.1)
    plot = Plot(
        x=Scale(low=low, high=high, label="seconds from the door to the end (log)", log=True),
        y=Scale(low=0, high=100, label="answered, %"),
    )
    marks = [plot.line([(at, 100 * share) for at, share in points], css="total")]
    if low < threshold_s < high:
        marks.append(plot.line([(threshold_s, 0), (threshold_s, 100)], css="even"))
    return plot.svg(marks, name="share of requests answered within a time; dashed: slow from here")


def over_time(moments: Sequence[Moment]) -> str:
    """p99, median and mean wait by time of arrival."""
    highest = max(one.total_p99_s or 0.0 for one in moments) or 1.0
    end_s = 2 * moments[-1].after_s - moments[-2].after_s
    plot = Plot(
        x=Scale(low=0, high=end_s, label="arrival, seconds from the first"),
        y=Scale(low=0, high=highest * 1.05, label="seconds"),
    )
    marks: list[str] = []
    curves: Sequence[tuple[str, Callable[[Moment], float | None]]] = (
        ("p99", lambda one: one.total_p99_s),
        ("total", lambda one: one.total_p50_s),
        ("wait", lambda one: one.queue_mean_s),
    )
    for css, of in curves:
        points = [(one.after_s, value) for one in moments if (value := of(one)) is not None]
        points += [(end_s, points[-1][1])] if points else []
        marks.append(plot.steps(points, css=css))
    return plot.svg(marks, name="p99 and median of the whole time and mean wait, by arrival")


def prediction(judged: Calibration) -> str:
    """Predicted against actual length: median and the middle 80 % of the actual."""
    values = [value for one in judged.bins for value in (one.predicted, one.actual_p10)]
    values += [one.actual_p90 for one in judged.bins]
    low = max(min(values), 1.0)
    high = max(*values, low * 1.1)
    plot = Plot(
        x=Scale(low=low, high=high, label="predicted tokens (log)", log=True),
        y=Scale(low=low, high=high, label="actual tokens (log)", log=True),
    )
    marks = [plot.line([(low, low), (high, high)], css="even")]
    for one in judged.bins:
        ends = [(one.predicted, one.actual_p10), (one.predicted, one.actual_p90)]
        marks.append(plot.line(ends, css="spread"))
    dots = [(one.predicted, one.actual_p50, _told(one)) for one in judged.bins]
    marks.append(plot.dots(dots, css="model"))
    return plot.svg(marks, name="predicted and actual answer lengths; the diagonal is right")


def _told(one: Bin) -> str:
    spread = f"{number(one.actual_p10)} to {number(one.actual_p90)}"
    return (
        f"{one.n} answers predicted {number(one.predicted)} tokens: half had at most "
        f"{number(one.actual_p50)}, most {spread}"
    )


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_WIDTH else f"{label[: _LABEL_WIDTH - 1]}…"
