"""The one table of the demo, as rows of text; drawn by the terminal and by the report alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from llmservice_lab.demo.passes import CONTENDER
from llmservice_lab.demo.summary import Summary
from llmservice_lab.gains import told
from llmservice_lab.results import Quantiles, RunSummary

Row = tuple[str, ...]
_Name = Literal["mean", "p50", "p90", "p99"]
_COLUMNS: Final = 2  # baseline and contender with the first predictor
_SHOWN: Final[tuple[_Name, ...]] = ("mean", "p50", "p99")


def header(summary: Summary) -> Row:
    """Column names: the measure, a column per policy, the contender's share of the baseline."""
    baseline, contender = (run["policy"] for run in summary["runs"][:_COLUMNS])
    return ("", baseline, contender, f"{contender} / {baseline}")


def rows(summary: Summary) -> list[Row]:
    """The table's body."""
    runs = summary["runs"][:_COLUMNS]
    comparison = summary["comparison"]
    body: list[Row] = [_row("requests", runs, lambda run: run["completed"], form="{:.0f}")]
    for title, pick in _LATENCIES:
        body += [
            _row(f"{title} {name}", runs, _quantile(pick, name), form="{:.3f} s", ratio=True)
            for name in _SHOWN
        ]
    body.append(
        _row("output tokens/s", runs, lambda run: run["tokens_per_s"], form="{:.0f}", ratio=True)
    )
    body.append(
        _row(
            "engine's own queue p90",
            runs,
            _quantile(lambda run: run["engine_queue_s"], "p90"),
            form="{:.4f} s",
        )
    )
    body.append(_row("predictor, Kendall tau", runs, lambda run: run["tau"], form="{:.2f}"))
    blank = ("",) * (len(runs) - 1)
    shares = f"{comparison['faster_share']:.0%} / {comparison['slower_share']:.0%}"
    body.append((f"requests faster / slower with {CONTENDER}", *blank, shares, ""))
    return body


def facts(summary: Summary) -> list[str]:
    """The lines under the table: load, capacity, verdict, what went wrong."""
    load = (
        f"capacity {summary['capacity_before_rps']:.2f} requests/s before, "
        f"{summary['capacity_after_rps']:.2f} after; offered {summary['offered_rps']:.2f}/s = "
        f"{summary['offered_load']:.2f} of it; first tenth of each pass left out as warm-up"
    )
    failed = [f"FAILED: {failure}" for failure in summary["failures"]]
    kept = [told(share) for share in summary["shares"] if len(summary["shares"]) > 1]
    return [load, *summary["remarks"], summary["verdict"], *kept, *failed]


def _row(
    title: str,
    runs: list[RunSummary],
    pick: Callable[[RunSummary], float | None],
    *,
    form: str,
    ratio: bool = False,
) -> Row:
    values = [pick(run) for run in runs]
    shown = tuple("-" if value is None else form.format(value) for value in values)
    first, last = values[0], values[-1]
    share = f"{last / first:.2f}" if ratio and first and last is not None else ""
    return (title, *shown, share)


def _quantile(
    pick: Callable[[RunSummary], Quantiles], name: _Name
) -> Callable[[RunSummary], float | None]:
    return lambda run: pick(run)[name]


_LATENCIES: tuple[tuple[str, Callable[[RunSummary], Quantiles]], ...] = (
    ("end to end", lambda run: run["e2e_s"]),
    ("time to first token", lambda run: run["ttft_s"]),
    ("queue wait", lambda run: run["queue_wait_s"]),
)
