"""One benchmark run: a case (the work), a contender (who orders it), a seed.

All contenders of a case and seed get the same requests at the same times and the same noise.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, TypedDict

from llmservice_sidecar.core.admission.kv_forecast import KvForecast

from llmservice_lab.arrivals import Burst, Recorded, arrival_times, parse_arrivals
from llmservice_lab.benchmarks.predictors import make_predictor
from llmservice_lab.benchmarks.timeline import SingleBurst, Timeline, timeline_of
from llmservice_lab.benchmarks.work import arrange, rows_of
from llmservice_lab.cost_model import load_cost_model
from llmservice_lab.heads import Spread
from llmservice_lab.results import (
    WARM_UP_SHARE,
    Quantiles,
    RequestRecord,
    RunLabels,
    RunSummary,
    quantiles,
    summarise,
)
from llmservice_lab.sim_engine import EngineOptions
from llmservice_lab.simulator import Setup, measure_capacity, simulate
from llmservice_lab.systems import SYSTEMS, SystemOptions, assemble
from llmservice_lab.workload import WorkloadRequest

MAX_REQUESTS: Final = 40_000
DEFAULT_COSTS: Final = "h100-7b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be done, but for the seed.

    `arrivals` as on the command line of `sim`; `load` is a multiple of measured capacity. With
    bursts there are at least `requests`, and enough of them for `bursts` bursts (up to 40,000).
    A `single` burst takes the place of `arrivals`, and as many requests as it needs. `kv_tokens`
    bounds the engine's KV memory; without it slots are the only bound.
    """

    path: Path
    slots: int
    load: float
    requests: int
    arrivals: str = "poisson"
    bursts: int = 0
    costs: str = DEFAULT_COSTS
    single: SingleBurst | None = None
    kv_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Which system orders the queue, and what it is given.

    Unguarded unless it says so: an oracle never opens the guard. `forecast` adds the sidecar's own
    forecast of KV memory, with the spread that the predictor's errors have.
    """

    policy: str
    predictor: str
    tail_weight: float = 1.0
    guarded: bool = False
    forecast: bool = False


class CaseRun(TypedDict):
    """What one run gave. `cpu_s` is processor time, the only figure that the machine sways."""

    summary: RunSummary
    everything_s: Quantiles  # end to end, the warm-up included
    capacity_rps: float
    span_s: float
    slowdown_p99: float
    timeline: Timeline | None
    cpu_s: float


FCFS: Final = Contender(policy="FCFS", predictor="oracle")
ORACLE_SJF: Final = Contender(policy="SSJF", predictor="oracle", tail_weight=0.0)


def run_case(case: Case, contender: Contender, *, seed: int) -> CaseRun:
    """Simulate it. The same arguments give the same figures, but for `cpu_s`."""
    started_s = time.process_time()
    setup, capacity_rps = _setup(case, contender, seed)
    records = simulate(setup)
    labels = RunLabels(
        policy=contender.policy,
        predictor=contender.predictor,
        slots=case.slots,
        load=case.load,
        seed=seed,
    )
    return CaseRun(
        summary=summarise(records, labels),
        everything_s=quantiles(
            [each.finished_s - each.arrival_s for each in records if each.finished_s is not None]
        ),
        capacity_rps=capacity_rps,
        span_s=setup.arrivals_s[-1] - setup.arrivals_s[0],
        slowdown_p99=_slowdown_p99(records),
        timeline=timeline_of(records, case.single) if case.single else None,
        cpu_s=time.process_time() - started_s,
    )


def _setup(case: Case, contender: Contender, seed: int) -> tuple[Setup, float]:
    """What is simulated, and the capacity that its load is a multiple of."""
    rows, arrivals_s, capacity_rps = work_of(case, seed)
    predicted_by = SYSTEMS[contender.policy].predictor or contender.predictor
    predictor = make_predictor(predicted_by, rows, seed=seed)
    system = assemble(
        contender.policy,
        Spread(predictor) if contender.forecast else predictor,
        options=SystemOptions(tail_weight=contender.tail_weight, kv_tokens=case.kv_tokens),
    )
    forecast = (KvForecast(capacity_tokens=case.kv_tokens),) if contender.forecast else ()
    setup = Setup(
        rows=rows,
        arrivals_s=arrivals_s,
        policy=system.policy,
        rules=(*system.rules, *forecast),
        predictor=system.predictor,
        costs=load_cost_model(case.costs),
        slots=case.slots,
        guarded=contender.guarded,
        options=EngineOptions(kv_tokens=case.kv_tokens),
    )
    return setup, capacity_rps


@lru_cache(maxsize=8)
def work_of(case: Case, seed: int) -> tuple[list[WorkloadRequest], list[float], float]:
    """Requests, their arrival times and the capacity that the load is a multiple of."""
    arrivals = parse_arrivals(case.arrivals)
    keep_order = isinstance(arrivals, Recorded)
    place = _Place(case.path, case.slots, case.costs, case.requests, case.kv_tokens)
    capacity_rps = _capacity(place, seed=seed)
    rng = random.Random(f"{seed}/arrivals")  # noqa: S311 - simulated arrivals, no secret
    if case.single is not None:
        times = case.single.times(capacity_rps, rng=rng)
        rows = arrange(rows_of(case.path), count=len(times), seed=seed, keep_order=False)
        return rows, times, capacity_rps
    count = case.requests
    if isinstance(arrivals, Burst):
        quiet_s = arrivals.every - arrivals.seconds
        in_period = (quiet_s * case.load + arrivals.seconds * arrivals.peak) * capacity_rps
        count = min(max(count, round(case.bursts * in_period)), MAX_REQUESTS)
    rows = arrange(rows_of(case.path), count=count, seed=seed, keep_order=keep_order)
    times = arrival_times(
        arrivals,
        [row.arrival_s for row in rows],
        rate_per_s=case.load * capacity_rps,
        capacity_per_s=capacity_rps,
        rng=rng,
    )
    return rows, times, capacity_rps


@dataclass(frozen=True, slots=True)
class _Place:
    """Where capacity is measured."""

    path: Path
    slots: int
    costs: str
    requests: int
    kv_tokens: int | None


@lru_cache(maxsize=32)
def _capacity(place: _Place, *, seed: int) -> float:
    rows = arrange(rows_of(place.path), count=place.requests, seed=seed, keep_order=False)
    return measure_capacity(
        rows,
        costs=load_cost_model(place.costs),
        slots=place.slots,
        options=EngineOptions(kv_tokens=place.kv_tokens),
    )


def _slowdown_p99(records: Sequence[RequestRecord]) -> float:
    """99 % of the requests take at most so many times the time they spend in the engine."""
    slowdowns = sorted(
        (record.finished_s - record.arrival_s) / (record.finished_s - record.admitted_s)
        for record in records[int(len(records) * WARM_UP_SHARE) :]
        if record.finished_s is not None and record.admitted_s is not None
    )
    return slowdowns[int(0.99 * len(slowdowns))]
