"""Each cause, made by hand among usual requests, is told apart with its seconds."""

from __future__ import annotations

import math

import msgspec
import pytest
from fakes.traced import FIRST_TOKEN_AFTER_S, START_S, STEP_S, Load, requests_of
from llmservice_lab.analysis.causes import Cause, Explained, Explainer, slow_rows
from llmservice_lab.analysis.columns import columns_of
from llmservice_lab.analysis.record import TracedRequest

TOKENS = 100


def usual(number: int, *, at_s: float, **changes: object) -> TracedRequest:
    """A request that is served at once: 100 tokens in two seconds."""
    arrived = START_S + at_s
    first = arrived + FIRST_TOKEN_AFTER_S
    ended = first + TOKENS * STEP_S
    one = TracedRequest(
        request_id=f"r{number}",
        trace_id=f"{number:032x}",
        service="chat",
        pod="chat-0",
        door="http",
        arrived_s=arrived,
        ended_s=ended,
        outcome="completed",
        reason="stop",
        prompt_tokens=50,
        actual_tokens=TOKENS,
        output_tokens=TOKENS,
        queued_s=arrived,
        left_queue_s=arrived,
        queue_wait_s=0.0,
        called_s=arrived,
        first_token_s=first,
        engine_ended_s=ended,
        longest_gap_s=STEP_S,
        client_stall_s=0.0,
        engine_queue_s=0.0,
    )
    return msgspec.structs.replace(one, **changes)


def later(
    one: TracedRequest, *, first_by: float = 0.0, end_by: float = 0.0, **changes: object
) -> TracedRequest:
    """The same with its first token and its end later."""
    assert one.first_token_s is not None
    assert one.engine_ended_s is not None
    return msgspec.structs.replace(
        one,
        first_token_s=one.first_token_s + first_by,
        engine_ended_s=one.engine_ended_s + first_by + end_by,
        ended_s=one.ended_s + first_by + end_by,
        **changes,
    )


def explained(odd: TracedRequest, *, others: list[TracedRequest] | None = None) -> Explained:
    """The odd one beside fifty usual ones (or others), one every 100 ms."""
    beside = others or [usual(number, at_s=number / 10) for number in range(50)]
    requests = sorted([*beside, odd], key=lambda one: one.arrived_s)
    explainer = Explainer(requests, columns_of(requests))
    return explainer.explain(requests.index(odd))


ODD = usual(99, at_s=2.03)


@pytest.mark.parametrize(
    ("odd", "cause", "seconds"),
    [
        pytest.param(
            later(ODD, first_by=3.0, prompt_tokens=5000),
            Cause.LONG_PREFILL, 2.97, id="a long prompt",
        ),
        pytest.param(
            later(ODD, first_by=3.0, engine_queue_s=2.9),
            Cause.ENGINE_QUEUE, 2.9, id="a queue inside the engine",
        ),
        pytest.param(
            later(ODD, first_by=3.0),
            Cause.ENGINE_SLOW, 3.0, id="a late first token of a usual prompt",
        ),
        pytest.param(
            later(ODD, end_by=4.0, longest_gap_s=4.0 + STEP_S),
            Cause.ENGINE_PREEMPTED, 4.0, id="a pause alone",
        ),
        pytest.param(
            later(ODD, end_by=4.0),
            Cause.ENGINE_PREEMPTED, 4.0, id="a slow pace alone, by many pauses",
        ),
        pytest.param(
            later(ODD, end_by=4.0, client_stall_s=4.0), Cause.SLOW_CLIENT, 4.0, id="a slow client"
        ),
        pytest.param(
            later(ODD, end_by=400 * STEP_S, actual_tokens=500),
            Cause.LONG_ANSWER, 400 * STEP_S, id="a long answer",
        ),
    ],
)  # fmt: skip
def test_the_largest_part_is_the_cause(odd: TracedRequest, cause: Cause, seconds: float) -> None:
    why = explained(odd)
    assert why.cause is cause
    assert why.seconds[cause] == pytest.approx(seconds, rel=0.05)
    assert sum(why.seconds.values()) == pytest.approx(odd.total_s - ODD.total_s, rel=0.05)


def test_a_pause_of_everybody_is_not_a_preemption() -> None:
    together = [
        later(usual(n, at_s=2.0 + n / 1000), end_by=4.0, longest_gap_s=4.0 + STEP_S)
        for n in range(8)
    ]
    calm = [usual(100 + n, at_s=20 + n) for n in range(40)]
    odd = later(ODD, end_by=4.0, longest_gap_s=4.0 + STEP_S)
    assert explained(odd, others=[*together, *calm]).cause is Cause.ENGINE_SLOW


def test_a_pause_without_neighbours_is_the_engine_s() -> None:
    calm = [usual(100 + n, at_s=20 + n) for n in range(40)]
    odd = later(ODD, end_by=4.0, longest_gap_s=4.0 + STEP_S)
    assert explained(odd, others=calm).cause is Cause.ENGINE_SLOW


def test_neighbours_on_another_pod_tell_nothing() -> None:
    elsewhere = [usual(n, at_s=2 + n / 100, pod="chat-1") for n in range(40)]
    odd = later(ODD, end_by=4.0, longest_gap_s=4.0 + STEP_S)
    assert explained(odd, others=elsewhere).numbers["neighbours"] == 0


def test_a_wait_is_shared_by_who_ran_in_it() -> None:
    wait_s = 6.0
    first_half = usual(1, at_s=2.0, engine_ended_s=START_S + 5.0)  # came before it
    second_half = usual(2, at_s=2.5, called_s=START_S + 5.0, engine_ended_s=START_S + 8.03)
    odd = usual(
        99, at_s=2.03, queue_wait_s=wait_s, left_queue_s=START_S + 8.03, position=1, depth=2,
        overtaken_by=1, overtaken_by_ids=("r2",), called_s=START_S + 8.03,
        first_token_s=START_S + 8.04, engine_ended_s=START_S + 10.04, ended_s=START_S + 10.04,
    )  # fmt: skip
    calm = [usual(100 + n, at_s=20 + n) for n in range(40)]
    why = explained(odd, others=[first_half, second_half, *calm])
    assert why.seconds[Cause.OVERTAKEN] == pytest.approx(wait_s * 3.03 / 6.0, rel=0.01)
    assert why.seconds[Cause.DEEP_QUEUE] == pytest.approx(wait_s * 2.97 / 6.0, rel=0.01)
    assert why.cause is Cause.OVERTAKEN


def test_overtakers_without_a_trace_are_reckoned_by_their_number() -> None:
    odd = usual(
        99, at_s=2.03, queue_wait_s=6.0, left_queue_s=START_S + 8.03, position=1, depth=2,
        overtaken_by=8, called_s=START_S + 8.03, first_token_s=START_S + 8.04,
        engine_ended_s=START_S + 10.04, ended_s=START_S + 10.04,
    )  # fmt: skip
    why = explained(odd, others=[usual(100 + n, at_s=20 + n) for n in range(40)])
    assert why.seconds[Cause.OVERTAKEN] == pytest.approx(6.0 * 8 / 10)


@pytest.mark.parametrize(
    ("outcome", "cause"), [("rejected", Cause.REJECTED), ("failed", Cause.FAILED)]
)
def test_who_was_not_served_has_its_outcome_for_a_cause(outcome: str, cause: Cause) -> None:
    odd = usual(99, at_s=2.03, outcome=outcome, reason="queue_full")
    why = explained(odd)
    assert (why.cause, why.numbers["reason"]) == (cause, "queue_full")


def test_who_was_evicted_has_the_cause_of_its_wait() -> None:
    odd = usual(
        99, at_s=2.03, outcome="evicted", reason="queue_timeout", queue_wait_s=30.0,
        left_queue_s=START_S + 32.03, ended_s=START_S + 32.03, called_s=None, first_token_s=None,
        engine_ended_s=None, actual_tokens=None, position=9, depth=10,
    )  # fmt: skip
    assert explained(odd).cause is Cause.DEEP_QUEUE


def test_answers_in_one_piece_are_explained_by_length_and_prompt() -> None:
    whole = [
        usual(n, at_s=n / 10, first_token_s=None, longest_gap_s=None, client_stall_s=None)
        for n in range(50)
    ]
    longer = usual(
        99, at_s=2.03, first_token_s=None, actual_tokens=1000, engine_ended_s=START_S + 22.1,
        ended_s=START_S + 22.1,
    )  # fmt: skip
    assert explained(longer, others=whole).cause is Cause.LONG_ANSWER
    prompt = msgspec.structs.replace(longer, actual_tokens=TOKENS, prompt_tokens=50_000)
    assert explained(prompt, others=whole).cause is Cause.LONG_PREFILL


def test_seconds_add_up_to_no_more_than_the_time_there_was() -> None:
    requests = requests_of(Load(count=600, utilisation=1.1, policy="SSJF"))
    columns = columns_of(requests)
    explainer = Explainer(requests, columns)
    for row in slow_rows(columns, 0.0):
        why = explainer.explain(row)
        assert all(value > 0 and math.isfinite(value) for value in why.seconds.values())
        assert sum(why.seconds.values()) <= requests[row].total_s * 1.001


def test_a_loaded_queue_under_ssjf_overtakes_the_long_and_fcfs_nobody() -> None:
    for policy, expected in (("SSJF", True), ("FCFS", False)):
        requests = requests_of(Load(count=600, utilisation=1.3, policy=policy))
        columns = columns_of(requests)
        explainer = Explainer(requests, columns)
        causes = {explainer.explain(row).cause for row in slow_rows(columns, 8.0)}
        assert (Cause.OVERTAKEN in causes) is expected, policy
