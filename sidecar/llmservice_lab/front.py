"""What SSJF gives and costs beside FCFS, over loads and slots: the table of docs/benchmarks.md.

`python -m llmservice_lab.front` prints it as Markdown. Virtual time: same seeds, same numbers.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Final, Literal

from llmservice_lab.arrivals import parse_arrivals
from llmservice_lab.cost_model import load_cost_model
from llmservice_lab.provenance import commit, hardware
from llmservice_lab.results import RunSummary
from llmservice_lab.sim_plan import SimPlan, run_plan
from llmservice_lab.workload import WorkloadRequest, load_workload

Figure = Literal["mean", "p50", "p99", "p999"]

WORKLOAD: Final = Path("examples/workloads/demo-test.jsonl")
COSTS: Final = "h100-7b"
REQUESTS: Final = 4000
SEEDS: Final = (1, 2, 3, 4, 5)
LOADS: Final = (0.7, 0.9, 0.95)
SLOTS: Final = (8, 32)
PREDICTORS: Final = ("oracle", "noisy:tau=0.6")
FIGURES: Final[tuple[Figure, ...]] = ("mean", "p50", "p99", "p999")


def ratio_rows(
    rows: Sequence[WorkloadRequest], *, requests: int = REQUESTS, seeds: Sequence[int] = SEEDS
) -> Iterator[str]:
    """One Markdown row a setting: SSJF's end-to-end figures over FCFS's, mean [least, most]."""
    for load, slots in product(LOADS, SLOTS):
        runs = [_runs(rows, load=load, slots=slots, seed=seed, requests=requests) for seed in seeds]
        for number, predictor in enumerate(PREDICTORS):
            cells = [_spread([_ratio(each, number, figure) for each in runs]) for figure in FIGURES]
            yield f"| {load} | {slots} | {predictor} | {' | '.join(cells)} |"


def _runs(
    rows: Sequence[WorkloadRequest], *, load: float, slots: int, seed: int, requests: int
) -> list[RunSummary]:
    """FCFS and SSJF under every predictor, in that order, on the same requests."""
    plan = SimPlan(
        workload=str(WORKLOAD),
        rows=rows,
        policies=("FCFS", "SSJF"),
        predictors=PREDICTORS,
        costs=load_cost_model(COSTS),
        slots=slots,
        load=load,
        arrivals=parse_arrivals("poisson"),
        tail_weight=1.0,
        seed=seed,
        requests=requests,
    )
    return run_plan(plan, on_step=lambda _: None)["runs"]


def _ratio(runs: Sequence[RunSummary], predictor: int, figure: Figure) -> float:
    fcfs, ssjf = (runs[predictor + at]["e2e_s"][figure] for at in (0, len(PREDICTORS)))
    if fcfs is None or ssjf is None:
        raise RuntimeError(f"a simulation completed no request: no {figure}")
    return ssjf / fcfs


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.mean(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def main() -> int:
    """Print the table; a dot on standard error for every row."""
    print(f"Commit {commit()}, {hardware()}, {REQUESTS} requests, seeds {SEEDS}, costs {COSTS}.\n")
    print("| load | slots | predictor | mean | p50 | p99 | p99.9 |\n|---|---|---|---|---|---|---|")
    for row in ratio_rows(load_workload(WORKLOAD)):
        print(row, flush=True)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
