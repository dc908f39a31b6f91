"""The slow requests one by one: each with its cause, the numbers behind it and who overtook it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from llmservice_lab.analysis import causes
from llmservice_lab.analysis.causes import Cause, Explained, Explainer, Numbers, Usual
from llmservice_lab.analysis.columns import Columns
from llmservice_lab.analysis.record import TracedRequest, iso
from llmservice_lab.analysis.sampling import Sample


class Overtaker(msgspec.Struct, frozen=True, kw_only=True):
    """One that came later and ran earlier; seconds are after the arrival of the overtaken."""

    request_id: str
    arrived_after_s: float
    ran_after_s: float | None
    predicted_tokens: float | None
    actual_tokens: int | None


class SlowRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One slow request with its cause, its seconds by cause and the numbers behind."""

    request_id: str
    trace_id: str
    arrived: str  # ISO 8601, UTC
    cause: Cause
    total_s: float
    queue_s: float
    prefill_s: float | None
    decode_s: float | None
    client_stall_s: float | None
    tenant: str | None
    model: str
    prompt_tokens: int | None
    predicted_tokens: float | None
    actual_tokens: int | None
    outcome: str
    reason: str
    seconds: dict[Cause, float]
    numbers: Numbers
    overtaken_by: int
    overtakers: Sequence[Overtaker]  # the first eight, as far as their traces were kept


class CauseCount(msgspec.Struct, frozen=True, kw_only=True):
    """The slow requests of one cause; `seconds` is what this cause took of all slow requests."""

    cause: Cause
    requests: int
    kept_at_their_end: int  # of these, there only because they were slow or failed
    seconds: float


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests slower than the threshold, and those refused or failed; the worst are listed."""

    threshold_s: float
    requests: int
    usual: Usual
    causes: Sequence[CauseCount]
    listed: Sequence[SlowRequest]


def slow_of(
    requests: Sequence[TracedRequest],
    columns: Columns,
    sample: Sample,
    *,
    threshold_s: float,
    listed: int,
) -> Slow:
    """The slow, refused and failed ones of all traces, explained by those of `sample`."""
    explainer = Explainer(requests, columns, sample=sample)
    refused = {"rejected", "failed"}
    slow = causes.slow_rows(columns, threshold_s)
    taken = set(slow)
    others = [
        row for row, one in enumerate(requests) if one.outcome in refused and row not in taken
    ]
    found = [explainer.explain(row) for row in (*slow, *others)]
    counts = Counter(one.cause for one in found)
    kept = Counter(one.cause for one in found if requests[one.row].kept_at_its_end)
    by_id = {one.request_id: one for one in requests}
    seconds: Counter[Cause] = Counter()
    for one in found:
        seconds.update(one.seconds)
    return Slow(
        threshold_s=threshold_s,
        requests=len(found),
        usual=explainer.usual,
        causes=[
            CauseCount(
                cause=cause,
                requests=count,
                kept_at_their_end=kept[cause],
                seconds=seconds[cause],
            )
            for cause, count in counts.most_common()
        ],
        listed=[_listed(requests[one.row], one, by_id) for one in found[:listed]],
    )


def _overtakers(one: TracedRequest, by_id: Mapping[str, TracedRequest]) -> list[Overtaker]:
    found = [by_id[name] for name in one.overtaken_by_ids if name in by_id]
    return [
        Overtaker(
            request_id=other.request_id,
            arrived_after_s=other.arrived_s - one.arrived_s,
            ran_after_s=None if other.called_s is None else other.called_s - one.arrived_s,
            predicted_tokens=other.predicted_tokens,
            actual_tokens=other.actual_tokens,
        )
        for other in found
    ]


def _listed(one: TracedRequest, why: Explained, by_id: Mapping[str, TracedRequest]) -> SlowRequest:
    return SlowRequest(
        request_id=one.request_id,
        trace_id=one.trace_id,
        arrived=iso(one.arrived_s),
        cause=why.cause,
        total_s=one.total_s,
        queue_s=one.wait_s,
        prefill_s=one.prefill_s,
        decode_s=one.decode_s,
        client_stall_s=one.client_stall_s,
        tenant=one.tenant,
        model=one.model,
        prompt_tokens=one.prompt_tokens,
        predicted_tokens=one.predicted_tokens,
        actual_tokens=one.actual_tokens,
        outcome=one.outcome,
        reason=one.reason,
        seconds=why.seconds,
        numbers=why.numbers,
        overtaken_by=one.overtaken_by,
        overtakers=_overtakers(one, by_id),
    )
