"""The gate as a state machine beside its naive twin: same decisions, same order, same counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from fakes.naive_gate import NaiveGate
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
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running
from strategies import predictions

MAX_QUEUED = 12
MAX_QUEUED_TOKENS = 60_000.0
MAX_PROMPTS = 500

twin_policies = st.builds(
    make_policy,
    st.sampled_from(("FCFS", "SSJF")),
    tail_weight=st.sampled_from((0.0, 0.3, 1.0, 5.0)),
)


def prompts_fit(request: Request, running: list[Request]) -> bool:
    return sum(other.prompt_tokens for other in [*running, request]) <= MAX_PROMPTS


class PromptsFit:
    """A rule like a memory forecast: prompts of all that run are bounded."""

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return prompts_fit(request, [item.request for item in running])


class GateMachine(RuleBasedStateMachine):
    """Drives both gates through everything that can happen to one."""

    first_policy: OrderingPolicy = Fcfs()

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0

    @initialize(
        limit=st.integers(1, 9),
        ruled=st.booleans(),
        taught=st.booleans(),
        completed=st.sampled_from((0, 7, 8, 100)),
    )
    def start(self, limit: int, ruled: bool, taught: bool, completed: int) -> None:
        estimator = WorkEstimator()
        for _ in range(8 if taught else 0):
            estimator.rates.observe(1.0, predicted_tokens=50.0, output_tokens=100)
        self.gate = Gate(
            policy=self.first_policy,
            rules=(PromptsFit(),) if ruled else (),
            limit_slots=limit,
            max_queued=MAX_QUEUED,
            max_queued_tokens=MAX_QUEUED_TOKENS,
            estimator=estimator,
        )
        self.twin = NaiveGate(
            boosted=self.first_policy.name == "SSJF",
            theta=self.first_policy.tail_weight,
            limit=limit,
            max_queued=MAX_QUEUED,
            max_queued_tokens=MAX_QUEUED_TOKENS,
        )
        if ruled:
            self.twin.rule = prompts_fit
        for _ in range(8 if taught else 0):
            self.twin.rates.finished(1.0, 50.0, 100)
        self.twin.remake_keys(0.0)
        for _ in range(completed):
            self.serve_one()

    def serve_one(self) -> None:
        """One request alone: the estimator learns what a token costs from it."""
        self.count += 1
        request = Request(
            id=RequestId(f"r{self.count}"),
            arrived_at=self.now,
            prompt_tokens=0,
            prediction=Prediction(100.0, 100.0, "test"),
        )
        assert isinstance(self.gate.offer(request, now=self.now), Admitted)
        assert self.twin.offer(request, self.now) == "admitted"
        self.now += 1.0
        self.leave(request.id, output=100)

    def check(self, admitted: Sequence[RequestId], expected: Sequence[RequestId]) -> None:
        """The same ids in the same order; an admission never takes in flight above the limit."""
        assert list(admitted) == list(expected)
        if admitted:
            assert self.gate.in_flight_slots <= self.gate.limit_slots
        for request_id in admitted:
            self.check_overtaking(request_id)
        # After an offer it may be another's turn, whom that call cannot return.
        assert self.twin.turn(self.now) is None

    def check_overtaking(self, request_id: RequestId) -> None:
        standing, entry = self.gate.standing(request_id), self.twin.running[request_id]
        assert standing.overtaken_by == len(entry.overtakers)
        ahead = sorted(entry.overtakers, key=lambda other: other.number)
        assert standing.overtaken_by_ids == tuple(other.request.id for other in ahead[:8])
        assert standing.position == 0
        assert standing.overtook == entry.overtook

    @rule(
        wait_s=st.sampled_from((0.0, 0.01, 0.5, 3.0)),
        prediction=predictions,
        prompt_tokens=st.sampled_from((0, 10, 200)),
        shape=st.sampled_from(((1, None), (1, None), (1, 1), (2, None), (4, 100))),
        owner=st.sampled_from(((None, 0), ("a", 0), ("b", 0), ("b", 2), ("a", -1))),
        time_s=st.sampled_from((None, None, 0.0, 2.0, 20.0)),
    )
    def offer(
        self,
        wait_s: float,
        prediction: Prediction,
        prompt_tokens: int,
        shape: tuple[int, int | None],
        owner: tuple[str | None, int],
        time_s: float | None,
    ) -> None:
        self.now += wait_s
        self.count += 1
        slots, max_tokens = shape
        request = Request(
            id=RequestId(f"r{self.count}"),
            arrived_at=self.now,
            prompt_tokens=prompt_tokens,
            cached_tokens=prompt_tokens // 4,
            prediction=prediction,
            max_tokens=max_tokens,
            slots=slots,
            tenant=owner[0],
            priority=owner[1],
            deadline_at=None if time_s is None else self.now + time_s,
        )
        decision = self.gate.offer(request, now=self.now)
        expected = self.twin.offer(request, self.now)
        match decision:
            case Admitted():
                assert expected == "admitted"
                assert self.gate.in_flight_slots <= self.gate.limit_slots
                self.check_overtaking(request.id)
            case Queued(displaced):
                assert expected == "queued"
                assert displaced == self.twin.displaced
            case Rejected(reason, estimate_s):
                assert reason == expected
                if reason == "deadline_unreachable":
                    assert estimate_s == pytest.approx(self.twin.estimate)

    @precondition(lambda self: self.twin.running)
    @rule(
        data=st.data(),
        wait_s=st.sampled_from((0.0, 0.2, 2.0)),
        output=st.sampled_from((None, 0, 7, 9000)),
    )
    def running_leaves(self, data: st.DataObject, wait_s: float, output: int | None) -> None:
        self.now += wait_s
        request_id = data.draw(st.sampled_from(sorted(self.twin.running)))
        self.leave(request_id, output=output)

    @precondition(lambda self: self.twin.queued)
    @rule(data=st.data())
    def queued_leaves(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.twin.queued))
        self.leave(entry.request.id, output=None)

    def leave(self, request_id: RequestId, *, output: int | None) -> None:
        admitted = self.gate.leave(request_id, now=self.now, output_tokens=output)
        self.check(admitted, self.twin.leave(request_id, self.now, output=output))
        assert list(self.gate.leave(request_id, now=self.now, output_tokens=output)) == []
        with pytest.raises(KeyError):
            self.gate.standing(request_id)

    @precondition(lambda self: self.twin.running)
    @rule(data=st.data(), tokens=st.sampled_from((0, 1, 9)))
    def progress(self, data: st.DataObject, tokens: int) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.twin.running)))
        assert list(self.gate.update(request_id, generated=tokens, now=self.now)) == []
        self.twin.progress(request_id, tokens, self.now)

    @precondition(lambda self: self.twin.running or self.twin.queued)
    @rule(data=st.data(), prediction=predictions)
    def late_prediction(self, data: st.DataObject, prediction: Prediction) -> None:
        queued = [entry.request.id for entry in self.twin.queued]
        request_id = data.draw(st.sampled_from(queued + sorted(self.twin.running)))
        admitted = self.gate.update(request_id, prediction=prediction, now=self.now)
        if request_id in self.twin.running:
            assert list(admitted) == []
            self.twin.predict(request_id, prediction)
        else:
            self.twin.predict(request_id, prediction)
            self.check(admitted, self.twin.fill(self.now))

    @rule()
    def rekey(self) -> None:
        admitted = self.gate.rekey(now=self.now)
        self.twin.remake_keys(self.now)
        self.check(admitted, self.twin.fill(self.now))

    @rule(limit=st.integers(0, 9))
    def resize(self, limit: int) -> None:
        admitted = self.gate.resize(limit, now=self.now)
        self.twin.limit = limit
        self.twin.remake_keys(self.now)
        self.check(admitted, self.twin.fill(self.now))

    @rule(policy=twin_policies)
    def set_policy(self, policy: OrderingPolicy) -> None:
        admitted = self.gate.set_policy(policy, now=self.now)
        self.twin.boosted, self.twin.theta = policy.name == "SSJF", policy.tail_weight
        self.twin.remake_keys(self.now)
        self.check(admitted, self.twin.fill(self.now))

    @rule(
        caps=st.sampled_from(({}, {0: 1}, {0: 2, -1: 1}, {2: 1, 0: 4})),
        promote_after_s=st.sampled_from((None, 0.0, 0.5, 3.0)),
    )
    def set_classes(self, caps: dict[int, int], promote_after_s: float | None) -> None:
        admitted = self.gate.set_classes(caps=caps, promote_after_s=promote_after_s, now=self.now)
        self.twin.caps = caps
        self.twin.promote_after = math.inf if promote_after_s is None else promote_after_s
        self.twin.remake_keys(self.now)
        self.check(admitted, self.twin.fill(self.now))

    @rule(closed=st.sampled_from((True, False, False)))
    def close_or_reopen(self, closed: bool) -> None:
        self.twin.closed = closed
        if closed:
            self.gate.close()
        else:
            self.gate.reopen()

    @invariant()
    def counts_agree(self) -> None:
        if self.count == 0:
            return
        assert self.gate.in_flight_slots == self.twin.in_flight
        assert self.gate.queued_requests == len(self.twin.queued)
        tokens = sum(entry.request.predicted_tokens for entry in self.twin.queued)
        assert self.gate.queued_tokens == pytest.approx(tokens)
        backlog_s = self.twin.backlog(self.now)
        assert self.gate.backlog_s(now=self.now) == pytest.approx(backlog_s, abs=1e-9)
        assert self.gate.gamma_per_s == pytest.approx(self.twin.gamma)

    @invariant()
    def all_keys_are_of_one_view(self) -> None:
        for position, entry in enumerate(self.twin.order() if self.count else ()):
            standing = self.gate.standing(entry.request.id)
            assert standing.key[-1] == pytest.approx(self.twin.key(entry)[1])
            assert standing.position == position
            assert standing.depth == len(self.twin.queued)
            assert standing.overtaken_by == len(entry.overtakers)
            assert standing.overtaking_bound_s == pytest.approx(self.twin.bound_s(entry))

    @invariant()
    def waits_are_foreseen(self) -> None:
        if self.count == 0 or self.twin.costs is None:
            return
        for entry in self.twin.queued:
            told_s = self.gate.predicted_wait_s(entry.request.id, now=self.now)
            foreseen_s = self.twin.wait_s(entry, self.twin.costs, self.now)
            assert told_s == pytest.approx(foreseen_s, abs=1e-9)


@pytest.mark.parametrize("tail_weight", [1.0, 0.0, 20.0])
@pytest.mark.parametrize("name", ["FCFS", "SSJF"])
def test_gate_equals_its_naive_twin(name: str, tail_weight: float) -> None:
    policy = make_policy(name, tail_weight=tail_weight)
    machine = type("Machine", (GateMachine,), {"first_policy": policy})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=40, stateful_step_count=50, deadline=None)
    )
