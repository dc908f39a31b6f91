"""A request's sizes: whatever a predictor says ends as a positive finite number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from llmservice_sidecar.core.request import Prediction, Request, RequestId


def request(tokens: float, *, max_tokens: int | None = None, slots: int = 1) -> Request:
    return Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=0,
        prediction=Prediction(tokens, tokens, "test"),
        max_tokens=max_tokens,
        slots=slots,
    )


@pytest.mark.parametrize(
    ("tokens", "max_tokens", "expected"),
    [
        pytest.param(50.0, None, 50.0, id="a plain prediction stands"),
        pytest.param(50.0, 20, 20.0, id="max_tokens clips it"),
        pytest.param(0.2, None, 1.0, id="an answer has at least one token"),
        pytest.param(-7.0, 20, 1.0, id="a negative one is one token"),
        pytest.param(-math.inf, None, 1.0, id="so is minus infinity"),
        pytest.param(math.inf, 20, 20.0, id="infinity is max_tokens"),
        pytest.param(math.inf, None, 1e7, id="infinity without max_tokens is the largest"),
        pytest.param(1e300, None, 1e7, id="a wild one is the largest"),
        pytest.param(math.nan, 20, 20.0, id="NaN is max_tokens"),
        pytest.param(math.nan, None, 512.0, id="NaN without max_tokens is a typical answer"),
        pytest.param(math.nan, 10**9, 1e7, id="max_tokens itself may be absurd"),
    ],
)
def test_predicted_tokens_are_sane(tokens: float, max_tokens: int | None, expected: float) -> None:
    assert request(tokens, max_tokens=max_tokens).predicted_tokens == expected
    assert request(tokens, max_tokens=max_tokens, slots=3).predicted_tokens == 3 * expected


@pytest.mark.parametrize(
    ("cached_tokens", "expected"),
    [
        pytest.param(0, 200, id="a prompt is computed whole"),
        pytest.param(150, 50, id="but for what is cached"),
        pytest.param(250, 0, id="a cache cannot save more than there is"),
    ],
)
def test_only_uncached_prompt_tokens_are_computed(cached_tokens: int, expected: int) -> None:
    asked = Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=200,
        cached_tokens=cached_tokens,
        prediction=Prediction(10.0, 10.0, "test"),
        slots=2,
    )
    assert asked.prefill_tokens == expected


def test_another_prediction_gives_another_size() -> None:
    first = request(50.0, max_tokens=80, slots=2)
    assert replace(first, prediction=Prediction(90.0, 90.0, "late")).predicted_tokens == 160.0


def test_a_request_needs_a_slot() -> None:
    with pytest.raises(ValueError, match="slots is 0"):
        request(1.0, slots=0)


def test_a_request_needs_an_arrival() -> None:
    with pytest.raises(ValueError, match="arrived_at is nan"):
        Request(
            id=RequestId("r"),
            arrived_at=math.nan,
            prompt_tokens=0,
            prediction=Prediction(1.0, 1.0, "test"),
        )
