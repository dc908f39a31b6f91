"""Traces of a simulated load: what a deployment with this engine and policy would have written."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from fakes.traced import SERVICE, START_S
from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_predictors import Fixed
from llmservice_lab.simulator import Setup, simulate
from llmservice_lab.systems import SystemOptions, assemble
from llmservice_lab.workload import WorkloadRequest

COSTS: Final = CostModel(step_s=0.015, per_decode_s=0.0008, per_prefill_token_s=0.00004)
SLOTS: Final = 8
_MEAN_LENGTH: Final = 100.0


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A load of one pod. `error`: standard deviation of the logarithm of predicted over actual."""

    policy: str = "FCFS"
    count: int = 800
    load: float = 0.92
    slots: int = SLOTS
    costs: CostModel = COSTS
    error: float = 0.4
    seed: int = 1
    stream: bool = True
    pod: str = "chat-0"


def rows_of(load: Simulated) -> list[WorkloadRequest]:
    """Poisson arrivals of answers whose lengths spread as chats' do."""
    rng = random.Random(load.seed)
    step_s = load.costs.step_s + load.costs.per_decode_s * load.slots
    rate_rps = load.load * load.slots / (_MEAN_LENGTH * step_s)
    now, rows = 0.0, list[WorkloadRequest]()
    for _ in range(load.count):
        now += rng.expovariate(rate_rps)
        rows.append(
            WorkloadRequest(
                arrival_s=now,
                prompt=None,
                prompt_tokens=rng.randint(20, 600),
                output_tokens=max(2, min(round(rng.lognormvariate(4.1, 1.0)), 1500)),
            )
        )
    return rows


def traces_of(load: Simulated) -> list[TracedRequest]:
    """What became of the load, in order of arrival."""
    rows = rows_of(load)
    rng = random.Random(load.seed + 1)
    said = [row.output_tokens * rng.lognormvariate(0.0, load.error) for row in rows]
    system = assemble(load.policy, Fixed(said, source="model"), options=SystemOptions())
    setup = Setup(
        rows=rows,
        arrivals_s=[row.arrival_s for row in rows],
        policy=system.policy,
        predictor=system.predictor,
        costs=load.costs,
        slots=load.slots,
        guarded=False,
    )
    records = simulate(setup)
    return [
        _traced(load, number, rows[number].prompt_tokens, records) for number in range(len(rows))
    ]


def _traced(
    load: Simulated, number: int, prompt_tokens: int, records: list[RequestRecord]
) -> TracedRequest:
    one = records[number]
    admitted_s, finished_s = one.admitted_s or 0.0, one.finished_s or 0.0
    waited = admitted_s > one.arrival_s
    depth = 1 + sum((other.admitted_s or 0.0) > one.arrival_s for other in records[:number])
    return TracedRequest(
        request_id=f"{load.pod}-{number}",
        trace_id=f"{sum(map(ord, load.pod)) * 1_000_000 + number + 1:032x}",
        service=SERVICE,
        pod=load.pod,
        door="http",
        arrived_s=START_S + one.arrival_s,
        ended_s=START_S + finished_s,
        outcome="completed",
        reason="stop",
        model="tiny",
        stream=load.stream,
        policy=load.policy,
        order=load.policy,
        prompt_tokens=prompt_tokens,
        predicted_tokens=one.predicted_tokens,
        predicted_p90=2 * (one.predicted_tokens or 1.0),
        prediction_source="model",
        actual_tokens=one.output_tokens,
        output_tokens=one.output_tokens,
        queued_s=START_S + one.arrival_s,
        left_queue_s=START_S + admitted_s,
        queue_wait_s=admitted_s - one.arrival_s,
        position=depth - 1 if waited else None,
        depth=depth if waited else None,
        called_s=START_S + admitted_s,
        first_token_s=START_S + (one.first_token_s or 0.0) if load.stream else None,
        engine_ended_s=START_S + finished_s,
    )
