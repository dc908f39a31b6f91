"""Records of replays to figures: summaries, and pairs for comparisons. Runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from llmservice_sidecar.core.request import Outcome

from llmservice_lab.replay.intervals import Change, Floats, Pairs, Resampling
from llmservice_lab.replay.recording import Stretch
from llmservice_lab.results import RequestRecord, RunLabels, RunSummary, summarise

Records: TypeAlias = Sequence[Sequence[RequestRecord]]  # one list a stretch, as its `taken`


def summary_of(stretches: Sequence[Stretch], records: Records, labels: RunLabels) -> RunSummary:
    """Latencies of the requests that count, numbers of all after each stretch's warm-up."""
    began_s = min(stretch.began_s for stretch in stretches)
    everybody, counted = list[RequestRecord](), list[RequestRecord]()
    for stretch, of_stretch in zip(stretches, records, strict=True):
        for number, (one, record) in enumerate(zip(stretch.taken, of_stretch, strict=True)):
            if number < stretch.warm_up:
                continue
            everybody.append(record)
            if one.counts:
                counted.append(_later(record, stretch.began_s - began_s))
    summary = summarise(counted, labels, warm_up_share=0.0)
    ended = Counter(record.outcome for record in everybody)
    summary["requests"] = len(everybody)
    summary["completed"] = ended[Outcome.COMPLETED]
    summary["rejected"] = ended[Outcome.REJECTED]
    summary["evicted"] = ended[Outcome.EVICTED]
    summary["cancelled"] = ended[Outcome.CANCELLED]
    summary["failed"] = ended[Outcome.FAILED]
    return summary


def changes_of(
    stretches: Sequence[Stretch], before: Records, after: Records, *, seed: int
) -> tuple[list[Change], int, int]:
    """The changes, of how many requests, and of how many neighbours a drawn block was.

    Only requests that completed in both are compared, each with itself.
    """
    kept = [
        _completed_in_both(stretch, olds, news)
        for stretch, olds, news in zip(stretches, before, after, strict=True)
    ]
    e2e = _pairs(kept, _e2e_s)
    waits = _pairs(kept, _wait_s)
    count = sum(len(pairs) for pairs in kept)
    if not count:
        return [], 0, 0
    drawn = Resampling(e2e, seed=seed)
    changes = [
        drawn.change("e2e_mean", e2e),
        drawn.change("e2e_p50", e2e, percent=50),
        drawn.change("e2e_p99", e2e, percent=99),
        drawn.change("queue_wait_mean", waits),
    ]
    return changes, count, drawn.block


_Both: TypeAlias = list[tuple[RequestRecord, RequestRecord]]


def _completed_in_both(
    stretch: Stretch, before: Sequence[RequestRecord], after: Sequence[RequestRecord]
) -> _Both:
    pairs = list(zip(stretch.taken, before, after, strict=True))[stretch.warm_up :]
    return [
        (old, new)
        for one, old, new in pairs
        if one.counts and old.outcome is Outcome.COMPLETED and new.outcome is Outcome.COMPLETED
    ]


def _pairs(kept: Sequence[_Both], figure: Callable[[RequestRecord], float]) -> Pairs:
    return [
        (_array([figure(old) for old, _ in pairs]), _array([figure(new) for _, new in pairs]))
        for pairs in kept
        if pairs
    ]


def _array(values: list[float]) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _e2e_s(record: RequestRecord) -> float:
    return (record.finished_s or 0.0) - record.arrival_s


def _wait_s(record: RequestRecord) -> float:
    return (record.admitted_s or 0.0) - record.arrival_s


def _later(record: RequestRecord, by_s: float) -> RequestRecord:
    """On the clock that all stretches share."""

    def moved(moment_s: float | None) -> float | None:
        return None if moment_s is None else moment_s + by_s

    return replace(
        record,
        arrival_s=record.arrival_s + by_s,
        admitted_s=moved(record.admitted_s),
        first_token_s=moved(record.first_token_s),
        finished_s=moved(record.finished_s),
    )
