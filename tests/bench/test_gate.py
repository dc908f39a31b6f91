"""What the gate costs a request: CPU time of offer and leave beside a queue of a given depth.

Figures are printed; only growth is asserted, generously, on CPU time: a request beside 10,000
others may not cost much more than beside 1,000, or something is linear in the queue.
"""

from __future__ import annotations

import random
import time

from llmservice_sidecar.core.decision import Admitted
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId

SLOTS = 32
ROUNDS = 2000


class Crowd:
    """A gate with `depth` waiting: each arrival is matched by one who leaves."""

    def __init__(self, policy: OrderingPolicy, *, depth: int) -> None:
        self.gate = Gate(
            policy=policy, limit_slots=SLOTS, max_queued=10**6, estimator=WorkEstimator()
        )
        self.rng = random.Random(depth)
        self.now = 0.0
        self.count = 0
        self.tokens: dict[RequestId, float] = {}
        self.running: list[RequestId] = []
        for _ in range(100):  # service times become known
            self.arrive()
            self.leave()
        for _ in range(depth + SLOTS):
            self.arrive()

    def arrive(self) -> None:
        self.count += 1
        self.now += 0.01
        tokens = 1 + self.rng.expovariate(1 / 200)
        request = Request(
            id=RequestId(str(self.count)),
            arrived_at=self.now,
            prompt_tokens=100,
            prediction=Prediction(tokens, tokens, "bench"),
        )
        self.tokens[request.id] = request.work_tokens
        if isinstance(self.gate.offer(request, now=self.now), Admitted):
            self.running.append(request.id)

    def leave(self) -> None:
        first = self.running.pop(0)
        self.now += 0.01
        # Just as long as predicted: gamma stays, and no re-key is in the figures.
        started_at = self.now - self.tokens.pop(first) * 0.01
        self.gate.update(first, generated=1, now=started_at)
        self.running += self.gate.leave(first, now=self.now, output_tokens=100)

    def us_per_request(self) -> float:
        """Best of five: the machine's noise only ever adds."""
        return min(self._round_us() for _ in range(5))

    def _round_us(self) -> float:
        before = time.process_time()
        for _ in range(ROUNDS // 5):
            self.arrive()
            self.leave()
        return (time.process_time() - before) / (ROUNDS // 5) * 1e6


def test_a_request_costs_little_more_beside_ten_thousand_than_beside_a_thousand() -> None:
    for policy in (Fcfs(), Ssjf(), Ssjf(tail_weight=0.0)):
        costs = {d: Crowd(policy, depth=d).us_per_request() for d in (0, 100, 1_000, 10_000)}
        figures = ", ".join(f"{depth}: {cost:.0f} us" for depth, cost in costs.items())
        print(f"\n{policy.name} tail weight {policy.tail_weight:g}: offer + leave at {figures}")
        assert costs[10_000] < 5 * costs[1_000]


def test_ordering_ten_thousand_anew() -> None:
    crowd = Crowd(Ssjf(), depth=10_000)
    before = time.process_time()
    crowd.gate.rekey(now=crowd.now)
    print(f"\nSSJF: re-key of 10,000 {1e3 * (time.process_time() - before):.1f} ms")


def test_a_request_that_is_served_at_once_costs_microseconds() -> None:
    crowd = Crowd(Ssjf(), depth=-SLOTS)
    print(f"\nidle, SSJF: offer + leave {crowd.us_per_request():.0f} us")
