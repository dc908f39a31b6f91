"""Every way a request can fail has one look for HTTP clients and one for gRPC clients."""

from __future__ import annotations

import inspect
import json

import grpc
import pytest
from llmservice_sidecar.adapters import error_map
from llmservice_sidecar.core import errors
from llmservice_sidecar.core.errors import (
    EngineRefused,
    InvalidRequest,
    LLMServiceError,
    Reason,
    RequestEvicted,
    RequestRejected,
)

ERROR_CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, LLMServiceError)
]
ERROR_REASONS = [r for r in Reason if r not in (Reason.STOP, Reason.LENGTH)]


def example(cls: type[LLMServiceError], reason: Reason) -> LLMServiceError:
    if cls is InvalidRequest:
        return InvalidRequest("bad", param="n")
    if cls is EngineRefused:
        return EngineRefused(422, b'{"error": {"message": "no"}}', "application/json")
    return cls(reason, "because")


def test_every_reason_that_is_an_error_has_a_row() -> None:
    assert len(ERROR_REASONS) > 8
    assert set(error_map.ERROR_ROWS) == set(ERROR_REASONS)


@pytest.mark.parametrize("reason", ERROR_REASONS)
@pytest.mark.parametrize("cls", ERROR_CLASSES)
def test_every_error_class_maps_to_http_and_grpc(
    cls: type[LLMServiceError], reason: Reason
) -> None:
    error = example(cls, reason)
    http = error_map.http_error(error)
    rpc = error_map.grpc_error(error)
    assert 400 <= http.status < 600
    assert json.loads(http.body)["error"]["message"]
    assert grpc.StatusCode[rpc.code] not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    assert rpc.message


def test_overload_tells_when_to_come_back_in_seconds_and_milliseconds() -> None:
    error = RequestRejected(Reason.QUEUE_FULL, "the queue is full", retry_after_s=1.2341)
    http = error_map.http_error(error)
    assert http.status == 429
    assert http.headers == {"retry-after": "2", "retry-after-ms": "1235"}
    assert error_map.grpc_error(error).retry_after_s == 1.2341


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.QUEUE_SHARE, "queue_share"),
        (Reason.DEADLINE_UNREACHABLE, "deadline_unreachable"),
    ],
)
def test_what_may_be_retried_looks_like_overload(reason: Reason, code: str) -> None:
    error = RequestEvicted(reason, "because", retry_after_s=3.0)
    http, rpc = error_map.http_error(error), error_map.grpc_error(error)
    assert (http.status, http.headers["retry-after"]) == (429, "3")
    assert json.loads(http.body)["error"]["code"] == code
    assert (rpc.code, rpc.retry_after_s) == ("RESOURCE_EXHAUSTED", 3.0)


def test_an_invalid_field_is_named_in_openai_shape() -> None:
    error = InvalidRequest("foo is not supported", param="foo", code="unsupported_parameter")
    assert json.loads(error_map.http_error(error).body) == {
        "error": {
            "message": "foo is not supported",
            "type": "invalid_request_error",
            "param": "foo",
            "code": "unsupported_parameter",
        }
    }
    assert error_map.grpc_error(error).field == "foo"


def test_an_unknown_model_is_not_found() -> None:
    error = InvalidRequest("no model x", param="model", code="model_not_found")
    assert error_map.http_error(error).status == 404
    assert error_map.grpc_error(error).code == "NOT_FOUND"


def test_an_engine_refusal_is_passed_on_untouched() -> None:
    error = EngineRefused(422, b'{"error":{"message":"top_k"}}', "application/json; x")
    http = error_map.http_error(error)
    assert (http.status, http.body, http.content_type) == (422, error.body, "application/json; x")
    rpc = error_map.grpc_error(error)
    assert (rpc.code, rpc.message) == ("INVALID_ARGUMENT", "top_k")


def test_an_engine_refusal_that_is_no_json_still_says_its_status() -> None:
    rpc = error_map.grpc_error(EngineRefused(503, b"<html>", "text/html"))
    assert (rpc.code, rpc.message) == ("UNAVAILABLE", "the engine answered HTTP 503")


def test_an_unknown_path_is_answered_in_openai_shape() -> None:
    http = error_map.not_found("/v2/x")
    assert http.status == 404
    assert json.loads(http.body)["error"]["code"] == "not_found"
