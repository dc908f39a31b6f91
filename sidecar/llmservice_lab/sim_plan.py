"""What `llmservice sim` runs: a workload, its arrivals, the systems to compare.

Everything random follows from the seed, and every run of a comparison gets the same arrivals and
the same noise (common random numbers).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Final, TypedDict

from llmservice_lab.arrivals import Arrivals, arrival_times, repeat
from llmservice_lab.cost_model import CostModel
from llmservice_lab.gains import GainShare, gain_shares
from llmservice_lab.heads import Around, five_classes
from llmservice_lab.provenance import commit, hardware
from llmservice_lab.results import RunLabels, RunSummary, summarise
from llmservice_lab.sim_engine import EngineOptions
from llmservice_lab.sim_predictors import (
    Constant,
    SimPredictor,
    inverted,
    noisy,
    oracle,
    shuffled,
)
from llmservice_lab.simulator import PLAIN_ENGINE, Setup, Simulate, measure_capacity, simulate
from llmservice_lab.systems import Assembled, SystemOptions, assemble, system_of
from llmservice_lab.vllm_engine_process import VllmSimulator
from llmservice_lab.workload import WorkloadRequest

MIN_REQUESTS: Final = 10
ENGINES: Final = ("des", "vllm")


class SimDocument(TypedDict):
    """The result of a simulation as it stands in JSON."""

    commit: str
    seed: int
    hardware: str
    workload: str
    engine: str
    capacity_rps: float
    offered_load: float | None
    runs: list[RunSummary]
    shares: list[GainShare]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimPlan:
    """A comparison: every policy with every predictor, on the same requests at the same times.

    `load` is a multiple of the measured capacity; None keeps the recording's own rate. `requests`
    repeats or cuts the workload; None takes it as it is.
    """

    workload: str
    rows: Sequence[WorkloadRequest]
    policies: Sequence[str]
    predictors: Sequence[str]
    costs: CostModel
    slots: int
    load: float | None
    arrivals: Arrivals
    tail_weight: float
    seed: int
    requests: int | None = None
    guarded: bool = True
    engine: str = "des"
    options: EngineOptions = PLAIN_ENGINE


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """News of a comparison: `ended` of `total` requests of run `number` (from 1) of `runs`."""

    number: int
    runs: int
    name: str
    ended: int
    total: int


def run_plan(plan: SimPlan, *, on_step: Callable[[RunStep], None]) -> SimDocument:
    """Run everything.

    Raises ValueError when the plan cannot be run, EngineEnvironmentError when vLLM cannot be
    installed or fails; the message says why.
    """
    _sized(plan)  # refused before an engine is started for it
    with simulator_of(plan.engine) as run:
        return run_plan_with(run, plan, on_step=on_step)


@contextmanager
def simulator_of(engine: str) -> Generator[Simulate]:
    """What runs a setup, by the engine's name. Raises ValueError naming those that are known."""
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known; known: {', '.join(ENGINES)}")
    if engine == "des":
        yield simulate
    else:
        with VllmSimulator() as vllm:
            yield vllm.simulate


def run_plan_with(
    run: Simulate, plan: SimPlan, *, on_step: Callable[[RunStep], None]
) -> SimDocument:
    """As `run_plan`, by an engine that is there already: `plan.engine` only names it."""
    plan = _sized(plan)
    capacity_rps, arrivals_s = _arrivals(plan)
    offered = offered_load(arrivals_s, capacity_rps)
    systems = [
        (policy, system_of(policy).predictor or name)
        for policy in plan.policies
        for name in plan.predictors
    ]
    runs: list[RunSummary] = []
    for number, (policy, name) in enumerate(systems, 1):
        step = RunStep(
            number=number,
            runs=len(systems),
            name=f"{policy} / {name}",
            ended=0,
            total=len(plan.rows),
        )
        system = _system(plan, policy, name)
        setup = Setup(
            rows=plan.rows,
            arrivals_s=arrivals_s,
            policy=system.policy,
            predictor=system.predictor,
            rules=system.rules,
            costs=plan.costs,
            slots=plan.slots,
            guarded=plan.guarded and system_of(policy).predicts,
            options=plan.options,
            on_ended=lambda ended, step=step: on_step(replace(step, ended=ended)),
        )
        load = offered if plan.load is None else plan.load
        labels = RunLabels(
            policy=policy, predictor=name, slots=plan.slots, load=load, seed=plan.seed
        )
        runs.append(summarise(run(setup), labels))
    return SimDocument(
        commit=commit(),
        seed=plan.seed,
        hardware=hardware(),
        workload=plan.workload,
        engine=plan.engine,
        capacity_rps=capacity_rps,
        offered_load=offered,
        runs=runs,
        shares=gain_shares(runs),
    )


def _arrivals(plan: SimPlan) -> tuple[float, Sequence[float]]:
    """The capacity in requests per second, and the time of every arrival."""
    capacity_rps = measure_capacity(
        plan.rows,
        costs=plan.costs,
        slots=plan.slots,
        options=replace(plan.options, scheduler_class=None),
        run=simulate,  # both engines take the same steps, and this one is much faster
    )
    return capacity_rps, arrival_times(
        plan.arrivals,
        [row.arrival_s for row in plan.rows],
        rate_per_s=None if plan.load is None else plan.load * capacity_rps,
        capacity_per_s=capacity_rps,
        rng=_rng(plan.seed, "arrivals"),
    )


def _system(plan: SimPlan, policy: str, predictor: str) -> Assembled:
    """A policy with a predictor that has not learned from another run."""
    return assemble(
        policy,
        make_sim_predictor(predictor, plan.rows, seed=plan.seed),
        options=SystemOptions(tail_weight=plan.tail_weight, kv_tokens=plan.options.kv_tokens),
    )


def make_sim_predictor(name: str, rows: Sequence[WorkloadRequest], *, seed: int) -> SimPredictor:
    """A fresh predictor by its name on the command line. Raises ValueError: what is known."""
    kind, _, rest = name.partition(":")
    if kind == "noisy" and rest.startswith("tau="):
        return noisy(rows, tau=_tau(rest), rng=_rng(seed, "noise"))
    if kind == "classes" and rest:
        return Around(make_sim_predictor(rest, rows, seed=seed), five_classes)
    if name in _PREDICTORS:
        return _PREDICTORS[name](rows, seed)
    if Path(name).exists():
        return _trained(name)
    known = ", ".join((*_PREDICTORS, "noisy:tau=T", "classes:PREDICTOR"))
    raise ValueError(f"predictor {name!r} is not known; known: {known}, the path of a trained one")


def offered_load(arrivals_s: Sequence[float], capacity_rps: float) -> float | None:
    """Mean arrivals a second as a multiple of capacity; None when all came at one moment."""
    span_s = arrivals_s[-1] - arrivals_s[0]
    return (len(arrivals_s) - 1) / span_s / capacity_rps if span_s > 0 else None


def _default() -> SimPredictor:
    from llmservice_lab.sim_online import online  # noqa: PLC0415 - the others need no model

    return online(None)


def _trained(path: str) -> SimPredictor:
    from llmservice_lab.sim_predictors_trained import trained  # noqa: PLC0415 - as above

    return trained(path)


def _rng(seed: int, purpose: str) -> random.Random:
    """Independent streams: one more draw for one purpose moves nothing else."""
    return random.Random(f"{seed}/{purpose}")  # noqa: S311 - simulated noise, no secret


_PREDICTORS: Final[Mapping[str, Callable[[Sequence[WorkloadRequest], int], SimPredictor]]] = {
    "default": lambda _rows, _seed: _default(),
    "oracle": lambda rows, _seed: oracle(rows),
    "none": lambda _rows, _seed: Constant(starts_trusted=False),
    "random": lambda rows, seed: shuffled(rows, rng=_rng(seed, "random")),
    "inverted": lambda rows, _seed: inverted(rows),
    "constant": lambda _rows, _seed: Constant(),
}


def _tau(rest: str) -> float:
    try:
        tau = float(rest.removeprefix("tau="))
    except ValueError as error:
        raise ValueError(
            f"predictor noisy:{rest}: tau must be a number, as in noisy:tau=0.5"
        ) from error
    if not 0 < tau < 1:
        raise ValueError(f"predictor noisy:{rest}: tau must be above 0 and below 1")
    return tau


def _sized(plan: SimPlan) -> SimPlan:
    """The plan with as many requests as it asks for."""
    count = len(plan.rows) if plan.requests is None else plan.requests
    if min(count, len(plan.rows)) < MIN_REQUESTS:
        raise ValueError(
            f"a simulation needs at least {MIN_REQUESTS} requests: the workload has "
            f"{len(plan.rows)}, asked for {count}"
        )
    times = repeat([row.arrival_s for row in plan.rows], count)
    repeated = zip(cycle(plan.rows), times, strict=False)
    return replace(plan, rows=[replace(row, arrival_s=time_s) for row, time_s in repeated])
