"""A gate in front of a made-up engine: each request takes the time it is said to take."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmservice_sidecar.core.decision import Admitted, Rejected
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.request import Request, RequestId

FIRST_TOKEN_AFTER_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened at the gate: `what` is offer, first or leave; `admitted` followed."""

    now: float
    what: str
    request: Request
    admitted: Sequence[RequestId]
    decision: str = ""


def serve(
    gate: Gate,
    requests: Sequence[Request],
    service_s: Callable[[Request], float],
    *,
    on_event: Callable[[Event], None],
    output_tokens: Callable[[Request], int] = lambda request: round(request.predicted_tokens),
) -> dict[RequestId, float]:
    """Offer everything in time, serve what is admitted; when each was admitted."""
    by_id = {request.id: request for request in requests}
    # Ties: arrivals first, then first tokens, then ends; then in order of arrival.
    events = [(request.arrived_at, 0, n, request.id) for n, request in enumerate(requests)]
    heapq.heapify(events)
    admitted_at: dict[RequestId, float] = {}
    while events:
        now, kind, number, request_id = heapq.heappop(events)
        request, decision = by_id[request_id], ""
        if kind == 0:
            answer = gate.offer(request, now=now)
            decision = answer.reason if isinstance(answer, Rejected) else type(answer).__name__
            admitted = [request_id] if isinstance(answer, Admitted) else []
        elif kind == 1:
            admitted = list(gate.update(request_id, generated=1, now=now))
        else:
            tokens = output_tokens(request)
            admitted = list(gate.leave(request_id, now=now, output_tokens=tokens))
        on_event(
            Event(
                now=now,
                what=("offer", "first", "leave")[kind],
                request=request,
                admitted=admitted,
                decision=decision.lower(),
            )
        )
        for admitted_id in admitted:
            admitted_at[admitted_id] = now
            first_at = now + FIRST_TOKEN_AFTER_S
            order = number if admitted_id == request_id else len(admitted_at) + len(requests)
            heapq.heappush(events, (first_at, 1, order, admitted_id))
            ends_at = first_at + service_s(by_id[admitted_id])
            heapq.heappush(events, (ends_at, 2, order, admitted_id))
    return admitted_at
