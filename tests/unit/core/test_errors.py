"""Errors say what a client may be told: a stable reason, a text, and what goes with it."""

from __future__ import annotations

import pytest
from llmservice_sidecar.core.errors import (
    EngineRefused,
    InvalidRequest,
    LLMServiceError,
    Reason,
    RequestEvicted,
    RequestRejected,
)


@pytest.mark.parametrize("kind", [RequestRejected, RequestEvicted])
def test_who_left_without_running_may_be_told_when_to_return(
    kind: type[RequestRejected | RequestEvicted],
) -> None:
    error = kind(Reason.QUEUE_FULL, "too many wait", retry_after_s=2.5)
    assert (error.reason, str(error), error.retry_after_s) == ("queue_full", "too many wait", 2.5)


def test_an_invalid_request_names_its_field() -> None:
    error = InvalidRequest("n is 0", param="n")
    assert (error.reason, error.param, error.code) == (Reason.INVALID, "n", "invalid_value")


def test_the_engines_refusal_is_kept_as_it_was() -> None:
    error = EngineRefused(422, b"{}", "application/json")
    assert isinstance(error, LLMServiceError)
    assert (error.status, error.body, error.content_type) == (422, b"{}", "application/json")
    assert "422" in str(error)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, Reason.ENGINE_REFUSED), (499, Reason.ENGINE_REFUSED), (500, Reason.ENGINE_ERROR)],
)
def test_an_engine_that_fails_is_told_from_one_that_refuses(status: int, reason: Reason) -> None:
    assert EngineRefused(status, b"", "text/plain").reason is reason
