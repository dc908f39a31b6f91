"""Requests and views of a queue with everything at a plain value but what a test is about."""

from __future__ import annotations

from typing import Any

from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Prediction, Request, RequestId

# A step of 10 ms, prefill a tenth of a decode token.
COSTS = ServiceCosts(s_per_token=0.01, s_per_prefill_token=0.001, step_s=0.01)


def request(
    name: str = "r",
    *,
    tokens: float = 100.0,
    p90: float | None = None,
    prompt: int = 0,
    arrived_at: float = 0.0,
    **more: Any,
) -> Request:
    prediction = Prediction(tokens, tokens if p90 is None else p90, "test")
    return Request(
        id=RequestId(name),
        arrived_at=arrived_at,
        prompt_tokens=prompt,
        prediction=prediction,
        **more,
    )


def view(
    now: float = 0.0,
    *,
    depth: int = 0,
    limit_slots: int = 8,
    costs: ServiceCosts | None = COSTS,
) -> QueueView:
    return QueueView(
        now=now,
        depth=depth,
        in_flight=0,
        limit_slots=limit_slots,
        gamma_per_s=1.0,
        costs=costs,
    )
