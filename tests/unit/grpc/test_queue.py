"""The queue as gRPC messages: what is unknown is absent."""

from __future__ import annotations

import math

import pytest
from fakes.pipeline import IDLE
from llmservice_sidecar.adapters.grpc_queue import queue_state, queued
from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.runtime.call import Place


def place(predicted_wait_s: float | None = 2.5, bound_s: float | None = 7.0) -> Place:
    standing = Standing(
        key=(0.0,), position=3, depth=5, gamma_per_s=0.1, overtaking_bound_s=bound_s
    )
    return Place(standing, predicted_wait_s)


def test_a_place_has_its_expected_wait_and_its_bound() -> None:
    message = queued(place(), backlog_s=60.0)
    assert (message.position, message.depth) == (3, 5)
    assert message.eta.ToMilliseconds() == 2500
    assert message.overtaking_bound.ToSeconds() == 7


def test_a_start_at_once_is_known() -> None:
    message = queued(place(0.0), backlog_s=60.0)
    assert message.HasField("eta")
    assert message.eta.ToNanoseconds() == 0


def test_far_places_are_told_the_backlog() -> None:
    assert queued(place(None), backlog_s=60.0).eta.ToSeconds() == 60


def test_nothing_known_is_absent() -> None:
    assert not queued(place(None), backlog_s=0.0).HasField("eta")


@pytest.mark.parametrize("bound_s", [None, math.inf], ids=["no promise", "no end"])
def test_no_bound_is_absent(bound_s: float | None) -> None:
    assert not queued(place(bound_s=bound_s), backlog_s=0.0).HasField("overtaking_bound")


def test_the_state_has_the_request_that_was_asked_for() -> None:
    assert not queue_state(IDLE, request=None).HasField("request")
    state = queue_state(IDLE, request=queued(place(), backlog_s=0.0))
    assert (state.request.position, state.queued_requests) == (3, 3)
