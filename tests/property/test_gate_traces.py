"""Whole traces through the gate: agreement with the naive twin, and promises about its order."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from fakes.naive_gate import NaiveGate
from fakes.slot_server import Event, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId

S_PER_TOKEN = 0.01
MEAN_TOKENS = 100.0

seeds = st.integers(0, 10**6)


def trace(*, seed: int, count: int, slots: int, load: float) -> list[Request]:
    """Poisson arrivals with bursts, exponential predicted lengths."""
    rng = random.Random(seed)
    now, requests = 0.0, list[Request]()
    for number in range(count):
        burst = 2.0 if number % 200 > 150 else 1.0
        now += rng.expovariate(burst * load * slots / (MEAN_TOKENS * S_PER_TOKEN))
        tokens = 1.0 + rng.expovariate(1 / MEAN_TOKENS)
        requests.append(
            Request(
                id=RequestId(f"r{number}"),
                arrived_at=now,
                prompt_tokens=rng.choice((0, 0, 400)),
                prediction=Prediction(tokens, tokens, "test"),
            )
        )
    return requests


def service_s(request: Request) -> float:
    """Near the prediction, off by a factor that depends on the request alone."""
    noise = random.Random(request.id).uniform(0.5, 1.5)
    return request.predicted_tokens * S_PER_TOKEN * noise


def make_gate(policy: OrderingPolicy, *, slots: int, max_queued: int = 10**6) -> Gate:
    return Gate(policy=policy, limit_slots=slots, max_queued=max_queued, estimator=WorkEstimator())


@pytest.mark.parametrize("theta", [1.0, 0.4])
def test_a_long_trace_runs_as_the_naive_twin_says(theta: float) -> None:
    """Long enough for the mean excess to be refreshed, and for its window to matter."""
    twin = NaiveGate(boosted=True, theta=theta, limit=4, max_queued=60)
    twin.remake_keys(0.0)
    gate = make_gate(Ssjf(tail_weight=theta), slots=4, max_queued=60)
    refused: list[str] = []

    def compare(event: Event) -> None:
        if event.what == "offer":
            assert event.decision == twin.offer(event.request, event.now)
            if event.decision == "queue_full":
                refused.append(event.request.id)
        elif event.what == "first":
            twin.progress(event.request.id, 1, event.now)
        else:
            output = round(event.request.predicted_tokens)
            assert event.admitted == twin.leave(event.request.id, event.now, output=output)
        assert gate.gamma_per_s == pytest.approx(twin.gamma)

    requests = trace(seed=5, count=1200, slots=4, load=1.0)
    admitted = serve(gate, requests, service_s, on_event=compare)
    assert twin.excess > 0
    assert refused
    assert len(admitted) + len(refused) == len(requests)


class Told:
    """The bound on overtaking as each waiting request is told it; notes who breaks it."""

    def __init__(self, gate: Gate, requests: Sequence[Request]) -> None:
        self.gate = gate
        self.by_id = {request.id: request for request in requests}
        self.bounds_s: dict[RequestId, float] = {}  # the largest told while it waits
        self.overtakings = 0

    def check(self, event: Event) -> None:
        if event.decision == "queued":
            self.bounds_s[event.request.id] = 0.0
        for admitted in event.admitted:
            self.bounds_s.pop(admitted, None)
        for waiting, largest_s in self.bounds_s.items():
            bound_s = self.gate.standing(waiting).overtaking_bound_s
            assert bound_s is not None
            self.bounds_s[waiting] = max(bound_s, largest_s)
        for admitted in event.admitted:
            self.admitted(admitted)

    def admitted(self, request_id: RequestId) -> None:
        for waiting, largest_s in self.bounds_s.items():
            lead_s = self.by_id[request_id].arrived_at - self.by_id[waiting].arrived_at
            assert lead_s <= largest_s * (1 + 1e-9)
            self.overtakings += lead_s > 0


@settings(max_examples=15)
@given(seed=seeds, theta=st.sampled_from((0.3, 1.0, 3.0)), late=st.booleans())
def test_a_request_is_overtaken_only_from_within_the_bound_it_is_told(
    seed: int, theta: float, late: bool
) -> None:
    """Whoever runs before it, though later, came within the largest bound told while it waited."""
    gate = make_gate(Ssjf(tail_weight=theta), slots=2)
    requests = trace(seed=seed, count=200, slots=2, load=1.1)
    told, rng = Told(gate, requests), random.Random(seed)

    def check(event: Event) -> None:
        told.check(event)
        waiting = list(told.bounds_s)
        if late and waiting:
            tokens = 1.0 + rng.expovariate(1 / MEAN_TOKENS)
            prediction = Prediction(tokens, tokens, "late")
            # All slots are busy: a late prediction admits nobody.
            assert not gate.update(rng.choice(waiting), prediction=prediction, now=event.now)

    serve(gate, requests, service_s, on_event=check)
    assert told.overtakings > 0


def admission_order(policy: OrderingPolicy, requests: Sequence[Request]) -> list[RequestId]:
    order: list[RequestId] = []
    serve(
        make_gate(policy, slots=2),
        requests,
        service_s,
        on_event=lambda event: order.extend(event.admitted),
    )
    return order


@settings(max_examples=10)
@given(seed=seeds)
def test_a_huge_tail_weight_is_arrival_order(seed: int) -> None:
    requests = trace(seed=seed, count=200, slots=2, load=1.2)
    huge = admission_order(Ssjf(tail_weight=1e15), requests)
    assert huge == admission_order(Fcfs(), requests)
    assert huge == admission_order(Ssjf(tail_weight=math.inf), requests)


@settings(max_examples=10)
@given(seed=seeds)
def test_tail_weight_zero_is_shortest_first(seed: int) -> None:
    gate = make_gate(Ssjf(tail_weight=0.0), slots=2)
    requests = [scaled(r, 1.0) for r in trace(seed=seed, count=200, slots=2, load=1.2)]
    waiting: dict[RequestId, float] = {}

    def check(event: Event) -> None:
        if event.what == "offer":
            waiting[event.request.id] = event.request.predicted_tokens
        for admitted in event.admitted:
            assert waiting.pop(admitted) <= min(waiting.values(), default=math.inf)

    serve(gate, requests, service_s, on_event=check)


def scaled(request: Request, factor: float) -> Request:
    """Without a prompt, and with a prediction so many times as large."""
    tokens = request.prediction.output_tokens * factor
    return Request(
        id=request.id,
        arrived_at=request.arrived_at,
        prompt_tokens=0,
        prediction=Prediction(tokens, tokens, "test"),
    )


@settings(max_examples=15)
@given(seed=seeds, power=st.integers(-5, 5))
def test_a_constant_bias_of_the_predictor_changes_nothing(seed: int, power: int) -> None:
    """Costs are seconds observed per predicted token, so a factor cancels; one of 2^n exactly."""
    requests = [scaled(r, 100.0) for r in trace(seed=seed, count=150, slots=2, load=1.2)]
    true_s = {request.id: service_s(request) / 100 for request in requests}

    def order(offered: Sequence[Request]) -> list[RequestId]:
        admitted: list[RequestId] = []
        serve(
            make_gate(Ssjf(), slots=2),
            offered,
            lambda request: true_s[request.id],
            on_event=lambda event: admitted.extend(event.admitted),
        )
        return admitted

    assert order(requests) == order([scaled(request, 2.0**power) for request in requests])
