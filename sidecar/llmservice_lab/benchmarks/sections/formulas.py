"""The simulator beside queueing theory: one slot and Poisson arrivals are an M/G/1 queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmservice_lab.benchmarks import figures, statistics
from llmservice_lab.benchmarks.cases import FCFS, ORACLE_SJF, Case, Contender, work_of
from llmservice_lab.benchmarks.grid import NOISY, Grid
from llmservice_lab.benchmarks.markdown import cell, prose, table
from llmservice_lab.benchmarks.mixes import LMSYS_CHAT
from llmservice_lab.benchmarks.predictors import make_predictor
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.section import Page, Section
from llmservice_lab.cost_model import CostModel, load_cost_model

LOADS: Final = (0.7, 0.9)
TIMES: Final = 3  # means of waiting need more requests than ratios do
BLIND: Final = Contender(policy="SSJF", predictor=NOISY, tail_weight=0.0)
WHO: Final = {"FCFS": FCFS, "shortest first": ORACLE_SJF, "shortest predicted first": BLIND}


def cases(grid: Grid) -> list[Case]:
    """One slot."""
    return [
        Case(
            path=LMSYS_CHAT.path,
            slots=1,
            load=load,
            requests=TIMES * grid.effort.requests,
            costs=grid.costs,
        )
        for load in LOADS
    ]


def service_s(prompt_tokens: int, output_tokens: int, costs: CostModel) -> float:
    """Seconds of a request that has the engine to itself."""
    first = costs.step_s + costs.per_prefill_token_s * prompt_tokens
    return first + (output_tokens - 1) * (costs.step_s + costs.per_decode_s)


def fcfs_wait_s(rate: float, service: NDArray[np.float64]) -> float:
    """Mean wait, Pollaczek and Khinchine: rate x E[S^2] / (2 (1 - rho))."""
    return float(rate * np.mean(service**2) / 2 / (1 - rate * service.mean()))


def priority_wait_s(rate: float, service: NDArray[np.float64], predicted: Sequence[float]) -> float:
    """Mean wait when the least predicted goes first, a class for each prediction (Cobham).

    W(y) = rate x E[S^2] / (2 (1 - rho_below(y)) (1 - rho_up_to(y))), rho of those predicted
    shorter than y, or as long.
    """
    classes, which = np.unique(np.asarray(predicted), return_inverse=True)
    load = rate * np.bincount(which, weights=service, minlength=len(classes)) / len(service)
    up_to = np.cumsum(load)
    waits = rate * np.mean(service**2) / 2 / ((1 - up_to + load) * (1 - up_to))
    return float(waits[which].mean())


def _wanted(grid: Grid) -> list[Wanted]:
    return grid.wanted(iter(cases(grid)), BLIND)


def _lines(page: Page) -> Iterator[str]:
    yield from prose("""
        Mean seconds of waiting, lmsys-chat, one slot. Formulas are evaluated on the same
        requests and rates; the interval is of simulated over theory.
    """)
    rows: list[tuple[str, ...]] = []
    for case in cases(page.grid):
        for name, who in WHO.items():
            simulated = figures.values(page.results[case, who], "mean", group="queue_wait_s")
            theory = [_theory_s(case, who, seed) for seed in page.grid.effort.seeds]
            both = (f"{np.mean(each):.2f}" for each in (simulated, theory))
            rows.append((f"{case.load:g}", name, *both, cell(statistics.ratio(simulated, theory))))
    yield from table(("load", "order", "simulated, s", "formula, s", "ratio"), rows)


@lru_cache(maxsize=64)
def _theory_s(case: Case, who: Contender, seed: int) -> float:
    rows, _, capacity_rps = work_of(case, seed)
    costs = load_cost_model(case.costs)
    service = np.array([service_s(r.prompt_tokens, r.output_tokens, costs) for r in rows])
    rate = case.load * capacity_rps
    if who == FCFS:
        return fcfs_wait_s(rate, service)
    if who == ORACLE_SJF:
        return priority_wait_s(rate, service, service.tolist())
    predictor = make_predictor(who.predictor, rows, seed=seed)
    said = [predictor.predict(at, row).output_tokens for at, row in enumerate(rows)]
    return priority_wait_s(rate, service, said)


SECTION: Final = Section(title="The simulator beside formulas", wanted=_wanted, lines=_lines)
