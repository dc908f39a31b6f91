"""What is said of a queue is what the gate then does: same order, same starts, nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from llmservice_sidecar.core.decision import Admitted
from llmservice_sidecar.core.foresight import Foreseen, Hold
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running

ALL = 10_000
CAPS = {2: 3}
NOW = 100.0


class Door:
    """Lets nobody in until it is opened: then all go in at once, in the gate's order."""

    def __init__(self) -> None:
        self.is_open = False

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return self.is_open


@dataclass
class Arrival:
    """One request as drawn."""

    tenant: str
    priority: int
    tokens: float
    slots: int
    after_s: float


arrivals = st.lists(
    st.builds(
        Arrival,
        tenant=st.sampled_from(("a", "b", "c")),
        priority=st.sampled_from((0, 0, 0, 2, -1)),
        tokens=st.sampled_from((1.0, 40.0, 300.0, 5_000.0, 20_000.0)),
        slots=st.sampled_from((1, 1, 1, 2, 4)),
        after_s=st.sampled_from((0.0, 0.0, 1.0, 30.0)),
    ),
    max_size=24,
)


def make_gate(policy: str, *, rules: Sequence[Door] = (), limit: int, taught: bool) -> Gate:
    estimator = WorkEstimator()
    for _ in range(8 if taught else 0):
        estimator.rates.observe(1.0, predicted_tokens=50.0, output_tokens=100)
    return Gate(
        policy=make_policy(policy, tail_weight=0.3),
        rules=rules,
        limit_slots=limit,
        max_queued=ALL,
        estimator=estimator,
    )


def offer_all(gate: Gate, drawn: Sequence[Arrival]) -> dict[RequestId, int]:
    """Offer them one after the other up to `NOW`; the number of each that waits."""
    now, numbers = 0.0, dict[RequestId, int]()
    for number, arrival in enumerate(drawn):
        now = min(now + arrival.after_s, NOW)
        request = Request(
            id=RequestId(f"r{number}"),
            arrived_at=now,
            prompt_tokens=10,
            prediction=Prediction(arrival.tokens, 2 * arrival.tokens, "test"),
            slots=arrival.slots,
            tenant=arrival.tenant,
            priority=arrival.priority,
        )
        if not isinstance(gate.offer(request, now=now), Admitted):
            numbers[request.id] = number
    return numbers


def ids(foreseen: Sequence[Foreseen]) -> list[RequestId]:
    return [row.item.request.id for row in foreseen]


@settings(max_examples=120)
@given(
    drawn=arrivals,
    policy=st.sampled_from(("FCFS", "SSJF")),
    limit=st.sampled_from((1, 3, 12, 60)),
    promote_after_s=st.sampled_from((None, 0.0, 31.0, 1e6)),
    capped=st.booleans(),
)
def test_rows_stand_in_the_order_in_which_the_gate_admits(
    drawn: list[Arrival],
    policy: str,
    limit: int,
    promote_after_s: float | None,
    capped: bool,
) -> None:
    door = Door()
    gate = make_gate(policy, rules=(door,), limit=limit, taught=True)
    gate.set_classes(caps=CAPS if capped else {}, promote_after_s=promote_after_s, now=0.0)
    waiting = offer_all(gate, drawn)
    gate.rekey(now=NOW)
    foreseen = gate.outlook.foresee(now=NOW, rows=ALL)
    assert len(foreseen) == gate.queued_requests == len(set(ids(foreseen)))
    assert set(ids(foreseen)) <= set(waiting)
    door.is_open = True
    admitted = list(gate.rekey(now=NOW))
    # The gate stops at what does not fit into the limit or under a cap.
    assert ids(foreseen)[: len(admitted)] == admitted
    for row in foreseen[: len(admitted)]:
        assert row.hold in (None, Hold.RULE)


@settings(max_examples=50)
@given(drawn=arrivals, limit=st.integers(1, 6), rows=st.integers(0, 50))
def test_starts_never_go_back_and_each_row_counts_those_before_it(
    drawn: list[Arrival], limit: int, rows: int
) -> None:
    gate = make_gate("SSJF", limit=limit, taught=True)
    offer_all(gate, drawn)
    foreseen = gate.outlook.foresee(now=NOW, rows=rows)
    assert len(foreseen) == min(rows, gate.queued_requests)
    starts = [row.starts_in_s for row in foreseen]
    known = [start for start in starts if start is not None]
    assert known == sorted(known)
    assert starts[: len(known)] == known  # unknown from the first that is too wide on
    for position, row in enumerate(foreseen):
        assert sum(row.ahead) == position


@settings(max_examples=50)
@given(drawn=arrivals, limit=st.integers(1, 6), policy=st.sampled_from(("FCFS", "SSJF")))
def test_a_single_tenants_starts_are_those_that_its_clients_are_told(
    drawn: list[Arrival], limit: int, policy: str
) -> None:
    for arrival in drawn:
        arrival.tenant, arrival.priority, arrival.slots = "a", 0, 1
    gate = make_gate(policy, limit=limit, taught=True)
    offer_all(gate, drawn)
    for position, row in enumerate(gate.outlook.foresee(now=NOW, rows=ALL)):
        request_id = row.item.request.id
        assert row.starts_in_s == gate.predicted_wait_s(request_id, now=NOW)
        assert gate.standing(request_id).position == position
        assert row.ahead.arrived_earlier + row.ahead.smaller_key == position


@settings(max_examples=50)
@given(drawn=arrivals, limit=st.integers(1, 6), taught=st.booleans())
def test_asking_changes_nothing(drawn: list[Arrival], limit: int, taught: bool) -> None:
    asked, left_alone = (make_gate("SSJF", limit=limit, taught=taught) for _ in range(2))
    for gate in (asked, left_alone):
        offer_all(gate, drawn)
    first = asked.outlook.foresee(now=NOW, rows=ALL)
    assert ids(asked.outlook.foresee(now=NOW, rows=ALL)) == ids(first)
    assert taught or all(row.starts_in_s is None for row in first)
    assert asked.resize(10**6, now=NOW) == left_alone.resize(10**6, now=NOW)
