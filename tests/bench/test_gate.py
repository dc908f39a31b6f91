"""What the gate costs a request: CPU time of offer and leave beside a queue of a given depth.

Figures are printed; only growth is asserted, generously, on CPU time: a request beside 100,000
others may not cost much more than beside 1,000, or something is linear in the queue.
"""

from __future__ import annotations

import random
import time
from collections import deque

import pytest
from llmservice_sidecar.core.decision import Admitted
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId

SLOTS = 32
ROUNDS = 400
DEPTHS = (100, 1_000, 10_000, 100_000)
MEAN_TOKENS = 200.0
MEAN_S = 2.0
# Whoever runs leaves after a slot's time on average: costs and gamma stay, no re-key is timed.
STEP_S = MEAN_S / SLOTS


class Crowd:
    """A gate with `depth` waiting: each arrival is matched by one who leaves."""

    def __init__(self, policy: OrderingPolicy, *, depth: int, tenants: int = 1) -> None:
        estimator = WorkEstimator()
        for _ in range(256):
            tokens = MEAN_TOKENS
            estimator.rates.observe(MEAN_S, predicted_tokens=tokens, output_tokens=tokens)
        self.gate = Gate(policy=policy, limit_slots=SLOTS, max_queued=10**6, estimator=estimator)
        self.rng = random.Random(depth)
        self.tenants = tenants
        self.now = 0.0
        self.count = 0
        self.running: deque[RequestId] = deque()
        for number in range(depth + SLOTS):
            # The slots in use become free one after the other; all others come at once.
            self.offer(self.request(at=min(number, SLOTS) * STEP_S))

    def request(self, *, at: float) -> Request:
        self.count += 1
        tokens = self.rng.uniform(0.5, 1.5) * MEAN_TOKENS
        return Request(
            id=RequestId(str(self.count)),
            arrived_at=at,
            prompt_tokens=100,
            prediction=Prediction(tokens, tokens, "bench"),
            tenant=f"tenant {self.count % self.tenants}",
        )

    def offer(self, request: Request) -> None:
        self.now = request.arrived_at
        if isinstance(self.gate.offer(request, now=self.now), Admitted):
            self.running.append(request.id)

    def leave(self) -> None:
        first = self.running.popleft()
        tokens = round(MEAN_TOKENS)
        self.running += self.gate.leave(first, now=self.now, output_tokens=tokens)

    def us_per_request(self) -> float:
        """Best of five: the machine's noise only ever adds."""
        return min(self._round_us() for _ in range(5))

    def _round_us(self) -> float:
        requests = [self.request(at=self.now + n * STEP_S) for n in range(1, ROUNDS + 1)]
        before = time.process_time()
        for request in requests:
            self.offer(request)
            self.leave()
        return (time.process_time() - before) / ROUNDS * 1e6


def table(rows: dict[str, dict[int, float]]) -> str:
    head = f"{'us for offer and leave, queued:':34}" + "".join(f"{depth:>10,}" for depth in DEPTHS)
    lines = [
        f"{name:34}" + "".join(f"{costs[depth]:>10.1f}" for depth in DEPTHS)
        for name, costs in rows.items()
    ]
    return "\n".join(["", head, *lines])


@pytest.mark.timeout(300)
def test_a_request_costs_little_more_beside_a_hundred_thousand_than_beside_a_thousand() -> None:
    policies = {"FCFS": Fcfs(), "SSJF": Ssjf(), "SSJF, tail weight 0": Ssjf(tail_weight=0.0)}
    rows = {
        name: {depth: Crowd(policy, depth=depth).us_per_request() for depth in DEPTHS}
        for name, policy in policies.items()
    }
    for tenants in (10, 1_000):
        rows[f"SSJF, {tenants:,} tenants"] = {
            depth: Crowd(Ssjf(), depth=depth, tenants=tenants).us_per_request() for depth in DEPTHS
        }
    print(table(rows))
    for costs in rows.values():
        assert costs[100_000] < 5 * costs[1_000]


def test_ordering_ten_thousand_anew() -> None:
    crowd = Crowd(Ssjf(), depth=10_000)
    before = time.process_time()
    crowd.gate.rekey(now=crowd.now)
    print(f"\nSSJF: re-key of 10,000 {1e3 * (time.process_time() - before):.1f} ms")


def test_a_request_that_is_served_at_once_costs_microseconds() -> None:
    crowd = Crowd(Ssjf(), depth=-SLOTS)
    print(f"\nidle, SSJF: offer + leave {crowd.us_per_request():.1f} us")
