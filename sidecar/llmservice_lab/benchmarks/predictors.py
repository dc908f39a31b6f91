"""Predictors that only benchmarks need: wrong by a constant factor, or not numbers at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmservice_sidecar.core.request import Prediction

from llmservice_lab.sim_plan import make_sim_predictor
from llmservice_lab.sim_predictors import Fixed, SimPredictor
from llmservice_lab.workload import WorkloadRequest


@dataclass(frozen=True, slots=True)
class Biased:
    """Says `factor` times what the other says."""

    other: SimPredictor
    factor: float

    @property
    def starts_trusted(self) -> bool:
        return self.other.starts_trusted

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:
        honest = self.other.predict(index, row)
        return replace(
            honest,
            output_tokens=honest.output_tokens * self.factor,
            p90_tokens=honest.p90_tokens * self.factor,
        )

    def observe(self, index: int, row: WorkloadRequest) -> None:
        self.other.observe(index, row)


def make_predictor(name: str, rows: Sequence[WorkloadRequest], *, seed: int) -> SimPredictor:
    """`nan`, `biased:FACTOR/NAME` or one of `sim`'s. Raises ValueError naming what is known."""
    if name == "nan":
        return Fixed([math.nan] * len(rows), source="nan")
    if name.startswith("biased:"):
        factor, _, other = name.removeprefix("biased:").partition("/")
        return Biased(make_sim_predictor(other, rows, seed=seed), float(factor))
    return make_sim_predictor(name, rows, seed=seed)
