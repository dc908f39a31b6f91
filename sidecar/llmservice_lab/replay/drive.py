"""One stretch through the gate on virtual time, and its records beside those of the trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from llmservice_sidecar.core.request import Outcome, Prediction

from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.replay.fit import Fit, costs_of
from llmservice_lab.replay.late_engine import LateEngine
from llmservice_lab.replay.recording import Stretch, Taken, prediction_of, tokens_of, unpredicted
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_predictors import Constant, Fixed, SimPredictor
from llmservice_lab.simulator import Setup, Simulate, drive
from llmservice_lab.systems import SystemOptions, assemble, system_of
from llmservice_lab.virtual_engine import VirtualEngine
from llmservice_lab.workload import WorkloadRequest

RECORDED: Final = "recorded"
PREDICTORS: Final = (RECORDED, "oracle", "none")


class Recorded(Fixed):
    """What was predicted when the requests came, whole: mean, median and 90 % quantile."""

    def __init__(self, predictions: Sequence[Prediction], *, starts_trusted: bool) -> None:
        super().__init__([one.output_tokens for one in predictions], source=RECORDED)
        self._predictions = predictions
        self._starts_trusted = starts_trusted

    @property
    def starts_trusted(self) -> bool:
        return self._starts_trusted

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:  # noqa: ARG002 - protocol
        return self._predictions[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is changed of the recording. `slots` None: the limit stays as it was."""

    policy: str
    predictor: str
    tail_weight: float
    slots: int | None = None


def check_predictor(name: str) -> None:
    """Raises ValueError for a predictor that would have to read what traces do not hold."""
    if name not in PREDICTORS:
        raise ValueError(
            f"predictor {name!r}: traces hold no text of prompts, so nothing can be predicted "
            f"anew; allowed: {', '.join(PREDICTORS)}"
        )


def replay_stretch(
    stretch: Stretch, fit: Fit, variant: Variant, *, on_ended: Callable[[int], None]
) -> list[RequestRecord]:
    """What would have become of the stretch's requests, in order of arrival at the gate.

    Times are seconds since the stretch began, from the door to the end. Raises ValueError for an
    unknown policy or predictor.
    """
    rows = [one.row for one in stretch.taken]
    system = assemble(
        variant.policy,
        _predictor(variant, stretch),
        options=SystemOptions(tail_weight=variant.tail_weight),
    )
    setup = Setup(
        rows=rows,
        arrivals_s=[row.arrival_s for row in rows],
        policy=system.policy,
        predictor=system.predictor,
        rules=system.rules,
        costs=costs_of(fit),
        slots=stretch.slots if variant.slots is None else variant.slots,
        guarded=system_of(variant.policy).predicts,
        max_queued=stretch.max_queued,
        leave_s=[one.leave_s for one in stretch.taken],
        on_ended=on_ended,
    )
    return [
        _as_at_the_door(one, record)
        for one, record in zip(stretch.taken, simulator_of(fit)(setup), strict=True)
    ]


def simulator_of(fit: Fit) -> Simulate:
    """Runs setups with an engine as late as the fitted one."""

    def run(setup: Setup) -> list[RequestRecord]:
        plain = VirtualEngine(setup.costs, slots=setup.slots, options=setup.options)
        return drive(setup, LateEngine(plain, late_s=fit["late_s"], step_s=fit["full_s"]))

    return run


def measured_records(stretch: Stretch) -> list[RequestRecord]:
    """What became of them in truth, in the same form."""
    return [_measured(one.traced, stretch.began_s) for one in stretch.taken]


def _predictor(variant: Variant, stretch: Stretch) -> SimPredictor:
    name = system_of(variant.policy).predictor or variant.predictor
    if name == "none":
        return Constant(starts_trusted=False)
    if name == "oracle":
        return Fixed([float(one.row.output_tokens) for one in stretch.taken], source="oracle")
    check_predictor(name)
    predictions = [prediction_of(one.traced) or unpredicted() for one in stretch.taken]
    return Recorded(predictions, starts_trusted=stretch.starts_trusted)


def _as_at_the_door(one: Taken, record: RequestRecord) -> RequestRecord:
    finished_s = record.finished_s
    return replace(
        record,
        arrival_s=record.arrival_s - one.before_s,
        # The wait is the queue's alone, as the trace has it.
        admitted_s=None if record.admitted_s is None else record.admitted_s - one.before_s,
        finished_s=None if finished_s is None else finished_s + one.after_s,
        outcome=_outcome(one, record),
    )


def _outcome(one: Taken, record: RequestRecord) -> Outcome:
    traced = one.traced
    if record.outcome is Outcome.COMPLETED and traced.admitted and not traced.completed:
        return Outcome(traced.outcome)  # it is served as far as it was, and leaves as it left
    if record.outcome is Outcome.CANCELLED and traced.outcome != Outcome.CANCELLED:
        return Outcome.EVICTED  # its time was up, it did not leave by itself
    return record.outcome


def _measured(one: TracedRequest, began_s: float) -> RequestRecord:
    arrival_s = one.arrived_s - began_s
    first_s = one.first_token_s
    return RequestRecord(
        arrival_s=arrival_s,
        output_tokens=tokens_of(one) or 0,
        outcome=Outcome(one.outcome),
        admitted_s=arrival_s + one.wait_s if one.admitted else None,
        first_token_s=None if first_s is None else first_s - began_s,
        finished_s=one.ended_s - began_s if one.completed else None,
        predicted_tokens=one.predicted_tokens,
        engine_queue_s=one.engine_queue_s,
    )
