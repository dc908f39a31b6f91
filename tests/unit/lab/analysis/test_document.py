"""The figures of the report: parts add up, tenths are tenths, orders gain what they should."""

from __future__ import annotations

import math

import msgspec
import pytest
from fakes.traced import STEP_S, Load, requests_of
from llmservice_lab.analysis.breakdown import NO_TENANT, OTHERS
from llmservice_lab.analysis.document import Report, analyse
from llmservice_lab.analysis.record import Reading, Told, TracedRequest


def report(requests: list[TracedRequest], **options: float | int) -> Report:
    reading = Reading(source="test", requests=requests, told=Told())
    return analyse(reading, **options)  # pyright: ignore[reportArgumentType] - as the tests give them


BUSY = requests_of(Load(count=1000, utilisation=1.0, policy="FCFS"))
FOUND = report(BUSY)


def test_the_parts_of_every_group_add_up_to_its_time() -> None:
    groups = [*FOUND.by_percentile, *FOUND.by_length_decile, *FOUND.by_tenant]
    assert len(groups) == 6 + 10 + 3
    for one in groups:
        parts = (one.queue_s, one.prefill_s, one.decode_s, one.engine_s, one.client_s, one.other_s)
        assert sum(parts) == pytest.approx(one.total_s, abs=1e-5)


def test_every_completed_request_is_in_one_decile_and_one_tenant() -> None:
    assert sum(one.n for one in FOUND.by_length_decile) == len(BUSY)
    assert sum(one.n for one in FOUND.by_tenant) == len(BUSY)
    assert {one.label for one in FOUND.by_tenant} == {"search", "support", NO_TENANT}


def test_many_tenants_are_told_as_others() -> None:
    many = [
        msgspec.structs.replace(one, tenant=f"t{number % 40}") for number, one in enumerate(BUSY)
    ]
    found = report(many).by_tenant
    assert len(found) == 21
    assert found[-1].label == OTHERS
    assert sum(one.n for one in found) == len(BUSY)


def test_the_slowest_twentieth_is_slow_and_the_worst_come_first() -> None:
    slow = FOUND.slow
    assert slow.requests == 50
    totals = [one.total_s for one in slow.listed]
    assert totals == sorted(totals, reverse=True)
    assert sum(one.requests for one in slow.causes) == slow.requests
    assert len(report(BUSY, listed=7).slow.listed) == 7
    assert report(BUSY, threshold_s=0.0).slow.requests == len(BUSY)


def test_overtakers_are_told_with_their_lengths() -> None:
    found = report(requests_of(Load(count=600, utilisation=1.3, policy="SSJF")))
    one = max(found.slow.listed, key=lambda slow: slow.overtaken_by)
    assert one.overtaken_by > len(one.overtakers) == 8
    assert all(other.arrived_after_s > 0 for other in one.overtakers)
    assert all(other.actual_tokens is not None for other in one.overtakers)


def test_calibration_finds_the_error_that_was_put_in() -> None:
    every = FOUND.calibration[0]
    assert every.n == len(BUSY)
    assert every.tau == pytest.approx(0.8, abs=0.05)
    assert every.coverage_p90 == pytest.approx(0.91, abs=0.03)
    assert sum(one.n for one in every.bins) == every.n
    inverted = [
        msgspec.structs.replace(one, predicted_tokens=1e4 / (one.actual_tokens or 1))
        for one in BUSY
    ]
    assert (report(inverted).calibration[0].tau or 0.0) < -0.9


def test_slots_and_order_are_found_from_the_traces_alone() -> None:
    assert FOUND.pressure.slots == 8
    assert FOUND.pressure.per_token_full_s == pytest.approx(STEP_S, rel=0.05)
    gain = FOUND.order_gain
    assert gain is not None
    waited_s = sum(one.wait_s for one in BUSY) / len(BUSY)
    assert gain.arrival_order_s == pytest.approx(waited_s, rel=0.02)
    assert gain.true_order_s <= gain.predicted_order_s < gain.arrival_order_s
    assert "switch_policy" in {one.action for one in FOUND.recommendations}


def test_refused_requests_are_counted_by_reason_and_cause() -> None:
    refused = [
        msgspec.structs.replace(
            one, outcome="rejected", reason="queue_full", called_s=None, first_token_s=None,
            engine_ended_s=None, queue_wait_s=None, left_queue_s=one.queued_s,
            ended_s=one.arrived_s + 0.001,
        )
        for one in BUSY[:30]
    ]  # fmt: skip
    found = report([*refused, *BUSY[30:]])
    assert found.completed == len(BUSY) - 30
    assert [one.requests for one in found.endings if one.reason == "queue_full"] == [30]
    assert [one.requests for one in found.slow.causes if one.cause == "rejected"] == [30]


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(BUSY[:1], id="one request"),
        pytest.param(BUSY[:3], id="three requests"),
        pytest.param(
            [
                msgspec.structs.replace(
                    one, outcome="rejected", reason="invalid_request", queued_s=None,
                    left_queue_s=None, queue_wait_s=None, called_s=None, first_token_s=None,
                    engine_ended_s=None, actual_tokens=None, predicted_tokens=None,
                )
                for one in BUSY[:3]
            ],
            id="nothing served",
        ),
    ],
)  # fmt: skip
def test_hardly_any_requests_make_a_report_of_finite_numbers(
    requests: list[TracedRequest],
) -> None:
    found = msgspec.json.decode(msgspec.json.encode(report(requests)))
    assert found["requests"] == len(requests)
    assert all(math.isfinite(value) for value in _floats(found))


def _floats(found: object) -> list[float]:
    match found:
        case float():
            return [found]
        case dict():
            return [value for item in found.values() for value in _floats(item)]  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType] - JSON
        case list():
            return [value for item in found for value in _floats(item)]  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType] - JSON
        case _:
            return []


def test_traces_that_are_there_for_their_end_are_counted_and_those_of_the_head_are_not() -> None:
    by = ("slow", "error", "head", "")
    some = [
        msgspec.structs.replace(one, sampled_by=by[number % 4]) for number, one in enumerate(BUSY)
    ]
    assert report(some).kept_at_their_end == len(BUSY) // 2
    assert FOUND.kept_at_their_end == 0
