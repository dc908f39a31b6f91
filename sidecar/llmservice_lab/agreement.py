"""Does the discrete-event engine say of policies what vLLM's own scheduler says? Six points.

`python -m llmservice_lab.agreement` prints them as Markdown: SSJF's figures over FCFS's, on both
engines, same requests at the same times. Virtual time: same seed, same numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final, Literal

from llmservice_lab.arrivals import parse_arrivals
from llmservice_lab.cost_model import load_cost_model
from llmservice_lab.provenance import commit, hardware
from llmservice_lab.sim_plan import SimDocument, SimPlan, run_plan_with, simulator_of
from llmservice_lab.simulator import Simulate, simulate
from llmservice_lab.workload import WorkloadRequest, load_workload

Figure = Literal["mean", "p99"]

FIGURES: Final[tuple[Figure, ...]] = ("mean", "p99")
ALLOWED: Final = 0.10
WORKLOAD: Final = Path("examples/workloads/azure-chat.parquet")
REQUESTS: Final = 3000
COSTS: Final = "h100-7b"
SLOTS: Final = (8, 32)
# load, arrivals, what people call it
TRAFFIC: Final = (
    (0.9, "poisson", "0.9"),
    (0.95, "poisson", "0.95"),
    (0.7, "burst:1.5,60,240", "0.7, and 1.5 for 60 s of every 240 s"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting: SSJF's end-to-end figures over FCFS's, with the truth as prediction."""

    slots: int
    traffic: str
    des: dict[Figure, float]
    vllm: dict[Figure, float]

    @property
    def deviation(self) -> float:
        """The larger of the figures' relative differences between the engines."""
        return max(abs(self.des[figure] / self.vllm[figure] - 1) for figure in FIGURES)


def points(
    rows: Sequence[WorkloadRequest], vllm: Simulate, *, requests: int = REQUESTS, seed: int = 1
) -> Iterator[Point]:
    """All points. Raises EngineEnvironmentError when vLLM fails."""
    for slots, (load, arrivals, name) in product(SLOTS, TRAFFIC):
        plan = SimPlan(
            workload="agreement",
            rows=rows,
            policies=("FCFS", "SSJF"),
            predictors=("oracle",),
            costs=load_cost_model(COSTS),
            slots=slots,
            load=load,
            arrivals=parse_arrivals(arrivals),
            tail_weight=1.0,
            seed=seed,
            requests=requests,
        )
        yield Point(
            slots=slots,
            traffic=name,
            des=_ratios(run_plan_with(simulate, plan, on_step=_silent)),
            vllm=_ratios(run_plan_with(vllm, plan, on_step=_silent)),
        )


def markdown(compared: Iterable[Point]) -> Iterator[str]:
    """The table, line by line; its last line tells the largest deviation.

    Raises ValueError when the engines differ by more than is allowed.
    """
    yield "| slots | load | mean, des | mean, vLLM | p99, des | p99, vLLM | largest deviation |"
    yield "|---|---|---|---|---|---|---|"
    worst = 0.0
    for point in compared:
        worst = max(worst, point.deviation)
        cells = [each[figure] for figure in FIGURES for each in (point.des, point.vllm)]
        figures = " | ".join(f"{cell:.3f}" for cell in cells)
        yield f"| {point.slots} | {point.traffic} | {figures} | {point.deviation:.1e} |"
    if worst > ALLOWED:
        raise ValueError(f"the engines differ by {worst:.1%}; allowed: {ALLOWED:.0%}")
    yield f"\nThe largest deviation is {worst:.1e}; allowed is {ALLOWED:.0%}."


def _ratios(document: SimDocument) -> dict[Figure, float]:
    fcfs, ssjf = (run["e2e_s"] for run in document["runs"])
    ratios: dict[Figure, float] = {}
    for figure in FIGURES:
        over, under = ssjf[figure], fcfs[figure]
        assert over is not None
        assert under is not None
        ratios[figure] = over / under
    return ratios


def _silent(_step: object) -> None:
    """Nobody watches."""


def main() -> int:
    """Print the table; 1 when the engines disagree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workload", type=Path, default=WORKLOAD)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        f"Commit {commit()}, {hardware()}, {options.workload}, {options.requests} requests, "
        f"seed {options.seed}, costs {COSTS}; end-to-end seconds, SSJF over FCFS.\n"
    )
    rows = load_workload(options.workload)
    try:
        with simulator_of("vllm") as vllm:
            for line in markdown(points(rows, vllm, requests=options.requests, seed=options.seed)):
                print(line, flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
