"""What predictions are worth: the share of the oracle's gain over arrival order that is kept.

Simulated runs of recorded requests, once through: no prompt is met twice. All predictors of a seed
get the same requests at the same times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from llmservice_lab.arrivals import arrival_times, parse_arrivals
from llmservice_lab.benchmarks.work import arrange
from llmservice_lab.cost_model import load_cost_model
from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.results import RunLabels, summarise
from llmservice_lab.sim_predictors import SimPredictor
from llmservice_lab.simulator import Setup, measure_capacity, simulate
from llmservice_lab.systems import SystemOptions, assemble
from llmservice_lab.workload import WorkloadRequest

SLOTS: Final = 8
LOAD: Final = 0.9
COSTS: Final = "h100-7b"
MOST_OF_A_SOURCE: Final = 400  # prompts: none may make up the whole service
MOST_REQUESTS: Final = 1000  # of a run: each seed draws others
SEEDS: Final = tuple(range(1, 11))

# A predictor for one run of these requests: seeds do not learn from each other.
Make: TypeAlias = Callable[[Sequence[WorkloadRequest]], SimPredictor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Recorded requests. `about` says where they are from and whether they were trained on."""

    name: str
    about: str
    rows: Sequence[WorkloadRequest]


def mean_times(work: Work, make: Make, *, policy: str = "SSJF") -> list[float]:
    """Mean seconds from arrival to the end, for each seed; with the guard, as deployed."""
    return [_mean_time(work, make, policy=policy, seed=seed) for seed in SEEDS]


def mixed_work(samples: Sequence[Sample], *, name: str, sources: Sequence[str]) -> Work:
    """One service's work: of each source the answers of its most complete model, one a prompt."""
    rows: list[WorkloadRequest] = []
    models: list[str] = []
    for source in sources:
        mine = [sample for sample in samples if sample.source == source]
        counts: dict[str, set[str]] = {}
        for sample in mine:
            counts.setdefault(sample.model, set()).add(sample.prompt)
        model = max(sorted(counts), key=lambda each: len(counts[each]))
        models.append(model)
        chosen: dict[str, WorkloadRequest] = {}
        for sample in mine:
            if sample.model == model:
                chosen.setdefault(sample.prompt, _request(sample))
        rows += list(chosen.values())[:MOST_OF_A_SOURCE]
    about = f"unseen prompts of {', '.join(sources)}, answered by {', '.join(models)}"
    return Work(name=name, about=about, rows=rows)


def _mean_time(work: Work, make: Make, *, policy: str, seed: int) -> float:
    count = min(len(work.rows), MOST_REQUESTS)
    rows = arrange(work.rows, count=count, seed=seed, keep_order=False)
    costs = load_cost_model(COSTS)
    capacity_rps = measure_capacity(rows, costs=costs, slots=SLOTS)
    arrivals_s = arrival_times(
        parse_arrivals("poisson"),
        [row.arrival_s for row in rows],
        rate_per_s=LOAD * capacity_rps,
        capacity_per_s=capacity_rps,
        rng=random.Random(f"{seed}/arrivals"),  # noqa: S311 - simulated arrivals, no secret
    )
    system = assemble(policy, make(rows), options=SystemOptions())
    records = simulate(
        Setup(
            rows=rows,
            arrivals_s=arrivals_s,
            policy=system.policy,
            rules=system.rules,
            predictor=system.predictor,
            costs=costs,
            slots=SLOTS,
        )
    )
    labels = RunLabels(policy=policy, predictor="", slots=SLOTS, load=LOAD, seed=seed)
    mean_s = summarise(records, labels)["e2e_s"]["mean"]
    assert mean_s is not None  # nothing bounds the queue: everything completes
    return mean_s


def _request(sample: Sample) -> WorkloadRequest:
    """Without the model's name: one service answers all of them."""
    return WorkloadRequest(
        arrival_s=0.0,
        prompt=sample.prompt,
        prompt_tokens=sample.prompt_tokens,
        output_tokens=max(sample.output_tokens, 1),
        source=sample.source,
    )
