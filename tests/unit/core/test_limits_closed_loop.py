"""The controller against an engine: converges, stays, recovers; no slot idles while one waits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from llmservice_lab.cost_model import COST_MODELS, CostModel
from llmservice_lab.sim_engine import Starting
from llmservice_lab.virtual_engine import VirtualEngine
from llmservice_sidecar.core.decision import Admitted
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.limits import TimePerOutputTokenLimit
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.step_costs import StepCosts

EVENTS = 16  # tokens between two looks at an answer
PROMPT, ANSWER = 200, 250  # mean tokens
STEEP = CostModel(step_s=2e-3, per_decode_s=1e-3, per_prefill_token_s=1e-5)


def token_s(costs: CostModel, in_flight: int) -> float:
    """Mean seconds per output token: the step, and the prompts that others bring into it."""
    prompts = costs.per_prefill_token_s * PROMPT * in_flight / ANSWER
    return costs.step_s + costs.per_decode_s * in_flight + prompts


@dataclass
class Look:
    """The state at one moment. `token_s` are the stretches that ended there."""

    now: float
    limit: int
    in_flight: int
    token_s: list[float] = field(default_factory=list[float])


@dataclass
class Stretch:
    """Since when an answer has been looked at, and how far it was then."""

    at: float
    tokens: int
    in_flight: int


class Loop:
    """Gate, engine and controller; arrivals are Poisson at `rate(now)` a second."""

    def __init__(
        self,
        costs: CostModel,
        *,
        slots: int,
        target_s: float,
        rate: Callable[[float], float],
        noise: float = 0.0,
    ) -> None:
        self.rng = random.Random(7)
        self.engine = VirtualEngine(costs, slots=slots)
        self.gate = Gate(
            policy=Fcfs(),
            limit_slots=slots,
            max_queued=10**6,
            estimator=WorkEstimator(),
        )
        self.limit = TimePerOutputTokenLimit(slots=slots, costs=StepCosts())
        self.limit.aim(target_s)
        self.rate, self.noise = rate, noise
        self.lengths: list[int] = []
        self.stretches: dict[int, Stretch] = {}
        self.looks: list[Look] = []
        self.idle_while_waiting = 0

    def run(self, until_s: float) -> None:
        arrival_s = 0.0
        while arrival_s < until_s:
            step_s = self.engine.next_event_s()
            if step_s is None or arrival_s <= step_s:
                self.arrive(arrival_s)
                arrival_s += self.rng.expovariate(self.rate(arrival_s))
            else:
                self.step()
            waiting, room = self.gate.queued_requests, self.gate.limit_slots
            self.idle_while_waiting += waiting > 0 and self.gate.in_flight_slots < room

    def arrive(self, now: float) -> None:
        length = 2 + int(self.rng.expovariate(1 / (ANSWER - 2)))
        self.lengths.append(length)
        request = Request(
            id=RequestId(str(len(self.lengths) - 1)),
            arrived_at=now,
            prompt_tokens=1 + int(self.rng.expovariate(1 / PROMPT)),
            prediction=Prediction(length, length, "oracle"),
        )
        if isinstance(self.gate.offer(request, now=now), Admitted):
            self.start([request.id], now)

    def start(self, ids: Sequence[RequestId], now: float) -> None:
        for request_id in ids:
            index = int(request_id)
            self.engine.start(
                Starting(index=index, prompt_tokens=PROMPT, output_tokens=self.lengths[index]),
                now=now,
            )

    def step(self) -> None:
        progress = self.engine.advance()
        now, in_flight = progress.now, self.gate.in_flight_slots
        look = Look(now, self.limit.limit_slots, in_flight)
        for index, tokens in self.engine.emitted(now=now):
            self.look_at(index, tokens, look)
        for index in progress.finished:
            self.stretches.pop(index, None)
            self.start(self.gate.leave(RequestId(str(index)), now=now), now)
        if self.limit.limit_slots != self.gate.limit_slots:
            self.start(self.gate.resize(self.limit.limit_slots, now=now), now)
        self.looks.append(look)

    def look_at(self, index: int, tokens: int, look: Look) -> None:
        since = self.stretches.get(index)
        if since is not None and tokens - since.tokens < EVENTS:
            return
        if since is not None:
            took_s = (look.now - since.at) / (tokens - since.tokens)
            took_s *= self.rng.lognormvariate(-(self.noise**2) / 2, self.noise)
            look.token_s.append(took_s)
            self.limit.observe(took_s, in_flight=(since.in_flight + look.in_flight) / 2)
        self.stretches[index] = Stretch(look.now, tokens, look.in_flight)

    def limits(self, since_s: float, until_s: float = math.inf) -> set[int]:
        return {look.limit for look in self.looks if since_s <= look.now < until_s}

    def mean_token_s(self, since_s: float, until_s: float = math.inf) -> float:
        looks = [look for look in self.looks if since_s <= look.now < until_s]
        seen = [took_s for look in looks for took_s in look.token_s]
        return sum(seen) / len(seen)


def overloaded(now: float) -> float:
    return 300.0


@pytest.mark.parametrize(
    ("costs", "slots", "meets"),
    [
        pytest.param(STEEP, 32, 10, id="an engine that slows with every request"),
        pytest.param(STEEP, 8, 3, id="few slots"),
        pytest.param(COST_MODELS["tiny-cpu"], 32, 12, id="a small model on a CPU"),
        pytest.param(COST_MODELS["h100-7b"], 128, 60, id="a large model on a GPU"),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.2], ids=["exact", "noisy"])
def test_it_converges_to_the_target_and_stays(
    costs: CostModel, slots: int, meets: int, noise: float
) -> None:
    target_s = token_s(costs, meets)
    loop = Loop(costs, slots=slots, target_s=target_s, rate=overloaded, noise=noise)
    loop.run(60.0)
    assert loop.mean_token_s(20.0) == pytest.approx(target_s, rel=0.1)
    settled = loop.limits(30.0)
    assert max(settled) - min(settled) <= 2
    assert loop.idle_while_waiting == 0


def test_it_recovers_after_the_load_has_dropped() -> None:
    target_s = token_s(STEEP, 10)
    loop = Loop(
        STEEP,
        slots=32,
        target_s=target_s,
        rate=lambda now: 0.5 if 40 <= now < 100 else 20.0,
        noise=0.2,
    )
    loop.run(160.0)
    assert loop.mean_token_s(20.0, 40.0) == pytest.approx(target_s, rel=0.1)
    assert loop.limits(60.0, 100.0) <= {9, 10, 11}  # a quiet time moves nothing
    assert loop.mean_token_s(110.0) == pytest.approx(target_s, rel=0.1)
    assert loop.limits(100.0) <= {9, 10, 11}
    assert loop.idle_while_waiting == 0


def test_a_target_far_away_costs_nothing() -> None:
    loop = Loop(STEEP, slots=8, target_s=1.0, rate=overloaded)
    loop.run(20.0)
    assert loop.limits(0.0) == {8}
    assert {look.in_flight for look in loop.looks if look.now > 1} == {8}
