"""The kept sums of work in flight against a plain walk over all that runs."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.fair_share import Charge
from llmservice_sidecar.core.in_flight import Flight, InFlight, slots_left_s
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running
from strategies import predictions

STANDING = Standing(key=(0.0,), position=0, depth=0, gamma_per_s=1.0)
CHARGE = Charge(contest=0, tenant="", tokens=0.0)
COSTS = (
    ServiceCosts(s_per_token=0.01, s_per_prefill_token=0.001, step_s=0.01),
    ServiceCosts(s_per_token=0.5, s_per_prefill_token=0.0, step_s=0.1),
)


def plain_left_s(running: Running, costs: ServiceCosts, now: float) -> float:
    """Slot-seconds still to come; they decay from the first token on."""
    request = running.request
    if running.first_token_at is None:
        return costs.cost_s(request)
    served_s = (now - running.first_token_at) * request.slots
    return max(0.0, costs.s_per_token * request.predicted_tokens - served_s)


class InFlightMachine(RuleBasedStateMachine):
    """Time passes, first tokens come, predictions change, and so do the rates."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = InFlight()
        self.model: dict[RequestId, Flight] = {}
        self.costs: ServiceCosts | None = None
        self.now = 0.0
        self.count = 0

    @rule(wait_s=st.sampled_from((0.1, 1.0, 7.0, 100.0)))
    def time_passes(self, wait_s: float) -> None:
        self.now += wait_s

    @rule(
        prediction=predictions,
        prompt_tokens=st.sampled_from((0, 300)),
        slots=st.sampled_from((1, 1, 3)),
    )
    def add(self, prediction: Prediction, prompt_tokens: int, slots: int) -> None:
        self.count += 1
        request = Request(
            id=RequestId(f"r{self.count}"),
            arrived_at=self.now,
            prompt_tokens=prompt_tokens,
            prediction=prediction,
            slots=slots,
        )
        flight = Flight(Running(request=request, admitted_at=self.now), STANDING, CHARGE)
        self.in_flight.add(flight)
        self.model[request.id] = flight

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.model)))
        assert self.in_flight.remove(request_id) is self.model.pop(request_id)
        assert self.in_flight.remove(request_id) is None
        assert request_id not in self.in_flight

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        flight = self.model[data.draw(st.sampled_from(sorted(self.model)))]
        if flight.running.first_token_at is None:
            self.in_flight.generated(flight, 1, now=self.now)
            assert flight.running.first_token_at == self.now

    @precondition(lambda self: self.model)
    @rule(data=st.data(), prediction=predictions)
    def late_prediction(self, data: st.DataObject, prediction: Prediction) -> None:
        flight = self.model[data.draw(st.sampled_from(sorted(self.model)))]
        self.in_flight.predicted(flight, prediction)
        assert flight.running.request.prediction == prediction

    @rule(costs=st.sampled_from((*COSTS, None)))
    def use(self, costs: ServiceCosts | None) -> None:
        self.costs = costs
        self.in_flight.use(costs)

    @invariant()
    def sums_equal_a_walk(self) -> None:
        flights = list(self.model.values())
        assert list(self.in_flight) == flights
        assert len(self.in_flight) == len(flights)
        assert self.in_flight.slots == sum(flight.running.request.slots for flight in flights)
        left_s = 0.0
        if self.costs is not None:
            left_s = sum(plain_left_s(item.running, self.costs, self.now) for item in flights)
        assert self.in_flight.left_s(now=self.now) == pytest.approx(left_s, abs=1e-6)


TestInFlight = InFlightMachine.TestCase
TestInFlight.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    ("first_token_at", "slots", "left_s"),
    [
        pytest.param(None, 1, [1.3], id="before its first token nothing is done"),
        pytest.param(9.75, 1, [0.75], id="then the prompt is done, and the answer goes on"),
        pytest.param(9.75, 2, [0.75, 0.75], id="in all its slots at once"),
        pytest.param(2.0, 1, [1.2], id="outliving its prediction leaves a part of its age"),
    ],
)
def test_what_is_left_of_each_slot(
    first_token_at: float | None, slots: int, left_s: list[float]
) -> None:
    request = Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=300,
        prediction=Prediction(100.0, 100.0, "test"),
        slots=slots,
    )
    running = Running(request=request, admitted_at=0.0, first_token_at=first_token_at)
    flight = Flight(running, STANDING, CHARGE)
    assert slots_left_s([flight], COSTS[0], now=10.0) == pytest.approx(left_s)
