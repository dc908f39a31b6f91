"""The gate's invariants under every registered policy, whatever a predictor says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from llmservice_sidecar.core.decision import Admitted, Queued, Rejected
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import POLICIES, make_policy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running
from strategies import WILD_TOKENS, token_counts

MAX_QUEUED = 8
MAX_PROMPTS = 500

wild_predictions = st.one_of(token_counts, st.sampled_from(WILD_TOKENS)).map(
    lambda tokens: Prediction(tokens, 1.5 * tokens, "test")
)


def prompts_fit(request: Request, running: Sequence[Request]) -> bool:
    return sum(other.prompt_tokens for other in [*running, request]) <= MAX_PROMPTS


class PromptsFit:
    """A rule like a memory forecast: prompts of all that run are bounded."""

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return prompts_fit(request, [item.request for item in running])


class PolicyMachine(RuleBasedStateMachine):
    """One tenant of one priority, so that the order is that of the keys."""

    policy_name: str

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.limit = 0
        self.queued: dict[RequestId, Request] = {}
        self.running: dict[RequestId, Request] = {}

    @initialize(limit=st.integers(1, 4), taught=st.booleans())
    def start(self, limit: int, taught: bool) -> None:
        estimator = WorkEstimator()
        for _ in range(8 if taught else 0):
            estimator.rates.observe(1.0, predicted_tokens=100.0, output_tokens=100)
        self.limit = limit
        self.gate = Gate(
            policy=make_policy(self.policy_name),
            rules=(PromptsFit(),),
            limit_slots=limit,
            max_queued=MAX_QUEUED,
            estimator=estimator,
        )

    @rule(
        wait_s=st.sampled_from((0.0, 0.01, 0.5, 30.0)),
        prediction=wild_predictions,
        prompt_tokens=st.sampled_from((0, 10, 200)),
        shape=st.sampled_from(((1, None), (1, 100), (2, None))),
    )
    def arrives(
        self,
        wait_s: float,
        prediction: Prediction,
        prompt_tokens: int,
        shape: tuple[int, int | None],
    ) -> None:
        self.now += wait_s
        self.count += 1
        request = Request(
            id=RequestId(f"r{self.count}"),
            arrived_at=self.now,
            prompt_tokens=prompt_tokens,
            prediction=prediction,
            slots=shape[0],
            max_tokens=shape[1],
        )
        self.offer(request)

    def offer(self, request: Request) -> None:
        match self.gate.offer(request, now=self.now):
            case Admitted():
                self.running[request.id] = request
                self.check_order([request.id])
            case Queued(displaced):
                assert displaced is None
                self.queued[request.id] = request
            case Rejected(Reason.TOO_LARGE):
                assert request.slots > max(self.limit, 1)
            case Rejected(reason):
                assert reason is Reason.QUEUE_FULL
                assert len(self.queued) == MAX_QUEUED

    @precondition(lambda self: self.running or self.queued)
    @rule(
        data=st.data(),
        wait_s=st.sampled_from((0.0, 0.3, 4.0)),
        output_tokens=st.sampled_from((None, 0, 40)),
    )
    def leaves(self, data: st.DataObject, wait_s: float, output_tokens: int | None) -> None:
        self.now += wait_s
        request_id = data.draw(st.sampled_from(sorted([*self.running, *self.queued])))
        self.leave(request_id, output_tokens)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(1, 50))
    def ends_its_slice(self, data: st.DataObject, tokens: int) -> None:
        """It comes again under the same id, with what it has made so far."""
        request = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        self.now += 0.1
        self.leave(request.id, None)
        self.offer(replace(request, generated_tokens=request.generated_tokens + tokens))

    def leave(self, request_id: RequestId, output_tokens: int | None) -> None:
        self.running.pop(request_id, None)
        self.queued.pop(request_id, None)
        self.took(self.gate.leave(request_id, now=self.now, output_tokens=output_tokens))
        assert list(self.gate.leave(request_id, now=self.now, output_tokens=output_tokens)) == []
        with pytest.raises(KeyError):
            self.gate.standing(request_id)

    @precondition(lambda self: self.running or self.queued)
    @rule(data=st.data(), prediction=wild_predictions)
    def late_prediction(self, data: st.DataObject, prediction: Prediction) -> None:
        request_id = data.draw(st.sampled_from(sorted([*self.running, *self.queued])))
        self.took(self.gate.update(request_id, prediction=prediction, now=self.now))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(0, 9))
    def progress(self, data: st.DataObject, tokens: int) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.running)))
        self.took(self.gate.update(request_id, generated=tokens, now=self.now))

    @rule(wait_s=st.sampled_from((0.0, 5.0, 500.0)))
    def rekey(self, wait_s: float) -> None:
        self.now += wait_s
        self.took(self.gate.rekey(now=self.now))

    @rule(limit=st.integers(0, 4))
    def resize(self, limit: int) -> None:
        self.limit = limit
        self.took(self.gate.resize(limit, now=self.now))

    def took(self, admitted: Sequence[RequestId]) -> None:
        """These run now: no more than fit, and none that was not waiting."""
        for request_id in admitted:
            self.running[request_id] = self.queued.pop(request_id)
        self.check_order(admitted)

    def check_order(self, admitted: Sequence[RequestId]) -> None:
        """Nobody who still waits has a smaller key than those who were just admitted."""
        if not admitted:
            return
        assert self.gate.in_flight_slots <= self.limit
        keys = [self.gate.standing(request_id).key for request_id in admitted]
        assert keys == sorted(keys)
        for request_id, request in self.queued.items():
            if request.slots <= self.limit:  # what is wider stands behind all others
                assert keys[-1] <= self.gate.standing(request_id).key

    @invariant()
    def nobody_is_lost_or_doubled(self) -> None:
        if not self.limit and not self.count:
            return
        assert not self.running.keys() & self.queued.keys()
        assert self.gate.in_flight_slots == sum(r.slots for r in self.running.values())
        assert self.gate.queued_requests == len(self.queued)
        standings = {request_id: self.gate.standing(request_id) for request_id in self.queued}
        order = sorted(
            self.queued,
            key=lambda name: (self.queued[name].slots > self.limit, standings[name].key),
        )
        ranked = [standings[request_id] for request_id in order]
        assert sorted(standing.position for standing in ranked) == list(range(len(ranked)))
        by_position = sorted(ranked, key=lambda standing: standing.position)
        assert [standing.key for standing in by_position] == [standing.key for standing in ranked]
        assert not any(math.isnan(part) for standing in ranked for part in standing.key)

    @invariant()
    def nothing_waits_beside_a_free_slot(self) -> None:
        for request_id, request in self.queued.items():
            if self.gate.standing(request_id).position == 0:
                free = self.limit - self.gate.in_flight_slots
                fits = prompts_fit(request, list(self.running.values()))
                assert request.slots > free or not fits


def test_there_are_policies_to_test() -> None:
    assert {"FCFS", "SSJF"} < set(POLICIES)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_gate_keeps_its_invariants_under_every_policy(name: str) -> None:
    machine = type("Machine", (PolicyMachine,), {"policy_name": name})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=8, stateful_step_count=30, deadline=None)
    )
