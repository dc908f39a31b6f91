"""Who of the traced requests is replayed, and as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from fakes.simulated_traces import SLOTS, Simulated, traces_of
from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.replay.drive import Variant, measured_records, replay_stretch
from llmservice_lab.replay.fit import Fit
from llmservice_lab.replay.recording import Stretch, Taken, recording_of
from llmservice_lab.results import RequestRecord
from llmservice_sidecar.core.request import Outcome

BASE = traces_of(Simulated(count=200))
NUMBER = 100  # a request in the middle of them
SLOW = Fit(
    pod="chat-0",
    step_s=0.1,
    per_decode_s=0.0,
    per_prefill_token_s=0.0,
    late_s=0.0,
    full_s=0.1,
    fastest=1.0,
    slowest=1.0,
    answers=200,
    decode_error=0.0,
    first_token_error=0.0,
    mean_in_flight=1.0,
    max_in_flight=1,
)


def one_stretch(requests: Sequence[TracedRequest]) -> Stretch:
    (stretch,) = recording_of(requests).stretches
    return stretch


def taken_with(**changes: Any) -> Taken:
    """What is made of one request among 199 ordinary ones."""
    requests = [*BASE]
    requests[NUMBER] = msgspec.structs.replace(requests[NUMBER], **changes)
    (taken,) = (
        one for one in one_stretch(requests).taken if one.traced.request_id == f"chat-0-{NUMBER}"
    )
    return taken


NO_TURN: dict[str, Any] = {
    "called_s": None,
    "first_token_s": None,
    "engine_ended_s": None,
    "actual_tokens": None,
    "output_tokens": None,
}


def left_queue(wait_s: float, outcome: str, reason: str) -> dict[str, Any]:
    queued_s = BASE[NUMBER].queued_s or 0.0
    times = {"ended_s": queued_s + wait_s, "left_queue_s": queued_s + wait_s}
    return {**NO_TURN, **times, "queue_wait_s": wait_s, "outcome": outcome, "reason": reason}


def test_a_completed_request_comes_with_its_true_length() -> None:
    taken = taken_with(actual_tokens=77)
    assert taken.counts
    assert taken.row.output_tokens == 77
    assert taken.leave_s is None


def test_who_left_during_the_answer_asks_for_what_came_until_then() -> None:
    first_s = BASE[NUMBER].first_token_s or 0.0
    left: dict[str, Any] = {"outcome": "cancelled", "reason": "client_gone"}
    known = taken_with(**left, output_tokens=9, actual_tokens=None)
    assert (known.counts, known.row.output_tokens) == (False, 9)
    until = {"engine_ended_s": first_s + 0.5, "ended_s": first_s + 0.5}
    unknown = taken_with(**left, **until, output_tokens=None, actual_tokens=None)
    assert unknown.row.output_tokens == pytest.approx(0.5 / 0.021, rel=0.4)


def test_who_left_the_queue_leaves_when_it_left_with_an_assumed_length() -> None:
    taken = taken_with(**left_queue(3.5, "cancelled", "client_gone"), predicted_tokens=60.0)
    assert not taken.counts
    assert taken.leave_s == pytest.approx(3.5)
    assert taken.row.output_tokens == 60


def test_who_was_refused_is_offered_again_with_room_for_as_many_as_there_was() -> None:
    refused = left_queue(0.0, "rejected", "queue_full")
    taken = taken_with(**refused, queued_s=None, depth=None, position=None, max_tokens=10)
    assert taken.leave_s is None
    assert taken.row.output_tokens <= 10
    requests = [*BASE]
    requests[NUMBER] = taken.traced
    depths = [one.depth for one in requests if one.depth is not None]
    assert one_stretch(requests).max_queued == max(depths)
    assert one_stretch(BASE).max_queued is None


def test_a_queue_timeout_is_in_force_for_everybody() -> None:
    requests = [*BASE]
    changes = left_queue(4.0, "evicted", "queue_timeout")
    requests[NUMBER] = msgspec.structs.replace(requests[NUMBER], **changes)
    assert {one.leave_s for one in one_stretch(requests).taken} == {4.0}


def test_who_was_refused_for_what_it_asked_never_competed() -> None:
    requests = [*BASE]
    requests[NUMBER] = msgspec.structs.replace(requests[NUMBER], reason="invalid_request")
    recording = recording_of(requests)
    assert len(recording.stretches[0].taken) == len(BASE) - 1
    assert recording.left_out == {"refused as invalid_request": 1}


def test_a_change_of_policy_begins_a_new_stretch() -> None:
    half = len(BASE) // 2
    changed = [msgspec.structs.replace(one, policy="SSJF", order="SSJF") for one in BASE[half:]]
    recording = recording_of([*BASE[:half], *changed])
    assert [stretch.policy for stretch in recording.stretches] == ["FCFS", "SSJF"]
    only = recording_of([*BASE[:half], *changed], policy="SSJF")
    assert [stretch.policy for stretch in only.stretches] == ["SSJF"]
    assert only.left_out == {"served by FCFS": half}


def test_a_change_of_the_tail_weight_begins_a_new_stretch() -> None:
    half = len(BASE) // 2
    requests = [
        msgspec.structs.replace(one, tail_weight=1.0 if place < half else 0.25)
        for place, one in enumerate(BASE)
    ]
    recording = recording_of(requests)
    assert [stretch.tail_weight for stretch in recording.stretches] == [1.0, 0.25]
    assert one_stretch(BASE).tail_weight is None  # traces that do not say it


def test_a_policy_that_was_never_obeyed_was_not_in_force() -> None:
    shadow = [msgspec.structs.replace(one, policy="SSJF", order="FCFS") for one in BASE]
    assert one_stretch(shadow).policy == "FCFS"
    # An open guard that closed later: the policy was in force, and begins untrusted.
    later = [msgspec.structs.replace(one, order="SSJF") for one in shadow[50:]]
    stretch = one_stretch([*shadow[:50], *later])
    assert (stretch.policy, stretch.starts_trusted) == ("SSJF", False)


def test_the_limit_is_what_was_in_flight_while_somebody_waited() -> None:
    stretch = one_stretch(BASE)
    assert (stretch.slots, stretch.slots_are_sure) == (SLOTS, True)
    calm = one_stretch(traces_of(Simulated(count=200, load=0.1)))
    assert not calm.slots_are_sure
    assert calm.slots < SLOTS


def test_where_nobody_waited_the_limit_is_what_the_spans_say() -> None:
    calm = traces_of(Simulated(count=200, load=0.1))
    told = [msgspec.structs.replace(one, limit_slots=SLOTS) for one in calm]
    stretch = one_stretch(told)
    assert (stretch.slots, stretch.slots_are_sure) == (SLOTS, True)


def test_too_few_answers_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="20 in stretches of fewer than 30 answers"):
        recording_of(BASE[:20])


def replay_of(requests: Sequence[TracedRequest]) -> tuple[Stretch, list[RequestRecord]]:
    """Served by an engine so slow that everybody waits for long."""
    stretch = one_stretch(requests)
    variant = Variant(policy="FCFS", predictor="none", tail_weight=1.0, slots=1)
    return stretch, replay_stretch(stretch, SLOW, variant, on_ended=lambda _ended: None)


def test_the_impatient_leave_a_queue_that_does_not_move() -> None:
    changes = left_queue(3.5, "cancelled", "client_gone")
    requests = [*BASE]
    requests[NUMBER] = msgspec.structs.replace(requests[NUMBER], **changes)
    requests[NUMBER + 1] = msgspec.structs.replace(requests[NUMBER + 1], timeout_s=2.0)
    stretch, records = replay_of(requests)
    by_id = {
        one.traced.request_id: record for one, record in zip(stretch.taken, records, strict=True)
    }
    assert by_id[f"chat-0-{NUMBER}"].outcome is Outcome.CANCELLED
    late = by_id[f"chat-0-{NUMBER + 1}"].outcome
    assert late in {Outcome.EVICTED, Outcome.REJECTED}  # refused at once where it is known
    outcomes = [record.outcome for record in records]
    assert outcomes.count(Outcome.COMPLETED) == len(BASE) - 2


def test_what_was_spent_outside_of_queue_and_engine_stays() -> None:
    moved = [
        msgspec.structs.replace(one, arrived_s=one.arrived_s - 0.25, ended_s=one.ended_s + 0.5)
        for one in BASE
    ]
    plain, outside = replay_of(BASE)[1], replay_of(moved)[1]
    for one, other in zip(plain, outside, strict=True):
        assert (other.finished_s or 0) - other.arrival_s == pytest.approx(
            (one.finished_s or 0) - one.arrival_s + 0.75
        )
        assert (other.admitted_s or 0) - other.arrival_s == pytest.approx(
            (one.admitted_s or 0) - one.arrival_s
        )


def test_measured_records_are_the_traces_own_times() -> None:
    stretch = one_stretch(traces_of(replace(Simulated(), count=50)))
    for one, record in zip(stretch.taken, measured_records(stretch), strict=True):
        assert record.finished_s is not None
        assert record.finished_s - record.arrival_s == pytest.approx(one.traced.total_s)
