"""Contexts of overtakers: sampled ones only, a bounded number, and only while somebody waits."""

from __future__ import annotations

from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.overtakers import Overtakers
from opentelemetry.trace import SpanContext, TraceFlags

A, B, C = map(RequestId, "abc")


def context(number: int, *, sampled: bool = True) -> SpanContext:
    return SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(int(sampled)))


def test_known_ones_are_told_in_the_order_asked_for() -> None:
    overtakers = Overtakers()
    overtakers.add(A, context(1))
    overtakers.add(B, context(2))
    assert list(overtakers.among([B, C, A])) == [(B, context(2)), (A, context(1))]


def test_a_trace_that_is_not_sampled_is_nowhere_to_link_to() -> None:
    overtakers = Overtakers()
    overtakers.add(A, context(1, sampled=False))
    assert list(overtakers.among([A])) == []


def test_the_earliest_is_forgotten_beyond_the_bound() -> None:
    overtakers = Overtakers(most=2)
    for number, request_id in enumerate((A, B, A, C), 1):
        overtakers.add(request_id, context(number))
    assert list(overtakers.among([A, B, C])) == [(A, context(3)), (C, context(4))]


def test_all_are_forgotten_when_nobody_waits() -> None:
    overtakers = Overtakers()
    overtakers.add(A, context(1))
    overtakers.forget()
    assert len(overtakers) == 0
