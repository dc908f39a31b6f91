"""The tail rule: faults always, then the slowest; what clients cause is no fault."""

from __future__ import annotations

import math

import pytest
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.runtime.tail_rule import ERROR, MIN_SAMPLES, SLOW, WINDOW, TailRule


def seen(*durations_s: float) -> TailRule:
    """A rule that has seen these complete answers."""
    rule = TailRule()
    for duration_s in durations_s:
        rule.judge(Outcome.COMPLETED, Reason.STOP, duration_s=duration_s)
    return rule


@pytest.mark.parametrize(
    ("outcome", "reason", "verdict"),
    [
        (Outcome.FAILED, Reason.ENGINE_ERROR, ERROR),
        (Outcome.FAILED, Reason.INTERNAL, ERROR),
        (Outcome.EVICTED, Reason.QUEUE_TIMEOUT, ERROR),
        (Outcome.EVICTED, Reason.DEADLINE, ERROR),
        (Outcome.REJECTED, Reason.DRAINING, ERROR),
        (Outcome.REJECTED, Reason.QUEUE_FULL, None),
        (Outcome.REJECTED, Reason.INVALID, None),
        (Outcome.REJECTED, Reason.ENGINE_REFUSED, None),
        (Outcome.CANCELLED, Reason.CLIENT_GONE, None),
        (Outcome.CANCELLED, Reason.DEADLINE, None),
        (Outcome.COMPLETED, Reason.STOP, None),
    ],
    ids=lambda value: getattr(value, "value", value),
)
def test_verdict_on_a_usual_request(outcome: Outcome, reason: Reason, verdict: str | None) -> None:
    assert seen(*[1.0] * MIN_SAMPLES).judge(outcome, reason, duration_s=1.0) == verdict


def test_nothing_is_slow_before_a_hundred_answers_were_seen() -> None:
    rule = seen(*[1.0] * (MIN_SAMPLES - 1))
    assert rule.slow_s == math.inf
    assert rule.judge(Outcome.COMPLETED, Reason.STOP, duration_s=1e6) is None


def test_the_slowest_hundredth_is_slow() -> None:
    rule = seen(*map(float, range(1, 101)))
    assert rule.slow_s == 99.0
    assert rule.judge(Outcome.COMPLETED, Reason.STOP, duration_s=99.0) is None
    assert rule.judge(Outcome.COMPLETED, Reason.STOP, duration_s=99.5) == SLOW


def test_a_request_that_a_client_gave_up_late_is_slow_and_a_rejection_never() -> None:
    rule = seen(*[1.0] * MIN_SAMPLES)
    assert rule.judge(Outcome.CANCELLED, Reason.CLIENT_GONE, duration_s=60.0) == SLOW
    assert rule.judge(Outcome.REJECTED, Reason.QUEUE_FULL, duration_s=60.0) is None


def test_when_all_grow_slower_the_bar_follows() -> None:
    rule = seen(*[1.0] * WINDOW)
    verdicts = [
        rule.judge(Outcome.COMPLETED, Reason.STOP, duration_s=5.0 + number / 1e3)
        for number in range(WINDOW)
    ]
    assert verdicts[0] == SLOW
    # A load that only ever grows slower beats every bar; the usual jitter does not.
    steady = [rule.judge(Outcome.COMPLETED, Reason.STOP, duration_s=5.5) for _ in range(WINDOW)]
    assert SLOW not in steady
