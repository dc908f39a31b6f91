"""Traced requests to what can be replayed: stretches of one pod under one policy. Knows no engine.

Who is in, and as what: completed requests with their true lengths. Who left during the answer asks
for what was generated until then. Who left the queue, or was refused, is offered again and leaves
when it left, if it has not had its turn by then; how long its answer would have been nobody knows,
so it gets what was predicted, and none of these counts in any latency. Who was refused for what it
asked is left out: it never competed.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Outcome, Prediction

from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.results import WARM_UP_SHARE
from llmservice_lab.workload import WorkloadRequest

MIN_COMPLETED: Final = 30  # of a stretch that is worth a replay
_NEVER_COMPETED: Final = {Reason.INVALID, Reason.UNAUTHENTICATED, Reason.ENGINE_REFUSED}
_NO_PLACE: Final = {Reason.QUEUE_FULL, Reason.QUEUE_SHARE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One request to replay. `counts`: its true length is known, and it has a place in latencies.

    `before_s` and `after_s` are what it spent outside of queue and engine; they stay as they were.
    """

    traced: TracedRequest
    row: WorkloadRequest
    counts: bool
    leave_s: float | None
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What one pod served under one policy, without a break. Arrivals are at the gate, from 0."""

    pod: str
    policy: str  # that was really in force: arrival order where the configured one never was
    tail_weight: float | None  # of the configured one; None: the traces do not say
    began_s: float  # Unix seconds
    taken: Sequence[Taken]
    slots: int
    slots_are_sure: bool  # somebody waited while so many were in flight
    max_queued: int | None
    starts_trusted: bool  # predictions may order the queue before there is evidence

    @property
    def warm_up(self) -> int:
        """How many of its first requests count nowhere."""
        return int(len(self.taken) * WARM_UP_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """All stretches that are long enough, and what was left out in how many requests."""

    stretches: Sequence[Stretch]
    left_out: dict[str, int]  # reason -> requests


def recording_of(requests: Iterable[TracedRequest], *, policy: str | None = None) -> Recording:
    """The stretches of some requests, only those under `policy` if it is given.

    Raises ValueError when nothing is left to replay, saying what was left out.
    """
    by_pod: defaultdict[tuple[str, str], list[TracedRequest]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    total = 0
    for one in requests:
        total += 1
        if one.reason in _NEVER_COMPETED:
            left_out[f"refused as {one.reason}"] += 1
        else:
            by_pod[one.service, one.pod].append(one)
    stretches: list[Stretch] = []
    for (service, pod), of_pod in sorted(by_pod.items()):
        of_pod.sort(key=_offered_s)
        for (configured, _), group in itertools.groupby(
            of_pod, key=lambda one: (one.policy, one.tail_weight)
        ):
            members = list(group)
            in_force = _in_force(configured, members)
            if policy not in (None, in_force):
                left_out[f"served by {in_force or 'no known policy'}"] += len(members)
            elif sum(map(_is_complete, members)) < MIN_COMPLETED:
                left_out[f"in stretches of fewer than {MIN_COMPLETED} answers"] += len(members)
            else:
                stretches.append(_stretch(pod or service, in_force, members))
    if not stretches:
        why = (
            ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "there is none"
        )
        raise ValueError(f"none of {total} requests can be replayed: {why}")
    return Recording(stretches=stretches, left_out=dict(left_out))


def prediction_of(one: TracedRequest) -> Prediction | None:
    """What was predicted, as it stands on the span; None: nothing."""
    if one.predicted_tokens is None:
        return None
    p90 = one.predicted_tokens if one.predicted_p90 is None else one.predicted_p90
    source = one.prediction_source or "recorded"
    return Prediction(one.predicted_tokens, p90, source, one.predicted_p50)


def tokens_of(one: TracedRequest) -> int | None:
    """Output tokens of one answer; None: the trace does not say."""
    if one.actual_tokens is not None:
        return one.actual_tokens
    return None if one.output_tokens is None else round(one.output_tokens / one.slots)


def _in_force(configured: str, members: Sequence[TracedRequest]) -> str:
    """A policy that was configured but never obeyed (Shadow, or an open guard) was not in force."""
    orders = Counter(one.order for one in members if one.order)
    if not orders or configured in orders:
        return configured
    return orders.most_common(1)[0][0]


def _stretch(pod: str, policy: str, members: Sequence[TracedRequest]) -> Stretch:
    began_s = _offered_s(members[0])
    typical = round(statistics.median(_lengths(members)))
    token_s = _token_s(members)
    timeouts = [one.wait_s for one in members if one.reason == Reason.QUEUE_TIMEOUT]
    queue_timeout_s = min(timeouts, default=None)
    slots, sure = slots_of(members)
    return Stretch(
        pod=pod,
        policy=policy,
        tail_weight=members[0].tail_weight,
        began_s=began_s,
        taken=[_taken(one, typical, token_s, queue_timeout_s, began_s) for one in members],
        slots=slots,
        slots_are_sure=sure,
        max_queued=_max_queued(members),
        starts_trusted=members[0].order in ("", policy),
    )


def _taken(
    one: TracedRequest,
    typical: int,
    token_s: float,
    queue_timeout_s: float | None,
    began_s: float,
) -> Taken:
    complete = _is_complete(one)
    offered_s = _offered_s(one)
    row = WorkloadRequest(
        arrival_s=offered_s - began_s,
        prompt=None,
        prompt_tokens=one.prompt_tokens or 0,
        output_tokens=max(_length(one, typical, token_s), 1),
        model=one.model or None,
        max_tokens=one.max_tokens,
        tenant=one.tenant,
        priority=one.priority,
        deadline_s=one.timeout_s,
        slots=one.slots,
    )
    # Who was refused left at once; offered again, it waits for its turn.
    gave_up = not one.admitted and one.outcome != Outcome.REJECTED
    own_leave_s = max(one.ended_s - offered_s, 0.0) if gave_up else None
    limits = [s for s in (own_leave_s, one.timeout_s, queue_timeout_s) if s is not None]
    return Taken(
        traced=one,
        row=row,
        counts=complete,
        leave_s=min(limits, default=None),
        before_s=offered_s - one.arrived_s,
        after_s=0.0 if one.engine_ended_s is None else max(one.ended_s - one.engine_ended_s, 0.0),
    )


def _length(one: TracedRequest, typical: int, token_s: float) -> int:
    """True where known; else by the time it was answered; else what was predicted."""
    known = tokens_of(one)
    if known is not None and (one.completed or one.admitted):
        return known
    if one.admitted:
        service_s = one.service_s or 0.0
        answering_s = service_s if one.decode_s is None else one.decode_s
        return round(answering_s / token_s) if token_s else typical
    predicted = typical if one.predicted_tokens is None else round(one.predicted_tokens)
    return predicted if one.max_tokens is None else min(predicted, one.max_tokens)


def _lengths(members: Iterable[TracedRequest]) -> list[int]:
    return [tokens_of(one) or 0 for one in members if _is_complete(one)]


def _token_s(members: Iterable[TracedRequest]) -> float:
    """Seconds of the engine per token, of all answers together."""
    pairs = [(one.service_s or 0.0, tokens_of(one) or 0) for one in members if _is_complete(one)]
    return sum(s for s, _ in pairs) / max(sum(tokens for _, tokens in pairs), 1)


def _max_queued(members: Iterable[TracedRequest]) -> int | None:
    """As deep as the queue was when it was full; None: it never was."""
    listed = list(members)
    if not any(one.reason in _NO_PLACE for one in listed):
        return None
    return max((one.depth for one in listed if one.depth is not None), default=None)


def slots_of(members: Iterable[TracedRequest]) -> tuple[int, bool]:
    """The gate's limit, and whether it is sure: what was in flight for most of the time in which
    somebody waited; where nobody waited what most spans say, else the most that ever was in
    flight."""
    changes: list[tuple[float, int, int]] = []
    said: Counter[int] = Counter()
    for one in members:
        if one.limit_slots is not None:
            said[one.limit_slots] += 1
        if one.queued_s is not None and one.left_queue_s is not None and one.waited:
            changes += [(one.queued_s, 0, 1), (one.left_queue_s, 0, -1)]
        if one.called_s is not None and one.engine_ended_s is not None:
            changes += [(one.called_s, one.slots, 0), (one.engine_ended_s, -one.slots, 0)]
    changes.sort()
    held_s: defaultdict[int, float] = defaultdict(float)
    in_flight = waiting = most = 0
    for (now, slots, queued), following in itertools.pairwise([*changes, (0.0, 0, 0)]):
        in_flight += slots
        waiting += queued
        most = max(most, in_flight)
        if waiting > 0 and following[0] > now:
            held_s[in_flight] += following[0] - now
    if not held_s and said:
        return said.most_common(1)[0][0], True
    if not held_s:
        return max(most, 1), False
    return max(max(held_s, key=lambda slots: held_s[slots]), 1), True


def _is_complete(one: TracedRequest) -> bool:
    return one.completed and one.service_s is not None and bool(tokens_of(one))


def _offered_s(one: TracedRequest) -> float:
    if one.queued_s is not None:
        return one.queued_s
    return one.arrived_s + (one.predict_s or 0.0)


def unpredicted() -> Prediction:
    """What the sidecar assumes where nobody predicts."""
    return Prediction(UNPREDICTED_TOKENS, UNPREDICTED_TOKENS, "prior")
