"""The gate by example; the state machine in tests/property covers combinations."""

from __future__ import annotations

import pytest
from llmservice_sidecar.core.decision import Admitted, Decision, Queued, Rejected
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId


def rid(name: str) -> RequestId:
    return RequestId(name)


def request(name: str, *, at: float = 0.0, tokens: float = 100.0, slots: int = 1) -> Request:
    prediction = Prediction(tokens, tokens, "test")
    return Request(id=rid(name), arrived_at=at, prompt_tokens=0, prediction=prediction, slots=slots)


def gate(
    *,
    policy: OrderingPolicy | None = None,
    limit_slots: int = 1,
    max_queued: int = 100,
    max_queued_tokens: float | None = None,
    learned: bool = True,
) -> Gate:
    """A gate; `learned`: it has seen that a predicted token takes 10 ms."""
    estimator = WorkEstimator()
    for _ in range(8 if learned else 0):
        estimator.rates.observe(1.0, predicted_tokens=100.0, output_tokens=100)
    return Gate(
        policy=policy or Ssjf(),
        limit_slots=limit_slots,
        max_queued=max_queued,
        max_queued_tokens=max_queued_tokens,
        estimator=estimator,
    )


def queued(decision: Decision) -> Queued:
    assert isinstance(decision, Queued)
    return decision


def test_short_request_overtakes_a_long_one() -> None:
    door = gate()
    door.offer(request("first"), now=0.0)
    door.offer(request("long", at=0.1, tokens=1000.0), now=0.1)
    queued(door.offer(request("short", at=0.2, tokens=10.0), now=0.2))
    short = door.standing(rid("short"))
    assert (short.position, short.depth) == (0, 2)
    assert door.leave(rid("first"), now=1.0) == [rid("short")]
    assert door.standing(rid("short")).overtook == 1
    long = door.standing(rid("long"))
    assert (long.overtaken_by, long.overtaken_by_ids) == (1, (rid("short"),))


def test_arrival_order_until_costs_are_known() -> None:
    door = gate(learned=False)
    door.offer(request("first"), now=0.0)
    door.offer(request("long", at=0.1, tokens=1000.0), now=0.1)
    door.offer(request("short", at=0.2, tokens=1.0), now=0.2)
    assert door.leave(rid("first"), now=1.0) == [rid("long")]
    assert door.backlog_s(now=1.0) == 0.0
    assert door.retry_after_s(now=1.0) == 1.0


def test_ties_run_in_arrival_order() -> None:
    door = gate()
    for name in ("running", "a", "b", "c"):
        door.offer(request(name), now=0.0)
    order = [*door.leave(rid("running"), now=1.0), *door.leave(rid("a"), now=2.0)]
    assert order == [rid("a"), rid("b")]


def test_a_wide_head_waits_for_enough_slots_and_holds_the_others() -> None:
    door = gate(policy=Fcfs(), limit_slots=3)
    for name in ("a", "b"):
        assert door.offer(request(name), now=0.0) == Admitted()
    queued(door.offer(request("wide", at=1.0, slots=2), now=1.0))
    queued(door.offer(request("narrow", at=2.0), now=2.0))
    assert door.leave(rid("a"), now=3.0) == [rid("wide")]
    assert door.in_flight_slots == 3
    assert door.leave(rid("wide"), now=4.0) == [rid("narrow")]


def test_removing_a_wide_head_lets_the_next_run() -> None:
    door = gate(policy=Fcfs(), limit_slots=2)
    door.offer(request("a"), now=0.0)
    door.offer(request("wide", at=1.0, slots=2), now=1.0)
    door.offer(request("narrow", at=2.0), now=2.0)
    assert door.leave(rid("wide"), now=3.0) == [rid("narrow")]


def test_a_request_wider_than_a_shrunk_limit_does_not_block_the_others() -> None:
    door = gate(policy=Fcfs(), limit_slots=2)
    door.offer(request("a", slots=2), now=0.0)
    door.offer(request("wide", at=1.0, slots=2), now=1.0)
    door.offer(request("narrow", at=2.0), now=2.0)
    assert list(door.resize(1, now=3.0)) == []
    assert door.leave(rid("a"), now=4.0) == [rid("narrow")]
    assert list(door.leave(rid("narrow"), now=5.0)) == []
    assert door.resize(2, now=6.0) == [rid("wide")]


def test_a_request_wider_than_the_limit_is_rejected() -> None:
    assert gate(limit_slots=2).offer(request("a", slots=3), now=0.0) == Rejected(Reason.TOO_LARGE)


def test_room_for_several_admits_several() -> None:
    door = gate(policy=Fcfs())
    for number in range(4):
        door.offer(request(f"r{number}", at=float(number)), now=float(number))
    assert door.resize(3, now=9.0) == [rid("r1"), rid("r2")]


def test_a_limit_of_zero_makes_everybody_wait() -> None:
    door = gate(limit_slots=0)
    queued(door.offer(request("a"), now=0.0))
    assert door.resize(1, now=1.0) == [rid("a")]


def test_the_queue_is_bounded_by_count() -> None:
    door = gate(max_queued=1)
    door.offer(request("a"), now=0.0)
    door.offer(request("b"), now=0.0)
    assert door.offer(request("c"), now=0.0) == Rejected(Reason.QUEUE_FULL)
    assert door.queued_requests == 1
    door.set_bounds(max_queued=2, max_queued_tokens=None)
    queued(door.offer(request("c"), now=0.0))


def test_a_queue_of_zero_still_admits_into_a_free_slot() -> None:
    assert gate(max_queued=0).offer(request("a"), now=0.0) == Admitted()


def test_the_queue_is_bounded_by_predicted_tokens() -> None:
    door = gate(max_queued_tokens=250.0)
    for name in ("running", "a", "b"):
        door.offer(request(name), now=0.0)
    assert door.offer(request("c"), now=0.0) == Rejected(Reason.QUEUED_TOKENS)
    assert door.queued_tokens == 200.0
    queued(door.offer(request("d", tokens=50.0), now=0.0))


def test_a_closed_gate_refuses_and_goes_on_serving() -> None:
    door = gate()
    door.offer(request("a"), now=0.0)
    door.offer(request("b"), now=0.0)
    door.close()
    assert door.offer(request("c"), now=0.0) == Rejected(Reason.DRAINING)
    assert door.leave(rid("a"), now=1.0) == [rid("b")]
    door.reopen()
    queued(door.offer(request("c"), now=2.0))


@pytest.mark.parametrize("held", ["running", "queued"])
def test_an_id_is_at_the_gate_once(held: str) -> None:
    door = gate()
    door.offer(request("running"), now=0.0)
    door.offer(request("queued"), now=0.0)
    with pytest.raises(ValueError, match="already at the gate"):
        door.offer(request(held), now=1.0)


def test_an_unknown_id_changes_nothing() -> None:
    door = gate()
    assert list(door.leave(rid("ghost"), now=0.0)) == []
    assert list(door.update(rid("ghost"), generated=1, now=0.0)) == []
    assert list(door.update(rid("ghost"), prediction=Prediction(1, 1, "x"), now=0.0)) == []
    with pytest.raises(KeyError, match="ghost"):
        door.standing(rid("ghost"))


def test_progress_of_a_queued_request_changes_nothing() -> None:
    door = gate()
    door.offer(request("a"), now=0.0)
    door.offer(request("b"), now=0.0)
    assert list(door.update(rid("b"), generated=5, now=0.0)) == []


def test_a_late_prediction_moves_a_queued_request() -> None:
    door = gate()
    door.offer(request("running"), now=0.0)
    door.offer(request("a", at=0.1, tokens=300.0), now=0.1)
    door.offer(request("b", at=0.2, tokens=300.0), now=0.2)
    door.update(rid("b"), prediction=Prediction(5.0, 5.0, "model"), now=0.3)
    assert door.standing(rid("b")).position == 0
    assert door.queued_tokens == 305.0
    assert door.leave(rid("running"), now=1.0) == [rid("b")]


def test_a_late_prediction_may_let_a_request_pass_a_wide_head() -> None:
    door = gate(limit_slots=2)
    door.offer(request("running"), now=0.0)
    door.offer(request("wide", at=0.1, slots=2), now=0.1)
    door.offer(request("b", at=0.2, tokens=1000.0), now=0.2)
    prediction = Prediction(1.0, 1.0, "model")
    assert door.update(rid("b"), prediction=prediction, now=0.3) == [rid("b")]


def test_a_late_prediction_of_a_running_request_changes_the_backlog() -> None:
    door = gate()
    door.offer(request("a"), now=0.0)
    assert door.backlog_s(now=0.0) == pytest.approx(1.0)
    door.update(rid("a"), prediction=Prediction(400.0, 400.0, "model"), now=0.0)
    assert door.backlog_s(now=0.0) == pytest.approx(4.0)


def test_backlog_is_work_per_slot_and_retry_is_half_of_it() -> None:
    door = gate(limit_slots=2)
    for name in ("a", "b", "c", "d"):
        door.offer(request(name, tokens=1000.0), now=0.0)
    assert door.backlog_s(now=0.0) == pytest.approx(20.0)
    assert door.retry_after_s(now=0.0) == pytest.approx(10.0)
    door.update(rid("a"), generated=1, now=0.0)
    door.update(rid("a"), generated=3, now=4.0)  # the first token stays where it was
    assert door.backlog_s(now=5.0) == pytest.approx(17.5)


def test_retry_after_has_bounds() -> None:
    door = gate()
    assert door.retry_after_s(now=0.0) == 1.0
    door.offer(request("a", tokens=1e6), now=0.0)
    assert door.retry_after_s(now=0.0) == 300.0


@pytest.mark.parametrize(
    ("first_token_at", "expected_s"),
    [
        pytest.param(None, 3.0, id="from admission without a sign of the first token"),
        pytest.param(1.0, 2.0, id="from the first token"),
    ],
)
def test_a_complete_answer_teaches_seconds_per_token(
    first_token_at: float | None, expected_s: float
) -> None:
    door = gate(learned=False, limit_slots=8)
    for number in range(8):
        door.offer(request(f"r{number}"), now=0.0)
        if first_token_at is not None:
            door.update(rid(f"r{number}"), generated=1, now=first_token_at)
    for number in range(8):
        door.leave(rid(f"r{number}"), now=3.0, output_tokens=99)
    door.offer(request("next"), now=3.0)
    assert door.backlog_s(now=3.0) == pytest.approx(expected_s / 8)


def test_a_broken_answer_teaches_nothing() -> None:
    door = gate(learned=False, limit_slots=20)
    for number in range(20):
        door.offer(request(f"r{number}"), now=0.0)
        door.leave(rid(f"r{number}"), now=1.0, output_tokens=None)
    door.offer(request("next"), now=1.0)
    assert door.backlog_s(now=1.0) == 0.0


def test_a_new_policy_orders_all_that_wait() -> None:
    door = gate(policy=Fcfs())
    door.offer(request("running"), now=0.0)
    door.offer(request("long", at=0.1, tokens=900.0), now=0.1)
    door.offer(request("short", at=0.2, tokens=9.0), now=0.2)
    assert list(door.set_policy(Ssjf(tail_weight=0.0), now=0.3)) == []
    assert door.policy == Ssjf(tail_weight=0.0)
    assert door.gamma_per_s == 0.0
    assert door.leave(rid("running"), now=1.0) == [rid("short")]


def test_keys_are_remade_when_gamma_has_moved() -> None:
    door = gate()
    door.offer(request("running", tokens=2000.0), now=0.0)
    door.offer(request("a", tokens=500.0), now=0.0)
    before = door.standing(rid("a"))
    for number in range(5):
        door.offer(request(f"more{number}", tokens=5000.0), now=0.0)
    after = door.standing(rid("a"))
    assert after.gamma_per_s < before.gamma_per_s
    assert after.key < before.key
