"""Tenants share the slots: by real tokens while they wait, however much or long they ask."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from statistics import quantiles

import pytest
from fakes.slot_server import Event, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from llmservice_sidecar.core.fair_share import SLACK_TOKENS_PER_SLOT
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId

S_PER_TOKEN = 0.01
SLOTS = 4
MAX_TOKENS = 500
MEAN_TOKENS = 116.0  # that really come, of `arrivals`
# The last admission may exceed the slack by its whole prediction, whatever is in flight may turn
# out otherwise than predicted, and what is in flight is not done yet.
BOUND_TOKENS = SLOTS * SLACK_TOKENS_PER_SLOT + (1 + 2 * SLOTS) * MAX_TOKENS

policies = st.sampled_from((Ssjf(tail_weight=0.0), Ssjf(), Fcfs()))


def make_gate(policy: OrderingPolicy, *, slots: int = SLOTS, max_queued: int = 10**6) -> Gate:
    return Gate(policy=policy, limit_slots=slots, max_queued=max_queued, estimator=WorkEstimator())


def make_request(number: int, tenant: str | None, tokens: float, at: float = 0.0) -> Request:
    return Request(
        id=RequestId(f"{tenant} {number}"),
        arrived_at=at,
        prompt_tokens=0,
        prediction=Prediction(tokens, tokens, "test"),
        tenant=tenant,
    )


def real_tokens(request: Request) -> int:
    """Not what was predicted: up to a factor of two either way, at most the maximum."""
    tokens = request.predicted_tokens * random.Random(request.id).uniform(0.5, 2.0)
    return min(max(round(tokens), 1), MAX_TOKENS)


def service_s(request: Request) -> float:
    return real_tokens(request) * S_PER_TOKEN


def largest_difference(policy: OrderingPolicy, requests: Sequence[Request]) -> float:
    """Between the tokens done for "short" and "long", while requests of both wait."""
    waiting, done, largest = Counter[str](), Counter[str](), 0.0
    kinds = {request.id: request.id.split()[0] for request in requests}

    def note(event: Event) -> None:
        nonlocal largest
        kind = kinds[event.request.id]
        waiting[kind] += event.what == "offer"
        if event.what == "leave":
            done[kind] += real_tokens(event.request)
        waiting.subtract(kinds[admitted] for admitted in event.admitted)
        if waiting["short"] and waiting["long"]:
            largest = max(largest, abs(done["short"] - done["long"]))

    serve(make_gate(policy), requests, service_s, on_event=note, output_tokens=real_tokens)
    return largest


def crowd(seed: int) -> list[Request]:
    """Others fill the slots, then two ask for far more than the bound; one comes now and then."""
    rng = random.Random(seed)
    requests = [make_request(number, "first", 50.0) for number in range(SLOTS)]
    backlog = [make_request(n, "short", rng.uniform(1, 100)) for n in range(400)]
    backlog += [make_request(n, "long", rng.uniform(100, MAX_TOKENS)) for n in range(80)]
    rng.shuffle(backlog)
    guests = [
        make_request(number, "guest", rng.uniform(1, MAX_TOKENS), at=rng.uniform(0.0, 100.0))
        for number in range(30)
    ]
    return [*requests, *backlog, *sorted(guests, key=lambda request: request.arrived_at)]


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), policy=policies)
def test_two_backlogged_tenants_differ_by_a_bounded_number_of_tokens(
    seed: int, policy: OrderingPolicy
) -> None:
    assert largest_difference(policy, crowd(seed)) <= BOUND_TOKENS


def test_without_tenants_the_shorter_ones_would_have_it_all() -> None:
    """The bound above says something: it is exceeded where shares do not count."""
    anonymous = [
        Request(
            id=request.id,
            arrived_at=request.arrived_at,
            prompt_tokens=0,
            prediction=request.prediction,
        )
        for request in crowd(1)
    ]
    assert largest_difference(Ssjf(tail_weight=0.0), anonymous) > BOUND_TOKENS


def arrivals(rng: random.Random, tenant: str, *, count: int, rate_per_s: float) -> list[Request]:
    now, requests = 0.0, list[Request]()
    for number in range(count):
        now += rng.expovariate(rate_per_s)
        tokens = min(1 + rng.expovariate(1 / 100), MAX_TOKENS / 2)
        requests.append(make_request(number, tenant, tokens, now))
    return requests


def p99_s(policy: OrderingPolicy, requests: Sequence[Request]) -> float:
    """Of "small", from arrival to the last token; all of its requests are served."""
    ends_s: list[float] = []

    def note(event: Event) -> None:
        if event.what == "leave" and event.request.tenant == "small":
            ends_s.append(event.now - event.request.arrived_at)

    ordered = sorted(requests, key=lambda request: request.arrived_at)
    serve(make_gate(policy, slots=8, max_queued=200), ordered, service_s, on_event=note)
    assert len(ends_s) == sum(request.tenant == "small" for request in requests)
    return quantiles(ends_s, n=100)[98]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", [Ssjf(), Fcfs()], ids=["SSJF", "FCFS"])
def test_a_tenant_that_sends_fifty_times_as_much_does_not_double_the_p99_of_another(
    policy: OrderingPolicy, seed: int
) -> None:
    """The other asks for less than half of the slots."""
    rng, rate_per_s = random.Random(seed), 0.3 * 8 / (MEAN_TOKENS * S_PER_TOKEN)
    small = arrivals(rng, "small", count=200, rate_per_s=rate_per_s)
    flood = arrivals(rng, "flood", count=50 * 200, rate_per_s=50 * rate_per_s)
    alone_s, beside_s = p99_s(policy, small), p99_s(policy, [*small, *flood])
    assert beside_s <= 2 * alone_s


def test_a_tenant_that_asks_for_nearly_its_share_keeps_its_p99_in_the_long_run() -> None:
    """At times it asks for more than half of the slots: what it has not used before pays for it."""
    rng, rate_per_s = random.Random(0), 0.45 * 8 / (MEAN_TOKENS * S_PER_TOKEN)
    small = arrivals(rng, "small", count=1000, rate_per_s=rate_per_s)
    flood = arrivals(rng, "flood", count=10 * 1000, rate_per_s=10 * rate_per_s)
    assert p99_s(Ssjf(), [*small, *flood]) <= 1.5 * p99_s(Ssjf(), small)
