"""What `llmservice replay` runs: first the recording itself, then what would have been instead."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from llmservice_lab.analysis.record import Reading, TracedRequest
from llmservice_lab.gains import gain_shares
from llmservice_lab.provenance import commit, hardware
from llmservice_lab.replay.document import Comparison, ReplayDocument
from llmservice_lab.replay.drive import (
    RECORDED,
    Variant,
    check_predictor,
    measured_records,
    replay_stretch,
    simulator_of,
)
from llmservice_lab.replay.fidelity import self_check
from llmservice_lab.replay.figures import Records, changes_of, summary_of
from llmservice_lab.replay.fit import Fit, costs_of, fit_costs
from llmservice_lab.replay.limits import limits_of
from llmservice_lab.replay.recording import Recording, Stretch, prediction_of, recording_of
from llmservice_lab.results import RequestRecord, RunLabels, RunSummary
from llmservice_lab.sim_plan import RunStep, offered_load
from llmservice_lab.simulator import measure_capacity
from llmservice_lab.systems import system_of

_LEAST_PREDICTED: Final = 0.5  # share of requests without which "recorded" would be invented


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """Every policy with every predictor on what was recorded.

    `slots` None keeps each pod's limit. `recorded_policy` takes only what it served;
    `recorded_tail_weight` is what it ran with where traces do not say. `force`: gains although
    the self-check fails.
    """

    policies: Sequence[str]
    predictors: Sequence[str] = (RECORDED,)
    slots: int | None = None
    tail_weight: float = 1.0
    recorded_policy: str | None = None
    recorded_tail_weight: float = 1.0
    seed: int = 1
    force: bool = False


def run_replay(
    reading: Reading, plan: ReplayPlan, *, on_step: Callable[[RunStep], None]
) -> ReplayDocument:
    """Run everything; without gains where the self-check fails and the plan does not force them.

    Raises ValueError when the traces cannot be replayed or the plan is wrong; the message says why.
    """
    for name in plan.policies:
        system_of(name)
    for name in plan.predictors:
        check_predictor(name)
    recording = recording_of(reading.requests, policy=plan.recorded_policy)
    _refuse_invented(recording, plan)
    return _Replay(recording, plan, on_step).document(reading)


def _refuse_invented(recording: Recording, plan: ReplayPlan) -> None:
    """What order the predictions would have made nobody knows where there are none."""
    wanted = RECORDED in plan.predictors and any(
        _uses(policy, RECORDED) for policy in plan.policies
    )
    wanted = wanted or any(_uses(stretch.policy, RECORDED) for stretch in recording.stretches)
    taken = [one for stretch in recording.stretches for one in stretch.taken]
    known = sum(prediction_of(one.traced) is not None for one in taken)
    if wanted and known < _LEAST_PREDICTED * len(taken):
        raise ValueError(
            f"predictor 'recorded': only {known} of {len(taken)} requests have a prediction on "
            "their spans; record with predictor.mode Shadow or Enforce, or use oracle or none"
        )


def _uses(policy: str, predictor: str) -> bool:
    system = system_of(policy)
    return system.predicts and (system.predictor or predictor) == RECORDED


class _Replay:
    """One command's work on one recording."""

    def __init__(
        self, recording: Recording, plan: ReplayPlan, on_step: Callable[[RunStep], None]
    ) -> None:
        self._recording = recording
        self._stretches = recording.stretches
        self._plan = plan
        self._on_step = on_step
        self._fits = _fits(recording.stretches)
        names = [
            (policy, system_of(policy).predictor or name)
            for policy in plan.policies
            for name in plan.predictors
        ]
        self._systems = list(dict.fromkeys(names))

    def document(self, reading: Reading) -> ReplayDocument:
        stretches = self._stretches
        name = ", ".join(sorted({stretch.policy for stretch in stretches}))
        before = self._run_recorded()
        recorded = self._summary(before, name, RECORDED)
        truth = [measured_records(stretch) for stretch in stretches]
        measured = self._summary(truth, name, RECORDED)
        check = self_check(measured, recorded, stretches)
        runs, comparisons = [recorded], list[Comparison]()
        if check["passed"] or self._plan.force:
            for number, (policy, predictor) in enumerate(self._systems, 2):
                after = self._run_variant(number, policy, predictor)
                runs.append(self._summary(after, policy, predictor, slots=self._plan.slots))
                comparisons.append(self._compared(before, after, runs[-1]))
        capacity_rps, offered = self._capacity()
        return ReplayDocument(
            commit=commit(),
            seed=self._plan.seed,
            hardware=hardware(),
            workload=reading.source,
            engine="des",
            capacity_rps=capacity_rps,
            offered_load=offered,
            runs=runs,
            shares=gain_shares(runs),
            measured=measured,
            self_check=check,
            comparisons=comparisons,
            costs=list(self._fits.values()),
            requests_by_outcome=_outcomes(stretches),
            limits=limits_of(reading, self._recording, check, self._fits, slots=self._plan.slots),
        )

    def _run_recorded(self) -> Records:
        variants = [
            Variant(
                policy=stretch.policy,
                predictor=RECORDED,
                tail_weight=(
                    self._plan.recorded_tail_weight
                    if stretch.tail_weight is None
                    else stretch.tail_weight
                ),
            )
            for stretch in self._stretches
        ]
        return self._run(1, "as recorded", variants)

    def _run_variant(self, number: int, policy: str, predictor: str) -> Records:
        variant = Variant(
            policy=policy,
            predictor=predictor,
            tail_weight=self._plan.tail_weight,
            slots=self._plan.slots,
        )
        return self._run(number, f"{policy} / {predictor}", [variant] * len(self._stretches))

    def _run(self, number: int, name: str, variants: Sequence[Variant]) -> Records:
        total = sum(len(stretch.taken) for stretch in self._stretches)
        step = RunStep(number=number, runs=1 + len(self._systems), name=name, ended=0, total=total)
        records: list[Sequence[RequestRecord]] = []
        earlier = 0
        for stretch, variant in zip(self._stretches, variants, strict=True):

            def on_ended(ended: int, earlier: int = earlier) -> None:
                self._on_step(replace(step, ended=earlier + ended))

            fit = self._fits[stretch.pod]
            records.append(replay_stretch(stretch, fit, variant, on_ended=on_ended))
            earlier += len(stretch.taken)
        return records

    def _summary(
        self, records: Records, policy: str, predictor: str, *, slots: int | None = None
    ) -> RunSummary:
        most = max(stretch.slots for stretch in self._stretches)
        labels = RunLabels(
            policy=policy,
            predictor=predictor,
            slots=most if slots is None else slots,
            load=None,
            seed=self._plan.seed,
        )
        return summary_of(self._stretches, records, labels)

    def _compared(self, before: Records, after: Records, run: RunSummary) -> Comparison:
        changes, requests, block = changes_of(self._stretches, before, after, seed=self._plan.seed)
        return Comparison(
            policy=run["policy"],
            predictor=run["predictor"],
            slots=run["slots"],
            tail_weight=self._plan.tail_weight,
            requests=requests,
            block_requests=block,
            changes=changes,
        )

    def _capacity(self) -> tuple[float, float | None]:
        """What all pods complete a second with the recorded limits, and what they were offered."""
        by_pod: defaultdict[str, list[float]] = defaultdict(list)
        loads: list[float] = []
        for stretch in self._stretches:
            rows = [one.row for one in stretch.taken]
            fit = self._fits[stretch.pod]
            capacity_rps = measure_capacity(
                rows, costs=costs_of(fit), slots=stretch.slots, run=simulator_of(fit)
            )
            by_pod[stretch.pod].append(capacity_rps)
            load = offered_load([row.arrival_s for row in rows], capacity_rps)
            loads += [] if load is None else [load]
        return sum(map(fmean, by_pod.values())), fmean(loads) if loads else None


def _fits(stretches: Sequence[Stretch]) -> dict[str, Fit]:
    by_pod: defaultdict[str, list[TracedRequest]] = defaultdict(list)
    for stretch in stretches:
        by_pod[stretch.pod] += [one.traced for one in stretch.taken]
    return {pod: fit_costs(pod, requests) for pod, requests in by_pod.items()}


def _outcomes(stretches: Sequence[Stretch]) -> dict[str, int]:
    outcomes = Counter(one.traced.outcome for stretch in stretches for one in stretch.taken)
    return dict(sorted(outcomes.items()))
