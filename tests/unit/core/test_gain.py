"""Past requests replayed in another order: the waits that it would have made."""

from __future__ import annotations

import random

import pytest
from llmservice_sidecar.core.gain import PastRequest, Replay
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.request import Prediction, Request, RequestId


def past(number: int, *, arrived_at: float, service_s: float, slots: int = 1) -> PastRequest:
    tokens = round(service_s * 100)
    request = Request(
        id=RequestId("same id for all"),
        arrived_at=arrived_at,
        prompt_tokens=number,
        prediction=Prediction(float(tokens), float(tokens), "oracle"),
        slots=slots,
    )
    return PastRequest(request, service_s, tokens)


def mean_wait_s(requests: list[PastRequest], policy: str, *, slots: int = 1) -> float:
    replay = Replay(requests, policy=make_policy(policy), limit_slots=slots)
    while replay.advance():
        pass
    return replay.mean_wait_s


def test_waits_under_arrival_order_are_exact() -> None:
    requests = [past(i, arrived_at=float(i), service_s=2.0) for i in range(4)]
    assert mean_wait_s(requests, "FCFS") == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert mean_wait_s(requests, "FCFS", slots=4) == 0.0


def test_a_request_holds_all_of_its_slots() -> None:
    requests = [past(i, arrived_at=0.0, service_s=1.0, slots=2) for i in range(2)]
    assert mean_wait_s(requests, "FCFS", slots=2) == pytest.approx(0.5)


def test_shortest_first_waits_less_on_a_mix_of_short_and_long() -> None:
    rng = random.Random(3)
    requests: list[PastRequest] = []
    now = 0.0
    for number in range(300):
        now += rng.expovariate(0.9)
        requests.append(past(number, arrived_at=now, service_s=rng.choice([0.2, 0.2, 0.2, 3.4])))
    fcfs, ssjf = mean_wait_s(requests, "FCFS"), mean_wait_s(requests, "SSJF")
    assert 0.1 * fcfs < ssjf < 0.9 * fcfs


def test_nothing_to_replay_waits_for_nothing() -> None:
    assert mean_wait_s([], "SSJF") == 0.0
