"""Which cases and contenders the figures rest on. Names settings; runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from llmservice_lab.benchmarks.cases import DEFAULT_COSTS, FCFS, ORACLE_SJF, Case, Contender
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.timeline import SingleBurst
from llmservice_lab.benchmarks.work import Mix

NOISY: Final = "noisy:tau=0.6"
GARBAGE: Final = ("random", "inverted", "constant", "nan")
BURST: Final = "burst:1.5,60,600"
SLOTS: Final = (8, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is run: requests of a case (a tenth more than what is counted), bursts, seeds.

    `agreement_requests` are what vLLM's own scheduler is asked to serve at each point.
    """

    requests: int
    bursts: int
    seeds: tuple[int, ...]
    agreement_requests: int = 1500


FULL: Final = Effort(requests=11_120, bursts=2, seeds=(1, 2, 3, 4, 5))
QUICK: Final = Effort(requests=2_000, bursts=1, seeds=(1, 2), agreement_requests=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Cases over mixes and slots, all with one effort and one cost model."""

    mixes: Sequence[Mix]
    effort: Effort
    slots: Sequence[int] = SLOTS
    costs: str = DEFAULT_COSTS
    tail_weight: float = 1.0

    def loaded(self) -> Iterator[Case]:
        """Where there is something to gain: 0.9, 0.95 and bursts on 0.7."""
        for mix, slots in product(self.mixes, self.slots):
            yield self.case(mix, slots, load=0.9)
            yield self.case(mix, slots, load=0.95)
            yield self.case(mix, slots, load=0.7, arrivals=BURST)

    def calm(self, arrivals: str) -> Iterator[Case]:
        """Load 0.7, where little waits: what SSJF must not spoil."""
        for mix, slots in product(self.mixes, self.slots):
            yield self.case(mix, slots, load=0.7, arrivals=arrivals)

    def single_bursts(self, *, before: float) -> Iterator[Case]:
        """60 s at 1.5 x capacity into an idle server; `before` 0: one that has served nothing."""
        for mix, slots in product(self.mixes, self.slots):
            yield Case(
                path=mix.path,
                slots=slots,
                load=0.7,
                requests=self.effort.requests,
                costs=self.costs,
                single=SingleBurst(peak=1.5, seconds=60.0, before=before, after=0.7),
            )

    def case(self, mix: Mix, slots: int, *, load: float, arrivals: str = "poisson") -> Case:
        """One of them."""
        return Case(
            path=mix.path,
            slots=slots,
            load=load,
            requests=self.effort.requests,
            arrivals=arrivals,
            bursts=self.effort.bursts if arrivals == BURST else 0,
            costs=self.costs,
        )

    def wanted(self, cases: Iterator[Case], *contenders: Contender) -> list[Wanted]:
        """FCFS, oracle SJF and the contenders on each case."""
        everybody = (FCFS, ORACLE_SJF, *contenders)
        return [Wanted(case=case, contenders=everybody, seeds=self.effort.seeds) for case in cases]

    def ssjf(self, predictor: str) -> Contender:
        """The default policy at this grid's tail weight."""
        return Contender(policy="SSJF", predictor=predictor, tail_weight=self.tail_weight)


def label(case: Case) -> str:
    """`0.9`, `burst on 0.7`, `CV 3, 0.7`."""
    if case.single is not None:
        return "one burst, idle before" if case.single.before else "one burst, cold start"
    if case.arrivals.startswith("burst"):
        return f"bursts on {case.load:g}"
    if case.arrivals.startswith("gamma"):
        return f"CV {case.arrivals.partition(':')[2]}, {case.load:g}"
    return f"{case.load:g}" + (", recorded" if case.arrivals == "recorded" else "")
