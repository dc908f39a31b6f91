"""An engine that is late, on virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pytest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.replay.late_engine import LateEngine
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_predictors import Constant
from llmservice_lab.simulator import Setup, drive
from llmservice_lab.virtual_engine import VirtualEngine
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.policies.fcfs import Fcfs

STEPS = CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=0.0)


def served(late_s: float, *, lengths: Sequence[int], slots: int = 1) -> list[RequestRecord]:
    rows = [
        WorkloadRequest(arrival_s=0.0, prompt=None, prompt_tokens=0, output_tokens=length)
        for length in lengths
    ]
    setup = Setup(
        rows=rows,
        arrivals_s=[0.0] * len(rows),
        policy=Fcfs(),
        predictor=Constant(),
        costs=STEPS,
        slots=slots,
        guarded=False,
    )
    plain = VirtualEngine(STEPS, slots=slots)
    return drive(setup, LateEngine(plain, late_s=late_s, step_s=STEPS.step_s))


def test_without_lateness_it_is_the_inner_engine() -> None:
    first, second = served(0.0, lengths=[10, 5])
    assert (first.finished_s, second.finished_s) == (10.0, 15.0)


@pytest.mark.parametrize("late_s", [0.25, 1.0, 1.7])
def test_beside_others_it_is_late_by_that_much_on_average(late_s: float) -> None:
    # One answer that never ends keeps the steps going while the others take turns beside it.
    records = served(late_s, lengths=[9000, *[10] * 400], slots=2)[1:]
    starts = [(one.first_token_s or 0.0) - (one.admitted_s or 0.0) for one in records]
    assert fmean(starts) == pytest.approx(1.0 + late_s, abs=0.02)
    assert all(one.finished_s is not None for one in records)


def test_an_idle_engine_waits_for_who_is_on_the_way() -> None:
    (alone,) = served(2.0, lengths=[3])
    assert alone.finished_s == pytest.approx(1.5 + 3.0)
