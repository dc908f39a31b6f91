"""Promises of the gate over whole traces: longest waits under overload, and foreseen waits."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from fakes.slot_server import FIRST_TOKEN_AFTER_S, Event, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId

S_PER_TOKEN = 0.01
SLOTS = 4

seeds = st.integers(0, 10**6)


def overload(*, seed: int, count: int) -> list[Request]:
    """Poisson arrivals of 1.1 x what the slots can do; lengths from a few to thousands."""
    rng = random.Random(seed)
    now, requests = 0.0, list[Request]()
    for number in range(count):
        tokens = min(1.0 + rng.lognormvariate(4.0, 1.2), 4000.0)
        now += rng.expovariate(1.1 * SLOTS / (113.0 * S_PER_TOKEN))
        requests.append(
            Request(
                id=RequestId(f"r{number}"),
                arrived_at=now,
                prompt_tokens=0,
                prediction=Prediction(tokens, tokens, "test"),
            )
        )
    return requests


def noisy_s(request: Request) -> float:
    """A predictor's error: up to a factor of two either way."""
    return request.predicted_tokens * S_PER_TOKEN * random.Random(request.id).uniform(0.5, 2.0)


class Waits:
    """For each request: when it came and ran, the work that it found, the bound it was told."""

    def __init__(self, gate: Gate, service_s: Callable[[Request], float]) -> None:
        self.gate = gate
        self.service_s = service_s
        self.arrived: dict[RequestId, Request] = {}
        self.found_s: dict[RequestId, float] = {}
        self.bounds_s: dict[RequestId, float] = {}
        self.ends_at: dict[RequestId, float] = {}  # of what runs
        self.waiting: set[RequestId] = set()

    def note(self, event: Event) -> None:
        if event.what == "offer":
            left_s = sum(end - event.now for end in self.ends_at.values())
            queued_s = sum(self.slot_s(self.arrived[other]) for other in self.waiting)
            self.found_s[event.request.id] = left_s + queued_s
            self.arrived[event.request.id] = event.request
            self.bounds_s[event.request.id] = 0.0
            self.waiting.add(event.request.id)
        elif event.what == "leave":
            del self.ends_at[event.request.id]
        for admitted in event.admitted:
            self.waiting.remove(admitted)
            self.ends_at[admitted] = event.now + self.slot_s(self.arrived[admitted])
        for waiting in self.waiting:
            bound_s = self.gate.standing(waiting).overtaking_bound_s
            assert bound_s is not None
            self.bounds_s[waiting] = max(self.bounds_s[waiting], bound_s)

    def slot_s(self, request: Request) -> float:
        return FIRST_TOKEN_AFTER_S + self.service_s(request)


@settings(max_examples=4)
@given(seed=seeds, theta=st.sampled_from((0.5, 1.0, 2.0)))
def test_no_wait_under_overload_exceeds_its_bound(seed: int, theta: float) -> None:
    """Wait <= (work found on arrival + work that comes within the bound on overtaking) / slots.

    While a request waits all slots are busy, and only with what it found and with what overtakes
    it; that came no later than the largest bound that it was told while it waited.
    """
    requests = overload(seed=seed, count=300)
    gate = Gate(
        policy=Ssjf(tail_weight=theta),
        limit_slots=SLOTS,
        max_queued=10**6,
        estimator=WorkEstimator(),
    )
    waits = Waits(gate, noisy_s)
    admitted_at = serve(gate, requests, noisy_s, on_event=waits.note)
    assert len(admitted_at) == len(requests)
    longest_s = 0.0
    for request in requests:
        until = request.arrived_at + waits.bounds_s[request.id]
        overtaking = [r for r in requests if request.arrived_at < r.arrived_at <= until]
        work_s = waits.found_s[request.id] + sum(map(waits.slot_s, overtaking))
        wait_s = admitted_at[request.id] - request.arrived_at
        assert wait_s <= work_s / SLOTS + 1e-6
        longest_s = max(longest_s, wait_s)
    assert longest_s > 1.0


@settings(max_examples=10)
@given(seed=seeds, policy=st.sampled_from((Fcfs(), Ssjf(tail_weight=0.0), Ssjf())))
def test_waits_come_as_foreseen_when_predictions_are_exact(
    seed: int, policy: OrderingPolicy
) -> None:
    """All arrive at once on an engine that keeps to its predictions: then nothing is unforeseen."""
    rng, estimator = random.Random(seed), WorkEstimator()
    for _ in range(256):
        estimator.rates.observe(1.0, predicted_tokens=100.0, output_tokens=100)
    gate = Gate(policy=policy, limit_slots=SLOTS, max_queued=99, estimator=estimator)
    requests = [
        Request(
            id=RequestId(f"r{number}"),
            arrived_at=0.0,
            prompt_tokens=0,
            prediction=Prediction(tokens, tokens, "test"),
        )
        for number, tokens in enumerate(rng.uniform(5.0, 500.0) for _ in range(30))
    ]
    foreseen_s: dict[RequestId, float] = {}

    def foresee(event: Event) -> None:
        if event.request is requests[-1] and event.what == "offer":
            for request in requests:
                wait_s = gate.predicted_wait_s(request.id, now=event.now)
                assert wait_s is not None
                foreseen_s[request.id] = wait_s

    # The engine takes a while to the first token; the predictions below count it as decode.
    admitted_at = serve(
        gate,
        requests,
        lambda request: request.predicted_tokens * S_PER_TOKEN - FIRST_TOKEN_AFTER_S,
        on_event=foresee,
    )
    assert max(foreseen_s.values()) > 1.0
    assert admitted_at == pytest.approx(foreseen_s, abs=1e-6)
